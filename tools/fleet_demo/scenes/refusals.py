"""What must not come in: objects and manifests that are not what was signed. Each is refused, told and never served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tools.fleet_demo.commands import key_at
from tools.fleet_demo.processes import StageError, wait_until
from tools.fleet_demo.stage import Build, Stage
from tools.warm.arguments import EXIT_WRONG
from zcserve.fleet.bus import OperatorBus
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.messages import Desired
from zcserve.fleet.signing import Signer

# Nodes try an object again for so long, before the rollout is given up.
DEADLINE = "4s"
# The page that is not what the manifest says: each build has a new one.
PAGE = "/large.html"


def corrupted(stage: Stage) -> str:
    """An object with other bytes, of the same size."""
    return _bad_object(stage, lambda content: b"x" + content[1:])


def truncated(stage: Stage) -> str:
    """An object that is too short."""
    return _bad_object(stage, lambda content: content[: len(content) // 2])


def oversized(stage: Stage) -> str:
    """An object that is too long."""
    return _bad_object(stage, lambda content: content + b"more")


def unsigned(stage: Stage) -> str:
    """A manifest that a key has signed which the nodes do not know."""
    build = stage.build(sign=False)
    manifest = Signer.read(key_at(stage.folder, "other.key")).sign(build.manifest)
    build.file.write_bytes(manifest.to_bytes())
    return _bad_manifest(stage, build)


def forged(stage: Stage) -> str:
    """A manifest that was changed after it was signed, and has the signature still."""
    build = stage.build()
    form = json.loads(build.manifest.to_bytes())
    form["files"][PAGE]["priority"] = 7
    changed = build.manifest.files | {PAGE: build.manifest.files[PAGE]._replace(priority=7)}
    form["tree"] = Manifest.of(build.manifest.site, build.manifest.sequence, changed).tree
    build.file.write_text(json.dumps(form))
    return _bad_manifest(stage, build)


def replayed(stage: Stage) -> str:
    """An old manifest, signed and all: the operator's side refuses it, and nodes do where the bus itself was told."""
    if stage.live == 1:
        stage.release(stage.build())
    old = stage.builds[1].file
    said = stage.command("release", str(old), "--source", stage.origin.url(1), "--quorum", "1").wait()
    end = said.event("end")
    if said.code != EXIT_WRONG or end["ending"] != "refused":
        raise StageError(f"it should be refused: {said.told}")
    error = _replay_to_nodes(stage, old)
    return f"operator: {end['why']}; nodes: {error}"


def _replay_to_nodes(stage: Stage, old: Path) -> str:
    """Have the bus say that the old release is desired, whatever the operator's side thinks of it; what nodes say."""
    manifest = Manifest.read(old)

    def replay(now: Desired) -> Desired:
        assert now.release is not None
        older = replace(now.release, sequence=manifest.sequence, manifest=manifest.digest, tree=manifest.tree)
        return Desired(now.site, now.edition + 1, older, None, now.earlier)

    before = asyncio.run(_replaced(stage, replay))
    try:
        wait_until("nodes refuse it", lambda: all("older" in one.error for one in stage.watch.states.values()), 20)
        told = stage.watch.states["n1"].error
    finally:
        asyncio.run(_replaced(stage, lambda now: replace(before, edition=now.edition + 1)))
    wait_until("nodes go on", lambda: not any(one.error for one in stage.watch.states.values()), 20)
    stage.await_live(stage.live)
    return told


async def _replaced(stage: Stage, wanted: Callable[[Desired], Desired]) -> Desired:
    """Replace what is desired, as one that has the rights at the bus; what it was."""
    bus: OperatorBus = await stage.operator_bus()
    try:
        claim = await bus.claim("replay")
        now = await bus.desired()
        await bus.put_desired(wanted(now), now.edition)
        await bus.give_up(claim)
        return now
    finally:
        await bus.close()


class Refusal(NamedTuple):
    """A rollout that came to nothing: why, and what each agent has said meanwhile."""

    why: str
    logs: dict[str, str]

    def line(self, words: str) -> str:
        """An agent's last line with these words. Raises StageError where one of them has none."""
        if silent := [node for node, log in self.logs.items() if words not in log]:
            raise StageError(f"{', '.join(silent)} says nothing of {words!r}")
        lines = [line for line in self.logs["n1"].splitlines() if words in line]
        return lines[-1].partition(" ")[2]


def _bad_object(stage: Stage, spoil: Callable[[bytes], bytes]) -> str:
    build = stage.build()
    file = Path(f"{build.root}{PAGE}")
    file.write_bytes(spoil(file.read_bytes()))
    refusal = _refused(stage, build)
    return f"aborted ({refusal.why}); n1: {refusal.line(PAGE)}"


def _bad_manifest(stage: Stage, build: Build) -> str:
    refusal = _refused(stage, build)
    return f"aborted ({refusal.why}); n1: {refusal.line('is refused')}"


def _refused(stage: Stage, build: Build) -> Refusal:
    """A rollout that comes to nothing: no node serves it. Raises StageError."""
    logs = {name: node.agent.log for name, node in stage.nodes.items()}
    known = {name: log.stat().st_size for name, log in logs.items()}
    stage.opens(build.number)
    said = stage.command("release", *stage.words(build, "--deadline", DEADLINE)).wait()
    end = said.event("end")
    if said.code != EXIT_WRONG or end["ending"] != "aborted":
        raise StageError(f"it should be aborted: {said.told}")
    stage.withdraws(build.number)
    stage.origin.publish(stage.live)
    stage.await_live(stage.live)
    told = {name: log.read_bytes()[known[name] :].decode(errors="replace") for name, log in logs.items()}
    return Refusal(end["why"], told)

"""One rollout from an operator's flags to its exit code: what `release` and `rollback` share.

They differ in the files that they bring. Both look at what is desired first, so that each can be given again; both sign
and keep the manifest at the bus, drive the rollout, and prove what nodes serve then.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tools.warm.arguments import EXIT_HELD, EXIT_LATE, EXIT_RIGHT, EXIT_WRONG, number
from tools.warm.bus_flags import add_bus
from tools.warm.buses import Fleet, Look, look_at, opened
from tools.warm.driving import Driver
from tools.warm.planning import sequence_for
from tools.warm.proving import Doctor, Proof, prove, sample_of
from tools.warm.views import Lines, view_of
from tools.warm.words import duration, share
from zcserve.errors import UsageError
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.messages import Release
from zcserve.fleet.rollout import Phase, Rollout
from zcserve.fleet.rollout_words import End, Ending, Plan, rollout_id
from zcserve.fleet.signing import Signer

# Nodes have so long to serve what they have prepared, in seconds, or --deadline, if that is shorter.
LIVE_S = 120.0
SAMPLE = 10

EXITS = """
Exit codes: 0 it is live on all nodes; 1 it was aborted, or nodes do not serve what they should; 3 it is what all nodes
are to serve, and some are late; 4 another rollout has the site; 2 wrong use; 130 interrupted: all stays as it is, and
the same command goes on.
"""


class Goal(NamedTuple):
    """What is to be brought: its files (the sequence does not matter yet), and where they come from.

    has_sequence  the manifest's own sequence is to be taken
    """

    manifest: Manifest
    source: str
    has_sequence: bool = False


def add_rollout(parser: argparse.ArgumentParser) -> None:
    """The flags of a rollout."""
    add_bus(parser, with_site=False)
    parser.add_argument("--key", metavar="PEM", action="append", default=[], help="sign with this key (repeatable)")
    parser.add_argument(
        "--quorum", metavar="SHARE", type=share, default=0.9, help="of nodes that must have it (default 0.9)"
    )
    parser.add_argument(
        "--deadline", metavar="TIME", type=duration, default=600.0, help="for nodes to have it in memory (default 10m)"
    )
    parser.add_argument(
        "--canary", metavar="NODE|N%", action="append", default=[], help="these serve it first (a NODE is repeatable)"
    )
    parser.add_argument("--bake", metavar="TIME", type=duration, default=300.0, help="for so long (default 5m)")
    parser.add_argument("--query", metavar="URL|PATH", default="", help="canaries are well while this gives 2xx there")
    parser.add_argument(
        "--sample", metavar="N", type=number(0, 10_000), default=SAMPLE, help=f"ETags asked of each node ({SAMPLE})"
    )
    parser.add_argument("--host", metavar="NAME", default="", help="the Host of what is asked at nodes")
    parser.add_argument("--json", action="store_true", help="events as JSON, one a line")


def run(arguments: argparse.Namespace, goal_of: Callable[[Fleet, Look], Awaitable[Goal]]) -> int:
    """Bring what `goal_of` says; the exit code. Raises UsageError, BusError, ManifestError."""
    signers = [Signer.read(path) for path in arguments.key]
    return asyncio.run(_run(arguments, goal_of, signers))


async def _run(
    arguments: argparse.Namespace, goal_of: Callable[[Fleet, Look], Awaitable[Goal]], signers: list[Signer]
) -> int:
    async with opened(arguments) as fleet:
        doctor = Doctor(fleet, arguments.query, arguments.host)
        look = await look_at(fleet.bus)
        goal = await goal_of(fleet, look)
        manifest = goal.manifest
        sequence = sequence_for(manifest.tree, look.desired, look.said())
        if not goal.has_sequence and manifest.sequence != sequence:
            manifest = manifest.with_sequence(sequence)
        for signer in signers:
            manifest = signer.sign(manifest)
        plan = plan_of(arguments, fleet, manifest, goal.source)
        view = view_of(arguments.json)
        try:
            return await _roll(fleet, plan, manifest, doctor, view, arguments)
        finally:
            view.close()


def plan_of(arguments: argparse.Namespace, fleet: Fleet, manifest: Manifest, source: str) -> Plan:
    """The rollout that the flags describe. Raises UsageError."""
    named = frozenset(one for one in arguments.canary if not one.endswith("%"))
    shares = [share(one) for one in _checked(arguments.canary) if one.endswith("%")]
    if len(shares) > 1:
        raise UsageError("--canary: a share is given twice; accepted: one, or nodes")
    release = Release(
        rollout_id(fleet.site, manifest.sequence, manifest.digest),
        manifest.sequence,
        manifest.digest,
        manifest.tree,
        source,
    )
    return Plan(
        release,
        quorum=arguments.quorum,
        prepare_s=arguments.deadline,
        live_s=min(LIVE_S, arguments.deadline),
        canaries=named,
        canary_share=shares[0] if shares else 0.0,
        bake_s=arguments.bake,
        nodes=fleet.names,
    )


def _checked(canaries: list[str]) -> list[str]:
    for one in canaries:
        if one.endswith("%"):
            try:
                share(one)
            except argparse.ArgumentTypeError as error:
                raise UsageError(f"--canary: {error}") from None
    return canaries


async def _roll(
    fleet: Fleet, plan: Plan, manifest: Manifest, doctor: Doctor, view: Lines, arguments: argparse.Namespace
) -> int:
    release = plan.release
    view.event(
        "release",
        f"{fleet.site} {release.sequence}: manifest {release.manifest[:12]}, tree {release.tree[:12]}, "
        f"rollout {release.rollout}",
        site=fleet.site,
        sequence=release.sequence,
        manifest=release.manifest,
        tree=release.tree,
        rollout=release.rollout,
    )
    await fleet.bus.put_manifest(release.manifest, manifest.to_bytes())
    machine = Rollout(fleet.site, plan)
    watch = Watch(machine, fleet, view)
    driver = Driver(machine, fleet.bus, doctor.ask, lambda now: watch.look(now, driver.trouble))
    try:
        end = await driver.run()
    except asyncio.CancelledError:
        view.event("left", f"left as it is, {machine.phase.value}: the same command goes on", phase=machine.phase.value)
        raise
    code = _told(fleet, view, end, driver.holder)
    if end.ending not in (Ending.LIVE, Ending.COMMITTED):
        return code
    public = {name: url for name, url in fleet.public.items() if name not in end.late}
    proofs = await prove(public, sample_of(manifest, arguments.sample), arguments.host) if arguments.sample else {}
    for name, proof in proofs.items():
        _tell_proof(view, name, proof)
    return EXIT_WRONG if any(proof.wrong for proof in proofs.values()) else code


class Watch:
    """Tells a view what has changed of a rollout."""

    def __init__(self, machine: Rollout, fleet: Fleet, view: Lines) -> None:
        self._machine, self._fleet, self._view = machine, fleet, view
        self._phase, self._trouble = "", ""

    def look(self, now: float, trouble: str) -> None:
        """What is now, and why the bus could not do what was asked of it last."""
        machine, view = self._machine, self._view
        if machine.phase not in (Phase.CLAIMING, Phase.READING):  # else not all nodes have been heard of
            view.table(self._fleet.with_trouble(machine.rows(now)), now)
        if trouble != self._trouble:
            self._trouble = trouble
            view.event("bus", trouble or "the bus is back", trouble=trouble)
        if machine.phase.value != self._phase:
            self._phase = machine.phase.value
            having, serving, needed, counted = machine.counts
            text = f"{self._phase}: {having} of {counted} nodes have it, {serving} serve it; {needed} must"
            view.event("phase", text, phase=self._phase, have=having, serve=serving, needed=needed, nodes=counted)


_WORDS = {
    Ending.LIVE: "live",
    Ending.COMMITTED: "it is what all nodes are to serve, and too few do yet",
    Ending.ABORTED: "aborted",
    Ending.REFUSED: "refused",
    Ending.SUPERSEDED: "another rollout has taken the site",
}


def _told(fleet: Fleet, view: Lines, end: End, holder: str) -> int:
    """Say how it ended; the exit code."""
    all_late = fleet.whys(end.late)
    late = "".join(f"; {node}: {why}" for node, why in all_late.items())
    why = f": {end.why}" if end.why else ""
    fields = {"ending": end.ending.value, "why": end.why, "late": all_late, "holder": holder}
    view.event("end", f"{_WORDS[end.ending]}{why}{late}", **fields)
    if end.ending in (Ending.LIVE, Ending.COMMITTED):
        return EXIT_RIGHT if not end.late else EXIT_LATE
    is_held = end.ending is Ending.SUPERSEDED or (end.ending is Ending.REFUSED and holder)
    return EXIT_HELD if is_held else EXIT_WRONG


def _tell_proof(view: Lines, name: str, proof: Proof) -> None:
    wrong = "".join(f"; {path}: {why}" for path, why in proof.wrong.items())
    text = f"{name}: {proof.sampled - len(proof.wrong)} of {proof.sampled} ETags are the manifest's{wrong}"
    view.event("proof", text, node=name, sampled=proof.sampled, wrong=dict(proof.wrong))

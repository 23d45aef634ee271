"""How fast: a release of many files of which few changed, a purge of many paths, and what an idle agent takes.

A release is measured from the start of the command's process; a purge from where that has begun to talk to the bus,
since Python takes longer to start than a purge may take. What misses its bound fails the scene; the line has the
numbers either way, and where the time went.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from tools.fleet_demo.content import BULK_FOLDER, Shape
from tools.fleet_demo.node import cpu_s
from tools.fleet_demo.processes import StageError
from tools.fleet_demo.stage import Build, Stage

FILES, CHANGED = 10_000, 100
RELEASES = 3
# What was asked for: of a release in seconds and as a share of the changed bytes, of a purge in seconds, of an agent as
# a share of a processor.
LIVE_S, MOVED_SHARE, PURGE_S, IDLE_SHARE = 2.0, 1.1, 0.150, 0.002
# Clients ask less often meanwhile, in seconds between two requests of each.
CALM_S = 0.05


@contextmanager
def _calm(stage: Stage) -> Iterator[None]:
    usual, stage.load.pause_s = stage.load.pause_s, CALM_S
    try:
        yield
    finally:
        stage.load.pause_s = usual


def _large(stage: Stage) -> None:
    """Have a build of FILES live."""
    if not stage.shape.bulk:
        stage.shape = Shape(FILES, 0, 0)
        build = stage.build()
        stage.release(build)
        stage.await_live(build.number)


def release(stage: Stage) -> str:
    """10,000 files of 100 MB, of which 1% changed, live on three nodes."""
    with _calm(stage):
        _large(stage)
        stage.shape = Shape(FILES, CHANGED, 0)
        runs = [_timed(stage) for _ in range(RELEASES)]
    took_s, moved = median(run[0] for run in runs), max(run[1] for run in runs)
    shown = " ".join(f"{run[0]:.2f}" for run in runs)
    told = f"live after {took_s:.2f} s ({shown}); moved {moved:.3f} x the changed bytes; {runs[-1][2]}"
    if moved > MOVED_SHARE:
        raise StageError(f"{told}: more than {MOVED_SHARE:g} x")
    if took_s > LIVE_S:
        raise StageError(f"{told}: {LIVE_S:g} s were asked for")
    return told


def _timed(stage: Stage) -> tuple[float, float, str]:
    """A release: seconds until it is live, what it moved as a share of what changed, and where the time went."""
    build = stage.build()
    changed = _changed_bytes(stage, build)
    _, before = stage.origin.moved()
    before_cpu, began = _cpu(stage), time.monotonic()
    said = stage.release(build)
    stage.await_live(build.number)
    _, after = stage.origin.moved()
    steps = stage.watch.steps(build.number)
    at = {name: max(times) - began for name, times in steps.items()}
    parts = [f"all {name} at {at[name]:.2f}" for name in ("fetching", "prepared", "live") if name in at]
    parts.append(f"the command ends at {said.took_s:.2f}; CPU s: {_shown(before_cpu, _cpu(stage))}")
    return at["live"], (after - before) / (len(stage.nodes) * changed), ", ".join(parts)


def _cpu(stage: Stage) -> dict[str, float]:
    """What commands, agents and servers have used of a processor."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    nodes = stage.nodes.values()
    return {
        "command": children.ru_utime + children.ru_stime,
        "agents": sum(node.cpu_s() for node in nodes),
        "servers": sum(cpu_s(node.server.pid) for node in nodes),
    }


def _shown(before: dict[str, float], after: dict[str, float]) -> str:
    return ", ".join(f"{name} {after[name] - before[name]:.2f}" for name in before)


def _changed_bytes(stage: Stage, build: Build) -> int:
    """Of contents that the live build lacks, each once."""
    known = set(stage.builds[stage.live].digests.values())
    sizes = {file.sha256: file.size for file in build.manifest.files.values()}
    return sum(size for digest, size in sizes.items() if digest not in known)


def purge(stage: Stage) -> str:
    """A purge by tag of 10,000 paths that are in memory, on three nodes, again and again: softly, as a command without
    more words is, and, when what that has put in doubt is compared, hard. What a hard one takes is told, without a
    bound."""
    with _calm(stage):
        _large(stage)
        hard, soft, cpu = [], [], ""
        for _ in range(stage.waits.purges):
            before = _cpu(stage)
            soft.append(_purged(stage))
            between = _cpu(stage)
            _purged(stage, "--wait")
            settled = _cpu(stage)
            hard.append(_purged(stage, "--hard"))
            cpu = f"CPU s: soft {_shown(before, between)}; hard {_shown(settled, _cpu(stage))}"
            for node in stage.nodes.values():
                node.warm([path for path in stage.builds[stage.live].digests if path.startswith(BULK_FOLDER)])
    told = f"soft: median {_ms(soft)} until all nodes have {FILES:,} files in doubt; "
    told += f"hard: {_ms(hard)} until all have dropped them from memory; {cpu}"
    if median(soft) > PURGE_S:
        raise StageError(f"{told}: {1000 * PURGE_S:.0f} ms were asked for")
    return told


def _purged(stage: Stage, *more: str) -> float:
    """Seconds from the command, without the start of Python, until the last node has said that it has done it."""
    said = stage.command("purge", "--tag", "bulk", *more).wait()
    if said.code:
        raise StageError(said.told)
    return float(max(said.lines[-1]["done"].values()))


def _ms(seconds: list[float]) -> str:
    return f"{1000 * median(seconds):.0f} ms"


def idle(stage: Stage) -> str:
    """Agents that have nothing to do, with nodes of 10,000 files."""
    _large(stage)
    time.sleep(2)
    began, before = time.monotonic(), {name: node.cpu_s() for name, node in stage.nodes.items()}
    time.sleep(stage.waits.idle_s)
    took_s = time.monotonic() - began
    shares = {name: (node.cpu_s() - before[name]) / took_s for name, node in stage.nodes.items()}
    told = "CPU of each agent: " + ", ".join(f"{100 * share:.3f}%" for share in shares.values())
    told += f", over {took_s:.0f} s"
    if max(shares.values()) >= IDLE_SHARE:
        raise StageError(f"{told}: less than {100 * IDLE_SHARE:g}% was asked for")
    return told

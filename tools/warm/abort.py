"""Take back a rollout that was left in the middle: canaries go back, and nodes let go of what they have prepared.

A rollout is left by Ctrl-C, or by the end of its operator's machine. One whose command runs still is taken back, too,
and that command says so. After the commit all nodes are to serve the release: that is refused, and `rollback` is the
way back.

Exit codes: 0 it is taken back; 1 no rollout is in the middle, and nothing has changed; 3 it is taken back, and canaries
that are named serve it still; 4 another rollout has the site; 2 wrong use; 130 interrupted: the same command goes on.
"""

from __future__ import annotations

import argparse
import asyncio

from tools.warm.arguments import EXIT_HELD, EXIT_LATE, EXIT_RIGHT, EXIT_WRONG
from tools.warm.buses import Fleet, add_bus, opened
from tools.warm.driving import Driver
from tools.warm.rolling import Watch
from tools.warm.views import Lines, view_of
from tools.warm.words import duration
from zcserve.fleet.messages import Release
from zcserve.fleet.rollout import COMMITTED_WORDS, Rollout
from zcserve.fleet.rollout_words import End, Ending, Health, Plan


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_bus(parser)
    parser.add_argument(
        "--deadline", metavar="TIME", type=duration, default=60.0, help="for canaries to go back (default 1m)"
    )
    parser.add_argument("--json", action="store_true", help="events as JSON, one a line")


def run(arguments: argparse.Namespace) -> int:
    """Take it back; the exit code. Raises UsageError, BusError."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as fleet:
        view = view_of(arguments.json)
        try:
            desired = await fleet.bus.desired()
            if desired.trial is not None:
                return await _take_back(fleet, desired.trial.release, view, arguments.deadline)
            now = desired.release
            why = f"release {now.sequence}: {COMMITTED_WORDS}" if now else "nothing was ever released"
            view.event("end", f"no rollout is in the middle; {why}", ending=Ending.REFUSED.value, why=why, holder="")
            return EXIT_WRONG
        finally:
            view.close()


async def _take_back(fleet: Fleet, release: Release, view: Lines, deadline_s: float) -> int:
    machine = Rollout(fleet.site, Plan(release, nodes=fleet.names, canary_s=deadline_s, takes_back=True))
    watch = Watch(machine, view)
    driver = Driver(machine, fleet.bus, _ask_none, lambda now: watch.look(now, driver.trouble))
    end = await driver.run()
    return _told(view, end, release, driver.holder, serving=machine.counts[1])


async def _ask_none(node: str) -> Health:
    raise AssertionError(f"{node} is no canary of what is taken back")


def _told(view: Lines, end: End, release: Release, holder: str, *, serving: int) -> int:
    """Say how it ended; the exit code."""
    late = end.late if serving else {}
    named = "".join(f"; {node} serves it still: {why}" for node, why in late.items())
    fields = {"ending": end.ending.value, "why": end.why, "late": late, "holder": holder}
    if end.ending is Ending.ABORTED:
        view.event("end", f"release {release.sequence} is taken back{named}", rollout=release.rollout, **fields)
        return EXIT_LATE if serving else EXIT_RIGHT
    view.event("end", f"release {release.sequence}, not taken back: {end.why}", rollout=release.rollout, **fields)
    return EXIT_HELD if holder or end.ending is Ending.SUPERSEDED else EXIT_WRONG

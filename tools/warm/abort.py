"""Take back a rollout that was left in the middle: canaries go back, and nodes let go of what they have prepared,
after a minute in which clients that have pages of it find what these name.

A rollout is left by Ctrl-C, or by the end of its operator's machine. One whose command runs still is taken back, too,
and that command says so. After the commit all nodes are to serve the release: that is refused, and `rollback` is the
way back.

With --id it is the rollout of this id alone, as `release` has told it. Given again it says that this one is not in the
middle, and leaves any other alone.

Exit codes: 0 it is taken back, or, with --id, nothing of it is left; 1 no rollout is in the middle, or the one of --id
is committed, and nothing has changed; 3 it is taken back, and canaries that are named serve it still; 4 another rollout
has the site; 2 wrong use; 130 interrupted: the same command goes on.
"""

from __future__ import annotations

import argparse
import asyncio

from tools.warm.arguments import EXIT_HELD, EXIT_LATE, EXIT_RIGHT, EXIT_WRONG
from tools.warm.bus_flags import add_bus
from tools.warm.buses import Fleet, opened
from tools.warm.driving import Driver
from tools.warm.rolling import Watch
from tools.warm.views import Lines, view_of
from tools.warm.words import duration
from zcserve.fleet.messages import Desired, Release
from zcserve.fleet.rollout import COMMITTED_WORDS, Rollout
from zcserve.fleet.rollout_words import End, Ending, Health, Plan


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_bus(parser)
    parser.add_argument(
        "--id", metavar="ID", default="", help="of the rollout (default: the one that is in the middle)"
    )
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
            if desired.trial is not None and arguments.id in ("", desired.trial.release.rollout):
                return await _take_back(fleet, desired.trial.release, view, arguments.deadline)
            return _not_in_the_middle(desired, arguments.id, view)
        finally:
            view.close()


def _not_in_the_middle(desired: Desired, rollout: str, view: Lines) -> int:
    """Say so of the rollout of this id ("": of any), and what became of it; the exit code."""
    which = f"rollout {rollout} is not" if rollout else "no rollout is"
    now = desired.release
    if rollout:
        now = next((one for one in (now, *desired.earlier) if one and one.rollout == rollout), None)
    if rollout and now is None:
        why, ending, code = "it was taken back, or was never begun", Ending.ABORTED, EXIT_RIGHT
    else:
        why = f"release {now.sequence}: {COMMITTED_WORDS}" if now else "nothing was ever released"
        ending, code = Ending.REFUSED, EXIT_WRONG
    view.event("end", f"{which} in the middle; {why}", ending=ending.value, why=why, late={}, holder="")
    return code


async def _take_back(fleet: Fleet, release: Release, view: Lines, deadline_s: float) -> int:
    machine = Rollout(fleet.site, Plan(release, nodes=fleet.names, canary_s=deadline_s, takes_back=True))
    watch = Watch(machine, fleet, view)
    driver = Driver(machine, fleet.bus, _ask_none, lambda now: watch.look(now, driver.trouble))
    end = await driver.run()
    return _told(view, end, release, driver.holder, late=fleet.whys(end.late) if machine.counts[1] else {})


async def _ask_none(node: str) -> Health:
    raise AssertionError(f"{node} is no canary of what is taken back")


def _told(view: Lines, end: End, release: Release, holder: str, *, late: dict[str, str]) -> int:
    """Say how it ended, and which nodes serve it still, by name, and why; the exit code."""
    named = "".join(f"; {node} serves it still: {why}" for node, why in late.items())
    fields = {"ending": end.ending.value, "why": end.why, "late": late, "holder": holder}
    if end.ending is Ending.ABORTED:
        view.event("end", f"release {release.sequence} is taken back{named}", rollout=release.rollout, **fields)
        return EXIT_LATE if late else EXIT_RIGHT
    view.event("end", f"release {release.sequence}, not taken back: {end.why}", rollout=release.rollout, **fields)
    return EXIT_HELD if holder or end.ending is Ending.SUPERSEDED else EXIT_WRONG

"""Have all nodes purge content: by tag, paths, prefix or pattern. Each node says when it has done it.

Softly, content is compared with its file and made anew while it serves: a node has done it when all is in doubt, and
compares it then; with --wait, when all is compared. --hard drops it at once. Given again with its
--id, a purge that was done is not done again. A node whose agent was off compares all content when it comes back; one
whose link alone was down does so, too, over NATS or where its agent has --nodes, and else needs the same purge again.

Exit codes: 0 all nodes have done it; 1 nodes refuse it; 3 nodes have not said that they did, and are named; 2 wrong
use; 130 interrupted: nodes that have heard of it do it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

from tools.warm.acknowledging import Acknowledgements, acknowledged
from tools.warm.arguments import EXIT_LATE, EXIT_RIGHT, EXIT_WRONG
from tools.warm.buses import Fleet, add_bus, opened
from tools.warm.words import duration, printable
from zcserve.errors import UsageError
from zcserve.fleet.forms import FormError
from zcserve.fleet.messages import Command


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_bus(parser)
    aim = parser.add_mutually_exclusive_group(required=True)
    aim.add_argument("--tag", metavar="TAG", action="append", default=[], help="what has it (repeatable)")
    aim.add_argument("--path", metavar="PATH", action="append", default=[], help="as in a URL (repeatable)")
    aim.add_argument("--prefix", metavar="PATH", default="", help="paths that begin so")
    aim.add_argument("--glob", metavar="PATTERN", default="", help="paths that it matches")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--hard", action="store_true", help="drop it at once")
    how.add_argument("--wait", action="store_true", help="done is what is compared (default: what is in doubt)")
    parser.add_argument("--id", metavar="ID", default="", help="of this purge (default: a new one)")
    parser.add_argument("--deadline", metavar="TIME", type=duration, default=10.0, help="for all nodes (default 10s)")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Purge, and say what nodes have said."""
    try:
        command = Command(
            arguments.id or f"purge.{os.urandom(8).hex()}",
            "purge",
            arguments.site,
            tags=tuple(arguments.tag),
            prefix=arguments.prefix,
            glob=arguments.glob,
            paths=tuple(arguments.path),
            is_hard=arguments.hard,
            waits=arguments.wait,
        )
    except FormError as error:
        raise UsageError(str(error)) from None
    return asyncio.run(_run(arguments, command))


async def _run(arguments: argparse.Namespace, command: Command) -> int:
    begun = time.monotonic()
    async with opened(arguments) as fleet:
        found = Acknowledgements(command.id, fleet.names)
        times: dict[str, float] = {}

        def note() -> None:
            for node in found.done - times.keys():
                times[node] = round(time.monotonic() - begun, 4)

        trouble = await acknowledged(fleet.bus, command, found, note, arguments.deadline)
    if arguments.json:
        form = {"id": command.id, "site": fleet.site, "done": times, "aside": found.aside, "missing": found.missing}
        print(json.dumps(form | {"trouble": trouble}))
    else:
        print("\n".join(map(printable, _lines(fleet, command, found, trouble))))
    if found.aside:
        return EXIT_WRONG
    return EXIT_LATE if found.missing or not found.done else EXIT_RIGHT


def _lines(fleet: Fleet, command: Command, found: Acknowledgements, trouble: str) -> list[str]:
    lines = [f"{command.id}: done by {', '.join(sorted(found.done)) or 'no node'}"]
    lines += [f"refused by {node}: {why}" for node, why in sorted(found.aside.items())]
    if found.missing:
        lines.append(f"not done yet by {', '.join(found.missing)}; again with --id {command.id}")
    return lines + ([trouble] if trouble else [])

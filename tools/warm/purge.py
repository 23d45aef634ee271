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
import os
import time

from tools.warm.bus_flags import add_bus, check, place_of
from tools.warm.words import duration
from zcserve.errors import UsageError
from zcserve.fleet.extra import is_there
from zcserve.fleet.forms import FormError
from zcserve.fleet.messages import Command
from zcserve.fleet.nats_ahead import go_ahead


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
    began = time.monotonic()
    check(arguments)
    if arguments.nats and is_there("nats"):
        go_ahead(place_of(arguments), command)
    from tools.warm.purging import purge  # late: a purge does not wait for its import

    return purge(arguments, command, began)

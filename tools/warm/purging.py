"""A purge over a bus, until all nodes have said that they have done it: what `purge` does, but for its flags."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from tools.warm.acknowledging import Acknowledgements, acknowledged
from tools.warm.arguments import EXIT_LATE, EXIT_RIGHT, EXIT_WRONG
from tools.warm.buses import Fleet, opened
from tools.warm.words import printable
from zcserve.fleet.messages import Command


def purge(arguments: argparse.Namespace, command: Command, began: float) -> int:
    """Purge, and say what nodes have said; the exit code. Times that are told count from `began` (time.monotonic) until
    a node's word came to the bus: a node may be faster than this command can listen. Raises UsageError, BusError."""
    return asyncio.run(_purge(arguments, command, began))


async def _purge(arguments: argparse.Namespace, command: Command, began: float) -> int:
    async with opened(arguments) as fleet:
        found = Acknowledgements(command.id, fleet.names)
        times: dict[str, float] = {}

        def note() -> None:
            for node in found.done - times.keys():
                times[node] = round(max(0.0, time.monotonic() - found.ages[node] - began), 4)

        trouble = await acknowledged(fleet.bus, command, found, note, arguments.deadline)
    if arguments.json:
        form = {"id": command.id, "site": fleet.site, "done": times, "aside": found.aside, "missing": found.missing}
        print(json.dumps(form | {"purged": found.purged, "trouble": trouble}))
    else:
        print("\n".join(map(printable, _lines(fleet, command, found, trouble))))
    if found.aside:
        return EXIT_WRONG
    return EXIT_LATE if found.missing or not found.done else EXIT_RIGHT


def _lines(fleet: Fleet, command: Command, found: Acknowledgements, trouble: str) -> list[str]:
    done = [f"{node} ({found.purged[node]:,})" if node in found.purged else node for node in sorted(found.done)]
    lines = [f"{command.id}: done by {', '.join(done) or 'no node'}"]
    lines += [f"refused by {node}: {why}" for node, why in sorted(found.aside.items())]
    if found.missing:
        lines.append(f"not done yet by {', '.join(found.missing)}; again with --id {command.id}")
    return lines + ([trouble] if trouble else [])

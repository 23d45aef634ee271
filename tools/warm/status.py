"""What is desired of a site, and what each node serves. With --nodes, nodes that were away are told what they missed.

Exit codes: 0 all nodes serve what is desired of them; 3 some do not; 1 too few are reached; 2 wrong use; 130
interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any, cast

from tools.warm.arguments import EXIT_LATE, EXIT_RIGHT, EXIT_WRONG
from tools.warm.bus_flags import add_bus
from tools.warm.buses import Fleet, Look, look_at, opened, states_of
from tools.warm.views import HEADS, Lines, cells, view_of
from tools.warm.words import printable
from zcserve.fleet.bus import BusError, Caught, Heard
from zcserve.fleet.census import Census, Row
from zcserve.fleet.messages import Desired, Release
from zcserve.fleet.rollout import NO_NODE_WORDS

# A table that is watched is drawn anew after this, in seconds, and what is desired read.
WATCH_S = 1.0
# A census counts nodes of one release; here it is asked for rows alone.
_NO_RELEASE = Release("none", 1, "0" * 64, "0" * 64)


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_bus(parser)
    parser.add_argument("--watch", action="store_true", help="go on until it is interrupted")
    parser.add_argument("--json", action="store_true", help="as JSON; with --watch events, one a line")


def run(arguments: argparse.Namespace) -> int:
    """Say how it is."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as fleet:
        if arguments.watch:
            view = view_of(arguments.json)
            try:
                await _watch(fleet, view)
            finally:
                view.close()
        look, trouble = await _look(fleet)
        rows = fleet.with_trouble(_census(fleet, look).rows(_now()))
        late = late_of(look, rows)
        if arguments.json:
            desired = None if trouble else json.loads(look.desired.dump())
            nodes = [row._asdict() | {"lag_s": None if math.isinf(row.lag_s) else row.lag_s} for row in rows]
            form = {"site": fleet.site, "desired": desired, "nodes": nodes, "late": late, "trouble": trouble}
            print(json.dumps(form))
        else:
            first = f"what is desired is not known: {trouble}" if trouble else desired_text(look.desired)
            print("\n".join(map(printable, [first, *told(rows, trouble)])))
        return EXIT_WRONG if trouble else EXIT_LATE if late else EXIT_RIGHT


async def _look(fleet: Fleet) -> tuple[Look, str]:
    """What can be known, and why not all."""
    try:
        return await look_at(fleet.bus), ""
    except BusError as error:
        return Look(Desired(fleet.site), await states_of(fleet.bus)), str(error)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _census(fleet: Fleet, look: Look) -> Census:
    census = Census(_NO_RELEASE, fleet.names)
    for heard in look.states.values():
        census.hear(heard, _now())
    return census


def late_of(look: Look, rows: Iterable[Row]) -> list[str]:
    """Nodes that do not serve what is desired of them, or are silent."""
    late = []
    for row in rows:
        wanted, heard = look.desired.of_node(row.node), look.states.get(row.node)
        if heard is None or row.stage == "silent" or (wanted and not wanted.is_same(heard.state.live)):
            late.append(row.node)
    return late


def desired_text(desired: Desired) -> str:
    """What is desired, on a line."""
    now, trial = desired.release, desired.trial
    text = f"{desired.site}: "
    text += f"release {now.sequence}, manifest {now.manifest[:12]}, tree {now.tree[:12]}" if now else "nothing released"
    if trial:
        canaries = f", canaries {', '.join(sorted(trial.canaries))}" if trial.canaries else ""
        text += f"; on trial {trial.release.sequence}, rollout {trial.release.rollout}{canaries}"
    return text


def told(rows: Sequence[Row], trouble: str) -> list[str]:
    """The nodes; where there are none and the bus is well, what may be wrong."""
    return table(rows) if rows or trouble else [NO_NODE_WORDS]


def table(rows: Iterable[Row]) -> list[str]:
    """The nodes under their heads."""
    lines = [HEADS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


async def _watch(fleet: Fleet, view: Lines) -> None:
    """Until it is cancelled."""
    census, known, is_caught = Census(_NO_RELEASE, fleet.names), "", False
    heard: asyncio.Queue[Heard | Caught] = asyncio.Queue()

    async def listen() -> None:
        async with aclosing(cast(Any, fleet.bus.states())) as states:
            async for one in states:
                heard.put_nowait(one)

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        while True:
            try:
                async with asyncio.timeout(WATCH_S):
                    one = await heard.get()
            except TimeoutError:
                one = None
            if isinstance(one, Heard):
                census.hear(one, _now())
            else:
                is_caught = True
                text = desired_text(await fleet.bus.desired())
                if text != known:
                    known = text
                    view.event("desired", text)
            if is_caught:  # else not all that are there have been heard of
                view.table(fleet.with_trouble(census.rows(_now())), _now())

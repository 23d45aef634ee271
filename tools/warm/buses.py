"""The fleet that a command talks to, over the bus that its flags say (bus_flags.py), and what that knows at once."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tools.warm.bus_flags import check, place_of
from zcserve.fleet.bus import Heard, OperatorBus
from zcserve.fleet.messages import Desired, State
from zcserve.fleet.node_list import Listed, read_nodes, read_token

if TYPE_CHECKING:
    from zcserve.fleet.census import Row

# For the states that a bus has already, in seconds.
LOOK_S = 5.0


class Fleet(NamedTuple):
    """A site's nodes.

    names   of those that a list names; none: those that report are the nodes
    public  by name, where clients ask a node, as far as that is known
    trouble by name, why a node tells nothing now, as far as that is known
    """

    bus: OperatorBus
    site: str
    names: frozenset[str]
    public: dict[str, str]
    trouble: Mapping[str, str] = MappingProxyType({})

    def with_trouble(self, rows: Iterable[Row]) -> list[Row]:
        """The rows of a table; a node that says nothing of itself has what is known of it here."""
        return [row._replace(error=row.error or self.trouble.get(row.node, "")) for row in rows]

    def whys(self, late: Mapping[str, str]) -> dict[str, str]:
        """Why nodes are late: what is known of each, and why it tells nothing."""
        return {node: f"{why}: {self.trouble[node]}" if node in self.trouble else why for node, why in late.items()}


class Look(NamedTuple):
    """What a bus knows at once."""

    desired: Desired
    states: dict[str, Heard]

    def said(self) -> list[State]:
        """The states alone."""
        return [heard.state for heard in self.states.values()]


@asynccontextmanager
async def opened(arguments: argparse.Namespace) -> AsyncIterator[Fleet]:
    """The fleet that the flags name. Raises UsageError, BusError."""
    listed = check(arguments)
    fleet = await (over_nats(arguments) if arguments.nats else over_http(arguments, listed))
    try:
        yield fleet
    finally:
        await fleet.bus.close()


async def over_http(arguments: argparse.Namespace, listed: tuple[Listed, ...]) -> Fleet:
    """Over HTTP to the nodes of a list. Raises UsageError."""
    from zcserve.fleet.http_bus import HttpOperatorBus  # late: NATS needs none of it

    token = read_token(arguments.token_file) if arguments.token_file else ""
    public = {one.name: one.public for one in listed if one.public}
    bus = HttpOperatorBus(arguments.site, listed, token)
    return Fleet(bus, arguments.site, frozenset(one.name for one in listed), public, bus.trouble)


async def over_nats(arguments: argparse.Namespace) -> Fleet:
    """Over NATS. Raises UsageError, BusError."""
    public = {one.name: one.agent for one in read_nodes(arguments.public)} if arguments.public else {}
    from zcserve.fleet.nats_bus import NatsOperatorBus  # late: HTTP needs none of it

    bus = NatsOperatorBus(place_of(arguments), arguments.site)
    return Fleet(bus, arguments.site, frozenset(), public)


async def look_at(bus: OperatorBus) -> Look:
    """What is desired, and the states that the bus has. Raises BusError."""
    states = asyncio.create_task(states_of(bus))
    try:
        return Look(await bus.desired(), await states)
    finally:
        states.cancel()
        await asyncio.gather(states, return_exceptions=True)


async def states_of(bus: OperatorBus) -> dict[str, Heard]:
    """The states that the bus has, by node."""
    found: dict[str, Heard] = {}
    with suppress(TimeoutError):
        async with aclosing(cast(Any, bus.states())) as states, asyncio.timeout(LOOK_S):
            async for heard in states:
                if not isinstance(heard, Heard):
                    break
                found[heard.state.node] = heard
    return found

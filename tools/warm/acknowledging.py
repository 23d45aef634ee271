"""Which nodes have done a command, as their states say: a pure account, and the loop that keeps it up over a bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import aclosing
from typing import Any, cast

from zcserve.fleet.bus import BusError, Caught, Heard, OperatorBus
from zcserve.fleet.messages import Command

# A command that did not reach all is published again after this, in seconds: nodes do one of an id once. One that has
# reached all is told anew once, after this: a node whose agent was killed when it had done it has not said so.
AGAIN_S = 1.0
# Nodes that no list names are those that were heard of within this, in seconds, as a rollout has it.
KNOWN_S = 3600.0


class Acknowledgements:
    """What is known of one command.

    done     nodes that have done it
    ages     of these, how long before it was heard of that came to the bus, in seconds
    purged   how many representations and results these have purged, as far as they say
    aside    nodes that do not do it, and why
    missing  those of which nothing is known
    """

    def __init__(self, name: str, nodes: Collection[str] = ()) -> None:
        """`nodes` are to do it; none: those that are heard of."""
        self._name, self._is_listed = name, bool(nodes)
        self._nodes = set(nodes)
        self._is_settled = self._is_listed
        self.done: set[str] = set()
        self.ages: dict[str, float] = {}
        self.purged: dict[str, int] = {}
        self.aside: dict[str, str] = {}

    def hear(self, event: Heard | Caught) -> None:
        """A state, or that all have come."""
        if isinstance(event, Caught):
            self._is_settled = True
            return
        state, age_s = event
        if self._is_listed and state.node not in self._nodes:
            return
        if age_s <= KNOWN_S:
            self._nodes.add(state.node)
        if self._name in state.done:
            self.done.add(state.node)
            self.ages.setdefault(state.node, age_s)
            if state.purged:
                self.purged[state.node] = dict(zip(state.done, state.purged, strict=True))[self._name]
        elif self._name in state.aside:
            self.aside[state.node] = state.error or "set aside"

    @property
    def missing(self) -> list[str]:
        """Nodes of which nothing is known yet."""
        return sorted(self._nodes - self.done - self.aside.keys())

    @property
    def is_complete(self) -> bool:
        """Whether nothing is waited for."""
        return self._is_settled and not self.missing


async def acknowledged(
    bus: OperatorBus, command: Command, found: Acknowledgements, on_change: Callable[[], None], within_s: float
) -> str:
    """Publish a command, until all have done it or the time is over; what the bus could not do last, "" if nothing."""
    events: asyncio.Queue[Heard | Caught | Exception] = asyncio.Queue()
    is_tried = asyncio.Event()
    trouble = ""

    async def listen() -> None:
        try:
            async with aclosing(cast(Any, bus.states())) as states:
                async for event in states:
                    events.put_nowait(event)
        except Exception as error:
            events.put_nowait(error)

    async def publish() -> None:
        nonlocal trouble
        is_anew = False
        while True:
            try:
                missed = await bus.publish(command, is_anew=is_anew)
                trouble = f"not reached: {', '.join(sorted(missed))}" if missed else ""
            except BusError as error:
                trouble = str(error)
            is_tried.set()
            if not trouble and is_anew:
                return
            is_anew = not trouble
            await asyncio.sleep(AGAIN_S)

    tasks = [asyncio.create_task(publish()), asyncio.create_task(listen())]
    try:
        async with asyncio.timeout(within_s):
            while not found.is_complete:
                event = await events.get()
                if isinstance(event, Exception):
                    raise event
                found.hear(event)
                on_change()
            await is_tried.wait()  # where no node is known, one that is new reads what was published
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return trouble

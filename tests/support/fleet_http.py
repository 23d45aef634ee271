"""Nodes of a fleet over HTTP in the loop of the test: real listeners and shelves, and the state machine of a node whose
actions succeed (fleet_bus.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.fleet_bus import Hub, VirtualNode
from zcserve.config.addresses import TcpAddress
from zcserve.fleet.http_listener import Listener
from zcserve.fleet.http_node import Desk, HttpNodeBus
from zcserve.fleet.http_shelf import Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.messages import State
from zcserve.fleet.node_list import Listed
from zcserve.fleet.node_words import Acknowledge, SetAside

TOKEN = "a token of some letters"


class HttpNode(Hub):
    """One node: the hub that it sees is its own copy."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.name = name
        self.shelf = Shelf(Kept(str(folder)), self.site, time.monotonic())
        self.bus = HttpNodeBus(self.shelf)
        self.node = VirtualNode(self, name)
        self.port = 0
        self._listener: Listener | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Its agent starts."""
        self.node.restart()
        self._begin(self._pump(self.bus.deliveries()))
        self._begin(self._pump(self.bus.desired()))
        await self.appear()

    async def appear(self) -> None:
        """It can be reached, at the address that it had."""
        desk = Desk(self.bus, self.site, self.name, f"boot-{self.name}")
        self._listener = Listener(TcpAddress("127.0.0.1", self.port), TOKEN.encode(), desk.answer, desk.limit_of)
        await self._listener.start()
        self.port = self._listener.port

    async def vanish(self) -> None:
        """It is not reached any more, and goes on for itself."""
        if self._listener:
            await self._listener.close()
            self._listener = None

    async def stop(self) -> None:
        """It ends."""
        await self.vanish()
        self.node.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self, events: AsyncIterator[Any]) -> None:
        async for event in events:
            self.desired = self.shelf.desired
            self.node.hear(event)

    def heard(self, state: State) -> None:
        self._begin(self.bus.report(state))

    def over(self, action: Acknowledge | SetAside) -> None:
        if isinstance(action, Acknowledge):
            self._begin(self.bus.acknowledge(action.name))
        else:
            self._begin(self.bus.set_aside(action.name, action.why))


@asynccontextmanager
async def nodes(folder: Path, count: int = 3) -> AsyncIterator[list[HttpNode]]:
    """So many nodes n1, n2 ..., up."""
    made = [HttpNode(f"n{number}", folder / f"n{number}") for number in range(1, count + 1)]
    try:
        for node in made:
            await node.start()
        yield made
    finally:
        for node in made:
            await node.stop()


def listed(nodes: list[HttpNode]) -> list[Listed]:
    """The list that an operator has of them."""
    return [Listed(node.name, f"http://127.0.0.1:{node.port}") for node in nodes]

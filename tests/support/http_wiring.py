"""The bus over HTTP for the suite of promises (bus_promises.py): three nodes that listen, each with its own shelf.

A node that the test does not open is up all the same, since most of them must be; one that it has closed is away.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.bus_promises import NODES
from zcserve.config.addresses import TcpAddress
from zcserve.fleet.http_bus import HttpOperatorBus
from zcserve.fleet.http_listener import Listener
from zcserve.fleet.http_node import Desk, HttpNodeBus
from zcserve.fleet.http_shelf import Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.node_list import Listed
from zcserve.fleet.peer import Peer


class HttpWiring:
    """A site of its own. To be entered in the loop of the test."""

    keeps_commands = is_in_one_place = False
    site = "www"

    def __init__(self, folder: Path) -> None:
        self._shelves = {name: Shelf(Kept(str(folder / name)), self.site, time.monotonic()) for name in NODES}
        self._listeners: dict[str, Listener] = {}
        self._ports = dict.fromkeys(NODES, 0)

    async def __aenter__(self) -> HttpWiring:
        for name in NODES:
            await self._listen(name)
        return self

    async def __aexit__(self, *raised: object) -> None:
        for name in list(self._listeners):
            await self._listeners.pop(name).close()

    async def _listen(self, name: str) -> HttpNodeBus:
        bus = HttpNodeBus(self._shelves[name])
        desk = Desk(bus, self.site, name, "boot")
        listener = Listener(TcpAddress("127.0.0.1", self._ports[name]), b"", desk.answer, desk.limit_of)
        await listener.start()
        self._listeners[name], self._ports[name] = listener, listener.port
        return bus

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[HttpOperatorBus]:
        listed = (Listed(name, f"http://127.0.0.1:{port}") for name, port in self._ports.items())
        bus = HttpOperatorBus(self.site, listed)
        try:
            yield bus
        finally:
            await bus.close()

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[HttpNodeBus]:
        if listener := self._listeners.pop(name, None):
            await listener.close()
        bus = await self._listen(name)
        try:
            yield bus
        finally:
            await self._listeners.pop(name).close()
            await bus.close()

    async def publish_raw(self, data: bytes) -> None:
        for name, port in self._ports.items():
            if name in self._listeners:
                peer = Peer(f"http://127.0.0.1:{port}")
                await peer.ask("POST", f"/v1/{self.site}/commands", data, within_s=30)
                peer.close()

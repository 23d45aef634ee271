"""The bus over NATS for the suite of promises (bus_promises.py), and for tests of what NATS does besides."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.nats_server import NatsServer
from zcserve.fleet import nats_streams
from zcserve.fleet.jetstream import JetStream
from zcserve.fleet.nats_bus import NatsNodeBus, NatsOperatorBus
from zcserve.fleet.nats_link import Link
from zcserve.fleet.nats_place import NatsPlace

_numbers = itertools.count(1)


class NatsWiring:
    """A site of its own on a server that several tests share."""

    keeps_commands = is_in_one_place = True

    def __init__(self, server: NatsServer, place: NatsPlace | None = None) -> None:
        self.site = f"www_{next(_numbers)}.example.com"
        self.server = server
        self.place = place or NatsPlace.of(server.url)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[NatsOperatorBus]:
        bus = NatsOperatorBus(self.place, self.site)
        try:
            yield bus
        finally:
            await bus.close()

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[NatsNodeBus]:
        bus = NatsNodeBus(self.place, self.site, name)
        try:
            yield bus
        finally:
            await bus.close()

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStream]:
        link = Link(self.place, "a test")
        try:
            yield JetStream(link)
        finally:
            await link.close()

    async def publish_raw(self, data: bytes) -> None:
        stream = nats_streams.commands(self.site)
        async with self.jetstream() as jetstream:
            await jetstream.append(stream, stream.subject, data)

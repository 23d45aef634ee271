"""The bus over NATS keeps what bus.py promises, with a real nats-server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("nats")

from tests.support.bus_promises import PROMISES, Promise
from tests.support.nats_server import NatsServer, nats_server
from zcserve.fleet import nats_streams
from zcserve.fleet.jetstream import JetStream
from zcserve.fleet.nats_bus import NatsNodeBus, NatsOperatorBus
from zcserve.fleet.nats_link import Link
from zcserve.fleet.nats_place import NatsPlace

pytestmark = pytest.mark.peer

_numbers = itertools.count(1)


class NatsWiring:
    """A site of its own on a server that several tests share."""

    keeps_commands = is_in_one_place = True

    def __init__(self, server: NatsServer) -> None:
        self.site = f"www_{next(_numbers)}.example.com"
        self.server = server
        self.place = NatsPlace.of(server.url)

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One that goes on."""
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def wiring(server: NatsServer) -> NatsWiring:
    return NatsWiring(server)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps(promise: Promise, wiring: NatsWiring) -> None:
    asyncio.run(promise(wiring))

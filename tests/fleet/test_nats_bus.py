"""The bus over NATS keeps what bus.py promises, with a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

pytest.importorskip("nats")

from tests.support.bus_promises import PROMISES, Promise
from tests.support.nats_server import NatsServer, nats_server
from tests.support.nats_wiring import NatsWiring

pytestmark = pytest.mark.peer


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

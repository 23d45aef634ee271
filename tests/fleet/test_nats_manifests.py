"""Manifests in an object store of NATS: whole or not at all, also where one is replaced while it is read."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import suppress

import pytest

pytest.importorskip("nats")

from tests.support.nats_server import NatsServer, nats_server
from tests.support.nats_wiring import NatsWiring
from zcserve.fleet import jetstream as jetstream_module
from zcserve.fleet import nats_manifests, nats_streams
from zcserve.fleet.bus import MissingError
from zcserve.fleet.jetstream import JetStream
from zcserve.fleet.nats_manifests import Manifests

pytestmark = pytest.mark.peer

DIGEST = "a" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_manifests, "CHUNK_BYTES", 10)


@pytest.mark.parametrize("size", [0, 1, 10, 11, 1000])
def test_what_is_kept_is_what_is_read(server: NatsServer, size: int) -> None:
    wiring, data = NatsWiring(server), bytes(number % 251 for number in range(size))

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            manifests = Manifests(jetstream, wiring.site)
            await manifests.put(DIGEST, data)
            assert await manifests.get(DIGEST) == data

    asyncio.run(run())


def test_the_chunks_of_what_is_replaced_are_dropped(server: NatsServer) -> None:
    wiring = NatsWiring(server)

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            manifests = Manifests(jetstream, wiring.site)
            for _ in range(5):
                await manifests.put(DIGEST, bytes(100))
            info = await jetstream.api(f"STREAM.INFO.{nats_streams.manifests(wiring.site).name}")
            assert info["state"]["messages"] == 11  # ten chunks, and what says so

    asyncio.run(run())


def test_one_that_is_replaced_again_and_again_is_read_whole(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_module, "HEARTBEAT_S", 0.1)
    wiring = NatsWiring(server)

    async def run() -> None:
        async with wiring.jetstream() as jetstream, wiring.jetstream() as other:
            manifests, reading = Manifests(jetstream, wiring.site), Manifests(other, wiring.site)
            await manifests.put(DIGEST, bytes(100))
            putting = asyncio.create_task(_put_all(manifests))
            found = set()
            while not putting.done():
                with suppress(MissingError):  # it was replaced each time that it was read
                    found.add(await reading.get(DIGEST))
            await putting
            found.add(await reading.get(DIGEST))
            assert all(len(data) == 100 and len(set(data)) == 1 for data in found)
            assert bytes([29]) * 100 in found

    asyncio.run(run())


async def _put_all(manifests: Manifests) -> None:
    for number in range(30):
        await manifests.put(DIGEST, bytes([number]) * 100)


@pytest.mark.parametrize("what", ["a chunk", "its list", "a byte"])
def test_what_is_not_whole_is_missing(server: NatsServer, what: str) -> None:
    wiring = NatsWiring(server)

    async def damage(jetstream: JetStream) -> None:
        stream = nats_streams.manifests(wiring.site)
        first = await jetstream.at(stream, 1)
        assert first
        if what == "a chunk":
            await jetstream.api(f"STREAM.MSG.DELETE.{stream.name}", {"seq": 3})
        elif what == "its list":
            place = stream.subject.removesuffix(">") + "M." + _name(DIGEST)
            await jetstream.append(stream, place, b'{"nuid": 1}')
        else:
            await jetstream.api(f"STREAM.MSG.DELETE.{stream.name}", {"seq": 3})
            await jetstream.append(stream, first.subject, b"x" * 10)

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            manifests = Manifests(jetstream, wiring.site)
            await manifests.put(DIGEST, bytes(100))
            await damage(jetstream)
            with pytest.raises(MissingError, match="no manifest aaaaaaaaaaaa, or not all of it"):
                await manifests.get(DIGEST)
            await manifests.put(DIGEST, b"anew")
            assert await manifests.get(DIGEST) == b"anew"

    asyncio.run(run())


def _name(digest: str) -> str:
    return base64.urlsafe_b64encode(digest.encode()).decode()

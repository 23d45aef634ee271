"""Manifests in an object store of NATS: whole or not at all, also where one is replaced while it is read."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

pytest.importorskip("nats")

from tests.support.nats_server import NatsServer, nats_server
from tests.support.nats_wiring import NatsWiring
from zcserve.fleet import jetstream as jetstream_module
from zcserve.fleet import nats_manifests, nats_streams
from zcserve.fleet.bus import BusError, MissingError
from zcserve.fleet.jetstream import ALL, JetStream, Record, Stream
from zcserve.fleet.nats_manifests import Manifests
from zcserve.fleet.packed import ENDING, UNPACKED_BYTES_MAX, pack

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


def test_a_store_that_drops_a_manifest_while_it_is_put_says_so(server: NatsServer) -> None:
    wiring = NatsWiring(server)

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            narrow = replace(nats_streams.manifests(wiring.site), bytes_max=2000)
            await jetstream.held(narrow)
            manifests = Manifests(jetstream, wiring.site)
            await manifests.put(DIGEST, b"small")
            with pytest.raises(BusError, match=r"is too small: it has dropped a manifest of 5,000 bytes at once"):
                await manifests.put(DIGEST, bytes(5000))

    asyncio.run(run())


def test_the_chunks_of_what_is_replaced_are_dropped(server: NatsServer) -> None:
    wiring = NatsWiring(server)

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            manifests = Manifests(jetstream, wiring.site)
            for _ in range(5):
                await manifests.put(DIGEST, bytes(100))
            info = await jetstream.api(f"STREAM.INFO.{nats_streams.manifests(wiring.site).name}")
            # Ten chunks and what says so; and the same compressed.
            assert info["state"]["messages"] == 11 + math.ceil(len(pack(bytes(100))) / 10) + 1

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


FORMS = (DIGEST, DIGEST + ENDING)


async def chunks_of(wiring: NatsWiring, jetstream: JetStream, called: str) -> list[Record]:
    """Of what is kept under a name."""
    stream = nats_streams.manifests(wiring.site)
    about = await jetstream.last(stream, _place(stream, called))
    assert about
    reader = await jetstream.read(stream, f"{stream.subject[:-1]}C.{json.loads(about.data)['nuid']}", ALL)
    found = [await reader.next() for _ in range(reader.left)]
    await reader.close()
    return [one for one in found if one]


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("what", ["a chunk", "its list", "a byte"])
def test_what_is_not_whole_is_missing_unless_its_other_form_is(server: NatsServer, what: str, first: str) -> None:
    wiring = NatsWiring(server)

    async def damage(jetstream: JetStream, called: str) -> None:
        stream = nats_streams.manifests(wiring.site)
        if what == "its list":
            await jetstream.append(stream, _place(stream, called), b'{"nuid": 1}')
            return
        chunk = (await chunks_of(wiring, jetstream, called))[0]
        await jetstream.api(f"STREAM.MSG.DELETE.{stream.name}", {"seq": chunk.seq})
        if what == "a byte":
            await jetstream.append(stream, chunk.subject, b"x" * len(chunk.data))

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            manifests = Manifests(jetstream, wiring.site)
            await manifests.put(DIGEST, bytes(100))
            await damage(jetstream, first)
            assert await manifests.get(DIGEST) == bytes(100)
            (second,) = {*FORMS} - {first}
            await damage(jetstream, second)
            with pytest.raises(MissingError, match="no manifest aaaaaaaaaaaa, or not all of it"):
                await manifests.get(DIGEST)
            await manifests.put(DIGEST, b"anew")
            assert await manifests.get(DIGEST) == b"anew"

    asyncio.run(run())


def test_of_two_versions_each_reads_what_the_other_has_put(server: NatsServer) -> None:
    """One version knows manifests as they are alone, under their digest."""
    wiring, data = NatsWiring(server), b"a manifest" * 100

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            manifests = Manifests(jetstream, wiring.site)
            await manifests.put(DIGEST, data)
            chunks = [await chunks_of(wiring, jetstream, called) for called in FORMS]
            of_digest, of_packed = (b"".join(chunk.data for chunk in some) for some in chunks)
            assert of_digest == data
            assert gzip.decompress(of_packed) == data
            assert 3 * len(of_packed) < len(data)
            stream = nats_streams.manifests(wiring.site)
            await jetstream.drop(stream, _place(stream, DIGEST + ENDING))
            assert await manifests.get(DIGEST) == data

    asyncio.run(run())


def test_what_is_too_large_when_it_is_inflated_is_not_taken(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring = NatsWiring(server)

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            manifests = Manifests(jetstream, wiring.site)
            await manifests.put(DIGEST, b"small")
            monkeypatch.setattr(nats_manifests, "pack", lambda _: gzip.compress(bytes(UNPACKED_BYTES_MAX + 1)))
            monkeypatch.setattr(nats_manifests, "CHUNK_BYTES", 100_000)
            await manifests.put(DIGEST, b"small")
            assert await manifests.get(DIGEST) == b"small"

    asyncio.run(run())


def _place(stream: Stream, called: str) -> str:
    return f"{stream.subject[:-1]}M.{base64.urlsafe_b64encode(called.encode()).decode()}"

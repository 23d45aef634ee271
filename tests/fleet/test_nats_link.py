"""A connection to what should be NATS, and is not, or not yet: each call ends, and nothing is tried without a pause."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("nats")

from zcserve.fleet import nats_link
from zcserve.fleet.bus import BusError
from zcserve.fleet.nats_link import AwayError, Link, lasting
from zcserve.fleet.nats_place import NatsPlace

INFO = b'INFO {"server_id":"x","version":"2.9.10","headers":true,"max_payload":1048576%s}\r\n'


async def refused(link: Link) -> AwayError:
    """What a request says."""
    with pytest.raises(AwayError) as away:
        await link.request("a")
    return away.value


class Peer:
    """A server that says what a test wants."""

    def __init__(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.connections = 0
        self.port = 0
        self._serve = serve

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def linked(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[Link, Peer]]:
    """A link, and what it connects to."""
    peer = Peer(serve)
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    link = Link(NatsPlace.of(f"nats://127.0.0.1:{peer.port}"), "a test")
    try:
        yield link, peer
    finally:
        await link.close()
        server.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As nats-server does."""
    writer.write(INFO % b"")
    while not (line := await reader.readuntil(b"\r\n")).startswith(b"PING"):
        assert line.startswith(b"CONNECT"), line
    writer.write(b"PONG\r\n")


async def end_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It takes connections, and no more."""


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def say_what_is_no_nats(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await reader.read()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(INFO % b',"auth_required":true')
    await reader.readuntil(b"PING\r\n")
    writer.write(b"-ERR 'Authorization Violation'\r\n")


async def answer_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await greet(reader, writer)
    while line := await reader.readline():
        if line.startswith(b"PING"):
            writer.write(b"PONG\r\n")


async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await greet(reader, writer)
    await asyncio.sleep(60)


async def end_when_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await greet(reader, writer)
    while (line := await reader.readline()) and not line.startswith((b"PUB", b"HPUB")):
        pass


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes less."""
    times = {"WAITS_S": 0.2, "ANSWER_S": 0.4, "CONNECT_S": 0.1, "PAUSE_S": 0.02, "PAUSE_MAX_S": 0.05}
    for name, value in {**times, "PAUSE_REFUSED_S": 0.1, "LEAVES_S": 0.1}.items():
        monkeypatch.setattr(nats_link, name, value)


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (end_at_once, "NATS is away: "),
        (say_nothing, "NATS is away: it does not answer"),
        (say_what_is_no_nats, "NATS is away: .*INFO"),
        (refuse, "NATS refuses the credentials: 'Authorization Violation'"),
    ],
)
def test_what_does_not_let_it_in_is_tried_again_with_pauses_and_told_once(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        async with linked(serve) as (link, peer):
            began = time.monotonic()
            where = rf"{said}.*\(nats://127\.0\.0\.1:{peer.port}\)"
            async with asyncio.timeout(30):
                while not re.search(where, str(await refused(link))):
                    pass
                while peer.connections < 4:
                    await asyncio.sleep(0.01)
            took = time.monotonic() - began
            assert peer.connections <= 4 + 2 * took / (nats_link.PAUSE_S / 2)

    asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in lines if "it is tried again until it is there" in line]) == 1, lines


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (answer_nothing, "NATS does not answer a: nats: timeout"),
        (stand_still, "NATS does not answer a: nats: timeout"),
        (end_when_asked, "the connection was lost"),
    ],
)
def test_a_request_ends(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], said: str
) -> None:
    async def run() -> None:
        async with linked(serve) as (link, _):
            began = time.monotonic()
            with pytest.raises(BusError, match=said):
                await link.request("a", within_s=0.3)
            assert time.monotonic() - began < 5

    asyncio.run(run())


def test_what_waits_ends_when_it_is_closed_and_so_does_what_comes_after() -> None:
    async def run() -> None:
        async with linked(answer_nothing) as (link, _):
            asked = asyncio.ensure_future(link.request("a", within_s=60))
            lost: list[BusError] = []
            await link.subscribe(lambda message: None, lost.append)
            await link.close()
            with pytest.raises(AwayError, match="closed"):
                await asked
            with pytest.raises(AwayError, match="closed"):
                await link.request("a")
            assert ["closed" in str(error) for error in lost] == [True]
            assert link.is_closed

    asyncio.run(run())


def test_a_connection_that_is_lost_is_made_anew_and_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> None:
        async with linked(end_when_asked) as (link, peer):
            for _ in range(3):
                with pytest.raises(BusError):
                    await link.request("a", within_s=5)
            async with asyncio.timeout(20):
                while peer.connections < 4 or not link.is_connected:
                    await asyncio.sleep(0.01)

    asyncio.run(run())
    lines = [record.getMessage().partition(":")[0] for record in caplog.records if "NATS" in record.getMessage()]
    assert lines == ["NATS is away", "NATS is back"] * 3


def test_attempts_follow_each_other_with_pauses_until_the_link_is_closed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(nats_link, "TOLD_AFTER_S", 0.03)
    monkeypatch.setattr(nats_link, "LASTED_S", 0.0)
    tries = 0

    async def attempt() -> AsyncGenerator[int | None, None]:
        nonlocal tries
        tries += 1
        if tries % 5:
            raise BusError("no stream")
        yield None
        yield tries

    async def run() -> None:
        async with linked(say_nothing) as (link, _):
            found = lasting(link, "numbers", attempt)
            began = time.monotonic()
            assert [await anext(found), await anext(found)] == [5, 10]
            assert time.monotonic() - began > 8 * nats_link.PAUSE_S / 2
            await link.close()
            assert [one async for one in found] == []

    asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records if "numbers" in record.getMessage()]
    down = "numbers do not come from NATS; it is tried again until they do: no stream"
    assert lines == [down, "numbers come from NATS again"] * 2

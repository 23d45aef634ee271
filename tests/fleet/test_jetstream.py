"""JetStream's requests and readers, with a real nats-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("nats")

from tests.support.nats_server import NatsServer, nats_server
from tests.support.nats_wiring import NatsWiring
from zcserve.fleet import jetstream as module
from zcserve.fleet.bus import BusError
from zcserve.fleet.jetstream import ALL, LAST, JetStream, JetStreamError, Reader, Stream, WrongLastError, from_number
from zcserve.fleet.nats_link import NoStreamError

pytestmark = pytest.mark.peer

Test = Callable[[JetStream], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def run(server: NatsServer) -> Callable[[Test], None]:
    """Run a coroutine with a JetStream."""

    async def whole(test: Test) -> None:
        async with NatsWiring(server).jetstream() as jetstream:
            async with asyncio.timeout(60):
                await test(jetstream)

    return lambda test: asyncio.run(whole(test))


def stream(name: str, **more: int) -> Stream:
    return Stream(name, f"{name}.>", **more)


def test_a_stream_is_made_by_what_needs_it_first(run: Callable[[Test], None]) -> None:
    async def test(jetstream: JetStream) -> None:
        one, two, three = stream("one"), stream("two"), stream("three")
        assert await jetstream.append(one, "one.a", b"x") == 1
        held = await jetstream.held(two)
        assert (held.first, held.last) == (1, 0)
        reader = await jetstream.read(three, "three.*", ALL)
        await jetstream.append(three, "three.a", b"x")
        record = await reader.next()
        assert record
        assert (record.subject, record.data, record.seq, record.left) == ("three.a", b"x", 1, 0)
        await reader.close()
        assert await jetstream.last(stream("none"), "none.a") is None
        assert await jetstream.at(one, 2) is None
        await jetstream.drop(stream("none"), "none.a")

    run(test)


def test_the_first_record_from_a_number_on_is_the_same_in_both_ways(run: Callable[[Test], None]) -> None:
    async def test(jetstream: JetStream) -> None:
        one = stream("next")
        for subject, data in (("next.a", b"1"), ("next.b", b"\xff"), ("next.a", b"")):
            await jetstream.append(one, subject, data)
        found = [await jetstream.next(one, "next.a", 2), await jetstream.next(one, "next.a", 2, is_direct=True)]
        assert found[0] == found[1]
        assert found[0]
        assert (found[0].subject, found[0].data, found[0].seq) == ("next.a", b"", 3)
        for is_direct in (False, True):
            assert await jetstream.next(one, "next.a", 4, is_direct=is_direct) is None
            assert await jetstream.next(one, "next.none", 1, is_direct=is_direct) is None
        assert await jetstream.next(stream("none"), "none.a", 1) is None
        with pytest.raises(JetStreamError) as raised:
            await jetstream.reader(stream("none"), "none.a", ALL)
        assert raised.value.code == module.NO_STREAM

    run(test)


def test_a_stream_that_was_there_is_made_anew_after_a_while_and_a_new_one_at_once(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(jetstream: JetStream) -> None:
        monkeypatch.setattr(module, "GONE_S", 600.0)
        for name in ("at_once_1", "at_once_2", "at_once_3"):
            await jetstream.held(stream(name))
        await jetstream.append(stream("again"), "again.a", b"x")
        await (await jetstream.read(stream("again_too"), "again_too.a", ALL)).close()
        for name in ("again", "again_too", "at_once_1"):
            await jetstream.api(f"STREAM.DELETE.{name}")
            monkeypatch.setattr(module, "GONE_S", 0.2)
            began = time.monotonic()
            await jetstream.append(stream(name), f"{name}.a", b"x")
            assert time.monotonic() - began >= 0.2

    run(test)


def test_a_stream_that_is_there_and_does_not_listen_yet_is_written_to_again(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(jetstream: JetStream) -> None:
        request, deaf = jetstream.link.request, 3

        async def ask(subject: str, *args: Any) -> Any:
            nonlocal deaf
            if subject == "deaf.a" and deaf:
                deaf -= 1
                raise NoStreamError("nothing has it")
            return await request(subject, *args)

        monkeypatch.setattr(jetstream.link, "request", ask)
        assert await jetstream.append(stream("deaf"), "deaf.a", b"x") == 1
        deaf = -1
        monkeypatch.setattr(module, "LISTENS_S", 0.1)
        with pytest.raises(NoStreamError):
            await jetstream.append(stream("deaf"), "deaf.a", b"x")

    run(test)


def test_many_that_make_one_stream_at_once_make_one(run: Callable[[Test], None]) -> None:
    async def test(jetstream: JetStream) -> None:
        made = await asyncio.gather(*[jetstream.held(stream("many", by_subject=n % 2 + 1)) for n in range(8)])
        assert len({held.made for held in made}) == 1

    run(test)


def test_an_append_after_another_record_is_refused(run: Callable[[Test], None]) -> None:
    async def test(jetstream: JetStream) -> None:
        one = stream("cas")
        await jetstream.append(one, "cas.a", b"1", last=0)
        await jetstream.append(one, "cas.b", b"2", last=0)
        for last in (0, 2):
            with pytest.raises(WrongLastError):
                await jetstream.append(one, "cas.a", b"3", last=last)
        assert await jetstream.append(one, "cas.a", b"3", last=1) == 3

    run(test)


def test_what_the_server_refuses_says_why(run: Callable[[Test], None]) -> None:
    async def test(jetstream: JetStream) -> None:
        with pytest.raises(JetStreamError, match="stream not found"):
            await jetstream.api("STREAM.DELETE.none")
        with pytest.raises(BusError, match="nats: maximum payload exceeded"):
            await jetstream.append(stream("large"), "large.a", bytes(2 << 20))

    run(test)


def test_a_reader_brings_what_was_there_and_what_comes(run: Callable[[Test], None]) -> None:
    async def test(jetstream: JetStream) -> None:
        one = stream("read")
        for number in range(10):
            await jetstream.append(one, f"read.{number % 3}", b"%d" % number)
        last, third = (
            await jetstream.read(one, "read.*", LAST, 2),
            await jetstream.read(one, "read.1", from_number(3), 2),
        )
        assert (last.left, third.left) == (3, 2)
        found = [await last.next() for _ in range(3)]
        assert [(record.data, record.left) for record in found if record] == [(b"7", 2), (b"8", 1), (b"9", 0)]
        assert [record.seq for record in [await third.next(), await third.next()] if record] == [5, 8]
        await jetstream.append(one, "read.1", b"new")
        for reader in (last, third):
            record = await reader.next()
            assert record
            assert (record.data, record.left) == (b"new", 0)
            await reader.close()

    run(test)


def test_times_are_the_servers(run: Callable[[Test], None]) -> None:
    async def test(jetstream: JetStream) -> None:
        one = stream("times")
        before = time.time()
        await jetstream.append(one, "times.a", b"x")
        record = await jetstream.last(one, "times.a")
        assert record
        assert before - 0.01 <= record.time <= await jetstream.now(one) <= time.time() + 0.01
        assert (await jetstream.api("STREAM.INFO.times"))["state"]["consumer_count"] == 0

    run(test)


def test_a_reader_says_that_there_is_nothing_and_asks_again(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(module, "ASKS_EVERY_S", 0.25)

    async def test(jetstream: JetStream) -> None:
        one = stream("quiet")
        reader = await jetstream.read(one, "quiet.*", ALL)
        assert [await reader.next() for _ in range(6)] == [None] * 6
        await jetstream.append(one, "quiet.a", b"x")
        while (record := await reader.next()) is None:
            pass
        assert record.data == b"x"
        await reader.close()

    run(test)


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_reader_whose_consumer_is_gone_ends(
    run: Callable[[Test], None], is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it has asked, it is told so; else it hears nothing."""
    monkeypatch.setattr(module, "SILENT_S", 1.0)

    async def test(jetstream: JetStream) -> None:
        one = stream(f"gone-{is_asked}")
        reader = await jetstream.read(one, f"{one.name}.*", ALL)
        if is_asked:
            asked = asyncio.ensure_future(reader.next())
            await asyncio.sleep(0.1)
        await jetstream.api(f"STREAM.DELETE.{one.name}")
        with pytest.raises(BusError, match="Consumer Deleted" if is_asked else "nothing is heard"):
            await (asked if is_asked else reader.next())
        await reader.close()

    run(test)


def test_a_last_record_that_does_not_come_is_not_taken_for_none(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when the reader was made, and was dropped before it came."""

    async def test(jetstream: JetStream) -> None:
        one = stream("dropped", by_subject=1)
        await jetstream.append(one, "dropped.a", b"x")
        begin = Reader.begin

        async def drop_first(reader: Reader) -> None:
            await begin(reader)
            await jetstream.drop(one, "dropped.a")

        with monkeypatch.context() as patch:
            patch.setattr(Reader, "begin", drop_first)
            patch.setattr(module, "HEARTBEAT_S", 0.1)
            with pytest.raises(BusError, match=r"the last record of dropped\.a"):
                await jetstream.last(one, "dropped.a")
        assert await jetstream.last(one, "dropped.a") is None

    run(test)

"""A small HTTP listener: who is answered, what is refused with which word, and whose place is taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from zcserve.config.addresses import TcpAddress
from zcserve.errors import UsageError
from zcserve.fleet import http_listener
from zcserve.fleet.http_listener import Answer, Listener, RefusedError, Request, json_answer

TOKEN = "Authorization: Bearer the-token\r\n"
BODY = "Content-Type: application/json\r\n"


async def handle(request: Request) -> Answer:
    match request.segments:
        case ("fault",):
            raise ValueError("a fault")
        case ("refused",):
            raise RefusedError(409, "held", "another has it", holder="b")
        case ("none",):
            return Answer()
    told = request._asdict() | {"body": request.body.decode()}
    return json_answer(told)


Send = Callable[[bytes], Awaitable[list[tuple[int, str]]]]
Talk = Callable[[Send, Listener], Awaitable[None]]


def serve(talk: Talk, token: bytes = b"the-token") -> None:
    """Talk to a listener: what is sent is answered with a status and a code or a body for each request, to the end."""

    async def run() -> None:
        listener = Listener(TcpAddress("127.0.0.1", 0), token, handle, lambda request: 1 << 20)
        await listener.start()

        async def send(data: bytes) -> list[tuple[int, str]]:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(data)
            writer.write_eof()
            answers = read_all(await reader.read())
            writer.close()
            return answers

        try:
            async with asyncio.timeout(60):
                await talk(send, listener)
        finally:
            await listener.close()

    asyncio.run(run())


def read_all(data: bytes) -> list[tuple[int, str]]:
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:])
        size = int(fields.get("Content-Length", 0))
        body, data = data[:size], data[size:]
        status = int(lines[0].split()[1])
        found.append((status, json.loads(body).get("code", "") if body else ""))
    return found


def test_requests_of_one_connection_are_answered_in_order() -> None:
    async def talk(send: Send, listener: Listener) -> None:
        get = f"GET /a HTTP/1.1\r\n{TOKEN}\r\n".encode()
        put = f"PUT /a?b=c HTTP/1.1\r\n{TOKEN}{BODY}Content-Length: 3\r\n\r\nabc".encode()
        none = f"GET /none HTTP/1.1\r\n{TOKEN}\r\n".encode()
        refused = f"GET /refused HTTP/1.1\r\n{TOKEN}\r\n".encode()
        assert await send(get + put + none + refused + get) == [
            (200, ""),
            (200, ""),
            (204, ""),
            (409, "held"),
            (200, ""),
        ]
        old = f"GET /a HTTP/1.0\r\n{TOKEN}\r\n".encode()
        assert await send(old + get) == [(200, "")]
        assert await send(f"GET /fault HTTP/1.1\r\n{TOKEN}\r\n".encode()) == [(500, "fault")]
        expects = f"PUT /a HTTP/1.1\r\n{TOKEN}{BODY}Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc".encode()
        assert await send(expects) == [(100, ""), (200, "")]

    serve(talk)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ("GET /a HTTP/1.1\r\n\r\n", 401, "token"),
        ("GET /a HTTP/1.1\r\nAuthorization: Bearer the-tokem\r\n\r\n", 401, "token"),
        ("GET /a HTTP/1.1\r\nAuthorization: Basic the-token\r\n\r\n", 401, "token"),
        (f"GET /a HTTP/1.1\r\n{TOKEN}Origin: http://a.example\r\n\r\n", 403, "origin"),
        (f"PUT /a HTTP/1.1\r\n{TOKEN}{BODY}\r\n", 411, "length"),
        (f"PUT /a HTTP/1.1\r\n{TOKEN}{BODY}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, "length"),
        (f"PUT /a HTTP/1.1\r\n{TOKEN}{BODY}Content-Length: 1048577\r\n\r\n", 413, "large"),
        (f"PUT /a HTTP/1.1\r\n{TOKEN}{BODY}Content-Length: -1\r\n\r\n", 400, "form"),
        (f"PUT /a HTTP/1.1\r\n{TOKEN}Content-Type: text/plain\r\nContent-Length: 1\r\n\r\na", 415, "type"),
        (f"GET /a HTTP/1.1\r\n{TOKEN}{TOKEN}\r\n", 400, "form"),
        (f"GET /a HTTP/1.1\r\n{TOKEN} folded: a\r\n\r\n", 400, "form"),
        ("GET /a HTTP/2.0\r\n\r\n", 400, "form"),
        ("GET http://a/ HTTP/1.1\r\n\r\n", 400, "form"),
        ("\x16\x03\x01\r\n\r\n", 400, "form"),
        ("GET /" + "a" * 9000, 431, "large"),
    ],
)
def test_what_is_refused_has_a_word_and_ends_the_connection(sent: str, status: int, code: str) -> None:
    async def talk(send: Send, listener: Listener) -> None:
        more = f"GET /a HTTP/1.1\r\n{TOKEN}\r\n" if status != 431 else ""
        assert await send((sent + more).encode("latin-1")) == [(status, code)]

    serve(talk)


def test_a_crowd_without_the_token_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(send: Send, listener: Listener) -> None:
        for _ in range(5):
            await send(b"GET /a HTTP/1.1\r\n\r\n")

    serve(talk)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["requests without the right token: 1, the last one from 127.0.0.1"]


def test_a_client_that_goes_before_its_body_is_here_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """An operator that is killed while it puts a manifest."""
    put = f"PUT /a HTTP/1.1\r\n{TOKEN}{BODY}Content-Length: 9\r\n\r\nabc".encode()

    async def talk(send: Send, listener: Listener) -> None:
        assert await send(put) == []

    serve(talk)
    assert not caplog.records


def test_without_a_token_loopbacks_names_are_answered_alone() -> None:
    async def talk(send: Send, listener: Listener) -> None:
        for host in ("localhost:80", "127.0.0.1", "[::1]:80"):
            assert await send(f"GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()) == [(200, "")]
        for host in ("a.example", "", "127.0.0.1.example"):
            assert await send(f"GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()) == [(421, "host")]

    serve(talk, b"")


def test_what_comes_too_slowly_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "SLOW_S", 0.0)
    monkeypatch.setattr(http_listener, "IDLE_S", 0.05)

    async def talk(send: Send, listener: Listener) -> None:
        for sent, answer in (
            (b"", []),
            (b"GET /a HT", [(408, "slow")]),
            (f"PUT /a HTTP/1.1\r\n{TOKEN}{BODY}Content-Length: 3\r\n\r\na".encode(), [(408, "slow")]),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(sent)
            assert read_all(await reader.read()) == answer
            writer.close()

    serve(talk)


def test_a_newcomer_has_the_place_of_what_has_shown_no_token_or_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "CONNECTIONS_MAX", 2)

    async def talk(send: Send, listener: Listener) -> None:
        get = f"GET /none HTTP/1.1\r\n{TOKEN}\r\n".encode()
        known, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(get)
        assert await known.readuntil(b"\r\n\r\n")
        crowd = []
        for _ in range(5):
            reader, other = await asyncio.open_connection("127.0.0.1", listener.port)
            crowd.append((reader, other))
            other.write(b"GET /")
        for reader, _ in crowd[:-1]:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.write(get)
        assert await known.readuntil(b"\r\n\r\n")
        assert await send(get) == [(204, "")]
        for _, other in crowd:
            other.close()
        writer.close()

    serve(talk)


def test_an_address_that_is_taken_is_wrong_use() -> None:
    async def talk(send: Send, listener: Listener) -> None:
        second = Listener(TcpAddress("127.0.0.1", listener.port), b"", handle, lambda request: 0)
        with pytest.raises(UsageError, match="cannot be had"):
            await second.start()

    serve(talk)

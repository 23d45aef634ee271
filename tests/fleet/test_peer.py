"""One server, asked over HTTP/1.1: connections are kept, each step has an end, and what is no answer is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from zcserve.fleet.bus import BusError
from zcserve.fleet.packed import both, pack
from zcserve.fleet.peer import Peer

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 2\r\n\r\nhi'


def run(serve: Serve, scene: Callable[[Peer], Awaitable[None]]) -> None:
    async def whole() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        peer = Peer(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {"Authorization": "Bearer x"})
        try:
            async with asyncio.timeout(30):
                await scene(peer)
        finally:
            peer.close()
            server.close()

    asyncio.run(whole())


def answering(*answers: bytes) -> tuple[Serve, list[bytes]]:
    """A server that gives each connection these answers in turn, and then ends it; the requests."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                heads.append(head + await reader.readexactly(int(length or 0)))
                writer.write(answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    return serve, heads


def test_an_answer_has_status_fields_and_content() -> None:
    serve, heads = answering(OK)

    async def scene(peer: Peer) -> None:
        answer = await peer.ask("PUT", "/v1/x?a=b", b"{}", within_s=5)
        assert (answer.status, answer.fields["etag"], answer.content) == (200, '"a"', b"hi")

    run(serve, scene)
    (head,) = heads
    assert head.startswith(b"PUT /v1/x?a=b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert head.endswith(
        b"\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_a_connection_is_kept_and_one_that_has_ended_is_replaced() -> None:
    connections = 0
    serve, heads = answering(OK, b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await serve(reader, writer)

    async def scene(peer: Peer) -> None:
        assert (await peer.ask("GET", "/1", within_s=5)).content == b"hi"
        assert (await peer.ask("GET", "/2", within_s=5)).status == 204
        assert (await peer.ask("HEAD", "/3", within_s=5)).content == b""
        assert connections == 1
        for number, method in enumerate(("GET", "GET", "HEAD", "GET"), 4):
            assert (await peer.ask(method, f"/{number}", within_s=5)).status in (200, 204)
        assert connections == 3

    run(counted, scene)
    assert len(heads) == 7


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the connection has ended"),
        (b"SSH-2.0-x\r\n\r\n", "it begins with 'SSH-2.0-x'"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "its length is not given"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "gave no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "its length is 99999999999"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "gave no HTTP answer"),
        (b"x" * 40_000, "gave no HTTP answer"),
    ],
    ids=range(7),
)
def test_what_is_no_answer_is_told(answer: bytes, said: str) -> None:
    async def scene(peer: Peer) -> None:
        with pytest.raises(BusError) as caught:
            await peer.ask("GET", "/", within_s=5)
        assert said in str(caught.value)
        assert str(caught.value).startswith("http://127.0.0.1:")

    run(answering(answer)[0], scene)


def test_an_answer_that_does_not_come_has_an_end_and_the_next_one_fails_at_once() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def scene(peer: Peer) -> None:
        with pytest.raises(BusError, match=r"gave no answer within 0.05 s"):
            await peer.ask("GET", "/", within_s=0.05)
        clock = asyncio.get_running_loop().time
        begun = clock()
        with pytest.raises(BusError, match=r"gave no answer within 0.05 s"):
            await peer.ask("GET", "/", within_s=20)
        assert clock() - begun < 5

    run(silent, scene)


def test_a_port_that_is_closed_is_not_reached() -> None:
    async def scene() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            with pytest.raises(BusError, match=r"is not reached: Connect"):
                await Peer(f"http://127.0.0.1:{bound.getsockname()[1]}").ask("GET", "/", within_s=5)

    asyncio.run(scene())


def test_what_is_packed_goes_compressed_and_as_it_is_where_the_server_knows_no_such_name() -> None:
    refused = b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\n{}"
    serve, requests = answering(OK, refused % 400, OK, refused % 503)

    async def scene(peer: Peer) -> None:
        assert (await peer.ask("PUT", "/m/1", both(b"{}"), within_s=5)).status == 200
        assert (await peer.ask("PUT", "/m/2", both(b"{}"), within_s=5)).status == 200
        assert (await peer.ask("PUT", "/m/3", both(b"{}"), within_s=5)).status == 503

    run(serve, scene)
    assert [request.split()[1] for request in requests] == [b"/m/1.gz", b"/m/2.gz", b"/m/2", b"/m/3.gz"]
    assert [request.partition(b"\r\n\r\n")[2] for request in requests[1:3]] == [pack(b"{}"), b"{}"]


def test_what_comes_packed_is_what_it_was_and_comes_as_it_is_from_a_server_that_knows_no_such_name() -> None:
    packed = pack(b"{}" * 100)
    serve, requests = answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed),
        b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n",
        OK,
        b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        OK,
    )

    async def scene(peer: Peer) -> None:
        assert (await peer.get_packed("/m/1", within_s=5)).content == b"{}" * 100
        assert (await peer.get_packed("/m/2", within_s=5)).content == b"hi"
        assert (await peer.get_packed("/m/3", within_s=5)).status == 404
        with pytest.raises(BusError, match=r"/m/4\.gz is no gzip|is no whole gzip"):
            await peer.get_packed("/m/4", within_s=5)

    run(serve, scene)
    assert [request.split()[1] for request in requests] == [b"/m/1.gz", b"/m/2.gz", b"/m/2", b"/m/3.gz", b"/m/4.gz"]

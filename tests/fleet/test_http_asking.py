"""All nodes are asked at once: most of them decide, one that is late is not waited for, and what is wrong is named."""

from __future__ import annotations

import asyncio

from zcserve.fleet.http_asking import Asking, Replies, form_of
from zcserve.fleet.node_list import Listed
from zcserve.fleet.peer import Answer


async def _right(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    writer.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def test_one_that_is_late_is_not_waited_for_once_most_have_answered() -> None:
    async def whole() -> Replies:
        servers = [await asyncio.start_server(one, "127.0.0.1", 0) for one in (_right, _silent, _right)]
        urls = [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
        asking = Asking("www", [Listed(f"n{number}", url) for number, url in enumerate(urls, 1)], "")
        try:
            async with asyncio.timeout(30):
                return await asking.all("GET", "/state", within_s=600.0)
        finally:
            await asking.close()
            for server in servers:
                server.close()

    replies = asyncio.run(whole())
    assert {name: answer.content for name, answer in replies.answers.items()} == {"n1": b"ok", "n3": b"ok"}
    assert replies.failed == {"n2": "has not answered yet"}


def test_what_is_refused_and_what_has_failed_is_named() -> None:
    refused = Answer(401, {}, b'{"error": "this token is not known", "code": "token"}')
    other = Answer(404, {}, b"<html>")
    replies = Replies({"n1": Answer(204, {}, b""), "n3": refused, "n4": other}, {"n2": "is not reached"})
    asking = Asking("www", [Listed(f"n{number}", "http://127.0.0.1:9") for number in range(1, 5)], "")
    assert str(asking.too_few("claim", replies.of(204), replies)) == (
        "claim: 1 of 4 nodes, and 3 are needed; n2: is not reached; "
        "n3: status 401: this token is not known (--token-file: is it the agent's?); "
        "n4: status 404, and not from an agent: the URL of a node is that of its agent's --listen"
    )
    assert form_of(other) == form_of(Answer(409, {}, b"[]")) == {}

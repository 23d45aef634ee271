"""A small HTTP/1.1 listener (RFC 9112) for an operator's programs: requests with a token, JSON, few connections.

It is no server of content: zcserve's own loop would bring caches and lanes into a process that is to take nothing. So
this one takes what the form of the bus needs (docs/fleet-http.md), and refuses the rest: no chunks, no upgrades, no
other methods.

- **Whatever is refused is JSON**, with a word for programs. What cannot be in step any more is closed behind it.
- **A place is kept by the token.** Where all are taken, the newest client has the place of the oldest that has not
  shown it, or else of the oldest that waits for nothing. So a crowd that knows no token shuts nobody out.
- **No browser is answered**: it says which page asks (Origin), and a name that an attacker's DNS leads here is none of
  this listener's (Host), unless it has the token.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from zcserve.admin.guard import is_loopback
from zcserve.config.addresses import TcpAddress
from zcserve.errors import UsageError, ZcserveError, reason_of
from zcserve.fleet.forms import MESSAGE_BYTES_MAX
from zcserve.log import Log
from zcserve.phrases import PHRASES

_log = Log(__name__)

# Of a request's head, in bytes: the longest path has some 300.
HEAD_BYTES_MAX = 8 << 10
# For a head, and for each PIECE_BYTES of a body, in seconds.
SLOW_S = 10.0
PIECE_BYTES = 64 << 10
# A connection without a request, in seconds: longer than a wait for a state.
IDLE_S = 90.0
# An operator has one connection to a node for each thing that it waits for.
CONNECTIONS_MAX = 128
# So many are accepted before the loop reads again: a client that sends at once is read before its place is another's.
ACCEPTED_AT_ONCE = 16
# So many wait in the kernel to be accepted.
QUEUE = 1024
# So often it is told, in seconds, that requests came without the token.
STRANGERS_TOLD_S = 60.0
# Bodies that are larger than a message, at once.
LARGE_AT_ONCE_MAX = 2
_TARGET = re.compile(rb"(/[\x21-\x7e]{0,2000}) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")


class RefusedError(ZcserveError):
    """A request that is not answered as it wants: the status, a word for programs, words, and what else they get.

    is_over  the connection is not in step any more
    """

    def __init__(self, status: int, code: str, words: str, *, is_over: bool = False, **more: Any) -> None:
        super().__init__(words)
        self.status = status
        self.code = code
        self.is_over = is_over
        self.more = more


class Request(NamedTuple):
    """segments: of the path, decoded; query: its words; body: complete, b"" where there is none."""

    method: str
    segments: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes = b""


class Answer(NamedTuple):
    """The status, JSON, and fields besides."""

    status: int = 204
    body: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()


Handle = Callable[[Request], Awaitable[Answer]]
# The most bytes that a request's body may have.
LimitOf = Callable[[Request], int]


def json_answer(told: Mapping[str, Any], status: int = 200) -> Answer:
    """An object as an answer."""
    return Answer(status, json.dumps(told).encode() + b"\n")


class Listener:
    """`token` is b"" where none is wanted; `address.port` 0 is any free one."""

    def __init__(self, address: TcpAddress, token: bytes, handle: Handle, limit_of: LimitOf) -> None:
        self._address = address
        self._token = token
        self._handle = handle
        self._limit_of = limit_of
        self._open: dict[_Connection, None] = {}  # the oldest first
        self._large = asyncio.Semaphore(LARGE_AT_ONCE_MAX)
        self._server: asyncio.Server | None = None
        self._strangers = 0
        self._told_at = -STRANGERS_TOLD_S
        self.port = address.port

    async def start(self) -> None:
        """Raises UsageError."""
        host, port = self._address
        try:
            self._server = await asyncio.start_server(self._on_client, host or None, port, backlog=ACCEPTED_AT_ONCE)
            for sock in self._server.sockets:
                with socket.socket(fileno=os.dup(sock.fileno())) as same:
                    same.listen(QUEUE)  # asyncio takes one number for both
        except OSError as error:
            raise UsageError(f"--listen {self._address} cannot be had: {reason_of(error)}") from None
        self.port = self._server.sockets[0].getsockname()[1]
        _log.info("the operator is heard at %s", TcpAddress(host, self.port))

    async def close(self) -> None:
        """Take no client any more; those that wait for an answer get none."""
        if self._server is not None:
            self._server.close()
        tasks = [connection.task for connection in self._open]
        for connection in self._open:
            connection.end()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(reader, writer, task)
        if len(self._open) >= CONNECTIONS_MAX and not self._make_room():
            connection.end()
            return
        self._open[connection] = None
        try:
            while await self._answer(connection):
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client is gone, or its place is another's
        finally:
            self._open.pop(connection, None)
            writer.close()

    def _make_room(self) -> bool:
        for is_free in (lambda one: not one.is_known, lambda one: one.is_idle):
            if oldest := next(filter(is_free, self._open), None):
                del self._open[oldest]
                oldest.end()
                return True
        return False

    async def _answer(self, connection: _Connection) -> bool:
        """Answer one request; whether another may follow."""
        try:
            head = await connection.head()
            if not head:
                return False
            request, fields, goes_on = _read(head)
            self._admit(fields)
            connection.is_known = True
            answer = await self._handle(request._replace(body=await self._body(connection, request, fields)))
        except RefusedError as error:
            if error.code == "token":
                self._count_stranger(connection.client)
            told = {"error": str(error), "code": error.code, **error.more}
            answer, goes_on = json_answer(told, error.status), not error.is_over
        except (OSError, EOFError):
            raise  # the client went before its body was here: an operator that is killed does
        except Exception as error:
            _log.error("a fault of the agent at a request: %s", reason_of(error), exc_info=error)
            answer, goes_on = json_answer({"error": "the log has more", "code": "fault"}, 500), False
        await connection.send(answer, goes_on=goes_on)
        return goes_on

    def _count_stranger(self, client: str) -> None:
        """One that has not the token; a crowd of them is a line a minute."""
        self._strangers += 1
        now = asyncio.get_running_loop().time()
        if now >= self._told_at + STRANGERS_TOLD_S:
            _log.warning("requests without the right token: %d, the last one from %s", self._strangers, client)
            self._strangers, self._told_at = 0, now

    def _admit(self, fields: Mapping[bytes, bytes]) -> None:
        """Raises RefusedError."""
        if b"origin" in fields:
            raise RefusedError(403, "origin", "a page of a browser asks, and is not answered", is_over=True)
        if self._token:
            kind, _, token = fields.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
                raise RefusedError(401, "token", "the token is wanted: Authorization: Bearer TOKEN", is_over=True)
            return
        host = fields.get(b"host", b"").decode("latin-1")
        name = (host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host).strip("[]")
        if not is_loopback(name) and name != self._address.host:
            raise RefusedError(421, "host", "without a token this listener answers to loopback's names", is_over=True)

    async def _body(self, connection: _Connection, request: Request, fields: Mapping[bytes, bytes]) -> bytes:
        """Raises RefusedError."""
        length = fields.get(b"content-length")
        if b"transfer-encoding" in fields or (length is None and request.method in ("PUT", "POST")):
            raise RefusedError(411, "length", "a body comes with its Content-Length, in one piece", is_over=True)
        if length is None:
            return b""
        if not length.isdigit() or len(length) > 18:
            raise RefusedError(400, "form", "the Content-Length is no number", is_over=True)
        size, most = int(length), self._limit_of(request)
        if size > most:
            raise RefusedError(413, "large", f"{size:,} bytes, and at most {most:,}", is_over=True)
        if not size:
            return b""
        kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise RefusedError(415, "type", "a body is application/json", is_over=True)
        if fields.get(b"expect", b"").lower() == b"100-continue":
            await connection.go_on()
        if size <= MESSAGE_BYTES_MAX:
            return await connection.body(size)
        async with self._large:
            return await connection.body(size)


class _Connection:
    """One client.

    is_known  it has shown the token, or needed none
    is_idle   it waits for no answer
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[Any]) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self.task = task
        self.is_known = False
        self.is_idle = True

    @property
    def client(self) -> str:
        """Its address."""
        return str((self._writer.get_extra_info("peername") or ("nowhere",))[0])

    def end(self) -> None:
        """At once, whatever it waits for."""
        self._writer.transport.abort()
        self.task.cancel()

    async def head(self) -> bytes:
        """The next request's head; b"": there is none any more. Raises RefusedError."""
        self.is_idle = True
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                if not self._buffer and not await self._read():
                    return b""
        if not self._buffer:
            return b""
        self.is_idle = False
        try:
            async with asyncio.timeout(SLOW_S):
                while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                    if len(self._buffer) > HEAD_BYTES_MAX:
                        raise RefusedError(431, "large", f"a head has {HEAD_BYTES_MAX} bytes at most", is_over=True)
                    if not await self._read():
                        return b""
        except TimeoutError:
            raise RefusedError(408, "slow", f"the head did not come within {SLOW_S:g} s", is_over=True) from None
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    async def body(self, size: int) -> bytes:
        """So many bytes. Raises RefusedError; EOFError where the client goes before."""
        try:
            while len(self._buffer) < size:
                wanted = min(size, len(self._buffer) + PIECE_BYTES)
                async with asyncio.timeout(SLOW_S):
                    while len(self._buffer) < wanted:
                        if not await self._read():
                            raise EOFError
        except TimeoutError:
            words = f"{PIECE_BYTES:,} bytes of the body did not come within {SLOW_S:g} s"
            raise RefusedError(408, "slow", words, is_over=True) from None
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        return body

    async def _read(self) -> bool:
        piece = await self._reader.read(PIECE_BYTES)
        self._buffer += piece
        return bool(piece)

    async def go_on(self) -> None:
        """The body may come."""
        self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await self._writer.drain()

    async def send(self, answer: Answer, *, goes_on: bool) -> None:
        """Raises TimeoutError, which is an OSError, where the client does not read."""
        lines = [f"HTTP/1.1 {answer.status} {PHRASES.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in answer.fields]
        lines += ["Content-Type: application/json"] if answer.body else []
        lines += [f"Content-Length: {len(answer.body)}"] if answer.status != 204 else []
        lines += ["Cache-Control: no-store"] + ([] if goes_on else ["Connection: close"])
        self._writer.write("\r\n".join((*lines, "", "")).encode("latin-1") + answer.body)
        async with asyncio.timeout(IDLE_S):
            await self._writer.drain()


def _read(head: bytes) -> tuple[Request, dict[bytes, bytes], bool]:
    """The request without its body, its fields by their names in lower case, and whether the connection goes on.
    Raises RefusedError."""
    line, *rest = head.split(b"\r\n")
    method, _, target = line.partition(b" ")
    match = _TARGET.fullmatch(target)
    if not match or not method.isalpha():
        raise RefusedError(400, "form", "it is no request of HTTP/1.1", is_over=True)
    fields: dict[bytes, bytes] = {}
    for one in rest:
        field = _FIELD.fullmatch(one)
        if not field or (name := field[1].lower()) in fields:
            raise RefusedError(400, "form", "a field of the head is none, or there twice", is_over=True)
        fields[name] = field[2]
    path, _, query = match[1].decode().partition("?")
    request = Request(method.decode(), tuple(map(unquote, path[1:].split("/"))), dict(parse_qsl(query)))
    return request, fields, match[2] == b"1" and fields.get(b"connection", b"").lower() != b"close"

"""Asks one server over HTTP/1.1, from an asyncio loop: small requests and answers, over connections that are kept.

An operator's command is short: it asks three nodes or a thousand, each a few times, and ends. What a library of HTTP
does beside that (redirects, proxies, cookies, encodings) is in the way, and its import takes longer than a purge. So
this has what docs/fleet-http.md promises and no more: an answer has a Content-Length, or none and no content.

- **Each step has an end**: a connection CONNECT_S, an answer what the caller gives.
- **A request over a kept connection that has ended meanwhile goes out once more, over a new one.** All requests of the
  form do no harm when they come twice.
- **A node that was not reached is not tried again for AWAY_S**, so that a rollout waits for a dead one once, not in
  each of its steps.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from zcserve.errors import reason_of
from zcserve.fleet.bus import BusError
from zcserve.fleet.packed import ENDING, Packed, PackedError, unpack

# In seconds. A connection on one continent takes 0.1.
CONNECT_S = 3.0
AWAY_S = 2.0
# What an agent that knows no compressed manifests answers to such a name.
_UNKNOWN = (400, 404)
# Of an answer's head, in bytes, and of its content: a manifest is the largest (manifest.py).
HEAD_BYTES_MAX = 16 << 10
CONTENT_BYTES_MAX = 64 << 20


class Answer(NamedTuple):
    """A status, fields by lower-case name, and the content."""

    status: int
    fields: Mapping[str, str]
    content: bytes


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _EndedError(Exception):
    """A kept connection has ended before its answer began."""


class Peer:
    """One server. Many tasks may ask at once, each over a connection of its own."""

    def __init__(self, url: str, fields: Mapping[str, str] | None = None) -> None:
        """`url` is http(s)://HOST[:PORT]; `fields` go with each request."""
        parts = urlsplit(url)
        self.url = url
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        own = {"Host": parts.netloc} | dict(fields or {})
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in own.items())
        self._idle: list[_Connection] = []
        self._away_until = 0.0
        self._away_why = ""

    async def ask(self, method: str, target: str, content: bytes | Packed | None = None, *, within_s: float) -> Answer:
        """The answer, whatever its status. Raises BusError where there is none in time. What is packed goes compressed,
        and as it is where the server knows no such thing."""
        if isinstance(content, Packed):
            answer = await self._ask(method, target + ENDING, content.packed, within_s)
            if answer.status not in _UNKNOWN:
                return answer
            content = content.plain
        return await self._ask(method, target, content, within_s)

    async def get_packed(self, target: str, *, within_s: float) -> Answer:
        """What is there, compressed on its way where the server knows how. Raises BusError."""
        answer = await self._ask("GET", target + ENDING, None, within_s)
        if answer.status == 200:
            try:
                return answer._replace(content=unpack(answer.content))
            except PackedError as error:
                raise BusError(f"{self.url}{target}{ENDING} {error}") from None
        return await self._ask("GET", target, None, within_s) if answer.status == 400 else answer

    async def _ask(self, method: str, target: str, content: bytes | None, within_s: float) -> Answer:
        clock = asyncio.get_running_loop().time
        if clock() < self._away_until:
            raise BusError(self._away_why)
        head = f"{method} {target} HTTP/1.1\r\n{self._fields}"
        if content is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        request = f"{head}\r\n".encode() + (content or b"")
        with self._failing(within_s):
            async with asyncio.timeout(within_s):
                while self._idle:
                    try:
                        return await self._exchange(self._idle.pop(), request, method)
                    except _EndedError:
                        continue
                return await self._exchange(await self._connect(), request, method)

    def close(self) -> None:
        """End the connections that are kept."""
        while self._idle:
            self._idle.pop().writer.close()

    @contextmanager
    def _failing(self, within_s: float) -> Iterator[None]:
        """Whatever goes wrong is a BusError."""
        try:
            yield
        except TimeoutError:
            raise self._away(f"gave no answer within {within_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise self._away(f"has a certificate that is not trusted: {error.verify_message}") from None
        except OSError as error:
            raise self._away(f"is not reached: {reason_of(error)}") from None
        except (_EndedError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
            raise self._away(f"gave no HTTP answer: {error}") from None

    def _away(self, why: str) -> BusError:
        self._away_until = asyncio.get_running_loop().time() + AWAY_S
        self._away_why = f"{self.url} {why}"
        return BusError(self._away_why)

    async def _connect(self) -> _Connection:
        context = ssl.create_default_context() if self._tls else None
        try:
            async with asyncio.timeout(CONNECT_S):
                return _Connection(
                    *await asyncio.open_connection(self._host, self._port, ssl=context, limit=HEAD_BYTES_MAX)
                )
        except TimeoutError:
            raise OSError(f"no connection within {CONNECT_S:g} s") from None

    async def _exchange(self, connection: _Connection, request: bytes, method: str) -> Answer:
        """One request and its answer. The connection is kept, or closed."""
        reader, writer = connection
        is_kept = False
        try:
            status, fields = await _head(connection, request)
            length = 0 if status in (204, 304) or method == "HEAD" else int(fields.get("content-length", "-1"))
            if not 0 <= length <= CONTENT_BYTES_MAX:
                raise ValueError(f"its length is {fields.get('content-length', 'not given')}")
            content = await reader.readexactly(length)
            is_kept = fields.get("connection", "").lower() != "close"
            return Answer(status, fields, content)
        finally:
            if is_kept:
                self._idle.append(connection)
            else:
                writer.close()


async def _head(connection: _Connection, request: bytes) -> tuple[int, dict[str, str]]:
    """Send a request; the status and the fields of its answer. Raises _EndedError where nothing came."""
    reader, writer = connection
    try:
        writer.write(request)
        await writer.drain()
        block = await reader.readuntil(b"\r\n\r\n")
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        if isinstance(error, asyncio.IncompleteReadError) and error.partial:
            raise
        raise _EndedError("the connection has ended") from None
    first, *lines = block.decode("latin-1").split("\r\n")[:-2]
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise ValueError(f"it begins with {first[:40]!r}")
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    return int(rest[:3]), fields

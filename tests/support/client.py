"""A raw HTTP client for tests: sends any bytes, and reads exactly what a response's own framing says.

It knows just enough of RFC 9112 to find a response's end, and is strict about it: whatever a server of ours should
never send is an AssertionError here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from tests.support.own_sockets import own_sockets, peer_of
from tests.support.waiting import is_readable

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Response:
    """`fields` in the order of arrival, names in lower case."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes
    head: bytes

    def all(self, name: str) -> list[bytes]:
        """Every value of a field."""
        return [value for key, value in self.fields if key == name.encode().lower()]

    def __getitem__(self, name: str) -> Any:
        """The one value of a field in bytes, or None."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} appears {len(values)} times"
        return values[0] if values else None


class Client:
    """A connection to a server: to its `port` on 127.0.0.1, an address tuple, or a unix socket's path.

    `receive_buffer` is SO_RCVBUF in bytes, set before connecting so that it bounds the window: a slow reader. `source`:
    the address of 127.0.0.0/8 that it comes from, by which a log tells it from clients of other tests.
    """

    def __init__(
        self,
        where: int | tuple[Any, ...] | str,
        *,
        receive_buffer: int | None = None,
        timeout: float = TIMEOUT_S,
        source: str = "",
    ) -> None:
        address = ("127.0.0.1", where) if isinstance(where, int) else where
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; harmless when repeated."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.socket.sendall(data)

    def get(self, target: str | bytes, *lines: str, method: str = "GET") -> Response:
        """Send a well-formed request with further header `lines` and read its response."""
        target = target.encode() if isinstance(target, str) else target
        head = b"%b %b HTTP/1.1\r\n" % (method.encode(), target)
        self.send(head + "".join(f"{line}\r\n" for line in ("Host: test", *lines, "")).encode())
        return self.read(method=method)

    def read(self, *, method: str = "GET") -> Response:
        """One complete response to a request of `method`; a 100 (Continue) is a response of its own."""
        head = self.read_head()
        lines = head.split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.1 ([1-5]\d\d) [ -~]*", lines[0])
        assert match is not None, f"not a status line: {lines[0]!r}"
        status = int(match[1])
        fields = []
        for line in lines[1:]:
            name, colon, value = line.partition(b": ")
            assert colon, f"not a field line of ours: {line!r}"
            assert re.fullmatch(rb"[!-9;-~]+", name), f"not a field line of ours: {line!r}"
            fields.append((name.lower(), value))
        lengths = [value for name, value in fields if name == b"content-length"]
        assert not [value for name, value in fields if name == b"transfer-encoding"]
        if method == "HEAD" or status < 200 or status in (204, 304):
            body = b""
        elif lengths:
            assert len(lengths) == 1
            body = self.read_exactly(int(lengths[0]))
        else:
            body = self.read_to_end()
        return Response(status, fields, body, head)

    def read_head(self) -> bytes:
        """Bytes up to the blank line, which is consumed."""
        return self.read_until(b"\r\n\r\n")

    def read_until(self, end: bytes) -> bytes:
        """Bytes up to `end`, which is consumed. Raises EOFError when the server closes first."""
        while end not in self.buffer:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError(f"closed after {self.buffer[:200]!r}")
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(end)
        return found

    def read_exactly(self, count: int) -> bytes:
        """`count` bytes. Raises EOFError when the server closes first."""
        pieces, have = [self.buffer], len(self.buffer)
        while have < count:
            data = self.socket.recv(1 << 18)
            if not data:
                self.buffer = b"".join(pieces)
                raise EOFError(f"{have} bytes of {count}")
            pieces.append(data)
            have += len(data)
        data = b"".join(pieces)
        self.buffer = data[count:]
        return data[:count]

    def read_to_end(self) -> bytes:
        """Everything until the server closes; a reset counts as the end."""
        pieces = [self.buffer]
        self.buffer = b""
        try:
            while data := self.socket.recv(1 << 18):
                pieces.append(data)
        except ConnectionResetError:
            pass
        return b"".join(pieces)

    def has_bytes(self, within_s: float) -> bool:
        """Whether something comes within a time."""
        return is_readable(self.socket, within_s)

    def at_end(self) -> bool:
        """Whether the server closes, in order, without sending anything more; waits for one or the other."""
        if not self.buffer:
            self.buffer = self.socket.recv(1 << 16)
            return not self.buffer
        return False

    def reset(self) -> None:
        """Close with a RST, as a client does that crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


def get(where: int | tuple[Any, ...] | str, target: str, *lines: str, method: str = "GET") -> Response:
    """The answer to one request, on a connection of its own."""
    with Client(where) as client:
        return client.get(target, *lines, method=method)


def fetched(where: int | tuple[Any, ...] | str, target: str) -> tuple[int, bytes]:
    """Status and body of the same."""
    response = get(where, target)
    return response.status, response.body


def accepted(client: Client) -> socket.socket:
    """The other end of a client's connection, a duplicate of its descriptor. The server runs in this process."""
    return _socket_of_ours(lambda sock: peer_of(sock) == client.socket.getsockname())


def listening(port: int) -> socket.socket:
    """What listens on a port of 127.0.0.1, likewise."""
    return _socket_of_ours(
        lambda sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and sock.getsockname()[1] == port
    )


def _socket_of_ours(is_it: Callable[[socket.socket], Any]) -> socket.socket:
    for _, sock in own_sockets():
        if is_it(sock):
            return socket.socket(fileno=sock.detach())
    raise AssertionError("this process has no such socket")

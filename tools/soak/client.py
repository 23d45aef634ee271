"""One connection of a client, which sends any bytes and reads whole answers. It must not know what they should be."""

from __future__ import annotations

import re
import socket
import struct
from dataclasses import dataclass

TIMEOUT_S = 60.0
RESET = struct.pack("ii", 1, 0)
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL)


class LostError(Exception):
    """A connection has ended before the answer to a request."""


@dataclass(frozen=True)
class Answer:
    """`fields` by their names in lower case."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with it."""
        return self.fields.get(b"connection", b"").lower() == b"close"


class Connection:
    """A connection to 127.0.0.1. `seen` is for its user: what was answered on it."""

    def __init__(self, port: int, name: str = "") -> None:
        self.name = name
        self.asked = 0
        self.seen: dict[int, int] = {}
        self.tags: dict[int, bytes] = {}
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def get(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> None:
        """Send a request; `lines` are further fields."""
        if body:
            lines = (*lines, f"Content-Length: {len(body)}")
        head = "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", "Host: soak", *lines, ""))
        self.send(head.encode() + body)

    def send(self, data: bytes) -> None:
        """Raises LostError."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise LostError(f"{self.name}: {error} while it sends") from None

    def answer(self, *, is_head: bool = False) -> Answer:
        """The next answer; `is_head`: that to a HEAD. Raises LostError."""
        while (head := _HEAD.match(self._buffer)) is None:
            self._more()
        fields = dict(line.split(b": ", 1) for line in head[2].split(b"\r\n"))
        fields = {name.lower(): value for name, value in fields.items()}
        status = int(head[1])
        has_none = is_head or status in (204, 304)
        end = head.end() + (0 if has_none else int(fields[b"content-length"]))
        pieces, have = [self._buffer], len(self._buffer)
        while have < end:
            self._buffer = b""
            self._more()
            pieces.append(self._buffer)
            have += len(self._buffer)
        data = b"".join(pieces)
        self._buffer = data[end:]
        return Answer(status, fields, data[head.end() : end])

    def _more(self) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except OSError as error:
            raise LostError(f"{self.name}: {error} while it waits") from None
        if not data:
            raise LostError(f"{self.name}: closed, with {len(self._buffer)} bytes of an answer")
        self._buffer += data

    def read_some(self) -> None:
        """Read what comes first of an answer. Raises LostError."""
        self._more()

    def end_sending(self) -> None:
        """Half-close."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close; `reset`: as a client does that crashed."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.close()

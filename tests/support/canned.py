"""A node that answers what a test says: a thread behind a unix socket, which speaks just enough of HTTP/1.0."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Self

TIMEOUT_S = 20.0


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    fields: dict[str, str]
    body: bytes


# The bytes of an answer, or what makes them.
Canned = bytes | Callable[[Asked], bytes]


def answer(value: Any, status: int = 200) -> bytes:
    """A response with JSON."""
    body = json.dumps(value).encode() + b"\n"
    return b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class CannedNode:
    """`answers` by path; `asked` are the requests so far."""

    def __init__(self, path: str, answers: Mapping[str, Canned]) -> None:
        self.address = f"unix:{path}"
        self.answers = dict(answers)
        self.asked: list[Asked] = []
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(path)
        self._sock.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join(TIMEOUT_S)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            with sock, suppress(OSError):
                sock.settimeout(TIMEOUT_S)
                asked = _read(sock)
                self.asked.append(asked)
                found = self.answers.get(asked.path, answer({"error": f"{asked.path} is unknown"}, 404))
                sock.sendall(found if isinstance(found, bytes) else found(asked))


def _read(sock: socket.socket) -> Asked:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(1 << 16) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = [*first.split(" "), "", ""][:3]
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(fields.get("content-length", "0")):
        body += sock.recv(1 << 16)
    return Asked(method, path, fields, body)

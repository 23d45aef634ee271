"""One request to a node's admin listener, and in plain words why it cannot be had.

HTTP/1.0 (RFC 1945): the answer ends with the connection, also one that goes on for long. `http.client` would do as
well, but its import takes as long as a whole health check.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from zcserve.config.addresses import TcpAddress, UnixAddress

# More is no answer of a node: its largest is the list of what could not be warmed.
ANSWER_BYTES_MAX = 256 << 20
HEAD_BYTES_MAX = 64 << 10
_RECEIVED_AT_ONCE = 1 << 16


class NodeError(Exception):
    """The node cannot be reached, or does not answer as one.

    is_early  it may only not have been started yet
    """

    def __init__(self, message: str, *, is_early: bool = False) -> None:
        super().__init__(message)
        self.is_early = is_early


class Node(NamedTuple):
    """Which one, and how long each step of an answer may take: inf for as long as it takes."""

    address: TcpAddress | UnixAddress
    token: str = ""
    timeout_s: float = inf


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


def ask(node: Node, path: str, body: bytes | None = None) -> Answer:
    """GET, or POST where there is a body. Raises NodeError."""
    with _Asked(node, path, body) as asked:
        return Answer(asked.status, asked.rest())


def follow(node: Node, path: str) -> Iterator[bytes]:
    """The lines of an answer that goes on, each as soon as it is there. Raises NodeError."""
    with _Asked(node, path, None) as asked:
        if asked.status != 200:
            raise NodeError(f"{node.address} answers {path} with {asked.status}: is it an admin listener?")
        yield from asked.lines()


class _Asked:
    """A request that is sent, and the head of its answer read. To be closed."""

    def __init__(self, node: Node, path: str, body: bytes | None) -> None:
        self._node = node
        self._until = time.monotonic() + node.timeout_s
        self._sock = _connect(node)
        try:
            self._send(_request(node, path, body))
            self._buffer = b""
            head = self._until_end(b"\r\n\r\n").split(b"\r\n")
            version, _, status = head[0].partition(b" ")
            if not version.startswith(b"HTTP/1.") or not status[:3].isdigit():
                raise NodeError(f"what listens at {node.address} does not speak HTTP")
            self.status = int(status[:3])
            self._length = next((int(v) for n, _, v in map(_field, head[1:]) if n == b"content-length"), None)
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> _Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def rest(self) -> bytes:
        """The content."""
        pieces, count = [self._buffer], len(self._buffer)
        while piece := self._receive():
            pieces.append(piece)
            count += len(piece)
            if count > ANSWER_BYTES_MAX:
                raise NodeError(f"the answer of {self._node.address} has more than {ANSWER_BYTES_MAX} bytes")
        if self._length is not None and count < self._length:
            raise NodeError(f"{self._node.address} has closed the connection in the middle of its answer")
        return b"".join(pieces)

    def lines(self) -> Iterator[bytes]:
        """The content, line by line; what the last lacks a line end of is left out."""
        while True:
            line, end, self._buffer = self._buffer.partition(b"\n")
            if end:
                yield line
                continue
            if not (piece := self._receive()) or len(line) > ANSWER_BYTES_MAX:
                return
            self._buffer = line + piece

    def _until_end(self, end: bytes) -> bytes:
        while end not in self._buffer:
            piece = self._receive()
            if not piece or len(self._buffer) > HEAD_BYTES_MAX:
                raise NodeError(f"{self._node.address} has closed the connection without an answer", is_early=True)
            self._buffer += piece
        head, _, self._buffer = self._buffer.partition(end)
        return head

    def _receive(self) -> bytes:
        try:
            self._bound()
            return self._sock.recv(_RECEIVED_AT_ONCE)
        except OSError as error:
            raise _told(self._node, error) from None

    def _send(self, data: bytes) -> None:
        try:
            self._bound()
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # an answer may be there all the same: a body that is too large
        except OSError as error:
            raise _told(self._node, error) from None

    def _bound(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(None if left == inf else left)


def _connect(node: Node) -> socket.socket:
    address = node.address
    timeout = None if node.timeout_s == inf else node.timeout_s
    try:
        if not isinstance(address, UnixAddress):
            return socket.create_connection((address.host or "localhost", address.port), timeout)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
        return sock
    except OSError as error:
        raise _told(node, error) from None


def _request(node: Node, path: str, body: bytes | None) -> bytes:
    address = node.address
    # A node on loopback answers to no other name (admin/guard.py).
    host = "localhost" if isinstance(address, UnixAddress) or not address.host else str(address)
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.0", f"Host: {host}", "User-Agent: zcserve-ctl"]
    if node.token:
        lines.append(f"Authorization: Bearer {node.token}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + (body or b"")


def _field(line: bytes) -> tuple[bytes, bytes, bytes]:
    name, colon, value = line.partition(b":")
    return name.strip().lower(), colon, value.strip()


def _told(node: Node, error: OSError) -> NodeError:
    """What to say of it, and what to do."""
    address = node.address
    path = address.path if isinstance(address, UnixAddress) else ""
    if isinstance(error, TimeoutError) or error.errno in (errno.ETIMEDOUT, errno.EAGAIN):
        return NodeError(f"{address} does not answer within {node.timeout_s:g} s", is_early=True)
    if path and error.errno == errno.ENOENT:
        return NodeError(f"there is no socket {path}: is the node started, with --admin {address}?", is_early=True)
    if path and error.errno in (errno.EACCES, errno.EPERM):
        return NodeError(f"the socket {path} may not be used by this user: {_owner_of(path)}")
    if path and (error.errno == errno.EPROTOTYPE or not _is_socket(path)):
        return NodeError(f"{path} is no socket that answers requests")
    if error.errno == errno.ECONNREFUSED:
        left = f": the node that made {path} has ended without taking it away" if path else ": is the node started?"
        return NodeError(f"nobody listens at {address}{left}", is_early=True)
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return NodeError(f"{address} has closed the connection without an answer", is_early=True)
    return NodeError(f"{address} cannot be reached: {error.strerror or error}")


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True  # nobody knows


def _owner_of(path: str) -> str:
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return "a directory above it is closed to it; become the user that runs the node (sudo -u)"
    return f"it is that of the user with the id {owner}; become that one (sudo -u '#{owner}'), or root"

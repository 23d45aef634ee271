"""zcserve.net.transport: the contract, kept by a socket and by the client in memory that other tests use."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.memory import MemoryTransport
from zcserve.net.transport import DISCARD_BYTES, SocketTransport, Transport

MANY = 1 << 24  # bytes that no socket takes at once


class SocketClient:
    """The other end of a socket."""

    def __init__(self, family: int) -> None:
        if family == socket.AF_UNIX:
            sock, self.socket = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.socket = socket.create_connection(listener.getsockname())
                sock, _ = listener.accept()
        sock.setblocking(False)
        self.socket.settimeout(20)
        self.transport: Transport = SocketTransport(sock, "192.0.2.7")

    def says(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hears(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (piece := self.socket.recv(count - len(data))):
            data += piece
        return data

    def ends(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def resets(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()
        if self.transport.fd >= 0:
            self.transport.close()


class MemoryClient:
    """The test's end of what is in memory."""

    def __init__(self) -> None:
        self.transport = MemoryTransport(room=MANY // 2)

    def says(self, data: bytes) -> None:
        self.transport.comes += data

    def hears(self, count: int) -> bytes:
        assert self.transport.room is not None
        data, self.transport.sent = self.transport.sent[:count], self.transport.sent[count:]
        self.transport.room += len(data)
        return data

    def ends(self) -> None:
        self.transport.ended = True

    def resets(self) -> None:
        self.transport.gone = True

    def close(self) -> None:
        self.transport.close()


KINDS: dict[str, Callable[[], Any]] = {
    "tcp": lambda: SocketClient(socket.AF_INET),
    "unix": lambda: SocketClient(socket.AF_UNIX),
    "memory": MemoryClient,
}


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = KINDS[request.param]()
    yield made
    made.close()


def filled(transport: Transport, data: bytes) -> int:
    """How many bytes a transport takes until it is full."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += transport.send((data,))
    return taken


def read_and_send(transport: Transport) -> None:
    """Raises what a transport says of a client that is gone: a unix socket knows no reset, and tells when it sends."""
    while transport.read(100):
        pass
    transport.send((b"x",))


def test_nothing_is_there_some_is_there_and_the_end(client: Any) -> None:
    with pytest.raises(BlockingIOError):
        client.transport.read(100)
    assert not client.transport.has_unread()
    client.says(b"some bytes")
    assert client.transport.has_unread()
    assert client.transport.read(4) == b"some"
    assert client.transport.read(100) == b" bytes"
    assert not client.transport.has_unread()
    with pytest.raises(BlockingIOError):
        client.transport.read(100)
    client.ends()
    assert client.transport.read(100) == b""
    assert not client.transport.has_unread()


def test_what_is_sent_arrives_in_order_and_a_full_client_blocks(client: Any) -> None:
    transport = client.transport
    fd = os.memfd_create("test")
    os.write(fd, b"0123456789")
    assert transport.send((b"ab", memoryview(b"c"))) == 3
    assert transport.send_before_file((b"d",)) == 1
    assert transport.send_file(fd, 2, 5) == 5
    assert transport.send_file(fd, 10, 5) == 0
    os.close(fd)
    assert client.hears(9) == b"abcd23456"
    content = bytes(MANY)
    taken = filled(transport, content)
    assert taken > 0
    assert client.hears(taken) == content[:taken]


def test_the_end_of_output_comes_behind_what_was_sent_and_input_can_be_thrown_away(client: Any) -> None:
    transport = client.transport
    transport.send((b"last",))
    assert transport.end_output()
    assert client.hears(5) == b"last"
    with pytest.raises(BlockingIOError):
        transport.discard()
    client.says(b"x" * 1000)
    assert 0 < transport.discard() <= DISCARD_BYTES
    client.ends()
    assert transport.discard() == 0


def test_a_client_that_is_gone(client: Any) -> None:
    transport = client.transport
    client.resets()
    with pytest.raises(ConnectionError):
        read_and_send(transport)
    assert not transport.has_unread()
    assert not transport.unacknowledged()
    assert not transport.unsent()


@pytest.mark.parametrize("how", ["close", "release"])
def test_a_transport_is_left_once(client: Any, how: str) -> None:
    transport, fd = client.transport, client.transport.fd
    assert fd >= 0
    if how == "close":
        transport.close()
        transport.close()
        assert isinstance(client, MemoryClient) or client.hears(1) == b""
    else:
        assert transport.release() == fd
        if isinstance(client, SocketClient):
            os.write(fd, b"still open")
            assert client.hears(10) == b"still open"
            os.close(fd)
    assert transport.fd == -1


def test_a_slow_reader_is_told_from_one_that_does_not_read() -> None:
    client = SocketClient(socket.AF_INET)
    transport = client.transport
    assert transport.unacknowledged() == 0
    filled(transport, bytes(1 << 20))
    queued = transport.unacknowledged()
    assert queued > 0
    client.hears(queued)
    assert transport.unacknowledged() < queued
    client.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_what_has_not_left_is_told(family: int) -> None:
    """Of a unix socket all has left: it is with the client at once."""
    client = SocketClient(family)
    transport = client.transport
    assert transport.unsent() == 0
    taken = filled(transport, bytes(1 << 20))
    assert (transport.unsent() > 0) == (family == socket.AF_INET)
    client.hears(taken)
    assert transport.unsent() == 0
    client.close()


def test_both_ends_have_their_addresses() -> None:
    client = SocketClient(socket.AF_INET)
    own = client.socket.getsockname()
    assert client.transport.addresses() == (own, client.socket.getpeername())
    client.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix:"])
def test_a_descriptor_that_is_taken_over_has_its_addresses(host: str, tmp_path: Path) -> None:
    family = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6, "unix:": socket.AF_UNIX}[host]
    where: Any = str(tmp_path / "socket") if host == "unix:" else (host, 0)
    with socket.socket(family) as listener:
        try:
            listener.bind(where)
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        with socket.socket(family) as client:
            client.connect(listener.getsockname())
            sock, _ = listener.accept()
            transport = SocketTransport.of(sock.detach(), host)
            assert transport.addresses() == (client.getsockname(), client.getpeername())
            transport.close()

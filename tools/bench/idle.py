"""Connections that do nothing: opened, used once, and kept open while the load runs on others.

It must not know what serves them. They are closed by reset, so that thousands of them leave no TIME_WAIT behind,
which would use up the ports.
"""

from __future__ import annotations

import contextlib
import re
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator

from tools.bench.content import PAGE
from tools.bench.errors import BenchError
from tools.bench.peers import ANSWER_TIMEOUT_S
from tools.bench.proc import cpu_seconds

REQUEST = f"GET {PAGE} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
# Descriptors of the benchmark itself besides the connections.
SPARE_DESCRIPTORS = 500
RESET = struct.pack("ii", 1, 0)
SETTLED_S, SETTLE_TIMEOUT_S = 0.1, 10.0


def make_room(count: int) -> None:
    """Have descriptors for so many connections. Raises BenchError where the process may not have them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise BenchError(f"{count:,} idle connections need {wanted:,} descriptors; the limit (ulimit -Hn) is {hard:,}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _use_once(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    read_answer(connection)


def read_answer(connection: socket.socket) -> int:
    """Read a whole answer; how many bytes. Raises OSError when the server closes instead."""
    received = b""
    while True:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError("closed before the whole answer")
        received += chunk
        head, blank, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if blank and length and len(body) >= int(length[1]):
            return len(received)


def wait_until_idle(pid: int) -> None:
    """Wait until a server uses no CPU: it has taken notice of all that happened to its connections."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    before_s = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(SETTLED_S)
        now_s = cpu_seconds(pid)
        if now_s == before_s:
            return
        before_s = now_s


def closed(connections: list[socket.socket]) -> int:
    """How many of them the server has closed, or written to unasked."""
    poller = select.poll()
    for connection in connections:
        poller.register(connection, select.POLLIN | select.POLLRDHUP)
    return len(poller.poll(0))


@contextlib.contextmanager
def idle_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """`count` connections to 127.0.0.1:`port`, each used once, all closed afterwards.

    Raises BenchError when descriptors do not suffice, or the server does not take so many.
    """
    if count:
        make_room(count)
    with contextlib.ExitStack() as stack:
        connections = []
        for number in range(count):
            try:
                connection = socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S)
                stack.callback(connection.close)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                _use_once(connection)
            except OSError as failure:
                raise BenchError(f"idle connection {number + 1:,} of {count:,}: {failure}") from None
            connections.append(connection)
        yield connections

"""A turn of the loop is bounded, whatever clients do: each flood runs beside a quiet client, a signal, a changed file.

The server and the flood are processes of their own. The bounds in time are many times what a healthy server takes (some
milliseconds), and far below what a client waits for that is starved (seconds). What other programs of a busy machine
take does not count.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import Command, StartCommand
from tests.support.site import Serve, Site
from tests.support.stage import write_servlets
from tests.support.waited import Waited
from tests.support.waiting import WaitUntil
from zcserve.net.listener import ACCEPTING_S, ACCEPTS_MIN

ENGINES = ["python", "native"]
# What a bystander may wait for one answer: the median, and the longest. Measured: 0.3 and 12 ms on two cores, beside
# twelve busy loops, too.
MEDIAN_S, LONGEST_S = 0.02, 1.0
ANSWERS_MIN = 15  # a median of two says nothing
# When a signal, a timer and a changed file have acted: 0.3 s on a quiet machine.
ACTS_WITHIN_S = 1.5
FLOOD_S = 20  # it is ended when the test is over

# A tenth of a millisecond each, so that 64 pipelines of 100 are 0.64 s.
HELLO = """
import time
def get(request):
    until = time.perf_counter() + 0.0001
    while time.perf_counter() < until:
        pass
    return b"hello"
"""

QUIET = """
def get(request):
    return b"quiet"
"""

# A flood is a process or some, each an epoll loop over `count` connections: argv is port, count, kind and seconds.
FLOOD = """
import os, re, select, socket, sys, time

port, count, kind, seconds = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])

def get(target, more="", size=0):
    bare = f"GET {target} HTTP/1.1\\r\\nHost: test\\r\\n{more}\\r\\n"
    if size:
        bare = bare.replace("test\\r\\n", "test\\r\\nX: " + "x" * (size - len(bare) - 5) + "\\r\\n")
    return bare.encode()

post = b"POST /page HTTP/1.1\\r\\nHost: test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
# Bursts of just what one recv takes: each piece that the server reads ends with a complete request.
burst, of = {
    "new": (get("/missing", "Connection: close\\r\\n"), 1),
    "given back": (get("/page", "Range: bytes=0-0\\r\\n", 1024) * 16, 16),
    "pipelined": (get("/page") * 300, 300),
    "large": (get("/large") * 8, 8),
    "called": (get("/csp?hello") * 100, 100),
    "left": (get("/csp?hello"), 1),
    "reset": (get("/csp?hello"), 1),
    "pieces": (post + b"1\\r\\nx\\r\\n" * 2000 + b"0\\r\\n" + b"a:\\r\\n" * 2000 + b"\\r\\n", 1),
}[kind]
until = time.monotonic() + seconds
print("flooding", flush=True)
if kind == "new":
    os.fork() and os.fork()

def connect():
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client

def answer_bytes():
    with connect() as client:
        client.sendall(burst[: len(burst) // of])
        answer = b""
        while b"\\r\\n\\r\\n" not in answer:
            answer += client.recv(1 << 18)
        head = answer.partition(b"\\r\\n\\r\\n")[0]
        return len(head) + 4 + int(re.search(rb"Content-Length: (\\d+)", head)[1])

def flood_new():
    poll = select.epoll()
    clients = {}
    while time.monotonic() < until:
        while len(clients) < count:
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            poll.register(client, select.EPOLLOUT | select.EPOLLET)
            clients[client.fileno()] = client
        for fd, mask in poll.poll(0.1):
            client = clients[fd]
            try:
                if mask == select.EPOLLOUT:
                    client.send(burst)
                    poll.modify(fd, select.EPOLLIN)
                    continue
                client.recv(65536)
            except OSError:
                pass
            del clients[fd]
            client.close()

def flood_bursts():
    size = of * answer_bytes()
    poll = select.epoll()
    clients = {}
    for _ in range(count):
        client = connect()
        poll.register(client, select.EPOLLIN)
        clients[client.fileno()] = [client, 0, 0]
    window = max(1, 131072 // len(burst)) if kind == "given back" else 4
    while time.monotonic() < until:
        for state in clients.values():
            while state[2] // size + window > state[1]:
                state[0].sendall(burst)
                state[1] += 1
        for fd, _ in poll.poll(0.1):
            clients[fd][2] += len(clients[fd][0].recv(1 << 20))

def flood_pieces():
    poll = select.epoll()
    clients = {}
    for _ in range(count):
        client = connect()
        client.setblocking(False)
        poll.register(client, select.EPOLLIN | select.EPOLLOUT)
        clients[client.fileno()] = [client, 0]
    while time.monotonic() < until:
        for fd, mask in poll.poll(0.1):
            client, sent = clients[fd]
            if mask & select.EPOLLOUT:
                clients[fd][1] = (sent + client.send(burst[sent:])) % len(burst)
            if mask & select.EPOLLIN:
                client.recv(1 << 20)

def flood_leaving():
    clients = []
    while time.monotonic() < until:
        for client in clients:
            client.close()
        clients = [socket.socket() for _ in range(count)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            if kind == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1]) + bytes(7))
            try:
                client.send(burst)
                client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        time.sleep(0.002)

{"new": flood_new, "pieces": flood_pieces, "left": flood_leaving, "reset": flood_leaving}.get(kind, flood_bursts)()
"""


@contextlib.contextmanager
def flooding(port: int, count: int, kind: str) -> Iterator[None]:
    """A flood for the length of a `with`."""
    argv = [sys.executable, "-c", FLOOD, str(port), str(count), kind, str(FLOOD_S)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def waits(server: Command, client: Client, seconds: float, target: str = "/small") -> list[float]:
    """How long a quiet client waits for each answer; in so many seconds, and for `ANSWERS_MIN` at least."""
    took: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(took) < ANSWERS_MIN:
        with Waited(server) as waited:
            assert client.get(target).status == 200
        took.append(waited.seconds)
        time.sleep(0.002)
    return took


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("new", 100),
        ("given back", 16),
        ("pipelined", 64),
        ("large", 32),
        ("pieces", 64),
        ("called", 64),
        ("left", 64),
        ("reset", 64),
    ],
    ids=lambda value: str(value),
)
def test_nobody_starves(
    site: Site, command: StartCommand, wait_until: WaitUntil, kind: str, count: int, engine: str
) -> None:
    site.write("page", b"a page")
    site.write("large", bytes(65536))
    folder = write_servlets(site.root.parent, hello=HELLO, quiet=QUIET)
    small: Path = site.write("small", b"old")
    server = command(site.root, "--engine", engine, "--grace", "0.1s", "--servlets", str(folder))
    with Client(server.port) as client:
        assert client.get("/small").body == b"old"
        with flooding(server.port, count, kind):
            for target in ("/small", "/csp?quiet"):
                took = waits(server, client, 0.05, target)
                assert statistics.median(took) < MEDIAN_S
                assert max(took) < LONGEST_S
            small.write_bytes(b"newer")
            with Waited(server) as waited:
                wait_until(lambda: client.get("/small").body == b"newer")
            assert waited.seconds < ACTS_WITHIN_S
            server.process.terminate()
            with Waited(server) as waited:
                wait_until(lambda: refuses(server.port))
            assert waited.seconds < ACTS_WITHIN_S
            assert server.wait() == 0


def test_of_new_clients_a_turn_that_has_taken_long_accepts_few(site: Site, serve: Serve, wait_until: WaitUntil) -> None:
    server = serve(site.root, engine="python", watch=False)
    there: list[int] = []
    all_wait = threading.Event()

    def slow_turn() -> None:
        there.append(len(server.service.connections))
        assert all_wait.wait(10)
        time.sleep(2 * ACCEPTING_S)

    server.service.loop.call_soon(lambda: server.service.loop.each_turn.subscribe(slow_turn))
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        all_wait.set()
        wait_until(lambda: there and there[-1] == 64)
    assert max(now - before for before, now in itertools.pairwise(there)) <= ACCEPTS_MIN

"""Large content that the lane sees through a mapping: a little is copied, and the pages of more go through a pipe."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.begun import open_descriptors
from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.driver import LEAD, Driver, Fake, Held, put
from tests.support.site import Site
from tests.support.waiting import is_readable

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
SIZES = {b"/copied": 20_000, b"/pages": 90_001, b"/other": 70_000, b"/large": 600_000}
AT = 4096 + 7  # in the memfd, where the first of them begins
NAME = "zcserve-test-pages"


class Pages:
    """A memfd with some contents behind each other, and a driver that was told where they lie."""

    def __init__(self, driver: Driver, fd: int) -> None:
        rng = random.Random(1)
        self.driver = driver
        self.fd = fd
        self.contents = {key: rng.randbytes(size) for key, size in SIZES.items()}
        offset = AT
        for key, content in self.contents.items():
            os.pwrite(fd, content, offset)
            head = LEAD % len(content) + b'ETag: "tag"\r\n\r\n'
            put(driver.lane, key, Fake(Held(head, content, fd=fd, offset=offset)))
            offset += len(content)


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Callable[[], Pages]]:
    """`pages()`: not mapped yet."""
    with contextlib.ExitStack() as stack:

        def make() -> Pages:
            driver = Driver(tmp_path)
            stack.callback(driver.close)
            fd = os.memfd_create(NAME)
            stack.callback(os.close, fd)
            return Pages(driver, fd)

        yield make


def read_while_turning(driver: Driver, client: Client, count: int) -> bytes:
    """So many bytes, which arrive while the lane goes on."""
    received = client.buffer
    client.buffer = b""
    while len(received) < count:
        driver.until(lambda: is_readable(client.socket))
        received += client.socket.recv(1 << 16)
    return received


def mapped_here() -> bool:
    return NAME in Path("/proc/self/maps").read_text()


@contextlib.contextmanager
def limited(which: int, most: int) -> Iterator[None]:
    """This process may have at most so much of something."""
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


def test_what_one_socket_does_not_take_is_not_sent_to_another(pages: Callable[[], Pages]) -> None:
    made = pages()
    made.driver.lane.map(made.fd, 1 << 20)
    made.driver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    with Client(made.driver.where, receive_buffer=4096) as slow, Client(made.driver.where) as other:
        slow.send(GET % b"/pages")
        made.driver.until(lambda: is_readable(slow.socket))
        for key in (b"/other", b"/copied", b"/large"):
            assert read_whole(made, other, key) == made.contents[key]
        assert read_rest(made, slow, b"/pages") == made.contents[b"/pages"]


def test_a_head_that_is_longer_than_texts_that_are_made_is_sent_as_it_is(pages: Callable[[], Pages]) -> None:
    made = pages()
    made.driver.lane.map(made.fd, 1 << 20)
    content = made.contents[b"/copied"]
    head = LEAD % len(content) + b"X-Long: %b\r\n" % (b"x" * 100_000) + b'ETag: "tag"\r\n\r\n'
    put(made.driver.lane, b"/long", Fake(Held(head, content, fd=made.fd, offset=AT)))
    with Client(made.driver.where) as client:
        assert read_whole(made, client, b"/copied") == content
        client.send(GET % b"/long")
        received = read_while_turning(made.driver, client, len(head) + len(content))
        while not received.endswith(content):
            received += read_while_turning(made.driver, client, 1)
    assert received.endswith(b"\r\n" + head + content)


def read_whole(made: Pages, client: Client, key: bytes) -> bytes:
    client.send(GET % key)
    return read_rest(made, client, key)


def read_rest(made: Pages, client: Client, key: bytes) -> bytes:
    answer = read_while_turning(made.driver, client, SIZES[key])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % SIZES[key] in head
    return body + read_while_turning(made.driver, client, SIZES[key] - len(body))


# The sanitizer's shadow takes more addresses than the test allows, and tables of its own.
NOT_SANITIZED = pytest.mark.skipif("ZCSERVE_SANITIZED" in os.environ, reason="memory is not as it is without")


@pytest.mark.parametrize("refused", ["nothing", pytest.param("the mapping", marks=NOT_SANITIZED), "the pipe"])
def test_content_is_whole_where_a_mapping_or_a_pipe_is_refused(pages: Callable[[], Pages], refused: str) -> None:
    made = pages()
    with contextlib.ExitStack() as stack:
        if refused == "the mapping":
            stack.enter_context(limited(resource.RLIMIT_AS, 1 << 30))
        client = stack.enter_context(Client(made.driver.where))
        assert read_whole(made, client, b"/copied") == made.contents[b"/copied"]
        if refused == "the pipe":
            stack.enter_context(limited(resource.RLIMIT_NOFILE, client.socket.fileno()))
        made.driver.lane.map(made.fd, 1 << 20)
        for key, content in made.contents.items():
            assert read_whole(made, client, key) == content
    assert mapped_here() == (refused != "the mapping")


def test_the_mapping_and_the_pipe_go_with_the_lane(pages: Callable[[], Pages]) -> None:
    made = pages()
    before = open_descriptors()
    made.driver.lane.map(made.fd, 1 << 20)
    with Client(made.driver.where) as client:
        assert read_whole(made, client, b"/pages") == made.contents[b"/pages"]
    made.driver.until(lambda: not made.driver.lane.count)
    assert mapped_here()
    assert open_descriptors() == before + 2
    made.driver.lane.close()
    made.driver.lane = Closed()
    assert not mapped_here()
    assert open_descriptors() == before - 1  # the lane's epoll is closed, too


@NOT_SANITIZED
def test_tables_of_content_that_is_long_gone_are_given_back(pages: Callable[[], Pages]) -> None:
    made, step, count = pages(), 2 << 20, 400  # a table of 4 KiB for each step
    body: Any = Held(LEAD % (count * step) + b'ETag: "tag"\r\n\r\n', b"", fd=made.fd)
    body.size = count * step
    os.ftruncate(made.fd, body.size)
    put(made.driver.lane, b"/sparse", Fake(body))
    made.driver.lane.map(made.fd, 16 << 20)
    before = tables_kib()
    asked = [
        b"GET /sparse HTTP/1.1\r\nHost: test\r\nRange: bytes=%d-%d\r\n\r\n" % (at, at)
        for at in range(0, body.size, step)
    ]
    with Client(made.driver.where) as client:
        for first in range(0, count, 10):
            for answer in made.driver.ask(client, b"".join(asked[first : first + 10]), 10):
                assert answer["Content-Length"] == b"1"
    assert tables_kib() - before < 4 * count // 4


def tables_kib() -> int:
    """What the kernel keeps to find this process's pages."""
    (line,) = [line for line in status(os.getpid()) if line.startswith("VmPTE:")]
    return int(line.split()[1])


class Closed:
    """In the place of a lane that is gone."""

    def close(self) -> None:
        """It was closed."""


CALLS = {20_000: {"sendmsg": 1}, 65_536: {"sendto": 1, "vmsplice": 1, "splice": 1}}


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_an_answer_is_sent_by_one_copy_or_by_its_pages(site: Site, command: StartCommand, tmp_path: Path) -> None:
    for size in CALLS:
        site.write(f"{size}.bin", random.Random(size).randbytes(size))
    server: Any = command(site.root, "--engine", "native", "--no-watch")
    with Client(server.port) as client:
        for size in CALLS:
            client.get(f"/{size}.bin")
            assert calls_of(server.pid, client, f"/{size}.bin", tmp_path / "trace") == CALLS[size]


def calls_of(pid: int, client: Client, target: str, trace: Path) -> Counter[str]:
    """The calls that send one answer."""
    words = ["strace", "-qq", "-e", "trace=sendto,sendmsg,sendfile,vmsplice,splice,pread64", "-o", str(trace)]
    tracer = subprocess.Popen([*words, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    with tracer, tracer.stderr:
        while not any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in status(pid)):
            if tracer.poll() is not None:
                pytest.skip(f"strace may not: {tracer.stderr.read()}")
        assert client.get(target).status == 200
        tracer.terminate()
    return Counter(line.partition("(")[0] for line in trace.read_text().splitlines() if "(" in line)


def status(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text().splitlines()

"""zcserve.outlet: whole lines for descriptors that are slow, full or dead, and callers that never wait."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.waiting import WaitUntil
from zcserve import outlet
from zcserve.outlet import LineWriter, Outlet

CHECKOUT = Path(__file__).parents[1]

LINE = b"a line of thirty-two characters\n"
ENOUGH = 1 << 20  # bytes: more than each kind takes (sockets 200 KB) with what may wait


class Lines(LineWriter):
    """Says what it is told."""

    def __init__(self, fd: int, waiting_max: int = 1 << 20) -> None:
        self.troubles: list[str] = []
        self.dropped: list[int] = []
        super().__init__(Outlet(fd), "test-lines", waiting_max)

    def on_trouble(self, why: str) -> None:
        self.troubles.append(why)

    def on_room(self, dropped: int, *, ended: bool) -> None:
        self.dropped.append(dropped)


def make_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    return reader, writer


def make_fifo() -> tuple[int, int]:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/fifo"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(path, os.O_WRONLY)
    os.set_blocking(reader, True)
    return reader, writer


def make_terminal() -> tuple[int, int]:
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return reader, writer


def make_socket() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


KINDS = {"pipe": make_pipe, "fifo": make_fifo, "terminal": make_terminal, "socket": make_socket}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASKED_S", "RETRY_S"):
        monkeypatch.setattr(outlet, name, 0.01)
    monkeypatch.setattr(outlet, "STOPPED_AFTER_S", 0.03)


def drain(reader: int, wait_until: WaitUntil, enough: Callable[[bytes], bool]) -> bytes:
    os.set_blocking(reader, False)
    got = bytearray()

    def read() -> bool:
        with contextlib.suppress(BlockingIOError):
            got.extend(os.read(reader, 1 << 16))
        return enough(bytes(got))

    wait_until(read)
    return bytes(got)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_stops_and_goes_on_loses_what_was_counted(kind: str, wait_until: WaitUntil) -> None:
    reader, writer = KINDS[kind]()
    shared = os.dup(writer)  # another program's
    lines = Lines(writer, waiting_max=64 * 1024)
    said = 0
    began = time.monotonic()
    while said * len(LINE) < ENOUGH:
        lines.put(LINE)
        said += 1
        if not said % 1000:
            time.sleep(0.0005)
    assert time.monotonic() - began < 10  # measured: 0.05
    assert os.get_blocking(shared)
    os.close(shared)
    wait_until(lambda: lines.troubles)
    assert lines.troubles == ["its reader has stopped"]

    def complete(got: bytes) -> bool:
        return len(lines.dropped) > 0 and len(got) == (said - sum(lines.dropped)) * len(LINE)

    got = drain(reader, wait_until, complete)
    assert set(got.splitlines(keepends=True)) == {LINE}
    assert lines.lost == sum(lines.dropped) > 0
    lines.put(b"the last\n")
    assert lines.close()
    assert drain(reader, wait_until, lambda got: got.endswith(b"the last\n"))
    os.close(reader)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_does_not_wait_for_a_reader_that_has_stopped(kind: str) -> None:
    reader, writer = KINDS[kind]()
    lines = Lines(writer)
    for _ in range(20_000):
        lines.put(LINE)
    began = time.monotonic()
    assert lines.close(until=began + 60)
    assert time.monotonic() - began < 5  # measured: 0.12
    os.set_blocking(reader, False)
    taken = b""
    try:
        while piece := os.read(reader, 1 << 20):
            taken += piece
    except OSError:  # a terminal's end is EIO
        pass
    assert taken.count(b"\n") + sum(lines.dropped) == 20_000
    os.close(reader)


def test_a_reader_that_is_gone_costs_nothing_but_lines(wait_until: WaitUntil) -> None:
    reader, writer = make_pipe()
    os.close(reader)
    lines = Lines(writer)
    lines.put(LINE)
    wait_until(lambda: lines.troubles == ["Broken pipe"])
    assert lines.close()
    assert lines.dropped == [1]


def test_a_slow_reader_gets_everything_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "LAST_S", 10.0)
    reader, writer = make_pipe()
    lines = Lines(writer)
    for _ in range(1000):
        lines.put(LINE)
    got = bytearray()

    def read() -> None:
        while piece := os.read(reader, 1024):
            got.extend(piece)
            time.sleep(0.002)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    assert lines.close(until=time.monotonic() + 60)
    reading.join(20)
    assert got == LINE * 1000
    assert sum(lines.dropped) == 0
    os.close(reader)


FULL = """
import os, resource, signal, sys
from zcserve.outlet import Outlet
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | int(sys.argv[2]))
outlet = Outlet(fd)
lines = memoryview(b"a line of thirty-two characters\\n" * 10)
took = outlet.write(lines)
try:
    outlet.write(lines[took:])
except OSError as error:
    print(took, os.fstat(fd).st_size, error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print(outlet.write(lines[took:]))
"""


@pytest.mark.parametrize("flags", [os.O_APPEND, 0])
def test_a_full_file_has_whole_lines_and_is_gone_on_with(tmp_path: Path, flags: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(flags)], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["96 96 File too large", "224"]
    assert path.read_bytes() == LINE * 10


def test_a_forked_child_writes_what_it_says_and_nothing_else(wait_until: WaitUntil) -> None:
    reader, writer = make_pipe()
    lines = Lines(writer)
    lines.put(b"parent\n")
    drain(reader, wait_until, lambda got: got == b"parent\n")
    child = os.fork()
    if not child:
        lines.put(b"child\n")
        os._exit(0)
    os.waitpid(child, 0)
    drain(reader, wait_until, lambda got: got == b"child\n")
    lines.put(b"parent\n")
    assert lines.close()
    drain(reader, wait_until, lambda got: got == b"parent\n")
    os.close(reader)


# A program: a signal's handler, which comes at any moment of a `close`, closes the writer as well.
INTERRUPTED = """
import faulthandler, os, random, signal, time
from zcserve.outlet import LineWriter, Outlet

faulthandler.dump_traceback_later(30, exit=True)
until = time.monotonic() + 1
signal.signal(signal.SIGALRM, lambda *_: writer.close(until))
while time.monotonic() < until:
    writer = LineWriter(Outlet(os.open(os.devnull, os.O_WRONLY)), "a test's", 1 << 20)
    writer.put(b"a line\\n")
    signal.setitimer(signal.ITIMER_REAL, 1e-6 + 4e-4 * random.random())
    assert writer.close(until)
signal.setitimer(signal.ITIMER_REAL, 0)  # a signal has no handler of Python's when the interpreter is ending
"""


def test_it_can_be_closed_by_a_signals_handler_while_it_is_being_closed() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=CHECKOUT, capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")

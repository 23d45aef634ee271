"""zcserve.net.wire: segments to a socket, in order, in pieces, and never a torn file."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zcserve.cache.entry import DiskSpan, OpenFile, Segment, Span, identity_of
from zcserve.net import wire
from zcserve.net.wire import Outcome, TornError

MUCH = 1 << 30
DATA = os.urandom(400_000)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A non-blocking sender, and a receiver."""
    sender, receiver = socket.socketpair()
    with sender, receiver:
        sender.setblocking(False)
        receiver.settimeout(20)
        yield sender, receiver


@pytest.fixture
def span() -> Iterator[Span]:
    fd = os.memfd_create("test")
    os.write(fd, DATA)
    yield Span(fd, 0, len(DATA))
    os.close(fd)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    return file


def on_disk(path: Path) -> DiskSpan:
    fd = os.open(path, os.O_RDONLY)
    return DiskSpan(OpenFile(fd, identity_of(os.fstat(fd))), 0, path.stat().st_size)


def read_cold(segments: list[Segment]) -> None:
    """What a thread does, and then the loop."""
    assert isinstance(segments[0], DiskSpan)
    wire.put_in_place(segments, wire.read_cold(segments[0]))


def drained(pair: tuple[socket.socket, socket.socket], segments: list[Segment], bytes_max: int = MUCH) -> bytes:
    """Everything that `send` sends, received whenever the socket is full."""
    sender, receiver = pair
    received = b""
    outcome = None
    while outcome is not Outcome.DONE:
        outcome = wire.send(sender, segments, bytes_max)
        if outcome is Outcome.COLD:
            read_cold(segments)
        if outcome is Outcome.BLOCKED:
            received += receiver.recv(1 << 20)
    assert segments == []
    sender.shutdown(socket.SHUT_WR)
    while data := receiver.recv(1 << 20):
        received += data
    return received


def test_buffers_and_spans_leave_in_order(pair: Any, span: Span, path: Path) -> None:
    segments: list[Segment] = [b"head", memoryview(b"-body-"), span, b"between", on_disk(path), b"last"]
    assert drained(pair, segments) == b"head-body-" + DATA + b"between" + DATA + b"last"


def test_more_buffers_than_one_call_takes(pair: Any) -> None:
    pieces = [b"%d," % n for n in range(3 * wire.IOVECS_MAX + 1)]
    assert drained(pair, list(pieces)) == b"".join(pieces)


def test_large_buffers_go_on_where_the_socket_stopped(pair: Any) -> None:
    assert drained(pair, [b"head", memoryview(DATA), DATA]) == b"head" + DATA + DATA


def test_part_of_a_span_is_sent_alone(pair: Any, span: Span) -> None:
    assert drained(pair, [Span(span.fd, 1000, 200_000)]) == DATA[1000:201_000]


def test_the_span_that_others_share_is_not_changed(pair: Any, span: Span) -> None:
    drained(pair, [span])
    assert (span.offset, span.length) == (0, len(DATA))


@pytest.mark.parametrize("bytes_max", [1, 4096, 100_000])
def test_a_turns_share_is_bounded(pair: Any, span: Span, bytes_max: int) -> None:
    segments: list[Segment] = [span]
    outcome = wire.send(pair[0], segments, bytes_max)
    assert outcome is Outcome.ENOUGH
    left = segments[0]
    assert isinstance(left, Span)
    assert 0 < len(DATA) - left.length <= bytes_max
    if bytes_max > 1:
        assert drained(pair, segments, bytes_max) == DATA


def test_a_full_socket_blocks_and_what_is_left_is_kept(pair: Any) -> None:
    segments: list[Segment] = [DATA] * 10
    assert wire.send(pair[0], segments, MUCH) is Outcome.BLOCKED
    left = sum(len(segment) for segment in segments if isinstance(segment, (bytes, memoryview)))
    assert 0 < left < 10 * len(DATA)
    assert drained(pair, segments) == (DATA * 10)


@pytest.mark.parametrize("segment", ["buffer", "span", "disk"])
def test_a_connection_that_is_gone_is_an_error(pair: Any, span: Span, path: Path, segment: str) -> None:
    pair[1].close()
    disk = on_disk(path)
    wire.read_cold(disk)  # from now on it is in the page cache
    segments: dict[str, Segment] = {"buffer": b"x", "span": span, "disk": disk}
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        wire.send(pair[0], [segments[segment]], MUCH)


# --- files that others may write --------------------------------------------------------------------------


def cut(path: Path) -> None:
    os.truncate(path, 10)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [cut, grow, rewrite])
@pytest.mark.parametrize("begun", [False, True])
def test_a_file_that_changes_ends_its_response(pair: Any, path: Path, change: Any, begun: bool) -> None:
    segments: list[Segment] = [on_disk(path)]
    path.read_bytes()  # so that it is not cold
    if begun:
        assert wire.send(pair[0], segments, 1) is Outcome.ENOUGH
    change(path)
    with pytest.raises(TornError):
        wire.send(pair[0], segments, MUCH)


def test_a_span_that_ends_early_is_torn(pair: Any) -> None:
    fd = os.memfd_create("test")
    try:
        with pytest.raises(TornError):
            wire.send(pair[0], [Span(fd, 0, 10)], MUCH)
    finally:
        os.close(fd)


def test_what_is_not_in_the_page_cache_is_cold(monkeypatch: pytest.MonkeyPatch, pair: Any, path: Path) -> None:
    def cold(*_: Any) -> int:
        raise BlockingIOError

    segments: list[Segment] = [on_disk(path)]
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", cold)
        assert wire.send(pair[0], segments, MUCH) is Outcome.COLD
    read_cold(segments)
    assert len(segments) == 2
    assert drained(pair, segments) == DATA


def test_a_piece_that_a_thread_read_is_sent_whatever_becomes_of_the_page_cache(
    monkeypatch: pytest.MonkeyPatch, pair: Any, path: Path
) -> None:
    real = os.preadv

    def evicted_at_once(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise BlockingIOError
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", evicted_at_once)
    assert drained(pair, [on_disk(path)]) == DATA


@pytest.mark.parametrize("change", [cut, rewrite])
def test_a_thread_hands_out_nothing_of_a_file_that_changed(path: Path, change: Any) -> None:
    span = on_disk(path)
    change(path)
    with pytest.raises(TornError):
        wire.read_cold(span)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_nowait_is_read_by_threads_alone(
    monkeypatch: pytest.MonkeyPatch, pair: Any, path: Path, number: int
) -> None:
    real = os.preadv

    def without_nowait(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(number, os.strerror(number))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", without_nowait)
    segments: list[Segment] = [on_disk(path)]
    assert wire.send(pair[0], segments, MUCH) is Outcome.COLD
    assert drained(pair, segments) == DATA


def test_a_read_error_ends_the_response(monkeypatch: pytest.MonkeyPatch, pair: Any, path: Path) -> None:
    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(TornError):
        wire.send(pair[0], [on_disk(path)], MUCH)


def test_queued_tells_what_the_peer_has_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
        with sender, receiver:
            sender.setblocking(False)
            assert wire.queued(sender.fileno()) == 0
            while wire.send(sender, [DATA], MUCH) is Outcome.DONE:
                pass
            assert wire.queued(sender.fileno()) > 0


def test_what_is_found_at_hand_is_what_is_sent_whatever_other_loops_read(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Two servers in one process have a loop each, in a thread of its own."""
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    one, other = on_disk(tmp_path / "one"), on_disk(tmp_path / "other")
    for span in (one, other):
        wire.read_cold(span)  # from now on it is in the page cache
    if not wire.is_at_hand(one):
        pytest.skip("this file system does not know RWF_NOWAIT")
    thread = threading.Thread(target=wire.is_at_hand, args=(other,), daemon=True)
    thread.start()
    thread.join(20)
    assert wire.send(pair[0], [one], MUCH) is Outcome.DONE
    assert pair[1].recv(10_000) == b"one" * 1000

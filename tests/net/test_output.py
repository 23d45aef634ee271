"""zcserve.net.output: segments to a client, in order, in pieces, and never a torn file; on a real socket, and on a
client in memory where a test must have the transport at a certain point."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.memory import HandFetcher, MemoryTransport
from zcserve.cache import spans
from zcserve.cache.entry import FIRST_PIECE_BYTES, DiskSpan, Fleeting, ForeignSpan, OpenFile, Segment, Span, identity_of
from zcserve.cache.fetcher import Wait
from zcserve.cache.spans import SMALL_BYTES, TornError
from zcserve.net import output
from zcserve.net.counts import Tally
from zcserve.net.output import Flushed, Output
from zcserve.net.transport import SocketTransport

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


def of(*segments: Segment) -> Output:
    out = Output(Tally())
    out.add(segments)
    return out


def supply(out: Output) -> None:
    """What a thread does, and then the loop."""
    out.supply(spans.read_cold(out.cold()))


def drained(pair: tuple[socket.socket, socket.socket], out: Output, share: int = MUCH) -> bytes:
    """Everything that `flush` sends, received whenever the socket is full."""
    sender, receiver = pair
    transport = SocketTransport(sender, "")
    received = b""
    flushed = None
    while flushed is not Flushed.DONE:
        flushed = out.flush(transport, share)
        if flushed is Flushed.COLD:
            supply(out)
        if flushed is Flushed.BLOCKED:
            received += receiver.recv(1 << 20)
        assert flushed in (Flushed.DONE, Flushed.COLD, Flushed.BLOCKED, Flushed.ENOUGH)
    assert out.segments == []
    sender.shutdown(socket.SHUT_WR)
    while data := receiver.recv(1 << 20):
        received += data
    return received


def flushed(pair: tuple[socket.socket, socket.socket], out: Output, share: int = MUCH) -> Flushed:
    """What one `flush` to the socket says."""
    return out.flush(SocketTransport(pair[0], ""), share)


def test_buffers_and_spans_leave_in_order(pair: tuple[socket.socket, socket.socket], span: Span, path: Path) -> None:
    segments: list[Segment] = [b"head", memoryview(b"-body-"), span, b"between", on_disk(path), b"last"]
    assert drained(pair, of(*segments)) == b"head-body-" + DATA + b"between" + DATA + b"last"


def test_more_buffers_than_one_call_takes(pair: tuple[socket.socket, socket.socket]) -> None:
    pieces = [b"%d," % n for n in range(3 * output.BUFFERS_MAX + 1)]
    assert drained(pair, of(*pieces)) == b"".join(pieces)


def test_large_buffers_go_on_where_the_socket_stopped(pair: tuple[socket.socket, socket.socket]) -> None:
    assert drained(pair, of(b"head", memoryview(DATA), DATA)) == b"head" + DATA + DATA


def test_part_of_a_span_is_sent_alone(pair: tuple[socket.socket, socket.socket], span: Span) -> None:
    assert drained(pair, of(Span(span.fd, 1000, 200_000))) == DATA[1000:201_000]


def test_the_span_that_others_share_is_not_changed(pair: tuple[socket.socket, socket.socket], span: Span) -> None:
    drained(pair, of(span))
    assert (span.offset, span.length) == (0, len(DATA))


@pytest.mark.parametrize("bytes_max", [1, 4096, 100_000])
def test_a_turns_share_is_bounded(pair: tuple[socket.socket, socket.socket], span: Span, bytes_max: int) -> None:
    out = of(span)
    assert flushed(pair, out, bytes_max) is Flushed.ENOUGH
    assert out.rests
    left = out.segments[0]
    assert isinstance(left, Span)
    assert 0 < len(DATA) - left.length <= bytes_max
    if bytes_max > 1:
        assert drained(pair, out, bytes_max) == DATA
        assert not out.rests


def test_a_full_socket_blocks_and_what_is_left_is_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    out = of(*[DATA] * 10)
    assert flushed(pair, out) is Flushed.BLOCKED
    left = sum(len(segment) for segment in out.segments if isinstance(segment, (bytes, memoryview)))
    assert 0 < left < 10 * len(DATA)
    assert drained(pair, out) == DATA * 10


@pytest.mark.parametrize("segment", ["buffer", "span", "disk"])
def test_a_client_that_is_gone_is_told(
    pair: tuple[socket.socket, socket.socket], span: Span, path: Path, segment: str
) -> None:
    pair[1].close()
    disk = on_disk(path)
    spans.read_cold(disk)  # from now on it is in the page cache
    segments: dict[str, Segment] = {"buffer": b"x", "span": span, "disk": disk}
    assert flushed(pair, of(segments[segment])) is Flushed.GONE


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
def test_a_file_that_changes_ends_its_response(
    pair: tuple[socket.socket, socket.socket], path: Path, change: Any, begun: bool
) -> None:
    out = of(on_disk(path))
    path.read_bytes()  # so that it is not cold
    if begun:
        assert flushed(pair, out, 1) is Flushed.ENOUGH
    change(path)
    assert flushed(pair, out) is Flushed.TORN


def test_a_span_that_ends_early_is_torn(pair: tuple[socket.socket, socket.socket]) -> None:
    fd = os.memfd_create("test")
    try:
        assert flushed(pair, of(Span(fd, 0, 10))) is Flushed.TORN
    finally:
        os.close(fd)


def test_what_is_not_in_the_page_cache_is_cold(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket], path: Path
) -> None:
    def cold(*_: Any) -> int:
        raise BlockingIOError

    out = of(on_disk(path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", cold)
        assert flushed(pair, out) is Flushed.COLD
    supply(out)
    assert len(out.segments) == 2
    assert drained(pair, out) == DATA


def test_a_piece_that_a_thread_read_is_sent_whatever_becomes_of_the_page_cache(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket], path: Path
) -> None:
    real = os.preadv

    def evicted_at_once(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise BlockingIOError
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", evicted_at_once)
    assert drained(pair, of(on_disk(path))) == DATA


@pytest.mark.parametrize("change", [cut, rewrite])
def test_a_thread_hands_out_nothing_of_a_file_that_changed(path: Path, change: Any) -> None:
    span = on_disk(path)
    change(path)
    with pytest.raises(TornError):
        spans.read_cold(span)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_nowait_is_read_by_threads_alone(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket], path: Path, number: int
) -> None:
    real = os.preadv

    def without_nowait(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(number, os.strerror(number))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", without_nowait)
    out = of(on_disk(path))
    assert flushed(pair, out) is Flushed.COLD
    assert drained(pair, out) == DATA


def test_a_read_error_ends_the_response(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket], path: Path
) -> None:
    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    assert flushed(pair, of(on_disk(path))) is Flushed.TORN


def test_what_is_found_at_hand_is_what_is_sent_whatever_other_loops_read(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Two servers in one process have a loop each, in a thread of its own."""
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    one, other = on_disk(tmp_path / "one"), on_disk(tmp_path / "other")
    for span in (one, other):
        spans.read_cold(span)  # from now on it is in the page cache
    if not spans.is_at_hand(one):
        pytest.skip("this file system does not know RWF_NOWAIT")
    thread = threading.Thread(target=spans.is_at_hand, args=(other,), daemon=True)
    thread.start()
    thread.join(20)
    assert flushed(pair, of(one)) is Flushed.DONE
    assert pair[1].recv(10_000) == b"one" * 1000


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of a file, or look at it, was for."""
    found: list[int] = []
    real = os.preadv

    def noted(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        found.append(sum(map(len, buffers)))
        return real(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", noted)
    return found


@pytest.mark.parametrize("kind", [DiskSpan, ForeignSpan])
def test_pieces_grow_as_long_as_the_client_takes_them_and_a_turn_has_room_for_them(
    tmp_path: Path, looks: list[int], kind: type[DiskSpan]
) -> None:
    content = DATA * 8
    (tmp_path / "file").write_bytes(content)
    disk = on_disk(tmp_path / "file")
    out, transport = of(kind(disk.file, 0, disk.length)), MemoryTransport()
    first, most = FIRST_PIECE_BYTES, spans.PIECE_BYTES_MAX
    turns = []
    while out.segments:
        assert out.flush(transport, 2 * most) is not Flushed.COLD
        turns.append([-(-length // 4096) * 4096 for length in looks])
        looks.clear()
    assert transport.sent == content
    if kind is DiskSpan:  # a copy counts twice
        assert turns[0] == [first, 2 * first, first]  # the last one has what is left of the turn, and the least
        assert turns[1] == turns[2] == [most]
    else:
        assert turns[0] == [first, 2 * first, most, first]
        assert turns[1] == turns[2] == [most, most]


def test_what_a_slow_client_does_not_take_is_hardly_read_again(tmp_path: Path, looks: list[int]) -> None:
    (tmp_path / "file").write_bytes(DATA * 8)
    out, transport = of(on_disk(tmp_path / "file")), MemoryTransport()
    for _ in range(20):
        transport.room = 40_000
        assert out.flush(transport, MUCH) is Flushed.BLOCKED
    assert transport.sent == (DATA * 8)[: 20 * 40_000]
    # 6 times as many in pieces of one length, 3 times where what is not taken is read again at once.
    assert 2 * sum(looks) <= 2 * FIRST_PIECE_BYTES + 5 * len(transport.sent)


# --- on a client in memory --------------------------------------------------------------------------------


def test_a_head_and_its_file_may_share_a_packet_and_buffers_alone_wait_for_nothing(span: Span) -> None:
    transport = MemoryTransport()
    assert of(b"head", span, b"head", memoryview(b"body")).flush(transport, MUCH) is Flushed.DONE
    assert transport.flags == "bfs"
    assert transport.sent == b"head" + DATA + b"headbody"


def test_a_little_of_a_file_leaves_with_its_head_in_one_send(span: Span) -> None:
    transport = MemoryTransport()
    little, more = Span(span.fd, 5, SMALL_BYTES), Span(span.fd, 5, SMALL_BYTES + 1)
    assert of(b"head", little, b"next", little).flush(transport, MUCH) is Flushed.DONE
    assert (transport.flags, transport.sent) == (
        "s",
        b"head" + DATA[5:][:SMALL_BYTES] + b"next" + DATA[5:][:SMALL_BYTES],
    )
    transport = MemoryTransport()
    assert of(b"head", more).flush(transport, MUCH) is Flushed.DONE
    assert transport.flags == "bf"


def test_what_is_copied_for_one_send_is_bounded(span: Span) -> None:
    transport = MemoryTransport(room=0)
    out = of(b"head", *[Span(span.fd, 0, SMALL_BYTES)] * 100)
    assert out.flush(transport, MUCH) is Flushed.BLOCKED
    transport.room = MUCH
    assert out.flush(transport, MUCH) is Flushed.DONE
    assert len(transport.flags) > 100 * SMALL_BYTES // (output.COPIED_BYTES + SMALL_BYTES)
    assert transport.sent == b"head" + DATA[:SMALL_BYTES] * 100


def test_a_little_of_a_file_that_has_become_shorter_is_torn() -> None:
    fd = os.memfd_create("test")
    try:
        assert of(b"head", Span(fd, 0, 10)).flush(MemoryTransport(), MUCH) is Flushed.TORN
    finally:
        os.close(fd)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_however_little_a_client_takes_it_gets_all_in_order(span: Span, path: Path, step: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    foreign = ForeignSpan(OpenFile(fd, identity_of(os.fstat(fd))), 100, 30)
    disk = DiskSpan(foreign.file, 200, 40)
    transport = MemoryTransport(room=0)
    out = of(b"ab", memoryview(b"c"), Span(span.fd, 0, 50), b"de", foreign, disk)
    path.read_bytes()  # so that it is not cold
    while out.flush(transport, MUCH) is Flushed.BLOCKED:
        transport.room = step
    assert transport.sent == b"abc" + DATA[:50] + b"de" + DATA[100:130] + DATA[200:240]


def test_what_is_added_for_another_account_counts_there_and_what_follows_does_not() -> None:
    tally, transport = Tally(), MemoryTransport()
    out = Output(tally)
    mine, other = tally.of(5), tally.of(6)
    out.count_for(mine)
    out.add_for(other, (b"unsent",))
    out.add((b"mine",))
    assert out.flush(transport, MUCH) is Flushed.DONE
    assert (transport.sent, other.bytes_sent, mine.bytes_sent) == (b"unsentmine", 6, 4)


def test_a_body_is_pinned_while_something_is_left_and_only_then() -> None:
    body = Fleeting(b"head", b"content")
    transport = MemoryTransport(room=6)
    out = Output(Tally())
    out.add((b"prefix", *body.whole()), body)
    assert body.pins == 0
    assert out.flush(transport, MUCH) is Flushed.BLOCKED
    assert body.pins == 1
    transport.room = 3
    assert out.flush(transport, MUCH) is Flushed.BLOCKED
    assert body.pins == 1
    transport.room = None
    assert out.flush(transport, MUCH) is Flushed.DONE
    assert body.pins == 0
    assert transport.sent == b"prefixheadcontent"


@pytest.mark.parametrize("ends", ["gone", "dropped"])
def test_what_is_dropped_is_not_pinned(ends: str) -> None:
    body = Fleeting(b"head", b"content")
    transport = MemoryTransport(room=1)
    out = Output(Tally())
    out.add(body.whole(), body)
    assert out.flush(transport, MUCH) is Flushed.BLOCKED
    if ends == "gone":
        transport.gone = True
        assert out.flush(transport, MUCH) is Flushed.GONE
    fetcher: Any = HandFetcher()
    out.drop(fetcher)
    out.drop(fetcher)
    assert (body.pins, out.segments) == (0, [])


def test_a_read_that_is_not_wanted_any_more_is_cancelled_once() -> None:
    out, fetcher = Output(Tally()), HandFetcher()
    out.wait = Wait(None, None, lambda _: None)
    hand: Any = fetcher
    out.drop(hand)
    out.drop(hand)
    assert fetcher.cancelled == 1

"""Pieces of files on their way to a client: the next one, without waiting for a disk, and never of a torn file.

A `DiskSpan`, whose file others may write at any time, is copied through one buffer of the loop and the file's identity
is checked after the copy and before the send: what leaves is one version of the file, or the response ends early. The
loop reads with RWF_NOWAIT alone, so that it never waits for a disk. What that does not give, because it is not in the
page cache or the file system does not know RWF_NOWAIT (NFS and FUSE do not), a thread reads (`read_cold`), checks and
all: there even fstat may wait. A thread, too, compares the content where ctime alone has changed (cache/doubt.py), and
the response goes on if it is the same.

A `ForeignSpan` is a file that is sent without a copy, since an application or `--in-place` says so: by `sendfile`,
piece by piece, where all of the piece lies in the page cache, and else read by a thread like the others.

Nothing here sends: that is net/output.py's.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from functools import partial

from zcserve.cache.doubt import still_holds
from zcserve.cache.entry import (
    FILES,
    FIRST_PIECE_BYTES,
    Body,
    DiskSpan,
    ForeignSpan,
    Look,
    Segment,
    Sent,
    Span,
    device_of,
)  # fmt: skip
from zcserve.cache.fetcher import Fetcher, Wait
from zcserve.cache.tags import is_identity_tag

# A piece has as many bytes as its client is likely to take at once: twice as many as it took of the last one, if it
# took all of that, and else as many. More than the most would leave the processor's own cache before it is sent, and
# hold the loop for more than 0.1 ms.
PIECE_BYTES_MIN = 16 * 1024
PIECE_BYTES_MAX = 512 * 1024
# How often a file may get a new ctime while one piece of it is read.
COLD_TRIES = 10
# So little of a memfd is copied: that costs a microsecond or two, a call of `sendfile` and a packet of its own more.
SMALL_BYTES = 16384
# What tells that a file system does not know RWF_NOWAIT.
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)

# Where a file is only looked at: each page of a piece into the same memory, which costs a tenth of sending it.
_PAGE_BYTES = 4096


class _Seen(threading.local):
    """What a thread's loop has found to be at hand and sends next, so that it is not read twice."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(PIECE_BYTES_MAX))
        self.span: DiskSpan | None = None
        self.piece = self.buffer[:0]


_seen = _Seen()
_pages = [memoryview(bytearray(_PAGE_BYTES))] * (PIECE_BYTES_MAX // _PAGE_BYTES)


class TornError(Exception):
    """A file changed while it was being sent: the response must end before its Content-Length."""


def took(
    segments: list[Segment], span: Span | DiskSpan, count: int, offered: int, piece: memoryview | None = None
) -> None:
    """`count` bytes of `span`, which is the first segment, are on their way, of `offered`: what is left of it takes its
    place. `piece` is what they are, where they were read."""
    if count == span.length:
        del segments[0]
    elif isinstance(span, Span):  # a new object: the body's own span is shared by all of its responses
        segments[0] = Span(span.fd, span.offset + count, span.length - count)
    else:
        ask = max(count, PIECE_BYTES_MIN) if count < offered else max(span.ask, min(2 * count, PIECE_BYTES_MAX))
        segments[0] = _behind(span, count, piece, ask)


def _behind(span: DiskSpan, count: int, piece: memoryview | None, ask: int) -> DiskSpan:
    """What is left of a span behind the first `count` bytes of it, or of `piece`, where they were read."""
    sent = _note(span, piece[:count]) if piece is not None else None
    return type(span)(span.file, span.offset + count, span.length - count, sent, ask)


def _note(span: DiskSpan, piece: memoryview) -> Sent | None:
    """What its response has sent of a file with this piece, where nothing else tells what the file must hold."""
    sent = span.sent
    if sent is None:
        if not is_identity_tag(span.file.etag):
            return None
        sent = Sent(span.file.identity, span.offset)
    sent.note(piece)
    return sent


def is_ready(body: Body) -> bool:
    """Whether a body that holds a descriptor can be begun without waiting for a disk."""
    span = body.whole()[-1]
    return not isinstance(span, DiskSpan) or is_at_hand(span)


def is_at_hand(span: DiskSpan) -> bool:
    """Whether a span can be begun without waiting for a disk. Its first piece is sent next, or read again."""
    _seen.span = None
    if isinstance(span, ForeignSpan):
        is_there = _is_in_memory(span, _length(span, FIRST_PIECE_BYTES))
    else:
        try:
            piece = _read(span, FIRST_PIECE_BYTES)
        except TornError:  # a thread finds that out
            piece = None
        is_there = piece is not None and not span.file.is_stale
        _seen.piece = piece or _seen.piece
    if is_there:
        _seen.span = span
    return is_there


def next_piece(span: DiskSpan, left: int) -> memoryview | None:
    """The next bytes of `span`, where `left` are left of a turn's share; valid until the loop reads another. None: not
    without waiting (`read_cold`). Raises TornError."""
    piece = _seen.piece if span is _seen.span else _read(span, left)
    _seen.span = None
    return piece


def next_length(span: ForeignSpan, left: int) -> int:
    """How many of the next bytes of `span` `sendfile` can send now without waiting for a disk, where `left` are left of
    a turn's share; 0: none."""
    length = _length(span, FIRST_PIECE_BYTES if span is _seen.span else left)
    is_there = span is _seen.span or _is_in_memory(span, length)
    _seen.span = None
    return length if is_there else 0


def forget() -> None:
    """What `is_at_hand` has found is not sent at once: by then it may not be at hand, or not be what it was."""
    _seen.span = None


def _is_in_memory(span: ForeignSpan, length: int) -> bool:
    """Whether each page of the next `length` bytes can be read without waiting for a disk."""
    try:
        seen = os.preadv(span.file.fd, _pages[: -(-length // _PAGE_BYTES)], span.offset, os.RWF_NOWAIT)
    except OSError:
        return False  # a thread reads it, or finds out what is wrong
    return seen >= length


def _length(span: DiskSpan, left: int) -> int:
    """How many bytes the next piece has, where `left` are left of a turn's share."""
    return min(span.length, span.ask, max(left, FIRST_PIECE_BYTES))


def _read(span: DiskSpan, left: int) -> memoryview | None:
    """The next bytes of a file that is not resident; None: not without waiting. Raises TornError."""
    _seen.span = None
    piece = _seen.buffer[: _length(span, left)]
    try:
        count = os.preadv(span.file.fd, [piece], span.offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise TornError from error
        return None
    if not count:
        raise TornError
    look = span.file.look(span.sent)
    if look is Look.CHANGED:
        raise TornError
    return piece[:count] if look is Look.SAME else None


def read_cold(span: DiskSpan) -> memoryview:
    """The next bytes of `span`; blocks, so a thread does it. Raises OSError, TornError."""
    piece = memoryview(bytearray(min(span.length, FIRST_PIECE_BYTES)))
    for _ in range(COLD_TRIES):
        count = os.preadv(span.file.fd, [piece], span.offset)
        if not count:
            break
        look = span.file.look(span.sent)
        if look is Look.SAME:
            return piece[:count]
        # What was read before the file was seen to hold what it did may be of another version: it is read again.
        if look is Look.CHANGED or not still_holds(span.file, span.sent):
            break
    raise TornError


def read_in_thread(fetcher: Fetcher, span: DiskSpan, done: Callable[[memoryview | None], None]) -> Wait:
    """Have a thread read the next piece of `span`. `done` gets it in the loop's thread, or None where it cannot be had,
    or is of another version than was begun."""
    return fetcher.run(span, partial(_read_or_none, span), done, device_of(span.file.identity))


def _read_or_none(span: DiskSpan) -> memoryview | None:
    try:
        return read_cold(span)
    except (OSError, TornError):
        span.file.is_stale = True
        return None


def first_span(segments: tuple[Segment, ...], body: Body | None) -> DiskSpan | None:
    """The part of a file that must be at hand before an answer's head is sent, if there is one."""
    if body is not None and not body.holds_descriptor:
        return None
    for segment in segments:
        if isinstance(segment, DiskSpan):
            return segment
    return None


def are_copied(segments: tuple[Segment, ...]) -> bool:
    """Whether all of it is memory, or so little of a file that it is sent as such (`copy`)."""
    return FILES.isdisjoint(map(type, segments)) or all(
        not isinstance(segment, (Span, DiskSpan)) or is_small(segment) for segment in segments
    )


def is_small(segment: Span | DiskSpan) -> bool:
    """Whether a copy costs less than a call of `sendfile`."""
    return isinstance(segment, Span) and segment.length <= SMALL_BYTES


def copy(span: Span) -> bytes:
    """The bytes of a span. Raises TornError, OSError."""
    data = os.pread(span.fd, span.length, span.offset)
    if len(data) < span.length:
        raise TornError
    return data


def begun(segments: tuple[Segment, ...], span: DiskSpan, piece: memoryview) -> tuple[Segment, ...]:
    """The segments with `piece`, the first bytes of `span`, in front of the rest of it."""
    there = list(segments)
    put_in_place(there, piece, there.index(span))
    return tuple(there)


def put_in_place(segments: list[Segment], piece: memoryview, at: int = 0) -> None:
    """Let `piece`, which `read_cold` read of segment `at`, be sent in its place, and then the rest of it."""
    span = segments[at]
    assert isinstance(span, DiskSpan)
    count = len(piece)
    segments[at : at + 1] = [piece, _behind(span, count, piece, span.ask)] if count < span.length else [piece]

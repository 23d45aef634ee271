"""What waits to be sent to one client: in order, as few system calls as fit, never a copy of what can be referred to.

Buffers go out together by one `send`, and with them what is small of a `Span`, as a copy; a larger one goes by
`send_file`, behind its head so that both share a packet. Of a file that others may write each piece is checked before
it leaves (spans.py); where that would wait for a disk, `flush` says COLD, a thread reads the piece that `cold` names,
and `supply` puts it in its place.

The segments refer to memory that bodies keep. As long as something is left to send, the bodies are pinned, so that the
evictor takes others first.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any

from zcserve.cache import spans
from zcserve.cache.entry import FILES, Body, DiskSpan, ForeignSpan, Segment, Span
from zcserve.cache.fetcher import Fetcher, Wait
from zcserve.cache.spans import TornError
from zcserve.net.counts import Answers, Tally
from zcserve.net.transport import Transport

# Buffers in one send: half of IOV_MAX (1024), and more than pipeline_max requests need.
BUFFERS_MAX = 512
# Of files, copied for one send: what a socket takes at once. More would be copied for nothing where it is full.
COPIED_BYTES = 65536
# A byte of a turn's share that is copied from a file counts as so many: the loop is busy for two to three times as long
# as with `sendfile`, and others wait for it.
COPY_COST = 2


class Flushed(enum.Enum):
    """Why `Output.flush` returned."""

    DONE = 1  # everything is sent
    BLOCKED = 2  # the transport takes no more: an event will tell
    ENOUGH = 3  # this turn's share is sent: no event will tell
    COLD = 4  # the next bytes of a file cannot be had without waiting: `cold`
    TORN = 5  # a file changed while it was being sent: the response must end before its Content-Length
    GONE = 6  # the client is gone, or a file cannot be sent


_DONE = Flushed.DONE


class Output:
    """Of one connection.

    segments  what is left to send, empty after DONE; only `Output` changes it
    rests     set from ENOUGH until the next `flush`
    about     what a large answer is (method and target), should it be cut, until it is out
    wait      after COLD: for the thread that reads, until `supply`
    answers   what the bytes are counted for that are added from now on (`count_for`)
    began     when the first byte was read of what is answered next; `read_at`: when the last one was
    owed      answers that are to be measured: when each was asked for, and how often it counts
    """

    __slots__ = (
        "_added", "_awaited", "_before", "_is_over", "_is_pinned", "_kept", "_queued", "_tally", "about", "answers",
        "began", "owed", "read_at", "rests", "segments", "wait",
    )  # fmt: skip

    def __init__(self, tally: Tally, read_at: float = 0.0) -> None:
        """`tally` counts what is sent. `read_at`: when the first of what is answered was read, if it was."""
        self._tally = tally
        self.answers = tally.no_sites
        self._before: list[tuple[Answers, int]] = []  # what is left to send counts for others, so many bytes for each
        self.began = self.read_at = read_at
        self.segments: list[Segment] = []
        self.rests = False
        self.about: tuple[bytes, bytes] | None = None
        self.wait: Wait | None = None
        self.owed: tuple[tuple[float, int], ...] = ()
        self._queued = 0  # `Transport.unacknowledged` when it was last looked at
        self._kept: list[Body] = []  # whose memory `segments` refers to
        self._is_pinned = False
        self._awaited: list[tuple[int, Callable[[bool], object]]] = []  # ends of answers, by how many were added before
        self._added = 0  # segments, while something is awaited
        self._is_over = False  # nothing is sent any more

    def add(self, segments: Iterable[Segment], keeps: Body | None = None) -> None:
        """Have `segments` sent behind what is there; their memory belongs to the body `keeps`, if to any."""
        if self._awaited:
            segments = tuple(segments)
            self._added += len(segments)
        self.segments += segments
        if keeps is not None:
            self._kept.append(keeps)

    def count_for(self, answers: Answers) -> None:
        """What is added from now on counts for these."""
        if answers is not self.answers:
            if self.segments:
                left = sum(map(_length, self.segments)) - sum(count for _, count in self._before)
                self._before.append((self.answers, left))
            self.answers = answers

    def add_for(self, answers: Answers, segments: Iterable[Segment]) -> None:
        """As `add`, of what counts for others than what follows."""
        mine = self.answers
        self.count_for(answers)
        self.add(segments)
        self.count_for(mine)

    def _note_sent(self, count: int) -> None:
        """So many bytes are taken."""
        while self._before and count:
            answers, left = self._before.pop(0)
            part = min(left, count)
            answers.bytes_sent += part
            count -= part
            if part < left:
                self._before.insert(0, (answers, left - part))
        self.answers.bytes_sent += count

    def when_out(self, then: Callable[[bool], object]) -> None:
        """Call `then` when all that was added by now is with the kernel (True), or is not sent any more (False)."""
        if self.segments:
            self._awaited.append((self._added, then))
        else:
            then(not self._is_over)

    def tell_out(self, left: int, *, sent: bool = True) -> None:
        """So many segments are left to send: call what waits for those before them; not `sent`: no more is sent."""
        awaited, self._awaited = self._awaited, []
        for at, (added, then) in enumerate(awaited):
            if self._added - added < left:  # what was added behind it is less: a part of its own is left
                self._awaited = awaited[at:]
                return
            then(sent)

    def flush(self, transport: Transport, share: int) -> Flushed:
        """Send what is there, at most about `share` bytes: as much more as one send takes, or a piece of a file."""
        segments = self.segments
        sent = 0
        try:
            while segments:
                if sent >= share:
                    return self._pause(Flushed.ENOUGH)
                first = segments[0]
                if isinstance(first, (Span, DiskSpan)):
                    count = self._send_file(transport, first, share - sent)
                    if not count:
                        return self._pause(Flushed.COLD)
                    sent += count
                else:
                    sent += self._send_buffers(transport, share - sent)
        except BlockingIOError:
            self._queued = transport.unacknowledged()
            return self._pause(Flushed.BLOCKED)
        except OSError:
            return Flushed.GONE
        except TornError:
            return Flushed.TORN
        if self._is_pinned:
            self._unpin()
        self._kept.clear()
        self.rests = False
        self.about = None
        if self._awaited:
            self.tell_out(0)
        if self.owed:
            self._tally.measure(self.owed)
            self.owed = ()
        return _DONE

    def _send_buffers(self, transport: Transport, left: int) -> int:
        """Send the buffers at the front, and what belongs to them of files; how many bytes were taken, as they
        count."""
        segments: list[Any] = self.segments
        if len(segments) > BUFFERS_MAX or not FILES.isdisjoint(map(type, segments)):
            return self._send_before_file(transport, left)
        count = transport.send(segments)
        self._note_sent(count)
        if count == sum(map(len, segments)):  # almost always
            segments.clear()
        else:
            self._took(segments, count)
        return count

    def _send_before_file(self, transport: Transport, left: int) -> int:
        """Send the buffers at the front, and with them what is small of a `Span`, and the first piece of a file that is
        copied."""
        buffers: list[bytes | memoryview] = []
        send = transport.send
        span = piece = None
        copied = 0
        for segment in self.segments[:BUFFERS_MAX]:
            if isinstance(segment, (Span, DiskSpan)):
                if not isinstance(segment, Span) or not spans.is_small(segment) or copied >= COPIED_BYTES:
                    span, piece = segment, _piece_behind(segment, left)
                    if piece is None:
                        send = transport.send_before_file
                    break
                segment = spans.copy(segment)
                copied += len(segment)
            buffers.append(segment)
        sent = send(buffers if piece is None else (*buffers, piece))
        self._note_sent(sent)
        behind = self._took(buffers, sent)
        if piece is not None and behind >= 0:
            assert isinstance(span, DiskSpan)
            sent += self._send_piece(transport, span, piece, behind) - behind
        return sent

    def _took(self, buffers: list[bytes | memoryview], count: int) -> int:
        """`count` bytes are taken of `buffers`, which are the first segments or copies of them, and of what was sent
        behind them: how many of that; -1: not even all of the buffers."""
        done = 0
        for buffer in buffers:
            if count < len(buffer):
                self.segments[done] = memoryview(buffer)[count:]
                count = -1
                break
            count -= len(buffer)
            done += 1
        del self.segments[:done]
        return count

    def _send_file(self, transport: Transport, span: Span | DiskSpan, left: int) -> int:
        """Send the next piece of a file, the first segment; how many bytes were taken, as they count, 0 where the piece
        is cold. `left` is what is left of the turn's share."""
        if isinstance(span, Span):
            length = min(span.length, left)
            count = transport.send_file(span.fd, span.offset, length)
            self._note_sent(count)
        elif isinstance(span, ForeignSpan):
            length = spans.next_length(span, left)
            if not length:
                return 0
            count = transport.send_file(span.file.fd, span.offset, length)
            self._note_sent(count)
        else:
            piece = spans.next_piece(span, left // COPY_COST)
            return self._send_piece(transport, span, piece) if piece is not None else 0
        if not count:
            raise TornError  # only a file that is sent in place can end early
        spans.took(self.segments, span, count, length)
        return count

    def _send_piece(self, transport: Transport, span: DiskSpan, piece: memoryview, count: int = 0) -> int:
        """Send the bytes of a file that were read and checked, of which `count` are taken already, until the transport
        takes no more: what it does not take is read again, so a try is cheaper. What they count for."""
        before = count
        try:
            while count < len(piece):
                count += transport.send((piece[count:],))
        finally:
            self._note_sent(count - before)
            if count:
                spans.took(self.segments, span, count, len(piece), piece)
        return count * COPY_COST

    def _pause(self, why: Flushed) -> Flushed:
        """Something is left."""
        self.rests = why is Flushed.ENOUGH
        spans.forget()
        if self._awaited:
            self.tell_out(len(self.segments))
        if not self._is_pinned:
            self._is_pinned = True
            for body in self._kept:
                body.pins += 1
        return why

    def is_taken(self, transport: Transport) -> bool:
        """After BLOCKED: whether the client has taken anything since this was last asked. It may be slow, but it
        reads."""
        before, self._queued = self._queued, transport.unacknowledged()
        return self._queued < before

    def read(self, fetcher: Fetcher, done: Callable[[memoryview | None], None]) -> None:
        """After COLD: have a thread read the file's next bytes. `done` as in `spans.read_in_thread`, for `supply`."""
        self.wait = spans.read_in_thread(fetcher, self.cold(), done)

    def cold(self) -> DiskSpan:
        """After COLD: the part of a file whose next bytes must be read."""
        span = self.segments[0]
        assert isinstance(span, DiskSpan)
        return span

    def supply(self, piece: memoryview | None) -> bool:
        """The bytes that were read. False where there are none: nothing more can be sent."""
        self.wait = None
        if piece is not None:
            spans.put_in_place(self.segments, piece)
        return piece is not None

    def drop(self, fetcher: Fetcher) -> None:
        """Nothing of it is sent any more. Harmless when repeated."""
        wait, self.wait = self.wait, None
        if wait is not None:
            fetcher.cancel(wait)
        if self._is_pinned:
            self._unpin()
        self._kept.clear()
        self.segments.clear()
        self._before.clear()
        self._is_over = True
        if self._awaited:
            self.tell_out(0, sent=False)
        self.owed = ()

    def _unpin(self) -> None:
        self._is_pinned = False
        for body in self._kept:
            body.pins -= 1


def _length(segment: Segment) -> int:
    """Its bytes."""
    return segment.length if isinstance(segment, Span | DiskSpan) else len(segment)


def _piece_behind(span: Span | DiskSpan, left: int) -> memoryview | None:
    """The first piece of a file that is copied, to be sent with what is before it. None: that is sent without it,
    whatever becomes of the file."""
    if isinstance(span, Span | ForeignSpan):
        return None
    try:
        return spans.next_piece(span, left // COPY_COST)
    except TornError:
        return None

"""zcserve.cache.spans: whatever is read when, and however much a client takes, what leaves is one version of the file.

net/output.py sends; here a list of what was taken stands for the client.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from zcserve.cache import spans
from zcserve.cache.entry import (
    FIRST_PIECE_BYTES,
    Body,
    DiskSpan,
    Fleeting,
    ForeignSpan,
    InPlace,
    OnDisk,
    OpenFile,
    Segment,
    Span,
    identity_of,
)
from zcserve.cache.spans import PIECE_BYTES_MAX, PIECE_BYTES_MIN, SMALL_BYTES, TornError
from zcserve.cache.tags import identity_tag, tag_of

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = 3 * FIRST_PIECE_BYTES + 4321
OLD, NEW = (random.Random(seed).randbytes(SIZE) for seed in (1, 2))
MUCH = 1 << 30


def open_span(path: Path, start: int = 0, stop: int = SIZE, *, hashed: bool = True, kind: Any = DiskSpan) -> Any:
    """Bytes of a file that is promised under the tag of its content, or (`hashed=False`) of its identity."""
    fd = os.open(path, os.O_RDONLY)
    identity = identity_of(os.fstat(fd))
    etag = tag_of(path.read_bytes()) if hashed else identity_tag(identity)
    return kind(OpenFile(fd, identity, etag), start, stop - start)


def nothing(offset: int, length: int) -> DiskSpan:
    """A span that is never read."""
    fd = os.open("/dev/null", os.O_RDONLY)
    return DiskSpan(OpenFile(fd, identity_of(os.fstat(fd)), b'"x"'), offset, length)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(OLD)
    return file


def rewrite(path: Path) -> None:
    """Other content of the same size, in place, at another time."""
    with path.open("r+b") as file:
        file.write(NEW)
    os.utime(path, ns=(1, 1))


class Step(NamedTuple):
    """A turn: what is left of its share, how much of a piece its client takes (in thousandths), whether a thread reads,
    and whether something happens that only ctime tells of."""

    left: int = MUCH
    takes: int = 1000
    cold: bool = False
    doubt: bool = False


def turns(path: Path, span: DiskSpan, steps: Iterator[Step]) -> Iterator[bytes]:
    """What a client gets in each turn. Raises TornError."""
    segments: list[Segment] = [span]
    modes = itertools.cycle((0o600, 0o644))
    for step in steps:
        if not segments:
            return
        if step.doubt:
            path.chmod(next(modes))
        first = segments[0]
        if not isinstance(first, DiskSpan):
            yield bytes(segments.pop(0))  # type: ignore[arg-type]
            continue
        piece = None if step.cold else spans.next_piece(first, step.left)
        if piece is None:
            spans.put_in_place(segments, spans.read_cold(first))
            continue
        count = max(1, len(piece) * step.takes // 1000)
        taken = bytes(piece[:count])
        spans.took(segments, first, count, len(piece), piece)
        yield taken


STEPS = st.lists(
    st.builds(Step, st.integers(1, 2 * PIECE_BYTES_MAX), st.integers(0, 1000), st.booleans(), st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, SIZE - 1), st.integers(1, SIZE), STEPS, st.booleans())
def test_a_part_arrives_whole_however_it_is_read_and_taken(
    start: int, length: int, steps: list[Step], hashed: bool
) -> None:
    stop = min(SIZE, start + length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(OLD)
        span = open_span(path, start, stop, hashed=hashed)
        turn = itertools.chain(steps, itertools.repeat(Step()))
        assert b"".join(turns(path, span, turn)) == OLD[start:stop]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8), STEPS, st.booleans())
def test_of_a_file_that_is_rewritten_only_the_old_version_is_sent(when: int, steps: list[Step], hashed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(OLD)
        got = b""
        turn = itertools.chain(steps, itertools.repeat(Step()))
        try:
            for number, piece in enumerate(turns(path, open_span(path, hashed=hashed), turn)):
                got += piece
                if number == when:
                    rewrite(path)
        except TornError:
            assert len(got) < SIZE
        else:
            assert len(got) == SIZE
        assert got == OLD[: len(got)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 2 * PIECE_BYTES_MAX)), max_size=20))
def test_a_piece_is_as_long_as_what_its_client_took_lets_expect(takes: list[tuple[int, int]]) -> None:
    span = nothing(0, MUCH)
    for share, offered in takes:
        segments: list[Segment] = [span]
        count = max(1, offered * share // 1000)
        spans.took(segments, span, count, offered)
        (behind,) = segments
        assert isinstance(behind, DiskSpan)
        assert (behind.offset, behind.length) == (span.offset + count, span.length - count)
        if count < offered:
            assert behind.ask == max(count, PIECE_BYTES_MIN)
        else:
            assert span.ask <= behind.ask <= max(span.ask, PIECE_BYTES_MAX)
        span = behind


@given(st.binary(min_size=1, max_size=50), st.integers(1, 50), st.integers(0, 2))
def test_what_was_read_stands_in_front_of_the_rest(content: bytes, count: int, before: int) -> None:
    span = nothing(7, len(content))
    piece = memoryview(content)[:count]
    there = spans.begun((*[b"head"] * before, span, b"tail"), span, piece)
    left = [one for one in there if isinstance(one, DiskSpan)]
    assert there[:before] == (b"head",) * before
    assert (there[before], there[-1]) == (piece, b"tail")
    assert [(one.offset, one.length) for one in left] == [(7 + count, len(content) - count)][: count < len(content)]


def test_a_file_that_was_cut_short_is_torn(path: Path) -> None:
    span = open_span(path, FIRST_PIECE_BYTES)
    os.truncate(path, FIRST_PIECE_BYTES)
    with pytest.raises(TornError):
        spans.next_piece(span, MUCH)
    with pytest.raises(TornError):
        spans.read_cold(span)


def test_of_another_version_nothing_is_read(path: Path) -> None:
    span = open_span(path)
    rewrite(path)
    with pytest.raises(TornError):
        spans.next_piece(span, MUCH)


@pytest.mark.parametrize("hashed", [True, False])
def test_what_ctime_alone_puts_in_doubt_is_for_a_thread_which_compares(path: Path, hashed: bool) -> None:
    """With the ETag, or with what was sent of a file that has none of its content."""
    segments: list[Segment] = [open_span(path, hashed=hashed)]
    spans.put_in_place(segments, spans.read_cold(segments[0]))  # type: ignore[arg-type]
    span: Any = segments[1]
    path.chmod(0o600)
    assert spans.next_piece(span, MUCH) is None
    assert spans.read_cold(span) == OLD[FIRST_PIECE_BYTES : 2 * FIRST_PIECE_BYTES]
    modified = path.stat().st_mtime_ns
    rewrite(path)
    os.utime(path, ns=(modified, modified))  # as `cp -p` and `touch -r` do
    with pytest.raises(TornError):
        spans.read_cold(span)


@pytest.fixture
def nowait(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The errors of reads that must not wait, the next one last; 0: only a part is in memory; none: all is."""
    errors: list[int] = []
    real = os.preadv

    def preadv(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if not errors or not flags & os.RWF_NOWAIT:
            return real(fd, buffers, offset)
        if errors[-1]:
            raise OSError(errors[-1], os.strerror(errors[-1]))
        return real(fd, buffers[:1], offset) // 2

    monkeypatch.setattr(os, "preadv", preadv)
    return errors


@pytest.mark.parametrize("kind", [DiskSpan, ForeignSpan])
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EIO])
def test_what_is_not_in_memory_is_not_at_hand(path: Path, nowait: list[int], kind: Any, number: int) -> None:
    span = open_span(path, kind=kind)
    assert spans.is_at_hand(span)
    nowait.append(number)
    assert not spans.is_at_hand(span)
    if kind is ForeignSpan:
        assert spans.next_length(span, MUCH) == 0
    elif number == errno.EIO:
        with pytest.raises(TornError):
            spans.next_piece(span, MUCH)
    else:
        assert spans.next_piece(span, MUCH) is None


def test_a_part_in_memory_is_a_copys_piece_and_nothing_to_sendfile(path: Path, nowait: list[int]) -> None:
    copied, foreign = open_span(path), open_span(path, kind=ForeignSpan)
    nowait.append(0)
    assert bytes(spans.next_piece(copied, MUCH) or b"") == OLD[: FIRST_PIECE_BYTES // 2]
    assert not spans.is_at_hand(foreign)


@pytest.mark.parametrize("forgets", [True, False])
def test_what_was_found_at_hand_is_sent_once_and_at_once(path: Path, nowait: list[int], forgets: bool) -> None:
    one, other = open_span(path), open_span(path, kind=ForeignSpan)
    for span in (one, other):
        assert spans.is_at_hand(span)
        nowait.append(errno.EAGAIN)  # it has left the page cache since
        if forgets:
            spans.forget()
        found = [spans.next_piece(one, MUCH), None] if span is one else [spans.next_length(other, MUCH), 0]
        there = OLD[:FIRST_PIECE_BYTES] if span is one else FIRST_PIECE_BYTES
        assert found[0] == (found[1] if forgets else there)
        assert (spans.next_piece(one, MUCH) if span is one else spans.next_length(other, MUCH)) == found[1]
        nowait.clear()


@pytest.mark.usefixtures("nowait")
@pytest.mark.parametrize(("left", "length"), [(1, FIRST_PIECE_BYTES), (200_000, 200_000), (MUCH, PIECE_BYTES_MAX // 2)])
def test_a_piece_fits_into_what_is_left_of_a_turn_and_is_never_tiny(path: Path, left: int, length: int) -> None:
    for kind in (DiskSpan, ForeignSpan):
        span = open_span(path, kind=kind)
        span.ask = PIECE_BYTES_MAX // 2
        if kind is DiskSpan:
            assert bytes(spans.next_piece(span, left) or b"") == OLD[:length]
        else:
            assert spans.next_length(span, left) == length


def test_which_segments_are_copied_and_which_must_be_at_hand(path: Path, nowait: list[int]) -> None:
    disk, foreign = open_span(path), open_span(path, kind=ForeignSpan)
    small, large = Span(3, 0, SMALL_BYTES), Span(3, 0, SMALL_BYTES + 1)
    assert [spans.are_copied((b"head", one)) for one in (b"text", small, large, disk)] == [True, True, False, False]
    assert [spans.first_span((b"head", small, *one), None) for one in ((disk, foreign), ())] == [disk, None]
    in_place = InPlace(b"head", disk.file, SIZE)
    bodies: list[Body] = [OnDisk(b"head", disk.file, SIZE), in_place, Fleeting(b"head", b"text")]
    assert [spans.first_span((disk,), body) for body in bodies] == [disk, disk, None]
    assert [spans.is_ready(body) for body in bodies] == [True, True, True]
    nowait.append(errno.EAGAIN)
    assert [spans.is_ready(body) for body in bodies] == [False, False, True]


def test_a_span_that_is_copied_is_whole_or_torn(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    assert spans.copy(Span(fd, SIZE - 10, 10)) == OLD[-10:]
    with pytest.raises(TornError):
        spans.copy(Span(fd, SIZE - 10, 11))
    os.close(fd)


def test_of_a_span_of_ours_a_part_that_was_taken_leaves_the_bodys_own_as_it_is() -> None:
    whole = Span(3, 100, 50)
    segments: list[Segment] = [whole, b"behind"]
    spans.took(segments, whole, 20, 50)
    (rest, _) = segments
    assert isinstance(rest, Span)
    assert (rest.offset, rest.length, whole.offset, whole.length) == (120, 30, 100, 50)
    spans.took(segments, rest, 30, 30)
    assert segments == [b"behind"]

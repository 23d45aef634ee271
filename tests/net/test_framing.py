"""zcserve.net.framing: answers and pieces of streams in, segments out."""

from __future__ import annotations

import pytest

from zcserve.cache.entry import Span
from zcserve.net.exchange import Answer, Piece
from zcserve.net.framing import CutShortError, Outgoing, frame


class Endless:
    """A stream that is not asked in these tests."""

    closed = 0

    def pull(self, give: object) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed += 1


def sent(outgoing: Outgoing, *pieces: Piece) -> bytes:
    data = b""
    for piece in pieces:
        for segment in outgoing.frame(piece):
            assert isinstance(segment, (bytes, memoryview))
            data += segment
    return data


@pytest.mark.parametrize(
    ("length", "chunked", "pieces", "framed"),
    [
        (None, True, [b"a", b"bcd" * 10, b""], b"1\r\na\r\n1e\r\n" + b"bcd" * 10 + b"\r\n0\r\n\r\n"),
        (None, True, [memoryview(b"xyz"), b""], b"3\r\nxyz\r\n0\r\n\r\n"),
        (None, True, [b""], b"0\r\n\r\n"),
        (None, False, [b"a", b"b", b""], b"ab"),
        (3, False, [b"a", b"bc"], b"abc"),
        (3, False, [b"a", b"bcdef"], b"abc"),
        (0, False, [b""], b""),
    ],
)
def test_pieces_are_framed(length: int | None, chunked: bool, pieces: list[Piece], framed: bytes) -> None:
    outgoing = Outgoing(Endless(), 200, length, chunked=chunked)
    assert sent(outgoing, *pieces[:-1]) + sent(outgoing, pieces[-1]) == framed
    assert outgoing.ended
    assert outgoing.last == (length is None and not chunked)


def test_content_is_counted_without_its_framing() -> None:
    outgoing = Outgoing(Endless(), 200, None, chunked=True)
    sent(outgoing, b"abc", b"de", b"")
    assert outgoing.sent == 5


def test_an_end_before_the_promised_length_is_cut_short() -> None:
    outgoing = Outgoing(Endless(), 200, 3, chunked=False)
    sent(outgoing, b"a")
    with pytest.raises(CutShortError):
        outgoing.frame(b"")


def test_a_piece_of_a_file_is_cut_to_the_promised_length() -> None:
    (piece,) = Outgoing(Endless(), 200, 10, chunked=False).frame(Span(7, 100, 50))
    assert isinstance(piece, Span)
    assert (piece.fd, piece.offset, piece.length) == (7, 100, 10)


def test_a_piece_of_a_file_is_a_chunk() -> None:
    start, piece, end = Outgoing(Endless(), 200, None, chunked=True).frame(Span(7, 0, 16))
    assert (start, end) == (b"10\r\n", b"\r\n")
    assert isinstance(piece, Span)


def test_an_answer_knows_the_length_of_its_bytes_and_closes_a_stream_that_is_not_sent() -> None:
    assert Answer(200, b"", b"abc").length == 3
    assert Answer(200, b"", b"").length == 0
    stream = Endless()
    Answer(200, b"", stream).discard()
    Answer(200, b"", b"abc").discard()
    assert stream.closed == 1


@pytest.mark.parametrize(
    ("status", "has_content", "content", "length", "line", "follows"),
    [
        (200, True, b"abc", None, b"Content-Length: 3\r\n", b"abc"),
        (200, False, b"abc", None, b"Content-Length: 3\r\n", b""),
        (200, True, (b"ab", b"c"), 3, b"Content-Length: 3\r\n", b"abc"),
        (200, True, b"", None, b"Content-Length: 0\r\n", b""),
        (204, True, b"abc", None, b"", b""),
        (304, True, b"abc", None, b"", b""),
    ],
)
@pytest.mark.parametrize("chunks", [False, True])
def test_content_that_is_there_is_told_by_its_length(
    status: int,
    has_content: bool,
    content: bytes | tuple[bytes, ...],
    length: int | None,
    line: bytes,
    follows: bytes,
    chunks: bool,
) -> None:
    answer = Answer(status, b"A: b\r\n", content) if length is None else Answer(status, b"A: b\r\n", content, length)
    made, outgoing = frame(answer, has_content=has_content, chunks=chunks)
    assert outgoing is None
    assert (made.status, made.length) == (status, len(follows))
    assert b"".join(bytes(one) for one in made.segments) == line + b"A: b\r\n\r\n" + follows  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("length", "chunks", "line", "last"),
    [
        (None, True, b"Transfer-Encoding: chunked\r\n", False),
        (None, False, b"", True),
        (7, True, b"Content-Length: 7\r\n", False),
        (7, False, b"Content-Length: 7\r\n", False),
    ],
)
def test_a_stream_is_framed_as_the_client_can_understand(
    length: int | None, chunks: bool, line: bytes, last: bool
) -> None:
    made, outgoing = frame(Answer(200, b"", Endless(), length), has_content=True, chunks=chunks)
    assert made.segments == (line + b"\r\n",)
    assert outgoing is not None
    assert outgoing.last is last


@pytest.mark.parametrize(
    ("status", "has_content", "line"),
    [(200, False, b"Transfer-Encoding: chunked\r\n"), (204, True, b""), (304, True, b"")],
)
def test_a_stream_that_is_not_sent_is_closed(status: int, has_content: bool, line: bytes) -> None:
    stream = Endless()
    made, outgoing = frame(Answer(status, b"", stream), has_content=has_content, chunks=True)
    assert (made.segments, made.length, outgoing, stream.closed) == ((line + b"\r\n",), 0, None, 1)

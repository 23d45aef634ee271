"""Framing of streams: pieces in, segments out."""

from __future__ import annotations

import pytest

from zcserve.cache.entry import Span
from zcserve.net.exchange import Answer, CutShortError, Outgoing, Piece


class Endless:
    """A stream that is not asked in these tests."""

    closed = 0

    def pull(self, give: object) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed += 1


def sent(outgoing: Outgoing, *pieces: Piece) -> bytes:
    return b"".join(bytes(segment) for piece in pieces for segment in outgoing.frame(piece))


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


def test_an_answer_knows_the_length_of_its_bytes_and_closes_a_stream_that_nobody_sends() -> None:
    assert Answer(200, b"", b"abc").length == 3
    assert Answer(200, b"", b"").length == 0
    stream = Endless()
    Answer(200, b"", stream).discard()
    Answer(200, b"", b"abc").discard()
    assert stream.closed == 1

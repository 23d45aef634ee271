"""zcserve.net.framing: replies and pieces of streams in, segments out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.support.memory import body_of
from zcserve.cache.entry import Segment, Span
from zcserve.cache.heads import ALL, BUT_LENGTH, BUT_TYPE
from zcserve.net.framing import CutShortError, Outgoing, frame
from zcserve.site.reply import Piece, Reply


class Endless:
    """A stream that is not asked in these tests."""

    closed = 0

    def pull(self, give: object) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed += 1


FIELDS = ((b"A", b"b"), (b"C", b"d"))


def joined(segments: Iterable[Segment]) -> bytes:
    return b"".join(bytes(one) for one in segments)  # type: ignore[arg-type]


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
    assert Reply(200, (), b"abc").length == 3
    assert Reply(200, (), b"").length == 0
    stream = Endless()
    Reply(200, (), stream).discard()
    Reply(200, (), b"abc").discard()
    assert stream.closed == 1


def test_a_reply_that_is_sent_again_is_written_once() -> None:
    made = Reply(404, FIELDS, b"abc")
    first, again = frame(made, b"GET", b"HTTP/1.1"), frame(made, b"GET", b"HTTP/1.0")
    assert first == again
    assert first[0][0] is again[0][0]
    assert frame(made, b"HEAD", b"HTTP/1.1") == (first[0][:1], 0, None)
    assert joined(frame(made.dressed(404, ((b"E", b"f"),)), b"GET", b"HTTP/1.1")[0]) == b"E: f\r\n" + joined(first[0])


@pytest.mark.parametrize(
    ("status", "method", "content", "length", "line", "follows"),
    [
        (200, b"GET", b"abc", None, b"Content-Length: 3\r\n", b"abc"),
        (200, b"HEAD", b"abc", None, b"Content-Length: 3\r\n", b""),
        (200, b"POST", (b"ab", b"c"), 3, b"Content-Length: 3\r\n", b"abc"),
        (200, b"HEAD", (), 3, b"Content-Length: 3\r\n", b""),
        (200, b"HEAD", (), None, b"", b""),
        (200, b"GET", b"", None, b"Content-Length: 0\r\n", b""),
        (204, b"GET", b"abc", None, b"", b""),
        (205, b"GET", b"abc", None, b"Content-Length: 0\r\n", b""),
        (304, b"GET", b"abc", None, b"", b""),
    ],
)
@pytest.mark.parametrize("chunks", [False, True])
def test_content_that_is_there_is_told_by_its_length(
    status: int,
    method: bytes,
    content: bytes | tuple[bytes, ...],
    length: int | None,
    line: bytes,
    follows: bytes,
    chunks: bool,
) -> None:
    segments, sent_bytes, outgoing = frame(
        Reply(status, FIELDS, content, length), method, b"HTTP/1.1" if chunks else b"HTTP/1.0"
    )
    assert (sent_bytes, outgoing) == (len(follows), None)
    assert joined(segments) == line + b"A: b\r\nC: d\r\n\r\n" + follows


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
    segments, _, outgoing = frame(Reply(200, FIELDS, Endless(), length), b"GET", b"HTTP/1.1" if chunks else b"HTTP/1.0")
    assert joined(segments) == line + b"A: b\r\nC: d\r\n\r\n"
    assert outgoing is not None
    assert outgoing.last is last


@pytest.mark.parametrize(
    ("status", "method", "line"),
    [(200, b"HEAD", b"Transfer-Encoding: chunked\r\n"), (204, b"GET", b""), (304, b"GET", b"")],
)
def test_a_stream_that_is_not_sent_is_closed(status: int, method: bytes, line: bytes) -> None:
    stream = Endless()
    framed = frame(Reply(status, (), stream), method, b"HTTP/1.1")
    assert (framed, stream.closed) == (((line + b"\r\n",), 0, None), 1)


@pytest.mark.parametrize(
    ("part", "length", "lines"),
    [
        (ALL, 100, [b"Content-Length: 100", b"Content-Type: text/plain; charset=utf-8"]),
        (BUT_LENGTH, 7, [b"Content-Length: 7", b"A: b", b"C: d", b"Content-Type: text/plain; charset=utf-8"]),
        (BUT_TYPE, 7, [b"Content-Length: 7", b"A: b", b"C: d", b"Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT"]),
    ],
)
def test_fields_that_were_made_at_load_stand_behind_those_of_the_reply(
    part: int, length: int, lines: list[bytes]
) -> None:
    body = body_of(b"x" * 100)
    segments, _, _ = frame(Reply(200, FIELDS, b"x" * length, body=body, part=part), b"HEAD", b"HTTP/1.1")
    head = joined(segments)
    assert head.split(b"\r\n")[: len(lines)] == lines
    assert head.endswith(b'\r\nETag: "tag"\r\n\r\n')

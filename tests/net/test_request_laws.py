"""Laws of the parser: however bytes are cut into pieces, the answer is the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.net.fields import CHUNKED, Fields
from zcserve.net.received import Discard
from zcserve.net.request import Parser

pytest.importorskip("hypothesis")
from hypothesis import example, given
from hypothesis import strategies as st

# Small limits, so that short inputs pass them.
CONFIG = Config(root=Path(), head_bytes_max=160, target_bytes_max=30, head_fields_max=6, body_bytes_max=40)

METHODS = st.sampled_from([b"GET", b"HEAD", b"OPTIONS", b"POST", b"BREW", b"get", b"LONG" * 6, b"LONGER" * 28])
TARGETS = st.sampled_from([b"/", b"/a?b", b"*", b"http://a/b", b"/%zz", b"/" + b"x" * 40, b"/\xff"])
VERSIONS = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.7", b"HTTP/2.0", b"HTTP/1.", b""]
)
HOSTS = st.sampled_from([b"Host: a", b"Host: a", b"Host: a", b"host:a:80", b"Host: a b", b"X: y"])
LINES = st.sampled_from(
    [
        b"Connection: close",
        b"Content-Length: 3",
        b"Content-Length: 41",
        b"Content-Length: 03",
        b"Content-Length: 3, 3",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: ,chunked",
        b"Expect: 100-continue",
        b"Expect: x",
        b"Range: bytes=0-1",
        b'If-None-Match: "x"',
        b"Accept-Encoding: gzip, *;q=0",
        b"Cookie: a=b",
        b"X:",
        b"X: " + b"y" * 100,
        b" folded",
        b"no colon",
        b"X : y",
        b"X: \x00",
    ]
)
BODIES = st.sampled_from(
    [
        b"abc",
        b"",
        b"0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b'2;a="b"\r\nab\r\n0\r\nT: x\r\n\r\n',
        b"29\r\n",
        b"3\r\nabcd\r\n",
        b"0\r\nbad\r\n\r\n",
        b"g\r\n",
    ]
)
ENDS = st.sampled_from([b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n", b"\r\r\n\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, mostly good, sometimes with faults."""
    first = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    lines = [first, draw(HOSTS), *draw(st.lists(LINES, max_size=5))]
    return draw(st.sampled_from([b"", b"", b"\r\n"])) + b"\r\n".join(lines) + draw(ENDS) + draw(BODIES)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Pipelined requests, perhaps with a few bytes changed, inserted or taken out."""
    data = bytearray(b"".join(draw(st.lists(requests(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"\r", b"\n", b" ", b":", b"\x00", b"0", b"\r\n"])
        )
    return bytes(data)


def meaning(fields: Fields) -> tuple[Any, ...]:
    return tuple(getattr(fields, name) for name in Fields.__slots__)


def answers(pieces: list[bytes]) -> list[Any]:
    """What the parser makes of a stream, each piece parsed as soon as it comes, as a connection does it."""
    parser = Parser(CONFIG)
    told: list[Any] = []
    inbox = b""
    discard: Discard | None = None
    try:
        for piece in pieces:
            inbox += piece
            at = 0
            while at < len(inbox) or (discard is not None and discard.done):
                if discard is not None:
                    at = discard.feed(inbox, at, len(inbox))
                    if not discard.done:
                        break
                    discard = None
                    told.append("body")
                    continue
                parsed = parser.parse(inbox, at)
                if parsed is None:
                    break
                method, target, fields, at = parsed
                told.append((method, target, meaning(fields)))
                if fields.body:
                    discard = Discard(fields.body, CONFIG.body_bytes_max, CONFIG.head_bytes_max)
            inbox = inbox[at:]
    except HttpError as error:
        told.append(error.status)
    return told


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


@given(streams(), st.lists(st.integers(0, 10_000), max_size=6))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200, [171])
@example(b"GET / HTTP/1.1\r\nX: " + b"y" * 138 + b"\r\n\r\n", [161])
@example(b"GET /" + b"x" * 40 + b" HTTP/1.1\r\nHost: a\r\n\x00\r\n\r\n", [60])
@example(b"\r\n" * 100, [80])
def test_every_cut_into_pieces_gives_the_same_answers(data: bytes, cuts: list[int]) -> None:
    assert answers(pieces_of(data, cuts)) == answers([data])


@given(streams())
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 133 + b"\x00\r\n\r\n")  # a fault just behind the limit
def test_byte_by_byte_gives_the_same_answers(data: bytes) -> None:
    assert answers([data[at : at + 1] for at in range(len(data))]) == answers([data])


@st.composite
def sequences(draw: st.DrawFn) -> list[bytes]:
    """Heads that one parser sees, each made of parts of those before it: whole lines, names alone, cut values."""
    heads = draw(st.lists(streams(), min_size=1, max_size=3))
    for _ in range(draw(st.integers(1, 3))):
        lines = b"\r\n".join(heads).split(b"\r\n")
        first = draw(st.sampled_from([b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"GET / HTTP/1.7", lines[0]]))
        host = draw(st.sampled_from([[], [b"Host: a"], [b"Host: a"]]))
        parts = st.sampled_from(lines).flatmap(
            lambda line: st.sampled_from(
                [line, *[line.partition(b":")[0]] * 3, line.swapcase(), line[:-1], line + b" x"]
            )
        )
        heads.append(b"\r\n".join([first, *host, *draw(st.lists(parts, max_size=4)), b"", b""]))
    return heads


@given(sequences())
@example([b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n"])
@example([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n"])
def test_a_fresh_parser_and_a_used_one_answer_alike(heads: list[bytes]) -> None:
    used = Parser(CONFIG)
    for data in [*heads, *reversed(heads)]:
        assert _first(used, data) == _first(Parser(CONFIG), data)


def _first(parser: Parser, data: bytes) -> Any:
    try:
        parsed = parser.parse(data, 0)
    except HttpError as error:
        return error.status, error.close, str(error)
    return parsed and (*parsed[:2], meaning(parsed[2]), parsed[3])


CHUNKY = st.lists(
    st.sampled_from(
        [
            b"0",
            b"3",
            b"a",
            b"28",
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\r",
            b"\n",
            b"abc",
            b";x",
            b'="y"',
            b";",
            b"T: x",
            b" ",
            b":",
        ]
    ),
    max_size=14,
).map(b"".join)


def fed(pieces: list[bytes], lines_max: int = 10_000) -> tuple[Any, ...]:
    """What becomes of a chunked body, of which so many lines are taken at a time: done or not or a status, and how many
    bytes belonged to it."""
    discard = Discard(CHUNKED, 40, 60)
    inbox, taken = b"", 0
    try:
        for piece in pieces:
            inbox += piece
            while True:
                before = discard.lines
                at = discard.feed(inbox, 0, lines_max)
                taken, inbox = taken + at, inbox[at:]
                assert discard.lines - before <= lines_max
                if not discard.rests:
                    break
    except HttpError as error:
        return (error.status,)
    return (True, taken) if discard.done else (False,)


@given(CHUNKY | st.builds(lambda good, rest: good + rest, BODIES, CHUNKY), st.lists(st.integers(0, 10_000), max_size=5))
def test_a_chunked_body_may_be_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    whole = fed([data])
    assert fed(pieces_of(data, cuts)) == whole
    assert fed([data], 1) == fed(pieces_of(data, cuts), 2) == whole
    assert fed([data[at : at + 1] for at in range(len(data))]) == whole


@given(st.binary(max_size=60))
def test_any_bytes_at_all_are_answered_or_refused(data: bytes) -> None:
    assert _first(Parser(CONFIG), data) is None or isinstance(_first(Parser(CONFIG), data), tuple)

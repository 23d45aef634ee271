"""zcserve.net.received: what a body is, and where it ends."""

from __future__ import annotations

import pytest

from zcserve.errors import HttpError
from zcserve.net.fields import CHUNKED
from zcserve.net.received import Discard


@pytest.mark.parametrize(
    ("length", "body"),
    [
        (0, b""),
        (5, b"hello"),
        (CHUNKED, b"0\r\n\r\n"),
        (CHUNKED, b"5\r\nhello\r\n0;last\r\nTrailer: x\r\n\r\n"),
        (CHUNKED, b'000A ; a = "b;\\"c" \r\n'.replace(b" \r\n", b"\r\n") + b"0123456789\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("behind", [b"", b"GET /"])
def test_a_body_ends_where_its_framing_says(length: int, body: bytes, behind: bytes) -> None:
    discard = Discard(length, 100, 100)
    assert discard.feed(b"xx" + body + behind, 2, 10) == 2 + len(body)
    assert discard.done


@pytest.mark.parametrize(
    ("length", "body", "status"),
    [
        (101, b"", 413),
        (CHUNKED, b"65\r\n", 413),
        (CHUNKED, b"5\r\nhello\r\n60\r\n", 413),
        (CHUNKED, b"5\r\nhellooo", 400),
        (CHUNKED, b"0\r\n" + b"A: b\r\n" * 17, 400),
        (CHUNKED, b"0\r\n" + b"A" * 101, 400),
    ],
)
def test_a_body_is_bounded(length: int, body: bytes, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        Discard(length, 100, 100).feed(body, 0, 100)
    assert (caught.value.status, caught.value.close) == (status, True)

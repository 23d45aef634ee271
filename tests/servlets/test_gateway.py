"""zcserve.servlets.gateway: the content of a mounted application is held to what it promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.connection_side import Side
from zcserve.servlets.gateway import LeftOut, Promised, promise


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path)


def promised(side: Side, *pairs: tuple[str, str], status: int = 200, method: str = "GET") -> Promised:
    return promise(side.exchange(method=method).exchange, status, pairs, LeftOut("it"))


def test_content_of_the_promised_length_may_come_in_any_pieces(side: Side) -> None:
    it = promised(side, ("Content-Length", "5"))
    it.take(2)
    it.take(0)
    it.take(3)
    it.take(0, last=True)
    assert (it.length, it.left) == (5, 0)


def test_too_much_is_an_error_and_is_not_counted(side: Side) -> None:
    it = promised(side, ("Content-Length", "5"))
    it.take(4)
    with pytest.raises(ValueError, match="more content than the Content-Length says"):
        it.take(2)
    it.take(1, last=True)
    assert it.left == 0


def test_too_little_is_an_error_when_the_last_piece_has_come(side: Side) -> None:
    it = promised(side, ("Content-Length", "5"))
    it.take(2)
    with pytest.raises(ValueError, match="2 bytes less than the Content-Length says"):
        it.take(1, last=True)


def test_without_a_length_nothing_is_counted(side: Side) -> None:
    it = promised(side)
    it.take(1 << 40, last=True)
    assert it.left is None


@pytest.mark.parametrize(
    ("method", "status", "has_content"),
    [("GET", 200, True), ("HEAD", 200, False), ("GET", 204, False), ("GET", 205, False), ("GET", 304, False)],
)
def test_whether_content_is_sent_is_known_when_it_is_promised(
    side: Side, method: str, status: int, has_content: bool
) -> None:
    assert promised(side, status=status, method=method).has_content is has_content


@pytest.mark.parametrize(("length", "size", "told"), [(None, 0, None), (None, 3, 3), ("7", 0, 7), ("7", 3, 7)])
def test_a_head_tells_the_length_that_was_promised_or_is_seen(
    side: Side, length: str | None, size: int, told: int | None
) -> None:
    pairs = [("Content-Length", length)] if length is not None else []
    reply = promised(side, *pairs, method="HEAD").without_content(size)
    assert (reply.content, reply.length) == ((), told)

"""zcserve.net.stay: how long a connection is kept that the front handed over. With a connection: test_connection.py."""

from __future__ import annotations

from itertools import pairwise

import pytest

from zcserve.net.stay import KEPT, PLAIN_MAX, Stay


def asked(stay: Stay, plain: int = 0) -> int:
    """How often it must be asked before it is over."""
    return next(count for count in range(1, 1000) if stay.is_over(plain))


@pytest.mark.parametrize(
    ("in_vain", "kept"), [(1, KEPT[0]), (2, KEPT[1]), (len(KEPT), KEPT[-1]), (len(KEPT) + 1, KEPT[-1]), (255, KEPT[-1])]
)
def test_the_more_often_in_vain_the_longer(in_vain: int, kept: int) -> None:
    assert asked(Stay(in_vain)) == kept


def test_a_front_that_does_not_count_gives_no_stay() -> None:
    assert asked(Stay(0)) == KEPT[0] == 1


def test_each_time_is_longer_than_the_one_before() -> None:
    assert all(longer > shorter for shorter, longer in pairwise(KEPT))


def test_plain_requests_in_a_row_end_it_at_once_and_fewer_do_not() -> None:
    assert asked(Stay(len(KEPT)), plain=PLAIN_MAX) == 1
    assert asked(Stay(len(KEPT)), plain=PLAIN_MAX - 1) == KEPT[-1]


def test_what_is_over_stays_over() -> None:
    stay = Stay(2)
    asked(stay)
    assert [stay.is_over(0) for _ in range(3)] == [True] * 3

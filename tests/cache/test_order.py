"""Sorting in pieces comes to what sorting does."""

from __future__ import annotations

import random

import pytest

from zcserve.cache import order
from zcserve.cache.order import in_order


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 137])
def test_it_is_sorted_in_pieces_as_at_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "SORTED_AT_ONCE", 10)
    chance = random.Random(count)
    things = [(chance.randrange(20), number) for number in range(count)]
    chance.shuffle(things)
    assert list(in_order(things)) == sorted(things)
    assert list(in_order(things, key=lambda thing: thing[0])) == sorted(things, key=lambda thing: thing[0])

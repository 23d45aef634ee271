"""What was given up, and when it is tried again."""

from __future__ import annotations

import math

from tests.support.fleet import numbered
from zcserve.fleet.backoff import refused_wait_s
from zcserve.fleet.refusals import Refusals

ONE, TWO = numbered(1), numbered(2)


def test_what_was_refused_is_not_tried_before_a_wait_that_is_longer_each_time() -> None:
    refusals = Refusals("n1")
    assert (refusals.holds(ONE, 0.0), refusals.last(0.0), refusals.due(0.0)) == (False, None, None)
    waits = []
    now = 100.0
    for tries in (1, 2):
        refusals.add(ONE, f"wrong {tries}", now)
        due = refusals.due(now)
        assert due == now + refused_wait_s(tries, f"n1 {ONE.manifest}")
        assert refusals.holds(ONE, due - 0.1)
        assert not refusals.holds(ONE, due)
        assert (refusals.last(due), refusals.due(due)) == (None, None)
        waits.append(due - now)
        now = due
    found = refusals.of(ONE)
    assert found is not None
    assert (found.why, found.tries) == ("wrong 2", 2)
    assert waits[0] < waits[1] * 1.5


def test_what_cannot_become_right_is_never_tried_and_all_is_once_something_else_is_desired() -> None:
    refusals = Refusals("n1")
    refusals.add(TWO, "wrong", 0.0)
    refusals.add(ONE, "too old")
    assert refusals.holds(ONE, 1e12)
    last = refusals.last(1.0)
    assert last is not None
    assert (last.release, last.due) == (ONE, math.inf)
    assert refusals.due(1.0) == refused_wait_s(1, f"n1 {TWO.manifest}")
    refusals.clear()
    assert not refusals.holds(ONE, 0.0)

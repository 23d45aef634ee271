"""Laws of zcserve.auth.attempts: it says what a plain list of all wrong passwords says."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from zcserve.auth.attempts import Attempts, Question

WITHIN_S = 10
STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.integers(0, 7)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 4))
def test_a_client_waits_as_long_as_so_many_different_ones_are_young(
    steps: list[tuple[str, int, int]], most: int
) -> None:
    now = 0.0
    attempts = Attempts(most, WITHIN_S, lambda: now)
    told: dict[tuple[str, int], float] = {}
    for client, number, pause in steps:
        question = Question("hash", is_known=True, digest=b"%d" % number)
        attempts.add(client, question)
        told[client, number] = now
        now += pause
        for one in "ab":
            young = sorted(at for (whose, _), at in told.items() if whose == one and at > now - WITHIN_S)
            wait_s = young[-most] + WITHIN_S - now if len(young) >= most else 0.0
            assert attempts.wait_s(one) == wait_s
            for other in range(7):
                known = Question("hash", is_known=True, digest=b"%d" % other)
                assert attempts.was_wrong(one, known) == (told.get((one, other), -99.0) > now - WITHIN_S)

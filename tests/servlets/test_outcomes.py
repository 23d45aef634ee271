"""Outcomes: each call is counted once, whichever thread it ends in."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from zcserve.servlets.outcomes import Call, Outcomes

CALLS = 5000


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_call_that_ends_twice_is_one_and_what_it_took_is_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    outcomes = Outcomes()
    call, other = Call(outcomes), Call(outcomes)
    now = 7.0
    call.end()
    call.end()
    now = 9.0
    other.end()
    found = outcomes.look()
    assert (found.times, found.sum_s) == (2, 6.0)
    assert outcomes.errors == 0


@pytest.mark.usefixtures("hasty")
def test_no_call_and_no_error_of_several_threads_is_lost() -> None:
    outcomes = Outcomes()

    def work() -> None:
        for _ in range(CALLS):
            Call(outcomes).end()
            outcomes.note_error()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.look().times, outcomes.errors) == (4 * CALLS, 4 * CALLS)

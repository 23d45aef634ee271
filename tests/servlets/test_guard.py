"""A servlet that holds the loop is named once, with its stack; one that does not, is not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.waiting import WaitUntil
from zcserve.net.front import Front
from zcserve.servlets.guard import LoopGuard

SLOW_S = 0.05


@pytest.fixture
def guard(caplog: pytest.LogCaptureFixture) -> Iterator[LoopGuard]:
    caplog.set_level(logging.WARNING)
    guard = LoopGuard(SLOW_S, Front())
    guard.begin()
    yield guard
    guard.close()


def hold(until: threading.Event) -> bool:
    return until.wait(20)


def test_a_servlet_that_holds_the_loop_is_named_once_with_where_it_is(
    guard: LoopGuard, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "has held the loop" in record.getMessage()]

    until = threading.Event()
    teller = threading.Thread(target=lambda: (wait_until(told), until.set()))
    teller.start()
    guard.guard("servlets/slow.py:3", lambda: hold(until))
    teller.join()
    wait_until(lambda: "let go of the loop" in caplog.text)
    (message,) = told()
    assert message.startswith("servlets/slow.py:3 ")
    assert "until.wait(20)" in message
    assert "in guard" not in message, "the server's own frames say nothing"


class Clock:
    """What a guard takes for time: it moves by hand, and waits for the guard to look at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = threading.Semaphore(0)

    def monotonic(self) -> float:
        self.looks.release()
        return self.now

    def move(self, seconds: float) -> None:
        """The guard looks at least once before more time passes."""
        self.now += seconds
        while self.looks.acquire(blocking=False):
            """A look at the time before."""
        assert self.looks.acquire(timeout=20)


def test_many_short_runs_are_no_long_one(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("zcserve.servlets.guard.time", clock)
    with closing(LoopGuard(SLOW_S, Front())) as guard:
        guard.begin()
        for _ in range(20):
            guard.guard("servlets/quick.py:1", lambda: clock.move(SLOW_S / 10))
        assert not caplog.records
        guard.guard("servlets/slow.py:3", lambda: [clock.move(SLOW_S / 10) for _ in range(12)])
    assert "servlets/slow.py:3 has held the loop" in caplog.text


def test_what_a_step_returns_and_raises_comes_through(guard: LoopGuard) -> None:
    assert guard.guard("x", lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        guard.guard("x", lambda: 1 / 0)


def test_a_guard_that_never_began_can_be_closed() -> None:
    LoopGuard(1.0, Front()).close()

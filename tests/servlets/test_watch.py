"""Who holds the loop is named once, with its stack; who does not, is not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.waiting import WaitUntil
from zcserve.servlets.watch import Watch

SLOW_S = 0.05


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    caplog.set_level(logging.WARNING)
    watch = Watch(SLOW_S)
    watch.begin()
    yield watch
    watch.close()


def hold(until: threading.Event) -> bool:
    return until.wait(20)


def test_who_holds_the_loop_is_named_once_with_where_it_is(
    watch: Watch, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "has held the loop" in record.getMessage()]

    until = threading.Event()
    teller = threading.Thread(target=lambda: (wait_until(told), until.set()))
    teller.start()
    watch.guard("servlets/slow.py:3", lambda: hold(until))
    teller.join()
    wait_until(lambda: "let go of the loop" in caplog.text)
    (message,) = told()
    assert message.startswith("servlets/slow.py:3 ")
    assert "until.wait(20)" in message
    assert "in guard" not in message, "the server's own frames say nothing"


class Clock:
    """What a watch takes for time: it moves by hand, and waits for the watch to look at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = threading.Semaphore(0)

    def monotonic(self) -> float:
        self.looks.release()
        return self.now

    def move(self, seconds: float) -> None:
        """The watch looks at least once before more time passes."""
        self.now += seconds
        while self.looks.acquire(blocking=False):
            """A look at the time before."""
        assert self.looks.acquire(timeout=20)


def test_many_short_runs_are_no_long_one(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("zcserve.servlets.watch.time", clock)
    with closing(Watch(SLOW_S)) as watch:
        watch.begin()
        for _ in range(20):
            watch.guard("servlets/quick.py:1", lambda: clock.move(SLOW_S / 10))
        assert not caplog.records
        watch.guard("servlets/slow.py:3", lambda: [clock.move(SLOW_S / 10) for _ in range(12)])
    assert "servlets/slow.py:3 has held the loop" in caplog.text


def test_what_a_step_returns_and_raises_comes_through(watch: Watch) -> None:
    assert watch.guard("x", lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        watch.guard("x", lambda: 1 / 0)


def test_a_watch_that_never_began_can_be_closed() -> None:
    Watch(1.0).close()

"""Applications' share of a turn: in which order steps that call them come, and when no more do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zcserve.net import calling
from zcserve.net.calling import CALLS_MAX, Calling


class Clock:
    """Seconds that a test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(calling, "time", made)
    return made


def call(step: Callable[[], object]) -> None:
    step()


def test_an_application_is_called_until_the_time_of_the_turn_is_over(clock: Clock) -> None:
    one = Calling()
    for _ in range(3):
        assert one.may_call(1)
        clock.now += 0.0008
        one.called()
    assert not one.may_call(1)
    one.left = calling.CALLING_S  # the next turn
    assert one.may_call(1)


def test_a_connection_has_fewer_calls_in_a_turn_where_they_take_long(clock: Clock) -> None:
    one = Calling()
    assert one.may_call(1)
    clock.now += 0.0002
    one.called()
    assert one.may_call(2)
    clock.now += 0.0002
    one.called()
    assert not one.may_call(3)
    assert one.may_call(1)  # another


def test_what_passes_between_two_connections_does_not_count(clock: Clock) -> None:
    one = Calling()
    for _ in range(3):
        clock.now += 1.0
        assert one.may_call(1)
        one.called()
    assert one.left == calling.CALLING_S


def test_a_connection_has_so_many_calls_in_a_turn(clock: Clock) -> None:
    one = Calling()
    assert one.may_call(CALLS_MAX)
    assert not one.may_call(CALLS_MAX + 1)


def test_those_that_wait_come_first_in_their_order_each_once_in_a_turn(clock: Clock) -> None:
    one = Calling()
    called: list[str] = []

    def step(name: str) -> None:
        assert one.may_call(1)
        called.append(name)
        clock.now += 0.0015
        one.called()
        one.later(steps[name])

    steps = {name: (lambda name=name: step(name)) for name in "abc"}
    for each in steps.values():
        one.later(each)
        one.later(each)
    assert not one.may_call(1)  # another one stands behind them
    for _ in range(3):
        one.left = calling.CALLING_S
        one.run(call)
    assert "".join(called) == "abcabc"
    one.left = 100.0
    one.run(call)
    assert "".join(called[6:]) == "abc"


def test_quiet_steps_come_first_and_leave_the_others_half_of_the_time(clock: Clock) -> None:
    one = Calling()
    called: list[str] = []

    def step(name: str) -> None:
        called.append(name)
        assert one.may_call(1)
        clock.now += calling.CALLING_S / 4
        one.called()

    for _ in range(6):
        one.later(lambda: step("waits"))
        one.later(lambda: step("quiet"), is_quiet=True)
    for _ in range(3):
        one.left = calling.CALLING_S
        one.run(call)
    assert called == [*["quiet"] * 2, *["waits"] * 2] * 3

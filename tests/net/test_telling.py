"""What comes in a flood is told at once, and then together."""

from __future__ import annotations

from zcserve.net.telling import TOLD_EVERY_S, Telling
from zcserve.net.timers import Timers


def test_the_first_is_told_at_once_and_what_follows_together_and_nothing_when_nothing_has_come() -> None:
    timers, told = Timers(), []
    now = 1000.0
    telling = Telling(timers, lambda: told.append(now))
    for _ in range(3):
        telling.note(now)
    assert told == [1000.0]
    now += TOLD_EVERY_S + 1
    timers.fire(now, lambda call: call())
    assert len(told) == 2
    now += 3 * TOLD_EVERY_S
    timers.fire(now, lambda call: call())
    assert len(told) == 2
    telling.note(now)  # after a pause it is the first again
    assert told[2:] == [now]


def test_what_is_not_told_when_the_loop_ends_is_told_then_and_only_once() -> None:
    timers, told = Timers(), []
    telling, other = Telling(timers, lambda: told.append("one")), Telling(timers, lambda: told.append("other"))
    telling.note(1000.0)
    other.note(1000.0)
    telling.note(1001.0)
    assert told == ["one", "other"]
    timers.ended()
    timers.ended()
    assert told == ["one", "other", "one"]

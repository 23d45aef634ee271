"""zcserve.net.timers: deadlines that move without telling."""

from __future__ import annotations

from math import inf

import pytest

from zcserve.net.timers import SLOTS_PER_S, Timers

SLOT_S = 1 / SLOTS_PER_S


class Deadline:
    """Something timed; `fired` counts."""

    def __init__(self, at: float) -> None:
        self.armed = inf
        self.at = at
        self.fired = 0

    def due(self) -> float:
        return self.at

    def expire(self) -> None:
        self.fired += 1


def armed(*ats: float) -> tuple[Timers, list[Deadline]]:
    timers = Timers()
    deadlines = [Deadline(at) for at in ats]
    for deadline in deadlines:
        timers.arm(deadline)
    return timers, deadlines


def test_without_deadlines_the_loop_waits_for_ever() -> None:
    assert Timers().timeout(5.0) == -1
    assert armed(inf)[0].timeout(5.0) == -1


def test_the_loop_waits_for_the_first_deadline_and_not_much_longer() -> None:
    timers, _ = armed(30.0, 10.0, 20.0)
    assert 5.0 <= timers.timeout(5.0) <= 5.0 + SLOT_S
    assert timers.timeout(11.0) == 0.0


@pytest.mark.parametrize("at", [10.0, 10.01, 10.0624, 10.0625, 10.99])
def test_a_deadline_fires_once_never_early_and_at_most_a_slot_late(at: float) -> None:
    timers, (deadline,) = armed(at)
    timers.fire(at - 0.001)
    assert deadline.fired == 0
    timers.fire(at + SLOT_S)
    timers.fire(at + 100)
    assert deadline.fired == 1
    assert timers.timeout(at) == -1


def test_waking_when_told_is_late_enough() -> None:
    timers, (deadline,) = armed(10.01)
    timers.fire(5.0 + timers.timeout(5.0))
    assert deadline.fired == 1


def test_a_deadline_that_moved_on_is_kept_for_later() -> None:
    timers, (deadline,) = armed(10.0)
    deadline.at = 20.0
    timers.fire(11.0)
    assert deadline.fired == 0
    timers.fire(20.0 + SLOT_S)
    assert deadline.fired == 1


def test_an_earlier_deadline_that_was_told_fires_in_time() -> None:
    timers, (deadline,) = armed(20.0)
    deadline.at = 10.0
    timers.arm(deadline)
    timers.fire(10.0 + SLOT_S)
    assert deadline.fired == 1
    timers.fire(20.0 + SLOT_S)
    assert deadline.fired == 1


def test_arming_twice_fires_once() -> None:
    timers, (deadline,) = armed(10.0)
    timers.arm(deadline)
    timers.fire(11.0)
    assert deadline.fired == 1


def test_a_deadline_that_became_none_is_forgotten() -> None:
    timers, (deadline,) = armed(10.0)
    deadline.at = inf
    timers.fire(11.0)
    assert (deadline.fired, deadline.armed, timers.timeout(11.0)) == (0, inf, -1)


def test_a_timer_that_is_disarmed_does_not_fire_and_is_not_kept() -> None:
    timers, (gone, stays) = armed(10.0, 10.0)
    timers.disarm(gone)
    timers.disarm(gone)
    timers.fire(11.0)
    assert (gone.fired, stays.fired) == (0, 1)


def test_what_expires_may_arm_anew() -> None:
    class Again(Deadline):
        def expire(self) -> None:
            super().expire()
            self.at += 10
            timers.arm(self)

    timers = Timers()
    deadline = Again(10.0)
    timers.arm(deadline)
    timers.fire(11.0)
    assert deadline.fired == 1
    timers.fire(20.0 + SLOT_S)
    assert deadline.fired == 2


@pytest.mark.parametrize("victim_at", [10.0, 10.5])
def test_what_expires_may_disarm_another_of_the_same_moment(victim_at: float) -> None:
    victims: list[Deadline] = []

    class Killer(Deadline):
        def expire(self) -> None:
            super().expire()
            for victim in victims:
                victim.at = inf  # closed
                timers.disarm(victim)

    timers = Timers()
    killers = [Killer(10.0), Killer(10.0)]
    victims.append(Deadline(victim_at))
    for deadline in (killers[0], *victims, killers[1]):
        timers.arm(deadline)
    timers.fire(11.0)
    assert [killer.fired for killer in killers] == [1, 1]
    assert timers.timeout(11.0) == -1

"""zcserve.events: the subscribers of an event, the order in which they are called, and their answers."""

from __future__ import annotations

from zcserve.events import Event, together


def test_every_subscriber_is_told_in_order_and_one_true_is_the_answer() -> None:
    told: list[tuple[str, int]] = []
    event: Event[int] = Event()
    assert event(1) is False
    event.subscribe(lambda number: told.append(("first", number)))
    event.subscribe(lambda number: number == 2)
    event.subscribe(lambda number: told.append(("last", number)))
    assert event(2) is True  # and the last one is told all the same
    assert event(3) is False
    assert told == [("first", 2), ("last", 2), ("first", 3), ("last", 3)]


def test_what_several_tell_is_told_once_all_have() -> None:
    told: list[str] = []
    hear = together([told.append, told.append], 3)
    hear("one failed")
    hear("")
    assert told == []
    hear("so did another")
    assert told == ["one failed; so did another"] * 2


def test_a_subscriber_that_comes_during_a_call_is_told_from_the_next_one_on() -> None:
    told: list[str] = []
    event: Event[()] = Event()

    def first() -> None:
        event.subscribe(lambda: told.append("late"))

    event.subscribe(first)
    event()
    assert told == []
    event()
    assert told == ["late"]

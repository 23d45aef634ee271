"""zcserve.agenda: the first of many times, and whose time has come."""

from __future__ import annotations

import random
import weakref
from math import inf

from zcserve.agenda import SPARE_MAX, Agenda


def test_the_first_time_is_at_hand_and_one_that_is_moved_counts_where_it_is_now() -> None:
    agenda: Agenda[str] = Agenda()
    assert agenda.first == inf
    agenda.set("a", 3.0)
    agenda.set("b", 2.0)
    assert agenda.first == 2.0
    agenda.set("b", 4.0)
    assert agenda.first == 3.0
    agenda.set("a", inf)
    agenda.set("nothing", inf)
    assert (agenda.first, agenda.take(3.9), agenda.take(4.0), agenda.first) == (4.0, [], ["b"], inf)


def test_a_time_that_is_set_again_after_it_was_taken_counts() -> None:
    agenda: Agenda[str] = Agenda()
    for _ in range(3):
        agenda.set("a", 1.0)
        assert agenda.take(1.0) == ["a"]
        assert agenda.take(1.0) == []


def test_it_is_what_a_plain_dict_would_say_whatever_is_moved() -> None:
    agenda: Agenda[int] = Agenda()
    plain: dict[int, float] = {}
    chance = random.Random(7)
    for _ in range(5000):
        owner, at = chance.randrange(30), chance.choice([inf, float(chance.randrange(50))])
        agenda.set(owner, at)
        plain[owner] = at
        assert agenda.first == min(plain.values())
        if chance.random() < 0.1:
            now = float(chance.randrange(50))
            due = [owner for owner, at in plain.items() if at <= now]
            taken = agenda.take(now)
            assert sorted(taken) == sorted(due)
            assert [plain[owner] for owner in taken] == sorted(plain[owner] for owner in taken)
            plain.update(dict.fromkeys(due, inf))


def test_what_is_moved_for_ever_takes_no_more_memory() -> None:
    agenda: Agenda[int] = Agenda()
    agenda.set(0, 0.0)  # stays at the top
    times = [agenda.set(1, float(number)) for number in range(1, 10 * SPARE_MAX)]
    assert agenda.take(inf) == [0, 1]
    assert len(times) > SPARE_MAX


def test_what_has_no_time_any_more_is_not_kept() -> None:
    class Owner:
        pass

    agenda: Agenda[Owner] = Agenda()
    first, second = Owner(), Owner()
    agenda.set(first, 1.0)
    agenda.set(second, 5.0)
    agenda.set(second, inf)
    gone = weakref.ref(second)
    del second
    assert gone() is None
    assert agenda.take(9.0) == [first]

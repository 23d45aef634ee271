"""SIEVE's hand, step by step. That it equals its published description is shown in test_policy_laws.py."""

from __future__ import annotations

from tests.support.policies import Cached, resident
from zcserve.cache.sieve import Sieve


def cached(keys: str, capacity: int | None = None) -> Cached:
    cache = Cached(Sieve(), capacity or len(keys))
    cache.run(keys)
    return cache


def test_what_was_never_hit_goes_in_the_order_of_arrival() -> None:
    cache = cached("abc")
    cache.run("def")
    assert cache.evicted == ["a", "b", "c"]


def test_one_example_by_hand() -> None:
    # A is the oldest, the hand stands there; A, B and G were hit. C goes for H, E (D was just hit) for I, F for J.
    cache = cached("ABCDEFG")
    cache.run("ABG")
    assert cache.run("HADIBJ") == [False, True, True, False, True, False]
    assert cache.evicted == ["C", "E", "F"]


def test_what_was_hit_is_passed_once_and_keeps_its_place() -> None:
    cache = cached("abc")
    cache.get("a")
    cache.run("de")
    assert cache.evicted == ["b", "c"]
    cache.run("fg")  # past d and e, the newest, back to the oldest
    assert cache.evicted == ["b", "c", "d", "e"]
    assert cache.holds("afg") == [True, True, True]


def test_the_hand_begins_anew_before_those_that_come_when_it_passed_the_newest() -> None:
    cache = cached("abc")
    cache.run("ab")
    cache.get("d")
    assert cache.evicted == ["c"]  # the newest: the hand is at the oldest again, a
    cache.get("e")
    assert cache.evicted == ["c", "a"]


def test_when_all_were_hit_the_oldest_goes() -> None:
    cache = cached("abc")
    cache.run("cba" * 5)
    cache.run("d")
    assert cache.evicted == ["a"]


def test_a_scan_passes_through_without_displacing_what_is_used() -> None:
    used = list("abcdefgh")
    cache = Cached(Sieve(), 10)
    cache.run(used)
    for number in range(1000):
        cache.get(number)
        if number % 2 == 0:
            cache.run(used)
    assert cache.holds(used) == [True] * 8
    assert set(cache.evicted) <= set(range(1000))


def test_what_is_being_sent_is_passed_over_and_stays_as_it_was() -> None:
    policy = Sieve()
    a, b, c = entries = [resident() for _ in range(3)]
    for entry in entries:
        policy.add(entry)
    a.uses = 1
    assert policy.pop(lambda entry: entry in (a, b)) is c
    assert policy.pop(lambda entry: True) is None
    assert len(policy) == 2
    assert policy.pop() is b  # a was hit, and its bit was not cleared while it was sent


def test_what_is_dropped_is_out_wherever_the_hand_stands() -> None:
    for gone in range(4):
        policy = Sieve()
        entries = [resident() for _ in range(4)]
        for entry in entries:
            policy.add(entry)
        entries[0].uses = 1
        assert policy.pop() is entries[1]
        policy.discard(entries[gone])
        policy.discard(entries[gone])
        left = [entry for entry in (entries[2], entries[3], entries[0]) if entry is not entries[gone]]
        assert set(policy.entries()) == set(left)
        assert [policy.pop() for _ in range(4)] == left + [None] * (4 - len(left))


def test_when_the_last_ahead_of_the_hand_is_dropped_it_begins_anew() -> None:
    policy = Sieve()
    a, b, c, d = (resident() for _ in range(4))
    for entry in (a, b, c):
        policy.add(entry)
    a.uses = 1
    assert policy.pop() is b
    policy.discard(c)
    policy.add(d)
    assert policy.pop() is a


def test_hits_from_before_it_was_evicted_are_forgotten() -> None:
    policy = Sieve()
    a, b = resident(), resident()
    a.uses = 17
    policy.add(a)
    policy.add(b)
    assert policy.pop() is a

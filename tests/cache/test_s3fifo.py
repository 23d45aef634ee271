"""S3-FIFO's queues, step by step. That it equals its published description is shown in test_policy_laws.py."""

from __future__ import annotations

import pytest

from tests.support.policies import Cached, resident
from zcserve.cache.heads import HEAD_BYTES
from zcserve.cache.s3fifo import S3Fifo


def test_what_was_never_hit_goes_in_the_order_of_arrival() -> None:
    cache = Cached(S3Fifo(), 3)
    cache.run("abcdef")
    assert cache.evicted == ["a", "b", "c"]


@pytest.mark.parametrize(("hits", "stays"), [(0, False), (1, False), (2, True), (50, True)])
def test_two_hits_take_a_newcomer_into_the_main_queue(hits: int, stays: bool) -> None:
    cache = Cached(S3Fifo(), 10)
    cache.run("a" * (1 + hits))
    cache.run(range(30))
    assert cache.holds("a") == [stays]


@pytest.mark.parametrize(("asked_after", "remembered"), [(10, True), (17, True), (18, False), (30, False)])
def test_what_is_asked_for_again_soon_after_is_let_into_the_main_queue(asked_after: int, remembered: bool) -> None:
    cache = Cached(S3Fifo(), 10)
    cache.get("a")
    cache.run(range(10))
    assert cache.evicted == ["a"]
    cache.run(range(10, asked_after))
    assert cache.get("a") is False  # one more goes for it: with it there are as many ghosts as `asked_after` - 8
    cache.run(range(100, 120))
    assert cache.holds("a") == [remembered]


@pytest.mark.parametrize("hits", [0, 1, 2, 3, 50])
def test_the_main_queue_goes_round_once_a_hit_and_at_most_three_times(hits: int) -> None:
    policy = S3Fifo()
    one, passing = resident(), resident()
    for entry in (one, passing):
        policy.add(entry)
    one.uses = 2
    assert policy.pop() is passing  # one is in the main queue, and its hits are forgotten
    one.uses += hits
    survived = -1
    victim: object = None
    while victim is not one:
        fresh = resident()
        policy.add(fresh)
        fresh.uses = 2  # it enters the main queue behind the one, which comes to the end before it
        victim = policy.pop()
        survived += 1
        assert victim in (one, fresh)
    assert survived == min(hits, 3)


def test_a_scan_passes_through_without_displacing_what_is_used() -> None:
    used = list("abcdefgh")
    cache = Cached(S3Fifo(), 10)
    cache.run(used * 3)
    for number in range(1000):
        cache.get(number)
        if number % 4 == 0:
            cache.run(used)
    assert cache.holds(used) == [True] * 8
    assert set(cache.evicted) <= set(range(1000))


def test_shares_are_of_bytes() -> None:
    policy = S3Fifo()
    large = resident(size=100_000 - HEAD_BYTES)
    large.uses = 0
    policy.add(large)
    large.uses = 2
    small = [resident(size=1000 - HEAD_BYTES) for _ in range(12)]
    for entry in small:
        policy.add(entry)
    assert policy.pop() is small[0]  # the large one was promoted on the way
    assert policy.pop() is large  # 11 of 111: less than a tenth is left in the small queue
    assert policy.pop() is small[1]


def test_empty_files_have_a_size() -> None:
    policy = S3Fifo()
    entries = [resident(size=0) for _ in range(3)]
    for entry in entries:
        policy.add(entry)
    assert [policy.pop() for _ in range(4)] == [*entries, None]


def test_what_is_being_sent_is_passed_over_in_either_queue() -> None:
    policy = S3Fifo()
    entries = [resident() for _ in range(4)]
    for entry in entries:
        policy.add(entry)
    entries[0].uses = entries[1].uses = 2
    assert policy.pop() is entries[2]
    assert set(policy.entries()) == {entries[0], entries[1], entries[3]}
    for in_flight, victim in (({0, 3}, 1), ({0, 3}, None), ({3}, 0), ({3}, None), (set(), 3)):
        expected = None if victim is None else entries[victim]
        assert policy.pop(lambda entry, those=in_flight: entries.index(entry) in those) is expected  # type: ignore[misc]


def test_what_is_promoted_may_go_at_once_when_all_others_are_being_sent() -> None:
    policy = S3Fifo()
    large, passing, small = resident(size=100_000), resident(), resident()
    for entry in (large, passing):
        policy.add(entry)
    large.uses = 2
    assert policy.pop() is passing  # the large one is in the main queue, and more than nine tenths
    policy.add(small)
    small.uses = 2
    assert policy.pop(lambda entry: entry is large) is small


def test_what_is_dropped_is_out_and_no_ghost() -> None:
    cache = Cached(S3Fifo(), 10)
    cache.run("aaab")
    cache.run(range(10))  # a is in the main queue, b gone
    cache.drop("a")
    cache.drop("a")
    cache.drop(9)
    assert len(cache.policy) == 8
    cache.get("a")
    cache.run(range(100, 112))
    assert cache.holds("a") == [False]

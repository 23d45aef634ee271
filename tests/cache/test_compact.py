"""Compaction: what is moved, what is left, what it gains; no request notices. The laws are in test_compact_laws.py."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.support.trees import content_of, memfds, no_descriptors_left, noise
from zcserve.cache.compact import GONE_MAX, HOLES_SHARE, TIDIED_AT_ONCE, Compactor
from zcserve.cache.entry import Body, Entry, Packed
from zcserve.cache.evictor import never_sending
from zcserve.cache.memfd import PAGE_BYTES, round_up
from zcserve.cache.slab import Slabs
from zcserve.cache.store import POLICIES, Store

HEAD = b"ETag: x\r\n\r\n"
PAGES_PER_SLAB = 8
NO_LIMIT = 1 << 40


class House:
    """Slabs with a compactor, and entries with what their bodies must hold."""

    def __init__(self, slab_bytes: int = PAGES_PER_SLAB * PAGE_BYTES) -> None:
        self.slabs = Slabs(slab_bytes)
        self.compactor = Compactor(self.slabs)
        self.contents: dict[Entry, bytes] = {}

    def come(self, size: int) -> Entry:
        """A new entry with a body of `size` bytes."""
        content = noise(size, len(self.contents))
        entry = Entry(b"/x", b"", size, None)
        entry.body = body = self.slabs.write([(HEAD, content)], Packed)[0]
        self.compactor.came(entry, body.slab)
        self.contents[entry] = content
        return entry

    def leave(self, entry: Entry) -> None:
        body, entry.body = entry.body, None
        assert isinstance(body, Packed)
        self.compactor.left(body.slab)
        del self.contents[entry]

    def thin_out(self, keep_every: int) -> list[Entry]:
        """Have the others leave; those that stay."""
        entries = list(self.contents)
        for number, entry in enumerate(entries):
            if number % keep_every:
                self.leave(entry)
        self.slabs.reclaim()
        return list(self.contents)

    def step(
        self,
        bytes_max: int = NO_LIMIT,
        committed_max: int = NO_LIMIT,
        is_sending: Callable[[Entry], bool] = never_sending,
        let_go: Callable[[Entry], bool] = never_sending,
    ) -> int:
        return self.compactor.step(bytes_max, committed_max, is_sending, let_go)

    def check(self) -> None:
        """Every entry has its content, with its head before it."""
        for entry, content in self.contents.items():
            body = body_of(entry)
            assert (bytes(body.head()), content_of(body)) == (HEAD, content)


def body_of(entry: Entry) -> Packed:
    assert isinstance(entry.body, Packed)
    return entry.body


@pytest.fixture
def house() -> House:
    return House()


def filled(house: House, size: int = 1000, slabs: int = 6) -> House:
    while len(house.slabs.slabs) < slabs or house.slabs.committed < slabs * PAGES_PER_SLAB * PAGE_BYTES:
        house.come(size)
    return house


@pytest.mark.parametrize("keep_every", [2, 3, 8, 50])
@pytest.mark.parametrize("size", [0, 100, 1000, 3900, 4096, 6000])
def test_what_is_left_of_many_is_packed_into_few_pages(house: House, size: int, keep_every: int) -> None:
    before = memfds("zcserve-slab")
    filled(house, size).thin_out(keep_every)
    live = house.slabs.live
    house.step()
    house.check()
    assert house.slabs.live == live
    assert house.slabs.committed <= round_up(live) + HOLES_SHARE * live + PAGE_BYTES * len(house.slabs.slabs)
    mine = [size for inode, (_, size) in memfds("zcserve-slab").items() if inode not in before]
    assert sum(mine) == house.slabs.committed
    assert len(mine) == len(house.slabs.slabs)
    if size <= 1000:  # one larger block may fill the last page of a slab well enough to stay
        assert len(mine) <= live // (PAGES_PER_SLAB * PAGE_BYTES) + 2


def test_slabs_that_are_full_are_left_alone(house: House) -> None:
    bodies = {entry: entry.body for entry in filled(house).contents}
    assert not house.compactor.due
    assert house.step() == 0
    assert {entry: entry.body for entry in house.contents} == bodies


def test_what_was_moved_is_not_moved_again_for_nothing(house: House) -> None:
    filled(house).thin_out(4)
    assert house.step() > 0
    moves = house.compactor.moves
    assert house.step() == 0
    assert house.compactor.moves == moves


def test_the_sparsest_slab_goes_first(house: House) -> None:
    filled(house)
    slabs = list(house.slabs.slabs.values())
    for number, slab in enumerate(slabs):
        for place, entry in enumerate([entry for entry in house.contents if body_of(entry).slab is slab]):
            if place % 8 <= number:
                house.leave(entry)
    house.slabs.reclaim()
    house.step(bytes_max=1)
    assert [slab.retiring for slab in slabs] == [False] * (len(slabs) - 1) + [True]


def test_no_more_is_moved_at_a_time_than_asked_for(house: House) -> None:
    filled(house).thin_out(2)
    assert 3000 <= house.step(bytes_max=3000) < 3000 + 1000 + len(HEAD)
    house.check()


def test_no_more_is_committed_than_may_be(house: House) -> None:
    filled(house).thin_out(4)
    committed = house.slabs.committed
    assert house.step(committed_max=committed) == 0
    spent = [house.slabs.committed]
    while house.step(bytes_max=1, committed_max=committed + 2 * PAGE_BYTES):
        spent.append(house.slabs.committed)
    house.check()
    assert max(spent) <= committed + 2 * PAGE_BYTES
    assert spent[-1] < committed // 2


def test_a_body_that_is_moved_is_sent_as_it_was(house: House) -> None:
    stayed = filled(house).thin_out(8)
    before = memfds("zcserve-slab")
    old = {entry: body_of(entry) for entry in stayed[:3]}
    house.step()
    for _ in range(100):  # what is free again is written over
        house.come(1000)
    for entry, body in old.items():
        assert entry.body is not body
        assert content_of(body) == house.contents[entry]
    slabs = len(house.slabs.slabs)
    old.clear()
    del body
    house.slabs.reclaim()
    assert len(house.slabs.slabs) < slabs
    assert before.keys() - memfds("zcserve-slab").keys()


def test_what_is_being_sent_is_left_for_later(house: House) -> None:
    stayed = filled(house).thin_out(8)
    first, second = stayed[0], stayed[1]
    bodies = body_of(first), body_of(second)
    bodies[0].pins = 1
    house.step(is_sending=lambda entry: entry is second)
    assert (first.body, second.body) == bodies
    bodies[0].pins = 0
    filled(house, slabs=len(house.slabs.slabs) + 3)
    entries = [entry for entry in house.contents if entry not in (first, second)]
    for entry in entries[1::2]:
        house.leave(entry)
    house.slabs.reclaim()
    house.step()
    assert first.body is not bodies[0]
    assert second.body is not bodies[1]
    house.check()


def test_the_owner_of_a_reference_is_told_and_it_counts_as_let_go(house: House) -> None:
    stayed = filled(house).thin_out(8)
    held = {entry: body_of(entry) for entry in stayed[::2]}
    told: list[Entry] = []

    def let_go(entry: Entry) -> bool:
        told.append(entry)
        return entry in held

    moved = house.step(let_go=let_go)
    assert moved == sum(body_of(entry).length for entry in told)
    assert house.slabs.condemned == sum(round_up(held[entry].length, 16) for entry in set(told) & held.keys()) > 0
    held.clear()
    house.slabs.reclaim()
    assert house.slabs.condemned == 0


def test_at_the_descriptor_limit_bodies_stay_where_they_are(house: House) -> None:
    filled(house).thin_out(3)
    walls = []
    while (newest := house.slabs.newest) is not None and newest.frontier < house.slabs.slab_bytes - 1000:
        walls.append(house.slabs.allocate(Packed, 0, 500, untouched=True))
    with no_descriptors_left():
        house.step()
    house.check()
    house.slabs.reclaim()
    assert house.step() > 0
    house.check()


def held_elsewhere(entries: list[Entry]) -> int:
    """How many of these something else refers to."""
    return sum(sys.getrefcount(entry) > 3 for entry in entries)  # the list, the name, and the argument


def test_an_entry_that_comes_and_goes_leaves_no_trace(house: House) -> None:
    stayed, gone = [house.come(100) for _ in range(3)], []
    for _ in range(50):
        for entry in [house.come(100) for _ in range(20)]:
            house.leave(entry)
            gone.append(entry)
        house.slabs.reclaim()
    del entry
    assert held_elsewhere(stayed) == len(stayed)
    assert held_elsewhere(gone) <= len(stayed) + GONE_MAX + 1
    for entry in stayed:
        house.leave(entry)
    del entry
    assert held_elsewhere(stayed) == held_elsewhere(gone) == 0


def crowd(count: int) -> tuple[House, list[Entry]]:
    """Entries in one slab, in any order."""
    house = House(count * 200)
    entries = [house.come(100) for _ in range(count)]
    return house, random.Random(1).sample(entries, count)


def test_entries_that_left_are_let_go_of_a_few_at_a_time() -> None:
    house, stayed = crowd(100 * TIDIED_AT_ONCE)
    gone: list[Entry] = []
    held = [0]
    while len(stayed) > 25 * TIDIED_AT_ONCE:
        gone.append(stayed.pop())
        house.leave(gone[-1])
        held.append(held_elsewhere(gone))
    assert max(before - after for before, after in pairwise(held)) <= TIDIED_AT_ONCE
    assert held[-1] <= len(stayed) + GONE_MAX + 1
    assert max(held) > len(gone) // 2  # so that there was something to tidy


@pytest.mark.parametrize("left", [790, 782, 740, 700, 685, 680])  # the list is tidied from 783 to 684
def test_those_that_stay_are_all_found_in_the_middle_of_that(left: int) -> None:
    house, stayed = crowd(100 * TIDIED_AT_ONCE)
    (slab,) = house.slabs.slabs.values()
    while len(stayed) > left:
        house.leave(stayed.pop())
    house.slabs.reclaim()
    house.step()
    assert not any(body_of(entry).slab is slab for entry in stayed)
    assert house.compactor.moves == len(stayed)
    house.check()


# --- in a store -----------------------------------------------------------------------------------------

BUDGET = 4 << 20


@pytest.fixture
def make_store() -> Iterator[Callable[..., Store]]:
    made = []

    def make(**more: Any) -> Store:
        store = Store(BUDGET, slab_bytes=256 * 1024, small_body_bytes_max=16 * 1024, **more)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


POOL = noise(1 << 16)


def content_for(entry: Entry) -> bytes:
    """What an entry of this size and number must hold."""
    start = int(entry.key[1:]) * 37 % (len(POOL) - entry.size)
    return POOL[start : start + entry.size]


def files(count: int, size: int) -> list[Entry]:
    return [Entry(b"/%d" % number, b"", size, None) for number in range(count)]


def ask(store: Store, entry: Entry, tick: int) -> None:
    """As a request does: a hit, or the file is loaded."""
    entry.tick = tick
    entry.uses += 1
    if entry.body is None:
        assert store.place([(entry, HEAD, content_for(entry))])
        assert store.committed <= BUDGET


def resident(entries: list[Entry]) -> int:
    """Bytes of heads and contents that are resident; and they are right."""
    total = 0
    for entry in entries:
        if entry.body is not None:
            assert content_of(entry.body) == content_for(entry)
            total += len(HEAD) + entry.size
    return total


@pytest.mark.parametrize("policy", POLICIES)
def test_a_working_set_that_shifts_completely_three_times_fits_as_it_does_into_a_fresh_store(
    make_store: Callable[..., Store], policy: str
) -> None:
    """Of each set every eighth file stays hot and lies scattered over all pages, and the next files fit in no hole."""
    store = make_store(policy=policy)
    rng = random.Random(5)
    everything: list[Entry] = []
    hot: list[Entry] = []
    tick = 0
    for size in (1000, 3900, 700, 2500):
        present = files(BUDGET * 12 // 10 // size, size)
        everything += present
        for _ in range(2):
            for entry in rng.sample(present, len(present)):
                tick += 1
                ask(store, entry, tick)
                if hot:
                    ask(store, rng.choice(hot), tick)
        fresh = make_store(policy=policy)
        twins = files(len(present), size)
        for number, twin in enumerate(twins):
            ask(fresh, twin, number)
        assert resident(everything) >= 0.9 * resident(twins)
        hot = present[::8]
    assert store.moves > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_to_be_moved_is_no_news_to_the_policy(
    make_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    order = POLICIES[policy]()
    monkeypatch.setitem(POLICIES, policy, lambda: order)
    store = make_store(policy=policy)
    present = files(BUDGET // 1000, 1000)
    for tick, entry in enumerate(present):
        ask(store, entry, tick)
    for entry in present[::3] + present[1::3]:
        store.drop(entry)
    moves, evictions = store.moves, store.evictions
    filed = [(entry, entry.filed, entry.tick, entry.uses) for entry in order.entries()]
    assert store.reserve(BUDGET // 4) is not None
    assert (store.moves > moves, store.evictions) == (True, evictions)
    assert [(entry, entry.filed, entry.tick, entry.uses) for entry in order.entries()] == filed


def test_nothing_is_evicted_while_holes_can_be_closed(make_store: Callable[..., Store]) -> None:
    store = make_store()
    present = files(BUDGET // 1100, 1000)
    for tick, entry in enumerate(present):
        ask(store, entry, tick)
    for number, entry in enumerate(present):
        if number % 4:
            store.drop(entry)
    evictions = store.evictions
    for tick, entry in enumerate(files(BUDGET // 2 // 3900, 3900)):
        ask(store, entry, 10_000 + tick)
    assert store.evictions == evictions
    assert store.moves > 0
    assert all(entry.body is not None for entry in present[::4])


def test_nothing_is_moved_that_another_process_may_be_sending(make_store: Callable[..., Store]) -> None:
    store = make_store()
    present = files(BUDGET // 1000, 1000)
    for tick, entry in enumerate(present):
        ask(store, entry, tick)
    for entry in present[::3] + present[1::3]:
        store.drop(entry)
    bodies: list[Body | None] = [entry.body for entry in present]
    store.freeze()
    assert store.reserve(BUDGET // 2) is None
    assert [entry.body for entry in present] == bodies
    del bodies
    store.thaw()
    assert store.reserve(BUDGET // 2) is not None
    assert store.moves > 0
    resident(present)

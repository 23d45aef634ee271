"""The budget: what it holds, what makes room, when memory comes back."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.trees import content_of, memfd_meter, no_descriptors_left, noise
from zcserve.cache.entry import Body, Entry, InPlace, OpenFile, Packed, Paged
from zcserve.cache.memfd import PAGE_BYTES, round_up
from zcserve.cache.room import TAKEN_BACK_AT_ONCE
from zcserve.cache.store import POLICIES, Store
from zcserve.config.keys import KEYS

BUDGET = 1 << 20
SMALL = 16 * 1024
HEAD = b"ETag: x\r\n\r\n"

MakeStore = Callable[..., Store]


@pytest.fixture
def make_store() -> Iterator[MakeStore]:
    made = []

    def make(budget: int = BUDGET, **more: Any) -> Store:
        store = Store(budget, slab_bytes=256 * 1024, small_body_bytes_max=SMALL, **more)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store()


def new_entry(size: int, tick: int = 0) -> Entry:
    entry = Entry(b"/x", b"", size, None)
    entry.tick = tick
    return entry


def put_small(store: Store, content: bytes, tick: int = 0) -> Entry:
    entry = new_entry(len(content), tick)
    assert store.place([(entry, HEAD, content)])
    return entry


def put_large(store: Store, content: bytes, tick: int = 0) -> Entry:
    entry = new_entry(len(content), tick)
    extent = store.reserve(len(content))
    assert extent is not None
    os.pwrite(store.pages_fd, content, extent.offset)
    store.admit(entry, Paged(HEAD, store.pages_fd, extent.offset, len(content), extent))
    return entry


def put(store: Store, content: bytes, tick: int = 0) -> Entry:
    return (put_small if len(content) <= SMALL else put_large)(store, content, tick)


def body_of(entry: Entry) -> Body:
    assert entry.body is not None
    return entry.body


def test_an_empty_store_takes_nothing(store: Store) -> None:
    assert (store.committed, store.resident, store.evictions) == (0, 0, 0)


def test_a_small_body_has_its_head_before_it(store: Store) -> None:
    entry = put_small(store, b"content")
    body = body_of(entry)
    assert isinstance(body, Packed)
    assert bytes(body.head()) == HEAD
    assert content_of(body) == b"content"
    assert [bytes(segment) for segment in body.whole() if isinstance(segment, memoryview)] == [HEAD + b"content"]


def test_a_batch_is_placed_together(store: Store) -> None:
    contents = [noise(size, size) for size in (0, 1, 5000, SMALL)]
    entries = [new_entry(len(content)) for content in contents]
    assert store.place([(entry, HEAD, content) for entry, content in zip(entries, contents, strict=True)])
    assert [content_of(body_of(entry)) for entry in entries] == contents
    assert store.resident == 4


def test_an_empty_batch_is_no_trouble(store: Store) -> None:
    assert store.place([])
    assert store.committed == store.resident == 0


def test_the_first_body_that_is_admitted_stays(store: Store) -> None:
    entry = put_small(store, b"one")
    first = entry.body
    store.admit(entry, Body(3))
    assert store.place([(entry, HEAD, b"two")])
    assert entry.body is first
    assert store.resident == 1


def test_what_is_committed_is_what_the_kernel_gave(store: Store) -> None:
    slabs = memfd_meter("zcserve-slab")
    small = [put_small(store, noise(random.Random(i).randrange(1, SMALL), i)) for i in range(20)]
    large = [put_large(store, noise(20_000 + i, i)) for i in range(10)]
    assert store.committed == slabs() + os.fstat(store.pages_fd).st_blocks * 512
    for entry in small[::2] + large[::2]:
        store.drop(entry)
    assert store.committed == slabs() + os.fstat(store.pages_fd).st_blocks * 512
    for entry in small + large:
        store.drop(entry)
    assert store.committed == slabs() == os.fstat(store.pages_fd).st_blocks == 0


def test_the_least_recently_used_makes_room(store: Store) -> None:
    size = BUDGET // 8
    entries = [put_large(store, noise(size, i), tick=i) for i in range(8)]
    entries[0].tick = 100
    newest = put_large(store, noise(size, 99), tick=101)
    assert entries[1].body is None
    assert content_of(body_of(entries[0])) == noise(size, 0)
    assert content_of(body_of(newest)) == noise(size, 99)
    assert store.committed <= BUDGET
    assert store.evictions == sum(entry.body is None for entry in entries)


def test_room_is_made_before_content_comes(store: Store) -> None:
    entries = [put_large(store, noise(BUDGET // 4, i)) for i in range(4)]
    extent = store.reserve(BUDGET // 2)
    assert extent is not None
    assert store.committed <= BUDGET
    assert os.fstat(store.pages_fd).st_blocks * 512 <= BUDGET // 2
    # what was there is gone, what comes is not there yet
    assert sum(entry.body is not None for entry in entries) <= 2


def test_small_and_large_make_room_for_each_other(store: Store) -> None:
    small = [put_small(store, noise(8000, i)) for i in range(BUDGET // 8192)]
    large = put_large(store, noise(BUDGET // 2, 1))
    assert content_of(body_of(large)) == noise(BUDGET // 2, 1)
    assert sum(entry.body is None for entry in small) >= len(small) // 3
    more = [put_small(store, noise(8000, 1000 + i)) for i in range(BUDGET // 8192)]
    assert large.body is None
    assert content_of(body_of(more[-1])) == noise(8000, 1000 + len(more) - 1)


def test_the_budget_is_kept_to_the_page(store: Store) -> None:
    rng = random.Random(7)
    for i in range(3000):
        size = rng.choice([rng.randrange(1, 400), rng.randrange(1, SMALL), rng.randrange(SMALL, BUDGET // 6)])
        entry = put(store, noise(size, i), tick=i)
        assert entry.body is not None
        assert store.committed <= BUDGET


def test_the_budget_is_kept_to_the_page_by_batches_too(store: Store) -> None:
    rng = random.Random(9)
    for i in range(300):
        contents = [noise(rng.choice([rng.randrange(1, 400), rng.randrange(1, SMALL)]), i) for _ in range(20)]
        assert store.place([(new_entry(len(content), tick=i), HEAD, content) for content in contents])
        assert store.committed <= BUDGET


def test_a_block_that_begins_in_a_page_which_was_given_back_costs_that_page_too(store: Store) -> None:
    store.drop(put_small(store, b"x" * 100))
    put_large(store, noise(BUDGET - PAGE_BYTES, 1))
    content = noise(PAGE_BYTES - len(HEAD), 1)
    assert not store.place([(new_entry(len(content)), HEAD, content)], evict=False)
    assert store.committed <= BUDGET


def test_a_batch_that_fragments_make_costlier_than_its_bytes_is_not_placed(store: Store) -> None:
    small = [put_small(store, noise(2 * PAGE_BYTES - len(HEAD), i)) for i in range(64)]
    put_large(store, noise(BUDGET * 5 // 8, 64))
    for entry in small[::2]:
        store.drop(entry)
    before = store.committed
    # Each goes into a hole of its own, and takes two pages there, though it is only 16 bytes longer than one.
    size = PAGE_BYTES + 16 - len(HEAD)
    batch = [(new_entry(size), HEAD, noise(size, i)) for i in range(36)]
    assert before + 37 * (PAGE_BYTES + 16) < BUDGET * 15 // 16
    assert not store.place(batch, evict=False)
    assert store.committed == before
    assert all(entry.body is None for entry, _, _ in batch)
    # One at a time the holes are noticed, and others are moved out of their slabs.
    assert all(store.place([one], evict=False) for one in batch)
    assert store.committed <= BUDGET


def test_contents_survive_the_coming_and_going_of_others(store: Store) -> None:
    rng = random.Random(3)
    entries: list[tuple[Entry, bytes]] = []
    for i in range(600):
        content = noise(rng.choice([rng.randrange(1, 2000), rng.randrange(1, BUDGET // 20)]), i)
        entries.append((put(store, content, tick=i), content))
        resident = [(entry, content) for entry, content in entries[-60:] if entry.body is not None]
        entry, expected = rng.choice(resident)
        entry.tick = i
        assert content_of(body_of(entry)) == expected
    still = [(entry, content) for entry, content in entries if entry.body is not None]
    assert len(still) == store.resident
    assert all(content_of(body_of(entry)) == content for entry, content in still)


def test_the_indexes_of_all_sites_are_counted(store: Store) -> None:
    store.count_index(0, 1000)
    store.count_index(1, 300)
    assert store.overhead == 1300
    store.count_index(0, 50)  # its files are fewer now
    assert store.overhead == 350


def test_beside_the_live_index_the_next_one_counts_only_where_it_is_larger(store: Store) -> None:
    store.count_index(0, 1000)
    for next_one, counted in ((400, 1000), (1500, 1500)):
        store.count_index(0, next_one, at_least=True)
        assert store.overhead == counted


def test_what_the_index_costs_is_taken_off_the_budget(store: Store) -> None:
    store.count_index(0, BUDGET // 2)
    for i in range(20):
        put_large(store, noise(BUDGET // 16, i))
    assert store.committed <= BUDGET // 2


def test_there_is_no_room_when_everything_waits_to_be_sent(store: Store) -> None:
    entries = [put_large(store, noise(BUDGET // 4, i)) for i in range(4)]
    for entry in entries:
        body_of(entry).pins = 1
    newcomer = new_entry(100)
    assert store.reserve(BUDGET // 4) is None
    assert not store.place([(newcomer, HEAD, b"x" * 100)])
    assert newcomer.body is None
    assert [content_of(body_of(entry)) for entry in entries] == [noise(BUDGET // 4, i) for i in range(4)]
    body_of(entries[2]).pins = 0
    assert store.reserve(BUDGET // 4) is not None
    assert [entry.body is None for entry in entries] == [False, False, True, False]


def test_a_body_that_is_evicted_while_in_use_counts_until_it_is_let_go(store: Store) -> None:
    entries = [put_large(store, noise(BUDGET // 4, i)) for i in range(4)]
    in_use = [body_of(entry) for entry in entries]
    assert store.reserve(BUDGET // 4) is None  # all could go, and none can be freed
    assert [content_of(body) for body in in_use] == [noise(BUDGET // 4, i) for i in range(4)]
    assert store.committed == BUDGET
    del in_use[0]
    assert store.committed == 3 * BUDGET // 4
    assert store.reserve(BUDGET // 4) is not None


def test_a_small_body_that_is_dropped_while_in_use_keeps_its_bytes(store: Store) -> None:
    content = noise(9000, 1)
    entry = put_small(store, content)
    body = body_of(entry)
    store.drop(entry)
    others = [put_small(store, noise(9000, 2 + i)) for i in range(200)]
    assert content_of(body) == content
    assert others[-1].body is not None
    taken = store.committed
    for other in others:
        store.drop(other)
    assert 0 < store.committed < taken
    del body
    assert store.committed == 0


@pytest.mark.parametrize("put_one", [put_small, put_large])
def test_dropping_forgets_a_body_once(store: Store, put_one: Callable[[Store, bytes], Entry]) -> None:
    entry = put_one(store, b"x" * 10_000)
    store.drop(entry)
    store.drop(entry)
    assert entry.body is None
    assert store.committed == store.resident == store.evictions == 0


def test_a_body_that_can_never_fit_evicts_nobody(store: Store) -> None:
    store.count_index(0, BUDGET * 3 // 4)
    entries = [put_small(store, noise(1000, i)) for i in range(50)]
    assert store.reserve(BUDGET // 2) is None
    assert store.evictions == 0
    assert all(entry.body is not None for entry in entries)


def test_room_that_would_have_to_be_made_is_not_taken_when_none_may_go(store: Store) -> None:
    entries = [put_large(store, noise(BUDGET // 4, i)) for i in range(3)]
    newcomer = new_entry(10)
    assert store.place([(newcomer, HEAD, b"x" * 10)], evict=False)
    assert store.reserve(BUDGET // 4, evict=False) is None
    assert not store.place([(new_entry(SMALL), HEAD, bytes(SMALL)) for _ in range(20)], evict=False)
    assert all(entry.body is not None for entry in (*entries, newcomer))
    assert store.evictions == 0


def test_at_the_descriptor_limit_not_all_go_in_vain(store: Store) -> None:
    entries = [put_large(store, noise(BUDGET // 16, i)) for i in range(16)]
    with no_descriptors_left():
        store.reserve(BUDGET // 16)
    assert sum(entry.body is None for entry in entries) <= 3


def test_the_largest_body_is_a_share_of_the_budget(make_store: MakeStore) -> None:
    for budget in (64 * 1024, BUDGET):
        store = make_store(budget)
        assert 0 < store.largest < budget
        entry = put_large(store, noise(store.largest, 1))
        assert content_of(body_of(entry)) == noise(store.largest, 1)


def test_a_small_budget_is_not_one_slab(make_store: MakeStore) -> None:
    store = make_store(512 * 1024)
    for i in range(500):
        put_small(store, noise(1000, i), tick=i)
        assert store.committed <= 512 * 1024
    assert store.resident > 300


# --- policies -------------------------------------------------------------------------------------------


def test_every_policy_can_be_configured() -> None:
    assert KEYS["evict"].option.choices == tuple(POLICIES)
    assert KEYS["evict"].default == "lru"


@pytest.mark.parametrize("policy", POLICIES)
def test_the_budget_is_kept_and_contents_are_right_under_every_policy(make_store: MakeStore, policy: str) -> None:
    store = make_store(policy=policy)
    rng = random.Random(11)
    entries: list[tuple[Entry, bytes]] = []
    for i in range(1500):
        content = noise(rng.choice([rng.randrange(1, 400), rng.randrange(1, SMALL), rng.randrange(SMALL, 150_000)]), i)
        entries.append((put(store, content, tick=i), content))
        entry, expected = entries[int(rng.random() ** 3 * len(entries))]
        if entry.body is not None:
            entry.tick = i
            entry.uses += 1
            assert content_of(entry.body) == expected
        assert store.committed <= BUDGET
    still = [(entry, content) for entry, content in entries if entry.body is not None]
    assert len(still) == store.resident
    assert all(content_of(body_of(entry)) == content for entry, content in still)
    assert store.evictions == 1500 - len(still)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_waits_to_be_sent_is_passed_over_by_every_policy(make_store: MakeStore, policy: str) -> None:
    store = make_store(policy=policy)
    entries = [put_large(store, noise(BUDGET // 8, i)) for i in range(8)]
    for entry in entries[:5]:
        body_of(entry).pins = 1
    store.is_sending.subscribe(lambda entry: entry is entries[5])
    for number in range(20):
        put_large(store, noise(BUDGET // 8, 100 + number))
        assert store.committed <= BUDGET
    assert [content_of(body_of(entry)) for entry in entries[:6]] == [noise(BUDGET // 8, i) for i in range(6)]
    assert all(entry.body is None for entry in entries[6:])


# --- pinned (--pin) -------------------------------------------------------------------------------------


@pytest.fixture(params=list(POLICIES))
def pinning(request: pytest.FixtureRequest, make_store: MakeStore) -> tuple[Store, set[Entry]]:
    """A store of each policy, and the entries that are pinned in it."""
    pinned: set[Entry] = set()
    return make_store(policy=request.param), pinned


def put_pinned(pinning: tuple[Store, set[Entry]], content: bytes) -> Entry | None:
    """The entry with a body, or None if there was no room."""
    store, pinned = pinning
    entry = new_entry(len(content))
    pinned.add(entry)
    if len(content) <= SMALL:
        return entry if store.place([(entry, HEAD, content)], is_pinned=pinned.__contains__) else None
    extent = store.reserve(len(content))
    if extent is None:
        return None
    os.pwrite(store.pages_fd, content, extent.offset)
    store.admit(entry, Paged(HEAD, store.pages_fd, extent.offset, len(content), extent), pinned.__contains__)
    return entry


def test_what_is_pinned_outlives_a_scan_of_ten_times_the_budget(pinning: tuple[Store, set[Entry]]) -> None:
    store, _ = pinning
    sizes = [100, SMALL, BUDGET // 4]
    entries = [put_pinned(pinning, noise(size, size)) for size in sizes]
    for number in range(10 * BUDGET // 20_000):
        put(store, noise(20_000 if number % 2 else 9000, number), tick=number)
        assert store.committed <= BUDGET
    # It is not loaded again: what is resident was never evicted, though it may have been moved.
    assert [entry and content_of(body_of(entry)) for entry in entries] == [noise(size, size) for size in sizes]


def test_what_is_pinned_makes_room_for_itself(pinning: tuple[Store, set[Entry]]) -> None:
    store, _ = pinning
    others = [put_large(store, noise(BUDGET // 8, i)) for i in range(8)]
    assert put_pinned(pinning, noise(BUDGET // 2, 99)) is not None
    assert sum(entry.body is None for entry in others) >= 4
    assert store.committed <= BUDGET


def test_pinned_content_beyond_the_budget_stays_out_and_evicts_nobody(pinning: tuple[Store, set[Entry]]) -> None:
    store, _ = pinning
    entries = [put_pinned(pinning, noise(BUDGET // 4, i)) for i in range(3)]
    small = put_small(store, b"not pinned")
    assert all(entry is not None and entry.body is not None for entry in entries)
    assert put_pinned(pinning, noise(BUDGET // 4 + 1, 3)) is None
    assert store.reserve(BUDGET // 2) is None
    assert small.body is not None
    assert store.evictions == 0


def test_at_the_end_of_the_budget_the_unpinned_are_not_swept_out_together(pinning: tuple[Store, set[Entry]]) -> None:
    store, _ = pinning
    for number in range(3):
        assert put_pinned(pinning, noise(BUDGET // 4, number)) is not None
    assert put_pinned(pinning, noise(BUDGET // 4 - 24 * 1024, 4)) is not None
    resident = []
    for number in range(200):
        put_small(store, noise(1000, number), tick=number)
        resident.append(store.resident)
        assert store.committed <= BUDGET
    assert min(resident[50:]) >= 4 + 6


def test_what_is_pinned_can_be_dropped_and_its_room_comes_back(pinning: tuple[Store, set[Entry]]) -> None:
    store, _ = pinning
    for _ in range(3):
        other = put_large(store, noise(BUDGET // 8, 1))
        entries = [put_pinned(pinning, noise(BUDGET // 2, i)) for i in range(2)]
        assert other.body is None
        assert store.resident == 2
        for entry in entries:
            assert entry is not None
            store.drop(entry)
            store.drop(entry)
    assert (store.resident, store.committed, store.evictions) == (0, 0, 3)


def test_a_pinned_body_keeps_its_own_descriptor(make_store: MakeStore) -> None:
    store = make_store()
    first, _ = put_in_place(store, tick=1)
    kept = new_entry(100_000)
    store.admit(kept, InPlace(HEAD, OpenFile(os.open(os.devnull, os.O_RDONLY), b""), 100_000), lambda _: True)
    assert store.shed_descriptor()
    assert first.body is None
    assert not store.shed_descriptor()
    assert kept.body is not None


# --- bodies with a descriptor of their own (in_place) ---------------------------------------------------


def put_in_place(store: Store, tick: int = 0) -> tuple[Entry, int]:
    fd = os.open(os.devnull, os.O_RDONLY)
    entry = new_entry(100_000, tick)
    store.admit(entry, InPlace(HEAD, OpenFile(fd, b""), 100_000))
    return entry, fd


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_shedding_closes_the_descriptor_of_the_least_recently_used(store: Store) -> None:
    small = put_small(store, b"x")
    (old, old_fd), (new, new_fd) = put_in_place(store, tick=1), put_in_place(store, tick=2)
    assert store.shed_descriptor()
    assert (old.body, is_open(old_fd)) == (None, False)
    assert (new.body is not None, is_open(new_fd)) == (True, True)
    assert store.shed_descriptor()
    assert not store.shed_descriptor()
    assert small.body is not None
    assert store.resident == 1


def test_shedding_passes_over_what_is_being_sent(store: Store) -> None:
    (pinned, _), (free, _) = put_in_place(store), put_in_place(store)
    body_of(pinned).pins = 1
    assert store.shed_descriptor()
    assert free.body is None
    assert not store.shed_descriptor()
    assert pinned.body is not None


def test_there_is_no_descriptor_to_shed_where_bodies_are_resident(store: Store) -> None:
    entry = put_large(store, b"x" * 50_000)
    assert not store.shed_descriptor()
    assert entry.body is not None


def test_shedding_sees_what_was_used_since(store: Store) -> None:
    (oldest, _), (first, _), (second, _) = (put_in_place(store, tick=tick) for tick in (1, 2, 3))
    assert store.shed_descriptor()
    assert oldest.body is None
    first.tick = 4
    assert store.shed_descriptor()
    assert second.body is None
    assert first.body is not None


# --- threads ----------------------------------------------------------------------------------------------


def test_many_threads_keep_one_budget(store: Store) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        rng = random.Random(number)
        try:
            for i in range(150):
                content = noise(rng.choice([rng.randrange(1, SMALL), rng.randrange(SMALL, BUDGET // 16)]), i)
                entry = put(store, content, tick=i)
                body = entry.body
                if body is not None and content_of(body) != content:
                    wrong.append(f"content {number}/{i}")
                if store.committed > BUDGET:
                    wrong.append(f"budget {number}/{i}")
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.resident > 0


def test_rounded_sizes_are_what_large_bodies_cost(store: Store) -> None:
    put_large(store, b"x" * 20_001)
    assert store.committed == round_up(20_001)


def test_what_was_dropped_is_taken_back_piece_by_piece_and_before_anything_is_evicted(store: Store) -> None:
    small = 200
    count = (BUDGET - 100_000) // (round_up(small + len(HEAD), 16))
    entries = [put_small(store, noise(small, i)) for i in range(count)]
    staying = put_large(store, noise(SMALL + 1, 1))
    taken = store.committed
    store.drop_all(entries)
    assert (store.resident, store.taken) == (1, taken)  # that is told, and memory comes back later
    others = [put_large(store, noise(100_000, i)) for i in range(5)]  # each has as much taken back as it needs
    assert store.evictions == 0
    assert store.taken <= BUDGET
    steps = 1
    while store.take_back():
        steps += 1
    assert count // TAKEN_BACK_AT_ONCE - steps < 5 * 5
    assert store.taken == store.committed < taken
    assert [other.body is not None for other in (staying, *others)] == [True] * 6
    assert not store.take_back()


def test_nothing_is_taken_back_while_another_process_has_the_memory(store: Store) -> None:
    entry = put_small(store, noise(9000, 1))
    taken = store.committed
    store.freeze()
    store.drop_all([entry])
    assert not store.take_back()
    assert (store.resident, store.committed) == (0, taken)
    store.thaw()
    assert not store.take_back()
    assert store.taken == 0

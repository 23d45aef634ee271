"""Laws of compaction: bodies come, go, are sent and are moved in any order, in a store with a small budget."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from tests.support.trees import content_of, memfds
from zcserve.cache import store as stores
from zcserve.cache.compact import HOLES_SHARE
from zcserve.cache.entry import Entry, Packed
from zcserve.cache.memfd import PAGE_BYTES, round_up
from zcserve.cache.slab import BLOCK_ALIGN, Slab
from zcserve.cache.store import POLICIES, Store

pytest.importorskip("hypothesis")
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

BUDGET = 64 * PAGE_BYTES
SMALL = 4 * PAGE_BYTES
SIZES = st.integers(0, 300) | st.integers(0, SMALL) | st.sampled_from([700, 1000, 3900, PAGE_BYTES, SMALL])
CHOICE = st.integers(0)


class CompactingStore(RuleBasedStateMachine):
    """A store beside a model: what each entry's body must hold, and what refers to which body."""

    def __init__(self) -> None:
        super().__init__()
        gc.collect()
        self.others = set(memfds("zcserve-slab"))
        self.contents: dict[Entry, bytes] = {}
        self.lane: dict[Entry, Packed] = {}  # what the fast lane refers to
        self.told: list[Entry] = []  # what it was told to let go of, and has not
        self.prompt = False  # whether it does at once
        self.held: list[tuple[Packed, bytes]] = []  # by connections, pinned or not
        self.tick = 0

    @initialize(policy=st.sampled_from(list(POLICIES)))
    def open(self, policy: str) -> None:
        self.store = Store(BUDGET, slab_bytes=8 * PAGE_BYTES, small_body_bytes_max=SMALL, policy=policy)
        self.store.evicted.subscribe(self.on_evicted)

    def memory(self) -> list[int]:
        """The bytes that each slab really has."""
        return [size for inode, (_, size) in memfds("zcserve-slab").items() if inode not in self.others]

    def on_evicted(self, entry: Entry) -> bool:
        if entry not in self.lane:
            return False
        self.told.append(entry)
        if self.prompt:
            self.let_go()
        return True

    def resident(self) -> Iterator[tuple[Entry, Packed]]:
        for entry in self.contents:
            if isinstance(entry.body, Packed):
                yield entry, entry.body

    def chosen(self, choice: int) -> tuple[Entry, Packed] | None:
        resident = list(self.resident())
        return resident[choice % len(resident)] if resident else None

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=12), evict=st.booleans(), seed=st.integers(0, 1 << 32))
    def place(self, sizes: list[int], evict: bool, seed: int) -> None:
        self.let_go()
        self.prompt = True  # or the loader would wait for the loop, which is not there
        for number, size in enumerate(sizes):
            content = random.Random(seed + number).randbytes(size)
            entry = Entry(b"/x", b"", size, None)
            self.tick += 1
            entry.tick = self.tick
            if self.store.place([(entry, b"HEAD", content)], evict=evict):
                self.contents[entry] = content
        self.prompt = False

    @rule(choice=CHOICE)
    def use(self, choice: int) -> None:
        if chosen := self.chosen(choice):
            self.tick += 1
            chosen[0].tick = self.tick
            chosen[0].uses += 1

    @rule(choice=CHOICE)
    def drop(self, choice: int) -> None:
        if chosen := self.chosen(choice):
            self.store.drop(chosen[0])

    @rule(keep_every=st.integers(2, 5))
    def drop_many(self, keep_every: int) -> None:
        self.store.drop_all([one for number, (one, _) in enumerate(list(self.resident())) if number % keep_every])

    @rule()
    def take_back(self) -> None:
        taken = self.store.taken
        self.store.take_back()
        assert sum(self.memory()) == self.store.taken <= taken

    @rule(choice=CHOICE, pins=st.booleans())
    def hold(self, choice: int, pins: bool) -> None:
        if chosen := self.chosen(choice):
            entry, body = chosen
            body.pins += pins
            self.held.append((body, self.contents[entry]))

    @rule(choice=CHOICE)
    def release(self, choice: int) -> None:
        if self.held:
            body, _ = self.held.pop(choice % len(self.held))
            body.pins = sum(other is body for other, _ in self.held)

    @rule(choice=CHOICE)
    def teach(self, choice: int) -> None:
        if chosen := self.chosen(choice):
            self.lane[chosen[0]] = chosen[1]

    @rule()
    def let_go(self) -> None:
        for entry in self.told:
            self.lane.pop(entry, None)
        self.told.clear()

    def move(self, bytes_max: int) -> int:
        """Ask for as much as is not committed, which leaves no room to move bodies: so holes are closed for it, in
        steps of about `bytes_max`. How many bodies were moved. What the lane holds is waited for in vain."""
        moves = self.store.moves
        with patch.multiple(stores, MOVE_BYTES=bytes_max, LET_GO_S=0.0):
            self.store.reserve(BUDGET - self.store.committed, evict=False)
        assert self.store.committed <= BUDGET
        return self.store.moves - moves

    @rule(bytes_max=st.integers(1, BUDGET))
    def move_some(self, bytes_max: int) -> None:
        self.move(bytes_max)

    @rule()
    def move_all(self) -> None:
        """With nothing in flight no more is lost than a share, and a page a slab."""
        self.held.clear()
        self.lane.clear()
        self.told.clear()
        for entry in self.contents:
            if entry.body is not None:
                entry.body.pins = 0
        while self.store.committed and self.move(BUDGET):
            pass
        committed = self.store.committed
        slabs = {body.slab for _, body in self.resident()}
        live = sum(slab.live for slab in slabs)
        assert sum(self.memory()) == committed
        assert len(self.memory()) <= len(slabs) + 1  # and the newest
        assert not any(slab.retiring for slab in slabs)
        for slab in slabs if committed - live > HOLES_SHARE * committed else ():
            holes = slab.pages * PAGE_BYTES - slab.live
            assert holes < PAGE_BYTES or holes <= HOLES_SHARE * slab.pages * PAGE_BYTES

    @invariant()
    def every_body_holds_its_own(self) -> None:
        assert all(content_of(body) == self.contents[entry] for entry, body in self.resident())
        assert all(bytes(body.head()) == b"HEAD" for _, body in self.resident())
        assert all(content_of(body) == content for body, content in self.held)
        assert all(content_of(body) == self.contents[entry] for entry, body in self.lane.items())

    @invariant()
    def what_lives_is_counted(self) -> None:
        if not hasattr(self, "store"):
            return
        committed = self.store.committed
        lengths: dict[Slab, int] = {}
        for body in {*dict(self.resident()).values(), *(body for body, _ in self.held), *self.lane.values()}:
            lengths[body.slab] = lengths.get(body.slab, 0) + round_up(body.length, BLOCK_ALIGN)
        assert {slab: slab.live for slab in lengths} == lengths
        assert sum(slab.pages for slab in lengths) * PAGE_BYTES == committed <= BUDGET
        assert self.store.resident == sum(1 for _ in self.resident())

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.held.clear()
        self.lane.clear()
        for entry in self.contents:
            self.store.drop(entry)
        assert self.store.committed == sum(self.memory()) == 0
        assert len(self.memory()) <= 1
        self.store.close()


FEWER = settings().max_examples // 3  # an example is forty steps
TestCompactingStore = CompactingStore.TestCase
TestCompactingStore.settings = settings(max_examples=FEWER, deadline=None, stateful_step_count=40)

"""Laws of slabs: whatever is allocated and freed in whatever order, compared with a model."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tests.support.trees import memfd_meter
from zcserve.cache.entry import Packed
from zcserve.cache.memfd import PAGE_BYTES, round_up
from zcserve.cache.slab import BLOCK_ALIGN, Block, Slabs

pytest.importorskip("hypothesis")
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

SLAB_BYTES = 6 * PAGE_BYTES
LENGTHS = st.integers(1, 600) | st.integers(1, SLAB_BYTES) | st.sampled_from([16, PAGE_BYTES, SLAB_BYTES])


class SlabMachine(RuleBasedStateMachine):
    """Live blocks with what they must hold, beside the slabs."""

    def __init__(self) -> None:
        super().__init__()
        self.really = memfd_meter("zcserve-slab")
        self.slabs = Slabs(SLAB_BYTES)
        self.live: list[tuple[Block, bytes]] = []
        self.not_reclaimed: list[tuple[int, int, int]] = []

    def place_of(self, block: Block) -> tuple[int, int, int]:
        """Slab, start and stop of the bytes that a block takes."""
        return id(block.slab), block.offset, block.offset + round_up(block.length, BLOCK_ALIGN)

    @rule(length=LENGTHS, seed=st.integers(0, 1 << 32))
    def allocate(self, length: int, seed: int) -> None:
        content = random.Random(seed).randbytes(length)
        block = self.slabs.allocate(Packed, 0, length)
        block.view()[:] = content
        self.live.append((block, content))

    @rule(choice=st.integers(0))
    def free(self, choice: int) -> None:
        if self.live:
            block, _ = self.live.pop(choice % len(self.live))
            self.not_reclaimed.append(self.place_of(block))

    @rule(blocks_max=st.integers(1, 8) | st.just(1000))
    def reclaim(self, blocks_max: int) -> None:
        self.slabs.reclaim(blocks_max)
        del self.not_reclaimed[:blocks_max]  # the oldest first
        assert self.really() == self.slabs.committed

    @invariant()
    def every_block_holds_its_own(self) -> None:
        assert all(bytes(block.view()) == content for block, content in self.live)

    @invariant()
    def no_two_blocks_overlap(self) -> None:
        places = sorted([self.place_of(block) for block, _ in self.live] + self.not_reclaimed)
        for (slab, _, stop), (next_slab, start, _) in pairwise(places):
            assert slab != next_slab or stop <= start

    @invariant()
    def committed_is_the_pages_that_blocks_touch(self) -> None:
        places = [self.place_of(block) for block, _ in self.live] + self.not_reclaimed
        touched = {
            (slab, page)
            for slab, start, stop in places
            for page in range(start // PAGE_BYTES, (stop - 1) // PAGE_BYTES + 1)
        }
        assert self.slabs.committed == len(touched) * PAGE_BYTES
        assert self.slabs.live == sum(stop - start for _, start, stop in places)

    def teardown(self) -> None:
        self.live.clear()
        self.slabs.reclaim()
        assert self.slabs.committed == self.slabs.live == self.really() == 0
        # And what is free is whole again: of all slabs one is left at most, and takes a block as large as itself.
        assert len(self.slabs.slabs) <= 1
        block = self.slabs.allocate(Packed, 0, SLAB_BYTES)
        assert list(self.slabs.slabs.values()) == [block.slab]


FEWER = settings().max_examples // 3  # an example is forty steps
TestSlabs = SlabMachine.TestCase
TestSlabs.settings = settings(max_examples=FEWER, deadline=None, stateful_step_count=40)

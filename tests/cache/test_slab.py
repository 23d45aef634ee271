"""Slabs: real memfds, measured by the kernel. The laws are in test_slab_laws.py."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading

import pytest

from tests.support.trees import memfd_meter, memfds, no_descriptors_left, noise
from zcserve.cache.entry import Packed
from zcserve.cache.memfd import PAGE_BYTES
from zcserve.cache.slab import BLOCK_ALIGN, Block, Slabs, shared

PAGES_PER_SLAB = 8


@pytest.fixture
def slabs() -> Slabs:
    return Slabs(PAGES_PER_SLAB * PAGE_BYTES)


def filled(slabs: Slabs, content: bytes) -> Block:
    block = slabs.allocate(Packed, 0, len(content))
    block.view()[:] = content
    return block


@pytest.mark.parametrize("length", [0, 257, 20_000, (1 << 15) - 1, 1 << 15, 1 << 40])
def test_a_shared_length_is_the_length_and_small_ones_are_one_object(length: int) -> None:
    assert shared(length) == length
    assert (shared(int(str(length))) is shared(int(str(length)))) == (length < 1 << 15)


# --- slabs ------------------------------------------------------------------------------------------------


def test_blocks_keep_what_is_written_into_them(slabs: Slabs) -> None:
    contents = [noise(length, length) for length in (17, 100, 4096, 1, 5000, 16)]
    blocks = [filled(slabs, content) for content in contents]
    assert [bytes(block.view()) for block in blocks] == contents
    assert all(block.offset % BLOCK_ALIGN == 0 for block in blocks)


def test_a_block_may_be_as_large_as_a_slab(slabs: Slabs) -> None:
    content = noise(PAGES_PER_SLAB * PAGE_BYTES)
    assert bytes(filled(slabs, content).view()) == content
    assert len(slabs.slabs) == 1


def test_a_block_goes_into_the_smallest_hole_that_holds_it(slabs: Slabs) -> None:
    sizes = (1024, 16, 512, 16, 2048, 16)
    blocks = [slabs.allocate(Packed, 0, size) for size in sizes]
    large, medium, larger = (blocks[i].offset for i in (0, 2, 4))
    kept = [block for block in blocks if block.length == 16]
    del blocks
    slabs.reclaim()
    placed = [slabs.allocate(Packed, 0, length) for length in (500, 1024, 1500)]
    assert [block.offset for block in placed] == [medium, large, larger]
    assert len(kept) == 3


def test_the_rest_of_a_hole_stays_a_hole(slabs: Slabs) -> None:
    hole, wall = slabs.allocate(Packed, 0, 1024), slabs.allocate(Packed, 0, 16)
    offset = hole.offset
    del hole
    slabs.reclaim()
    halves = [slabs.allocate(Packed, 0, 512), slabs.allocate(Packed, 0, 512)]
    assert [half.offset for half in halves] == [offset, offset + 512]
    assert wall.offset == offset + 1024


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_neighbouring_holes_become_one_in_whatever_order_they_are_freed(slabs: Slabs, order: tuple[int, ...]) -> None:
    blocks: list[Block | None] = [slabs.allocate(Packed, 0, 1000) for _ in range(3)]
    wall = slabs.allocate(Packed, 0, 16)
    first = blocks[0]
    assert first is not None
    offset = first.offset
    del first
    for i in order:
        blocks[i] = None
        slabs.reclaim()
    assert slabs.allocate(Packed, 0, 3 * 1008).offset == offset
    assert wall.offset == offset + 3 * 1008


def test_what_a_full_slab_has_left_at_its_end_is_used(slabs: Slabs) -> None:
    first = slabs.allocate(Packed, 0, (PAGES_PER_SLAB - 2) * PAGE_BYTES)
    second = slabs.allocate(Packed, 0, 3 * PAGE_BYTES)
    third = slabs.allocate(Packed, 0, 2 * PAGE_BYTES)
    assert second.slab is not first.slab
    assert (third.slab, third.offset) == (first.slab, first.length)


def test_memory_is_taken_by_the_page_when_it_is_touched(slabs: Slabs) -> None:
    really = memfd_meter("zcserve-slab")
    blocks = [filled(slabs, b"x" * 64)]
    assert slabs.committed == really() == PAGE_BYTES
    blocks.append(filled(slabs, b"x" * PAGE_BYTES))
    assert slabs.committed == really() == 2 * PAGE_BYTES
    blocks.append(filled(slabs, b"x" * 64))
    assert slabs.committed == really() == 2 * PAGE_BYTES


def test_a_page_is_given_back_when_its_last_block_dies_and_not_before(slabs: Slabs) -> None:
    really = memfd_meter("zcserve-slab")
    across = noise(2 * PAGE_BYTES)
    before, middle, after = filled(slabs, b"b" * 2048), filled(slabs, across), filled(slabs, b"a" * 2048)
    assert slabs.committed == really() == 3 * PAGE_BYTES
    del middle
    slabs.reclaim()
    assert slabs.committed == really() == 2 * PAGE_BYTES
    assert bytes(before.view()) == b"b" * 2048
    assert bytes(after.view()) == b"a" * 2048
    del before, after
    slabs.reclaim()
    assert slabs.committed == slabs.live == really() == 0


def test_a_block_that_is_referred_to_is_not_taken_back(slabs: Slabs) -> None:
    content = noise(3000)
    block = filled(slabs, content)
    reader = block
    del block
    slabs.reclaim()
    others = [filled(slabs, b"\0" * 3000) for _ in range(5)]
    assert bytes(reader.view()) == content
    assert all(other.offset != reader.offset or other.slab is not reader.slab for other in others)


def test_blocks_may_die_in_any_thread(slabs: Slabs) -> None:
    blocks = [slabs.allocate(Packed, 0, 100) for _ in range(100)]
    halves = [blocks[:50], blocks[50:]]
    del blocks
    threads = [threading.Thread(target=half.clear) for half in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slabs.reclaim()
    assert slabs.committed == slabs.live == 0


def test_a_slab_is_sealed_against_a_change_of_size(slabs: Slabs) -> None:
    before = memfds("zcserve-slab")
    block = slabs.allocate(Packed, 0, 16)
    mine = [fds for inode, (fds, _) in memfds("zcserve-slab").items() if inode not in before]
    assert len(mine) == 1
    for size in (0, 2 * PAGES_PER_SLAB * PAGE_BYTES):
        with pytest.raises(PermissionError):
            os.ftruncate(mine[0][0], size)
    assert block.length == 16


def test_heads_and_contents_are_written_behind_each_other(slabs: Slabs) -> None:
    batch = [(noise(head, head), noise(size, size)) for head, size in ((10, 0), (3, 100), (0, 7), (200, 5000))]
    blocks = slabs.write(batch, Packed)
    assert [bytes(block.view()) for block in blocks] == [head + content for head, content in batch]


def test_a_batch_of_more_buffers_than_one_system_call_takes_is_written_whole() -> None:
    slabs = Slabs(64 * PAGE_BYTES)
    batch = [(b"head %d" % i, noise(i % 90, i)) for i in range(2000)]
    blocks = slabs.write(batch, Packed)
    assert [bytes(block.view()) for block in blocks] == [head + content for head, content in batch]


def test_a_batch_goes_around_what_lives_and_over_the_end_of_a_slab(slabs: Slabs) -> None:
    """Holes, the untouched end and a new slab, in one batch."""
    old = [filled(slabs, noise(700, seed)) for seed in range(30)]
    kept = old[::3]
    del old
    slabs.reclaim()
    batch = [(noise(20, seed), noise(500 + 40 * seed, seed)) for seed in range(40)]
    blocks = slabs.write(batch, Packed)
    assert [bytes(block.view()) for block in blocks] == [head + content for head, content in batch]
    assert [bytes(block.view()) for block in kept] == [noise(700, seed) for seed in range(0, 30, 3)]
    assert len(slabs.slabs) > 1


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What `__del__` raised, which no caller can catch."""
    caught: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", caught.append)
    return caught


@pytest.mark.usefixtures("unraisable")
def test_a_slab_that_cannot_be_opened_leaves_everything_as_it_was(slabs: Slabs) -> None:
    block = filled(slabs, b"x" * (PAGES_PER_SLAB * PAGE_BYTES - 16))
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files"):
        slabs.allocate(Packed, 0, PAGE_BYTES)
    assert slabs.committed == PAGES_PER_SLAB * PAGE_BYTES
    again = filled(slabs, b"y" * PAGE_BYTES)
    assert bytes(block.view()) == b"x" * (PAGES_PER_SLAB * PAGE_BYTES - 16)
    assert bytes(again.view()) == b"y" * PAGE_BYTES
    assert slabs.committed == (PAGES_PER_SLAB + 1) * PAGE_BYTES


def test_a_slab_that_cannot_be_opened_dies_quietly(slabs: Slabs, unraisable: list[object]) -> None:
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files"):
        slabs.allocate(Packed, 0, PAGE_BYTES)
    gc.collect()
    assert not unraisable


def test_a_page_full_of_the_smallest_blocks_is_counted_right(slabs: Slabs) -> None:
    blocks = [slabs.allocate(Packed, 0, 1) for _ in range(PAGE_BYTES // BLOCK_ALIGN)]
    assert slabs.committed == PAGE_BYTES
    del blocks
    slabs.reclaim()
    assert slabs.committed == 0


def test_a_slab_is_closed_when_all_its_blocks_are_gone_but_not_under_a_view(slabs: Slabs) -> None:
    before = memfds("zcserve-slab").keys()
    size = PAGES_PER_SLAB * PAGE_BYTES
    blocks = [filled(slabs, bytes([number]) * size) for number in range(4)]
    view = blocks[1].view()
    del blocks[:3]
    slabs.reclaim()
    assert list(slabs.slabs) == [3]
    mine = memfds("zcserve-slab").keys() - before
    assert len(mine) == 2  # the view keeps its mapping, whose pages are given back
    del view
    assert len(memfds("zcserve-slab").keys() - before) == 1
    assert bytes(blocks[0].view()) == b"\3" * size


def test_the_newest_slab_stays_and_is_filled_from_its_start(slabs: Slabs) -> None:
    del [filled(slabs, b"x" * 1000) for _ in range(5)][:]
    slabs.reclaim()
    again = filled(slabs, b"y" * (PAGES_PER_SLAB * PAGE_BYTES))
    assert (again.offset, list(slabs.slabs)) == (0, [0])


def test_a_slab_that_retires_takes_nothing_new_and_closes(slabs: Slabs) -> None:
    blocks = [filled(slabs, b"x" * 1008) for _ in range(20)]
    slab = blocks[0].slab
    del blocks[::2]
    slabs.reclaim()
    slabs.retire(slab)
    others = [filled(slabs, b"y" * 1008) for _ in range(20)]
    assert all(other.slab is not slab for other in others)
    assert [bytes(block.view()) for block in blocks] == [b"x" * 1008] * 10
    del blocks
    slabs.reclaim()
    assert slab not in slabs.slabs.values()
    del others
    slabs.reclaim()
    assert slabs.committed == slabs.live == 0


def test_what_two_processes_have_is_not_used_anew_before_the_other_is_gone(slabs: Slabs) -> None:
    first, gap, last = (filled(slabs, noise(PAGE_BYTES, seed)) for seed in range(3))
    new = Slabs(slabs.slab_bytes)
    assert new.adopt([os.dup(slab.fd) for slab in slabs.slabs.values()])
    kept, dying = (new.claim(Packed, 0, block.offset, 0, block.size, 1 << 20) for block in (first, last))
    assert kept is not None
    assert kept.view() == first.view()
    assert new.committed == 2 * PAGE_BYTES
    del dying
    new.reclaim()
    assert new.has_adopted
    assert filled(new, b"own").slab.number == 1
    assert (bytes(gap.view()), bytes(last.view())) == (noise(PAGE_BYTES, 1), noise(PAGE_BYTES, 2))
    assert list(new.release()) == []
    new.reclaim()
    assert not new.has_adopted
    assert new.committed == PAGE_BYTES
    assert filled(new, noise(2 * PAGE_BYTES)).slab is kept.slab

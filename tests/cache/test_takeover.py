"""zcserve.cache.takeover: what another store has filled is looked at, claimed within the budget, and given back only
when the other one is gone. With manifests and processes: test_manifest.py, tests/wire/test_upgrade_live.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.trees import content_of, noise
from zcserve.cache.entry import Entry, Packed, Paged
from zcserve.cache.store import Store
from zcserve.cache.takeover import Memory

HEAD = b"ETag: x\r\n\r\n"
SMALL, LARGE = 4000, 200_000
BUDGET = 1 << 20


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def make_store(stack: ExitStack, budget: int = BUDGET, slab_bytes: int = 64 * 1024) -> Store:
    store = Store(budget, slab_bytes=slab_bytes, small_body_bytes_max=16 * 1024)
    stack.callback(store.close)
    return store


def new_entry(size: int) -> Entry:
    return Entry(b"/x", b"", size, None)


def place(store: Store, content: bytes) -> Entry:
    entry = new_entry(len(content))
    assert store.place([(entry, HEAD, content)])
    return entry


def handed(store: Store) -> Memory:
    """As a child inherits it: descriptors of its own."""
    slabs, pages, numbers = store.freeze()
    return Memory(tuple(map(os.dup, slabs)), os.dup(pages), numbers)


def packed(entry: Entry) -> Packed:
    assert isinstance(entry.body, Packed)
    return entry.body


def test_what_was_packed_and_paged_by_one_is_the_same_in_another(stack: ExitStack) -> None:
    old, new = make_store(stack), make_store(stack)
    small = packed(place(old, noise(SMALL, 1)))
    extent = old.reserve(LARGE)
    assert extent is not None
    old.fill(extent, memoryview(noise(LARGE, 2)), 0)
    assert new.takeover.adopt(handed(old))
    head, at = len(HEAD), small.block.offset
    assert bytes(new.takeover.look(0, at, head + SMALL)) == HEAD + noise(SMALL, 1)
    body = new.takeover.claim(0, at, head, SMALL)
    assert body is not None
    assert content_of(body) == noise(SMALL, 1)
    pages = new.takeover.claim_pages(extent.offset, LARGE)
    assert pages is not None
    assert content_of(Paged(HEAD, new.pages_fd, pages.offset, LARGE, pages)) == noise(LARGE, 2)
    assert LARGE + SMALL <= new.committed <= old.committed


def test_memory_of_another_shape_is_not_adopted(stack: ExitStack) -> None:
    old, new = make_store(stack), make_store(stack, slab_bytes=32 * 1024)
    place(old, noise(SMALL))
    memory = handed(old)
    assert not new.takeover.adopt(memory)
    memory.close()


def test_what_is_over_the_budget_is_not_claimed(stack: ExitStack) -> None:
    old, new = make_store(stack), make_store(stack, BUDGET // 2)
    extents = [old.reserve(LARGE) for _ in range(4)]
    assert new.takeover.adopt(handed(old))
    claimed = [new.takeover.claim_pages(extent.offset, LARGE) for extent in extents if extent is not None]
    assert [one is not None for one in claimed] == [True, True, False, False]
    assert new.committed <= BUDGET // 2


def test_nothing_is_evicted_before_the_other_one_is_gone(stack: ExitStack) -> None:
    old, new = make_store(stack), make_store(stack)
    taken = [packed(place(old, noise(SMALL, number))) for number in range(100)]
    memory = handed(old)
    assert new.takeover.adopt(memory)
    entries = [new_entry(SMALL) for _ in taken]
    for entry, body in zip(entries, taken, strict=True):
        slab = memory.numbers.index(body.block.slab.number)
        claimed = new.takeover.claim(slab, body.block.offset, len(HEAD), SMALL)
        assert claimed is not None
        new.admit(entry, claimed)
    while new.place([(new_entry(SMALL), HEAD, noise(SMALL))]):
        """Until it is full."""
    assert new.evictions == 0
    assert all(entry.body is not None for entry in entries)
    new.takeover.release()
    place(new, noise(SMALL))
    assert new.evictions > 0

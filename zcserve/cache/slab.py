"""Memory for small bodies, packed into slabs.

A *slab* is a memfd mapped once, in which small blocks (a head and its body, contiguous) lie packed. It is sent by copy
alone (`sendmsg` of the mapping), so that a freed block may be used again at once.

Lifetime is reference counting: a `Block` holds its bytes for as long as the object lives, wherever references to it
are, and its `__del__` only notes what became free. A block is no object beside the body that it holds but the body
itself (entry.py), which saves a hundred bytes a file. `reclaim` merges, punches and counts it before the next call
that allocates. `__del__` may run in any thread; everything else here is called with the store's lock held.

What the fast lane is about to let go of is *condemned*: it counts as free for what makes room, though a connection
or the fast lane may refer to it for a moment longer. `committed` counts whole pages that the kernel has given,
which is what a memory budget means.

A slab whose blocks are all gone is closed. One that is *retiring* (compact.py) takes nothing new, so that it soon is.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from sortedcontainers import SortedList

from zcserve.cache.ledger import Ledger
from zcserve.cache.memfd import PAGE_BYTES, open_memfd, punch, round_up, seal

# Blocks begin at multiples of this: two heads never share a 16-byte load, and fragments stay mergeable.
BLOCK_ALIGN = 16

# Lengths of heads and small files repeat, and an integer is an object of 32 bytes: these are kept once.
_LENGTHS = tuple(range(1 << 15))


def shared(length: int) -> int:
    """The same number; of small ones always the same object."""
    return _LENGTHS[length] if length < len(_LENGTHS) else length


# So many gaps are freed in one step of `Slabs.release`: some milliseconds.
GAPS_AT_ONCE = 256

# IOV_MAX, the most that one pwritev takes.
_IOVECS_MAX = 1024
_PADDING = bytes(BLOCK_ALIGN)


def _write_run(slab: Slab | None, run: list[bytes], offset: int) -> None:
    """Write buffers behind each other; a memfd takes all or fails (ENOSPC: the machine is out of memory)."""
    if slab is not None and run:
        os.pwritev(slab.fd, run, offset)


def _runs(blocks: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Blocks (offset, length) in order, as lists of those that lie behind each other without a gap."""
    run: list[tuple[int, int]] = []
    end = -1
    for offset, length in blocks:
        if offset != end and run:
            yield run
            run = []
        run.append((offset, length))
        end = offset + length
    if run:
        yield run


class Block:
    """A head of `head_bytes` and a content of `size` inside a slab, valid while this object lives. A subclass
    declares the slots, and is made of `(slab, offset, head_bytes, size)`."""

    if not TYPE_CHECKING:  # mypy would have nothing assigned that this class itself has no slot for
        __slots__ = ()
    slab: Slab
    offset: int
    head_bytes: int
    size: int
    condemned: bool

    def __init__(self, slab: Slab, offset: int, head_bytes: int, size: int) -> None:
        self.condemned = False
        self.slab = slab
        self.offset = offset
        self.head_bytes = head_bytes
        self.size = size

    @property
    def length(self) -> int:
        """Bytes of head and content."""
        return self.head_bytes + self.size

    def view(self) -> memoryview:
        """The block's bytes, writable. The view does not keep the block: hold both."""
        return self.slab.view[self.offset : self.offset + self.head_bytes + self.size]

    def __del__(self) -> None:
        self.slab.released.append((self.slab, self.offset, self.head_bytes + self.size, self.condemned))


AnyBlock = TypeVar("AnyBlock", bound=Block)


class Slab:
    """One mapped memfd with its free list. `page_use` counts the blocks that touch each page, `pages` those pages,
    `live` the blocks' bytes.

    It is written through its descriptor: pages that `pwritev` makes come without a fault each, and without being
    zeroed first, which for 4 KB files is 2.4 times as fast as writing through the mapping.
    """

    __slots__ = (
        "fd",
        "free_by_end",
        "free_by_start",
        "frontier",
        "ledger",
        "live",
        "map",
        "number",
        "page_use",
        "pages",
        "released",
        "retiring",
        "view",
    )

    def __init__(
        self, number: int, size: int, released: deque[tuple[Slab, int, int, bool]], fd: int | None = None
    ) -> None:
        """`fd`: another process's, `size` bytes long."""
        self.fd = -1  # for __del__, should there be no descriptor left
        self.fd = open_memfd("zcserve-slab") if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, size)
            seal(self.fd, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self.map = mmap.mmap(self.fd, size)
        self.number = number
        self.view = memoryview(self.map)
        self.released = released
        self.page_use = array("H", bytes(2 * (size // PAGE_BYTES)))
        self.pages = 0
        self.live = 0
        self.frontier = 0
        self.retiring = False
        self.ledger: Ledger | None = None  # where another process has it as well: nothing in it is used anew
        self.free_by_start: dict[int, int] = {}
        self.free_by_end: dict[int, int] = {}

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def occupy(self, offset: int, length: int) -> int:
        """Count a block in; returns how many pages it is the first to touch."""
        fresh = 0
        use = self.page_use
        for page in range(offset // PAGE_BYTES, (offset + length - 1) // PAGE_BYTES + 1):
            if not use[page]:
                fresh += 1
            use[page] += 1
        self.pages += fresh
        self.live += length
        return fresh

    def vacate(self, blocks: Sequence[tuple[int, int]]) -> int:
        """Count blocks (offset, length) out that lie behind each other, and give the pages that no block touches back
        to the kernel, at once; returns how many."""
        use = self.page_use
        for offset, length in blocks:
            for page in range(offset // PAGE_BYTES, (offset + length - 1) // PAGE_BYTES + 1):
                use[page] -= 1
            self.live -= length
        first, last = blocks[0][0] // PAGE_BYTES, (offset + length - 1) // PAGE_BYTES
        # Only the outer two can still be in use by a neighbour.
        if use[first]:
            first += 1
        if last >= first and use[last]:
            last -= 1
        if last < first:
            return 0
        punch(self.fd, first * PAGE_BYTES, (last - first + 1) * PAGE_BYTES)
        self.pages -= last - first + 1
        return last - first + 1


class Slabs:
    """All slabs, best fit first. `allocate` never opens a slab that was not asked for: the budget is the caller's."""

    def __init__(self, slab_bytes: int) -> None:
        self.slab_bytes = max(round_up(slab_bytes), PAGE_BYTES)
        self.slabs: dict[int, Slab] = {}  # by number, in ascending order
        self.newest: Slab | None = None  # the one that has never been full
        self.committed = 0
        self.condemned = 0
        self.live = 0
        self.released: deque[tuple[Slab, int, int, bool]] = deque()
        self._free: SortedList[tuple[int, int, int]] = SortedList()  # (length, slab number, offset)
        self._fragments = 0  # len(_free), which asks Python for it
        self._adopted: list[Slab] = []  # those with a ledger
        self._sealed: Slab | None = None  # the newest of those that another process takes over
        self._is_sealed = False

    def write(self, contents: Sequence[tuple[bytes, bytes]], kind: type[AnyBlock]) -> list[AnyBlock]:
        """A block for each (head, content), filled; neighbours are written together."""
        blocks = []
        slab: Slab | None = None
        start = end = 0
        run: list[bytes] = []
        for head, content in contents:
            block = self.allocate(kind, len(head), len(content))
            if block.slab is not slab or block.offset != end or len(run) > _IOVECS_MAX - 3:
                _write_run(slab, run, start)
                slab, start, run = block.slab, block.offset, []
            length = len(head) + len(content)
            need = round_up(length, BLOCK_ALIGN)
            run += (head, content, _PADDING[: need - length])
            end = block.offset + need
            blocks.append(block)
        _write_run(slab, run, start)
        return blocks

    def move(self, block: Block, kind: type[AnyBlock]) -> AnyBlock:
        """Another block of the same bytes, in no hole but behind what was moved last: so the pages there are full."""
        moved = self.allocate(kind, block.head_bytes, block.size, untouched=True)
        os.pwrite(moved.slab.fd, block.view(), moved.offset)
        return moved

    def allocate(self, kind: type[AnyBlock], head_bytes: int, size: int, *, untouched: bool = False) -> AnyBlock:
        """A block with room for a head and a content, 0 < both together <= slab_bytes."""
        need = round_up(head_bytes + size, BLOCK_ALIGN)
        slab, offset = (
            self._best_fit(need) if self._fragments and not (untouched or self._is_sealed) else None
        ) or self._advance(need)
        self.committed += slab.occupy(offset, need) * PAGE_BYTES
        self.live += need
        return kind(slab, offset, shared(head_bytes), shared(size))

    def _best_fit(self, need: int) -> tuple[Slab, int] | None:
        free = self._free
        at = free.bisect_left((need, -1, -1))
        while at < len(free):
            length, number, offset = free[at]
            self._forget(number, offset, length)
            slab = self.slabs[number]
            if slab.retiring:
                continue  # its holes are forgotten when they are come upon
            if length > need:
                self._remember(number, offset + need, length - need)
            return slab, offset
        return None

    def _advance(self, need: int) -> tuple[Slab, int]:
        """Take from the newest slab's untouched end, or from a new slab."""
        slab = self.newest or self._open_slab()
        if slab.frontier + need > self.slab_bytes:
            # What is left at the end becomes a free fragment like any other.
            if slab.frontier < self.slab_bytes:
                self._merge(slab.number, slab.frontier, self.slab_bytes - slab.frontier)
                slab.frontier = self.slab_bytes
            slab = self._open_slab()
        offset = slab.frontier
        slab.frontier = offset + need
        return slab, offset

    def _open_slab(self) -> Slab:
        slab = Slab(next(reversed(self.slabs), -1) + 1, self.slab_bytes, self.released)
        self.slabs[slab.number] = self.newest = slab
        return slab

    def retire(self, slab: Slab) -> None:
        """Put nothing into a slab any more, and close it when the last of its blocks is gone."""
        slab.retiring = True
        if slab is self.newest:
            self.newest = None

    def _clear(self, slab: Slab) -> None:
        """All its blocks are gone: close it, but for the newest. It is unmapped when the last view of it is gone."""
        for offset, length in tuple(slab.free_by_start.items()):
            self._forget(slab.number, offset, length)
        if slab is self.newest:
            slab.frontier = 0
        else:
            del self.slabs[slab.number]

    def condemn(self, block: Block) -> None:
        """A block was evicted; what still refers to it will let go of it soon."""
        block.condemned = True
        self.condemned += round_up(block.length, BLOCK_ALIGN)

    def reclaim(self, blocks_max: int = sys.maxsize) -> None:
        """Take back what has died, or some of it, the oldest first. What lay side by side is one hole: its pages are
        given back at once."""
        dead: dict[Slab, list[tuple[int, int]]] = {}
        while self.released and blocks_max > 0:
            slab, offset, length, condemned = self.released.popleft()
            blocks_max -= 1
            need = round_up(length, BLOCK_ALIGN)
            if condemned:
                self.condemned -= need
            if slab.ledger is not None:
                slab.ledger.dead.append((offset, length))
            else:
                dead.setdefault(slab, []).append((offset, need))
        for slab, blocks in dead.items():
            for run in _runs(sorted(blocks)):
                self._take_back(slab, run)
            if not slab.live:
                self._clear(slab)

    def _take_back(self, slab: Slab, run: list[tuple[int, int]]) -> None:
        """Blocks that died, side by side."""
        (start, _), (last, length) = run[0], run[-1]
        self.live -= last + length - start
        self.committed -= slab.vacate(run) * PAGE_BYTES
        self._merge(slab.number, start, last + length - start)

    def _merge(self, number: int, offset: int, length: int) -> None:
        slab = self.slabs[number]
        before = slab.free_by_end.get(offset)
        if before is not None:
            self._forget(number, before, offset - before)
            offset, length = before, length + offset - before
        after = slab.free_by_start.get(offset + length)
        if after is not None:
            self._forget(number, offset + length, after)
            length += after
        if not slab.retiring:
            self._remember(number, offset, length)

    def _remember(self, number: int, offset: int, length: int) -> None:
        slab = self.slabs[number]
        slab.free_by_start[offset] = length
        slab.free_by_end[offset + length] = offset
        self._free.add((length, number, offset))
        self._fragments += 1

    def _forget(self, number: int, offset: int, length: int) -> None:
        slab = self.slabs[number]
        del slab.free_by_start[offset]
        del slab.free_by_end[offset + length]
        self._free.remove((length, number, offset))
        self._fragments -= 1

    # --- with another process (upgrade.py) --------------------------------------------------------------------

    def seal(self) -> dict[int, Slab]:
        """Put nothing into these slabs any more, which are all there are; new blocks open others."""
        if not self._is_sealed:
            self._sealed, self.newest, self._is_sealed = self.newest, None, True
        return self.slabs

    def unseal(self) -> None:
        """Use them again."""
        slab, self._sealed, self._is_sealed = self._sealed, None, False
        if slab is None or self.slabs.get(slab.number) is not slab:
            return
        if self.newest is None:
            self.newest = slab
        elif slab.frontier < self.slab_bytes:
            self._merge(slab.number, slab.frontier, self.slab_bytes - slab.frontier)
            slab.frontier = self.slab_bytes

    def adopt(self, descriptors: Sequence[int]) -> bool:
        """Take over another process's slabs, before there are any here; False when they are of another size.

        Only what is claimed of them counts as used, and none of the rest is free until `release`.
        """
        if any(os.fstat(fd).st_size != self.slab_bytes for fd in descriptors):
            return False
        for number, fd in enumerate(descriptors):
            slab = Slab(number, self.slab_bytes, self.released, fd)
            slab.frontier = self.slab_bytes
            slab.ledger = Ledger(self.slab_bytes, BLOCK_ALIGN)
            self.slabs[number] = slab
            self._adopted.append(slab)
        return True

    def claim(
        self, kind: type[AnyBlock], number: int, offset: int, head_bytes: int, size: int, room: int
    ) -> AnyBlock | None:
        """A block that the other process wrote, in the adopted slab of this number; None if it is the first in more
        than `room` bytes of pages."""
        need = round_up(head_bytes + size, BLOCK_ALIGN)
        slab = self.slabs[number]
        assert slab.ledger is not None
        if slab.page_use[offset // PAGE_BYTES : (offset + need - 1) // PAGE_BYTES + 1].count(0) * PAGE_BYTES > room:
            return None
        slab.ledger.claim(offset, need)
        self.committed += slab.occupy(offset, need) * PAGE_BYTES
        self.live += need
        return kind(slab, offset, shared(head_bytes), shared(size))

    def release(self) -> Iterator[None]:
        """The other process has ended: what was not claimed is free, and what was claimed and is not used any more. In
        steps, since there may be a million gaps; between two of them the lock may be given up."""
        for slab in self._adopted:
            assert slab.ledger is not None
            for count, (start, end) in enumerate(slab.ledger.gaps(), 1):
                self._free_gap(slab, start, end)
                if not count % GAPS_AT_ONCE:
                    yield
            if not slab.live:
                self._clear(slab)
        for slab in self._adopted:
            assert slab.ledger is not None
            self.released.extend((slab, offset, length, False) for offset, length in slab.ledger.dead)
            slab.ledger = None
        self._adopted = []

    def _free_gap(self, slab: Slab, start: int, end: int) -> None:
        """What lies between two claims, and the pages of it that they do not touch."""
        if start == end:
            return
        self._merge(slab.number, start, end - start)
        first, last = round_up(start), end // PAGE_BYTES * PAGE_BYTES
        if first < last:
            punch(slab.fd, first, last - first)

    @property
    def has_adopted(self) -> bool:
        """Whether another process has some of them as well."""
        return bool(self._adopted)

"""Memory of our own, in two shapes: packed slabs for small bodies, whole pages for large ones.

A *slab* is a memfd mapped once, in which small blocks (a head and its body, contiguous) lie packed. It is only
ever sent by copy (`sendmsg` of the mapping), so that a freed block may be used again at once.

*Pages* is one sparse memfd that is never mapped to be read: each extent begins on a page and is sent by `sendfile`,
which leaves references to the pages themselves in the socket. Writing there again would change bytes in flight, so an
extent's offsets are never used twice: it is punched out, and the next extent comes behind the last one. The file is
as long as all that was ever loaded and as large as what is resident; one descriptor serves all large bodies.

Lifetime is reference counting: a `Block` or `Extent` holds its bytes for as long as the object lives, wherever
references to it are, and its `__del__` only notes what became free. A block is no object beside the body that it
holds but the body itself (entry.py), which saves a hundred bytes a file. The notes are settled (merged, punched,
counted) by the next call that allocates. `__del__` may run in any thread; everything else here is called with the
store's lock held.

What the fast lane is about to let go of is *condemned*: it counts as free for whoever makes room, though a connection
or the fast lane may refer to it for a moment longer. `committed` counts whole pages that the kernel has given us,
which is what a memory budget means.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from array import array
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from sortedcontainers import SortedList

PAGE_BYTES = mmap.PAGESIZE
# Blocks begin at multiples of this: two heads never share a 16-byte load, and fragments stay mergeable.
BLOCK_ALIGN = 16


def round_up(length: int, unit: int = PAGE_BYTES) -> int:
    """The least multiple of `unit` that is >= length."""
    return -(-length // unit) * unit


# Lengths of heads and small files repeat, and an integer is an object of 32 bytes: these are kept once.
_LENGTHS = tuple(range(1 << 15))


def shared(length: int) -> int:
    """The same number; of small ones always the same object."""
    return _LENGTHS[length] if length < len(_LENGTHS) else length


def _memfd(name: str) -> int:
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


# IOV_MAX, the most that one pwritev takes.
_IOVECS_MAX = 1024
_PADDING = bytes(BLOCK_ALIGN)


def _write_run(slab: Slab | None, run: list[bytes], offset: int) -> None:
    """Write buffers behind each other; a memfd takes all or fails (ENOSPC: the machine is out of memory)."""
    if slab is not None and run:
        os.pwritev(slab.fd, run, offset)


class Block:
    """A head of `head_bytes` and a content of `size` inside a slab, valid while this object lives. Whoever is one
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
    """One mapped memfd with its free list. `page_use` counts the blocks that touch each page.

    It is written through its descriptor: pages that `pwritev` makes come without a fault each, and without being
    zeroed first, which for 4 KB files is 2.4 times as fast as writing through the mapping.
    """

    __slots__ = ("fd", "free_by_end", "free_by_start", "frontier", "map", "number", "page_use", "released", "view")

    def __init__(self, number: int, size: int, released: deque[tuple[Slab, int, int, bool]]) -> None:
        self.fd = -1  # for __del__, should there be no descriptor left
        self.fd = _memfd("zcserve-slab")
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self.map = mmap.mmap(self.fd, size)
        self.number = number
        self.view = memoryview(self.map)
        self.released = released
        self.page_use = array("H", bytes(2 * (size // PAGE_BYTES)))
        self.frontier = 0
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
        return fresh

    def vacate(self, offset: int, length: int) -> int:
        """Count a block out and give the pages that nobody touches back to the kernel; returns how many."""
        use = self.page_use
        first, last = offset // PAGE_BYTES, (offset + length - 1) // PAGE_BYTES
        for page in range(first, last + 1):
            use[page] -= 1
        # Only the outer two can still be in use by a neighbour.
        if use[first]:
            first += 1
        if last >= first and use[last]:
            last -= 1
        if last < first:
            return 0
        self.map.madvise(mmap.MADV_REMOVE, first * PAGE_BYTES, (last - first + 1) * PAGE_BYTES)
        return last - first + 1


class Slabs:
    """All slabs, best fit first. `allocate` never opens a slab that was not asked for: the budget is the caller's."""

    def __init__(self, slab_bytes: int) -> None:
        self.slab_bytes = max(round_up(slab_bytes), PAGE_BYTES)
        self.slabs: list[Slab] = []
        self.committed = 0
        self.condemned = 0
        self.live = 0
        self.released: deque[tuple[Slab, int, int, bool]] = deque()
        self._free: SortedList[tuple[int, int, int]] = SortedList()  # (length, slab number, offset)
        self._fragments = 0  # len(_free), which asks Python for it

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

    def allocate(self, kind: type[AnyBlock], head_bytes: int, size: int) -> AnyBlock:
        """A block with room for a head and a content, 0 < both together <= slab_bytes."""
        need = round_up(head_bytes + size, BLOCK_ALIGN)
        slab, offset = (self._best_fit(need) if self._fragments else None) or self._advance(need)
        self.committed += slab.occupy(offset, need) * PAGE_BYTES
        self.live += need
        return kind(slab, offset, shared(head_bytes), shared(size))

    def _best_fit(self, need: int) -> tuple[Slab, int] | None:
        free = self._free
        at = free.bisect_left((need, -1, -1))
        if at == len(free):
            return None
        length, number, offset = free[at]
        self._forget(number, offset, length)
        if length > need:
            self._remember(number, offset + need, length - need)
        return self.slabs[number], offset

    def _advance(self, need: int) -> tuple[Slab, int]:
        """Take from the newest slab's untouched end, or from a new slab."""
        slab = self.slabs[-1] if self.slabs else self._open_slab()
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
        slab = Slab(len(self.slabs), self.slab_bytes, self.released)
        self.slabs.append(slab)
        return slab

    def condemn(self, block: Block) -> None:
        """A block was evicted; whoever still refers to it will let go of it soon."""
        block.condemned = True
        self.condemned += round_up(block.length, BLOCK_ALIGN)

    def settle(self) -> None:
        """Take back what died since the last call."""
        while self.released:
            slab, offset, length, condemned = self.released.popleft()
            need = round_up(length, BLOCK_ALIGN)
            if condemned:
                self.condemned -= need
            self.live -= need
            self.committed -= slab.vacate(offset, need) * PAGE_BYTES
            self._merge(slab.number, offset, need)

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


class Extent:
    """`length` bytes at `offset` of the pages' memfd `fd`; they do not change while this object lives."""

    __slots__ = ("condemned", "length", "offset", "pages")

    def __init__(self, pages: Pages, offset: int, length: int) -> None:
        self.condemned = False
        self.pages = pages
        self.offset = offset
        self.length = length

    def __del__(self) -> None:
        self.pages.released.append((self.offset, self.length, self.condemned))


class Pages:
    """The memfd of large bodies. Offsets only grow; see the module's text for why."""

    def __init__(self) -> None:
        self.fd = _memfd("zcserve-pages")
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.committed = 0
        self.condemned = 0
        self.released: deque[tuple[int, int, bool]] = deque()
        self._frontier = 0

    def allocate(self, length: int) -> Extent:
        """An extent of `length` > 0 bytes, to be filled with `os.pwrite(pages.fd, data, extent.offset)`."""
        offset = self._frontier
        size = round_up(length)
        self._frontier = offset + size
        os.ftruncate(self.fd, self._frontier)
        self.committed += size
        return Extent(self, offset, length)

    def condemn(self, extent: Extent) -> None:
        """As `Slabs.condemn`."""
        extent.condemned = True
        self.condemned += round_up(extent.length)

    def settle(self) -> None:
        """Punch out what died since the last call: bytes that are still in a socket stay as they were."""
        while self.released:
            offset, length, condemned = self.released[0]
            size = round_up(length)
            # MADV_REMOVE is FALLOC_FL_PUNCH_HOLE by another door, and the one that the standard library has.
            try:
                window = mmap.mmap(self.fd, size, offset=offset)
            except OSError:
                return  # at the descriptor limit: the next call may find one
            with window:
                window.madvise(mmap.MADV_REMOVE)
            self.released.popleft()
            self.committed -= size
            if condemned:
                self.condemned -= size

    def close(self) -> None:
        """Close the memfd. Extents that are still referred to keep nothing alive after this."""
        os.close(self.fd)

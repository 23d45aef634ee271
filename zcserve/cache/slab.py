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

A slab whose blocks are all gone is closed. One that is *retiring* (compact.py) takes nothing new, so that it soon is.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from sortedcontainers import SortedList

from zcserve.cache.order import in_order
from zcserve.cache.unseen import hide

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


_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate  # musl has but the latter
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def _punch(fd: int, offset: int, length: int) -> None:
    """Give pages of a memfd back. Not by `madvise`, for which Python holds the GIL: 2 ms for 16 MiB."""
    if _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# So many gaps are freed in one step of `Slabs.release`: some milliseconds.
GAPS_AT_ONCE = 256

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
        self.fd = _memfd("zcserve-slab") if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self.map = mmap.mmap(self.fd, size)
        self.number = number
        self.view = memoryview(self.map)
        self.released = released
        self.page_use = array("H", bytes(2 * (size // PAGE_BYTES)))
        self.pages = 0
        self.live = 0
        self.frontier = 0
        self.retiring = False
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

    def vacate(self, offset: int, length: int) -> int:
        """Count a block out and give the pages that nobody touches back to the kernel; returns how many."""
        use = self.page_use
        first, last = offset // PAGE_BYTES, (offset + length - 1) // PAGE_BYTES
        for page in range(first, last + 1):
            use[page] -= 1
        self.live -= length
        # Only the outer two can still be in use by a neighbour.
        if use[first]:
            first += 1
        if last >= first and use[last]:
            last -= 1
        if last < first:
            return 0
        _punch(self.fd, first * PAGE_BYTES, (last - first + 1) * PAGE_BYTES)
        self.pages -= last - first + 1
        return last - first + 1


class Slabs:
    """All slabs, best fit first. `allocate` never opens a slab that was not asked for: the budget is the caller's."""

    def __init__(self, slab_bytes: int) -> None:
        self.slab_bytes = max(round_up(slab_bytes), PAGE_BYTES)
        self.slabs: dict[int, Slab] = {}  # by number, in ascending order
        self.newest: Slab | None = None  # the one with untouched ground
        self.committed = 0
        self.condemned = 0
        self.live = 0
        self.released: deque[tuple[Slab, int, int, bool]] = deque()
        self._free: SortedList[tuple[int, int, int]] = SortedList()  # (length, slab number, offset)
        self._fragments = 0  # len(_free), which asks Python for it
        self.held = 0  # so many of the first slabs are another process's as well: nothing in them is used anew
        self._claims: list[array[int]] = []  # of each of those, offset << 32 | length
        self._deferred: list[tuple[Slab, int, int, bool]] = []  # what died in them
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
                continue  # its holes are forgotten when somebody comes upon them
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
        """All its blocks are gone: close it, but for the newest. It is unmapped when nobody has a view of it."""
        for offset, length in tuple(slab.free_by_start.items()):
            self._forget(slab.number, offset, length)
        if slab is self.newest:
            slab.frontier = 0
        else:
            del self.slabs[slab.number]

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
            if slab.number < self.held:
                self._deferred.append((slab, offset, length, False))
                continue
            self.live -= need
            self.committed -= slab.vacate(offset, need) * PAGE_BYTES
            self._merge(slab.number, offset, need)
            if not slab.live:
                self._clear(slab)

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
        """Take over another process's slabs, before any of our own; False when they are of another size.

        Only what is claimed of them counts as used, and none of the rest is free until `release`.
        """
        if any(os.fstat(fd).st_size != self.slab_bytes for fd in descriptors):
            return False
        for number, fd in enumerate(descriptors):
            slab = Slab(number, self.slab_bytes, self.released, fd)
            slab.frontier = self.slab_bytes
            self.slabs[number] = slab
            self._claims.append(array("Q"))
        self.held = len(self.slabs)
        return True

    def claim(
        self, kind: type[AnyBlock], number: int, offset: int, head_bytes: int, size: int, room: int
    ) -> AnyBlock | None:
        """A block that the other process wrote; None if it is the first in more than `room` bytes of pages."""
        need = round_up(head_bytes + size, BLOCK_ALIGN)
        slab = self.slabs[number]
        if slab.page_use[offset // PAGE_BYTES : (offset + need - 1) // PAGE_BYTES + 1].count(0) * PAGE_BYTES > room:
            return None
        self._claims[number].append(offset << 32 | need)
        self.committed += slab.occupy(offset, need) * PAGE_BYTES
        self.live += need
        return kind(slab, offset, shared(head_bytes), shared(size))

    def release(self) -> Iterator[None]:
        """The other process is gone: what was not claimed is free, as is what was and has died since. In steps, since
        there may be a million gaps; between two of them everything else may be asked for."""
        for number, claims in enumerate(self._claims):
            at = 0
            for count, claim in enumerate(in_order(claims), 1):
                self._free_gap(number, at, claim >> 32)
                at = (claim >> 32) + (claim & 0xFFFFFFFF)
                if not count % GAPS_AT_ONCE:
                    yield
            self._free_gap(number, at, self.slab_bytes)
            if not self.slabs[number].live:
                self._clear(self.slabs[number])
        self.held = 0
        self._claims = []
        self.released.extend(self._deferred)
        self._deferred = []

    def _free_gap(self, number: int, start: int, stop: int) -> None:
        """What lies between two claims, and the pages of it that they do not touch."""
        if start == stop:
            return
        self._merge(number, start, stop - start)
        first, end = round_up(start), stop // PAGE_BYTES * PAGE_BYTES
        if first < end:
            _punch(self.slabs[number].fd, first, end - first)


class Extent:
    """`length` bytes at `offset` of the pages' memfd `fd`; they do not change while this object lives."""

    __slots__ = ("__weakref__", "condemned", "etag", "length", "offset", "pages", "sharers")

    def __init__(self, pages: Pages, offset: int, length: int) -> None:
        hide(self)
        self.condemned = False
        self.sharers = 0  # resident bodies that lie here: a sibling is a variant and a file of its own
        self.etag = b""  # of what fills it, where it may be shared
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
        self._held = 0  # what lies below is another process's as well, and is not punched out
        self._claims: list[tuple[int, int]] = []
        self._deferred: list[tuple[int, int, bool]] = []

    def check(self, length: int, file_bytes_max: int | None) -> None:
        """Raises OSError where the memfd would become too long."""
        if file_bytes_max is not None and self._frontier + round_up(length) > file_bytes_max:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def allocate(self, length: int) -> Extent:
        """An extent of `length` > 0 bytes, to be filled with `os.pwrite(pages.fd, data, extent.offset)`."""
        offset = self._frontier
        size = round_up(length)
        os.ftruncate(self.fd, offset + size)
        self._frontier = offset + size
        self.committed += size
        return Extent(self, offset, length)

    def condemn(self, extent: Extent) -> None:
        """As `Slabs.condemn`."""
        extent.condemned = True
        self.condemned += round_up(extent.length)

    def pardon(self, extent: Extent) -> None:
        """It is resident once more, before it has gone."""
        if extent.condemned:
            extent.condemned = False
            self.condemned -= round_up(extent.length)

    def settle(self) -> None:
        """Punch out what died since the last call: bytes that are still in a socket stay as they were."""
        while self.released:
            offset, length, condemned = self.released[0]
            size = round_up(length)
            if offset < self._held:
                self._deferred.append((offset, length, False))
                self.released.popleft()
                if condemned:
                    self.condemned -= size
                continue
            _punch(self.fd, offset, size)
            self.released.popleft()
            self.committed -= size
            if condemned:
                self.condemned -= size

    def close(self) -> None:
        """Close the memfd. Extents that are still referred to keep nothing alive after this."""
        os.close(self.fd)

    # --- with another process (upgrade.py) --------------------------------------------------------------------

    def adopt(self, fd: int) -> None:
        """Take over another process's memfd; our own extents lie behind its end."""
        os.close(self.fd)
        self.fd = fd
        self._frontier = self._held = os.fstat(fd).st_size

    def claim(self, offset: int, length: int) -> Extent:
        """An extent that the other process filled."""
        self._claims.append((offset, offset + round_up(length)))
        self.committed += round_up(length)
        return Extent(self, offset, length)

    def release(self) -> None:
        """The other process is gone: what was not claimed goes, as does what was and has died since."""
        at = 0
        for start, stop in in_order(self._claims):
            self._release_data(at, start)
            at = stop
        self._release_data(at, self._held)
        self._held = 0
        self._claims = []
        self.released.extend(self._deferred)
        self._deferred = []

    def pass_over(self) -> None:
        """Another process took this memfd over and failed: what it has written behind our end goes."""
        end = os.fstat(self.fd).st_size
        self._release_data(self._frontier, end)
        self._frontier = end

    def _release_data(self, start: int, stop: int) -> None:
        """Have what lies there, in pages that nobody refers to, punched out by `settle`."""
        while start < stop:
            try:
                start = os.lseek(self.fd, start, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing does
                return
            end = min(os.lseek(self.fd, start, os.SEEK_HOLE), stop)
            if start < end:
                self.committed += end - start
                self.released.append((start, end - start, False))
            start = end

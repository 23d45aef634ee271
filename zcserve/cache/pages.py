"""Memory for large bodies: one sparse memfd, which is written through its descriptor.

Each extent begins on a page and is sent by `sendfile`, or from a mapping (net/lane/mapped.pxd). Both leave references
to the pages themselves in the socket. Writing there again would change bytes in flight, so an extent's offsets are
never used twice: it is punched out, and the next extent comes behind the last one. The file is as long as all that was
ever loaded and as large as what is resident; one descriptor serves all large bodies.

An extent holds its bytes for as long as the object lives, as a block does (slab.py): its `__del__`, which may run in
any thread, only notes what became free, and `reclaim` takes it back. Everything else is called with the store's lock
held.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections import deque

from zcserve.cache.ledger import Ledger
from zcserve.cache.memfd import PAGE_BYTES, open_memfd, punch, round_up, seal
from zcserve.cache.unseen import hide


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
    """The memfd of large bodies. Offsets only grow; the module's text says why."""

    def __init__(self) -> None:
        self.fd = open_memfd("zcserve-pages")
        seal(self.fd, fcntl.F_SEAL_SHRINK)
        self.committed = 0
        self.condemned = 0
        self.released: deque[tuple[int, int, bool]] = deque()
        self._frontier = 0
        self._ledger: Ledger | None = None  # of what is another process's as well, and is not punched out

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
        """It was evicted; what still refers to it will let go of it soon."""
        extent.condemned = True
        self.condemned += round_up(extent.length)

    def pardon(self, extent: Extent) -> None:
        """It is resident once more, before it was given back."""
        if extent.condemned:
            extent.condemned = False
            self.condemned -= round_up(extent.length)

    def reclaim(self, extents_max: int = sys.maxsize) -> None:
        """Punch out what has died, or some of it, the oldest first: bytes in a socket stay as they were."""
        for _ in range(min(extents_max, len(self.released))):
            offset, length, condemned = self.released[0]
            size = round_up(length)
            if self._ledger is not None and offset < self._ledger.end:
                self._ledger.dead.append((offset, length))
            else:
                punch(self.fd, offset, size)
                self.committed -= size
            self.released.popleft()
            if condemned:
                self.condemned -= size

    def close(self) -> None:
        """Close the memfd. Extents that are still referred to keep nothing alive after this."""
        os.close(self.fd)

    # --- with another process (upgrade.py) --------------------------------------------------------------------

    def adopt(self, fd: int) -> None:
        """Take over another process's memfd; new extents lie behind its end."""
        os.close(self.fd)
        self.fd = fd
        self._frontier = os.fstat(fd).st_size
        self._ledger = Ledger(self._frontier, PAGE_BYTES)

    def claim(self, offset: int, length: int) -> Extent:
        """An extent that the other process filled, of those that were adopted."""
        assert self._ledger is not None
        self._ledger.claim(offset, round_up(length))
        self.committed += round_up(length)
        return Extent(self, offset, length)

    def release(self) -> None:
        """The other process has ended: give back what was not claimed, and what was claimed and is used no more."""
        if self._ledger is None:
            return
        for start, end in self._ledger.gaps():
            self._release_data(start, end)
        self.released.extend((offset, length, False) for offset, length in self._ledger.dead)
        self._ledger = None

    def pass_over(self) -> None:
        """Another process took this memfd over and failed: give back what it has written behind the end."""
        end = os.fstat(self.fd).st_size
        self._release_data(self._frontier, end)
        self._frontier = end

    def _release_data(self, start: int, stop: int) -> None:
        """Have what lies there, in pages that nothing refers to, punched out by `reclaim`."""
        while start < stop:
            try:
                start = os.lseek(self.fd, start, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing lies there
                return
            end = min(os.lseek(self.fd, start, os.SEEK_HOLE), stop)
            if start < end:
                self.committed += end - start
                self.released.append((start, end - start, False))
            start = end

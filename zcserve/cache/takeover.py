"""The memory of a store that another process has filled, as it is taken over (upgrade.py).

A store that is still empty adopts it; then each body that is known from the manifest is claimed, within the budget.
Until `release` the other process may be sending from all of it: so this one gives nothing of it back, and evicts
nothing, for it would gain nothing.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

from zcserve.cache.entry import Packed
from zcserve.cache.memfd import round_up
from zcserve.cache.pages import Extent, Pages
from zcserve.cache.room import Room
from zcserve.cache.slab import Slabs


class Memory(NamedTuple):
    """The descriptors of a store's memory, for another process."""

    slabs: tuple[int, ...]
    pages: int
    numbers: tuple[int, ...] = ()  # of the slabs here; there they are 0, 1, 2 ...: those that were closed left gaps

    def close(self) -> None:
        """Close them all: they are of no use here."""
        for fd in (*self.slabs, self.pages):
            os.close(fd)


class Takeover:
    """The store's parts, on the way from another process. Any thread may call it."""

    def __init__(self, lock: threading.Lock, slabs: Slabs, pages: Pages, room: Room) -> None:
        """`lock` is the store's, and guards the others."""
        self._lock = lock
        self._slabs = slabs
        self._pages = pages
        self._room = room

    def adopt(self, memory: Memory) -> bool:
        """Take over another process's memory; False when it is of another shape. The store must be empty."""
        with self._lock:
            if not self._slabs.adopt(memory.slabs):
                return False
            self._pages.adopt(memory.pages)
            return True

    def look(self, slab: int, offset: int, length: int) -> memoryview:
        """Bytes of a slab, from this process or another; they are not owned until they are claimed."""
        return self._slabs.slabs[slab].view[offset : offset + length]

    def claim(self, slab: int, offset: int, head_bytes: int, size: int) -> Packed | None:
        """A body that the other process packed; None when the budget is spent."""
        with self._lock:
            return self._slabs.claim(Packed, slab, offset, head_bytes, size, self._room.limit - self._room.committed)

    def claim_pages(self, offset: int, size: int) -> Extent | None:
        """Pages that the other process filled; None as in `claim`."""
        with self._lock:
            has_room = self._room.committed + round_up(size) <= self._room.limit
            return self._pages.claim(offset, size) if has_room else None

    def release(self) -> None:
        """The other process is gone: all that was taken over is this one's alone."""
        steps = self._slabs.release()
        more = True
        while more:
            with self._lock:  # anew for each step: loaders wait for it
                more = next(steps, steps) is not steps
        with self._lock:
            self._pages.release()

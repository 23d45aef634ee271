"""A store with bodies of several sites, two of which may have shares: what tests of shares stand on."""

from __future__ import annotations

import os

from zcserve.cache.entry import Entry, Paged
from zcserve.cache.pinned import Pinned
from zcserve.cache.store import Store

BUDGET = 1 << 20
SMALL = 16 * 1024
LARGE = 40_000
HEAD = b"HEAD"


class SharedStore:
    """A store in which `a` and `b` have shares, and `c` and `d` the common one."""

    def __init__(self, policy: str = "lru") -> None:
        self.store = Store(BUDGET, slab_bytes=64 * 1024, small_body_bytes_max=SMALL, policy=policy)
        self.pins = {name: Pinned(("/pinned*",)) for name in "abcd"}
        self.entries: dict[str, list[Entry]] = {name: [] for name in "abcd"}
        self._tick = 0

    def share(self, site: str, least: int = 0, most: int | None = None) -> None:
        self.store.shares.set(self.pins[site], least, most)

    def put(self, site: str, size: int, *, evict: bool = True, key: bytes = b"/x") -> Entry:
        """A body of a site is asked for; it may find no room."""
        entry, pins = Entry(key, b"", size, None), self.pins[site]
        self._tick += 1
        entry.tick = self._tick
        if size <= SMALL:
            self.store.place([(entry, HEAD, bytes(size))], evict=evict, is_pinned=pins)
        elif (extent := self.store.reserve(size, evict=evict, is_pinned=pins)) is not None:
            os.ftruncate(self.store.pages_fd, max(os.fstat(self.store.pages_fd).st_size, extent.offset + size))
            self.store.admit(entry, Paged(HEAD, self.store.pages_fd, extent.offset, size, extent), pins)
        self.entries[site].append(entry)
        return entry

    def crawl(self, site: str, files: int = 120, size: int = LARGE) -> None:
        for _ in range(files):
            self.put(site, size)

    def resident(self, site: str) -> int:
        """Bytes of content."""
        return sum(entry.size for entry in self.entries[site] if entry.body is not None)

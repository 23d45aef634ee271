"""How much of the budget is taken, and how much more may be: the arithmetic of the store, which holds the lock for it.

    budget
      - overhead                  entries and indexes                     = limit: what bodies may take
          - room to move bodies   so that holes can be closed             = ceiling: what a new body must fit below

Committed is what the kernel has given, in whole pages. Condemned is the part of it where evicted bodies lie that the
fast lane refers to still: it lets go of them soon, so they do not count for what will fit. Where it was waited for in
vain, the lane is sending them, and they count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from zcserve.cache.memfd import PAGE_BYTES, round_up
from zcserve.cache.pages import Pages
from zcserve.cache.slab import Slabs

# Room to move bodies is at most this share of what slabs take, and else for one body of the largest size.
ROOM_TO_MOVE_SHARE = 1 / 16
# While the lane is waited for, it is looked so often whether it has let go.
LET_GO_LOOK_S = 0.0002
# So many blocks, and so many extents, are taken back in one step: 0.2 ms where they lie side by side, 2 ms where each
# has pages of its own.
TAKEN_BACK_AT_ONCE = 256


class Room:
    """What `slabs` and `pages` take of a budget. A block of a slab has `block_bytes_max` bytes at most."""

    def __init__(self, budget: int, slabs: Slabs, pages: Pages, block_bytes_max: int) -> None:
        self._budget = budget
        self.overhead = 0  # bytes of the entries and indexes of all sites
        self._indexes: dict[int, int] = {}  # the same of each site
        self._slabs = slabs
        self._pages = pages
        self._to_move_max = round_up(block_bytes_max) + 4 * PAGE_BYTES  # it begins and ends within pages
        self._sent_by_lane = 0  # condemned bytes

    def count_index(self, site: int, index_bytes: int, at_least: bool) -> None:
        """So much the entries and the index of a site take of the budget; `at_least`, where its next generation has
        them beside the live one. `~site` is what is prepared for it."""
        self._indexes[site] = max(index_bytes, self._indexes.get(site, 0) if at_least else 0)
        self.overhead = sum(self._indexes.values())

    @property
    def limit(self) -> int:
        """What bodies may take."""
        return self._budget - self.overhead

    @property
    def ceiling(self) -> int:
        """What may be committed to leave room to move bodies."""
        return self.limit - min(self._to_move_max, int(self._slabs.committed * ROOM_TO_MOVE_SHARE))

    @property
    def committed(self) -> int:
        """What the kernel has given."""
        return self._slabs.committed + self._pages.committed

    @property
    def condemned(self) -> int:
        """What was evicted, and is referred to still."""
        return self._slabs.condemned + self._pages.condemned

    def fits(self, length: int) -> bool:
        """Whether `length` more bytes may be committed now."""
        return self.committed + length <= self.ceiling

    def will_fit(self, length: int) -> bool:
        """Whether they may when the fast lane has let go."""
        return self.committed - self.condemned + self._sent_by_lane + length <= self.ceiling

    @property
    def awaits_lane(self) -> bool:
        """Whether the fast lane is about to let go of something."""
        return self.condemned > self._sent_by_lane

    def await_lane(self, length: int, deadline: float, lock: Lock, reclaim: Callable[[], object]) -> None:
        """Until `length` bytes fit, let the loop tell the fast lane what was evicted. Meanwhile the store's lock is
        free, so all may have changed afterwards."""
        while not self.fits(length) and self.awaits_lane:
            if time.monotonic() > deadline:
                self.give_up_on_lane()
                return
            lock.release()
            try:
                time.sleep(LET_GO_LOOK_S)
            finally:
                lock.acquire()
            reclaim()

    def give_up_on_lane(self) -> None:
        """The fast lane was waited for in vain: what it has not let go of, it is sending."""
        self._sent_by_lane = self.condemned

    @property
    def has_dead(self) -> bool:
        """Whether something has died, and was not taken back."""
        return bool(self._slabs.released or self._pages.released)

    def reclaim(self) -> None:
        """Take back some of what has died, what died first: no step of it is long."""
        if self._slabs.released:
            self._slabs.reclaim(TAKEN_BACK_AT_ONCE)
        if self._pages.released:
            self._pages.reclaim(TAKEN_BACK_AT_ONCE)
        self._sent_by_lane = min(self._sent_by_lane, self.condemned)

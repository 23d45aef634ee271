"""Who goes when memory runs out: the least recently used.

A hit only writes a tick into its entry (`entry.tick = turn`). The order is kept here, lazily: each entry is filed
under the tick it had when it was filed, and when the least is asked for, an entry that was used since is filed anew
under its present tick. No entry's tick is ever less than what it is filed under, so the first that is up to date is
the true least. An access costs the evictor nothing; a sweep pays one O(log n) re-filing for each entry that was used
since.

Called with the store's lock held; ticks are written by the loop without it.
"""

from __future__ import annotations

from collections.abc import Callable

from sortedcontainers import SortedKeyList

from zcserve.cache.entry import Entry

# Filed keys are unique: a serial number below the tick. 2^32 filings within one tick do not happen.
_SERIAL_BITS = 32
_SERIAL_MASK = (1 << _SERIAL_BITS) - 1


def _filed(entry: Entry) -> int:
    return entry.filed


class LeastRecentlyUsed:
    """The resident entries in the order in which they would be evicted."""

    def __init__(self) -> None:
        self._fresh: list[Entry] = []  # not yet in the order: preloading sorts once, not 100,000 times
        self._order: SortedKeyList[Entry] = SortedKeyList(key=_filed)
        self._serial = 0

    def __len__(self) -> int:
        return len(self._fresh) + len(self._order)

    def add(self, entry: Entry) -> None:
        """File an entry that became resident."""
        self._fresh.append(entry)

    def discard(self, entry: Entry) -> None:
        """Take an entry out that is no longer resident, if it is in."""
        self._settle()
        self._order.discard(entry)

    def entries(self) -> list[Entry]:
        """All entries, in no order that means anything."""
        return [*self._order, *self._fresh]

    def pop(self, is_sending: Callable[[Entry], bool] = lambda entry: False) -> Entry | None:
        """Take out and return the least recently used entry that nobody is waiting to send; None if there is none."""
        self._settle()
        pinned: list[Entry] = []
        found: Entry | None = None
        while self._order:
            entry = self._order.pop(0)
            if entry.tick > entry.filed >> _SERIAL_BITS:
                self._stamp(entry)
                self._order.add(entry)
            elif entry.body is not None and (entry.body.pins or is_sending(entry)):
                pinned.append(entry)
            else:
                found = entry
                break
        self._order.update(pinned)
        return found

    def _stamp(self, entry: Entry) -> None:
        self._serial = (self._serial + 1) & _SERIAL_MASK
        entry.filed = entry.tick << _SERIAL_BITS | self._serial

    def _settle(self) -> None:
        if self._fresh:
            for entry in self._fresh:
                self._stamp(entry)
            self._order.update(self._fresh)
            self._fresh.clear()

"""What goes when memory runs out: what a policy is, and the one that is used unless told otherwise.

A hit costs a policy nothing. The hot path writes two numbers into the entry, `tick` (when that was) and `uses` (how
often it was hit), and a policy learns what happened when it next looks at the entry, which is when room must be made.
So every policy here pays for a hit at most once, at O(log n), in the sweep that comes upon it; and it may keep one
number of its own in the entry (`entry.filed`).

A policy is called with the store's lock held; ticks and uses are written by the loop without it, and may grow while
it looks. What is being sent is passed over, whatever the order says. It must not know what a body costs to load, or
that some entries are never given to it (`--pin`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from sortedcontainers import SortedKeyList

from zcserve.cache.entry import Entry
from zcserve.cache.unseen import hide

# Ticks are times by the monotonic clock, which all threads share, and which a loop reads once a turn anyway. They are
# so fine that two turns of a loop have two ticks; the uses of one turn have one.
TICKS_PER_S = 1 << 20

IsSending = Callable[[Entry], bool]


def tick_at(now: float) -> int:
    """The tick of a time by the monotonic clock."""
    return int(now * TICKS_PER_S)


def never_sending(entry: Entry) -> bool:
    """The `is_sending` of a store without a fast lane."""
    return False


class Policy(ABC):
    """The resident entries that may be evicted, and the order in which they go."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def add(self, entry: Entry) -> None:
        """Take in an entry that became resident."""

    @abstractmethod
    def discard(self, entry: Entry) -> None:
        """Take an entry out that is no longer resident, if it is in."""

    @abstractmethod
    def entries(self) -> list[Entry]:
        """All entries, in no order that means anything."""

    @abstractmethod
    def pop(self, is_sending: IsSending = never_sending) -> Entry | None:
        """Take out and return the next to go that is not being sent; None if there is none."""


def in_flight(entry: Entry, is_sending: IsSending) -> bool:
    """Whether a connection waits to send from the entry's body, or the fast lane sends it."""
    body = entry.body
    return body is not None and (body.pins > 0 or is_sending(entry))


# Filed keys are unique: a serial number below the tick. 2^32 filings within one tick do not happen.
_SERIAL_BITS = 32
_SERIAL_MASK = (1 << _SERIAL_BITS) - 1
# Places of those that have left are given up when they are so many and half of all.
HOLES_MIN = 1000


def _filed(entry: Entry) -> int:
    return entry.filed


class LeastRecentlyUsed(Policy):
    """`lru`: the entry goes whose last use lies longest ago.

    The order is kept lazily: each entry is filed under the tick it had when it was filed, and when the least is asked
    for, an entry that was used since is filed anew under its present tick. No entry's tick is ever less than what it is
    filed under, so the first that is up to date is the true least.
    """

    def __init__(self) -> None:
        # Not yet in the order: preloading sorts once, not 100,000 times, and a reload discards without sorting. A list,
        # since a dict grows in 25 ms: such an entry has its place in it as `~filed`. None: what was there has left.
        self._fresh: list[Entry | None] = []
        hide(self._fresh)
        self._holes = 0
        self._order: SortedKeyList[Entry] = SortedKeyList(key=_filed)
        self._serial = 0

    def __len__(self) -> int:
        return len(self._fresh) - self._holes + len(self._order)

    def add(self, entry: Entry) -> None:
        entry.filed = ~len(self._fresh)
        self._fresh.append(entry)

    def discard(self, entry: Entry) -> None:
        place = ~entry.filed
        if not 0 <= place < len(self._fresh) or self._fresh[place] is not entry:
            self._order.discard(entry)
            return
        self._fresh[place] = None
        entry.filed = 0
        self._holes += 1
        if self._holes > HOLES_MIN + len(self._fresh) // 2:
            here, self._fresh, self._holes = self._fresh, [], 0
            hide(self._fresh)
            for one in here:
                if one is not None:
                    self.add(one)

    def entries(self) -> list[Entry]:
        return [*self._order, *(entry for entry in self._fresh if entry is not None)]

    def pop(self, is_sending: IsSending = never_sending) -> Entry | None:
        self._file_newcomers()
        order = self._order
        place = 0  # those before it are up to date and being sent
        while place < len(order):
            entry: Entry = order[place]
            if entry.tick > entry.filed >> _SERIAL_BITS:
                del order[place]
                self._stamp(entry)
                order.add(entry)
            elif in_flight(entry, is_sending):
                place += 1
            else:
                del order[place]
                return entry
        return None

    def _stamp(self, entry: Entry) -> None:
        self._serial = (self._serial + 1) & _SERIAL_MASK
        entry.filed = entry.tick << _SERIAL_BITS | self._serial

    def _file_newcomers(self) -> None:
        if self._fresh:
            came = [entry for entry in self._fresh if entry is not None]
            for entry in came:
                self._stamp(entry)
            self._order.update(came)
            self._fresh.clear()
            self._holes = 0

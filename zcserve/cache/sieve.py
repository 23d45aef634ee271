"""SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI'24, Algorithm 1).

One queue in the order of arrival, a visited bit an entry, and a hand that goes from the oldest to the newest and then
from the oldest again. Where it finds the bit it clears it and goes on; where it does not, that entry goes, and the
hand waits there. What survives keeps its place, so that newcomers are judged soon: a scan passes through without
displacing what is used.

The queue is kept in two parts, what the hand has passed and what lies ahead of it (newcomers join the end of that),
so its place needs no pointer into the middle. The bit is not kept at all: an entry was visited if its `uses` are not
what they were when the hand last met it, which is what `filed` holds. Sizes play no part: a large body and a small
one are judged alike, as in the paper.
"""

from __future__ import annotations

from collections import OrderedDict

from zcserve.cache.entry import Entry
from zcserve.cache.evictor import IsSending, Policy, in_flight, never_sending


class Sieve(Policy):
    """`sieve`: the entry goes that was not used since the hand last passed it."""

    def __init__(self) -> None:
        # Oldest first. Not dicts: finding the first of a dict after many were deleted from its front is linear.
        self._passed: OrderedDict[Entry, None] = OrderedDict()
        self._ahead: OrderedDict[Entry, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._passed) + len(self._ahead)

    def add(self, entry: Entry) -> None:
        entry.filed = entry.uses
        self._ahead[entry] = None

    def discard(self, entry: Entry) -> None:
        self._passed.pop(entry, None)
        self._ahead.pop(entry, None)
        self._turn()

    def entries(self) -> list[Entry]:
        return [*self._passed, *self._ahead]

    def pop(self, is_sending: IsSending = never_sending) -> Entry | None:
        for _ in range(2 * len(self)):  # one round may do no more than clear every bit
            entry, _none = self._ahead.popitem(last=False)
            uses = entry.uses
            stays = uses != entry.filed
            if in_flight(entry, is_sending):
                stays = True  # and keeps its bit
            else:
                entry.filed = uses
            if stays:
                self._passed[entry] = None
            self._turn()
            if not stays:
                return entry
        return None

    def _turn(self) -> None:
        """The hand that has passed the newest goes back to the oldest, at once: what comes then is not next."""
        if not self._ahead:
            self._ahead, self._passed = self._passed, self._ahead

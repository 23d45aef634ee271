"""S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP'23, Algorithm 1).

Newcomers enter a *small* queue. At its end those that were hit twice or more (`freq` > 1; it is capped at 3) move to
the *main* queue, their hits forgotten, and the others go, but are remembered for a while: what is asked for again
while the *ghost* queue remembers it enters the main queue at once. The end of the main queue is a clock: what was hit
goes round again with one hit less, what was not goes. Victims come from the small queue while it holds a tenth of the
memory or more. So what is asked for once, as by a scan, passes through a tenth of the memory only.

Where the paper counts objects, bytes are counted here, content and an allowance for the head; for objects of one
size that is the same. The memory that the shares are of is what both queues hold, which at an eviction is all of it
but for what is pinned. Victims are taken one at a time: a promotion that overfills the main queue is made good by the
next eviction, which begins there, and not within the same one; so does the authors' own implementation (libCacheSim).

Nothing is kept for a hit, and nothing for a ghost. While an entry is in a queue, `entry.filed` is `uses - freq`. When
it leaves the small queue for good, it becomes the time of that (inverted, so that it is less than zero), counted in
bytes that entered the ghost queue, as in the paper's section on implementation: the entry is remembered while at most
nine tenths of the memory have entered since, itself included. The index keeps the entry for as long as the file
exists, so that no memory is taken. A file that changed is a new entry, which was never remembered.
"""

from __future__ import annotations

from collections import OrderedDict

from zcserve.cache.entry import Entry
from zcserve.cache.evictor import IsSending, Policy, in_flight, never_sending
from zcserve.cache.heads import HEAD_BYTES

FREQ_MAX = 3
PROMOTED_ABOVE = 1  # hits
# The small queue's share of the memory, and the ghosts' in the sizes that they had, in tenths.
SMALL_TENTHS = 1
GHOST_TENTHS = 9


class S3Fifo(Policy):
    """`s3-fifo`: new entries have a tenth of the memory until they are hit."""

    def __init__(self) -> None:
        self._small = _Queue()
        self._main = _Queue()
        self._ghosted = 0  # bytes that ever entered the ghost queue: its clock

    def __len__(self) -> int:
        return len(self._small.order) + len(self._main.order)

    @property
    def _bytes(self) -> int:
        return self._small.bytes + self._main.bytes

    def add(self, entry: Entry) -> None:
        size = entry.size + HEAD_BYTES  # so that an empty file has one
        came = self._small
        if entry.filed < 0:  # as `_pop_small` left it: it was here before
            since = self._ghosted - ~entry.filed
            if 10 * since <= GHOST_TENTHS * (self._bytes + size):
                came = self._main
        came.push(entry, size)
        entry.filed = entry.uses

    def discard(self, entry: Entry) -> None:
        if not self._small.remove(entry):
            self._main.remove(entry)

    def entries(self) -> list[Entry]:
        return [*self._small.order, *self._main.order]

    def pop(self, is_sending: IsSending = never_sending) -> Entry | None:
        if 10 * self._small.bytes >= SMALL_TENTHS * self._bytes:
            return self._pop_small(is_sending) or self._pop_main(is_sending)
        # The last time for those that only now came from the small queue, the others being sent.
        return self._pop_main(is_sending) or self._pop_small(is_sending) or self._pop_main(is_sending)

    def _pop_small(self, is_sending: IsSending) -> Entry | None:
        for _ in range(len(self._small.order)):
            entry, size = self._small.shift()
            if in_flight(entry, is_sending):
                self._small.push(entry, size)
            elif _freq(entry) > PROMOTED_ABOVE:
                entry.filed = entry.uses
                self._main.push(entry, size)
            else:
                entry.filed = ~self._ghosted
                self._ghosted += size
                return entry
        return None

    def _pop_main(self, is_sending: IsSending) -> Entry | None:
        for _ in range((FREQ_MAX + 1) * len(self._main.order)):
            entry, size = self._main.shift()
            freq = _freq(entry)
            if freq == 0 and not in_flight(entry, is_sending):
                return entry
            entry.filed = entry.uses - max(freq - 1, 0)
            self._main.push(entry, size)
        return None


def _freq(entry: Entry) -> int:
    return min(FREQ_MAX, entry.uses - entry.filed)


class _Queue:
    """Entries with their sizes, first in, first out, and the sum of the sizes.

    Not a dict: finding the first of a dict after many were deleted from its front is linear.
    """

    def __init__(self) -> None:
        self.order: OrderedDict[Entry, int] = OrderedDict()
        self.bytes = 0

    def push(self, entry: Entry, size: int) -> None:
        self.order[entry] = size
        self.bytes += size

    def shift(self) -> tuple[Entry, int]:
        entry, size = self.order.popitem(last=False)
        self.bytes -= size
        return entry, size

    def remove(self, entry: Entry) -> bool:
        """Whether it was in."""
        size = self.order.pop(entry, None)
        if size is None:
            return False
        self.bytes -= size
        return True

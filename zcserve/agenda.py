"""When things are due: the first time is at hand, however many have one.

A heap in which what was moved stays until it comes to the top: to move a time costs the logarithm of their number. The
heap has numbers, and no owners: one that has no time any more is not kept.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Generic, TypeVar

Owner = TypeVar("Owner")

# The heap is made anew when it holds twice as many times as there are, and so many more.
SPARE_MAX = 64


class Agenda(Generic[Owner]):
    """Each owner has one time at most, of whatever clock. In one thread. `first` is the first one; inf: there is
    none."""

    def __init__(self) -> None:
        self.first = inf
        self._times: dict[Owner, tuple[float, int]] = {}
        self._owners: dict[int, Owner] = {}
        self._heap: list[tuple[float, int]] = []
        self._numbers = count()

    def set(self, owner: Owner, at: float) -> None:
        """From now on this is the owner's time; inf: it has none."""
        had_at, had_number = self._times.get(owner, (inf, -1))
        if at == had_at:
            return
        self._owners.pop(had_number, None)
        if at == inf:
            del self._times[owner]
        else:
            self._times[owner] = one = (at, next(self._numbers))
            self._owners[one[1]] = owner
            heappush(self._heap, one)
            if len(self._heap) > 2 * len(self._times) + SPARE_MAX:
                self._heap = list(self._times.values())
                heapify(self._heap)
        self._find_first()

    def take(self, now: float) -> list[Owner]:
        """Those whose time has come, in order. They have none from now on."""
        taken = []
        while self._heap and self.first <= now:
            owner = self._owners.pop(heappop(self._heap)[1])
            del self._times[owner]
            taken.append(owner)
            self._find_first()
        return taken

    def _find_first(self) -> None:
        heap = self._heap
        while heap and heap[0][1] not in self._owners:
            heappop(heap)
        self.first = heap[0][0] if heap else inf

"""When things are due: the first time is at hand, however many have one.

A heap in which what was moved stays until it comes to the top: to move a time costs the logarithm of their number.
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
        self._times: dict[Owner, float] = {}
        self._heap: list[tuple[float, int, Owner]] = []
        self._numbers = count()

    def set(self, owner: Owner, at: float) -> None:
        """From now on this is the owner's time; inf: it has none."""
        if at == inf:
            self._times.pop(owner, None)
        elif self._times.get(owner) != at:
            self._times[owner] = at
            heappush(self._heap, (at, next(self._numbers), owner))
            if len(self._heap) > 2 * len(self._times) + SPARE_MAX:
                self._heap = [(at, next(self._numbers), owner) for owner, at in self._times.items()]
                heapify(self._heap)
        self._find_first()

    def take(self, now: float) -> list[Owner]:
        """Those whose time has come, in order. They have none from now on."""
        taken = []
        while self._heap and self.first <= now:
            _, _, owner = heappop(self._heap)
            del self._times[owner]
            taken.append(owner)
            self._find_first()
        return taken

    def _find_first(self) -> None:
        heap, times = self._heap, self._times
        while heap and times.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        self.first = heap[0][0] if heap else inf

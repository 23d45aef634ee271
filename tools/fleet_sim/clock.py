"""Virtual time: things happen in the order of their times, those of one time in the order in which they were set."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Then = Callable[[], object]


class Clock:
    """`now` in seconds, from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.happened = 0
        self._order = count()
        self._waiting: list[tuple[float, int, Then]] = []

    def after(self, delay_s: float, then: Then) -> None:
        """Have something happen; what is due already happens next, but not now."""
        heappush(self._waiting, (self.now + max(0.0, delay_s), next(self._order), then))

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let all happen that is due by then, or until `stop` says so after one of them."""
        while self._waiting and self._waiting[0][0] <= until:
            self.now, _, then = heappop(self._waiting)
            self.happened += 1
            then()
            if stop():
                return
        self.now = max(self.now, until)


class Desk:
    """Does one thing at a time, each in `cost_s`: a bus that sends, an operator that reads. What comes meanwhile waits.

    done, busy_s  how many things it has done, and how long it took for them
    longest_s     how long one has waited at most
    """

    def __init__(self, clock: Clock, cost_s: float) -> None:
        self._clock, self._cost_s = clock, cost_s
        self._free_at = 0.0
        self.done = 0
        self.busy_s = 0.0
        self.longest_s = 0.0

    def take(self, then: Then) -> None:
        """Have it done, after all that was there before."""
        now = self._clock.now
        self._free_at = max(self._free_at, now) + self._cost_s
        self.done += 1
        self.busy_s += self._cost_s
        self.longest_s = max(self.longest_s, self._free_at - now)
        self._clock.after(self._free_at - now, then)

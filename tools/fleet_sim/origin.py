"""An origin: one bandwidth, shared evenly by all that fetch, each of which takes no more than its own link.

A fluid in time: what is left of each fetch falls at the same rate, so they end in the order of what they had left, and
each change of their number sets the next end anew.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from tools.fleet_sim.clock import Clock, Then


class Fetching:
    """One fetch; `end` lets go of it."""

    def __init__(self, size: float, then: Then) -> None:
        self.size, self.then = size, then
        self.is_over = False


class Origin:
    """rate, link_rate: of all and of one, in bytes a second.

    sent     bytes, in all
    peak     bytes a second, at most
    busy_s   how long it sent at its full rate
    most     fetches at once, at most
    """

    def __init__(self, clock: Clock, rate: float, link_rate: float) -> None:
        self._clock, self._rate, self._link_rate = clock, rate, link_rate
        self._level = 0.0  # bytes that each fetch has got that was there from the beginning
        self._at = 0.0
        self._many = 0
        self._ends: list[tuple[float, int, Fetching]] = []  # by the level at which each ends
        self._order = count()
        self._turn = 0
        self.sent = 0.0
        self.peak = 0.0
        self.busy_s = 0.0
        self.most = 0

    def fetch(self, size: float, then: Then) -> Fetching:
        """Begin a fetch of so many bytes; `then` happens at its end."""
        self._flow()
        fetching = Fetching(size, then)
        heappush(self._ends, (self._level + size, next(self._order), fetching))
        self._many += 1
        self.most = max(self.most, self._many)
        self._next()
        return fetching

    def stop(self, fetching: Fetching) -> None:
        """End a fetch before its end."""
        if not fetching.is_over:
            self._flow()
            fetching.is_over = True
            self._many -= 1
            self._next()

    def _each(self) -> float:
        return min(self._link_rate, self._rate / self._many) if self._many else 0.0

    def _flow(self) -> None:
        """Bring what was sent up to now."""
        each, passed = self._each(), self._clock.now - self._at
        self._level += each * passed
        self.sent += each * passed * self._many
        self.peak = max(self.peak, each * self._many)
        if each * self._many >= self._rate * 0.999:
            self.busy_s += passed
        self._at = self._clock.now

    def _next(self) -> None:
        """Set the next end."""
        while self._ends and self._ends[0][2].is_over:
            heappop(self._ends)
        self._turn += 1
        if self._ends:
            turn, left = self._turn, max(0.0, self._ends[0][0] - self._level)
            self._clock.after(left / self._each(), lambda: self._end(turn))

    def _end(self, turn: int) -> None:
        if turn != self._turn:
            return
        self._flow()
        _, _, fetching = heappop(self._ends)
        fetching.is_over = True
        self._many -= 1
        self._next()
        fetching.then()

"""Deadlines, kept in order and re-armed lazily.

What has a deadline says when it is due (`due()`), and may move it at any time without telling: a timer fires no
earlier than the deadline it was armed with, asks, and is armed anew when the answer lies in the future. So a busy
connection, whose idle deadline moves with every request, costs one re-arming per deadline and nothing per request.
Only a deadline that comes *earlier* than the armed one must be told (`arm`).

Deadlines of the same sixteenth of a second share a slot, and the slots are in order: to arm and to disarm costs a
dictionary and a set, whatever the number of connections, and a connection that is closed leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil, inf
from typing import Any, Protocol

from sortedcontainers import SortedDict

from zcserve.events import Event

# A deadline is kept up to one slot late. Below the noise of a network, and far below any deadline that makes sense.
SLOTS_PER_S = 16


class Timed(Protocol):
    """Something with a deadline. `armed` is its slot, inf for none, and belongs to the timers."""

    armed: float

    def due(self) -> float:
        """The deadline on the monotonic clock, in seconds; inf for none."""

    def expire(self) -> object:
        """The deadline has passed."""


class Deadline:
    """Something that is done at a time, if that ever comes. To move `at` to an earlier time, arm it again."""

    def __init__(self, expire: Callable[[], object]) -> None:
        self.armed = inf
        self.at = inf
        self.expire = expire

    def due(self) -> float:
        """As `Timed.due`."""
        return self.at


class Expiring:
    """A base for what has a deadline of its own and tells its owner that it has passed. (A `Deadline` that calls a
    method of the object which holds it would be a cycle.)"""

    __slots__ = ("_expired", "armed", "at")

    def __init__(self, expired: Callable[[Any], object]) -> None:
        """`expired` is called with this object."""
        self.armed = inf
        self.at = inf
        self._expired = expired

    def due(self) -> float:
        """As `Timed.due`."""
        return self.at

    def expire(self) -> None:
        """As `Timed.expire`."""
        self._expired(self)


class Timers:
    """All deadlines of a loop. `ended` is an event: no deadline passes any more."""

    def __init__(self) -> None:
        self.ended: Event[()] = Event()
        self._slots: SortedDict[int, set[Timed]] = SortedDict()
        self._first: float = inf

    def arm(self, timed: Timed) -> None:
        """Make sure that the timer fires when `timed.due()` has passed."""
        due = timed.due()
        if due == inf:
            return
        slot = ceil(due * SLOTS_PER_S)
        if slot >= timed.armed:
            return
        self.disarm(timed)
        timed.armed = slot
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = {timed}
            self._first = min(self._first, slot)
        else:
            waiting.add(timed)

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call` once, after some `seconds`."""
        deadline = Deadline(call)
        deadline.at = time.monotonic() + seconds
        self.arm(deadline)

    def disarm(self, timed: Timed) -> None:
        """Forget a deadline: its owner is gone."""
        if timed.armed != inf:
            self._slots[int(timed.armed)].discard(timed)
            timed.armed = inf

    def timeout(self, now: float) -> float:
        """Seconds until the first timer fires, -1 for never; what `Front.poll` takes."""
        return max(self._first / SLOTS_PER_S - now, 0.0) if self._first != inf else -1

    def fire(self, now: float, call: Callable[[Callable[[], object]], object] = lambda expire: expire()) -> None:
        """Expire what is due, each by `call`, which lets none of them stop the others; re-arm what moved."""
        while self._first <= now * SLOTS_PER_S:
            _, waiting = self._slots.popitem(0)
            self._first = self._slots.peekitem(0)[0] if self._slots else inf
            for timed in waiting:
                timed.armed = inf
            for timed in waiting:
                if timed.due() <= now:
                    call(timed.expire)
                else:
                    self.arm(timed)

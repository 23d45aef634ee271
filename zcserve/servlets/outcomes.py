"""Outcomes: how long calls of servlets and mounted applications took to theirs, and how many failed.

Each call is noted once, when it is known what comes of it: an answer, the beginning of one, a failure, or that it is
not wanted any more. A call that waits for a thread waits in its time; one that gave up its place before it began is
none. The fast lane notes its own calls by itself (lane/counts.pxd).

Calls end in the loop, in threads of the pool and in the asyncio thread. So a lock guards the numbers: what two threads
add to at once would lose one of both.
"""

from __future__ import annotations

import threading
import time

from zcserve.net.counts import Histogram, Times


class Outcomes:
    """Any thread may call it."""

    def __init__(self) -> None:
        self.errors = 0  # what failed, as far as it is in the log
        self._times = Times()
        self._lock = threading.Lock()

    def note(self, began: float) -> None:
        """A call that was asked for at this time (`time.monotonic`) has its outcome now."""
        took = time.monotonic() - began
        with self._lock:
            self._times.add(took)

    def note_error(self) -> None:
        """Something failed, and the log says so."""
        with self._lock:
            self.errors += 1

    def look(self) -> Histogram:
        """How long calls took."""
        with self._lock:
            return self._times.look()


class Call:
    """One call of a mounted application, from when it was asked for: it says in several places what comes of it. So
    `end` may be told twice, by one thread after the other."""

    __slots__ = ("_began", "_outcomes")

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes: Outcomes | None = outcomes
        self._began = time.monotonic()

    def end(self) -> None:
        """Its outcome is known."""
        outcomes, self._outcomes = self._outcomes, None
        if outcomes is not None:
            outcomes.note(self._began)

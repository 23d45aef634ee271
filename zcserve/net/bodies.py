"""How much memory the bodies of requests may take, all together.

A body that is read for an application is held in memory until its request is done with. Each such request has a `Hold`:
the bytes that its body counts for, taken out of one `Allowance` when the body is accepted, and given back once. The
connection gives them back when the answer is out. What the connection does not see (a thread that goes on when its
client has left, a job that is never begun) ends when the last reference to the hold goes; so no path leaks. No
reference of ours runs in a circle, but an application's may, through the frames of a traceback that it keeps. So before
a body is refused the garbage collector is asked: refusals make no garbage that would bring it by.

Bytes are taken in the loop's thread. They may come back in any thread, and at any time, from a finalizer even; so what
comes back is put into a queue, which needs no lock.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from math import inf

from zcserve.config.units import size_text
from zcserve.errors import HttpError

# How often garbage is collected before bodies are refused: the young, which is quick, and all of it.
COLLECTED_EVERY_S, ALL_COLLECTED_EVERY_S = 1.0, 60.0


class Allowance:
    """What all bodies of a server may take, in bytes."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._held = 0
        self._returned: deque[int] = deque()
        self._collected_at = self._all_collected_at = -inf

    @property
    def held(self) -> int:
        """Bytes that count now. In the loop's thread."""
        while self._returned:
            self._held -= self._returned.popleft()
        return self._held

    def take(self, count: int) -> None:
        """Have `count` bytes more count. Raises HttpError 503. In the loop's thread."""
        if self.held + count > self.bytes_max:
            self._collect()
            if self.held + count > self.bytes_max:
                self._refuse()
        self.count(count)

    def count(self, count: int) -> None:
        """As `take`, for what is there already: it is not refused."""
        self._held += count

    def give_back(self, count: int) -> None:
        """They count no more. In any thread."""
        self._returned.append(count)

    def _collect(self) -> None:
        now = time.monotonic()
        if now - self._all_collected_at >= ALL_COLLECTED_EVERY_S:
            self._all_collected_at = self._collected_at = now
            gc.collect()
        elif now - self._collected_at >= COLLECTED_EVERY_S:
            self._collected_at = now
            gc.collect(1)

    def _refuse(self) -> None:
        reason = f"there is no room for more bodies in the {size_text(self.bytes_max)} of --servlet-bodies-max"
        raise HttpError(503, reason, close=True)


class Hold:
    """What one request's body counts for."""

    __slots__ = ("_allowance", "_bytes")

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._bytes = 0

    def grow(self, count: int) -> None:
        """Count `count` bytes more. Raises HttpError 503. In the loop's thread."""
        self._allowance.take(count)
        self._bytes += count

    def count(self, count: int) -> None:
        """Count `count` bytes more, of a body that an application has already. In the loop's thread."""
        self._allowance.count(count)
        self._bytes += count

    def release(self) -> None:
        """The request is done with. Harmless when repeated."""
        count, self._bytes = self._bytes, 0
        if count:
            self._allowance.give_back(count)

    __del__ = release

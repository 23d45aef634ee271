"""When applications are called that answer in the loop's thread: for some milliseconds of each turn, first those that
have waited longest.

A client may send hundreds of requests at once, and each may take a servlet a millisecond. What is answered by files
does not wait for all of them, and those that call share the time: a connection has so many calls in a turn, and then
stands behind the others. A client that is here, and asks for one after the other, is *quiet*: it stands before them,
and those like it have half of the time at first. So neither pipelines nor new clients, of which as many may come as
want to, hold it up. The fast lane does the same (net/lane/loop.pxd).
"""

from __future__ import annotations

import time
from collections.abc import Callable

# In a turn applications are called for so long, and the last call to its end.
CALLING_S = 0.002
# Calls of one connection in a turn, and how long they may take: they cost more than a turn does.
CALLS_MAX = 32
CALLS_S = 0.00025


class Calling:
    """One loop's. `waiting` are steps that call an application, in their order, and `quiet` those that come first;
    `left`: the seconds of this turn."""

    __slots__ = ("_began", "_is_called_up", "_since", "left", "quiet", "waiting")

    def __init__(self) -> None:
        self.left = CALLING_S
        self.waiting: dict[Callable[[], object], None] = {}
        self.quiet: dict[Callable[[], object], None] = {}
        self._began = 0.0  # when the connection at hand began to have calls
        self._since = 0.0  # the end of the last call, or when a connection began to have some
        self._is_called_up = False  # a step that has waited runs

    def may_call(self, calls: int) -> bool:
        """Whether a connection with so many calls in this turn, the next one among them, may have that now. Else let a
        step wait that does it (`later`)."""
        if calls == 1:
            self._began = self._since = time.monotonic()
        elif calls > CALLS_MAX or self._since - self._began > CALLS_S:
            return False
        return self.left > 0 and (self._is_called_up or not (self.quiet or self.waiting))

    def later(self, step: Callable[[], object], *, is_quiet: bool = False) -> None:
        """Call `step` when the time has come. Once, however often this is said."""
        (self.quiet if is_quiet else self.waiting)[step] = None

    def called(self) -> None:
        """An application was called."""
        now = time.monotonic()
        self.left -= now - self._since
        self._since = now

    def run(self, guarded: Callable[[Callable[[], object]], None]) -> None:
        """The steps that wait, as long as there is time in this turn, each once."""
        self._is_called_up = True
        for steps, left in ((self.quiet, CALLING_S / 2), (self.waiting, 0.0)):
            for _ in range(len(steps)):
                if self.left <= left:
                    break
                step = next(iter(steps))
                del steps[step]
                guarded(step)
        self._is_called_up = False

    def clear(self) -> None:
        """Call none of those that wait."""
        self.waiting.clear()
        self.quiet.clear()

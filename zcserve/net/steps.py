"""Something long that the loop does in short steps, with pauses in which it answers: a walk of all entries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import inf

from zcserve.net.loop import Loop
from zcserve.net.timers import SLOTS_PER_S, Deadline

# A step, and the time between two: a slot of the timers.
STEP_S = 0.001
PAUSE_S = 1 / SLOTS_PER_S
# The next one begins so late that all of them are so small a share of the time.
SHARE_MAX = 1 / 400


class Steps:
    """One thing at a time, which may be begun again when it has ended. In the loop's thread.

    took_s  of the one at hand, or the last one
    """

    def __init__(self, loop: Loop, ended: Callable[[], object]) -> None:
        """`ended` is called when all of it is done."""
        self.took_s = 0.0
        self._loop = loop
        self._ended = ended
        self._left: Iterator[object] | None = None
        self._deadline = Deadline(self._step)

    @property
    def is_under_way(self) -> bool:
        """Whether something was begun, and has not ended."""
        return self._left is not None

    def begin(self, steps: Iterator[object]) -> None:
        """Take the first step now. Each item of `steps` is a place to stop at, a tenth of a millisecond behind the one
        before."""
        self._left = steps
        self.took_s = 0.0
        self._step()

    def stop(self) -> None:
        """Leave the rest."""
        self._left = None
        self._deadline.at = inf
        self._loop.timers.disarm(self._deadline)

    def pause_s(self, least: float) -> float:
        """How long to wait before it is begun again: so long at least."""
        return max(least, self.took_s / SHARE_MAX)

    def _step(self) -> None:
        began = now = time.monotonic()
        self._deadline.at = inf
        left = self._left
        assert left is not None
        while now < began + STEP_S and self._left is not None:
            if next(left, self) is self:
                self._left = None
            now = time.monotonic()
        self.took_s += now - began
        if self._left is None:
            self._ended()
            return
        self._deadline.at = now + PAUSE_S
        self._loop.timers.arm(self._deadline)

"""What no watcher tells of (cache/recheck.py): the next few names at a time, in threads of their own.

They may hang with a file system, and changes are followed all the same.
"""

from __future__ import annotations

from functools import partial
from math import inf

from zcserve.cache.recheck import Recheck
from zcserve.cache.watcher import Watcher
from zcserve.content.jobs import Jobs
from zcserve.content.live import Live
from zcserve.net.loop import Loop

# What was just walked is rechecked for the first time after so long, or after an interval.
RECHECK_FIRST_AFTER_S = 10.0


class Rechecks:
    """Has the names of the live generation compared with what is known of them. In the loop."""

    def __init__(self, every_s: float, live: Live, jobs: Jobs, loop: Loop) -> None:
        """`every_s` is `--recheck`, 0 for never. Raises NoThreadError."""
        self._every_s = every_s
        self._strand = jobs.strand("zcserve-recheck") if every_s else None
        self._live = live
        self._jobs = jobs
        self._loop = loop
        self._recheck: Recheck | None = None
        self._watcher: Watcher | None = None  # whose names it compares: the live one, or one before it
        self._at = inf

    def due(self) -> float:
        """When the next names are to be compared, a time of the loop."""
        watcher = self._live.watcher
        if watcher is None or self._strand is None:
            return inf
        return self._at if watcher is self._watcher else 0.0

    def begin(self, now: float) -> None:
        """Compare what is due."""
        watcher = self._live.watcher
        assert watcher is not None
        assert self._strand is not None
        self._at = inf
        if self._recheck is None or watcher is not self._watcher:
            self._watcher = watcher
            self._recheck = Recheck(self._live.site.live, watcher, self._every_s)
            self._at = now + min(self._every_s, RECHECK_FIRST_AFTER_S)  # what was just walked is as it was
        elif not self._live.is_adrift:
            self._jobs.submit(self._strand, partial(self._compare, self._recheck, now))

    def _compare(self, recheck: Recheck, now: float) -> None:
        """In a thread of the rechecks."""
        wait = recheck.step(now)
        self._jobs.call_soon(partial(self._compared, recheck, wait))

    def _compared(self, recheck: Recheck, wait: float) -> None:
        if recheck is self._recheck:
            self._at = self._loop.now + wait
            self._live.plan()

"""Which files are asked for most, and which are asked for and do not fit: found by a walk of all entries, in pieces.

A walk begins when somebody asks and the last one is old, and is made in short steps (net/steps.py). So nothing is
walked that nobody asks for, and what is told is some seconds old: of 100,000 files up to forty, since a walk of them
takes 80 ms of a core, in 80 steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import TypedDict

from zcserve.cache.entry import Entry, representations
from zcserve.cache.index import Generation
from zcserve.cache.naming import path_of
from zcserve.net.loop import Loop
from zcserve.net.steps import Steps

# So many of each are told.
TOLD_MAX = 10
# A walk is begun anew where the last one ended longer ago than this, and than makes it a small share of the time.
FRESH_S = 5.0
# So many entries are looked at before the clock is.
LOOKED_AT_ONCE = 100


class Hot(TypedDict):
    """A file that is resident; `uses` since it was found on disk, of its variants, too."""

    path: str
    uses: int
    bytes: int


class Cold(TypedDict):
    """A file that is not resident."""

    path: str
    bytes: int


class Survey:
    """Of one server. In the loop's thread.

    hottest       those with most uses, most first
    does_not_fit  of the files that are not resident those that were asked for last, behind them the largest
    resident      bytes of content that are resident, by the number of the site; of a site that came since: none
    at            when that was found, of `Loop.now`; None: it was not yet
    """

    def __init__(self, loop: Loop, generations: Callable[[], Iterable[Generation]]) -> None:
        """`generations` are those that are live."""
        self.hottest: list[Hot] = []
        self.does_not_fit: list[Cold] = []
        self.resident: dict[int, int] = {}
        self.at: float | None = None
        self._loop = loop
        self._generations = generations
        self._walk = Steps(loop, self._walked)
        self._next_at = -inf

    def ask(self) -> None:
        """Somebody looks: have it found anew, unless it was just now."""
        if not self._walk.is_under_way and self._loop.now >= self._next_at:
            self._walk.begin(self._look())

    def _walked(self) -> None:
        self._next_at = self._loop.now + self._walk.pause_s(FRESH_S)

    def _look(self) -> Iterator[object]:
        """Find it, with a stop after some entries each."""
        hot = _Most()
        cold = _Most()
        resident_of: dict[int, int] = {}
        for generation in self._generations():
            size = 0
            for number, entry in enumerate(generation.entries()):
                uses, is_resident, resident = _used(entry)
                size += resident
                if is_resident:
                    hot.offer(uses, entry.size, entry)
                else:
                    cold.offer(entry.tick, entry.size, entry)
                if not number % LOOKED_AT_ONCE:
                    yield None
            resident_of[generation.root.site] = size
        self.resident = resident_of
        self.hottest = [{"path": _path(one), "uses": uses, "bytes": one.size} for uses, one in hot.found() if uses]
        self.does_not_fit = [{"path": _path(one), "bytes": one.size} for _, one in cold.found()]
        self.at = self._loop.now


def _used(entry: Entry) -> tuple[int, bool, int]:
    """How often a file was used, whether any of it is resident, and the bytes of that."""
    if not entry.variants:
        if entry.is_variant:
            return entry.uses, True, 0  # as its base's variant
        return entry.uses, entry.body is not None, entry.size if entry.body is not None else 0
    all_of_it = list(representations(entry))
    resident = [one.size for one in all_of_it if one.body is not None]
    return sum(one.uses for one in all_of_it), bool(resident), sum(resident)


def _path(entry: Entry) -> str:
    return "/" + path_of(entry).decode(errors="backslashreplace")


class _Most:
    """The TOLD_MAX with the greatest numbers, the first before the second."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Entry]] = []
        self._count = 0

    def offer(self, first: int, second: int, entry: Entry) -> None:
        if len(self._heap) == TOLD_MAX and (first, second) <= self._heap[0][:2]:
            return
        self._count += 1  # no two are alike, so that entries are not compared
        item = (first, second, -self._count, entry)
        if len(self._heap) < TOLD_MAX:
            heapq.heappush(self._heap, item)
        else:
            heapq.heapreplace(self._heap, item)

    def found(self) -> list[tuple[int, Entry]]:
        """Greatest first."""
        return [(first, entry) for first, _, _, entry in sorted(self._heap, key=lambda item: item[:3], reverse=True)]

"""Is this node ready? What it was to have in memory is there, and the release that is wanted is what it serves.

wanted    what preloading had room for, and could not read yet; and all that is pinned, whether there is room or not
resident  what of that is there now

Something that is wanted may never come: pinned files that have no room. Where the wanted share cannot be reached
without these, waiting is of no use, and the phase says so: "incomplete".

What was preloaded and is not pinned counts as it was found when it was loaded. It may be evicted later, or purged, and
that is no fault of the node: the evictor found other content that is asked for more. So a node that is ready stays so,
but for what is pinned, for a release that it cannot load, and for whoever drains it.

It is asked once a second and more (a proxy's health check). So nothing is walked for an answer: what is pinned is
looked at again when some of it came or went (`Held.changes`), a piece at a time, and until that is done the answer is
what was found before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

from zcserve.cache.entry import Entry
from zcserve.cache.naming import path_of
from zcserve.cache.preload import Preloaded, cost_of, pinned_of
from zcserve.cache.store import Store
from zcserve.config.units import counted, size_text
from zcserve.content.live import Live

# So many representations are looked at in one step of the loop: half a millisecond.
LOOKED_AT_ONCE = 250
# Files that are named because they are missing.
MISSING_NAMED_MAX = 10


class Missing(NamedTuple):
    """Something that is wanted and not resident: its path below the root, as on disk; its content in bytes; why."""

    path: str
    bytes: int
    why: str


class Ready(NamedTuple):
    """Whether a node is ready.

    share         of `wanted_bytes` that are resident, from 0 to 1; 1 where nothing is wanted
    wanted_share  how much of it is enough
    missing       the first MISSING_NAMED_MAX of `missing_total` representations
    draining      it was told to send its clients elsewhere, or ends
    phase         "warming", "incomplete", "ready" or "draining"
    why           why it is not ready, in words; "" where it is
    """

    is_ready: bool
    share: float
    wanted_share: float
    wanted_bytes: int
    resident_bytes: int
    missing: tuple[Missing, ...]
    missing_total: int
    draining: bool
    phase: str
    why: str


@dataclass(slots=True)
class _Survey:
    """What was found of what may come and go."""

    wanted_bytes: int = 0
    resident_bytes: int = 0
    missing: list[Missing] = field(default_factory=list)
    missing_total: int = 0
    roomless: int = 0  # of these, those that do not fit; and their bytes
    roomless_bytes: int = 0


class Readiness:
    """Tells whether a node is ready. In the loop."""

    def __init__(
        self,
        live: Live,
        store: Store,
        *,
        report: Callable[[], Preloaded],
        is_filling: Callable[[], bool],
        is_loading: Callable[[], bool],
        is_draining: Callable[[], bool],
        drained_for: Callable[[], str] = str,
        call_soon: Callable[[Callable[[], object]], object],
        wanted_share: float = 1.0,
    ) -> None:
        """`report` is of the live generation; `is_filling` tells whether it is still being loaded for the first time,
        though it is served, `is_loading` whether a list is being warmed, and `drained_for` why it is drained."""
        self._live = live
        self._store = store
        self._report = report
        self._is_filling = is_filling
        self._is_loading = is_loading
        self._is_draining = is_draining
        self._drained_for = drained_for
        self._call_soon = call_soon
        self._wanted_share = wanted_share
        self._found: _Survey | None = None
        self._known: tuple[object, ...] = ()  # what that was found of
        self._is_looking = False

    def ask(self) -> Ready:
        """Whether the node is ready now. It takes some microseconds, and where little is pinned some more."""
        report = self._report()
        if not self._is_looking and (report.unread or not _are_same(self._known, self._now())):
            self._look()
        found = self._found or _Survey()
        lasting = max(report.resident_bytes - report.pinned_bytes, 0)
        wanted, resident = lasting + found.wanted_bytes, lasting + found.resident_bytes
        if self._is_filling():  # the report is from before: about so much is there
            wanted = min(report.bytes, self._store.budget)
            resident = wanted * min(self._store.resident, report.files) // max(report.files, 1)
        share = resident / wanted if wanted else 1.0
        draining = self._is_draining()
        why = self._why_not(share, draining)
        phase = "draining" if draining else "warming" if why else "ready"
        if why and not draining and (never := self._never(found, wanted)):
            phase, why = "incomplete", f"{why}; {never}"
        return Ready(
            not why,
            share,
            self._wanted_share,
            wanted,
            resident,
            tuple(found.missing),
            found.missing_total,
            draining,
            phase,
            why,
        )

    def _why_not(self, share: float, draining: bool) -> str:
        if draining:
            why = self._drained_for()
            return f"it is drained: {why}" if why else "it is drained"
        if self._live.is_adrift:
            return "the release that is wanted could not be loaded: the log says why"
        if self._is_filling():
            return "its content is being loaded, though clients are answered"
        if self._found is None:
            return "what is pinned is being looked at"
        if share < self._wanted_share:
            return f"{share:.2%} of what is wanted is resident, and {self._wanted_share:.2%} are to be"
        return ""

    def _never(self, found: _Survey, wanted: int) -> str:
        """Why waiting is of no use, and what to do; "" where the wanted share may yet be reached."""
        if self._is_filling() or wanted - found.roomless_bytes >= self._wanted_share * wanted:
            return ""
        files = f"{counted(found.roomless, 'wanted file')}, {size_text(found.roomless_bytes)}"
        return (
            f"waiting is of no use, there is no room for {files}: more --memory, fewer pins, or a lower --ready-share"
        )

    # --- looking -------------------------------------------------------------------------------------------------

    def _now(self) -> tuple[object, ...]:
        """What changes where something that is pinned comes or goes, or is another."""
        pinned = self._live.site.live.pinned
        return pinned, self._report(), len(pinned), self._store.held.changes

    def _look(self) -> None:
        self._is_looking = True
        known = self._now()
        generation, report = self._live.site.live, self._report()
        pinned = pinned_of(generation, list(generation.pinned))
        unread = (one for one in report.unread if generation.resources.get(one.key) is one)
        survey = _Survey()
        self._look_on(survey, known, ((one, False) for one in pinned), ((one, True) for one in unread))

    def _look_on(self, survey: _Survey, known: tuple[object, ...], *rest: Iterator[tuple[Entry, bool]]) -> None:
        looks = 0
        for some in rest:
            for one, is_unread in islice(some, LOOKED_AT_ONCE - looks):
                looks += 1
                self._count(survey, one, is_unread)
        if looks == LOOKED_AT_ONCE:
            self._call_soon(partial(self._look_on, survey, known, *rest))
            return
        self._found, self._known, self._is_looking = survey, known, False

    def _count(self, survey: _Survey, one: Entry, is_unread: bool) -> None:
        if is_unread and self._live.site.pins(one):
            return  # it is among these
        size = max(one.size, 0)
        survey.wanted_bytes += size
        if one.body is not None:
            survey.resident_bytes += size
            return
        survey.missing_total += 1
        if not self._has_room(one):
            survey.roomless += 1
            survey.roomless_bytes += size
        if len(survey.missing) < MISSING_NAMED_MAX:
            path = path_of(one).decode(errors="backslashreplace")
            survey.missing.append(Missing(path, size, self._why_missing(one, is_unread)))

    def _has_room(self, one: Entry) -> bool:
        size = max(one.size, 0)
        room = self._store.shares.reach(self._live.site.pins, self._store.evictable)
        return size <= self._store.largest and cost_of(size, self._store) <= room

    def _why_missing(self, one: Entry, is_unread: bool) -> str:
        if one.size > self._store.largest:
            return "it is larger than half of the memory budget: it stays on disk"
        if not self._has_room(one):
            return "it does not fit into memory beside what else is pinned"
        if self._is_loading():
            return "it is being loaded"
        if is_unread or one in self._report().unread:
            return "it cannot be read: the log says why"
        return "it is loaded when it is asked for"


def _are_same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Not by what dicts and reports hold: that may be much."""
    return len(one) == len(other) and all(
        a is b or (isinstance(a, int) and a == b) for a, b in zip(one, other, strict=True)
    )

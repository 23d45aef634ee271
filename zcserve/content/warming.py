"""Files are made resident before they are asked for, in the order of a list: what a new node is told by one that has
served for long, or what will be asked for in a minute.

A list is worked off by the loop, some names at a time, and read by the fetcher's threads, as for a request: by half of
them at most, so that requests for what is not resident have the others. Lists that come meanwhile wait.

What comes makes room for itself, as for a request; but what stands earlier in the list does not leave for what comes
later. So once the list has taken all that may be evicted, what is left of it does not fit, and that is told. What of it
has left by the end all the same, since other content was asked for more, is told as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import inf

from zcserve.cache.entry import Entry, Redirect, each_coding
from zcserve.cache.fetcher import Fetched, Renewed, Wait
from zcserve.cache.index import Generation
from zcserve.cache.listing import Listing
from zcserve.cache.preload import cost_of
from zcserve.cache.store import Store
from zcserve.cache.unseen import hide
from zcserve.config.units import counted, size_text
from zcserve.errors import HttpError, NotNowError
from zcserve.http import canonical_path
from zcserve.log import Log
from zcserve.net.service import Service
from zcserve.site.site import Site

_log = Log(__name__)

# Paths of one list. It is walked, never sorted: a million take a minute or two, and 100 MB while they are under way.
PATHS_MAX = 1_000_000
# Lists that wait for another one: a script that asks in a loop hears of it.
LISTS_WAITING_MAX = 16
# So many files are looked at between two turns: about a millisecond.
LOOKED_AT_ONCE = 250
# Paths that are named with the reason why they are not resident; of more, only the number.
FAILED_NAMED_MAX = 100
# How often a file may change while it is loaded.
TRIES = 3

DOES_NOT_FIT = "does not fit into memory"
LEFT_AGAIN = "was evicted again: other content was used since, or had to have its room"


@dataclass(slots=True)
class Warmth:
    """How far a list is.

    paths     how many it has
    done      how many of them were looked at
    resident  files that are resident with all their variants
    resident_bytes  of content of these
    failed    the first FAILED_NAMED_MAX of those that are not, each with the reason; `failed_total` counts all
    """

    paths: int
    done: int = 0
    resident: int = 0
    resident_bytes: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    failed_total: int = 0
    is_over: bool = False

    def fail(self, path: bytes, why: str) -> None:
        """A path is not resident in the end."""
        self.failed_total += 1
        if len(self.failed) < FAILED_NAMED_MAX:
            self.failed.append((path.decode(errors="backslashreplace"), why))


Told = Callable[[Warmth], object]


class Warming:
    """Works lists off, one after the other. In the loop's thread."""

    def __init__(self, site: Site, service: Service, store: Store) -> None:
        self._site = site
        self._service = service
        self._store = store
        self._lists: deque[_List] = deque()  # the first is being worked off
        self._own = 0  # lists of the server's own that are under way

    def warm(self, paths: Iterable[bytes], count: int, told: Told) -> Warmth:
        """Make the files at these paths resident, `count` of them, in this order; `told` gets what came of it.

        A path is as sent in a URL, without a query: its percent-encoding may be any. Returns at once: what is returned
        is kept up to date. Raises NotNowError.
        """
        if count > PATHS_MAX:
            raise NotNowError(f"{count} paths are too many for one list; at most {PATHS_MAX}")
        if len(self._lists) > LISTS_WAITING_MAX:
            raise NotNowError(f"{LISTS_WAITING_MAX} lists wait already: ask again when one is done")
        one = self._list(paths, count, partial(self._next, told))
        self._lists.append(one)
        if len(self._lists) == 1:
            self._service.loop.call_soon(one.begin)
        return one.warmth

    def begin(self, paths: Iterable[bytes], count: int, told: Told) -> None:
        """As `warm`, for a list of the server's own: it waits for no other one."""
        self._own += 1
        self._service.loop.call_soon(self._list(paths, count, partial(self._over, told)).begin)

    @property
    def is_busy(self) -> bool:
        """Whether a list is under way."""
        return bool(self._lists or self._own)

    @property
    def under_way(self) -> Warmth | None:
        """How far the list is that is being worked off, of those that were asked for; None: there is none."""
        return self._lists[0].warmth if self._lists else None

    @property
    def waiting(self) -> int:
        """How many lists that were asked for wait behind that one."""
        return max(len(self._lists) - 1, 0)

    def _list(self, paths: Iterable[bytes], count: int, over: Told) -> _List:
        return _List(self._site, self._service, self._store, iter(paths), Warmth(count), over)

    def _next(self, told: Told, warmth: Warmth) -> None:
        self._lists.popleft()
        if self._lists:
            self._service.loop.call_soon(self._lists[0].begin)
        told(warmth)

    def _over(self, told: Told, warmth: Warmth) -> None:
        self._own -= 1
        told(warmth)


class _File:
    """A file of the list whose representations are looked at."""

    __slots__ = ("entry", "generation", "left", "path", "tries", "why")

    def __init__(self, path: bytes, tries: int) -> None:
        self.path = path
        self.tries = tries
        self.why = ""
        self.left = 0  # representations that are not there yet, and may come
        self.entry: Entry
        self.generation: Generation


class _List:
    """One list that is worked off; `Timed`."""

    def __init__(
        self,
        site: Site,
        service: Service,
        store: Store,
        paths: Iterator[bytes],
        warmth: Warmth,
        over: Callable[[Warmth], object],
    ) -> None:
        self.warmth = warmth
        self._site = site
        self._fetcher = service.fetcher
        self._loop = service.loop
        self._config = service.config
        self._store = store
        self._paths = paths
        self._over = over
        self._at_once = max(service.config.loader_threads // 2, 1)
        self._waits: dict[tuple[_File, Entry], Wait] = {}  # for loads that are under way
        self.armed = self._at = inf  # when loads are looked at that may make no progress
        self._is_planned = False  # `_step` will be called
        self._room = 0  # bytes that the rest of the list may take
        self._pending: deque[tuple[_File, Entry]] = deque()
        self._warm: list[Entry] = []  # files that became resident, or were
        hide(self._warm)

    def begin(self) -> None:
        """It is this list's turn."""
        self._room = self._store.shares.reach(self._site.pins, self._store.evictable)
        self._step()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._is_planned = False
        for _ in range(LOOKED_AT_ONCE):
            if len(self._waits) >= self._at_once:
                return  # the next load that ends goes on
            if self._pending:
                self._load(*self._pending.popleft())
            elif (path := next(self._paths, None)) is not None:
                self._look(_File(path, TRIES))
            elif self._waits:
                return
            else:
                self._at = inf
                self._loop.timers.disarm(self)
                self._look_last(0)
                return
        self._plan()

    def _look(self, file: _File) -> None:
        """What of a file is to be loaded?"""
        try:
            key = canonical_path(file.path)
        except HttpError as error:
            self._done(file, f"{error.reason}: a path of a URL is wanted, percent-encoded and without a query")
            return
        file.generation = self._site.live
        entry = file.generation.resources.get(key)
        if not isinstance(entry, Entry):
            self._done(file, _why_not(entry))
            return
        file.entry = entry
        for one in each_coding(entry):
            if self._takes(one):
                file.left += 1
                self._pending.append((file, one))
            else:
                file.why = DOES_NOT_FIT
        if not file.left:
            self._done(file, file.why)

    def _takes(self, one: Entry) -> bool:
        """Whether there is room, also for what is resident already: else it would leave for what comes later."""
        if self._config.in_place and one.size > self._store.small_body_bytes_max:
            return True  # what is sent in place takes none
        if one.body is not None and self._site.pins(one):
            return True  # it leaves for nothing, and its room is not counted
        cost = cost_of(max(one.size, 0), self._store)
        if one.size > self._store.largest or cost > self._room:
            return False
        self._room -= cost
        return True

    def _load(self, file: _File, one: Entry) -> None:
        if one.body is not None:
            self._loaded(file, one, one.body)
            return
        fetched = partial(self._fetched, file, one)
        self._waits[file, one] = self._fetcher.fetch(file.generation, file.entry, one, fetched)
        if self._at == inf:
            self._look_again()

    def _fetched(self, file: _File, one: Entry, fetched: Fetched) -> None:
        del self._waits[file, one]
        self._plan()
        self._loaded(file, one, fetched)

    def _look_again(self) -> None:
        self._at = self._loop.now + self._config.load_timeout_s
        self._loop.timers.arm(self)

    def due(self) -> float:
        """As `Timed.due`."""
        return self._at

    def expire(self) -> None:
        """Loads that make no progress are not waited for: their file system hangs."""
        self._at = inf
        before = self._loop.now - self._config.load_timeout_s
        for (file, one), wait in list(self._waits.items()):
            if wait.since <= before:
                self._fetcher.cancel(wait)
                self._fetched(file, one, None)
        if self._waits:
            self._look_again()

    def _loaded(self, file: _File, one: Entry, fetched: Fetched) -> None:
        file.left -= 1
        if one.body is not None:
            # As if it was used now, or it would be the first to leave for what comes behind it.
            one.tick = max(one.tick, self._loop.tick)
        elif isinstance(fetched, Renewed):
            file.why = "it changes while it is loaded"
            if file.tries:
                self._again(file)
                return
        else:
            file.why = "it cannot be read: the log says why" if fetched is None else DOES_NOT_FIT
        if not file.left:
            self._done(file, file.why)

    def _again(self, file: _File) -> None:
        """It is another file by now: what is under way for the old one is of no use."""
        self._pending = deque(one for one in self._pending if one[0] is not file)
        again = _File(file.path, file.tries - 1)
        file.left, file.tries = -1, 0
        self._look(again)

    def _done(self, file: _File, why: str) -> None:
        warmth = self.warmth
        warmth.done += 1
        if why:
            warmth.fail(file.path, why)
        else:
            warmth.resident += 1
            warmth.resident_bytes += sum(max(one.size, 0) for one in each_coding(file.entry))
            self._warm.append(file.entry)

    def _look_last(self, at: int) -> None:
        """Is what came still there? From this one on."""
        warmth = self.warmth
        for entry in self._warm[at : at + LOOKED_AT_ONCE]:
            if any(one.body is None for one in each_coding(entry)) and self._is_served(entry):
                warmth.resident -= 1
                warmth.resident_bytes -= sum(max(one.size, 0) for one in each_coding(entry))
                warmth.fail(entry.key, LEFT_AGAIN)
        if at + LOOKED_AT_ONCE < len(self._warm):
            self._loop.call_soon(partial(self._look_last, at + LOOKED_AT_ONCE))
            return
        self._warm.clear()
        warmth.is_over = True
        if warmth.paths:
            failed = f"; {warmth.failed_total} failed" if warmth.failed_total else ""
            files, size = counted(warmth.paths, "file"), size_text(warmth.resident_bytes)
            _log.info("warmed: resident are %d of %s, %s%s", warmth.resident, files, size, failed)
        self._over(warmth)

    def _is_served(self, entry: Entry) -> bool:
        """Not, where a patch has brought a newer one: that was loaded before."""
        return self._site.live.resources.get(entry.key) is entry


def _why_not(resource: Redirect | Listing | None) -> str:
    """Why there is no file to be loaded."""
    if resource is None:
        return "there is no such file"
    if isinstance(resource, Redirect):
        return f"it leads to {resource.location.decode()}"
    return "it is a directory without an index, whose listing is made when it is asked for"

"""Edit and refresh: a servlet that was changed is loaded before its next request.

A request that may lead to a servlet asks whether something in the folder has changed (folder_events.py). If so it
waits, with all that come after it, until a thread has loaded what did; all others are served meanwhile. What was loaded
is used from one step of the loop on: so what a request finds, and what is asked whether it has changed, belong
together, also while a thread loads the next.

A load that takes long is not waited for: requests meet what there is until it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial

from zcserve.events import Event
from zcserve.net.front import Shelf
from zcserve.servlets.folder import Folder, Loaded
from zcserve.servlets.workers import Pool

# How long the folder's files are not asked for their status while the kernel tells of no change. It cannot tell of all.
SURE_S = 0.1

CallSoon = Callable[[Callable[[], object]], None]
# Hears how a load of all ended: why not all could be loaded, or "". In the loop's thread.
Reloaded = Callable[[str], object]


class Freshness:
    """Which servlets of a folder are in use, and whether they are those that lie there. In the loop's thread.

    in_use  what requests meet
    loaded  event: that is another one from now on
    """

    def __init__(self, folder: Folder, shelf: Shelf, call_soon: CallSoon) -> None:
        """Loads the folder. `shelf` knows what was found in it. Raises UsageError."""
        self.loaded: Event[()] = Event()
        self._folder = folder
        self._shelf = shelf
        self._call_soon = call_soon
        self._loader = Pool(1, 1)
        self._waiting: list[Callable[[], None]] = []
        self._changes: frozenset[str] = frozenset()  # what is to be loaded, or is being loaded
        self._sure_until = 0.0
        self._is_closed = False
        self._is_late = False  # what is being loaded takes long: nothing waits for it
        self._asked: list[Reloaded] = []  # for a load of all, whether it changed or not: the next one is
        folder.refresh()
        folder.late.subscribe(partial(call_soon, self._load_is_late))
        self._events = folder.listen()
        self.in_use: Loaded = folder.loaded

    def serve(self, shelf: Shelf) -> None:
        """From now on this shelf knows what is found in the folder."""
        self._shelf = shelf

    def begin(self) -> None:
        """Have the thread that loads. Raises NoThreadError."""
        self._loader.begin()

    @property
    def notice(self) -> int:
        """A descriptor that has something to read when files may have changed, -1 for none."""
        return self._events.fd

    def is_stale(self, names: Collection[str] | None) -> bool:
        """Whether something must be loaded before a request may be answered that leads to servlets of these names; of
        None, nowhere."""
        if self._is_late:
            return False
        now = time.monotonic()
        if self._events.is_told:
            self._shelf.doubt()
        if self._events.take() or now > self._sure_until:
            self._sure_until = now + SURE_S
            changes = self.in_use.changes()
            if changes != self._changes:
                self._changes = changes
                self._shelf.forget_quick()
        return bool(self._changes) if names is None else not self.is_known_fresh(names)

    def is_known_fresh(self, names: Collection[str]) -> bool:
        """Whether none of these was found to have changed, without looking again."""
        return self._changes.isdisjoint(names)

    def refresh(self, then: Callable[[], None] = lambda: None) -> None:
        """Have the folder loaded anew by a thread, then call `then`."""
        self._waiting.append(then)
        if self._is_closed:
            self._go_on()
        elif len(self._waiting) == 1 and not self._is_late:
            asked, self._asked = self._asked, []
            self._loader.submit(partial(self._load, asked))

    @property
    def is_loading(self) -> bool:
        """Whether a thread loads the folder."""
        return bool(self._waiting) or self._is_late

    def refresh_all(self, told: Reloaded = lambda why: None) -> None:
        """Load all servlets anew, for the sake of what they import from elsewhere. `told` hears how that ended."""
        self._asked.append(told)
        self.refresh()

    def look(self) -> None:
        """Load what has changed, though no request asks."""
        if self.is_stale(None):
            self.refresh()

    def _load(self, asked: list[Reloaded]) -> None:
        """In the thread."""
        try:
            self._folder.refresh(everything=bool(asked))
        finally:
            self._call_soon(partial(self._loaded, asked))

    def _load_is_late(self) -> None:
        """Requests that wait are answered by what there is, and so is what comes until it has ended."""
        self._is_late = True
        self._go_on()

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            self._call_soon(then)

    def _loaded(self, asked: list[Reloaded]) -> None:
        self._is_late = False
        if self._is_closed:
            self._go_on()
            for told in (*asked, *self._asked):
                told("")
            return
        self._changes = frozenset()
        self._sure_until = 0.0  # what was written while it was loaded is not loaded
        self._shelf.doubt()
        self._events.close()
        self._events = self._folder.listen()
        self.in_use = self._folder.loaded
        self.loaded()
        self._go_on()
        if asked:
            why = self.in_use.fault()
            for told in asked:
                told(why)
        if self._asked:  # meanwhile
            self.refresh()

    def forget_modules(self) -> None:
        """Once it is closed: as `Folder.forget_modules`."""
        self._folder.forget_modules()

    def close(self) -> None:
        """End the thread. In the loop's thread, or when the loop has ended; harmless when repeated."""
        self._is_closed = True
        self._folder.close()
        self._loader.close()
        self._events.close()

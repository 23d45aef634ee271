"""What the kernel tells of changes, read in the loop for the watchers of all sites. Each site plans by what is its own.

Other threads read, too, as they build and patch: what they have a watcher take in is planned for by the loop, soon.
"""

from __future__ import annotations

from collections.abc import Callable

from zcserve.cache.instance import Instance
from zcserve.cache.watcher import Watcher
from zcserve.errors import reason_of
from zcserve.log import Log
from zcserve.net.loop import Loop

_log = Log(__name__)

# Events are read for about so long in a turn: some hundred.
EVENTS_READ_S = 0.001


class News:
    """Reads one inotify instance. In the loop."""

    def __init__(self, instance: Instance, loop: Loop) -> None:
        self.instance = instance
        self._loop = loop
        self._fd = -1
        self._plans: dict[Watcher, Callable[[], None]] = {}  # of those that are followed
        self._is_planned = False
        instance.told = self._told

    def follow(self, watcher: Watcher, plan: Callable[[], None]) -> None:
        """From now on call `plan` when this watcher was told something. Raises OSError."""
        if self._fd != watcher.fd:
            self._loop.add(watcher.fd, lambda _: self.read())
            self._fd = watcher.fd
        self._plans[watcher] = plan

    def leave(self, watcher: Watcher) -> None:
        """This watcher is not followed any more."""
        self._plans.pop(watcher, None)

    def read(self) -> bool:
        """Have the watchers take in what there is; the rest in the next turn. Whether that was all."""
        is_over = True
        try:
            if not (is_over := self.instance.read(self._loop.now, EVENTS_READ_S)):
                self._loop.again(self.read)
        except OSError as error:
            _log.warning("events of the roots cannot be read: %s", error)
            for watcher, plan in list(self._plans.items()):
                watcher.rescan_later(f"events could not be read ({reason_of(error)})", self._loop.now)
                plan()
        self._plan()
        return is_over

    def _told(self) -> None:
        """In the thread that reads."""
        if not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._plan)

    def _plan(self) -> None:
        self._is_planned = False  # first: what is told from now on is planned for anew
        for watcher in self.instance.touched():
            if isinstance(watcher, Watcher) and (plan := self._plans.get(watcher)) is not None:
                plan()

    def close(self) -> None:
        """Read nothing any more, and give the instance back."""
        if self._fd >= 0:
            self._loop.forget(self._fd)
            self._fd = -1
        self.instance.close()

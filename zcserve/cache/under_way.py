"""Loads that are under way while what they load is thrown away.

A load that began before a purge may have read the old content, and would make it resident after the purge was told.
So loads are noted while they last, and a purge has those of what it throws away be late: what a late one has read is
for the requests that waited for it, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from zcserve.cache.entry import Entry


class UnderWay:
    """The loads of a store, whose lock this is. Any thread may call it, but for what says else."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._loads: dict[Entry, int] = {}  # how many of each; two where both a request and a walk want it
        self._late: set[Entry] = set()

    @contextmanager
    def load(self, entry: Entry) -> Iterator[None]:
        """An entry is loaded, from before its file is opened."""
        self.begin(entry)
        try:
            yield
        finally:
            self.end((entry,))

    def begin(self, entry: Entry) -> None:
        """The load of an entry begins: before its file is opened. `end` must follow."""
        with self._lock:
            self._loads[entry] = self._loads.get(entry, 0) + 1

    def end(self, entries: Iterable[Entry]) -> None:
        """The loads of these are over: what was read of them is resident, or never will be."""
        with self._lock:
            for entry in entries:
                left = self._loads.pop(entry) - 1
                if left:
                    self._loads[entry] = left
                else:
                    self._late.discard(entry)

    def be_late(self, entries: Iterable[Entry]) -> None:
        """What is being loaded of these now is not made resident. Before they are dropped."""
        if self._loads:
            with self._lock:
                self._late.update(entry for entry in entries if entry in self._loads)

    def is_late(self, entry: Entry) -> bool:
        """Whether what was read of an entry is not to be kept; for good while the lock is held. One that began later,
        while a late one goes on, is not kept, either."""
        return entry in self._late

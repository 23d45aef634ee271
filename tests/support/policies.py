"""A cache of objects of one size around a policy, used as the store uses it: what tests of policies stand on."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from zcserve.cache.entry import Body, Entry
from zcserve.cache.evictor import Policy


def resident(name: bytes = b"/x", size: int = 1000) -> Entry:
    """An entry that has a body."""
    entry = Entry(name, b"", size, None)
    entry.body = Body(size)
    return entry


class Cached:
    """At most `capacity` objects; `evicted` are the keys that went, in order."""

    def __init__(self, policy: Policy, capacity: int) -> None:
        self.policy = policy
        self.capacity = capacity
        self.entries: dict[Hashable, Entry] = {}
        self.evicted: list[Hashable] = []
        self._keys: dict[Entry, Hashable] = {}
        self._turn = 0

    def get(self, key: Hashable) -> bool:
        """Ask for an object, which is resident afterwards; whether it was before."""
        self._turn += 1
        if key not in self.entries:
            self.entries[key] = resident()
            self.entries[key].body = None
            self._keys[self.entries[key]] = key
        entry = self.entries[key]
        entry.tick = self._turn
        if entry.body is not None:
            entry.uses += 1
            return True
        while len(self.policy) >= self.capacity:
            victim = self.policy.pop()
            assert victim is not None
            victim.body = None
            self.evicted.append(self._keys[victim])
        entry.body = Body(0)
        self.policy.add(entry)
        return False

    def run(self, keys: Iterable[Hashable]) -> list[bool]:
        """Ask for one after the other."""
        return [self.get(key) for key in keys]

    def drop(self, key: Hashable) -> None:
        """Forget an object's body, if it has one: its file is gone."""
        entry = self.entries.get(key)
        if entry is not None and entry.body is not None:
            self.policy.discard(entry)
            entry.body = None

    def holds(self, keys: Iterable[Hashable]) -> list[bool]:
        """Which of these are resident."""
        return [key in self.entries and self.entries[key].body is not None for key in keys]

"""Which entries of one generation another one may have: those that are sent with the same fields.

An entry's head is made with the rules of its root (rules/). Where the rules of two generations differ, a file for which
they come to the same fields is shared all the same; of any other the next generation has an entry of its own, so that
each generation has its own heads for as long as it is served.
"""

from __future__ import annotations

from typing import Protocol

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.listing import Resource
from zcserve.cache.root import Root
from zcserve.rules.compiled import Rules


class Known(Protocol):
    """What is known of some keys."""

    def get(self, key: bytes, /) -> Resource | None: ...

    def __len__(self) -> int: ...


class _OfSameFields:
    """What of a generation's resources is sent by two sets of rules alike."""

    def __init__(self, generation: Generation, rules: Rules) -> None:
        self._generation = generation
        self._rules = rules

    def get(self, key: bytes, /) -> Resource | None:
        resource = self._generation.resources.get(key)
        if isinstance(resource, Entry):
            was, now = self._generation.root.rules, self._rules
            if was.fields_of(resource.key) != now.fields_of(resource.key):
                return None
        return resource

    def __len__(self) -> int:
        return len(self._generation.resources)


def sharable(generation: Generation, root: Root) -> Known:
    """What of a generation one of this root may have."""
    if generation.root.rules.digest == root.rules.digest:
        return generation.resources
    return _OfSameFields(generation, root.rules)

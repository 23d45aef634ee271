"""What the user pinned: content that is loaded first and never evicted (`--pin`).

A glob (config/globs.py) is matched with the decoded path of a resource; its variants are pinned with it. The
index of a directory goes by its own name, `/docs/index.html`.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from zcserve.cache.entry import Entry, each_coding
from zcserve.cache.index import Generation
from zcserve.config.globs import parse_glob


def _path_of(entry: Entry) -> str:
    return unquote(entry.key.decode(), errors="surrogateescape")


class Pinned:
    """Tells of an entry whether it is pinned: the predicate that a Store is given."""

    def __init__(self, globs: Sequence[str]) -> None:
        self._globs = tuple(globs)
        self._patterns = [parse_glob(glob) for glob in globs]
        self._idle: frozenset[str] = frozenset()  # globs that matched nothing when that was asked last

    def __call__(self, entry: Entry) -> bool:
        if not self._patterns:
            return False
        path = _path_of(entry)
        return any(pattern.fullmatch(path) for pattern in self._patterns)

    def newly_idle(self, generation: Generation) -> list[str]:
        """The globs that match nothing of a generation, but did of the last one."""
        idle = dict(zip(self._globs, self._patterns, strict=True))
        for path in map(_path_of, generation.entries() if idle else ()):
            for glob in [glob for glob, pattern in idle.items() if pattern.fullmatch(path)]:
                del idle[glob]
            if not idle:
                break
        known, self._idle = self._idle, frozenset(idle)
        return [glob for glob in idle if glob not in known]

    def first(self, generation: Generation) -> list[Entry]:
        """What to preload before all else: small before large, so that the most are there when all do not fit."""
        if not self._patterns:
            return []
        return sorted(filter(self, generation.entries()), key=lambda entry: entry.size)

    def left_out(self, generation: Generation) -> list[Entry]:
        """Pinned representations that are not resident: after preloading, those that the budget has no room for."""
        return [
            representation
            for entry in self.first(generation)
            for representation in each_coding(entry)
            if representation.body is None
        ]

"""What the user pinned: content that is loaded first and never evicted (`--pin`).

A glob (config/globs.py) is matched with the decoded path of a resource; its variants are pinned with it. The
index of a directory goes by its own name, `/docs/index.html`.

Globs may come and go while the server runs (content/pinning.py): then what is resident has to be sorted anew
(`Store.repin`). Another thread that asks meanwhile goes by the globs from before, or by those from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from zcserve.cache.entry import Body, Entry, Packed, Paged, each_coding
from zcserve.cache.index import Generation
from zcserve.cache.memfd import round_up
from zcserve.cache.order import in_order
from zcserve.cache.pages import Extent
from zcserve.cache.slab import BLOCK_ALIGN
from zcserve.config.globs import parse_glob
from zcserve.errors import UsageError
from zcserve.paths import decoded

# Patterns that may come while the server runs: to match a file with so many takes 0.3 ms.
GLOBS_MAX = 1000


# Tells of an entry of one site whether it is never evicted.
Pin: TypeAlias = Callable[[Entry], bool]


def nothing(_: Entry) -> bool:
    """A `Pin` of no entry."""
    return False


class Pinned:
    """Tells of an entry of its site whether it is pinned: a `Pin`."""

    def __init__(self, globs: Sequence[str]) -> None:
        self._patterns = {glob: parse_glob(glob) for glob in globs}
        self._idle: frozenset[str] = frozenset()  # globs that matched nothing when that was asked last

    def __call__(self, entry: Entry) -> bool:
        if not self._patterns:
            return False
        path = decoded(entry.key)
        return any(pattern.fullmatch(path) for pattern in self._patterns.values())

    @property
    def globs(self) -> tuple[str, ...]:
        """What is pinned, in the order in which that was said."""
        return tuple(self._patterns)

    def change(self, add: Collection[str], remove: Collection[str]) -> None:
        """Globs come and go; what is there, or is not, already, is no error. Raises UsageError, and has changed
        nothing then."""
        gone = frozenset(remove)
        more = {glob: parse_glob(glob) for glob in add}
        patterns = {glob: one for glob, one in self._patterns.items() if glob not in gone} | more
        if len(patterns) > max(GLOBS_MAX, len(self._patterns)):
            raise UsageError(f"each file is matched with all patterns: {len(patterns)} are more than {GLOBS_MAX}")
        self._patterns = patterns

    def follow(self, old: Pinned, configured: Collection[str]) -> None:
        """Those of a site that takes the place of another one, whose pins were the `configured` ones first: what has
        come and gone since then does so here. Raises UsageError."""
        self.change([glob for glob in old.globs if glob not in configured], set(configured).difference(old.globs))

    def newly_idle(self, generation: Generation) -> list[str]:
        """The globs that match nothing of a generation, but did of the last one."""
        idle = dict(self._patterns)
        for path in (decoded(entry.key) for entry in (generation.entries() if idle else ())):
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
        return list(in_order(list(filter(self, generation.entries())), key=lambda entry: entry.size))

    def left_out(self, generation: Generation) -> list[Entry]:
        """Pinned representations that are not resident: after preloading, those that the budget has no room for."""
        return [
            representation
            for entry in self.first(generation)
            for representation in each_coding(entry)
            if representation.body is None
        ]


class Held:
    """The resident representations that are pinned, and what they hold of the budget. The store's lock is held.

    bytes    of the budget
    changes  how often one came or went
    """

    def __init__(self) -> None:
        self._bytes_of: dict[Entry, int] = {}
        self.bytes = 0
        self.changes = 0

    def __len__(self) -> int:
        return len(self._bytes_of)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._bytes_of

    def add(self, entry: Entry) -> int:
        """One came; its bytes."""
        size = self._bytes_of[entry] = memory_of(entry.body)
        self.bytes += size
        self.changes += 1
        return size

    def discard(self, entry: Entry) -> int:
        """One goes, if it is here; its bytes."""
        size = self._bytes_of.pop(entry, None)
        if size is None:
            return 0
        self.bytes -= size
        self.changes += 1
        return size


def memory_of(body: Body | None) -> int:
    """Bytes of the budget that a body holds; of pages that it shares with others, its part."""
    if isinstance(body, Packed):
        return -(-(body.head_bytes + body.size) // BLOCK_ALIGN) * BLOCK_ALIGN  # `round_up`, where each drop comes by
    if isinstance(body, Paged) and isinstance(body.keeper, Extent):
        return round_up(body.keeper.length)
    return 0

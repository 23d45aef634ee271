"""Slabs that have become sparse are emptied, so that what the budget pays for is content.

Eviction leaves holes. Pages without any block go back to the kernel, but a page with one small block left costs as
much as a full one, and new bodies of another size do not fit beside it. So when room is wanted and the holes are more
than a share of all slabs, bodies are moved: from the sparsest slab, which takes nothing new from then on, to where
nothing has lain yet, one behind the other. The pages there are full, those left behind go back, and a slab that the
last block has left is closed. This is how log-structured stores clean (Rosenblum and Ousterhout, "The Design and
Implementation of a Log-Structured File System", 1992, section 3.4; the sparsest segment first), and as there the cost
is bounded by the share: to gain a byte, at most `1 / HOLES_SHARE - 1` bytes are copied.

To move a body is to copy its block, and to set `entry.body` to another that says so. What sends from the old one
refers to it, so its bytes stay as long; the fast lane is told as at an eviction, and taught anew at the next
request. What is being sent is left for later. The policy does not hear of it: the entry stays where it was filed.

The entries of a slab are kept as one list of entries for each, about nine bytes a body: to ask all entries instead
would take a tenth of a second for a million, with the store's lock held. What left is taken off when it is half of the
list: an entry that left holds no memory, and is looked at once more at most. A list may have 100,000 entries, so no
step looks at more than some, but for the one that empties a slab: that is Python's own loop, in which the loop's thread
gets its turns.

Everything here is called with the store's lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from zcserve.cache.entry import Entry, Packed
from zcserve.cache.evictor import IsSending, in_flight
from zcserve.cache.memfd import PAGE_BYTES, round_up
from zcserve.cache.slab import Slab, Slabs
from zcserve.cache.unseen import hide

# Slabs are sparse when more than this share of their pages' bytes is holes. A budget then loses no more than this to
# holes; half of it would cost twice the copying for the same gain.
HOLES_SHARE = 1 / 16
# Entries that left may be as many as those that stay, and these.
GONE_MAX = 32
# So many of a list that is tidied are looked at whenever one more leaves; for 100,000 at once it took 15 ms.
TIDIED_AT_ONCE = 16
# Entries are sorted by where they lie in pieces of a slab: to sort 50,000 at once holds the GIL for 10 ms.
SORTED_BYTES = 1 << 16


def _offset(entry: Entry) -> int:
    body = entry.body
    return body.offset if isinstance(body, Packed) else 0


def _by_offset(entries: Iterable[Entry]) -> list[Entry]:
    pieces: dict[int, list[Entry]] = {}
    for entry in entries:
        pieces.setdefault(_offset(entry) // SORTED_BYTES, []).append(entry)
    return [entry for place in sorted(pieces) for entry in sorted(pieces[place], key=_offset)]


class _SlabEntries:
    """The entries whose bodies lie in one slab: `count`, among others that have left, and some more than once.

    To tidy is to begin a new list, and to move the entries that are still here to it, a few at a time. What came back
    was on the old list twice; `_moved` has what is on the new one, until the old one is empty.
    """

    __slots__ = ("_entries", "_moved", "_old", "count", "slab")

    def __init__(self, slab: Slab) -> None:
        self.slab = slab
        self.count = 0
        self._old = self._new_list()
        self._entries = self._new_list()
        self._moved: set[Entry] = set()

    @staticmethod
    def _new_list() -> list[Entry]:
        entries: list[Entry] = []
        hide(entries)
        return entries

    def __len__(self) -> int:
        return len(self._old) + len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return chain(self._old, self._entries)

    def add(self, entry: Entry) -> None:
        """Its body lies here from now on."""
        self.count += 1
        if not self._old:
            self._entries.append(entry)
        else:
            self._move(entry)

    def lost_one(self) -> None:
        """The body of one of them lies elsewhere now, or is gone."""
        self.count -= 1
        if not self._old and len(self._entries) > 2 * self.count + GONE_MAX:
            self._old, self._entries = self._entries, self._new_list()
            hide(self._moved)  # a set stays hidden, whatever comes into it
        for _ in range(min(TIDIED_AT_ONCE, len(self._old))):
            entry = self._old.pop()
            body = entry.body
            if isinstance(body, Packed) and body.slab is self.slab:
                self._move(entry)
        if not self._old and self._moved:
            self._moved = set()

    def _move(self, entry: Entry) -> None:
        if entry not in self._moved:
            self._moved.add(entry)
            self._entries.append(entry)


class Compactor:
    """Moves bodies together in `slabs`; `moves` counts how many were."""

    def __init__(self, slabs: Slabs) -> None:
        self.moves = 0
        self._slabs = slabs
        self._entries_of: dict[Slab, _SlabEntries] = {}
        self._leaving: list[Entry] = []  # of slabs that retire, the next at the end
        self._behind: list[Entry] = []  # as those, but they were being sent

    def came(self, entry: Entry, slab: Slab) -> None:
        """An entry's body lies in `slab` from now on."""
        entries = self._entries_of.get(slab)
        if entries is None:
            entries = self._entries_of[slab] = _SlabEntries(slab)
        entries.add(entry)

    def left(self, slab: Slab) -> None:
        """An entry's body lay in `slab` until now."""
        entries = self._entries_of[slab]
        entries.lost_one()
        if not entries.count:
            del self._entries_of[slab]

    @property
    def due(self) -> bool:
        """Whether the slabs are sparse."""
        slabs = self._slabs
        return slabs.committed - slabs.live > HOLES_SHARE * slabs.committed

    def step(self, bytes_max: int, committed_max: int, is_sending: IsSending, let_go: Callable[[Entry], bool]) -> int:
        """Move about `bytes_max` bytes, while no more than `committed_max` of slabs are committed; how many were moved.

        `let_go` tells what else refers to an entry's body, as `Store.evicted`.
        """
        slabs = self._slabs
        moved = 0
        while moved < bytes_max and (self._leaving or self._begin(is_sending)):
            entry = self._leaving[-1]
            body = entry.body
            if isinstance(body, Packed) and body.slab.retiring:
                if in_flight(entry, is_sending):
                    self._behind.append(entry)
                elif slabs.committed + round_up(body.length) + PAGE_BYTES > committed_max:
                    break
                else:
                    try:
                        self._move(entry, body, let_go)
                    except OSError:  # another slab cannot be opened now
                        break
                    moved += body.length
            del body, self._leaving[-1]
            slabs.reclaim()
        return moved

    def _begin(self, is_sending: IsSending) -> bool:
        """Whether an entry is to leave: what was left behind and is free now, or else what lies in the sparsest
        slab, if it is worth it."""
        behind, self._behind = self._behind, []
        for entry in behind:
            (self._behind if in_flight(entry, is_sending) else self._leaving).append(entry)
        while not self._leaving:
            worth_it = [slab for slab in self._slabs.slabs.values() if not slab.retiring and self._worth_it(slab)]
            if not self.due or not worth_it:
                return False
            slab = min(worth_it, key=lambda slab: slab.live / slab.pages)
            self._slabs.retire(slab)
            # From its end to its start: so the pages become free one after the other.
            entries = self._entries_of.get(slab)  # none, if all that is left was evicted while it is sent
            self._leaving = _by_offset(entries or ())
        return True

    def _move(self, entry: Entry, old: Packed, let_go: Callable[[Entry], bool]) -> None:
        new = self._slabs.move(old, Packed)
        entry.body = new
        self.moves += 1
        self.came(entry, new.slab)
        self.left(old.slab)
        if let_go(entry):
            self._slabs.condemn(old)

    def _worth_it(self, slab: Slab) -> bool:
        """Whether to empty a slab gains a page, or closes it, and enough for what it costs."""
        spare = slab.pages * PAGE_BYTES - slab.live
        least = 0 if slab.pages == 1 and slab is not self._slabs.newest else PAGE_BYTES
        return spare >= least and spare > HOLES_SHARE * slab.pages * PAGE_BYTES

"""What is served: a generation is one index, complete and consistent.

The key is the canonical *encoded* path (`http.canonical_path`), so that a plain request target is its own key: the
general lane looks the raw bytes up first, and only what misses is decoded, cleaned and looked up again. A directory's
key ends in a slash and holds its index file's entry, or a `Listing` (listing.py); the key without the slash holds a
`Redirect`.

A look-up reads `Site.live` once, and goes on with that one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from zcserve.cache.burial import empty
from zcserve.cache.entry import Entry
from zcserve.cache.listing import Resource
from zcserve.cache.naming import directory_of, keys_of
from zcserve.cache.root import Root
from zcserve.cache.shards import Shards, Table, enter, tables_of
from zcserve.cache.unseen import hide, put

# What an entry costs in Python objects and index slots, measured with 100,000 files (tools/bench million): counted in
# the budget.
ENTRY_BYTES = 676
# What of this is the index alone, where another generation has the entry, too: a slot of a dict, and one of a list.
SLOT_BYTES = 64

# Keys that are gone may be so many before they are forgotten: this share of all, and these.
GONE_SHARE = 0.25
GONE_MIN = 1000
# Pieces of keys that come are joined up to this length, and so many are put in at once.
PIECE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something under the root that is not served as it lies there: a path (for people) and why."""

    path: str
    why: str

    @classmethod
    def of(cls, path: bytes, why: str) -> Problem:
        """`path` as it is on disk; bytes that are no UTF-8 are shown as escapes, so that it can be printed anywhere."""
        return cls(path.decode("utf-8", "backslashreplace"), why)


@dataclass(slots=True)
class Stock:
    """What of some files is resident, and the files of which something is not; variants are not counted apart."""

    files: int = 0
    bytes: int = 0
    wanting: list[Entry] = field(default_factory=list)

    def take(self, entries: Iterable[Entry]) -> None:
        """Look at these files; one with variants counts as wanting."""
        hide(self.wanting)  # it may be all there are
        for entry in entries:
            if entry.body is None or entry.variants or entry.is_variant:
                self.wanting.append(entry)
            else:
                self.files += 1
                self.bytes += entry.size


@dataclass(slots=True, eq=False)
class Generation:
    """An index with the root it was made from, and what the walk met on the way.

    resources  what each key leads to. A dict; shards, where it is large (shards.py): to be asked for each time
    pieces, gone  lists of keys: all that there are, and those that are gone. To list a million keys at once holds the
           GIL for 30 ms, so they are kept as they come
    is_disturbed  whether something was not seen for an error of a file system, which may pass
    stock  the walk's, for the loading that follows it
    pinned  keys of files that are pinned; some may lead nowhere by now
    error_pages  by status, the content of 404.html and the like (rules/error_pages.py); `pages` is the same by key.
           Both are replaced, and never written into
    until  of the loop's time: how long it is reachable when it is the live one no more
    """

    root: Root
    resources: Table[bytes, Resource] = field(default_factory=dict)
    pieces: list[list[bytes]] = field(default_factory=list)
    gone: Shards[bytes, bool] = field(default_factory=Shards)
    problems: list[Problem] = field(default_factory=list)
    error_pages: dict[int, bytes] = field(default_factory=dict)
    pages: dict[bytes, bytes] = field(default_factory=dict)
    stock: Stock | None = None
    pinned: dict[bytes, None] = field(default_factory=dict)
    until: float = inf
    is_disturbed: bool = False
    _changing: threading.Lock = field(default_factory=threading.Lock, repr=False)  # loaders' threads replace, too

    def set_pages(self, pages: dict[bytes, bytes]) -> None:
        """Have the content at these keys be the site's pages for errors."""
        self.pages = pages
        self.error_pages = self.root.rules.error_pages.by_status(pages)

    @property
    def index_bytes(self) -> int:
        """What its entries and its index take of the budget."""
        return len(self.resources) * ENTRY_BYTES

    def bytes_beside(self, shared: int) -> int:
        """The same where so many entries are another generation's, too, and count there."""
        return self.index_bytes - shared * (ENTRY_BYTES - SLOT_BYTES)

    def has_file(self, key: bytes) -> bool:
        """Whether a file, or a directory's index, is at this key."""
        return isinstance(self.resources.get(key), Entry)

    def entries(self) -> Iterator[Entry]:
        """Every file's entry once, in the order of the walk: directory by directory, and behind what was there when
        the server started what is new since."""
        find = self.resources.get
        for keys in self.keys_in_pieces():
            for key in keys:
                resource = find(key)  # a loader's thread may replace one meanwhile
                if isinstance(resource, Entry) and resource.key == key:
                    yield resource

    def keys_in_pieces(self) -> Iterator[list[bytes]]:
        """All keys, a piece at a time, to be read only. Some may come or go meanwhile."""
        if sum(map(len, self.pieces)) - len(self.gone) != len(self.resources):
            # Not made by a walk, or something is coming or going just now.
            yield from map(list, tables_of(self.resources))
            return
        for place in range(len(self.pieces)):
            keys = self.pieces[place]
            yield [key for key in keys if key not in self.gone] if self.gone else keys

    def tidy(self) -> None:
        """Forget keys that are gone, once they are many. Only while nothing is laid over."""
        if len(self.gone) <= GONE_MIN + len(self.resources) * GONE_SHARE:
            return
        with self._changing:
            gone, self.gone = self.gone, Shards()
            for place, keys in enumerate(self.pieces):
                self.pieces[place] = [key for key in keys if key not in gone]
                hide(self.pieces[place])
            self.pieces = list(filter(None, self.pieces))
            empty(gone)

    def lay_over(self, keys: Iterable[bytes], resources: Mapping[bytes, Resource | None]) -> None:
        """Let these keys lead to what `resources` has for them; None: to nothing."""
        with self._changing:
            self._lay_over(keys, resources)

    def _lay_over(self, keys: Iterable[bytes], resources: Mapping[bytes, Resource | None]) -> None:
        fresh: dict[bytes, Resource] = {}
        come: list[bytes] = []
        for key in keys:
            resource = resources[key]
            if resource is None:
                if self.resources.pop(key, None) is not None:
                    self.gone[key] = True
                continue
            if self.gone.pop(key) is None and key not in self.resources and key not in fresh:
                come.append(key)
            fresh[key] = resource
            if len(fresh) == PIECE_MAX:
                self._put(fresh, come)
                fresh, come = {}, []
        self._put(fresh, come)

    def _put(self, fresh: dict[bytes, Resource], come: list[bytes]) -> None:
        """Put these in, of which those that `come` are new."""
        if come and self.pieces and len(self.pieces[-1]) + len(come) <= PIECE_MAX:
            self.pieces[-1] += come
        elif come:
            self.pieces.append(come)
        if fresh:
            self.resources = enter(self.resources, fresh)

    def clear(self) -> None:
        """It is over: let go of all that it has, a piece at a time. A thread that still goes by it finds nothing."""
        empty(self.resources)
        empty(self.gone)
        for keys in self.pieces:
            keys.clear()

    def has(self, entry: Entry) -> bool:
        """Whether an entry stands here: at its own key, or at its directory's."""
        find = self.resources.get
        return find(entry.key) is entry or find(directory_of(entry.key)) is entry

    def replace(self, old: Entry, new: Entry | None) -> None:
        """Let `new` (None: nothing) stand wherever `old` stands.

        For one file found changed or gone when it was opened.
        """
        directory = directory_of(old.key)
        with self._changing:
            for key in (old.key, directory):
                if self.resources.get(key) is not old:
                    continue
                if new is not None:
                    put(self.resources, {key: new})  # no more keys than before
                    continue
                leads_nowhere = keys_of(key) if key == directory else (key,)
                self._lay_over(leads_nowhere, dict.fromkeys(leads_nowhere))

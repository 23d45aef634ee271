"""The pages that directories without an index answer with: made when they are first asked for, and kept like content.

    find -> kept, and resident -> its entry: negotiated, conditioned, cut and taught to the fast lane like a file's
         -> none -> make -> a loader's thread writes the page and makes it resident -> all that wait

A page is kept until one of the directory's names leads elsewhere (`forget`, with the keys of what has changed): then
the lane lets go of it in the same step of the loop, and the next request has another made. It counts in the memory
budget, and leaves it like any content; then it is made again. Where there is no room for it, it is sent and not kept.

All in the loop's thread, but for the jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from zcserve.cache.entry import Body, ComposedEntry, Entry
from zcserve.cache.evictor import tick_at
from zcserve.cache.fetcher import Fetcher, Wait
from zcserve.cache.index import Generation
from zcserve.cache.listing import Listing
from zcserve.cache.loader import Loader
from zcserve.cache.resident import forget_all, is_resident, with_variants
from zcserve.http import FieldLines
from zcserve.log import Log
from zcserve.site.listing_page import JSON_QUERY, Page, page_of

_log = Log(__name__)

# Pages that are known, in memory or not: half a kilobyte each. What was made first goes first.
KEPT_MAX = 10_000


# Larger pages have no variants by --compress: brotli makes a megabyte a second, and holds up a thread that loads.
CODED_BYTES_MAX = 1 << 20


class Kept(NamedTuple):
    """A page that is kept, in memory or evicted, and how many names the directory has."""

    entry: ComposedEntry
    names: int


class Made(NamedTuple):
    """A page at hand: its entry, what is sent, and how many names the directory has."""

    entry: ComposedEntry
    body: Body
    names: int


@dataclass(frozen=True, slots=True)
class Listed:
    """That a target leads to a listing.

    generation  whose files are listed
    key         the directory's
    is_json     in which form
    fields      what is sent besides, since of the request's origin
    is_lasting  whether it is so for all requests with the same target
    """

    generation: Generation
    key: bytes
    listing: Listing
    is_json: bool = False
    fields: FieldLines = ()
    is_lasting: bool = True

    @property
    def is_shown(self) -> Callable[[bytes], bool] | None:
        """Whether the page has the name at a key; None: it has all. What asks for another password than the directory
        does is not named."""
        rules = self.generation.root.rules
        return partial(rules.lists, self.key) if rules.asks else None

    @property
    def target(self) -> bytes:
        """What asks for just this, as plainly as it can."""
        return self.key + b"?" + JSON_QUERY if self.is_json else self.key


class _Job:
    """One page that is made, once, however often `run` is called; in one thread at a time.

    pieces   the content of the page that was made, where it may get variants
    """

    __slots__ = ("_listed", "_loader", "_made", "pieces")

    def __init__(self, loader: Loader, listed: Listed) -> None:
        self._loader = loader
        self._listed = listed
        self._made: Made | None = None
        self.pieces: list[bytes] = []

    def run(self) -> Made:
        """Write the page, and make it resident, if there is room for it. In a thread."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> Made:
        loader, listed = self._loader, self._listed
        generation, key = listed.generation, listed.key
        page = page_of(key, listed.listing, generation.resources, is_json=listed.is_json, is_shown=listed.is_shown)
        entry = composed(listed, page)
        body = loader.keep(entry, page.pieces, evict=True) or loader.fleeting(entry, page.pieces)
        if entry.size <= CODED_BYTES_MAX:
            self.pieces = page.pieces
        while page.pieces and not self.pieces:  # one by one: to free all of it is a long step
            page.pieces.pop()
        return Made(entry, body, page.names)


def composed(listed: Listed, page: Page) -> ComposedEntry:
    """The entry of a page, with what rules say of its directory."""
    fields = listed.generation.root.rules.fields_of_answer(listed.key)
    said = page.content_type, fields.lines
    entry = ComposedEntry(listed.target, page.size, None, *said, nosniff=fields.nosniff, is_ruled=True)
    entry.etag = page.etag
    entry.tick = tick_at(time.monotonic())
    return entry


class Listings:
    """The pages of one site. `drop` has the front let go of an entry; `label` begins a line of the log."""

    def __init__(self, loader: Loader, fetcher: Fetcher, drop: Callable[[Entry], None], label: str = "") -> None:
        self._loader = loader
        self._fetcher = fetcher
        self._drop = drop
        self._label = label
        self._kept: dict[bytes, Kept] = {}  # by target
        self._making: dict[bytes, _Job] = {}  # likewise
        self._is_told = False  # that there is no room for one

    def find(self, listed: Listed) -> ComposedEntry | None:
        """The page, if it is kept and in memory."""
        if (made := self.kept(listed)) is not None:
            return made.entry
        self._forget([listed.target] if listed.target in self._kept else [])
        return None

    def kept(self, listed: Listed) -> Made | None:
        """The same, with how many names it has."""
        kept = self._kept.get(listed.target)
        if kept is None or not is_resident(kept.entry) or (body := kept.entry.body) is None:
            return None
        return Made(kept.entry, body, kept.names)

    def make(self, listed: Listed, done: Callable[[Made | None], None]) -> Wait:
        """Have the page made; None: it cannot be, for now. Requests that come meanwhile wait for the same one, unless
        it is known to be old by then."""
        job = self._making.get(listed.target)
        if job is None:
            job = self._making[listed.target] = _Job(self._loader, listed)
            self._fetcher.run(job, job.run, partial(self._made, listed, job))
        return self._fetcher.run(job, job.run, done)

    def _made(self, listed: Listed, job: _Job, made: Made | None) -> None:
        """In the loop, before any request has it."""
        target = listed.target
        is_wanted = self._making.get(target) is job
        if is_wanted:
            del self._making[target]
        if made is None:
            return
        if made.entry.body is None:
            if not self._is_told and not self._loader.store.frozen:  # else an upgrade is under way
                self._is_told = True
                told = "%sthe listing of %s (%d names, %d bytes) finds no room in memory: it is made for each request"
                _log.warning(told, self._label, listed.key.decode(), made.names, made.entry.size)
            return
        if not is_wanted:
            self._let_go([made.entry])
            return
        if len(self._kept) >= KEPT_MAX:
            self._forget([next(iter(self._kept))])
        self._kept[target] = kept = Kept(made.entry, made.names)
        if self._loader.codings.may_apply(made.entry) and made.entry.size <= CODED_BYTES_MAX:
            code = partial(with_variants, self._loader, made.entry, b"".join(job.pieces))
            self._fetcher.run(made.entry, code, partial(self._coded, target, kept))

    def _coded(self, target: bytes, kept: Kept, fresh: ComposedEntry | None) -> None:
        """A thread made `fresh`, which is the page with variants."""
        if fresh is None:
            return
        if self._kept.get(target) is kept and is_resident(fresh):
            self._kept[target] = Kept(fresh, kept.names)
            self._let_go([kept.entry])
        else:
            self._let_go([fresh])

    def is_kept(self, listed: Listed, made: Made) -> bool:
        """Whether a page that was made is still the one to be sent."""
        kept = self._kept.get(listed.target)
        return kept is not None and kept.entry is made.entry

    # --- going --------------------------------------------------------------------------------------------

    def forget(self, keys: Collection[bytes]) -> None:
        """What stands at these keys has changed."""
        for pages in (self._kept, self._making):
            if len(keys) > len(pages):
                self._forget([target for target in pages if target.partition(b"?")[0] in keys])
            elif pages:
                self._forget([target for key in keys for target in (key, key + b"?" + JSON_QUERY) if target in pages])

    def forget_all(self) -> None:
        """All are made anew: other rules hold."""
        self._forget({**self._kept, **self._making})

    def _forget(self, targets: Iterable[bytes]) -> None:
        entries = []
        for target in list(targets):
            self._making.pop(target, None)
            kept = self._kept.pop(target, None)
            if kept is not None:
                entries.append(kept.entry)
        self._let_go(entries)

    def _let_go(self, entries: list[ComposedEntry]) -> None:
        """The lane forgets at once. Memory is for a thread: the store's lock may be held for a while."""
        if not entries:
            return
        for entry in entries:
            self._drop(entry)
        self._fetcher.run(object(), partial(forget_all, self._loader, entries), lambda _: None)

    def close(self) -> None:
        """The site is gone: give the memory back. In any thread, once nothing finds the site any more."""
        forget_all(self._loader, [kept.entry for kept in self._kept.values()])
        self._kept.clear()

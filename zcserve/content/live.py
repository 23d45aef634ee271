"""What is served now and what follows its root. Each method is a step of the loop, between two turns, and short.

Lanes in other threads answer while a step is made. So it has the front forget all that was before it tells what is new:
what leads to something else, then the page for what is absent. Then no client gets something old after something new.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import chain
from math import inf
from typing import TypeAlias

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.naming import directory_of
from zcserve.cache.patch import Patch
from zcserve.cache.shards import in_pieces
from zcserve.cache.watcher import Watcher
from zcserve.config.table import Config
from zcserve.content.builder import Built
from zcserve.content.merging import leave_out
from zcserve.content.news import EVENTS_READ_S, News
from zcserve.content.noted import Noted
from zcserve.log import Log
from zcserve.net.service import Service
from zcserve.rules.compiled import Rules, owned_by
from zcserve.site.exchange import Owned
from zcserve.site.site import Site

_log = Log(__name__)


# So many keys that come or go are told to the front in one step of the loop: a millisecond where its set just grew.
KEYS_TOLD_AT_ONCE = 500

Step: TypeAlias = Callable[[], None]


def _plan_nothing() -> None:
    """A `plan` once the site is gone."""


class LostError(Exception):
    """The root leads elsewhere: this patch is of no use."""


class Live:
    """The generations of a site, and the watcher of the live one.

    events_before  of watchers that are gone
    is_adrift    the new root failed to load: events of the old one are ignored
    """

    def __init__(self, site: Site, service: Service, config: Config, news: News, plan: Callable[[], None]) -> None:
        """`news` tell of changes; `plan` is told that something may be due at another time."""
        self.watcher: Watcher | None = None
        self.events_before = 0
        self._noting: list[Noted] = []  # for each thing that is made of the same files
        self.is_adrift = False
        self._waiting: list[Callable[[], None]] = []  # for a flip
        self.site = site
        self._service = service
        self._loop = service.loop
        self._news = news
        self._shelf = service.loop.front.shelf(site.id)
        self._config = config
        self.plan = plan
        self._is_ruled = False  # the front was told what rules own
        self._next = site.live  # once it is about to answer: the next generation

    def all_served(self) -> Iterator[Generation]:
        """The generations of every site."""
        return self._service.generations()

    def follow(self, watcher: Watcher | None) -> None:
        """From now on this is the watcher. Raises OSError."""
        if watcher is not None:
            self._news.follow(watcher, self._plan_again)
            if watcher.blind is not None:
                _log.warning(
                    "%snot everything is watched: %s; everything is walked now and then", self.site.label, watcher.blind
                )
        if self.watcher is not None:
            self.events_before += self.watcher.events
        self.watcher = watcher
        self.plan()

    @property
    def events(self) -> int:
        """How many events of the kernel's watchers have told."""
        return self.events_before + (self.watcher.events if self.watcher is not None else 0)

    def read_events(self) -> bool:
        """As `News.read`."""
        return self.watcher is None or self._news.read()

    def _plan_again(self) -> None:
        self.plan()

    def unfollow(self) -> None:
        """What the watcher tells is not heard any more."""
        if self.watcher is not None:
            self._news.leave(self.watcher)

    def lay_over(
        self, watcher: Watcher, generation: Generation, patch: Patch, keys: list[bytes], *, is_last_try: bool
    ) -> list[Entry] | None:
        """Lay some keys of a patch over; the entries that are not needed any more. None: not yet, there are events to
        be read first. Raises LostError."""
        if not watcher.read(self._loop.now, EVENTS_READ_S) and not is_last_try:
            return None
        if watcher.is_lost and not generation.root.is_in_place():
            raise LostError
        unneeded = leave_out(patch, keys, generation, watcher)
        keys = [key for key in keys if key in patch.resources]
        known = generation.resources
        was = [old for key in keys if isinstance(old := known.get(key), Entry)]
        comes_or_goes = any(patch.resources[key] is None or key not in known for key in keys)
        self.expect([key for key in keys if patch.resources[key] is not None])
        patch.apply(generation, keys)
        self.note_keys(keys)
        self._forget_keys(keys, files_come_or_go=comes_or_goes)
        if not generation.root.rules.error_pages.in_memory.isdisjoint(keys):
            self.tell_page()
        self.settle([key for key in keys if patch.resources[key] is None])
        unneeded += [old for old in was if known.get(old.key) is not old]
        return unneeded

    def flip(
        self, built: Built, changed: Collection[bytes], noted: Noted | None = None, *, is_last_try: bool = True
    ) -> list[Generation] | None:
        """The next generation is the live one, and the front expects its keys already. The generations whose time is
        over. None: not yet, it is to know of what was renewed first, as far as this was `noted` for it."""
        last, watcher = self.site.live, self.watcher
        if noted is not None and noted.renewed and not is_last_try:
            return None
        self.follow(built.watcher)  # first, since it can fail
        last.until = self._loop.now + self._config.keep_for_s
        older, kept = (last, *self.site.older), self._config.keep_generations
        over = older[kept:]
        if not changed:  # a reload that brings nothing pushes no release out: the last one has nothing of its own
            older, over = older[1:], (last, *older[kept + 1 :])
        before, after = last.root.rules, built.generation.root.rules
        if before is not after:  # what only one of them has is not called absent meanwhile
            self._have_rules_own(before, after)
        self.site.serve(built.generation, older[:kept])
        self._next = built.generation
        self._forget_keys(changed)
        if before is not after:
            self._shelf.forget_all(self.site.count_keys())
            if self.site.listings is not None:
                self.site.listings.forget_all()
            self._have_rules_own(after)
        self.tell_page()
        if watcher is not None:
            self._news.leave(watcher)
        self.plan()
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()
        return list(over)

    # --- what is made of the same files ---------------------------------------------------------------------------

    @property
    def is_building(self) -> bool:
        """Whether something is made of the same files, which then takes the place of what is served."""
        return any(noted.is_building for noted in self._noting)

    def note(self, *, is_building: bool = True) -> Noted:
        """From now on what changes is noted. In any thread."""
        self._noting.append(noted := Noted(is_building=is_building))
        return noted

    def end_note(self, noted: Noted) -> None:
        """It is noted no more. In any thread."""
        self._noting.remove(noted)

    def note_keys(self, keys: Iterable[bytes], but: Noted | None = None) -> None:
        """These keys lead elsewhere, or are to be looked at anew, which one knows. In the thread of the patches, or in
        a step of it."""
        for noted in tuple(self._noting):
            if noted is not but:
                noted.lay(keys)

    def note_renewed(self, key: bytes) -> None:
        """A request has found something newer: what is made may have something older."""
        for noted in tuple(self._noting):
            noted.renewed[key] = None

    def let_go(self) -> None:
        """The site is gone: what waits, and what is told of times, refers to this."""
        self.plan = _plan_nothing
        self._waiting.clear()

    # --- what is absent -------------------------------------------------------------------------------------------

    def tell_keys(self) -> None:
        """Have the front know what is absent."""
        served = self.site.generations
        self.tell_page()
        self._have_rules_own(self.site.root.rules)
        pieces = chain.from_iterable(one.keys_in_pieces() for one in served)
        self._shelf.know_keys(pieces, sum(len(one.resources) for one in served))

    def _have_rules_own(self, *rules: Rules) -> None:
        """Have the front ask where a path leads that these rules may have an answer for."""
        application = self.site.application
        if application is not None:
            application.own_with(rules)
        elif any(one.has_answers for one in (*rules, self.site.root.rules)) or self._is_ruled:
            self._shelf.consult(None, Owned(owned_by(rules)))
            self._is_ruled = True

    def tell_page(self) -> None:
        """Have the front know the page for what is absent, and whether rules say more of failures than it does."""
        self._shelf.set_not_found(self.site.not_found())
        self._shelf.leave_failures(any(one.root.rules.has_lasting_fields for one in self.site.generations))

    def expect(self, keys: Collection[bytes]) -> None:
        """These keys will lead somewhere. Before they do, and some thousand at a time: no step is to be long."""
        self._shelf.add_keys(keys)

    def expect_next(self, following: Generation) -> None:
        """This generation is about to be the live one, or the prepared one: what it has is not absent any more, once it
        was expected."""
        self._next = following

    def prepare(self, following: Generation | None) -> None:
        """This generation has what the live one lacks from now on, and the front expects its keys already; None: none
        has. Rules had led its keys elsewhere, or nowhere."""
        self.site.prepare(following)
        self._next = following or self.site.live
        self._shelf.forget_keys((), self.site.count_keys())
        self.tell_page()

    def settle(self, keys: Collection[bytes]) -> None:
        """These keys led somewhere: those that lead nowhere now are absent. Some thousand at a time, too."""
        find, coming = self.site.find, [one.resources for one in (self._next, self.site.prepared) if one is not None]
        gone = [key for key in keys if find(key)[1] is None and not any(key in there for there in coming)]
        if gone:
            self._shelf.remove_keys(gone)

    def after_flip(self, then: Callable[[], None]) -> None:
        """Call `then` when the next generation is the live one. In any thread."""
        self._waiting.append(then)

    def _forget_keys(self, keys: Collection[bytes], *, files_come_or_go: bool = True) -> None:
        """The front lets go of these, and so do the listings, and the application of what it knew of them."""
        if self.site.listings is not None:
            self.site.listings.forget(keys)
        if self.site.application is not None and files_come_or_go:
            self.site.application.forget(keys)
        self._shelf.forget_keys(keys, self.site.count_keys())

    def forget(self, keys: Collection[bytes]) -> None:
        """What these keys lead to is not in memory any more."""
        self._shelf.forget_keys(keys, self.site.count_keys())

    def load_anew(self, entries: Iterable[Entry]) -> None:
        """As `Fetcher.load_anew`."""
        self._service.fetcher.load_anew(entries)

    def forget_listing(self, key: bytes) -> None:
        """The file at this key was found to be another, or gone: its directory's page says so."""
        if self.site.listings is not None:
            self.site.listings.forget([directory_of(key)])

    def next_over(self) -> float:
        """When the time of one of the older generations is over; infinity where there is none."""
        return min((old.until for old in self.site.older), default=inf)

    def take_over(self, now: float) -> list[Generation]:
        """The older generations whose time is over: they are not reachable any more."""
        older = self.site.older
        over = [old for old in older if old.until <= now]
        if over:
            self.site.serve(self.site.live, [old for old in older if old.until > now])
        return over


def expect_all(live: Live, following: Generation, in_loop: Callable[[Step], None]) -> None:
    """Have the front know the keys of a generation that is about to answer, in steps that the loop makes by `in_loop`.
    In any other thread."""
    in_loop(partial(live.expect_next, following))
    known = live.site.live.resources
    expect_some(live, (key for key in following.resources if key not in known), in_loop)


def expect_some(live: Live, keys: Iterable[bytes], in_loop: Callable[[Step], None]) -> None:
    """As `expect_all`, these keys."""
    for some in in_pieces(keys, KEYS_TOLD_AT_ONCE):
        in_loop(partial(live.expect, some))


def settle_all(live: Live, keys: Iterable[bytes], in_loop: Callable[[Step], None]) -> None:
    """Have those of these keys be absent that lead nowhere, as `expect_all`."""
    find = live.site.find
    for gone in in_pieces((key for key in keys if find(key)[1] is None), KEYS_TOLD_AT_ONCE):
        in_loop(partial(live.settle, gone))

"""What is served under one set of host names: its generations, its application, and what a request asks of them.

A `Site` is data. It is patched between two turns of the loop, so that what a request finds in one turn belongs
together; another thread may read it at any time, and finds one state of it or the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.heat import Heat
from zcserve.cache.index import Generation
from zcserve.cache.listing import STANDS_BACK, Resource
from zcserve.cache.pinned import Pinned
from zcserve.cache.root import Root
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.http import FieldLines
from zcserve.rules.protected import Protection
from zcserve.site.accounts import NONE_NUMBER
from zcserve.site.exchange import Application
from zcserve.site.listings import Listings
from zcserve.site.reply import Reply, failed, not_found, refused

# Writes a line of an access log, with the arguments of `AccessLog.record`.
Write: TypeAlias = Callable[..., None]
# What a key leads to, None for nothing, behind the generation that it belongs to. No NamedTuple: to make two of them is
# 4% of a request that is no plain hit.
Found: TypeAlias = tuple[Generation, Resource | None]


class Sampler(Protocol):
    """What is told of each use."""

    def note(self, entry: Entry, tick: int, site: int) -> None:
        """The entry of the site of this number is used at this tick, which is not written yet."""


class Site:
    """One site. What writes it is in the loop's thread.

    id           its number in the server, which no other one gets
    name         in the log and for the operator; that of DEFAULT_NAME has all names that no other one has
    names        host names in lower case, without a port; b"*.example.org" is all below that
    is_nowhere   it stands for names that no site has: all requests are misdirected (hosts.py)
    account      what its requests are counted for (accounts.py)
    log          writes a line of its own access log, or none where it has none; None: the server's log has its lines
    live         the generation that is served
    prepared     the generation of a release that is to be the live one, loaded before it is; None: none is prepared
    older        generations that are still reachable, youngest first; each `until` a time of the loop
    generations  all of these, in the order in which a key is looked for: the live one, the prepared one, the older ones
    pins         what is never evicted
    heat         how hot its files are
    application  answers what no file does; None: nothing
    listings     the pages of directories without an index; None: nothing has told of requests yet
    refuse       (status, fields, reason) -> what is said to a request that leads to nothing, since it cannot be
                 understood, is too large, or has a method that nothing here takes
    hits         uses of what was resident, but for those of the front's lanes (`Front.uses`)
    misses       uses of what had to be loaded, or read from disk, first
    sampler      hears of each use, once there are misses; one for all sites
    """

    __slots__ = (
        "account", "application", "generations", "heat", "hits", "id", "is_nowhere", "listings", "live", "log",
        "misses", "name", "names", "older", "pins", "prepared", "refuse", "sampler",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        live: Generation,
        *,
        name: str = DEFAULT_NAME,
        names: frozenset[bytes] = frozenset(),
        pins: Pinned | None = None,
        heat: Heat | None = None,
        account: int = NONE_NUMBER,
        is_nowhere: bool = False,
    ) -> None:
        self.id = id
        self.account = account
        self.name = name
        self.names = names
        self.is_nowhere = is_nowhere
        self.live = live
        self.prepared: Generation | None = None
        self.older: tuple[Generation, ...] = ()
        self.generations: tuple[Generation, ...] = (live,)
        self.pins = pins if pins is not None else Pinned(())
        self.heat = heat if heat is not None else Heat()
        self.application: Application | None = None
        self.listings: Listings | None = None
        self.refuse: Callable[[int, FieldLines, str], Reply] = refused
        self.sampler: Sampler | None = None
        self.log: Write | None = None
        self.hits = self.misses = 0

    @property
    def label(self) -> str:
        """Begins a line of the log; "" for the default site."""
        return "" if self.name == DEFAULT_NAME else f"site {self.name}: "

    @property
    def root(self) -> Root:
        """What the live generation was made from."""
        return self.live.root

    def count_keys(self) -> int:
        """How many keys lead somewhere."""
        return len(self.live.resources)

    def serve(self, live: Generation, older: Sequence[Generation] = ()) -> None:
        """From now on this generation is the live one, and these are still reachable. What is prepared stays so, unless
        it is this one."""
        self._arrange(live, None if self.prepared is live else self.prepared, tuple(older))

    def prepare(self, following: Generation | None) -> None:
        """From now on this generation has what the live one lacks, before the older ones; None: none has."""
        self._arrange(self.live, following, self.older)

    def _arrange(self, live: Generation, prepared: Generation | None, older: tuple[Generation, ...]) -> None:
        self.generations = (live, *older) if prepared is None else (live, prepared, *older)
        self.prepared, self.older, self.live = prepared, older, live

    # --- what a request asks ------------------------------------------------------------------------------

    def hit(self, target: bytes) -> Entry | None:
        """The file that a target names, as it was sent: a plain target is its own key."""
        resource = self.live.resources.get(target)
        return resource if isinstance(resource, Entry) else None

    def find(self, key: bytes) -> Found:
        """What a key leads to: where the live generation has nothing, the prepared one's, or an older one's. But what a
        rule of its own has another answer for (403!) is hidden, as where that one is live."""
        live = self.live
        resource = live.resources.get(key)
        if resource is None or isinstance(resource, STANDS_BACK):
            if live.root.rules.clean_urls and (page := live.resources.get(key + b".html")) is not None:
                return live, page
            for old in self.generations[1:] if resource is None else ():
                rules, kept = old.root.rules, old.resources.get(key)
                if kept is None and rules.clean_urls:
                    kept = old.resources.get(key + b".html")
                if kept is None or isinstance(kept, STANDS_BACK) or rules.forced(key, None) is not None:
                    continue
                return old, kept
        return live, resource

    def asks(self, key: bytes) -> Protection | None:
        """What a path, or the file at this key, asks for before it is answered, whatever generation it is of; None:
        nothing. Fronts are taught nothing of it."""
        return self.root.rules.protection(key)

    def has_own(self, key: bytes, query: bytes | None, host: bytes | None) -> bool:
        """Whether a request that reads is answered before any application is asked: by a file, or a rule with force. A
        `host` of None: for some host."""
        rules = self.root.rules
        if self.has_file(key):
            return True
        if rules.has_forced and (rules.may_force(key) if host is None else rules.forced(key, query, host) is not None):
            return True
        return rules.clean_urls and key + b".html" in self.live.resources

    def leaves(self, key: bytes) -> bool:
        """Whether an application is to be asked for each request for a path that no file has, now or later."""
        return self.application is not None and self.application.may_have(key)

    def has_file(self, key: bytes) -> bool:
        """Whether a file of the live generation is at this key, or the redirect to a directory's index."""
        resource = self.live.resources.get(key)
        return resource is not None and not isinstance(resource, STANDS_BACK)

    def page(self, key: bytes) -> tuple[Generation, Entry] | None:
        """The file that a rule names, by its own key, a directory's or a clean one; None: there is none."""
        generation, resource = self.find(key)
        if isinstance(resource, Redirect):
            resource = generation.resources.get(resource.location)
        return (generation, resource) if isinstance(resource, Entry) else None

    def error_page(self, status: int, key: bytes = b"") -> bytes | None:
        """The site's page for an error at this path; b"": whose request has shown no password. None: a small page is
        made, also where the site's own asks for a password that the path does not ask for. A 401's page never does."""
        live = self.live
        page, rules = live.error_pages.get(status), live.root.rules
        if page is None or not rules.asks or status == 401:
            return page
        return page if self.may_show(rules.error_pages.key_of(status, live.pages) or b"", key) else None

    def may_show(self, page: bytes, key: bytes) -> bool:
        """Whether the file at `page` may tell of an error at this path, as `error_page`: it asks for no password but
        the one that the path asks for."""
        asks = self.asks(page)
        return asks is None or (key != b"" and asks is self.asks(key))

    def not_found(self, key: bytes = b"") -> Reply:
        """The answer where nothing is, as `error_page`."""
        return not_found(self.error_page(404, key), self.live.root.rules.absent)

    def failed(self, status: int, more: FieldLines = (), key: bytes = b"") -> Reply:
        """The answer where a file or an application fails a request, with further fields: 503 or 504 (RFC 9110 sections
        15.6.4, 15.6.5). As `error_page`."""
        return failed(status, self.error_page(status, key), more)

    def note_use(self, entry: Entry, tick: int, *, was_resident: bool = True) -> None:
        """A representation is sent at this tick: the only place that writes a use, but for the fast lane's
        own (net/lane/uses.pxd). What had to be loaded first is new to the evictor, and counts no use but for heat."""
        if self.sampler is not None:
            self.sampler.note(entry, tick, self.id)
        if tick > entry.tick:  # else another lane's use, of which the front told, was later
            entry.tick = tick
        if was_resident:
            entry.uses += 1
            self.hits += 1
        else:
            entry.counted -= 1  # its heat counts it
            self.misses += 1

"""The sites of a server: from the configuration of each to what it serves, and what is done to all.

A `Tenant` is one site with all that is its own. Memory, the loader threads, the loop and the log are the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from zcserve.applications import Applications, has_any
from zcserve.cache.entry import each_coding
from zcserve.cache.heat import Heat
from zcserve.cache.index import Generation
from zcserve.cache.instance import Instance
from zcserve.cache.loader import Loader
from zcserve.cache.loaders import Loaders
from zcserve.cache.pinned import Pinned
from zcserve.cache.root import Root, RootError
from zcserve.cache.store import Store
from zcserve.config.site import ALL, Memory, SiteTable, check_shares, memory_of
from zcserve.config.sites import configs_of, leave_file
from zcserve.config.table import Config
from zcserve.content.builder import Builder, Built
from zcserve.content.content import Content
from zcserve.content.contents import Contents
from zcserve.content.crews import Crews
from zcserve.content.news import News
from zcserve.errors import UsageError
from zcserve.log import Log
from zcserve.net.access_logs import SERVERS
from zcserve.net.leading import lasting
from zcserve.net.service import Service
from zcserve.site.accounts import NONE_NUMBER, Accounts
from zcserve.site.listings import Listings
from zcserve.site.site import Site

if TYPE_CHECKING:
    from zcserve.servlets.application import Servlets

_log = Log(__name__)


class Tenant:
    """One site, and what makes its content.

    memory       what it has of the store's memory, guaranteed and at most
    application  what answers where no file does; None for none
    inherited    generations of the site whose place it takes, until they are its own
    """

    def __init__(
        self,
        number: int,
        name: str,
        config: Config,
        store: Store,
        instance: Instance,
        memory: Memory = ALL,
        account: int = NONE_NUMBER,
        heat: Heat | None = None,
    ) -> None:
        """`instance` is what the watchers of all sites share; `heat` is that of the site of this name, if there is one.
        Raises UsageError."""
        self.config = config
        self.memory = memory
        names = frozenset(host.encode() for host in config.hosts)
        live = Generation(Root(config.directory, site=number))
        self.site = Site(number, live, name=name, names=names, pins=Pinned(config.pin), heat=heat, account=account)
        self.loader = Loader(store, config, self.site.pins, self.site.heat)
        if memory != ALL:
            store.shares.set(self.site.pins, *memory)
        self.builder = Builder(config, store, self.loader, self.site, instance)
        self.application: Servlets | None = None
        self.inherited: list[Generation] = []
        self._built: Built | None = None

    def serve(self, built: Built) -> None:
        """The first generation is there."""
        self._built = built
        self.site.serve(built.generation)

    def teach(self, service: Service) -> None:
        """Have the front ask for what it does not know of this site, count and log what is asked. Its log is open."""
        shelf, logs, number = service.loop.front.shelf(self.site.id), service.logs, SERVERS
        if logs is not None:
            self.site.log = logs.writer_of(self.config.access_log)
            number = logs.number_of(self.config.access_log)
        shelf.reserve(self.site.count_keys())
        shelf.learn(partial(lasting, self.site))
        shelf.note_as(self.site.account, number)

    def answer_by(self, application: Servlets) -> None:
        """From now on this answers where no file does."""
        self.application = self.site.application = application

    def succeed(self, old: Tenant, *, keeps_last: bool, now: float) -> None:
        """In the loop: it takes the place of this one, of which the older generations stay reachable, and the last one
        where told, as far as `keep_generations` goes. A page from before the change finds what it needs in these,
        wherever the root is now: a change of the configuration is a release like any other."""
        last, older = old.site.live, list(old.site.older)
        last.until = now + self.config.keep_for_s
        kept = ([last] if keeps_last else []) + older
        try:
            for generation in kept[: self.config.keep_generations]:
                generation.root = generation.root.of_site(self.site.id)  # so that this site's loader loads for it
                self.inherited.append(generation)
        except UsageError as error:
            _log.warning("%sreloaded: not all older files stay reachable: %s", self.site.label, error)
        self.site.serve(self.site.live, self.inherited)

    def settle(self) -> None:
        """In a thread: what it has inherited is evicted, or pinned, as its own. What its own files hide is forgotten:
        it would take the room twice."""
        hides = self.site.live.resources
        for generation in self.inherited:
            for entry in generation.entries():
                if entry.key in hides:
                    self.loader.forget(entry)
                else:
                    for one in each_coding(entry):
                        self.loader.store.repin(one, self.site.pins)
        self.inherited.clear()

    def let_go(self, heir: Tenant | None = None) -> None:
        """It is gone: forget its content, but for what the `heir` has. What a request still waits for is loaded, and
        not kept."""
        leave_file(self.config)  # generations that the heir has keep its rules
        self.loader.variants.close()
        if self.site.listings is not None:
            self.site.listings.close()
        kept = list(heir.inherited) if heir is not None else []
        entries = {id(entry) for one in kept for entry in one.entries()}
        for generation in self.site.generations:
            if generation in kept:
                continue
            for entry in generation.entries():
                if id(entry) not in entries:
                    self.loader.forget(entry)
            generation.clear()
        if heir is not None:
            heir.settle()
        self.loader.store.count_index(self.site.id, 0)
        self.loader.store.count_index(~self.site.id, 0)
        self.loader.store.shares.remove(self.site.pins)

    def open_content(self, service: Service, crews: Crews, news: News) -> Content:
        """What follows the root from now on, by `news`, in threads of `crews`. Raises NoThreadError."""
        self.site.listings = Listings(self.loader, service.fetcher, service.loop.front.drop, self.site.label)
        built, self._built = self._built, None
        assert built is not None
        results = self.application.results if self.application is not None else None
        purge_results = results.purge if results is not None else None
        return Content(self.builder, built, service, crews, news, purge_results=purge_results)


class Sites:
    """All of them, the default site first. `loaders` are those of all, `accounts` what their requests count for."""

    def __init__(self, config: Config, store: Store, undo: ExitStack) -> None:
        """`config.memory` is what there is. Raises UsageError that names the site."""
        check_shares(config.sites, config.memory)
        self.loaders = Loaders(store)
        self.accounts = Accounts()
        self._store = store
        self.applications = Applications()
        self._instance = Instance()
        undo.callback(self._instance.close)
        self._numbers = count()
        self._tenants: list[Tenant] = []
        undo.callback(self.close_variants)
        memory = memory_of(config.sites, config.memory)
        tables = {table.name: table for table in config.sites}
        for name, own in configs_of(config).items():
            try:
                tenant = self.make(name, own, memory[name])
            except UsageError as error:
                where = tables.get(name, own)
                if isinstance(error, RootError):
                    raise where.refuse_root(error) from None
                raise (where.refuse(error) if isinstance(where, SiteTable) else error) from None
            self._tenants.append(tenant)

    def make(self, name: str, config: Config, memory: Memory) -> Tenant:
        """A further one, of which nothing is served yet. In one thread at a time. Raises UsageError."""
        account = self.accounts.number(name)
        heat = before.site.heat if (before := self.named(name)) is not None else None  # its paths are as hot as before
        tenant = Tenant(next(self._numbers), name, config, self._store, self._instance, memory, account, heat)
        self.loaders.add(tenant.site.id, tenant.loader)
        return tenant

    def let_go(self, tenant: Tenant, heir: Tenant | None = None) -> None:
        """It is none of them, and its threads have ended: forget its content and what made it. `heir` as of
        `Tenant.let_go`."""
        self.loaders.remove(tenant.site.id)
        tenant.let_go(heir)

    def named(self, name: str) -> Tenant | None:
        """That of this name."""
        return next((tenant for tenant in self if tenant.site.name == name), None)

    def replace(self, tenants: list[Tenant]) -> None:
        """From now on these are all."""
        self._tenants = tenants

    @property
    def logs(self) -> set[str]:
        """The access logs that they name."""
        return {tenant.config.access_log for tenant in self}

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._tenants)

    def __len__(self) -> int:
        return len(self._tenants)

    @property
    def first(self) -> Tenant:
        """The default site, or the first that the configuration names."""
        return self._tenants[0]

    def open_content(self, service: Service, undo: ExitStack) -> Contents:
        """What follows all roots from now on. Raises NoThreadError."""
        contents = Contents(service.loop, service.fetcher, self._instance)
        undo.callback(contents.close)
        for tenant in self:
            contents.add(tenant.open_content(service, contents.crews, contents.news))
        return contents

    def open_applications(self, service: Service, undo: ExitStack) -> None:
        """What answers where no file does, before the loop turns. Raises UsageError."""
        undo.callback(self.applications.close)
        for tenant in self:
            if has_any(tenant.config):
                application = self.applications.load(tenant.config, tenant.site, tenant.loader, service)
                application.start()
                tenant.answer_by(application)

    def applications_in_use(self) -> set[Servlets]:
        """Those of all sites. Any thread may ask."""
        return {tenant.application for tenant in self if tenant.application is not None}

    def reload_applications(self, some: Container[Servlets], service: Service, told: Callable[[str], object]) -> None:
        """In the loop: load these anew, those of them that are in use. `told` hears why not all could be, or ""."""
        anew = {tenant.site.label: one for tenant in self if (one := tenant.application) is not None and one in some}
        self.applications.reload(anew, service, told)

    def describe_applications(self) -> str:
        """What there is of them, in a line; "" for none."""
        told = {tenant.site.name: tenant.application.describe() for tenant in self if tenant.application is not None}
        if len(self) == 1:
            return told.get(self.first.site.name, "")
        return "; ".join(f"{name}: {one}" for name, one in told.items() if one)

    def close_variants(self) -> None:
        """End the threads that compress."""
        for tenant in self:
            tenant.loader.variants.close()

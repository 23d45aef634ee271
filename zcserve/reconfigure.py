"""A reload reads the configuration's sites again: they come, go and change, and no request of another one is lost.

    reload -> a thread reads the file -> which sites differ -> a thread builds what comes -> one step of the loop
                                                                                               |
                                               what goes: its threads end, its content is forgotten, by a thread

A site that differs in more than its names is built anew beside the old one, which serves until then; one that cannot be
built goes on as it was, and the log names it. What is no site's own (addresses, limits, memory) takes a restart or an
upgrade, and so does a site with applications: these are loaded before a server serves. The wish that is read last wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from zcserve import threads
from zcserve.config.site import INHERITED, OWN, Memory, check_shares, memory_of
from zcserve.config.sites import configs_of
from zcserve.config.table import Config
from zcserve.content.builder import Built, ClosingError
from zcserve.content.content import Content
from zcserve.content.contents import Contents
from zcserve.errors import NoThreadError, UsageError, reason_of
from zcserve.log import Log
from zcserve.net.service import Service
from zcserve.sites import Sites, Tenant

_log = Log(__name__)

_OF_SITES = (*INHERITED, *OWN, "hosts", "unknown_host", "sites")
_RESTART = "a restart or an upgrade (SIGUSR2) does that"

# Hears how a reload ended: why it failed, or "". In the loop's thread.
Reloaded: TypeAlias = Callable[[str], object]
# A site that comes, and its first generation.
Come = tuple[Tenant, Built]


class Reconfigure:
    """Has a server serve the sites that its configuration names by now. In the loop's thread, but for `reload`."""

    def __init__(
        self, config: Config, reread: Callable[[], Config], sites: Sites, contents: Contents, service: Service
    ) -> None:
        """`config` is what the server serves by; `reread` reads it again, and raises UsageError."""
        self._config = config
        self._reread = reread
        self._sites = sites
        self._contents = contents
        self._service = service
        self._call_soon = service.loop.call_soon
        self._is_busy = False
        self._is_asked = False
        self._waiting: list[Reloaded] = []  # for what is read next
        self._told: list[Reloaded] = []  # how what is read now ends

    def reload(self, told: Reloaded | None = None) -> None:
        """The configuration may have changed. In any thread, and in a signal's handler; returns at once. `told` as of
        `Content.reload`: "" where all is served that the configuration names."""
        if told is not None:
            self._waiting.append(told)  # first: what is read from now on has what is there by now
        self._call_soon(self._begin)

    def _begin(self) -> None:
        self._is_asked = True
        if self._is_busy:
            return
        self._is_asked, self._is_busy = False, True
        self._told, self._waiting = self._waiting, []
        try:
            threads.start(self._guarded, "zcserve-sites")
        except NoThreadError as error:
            _log.error("reload: the sites of the configuration are as they were: %s", error)
            self._end(str(error))

    def _end(self, why: str) -> None:
        self._is_busy = False
        told, self._told = self._told, []
        for tell in told:
            tell(why)
        if self._is_asked:
            self._begin()

    # --- in a thread --------------------------------------------------------------------------------------

    def _guarded(self) -> None:
        why = "the log says why"
        try:
            why = self._read()
        except ClosingError:
            pass
        except (UsageError, OSError) as error:
            why = str(error)
            _log.error("reload: the sites of the configuration are as they were: %s", error)
        except Exception:
            _log.exception("reload: the sites of the configuration are as they were")
        self._call_soon(partial(self._end, why))

    def _read(self) -> str:
        """Read, and build what comes; why not all of it could be built, or ""."""
        read = self._reread()
        wanted = replace(self._config, **{name: getattr(read, name) for name in _OF_SITES})
        check_shares(wanted.sites, wanted.memory)
        configs = configs_of(wanted)
        here = {tenant.site.name: tenant for tenant in self._sites}
        self._warn_of_others(read)
        if self._sites.first.builder.store.frozen:
            raise UsageError("an upgrade is under way: ask again when the new process serves")
        memory = memory_of(wanted.sites, wanted.memory)
        come = [
            (name, own)
            for name, own in configs.items()
            if name not in here or _differs(here[name].config, own) or here[name].memory != memory[name]
        ]
        built = list(filter(None, (self._try_to_build(name, own, memory[name], here.get(name)) for name, own in come)))
        gone = [tenant for name, tenant in here.items() if name not in configs]
        made = {tenant.site.name for tenant, _ in built}
        gone += [tenant for name, tenant in here.items() if name in made]
        stay = here.keys() - made
        names = _names(configs, {name: here[name].config.hosts for name, _ in come if name in stay})
        self._call_soon(partial(self._change, wanted, built, gone, names))
        failed = [name for name, _ in come if name not in made]
        return f"not all sites could be built, the log says why: {', '.join(failed)}" if failed else ""

    def _warn_of_others(self, read: Config) -> None:
        for name in ("listen", "host", "port", "lanes", "engine", "access_log"):
            if getattr(read, name) != getattr(self._config, name):
                _log.warning("reload: %s is another by now: %s", name, _RESTART)

    def _try_to_build(self, name: str, config: Config, memory: Memory, old: Tenant | None) -> Come | None:
        """A site that comes, with its content; None where it cannot be built: then the old one goes on."""
        try:
            if config.servlets or config.mount or (old is not None and old.application is not None):
                raise UsageError(f"it has applications: {_RESTART}")
            tenant = self._sites.make(name, config, memory)
        except UsageError as error:
            _log.error("reload: site %s is as it was: %s", name, error)
            return None
        try:
            if old is not None:
                tenant.site.pins.follow(old.site.pins, old.config.pin)
            return tenant, tenant.builder.build()
        except (UsageError, OSError) as error:
            _log.error("reload: site %s is as it was: %s", name, str(error) or reason_of(error))
            self._sites.loaders.remove(tenant.site.id)
            tenant.loader.variants.close()
            tenant.loader.store.shares.remove(tenant.site.pins)
            return None

    # --- in the loop --------------------------------------------------------------------------------------

    def _change(self, wanted: Config, come: list[Come], gone: list[Tenant], names: dict[str, tuple[str, ...]]) -> None:
        """From the next request on these sites are there. What was read and could not be built is read again."""
        service = self._service
        sampler = service.sites[0].sampler
        for tenant, built in come:
            tenant.serve(built)
            tenant.site.sampler = sampler
            tenant.teach(service.loop.front)
            self._contents.add(tenant.open_content(service, self._contents.crews, self._contents.news))
        going = set(gone)
        kept = [tenant for tenant in self._sites if tenant not in going]
        renamed = 0
        for tenant in (*kept, *(tenant for tenant, _ in come)):
            hosts = frozenset(host.encode() for host in names[tenant.site.name])
            renamed += hosts != tenant.site.names
            tenant.site.names = hosts
            tenant.config = replace(tenant.config, hosts=names[tenant.site.name])
        if not (come or gone or renamed or wanted.unknown_host != self._config.unknown_host):
            return
        order = {name: number for number, name in enumerate(names)}
        tenants = sorted([*kept, *(tenant for tenant, _ in come)], key=lambda one: order[one.site.name])
        self._sites.replace(tenants)
        self._config = wanted
        service.serve(tuple(tenant.site for tenant in tenants), refuses_unknown=wanted.unknown_host == "421")
        contents = [self._contents.remove(tenant.site.id) for tenant in gone]
        self._contents.sort([tenant.site.id for tenant in tenants])
        self._count_on([tenant for tenant, _ in come], contents)
        for tenant in gone:
            service.loop.front.drop_shelf(tenant.site.id)
        if gone:
            service.loop.front.when_passed(partial(self._forget, list(zip(gone, contents, strict=True))))
        came, went = (sorted(one.site.name for one in some) for some in ([one for one, _ in come], gone))
        _log.info(
            "reloaded: %d sites; come or changed: %s; gone or changed: %s", len(tenants), _told(came), _told(went)
        )

    def _count_on(self, come: list[Tenant], gone: list[Content]) -> None:
        """What is counted of a site goes on with the one that takes its place, or is the server's from now on."""
        sites = {tenant.site.name: tenant.site for tenant in come}
        contents = {content.site.name: content for content in self._contents}
        for content in gone:
            old = content.site
            if (site := sites.get(old.name)) is not None and (new := contents.get(old.name)) is not None:
                site.hits += old.hits
                site.misses += old.misses
                new.count_on(content)
            else:
                self._service.past_hits += old.hits
                self._service.past_misses += old.misses

    def _forget(self, gone: list[tuple[Tenant, Content]]) -> None:
        """No lane finds these sites any more."""
        threads.start(partial(self._let_go, gone), "zcserve-sites-gone")

    def _let_go(self, gone: list[tuple[Tenant, Content]]) -> None:
        """In a thread: end what made their content, and forget that. What is being sent stays until it is."""
        for tenant, content in gone:
            try:
                if content.leave():
                    self._contents.has_left(content)
                    self._sites.let_go(tenant)
            except ClosingError:
                return


def _differs(old: Config, new: Config) -> bool:
    """Whether more of a site is another by now than its names."""
    return any(getattr(old, name) != getattr(new, name) for name in (*INHERITED, *OWN))


def _names(configs: Mapping[str, Config], kept: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The hosts of each site. Those that could not be built have the `kept` ones, which no other site gets."""
    owners = {host: name for name, hosts in kept.items() for host in hosts}
    names = {}
    for name, config in configs.items():
        names[name] = kept.get(name, tuple(host for host in config.hosts if host not in owners))
        if name not in kept:
            for host in filter(owners.get, config.hosts):
                _log.error("reload: %s stays with site %s, and does not go to site %s", host, owners[host], name)
    return names


def _told(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"

"""A reload reads the configuration's sites again: they come, go and change, and no request of another one is lost.

    reload -> a thread reads the file -> which sites differ -> a thread builds what comes -> one step of the loop
                                                                                               |
                                               what goes: its threads end, its content is forgotten, by a thread

A site that differs in more than its names is built anew beside the old one, which serves until then; one that cannot be
built goes on as it was, and the log names it; so does one whose new applications do not load (applications.py). What is
no site's own (addresses, limits, memory) takes a restart or an upgrade. The wish that is read last wins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from zcserve import threads
from zcserve.applications import has_any, is_same
from zcserve.cache.index import Generation
from zcserve.cache.pinned import Pinned
from zcserve.cache.preload import retire
from zcserve.cache.root import RootError
from zcserve.cache.ruled import changed_files
from zcserve.config.site import INHERITED, OWN, Memory, check_shares, memory_of
from zcserve.config.sites import configs_of, follow_file
from zcserve.config.table import Config
from zcserve.content.builder import Built, ClosingError
from zcserve.content.content import Content
from zcserve.content.contents import Contents
from zcserve.content.handing import Handing
from zcserve.content.releases import BUILDS_MAX, CATCH_UPS_MAX
from zcserve.errors import NoThreadError, UsageError, reason_of
from zcserve.log import Log
from zcserve.net.service import Service
from zcserve.sites import Sites, Tenant

if TYPE_CHECKING:
    from zcserve.servlets.application import Servlets

_log = Log(__name__)

# A site that is built anew waits so long until nothing is laid over the old one any more. What takes longer hangs with
# its file system, and the other sites do not wait for that.
HELD_WITHIN_S = 10.0
# How often the switch waits for what requests find newer meanwhile: a storm may have no end.
SWITCHES_MAX = 100

_OF_SITES = (*(name for name in INHERITED if name != "access_log"), *OWN, "hosts", "unknown_host", "sites")
_RESTART = "a restart or an upgrade (SIGUSR2) does that"

# Hears how a reload ended: why it failed, or "". In the loop's thread.
Reloaded: TypeAlias = Callable[[str], object]


class Come(NamedTuple):
    """A site that comes.

    built       its first generation
    old         the one whose place it takes; None for none
    pins        of that one, as it was built by
    keeps_last  whether that one serves something that the new one has not
    application loaded for it; None: it has none, or those of the old one are its own from now on
    handing     what is told to that one meanwhile; None where it serves another root
    """

    tenant: Tenant
    built: Built
    old: Tenant | None
    pins: tuple[str, ...]
    keeps_last: bool
    application: Servlets | None
    handing: Handing | None = None


# A site that goes, its content, and the one that takes its place.
Gone: TypeAlias = tuple[Tenant, Content, Tenant | None]


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
        self._threads: list[threading.Thread] = []
        self._made: list[Tenant] = []  # what is being built, or waits for the switch
        self._is_ending = False

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
            self._start(self._guarded, "zcserve-sites")
        except NoThreadError as error:
            _log.error("reload: the sites of the configuration are as they were: %s", error)
            self._end(str(error))

    def _end(self, why: str) -> None:
        self._is_busy = False
        self._contents.unbuilt = why
        told, self._told = self._told, []
        for tell in told:
            tell(why)
        if self._is_asked:
            self._begin()

    def _start(self, job: Callable[[], None], name: str) -> None:
        """Raises NoThreadError."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threads.start(job, name))

    def end(self) -> None:
        """Have the threads end, and wait for none: `close` does."""
        self._is_ending = True  # first: what is made from now on ends at once
        for tenant in tuple(self._made):
            tenant.builder.closing.set()

    def close(self, within_s: float) -> bool:
        """After `end`: wait a little for the threads, which write into the store. False where one goes on, or hangs."""
        until = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    # --- in a thread --------------------------------------------------------------------------------------

    def _guarded(self) -> None:
        why = "the log says why"
        try:
            with ExitStack() as undo:
                why = self._read(undo)
        except ClosingError:
            for tenant in self._made:
                tenant.loader.variants.close()
        except (UsageError, OSError) as error:
            why = str(error)
            _log.error("reload: the sites of the configuration are as they were: %s", error)
        except Exception:
            _log.exception("reload: the sites of the configuration are as they were")
        self._made.clear()
        self._call_soon(partial(self._end, why))

    def _read(self, undo: ExitStack) -> str:
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
        for name in configs.keys() & here.keys() - {name for name, _ in come}:
            follow_file(here[name].config, configs[name])
        tried = (self._try_to_build(name, own, memory[name], here.get(name), undo) for name, own in come)
        built = [one for one in tried if one is not None]
        gone = [tenant for name, tenant in here.items() if name not in configs]
        made = {one.tenant.site.name for one in built}
        gone += [tenant for name, tenant in here.items() if name in made]
        failed = [name for name, _ in come if name not in made]
        names = _names(configs, failed, {name: tenant.config.hosts for name, tenant in here.items()})
        self._switch(built, partial(self._change, wanted, gone, names))
        return f"not all sites could be built, the log says why: {', '.join(failed)}" if failed else ""

    def _warn_of_others(self, read: Config) -> None:
        for name in ("listen", "host", "port", "lanes", "engine", "access_log"):
            if getattr(read, name) != getattr(self._config, name):
                _log.warning("reload: %s is another by now: %s", name, _RESTART)

    def _switch(self, come: list[Come], change: Callable[..., bool]) -> None:
        """Have the loop make the change, once what comes knows of all that the sites were told whose places it takes.
        Raises ClosingError."""
        handings = [one.handing for one in come if one.handing is not None]
        for handing in handings:
            handing.hold()
        until = time.monotonic() + HELD_WITHIN_S
        for handing in handings:
            handing.await_held(until)
        for left in reversed(range(SWITCHES_MAX)):
            come = [_told_of_all(one) for one in come]
            step = partial(change, come, is_last_try=not left)
            if not handings:
                self._call_soon(step)
                return
            if handings[0].in_loop(step):
                return

    def _try_to_build(
        self, name: str, config: Config, memory: Memory, old: Tenant | None, undo: ExitStack
    ) -> Come | None:
        """A site that comes, with its content; None where it cannot be built: then the old one goes on. What is noted
        of that one is noted until `undo`. Raises ClosingError."""
        application = None
        try:
            self._open_log(config)
            tenant = self._sites.make(name, config, memory)
        except UsageError as error:
            _log.error("reload: site %s is as it was: %s", name, _why(config, error))
            return None
        try:
            self._made.append(tenant)
            if self._is_ending:
                raise ClosingError
            application = self._load_application(tenant, old)  # first: that may take long, and content is to be fresh
            handing = self._hand_over(old, config, undo)  # first: from now on more may come, and go
            pins = old.site.pins.globs if old is not None else ()
            if old is not None:
                tenant.site.pins.follow(Pinned(pins), old.config.pin)
            return Come(tenant, _build(tenant), old, pins, keeps_last=False, application=application, handing=handing)
        except (UsageError, OSError) as error:
            _log.error("reload: site %s is as it was: %s", name, _why(config, error))
            if application is not None:
                self._sites.applications.discard(application)
            self._sites.loaders.remove(tenant.site.id)
            tenant.loader.variants.close()
            tenant.loader.store.shares.remove(tenant.site.pins)
            return None

    def _load_application(self, tenant: Tenant, old: Tenant | None) -> Servlets | None:
        """What is to answer where no file does, unless the old site's goes on with the new one. Raises UsageError."""
        if not has_any(tenant.config) or (old is not None and is_same(tenant.config, old.config)):
            return None
        return self._sites.applications.load_beside(tenant.config, tenant.site, tenant.loader, self._service)

    def _hand_over(self, old: Tenant | None, config: Config, undo: ExitStack) -> Handing | None:
        content = self._contents.of(old.site.id) if old is not None and old.config.root == config.root else None
        if content is None:
            return None
        handing = content.hand_over()
        undo.callback(handing.end)
        return handing

    def _open_log(self, config: Config) -> None:
        """Raises UsageError."""
        if (logs := self._service.logs) is not None:
            logs.open(config.access_log)
        elif config.access_log:
            raise UsageError(f"it has an access log, the first one of this server: {_RESTART}")

    # --- in the loop --------------------------------------------------------------------------------------

    def _change(
        self,
        wanted: Config,
        gone: list[Tenant],
        names: dict[str, tuple[str, ...]],
        come: list[Come],
        *,
        is_last_try: bool,
    ) -> bool:
        """From the next request on these sites are there. What was read and could not be built is read again. False:
        not yet, what comes is to know of what was told meanwhile."""
        if not (is_last_try or all(one.handing is None or one.handing.is_known for one in come)):
            return False
        self._made.clear()
        service = self._service
        sampler = service.sites[0].sampler
        for one in come:
            one.tenant.site.sampler = sampler
            self._open(one)
        going = set(gone)
        kept = [tenant for tenant in self._sites if tenant not in going]
        renamed: set[str] = set()
        everyone = [*kept, *(one.tenant for one in come)]
        for tenant in everyone:
            hosts = frozenset(host.encode() for host in names[tenant.site.name])
            if hosts != tenant.site.names:
                renamed.add(tenant.site.name)
            tenant.site.names = hosts
            tenant.config = replace(tenant.config, hosts=names[tenant.site.name])
        before, self._config = self._config, wanted
        if not (come or gone or renamed or wanted.unknown_host != before.unknown_host):
            return True
        order = {name: number for number, name in enumerate(names)}
        tenants = sorted(everyone, key=lambda one: order[one.site.name])
        self._sites.replace(tenants)
        if service.logs is not None:
            service.logs.name(self._sites.logs)
        service.serve(tuple(tenant.site for tenant in tenants), refuses_unknown=wanted.unknown_host == "421")
        contents = [self._contents.remove(tenant.site.id) for tenant in gone]
        self._contents.sort([tenant.site.id for tenant in tenants])
        self._go_on(come, contents)
        for tenant in gone:
            service.loop.front.drop_shelf(tenant.site.id)
            if (application := tenant.application) is not None:
                retire = partial(self._sites.applications.retire, application, tenant.site, service)
                service.loop.front.when_passed(retire)
        if gone:
            heirs = {one.old: one.tenant for one in come}
            left = [(tenant, content, heirs.get(tenant)) for tenant, content in zip(gone, contents, strict=True)]
            service.loop.front.when_passed(partial(self._forget, left))
        came, went = {one.tenant.site.name for one in come}, {tenant.site.name for tenant in gone}
        changed = (came & went) | (renamed - came)
        told = "reloaded: %d sites; new: %s; changed: %s; gone: %s"
        _log.info(told, len(tenants), _told(came - went), _told(changed), _told(went - came))
        return True

    def _open(self, one: Come) -> None:
        """Have a site that comes be ready for requests."""
        tenant, service, applications = one.tenant, self._service, self._sites.applications
        tenant.serve(one.built)
        if one.old is not None:
            tenant.succeed(one.old, keeps_last=one.keeps_last, now=service.loop.now)
        tenant.teach(service)
        if one.application is not None:
            one.application.serve()
            tenant.answer_by(one.application)
        elif has_any(tenant.config) and one.old is not None:
            application, one.old.application = one.old.application, None
            assert application is not None
            applications.move(application, tenant.config, tenant.site, tenant.loader, service)
            tenant.answer_by(application)
        self._contents.add(tenant.open_content(service, self._contents.crews, self._contents.news))

    def _go_on(self, come: list[Come], gone: list[Content]) -> None:
        """What is counted of a site, and what an operator has pinned of it, goes on with the one that takes its place;
        of one that goes, what is counted is the server's from now on."""
        pins = {one.tenant.site.name: one.pins for one in come}
        contents = {content.site.name: content for content in self._contents}
        for content in gone:
            old = content.site
            if old.name in pins and (new := contents.get(old.name)) is not None:
                new.count_on(content)
                new.purging.follow(content.purging)
                try:
                    new.pinning.follow(old.pins, pins[old.name])
                except UsageError as error:
                    _log.error("reload: site %s is not pinned as it was: %s", old.name, error)
            else:
                self._service.past_hits[old.account] += old.hits
                self._service.past_misses[old.account] += old.misses

    def _forget(self, gone: list[Gone]) -> None:
        """No lane finds these sites any more."""
        self._start(partial(self._let_go, gone), "zcserve-sites-gone")

    def _let_go(self, gone: list[Gone]) -> None:
        """In a thread: end what made their content, and forget that. What is being sent stays until it is."""
        for tenant, content, heir in gone:
            try:
                if content.leave():
                    self._contents.has_left(content)
                    self._sites.let_go(tenant, heir)
            except ClosingError:
                return


def _build(tenant: Tenant) -> Built:
    """Its first generation, as its root was when this returned: the site whose place it takes may serve by now what
    changed while this was built, and a client that has seen a rule that hides something is not to see what was before.
    Where changes do not end, it is as new as a few tries make it. Raises UsageError, OSError, ClosingError."""
    built = tenant.builder.build()
    try:
        _catch_up(tenant, built)
    except BaseException:
        if built.watcher is not None:
            built.watcher.close()
        raise
    return built


def _catch_up(tenant: Tenant, built: Built, *, is_old: bool = False) -> None:
    """Have what was built know of all that has changed since; where it lost track, or `is_old`, it is what is built
    anew. Whatever is raised, it can be served. Raises as `_build`."""
    builder, loader = tenant.builder, tenant.loader
    for _ in range(BUILDS_MAX - 1):
        for _ in range(CATCH_UPS_MAX):
            caught = builder.catch_up(built)
            for entry in caught.unneeded:
                loader.forget(entry)
            if not caught.keys:
                break
        if not (is_old or built.is_lost or changed_files(built.generation.root, builder.book)):
            return
        is_old = False
        last, watcher = built.generation, built.watcher
        fresh = builder.build(last=last)
        built.generation, built.watcher, built.report = fresh.generation, fresh.watcher, fresh.report
        if watcher is not None:
            watcher.close()
        retire(last, built.generation, loader)


def _told_of_all(come: Come) -> Come:
    """It knows of all that the site was told whose place it takes. Where it cannot, it is as it was built."""
    tenant, built, old, handing = come.tenant, come.built, come.old, come.handing
    if handing is not None:
        try:
            _catch_up(tenant, built, is_old=handing.tell(built))
        except (UsageError, OSError) as error:
            _log.warning("reload: site %s is as it was when it was built: %s", tenant.site.name, error)
    return come._replace(keeps_last=old is not None and _has_more(old.site.live, built.generation))


def _has_more(old: Generation, new: Generation) -> bool:
    """Whether one has a key that the other one lacks."""
    return any(key not in new.resources for keys in old.keys_in_pieces() for key in keys)


def _differs(old: Config, new: Config) -> bool:
    """Whether more of a site is another by now than its names."""
    return any(getattr(old, name) != getattr(new, name) for name in (*INHERITED, *OWN))


def _why(config: Config, error: UsageError | OSError) -> str:
    """Why a site cannot be built, with the place of its root where that is it."""
    told = config.refuse_root(error) if isinstance(error, RootError) else error
    return str(told) or reason_of(told)


def _names(
    configs: Mapping[str, Config], failed: Collection[str], before: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The hosts of each site. Those that `failed` to be built have what they had `before`, which no other site gets;
    and what they were to get stays with the site that had it."""
    kept = {name: before[name] for name in failed if name in before}
    owners = {host: name for name, hosts in kept.items() for host in hosts}
    names = {}
    for name, config in configs.items():
        names[name] = kept.get(name, tuple(host for host in config.hosts if host not in owners))
        if name not in kept:
            for host in filter(owners.get, config.hosts):
                _log.error("reload: %s stays with site %s, and does not go to site %s", host, owners[host], name)
    lost = {host: name for name in failed for host in configs[name].hosts if host not in owners}
    for name in names.keys() & before.keys() - kept.keys():
        for host in before[name]:
            if host in lost:
                names[name] += (host,)
                _log.error("reload: %s stays with site %s, and does not go to site %s", host, name, lost[host])
    return names


def _told(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"

"""The application: from a target to what answers it, and the answer.

    find     a target -> a `Resource`: a servlet by its name or its path, or a mounted application; None: nothing
    look_up  the fast lane's short way: what calls a servlet that runs in the loop, and has its answer at once
    respond  everything else: methods, threads, tasks, streams, files, results that are kept

A request that leads to a servlet which has changed waits until it is loaded anew (freshness.py). What the lane was told
of a target is forgotten when the folder or the site's files change: files go before servlets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from zcserve.cache.entry import Entry
from zcserve.cache.heads import encode_fields
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.events import together
from zcserve.http import canonical_path, encode_path
from zcserve.net.failures import Failures
from zcserve.net.front import Front
from zcserve.net.leading import key_asked
from zcserve.net.request import split_target
from zcserve.net.timers import Timers
from zcserve.paths import SentPath
from zcserve.rules.compiled import Rules, owned_by
from zcserve.servlets.calls import Caller, FileAsked, Outcome
from zcserve.servlets.context import Context, RequestLine
from zcserve.servlets.folder import NOTHING_LOADED, Folder, Loaded, Module
from zcserve.servlets.freshness import SURE_S, Freshness, Reloaded
from zcserve.servlets.guard import LoopGuard
from zcserve.servlets.mounts import Mounts
from zcserve.servlets.outcomes import Outcomes
from zcserve.servlets.request import SERVLET_PATH, SLOTS, Request
from zcserve.servlets.results import Keeping, Results
from zcserve.servlets.routes import Route
from zcserve.servlets.websockets import NoWebSockets
from zcserve.servlets.workers import AsyncThread, BusyError, Pool
from zcserve.site.exchange import Answer, Exchange, Owned, Quick, Resource, Stored
from zcserve.site.reply import HTML_FIELDS, Reply, page
from zcserve.site.site import Site

# How often a request waits for servlets to be loaded anew, when they change again and again.
REFRESHES_MAX = 5

# The lane remembers some thousand targets (QUICK_MAX), and clients choose queries: of 8 KB each they would be 64 MB
# beside the budget. A request for a longer one is answered by Python every time.
QUICK_TARGET_BYTES_MAX = 1024


class _Line(NamedTuple):
    method: bytes
    target: bytes


class Servlet:
    """A `Resource` of the folder: routes by method, with the path's parameters. A change of one of `names` may change
    it."""

    def __init__(
        self, owner: Servlets, by_method: Mapping[str, Route], params: dict[str, str], names: set[str]
    ) -> None:
        self.by_method = by_method
        self.params = params
        self.names = names
        self.body_bytes_max = owner.config.servlet_body_bytes_max
        self._owner = owner

    def quick(self, method: bytes) -> Route | None:
        """What answers such requests in the loop, each anew; None: nothing does."""
        route = self.by_method.get(method.decode())
        return None if route is None or route.thread or route.is_async or route.ttl else route

    def respond(self, exchange: Exchange) -> Answer | None:
        """As `Resource.respond`."""
        method = exchange.method.decode()
        route = self.by_method.get(method)
        if route is None:
            return self._without_route(method)
        params = self.params
        results = self._owner.results
        if route.ttl is not None and results is not None and "GET" in route.methods:
            return results.respond(route, params, exchange)
        request = Request.of(exchange, params)
        return self._owner.call(route, request, exchange)

    def _without_route(self, method: str) -> Reply:
        """OPTIONS, or 405 (RFC 9110 sections 9.3.7, 15.5.6)."""
        allow = ((b"Allow", ", ".join(sorted({*self.by_method, "OPTIONS"})).encode()),)
        return Reply(200, allow) if method == "OPTIONS" else page(405, allow)


class Broken:
    """A servlet that does not load. It says so; in development always, else as long as no version of it ever did."""

    def __init__(self, owner: Servlets, module: Module) -> None:
        self.body_bytes_max = owner.config.servlet_body_bytes_max
        self._context = owner.context
        self._module = module
        self.names = {module.name, ""}

    def respond(self, exchange: Exchange) -> Answer | None:
        """500."""
        module = self._module
        return self._context.failure_page(
            f"the servlet {module.name} does not load: see the log", module.error, exchange.target
        )


class Refreshing:
    """Where something changed that must be loaded first."""

    def __init__(self, owner: Servlets, freshness: Freshness) -> None:
        self.body_bytes_max = owner.config.servlet_body_bytes_max
        self._owner = owner
        self._freshness = freshness

    def respond(self, exchange: Exchange) -> Answer | None:
        """Load, and go on."""
        waiting = [exchange]
        exchange.abandoned = waiting.clear  # a body is not held for one that is gone
        self._freshness.refresh(partial(self._again, waiting, REFRESHES_MAX))
        return None

    def _again(self, waiting: list[Exchange], left: int) -> None:
        if not waiting:
            return
        owner, exchange = self._owner, waiting[0]
        path, query = exchange.path, exchange.query
        found = owner.find(path, query)
        if found is self:
            if left:
                self._freshness.refresh(partial(self._again, waiting, left - 1))
                return
            found = owner.find_as_it_is(path, query)
        if found is None:
            exchange.decline()
            return
        answer = found.respond(exchange)
        if answer is not None:
            exchange.finish(answer)


class Servlets:
    """An `Application`: a folder of servlets, and mounted applications."""

    def __init__(
        self,
        config: Config,
        site: Site,
        *,
        call_soon: Callable[[Callable[[], object]], None],
        front: Front,
        keeping: Keeping | None = None,
        failures: Failures | None = None,
        outcomes: Outcomes | None = None,
        beside: bool = False,
        faults: list[str] | None = None,
    ) -> None:
        """Loads the folder and imports the applications; without `keeping` no result is kept, without `outcomes` it has
        some of its own; `beside` as of `Mounts`. In any thread. Raises UsageError; but where an application does not
        load, that goes to `faults`, if they are given."""
        self.config = config
        self._front = front
        name = site.name if site.name != DEFAULT_NAME else ""
        folder = Folder(Path(config.servlets), name) if config.servlets else None
        pool = Pool(config.servlet_threads, config.servlet_queue_max)
        timers = keeping.timers if keeping is not None else Timers()
        failures = failures if failures is not None else Failures(timers)
        outcomes = outcomes if outcomes is not None else Outcomes()
        self.context = Context(config, site, pool, AsyncThread(), call_soon, timers.call_later, failures, outcomes)
        self._loop_guard = LoopGuard(config.servlet_slow_s, front)
        self._caller = Caller(self.context, self._loop_guard)
        self.results = self._results_of(keeping) if keeping is not None else None
        self.has_left = False
        self._no_websockets = NoWebSockets()
        self._found: dict[bytes, Servlet | Broken] = {}  # of what is in use, by key, or "/csp?NAME"
        self._rules: tuple[Rules, ...] = (site.root.rules,)
        self.freshness: Freshness | None = None  # of the folder, if there is one
        try:
            self._mounts = Mounts(config.mount, self.context, faults, beside=beside)
        except BaseException:
            self.context.tasks.close()
            raise
        if folder is not None:
            self.freshness = Freshness(folder, self.context.shelf, call_soon)
            self.freshness.loaded.subscribe(self._loaded)
            self._refreshing = Refreshing(self, self.freshness)

    def _results_of(self, keeping: Keeping) -> Results:
        return Results(self.context, self._caller, keeping, answer_of=self._answer_of, look=self._look)

    def start(self) -> None:
        """`begin` and `serve`, before the loop turns. Raises UsageError; `close` is due then, too."""
        self.begin()
        self.serve()

    def begin(self) -> None:
        """Be ready for requests. In any thread. Raises UsageError where an application cannot; `close` is due then,
        too."""
        self.context.pool.begin()
        self.context.tasks.begin()
        if self.freshness is not None:
            self.freshness.begin()
        self._loop_guard.begin()
        self._mounts.start()

    def serve(self) -> None:
        """From now on requests find it."""
        self.context.shelf = self._front.shelf(self.context.site.id)
        if self.freshness is not None:
            self.freshness.serve(self.context.shelf)
        self.context.call_soon(self._loop_guard.look_at_this_thread)
        self._have_front_consult()

    def move(self, config: Config, site: Site, keeping: Keeping) -> None:
        """From now on it is this site's, which has the same servlets and mounts; results are made anew for it."""
        if self.results is not None:
            self.results.servlets_changed(())
        self.config = self.context.config = config
        self.context.site = site
        self._rules = (site.root.rules,)
        self.serve()
        self.results = self._results_of(keeping)
        self._have_results_know()

    def leave(self) -> None:
        """No request finds it any more: keep no result. What is under way ends as it would have."""
        self.has_left = True
        self._mounts.leave()
        if self.results is not None:
            self.results.servlets_changed(())

    @property
    def is_busy(self) -> bool:
        """After `leave`: whether a call or a load is under way, wanted or not."""
        is_loading = self.freshness is not None and self.freshness.is_loading
        return is_loading or bool(self.context.under_way) or not self.context.pool.is_idle or self._mounts.is_busy

    def forget_modules(self) -> None:
        """Once it is closed: its modules are not found any more."""
        self._mounts.forget_modules()
        if self.freshness is not None:
            self.freshness.forget_modules()

    def own_with(self, rules: Sequence[Rules]) -> None:
        """As `Application.own_with`."""
        self._rules = tuple(rules)
        self._have_front_consult()

    @property
    def _in_use(self) -> Loaded:
        return self.freshness.in_use if self.freshness is not None else NOTHING_LOADED

    def _have_front_consult(self) -> None:
        """Tell the front what there is, anew when that has changed."""
        segments, mounted = self._in_use.table.first_segments(), self._mounts.first_segments()
        ruled = owned_by(self._rules)
        mounted = None if mounted is None or ruled is None else {*mounted, *ruled}
        owned = None if segments is None or mounted is None else {SERVLET_PATH[1:], *segments, *mounted}
        if self.freshness is None:
            self.context.shelf.consult(None, Owned(mounted))
        else:
            is_fresh = lambda: not self._is_stale(None)  # noqa: E731
            self.context.shelf.consult(self.look_up, Owned(owned, self.freshness.notice, SURE_S, is_fresh))

    def describe(self) -> str:
        """What there is, for people."""
        told = []
        if self.freshness is not None:
            modules = self._in_use.modules.values()
            broken = sum(bool(module.error) for module in modules)
            told.append(f"{len(modules)} in {self.config.servlets}" + f", {broken} of them broken" * bool(broken))
        return "; ".join([*told, *(f"mounted {text}" for text in self.config.mount)])

    def fault(self) -> str:
        """Why not all of its servlets are in use, on one line, or ""."""
        return self._in_use.fault()

    def broken(self) -> list[str]:
        """The servlets that do not load: file, line and what is wrong, a line each."""
        return [module.fault() for module in self._in_use.modules.values() if module.error]

    # --- from a target to a resource ----------------------------------------------------------------------

    def find(self, path: SentPath, query: bytes | None, *, websocket: bool = False) -> Resource | None:
        """As `Application.find`."""
        if websocket:
            return self._no_websockets if self.find_as_it_is(path, query) is not None else None
        found = self._look_up(path, query)
        if self._is_stale(found.names if found is not None else None):
            return self._refreshing
        return found or self._mounts.find(path.key)

    def find_as_it_is(self, path: SentPath, query: bytes | None) -> Resource | None:
        """As `find`, whether something has changed or not."""
        return self._look_up(path, query) or self._mounts.find(path.key)

    def _look_up(self, path: SentPath, query: bytes | None) -> Servlet | Broken | None:
        if self.freshness is None or not path.is_plain:
            return None
        key = path.key if path.key != SERVLET_PATH else b"%b?%b" % (SERVLET_PATH, (query or b"").partition(b"&")[0])
        if (known := self._found.get(key)) is not None:
            return known
        if key is not path.key:
            return self._named(key)
        modules, table, _ = self._in_use
        match = table.find(path)
        if match is None:
            return None
        if match.open_at is not None and match.open_at < self._mounts.depth(path.key):
            return None  # the application's path says more than the servlet's pattern
        names = {route.name for route in match.by_method.values()}
        found = self._of_modules(match.by_method, match.params, [modules[name] for name in names])
        if found is not None and not match.params:  # there are as many as the table has
            self._found[key] = found
        return found

    def _named(self, key: bytes) -> Servlet | Broken | None:
        """What "/csp?hello" names."""
        modules, table, _ = self._in_use
        sent = key.partition(b"?")[2].decode("latin-1")
        module = modules.get(unquote(sent))
        if module is None:
            return None
        found = self._of_modules(table.named(module.name) or {}, {}, [module])
        if found is not None and sent == module.name:  # else clients choose how it is written
            self._found[key] = found
        return found

    def _of_modules(
        self, by_method: Mapping[str, Route], params: dict[str, str], modules: Sequence[Module]
    ) -> Servlet | Broken | None:
        broken = next((module for module in modules if module.error), None)
        if broken is not None and (self.config.dev or not by_method):
            return Broken(self, broken)
        if not by_method:
            return None
        names = {module.name for module in modules}
        # Whatever comes to the folder may mend what does not load.
        return Servlet(self, by_method, params, names if broken is None else names | {""})

    def may_have(self, key: bytes) -> bool:
        """As `Application.may_have`: a file that comes to the folder may be for any path, and is found when it is asked
        for. Mounts are for the same paths as long as there are any."""
        return self.freshness is not None or self._mounts.find(key) is not None

    def forget(self, keys: Collection[bytes]) -> None:
        """As `Application.forget`: a file goes before a servlet."""
        self.context.shelf.forget_quick()
        if self.results is not None:
            self.results.files_changed(keys)

    # --- edit and refresh ---------------------------------------------------------------------------------

    def _is_stale(self, names: Collection[str] | None) -> bool:
        """As `Freshness.is_stale`."""
        return self.freshness is not None and self.freshness.is_stale(names)

    def _look(self) -> None:
        """As `Freshness.look`."""
        if self.freshness is not None:
            self.freshness.look()

    def reload(self, told: Reloaded = lambda why: None) -> None:
        """Load all servlets and applications anew. In the loop's thread; `told` hears there why not all could be, or
        ""."""
        if self.freshness is None:
            self._mounts.reload(told)
            return
        hear = together([told], 2)
        self._mounts.reload(hear)
        self.freshness.refresh_all(hear)

    def _loaded(self) -> None:
        """Other servlets are in use."""
        self._found = {}
        self._have_front_consult()
        self._have_results_know()

    def _have_results_know(self) -> None:
        if self.results is not None and not self.has_left:
            modules = self._in_use.modules.values()
            self.results.servlets_changed(route for module in modules for route in module.routes)

    # --- answers ------------------------------------------------------------------------------------------

    def look_up(self, method: bytes, target: bytes) -> Quick | None:
        """As `Application.look_up`: where no file goes before it, as files do for requests that read."""
        if len(target) > QUICK_TARGET_BYTES_MAX:
            return None
        try:
            sent, query = split_target(target)
            path = SentPath(sent)
        except HttpError:
            return None
        site = self.context.site
        if site.root.rules.asks and (path.sent != path.key or site.asks(path.key) is not None):
            return None
        found = self._look_up(path, query)
        freshness = self.freshness
        if freshness is None or not isinstance(found, Servlet) or not freshness.is_known_fresh(found.names):
            return None
        route = found.quick(method)
        if route is None or site.root.rules.may_force(path.key):
            return None
        if method == b"GET" and site.has_own(path.key, query, None):
            return None
        return self._quick(freshness, found, route, target)

    def _quick(self, freshness: Freshness, found: Servlet, route: Route, target: bytes) -> Quick:
        """How a servlet that runs in the loop is called by the lane."""
        params = found.params
        return Quick(
            function=partial(route.function, **params) if params else route.function,
            request=Request,
            slots=SLOTS,
            params=params,
            fields=encode_fields(HTML_FIELDS),
            where=route.where,
            body_bytes_max=min(found.body_bytes_max, self.config.servlet_bodies_bytes()),
            notice=freshness.notice,
            sure_s=SURE_S,
            is_fresh=lambda: not freshness.is_stale(found.names),
            finish=lambda method, value: self._finish(value, route, _Line(method, target)),
            fail=lambda method, error: self.context.fail(route.where, _Line(method, target), error),
        )

    def _finish(self, value: object, route: Route, asked: RequestLine) -> tuple[bytes, bytes] | Answer:
        """As `Quick.finish`."""
        outcome = self._caller.outcome(route.where, value, partial(self.context.cut_short, route.where, asked))
        answer = self._answer_of(outcome, route, asked)
        if isinstance(answer, Reply) and isinstance(answer.content, bytes) and answer.status == 200:
            return encode_fields(answer.fields), answer.content
        return answer

    def call(self, route: Route, request: Request, exchange: Exchange) -> Answer | None:
        """Call a servlet and answer with what it returns; None: later."""
        failed = partial(self.context.cut_short, route.where, exchange)
        if not (route.thread or route.is_async):
            return self._answer_of(self._caller.call_here(route, request, failed), route, exchange)
        unwanted = False

        def done(outcome: Outcome) -> None:
            if not (unwanted and isinstance(outcome, CancelledError)):  # that is our own doing, and no request waits
                exchange.finish(self._answer_of(outcome, route, exchange))

        def abandon() -> None:
            nonlocal unwanted
            unwanted = True
            started.cancel()

        try:
            started = self._caller.start(route, request, failed, done)
        except BusyError as error:
            return self.context.busy(exchange, error)
        exchange.abandoned = abandon
        return None

    def _answer_of(self, outcome: Outcome, route: Route, asked: RequestLine) -> Answer:
        if isinstance(outcome, FileAsked):
            return self._file(outcome, key_asked(asked.target))
        if isinstance(outcome, BaseException):
            return self.context.fail(route.where, asked, outcome)
        return outcome

    def _file(self, asked: FileAsked, at: bytes) -> Answer:
        """A resource of the site, or 404 at a key."""
        try:
            key = canonical_path(encode_path(asked.path.encode(errors="surrogateescape")))
        except (HttpError, UnicodeEncodeError):  # NUL, or half a surrogate pair: nothing has such a name
            return self.context.site.not_found(at)
        owner, entry = self.context.site.find(key)
        if not isinstance(entry, Entry):
            return self.context.site.not_found(at)
        return Stored(owner, entry, status=asked.status, fields=asked.fields)

    def end(self) -> None:
        """Nothing is under way any more, and `close` is near. In the loop's thread."""
        if self.freshness is not None:
            self.freshness.close()

    def close(self) -> None:
        """End threads and applications. In any thread after `end`; else when the loop has ended."""
        self._mounts.close()
        if self.results is not None and not self.has_left:
            self.results.close()
        self._loop_guard.close()
        self.end()
        self.context.pool.close()
        self.context.tasks.close()

"""The applications of a server's sites: what answers where no file does, from its load to its end.

    start   load -> begin -> serve
    reload  load, begin (in a thread, beside what serves) -> serve, in the step of the loop from which on the site is
            served -> what it takes the place of ends when its last request is through

What loads may hang (an import waits for a database): a reload waits for a while, and the site stays as it was. A site
that changes, but for its applications, keeps them as they are: they go with it (`Servlets.move`).
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from traceback import extract_tb
from typing import TYPE_CHECKING

from zcserve import threads
from zcserve.cache.loader import Loader
from zcserve.config.table import Config
from zcserve.errors import NoThreadError, UsageError, line_of
from zcserve.log import Log
from zcserve.net.service import Service
from zcserve.site.site import Site

if TYPE_CHECKING:
    from zcserve.servlets.application import Servlets
    from zcserve.servlets.outcomes import Outcomes
    from zcserve.servlets.results import Keeping

_log = Log(__name__)

# What a reload waits for applications to load and begin: longer than a large one takes, and a reload's own others wait.
LOADED_WITHIN_S = 60.0
# Of so many sites applications are loaded anew side by side: some may wait for something, and all of them would share
# the GIL with the loop, which a request of any site waits for. 300 at once held them for half a minute.
RELOADED_AT_ONCE = 2
# How often it is looked whether requests are under way in what is to end.
LOOK_S = 0.1
# What the server's end waits for one that ends already.
ENDED_WITHIN_S = 5.0
# What is no application's own: Python's modules, what is installed, and this server.
_OTHERS = ("<", os.path.join(os.path.dirname(os.__file__), ""), os.path.join(os.path.dirname(__file__), ""))


class Applications:
    """All of them: those that serve, those that will, and those whose last requests are under way."""

    def __init__(self) -> None:
        self._open: set[Servlets] = set()
        self._hanging: dict[str, threading.Thread] = {}  # loads that a reload has given up, by site
        self._ending: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        self._outcomes: Outcomes | None = None

    # --- what is counted ----------------------------------------------------------------------------------

    @property
    def outcomes(self) -> Outcomes | None:
        """What came of the calls of all that there were, so that no figure falls; None: there was none."""
        return self._outcomes

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        with self._lock:
            return sum(one.context.pool.waiting for one in self._open)

    # --- coming -------------------------------------------------------------------------------------------

    def load(self, config: Config, site: Site, loader: Loader, service: Service, *, beside: bool = False) -> Servlets:
        """Load what the configuration of a site names, which answers nothing yet; perhaps `beside` what serves. Raises
        UsageError."""
        from zcserve.servlets.application import Servlets  # only a server with servlets pays for them
        from zcserve.servlets.outcomes import Outcomes

        self._outcomes = self._outcomes or Outcomes()
        loop = service.loop
        try:
            application = Servlets(
                config,
                site,
                call_soon=loop.call_soon,
                front=loop.front,
                keeping=self._keeping(loader, service),
                failures=service.failures,
                outcomes=self._outcomes,
                beside=beside,
            )
        except UsageError as error:
            raise config.placed(error) from None
        with self._lock:
            self._open.add(application)
        if self._is_closed:  # while it was loaded
            self.close([application])
            raise UsageError("the server ends")
        return application

    def _keeping(self, loader: Loader, service: Service) -> Keeping:
        from zcserve.servlets.results import Keeping

        return Keeping(loader, service.fetcher, service.loop.timers, service.loop.front)

    def load_beside(self, config: Config, site: Site, loader: Loader, service: Service) -> Servlets:
        """As `load`, in a thread beside what serves, and have it begin: all of it must load. Raises UsageError."""
        if (thread := self._hanging.get(site.name)) is not None and thread.is_alive():
            raise UsageError(f"its applications are being loaded still, since a reload before ({_where(thread)})")
        loaded: Future[Servlets] = Future()
        given_up = threading.Event()

        def load() -> None:
            try:
                application = self._loaded_whole(config, site, loader, service)
            except BaseException as error:  # SystemExit, too: an application does not end the server
                loaded.set_exception(
                    error if isinstance(error, UsageError) else UsageError(line_of(error) + _raised_at(error))
                )
                return
            loaded.set_result(application)
            if given_up.is_set():
                self.discard(application)

        thread = threads.start(load, f"zcserve-load-{site.name}")
        try:
            return loaded.result(LOADED_WITHIN_S)
        except TimeoutError:
            given_up.set()
        if loaded.done() and loaded.exception() is None:
            self.discard(loaded.result())
        self._hanging[site.name] = thread
        raise UsageError(f"its applications have not loaded within {LOADED_WITHIN_S:g} s ({_where(thread)})")

    def _loaded_whole(self, config: Config, site: Site, loader: Loader, service: Service) -> Servlets:
        application = self.load(config, site, loader, service, beside=True)
        try:
            if fault := application.fault():
                raise UsageError(fault)
            application.begin()
        except BaseException:
            self.discard(application)
            raise
        return application

    def discard(self, application: Servlets) -> None:
        """It is not needed after all, and answers nothing yet. In any thread; harmless when repeated."""
        self.close([application])
        application.forget_modules()

    def move(self, application: Servlets, config: Config, site: Site, loader: Loader, service: Service) -> None:
        """In the loop: it is another site's from now on, which takes the place of its own one."""
        application.move(config, site, self._keeping(loader, service))

    def reload(self, some: Mapping[str, Servlets], service: Service, told: Callable[[str], object]) -> None:
        """In the loop: have these, by what the log calls their sites, be loaded anew, `RELOADED_AT_ONCE` at a time.
        `told` hears why not all could be, or "". One that takes longer than `LOADED_WITHIN_S` is not waited for."""
        waiting, under_way, whys = dict(some), set[str](), list[str]()

        def begin() -> None:
            while waiting and len(under_way) < RELOADED_AT_ONCE:
                label = next(iter(waiting))
                application = waiting.pop(label)
                if application.has_left:
                    continue
                under_way.add(label)
                service.loop.timers.call_later(LOADED_WITHIN_S, partial(hear, label, late))
                application.reload(partial(tell, label))
            if not (waiting or under_way):
                told("; ".join(filter(None, whys)))

        def tell(label: str, why: str) -> None:  # at once, perhaps
            service.loop.call_soon(partial(hear, label, why))

        def hear(label: str, why: str) -> None:
            if label in under_way:
                under_way.remove(label)
                whys.append(label + why if why else "")
                begin()

        late = f"its applications have not been loaded within {LOADED_WITHIN_S:g} s"
        begin()

    # --- going --------------------------------------------------------------------------------------------

    def retire(self, application: Servlets, site: Site, service: Service) -> None:
        """In the loop, when no request finds it any more: have it end when the last one under way is through."""
        application.leave()
        self._look(application, site, service, time.monotonic() + service.config.grace_s)

    def _look(self, application: Servlets, site: Site, service: Service, until: float) -> None:
        if application not in self._open:
            return  # the server has ended it
        is_late = time.monotonic() >= until
        if is_late or not (application.is_busy or service.is_asked(site)):
            if is_late:
                told = "%scalls in its former applications have not ended within --grace (%g s), and are cut"
                _log.warning(told, site.label, service.config.grace_s)
            application.end()
            try:
                thread = threading.Thread(target=self._end, args=(application,), name="zcserve-app-ends", daemon=True)
                self._ending.add(thread)
                threads.begin(thread)
                return
            except NoThreadError:  # there may be one later
                self._ending.discard(thread)
        service.loop.timers.call_later(LOOK_S, partial(self._look, application, site, service, until))

    def _end(self, application: Servlets) -> None:
        """In a thread: an application may take its time to end."""
        try:
            self.discard(application)
        finally:
            self._ending.discard(threading.current_thread())
        del application
        if not self._ending:  # else the last one does: the loop waits for the GIL meanwhile
            gc.collect()  # modules are circles, and may hold much: it may be long until the collector comes by itself

    def close(self, some: Iterable[Servlets] | None = None) -> None:
        """End some of them; or all, at the server's end."""
        self._is_closed |= some is None
        with self._lock:
            ends = [one for one in (self._open if some is None else some) if one in self._open]
            self._open.difference_update(ends)
        for application in ends:
            application.close()
        if some is None:
            for thread in list(self._ending):
                thread.join(ENDED_WITHIN_S)


def _where(thread: threading.Thread) -> str:
    """Which line of an application's it is at, as far as that can be seen."""
    frame = threads.frame_of(thread.ident or 0)
    while frame is not None and frame.f_code.co_filename.startswith(_OTHERS):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "at their startup"


def _raised_at(error: BaseException) -> str:
    """Which line of an application's raised it, in brackets; "" where none did."""
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith(_OTHERS)]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def is_same(one: Config, other: Config) -> bool:
    """Whether two configurations name the same applications."""
    return (one.servlets, one.mount) == (other.servlets, other.mount)


def has_any(config: Config) -> bool:
    """Whether a configuration names an application."""
    return bool(config.servlets or config.mount)

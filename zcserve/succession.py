"""A server between the process before it and the one after it (`upgrade.py`): what it does at each step.

as the new one   catch up -> "ready", "go" -> catch up -> serve -> the old one has ended: have its memory alone
as the old one   start the program -> "ready": replace nothing -> it serves: hand over, follow on, end
                                                               -> it does not: go on
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from zcserve import collector
from zcserve.admin.door import Door
from zcserve.cache import manifest
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.manifest import Heir
from zcserve.cache.preload import retire
from zcserve.content.builder import Builder, Built
from zcserve.content.contents import Contents
from zcserve.content.heat_file import HeatFile, Kept
from zcserve.content.looks import Looks
from zcserve.drain import Drain
from zcserve.errors import NoThreadError, UsageError, reason_of
from zcserve.log import Log
from zcserve.net.listener import Listener
from zcserve.net.service import Service
from zcserve.net.timers import Deadline
from zcserve.supervisor import Supervisor
from zcserve.upgrade import Predecessor, Successor

_log = Log(__name__)

# Connections that ask for nothing in this time after the listeners were handed over are closed.
QUIET_S = 2.0

# Hears how an upgrade ended: the process that serves now, or 0 and why none does.
Told: TypeAlias = Callable[[int, str], object]


def build_first(builders: Sequence[Builder], predecessor: Predecessor | None, *, progress: bool) -> list[Built]:
    """The first generation of each site, with what the process before this one has in memory. How hot files are that
    process tells, or else --heat-file. It is loaded unless
    clients are not to wait for that; behind another process in any case: else they would get from disk what they had
    from memory. Raises UsageError."""
    store = builders[0].store
    with collector.paused():  # a hundred thousand new objects, and not one of them garbage
        if predecessor is not None:
            for one in builders:
                one.site.serve(Generation(one.open_root()))  # heads in its memory are compared by the rules
        heirs = {one.site.name: Heir(one.site.id, one.site.root, one.loader, one.site.heat) for one in builders}
        known = predecessor.adopt(heirs) if predecessor is not None else {}
        if (path := builders[0].config.heat_file) and not any(builder.site.heat for builder in builders):
            HeatFile(path).read(Kept.of(builder.site) for builder in builders)
        store.starting = True
        built = []
        for builder in builders:
            last = known.get(builder.site.name)
            load = builder.config.listen_when == "ready" or predecessor is not None
            try:
                built.append(builder.build(last=last, progress=progress, load=load))
            except UsageError as error:
                raise UsageError(f"{builder.site.label}{error}") from None
            if last is not None:
                retire(last, built[-1].generation, builder.loader)
                builder.loader.want_what_is_missing(built[-1].generation)
        store.starting = False
    return built


class Succession:
    """The processes before and after this one. In the loop's thread; `begin` before it runs."""

    def __init__(
        self,
        predecessor: Predecessor | None,
        *,
        listeners: Sequence[tuple[Listener, int]],
        loader: Loader,
        content: Contents,
        service: Service,
        drain: Drain,
        supervisor: Supervisor,
        stop: Callable[[], None],
        looks: Looks,
        admin: Door | None = None,
    ) -> None:
        """`listeners` come with the ports that were asked for; `admin` is the operator's; `stop` ends the server in
        order; `looks` end once another process serves."""
        self._predecessor = predecessor
        self._successor: Successor | None = None
        self._waiting: list[Told] = []  # for the end of an upgrade
        self._is_asked = False  # for an upgrade, while the process before is not gone
        self._listeners = listeners
        self._admin = admin
        self._loader = loader
        self._store = loader.store
        self._content = content
        self._service = service
        self._loop = service.loop
        self._drain = drain
        self._supervisor = supervisor
        self._stop = stop
        self._looks = looks
        self._quiet = Deadline(self._end_quietly)

    # --- as the new process -------------------------------------------------------------------------------

    def begin(self, is_stopping: Callable[[], bool]) -> None:
        """Take over where there is a process before this one. Raises UsageError and OSError; then that one goes on."""
        if self._predecessor is None:
            self._supervisor.ready()
            return
        self._content.catch_up()
        goes = self._predecessor.await_go(is_stopping)
        if goes:
            self._content.catch_up()
        if not goes or is_stopping():
            raise UsageError("the server was ended before it took over")
        if self._predecessor.is_drained and self._drain.step_aside():
            _log.warning(
                "upgrade: process %d was drained, and so is this one: undrain takes it back", self._predecessor.pid
            )
        self._predecessor.succeed(self._loop, self._predecessor_gone, self._content.when_known)

    def _predecessor_gone(self) -> None:
        assert self._predecessor is not None
        _log.info("upgrade: process %d has ended", self._predecessor.pid)
        self._service.fetcher.run(self._predecessor, self._store.takeover.release, self._on_released)

    def _on_released(self, _: None) -> None:
        self._predecessor = None
        if self._is_asked and (why := self.upgrade()):
            self._tell(0, why)

    # --- as the old process -------------------------------------------------------------------------------

    def upgrade(self, told: Told | None = None) -> str:
        """Start the program anew, have it take over, and end. Why not; "" where that is begun, also by an earlier call,
        or will be when the process before this one has ended: then `told` hears how it ended."""
        why = self._begin()
        if not why and told is not None:
            self._waiting.append(told)
        return why

    def _begin(self) -> str:
        if os.getpid() == 1:
            why = "refused, since this is process 1: a container ends with it; replace the container"
            _log.error("upgrade: %s", why)
            return why
        if self._drain.is_ending:
            why = "refused, since this process ends"
            _log.warning("upgrade: %s", why)
            return why
        if self._successor is not None:
            _log.info("upgrade: one is under way already")
            return ""
        if self._predecessor is not None:
            _log.info("upgrade: begun when process %d has ended", self._predecessor.pid)
            self._is_asked = True
            return ""
        _log.info("upgrade: starting the new program")
        try:
            listeners = [(listener.fileno(), port) for listener, port in self._listeners]
            if self._admin is not None:
                listeners.append((self._admin.fileno(), self._admin.port))
            served = {content.site.name: content.site.live for content in self._content}
            is_counted = self._loader.config.counts_heat
            heat = {content.site.name: content.site.heat for content in self._content if is_counted}
            write = partial(manifest.write, served=served, loader=self._loader, heat=heat)
            self._successor = Successor(
                self._loop, self._succeeded, self._not_succeeded, self._before_it_serves, lambda: self._service.draining
            )
            self._successor.begin(listeners, self._store.freeze, write)
        except (OSError, NoThreadError) as error:
            why = f"it could not be started: {str(error) or reason_of(error)}"
            self._not_succeeded(why)
            return why
        return ""

    def _before_it_serves(self) -> None:
        """The new process would serve now: it looks for the last changes, and this one makes no more."""
        assert self._successor is not None
        self._content.pause(self._successor.go, self._successor.ask)

    def _succeeded(self, process: int) -> None:
        """The new process serves: answer what was accepted here, and end."""
        _log.info("upgrade: process %d serves now; this one answers what it has begun, and ends", process)
        is_awaited = self._tell(process)
        self._supervisor.hand_over(process)
        self._looks.end()
        self._content.follow_on()
        self._quiet.at = self._loop.now + QUIET_S
        self._loop.timers.arm(self._quiet)
        if self._admin is not None:
            self._admin.close(handed_over=True)
        if is_awaited:
            self._loop.call_soon(self._drain.hand_over)  # without clients it is the end: answers to operators go first
        else:
            self._drain.hand_over()

    def _end_quietly(self) -> None:
        """Requests that are still under way are answered with what is known by now."""
        self._content.stand_still()
        self._stop()

    def _not_succeeded(self, why: str) -> None:
        self._successor = None
        self._store.thaw()
        self._content.resume()
        _log.error("upgrade: the new program does not serve, this process goes on: %s", why)
        self._tell(0, why)

    def _tell(self, process: int, why: str = "") -> bool:
        """Tell those that wait, if there are any."""
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            told(process, why)
        return bool(waiting)

    # --- as one that ends ---------------------------------------------------------------------------------

    def give_up(self) -> None:
        """This process ends: no program is to take over."""
        if self._successor is not None:
            self._successor.give_up()

    def forbid(self) -> None:
        """As `give_up`, for a signal's handler in a process that ends at once."""
        if self._successor is not None:
            self._successor.forbid()

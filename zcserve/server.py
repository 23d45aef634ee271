"""The server: the only place where everything meets.

Starting is: bind (so that a taken port is known at once), walk, load, listen. While it walks and loads, which may take
minutes, the loop turns in another thread: what asks how far it is gets an answer. Stopping is: close the listeners, let
answers in flight finish for `grace_s` seconds, end. Both may be done with another process at the other end
(`upgrade.py`). What is served while it runs is `content/`'s.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from zcserve import signals, threads
from zcserve.activation import admin_address, listening
from zcserve.banner import say_ready, url
from zcserve.cache import closing
from zcserve.cache.budget import budget_of
from zcserve.cache.crew import CLOSE_WITHIN_S
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.loader import Loader
from zcserve.cache.store import Store
from zcserve.check import check as check  # for cli.py, which knows this module alone
from zcserve.config.table import Config
from zcserve.content.content import Content
from zcserve.content.looks import Looks
from zcserve.drain import Drain
from zcserve.errors import UsageError
from zcserve.events import together
from zcserve.foreground import Foreground
from zcserve.foresight import Foresight
from zcserve.forwarded import Proxies, Trusted
from zcserve.log import Log
from zcserve.net.access_logs import AccessLogs, open_logs
from zcserve.net.bodies import Allowance
from zcserve.net.connection import take_over
from zcserve.net.fastlane import open_front
from zcserve.net.inherited import Inherited
from zcserve.net.listener import Listener, Reserve
from zcserve.net.loop import Loop
from zcserve.net.notes import Notes
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.service import Service
from zcserve.net.slow import SlowRequests
from zcserve.reconfigure import Reconfigure
from zcserve.site.site import Site
from zcserve.sites import Sites
from zcserve.succession import Succession, build_first
from zcserve.supervisor import Supervisor
from zcserve.upgrade import Predecessor

if TYPE_CHECKING:
    from zcserve.admin.office import Office

_log = Log(__name__)


class Server:
    """A server of one site, or several.

    As a context manager it serves from a thread of its own; `run` serves in the calling thread until a signal ends
    it. Raises UsageError when a root, an address or an option cannot be used.
    """

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        """`reread` reads the configuration again, for a reload; None: its sites do not change."""
        self._reread = reread
        self._reconfigure: Reconfigure | None = None
        self._budget = budget_of(config)
        self.config = config = replace(config, memory=self._budget.bytes)
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._supervisor = Supervisor({})
        self._foreground: Foreground | None = None  # the process is ours alone
        self.access_logs: AccessLogs | None = None
        self._predecessor: Predecessor | None = None
        self._inherited = Inherited()
        self._foresight: Foresight | None = None  # there is nothing to foresee while the content is loaded

    # --- starting -----------------------------------------------------------------------------------------

    def open(self, *, progress: bool = False) -> None:
        """Everything but the first turn of the loop: what is needed later, threads and descriptors, is there then.
        Raises UsageError."""
        try:
            self._open_all(progress=progress)
        except OSError as error:
            advice = "; raise the limit (ulimit -n, LimitNOFILE=)" if error.errno == errno.EMFILE else ""
            raise UsageError(f"the server cannot start: {error}{advice}") from error

    def _open_all(self, *, progress: bool) -> None:
        """What several loops would share (sockets, memory, content) is made first, and then what this loop owns. What
        may be refused comes before the content is loaded, which may take minutes."""
        began = time.monotonic()
        if self._budget.warning:  # before anything is loaded: afterwards it may be too late
            _log.warning("%s", self._budget.warning)
        with ExitStack() as undo:
            sockets = self._bind(undo)
            self._open_memory(undo)
            self._open_loop(undo)
            self._open_admin(undo)
            with self.loop.turning():  # what is built must not touch it
                built = build_first([one.builder for one in self.sites], self._predecessor, progress=progress)
            if self._foreground is not None:
                self._foreground.settle()
            for tenant, first in zip(self.sites, built, strict=True):
                tenant.serve(first)
            self._open_service(undo)
            self._open_content(undo)
            self._listen(sockets, undo)
            undo.pop_all()
        self.ready_after_s = time.monotonic() - began

    def _bind(self, undo: ExitStack) -> list[tuple[socket.socket, int]]:
        """The listening sockets, each with the port that was asked for, 0 for any."""
        inherited, sockets = self._inherited, []
        for sock, port in listening(self.config, inherited):
            undo.callback(inherited.unbind, sock)
            sockets.append((sock, port))
        self._addresses = [url(sock) for sock, _ in sockets]
        self.port = next((sock.getsockname()[1] for sock, _ in sockets if sock.family != socket.AF_UNIX), 0)
        return sockets

    def _open_memory(self, undo: ExitStack) -> None:
        """Where content lies, and what fills it."""
        config = self.config
        closing.start()
        self.store = Store(
            config.memory,
            slab_bytes=config.slab_bytes,
            small_body_bytes_max=config.small_body_bytes_max,
            policy=config.evict,
        )
        undo.callback(self.store.close)
        self.sites = Sites(config, self.store, undo)
        for tenant in self.sites:
            tenant.loader.variants.progress.subscribe(self._supervisor.compressing)
            tenant.builder.progress.subscribe(self._supervisor.loading)

    def _open_loop(self, undo: ExitStack) -> None:
        """The loop and what is its own: its front, its second's prefixes, its log."""
        self._prefixes = Prefixes()
        self.access_logs = open_logs(self.config, self._prefixes)
        if self.access_logs is not None:
            self.access_logs.name(self.sites.logs)
            undo.callback(self.access_logs.close)
        self._slow = SlowRequests(self.config.slow_log_s) if self.config.slow_log_s else None
        front = open_front(self.config, self._prefixes, self.access_logs, self._slow)
        self.loop = Loop(front)
        if self._slow is not None:
            self._slow.begin(self.loop.timers)
        undo.callback(self.loop.close)
        self.loop.each_turn.subscribe(self._each_turn)  # first: it makes the second's prefixes
        front.begin(self.loop, self.store)

    def _open_admin(self, undo: ExitStack) -> None:
        """What the operator asks and tells, before there is content to ask for. After an upgrade the process before
        this one answers until it has handed over."""
        self._admin: Office | None = None
        if address := admin_address(self.config, self._inherited):
            from zcserve.admin.office import Office  # only a node with an admin listener pays for it

            upgrade = lambda told: self._succession.upgrade(told)  # noqa: E731  (there is none yet)
            self._admin = Office(
                self.config, address, self.loop, self._prefixes, self.loader, reload=self.reload, upgrade=upgrade
            )
            undo.callback(self._admin.close)
            if self._predecessor is None:
                self._admin.open(self._inherited)

    def _open_service(self, undo: ExitStack) -> None:
        """What connections share, and what answers where no file does."""
        config, loop, logs = self.config, self.loop, self.access_logs
        fetcher = Fetcher(self.sites.loaders, config.loader_threads, loop.call_soon, config.load_timeout_s)
        undo.callback(fetcher.close)
        is_noted = self._slow is not None or (logs is not None and bool(config.access_log_fields))
        self._service = Service(
            config=config,
            loop=loop,
            parser=Parser(config, log_fields=logs is not None),
            prefixes=self._prefixes,
            fetcher=fetcher,
            sites=tuple(tenant.site for tenant in self.sites),
            accounts=self.sites.accounts,
            bodies=Allowance(config.servlet_bodies_bytes()),
            log=logs.record if logs is not None and not is_noted else None,
            logs=logs,
            notes=Notes(config, logs, self._slow) if is_noted else None,
            proxies=Proxies(Trusted(config.proxy_headers)) if config.proxy_headers else None,
        )
        for tenant in self.sites:
            tenant.teach(self._service)
        loop.handed_over.subscribe(partial(take_over, self._service))
        self.sites.open_applications(self._service, undo)

    def _open_content(self, undo: ExitStack) -> None:
        """What follows the roots from now on."""
        self.contents = self.sites.open_content(self._service, undo)
        self.loop.each_turn.subscribe(self.contents.each_turn)
        self._foresight = Foresight(self._service, self.store, self.contents)
        self._looks = Looks(self._service)
        if self._reread is not None:
            self._reconfigure = Reconfigure(self.config, self._reread, self.sites, self.contents, self._service)
        if self._admin is not None:
            node = self._admin.node
            node.service, node.store, node.contents = self._service, self.store, self.contents
            node.applications, node.curve = self.sites.applications, self._foresight.curve
            node.access_log, node.slow = self.access_logs, self._slow
        self.store.opened.begin(self.loop.call_soon, self.loop.timers.call_later)

    def _listen(self, sockets: list[tuple[socket.socket, int]], undo: ExitStack) -> None:
        """Clients may come, and other processes, too."""
        if self._foreground is not None:
            signals.wake(self.loop)
        self._reserve = Reserve()
        undo.callback(self._reserve.close)
        shed = self.store.shed_descriptor
        listeners = [
            (Listener(sock, self._service, self._reserve, shed, self._inherited.name_of(sock)), port)
            for sock, port in sockets
        ]
        self._drain = Drain(self._service, [listener for listener, _ in listeners])
        if self._admin is not None:
            self._admin.node.drain = self._drain
        if self._admin is not None and self._predecessor is not None:
            self._admin.open(self._inherited)
        self._succession = Succession(
            self._predecessor,
            listeners=listeners,
            admin=self._admin.door if self._admin is not None else None,
            loader=self.loader,
            content=self.contents,
            service=self._service,
            drain=self._drain,
            supervisor=self._supervisor,
            stop=self.stop,
            looks=self._looks,
        )

    def _each_turn(self) -> None:
        if self._prefixes.refresh() and self._foresight is not None:
            self._foresight.each_second()

    # --- running ------------------------------------------------------------------------------------------

    @property
    def site(self) -> Site:
        """The default one, or the first that the configuration names; `loader` and `content` are its own."""
        return self.sites.first.site

    @property
    def loader(self) -> Loader:
        """What loads its files."""
        return self.sites.first.loader

    @property
    def content(self) -> Content:
        """Its content."""
        return self.contents.first

    @property
    def service(self) -> Service:
        """What all of its connections share."""
        return self._service

    @property
    def admin_port(self) -> int:
        """The admin listener's; 0 where it is a unix socket, or none."""
        where = self._admin.door.sock.getsockname() if self._admin is not None else ""
        return int(where[1]) if isinstance(where, tuple) else 0

    @property
    def drain(self) -> Drain:
        """How it ends, and steps aside. In the loop's thread."""
        return self._drain

    @property
    def succession(self) -> Succession:
        """What it does with the process before it and the one after it. In the loop's thread."""
        return self._succession

    @property
    def is_serving(self) -> bool:
        """Whether the thread that `with` has started is still there."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def url(self) -> str:
        """The first address, as a browser wants it."""
        return self._addresses[0]

    def __enter__(self) -> Server:
        self.open()
        self._thread = threads.start(self.loop.run, "zcserve")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.call_soon(self._drain.end)
        assert self._thread is not None
        self._thread.join()
        self.close()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code."""
        process = self._foreground = Foreground(os.environ)
        self._predecessor, self._inherited = process.predecessor, process.inherited
        self._supervisor = process.supervisor
        self.open(progress=True)
        others: dict[int, Callable[[], object]] = {
            signal.SIGHUP: self.reload,
            signal.SIGUSR1: partial(self.loop.call_soon, self._reopen_log),
            signal.SIGUSR2: partial(self.loop.call_soon, self._succession.upgrade),
        }
        process.hear(self._on_end_signal, self._succession.forbid, others)
        try:
            self._succession.begin(lambda: self._stopping)
        except OSError as error:
            raise UsageError(f"the server cannot take over: {error}") from error
        self._supervisor.follow(self.loop, self.contents.status)
        self._say_ready()  # from here on a signal means what it says
        try:
            self.loop.run()
        finally:
            signals.forget(self.loop)
        in_place = self._service.generations() if self.config.in_place else ()
        process.leave(is_closed=self.close(), generations=in_place)
        return 0

    @property
    def ends_by(self) -> float:
        """When (of `time.monotonic`) --grace is over; 0 where the server was not told to end."""
        return self._drain.until if self._stopping else 0.0

    def _on_end_signal(self) -> bool:
        """False where the server ends already."""
        was_stopping, self._stopping = self._stopping, True
        if not was_stopping:
            self.loop.call_soon(self.stop)
        return not was_stopping

    def _reopen_log(self) -> None:
        """In the loop. Lines of what was answered by now belong to the old file."""
        if self.access_logs is not None:
            self.loop.front.when_written(self.access_logs.reopen)

    def stop(self) -> None:
        """Stop accepting and end when what is in flight is finished. In the loop's thread: `call_soon`."""
        self._stopping = True
        self._supervisor.stopping()
        self._succession.give_up()
        self._drain.begin()

    def close(self) -> bool:
        """Give everything back. False where a thread hangs: what it may use, should it ever go on, is kept."""
        for ending in list(self._service.endings):
            ending.close()
        until = time.monotonic() + CLOSE_WITHIN_S
        self.sites.close_variants()
        if self._reconfigure is not None:
            self._reconfigure.end()
        ended = self.contents.close()
        if self._reconfigure is not None:
            ended &= self._reconfigure.close(CLOSE_WITHIN_S)
        self.sites.applications.close()
        ended &= self._service.fetcher.close(max(until - time.monotonic(), 0))
        self._reserve.close()
        if self._admin is not None:
            self._admin.close()
        self._looks.close()
        self.loop.close()  # which puts the last lines into the log
        if self.access_logs is not None:
            ended &= self.access_logs.close(min(self._drain.until, time.monotonic() + self.config.grace_s))
        if ended:
            self.store.close()
        else:
            _log.warning("a thread still waits for a file system; the server ends without it")
        if self._foreground is not None:
            self._foreground.unsettle()
        return ended

    # --- content ------------------------------------------------------------------------------------------

    def reload(self, told: Callable[[str], object] | None = None) -> None:
        """Build the next generation beside the live one and flip to it, and load all servlets and applications anew;
        any thread may ask. Returns at once; `told` hears, when all of that has ended, why some failed, or ""."""
        over = self._supervisor.reloading()
        hear = together([over] if told is None else [told, over], 3)
        # What comes by the configuration has just been loaded then, and what goes is not needed.
        anew = partial(self.sites.reload_applications, self.sites.applications_in_use(), self._service, hear)
        then = together([hear, lambda _: anew()], 1)
        self.loop.call_soon(partial(then, "")) if self._reconfigure is None else self._reconfigure.reload(then)
        self.contents.reload(hear)

    def _say_ready(self) -> None:
        say_ready(
            self.config,
            self.contents,
            self.store,
            self._budget,
            engine=self.loop.front.engine,
            lanes=self.loop.front.lanes,
            servlets=self.sites.describe_applications(),
            addresses=self._addresses,
            ready_after_s=self.ready_after_s,
        )

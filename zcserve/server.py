"""The server: the only place where everything meets.

Starting is: bind (so that a taken port is known at once), walk, load, listen. Stopping is: close the listeners, let
answers in flight finish for `grace_s` seconds, end. Both may be done with another process at the other end
(`upgrade.py`). What is served while it runs is `content.py`'s.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING

from zcserve import log, signals
from zcserve.cache import closing, manifest
from zcserve.cache.budget import budget_of
from zcserve.cache.compress import missing_codecs
from zcserve.cache.crew import CLOSE_WITHIN_S
from zcserve.cache.entry import Entry, InPlace
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.pinned import Pinned
from zcserve.cache.preload import retire
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.cache.variants import tags_of
from zcserve.check import check as check  # for cli.py, which knows this module alone
from zcserve.config import Config, UnixAddress, size_text
from zcserve.content import Builder, Built, Content, report_problems, resident
from zcserve.errors import NoThreadError, UsageError, reason_of
from zcserve.forwarded import Proxies, Trusted
from zcserve.log import Log, printable
from zcserve.net.access_log import AccessLog
from zcserve.net.bodies import Allowance
from zcserve.net.connection import Connection
from zcserve.net.fastlane import Teacher, open_poller, why_not_native
from zcserve.net.listener import Inherited, Listener, Reserve, bind
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller
from zcserve.net.reply import Prefixes
from zcserve.net.request import Parser
from zcserve.net.sampler import Sampler
from zcserve.net.service import Service
from zcserve.net.timers import Deadline
from zcserve.net.transport import SocketTransport
from zcserve.program import close_inherited
from zcserve.upgrade import QUIET_S, Predecessor, Successor, tell_supervisor

if TYPE_CHECKING:
    from zcserve.net._lane import Lane
    from zcserve.servlets.application import Servlets

_log = Log(__name__)

# What systemd waits for longer at each word of progress (sd_notify(3)), in microseconds: three words may be late.
EXTENDED_US = 30_000_000
# How often the log says what more or less memory would give, while not everything fits.
MEMORY_TOLD_EVERY_S = 600.0
# How long the end waits for clients to take what the kernel has queued for them, and what they send meanwhile is read.
LAST_S = 1.0
# Descriptors that come and go while the server runs: a reload's directories, an upgrade's, an application's.
DESCRIPTORS_BESIDE = 32
# How long a loader thread may hold the GIL while the loop has work: the interpreter's 5 ms would be the loop's worst
# latency.
SWITCH_INTERVAL_S = 0.00005


class Server:
    """A server of one root.

    As a context manager it serves from a thread of its own; `run` serves in the calling thread until a signal ends
    it. Raises UsageError when the root, an address or an option cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._budget = budget_of(config)
        self.config = config = replace(config, memory=self._budget.bytes)
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._is_ready = False  # the supervisor has been told
        self._foreground = False  # the process is ours alone
        self._listeners: list[Listener] = []
        self._log: AccessLog | None = None
        self._application: Servlets | None = None
        self._quiet = Deadline(self._end_quietly)
        self._grace = Deadline(self._end)
        self._last = Deadline(lambda: self.loop.stop())  # the loop is not there yet
        self._predecessor: Predecessor | None = None
        self._successor: Successor | None = None
        self._upgrade_asked = False
        self._tell_at = 0.0

    # --- starting -----------------------------------------------------------------------------------------

    def _open(self, *, progress: bool = False) -> None:
        """Everything but the first turn of the loop: what is needed later, threads and descriptors, is there then.
        Raises UsageError."""
        try:
            self._open_all(progress=progress)
        except OSError as error:
            advice = "; raise the limit (ulimit -n, LimitNOFILE=)" if error.errno == errno.EMFILE else ""
            raise UsageError(f"the server cannot start: {error}{advice}") from error

    def _open_all(self, *, progress: bool) -> None:
        config = self.config
        began = time.monotonic()
        if self._budget.warning:  # before anything is loaded: afterwards it may be too late
            _log.warning("%s", self._budget.warning)
        with ExitStack() as undo:
            inherited = self._predecessor.listeners if self._predecessor is not None else Inherited()
            sockets: list[socket.socket] = []
            self._asked_ports: list[int] = []
            for address in config.addresses():
                for sock in bind(address, inherited):
                    undo.callback(inherited.unbind, sock)
                    sockets.append(sock)
                    self._asked_ports.append(0 if isinstance(address, UnixAddress) else address.port)
            closing.start()
            pinned = Pinned(config.pin)
            self.store = Store(
                config.memory,
                slab_bytes=config.slab_bytes,
                small_body_bytes_max=config.small_body_bytes_max,
                policy=config.evict,
                pinned=pinned,
            )
            undo.callback(self.store.close)
            self.loader = Loader(self.store, config)
            undo.callback(self.loader.variants.close)
            self.loader.variants.on_progress = self._on_compressed
            self._prefixes = Prefixes()
            self._open_log(undo)
            poller = open_poller(config)
            self.loop = Loop(poller)
            undo.callback(self.loop.close)
            builder = Builder(config, self.store, self.loader, pinned)
            built = self._build(builder, progress)
            self._serve_with(poller, builder, built, undo)
            if self._foreground:
                signals.wake(self.loop)
            self._addresses = [_url(sock) for sock in sockets]
            self.port = next((sock.getsockname()[1] for sock in sockets if sock.family != socket.AF_UNIX), 0)
            self._reserve = Reserve()
            undo.callback(self._reserve.close)
            self._listeners = [
                Listener(sock, self._service, self._reserve, self.store.shed_descriptor) for sock in sockets
            ]
            undo.pop_all()
        self.ready_after_s = time.monotonic() - began

    def _build(self, builder: Builder, progress: bool) -> Built:
        """The first generation, while nothing else is done."""
        gc.disable()  # a hundred thousand new objects, and not one of them garbage
        try:
            last = None
            if self._predecessor is not None:
                last = self._predecessor.adopt(self.loader, Root(self.config.root))
            self.store.starting = True
            built = builder.build(last=last, progress=progress)
            self.store.starting = False
            if last is not None:
                retire(last, built.generation, self.loader)
                self.loader.want_what_is_missing(built.generation)
        finally:
            gc.enable()
        if self._foreground:  # in a process that is not ours alone, what is frozen would outlive its server
            gc.collect()  # what is garbage and frozen would never go
            gc.freeze()
        return built

    def _open_log(self, undo: ExitStack) -> None:
        config = self.config
        if config.access_log:
            try:
                self._log = AccessLog(config.access_log, config.access_log_format, self._prefixes)
            except OSError as error:
                raise UsageError(f"access_log: {config.access_log!r} cannot be opened: {reason_of(error)}") from None
            undo.callback(self._log.close)

    def _serve_with(self, poller: Poller | Lane, builder: Builder, built: Built, undo: ExitStack) -> None:
        config = self.config
        prefixes = self._prefixes
        self.loop.each_turn = self._each_turn
        self.loop.stranger = self._welcome_back
        fetcher = Fetcher(self.loader, config.loader_threads, self.loop.call_soon, config.load_timeout_s)
        undo.callback(fetcher.close)
        self._service = Service(
            config=config,
            loop=self.loop,
            parser=Parser(config, log_fields=self._log is not None),
            prefixes=prefixes,
            fetcher=fetcher,
            generation=built.generation,
            bodies=Allowance(config.servlet_bodies_bytes()),
            log=self._log.record if self._log is not None else None,
            closed=self._on_closed,
            proxies=Proxies(Trusted(config.proxy_headers)) if config.proxy_headers else None,
        )
        if not isinstance(poller, Poller):
            self._service.teacher = Teacher(poller, prefixes, log_json=config.access_log_format == "json")
            poller.reserve(len(built.generation.resources))
            self.store.on_evicted = self._on_evicted
            self.store.is_sending = poller.pinned
        if config.servlets or config.mount:
            self._open_application(undo)
        self.content = Content(builder, built, self.loop, self._service)
        self.loader.variants.live_tags = self._live_tags
        self.loader.variants.tidy()
        undo.callback(self.content.close)

    def _open_application(self, undo: ExitStack) -> None:
        from zcserve.servlets.application import Servlets  # only who has servlets pays for them
        from zcserve.servlets.results import Keeping

        service, poller = self._service, self.loop.poller
        application = Servlets(
            self.config,
            call_soon=self.loop.call_soon,
            generation=lambda: service.generation,
            turn=lambda: poller.turn,
            lane=service.lane,
            keeping=Keeping(self.loader, service.fetcher, self.loop.timers, service.lane),
        )
        self._application = service.application = application
        undo.callback(application.close)
        application.start()

    def _live_tags(self) -> set[bytes]:
        """The ETags of what is served, in a thread of the variants'."""
        generations = (self.generation, *self.generation.older)
        return set().union(*(tags_of(one.entries(), self.loader) for one in generations))

    def _on_compressed(self, told: str) -> None:
        """The supervisor of a start that waits for variants gives it more time."""
        if self._foreground and not self._is_ready:
            tell_supervisor(f"EXTEND_TIMEOUT_USEC={EXTENDED_US}\nSTATUS=compress: {told}")

    def _each_turn(self) -> None:
        if self._prefixes.refresh():
            self._each_second()
        teacher = self._service.teacher
        if teacher is not None:
            teacher.each_turn()
            if self._log is not None:
                lines = teacher.lane.take_log()
                if lines:
                    self._log.lines(lines)
            if self._service.draining and not self._service.count():
                self.loop.stop()
        self.content.each_turn()  # last: what fails in it keeps nothing of the above from being done

    def _each_second(self) -> None:
        """Have the miss-ratio curve drawn, once there are misses."""
        sampler = self._service.sampler
        if sampler is not None:
            sampler.each_second(self.loop.now)
            if self.loop.now >= self._tell_at:
                self._tell_what_more_memory_would_give(sampler)
        elif self.store.evictions or self.content.report.left_out:
            self._service.sampler = Sampler(self._service.lane)
            self._tell_at = self.loop.now + MEMORY_TOLD_EVERY_S

    def _tell_what_more_memory_would_give(self, sampler: Sampler) -> None:
        self._tell_at = self.loop.now + MEMORY_TOLD_EVERY_S
        curve = sampler.curve
        if curve.accesses:
            memory = self.config.memory
            points = curve.points([memory // 2, memory, 2 * memory])
            told = ", ".join(f"{ratio:.2f} with {size_text(size)}" for size, ratio in points)
            _log.info("memory: the share of requests that finds content resident would be %s", told)

    def _welcome_back(self, fd: int) -> None:
        """The fast lane handed a connection over."""
        lane = self._service.lane
        taken = lane.take(fd) if lane is not None else None
        if taken is not None:
            peer, data, _, hung_up, made = taken
            transport = SocketTransport.of(fd, peer)
            Connection(self._service, transport, from_lane=True).take_over(data, made, hung_up=hung_up)

    def _on_evicted(self, entry: Entry) -> bool:
        """A body left the store, in any thread: the fast lane must let go of it, and will if it has it."""
        lane = self._service.lane
        if lane is None or not lane.holds(entry):
            return False
        self.loop.call_soon(partial(lane.drop, entry))
        return True

    # --- running ------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The first address, as a browser wants it."""
        return self._addresses[0]

    @property
    def generation(self) -> Generation:
        """What is served now."""
        return self._service.generation

    def __enter__(self) -> Server:
        self._open()
        self._thread = threading.Thread(target=self.loop.run, name="zcserve", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.call_soon(self._end)
        assert self._thread is not None
        self._thread.join()
        self._close()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code."""
        self._foreground = True
        _raise_descriptor_limit()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        signals.end_at_once()
        self._predecessor = Predecessor.of(os.environ)
        if self._predecessor is not None:
            close_inherited(self._predecessor.descriptors)
        self._open(progress=True)
        signals.end_in_order(self._on_end_signal)
        signal.signal(signal.SIGHUP, lambda *_: self.reload())
        signal.signal(signal.SIGUSR1, lambda *_: self._log.reopen() if self._log is not None else None)
        signal.signal(signal.SIGUSR2, lambda *_: self.loop.call_soon(self.upgrade))
        try:
            self._begin_to_serve()
        except OSError as error:
            raise UsageError(f"the server cannot take over: {error}") from error
        self._is_ready = True
        self._say_ready()  # from here on a signal means what it says
        try:
            self.loop.run()
        finally:
            signals.forget(self.loop)
        if not self._close() or self._has_files_that_may_hang() or not log.prints_are_out():
            # Nothing ends a thread that waits in the kernel, and the interpreter would close what it reads from, or
            # wait for it.
            log.flush()
            closing.leave(0)
        return 0

    @property
    def ends_by(self) -> float:
        """When (of `time.monotonic`) --grace is over; 0 where the server was not told to end."""
        return self._grace.at if self._stopping else 0.0

    def _on_end_signal(self, number: int, _: object) -> None:
        if self._stopping:
            if self._successor is not None:
                self._successor.forbid()
            log.flush()
            os._exit(128 + number)
        self.loop.call_soon(self.stop)
        self._stopping = True

    def stop(self) -> None:
        """Stop accepting and end when what is in flight is finished. In the loop's thread: `call_soon`."""
        self._stopping = True
        if self._successor is not None:
            self._successor.give_up()
        for listener in self._listeners:
            listener.close()
        self._service.draining = self._service.ending = True
        if self._service.lane is not None:
            self._service.lane.close_all(True)
        for connection in list(self._service.connections):
            connection.drain()
        self._grace.at = self.loop.now + self.config.grace_s
        self.loop.timers.arm(self._grace)
        self._on_closed()

    def _on_closed(self) -> None:
        """A connection ended: there is room for another, or an end to wait for."""
        if not self._service.draining:
            for listener in self._listeners:
                listener.retry()
        elif not self._service.count():
            self.loop.stop()

    def _end(self) -> None:
        """Stop now. What is begun is cut short; but what the kernel has queued already still goes out."""
        service = self._service
        service.draining = service.ending = service.hurried = True
        for listener in self._listeners:
            listener.close()
        if service.lane is not None:
            service.lane.close_all(False)
        for connection in list(service.connections):
            connection.end()
        for ending in list(service.endings):
            ending.hurry()
        self._last.at = self.loop.now + LAST_S
        self.loop.timers.arm(self._last)
        self._on_closed()

    def _close(self) -> bool:
        """Give everything back. False where a thread hangs: what it may use, should it ever go on, is kept."""
        for ending in list(self._service.endings):
            ending.close()
        until = time.monotonic() + CLOSE_WITHIN_S
        self.loader.variants.close()
        ended = self.content.close()
        if self._application is not None:
            self._application.close()
        ended &= self._service.fetcher.close(max(until - time.monotonic(), 0))
        if self._log is not None:
            ended &= self._log.close(min(self._grace.at, time.monotonic() + self.config.grace_s))
        self._reserve.close()
        self.loop.close()
        if ended:
            self.store.close()
        else:
            _log.warning("a thread still waits for a file system; the server ends without it")
        if self._foreground:
            gc.unfreeze()  # what `_build` froze may go now, cycles, descriptors and all
        return ended

    def _has_files_that_may_hang(self) -> bool:
        """Whether files below the root are open that cannot be closed, perhaps: no thread of this process may try."""
        if not closing.settle(time.monotonic() + CLOSE_WITHIN_S):
            return True
        generation = self.generation
        entries = chain(*(one.entries() for one in (generation, *generation.older) if self.config.in_place))
        bodies = (one.body for entry in entries for one in (entry, *entry.variants))
        return any(isinstance(body, InPlace) and closing.may_hang(body.device) for body in bodies)

    # --- upgrades -----------------------------------------------------------------------------------------

    def upgrade(self) -> None:
        """Start the program anew, have it take over, and end. In the loop's thread: `call_soon`; from `run` only."""
        if os.getpid() == 1:
            _log.error("upgrade: refused, since this is process 1: a container ends with it; replace the container")
            return
        if self._successor is not None or self._service.draining:
            _log.warning("upgrade: one is under way already, or this process ends")
            return
        if self._predecessor is not None:
            _log.info("upgrade: begun when process %d has ended", self._predecessor.pid)
            self._upgrade_asked = True
            return
        _log.info("upgrade: starting the new program")
        try:
            listeners = [(one.fileno(), port) for one, port in zip(self._listeners, self._asked_ports, strict=True)]
            write = partial(manifest.write, generation=self.generation, loader=self.loader)
            self._successor = Successor(self.loop, self._succeeded, self._not_succeeded, self._before_it_serves)
            self._successor.begin(listeners, self.store.freeze, write)
        except (OSError, NoThreadError) as error:
            self._not_succeeded(f"it could not be started: {str(error) or reason_of(error)}")

    def _before_it_serves(self) -> None:
        """The new process would serve now: it looks for the last changes, and this one makes no more."""
        assert self._successor is not None
        self.content.pause(self._successor.go, self._successor.ask)

    def _succeeded(self, process: int) -> None:
        """The new process accepts clients: answer those that are here, and end."""
        _log.info("upgrade: process %d serves now; this one answers what it has begun, and ends", process)
        tell_supervisor(f"MAINPID={process}")
        for listener in self._listeners:
            listener.close(handed_over=True)
        self.content.follow_on()
        self._service.draining = True
        if self._service.lane is not None:
            self._service.lane.drain()
        self._quiet.at = self.loop.now + QUIET_S
        self.loop.timers.arm(self._quiet)
        self._on_closed()

    def _end_quietly(self) -> None:
        """Requests that are still under way are answered with what is known by now."""
        self.content.stand_still()
        self.stop()

    def _not_succeeded(self, why: str) -> None:
        self._successor = None
        self.store.thaw()
        self.content.resume()
        _log.error("upgrade: the new program does not serve, this process goes on: %s", why)

    def _begin_to_serve(self) -> None:
        if self._predecessor is None:
            tell_supervisor("READY=1")
        else:
            self.content.catch_up()
            if not self._predecessor.await_go(lambda: self._stopping):
                raise UsageError("the server was ended before it took over")
            self.content.catch_up()
            self._predecessor.succeed(self.loop, self._predecessor_gone, self.content.when_known)

    def _predecessor_gone(self) -> None:
        assert self._predecessor is not None
        _log.info("upgrade: process %d has ended", self._predecessor.pid)
        self._service.fetcher.run(self._predecessor, self.store.release, self._on_released)

    def _on_released(self, _: None) -> None:
        self._predecessor = None
        if self._upgrade_asked:
            self.upgrade()

    # --- content ------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Build the next generation beside the present one and flip to it, and load all servlets anew; any thread may
        ask. Returns at once."""
        self.content.reload()
        if self._application is not None:
            self.loop.call_soon(self._application.reload)

    # --- words --------------------------------------------------------------------------------------------

    def _warn_of_descriptors(self) -> None:
        """Say now what would be found out when the last connections come."""
        config, limit = self.config, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        needed = len(os.listdir("/proc/self/fd")) + config.connections_max + config.loader_threads + DESCRIPTORS_BESIDE
        if needed > limit:
            _log.warning(
                "descriptors: the process may have %d, and --connections-max %d needs %d: raise the limit "
                "(ulimit -n, LimitNOFILE=) or lower --connections-max",
                limit, config.connections_max, needed,
            )  # fmt: skip

    def _engine(self) -> str:
        """What answers plain requests, and why it is not the fast lane where that was not asked for."""
        if self._service.lane is not None:
            return "native"
        return "python" if self.config.engine == "python" else f"python ({printable(why_not_native())})"

    def _say_ready(self) -> None:
        self._warn_of_descriptors()
        report_problems(self.generation.problems)
        self.content.warn_of_memory()
        if self.config.compress_dir and not self.config.compress:
            _log.warning("compress: --compress-dir is of no use without --compress")
        if self.config.compress and missing_codecs():
            _log.warning("compress: only gzip can be made here; for brotli and zstd: %s", missing_codecs())
        if not _log.isEnabledFor(logging.INFO):
            return
        report, pending = self.content.report, self.loader.variants.pending
        memory = f"{size_text(self.store.committed)} of {size_text(self.store.budget)}"
        lines = (
            f"root: {self.config.root}",
            f"files: {report.files - report.variants}, {resident(report)}",
            *((f"compress: the variants of {pending} files follow",) if pending else ()),
            f"memory: {memory}, ready in {self.ready_after_s:.2f} s",
            *((f"budget: {self._budget.note}",) if self._budget.note else ()),
            f"engine: {self._engine()}",
            *((f"servlets: {self._application.describe()}",) if self._application is not None else ()),
            *(f"serving {address}" for address in self._addresses),
        )
        log.say("\n".join(lines))


def _url(sock: socket.socket) -> str:
    where = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{where}"
    host = f"[{where[0]}]" if ":" in where[0] else where[0]
    return f"http://{host}:{where[1]}"


def _raise_descriptor_limit() -> None:
    """Take all the descriptors that we may have: the soft limit is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

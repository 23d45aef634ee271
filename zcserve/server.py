"""The server: the only place where everything meets.

Starting is: bind (so that a taken port is known at once), walk, load, listen. Stopping is: close the listeners, let
answers in flight finish for `grace_s` seconds, end. A reload builds the next generation in a thread, beside the one
that serves, and the loop flips to it between two turns; when it cannot be built, the old one goes on.
"""

from __future__ import annotations

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
from functools import partial
from math import inf
from types import FrameType, TracebackType

from zcserve.cache.compress import missing_codecs
from zcserve.cache.entry import Entry
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.index import ENTRY_BYTES, NOT_FOUND_KEY, Generation, Problem
from zcserve.cache.loader import ChangedError, Loader
from zcserve.cache.preload import Plan, Preloaded, adopt, preload, retire, try_to_open
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.cache.walk import walk
from zcserve.config import Address, Config, UnixAddress
from zcserve.errors import UsageError
from zcserve.net.access_log import AccessLog
from zcserve.net.connection import Connection, Service
from zcserve.net.fastlane import Teacher, open_poller
from zcserve.net.listener import Listener, Reserve, bind
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller
from zcserve.net.reply import Prefixes
from zcserve.net.request import Parser

_log = logging.getLogger(__name__)

# Problems named one by one; of more, only the number.
PROBLEMS_NAMED_MAX = 20
# Preloading shows its progress on a terminal when it takes longer than this.
PROGRESS_AFTER_S = 1.0
# How long a loader thread may hold the GIL while the loop has work: the interpreter's 5 ms would be the loop's worst
# latency.
SWITCH_INTERVAL_S = 0.0005


class _Grace:
    """The deadline of a graceful stop."""

    def __init__(self, server: Server) -> None:
        self.armed = inf
        self.at = inf
        self._server = server

    def due(self) -> float:
        return self.at

    def expire(self) -> None:
        self._server._end()


class _ClosingError(Exception):
    """The server ends: nobody waits for this generation."""


class Server:
    """A server of one root.

    As a context manager it serves from a thread of its own; `run` serves in the calling thread until a signal ends
    it. Raises UsageError when the root, an address or an option cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._thread: threading.Thread | None = None
        self._reloading = threading.Lock()
        self._reload_again = False
        self._stopping = False
        self._closing = False
        self._flipped = threading.Event()
        self._foreground = False  # the process is ours alone
        self._listeners: list[Listener] = []
        self._log: AccessLog | None = None
        self._grace = _Grace(self)

    # --- starting -----------------------------------------------------------------------------------------

    def _open(self, *, progress: bool = False) -> None:
        """Everything but the first turn of the loop."""
        config = self.config
        began = time.monotonic()
        with ExitStack() as undo:
            sockets: list[socket.socket] = []
            for address in config.addresses():
                for sock in bind(address):
                    undo.callback(_unbind, address, sock)
                    sockets.append(sock)
            self.store = Store(
                config.memory, slab_bytes=config.slab_bytes, small_body_bytes_max=config.small_body_bytes_max
            )
            undo.callback(self.store.close)
            self.loader = Loader(self.store, config)
            generation, self.report = self._build(progress=progress)
            self._serve_with(generation, undo)
            self._addresses = [_url(sock) for sock in sockets]
            self.port = next((sock.getsockname()[1] for sock in sockets if sock.family != socket.AF_UNIX), 0)
            self._reserve = Reserve()
            undo.callback(self._reserve.close)
            self._listeners = [
                Listener(sock, self._service, self._reserve, self.store.shed_descriptor) for sock in sockets
            ]
            undo.pop_all()
        self.ready_after_s = time.monotonic() - began

    def _serve_with(self, generation: Generation, undo: ExitStack) -> None:
        config = self.config
        poller = open_poller(config)
        self.loop = Loop(poller)
        undo.callback(self.loop.close)
        prefixes = Prefixes()
        self._prefixes = prefixes
        self.loop.each_turn = self._each_turn
        self.loop.stranger = self._welcome_back
        if config.access_log:
            try:
                self._log = AccessLog(config.access_log, config.access_log_format, prefixes)
            except OSError as error:
                raise UsageError(f"access_log: {config.access_log!r} cannot be opened: {error.strerror}") from None
            undo.callback(self._log.close)
        self._service = Service(
            config=config,
            loop=self.loop,
            parser=Parser(config, log_fields=self._log is not None),
            prefixes=prefixes,
            fetcher=Fetcher(self.loader, config.loader_threads, self.loop.call_soon),
            generation=generation,
            log=self._log.record if self._log is not None else None,
            closed=self._on_closed,
        )
        if not isinstance(poller, Poller):
            self._service.teacher = Teacher(poller, prefixes, log_json=config.access_log_format == "json")
            self.store.on_evicted = self._on_evicted
            self.store.is_sending = poller.pinned

    def _each_turn(self) -> None:
        self._prefixes.refresh()
        teacher = self._service.teacher
        if teacher is None:
            return
        teacher.each_turn()
        if self._log is not None:
            lines = teacher.lane.take_log()
            if lines:
                self._log.lines(lines)
        if self._service.draining and not self._service.count():
            self.loop.stop()

    def _welcome_back(self, fd: int) -> None:
        """The fast lane handed a connection over."""
        lane = self._service.lane
        taken = lane.take(fd) if lane is not None else None
        if taken is not None:
            peer, data, _, hung_up = taken
            sock = socket.socket(fileno=fd)
            Connection(self._service, sock, peer, from_lane=True).go_on_with(data, hung_up=hung_up)

    def _on_evicted(self, entry: Entry) -> bool:
        """A body left the store, in any thread: the fast lane must let go of it, and will if it has it."""
        lane = self._service.lane
        if lane is None or not lane.holds(entry):
            return False
        self.loop.call_soon(partial(lane.drop, entry))
        return True

    def _build(self, *, last: Generation | None = None, progress: bool = False) -> tuple[Generation, Preloaded]:
        """A complete generation, its content loaded as far as it fits. Raises UsageError."""
        show = _Progress() if progress and sys.stderr.isatty() else None

        def note(done: int, total: int) -> None:
            if self._closing:
                raise _ClosingError
            if show is not None:
                show(done, total)

        gc.disable()  # a hundred thousand new objects, and not one of them garbage
        try:
            generation = walk(Root(self.config.root), index=self.config.index)
            if last is not None:
                adopt(generation, last)
            report = preload(generation, self.loader, progress=note)
        finally:
            gc.enable()
            if show is not None:
                show.clear()
        generation.not_found_page = self._not_found_page(generation)
        if self._foreground:
            gc.freeze()  # in somebody else's process, what is frozen would outlive its server
        return generation, report

    def _not_found_page(self, generation: Generation) -> bytes | None:
        entry = generation.resources.get(NOT_FOUND_KEY)
        if not isinstance(entry, Entry):
            return None
        try:
            return self.loader.read(generation.root, entry)
        except (ChangedError, OSError) as error:
            generation.problems.append(Problem("404.html", f"is not used for 404: {error}"))
            return None

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
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what a reload would do is being done
        try:
            self._open(progress=True)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_end_signal)
        signal.signal(signal.SIGHUP, lambda *_: self.reload())
        signal.signal(signal.SIGUSR1, lambda *_: self._log.reopen() if self._log is not None else None)
        self._say_ready()  # from here on a signal means what it says
        self.loop.run()
        self._close()
        return 0

    def _on_end_signal(self, number: int, _: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + number)
        self.loop.call_soon(self.stop)
        self._stopping = True

    def stop(self) -> None:
        """Stop accepting and end when what is in flight is finished. In the loop's thread: `call_soon`."""
        self._stopping = True
        for listener in self._listeners:
            listener.close()
        self._service.draining = True
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
        """Stop now."""
        self._service.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self._service.connections):
            connection.close()
        self.loop.stop()

    def _close(self) -> None:
        self._closing = True
        self._flipped.set()
        with self._reloading:  # a reload must not write into memory that is given back
            pass
        self._service.fetcher.close()
        if self._log is not None:
            self._log.close()
        self._reserve.close()
        self.loop.close()
        self.store.close()
        gc.unfreeze()  # what `_build` froze may go now, cycles, descriptors and all

    # --- reloading ----------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Build the next generation beside the present one and flip to it; any thread may ask. Returns at once."""
        self._reload_again = True
        threading.Thread(target=self._reload, name="zcserve-reload", daemon=True).start()

    def _reload(self) -> None:
        with self._reloading:
            if not self._reload_again or self._closing:
                return  # the reload that just ended began after this one was asked for
            self._reload_again = False
            last = self._service.generation
            try:
                generation, report = self._build(last=last)
            except _ClosingError:
                return
            except UsageError as error:
                _log.error("reload failed, the old content goes on: %s", error)
                return
            except Exception:
                _log.exception("reload failed, the old content goes on")
                return
            self._flipped.clear()
            if self._closing:
                return
            self.loop.call_soon(lambda: self._flip(generation))
            self._flipped.wait()
            gone = retire(last, generation, self.loader)
            if report.left_out:
                report = preload(generation, self.loader)  # where the last generation was, there is room now
            self.report = report
            _log.info("reloaded: %d files, %d changed or gone, %s", report.files, gone, _resident(report))
            _report_problems(generation)

    def _flip(self, generation: Generation) -> None:
        self._service.generation = generation
        if self._service.lane is not None:
            self._service.lane.clear()
        self._flipped.set()

    # --- words --------------------------------------------------------------------------------------------

    def _say_ready(self) -> None:
        _report_problems(self.generation)
        if self.config.compress and missing_codecs():
            _log.warning("compress: only gzip can be made here; for brotli and zstd: %s", missing_codecs())
        if _log.getEffectiveLevel() > logging.INFO:
            return
        memory = f"{_size(self.store.committed)} of {_size(self.config.memory)}"
        lines = (
            f"root: {self.config.root}",
            f"files: {self.report.files}, {_resident(self.report)}",
            f"memory: {memory}, ready in {self.ready_after_s:.2f} s",
            f"engine: {'python' if self._service.lane is None else 'native'}",
            *(f"serving {address}" for address in self._addresses),
        )
        print("\n".join(lines), file=sys.stderr, flush=True)


def check(config: Config) -> int:
    """`--check`: validate the root, say what would be resident, serve nothing. The exit code."""
    generation = walk(Root(config.root), index=config.index)
    try_to_open(generation)
    _report_problems(generation)
    store = Store(config.memory, slab_bytes=config.slab_bytes, small_body_bytes_max=config.small_body_bytes_max)
    store.overhead = len(generation.resources) * ENTRY_BYTES
    entries = list(generation.entries())
    wanted = Plan(entries, store)
    representations = [one for entry in entries for one in (entry, *entry.variants)]
    resident = [one for one in representations if wanted.takes(one)]
    print(f"root {config.root}: {len(representations)} files, {_size(sum(one.size for one in representations))}")
    print(
        f"would be resident: {len(resident)} files, {_size(sum(one.size for one in resident))} "
        f"of a budget of {_size(config.memory)}; {len(representations) - len(resident)} stay out"
    )
    print(f"not served: {len(generation.problems)}")
    print("configuration is valid")
    return 0


class _Progress:
    """A line on the terminal, from the second second on."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._began > PROGRESS_AFTER_S and now - self._shown > 0.1:
            self._shown = now
            print(f"\rloading   {done} of {total} files ({100 * done // total}%)", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown != self._began:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _report_problems(generation: Generation) -> None:
    for problem in generation.problems[:PROBLEMS_NAMED_MAX]:
        _log.warning("%s: %s", problem.path, problem.why)
    if len(generation.problems) > PROBLEMS_NAMED_MAX:
        _log.warning("and %d more", len(generation.problems) - PROBLEMS_NAMED_MAX)
    if generation.problems:
        _log.warning("%d files are not served as they lie there", len(generation.problems))


def _resident(report: Preloaded) -> str:
    text = f"{report.resident_files} resident ({_size(report.resident_bytes)})"
    if report.left_out:
        text += f", {report.left_out} stay on disk until asked for ({_size(report.bytes - report.resident_bytes)})"
    return text


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _unbind(address: Address, sock: socket.socket) -> None:
    sock.close()
    if isinstance(address, UnixAddress):
        os.unlink(address.path)


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

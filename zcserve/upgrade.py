"""A new program takes over: listening sockets and memory are handed on, and nobody who asks notices.

    old: freeze -> write manifest -> start the program -> wait ... close listeners, answer "Connection: close" -> drain
    new:      listeners, memory, walk -> "ready" .. "go" -> serve -> "serving" ... end of file -> reuse the memory

The new program is the old one's command line once more, in the same working directory and by the same interpreter, so
that whatever is installed there by now is what runs. It inherits descriptors, and a variable that says which is which
(`Handover`). A program that does not know the variable finds the port taken and ends. Whatever ends before it serves,
or takes too long, the old process goes on as if nothing had been, and says why.

Nothing that both have is changed while both live. The old store is frozen before the manifest is begun: nothing is
evicted or given back, and what is made resident goes to memory that is not handed on. The new store puts its own
content into memory of its own or behind the old end, and holds what it took over, evicting nothing, until the socket
between the two tells that the old process is gone: it may have been sending from there to its end. Only two share: an
upgrade that is asked for earlier begins then. Meanwhile both together take the budget, and once more what has changed;
at most twice the budget, and each the memory of a process.

Both follow the changes below the root. When the new program has built what it serves, it says "ready"; the old one
makes no more changes to what it serves, and says "go"; the new one looks for changes once more, and serves. So no
client meets older content than it has seen. An older program says neither.

A connection on which a request may be under way is not closed: everybody that the old process has accepted gets an
answer, which says that it was the last (`Connection: close`). Who asks for nothing in QUIET_S is let go as at any stop.

What is odd: under a supervisor that watches one process, the old one must tell it who its successor is. systemd is told
(`MAINPID=`, sd_notify(3)); process 1 of a container has nobody to tell, and cannot be upgraded in this way.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from functools import partial
from math import inf

from zcserve import log, threads
from zcserve.cache import manifest
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.root import Root
from zcserve.cache.store import Memory
from zcserve.errors import NoThreadError, reason_of
from zcserve.log import Log
from zcserve.net.listener import Inherited
from zcserve.net.loop import Loop

_log = Log(__name__)

# Not ZCSERVE_*: it is no setting, and what a shell has exported must not be taken for it.
VARIABLE = "_ZCSERVE_HANDOVER"
# The new program serves within this time, or is ended: a cold load of a million files from a slow disk.
READY_WITHIN_S = 1800.0
# Connections that ask for nothing in this time after the listeners were handed over are closed.
QUIET_S = 2.0
_READY, _GO, _SERVING = b"ready", b"go", b"serving"
# What the old process says when it awaits "ready"; older programs neither say nor see it.
AWAITS_READY = "_ZCSERVE_AWAITS_READY"
# The old process lets the new one serve within this time: it may be in the middle of a large patch.
GO_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Handover:
    """What a process leaves to the next one: descriptors, listening sockets each with the port that was asked for.

    As JSON in VARIABLE it is the same for all formats of the manifest: who cannot use the memory knows what to close.
    """

    pid: int
    control: int
    listeners: Sequence[tuple[int, int]]
    manifest: int
    slabs: Sequence[int]
    pages: int

    def descriptors(self) -> list[int]:
        """All of them."""
        return [self.control, *(fd for fd, _ in self.listeners), self.manifest, *self.slabs, self.pages]


class Predecessor:
    """The process that this one takes over from."""

    def __init__(self, handover: Handover, *, awaits_ready: bool = False) -> None:
        self._awaits_ready = awaits_ready
        for fd in handover.descriptors():
            os.set_inheritable(fd, False)
        self.pid = handover.pid
        self.listeners = Inherited(handover.listeners)
        self._control = socket.socket(fileno=handover.control)
        self._control.setblocking(False)
        self._manifest = handover.manifest
        self._memory = Memory(tuple(handover.slabs), handover.pages)

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Predecessor | None:
        """Who started this process in order to be succeeded by it, if anybody did; said once."""
        text, awaits_ready = environ.pop(VARIABLE, ""), bool(environ.pop(AWAITS_READY, ""))
        return cls(Handover(**json.loads(text)), awaits_ready=awaits_ready) if text else None

    def adopt(self, loader: Loader, root: Root) -> Generation | None:
        """What it serves, its bodies resident here as well; None where that cannot be used."""
        generation = manifest.adopt(self._manifest, self._memory, loader, root)
        os.close(self._manifest)
        if generation is None:
            _log.warning("upgrade: what process %d has in memory is of another shape, all is loaded anew", self.pid)
        else:
            _log.info("upgrade: %d resident files taken over from process %d", loader.store.resident, self.pid)
        return generation

    def await_go(self) -> None:
        """Wait until the old process changes nothing any more in what it serves: then what changed before is known here
        as well, if one looks, and no client meets older content than it has seen."""
        if self._awaits_ready:
            with suppress(OSError):
                self._control.send(_READY)
                select.select([self._control], [], [], GO_WITHIN_S)
                self._control.recv(len(_GO))

    def succeed(self, loop: Loop, gone: Callable[[], None]) -> None:
        """This process serves: tell it, and hear when it is gone. In the loop's thread. Raises OSError."""
        self.listeners.close()

        def on_control(_: int) -> None:
            with suppress(BlockingIOError):
                with suppress(ConnectionError):
                    while self._control.recv(len(_GO)):
                        pass  # "go" came late; else nothing is sent this way: it ended
                loop.forget(self._control.fileno())
                self._control.close()
                gone()

        loop.add(self._control.fileno(), on_control)  # first: when it fails, the old process goes on
        with suppress(OSError):
            self._control.send(_SERVING)


class _Outcome(Enum):
    OPEN = "it ended before it served"
    SERVES = "it serves"
    FAILS = "it does not serve"
    GIVEN_UP = "the server ends"


class Successor:
    """The program that is to take over from this one, from its start until it serves. Belongs to the loop's thread.

    `served` is told its process id, `failed` why it does not serve; then it has ended. One of them is called, unless
    it is given up. Before it serves, `ready` is called, and `go` lets it.

    One thread writes the manifest and starts the program, another waits for its end. Both are there from the beginning:
    nothing has to be had in order to tell that an upgrade failed. (They are two, since a child belongs to the thread
    that started it until this ends, and a process's children are looked for at its main thread.)
    """

    armed = inf

    def __init__(
        self,
        loop: Loop,
        served: Callable[[int], None],
        failed: Callable[[str], None],
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Raises OSError."""
        self._loop = loop
        self._ready = ready
        self._said = b""
        self._served = served
        self._failed = failed
        self._lock = threading.Lock()  # around the outcome and the process, which the thread starts while it is open
        self._outcome = _Outcome.OPEN
        self._why: str = _Outcome.OPEN.value  # should it fail
        self._why_not_started = ""
        self._begun = threading.Event()  # the program is started, or will not be
        self._process: subprocess.Popen[bytes] | None = None
        self._control, self._theirs = socket.socketpair()
        self._control.setblocking(False)
        self._until = loop.now + READY_WITHIN_S

    def begin(
        self,
        listeners: Sequence[tuple[int, int]],
        freeze: Callable[[], Memory],
        write: Callable[[int, Memory], None],
    ) -> None:
        """Have a thread `freeze` the memory, `write` the manifest into a descriptor, and start the program. Raises
        OSError and NoThreadError; then nothing was begun."""
        try:
            self._loop.add(self._control.fileno(), self._on_control)
            self._loop.timers.arm(self)
            threads.start(self._await_end, "zcserve-upgrade-end")
            threads.start(partial(self._start, listeners, freeze, write), "zcserve-upgrade")
        except (OSError, NoThreadError):
            self._theirs.close()
            self._decide(_Outcome.GIVEN_UP)
            self._begun.set()
            raise

    def _await_end(self) -> None:
        """In a thread: tell of the program's end."""
        self._begun.wait()
        process = self._process
        ending = f" (process {process.pid}, {_ending(process.wait())})" if process is not None else ""
        self._loop.call_soon(partial(self._over, ending))

    def _start(
        self,
        listeners: Sequence[tuple[int, int]],
        freeze: Callable[[], Memory],
        write: Callable[[int, Memory], None],
    ) -> None:
        """In a thread: from the manifest to the program's start."""
        fd = -1
        try:
            memory = freeze()
            fd = os.memfd_create("zcserve-manifest", os.MFD_CLOEXEC)
            write(fd, memory)
            handover = Handover(os.getpid(), self._theirs.fileno(), listeners, fd, memory.slabs, memory.pages)
            with self._lock:
                if self._outcome is _Outcome.OPEN:
                    self._process = _run_again(handover)
        except Exception as error:
            self._why_not_started = f"it could not be started: {str(error) or reason_of(error)}"
        finally:
            self._theirs.close()
            if fd >= 0:
                os.close(fd)
            self._begun.set()

    def _on_control(self, _: int) -> None:
        while self._outcome is _Outcome.OPEN:
            try:
                told = self._control.recv(len(_READY + _SERVING))
            except BlockingIOError:
                return
            except OSError:
                told = b""
            self._said += told
            if told and self._said == _READY:
                self._ready()
                continue
            with self._lock:  # it may have been quicker than the thread that started it
                process = self._process
            if told and self._said in (_SERVING, _READY + _SERVING) and process is not None:
                self._decide(_Outcome.SERVES)
                self._served(process.pid)
            else:
                self._decide(_Outcome.FAILS)

    def go(self) -> None:
        """Let the new program serve."""
        with suppress(OSError):  # it ended, or was given up
            self._control.send(_GO)

    def due(self) -> float:
        return self._until

    def expire(self) -> None:
        self._why = f"it did not serve within {READY_WITHIN_S:g} s"
        self._decide(_Outcome.FAILS)

    def give_up(self) -> None:
        """The old process ends as well: no program is to take over."""
        if self._outcome is _Outcome.OPEN:
            self._decide(_Outcome.GIVEN_UP)

    def _decide(self, outcome: _Outcome) -> None:
        """The outcome is known, and a program that is not to serve is ended; `_over` hears of its end."""
        self._loop.timers.disarm(self)
        self._loop.forget(self._control.fileno())
        if outcome is not _Outcome.SERVES:  # else the socket stays open: its end is this process's end
            self._control.close()
        with self._lock:
            self._outcome = outcome
            if outcome is not _Outcome.SERVES and self._process is not None:
                self._process.kill()

    def _over(self, ending: str) -> None:
        """The program has ended, after which nothing writes into the memory that it was handed; or it never began."""
        if self._outcome is _Outcome.OPEN:
            self._decide(_Outcome.FAILS)
        if self._outcome is _Outcome.FAILS:
            self._failed((self._why_not_started or self._why) + ending)


def _run_again(handover: Handover) -> subprocess.Popen[bytes]:
    log.put_back()
    return subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, VARIABLE: json.dumps(asdict(handover)), AWAITS_READY: "1"},
        pass_fds=handover.descriptors(),
    )


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def tell_supervisor(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell systemd, if it wants to be told (sd_notify(3)): `READY=1`, `MAINPID=123`."""
    path = environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)

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
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from math import inf

from zcserve.cache import manifest
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.root import Root
from zcserve.cache.store import Memory
from zcserve.net.listener import Inherited
from zcserve.net.loop import Loop

_log = logging.getLogger(__name__)

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
        """This process serves: tell it, and hear when it is gone. In the loop's thread."""
        self.listeners.close()

        def on_control(_: int) -> None:
            with suppress(BlockingIOError):
                with suppress(ConnectionError):
                    while self._control.recv(len(_GO)):
                        pass  # "go" came late; else nothing is sent this way: it ended
                loop.forget(self._control.fileno())
                self._control.close()
                gone()

        with suppress(OSError):
            self._control.send(_SERVING)
        loop.add(self._control.fileno(), on_control)


class Successor:
    """The program that is to take over from this one, from its start until it serves. Belongs to the loop's thread.

    `served` is told its process id, `failed` why it does not serve; then it has ended. One of them is called, unless
    it is given up. Before it serves, `ready` is called, and `go` lets it.
    """

    armed = inf

    def __init__(
        self,
        loop: Loop,
        served: Callable[[int], None],
        failed: Callable[[str], None],
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._ready = ready
        self._said = b""
        self._served = served
        self._failed = failed
        self._lock = threading.Lock()  # around what may be going on while it is given up
        self._given_up = False
        self._decided = False
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
        """Have a thread `freeze` the memory, `write` the manifest into a descriptor, and start the program."""
        self._loop.add(self._control.fileno(), self._on_control)
        self._loop.timers.arm(self)
        job = partial(self._start, listeners, freeze, write)
        threading.Thread(target=job, name="zcserve-upgrade", daemon=True).start()

    def _start(
        self,
        listeners: Sequence[tuple[int, int]],
        freeze: Callable[[], Memory],
        write: Callable[[int, Memory], None],
    ) -> None:
        fd = -1
        try:
            memory = freeze()
            fd = os.memfd_create("zcserve-manifest", os.MFD_CLOEXEC)
            write(fd, memory)
            handover = Handover(os.getpid(), self._theirs.fileno(), listeners, fd, memory.slabs, memory.pages)
            with self._lock:
                if not self._given_up:
                    self._process = _run_again(handover)
        except Exception as error:
            self._loop.call_soon(partial(self._decide, f"it could not be started: {error}"))
        finally:
            self._theirs.close()
            if fd >= 0:
                os.close(fd)

    def _on_control(self, _: int) -> None:
        while not self._decided:
            try:
                told = self._control.recv(len(_READY + _SERVING))
            except BlockingIOError:
                return
            except ConnectionError:
                told = b""
            self._said += told
            if told and self._said == _READY:
                self._ready()
            else:
                serves = told and self._said in (_SERVING, _READY + _SERVING)
                self._decide("" if serves else "it ended before it served")

    def go(self) -> None:
        """Let the new program serve."""
        with suppress(OSError):  # it ended, or was given up
            self._control.send(_GO)

    def due(self) -> float:
        return self._until

    def expire(self) -> None:
        self._decide(f"it did not serve within {READY_WITHIN_S:g} s")

    def _decide(self, why: str) -> None:
        """It serves, or `why` it does not."""
        if self._decided:
            return
        self._decided = True
        self._loop.timers.disarm(self)
        self._loop.forget(self._control.fileno())
        with self._lock:  # it may have been quicker than the thread that started it
            process = self._process
        if process is not None and not why:
            self._served(process.pid)  # the socket stays open: its end is this process's end
        else:
            self._control.close()
            threading.Thread(target=self._fail, args=(process, why), name="zcserve-upgrade", daemon=True).start()

    def _fail(self, process: subprocess.Popen[bytes] | None, why: str) -> None:
        """Wait for its end, after which nobody writes into the memory that it was handed."""
        if process is not None:
            process.kill()
            why += f" (process {process.pid}, {_ending(process.wait())})"
        self._loop.call_soon(partial(self._failed, why))

    def give_up(self) -> None:
        """The old process ends as well: nobody is to take over."""
        with self._lock:
            self._given_up = True
            if self._process is not None and not self._decided:
                self._process.kill()
        self._decided = True


def _run_again(handover: Handover) -> subprocess.Popen[bytes]:
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

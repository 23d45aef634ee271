"""A new program takes over: listening sockets and memory are handed on, and no client notices.

    old: freeze -> write manifest -> start the program -> wait ... close listeners, answer "Connection: close" -> drain
    new:      listeners, memory, walk -> "ready" .. "go" -> serve -> "serving" ... end of file -> reuse the memory

The new program is the old one's command line once more, in the same working directory and by the same interpreter, so
that what runs is what is installed there now. It inherits descriptors, and a variable that says which is which
(`Handover`). A program that does not know the variable finds the port in use, and ends. When the new program ends
before it serves, or takes too long, the old process goes on, and says why.

Nothing that both have is changed while both live. The old store is frozen before the manifest is begun: nothing is
evicted or given back, and what is made resident goes to memory that is not handed on. The new store puts its own
content into memory of its own or behind the old end, and holds what it took over, evicting nothing, until the socket
between the two tells that the old process is gone: it may have been sending from there to its end. Only two share: an
upgrade that is asked for earlier begins then. Meanwhile both together take the budget, and once more what has changed;
at most twice the budget, and each the memory of a process.

Both follow the changes below the root. When the new program has built what it serves, it says "ready"; the old one
makes no more changes to what it serves, and says "go"; the new one looks for changes once more, and serves. What the
old one reads for a request from then on may have changed, too: before it sends that, it asks ("?"), and the new one
says that it knows ("!"). So no client gets older content than it has seen, and no deadline is needed: until "go" comes,
or the old process ends, the new one does not serve. Programs before this protocol say none of this.

They do not accept at the same time. When the new program has looked for the last changes, it says "serving"; the old
one closes its listeners, and says so ("."); the new one accepts. In between, which is a turn of either's loop, clients
wait in the kernel's queue. While the old process answers what it has accepted before, it follows the changes as well,
and asks before each.

A connection on which a request may be under way is not closed: every client that the old process has accepted gets an
answer, which says that it was the last (`Connection: close`). A connection that asks for nothing in QUIET_S
(succession.py) is closed as at any stop.

What is odd: under a supervisor that watches one process, the old one must tell it which process its successor is.
systemd is told (supervisor.py); process 1 of a container has nothing to tell, and cannot be upgraded in this
way.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from functools import partial
from math import inf

from zcserve import log, threads
from zcserve.cache import manifest
from zcserve.cache.index import Generation
from zcserve.cache.manifest import Heir
from zcserve.cache.takeover import Memory
from zcserve.config.units import counted
from zcserve.errors import NoThreadError, reason_of
from zcserve.log import Log
from zcserve.net.inherited import Inherited
from zcserve.net.loop import Loop
from zcserve.program import Program

_log = Log(__name__)

# Not ZCSERVE_*: it is no setting, and what a shell has exported must not be taken for it.
VARIABLE = "_ZCSERVE_HANDOVER"
# Which of the listening sockets systemd has lent (activation.py), by descriptor, and their names. It stays in the
# environment for all that take over. Older programs do not look.
LENT = "_ZCSERVE_LENT"
# The new program serves within this time, or is ended: a cold load of a million files from a slow disk.
READY_WITHIN_S = 1800.0
# A program that has closed its end of the socket is ending, and its exit code says why: it has this time for it.
ENDS_WITHIN_S = 1.0
# A program that was killed has ended within this time, or waits in the kernel for a file system that hangs. It runs no
# more, and so writes nothing into the memory that it was handed.
KILLED_WITHIN_S = 1.0
# The old process closes its listeners within this time, or the new one accepts beside it: it may have been stopped.
YIELDS_WITHIN_S = 1.0
_READY, _GO, _SERVING = b"ready", b"go", b"serving"
# Instead of "go": an old process that ends at once says that none is to take over.
_END = b"no"
_ASKED, _KNOWN = b"?", b"!"
_YIELDED = b"."
# What a program says that serves and may be asked.
_KNOWING = b"serving and knowing"
# What the old process says when it awaits "ready", may ask, tells when it has closed its listeners, and was drained: in
# words, of which older programs say and see fewer, or none.
AWAITS_READY = "_ZCSERVE_AWAITS_READY"
_ASKS, _YIELDS, _DRAINED = "asks", "yields", "drained"
# While the new program waits for "go", it looks so often whether it is to end.
STOPPING_SEEN_S = 0.1
_RECV_BYTES = 64


@dataclass(frozen=True, slots=True)
class Handover:
    """What a process leaves to the next one: descriptors, listening sockets each with the port that was asked for.

    As JSON in VARIABLE it is the same for all formats of the manifest: a program that cannot use the memory knows what
    to close.
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

    def __init__(self, handover: Handover, *, awaits_ready: str = "", lent: Mapping[int, str] | None = None) -> None:
        self._words = awaits_ready.split()
        self.descriptors = handover.descriptors()
        for fd in self.descriptors:
            os.set_inheritable(fd, False)
        self.pid = handover.pid
        self.listeners = Inherited(handover.listeners, lent)
        self._control = socket.socket(fileno=handover.control)
        self._control.setblocking(False)
        self._manifest = handover.manifest
        self._memory = Memory(tuple(handover.slabs), handover.pages)

    @property
    def is_drained(self) -> bool:
        """Whether it was told to send its clients elsewhere."""
        return _DRAINED in self._words

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Predecessor | None:
        """The process that started this one in order to be succeeded by it, if one did; said once."""
        text, awaits_ready = environ.pop(VARIABLE, ""), environ.pop(AWAITS_READY, "")
        if not text:
            return None
        lent = {int(fd): name for fd, name in json.loads(environ.get(LENT, "{}")).items()}
        return cls(Handover(**json.loads(text)), awaits_ready=awaits_ready, lent=lent)

    def adopt(self, heirs: Mapping[str, Heir]) -> dict[str, Generation]:
        """What it serves of each of these sites, its bodies resident here as well; of those left out it had nothing
        that can be used."""
        served = manifest.adopt(self._manifest, self._memory, heirs)
        os.close(self._manifest)
        if served:
            store = next(iter(heirs.values())).loader.store
            files = counted(store.resident, "resident file")
            _log.info("upgrade: %s taken over from process %d", files, self.pid)
        else:
            _log.warning("upgrade: what process %d has in memory is of another shape, all is loaded anew", self.pid)
        return served

    def await_go(self, is_stopping: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the old process changes nothing any more in what it serves: then what changed before is known here
        as well, if one looks, and no client meets older content than it has seen. Or until it ends. False where this
        process is to end, or the old one has said so. The old process ends this one after a time."""
        if self._words:
            poll = select.poll()  # select(2) knows no number above 1023, and this one is as high as the old process's
            poll.register(self._control, select.POLLIN)
            with suppress(OSError):  # it has ended; what it said last can be read
                self._control.send(_READY)
            with suppress(OSError):
                while not is_stopping() and not poll.poll(STOPPING_SEEN_S * 1000):
                    pass
                return self._control.recv(len(_GO)) != _END and not is_stopping()
        return not is_stopping()

    def succeed(self, loop: Loop, gone: Callable[[], None], when_known: Callable[[Callable[[], None]], None]) -> None:
        """This process serves: tell it, hear when it is gone, and wait until it accepts no more. `when_known` calls
        back when all that has changed by now is served. In the loop's thread, before the first turn. Raises OSError."""
        self.listeners.close()
        accepts = _YIELDS in self._words

        def tell_known() -> None:
            with suppress(OSError):
                self._control.send(_KNOWN)

        def on_control(_: int) -> None:
            nonlocal accepts
            with suppress(BlockingIOError):
                with suppress(ConnectionError):
                    while told := self._control.recv(_RECV_BYTES):
                        accepts = accepts and _YIELDED not in told
                        for _ in range(told.count(_ASKED)):
                            when_known(tell_known)
                accepts = False
                loop.forget(self._control.fileno())
                self._control.close()
                gone()

        loop.add(self._control.fileno(), on_control)  # first: when it fails, the old process goes on
        with suppress(OSError):
            self._control.send(_KNOWING if _ASKS in self._words else _SERVING)
        until = time.monotonic() + YIELDS_WITHIN_S
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while accepts and (left := until - time.monotonic()) > 0:
            poll.poll(left * 1000)
            on_control(0)


class _Outcome(Enum):
    OPEN = "it ended before it served"
    SERVES = "it serves"
    FAILS = "it does not serve"
    GIVEN_UP = "the server ends"


class Successor:
    """The program that is to take over from this one, from its start until it serves. Belongs to the loop's thread.

    `served` is told its process id, `failed` why it does not serve; then it has ended, or was killed. One of them is
    called, unless it is given up. Before it serves, `ready` is called, and `go` lets it.

    One thread writes the manifest and starts the program, another waits for its end. Both are there from the beginning:
    nothing has to be had in order to tell that an upgrade failed. (They are two, since a child belongs to the thread
    that started it until this ends, and a process's children are looked for at its main thread.)

    The loop never waits for these threads, since either may hang. The outcome is the loop's, the program is the first
    thread's. The loop sets the outcome, then looks for a program to end; the thread sets the program, then looks at the
    outcome. So at least one of them ends a program that is not wanted.
    """

    armed = inf

    def __init__(
        self,
        loop: Loop,
        served: Callable[[int], None],
        failed: Callable[[str], None],
        ready: Callable[[], None] = lambda: None,
        is_drained: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_drained` is asked once the memory is frozen, in any thread. Raises OSError."""
        self._loop = loop
        self._ready = ready
        self._is_drained = is_drained
        self._said = b""
        self._questions: deque[Callable[[], None]] = deque()  # what to call when the new program knows
        self._served = served
        self._failed = failed
        self._outcome = _Outcome.OPEN
        self._why: str = _Outcome.OPEN.value  # should it fail
        self._why_not_started = ""
        self._told = False
        self._is_killed = False
        self._begun = threading.Event()  # the program is started, or will not be
        self._program: Program | None = None
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
        program = self._program
        ending = f" (process {program.pid}, {_ending(program.wait())})" if program is not None else ""
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
            if self._outcome is _Outcome.OPEN:
                self._program = run_again(handover, is_drained=self._is_drained())
                self._end_if_unwanted()
        except Exception as error:
            self._why_not_started = f"it could not be started: {str(error) or reason_of(error)}"
        finally:
            self._theirs.close()
            if fd >= 0:
                os.close(fd)
            self._begun.set()
            self._loop.call_soon(self._take_over)

    def _end_if_unwanted(self) -> None:
        program = self._program
        if program is not None and self._outcome in (_Outcome.FAILS, _Outcome.GIVEN_UP):
            self._is_killed = True
            program.kill()

    def _on_control(self, _: int) -> None:
        while self._outcome in (_Outcome.OPEN, _Outcome.SERVES):
            try:
                told = self._control.recv(_RECV_BYTES)
            except BlockingIOError:
                return
            except OSError:
                told = b""
            if self._outcome is _Outcome.SERVES:
                if not self._heard(told):
                    return
                continue
            self._said += told
            if told and self._said == _READY:
                self._ready()
                continue
            if not told:
                self._decide(_Outcome.FAILS, ends_within_s=ENDS_WITHIN_S)
            elif self._said not in (_SERVING, _READY + _SERVING, _READY + _KNOWING):
                self._decide(_Outcome.FAILS)
            self._take_over()

    def _take_over(self) -> None:
        """The program has said that it serves, and is known: it may be quicker than the thread that has started it."""
        program = self._program
        says_so = self._said.endswith((_SERVING, _KNOWING))
        if self._outcome is _Outcome.OPEN and says_so and program is not None and not self._has_ended():
            self._decide(_Outcome.SERVES)
            self._served(program.pid)
            with suppress(OSError):
                self._control.send(_YIELDED)

    def _has_ended(self) -> bool:
        """Whether the program has ended since: the listeners are not closed for that."""
        try:
            return not self._control.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def ask(self, known: Callable[[], None]) -> None:
        """Call `known` when the new program serves, and has taken in all that has changed by now; or when it has ended,
        since then nothing is older. An older program cannot be asked."""
        self._questions.append(known)
        if self._outcome is _Outcome.SERVES:
            self._put_questions(1)
        elif self._outcome is not _Outcome.OPEN:
            self._answer_all()

    def _put_questions(self, count: int) -> None:
        try:
            if self._said.endswith(_KNOWING) and self._control.send(_ASKED * count) == count:
                return
        except OSError:
            pass
        self._answer_all()

    def _heard(self, told: bytes) -> bool:
        """The program that serves says that it knows; False when it has ended."""
        for _ in range(min(told.count(_KNOWN), len(self._questions))):
            self._questions.popleft()()
        if not told:
            self._loop.forget(self._control.fileno())
            self._answer_all()
        return bool(told)

    def _answer_all(self) -> None:
        while self._questions:
            self._questions.popleft()()

    def go(self) -> None:
        """Let the new program serve."""
        with suppress(OSError):  # it ended, or was given up
            self._control.send(_GO)

    def due(self) -> float:
        return self._until

    def expire(self) -> None:
        if self._outcome is _Outcome.OPEN:
            self._why = f"it did not serve within {READY_WITHIN_S:g} s"
            self._decide(_Outcome.FAILS)
        elif not self._is_killed:
            self._end_if_unwanted()
            self._await_its_end(KILLED_WITHIN_S)
        elif self._outcome is _Outcome.FAILS and self._program is not None:
            self._tell(f" (process {self._program.pid} was killed, but waits for a file system that hangs)")

    def give_up(self) -> None:
        """The old process ends as well: no program is to take over."""
        if self._outcome is _Outcome.OPEN:
            self._decide(_Outcome.GIVEN_UP)

    def forbid(self) -> None:
        """As `give_up`, for a signal's handler in a process that ends at once."""
        if self._outcome is _Outcome.OPEN:
            self._say_no()
            if self._program is not None:
                self._program.kill()

    def _say_no(self) -> None:
        """To a program that is just being started, and cannot be killed yet: this process may end before it can."""
        with suppress(OSError):
            self._control.send(_END)

    def _await_its_end(self, within_s: float) -> None:
        self._until = self._loop.now + within_s
        self._loop.timers.arm(self)

    def _decide(self, outcome: _Outcome, ends_within_s: float = 0.0) -> None:
        """The outcome is known. A program that is not to serve is ended, unless it `ends_within_s` by itself; `_over`
        hears of its end."""
        self._loop.timers.disarm(self)
        self._outcome = outcome
        if outcome is _Outcome.FAILS:
            self._await_its_end(ends_within_s or KILLED_WITHIN_S)
        if outcome is _Outcome.SERVES:  # the socket stays open: its end is this process's end
            self._put_questions(len(self._questions))
        else:
            self._say_no()
            self._loop.forget(self._control.fileno())
            self._control.close()
            self._answer_all()
        if not ends_within_s:
            self._end_if_unwanted()

    def _over(self, ending: str) -> None:
        """The program has ended, after which nothing writes into the memory that it was handed; or it never began."""
        if self._outcome is _Outcome.OPEN:
            self._decide(_Outcome.FAILS)
        if self._outcome is _Outcome.FAILS:
            self._tell(ending)

    def _tell(self, ending: str) -> None:
        if not self._told:
            self._told = True
            self._loop.timers.disarm(self)
            self._failed((self._why_not_started or self._why) + ending)


def run_again(handover: Handover, *, is_drained: bool = False) -> Program:
    log.put_back()
    words = f"{_ASKS} {_YIELDS}" + f" {_DRAINED}" * is_drained
    environ = {**os.environ, VARIABLE: json.dumps(asdict(handover)), AWAITS_READY: words}
    return Program([sys.executable, *sys.orig_argv[1:]], environ, handover.descriptors())


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"

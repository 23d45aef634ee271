"""The loop: the only place where anything waits.

A turn is: wait for descriptors, let their handlers do a bounded piece of work, let those go on that had more to do in
the turn before, and those that wait to call an application (calling.py), fire the deadlines. Each handler and each step
comes once in a turn, and of the steps so few that what has come meanwhile does not wait for all of them.

A report is for the descriptor's owner at the time of the report. A number that is given up while a batch of reports is
worked through may belong to another connection at once (accept takes the lowest free number), and a report that the
old owner left, such as an error, would end the new one. So the number is noted, and reports of this batch for it are
dropped. The new owner loses nothing: none of its own events can be in a batch that was fetched before it was watched.

Other threads reach the loop through `call_soon`: a queue and an eventfd. No exception ends the loop: it is logged, and
the handler's own `fail` (a connection closes itself) is called.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from math import inf

from zcserve import threads
from zcserve.agenda import Agenda
from zcserve.cache.evictor import tick_at
from zcserve.events import Event
from zcserve.log import Log
from zcserve.net.calling import CALLING_S, Calling
from zcserve.net.counts import SHORT_TURN_S, Times
from zcserve.net.forks import Ended, end, keep_in_children, kin, let_go_in_children
from zcserve.net.front import Front, Kind
from zcserve.net.timers import Timers
from zcserve.net.wake import Wake

_log = Log(__name__)

Handler = Callable[[int], object]

# Steps of a turn. One may be all of `pipeline_max`: some milliseconds, for which the others wait.
STEPS_MAX = 16


class Loop:
    """One thread's event loop.

    now          the monotonic clock at the turn's start
    tick         the same, as entries have it (cache/evictor.py)
    rounds       counts turns
    busy_s       seconds of all of them
    long_turns   those that took longer than SHORT_TURN_S
    calling      which applications are called in this turn
    each_turn    event: a turn has begun
    handed_over  event: the fast lane hands the connection with this descriptor over
    """

    def __init__(self, front: Front) -> None:
        """`front` is this loop's: it is closed with it."""
        self.front = front
        self.timers = Timers()
        self.handlers: dict[int, Handler] = {}
        self.now = time.monotonic()
        self.tick = tick_at(self.now)
        self.rounds = 0
        self.busy_s = 0.0
        self.long_turns = Times()
        self.calling = Calling()
        self.each_turn: Event[()] = Event()
        self.handed_over: Event[int] = Event()
        self._wakes: Agenda[object] = Agenda()
        self._again: dict[Callable[[], object], None] = {}
        self._given_up: set[int] = set()  # numbers whose reports in the batch at hand are dropped
        self._calls: deque[Callable[[], object]] = deque()
        self._wake: Wake | None = Wake()
        self._stopped = False
        self.add(self._wake.fd, self._woken)
        let_go_in_children(self)

    def add(self, fd: int, handler: Handler, kind: Kind = Kind.SOURCE) -> None:
        """Call `handler(mask)` when `fd` is ready."""
        self.front.watch(fd, kind)
        self.handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Never call the handler of `fd` again; its owner closes it."""
        self.release(fd)
        self.front.forget(fd)

    def release(self, fd: int) -> None:
        """Never call the handler of `fd` again; the fast lane has the descriptor from now on."""
        self.handlers.pop(fd, None)
        self._given_up.add(fd)

    def again(self, step: Callable[[], object]) -> None:
        """Call `step` in the next turn: there is more to do, and others wait. Once, however often this is said."""
        self._again[step] = None

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call `call` in the loop's thread soon; never, when it has ended. Other threads may use this method alone."""
        self._calls.append(call)
        if (wake := self._wake) is not None:
            wake.tell()

    def wake_at(self, at: float, owner: object) -> None:
        """A turn is wanted then, for what a timer's slot is too coarse. An owner has one such time; inf: none."""
        self._wakes.set(owner, at)

    def stop(self) -> None:
        """End `run` after this turn."""
        self._stopped = True

    def run(self) -> None:
        """Turn until stopped."""
        while not self._stopped:
            self.run_once()

    @contextmanager
    def turning(self) -> Iterator[None]:
        """Turn in a thread of its own while the caller does something long, which must not touch the loop: the content
        is loaded, and what listens already answers meanwhile. Raises NoThreadError."""
        is_over = False

        def turn() -> None:
            while not is_over:
                self.run_once()

        def end() -> None:
            nonlocal is_over
            is_over = True

        thread = threads.start(turn, "zcserve-start")
        try:
            yield
        finally:
            self.call_soon(end)
            thread.join()

    def run_once(self) -> None:
        """One turn."""
        events = self.front.poll(self._timeout())
        self.now = time.monotonic()
        self.tick = tick_at(self.now)
        self.rounds += 1
        self.calling.left = CALLING_S
        again = self._steps() if self._again else None
        given_up = self._given_up
        if given_up:
            given_up.clear()
        try:
            for step in self.each_turn.subscribers:  # without a call around each: this is on the way of every turn
                step()
        except Exception:
            self._failed(step)
        handlers = self.handlers
        for fd, mask in events:
            if fd in given_up:
                continue
            handler = handlers.get(fd)
            if handler is None:
                for take_over in self.handed_over.subscribers:
                    self._guarded(partial(take_over, fd))
            else:
                try:
                    handler(mask)
                except Exception:
                    self._failed(handler)
        if again:
            for step in again:
                self._guarded(step)
        if self.calling.waiting or self.calling.quiet:
            self.calling.run(self._guarded)
        self.timers.fire(self.now, self._guarded)
        took = time.monotonic() - self.now
        self.busy_s += took
        if took > SHORT_TURN_S:
            self.long_turns.add(took)

    def _steps(self) -> list[Callable[[], object]]:
        """Those that go on in this turn: the oldest."""
        steps = list(islice(self._again, STEPS_MAX))
        for step in steps:
            del self._again[step]
        return steps

    def _timeout(self) -> float:
        if self._again or self.calling.waiting or self.calling.quiet:
            return 0
        timeout = self.timers.timeout(self.now)
        if (first := self._wakes.first) == inf:
            return timeout
        wait = max(first - self.now, 0.0)
        return wait if timeout < 0 else min(wait, timeout)

    def _woken(self, _: int) -> None:
        if self._wake is not None:
            self._wake.clear()
        for _ in range(len(self._calls)):
            self._guarded(self._calls.popleft())

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:
            self._failed(call)

    def _failed(self, handler: Callable[..., object]) -> None:
        _log.exception("a handler failed; its connection is closed, the server goes on")
        while isinstance(handler, partial):
            handler = handler.func
        fail = getattr(getattr(handler, "__self__", None), "fail", None)
        if fail is not None:
            try:
                fail()
            except Exception:
                _log.exception("what a failed handler belongs to could not be closed")

    def let_go(self, null: int) -> None:
        """In a forked child: give up all descriptors that are waited for. Their numbers lead to where `null` leads, and
        the rest of the turn at hand, and of the lane's, finds nothing to do. Another lane may have closed one and not
        have noted that yet: `null` has its number then, perhaps."""
        known = {*self.handlers, *self.front.descriptors()}
        for fd in (known | kin(known)) - {null}:
            os.dup2(null, fd, inheritable=False)
        self.front = Ended()
        self.each_turn, self.handed_over = Event(end), Event()
        self.handlers.clear()

    def close(self) -> None:
        """Give the descriptors back, and those that are held by calls which will not be made."""
        keep_in_children(self)
        self._calls.clear()
        self._again.clear()
        self.calling.clear()
        self.front.close()
        self.timers.ended()
        self._wake = None

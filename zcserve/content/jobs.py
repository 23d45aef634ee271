"""The threads that do what may block, each one job after another, and the steps that they have the loop make.

A thread waits for its step, and then goes on with what the step gave. When the server ends, a thread is not waited for:
its next step raises ClosingError.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from zcserve.cache.crew import CLOSE_WITHIN_S
from zcserve.content.builder import ClosingError
from zcserve.content.crews import Crews, Device, Strand
from zcserve.log import Log
from zcserve.net.loop import Loop

_log = Log(__name__)

# A job that waits for the loop looks so often whether the server ends.
CLOSING_SEEN_S = 0.1

Made = TypeVar("Made")
Step: TypeAlias = Callable[[], object]


def _nothing() -> None:
    """A step that only waits."""


class _Step(Generic[Made]):
    """A step, and what it gave or raised until that is taken: what is raised refers to the frames that refer to this.

    over  it was made
    """

    __slots__ = ("_given", "_raised", "_step", "over")

    def __init__(self, step: Callable[[], Made]) -> None:
        self.over = threading.Event()
        self._step = step
        self._given: list[Made] = []
        self._raised: Exception | None = None

    def __call__(self) -> None:
        try:
            self._given.append(self._step())
        except Exception as error:
            self._raised = error
        finally:
            self.over.set()

    def fail(self, error: Exception) -> None:
        """It raises this, in the thread."""
        self._raised = error
        self.over.set()

    def take(self) -> Made:
        """What it gave. Raises what it raised. Once."""
        raised, self._raised = self._raised, None
        try:
            if raised is not None:
                raise raised
            return self._given.pop()
        finally:
            del raised


class PausedError(Exception):
    """Another process takes over: nothing is replaced any more."""


@dataclass(slots=True)
class Counters:
    """What became of the content since the start."""

    flips: int = 0
    failed: int = 0
    patches: int = 0
    changed: int = 0  # resources that patches replaced, added or took away
    rescans: int = 0  # walks of everything because the watcher lost track, or a patch failed
    live_since: float = field(default_factory=time.time)  # when the live generation came, since 1970

    def follow(self, old: Counters) -> None:
        """Go on from those of the site's content before this, which this one has replaced."""
        self.flips += old.flips + 1
        self.failed += old.failed
        self.patches += old.patches
        self.changed += old.changed
        self.rescans += old.rescans


class Jobs:
    """The jobs of one site, of three kinds. `patches` also makes the last step of a release, so that nothing is patched
    meanwhile."""

    def __init__(self, loop: Loop, closing: threading.Event, counters: Counters, crews: Crews, device: Device) -> None:
        """`closing` is set when the server ends; `crews` have the threads, and `device` tells where the site's root
        lies. Raises NoThreadError."""
        self.call_soon = loop.call_soon
        self._front = loop.front
        self._closing = closing
        self._counters = counters
        self.patches = crews.strand("zcserve-content", device, gives_way=True)
        self.builders = crews.strand("zcserve-builder", device)
        self._garbage = crews.garbage
        self._strand = partial(crews.strand, device=device)
        self._strands = [self.patches, self.builders]

    def strand(self, kind: str) -> Strand:
        """A further kind: closed with the others. Raises NoThreadError."""
        self._strands.append(self._strand(kind))
        return self._strands[-1]

    def submit(self, strand: Strand, job: Callable[[], object]) -> None:
        """Have a thread do a job when those before it are done; never, when the server ends."""
        if not self._closing.is_set():
            strand.submit(partial(self._guarded, job))

    def _guarded(self, job: Callable[[], object]) -> None:
        try:
            job()
        except (ClosingError, PausedError):
            pass
        except Exception:
            _log.exception("the content could not be replaced, the old content goes on")
            self._counters.failed += 1

    def in_loop(self, step: Callable[[], Made]) -> Made:
        """Have the loop make a step, between two turns, and wait until it has; what it gave. Raises ClosingError."""
        return self._made_by(self.call_soon, step)

    def in_turns(self, steps: Iterable[Step]) -> None:
        """Have the loop make steps, a turn for each, and wait until all are made: once, for a thread that waits has to
        be given a core again. What one raises. Raises ClosingError."""
        over = _Step(_nothing)
        self.call_soon(partial(self._make_next, iter(steps), over))
        self._await(over)

    def _make_next(self, steps: Iterator[Step], over: _Step[None]) -> None:
        try:
            if (step := next(steps, None)) is not None:
                step()
                self.call_soon(partial(self._make_next, steps, over))
                return
        except Exception as error:
            over.fail(error)
            return
        over()

    def when_passed(self, then: Callable[[], None]) -> None:
        """As `Front.when_passed`, of what steps have told it by now. In any thread."""
        self.call_soon(partial(self._front.when_passed, then))

    def await_passed(self) -> None:
        """Wait until no client gets anything that steps have replaced by now. Raises ClosingError."""
        self._made_by(self.when_passed, _nothing)

    def in_patches(self, job: Callable[[], Made]) -> Made:
        """Have a thread of the patches do a job, and wait until it has; what it gave. Raises ClosingError."""
        return self._made_by(partial(self.submit, self.patches), job)

    def hold(self) -> threading.Event:
        """As `Strand.hold`, of the patches."""
        return self.patches.hold()

    def await_set(self, event: threading.Event, until: float) -> None:
        """Wait for it, or until then, of `time.monotonic`. Raises ClosingError."""
        while not event.wait(min(CLOSING_SEEN_S, max(until - time.monotonic(), 0))) and time.monotonic() < until:
            if self._closing.is_set():
                raise ClosingError

    def _made_by(self, submit: Callable[[Callable[[], None]], object], step: Callable[[], Made]) -> Made:
        one = _Step(step)
        submit(one)
        return self._await(one)

    def _await(self, one: _Step[Made]) -> Made:
        while not one.over.wait(CLOSING_SEEN_S) and not self._closing.is_set():
            pass
        if not one.over.is_set():  # and never will be: the threads end before the loop is closed
            raise ClosingError
        return one.take()

    def collect(self) -> None:
        """A release is over: have what it leaves collected, by the last of those that are under way."""
        self._garbage.collect(is_last=not self.builders.is_crowded)

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """End the jobs: they must not write into memory that is given back. False where one goes on, or hangs."""
        self._closing.set()
        until = time.monotonic() + within_s
        ended = [strand.close(until - time.monotonic()) for strand in self._strands]
        return all(ended)

"""One content after the other, from a source into its load: asked for again when it fails, from where it ended.

    ask -> pieces -> load: all there and right -> done
                     the source failed     -> wait, ask for the rest
                     wrong content         -> wait, ask for all of it

What came before a failure stays, and what comes then is of the same version, where the source can tell (`Opened`).
Where it cannot, or an earlier run left the beginning, the digest decides; if the whole is wrong then, all of it is
asked for anew. Both are bounded: failures count from the first byte that none before had brought.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from zcserve.errors import ZcserveError
from zcserve.fleet.pacing import Backoff, Pauses, Slowness, TokenBucket
from zcserve.fleet.part import Content, Load, WrongContentError
from zcserve.fleet.sources.source import Opened, Source, SourceError

# An object that is wrong from its first byte on is asked for so often in all: it may just be written at the source.
WRONG_TRIES = 3
# What has brought so much has made progress: its failures are counted anew.
PROGRESS_BYTES = 1 << 16


class ObjectError(ZcserveError):
    """An object cannot be had; the message says why, without its path."""


class CancelledError(ZcserveError):
    """The run is to end."""


def _ignore(*_: object) -> None:
    pass


@dataclass(slots=True)
class Pace:
    """What all threads of one run have in common.

    rate       a cap on the bytes of all of them; None: none
    backoff    what is waited after a failure
    cancelled  set by whoever wants the run to end, or by the run that ends: each wait of its threads ends
    """

    rate: TokenBucket | None = None
    backoff: Backoff = field(default_factory=Backoff)
    cancelled: threading.Event = field(default_factory=threading.Event)
    pauses: Pauses = field(default_factory=Pauses)
    slowness: Callable[[], Slowness] = Slowness
    lock: threading.Lock = field(default_factory=threading.Lock)

    def go_on(self) -> None:
        """Raises CancelledError."""
        if self.cancelled.is_set():
            raise CancelledError("cancelled")

    def wait(self, seconds: float) -> None:
        """Raises CancelledError."""
        if seconds > 0:
            self.cancelled.wait(seconds)
        self.go_on()

    def wait_for_pauses(self) -> None:
        while True:
            with self.lock:
                left = self.pauses.left_s(time.monotonic())
            self.wait(left)
            if not left:
                return

    def count(self, count: int) -> None:
        """Note that bytes have come, and wait as the rate asks for."""
        if self.rate is not None:
            with self.lock:
                left = self.rate.take(count, time.monotonic())
            self.wait(left)


class Receiver:
    """Brings contents into their loads; for several threads.

    on_bytes  called with how many bytes have come from the source
    on_retry  called with a path, why it failed, and in how many seconds it is asked for again
    """

    def __init__(
        self,
        source: Source,
        pace: Pace,
        on_bytes: Callable[[int], object] = _ignore,
        on_retry: Callable[[str, str, float], object] = _ignore,
    ) -> None:
        self.source = source
        self.pace = pace
        self.on_bytes = on_bytes
        self.on_retry = on_retry
        self._coming: dict[int, Opened] = {}  # by the id of the thread

    def interrupt(self) -> None:
        """End each thread's wait for a source, once the run is cancelled."""
        for opened in [*self._coming.values()]:
            opened.interrupt()

    @contextmanager
    def coming(self, opened: Opened) -> Iterator[None]:
        """While an object comes in this thread."""
        own = threading.get_ident()
        self._coming[own] = opened
        try:
            yield
        finally:
            del self._coming[own]
            opened.close()

    def receive(self, load: Load, path: str, content: Content) -> None:
        """Have the load hold this content. Raises ObjectError, CancelledError, or OSError where it cannot be
        written."""
        _Reception(self, load, path, content).run()


class _Reception:
    """One content that comes in.

    version, remark  of what came last, as the source has them (`Opened`)
    furthest         the most bytes that were there when a source failed
    """

    def __init__(self, receiver: Receiver, load: Load, path: str, content: Content) -> None:
        self._receiver = receiver
        self._pace = receiver.pace
        self._load = load
        self._path = path
        self._content = content
        self._version = self._remark = ""
        self._failures = self._wrong = self._furthest = 0

    def run(self) -> None:
        while True:
            self._pace.wait_for_pauses()
            after_s = None
            try:
                self._ask()
                self._load.require(*self._content)
                return
            except WrongContentError as error:
                self._load.restart()
                self._wrong += 1
                self._version = ""
                reason = f"{error} ({self._remark})" if self._remark else str(error)
                wait_s = self._chosen(self._wrong) if self._wrong < WRONG_TRIES else None
            except SourceError as error:
                has_moved = self._load.size >= self._furthest + PROGRESS_BYTES
                self._failures = 1 if has_moved else self._failures + 1
                self._furthest = max(self._furthest, self._load.size)
                reason, after_s = str(error), error.after_s
                wait_s = self._chosen(self._failures) if error.retry else None
            if wait_s is None:
                raise ObjectError(reason)
            self._wait(reason, wait_s, after_s)

    def _chosen(self, failures: int) -> float | None:
        return self._pace.backoff.wait_s(failures, random.random())

    def _ask(self) -> None:
        """Ask for what is not there yet. Raises SourceError, WrongContentError."""
        size = self._content[0]
        if self._load.size > size:
            self._load.restart()
        if self._load.size == size:
            return
        opened = self._receiver.source.open(self._path, self._load.size, self._version)
        with self._receiver.coming(opened):
            self._version, self._remark = opened.version, opened.remark
            if opened.size not in (None, size):
                raise WrongContentError(f"has {opened.size} bytes, and the manifest says {size}")
            if opened.start != self._load.size:
                self._load.restart()
            for piece in self._timed(opened.pieces):
                if self._load.size + len(piece) > size:
                    raise WrongContentError(f"has more than the {size} bytes that the manifest says")
                self._load.write(piece)
                self._receiver.on_bytes(len(piece))
                self._pace.count(len(piece))

    def _timed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Raises SourceError where they come too slowly."""
        slowness = self._pace.slowness()
        while True:
            self._pace.go_on()
            asked_at = time.monotonic()
            piece = next(pieces, b"")
            if not piece:
                return
            if slowness.is_too_slow(len(piece), time.monotonic() - asked_at):
                raise SourceError("comes too slowly", retry=True)
            yield piece

    def _wait(self, reason: str, wait_s: float, after_s: float | None) -> None:
        if after_s is not None:
            with self._pace.lock:
                self._pace.pauses.extend(after_s, time.monotonic())
            wait_s = max(wait_s, after_s)
        self._receiver.on_retry(self._path, reason, wait_s)
        self._pace.wait(wait_s)

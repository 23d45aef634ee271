"""Loading on demand, by a few threads, while the loop goes on.

A request for a file that is being fetched already waits with the others: a thousand requests for one cold file
read it once, and are answered a few in a turn of the loop, between which others have theirs. All methods belong to the
loop's thread; the threads only run the jobs and hand the results over through `call_soon`.

A read may never return (crew.py). So a connection waits by a `Wait`, which has a clock and can be cancelled, and no job
is begun on a file system that hangs: the result is None at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import Any

from zcserve.cache.crew import CLOSE_WITHIN_S, Crew, Job
from zcserve.cache.entry import Body, Entry, device_of
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.loaders import Loads
from zcserve.cache.naming import path_of
from zcserve.cache.reading import ChangedError
from zcserve.cache.root import NO_NEWS
from zcserve.errors import reason_of
from zcserve.events import Event
from zcserve.log import Log

_log = Log(__name__)


def _shown(entry: Entry) -> str:
    return path_of(entry).decode(errors="backslashreplace")


class Renewed:
    """The entry that was asked for is not what lies on disk any more: look the resource up again."""


# How many of those that wait for one result get it in one turn: a body that each of them is sent takes 50 us to 1 ms.
HANDED_OUT_MAX = 8

# How often the log says that a file system hangs.
TOLD_EVERY_S = 60.0

# What a fetch ends with: content, "ask again", or None when the file cannot be read for now.
Fetched = Body | Renewed | None


def _nothing() -> Fetched:
    """What is brought for a site that is gone."""
    return None


class Wait:
    """One that waits for a job's result. `done` is None when it was cancelled, or has been called."""

    __slots__ = ("done", "key", "running")

    def __init__(self, key: object, running: _Running | None, done: Callable[[Any], None]) -> None:
        self.key = key
        self.running = running
        self.done: Callable[[Any], None] | None = done

    @property
    def since(self) -> float:
        """When the job was asked for, or was last seen to make progress; inf where the result is on its way."""
        return self.running.job.since if self.running is not None else inf

    def give(self, result: Any) -> None:
        """In the loop: the result is there."""
        if self.done is not None:
            self.done(result)
            self.done = None

    def fail(self) -> None:
        """`done` raised: what it belongs to is not to be trusted (net/loop.py)."""
        done, self.done = self.done, None
        while isinstance(done, partial):
            done = done.func
        fail = getattr(getattr(done, "__self__", None), "fail", None)
        if fail is not None:
            fail()


class _Running:
    """A job that was asked for, and all that wait for it."""

    __slots__ = ("job", "waiting")

    def __init__(self) -> None:
        self.job: Job
        self.waiting: dict[Wait, None] = {}


class Fetcher:
    """Loader threads, for all sites. `call_soon` runs a function in the loop's thread. A job without progress for
    `stuck_s` is stuck, and not waited for.

    outdated  event: an entry is not what lies at its path now, in a loader's thread. True: a subscriber has put what
              lies there into its place
    loads     how often content was brought, from disk or made again
    """

    def __init__(
        self,
        loads: Loads,
        threads: int,
        call_soon: Callable[[Callable[[], None]], None],
        stuck_s: float = inf,
    ) -> None:
        """Raises NoThreadError."""
        self._loads = loads
        self._opened = loads.store.opened
        self._call_soon = call_soon
        self.outdated: Event[Generation, Entry] = Event()
        self._crew = Crew(threads, "zcserve-loader", stuck_s=stuck_s)
        self.loads = 0
        self._remaking = False
        self._running: dict[object, _Running] = {}
        self._told = -inf

    @property
    def waiting(self) -> int:
        """How many wait for results."""
        return sum(len(running.waiting) for running in list(self._running.values()))

    def fetch(self, generation: Generation, base: Entry, chosen: Entry, done: Callable[[Fetched], None]) -> Wait:
        """Load `chosen`, which is `base` or one of its variants; `done` is called in the loop's thread."""
        job = self._job(generation, base, chosen)
        return self.run(chosen, job, done, device_of(chosen.identity), path_of(chosen))

    def opened(self, entry: Entry) -> Body | None:
        """The body of a file that stays on disk, where it is open already: there is nothing to fetch."""
        return self._opened.get(entry)

    def head_of(self, generation: Generation, entry: Entry) -> bytes:
        """As `Loader.head_of`, of what may not be loaded."""
        return self._loads.of(generation.root).head_of(generation.root, entry)

    def remake(self, generation: Generation, base: Entry, variant: Entry) -> None:
        """Make a variant again that was evicted, for later requests; one at a time, since it is work."""
        if not self._remaking:
            self._remaking = True
            self.run(variant, self._job(generation, base, variant), self._remade)

    def _job(self, generation: Generation, base: Entry, chosen: Entry) -> Callable[[], Fetched]:
        """To load it. What loads is asked for here: the site may go before a thread is free."""
        try:
            loader = self._loads.of(generation.root)
        except KeyError:
            return _nothing  # it is gone
        return partial(self._load, loader, generation, base, chosen)

    def _remade(self, _: Fetched) -> None:
        self._remaking = False

    def run(
        self,
        key: object,
        job: Callable[[], Any],
        done: Callable[[Any], None],
        device: bytes | None = None,
        what: bytes = b"",
    ) -> Wait:
        """Run `job` in a thread, then `done` with its result in the loop's; one job at a time for each `key`.

        A job that raises gives None and a line in the log. None is given at once where the job would be the next that
        hangs: on a `device` that does, or behind one of its own key. `what` is the file, for the log.
        """
        running = self._running.get(key)
        hangs = self._crew.is_stuck(running.job) if running is not None else self._crew.hangs(device)
        if hangs:
            self._tell(what)
            refused = Wait(key, None, done)
            self._call_soon(partial(refused.give, None))
            return refused
        if running is None:
            running = self._running[key] = _Running()
            running.job = self._crew.submit(partial(self._run, key, running, job), device)
        wait = Wait(key, running, done)
        running.waiting[wait] = None
        return wait

    def load_anew(self, entries: Iterable[Entry]) -> None:
        """What is being loaded of these is for those that wait for it already: the next request has it loaded anew. In
        the loop."""
        if self._running:
            for entry in entries:
                self._running.pop(entry, None)

    def cancel(self, wait: Wait) -> None:
        """It is not waited for any more. A job that nothing waits for, and that has not begun, is not begun."""
        wait.done = None
        running, wait.running = wait.running, None
        if running is None:
            return
        running.waiting.pop(wait, None)
        if not running.waiting and self._crew.withdraw(running.job) and self._running.get(wait.key) is running:
            del self._running[wait.key]

    def _tell(self, what: bytes) -> None:
        now = time.monotonic()
        if what and now - self._told > TOLD_EVERY_S:
            self._told = now
            _log.error(
                "%s: its file system hangs: what is not in memory is answered 503",
                what.decode(errors="backslashreplace"),
            )

    def _run(self, key: object, running: _Running, job: Callable[[], Any]) -> None:
        result: Any = None
        try:
            result = job()
        except Exception:
            _log.exception("a job of the loader failed")
        self._call_soon(partial(self._deliver, key, running, result))

    def _deliver(self, key: object, running: _Running, result: Any) -> None:
        self.loads += isinstance(result, Body)
        if self._running.get(key) is running:
            del self._running[key]
        waiting, running.waiting = list(running.waiting), {}
        self._hand_out(waiting, result)

    def _hand_out(self, waiting: Sequence[Wait], result: Any) -> None:
        for wait in waiting[:HANDED_OUT_MAX]:
            # Each in a call of its own: one that fails must not keep the result from the others.
            self._call_soon(partial(wait.give, result))
        if len(waiting) > HANDED_OUT_MAX:
            self._call_soon(partial(self._hand_out, waiting[HANDED_OUT_MAX:], result))

    def _load(self, loader: Loader, generation: Generation, base: Entry, chosen: Entry) -> Fetched:
        try:
            if chosen is not base:
                loader.judge.tell_refused(map(path_of, loader.judge_siblings(generation.root, base)))
                if chosen not in base.variants:  # refused, now or since it was asked for
                    return Renewed()
                if loader.judge.is_due(chosen):  # one of the two changed meanwhile
                    raise ChangedError
            if chosen.body is not None:
                return chosen.body
            body = loader.load(generation.root, chosen)
            if generation.resources.get(base.key) is not base:  # replaced meanwhile: nothing will drop it
                loader.store.drop(chosen)
            return body
        except ChangedError:
            _log.info("%s changed since it was last read", _shown(chosen))
        except OSError as error:
            _log.warning("%s: %s", _shown(chosen), reason_of(error))
            if error.errno in NO_NEWS:
                return None
        try:
            return Renewed() if self.outdated(generation, base) else None
        except OSError as error:
            _log.warning("%s: %s", _shown(base), reason_of(error))
            return None

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """End the threads, and wait a little for the jobs at hand. False where some go on, or hang."""
        return self._crew.close(within_s)

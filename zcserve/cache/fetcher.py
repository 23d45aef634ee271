"""Loading on demand, by a few threads, while the loop goes on.

Whoever asks for a file that is being fetched already waits with the others: a thousand requests for one cold file
read it once, and are answered a few in a turn of the loop, between which others have theirs. All methods belong to the
loop's thread; the threads only run the jobs and hand the results over through `call_soon`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from zcserve.cache.entry import Body, Entry
from zcserve.cache.index import Generation
from zcserve.cache.loader import OUR_OWN_TROUBLE, ChangedError, Loader, path_of
from zcserve.log import Log
from zcserve.threads import fill

_log = Log(__name__)


class Renewed:
    """The entry that was asked for is not what lies on disk any more: look the resource up again."""


# How many of those who wait for one result get it in one turn: a body that each of them is sent takes 50 us to 1 ms.
HANDED_OUT_MAX = 8

# What a fetch ends with: content, "ask again", or None when the file cannot be read for now.
Fetched = Body | Renewed | None


class Fetcher:
    """A pool of loader threads, started with it. `call_soon` runs a function in the loop's thread."""

    def __init__(self, loader: Loader, threads: int, call_soon: Callable[[Callable[[], None]], None]) -> None:
        """Raises NoThreadError."""
        self._loader = loader
        self._call_soon = call_soon
        # Whether what lies at an entry's path now may take its place; asked in a loader's thread.
        self.may_renew: Callable[[Generation, Entry], bool] = lambda generation, entry: True
        self._pool = ThreadPoolExecutor(threads, "zcserve-loader")
        fill(self._pool, threads)
        self._remaking = False
        self._waiting: dict[object, list[Callable[[Any], None]]] = {}

    def fetch(self, generation: Generation, base: Entry, chosen: Entry, done: Callable[[Fetched], None]) -> None:
        """Load `chosen`, which is `base` or one of its variants; `done` is called in the loop's thread."""
        self.run(chosen, lambda: self._load(generation, base, chosen), done)

    def remake(self, generation: Generation, base: Entry, variant: Entry) -> None:
        """Make a variant again that was evicted, for whoever comes later; one at a time, since it is work."""
        if not self._remaking:
            self._remaking = True
            self.fetch(generation, base, variant, self._remade)

    def _remade(self, _: Fetched) -> None:
        self._remaking = False

    def run(self, key: object, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `job` in a thread, then `done` with its result in the loop's; one job at a time for each `key`.

        A job that raises gives None and a line in the log.
        """
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(done)
            return
        self._waiting[key] = [done]
        try:
            self._pool.submit(self._run, key, job)
        except RuntimeError as error:  # the server ends
            _log.error("a job of the loader cannot be run: %s", error)
            self._call_soon(partial(self._deliver, key, None))

    def _run(self, key: object, job: Callable[[], Any]) -> None:
        result: Any = None
        try:
            result = job()
        except Exception:
            _log.exception("a job of the loader failed")
        self._call_soon(lambda: self._deliver(key, result))

    def _deliver(self, key: object, result: Any) -> None:
        self._hand_out(self._waiting.pop(key, ()), result)

    def _hand_out(self, waiting: Sequence[Callable[[Any], None]], result: Any) -> None:
        for done in waiting[:HANDED_OUT_MAX]:
            # Each in a call of its own: one that fails must not keep the result from the others.
            self._call_soon(partial(done, result))
        if len(waiting) > HANDED_OUT_MAX:
            self._call_soon(partial(self._hand_out, waiting[HANDED_OUT_MAX:], result))

    def _load(self, generation: Generation, base: Entry, chosen: Entry) -> Fetched:
        try:
            if chosen.body is not None:
                return chosen.body
            body = self._loader.load(generation.root, chosen)
            if generation.resources.get(base.key) is not base:  # replaced meanwhile: nobody will drop it
                self._loader.store.drop(chosen)
            return body
        except ChangedError:
            _log.info("%s changed since it was last read", path_of(chosen).decode())
        except OSError as error:
            _log.warning("%s: %s", path_of(chosen).decode(), error.strerror or error)
            if error.errno in OUR_OWN_TROUBLE:
                return None
        if not self.may_renew(generation, base):
            return None
        try:
            self._loader.succeed(generation, base)
        except OSError as error:
            _log.warning("%s: %s", path_of(base).decode(), error.strerror or error)
            return None
        return Renewed()

    def close(self) -> None:
        """Wait for the jobs at hand and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

"""Files that are found to have changed when they are asked for, before the watcher has told of them.

What is not resident is read for a request, and may be another file by then. Its entry is replaced at once, and the
request is answered with what lies there now. While another process takes over, that could be newer than what this other
process knows: a client would meet older content after it. So from "go" on (upgrade.py) the other process is asked
first, with the new status in hand: it says so when it has taken in all that has changed by then. No time runs out: what
nothing is heard of stays unanswered until `--load-timeout`, and is 503 then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from time import sleep

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.content.builder import ClosingError

# A thread that waits for another process looks so often whether the server ends.
CLOSING_SEEN_S = 0.1
# `finish` looks so often whether the last renewal is over.
FINISHED_SEEN_S = 0.002

# Takes what to call, in the loop, when the other process knows.
Ask = Callable[[Callable[[], None]], None]
# A renewal, and what to wait for before it is done.
Begun = tuple[object, Future[None] | None]


class Renewals:
    """`renew` is for loaders' threads, `finish` and `await_successor` for any other, the rest for the loop's."""

    def __init__(self, loader: Loader, closing: threading.Event) -> None:
        """Nothing is waited for when `closing` is set."""
        self._loader = loader
        self._closing = closing
        self.is_paused = False  # nothing is replaced but by `renew`
        self._is_succeeded = False  # the other process serves
        self._ask: Ask | None = None  # while another process takes over
        self._under_way: set[object] = set()  # those that began before

    def pause(self, ask: Ask) -> None:
        """From now on `ask` first, in the loop: it calls back when the other process knows of all changes."""
        self._ask = ask
        self.is_paused = True

    def resume(self) -> None:
        """No other process takes over."""
        self._ask = None
        self.is_paused = False

    def follow_on(self) -> None:
        """The other process serves: what is replaced from now on waits for it."""
        self._is_succeeded = True
        self.is_paused = False

    def stand_still(self) -> None:
        """Nothing is replaced any more but by `renew`."""
        self.is_paused = True

    def finish(self) -> None:
        """Wait until those that have not asked are over."""
        while self._under_way and not self._closing.is_set():
            sleep(FINISHED_SEEN_S)

    def begin(self) -> Begun:
        """In the loop: a renewal for `renew`; with a question that waits to be asked, if one has to be."""
        one = object()
        if self._ask is not None:
            return one, Future()
        self._under_way.add(one)
        return one, None

    def renew(
        self,
        generation: Generation,
        entry: Entry,
        fresh: Entry | None,
        begun: Begun,
        call_soon: Callable[[Callable[[], object]], None],
    ) -> bool:
        """Put what lies at an entry's path by now into its place; False: not now."""
        one, known = begun
        try:
            if known is not None and not self._await_known(known, call_soon):
                return False
            self._loader.put_in_place(generation, entry, fresh)
            return True
        finally:
            self._under_way.discard(one)

    def await_successor(self, call_soon: Callable[[Callable[[], object]], None]) -> None:
        """Where another process has taken over, wait until it knows of all that has changed by now. Raises
        ClosingError."""
        if self._is_succeeded and not self._await_known(Future(), call_soon):
            raise ClosingError

    def _await_known(self, known: Future[None], call_soon: Callable[[Callable[[], object]], None]) -> bool:
        def ask() -> None:
            def tell() -> None:
                if not known.done():
                    known.set_result(None)

            if self._ask is None:
                tell()
            else:
                self._ask(tell)

        call_soon(ask)
        while not known.done() and not self._closing.is_set():
            wait((known,), CLOSING_SEEN_S)
        return known.done()

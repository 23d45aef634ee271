"""The threads in which the content of all sites is made: a few, however many sites there are.

    site --> Strand --.
    site --> Strand ---+--> Crew of a few threads
    site --> Strand --'

A site's jobs of one kind are done one after another (`Strand`, as of Boost.Asio), in whichever thread of the kind is
free. A site whose file system hangs keeps one thread of each kind at most: after a second another one stands in for it
(cache/crew.py), and a file system that several sites lie on stops no more threads than work at a time. So the others
are patched and built meanwhile, until HANGING_MAX jobs of one kind hang.

A job may wait for one of a kind that stands further right, and for the loop: builders -> patches. So each kind has
threads of its own: all of one kind may wait for the other.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from zcserve.cache.crew import CLOSE_WITHIN_S, Crew
from zcserve.content.garbage import Garbage

# So many sites are worked on at a time, by each kind of threads. They wait for disks and the loop, and share one GIL.
SITES_AT_ONCE = 2
# So many jobs of each kind may hang while SITES_AT_ONCE go on: a thread each, started when it is needed.
HANGING_MAX = 14

# What a job may hang on: see `Crew.submit`.
Device = Callable[[], bytes | None]


def _nowhere() -> None:
    """A `Device` that is not known."""


class Strand:
    """Runs jobs one after another, in a thread of a crew that others use, too. Any thread may call it."""

    def __init__(self, crew: Crew, device: Device = _nowhere) -> None:
        """`device` is asked when a job is handed to the crew."""
        self._crew = crew
        self._device = device
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_handed = False  # the crew has its next job
        self._is_running = False
        self._holding: threading.Event | None = None  # its jobs wait, once those before have set this
        self._closed = False
        self._changed = threading.Condition(threading.Lock())

    def submit(self, job: Callable[[], object]) -> None:
        """Run `job` when those before it are done, unless this is closed before."""
        with self._changed:
            if self._closed:
                return
            self._waiting.append(job)
        self._hand()

    def _hand(self) -> None:
        """Have the crew run the next job, if it has none of these."""
        with self._changed:
            if self._is_handed or self._is_held or not self._waiting:
                return
            self._is_handed = True
        self._crew.submit(self._run_next, self._device())

    @property
    def _is_held(self) -> bool:
        return self._holding is not None and self._holding.is_set()

    def hold(self) -> threading.Event:
        """Begin nothing more until `go_on`, but for the jobs that wait already: what is set when these are over. It
        takes no thread meanwhile."""
        self._holding = reached = threading.Event()
        self.submit(reached.set)
        return reached

    def go_on(self) -> None:
        """After `hold`, whether that was reached or not."""
        with self._changed:
            self._holding = None
        self._hand()

    @property
    def is_awaited(self) -> bool:
        """Whether a job waits behind the one that runs."""
        return bool(self._waiting)

    @property
    def is_crowded(self) -> bool:
        """Whether jobs, of whichever strand, wait for a thread of the kind."""
        return self._crew.is_awaited

    def _run_next(self) -> None:
        with self._changed:
            if not self._waiting:
                return  # closed meanwhile
            job = self._waiting.popleft()
            self._is_running = True
        try:
            job()
        finally:
            del job  # what it holds is not kept until the next one comes
            with self._changed:
                self._is_running = self._is_handed = False
                self._changed.notify_all()
            self._hand()

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """Begin nothing any more, and wait a little for the job at hand. False where it goes on, or hangs."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            return self._changed.wait_for(lambda: not self._is_running, max(within_s, 0))


class Crews:
    """The threads of each kind. In one thread at a time. `garbage` is what their jobs leave."""

    def __init__(self) -> None:
        self.garbage = Garbage()
        self._by_kind: dict[str, Crew] = {}

    def strand(self, kind: str, device: Device = _nowhere, *, gives_way: bool = False) -> Strand:
        """One more for threads of this kind, which are called so, and rest between bursts where they give way. The
        first has one thread started, the second those that several need. Raises NoThreadError for the first: the others
        go on with what there is."""
        crew = self._by_kind.get(kind)
        if crew is None:
            crew = self._by_kind[kind] = Crew(1, kind, stand_ins=0, gives_way=gives_way)
        else:
            crew.enlarge(SITES_AT_ONCE, SITES_AT_ONCE + HANGING_MAX)
        return Strand(crew, device)

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """End the threads. False where some go on, or hang."""
        until = time.monotonic() + within_s
        crews, self._by_kind = self._by_kind, {}
        ended = [crew.close(max(until - time.monotonic(), 0)) for crew in crews.values()]
        return all(ended)

"""Threads for what may block: a disk, and what hangs instead of being read.

A file system that hangs (a server of NFS that is away, a FUSE program that stands still) stops a thread for ever, in
the kernel, where nothing can end it. So a crew counts on that:

- **A stalled job does not count.** `threads` jobs run at a time, but one that has made no progress for STALL_S is not
  among them: a further thread stands in for its own. Long jobs tell of their progress (`beat`).
- **A device stops no more threads than the crew has.** While so many jobs of one device are stalled, its others wait,
  and those of other devices go on. A job that shows no progress for `stuck_s` is *stuck*; a device with as many stuck
  jobs as the crew has threads *hangs* (`hangs`), and no more should be asked of it.
- **Threads are daemons.** `concurrent.futures` joins its threads when the interpreter ends: one that hangs would keep
  the process. `close` waits a little, and says whether all have ended.

Jobs that nobody waits for give way (`gives_way`): a burst of work, and as long a rest. A thread that works on and on is
the one that the kernel stops for others, in the middle of holding the GIL, and the loop waits until it goes on. With
rests it is not stopped, and a core is free for the loop: beside a purge of 100,000 paths, on two busy cores, a client
waits 4 ms at most with them, and 8 without (tests/wire/test_purges.py). Rests of a fifth of the burst did nothing. The
first RUSH_S of work go without: a change of some hundred files is not to take twice as long.

All threads that a crew needs while nothing hangs are started with it: later the process may get no more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf

from zcserve import threads as starting
from zcserve.errors import NoThreadError
from zcserve.log import Log

_log = Log(__name__)

# A job that has shown no progress for so long has a thread stand in for its own: a disk that works answers in
# milliseconds, one that sleeps in ten seconds.
STALL_S = 1.0
# A job that gives way works so long, less than the kernel gives a thread at a time, and rests so long.
BURST_S = 0.001
REST_S = 0.001
# A thread may have worked so much longer than it has rested before it must: the work of a purge of 3,000 paths. With
# 0.5 a client waited 5.1 ms once (engine in Python).
RUSH_S = 0.1
# Threads at most, as a multiple of those at work: enough for three devices that hang at the same time.
STAND_INS = 3
# `close` waits so long for jobs at hand.
CLOSE_WITHIN_S = 0.5

_own = threading.local()


def _nothing() -> None:
    """What a job does that is over."""


def beat() -> None:
    """The job that this thread runs has made progress. Where its crew gives way, it rests after each burst."""
    job = getattr(_own, "job", None)
    if job is None:
        return
    job.since = now = time.monotonic()
    burst = now - job.burst_since
    if burst >= BURST_S:
        _own.ahead += burst
        if _own.ahead > RUSH_S:
            time.sleep(REST_S)
            job.burst_since = time.monotonic()
            _own.ahead -= job.burst_since - now
        else:
            job.burst_since = now


class Job:
    """Something to do in a thread. `device` is what it may hang on; `since` when it was last seen to go on, and
    `burst_since` when its burst began: never, where it need not rest."""

    __slots__ = ("burst_since", "device", "since", "withdrawn", "work")

    def __init__(self, work: Callable[[], object], device: bytes | None) -> None:
        self.work = work
        self.device = device
        self.since = time.monotonic()
        self.burst_since = inf
        self.withdrawn = False


class Crew:
    """Runs jobs in `threads` threads, and in up to STAND_INS times as many more while those are stalled; or in no more,
    for jobs that must be done one after another."""

    def __init__(
        self, threads: int, name: str, *, stuck_s: float = inf, stand_ins: int = STAND_INS, gives_way: bool = False
    ) -> None:
        """`gives_way`: its jobs rest between bursts. Raises NoThreadError."""
        self._at_work_max = threads
        self._threads_max = threads * (1 + stand_ins)
        self._stuck_s = stuck_s
        self._gives_way = gives_way
        self._name = name
        self._number = 0
        self._idle = 0
        self._closed = False
        self._members: set[threading.Thread] = set()
        self._running: set[Job] = set()
        self._waiting: dict[bytes | None, deque[Job]] = {}  # by device, in the order of their turns
        self._changed = threading.Condition(threading.Lock())
        # One more than work at a time: it starts the next when it is needed itself.
        try:
            for _ in range(threads + bool(stand_ins)):
                self._start()
        except NoThreadError:
            self.close()
            raise

    def enlarge(self, threads: int, threads_max: int) -> None:
        """At least `threads` jobs run at a time from now on, and up to `threads_max` while some are stalled. Where a
        thread cannot be had, those that there are go on."""
        with self._changed:
            self._at_work_max = max(self._at_work_max, threads)
            self._threads_max = max(self._threads_max, threads_max)
            try:
                while not self._closed and len(self._members) < min(self._at_work_max + 1, self._threads_max):
                    self._start()
            except NoThreadError as error:
                _log.warning("%s", error)

    def submit(self, work: Callable[[], object], device: bytes | None = None) -> Job:
        """Run `work` in a thread, unless the crew is closed before. Any thread may call it."""
        job = Job(work, device)
        with self._changed:
            if not self._closed:
                self._waiting.setdefault(device, deque()).append(job)
                self._changed.notify()
        return job

    def withdraw(self, job: Job) -> bool:
        """Do not begin this job: it is not wanted any more. False where it has begun."""
        with self._changed:
            if job in self._running:
                return False
            job.withdrawn = True
            job.work = _nothing
            return True

    @property
    def is_awaited(self) -> bool:
        """Whether a job waits for a thread. Any thread may ask."""
        return bool(self._waiting)

    def is_stuck(self, job: Job) -> bool:
        """Whether a job that waits or runs has shown no progress for too long."""
        return time.monotonic() - job.since >= self._stuck_s

    def hangs(self, device: bytes | None) -> bool:
        """Whether a further job of a device would only wait: as many as may are stuck already, or all threads are."""
        with self._changed:
            stuck = [job for job in self._running if self.is_stuck(job)]
            if len(stuck) >= self._threads_max:
                return True
            return device is not None and sum(job.device == device for job in stuck) >= self._at_work_max

    # --- in the threads -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._number += 1
        thread = threading.Thread(target=self._run, name=f"{self._name}_{self._number}", daemon=True)
        self._members.add(thread)
        try:
            starting.begin(thread)
        except BaseException:
            self._members.discard(thread)
            raise

    def _run(self) -> None:
        _own.ahead = 0.0  # how much longer this thread has worked than rested
        idle_since = time.monotonic()
        try:
            while (job := self._next()) is not None:
                _own.job = job
                _own.ahead = max(_own.ahead - (time.monotonic() - idle_since), 0.0)
                try:
                    job.work()
                except BaseException:  # SystemExit, too: the thread is needed
                    _log.exception("a job of %s failed", self._name)
                _own.job = None
                idle_since = time.monotonic()
                job.work = _nothing  # what it holds is not kept by those that know the job
                with self._changed:
                    self._running.discard(job)
                del job  # what it holds is not kept until the next one comes
        finally:
            with self._changed:
                self._members.discard(threading.current_thread())

    def _next(self) -> Job | None:
        """The next job; None when this thread is not needed any more."""
        with self._changed:
            self._idle += 1
            try:
                while not self._closed:
                    now = time.monotonic()
                    stalled = [job for job in self._running if now - job.since >= STALL_S]
                    has_room = len(self._running) - len(stalled) < self._at_work_max
                    if has_room and (job := self._take(stalled)) is not None:
                        job.since = now
                        job.burst_since = now if self._gives_way else inf
                        self._running.add(job)
                        self._have_another_ready()
                        return job
                    if self._idle > self._at_work_max + 1:
                        return None
                    self._changed.wait(self._until_next_stall(now) if self._waiting else None)
                return None
            finally:
                self._idle -= 1

    def _take(self, stalled: list[Job]) -> Job | None:
        """A job whose device has not stopped as many as it may; each device in its turn."""
        for device, jobs in list(self._waiting.items()):
            if device is not None and sum(job.device == device for job in stalled) >= self._at_work_max:
                continue
            del self._waiting[device]
            while jobs and jobs[0].withdrawn:
                jobs.popleft()
            if jobs:
                job = jobs.popleft()
                if jobs:
                    self._waiting[device] = jobs
                return job
        return None

    def _until_next_stall(self, now: float) -> float | None:
        """Seconds until one more of those that run counts as stalled."""
        at = [job.since + STALL_S for job in self._running if now - job.since < STALL_S]
        return max(min(at) - now, 0.001) if at else None

    def _have_another_ready(self) -> None:
        """A thread must be left that waits: should this one and the others stall, it goes on with what there is."""
        if self._idle > 1 or len(self._members) >= self._threads_max:
            return
        try:
            self._start()
        except NoThreadError as error:  # those that there are go on
            _log.warning("%s", error)

    # --- ending -------------------------------------------------------------------------------------------------

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """Begin nothing any more, and wait a little for the jobs at hand. False where some go on, or hang."""
        until = time.monotonic() + within_s
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
            members = list(self._members)
        for thread in members:
            thread.join(max(until - time.monotonic(), 0))
        with self._changed:
            return not self._running  # a thread without a job touches nothing more, however slowly it ends

"""`--compress`: variants that are made by threads, beside all else.

    want(files) -> a thread for each core: read, compress -> attach -> the next request is answered with it
        `-> Batch: the thread that loads the files waits a little, then goes on without those that are not made yet

A start waits for `--compress-wait`, and so does a reload; what is not made by then follows while the files are served.
The compressors release the GIL, so the threads take all cores; they are nice, so that they take what others leave.

**A variant is attached only while its file is wanted.** What leaves the index is forgotten (`forget`) in any thread,
while a thread may be compressing it: both take the lock, so the variant is either forgotten with its file or never made
resident. What is being compressed when the server ends is thrown away: nothing waits for it.

A file that may get variants says `Vary` from its first answer on (`Loader.head_of`), so its head stays as it is.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import TypeAlias

from zcserve import threads
from zcserve.cache.codings import Codings
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.config.units import counted, size_text
from zcserve.errors import NoThreadError
from zcserve.events import Event
from zcserve.log import Log

_log = Log(__name__)

# Makes the codings that a file lacks, and hands the last step, which adds them to its entry, to a function.
Add: TypeAlias = Callable[[Root, Entry, Callable[[Callable[[], None]], None]], None]

# How often the log says how far it is.
TOLD_EVERY_S = 10.0
# Less than this is not worth a line, once the first files were told.
TOLD_BYTES_MIN = 4 << 20
# A thread that waits for a batch looks so often at what else it has to do.
LOOKED_S = 0.02
# What the threads leave to others (nice(1)).
NICE = 10
# What no file refers to is removed from `--compress-dir` so often at most, where files change one by one.
SWEPT_EVERY_S = 600.0


def threads_max() -> int:
    """One for each core that the process may use."""
    return len(os.sched_getaffinity(0))


class Batch:
    """Files that were wanted together; `left` counts those that are not done."""

    def __init__(self, left: int, changed: threading.Condition) -> None:
        self.left = left
        self._changed = changed

    def wait(self, until: float, meanwhile: Callable[[], object]) -> bool:
        """Wait until all is done or it is `until` (monotonic); whether all is. `meanwhile` is called now and then, and
        may raise."""
        while True:
            with self._changed:
                if not self.left:
                    return True
                if time.monotonic() >= until:
                    return False
                self._changed.wait(LOOKED_S)
            meanwhile()


class Job:
    """One file whose variants are to be made."""

    __slots__ = ("batch", "entry", "root")

    def __init__(self, root: Root, entry: Entry, batch: Batch) -> None:
        self.root = root
        self.entry = entry
        self.batch = batch


class _Run:
    """What was wanted since there was nothing to do: for the log."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.files = self.bytes = self.files_done = self.bytes_done = 0
        self.told = False

    def so_far(self) -> str:
        """How far it is."""
        took = time.monotonic() - self.began
        done = f"{self.files_done} of {counted(self.files, 'file')}"
        return f"{done}, {size_text(self.bytes_done)} of {size_text(self.bytes)}, {took:.0f} s"

    def result(self) -> str:
        """What came of it."""
        took = time.monotonic() - self.began
        rate = size_text(int(self.bytes_done / max(took, 0.001)))
        return f"{counted(self.files_done, 'file')}, {size_text(self.bytes_done)} in {took:.1f} s, {rate} a second"


def _add_nothing(root: Root, entry: Entry, attach: Callable[[Callable[[], None]], None]) -> None:
    """An `Add` once all is closed."""


class Variants:
    """Has `add` make the variants of files, in threads. Any thread may call it, but for `close`.

    progress  event: what the log says of it, in any thread
    """

    def __init__(self, store: Store, codings: Codings, add: Add) -> None:
        self.threads_max = threads_max()
        self.progress: Event[str] = Event()
        self._live_tags: Callable[[], set[bytes]] | None = None  # None: nothing is served yet
        self._store = store
        self._codings = codings
        self._add = add
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Job] = deque()
        self._wanted: dict[Entry, Job] = {}
        self.at_work = 0  # threads that there are
        self._run = _Run()
        self._closed = False
        self._first = True
        self._sweep_asked = False
        self._swept_at = -SWEPT_EVERY_S

    @property
    def pending(self) -> int:
        """How many files have variants to come."""
        return len(self._wanted)

    def wants(self, entry: Entry) -> bool:
        """Whether an entry's variants are to come."""
        return entry in self._wanted

    def want(self, root: Root, entries: Sequence[Entry]) -> Batch:
        """Have the variants of these files made, before those that were wanted earlier."""
        with self._changed:
            fresh = [entry for entry in entries if entry not in self._wanted]
            batch = Batch(len(fresh), self._changed)
            if not fresh or self._closed:
                batch.left = 0
                return batch
            if not self._wanted:
                self._run = _Run()
            # The smallest first: so most files have their variants soon.
            jobs = [Job(root, entry, batch) for entry in sorted(fresh, key=attrgetter("size"))]
            self._waiting.extendleft(reversed(jobs))
            self._wanted.update((job.entry, job) for job in jobs)
            run = self._run
            run.files += len(jobs)
            size = sum(job.entry.size for job in jobs)
            run.bytes += size
            if self._first or size >= TOLD_BYTES_MIN:
                run.told = True
                self._first = False
                self._tell(f"{counted(len(jobs), 'file')}, {size_text(size)}, by {counted(self.threads_max, 'thread')}")
        self._begin()
        return batch

    def follow(self, generation: Generation) -> None:
        """This generation is served now: what is to come for its files is read where they lie now, for the release
        before may be deleted."""
        for job in list(self._wanted.values()):
            if generation.resources.get(job.entry.key) is job.entry:
                job.root = generation.root

    def forget(self, entry: Entry) -> None:
        """An entry left the index: no variant of it is attached from now on."""
        if entry not in self._wanted:  # it stays there until its variants are attached
            return
        with self._changed:
            job = self._wanted.pop(entry, None)
            if job is not None:
                self._done(job)

    def tidy(self, live_tags: Callable[[], set[bytes]]) -> None:
        """Have `--compress-dir` hold nothing that is not served, once all is made, and now and then from then on.
        `live_tags` gives the ETags of all that is served, in a thread of this object's."""
        with self._changed:
            if self._closed:
                return
            self._live_tags = live_tags
        if self._codings.kept is not None:
            self._sweep_asked = True
            self._begin()

    def close(self) -> None:
        """Make nothing any more. Does not wait for threads: what they compress now is thrown away. What it was made for
        refers to it, and is referred to no more."""
        with self._changed:
            self._closed = True
            self._add, self._live_tags = _add_nothing, None
            self._waiting.clear()
            self._wanted.clear()
            self._changed.notify_all()

    # --- threads ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Have as many threads as there is work for, and one that tells of it."""
        with self._changed:
            wanted = min(self.threads_max, max(len(self._waiting), self._sweep_asked))
            missing = range(0 if self._closed else wanted - self.at_work)
            self.at_work += len(missing)
        for number in missing:
            try:
                threads.start(self._make_variants, "zcserve-compress")
                if not number and self._run.told:
                    threads.start(partial(self._tell_now_and_then, self._run), "zcserve-compress-told")
            except NoThreadError as error:
                with self._changed:
                    self.at_work -= len(missing) - number
                    if not self.at_work:
                        for job in [self._wanted.pop(job.entry) for job in self._waiting if job.entry in self._wanted]:
                            self._done(job)
                        self._waiting.clear()
                _log.warning("compress: %s", error)
                return

    def _make_variants(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (job := self._next()) is not None:
            try:
                if self.wants(job.entry):
                    self._add(job.root, job.entry, partial(self._attach, job))
            except Exception:
                _log.exception("compress: %s failed", job.entry.key.decode())
            with self._changed:
                if self._wanted.pop(job.entry, None) is not None:
                    self._done(job)

    def _next(self) -> Job | None:
        """The next file; None: this thread is not needed any more."""
        while True:
            with self._changed:
                while self._waiting and self._store.frozen and not self._closed:
                    self._changed.wait(LOOKED_S)  # another process takes over; should it not, this goes on
                if self._closed or not (self._waiting or self._sweep_asked):
                    self.at_work -= 1
                    return None
                if self._waiting:
                    return self._waiting.popleft()
                if self._wanted:  # others are at work: the last one sweeps
                    self.at_work -= 1
                    return None
                self._sweep_asked = False
            self._sweep()

    def _attach(self, job: Job, step: Callable[[], None]) -> None:
        """Have an entry's variants resident and in their place, if it is wanted still."""
        with self._changed:
            if job.entry not in self._wanted:
                return
            step()
        self._store.evicted(job.entry)  # the fast lane knows it without them

    def _done(self, job: Job) -> None:
        """With the lock: one more file."""
        run = self._run
        run.files_done += 1
        run.bytes_done += job.entry.size
        job.batch.left -= 1
        if not job.batch.left:
            self._changed.notify_all()
        if not self._wanted:
            if run.told:
                self._tell(f"done: {run.result()}{self._of_which_kept()}")
            if time.monotonic() - self._swept_at > SWEPT_EVERY_S and self._codings.kept is not None:
                self._sweep_asked = True
            self._changed.notify_all()

    def _sweep(self) -> None:
        kept, live_tags = self._codings.kept, self._live_tags
        if kept is not None and live_tags is not None:
            removed = kept.sweep(live_tags())
            self._swept_at = time.monotonic()
            if removed:
                _log.info("compress: %d kept variants removed that no file refers to", removed)

    # --- words --------------------------------------------------------------------------------------------------

    def _tell_now_and_then(self, run: _Run) -> None:
        next_at = run.began + TOLD_EVERY_S
        with self._changed:
            while self._run is run and self._wanted and not self._closed:
                self._changed.wait(max(next_at - time.monotonic(), 0))
                if time.monotonic() >= next_at and self._wanted:
                    next_at += TOLD_EVERY_S
                    self._tell(run.so_far())

    def _tell(self, told: str) -> None:
        _log.info("compress: %s", told)
        self.progress(told)

    def _of_which_kept(self) -> str:
        found, self._codings.found_kept = self._codings.found_kept, 0
        return f"; {found} variants were kept" if found else ""

"""A manifest, a source and the folders of a node: have the release of the one come from the other, complete or not at
all.

    names are checked -> what an earlier run left is read again -> what did not change is linked
        -> the rest is received by N threads -> all is on the disk -> one rename makes it visible

What fails is named by its path. A run that fails, is cancelled or is killed leaves what has come for the next one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace

from zcserve import threads
from zcserve.config.units import counted, size_text
from zcserve.errors import NoThreadError, ZcserveError, reason_of
from zcserve.fleet.below import Below, Segments, UnsafeNameError, check_names, path_of, segments_of
from zcserve.fleet.folders import Folders, Listed, Release
from zcserve.fleet.kept_listing import read_kept
from zcserve.fleet.names import base_of
from zcserve.fleet.part import Content, Part, holds
from zcserve.fleet.receiving import CancelledError, ObjectError, Pace, Receiver
from zcserve.fleet.sharing import Sharer
from zcserve.fleet.sources.source import Source
from zcserve.fleet.touched import Touched

# Connections to one source. Browsers use 6 and an origin has many nodes; 8 fill 1 Gbit/s at 10 ms with files of 100 KB.
PARALLEL, PARALLEL_MAX = 8, 64
# So many files may fail before a run ends: enough to see whether it is one object or all of them.
FAILURES_MAX = 20
# In so many releases, the last used first, is looked for what did not change: one before the last is a rollback's.
RELEASES_SEARCHED = 2

# How often it is looked whether the run is to end, while its threads work.
LOOK_AGAIN_S = 0.1

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_EMPTY = hashlib.sha256().hexdigest()


class FetchError(ZcserveError):
    """A release did not become complete.

    failures  why, by the path of each file that failed; empty where it is of none
    """

    def __init__(self, message: str, failures: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.failures = failures or {}


class DiskFullError(FetchError):
    """There is no room for the release. What has come stays for the next run."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, when something happened.

    kind         begin, waiting (another run makes the same release), kept (an earlier run left files), shared (files
                 were linked), received (a file is there), retry, complete; bytes: some more have come
    path         of the file that it is about; "" for none
    reason       why it is asked for again, or how files were shared
    wait_s       seconds until it is asked for again
    files, size  of the release, in files and bytes
    files_done, bytes_done  what of it is there
    moved        bytes that came from the source
    """

    kind: str
    path: str = ""
    reason: str = ""
    wait_s: float = 0.0
    files: int = 0
    size: int = 0
    files_done: int = 0
    bytes_done: int = 0
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a run did.

    moved   bytes that came from the source
    shared  files that did not change, and how each was shared (`zcserve.fleet.sharing`)
    """

    release: Release
    files: int
    size: int
    moved: int
    shared: dict[str, int]
    seconds: float


class Fetch:
    """One run; `run` is called once."""

    def __init__(
        self,
        manifest: Listed,
        source: Source,
        folders: Folders,
        *,
        read: Callable[[bytes], Listed] = read_kept,
        pace: Pace | None = None,
        parallel: int = PARALLEL,
        on_progress: Callable[[Progress], object] = lambda _: None,
    ) -> None:
        """`read` says what a complete release holds, of the bytes of its manifest; nothing is taken from there where
        the tree is another than the folder's. `on_progress` is called by one thread at a time, and must be quick."""
        self._manifest = manifest
        self._source = source
        self._folders = folders
        self._read = read
        self._pace = pace or Pace()
        self._parallel = parallel
        self._on_progress = on_progress
        self._lock = threading.Lock()  # of what follows, and of the part's tree
        self._now = Progress("begin")
        self._sharer = Sharer()
        self._shared: dict[str, int] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> Fetched:
        """Raises FetchError, CancelledError; FolderError where the manifest's tree is no digest."""
        began = time.monotonic()
        try:
            release = self._run()
        except UnsafeNameError as error:
            raise FetchError(f"the manifest is refused: {error}") from None
        except OSError as error:
            raise self._told(error) from None
        self._tell("complete")
        now = self._now
        return Fetched(release, now.files, now.size, now.moved, self._shared, time.monotonic() - began)

    def _run(self) -> Release:
        listed = contents_of(self._manifest)
        segments = check_names(listed)
        self._now = replace(self._now, files=len(listed), size=sum(size for size, _ in listed.values()))
        self._tell("begin")
        release = self._folders.renew(self._manifest)
        if release is not None:
            self._have(listed.values())
            return release
        part = self._folders.begin(self._manifest.tree, self._wait_for_other)
        try:
            release = self._folders.renew(self._manifest)
            if release is not None:  # that other run made it
                part.remove()
                self._have(listed.values())
                return release
            self._make(part, {place: listed[name] for name, place in segments.items()}, segments)
            self._pace.go_on()
            return self._folders.publish(part, self._manifest)
        finally:
            part.close()

    def _wait_for_other(self) -> None:
        if self._now.kind != "waiting":
            self._tell("waiting")
        self._pace.go_on()

    def _make(self, part: Part, wanted: dict[Segments, Content], segments: dict[str, Segments]) -> None:
        """Have the part's tree hold all of it. Raises FetchError, CancelledError, OSError."""
        kept = part.keep(wanted)
        if kept:
            self._have([wanted[place] for place in kept])
            self._tell("kept")
        left = {place: content for place, content in wanted.items() if place not in kept}
        self._share_unchanged(part, left, segments)
        self._repeat_within(part, wanted, left)
        self._part_with_unpaired(part, wanted, left)
        missing: dict[Content, list[Segments]] = {}
        for place, content in left.items():
            missing.setdefault(content, []).append(place)
        self._require_room(part, missing)
        # The largest first, so that no thread is alone with one in the end.
        work = deque(sorted(missing.items(), key=lambda item: -item[0][0]))
        self._receive_all(part, work)

    # --- what did not change ----------------------------------------------------------------------------------------

    def _share_unchanged(self, part: Part, left: dict[Segments, Content], segments: dict[str, Segments]) -> None:
        """Take out of `left` what a complete release has, and give it its names here."""
        before = dict(self._shared)
        releases = self._folders.complete()[:RELEASES_SEARCHED]
        if releases and left:
            with self._folders.touching() as touched:
                for release in releases:
                    if left:
                        self._share_from(release, touched, part, left, segments)
        if self._shared != before:
            self._tell("shared", reason=", ".join(f"{count} {how}" for how, count in self._shared.items()))

    def _share_from(
        self,
        release: Release,
        touched: Touched,
        part: Part,
        left: dict[Segments, Content],
        segments: dict[str, Segments],
    ) -> None:
        try:
            there = self._read(self._folders.manifest(release.tree))
            if there.tree != release.tree:
                return  # it is not the manifest of what lies there
            listed = contents_of(there)
            below = self._folders.open(release.tree)
        except (ZcserveError, FileNotFoundError):
            return  # it was removed, or its manifest is one of a later version: then all of it is fetched
        by_content = {content: name for name, content in listed.items()}
        shared = []
        try:
            for name, place in segments.items():
                content = left.get(place)
                if content is None or (source := by_content.get(content)) is None:
                    continue
                self._pace.go_on()
                own = place if listed.get(name) == content else segments_of(source)
                try:
                    if not _is_there(below, own, content, touched, release):
                        continue
                    how = part.share(below, own, place, self._sharer)
                except FileNotFoundError:
                    continue  # the release is being removed
                del left[place]
                self._shared[how] = self._shared.get(how, 0) + 1
                shared.append(content)
        finally:
            below.close()
        self._have(shared)

    def _repeat_within(self, part: Part, wanted: dict[Segments, Content], left: dict[Segments, Content]) -> None:
        """Take out of `left` what the part has under another name, and what is empty."""
        there = {content: place for place, content in wanted.items() if place not in left}
        repeated = []
        for place, content in [*left.items()]:
            if content in there:
                part.repeat(there[content], [place], self._sharer)
            elif content == (0, _EMPTY):
                load = part.open_load(_EMPTY)
                load.restart()
                part.place(load, [place], self._sharer)
            else:
                continue
            del left[place]
            repeated.append(content)
        self._have(repeated)

    def _part_with_unpaired(self, part: Part, wanted: dict[Segments, Content], left: dict[Segments, Content]) -> None:
        """Have files come anew, with all their siblings, that are there already and of which a sibling is older: a
        server takes none that is. The clock was set between two releases, or a file was written by hand."""
        siblings: dict[Segments, list[Segments]] = {}
        for place in wanted:
            name = base_of(place[-1])
            if name and (base := (*place[:-1], name)) in wanted:
                siblings.setdefault(base, []).append(place)
        for base, others in siblings.items():
            time_ns = part.time_of(base)
            if any(part.time_of(place) < time_ns for place in others):
                for place in (base, *others):
                    if place not in left:
                        part.give_up(place)
                        left[place] = wanted[place]
                        self._have([wanted[place]], -1)

    # --- what comes from the source ---------------------------------------------------------------------------------

    def _require_room(self, part: Part, missing: Collection[Content]) -> None:
        """Raises DiskFullError, before a disk is full that others write to as well."""
        needed = sum(size for size, _ in missing) - part.loaded_bytes()
        status = os.statvfs(self._folders.path)
        free = status.f_frsize * (status.f_bavail if os.geteuid() else status.f_bfree)
        if needed > free:
            raise DiskFullError(
                f"{self._folders.path}: there is no room: {size_text(needed)} are to come, {size_text(free)} are free"
            )

    def _receive_all(self, part: Part, work: deque[tuple[Content, list[Segments]]]) -> None:
        receiver = Receiver(self._source, self._pace, self._on_bytes, self._on_retry)
        ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def work_off() -> None:
            end: BaseException | None = None
            try:
                while len(self._failures) < FAILURES_MAX and (task := _next_of(work)):
                    self._receive(receiver, part, *task)
            except BaseException as error:
                end = error
            ends.put(end)

        running = 0
        errors: list[BaseException] = []
        try:
            running = self._start(work_off, min(self._parallel, len(work)))
            while running:
                with suppress(queue.Empty):
                    end = ends.get(timeout=LOOK_AGAIN_S)
                    running -= 1
                    errors += [end] if end is not None else []
                if errors or len(self._failures) >= FAILURES_MAX:
                    self._pace.cancelled.set()
                if self._pace.cancelled.is_set():
                    receiver.interrupt()
        finally:
            while running:  # interrupted: the loads are not let go of before each thread is done with its own
                self._pace.cancelled.set()
                receiver.interrupt()
                with suppress(queue.Empty):
                    ends.get(timeout=LOOK_AGAIN_S)
                    running -= 1
        self._raise(errors)

    def _start(self, work_off: Callable[[], None], count: int) -> int:
        """Start threads; how many there are. Raises NoThreadError where there are none."""
        for number in range(count):
            try:
                threads.start(work_off, f"fetch-{number}")
            except NoThreadError:
                if not number:
                    raise
                return number  # those that run do it all
        return count

    def _raise(self, errors: list[BaseException]) -> None:
        """Raise what a run has failed by: what came first was not that it was cancelled."""
        for error in errors:
            if not isinstance(error, CancelledError):
                raise error
        if self._failures and (not errors or len(self._failures) >= FAILURES_MAX):
            raise FetchError(_told_failures(self._failures), self._failures)
        if errors:
            raise errors[0]

    def _receive(self, receiver: Receiver, part: Part, content: Content, places: list[Segments]) -> None:
        path = path_of(places[0])
        load = part.open_load(content[1])
        try:
            receiver.receive(load, path, content)
            with self._lock:
                part.place(load, places, self._sharer)
                self._have([content] * len(places))
                self._tell("received", path)
        except ObjectError as error:
            with self._lock:
                self._failures[path] = str(error)
        except OSError as error:
            if error.errno in _FULL:
                raise
            with self._lock:
                self._failures[path] = reason_of(error)
        finally:
            load.close()

    # --- what is told ---------------------------------------------------------------------------------------------

    def _on_bytes(self, count: int) -> None:
        with self._lock:
            self._now = replace(self._now, moved=self._now.moved + count)
            self._tell("bytes")

    def _on_retry(self, path: str, reason: str, wait_s: float) -> None:
        with self._lock:
            self._tell("retry", path, reason, wait_s)

    def _have(self, contents: Collection[Content], sign: int = 1) -> None:
        """Count them as there; -1: as not there any more."""
        now, size = self._now, sum(size for size, _ in contents)
        self._now = replace(
            now, files_done=now.files_done + sign * len(contents), bytes_done=now.bytes_done + sign * size
        )

    def _tell(self, kind: str, path: str = "", reason: str = "", wait_s: float = 0.0) -> None:
        self._now = replace(self._now, kind=kind, path=path, reason=reason, wait_s=wait_s)
        self._on_progress(self._now)

    def _told(self, error: OSError) -> FetchError:
        path = self._folders.path
        if error.errno not in _FULL:
            return FetchError(f"{path}: {error}")
        left = self._now.size - self._now.bytes_done
        return DiskFullError(f"{path}: {reason_of(error)}: {size_text(left)} of the release are not there yet")


def _is_there(below: Below, place: Segments, content: Content, touched: Touched, release: Release) -> bool:
    """Whether a file of a release still is what it was. Raises FileNotFoundError where it goes meanwhile, OSError."""
    status = below.status(place)
    if status is None or status.st_size != content[0]:
        return False
    return not touched.is_doubtful(status, release.complete_ns) or holds(below, place, content)


def contents_of(manifest: Listed) -> dict[str, Content]:
    """Size and digest of each file, by its name."""
    return {name: (size, sha256) for name, size, sha256 in manifest.fetches()}


def _next_of(work: deque[tuple[Content, list[Segments]]]) -> tuple[Content, list[Segments]] | None:
    """What several threads work off; None: another one has the last of it."""
    with suppress(IndexError):
        return work.popleft()
    return None


def _told_failures(failures: dict[str, str]) -> str:
    path, reason = next(iter(failures.items()))
    others = f" ({counted(len(failures) - 1, 'other file')} failed, too)" if len(failures) > 1 else ""
    return f"{path}: {reason}{others}"

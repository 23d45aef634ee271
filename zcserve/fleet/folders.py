"""The release folders of a node: which releases are there, which one is served, and which may go.

    RELEASES/<tree>/          a complete release, named by its content; its files are never written again
    RELEASES/<tree>.json      its manifest; it lies there before the folder becomes visible
    RELEASES/current          a symlink to the folder that is served: what the server has for its root
    RELEASES/.part-<tree>/    one that is being made (part.py)
    RELEASES/.gone-<tree>/    one that is being removed
    RELEASES/.lock            held (flock) by whatever makes one visible, removes one or moves `current`
    RELEASES/.touched         when files of releases have got a new ctime here (touched.py)

Each change that can be seen is one rename. So a process that is killed between any two steps leaves complete releases
and remains, and no folder that lacks something. The time of a folder's last use is its own mtime.

RELEASES may be deleted, moved or mounted over beneath a process that lasts: `find_again` has it use what has the path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from zcserve.errors import UsageError, ZcserveError, reason_of
from zcserve.fleet.below import DIRECTORY_MODE, Below, segments_of
from zcserve.fleet.part import Part, holds
from zcserve.fleet.touched import LASTS, Touched, passed_ns
from zcserve.log import Log

_log = Log(__name__)

_TREE = re.compile(r"[0-9a-f]{64}")
_MANIFEST = re.compile(r"([0-9a-f]{64})\.json")
PART, GONE, NEW_MANIFEST, CURRENT, LOCK, TOUCHED = ".part-", ".gone-", ".json-", "current", ".lock", ".touched"
# How often it is looked whether another run has let go of a part.
LOOK_AGAIN_S = 0.05


class Listed(Protocol):
    """What is to be known of a manifest: the digest of its tree, itself as bytes, and name, size in bytes and sha256
    (hex digits) of each file."""

    @property
    def tree(self) -> str: ...
    def to_bytes(self) -> bytes: ...
    def fetches(self) -> Iterator[tuple[str, int, str]]: ...


class FolderError(ZcserveError):
    """A release folder cannot be made, served or removed as things are: the message says which and why."""


@dataclass(frozen=True, slots=True)
class Release:
    """A complete release.

    used_s       when it was made, fetched again or served last, in seconds since 1970
    complete_ns  when it was complete, in nanoseconds since 1970: no file of it was written later
    """

    tree: str
    used_s: float
    complete_ns: int


class Folders:
    """The directory of a node's releases. Several processes may use it at the same time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """The directory is made where it is missing. Raises UsageError."""
        self.path = os.path.abspath(os.fspath(path))
        self._fd = -1
        try:
            self._fd = self._made()
        except FileExistsError:
            raise UsageError(f"folder of releases {self.path!r} is a file; accepted: a directory") from None
        except OSError as error:
            raise UsageError(f"folder of releases {self.path!r} cannot be used: {reason_of(error)}") from None

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _made(self) -> int:
        """Raises OSError."""
        os.makedirs(self.path, DIRECTORY_MODE, exist_ok=True)
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def find_again(self) -> bool:
        """Whether the directory was gone, or another one has its path: that is used from now on, and made where it is
        missing. Raises OSError."""
        if _is_at(self._fd, self.path):
            return False
        fd = self._made()
        os.dup2(fd, self._fd, inheritable=False)  # in one step: other threads use the one or the other
        os.close(fd)
        return True

    def path_of(self, tree: str) -> str:
        """Where a release lies, or will. Raises FolderError where that is no digest."""
        if not _TREE.fullmatch(tree):
            raise FolderError(f"{tree!r} is not the digest of a release: 64 hex digits")
        return os.path.join(self.path, tree)

    def holds(self, tree: str) -> bool:
        """Whether this release is complete."""
        return self._release(tree) is not None

    def complete(self) -> list[Release]:
        """All complete releases, the last used one first. Raises OSError."""
        found = [self._release(name) for name in os.listdir(self._fd) if _TREE.fullmatch(name)]
        return sorted(filter(None, found), key=lambda release: (release.used_s, release.tree), reverse=True)

    def _release(self, tree: str) -> Release | None:
        self.path_of(tree)
        try:
            status = os.stat(tree, dir_fd=self._fd, follow_symlinks=False)
            manifest = os.stat(f"{tree}.json", dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return Release(tree, status.st_mtime, manifest.st_mtime_ns) if stat.S_ISDIR(status.st_mode) else None

    def manifest(self, tree: str) -> bytes:
        """Of a complete release. Raises OSError."""
        with open(self.path_of(tree) + ".json", "rb") as file:
            return file.read()

    def open(self, tree: str) -> Below:
        """The files of a complete release. Raises OSError."""
        return Below.at(tree, dir_fd=self._fd)

    def begin(self, tree: str, go_on: Callable[[], object] = lambda: None) -> Part:
        """The part of a release, with what an earlier run has left there. Waits while another run makes the same one,
        and calls `go_on` meanwhile, which may raise. Raises OSError."""
        path = os.path.join(self.path, PART + os.path.basename(self.path_of(tree)))
        while True:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, DIRECTORY_MODE)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # the other run is done
            if _lock(fd) and _is_at(fd, path):
                return Part(path, fd)
            os.close(fd)
            go_on()
            select.poll().poll(1000 * LOOK_AGAIN_S)  # no time.sleep: touched.py says why

    def publish(self, part: Part, manifest: Listed) -> Release:
        """Make a part visible, in which each file of its manifest has been placed. Raises OSError."""
        tree = manifest.tree
        part.settle()
        with self._locked():
            if os.path.lexists(self.path_of(tree)):  # without its manifest, so nothing says what it should hold
                self._take_away(tree)
            self._write_manifest(manifest)
            os.rename(os.path.join(part.path, "tree"), self.path_of(tree))
            os.utime(tree, dir_fd=self._fd)
            os.fsync(self._fd)
        part.remove()
        release = self._release(tree)
        assert release is not None
        return release

    def renew(self, manifest: Listed) -> Release | None:
        """Note that a release is in use, and its manifest, which may have a higher sequence; None where it is not
        complete. One in which a file is missing, or was written by hand, is taken away, unless it is served: it is
        to be made anew. Raises OSError."""
        with self._locked():
            release = self._release(manifest.tree)
            if release is not None and release.tree != self.current() and not self._is_whole(release, manifest):
                self._take_away(release.tree)
                return None
            if release is not None:
                if self.manifest(release.tree) != manifest.to_bytes():
                    self._write_manifest(manifest)
                    times = (release.complete_ns, release.complete_ns)
                    os.utime(f"{release.tree}.json", ns=times, dir_fd=self._fd)
                os.utime(release.tree, dir_fd=self._fd)
        return release

    def _is_whole(self, release: Release, manifest: Listed) -> bool:
        """Whether each file is there, of its size, and as old as the release: what was verified then. One that may have
        been written and dated back is read."""
        below, touched = self.open(release.tree), self.touched()
        try:
            for name, size, sha256 in manifest.fetches():
                status = below.status(place := segments_of(name))
                if status is None or status.st_size != size or status.st_mtime_ns > release.complete_ns:
                    return False
                if touched.is_doubtful(status, release.complete_ns) and not holds(below, place, (size, sha256)):
                    return False
            return True
        finally:
            below.close()

    # --- what gives files a new ctime -----------------------------------------------------------------------------

    def touched(self) -> Touched:
        """When that was done here. Where the list cannot be read it is empty, and the log says so."""
        try:
            with open(os.path.join(self.path, TOUCHED), "rb") as file:
                return Touched.parse(file.read())
        except FileNotFoundError:
            return Touched()
        except (OSError, ValueError) as error:
            why = reason_of(error) if isinstance(error, OSError) else str(error)
            _log.warning("%s cannot be used (%s): files are read instead", os.path.join(self.path, TOUCHED), why)
            return Touched()

    @contextlib.contextmanager
    def touching(self) -> Iterator[Touched]:
        """While files of releases get names, or lose some; as `touched`, with the span that lasts: a file may have two
        names. Raises OSError."""
        fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._fd)  # it has the clock
        try:
            begin = passed_ns(fd)
            try:
                yield self.touched().and_then(begin, LASTS)
            finally:
                end = passed_ns(fd)
                with contextlib.suppress(OSError), self._locked():  # what is not noted is read
                    self._write(TOUCHED, self.touched().and_then(begin, end).to_bytes(), f"{TOUCHED}-new")
        finally:
            os.close(fd)

    def _write_manifest(self, manifest: Listed) -> None:
        self._write(f"{manifest.tree}.json", manifest.to_bytes(), NEW_MANIFEST + manifest.tree, is_lasting=True)

    def _write(self, name: str, data: bytes, new: str, *, is_lasting: bool = False) -> None:
        """Replace a file as a whole; `is_lasting`: by one that a power cut leaves whole. Raises OSError."""
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644, dir_fd=self._fd)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if is_lasting:
                os.fsync(fd)
        os.rename(new, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    # --- the one that is served -----------------------------------------------------------------------------------

    def current(self) -> str | None:
        """The release that `current` leads to; None: there is none, or it leads elsewhere."""
        try:
            leads_to = os.readlink(CURRENT, dir_fd=self._fd)
        except OSError:
            return None
        return leads_to if _TREE.fullmatch(leads_to) else None

    def point(self, tree: str) -> None:
        """Have `current` lead to a complete release, in one step. Raises FolderError, OSError."""
        with self._locked():
            if not self.holds(tree):
                raise FolderError(f"{self.path_of(tree)}: there is no such complete release")
            new = f".{CURRENT}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=self._fd)
            os.symlink(tree, new, dir_fd=self._fd)
            os.utime(tree, dir_fd=self._fd)
            try:
                os.rename(new, CURRENT, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except IsADirectoryError:
                where = os.path.join(self.path, CURRENT)
                raise FolderError(f"{where} is a directory; accepted: nothing, or a symlink") from None
            os.fsync(self._fd)

    # --- those that may go ----------------------------------------------------------------------------------------

    def collect(
        self, keep_count: int, keep_age_s: float, never: Collection[str] = (), now_s: float | None = None
    ) -> list[str]:
        """Remove what is of no use any more; the digests of the complete releases that were removed.

        `keep_count` of the last used releases stay, as long as they were used in the last `keep_age_s`. What `current`
        leads to, and what is in `never`, stays in any case and is not counted. A part goes at the same age, unless a
        run is making it. Raises OSError.
        """
        now_s = time.time() if now_s is None else now_s
        with self._locked():
            kept = {*never, self.current()}
            others = [release for release in self.complete() if release.tree not in kept]
            old = [one.tree for at, one in enumerate(others) if at >= keep_count or one.used_s < now_s - keep_age_s]
            for tree in old:
                self._take_away(tree)
                os.unlink(f"{tree}.json", dir_fd=self._fd)
            for name in os.listdir(self._fd):
                if name.startswith(PART) and name.removeprefix(PART) not in kept:
                    self._abandon(name, now_s - keep_age_s)
                elif self._is_remains(name):
                    os.unlink(name, dir_fd=self._fd)
            gone = [name for name in os.listdir(self._fd) if name.startswith(GONE)]
        if gone:
            with self.touching():  # without the lock: it may take long, and nothing leads here any more
                for name in gone:
                    shutil.rmtree(os.path.join(self.path, name), ignore_errors=True)
        return old

    def _is_remains(self, name: str) -> bool:
        """Whether a run that was killed has left this file; to be asked with the lock."""
        match = _MANIFEST.fullmatch(name)
        return name.startswith(NEW_MANIFEST) or (match is not None and not self.holds(match[1]))

    def _abandon(self, name: str, before_s: float) -> None:
        """Take a part away that no run is making, if it was last used before then."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
            try:
                if os.fstat(fd).st_mtime < before_s and _lock(fd):
                    self._take_away(name)
            finally:
                os.close(fd)

    def _take_away(self, name: str) -> None:
        """Give a folder a name that nothing leads to, and that none has which an earlier run could not remove."""
        gone = f"{GONE}{name.removeprefix(PART)}-{time.time_ns()}"
        os.rename(name, gone, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """While what can be seen is changed: this takes milliseconds."""
        fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: str) -> bool:
    """Whether a directory still lies there: the run that had it may have been done with it."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False

"""A release folder that is being made: what is there already, what still comes in, and the step that makes it visible.

    .part-<tree>/          with a lock (flock) as long as a run makes it
        tree/              becomes the release folder; each file in it has been verified
        loads/<sha256>     what has come in so far of a content
        began              an empty file, with the time that all files have which come in

A run that is killed leaves all of it, and the next one goes on: what lies in `tree/` is read again, since a machine
that lost its power may have kept a name and not its bytes, and a load goes on where it ends. Nothing in here has a name
that a server serves.

All files that come in have one time, also those of several runs: a server takes a sibling for a file's variant only if
it is not older (`zcserve.cache.pairing`), whichever of the two came first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable

from zcserve.fleet.below import FILE_MODE, Below, Segments
from zcserve.fleet.settling import settle
from zcserve.fleet.sharing import Sharer

# What is read at once to be hashed.
PIECE_BYTES = 1 << 18

Content = tuple[int, str]  # size in bytes, sha256 as hex digits


class WrongContentError(Exception):
    """What came in is not what the manifest says: the message says how it differs."""


class Load:
    """The content of a file as it comes in. For one thread; those of several contents may be used at the same time.

    size  bytes that are there
    """

    def __init__(self, fd: int, name: bytes) -> None:
        """`fd` is its own from then on; what the file holds is read. Raises OSError."""
        self._fd = fd
        self.name = name
        self._hasher, self.size = _digest_of(fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, piece: bytes) -> None:
        """Raises OSError, with what could be written kept."""
        view = memoryview(piece)
        while view:
            count = os.pwrite(self._fd, view, self.size)
            self._hasher.update(view[:count])
            self.size += count
            view = view[count:]

    def restart(self) -> None:
        """Forget all of it. Raises OSError."""
        os.ftruncate(self._fd, 0)
        self._hasher, self.size = hashlib.sha256(), 0

    def date(self, mtime_ns: int) -> None:
        """Give the file this time. Raises OSError."""
        os.utime(self._fd, ns=(mtime_ns, mtime_ns))

    def require(self, size: int, sha256: str) -> None:
        """Raises WrongContentError where it is not this content."""
        if self.size != size:
            raise WrongContentError(f"has {self.size} bytes, and the manifest says {size}")
        if (found := self._hasher.hexdigest()) != sha256:
            raise WrongContentError(f"has sha256 {found}, and the manifest says {sha256}")


class Part:
    """`.part-<tree>/`, which this process has locked until `close`. For one thread at a time, but for its loads."""

    def __init__(self, path: str, lock_fd: int) -> None:
        """`lock_fd` is an open description of the directory, and its own from then on. Raises OSError."""
        self.path = path
        self._lock_fd = lock_fd
        os.utime(lock_fd)  # it is in use: `Folders.collect` goes by this
        self.tree = Below.at("tree", dir_fd=lock_fd, create=True)
        self._loads = Below.at("loads", dir_fd=lock_fd, create=True)
        began = os.open("began", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE, dir_fd=lock_fd)
        self._began_ns = os.fstat(began).st_mtime_ns
        os.close(began)

    def close(self) -> None:
        """Let go of it; it stays for the next run."""
        self.tree.close()
        self._loads.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def keep(self, wanted: dict[Segments, Content]) -> set[Segments]:
        """Of what an earlier run left in `tree/`, keep the files that are wanted and hold what they are to hold, and
        remove all else; the former. Raises OSError."""
        kept = set()
        for segments in [*self.tree.files()]:
            if segments in wanted and self._holds(segments, wanted[segments]):
                kept.add(segments)
            else:
                os.unlink(segments[-1], dir_fd=self.tree.directory(segments[:-1]))
        return kept

    def _holds(self, segments: Segments, content: Content) -> bool:
        status = self.tree.status(segments)
        return status is not None and status.st_size == content[0] and holds(self.tree, segments, content)

    def open_load(self, sha256: str) -> Load:
        """What has come in of this content, to be added to. Raises OSError."""
        name = os.fsencode(sha256)
        return Load(self._loads.open_file((name,), os.O_RDWR | os.O_CREAT), name)

    def loaded_bytes(self) -> int:
        """What has come in of contents that have no name yet. Raises OSError."""
        return sum(status.st_size for one in self._loads.files() if (status := self._loads.status(one)) is not None)

    def place(self, load: Load, names: Iterable[Segments], sharer: Sharer) -> None:
        """Give a content that is as it must be its names in `tree/`, which are free. Raises OSError."""
        load.date(self._began_ns)
        load.close()
        first, *others = names
        directory = self.tree.directory(first[:-1], create=True)
        os.rename(load.name, first[-1], src_dir_fd=self._loads.directory(()), dst_dir_fd=directory)
        self.repeat(first, others, sharer)

    def repeat(self, first: Segments, others: Iterable[Segments], sharer: Sharer) -> None:
        """Give a file of `tree/` more names. Raises OSError."""
        for other in others:
            self.share(self.tree, first, other, sharer)

    def share(self, source: Below, segments: Segments, to: Segments, sharer: Sharer) -> str:
        """Give a file of `source` a name in `tree/`; how it was done. Raises OSError."""
        there = self.tree.directory(to[:-1], create=True)
        if source is self.tree and segments[:-1] != to[:-1]:
            there = os.dup(there)  # the next directory may close it
            try:
                return sharer.share(source.directory(segments[:-1]), segments[-1], there, to[-1])
            finally:
                os.close(there)
        return sharer.share(source.directory(segments[:-1]), segments[-1], there, to[-1])

    def time_of(self, place: Segments) -> int:
        """When a file was written, in nanoseconds since 1970; of what has not come in yet, what it will have. Raises
        OSError."""
        status = self.tree.status(place)
        return self._began_ns if status is None else status.st_mtime_ns

    def give_up(self, place: Segments) -> None:
        """Have a file's name free again. Raises OSError."""
        os.unlink(place[-1], dir_fd=self.tree.directory(place[:-1]))

    def settle(self) -> None:
        """Have the file system write all of it to the disk, so that what becomes visible is there after a power cut as
        well. Raises OSError."""
        settle(self._lock_fd)

    def remove(self) -> None:
        """Remove what is left of it, and let go of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()


def holds(below: Below, segments: Segments, content: Content) -> bool:
    """Whether a file has this content; it is read. Raises OSError."""
    fd = below.open_file(segments)
    try:
        hasher, size = _digest_of(fd)
    finally:
        os.close(fd)
    return (size, hasher.hexdigest()) == content


def _digest_of(fd: int) -> tuple[hashlib._Hash, int]:
    """Of all that a file holds, and how much that is."""
    hasher, size = hashlib.sha256(), 0
    while piece := os.pread(fd, PIECE_BYTES, size):
        hasher.update(piece)
        size += len(piece)
    return hasher, size

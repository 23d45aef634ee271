"""A slow look at the content of all that is known, for what not even a status tells.

A mapping (mmap) that is written gives its file new times at its first write only; until the kernel has written the page
back, 30 s later or so, further writes change nothing but the content. A page that was read in between is stale, and
stays so when nothing more is written. On tmpfs, which writes nothing back, that holds as long as the mapping does. So
everything that has an ETag is read again now and then, and its hash compared. What differs is put in doubt, and told to
the watcher: from there on it is a change of which ctime alone tells (cache/doubt.py).

Nothing waits for a disk that need not. A file with a dirty page is in memory, so RWF_NOWAIT finds it; and a file that
is young (YOUNG_S) is read in any case, for the page may have left memory since it was written back. What is neither was
compared while it was young. tmpfs does not know RWF_NOWAIT, and always is memory. Other file systems that do not know
it are read while files are young: their mappings are NFS's and FUSE's own, and end in a write that has a time.

It reads READ_BYTES_PER_S and READS_PER_S at most, in steps of which none is long. A large file takes several, and is
opened for each: a descriptor that is kept would keep a file system from being unmounted.
"""

from __future__ import annotations

import errno
import os
import random
import time
from math import inf

import mmh3

from zcserve.cache.crew import beat
from zcserve.cache.doubt import put_in_doubt
from zcserve.cache.entry import Body, Entry, InPlace, Paged, each_coding, identity_of
from zcserve.cache.index import Generation
from zcserve.cache.naming import path_of
from zcserve.cache.tags import PIECE_BYTES, content_tag, is_identity_tag
from zcserve.cache.watcher import Watcher

# 17 us of CPU each, 27 with the thread's wake-ups and a busy machine: 0.3% of a core, however many files there are.
READS_PER_S = 100
READ_BYTES_PER_S = 1024 * 1024
READS_AT_ONCE = 16
# A page is written back within a minute, and compared in the next round: a million files take three hours.
YOUNG_S = 24 * 3600.0


class Reread:
    """Goes round the content of what a generation has, again and again, each round in `interval_s` or longer. One
    thread at a time."""

    def __init__(self, generation: Generation, watcher: Watcher, interval_s: float) -> None:
        self._generation = generation
        self._watcher = watcher
        self._interval_s = interval_s
        self._began = -inf
        # Somewhere: where releases follow each other quickly, no round may come to its end.
        pieces = generation.pieces
        self._piece = random.randrange(len(pieces)) if pieces else 0
        self._place = random.randrange(len(pieces[self._piece])) if pieces and pieces[self._piece] else 0
        self._waiting: list[Entry] = []  # representations of the key at hand
        self._at_hand: _Reading | None = None
        self._in_memory: dict[int, bool] = {}

    def step(self, now: float) -> float:
        """Read some content; in how many seconds to go on. What differs is dirty `now`. Raises nothing."""
        reads = read_bytes = 0
        while reads < READS_AT_ONCE and read_bytes < PIECE_BYTES:
            reading = self._at_hand = self._at_hand or self._next()
            if reading is None:
                wait = max(self._began + self._interval_s - now, 0)
                self._began, self._piece, self._place = now + wait, 0, 0
                return max(wait, reads / READS_PER_S, read_bytes / READ_BYTES_PER_S)
            reads += 1
            read_bytes += self._read(reading, now)
        return max(reads / READS_PER_S, read_bytes / READ_BYTES_PER_S)

    def _next(self) -> _Reading | None:
        """What to read next; None when the round is over."""
        pieces = self._generation.pieces  # patches come and go between two steps: one that is missed has its turn later
        while not self._waiting and self._piece < len(pieces):
            if self._place >= len(pieces[self._piece]):
                self._piece, self._place = self._piece + 1, 0
                continue
            key = pieces[self._piece][self._place]
            self._place += 1
            entry = self._generation.resources.get(key)
            if isinstance(entry, Entry) and entry.key == key:
                self._waiting = [one for one in each_coding(entry) if _is_known(one)]
        return _Reading(self._waiting.pop(0)) if self._waiting else None

    def _read(self, reading: _Reading, now: float) -> int:
        """Read a piece, or a file's status at least; how many bytes that were."""
        beat()
        try:
            fd, status = self._generation.root.open_file(reading.path)
        except OSError:
            self._at_hand = None  # looks at names find what it is
            return 0
        try:
            count = 0
            is_same = identity_of(status) == reading.identity == reading.entry.identity
            if is_same and (status.st_size == 0 or (count := self._piece_of(reading, fd, status))):
                if reading.at < status.st_size and not reading.differs:
                    return count
                if reading.is_other():
                    self._tell(reading, now)
        except OSError:
            pass
        finally:
            os.close(fd)
        self._at_hand = None
        return count

    def _piece_of(self, reading: _Reading, fd: int, status: os.stat_result) -> int:
        """Take a piece of a file in; 0: it is not to be had without a wait for a disk that is not worth it."""
        may_wait = status.st_ctime > time.time() - YOUNG_S
        piece = memoryview(reading.buffer(status.st_size))
        try:
            count = os.preadv(fd, [piece], reading.at, 0 if may_wait else os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP or not self._lies_in_memory(status.st_dev):
                return 0
            count = os.preadv(fd, [piece], reading.at)
        reading.take_in(piece[:count])
        return count

    def _lies_in_memory(self, device: int) -> bool:
        """Whether a device is a tmpfs."""
        if device not in self._in_memory:
            name = b" %d:%d " % (os.major(device), os.minor(device))
            with open("/proc/self/mountinfo", "rb") as mounts:
                lines = [line for line in mounts if name in line]
            self._in_memory[device] = any(line.partition(b" - ")[2].startswith(b"tmpfs ") for line in lines)
        return self._in_memory[device]

    def _tell(self, reading: _Reading, now: float) -> None:
        entry = reading.entry
        if not self._watcher.holds(reading.path) and entry.identity == reading.identity:
            put_in_doubt(entry)
            self._watcher.look_again(reading.path, now)


class _Reading:
    """A representation that is being read, as far as it was."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.path = path_of(entry)
        self.identity = entry.identity
        self.at = 0
        self.differs = False
        self._etag = entry.etag
        self._copy = _copy_of(entry)
        self._hasher = mmh3.mmh3_x64_128()

    def buffer(self, size: int) -> bytearray:
        """Room for the next piece."""
        return bytearray(min(size - self.at, PIECE_BYTES))

    def take_in(self, piece: memoryview) -> None:
        """It holds this at `at`."""
        if self._copy is None:
            self._hasher.update(piece)
        else:
            self.differs |= os.pread(self._copy.fd, len(piece), self._copy.offset + self.at) != piece
        self.at += len(piece)

    def is_other(self) -> bool:
        """Whether what was read is not what is known."""
        if self._copy is not None:
            return self.differs
        return self.entry.etag == self._etag != content_tag(self._hasher.digest())


def _is_known(entry: Entry) -> bool:
    """Whether a representation is read from a file of its own, and there is something to compare with."""
    if entry.made or not entry.etag:
        return False
    return not is_identity_tag(entry.etag) or _copy_of(entry) is not None


def _copy_of(entry: Entry) -> Paged | None:
    """The copy in memory of a file whose ETag says nothing of its content."""
    body: Body | None = entry.body
    is_copy = isinstance(body, Paged) and not isinstance(body, InPlace)
    return body if is_copy and is_identity_tag(entry.etag) else None  # type: ignore[return-value]

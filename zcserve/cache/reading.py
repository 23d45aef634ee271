"""The content of a file: read in one version, checked against what is known of it, hashed.

Content is read, never mapped, and the file's identity must be after the reading what the walk saw before it, or nothing
of what was read is used. Where ctime alone is another it is read once more, and must be what the ETag
says, if there is one.

What was read gives its entry its ETag: the hash of its content, or for a file over `--hash-bytes-max` its identity,
whether it becomes resident or not, so that it keeps its tag. Where the bytes go is loader.py's to decide.

All of it may block on a disk. The hash holds the GIL: large files are read and hashed in pieces.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import mmh3

from zcserve.cache.crew import beat
from zcserve.cache.doubt import know, still_holds
from zcserve.cache.entry import CONTENT_BYTES, Entry, OpenFile, identity_of, is_same_file
from zcserve.cache.tags import PIECE_BYTES, content_tag, identity_tag, tag_of

T = TypeVar("T")

# How often a file may get a new ctime while it is read.
STEADY_TRIES = 3


class ChangedError(Exception):
    """The file is not, or not any more, what its entry says."""

    def __init__(self) -> None:
        super().__init__("it changes while it is read")


class Reader:
    """Reads files, and tags their entries. Thread-safe."""

    def __init__(self, hash_bytes_max: int) -> None:
        self._hash_bytes_max = hash_bytes_max
        self._of_thread = threading.local()

    def read_whole(self, file: OpenFile, size: int) -> bytes:
        """Content of exactly `size` bytes, of one version of the file. Raises ChangedError or OSError."""
        content = _read_steadily(file, lambda: _read_all(file.fd, size + 1))
        if len(content) != size:
            raise ChangedError
        return content

    def read_tagged(self, file: OpenFile, entry: Entry) -> bytes:
        """An entry's whole content; the entry has its ETag then. Raises ChangedError or OSError."""
        content = self.read_whole(file, entry.size)
        self._learn_from(content, entry, file.identity)
        return content

    def read_small(self, fd: int, entry: Entry) -> bytes:
        """As `read_tagged`, with two system calls where the file has not changed."""
        content = os.read(fd, entry.size + 1)
        identity = identity_of(os.fstat(fd))
        if identity != entry.identity:
            if not entry.etag or not is_same_file(identity, entry.identity):
                raise ChangedError
            file = OpenFile(os.dup(fd), identity, entry.etag)
            content, identity = self.read_whole(file, entry.size), file.identity
        if len(content) != entry.size:
            raise ChangedError
        self._learn_from(content, entry, identity)
        return content

    def read_pieces(self, file: OpenFile, entry: Entry, sink: Callable[[memoryview, int], None] | None) -> None:
        """Read a file in pieces, each handed to `sink` with its offset, and tag its entry. Raises ChangedError or
        OSError, and what `sink` raises."""
        digest = _read_steadily(file, lambda: self._read_through(file, entry, sink))
        learn(entry, content_tag(digest) if digest else _identity_tag_of(entry), file.identity)

    def tag(self, file: OpenFile, entry: Entry) -> None:
        """Give an entry its ETag, should it have none, and make sure that the file is still what it was. Raises
        ChangedError or OSError."""
        if not entry.etag:
            self.read_pieces(file, entry, None)
        elif still_holds(file):
            know(entry, file.identity)
        else:
            raise ChangedError
        file.etag = entry.etag

    def _learn_from(self, content: bytes, entry: Entry, identity: bytes) -> None:
        tag = _identity_tag_of(entry) if entry.size > self._hash_bytes_max else tag_of(content)
        learn(entry, tag, identity)

    def _read_through(self, file: OpenFile, entry: Entry, sink: Callable[[memoryview, int], None] | None) -> bytes:
        """The digest of a file, b"" of one that is too large to hash."""
        hasher = mmh3.mmh3_x64_128() if entry.size <= self._hash_bytes_max else None
        buffer = self._buffer()
        at = 0
        while at < entry.size and (hasher is not None or sink is not None):
            count = os.preadv(file.fd, [buffer], at)
            if not count:
                raise ChangedError
            # A file that grew has another identity afterwards; what grew must not be written behind the extent.
            piece = buffer[: min(count, entry.size - at)]
            if hasher is not None:
                hasher.update(piece)
            if sink is not None:
                sink(piece, at)
            at += len(piece)
            beat()
        return hasher.digest() if hasher is not None else b""

    def _buffer(self) -> memoryview:
        """This thread's piece, kept between files."""
        if not hasattr(self._of_thread, "buffer"):
            self._of_thread.buffer = memoryview(bytearray(PIECE_BYTES))
        buffer: memoryview = self._of_thread.buffer
        return buffer


def learn(entry: Entry, tag: bytes, identity: bytes) -> None:
    """An entry's content was read. Raises ChangedError where it is not what was read before."""
    if entry.etag and entry.etag != tag:
        raise ChangedError
    entry.etag = tag
    know(entry, identity)


def _identity_tag_of(entry: Entry) -> bytes:
    return entry.etag or identity_tag(entry.identity[:CONTENT_BYTES])


def _read_steadily(file: OpenFile, read: Callable[[], T]) -> T:
    """What `read` makes of one version of a file, which has the file's identity before and after. Where ctime alone is
    another, and there is an ETag to compare with, it is read once more. Raises ChangedError."""
    for _ in range(STEADY_TRIES):
        made = read()
        now = identity_of(os.fstat(file.fd))
        if now == file.identity:
            return made
        if not file.etag or not is_same_file(now, file.identity):
            break
        file.identity = now
    raise ChangedError


def _read_all(fd: int, length: int) -> bytes:
    """Up to `length` bytes from the beginning."""
    content = os.pread(fd, length, 0)
    while len(content) < length and (more := os.pread(fd, length - len(content), len(content))):
        content += more
        beat()
    return content

"""A file that an application names, as segments: where the server has it in memory, its memory.

Two steps in two threads. `Part.of_path` and `Part.of_descriptor` open, stat and cut, which may wait for a disk, so they
run where the application runs. `segments` asks the site, in the loop's thread, whether the
file is one of its own and resident: then the cache's own bytes are sent. Else the descriptor is.

A part has a descriptor of its own, so that the application may close its file, and move its position, at once.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Any

from zcserve.cache.entry import Body, ForeignSpan, OpenFile, Segment, identity_of
from zcserve.cache.evictor import tick_at
from zcserve.http import encode_path
from zcserve.site.site import Site

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # NONBLOCK: never wait for a FIFO's writer


class Part:
    """`length` bytes from `offset` of an open regular file, all of them there when it was looked at."""

    __slots__ = ("file", "length", "offset")

    def __init__(self, fd: int, offset: int, count: int | None) -> None:
        """`fd` belongs to the part from now on, whatever happens. `count` None: to the end; never more than there is.

        Raises OSError where `fd` is no regular file.
        """
        status = os.fstat(fd)
        self.file = OpenFile(fd, identity_of(status))
        if not stat.S_ISREG(status.st_mode):
            raise OSError("only a regular file can be sent without a copy")
        left = max(status.st_size - offset, 0)
        self.offset = offset
        self.length = left if count is None else min(count, left)

    def __len__(self) -> int:
        return self.length

    @classmethod
    def of_path(cls, path: str | os.PathLike[str]) -> Part:
        """A whole file. Raises OSError."""
        return cls(os.open(path, _FLAGS), 0, None)

    @classmethod
    def of_descriptor(cls, file: Any, offset: int | None = None, count: int | None = None) -> Part:
        """Of a descriptor, or an object with `fileno`; `offset` None: from its position, which moves behind the part.

        Raises OSError where there is no regular file behind it, ValueError for a negative offset or count.
        """
        if (offset or 0) < 0 or (count or 0) < 0:
            raise ValueError("offset and count of a file cannot be negative")
        fd = file if isinstance(file, int) else file.fileno()
        start = _position(file, fd) if offset is None else offset
        part = cls(os.dup(fd), start, count)
        if offset is None:
            _move(file, fd, start + part.length)
        return part

    def span(self) -> ForeignSpan:
        """The part as a segment that keeps its file open."""
        return ForeignSpan(self.file, self.offset, self.length)

    def cut(self, count: int) -> None:
        """Keep the first `count` bytes."""
        self.length = min(self.length, count)


def _position(file: Any, fd: int) -> int:
    """Where a reader would go on: of a buffered file that is not where the kernel is."""
    return int(file.tell()) if hasattr(file, "tell") else os.lseek(fd, 0, os.SEEK_CUR)


def _move(file: Any, fd: int, position: int) -> None:
    if hasattr(file, "seek"):
        file.seek(position)
    else:
        os.lseek(fd, position, os.SEEK_SET)


def segments(site: Site, part: Part) -> tuple[tuple[Segment, ...], Body | None]:
    """What to send of a part, in the loop's thread, and whose memory it is (None: the file's own)."""
    if not part.length:
        return (), None
    body = _resident(site, part)
    if body is not None:
        return (body.part(part.offset, part.offset + part.length),), body
    return (part.span(),), None


def _resident(site: Site, part: Part) -> Body | None:
    """The body of the site's file that the part is of: found by where it lies, and the same by its identity."""
    try:
        path = site.root.real_path(part.file.fd)
    except OSError:  # outside of the root
        return None
    entry = site.hit(encode_path(b"/" + path))
    if entry is None or entry.identity != part.file.identity:
        return None
    body = entry.body
    if body is not None:
        site.note_use(entry, tick_at(time.monotonic()))
    return body

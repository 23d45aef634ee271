"""When names of the files of releases were given or taken here. A file whose ctime is of another time may have been
written.

Files of a release are never written. One that was, by whatever means, may not be what was verified. Its mtime tells of
that, unless it was put back (`touch -r`, `cp -p`, `rsync -t --inplace`); ctime cannot be put back. But a link from the
next release gives a file a new ctime as well, and so does the removal of an old release. So the spans of time in which
this happens are noted, by the clock of the file system itself:

    RELEASES/.touched    the version of the format, then a line for each span: begin and end, in nanoseconds since 1970

A file with a ctime behind the completion of its release, and in no span, is doubtful: it is hashed before it is
believed. Where the list is away, or cannot be read, each file with a later ctime is doubtful: slow, and right. What is
written within a span, and dated back, is not told from what is done here: some seconds a release.
"""

from __future__ import annotations

import os
import select
from bisect import bisect_left
from collections.abc import Iterable

_VERSION = b"1"
# The last so many are kept: an unchanged file has the ctime of the last link or removal, which are two spans a release.
SPANS_MAX = 64
# The clock of ctime stands still between two ticks of the kernel, 10 ms at most (CONFIG_HZ is 100 to 1000).
TICK_S, TICK_TRIES = 0.001, 100

Span = tuple[int, int]
# The end of a span that lasts.
LASTS = 1 << 63


class Touched:
    """Spans of time, in nanoseconds since 1970: what was done in one has a ctime behind its begin, and not behind its
    end."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self.spans = sorted(spans)[-SPANS_MAX:]
        self._begins = [begin for begin, _ in self.spans]

    @classmethod
    def parse(cls, data: bytes) -> Touched:
        """What `to_bytes` has made. Raises ValueError."""
        version, *lines = data.splitlines()
        if version != _VERSION:
            raise ValueError(f"is of version {version[:20]!r}, not {_VERSION!r}")
        spans = []
        for line in lines:
            begin, end = map(int, line.split())
            spans.append((begin, end))
        return cls(spans)

    def to_bytes(self) -> bytes:
        return b"".join((_VERSION, b"\n", *(b"%d %d\n" % span for span in self.spans)))

    def and_then(self, begin_ns: int, end_ns: int) -> Touched:
        """With one more."""
        return Touched((*self.spans, (begin_ns, end_ns)))

    def covers(self, ctime_ns: int) -> bool:
        """Whether a ctime is of one of the spans, of which those that began last may overlap."""
        at = bisect_left(self._begins, ctime_ns)
        return any(ctime_ns <= end for _, end in self.spans[:at])

    def is_doubtful(self, status: os.stat_result, complete_ns: int) -> bool:
        """Whether a file of a release that was complete at this time may have been written since. What has the very
        time may have: the clock stands still for some milliseconds."""
        if status.st_mtime_ns >= complete_ns:
            return True
        return status.st_ctime_ns >= complete_ns and not self.covers(status.st_ctime_ns)


def passed_ns(fd: int) -> int:
    """A time, by the clock of ctime, that has passed when this returns, and had not when it was called: what is changed
    later has a later ctime. The open file, or directory, has its times set. Raises OSError."""
    begin = now = _now_ns(fd)
    for _ in range(TICK_TRIES):
        if now > begin:
            break
        select.poll().poll(1000 * TICK_S)  # where time is faked, time.sleep may fail (libfaketime: EINVAL)
        now = _now_ns(fd)
    return begin


def _now_ns(fd: int) -> int:
    os.utime(fd)
    return os.fstat(fd).st_ctime_ns

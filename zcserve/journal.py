"""The journal of systemd: which level a line has that is written to standard error (sd-daemon(3)).

Under systemd standard error often is a stream to journald, which takes `<3>` at the beginning of a line for "an error".
So `journalctl -p warning` finds what is wrong. Elsewhere such letters would only be in the way: JOURNAL_STREAM says
whether a descriptor is that stream, by its device and inode (systemd.exec(5)).

No value from outside gives a line its level: each line gets one here, and of two journald reads the first. What is
odd: it cuts a line off at LineMax, and reads what is left as another one, which might begin with what a client has
chosen (`<0>` is shown on all terminals). So a longer line is made several here.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping

# Of one line, in bytes, with its level: LineMax of journald.conf(5) is 48 KiB, where nothing else was set.
LINE_BYTES_MAX = 47 * 1024
# journald ends a line at either.
_LINE_END = re.compile(rb"([\n\0])")
# What the rest of a line begins with, as the lines of a record do behind its first (log.py).
_REST = b"  "

_CRITICAL, _ERROR, _WARNING, _INFO, _DEBUG = b"<2>", b"<3>", b"<4>", b"<6>", b"<7>"


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether what is written to this descriptor goes to the journal."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _prefix_of(level: int) -> bytes:
    """The level of syslog(3) for one of `logging`."""
    if level >= logging.ERROR:
        return _CRITICAL if level >= logging.CRITICAL else _ERROR
    if level >= logging.WARNING:
        return _WARNING
    return _INFO if level >= logging.INFO else _DEBUG


def marked(text: bytes, level: int) -> bytes:
    """Whole lines, each with this level."""
    prefix = _prefix_of(level)
    found: list[bytes] = []
    for line in _LINE_END.split(text):
        found += (line,) if line in (b"\n", b"\0") else _cut(line, prefix)
    return b"".join(found)


def _cut(line: bytes, prefix: bytes) -> Iterator[bytes]:
    """A line as several, where it is too long for one."""
    before = prefix
    while line:
        taken = _whole(line, LINE_BYTES_MAX - len(before))
        yield before
        yield line[:taken]
        line = line[taken:]
        before = b"\n%b%b" % (prefix, _REST)


def _whole(line: bytes, most: int) -> int:
    """How many bytes, `most` at most, end with a whole character; `most` where that is no UTF-8."""
    if len(line) <= most:
        return len(line)
    ends = (at for at in range(most, max(most - 4, -1), -1) if line[at] & 0xC0 != 0x80)
    return next(ends, most)


class Gathering:
    """Makes whole lines of pieces: what others write between two pieces would end a line for journald, and the second
    piece begin one. journald shows whole lines alone, so nothing comes later for that."""

    def __init__(self) -> None:
        self._begun = b""

    def take(self, piece: bytes) -> bytes:
        """The next piece; the lines that are whole by now, and what is longer than a line may be."""
        text = self._begun + piece
        end = len(text) if len(text) > LINE_BYTES_MAX and b"\n" not in text else text.rfind(b"\n") + 1
        self._begun = text[end:]
        return text[:end] if text[:end].endswith(b"\n") or not end else text[:end] + b"\n"

    def rest(self) -> bytes:
        """The line that has begun, as a whole one."""
        begun, self._begun = self._begun, b""
        return begun + b"\n" if begun else b""

"""The access log: a request's facts are put on a queue, and a thread writes them down.

The loop's part is one append. The thread formats and writes twice a second, so a line is half a second late at most,
and reopens the file when told (after a rotation). It writes whole lines. What a full disk, or a reader that has
stopped, does not take waits; when too much waits, records are dropped and counted, and the log says how many
(outlet.py).
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import stat
import sys
import time
from collections.abc import Callable
from functools import lru_cache

from zcserve.errors import reason_of
from zcserve.http import format_date
from zcserve.journal import is_journal, marked
from zcserve.log import Log
from zcserve.net.fields import Fields
from zcserve.net.prefixes import Prefixes
from zcserve.outlet import Outlet, Replaced, Writer

_log = Log(__name__)

FLUSH_INTERVAL_S = 0.5
# Bytes that wait to be written: some seconds of full load. A record takes about so many besides what the client said.
WAITING_BYTES_MAX = 64 << 20
RECORD_BYTES = 300

# What stands behind a line: Host, the request's id, its duration in seconds; None where that is not wanted.
Behind = tuple["bytes | None", "bytes | None", "float | None"]
NOTHING: Behind = (None, None, None)
# second, peer, method, target, fields, status, content bytes; the bytes that it takes while it waits; what is behind
# it; the user, b"" for none
Record = tuple[int, str, bytes, bytes, "Fields | None", int, int, int, Behind, bytes]

_UNPRINTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


class AccessLog(Writer["Record | bytes"]):
    """Writes to `path`, or to standard output for "-". Raises OSError when the file cannot be opened, NoThreadError."""

    def __init__(self, path: str, form: str, prefixes: Prefixes, every: int = 1) -> None:
        """`every`: of so many answers without an error one is logged."""
        self._path = path
        self._every = every
        self._seen = 0  # answers without an error
        self._format: Callable[[Record], str] = as_json if form == "json" else as_combined
        self._prefixes = prefixes
        self._reopen = False
        self._reopen_after = 0  # so many bytes have come
        self._is_journal = path == "-" and is_journal(1, os.environ)  # which would cut what clients make long
        outlet = _open(path)
        try:
            super().__init__(outlet, "zcserve-access-log", WAITING_BYTES_MAX, FLUSH_INTERVAL_S)
        except BaseException:
            outlet.close()
            raise

    @property
    def left_out(self) -> int:
        """How many answers have no line since others stand for them, but for those of lanes."""
        return self._seen - (self._seen + self._every - 1) // self._every

    def record(
        self,
        peer: str,
        method: bytes,
        target: bytes,
        fields: Fields | None,
        status: int,
        length: int,
        behind: Behind = NOTHING,
        user: bytes = b"",
    ) -> None:
        """Note one answered request. Called by the loop."""
        if self._every > 1 and status < 400:
            self._seen += 1
            if (self._seen - 1) % self._every:
                return
        cost = RECORD_BYTES + len(target) + len(user)
        if fields is not None:
            cost += len(fields.referer) + len(fields.user_agent)
        if behind is not NOTHING:
            cost += len(behind[0] or b"") + len(behind[1] or b"")
        self.put_unlocked(
            (self._prefixes.second, peer, method, target, fields, status, length, cost, behind, user), cost
        )

    def lines(self, lines: bytes) -> None:
        """Lines that the fast lane has written already, in this log's format."""
        self.put(lines)

    def reopen(self) -> None:
        """The file was rotated away: write to its path anew, once what has come is written, or nothing can be."""
        self._reopen_after = self.come
        self._reopen = True
        self.wake()

    # --- in the thread --------------------------------------------------------------------------------------

    def cost(self, item: Record | bytes) -> int:
        return len(item) if isinstance(item, bytes) else item[7]

    def lines_in(self, item: Record | bytes) -> int:
        return item.count(b"\n") if isinstance(item, bytes) else 1

    def render(self, item: Record | bytes) -> bytes:
        lines = item if isinstance(item, bytes) else self._format(item).encode()
        return marked(lines, logging.INFO) if self._is_journal else lines

    def between(self) -> None:
        if self._reopen and self._path != "-":
            self._reopen = False
            try:
                fresh = _open(self._path)
            except OSError as error:
                _log.error("access log %s: %s", self._path, reason_of(error))
            else:
                self.exchange(fresh)

    def amid(self) -> None:
        if self._reopen and self.gone >= self._reopen_after:
            self.between()

    def on_failure(self) -> None:
        _log.exception("access log %s: records are lost", self._path)

    def on_trouble(self, why: str) -> None:
        _log.error("access log %s: %s: records wait, and are dropped when they are too many", self._path, why)

    def on_room(self, dropped: int, *, ended: bool) -> None:
        if ended and dropped:  # a disk that is still full is not written again
            _log.error("access log %s: %d records dropped at the end", self._path, dropped)
            return
        say = _log.error if dropped else _log.info
        say("access log %s: it is written again, %d records dropped", self._path, dropped)


# NONBLOCK: a FIFO without a reader is told, and not waited for.
_FLAGS = os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


def _open(path: str) -> Outlet | Replaced:
    """What the log is written to. Raises OSError."""
    if path == "-":
        try:
            return Outlet(os.dup(sys.stdout.fileno() if sys.stdout is not None else 1))
        except io.UnsupportedOperation:
            return Replaced(sys.stdout.buffer)
    return Outlet(_open_path(path))


def _open_path(path: str, make: int = os.O_CREAT) -> int:
    try:
        return os.open(path, _FLAGS | make | os.O_WRONLY, 0o666)
    except OSError as error:
        kind = os.stat(path).st_mode if error.errno == errno.ENXIO else 0
        if stat.S_ISSOCK(kind):
            raise OSError(errno.ENXIO, "it is a socket, and a log is a file, a FIFO or -") from None
        if not stat.S_ISFIFO(kind):
            raise
    _log.warning("access log %s: no program reads this FIFO yet", path)
    return os.open(path, _FLAGS | os.O_RDWR)  # which needs no reader


def try_to_open(path: str) -> None:
    """Whether an access log could be opened at a start, as far as that can be told without a trace: no file is made,
    and no reader of a FIFO meets its end. Raises OSError."""
    if path == "-":
        return
    try:
        is_fifo = stat.S_ISFIFO(os.stat(path).st_mode)
    except FileNotFoundError:
        _try_to_make(path)
    else:
        if not is_fifo:
            os.close(_open_path(path, 0))
        elif not os.access(path, os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _try_to_make(path: str) -> None:
    """Have a file without a name where this one would be made. Raises OSError."""
    directory, name = os.path.split(os.path.realpath(path))  # a symlink may lead to what is not there yet
    if path.endswith("/"):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # else the file system has no such files
            raise
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from None
    if len(os.fsencode(name)) > os.pathconf(directory, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)


def _printable(value: bytes) -> str:
    """`value` so that it forges no line and no field."""
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", value.decode("latin-1"))


@lru_cache(maxsize=2)
def _in_combined(second: int) -> str:
    """06/Nov/1994:08:49:37 +0000, whatever the locale."""
    _, day, month, year, clock, _ = format_date(second).decode().split()
    return f"{day}/{month}/{year}:{clock} +0000"


@lru_cache(maxsize=2)
def _in_json(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def as_combined(record: Record) -> str:
    """One line of Apache's combined format."""
    second, peer, method, target, fields, status, length, _, behind, user = record
    request = f"{_printable(method)} {_printable(target)} {fields.version.decode()}" if fields is not None else "-"
    referer = _printable(fields.referer) if fields is not None else ""
    agent = _printable(fields.user_agent) if fields is not None else ""
    # The line is divided at blanks, and "-" is no user.
    named = "\\x2d" if user == b"-" else _printable(user).replace(" ", "\\x20") or "-"
    line = (
        f'{peer} - {named} [{_in_combined(second)}] "{request}" {status} {length} "{referer or "-"}" "{agent or "-"}"'
    )
    host, request_id, duration_s = behind
    if host is not None:
        line += f' "{_printable(host) or "-"}"'
    if request_id is not None:
        line += f' "{_printable(request_id)}"'
    if duration_s is not None:
        line += f" {duration_s:.6f}"
    return line + "\n"


def as_json(record: Record) -> str:
    """One line of JSON with the same facts; bytes that are not UTF-8 appear as \\xHH."""
    second, peer, method, target, fields, status, length, _, (host, request_id, duration_s), user = record
    facts: dict[str, str | int] = {
        "time": _in_json(second),
        "peer": peer,
        "method": method.decode("utf-8", "backslashreplace"),
        "target": target.decode("utf-8", "backslashreplace"),
        "version": fields.version.decode() if fields is not None else "",
        "status": status,
        "bytes": length,
        "referer": fields.referer.decode("utf-8", "backslashreplace") if fields is not None else "",
        "user_agent": fields.user_agent.decode("utf-8", "backslashreplace") if fields is not None else "",
    }
    if user:
        facts["user"] = user.decode("utf-8", "backslashreplace")
    if host is not None:
        facts["host"] = host.decode("utf-8", "backslashreplace")
    if request_id is not None:
        facts["request_id"] = request_id.decode("ascii")
    line = json.dumps(facts)
    return line + "\n" if duration_s is None else f'{line[:-1]}, "duration": {duration_s:.6f}}}\n'

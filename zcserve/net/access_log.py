"""The access log: a request's facts are put on a queue, and a thread writes them down.

The loop's part is one append. The thread formats and writes twice a second, reopens the file when told (after a
rotation), and drops records rather than memory when the disk does not keep up; what it dropped it says in the log.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from io import FileIO
from typing import BinaryIO

from zcserve import threads
from zcserve.errors import NoThreadError
from zcserve.log import Log
from zcserve.net.reply import Prefixes
from zcserve.net.request import Fields

_log = Log(__name__)

FLUSH_INTERVAL_S = 0.5
# Records that wait to be written, of about 500 bytes each: some seconds of full load.
RECORDS_MAX = 200_000

# second, peer, method, target, fields, status, content bytes
Record = tuple[int, str, bytes, bytes, "Fields | None", int, int]

_UNPRINTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


class AccessLog:
    """Writes to `path`, or to standard output for "-". Raises OSError when the file cannot be opened, NoThreadError."""

    def __init__(self, path: str, form: str, prefixes: Prefixes) -> None:
        self._path = path
        self._format: Callable[[Record], str] = as_json if form == "json" else as_combined
        self._prefixes = prefixes
        self._records: deque[Record | bytes] = deque()
        self._dropped = 0
        self._reopen = False
        self._file = self._open()
        self._wake = threading.Event()
        self._ended = False
        try:
            self._thread = threads.start(self._run, "zcserve-access-log")
        except NoThreadError:
            self._close_file()
            raise

    def record(self, peer: str, method: bytes, target: bytes, fields: Fields | None, status: int, length: int) -> None:
        """Note one answered request. Called by the loop."""
        if len(self._records) < RECORDS_MAX:
            self._records.append((self._prefixes.second, peer, method, target, fields, status, length))
        else:
            self._dropped += 1

    def lines(self, lines: bytes) -> None:
        """Lines that the fast lane has written already, in this log's format."""
        if len(self._records) < RECORDS_MAX:
            self._records.append(lines)

    def reopen(self) -> None:
        """The file was rotated away: write to its path anew."""
        self._reopen = True
        self._wake.set()

    def close(self) -> None:
        """Write what is left."""
        self._ended = True
        self._wake.set()
        self._thread.join()
        self._close_file()

    def _close_file(self) -> None:
        if self._path != "-":
            self._file.close()

    def _open(self) -> BinaryIO | FileIO:
        # Unbuffered: what a full disk refuses is lost, and does not wait in a buffer for the next write to fail on.
        return sys.stdout.buffer if self._path == "-" else FileIO(self._path, "a")

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait(FLUSH_INTERVAL_S)
            self._wake.clear()
            try:
                self._write()
            except Exception:  # or nothing would ever be written again
                _log.exception("access log %s: records are lost", self._path)
            try:
                if self._reopen and self._path != "-":
                    self._reopen = False
                    fresh = self._open()
                    self._file.close()
                    self._file = fresh
            except OSError as error:
                _log.error("access log %s: %s", self._path, error.strerror)
        self._write()

    def _write(self) -> None:
        records = self._records
        taken = [records.popleft() for _ in range(len(records))]
        lines = [one if isinstance(one, bytes) else self._format(one).encode() for one in taken]
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[self._file.write(data) or len(data) :]
            self._file.flush()
        except OSError as error:
            _log.error("access log %s: %s", self._path, error.strerror)
        if self._dropped:
            _log.error("access log %s: %d records dropped, the disk does not keep up", self._path, self._dropped)
            self._dropped = 0


def _printable(value: bytes) -> str:
    """`value` so that nobody can forge a line or a field with it."""
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", value.decode("latin-1"))


def as_combined(record: Record) -> str:
    """One line of Apache's combined format."""
    second, peer, method, target, fields, status, length = record
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second))
    request = f"{_printable(method)} {_printable(target)} {fields.version.decode()}" if fields is not None else "-"
    referer = _printable(fields.referer) if fields is not None else ""
    agent = _printable(fields.user_agent) if fields is not None else ""
    return f'{peer} - - [{when}] "{request}" {status} {length} "{referer or "-"}" "{agent or "-"}"\n'


def as_json(record: Record) -> str:
    """One line of JSON with the same facts; bytes that are not UTF-8 appear as \\xHH."""
    second, peer, method, target, fields, status, length = record
    facts = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)),
        "peer": peer,
        "method": method.decode("utf-8", "backslashreplace"),
        "target": target.decode("utf-8", "backslashreplace"),
        "version": fields.version.decode() if fields is not None else "",
        "status": status,
        "bytes": length,
        "referer": fields.referer.decode("utf-8", "backslashreplace") if fields is not None else "",
        "user_agent": fields.user_agent.decode("utf-8", "backslashreplace") if fields is not None else "",
    }
    return json.dumps(facts) + "\n"

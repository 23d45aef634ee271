"""The access logs of a server: its own, and those that sites name. One file is one log, however many sites name it.

A site's lines go to its own log, or to the server's where it names none; `access_log = "off"`: nowhere. What is no
site's is the server's. Python writes a line by the function that `writer_of` gives; lanes put a mark in front of a line
that is not the server's (net/lane/log.pxd), and `lines` sorts by that.

A log that no site names any more stays open, since a line of it may still come: of an answer that a slow client has not
taken. It is closed when logs are reopened (SIGUSR1), or with the server. Each has a thread of its own, so that a full
disk or a reader that has stopped holds up no other; hence LOGS_MAX.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from functools import partial
from math import inf

from zcserve.config.site import LOGS_MAX
from zcserve.config.table import Config
from zcserve.errors import UsageError, reason_of
from zcserve.net.access_log import FLUSH_INTERVAL_S, AccessLog
from zcserve.net.prefixes import Prefixes
from zcserve.net.timers import SLOTS_PER_S, Timers
from zcserve.site.site import Write

# What a lane begins a line with that is not the server's, and how long that is with the log's number behind it.
MARK = b"\x02"
MARK_BYTES = 8
# What a line goes to: the server's log, or nothing.
SERVERS, OFF = 0, -1


def not_logged(*_: object) -> None:
    """Writes no line."""


def mark_of(number: int) -> bytes:
    """What a lane puts in front of a line of this log; of the server's nothing."""
    return b"" if number == SERVERS else MARK + b"%07d" % number


def open_logs(config: Config, prefixes: Prefixes) -> AccessLogs | None:
    """Those that a configuration names, if it does. Raises UsageError and NoThreadError."""
    named = [(table, path) for table in config.sites if (path := table.values.get("access_log"))]
    if not config.access_log and not named:
        return None
    logs = AccessLogs(config, prefixes)
    try:
        for table, path in named:
            try:
                logs.open(path)
            except UsageError as error:
                raise table.refuse(error, "access_log") from None
    except BaseException:
        logs.close()
        raise
    return logs


class AccessLogs:
    """All of them. In the loop's thread, but for `open`.

    record  writes a line of the server's own log (`AccessLog.record`); None: there is none
    """

    def __init__(self, config: Config, prefixes: Prefixes) -> None:
        self._form = config.access_log_format
        self._every = config.access_log_sample
        self._prefixes = prefixes
        self._lock = threading.Lock()
        self._logs: list[AccessLog | None] = [None]  # by number; None: there is none, or it is closed
        self._numbers: dict[str, int] = {"": OFF}  # by path
        self._named: frozenset[str] = frozenset()
        self._left_out = self._lost = 0  # of those that are closed
        self.record: Write | None = None
        self.left_out_by_lanes = 0
        self._own = config.access_log
        if self._own:
            self._logs[SERVERS] = log = self._make(self._own)
            self._numbers[_key(self._own)] = SERVERS
            self.record = log.record

    def _make(self, path: str) -> AccessLog:
        """Raises UsageError and NoThreadError."""
        try:
            return AccessLog(path, self._form, self._prefixes, self._every)
        except OSError as error:
            raise UsageError(f"access_log: {path!r} cannot be opened: {reason_of(error)}") from None

    # --- what sites name ------------------------------------------------------------------------------------------

    def open(self, path: str) -> None:
        """A site names this file, or none. Any thread may ask. Raises UsageError and NoThreadError."""
        with self._lock:
            if path == self._own or _key(path) in self._numbers:
                return
            if len(self._open) > LOGS_MAX:
                raise UsageError(
                    f"access_log: {path!r} is one of more than {LOGS_MAX} files that are open, some of which no site "
                    "names any more: SIGUSR1 closes those"
                )
            log = self._make(path)
            self._logs.append(log)
            self._numbers[_key(path)] = len(self._logs) - 1

    def number_of(self, path: str) -> int:
        """That of a site's log, which is open; SERVERS or OFF."""
        return SERVERS if path and path == self._own else self._numbers[_key(path)]

    def writer_of(self, path: str) -> Write | None:
        """What writes the lines of a site, as `AccessLog.record` does; None: the server's log has them."""
        number = self.number_of(path)
        if number == SERVERS:
            return None
        log = self._logs[number] if number != OFF else None
        return log.record if log is not None else not_logged

    def name(self, paths: Iterable[str]) -> None:
        """These are what sites name from now on."""
        self._named = frozenset(map(_key, paths))

    # --- lines ----------------------------------------------------------------------------------------------------

    def lines(self, lines: bytes) -> None:
        """Lines that lanes have written, in the logs' format."""
        if MARK not in lines:
            self._give(SERVERS, lines)
            return
        found: dict[bytes, list[bytes]] = {}
        first = MARK[0]
        for line in lines.splitlines(keepends=True):
            mark = line[:MARK_BYTES] if line[0] == first else b""
            try:
                found[mark].append(line)
            except KeyError:
                found[mark] = [line]
        for mark, some in found.items():
            if mark:
                self._give(int(mark[1:]), b"".join(some).replace(mark, b""))
            else:
                self._give(SERVERS, b"".join(some))

    def _give(self, number: int, lines: bytes) -> None:
        log = self._logs[number]
        if log is not None:
            log.lines(lines)
        elif number != SERVERS:  # it is closed
            self._lost += lines.count(b"\n")

    def keep_up(self, timers: Timers, late_s: float = 0.0) -> None:
        """The fast lane keeps its lines until the loop turns, a second if nothing else is to be done: have it turn in
        time, and all lines written then, so that none is later than FLUSH_INTERVAL_S, where the loop gets them
        `late_s` after they are made."""
        for log in self._open:
            log.wake()
        within_s = max(FLUSH_INTERVAL_S - late_s - 1 / SLOTS_PER_S, 0)
        timers.call_later(within_s, partial(self.keep_up, timers, late_s))

    def reopen(self) -> None:
        """The files were rotated away: write to their paths anew, as `AccessLog.reopen`."""
        with self._lock:
            for path, number in list(self._numbers.items()):
                log = self._logs[number] if number != OFF else None
                if log is not None and (number == SERVERS or path in self._named):
                    log.reopen()
                elif log is not None:
                    log.end()
                    self._lost += log.lost
                    self._left_out += log.left_out
                    self._logs[number] = None
                    del self._numbers[path]

    def close(self, until: float = inf) -> bool:
        """As `Writer.close`, of all."""
        logs = self._open
        for log in logs:
            log.end(until)
        ended = [log.close(until) for log in logs]
        return all(ended)

    # --- figures --------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> list[AccessLog]:
        return [log for log in self._logs if log is not None]

    @property
    def lost(self) -> int:
        """Lines that were lost: too much waited, or nothing took them."""
        return self._lost + sum(log.lost for log in self._open)

    @property
    def left_out(self) -> int:
        """How many answers have no line since others stand for them, those of lanes a second later."""
        return self._left_out + self.left_out_by_lanes + sum(log.left_out for log in self._open)


def _key(path: str) -> str:
    """The same for all paths of one file, as far as their text tells."""
    return path if path in ("", "-") else os.path.abspath(path)

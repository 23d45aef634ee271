"""Requests that took long (`--slow-log`), in the server's log: the first at once, then the slowest of those that came.

A lane tells of its own in lines, among those of the access log (lane/timed.pxd).
"""

from __future__ import annotations

import json
import re
import time

from zcserve.log import Log
from zcserve.net.telling import Telling
from zcserve.net.timers import Timers

_log = Log(__name__)

# What a line begins with that is no line of the access log.
MARK = b"\x01"
APPLICATION, LOAD, TURN, BODY = (
    "an application",
    "its file to be loaded",
    "its turn in the loop",
    "the client to send it",
)
READER, GONE = "the client to read", "the client, which has gone"
# What the lane calls these.
_WAITED = {"a": APPLICATION, "-": TURN, "c": READER, "g": GONE}
# What stands in front of a line of a site with a log of its own (access_logs.py).
_SITES = re.compile(r"\x02\d*")
_COMBINED = re.compile(r'(\S+) - - \[[^]]+\] "(\S+) (\S+) HTTP/1\.[01]" (\d+) ')


class SlowRequests:
    """Tells of requests that took `limit_s` or longer. In the loop's thread."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.count = 0  # since the start
        self._told = 0  # of these
        self._slowest = (0.0, "")
        self._telling: Telling | None = None

    def begin(self, timers: Timers) -> None:
        """The loop is there."""
        self._telling = Telling(timers, self.tell)

    def note(self, request: str, status: int, took_s: float, client: str, waited_for: str) -> None:
        """`request` is method and target."""
        self.count += 1
        told = f"{request}: answered {status} after {took_s:.6f} s to {client}, waited for {waited_for}"
        self._slowest = max(self._slowest, (took_s, told))
        assert self._telling is not None
        self._telling.note(time.monotonic())

    def take_lines(self, lines: bytes) -> bytes:
        """Tell of what a lane has marked among its lines; the others."""
        if MARK not in lines:
            return lines
        others = []
        for line in lines.splitlines(keepends=True):
            if line.startswith(MARK):
                self._note_line(line[1:].decode("ascii"))
            else:
                others.append(line)
        return b"".join(others)

    def _note_line(self, line: str) -> None:
        took, _, line = line.partition(" ")
        waited_for, took_s = _WAITED[took[0]], float(took[1:])
        line = _SITES.sub("", line, count=1)
        if line.startswith("{"):
            facts = json.loads(line)
            self.note(f"{facts['method']} {facts['target']}", facts["status"], took_s, facts["peer"], waited_for)
        elif match := _COMBINED.match(line):
            client, method, target, status = match.groups()
            self.note(f"{method} {target}", int(status), took_s, client, waited_for)

    def tell(self) -> None:
        """Write the line of what has come since the last one."""
        more = f" (the slowest of {self.count - self._told})" if self.count - self._told > 1 else ""
        self._told = self.count
        _log.warning("slow: %s%s", self._slowest[1], more)
        self._slowest = (0.0, "")

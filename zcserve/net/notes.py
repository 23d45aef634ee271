"""What is noted of a request that the general lane answers, where the log is to say more of it than a plain line does:
its host, its id, how long it took; and of what took too long, why.

A duration begins with the turn of the loop in which the request's first byte was read, and ends when the kernel has the
answer's last byte, or the client is gone. So the line is written then (`Output.when_out`).
"""

from __future__ import annotations

import time
from functools import partial

from zcserve.config.log_fields import read_names
from zcserve.config.table import Config
from zcserve.net import slow
from zcserve.net.access_log import Behind
from zcserve.net.access_logs import AccessLogs
from zcserve.net.fields import Fields
from zcserve.net.log_fields import own_ids, read_fields, with_id
from zcserve.net.output import Output
from zcserve.net.slow import SlowRequests
from zcserve.site.site import Write


class Note:
    """One request.

    began, complete, answered   when its first byte was read, all of its body was here, and its answer was put into the
                                output, or the last piece of it (time.monotonic)
    host, request_id            for the log
    line                        writes its line, as `Writer.line`
    is_own                      whether the id is ours
    waited_for                  what the answer was waited for
    """

    __slots__ = ("answered", "began", "complete", "host", "is_own", "line", "request_id", "user", "waited_for")

    def __init__(self, began: float) -> None:
        self.began = self.complete = self.answered = began
        self.host = self.request_id = self.user = b""
        self.is_own = False
        self.line: Write | None = None
        self.waited_for = slow.TURN


class Notes:
    """Of a server. In the loop's thread."""

    def __init__(self, config: Config, log: AccessLogs | None, slow_requests: SlowRequests | None) -> None:
        fields = read_names(config.access_log_fields) if log is not None else ()
        self._has_host = "host" in fields
        self._has_id = "request_id" in fields
        self._has_duration = "duration" in fields
        self._line = log.record if log is not None else None
        self._slow = slow_requests
        self._ids = own_ids()

    def begin(self, began: float) -> Note:
        """A request begins whose first byte was read at this time; it may be none."""
        note = Note(began)
        if self._has_id:
            note.request_id, note.is_own = next(self._ids), True
        return note

    def read(self, note: Note, head: bytes, given: bytes = b"") -> None:
        """The head is complete. `given`: an application knows the request by this id."""
        host, request_id = read_fields(head)
        note.host = host
        note.complete = time.monotonic()
        if self._has_id and (request_id := given or request_id):
            note.request_id, note.is_own = request_id, bool(given)

    def shown(self, note: Note, head: bytes) -> bytes:
        """The head as applications see it: with the id that the log has."""
        return with_id(head, note.request_id) if note.is_own else head

    def answered(
        self,
        note: Note,
        output: Output,
        client: str,
        method: bytes,
        target: bytes,
        fields: Fields | None,
        status: int,
        length: int,
    ) -> None:
        """The answer is in the output, all of it: log it when it is out."""
        note.answered = time.monotonic()
        output.when_out(partial(self._out, note, client, method, target, fields, status, length))

    def _out(
        self,
        note: Note,
        client: str,
        method: bytes,
        target: bytes,
        fields: Fields | None,
        status: int,
        length: int,
        sent: bool,
    ) -> None:
        """The kernel has the answer, or the client is gone."""
        now = time.monotonic()
        took_s = now - note.began
        if (line := note.line or self._line) is not None:
            behind: Behind = (
                note.host if self._has_host else None,
                note.request_id if self._has_id else None,
                took_s if self._has_duration else None,
            )
            named = (note.user,) if note.user else ()
            line(client, method, target, fields, status, length, behind, *named)
        if self._slow is not None and took_s >= self._slow.limit_s:
            request = f"{(method or b'-').decode('latin-1')} {(target or b'-').decode('latin-1')}"
            self._slow.note(request, status, took_s, client, _waited_for(note, now, sent=sent))


def _waited_for(note: Note, now: float, *, sent: bool) -> str:
    """What took longest."""
    return max(
        (now - note.answered, slow.READER if sent else slow.GONE),
        (note.answered - note.complete, note.waited_for),
        (note.complete - note.began, slow.BODY),
    )[1]

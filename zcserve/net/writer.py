"""What is put into a connection's output for one answer: the second's prefix, head and content, in HTTP/1's form; and
the access log's line of it; it is counted with that (counts.py).

It decides nothing but what its owner must know: whether more may be answered at once (`Stop`). A large body goes out
first, so that what follows is not answered for a client that has gone away.
"""

from __future__ import annotations

import time

from zcserve.cache import spans
from zcserve.cache.entry import Body, Entry
from zcserve.net.access_log import NOTHING
from zcserve.net.counts import SAMPLED_EVERY
from zcserve.net.fields import CLOSE, Fields
from zcserve.net.framing import Outgoing, frame
from zcserve.net.notes import Note
from zcserve.net.output import Output
from zcserve.net.owner import Stop
from zcserve.net.representing import represent
from zcserve.net.service import Service
from zcserve.site.reply import Reply
from zcserve.site.site import Site, Write


class Writer:
    """Of one connection.

    client        the client's address for the log: the peer's, or what a trusted proxy says
    line          writes a line of the site at hand, where it has a log of its own, or none; None: it is the server's
    note          of the request at hand, where the service has notes
    user          whose password the request at hand has shown; b"" for none
    says_no_more  the last answer is given: whether the client has said that it sends nothing behind its request. None
                  until then
    """

    __slots__ = ("_output", "_service", "client", "line", "note", "says_no_more", "user")

    def __init__(self, service: Service, output: Output, client: str) -> None:
        self._service = service
        self._output = output
        self.client = client
        self.line: Write | None = None
        self.note: Note | None = None
        self.user = b""
        self.says_no_more: bool | None = None

    def be_for(self, site: Site | None) -> None:
        """The request at hand is for this site, or for none."""
        tally = self._service.tally
        self.line = site.log if site is not None else None
        self._output.count_for(tally.of(site.account) if site is not None else tally.no_sites)

    def write_hit(self, method: bytes, target: bytes, fields: Fields, chosen: Entry, body: Body) -> Stop | None:
        """Answer a GET or HEAD with a representation whose content is at hand, as far as its conditions and ranges
        go."""
        service, output = self._service, self._output
        tally = service.tally
        tally.left -= 1
        if not tally.left:
            self.measure()
        if not fields.plain:
            answer = represent(fields, method, chosen, body, service.config.ranges_max)
            if answer is not None:
                stop = self.write(answer, method, target, fields)
                assert not isinstance(stop, Outgoing)
                return stop
        output.answers.hits[method] += 1
        output.began = output.read_at
        mode = CLOSE if service.draining else fields.mode
        stop = None
        if method == b"GET":
            output.add((service.prefixes.ok[mode], *body.whole()), body)
            if not body.copied:
                output.about = method, target
                stop = Stop.SHARE
        else:
            output.add((service.prefixes.ok[mode], body.head()), body)
        if service.notes is not None:
            self._note(method, target, fields, 200, body.size if method == b"GET" else 0)
        elif (line := self.line or service.log) is not None:
            line(self.client, method, target, fields, 200, body.size if method == b"GET" else 0)
        if mode == CLOSE:
            self.says_no_more = fields.mode == CLOSE
            return Stop.END
        return stop

    def write(
        self,
        answer: Reply,
        method: bytes,
        target: bytes,
        fields: Fields | None,
        close: bool = False,
        asked: bytes = b"",
    ) -> Stop | Outgoing | None:
        """Answer. What comes piece by piece is begun: it and its line in the log are the caller's. Without `fields`
        what is answered is no request; where its method was understood all the same, that was `asked`."""
        service = self._service
        if fields is None:
            mode, version = CLOSE, b""
        else:
            mode, version = CLOSE if close or service.draining else fields.mode, fields.version
        segments, length, outgoing = frame(answer, method, version)
        if outgoing is not None:
            outgoing.last |= mode == CLOSE
            mode = CLOSE if outgoing.last else mode
        if mode == CLOSE:
            self.says_no_more = fields is not None and fields.mode == CLOSE and not close
        self._output.add((service.prefixes.of(answer.status, mode), *segments), answer.body)
        self._output.began = self._output.read_at
        if outgoing is not None:
            return outgoing
        self._output.answers.note(answer.status, method if fields is not None else asked)
        if service.notes is not None:
            self._note(method if fields is not None else b"", target, fields, answer.status, length)
        elif (line := self.line or service.log) is not None:
            named = (NOTHING, self.user) if self.user else ()
            line(self.client, method if fields is not None else b"", target, fields, answer.status, length, *named)
        stop = None  # other answers go out with what is copied
        if answer.form is None and not spans.are_copied(segments):
            self._output.about = method, target
            stop = Stop.SHARE
        return Stop.END if mode == CLOSE else stop

    def measure(self) -> None:
        """How long the answer takes that is given next counts for others, too, which are given at once."""
        self._service.tally.left = SAMPLED_EVERY
        self._output.owed += ((self._output.began, SAMPLED_EVERY),)

    def log(self, method: bytes, target: bytes, fields: Fields, status: int, length: int) -> None:
        """Count what has come piece by piece, and write the log's line of it."""
        self._output.answers.note(status, method)
        if self._service.notes is not None:
            self._note(method, target, fields, status, length)
        elif (line := self.line or self._service.log) is not None:
            named = (NOTHING, self.user) if self.user else ()
            line(self.client, method, target, fields, status, length, *named)

    def shown(self, head: bytes) -> bytes:
        """The head of the request at hand, as applications see it."""
        notes, note = self._service.notes, self.note
        return head if notes is None or note is None else notes.shown(note, head)

    def complete(self) -> None:
        """All of the request at hand has come."""
        if self.note is not None:
            self.note.complete = time.monotonic()

    def waits_for(self, what: str) -> None:
        """What the answer to the request at hand waits for, in words of slow.py."""
        if self.note is not None:
            self.note.waited_for = what

    def _note(self, method: bytes, target: bytes, fields: Fields | None, status: int, length: int) -> None:
        """As `Service.log`, when the answer is out."""
        notes, note = self._service.notes, self.note
        assert notes is not None
        if note is not None:
            note.line = self.line
            note.user = self.user
            notes.answered(note, self._output, self.client, method, target, fields, status, length)

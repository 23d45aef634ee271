"""HTTP/1 on one connection: which request is next, how its answer is framed, and whether another may follow.

`fill` takes complete requests out of the inbox and puts their answers into the output, one behind the other, until
something must be waited for (`Stop`). A plain hit is answered here, everything else by an `Answering`, of which there
is one at a time: what is behind it stays in the inbox. It reads and sends nothing, and does not know what its owner,
the connection, waits for.
"""

from __future__ import annotations

from collections.abc import Callable

from zcserve.cache import spans
from zcserve.cache.entry import Entry
from zcserve.cache.fetcher import Wait
from zcserve.errors import HttpError
from zcserve.forwarded import Origin
from zcserve.net.answering import Answering, Step
from zcserve.net.fields import Fields
from zcserve.net.framing import Outgoing
from zcserve.net.head import SentHead
from zcserve.net.leading import look_up
from zcserve.net.output import Output
from zcserve.net.owner import Owner, Stop
from zcserve.net.prefixes import CONTINUE
from zcserve.net.reader import Reader
from zcserve.net.receiving import Receiving
from zcserve.net.request import host_of
from zcserve.net.sending import Sending
from zcserve.net.service import Service
from zcserve.net.slow import APPLICATION, LOAD, TURN
from zcserve.net.writer import Writer
from zcserve.site.exchange import Answer
from zcserve.site.reply import Reply, kept_private
from zcserve.site.site import Site


class Http1:
    """The order of one connection.

    inbox       what was read and not answered
    addresses   as `Asker.addresses`
    plain       how many plain hits it has answered in a row
    receiving   the body of the request at hand, until it is complete
    is_new      no request was answered yet, but for plain hits
    """

    __slots__ = (
        "_answered", "_asked_at", "_called", "_head", "_output", "_owner", "_parse", "_reader", "_request",
        "_round", "_sending", "_service", "_site", "_writer", "addresses", "inbox", "is_new", "plain", "receiving",
    )  # fmt: skip

    def __init__(
        self, service: Service, owner: Owner, output: Output, peer: str, addresses: Callable[[], tuple[object, object]]
    ) -> None:
        """`peer` and `addresses` as of `Transport`."""
        self._service = service
        self.addresses = addresses
        self._owner: Owner | None = owner  # None when the connection has ended
        self._output = output
        self._writer = Writer(service, output, peer)
        self._site: Site  # of the request at hand
        self._be_for(service.site_of(b""))
        reader = Reader(service, output, self._writer, peer)
        self._reader = reader if reader.is_needed else None
        self._parse = service.parser.parse if self._reader is None else self._reader.read
        self.inbox = b""
        self._head = b""  # of the request at hand, as sent
        self._request: Answering | None = None  # the one at hand, unless a plain hit answers it
        self.receiving: Receiving | None = None
        self._sending: Sending | None = None  # the answer that is begun, and comes piece by piece
        self.plain = self._round = self._answered = self._called = 0  # `_round`: the turn of the latter two
        self.is_new = True
        self._asked_at = 0.0  # `Output.began` of the one at hand

    # --- requests -----------------------------------------------------------------------------------------

    def fill(self) -> Stop:
        """Answer complete requests of the inbox into the output, as many as are left of this turn's share."""
        service = self._service
        site, writer, loop, hosts = self._site, self._writer, service.loop, service.hosts
        data, parse = self.inbox, self._parse
        at = count = others = 0  # the last request that was no hit had this number
        if self._round != loop.rounds:
            self._round, self._answered, self._called = loop.rounds, 0, 0
        try:
            if self.receiving is not None:
                at, stop = self._take_body(data, 0, service.config.pipeline_max - self._answered)
                if stop is not None:
                    return stop
            share = service.config.pipeline_max - self._answered
            while at < len(data):
                if count >= share:
                    return Stop.SHARE
                start = at
                if (parsed := parse(data, at)) is None:
                    return Stop.BYTES
                method, target, fields, at = parsed
                count += 1
                if hosts is not None:
                    name = fields.host if target.startswith(b"/") else host_of(target, fields)
                    asked = hosts.exact.get(name) or hosts.find(name)  # most names without a call
                    if asked is not site:
                        site = asked
                        self._be_for(site)
                live = site.live  # a hit is what `Site.hit` finds, without a call for each
                resources = live.resources if not live.root.rules.reads_requests else {}
                base = resources.get(target)
                if base is None and b"?" in target:  # a query changes nothing of a file
                    base = resources.get(target.partition(b"?")[0])
                hit = None
                if isinstance(base, Entry) and (method == b"GET" or method == b"HEAD") and not fields.body:
                    hit = base if fields.plain and not base.variants else service.choose(live, base, fields.accept)
                if (
                    hit is not None
                    and (body := hit.body or service.fetcher.opened(hit)) is not None
                    and (not body.holds_descriptor or (fields.plain and spans.is_ready(body)))
                ):
                    site.note_use(hit, loop.tick)
                    if fields.ranges is not None and len(fields.ranges) > 1:  # no front answers several
                        others = count
                    stop = writer.write_hit(method, target, fields, hit, body)
                else:
                    at, stop = self._begin(method, target, fields, data, start, at, share - count)
                    share = service.config.pipeline_max - self._answered
                    count -= at == start
                    others = count
                if stop is not None:
                    return stop
            return Stop.BYTES
        except HttpError as error:
            return self.refuse(error, data[at : at + 5])
        finally:
            self.inbox = data[at:]
            service.requests += count
            self._answered += count
            self.plain = count - others if others else self.plain + count

    def _be_for(self, site: Site) -> None:
        """The request at hand is for this site."""
        self._site = site
        self._writer.be_for(site)

    def _begin(
        self, method: bytes, target: bytes, fields: Fields, data: bytes, start: int, at: int, share: int
    ) -> tuple[int, Stop | None]:
        """Begin a request that is no plain hit, with the head from `start` to `at`. The offset behind what was read;
        `start` where it must wait for its turn. `share` as in `_take_body`."""
        asks = self._site.live.root.rules.asks
        if not fields.body and self._site.application is None and not asks:
            return at, self._respond(method, target, fields)
        request = self._asked(method, target, fields)
        if self._site.application is not None:
            request.find_resource()
            if not request.fields.body and not self._has_turn(request):
                return start, Stop.TURN
        self._request, self._head = request, self._writer.shown(data[start:at])
        if asks:
            request.guard()
        self._writer.waits_for(APPLICATION if request.resource is not None else TURN)
        if request.fields.body:
            return self._begin_body(request, data, at, share)
        return at, self._emit_step(request.answer())

    def _asked(self, method: bytes, target: bytes, fields: Fields) -> Answering:
        """The request that stands first in the inbox, as one whose answer may have to be waited for."""
        self._asked_at = self._output.began
        return Answering(self._service, self._site, self, method, target, fields)

    def _has_turn(self, request: Answering) -> bool:
        """Whether it is answered now: applications are not called too often in a turn."""
        self._called += request.resource is not None
        return request.resource is None or self._service.loop.calling.may_call(self._called)

    def asks(self, site: Site) -> bool:
        """As `Connected.asks`."""
        return self._request is not None and self._site is site

    @property
    def is_streaming(self) -> bool:
        """Whether the answer at hand comes piece by piece."""
        return self._sending is not None

    @property
    def is_quiet(self) -> bool:
        """Whether the client had an answer, and no application was called for it in this turn."""
        return self._called <= 1 and (self.plain > 0 or not self.is_new)

    def _respond(self, method: bytes, target: bytes, fields: Fields) -> Stop | None:
        """A request without a body, where there is no application. Only for content that is not at hand something is
        kept of it."""
        try:
            found = look_up(self._site, method, target, None, fields)
        except HttpError as error:
            if error.close:
                self._request = self._asked(method, target, fields)
                raise
            found = self._site.refuse(error.status, (), error.reason)
        if isinstance(found, Reply):
            self._service.tally.left -= 1
            if not self._service.tally.left:
                self._writer.measure()
            stop = self._writer.write(found, method, target, fields)
            assert not isinstance(stop, Outgoing)
            return stop
        self._request = request = self._asked(method, target, fields)
        return self._emit_step(request.respond_found(found))

    def _emit_step(self, step: Step, close: bool = False) -> Stop | None:
        """Answer the request at hand, unless its answer must be waited for."""
        request = self._request
        assert request is not None
        if step is None:
            self._writer.waits_for(LOAD if request.wait is not None else APPLICATION)
            return Stop.LOAD
        if user := request.user:
            self._writer.user = user
            step = kept_private(step)
        stop = self._writer.write(step, request.method, request.target, request.fields, close)
        if isinstance(stop, Outgoing):
            assert self._owner is not None
            self._sending = Sending(stop, self._output, self._owner, self._end_stream)
            return Stop.STREAM
        self._end_request(request)
        return stop

    def refuse(self, error: HttpError, unparsed: bytes = b"") -> Stop:
        """Answer what cannot be understood, and end: nothing behind it can be trusted. `unparsed` begins the request,
        where it could not even be parsed: HEAD gets no content, whatever else is wrong (RFC 9110 section 9.3.2)."""
        request = self._request
        method = b"HEAD" if unparsed == b"HEAD " else request.method if request is not None else b"GET"
        if error.status == 503:
            self.tell(f"answered 503, {error.reason}")
        if request is not None:
            self._end_request(request)
        else:
            self._output.owed += ((self._output.began, 1),)
            self._writer.be_for(None)
        self.receiving = None
        answer = self._site.refuse(error.status, (), error.reason)
        self._writer.write(answer, method, b"", None, asked=request.method if request is not None else b"")
        return Stop.END

    def _begin_body(self, request: Answering, data: bytes, at: int, share: int) -> tuple[int, Stop | None]:
        """A request with a body: read it first, so that the connection stays in step. The offset behind what was
        read. `share` as in `_take_body`."""
        expects = request.fields.expects
        if expects and request.resource is None and request.method not in (b"GET", b"HEAD", b"OPTIONS"):
            # The final answer instead of 100, and no knowing whether the body comes (RFC 9110 section 10.1.1).
            return at, self._emit_step(request.answer(), True)
        self.receiving = Receiving(self._service, request.begin_body())
        if expects and at == len(data):
            self._output.add((CONTINUE,))
        return self._take_body(data, at, share)

    def _take_body(self, data: bytes, at: int, share: int) -> tuple[int, Stop | None]:
        """Have the body take what is here of it, and answer when it is complete. `share` as in `Receiving.take`."""
        receiving, request = self.receiving, self._request
        assert receiving is not None
        assert request is not None
        at, lines = receiving.take(data, at, share)
        self._answered += lines
        if (stop := receiving.stop) is not None:
            return at, stop
        if not self._has_turn(request):
            return at, Stop.TURN
        self.receiving = None
        self._writer.complete()
        return at, self._emit_step(request.end_body(receiving.body))

    def tell(self, what: str) -> None:
        """The log says that the answer at hand, or the last one, failed."""
        if self._request is not None:
            self._request.tell(what)
        else:
            self._service.failures.note(*(self._output.about or (b"", b"")), what)

    def _end_request(self, request: Answering) -> None:
        """The request at hand is answered: an idle connection keeps nothing of it, an old generation least of all."""
        self._request = None
        self._writer.user = b""
        self._output.owed += ((self._asked_at, 1),)
        self._head = b""
        self.is_new = False
        request.end()

    # --- answers that were waited for ---------------------------------------------------------------------

    def take(self, answer: Answer, request_id: bytes = b"") -> None:
        """The application, which knows the inbox's first request by `request_id`, has answered it: `go_on` says so."""
        reader, data = self._reader, self.inbox
        parsed = self._parse(data, 0) if reader is None else reader.read(data, 0, request_id)
        assert parsed is not None
        method, target, fields, at = parsed
        self._be_for(self._service.site_of(host_of(target, fields)))
        self._request = self._asked(method, target, fields)
        self._head = self._writer.shown(data[:at])
        self._request.give(answer)
        self.inbox = data[at + fields.body :]
        self._service.requests += 1

    @property
    def origin(self) -> Origin | None:
        """As `Asker.origin`."""
        return self._reader.origin if self._reader is not None else None

    @property
    def client(self) -> str:
        """As `Asker.client`."""
        return self._writer.client

    @property
    def says_no_more(self) -> bool | None:
        """As `Writer.says_no_more`."""
        return self._writer.says_no_more

    def head(self) -> SentHead:
        """As `Asker.head`."""
        return SentHead(self._head)

    def resumed(self) -> None:
        """As `Asker.resumed`."""
        if self._owner is not None:
            self._owner.resumed()

    def fail(self) -> None:
        """As `Asker.fail`."""
        if self._owner is not None:
            self._owner.fail()

    def go_on(self) -> Stop | None:
        """After `Owner.resumed`: answer the request at hand. None: `fill` goes on."""
        assert self._request is not None
        try:
            return self._emit_step(self._request.go_on())
        except HttpError as error:
            return self.refuse(error)

    @property
    def wait(self) -> Wait | None:
        """For what a loader reads for the request at hand."""
        return self._request.wait if self._request is not None else None

    @property
    def is_applications_turn(self) -> bool:
        """Whether an application owes an answer, or a stream its next piece."""
        if self._sending is not None:
            return self._sending.is_awaited
        return self._request is not None and self._request.is_with_application

    def expire(self) -> bool:
        """What is waited for takes too long: `go_on` leads to another answer. False where one is begun already."""
        if self._sending is not None or self._request is None:
            limit_s = self._service.config.app_timeout_s
            self.tell(f"its stream was cut, it gave no piece within --app-timeout ({limit_s:g} s)")
            return False
        self._request.expire()
        return True

    def abandon(self) -> None:
        """The answer at hand, if there is one, is not wanted any more."""
        self.receiving = None
        if self._request is not None:
            self._request.cancel()
        if self._sending is not None:
            self._sending.close()
        self._request = None
        self._head = b""

    def close(self) -> None:
        """The connection has ended, or is not this object's any more."""
        self.abandon()
        self.inbox = b""
        self._owner = None

    # --- answers that come piece by piece -----------------------------------------------------------------

    def pull(self) -> bool:
        """As `Sending.pull`; False, too, where nothing comes piece by piece."""
        return self._sending is not None and self._sending.pull()

    def _end_stream(self, outgoing: Outgoing) -> None:
        self._sending, request = None, self._request
        if request is not None:
            self._writer.log(request.method, request.target, request.fields, outgoing.status, outgoing.sent)
            self._end_request(request)

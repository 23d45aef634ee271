"""One client: its states, and the order of a request's steps.

    HEAD --head complete--> answer --all sent--> IDLE --first bytes--> HEAD ...
      |                       |  |                  (an answer that leaves at once changes no state)
      |                       |  +--socket full--> WRITE --drained--> go on
      |                       +--not resident, or a servlet's----> WAIT  --there it is---> go on
      +--has a body-----------> BODY --read------> answer
    anything --error, close--> CLOSED; what was sent arrives all the same (ending.py)

States change in one place (`_set_state`), which knows the lawful moves, points the loop at the state's handler, and
starts the state's clock. While output waits, or a thread works, nothing is read: a client that sends and never reads
costs what is in its inbox, which one `recv` bounds.

Every state has something that ends it. HEAD, IDLE and BODY have deadlines for what the client owes, and WRITE has one
from progress to progress. WAIT for a thread ends with the thread, WAIT for the next turn with the turn. WAIT for an
application ends when the client closes its side (a client that wants an answer does not close before it; what is
complete is sent to such a client all the same), with the kernel's keepalive where the client has vanished, and with
`app_timeout_s` where that is set.

Requests of one `recv` are answered together (`_fill`), and leave together (`_flush`); `_work` alternates the two until
something must be waited for. A turn's share is bounded by `pipeline_max` and `turn_bytes_max`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from math import ceil, inf
from typing import TYPE_CHECKING

from zcserve.cache.entry import Body, Entry
from zcserve.cache.fetcher import Wait
from zcserve.errors import HttpError
from zcserve.forwarded import Origin
from zcserve.net import reply, spans
from zcserve.net.answering import Answering, Step
from zcserve.net.ending import Ending, may_close
from zcserve.net.exchange import Made, Piece
from zcserve.net.framing import CutShortError, Outgoing, frame
from zcserve.net.output import Flushed, Output
from zcserve.net.poller import ERROR, HANG_UP, WRITE
from zcserve.net.reply import Reply
from zcserve.net.request import CLOSE, Discard, Fields, Parsed
from zcserve.net.service import Service as Service
from zcserve.net.transport import Transport

if TYPE_CHECKING:
    from zcserve.net._lane import Lane

# Read at a time. A browser's head is 0.5-2 KB; a longer one takes another turn.
RECV_BYTES = 8192
# A client that has just connected sends its first request within this time: a round trip, and a busy machine's delay.
# So long it is neither closed when the server stops, nor for want of room.
FRESH_S = 1.0


class State(enum.IntEnum):
    """What the connection waits for."""

    HEAD = 0  # the rest of a request's head, or the first one
    IDLE = 1  # the next request
    BODY = 2  # the rest of a body
    WRITE = 3  # the socket, to take what is left of the output
    WAIT = 4  # a thread, an application, or the next turn
    CLOSED = 5


_DONE = Flushed.DONE
_HEAD, _IDLE, _WRITE, _WAIT, _CLOSED = State.HEAD, State.IDLE, State.WRITE, State.WAIT, State.CLOSED

# Every state may end; these are the other lawful moves.
MOVES: dict[State, frozenset[State]] = {
    State.HEAD: frozenset((State.IDLE, State.HEAD, State.BODY, State.WRITE, State.WAIT)),
    State.IDLE: frozenset((State.HEAD, State.BODY, State.WRITE, State.WAIT)),
    State.BODY: frozenset((State.IDLE, State.HEAD, State.WRITE, State.WAIT)),
    State.WRITE: frozenset((State.IDLE, State.HEAD, State.BODY, State.WAIT)),
    State.WAIT: frozenset((State.IDLE, State.HEAD, State.BODY, State.WRITE)),
    State.CLOSED: frozenset(),
}


class Stop(enum.Enum):
    """Why `_fill` stopped answering."""

    BYTES = 1  # no complete request is left
    BODY = 2  # a body is not complete
    LOAD = 3  # a thread loads, or an application has not answered yet
    SHARE = 4  # this turn's share is answered, or a large body goes out first
    END = 5  # the connection ends after this answer
    STREAM = 6  # the answer's next piece is wanted


class Connection:
    """One client, from accept to close."""

    __slots__ = (
        "_accepted",
        "_answered",
        "_body_since",
        "_counted",
        "_discard",
        "_hung_up",
        "_inbox",
        "_is_resumed",
        "_lingers",
        "_loop",
        "_outgoing",
        "_output",
        "_proxies",
        "_pulled",
        "_queued",
        "_read",
        "_reading",
        "_request",
        "_round",
        "_service",
        "_since",
        "_stop",
        "_transport",
        "armed",
        "client",
        "origin",
        "state",
    )

    def __init__(self, service: Service, transport: Transport, *, from_lane: bool = False) -> None:
        self._service = service
        self._loop = service.loop
        self._transport = transport
        self._read = transport.read
        self._output = Output()
        peer = transport.peer
        self.client = peer  # or what a trusted proxy names
        self.origin: Origin | None = None  # what such a proxy says of the request at hand
        self._proxies = service.proxies if service.proxies is not None and service.proxies.trusts(peer) else None
        self._request: Answering | None = None  # the one at hand, unless a plain hit answers it
        self._inbox = b""
        self._discard: Discard | None = None
        self._body_since, self._counted = 0.0, 0  # the body's clock, and how much of it had come when that was set
        self._outgoing: Outgoing | None = None
        self._is_resumed = False  # what the request at hand waited for is there
        self._reading: Wait | None = None  # for the output's next piece of a file
        self._queued = 0  # `Transport.unacknowledged` when it was last full
        self._lingers = False
        self._hung_up = False  # the peer sends no more; told once, behind what it sent
        self._pulled = False  # the stream's next piece is waited for
        self._round = self._answered = 0  # the turn in which this many requests were answered
        self._stop = Stop.BYTES
        self.armed = inf
        self.state = State.HEAD
        self._since = self._accepted = self._loop.now
        if from_lane:
            self._loop.handlers[transport.fd] = self._on_request
        else:
            self._loop.add(transport.fd, self._on_request, stream=True)
        service.connections.add(self)
        self._loop.timers.arm(self)

    def go_on_with(self, data: bytes, made: Made | None, *, hung_up: bool) -> None:
        """What the fast lane had read when it handed this connection over, and what the application made of the first
        request, which leads elsewhere now perhaps: it was asked, and is not asked twice."""
        self._hung_up = hung_up
        self._inbox = data
        try:
            if made is None:
                self._work()
            else:
                self._take_request().give(made)
                self.resumed()
        except Exception:
            self.fail()
            raise
        self._catch_up()

    def _take_request(self) -> Answering:
        """Have the request at hand be the inbox's first, which the fast lane understood."""
        parsed = self._parse(self._inbox, 0)
        assert parsed is not None
        method, target, fields, at = parsed
        head, self._inbox = self._inbox[:at], self._inbox[at:]
        self._service.requests += 1
        self._request = Answering(self._service, self, method, target, fields, head)
        return self._request

    def _give_back(self, lane: Lane) -> None:
        """The connection is idle, and the fast lane's again: this object is done with it."""
        self._set_state(_CLOSED, keep=True)
        self._service.connections.discard(self)
        lane.resume(self._transport.release(), True)

    # --- states -------------------------------------------------------------------------------------------

    def _set_state(self, state: State, *, keep: bool = False) -> None:
        if state is not _CLOSED and state not in MOVES[self.state]:
            raise AssertionError(f"{self.state.name} does not lead to {state.name}")
        self.state = state
        self._since = self._loop.now
        if state is _CLOSED:
            if keep:
                self._loop.release(self._transport.fd)
            else:
                self._loop.forget(self._transport.fd)
            self._loop.timers.disarm(self)
            return
        self._loop.handlers[self._transport.fd] = _HANDLERS[state].__get__(self)
        self._loop.timers.arm(self)

    def due(self) -> float:
        """When this state has lasted too long. HEAD counts from its first byte, WRITE from the last progress, BODY from
        when it was last fast enough (`_body_comes`), WAIT from when an application was asked for an answer or a piece,
        or from the last progress of a file that is read."""
        config = self._service.config
        match self.state:
            case State.HEAD:
                if self._service.ending and not self._inbox:
                    return self._accepted + FRESH_S
                return self._since + config.head_timeout_s
            case State.IDLE:
                return self._since + config.idle_timeout_s
            case State.BODY:
                return self._body_since + config.body_timeout_s
            case State.WRITE:
                return self._since + config.write_timeout_s
            case State.WAIT if (wait := self._waits_for()) is not None:
                return wait.since + config.load_timeout_s
            case State.WAIT if config.app_timeout_s and self._is_applications_turn:
                return self._since + config.app_timeout_s
            case _:
                return inf

    def _waits_for(self) -> Wait | None:
        """What a loader reads, for the output or for the request at hand."""
        if self._reading is not None or self._request is None:
            return self._reading
        return self._request.wait

    def expire(self) -> None:
        """The state's deadline passed."""
        if self.state is _WRITE and self._transport.unacknowledged() < self._queued:
            self._queued = self._transport.unacknowledged()  # a slow reader, but it reads
            self._since = self._loop.now
            self._loop.timers.arm(self)
        elif self.state is State.BODY and self._body_comes():
            self._loop.timers.arm(self)
        elif self.state is State.BODY or (self.state is State.HEAD and self._inbox):
            self._refuse(HttpError(408, "the request took too long", close=True), self._inbox[:5])
            self._work_out()
        elif self.state is _WAIT:
            self._expire_wait()
        elif self.state is _WRITE:
            self.close()  # the client reads nothing: waiting for it would be in vain
        elif self.is_silent():
            self.end()
        else:  # the loop was busy for long, and a request is here
            self._since = self._accepted = self._loop.now
            self._loop.timers.arm(self)
            self._catch_up()

    def _expire_wait(self) -> None:
        """A file or an application takes too long: another answer, or the end of one that is begun."""
        request = self._request
        if self._reading is not None or self._pulled or request is None:
            self.end()
        else:
            request.expire()
            self.resumed()

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has been read of this client, and it may not have had the time to send anything."""
        return self.state is _HEAD and not self._inbox and self._loop.now < self._accepted + FRESH_S

    @property
    def accepted(self) -> float:
        """When the client connected, or the fast lane handed it over."""
        return self._accepted

    @property
    def idle_since(self) -> float:
        """Since when nothing has been asked of the server; inf while it owes an answer."""
        return self._since if self.state in (State.HEAD, State.IDLE) else inf

    @property
    def has_all(self) -> bool:
        """Whether the client's kernel has everything that was sent."""
        return not self._transport.unacknowledged()

    def is_silent(self) -> bool:
        """Whether nothing of a request lies unread: closing would answer it with a reset."""
        return not self._transport.has_unread()

    def drain(self) -> None:
        """The server stops: end now if nothing is owed, else after the answer at hand. A client that has just connected
        has its chance to ask first."""
        idle = self.state is State.IDLE or (self.state is State.HEAD and not self._inbox)
        if self.is_fresh:
            self._loop.timers.arm(self)
        elif idle and self.is_silent():
            self.end()

    def fail(self) -> None:
        """A handler raised: whatever it was about, this connection is not to be trusted."""
        self.end()

    def end(self, *, says_no_more: bool = False) -> None:
        """End in order: what was sent arrives. What was not sent is dropped. `says_no_more` as in `may_close`."""
        if self.state is _CLOSED:
            return
        if (self._hung_up or not self._lingers) and may_close(
            self._transport, says_no_more=says_no_more or self._hung_up
        ):
            self.close()
            return
        self._leave(keep=True)
        Ending(self._service, self._transport, watched=True)
        self._abandon()

    def close(self) -> None:
        """End now, whatever is on its way: the client is gone, or reads nothing."""
        if self.state is _CLOSED:
            return
        self._leave(keep=False)
        self._transport.close()
        self._service.closed()
        self._abandon()

    def _leave(self, *, keep: bool) -> None:
        self._output.drop()
        self._inbox = b""
        self._is_resumed = False
        reading, self._reading = self._reading, None
        if reading is not None:
            self._service.fetcher.cancel(reading)
        self._set_state(_CLOSED, keep=keep)
        self._service.connections.discard(self)

    def _abandon(self) -> None:
        """The answer at hand, if there is one, is not wanted any more."""
        self._discard = None
        if self._request is not None:
            self._request.cancel()
        if self._outgoing is not None:
            self._end_stream()
        self._request = None

    # --- handlers, one a state ----------------------------------------------------------------------------

    def _on_request(self, mask: int) -> None:
        """HEAD, IDLE and BODY: bytes of a request."""
        if mask & HANG_UP:
            self._hung_up = True
        try:
            data = self._read(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()  # half a request, or none: no answer is waited for
            return
        more = len(data) == RECV_BYTES or self._hung_up
        if self._inbox:
            data = self._inbox + data
        elif self.state is not State.BODY:
            self._since = self._loop.now
        self._inbox = data
        self._work()
        if more:
            self._loop.again(self._read_on)

    def _read_on(self) -> None:
        if self.state in (State.HEAD, State.IDLE, State.BODY):
            self._on_request(0)

    def _on_writable(self, mask: int) -> None:
        """WRITE: the socket may take more. What the client sends meanwhile is no progress."""
        if mask & ERROR:
            self.close()
            return
        if mask & HANG_UP:
            self._hung_up = True
            self._let_application_go()
        if mask & WRITE and self._output.segments and not self._output.rests:
            self._work_out()

    def _on_waiting(self, mask: int) -> None:
        """WAIT: a client that is gone need not be waited for."""
        if mask & ERROR:
            self.close()
        elif mask & HANG_UP:
            self._hung_up = True
            self._let_application_go()

    @property
    def _is_applications_turn(self) -> bool:
        """Whether an application owes an answer, or a stream its next piece."""
        return self._pulled or (self._request is not None and self._request.is_with_application)

    def _let_application_go(self) -> None:
        """The client has closed its side, as clients do that are gone: nothing is waited for that an application has
        yet to make. What is complete before it is still sent."""
        if not self._is_applications_turn:
            return
        if self._output.segments:
            self._abandon()
            self._stop = Stop.END
        else:
            self.end()

    # --- a request's way ----------------------------------------------------------------------------------

    def _work(self) -> None:
        """Answer and send until something must be waited for."""
        self._stop = self._fill()
        self._work_out()

    def _work_out(self) -> None:
        """Send what is answered, then do what `_fill` stopped for."""
        if self._output.segments and not self._flush():
            return
        stop = self._stop
        if stop is Stop.BYTES:
            self._await_request()
        elif stop is Stop.END:
            self._finish()
        elif stop is Stop.BODY:
            if self.state is not State.BODY:
                if self.state is _WRITE:  # else the clock goes on while it rests
                    self._body_since = self._loop.now
                self._set_state(State.BODY)
                self._catch_up()
        elif stop is Stop.LOAD and self._is_resumed:
            self._go_on_with_request()
        else:
            if self.state is not State.WAIT:
                self._set_state(State.WAIT)
            elif stop is Stop.LOAD:
                self._loop.timers.arm(self)
            if stop is Stop.SHARE:
                self._loop.again(self._go_on)
            elif stop is Stop.STREAM:
                self._loop.again(self._pull)
            elif self._is_applications_turn:
                self._begin_to_wait()

    def _begin_to_wait(self) -> None:
        """It is the application's turn: its clock starts, unless its client is gone already."""
        if self._hung_up:
            self._let_application_go()
        elif self._service.config.app_timeout_s:
            self._since = self._loop.now
            self._loop.timers.arm(self)

    def _await_request(self) -> None:
        service = self._service
        if not self._inbox:
            if service.ending and self.is_silent():
                self.end()
                return
            if service.teacher is not None and not self._hung_up and not service.ending:
                self._give_back(service.teacher.lane)
                return
        state = _HEAD if self._inbox else _IDLE
        if self.state is not state:
            missed = self.state not in (_HEAD, _IDLE)
            self._set_state(state)
            if missed:
                self._catch_up()

    def _catch_up(self) -> None:
        """Edges that came while nothing was read are not told again: try."""
        self._loop.again(self._read_on)

    def _go_on(self) -> None:
        if self.state is State.WAIT and not self._output.segments:
            self._work()

    def _finish(self) -> None:
        """The last answer is out. A client that has said that it closes sends no more (RFC 9112 section 9.6); but one
        that was long in reading its answer is not relied upon."""
        was_quick = self.state is not _WRITE and not self._inbox
        self.end(says_no_more=was_quick and not self._service.draining)

    def _fill(self) -> Stop:
        """Answer complete requests of the inbox into `_output`: the plain hit here, all else by an `Answering`."""
        service = self._service
        parse = service.parser.parse if self._proxies is None else self._parse
        resources = service.generation.resources
        data = self._inbox
        at = count = 0
        teacher = service.teacher
        if self._round != self._loop.rounds:
            self._round = self._loop.rounds
            self._answered = 0
        share = service.config.pipeline_max - self._answered
        try:
            if self._discard is not None:
                assert self._request is not None
                at, stop = self._feed_body(self._request, data, 0, share)
                if stop is not None:
                    return stop
                share = service.config.pipeline_max - self._answered
            while at < len(data):
                if count >= share:
                    return Stop.SHARE
                start = at
                parsed = parse(data, at)
                if parsed is None:
                    return Stop.BYTES
                method, target, fields, at = parsed
                count += 1
                resource = resources.get(target)
                hit = None
                if fields.plain and method == b"GET" and isinstance(resource, Entry):
                    hit = service.choose(service.generation, resource, fields.accept) if resource.variants else resource
                if (
                    hit is not None
                    and (body := hit.body) is not None
                    and (not body.holds_descriptor or spans.is_ready(body))
                ):
                    if service.sampler is not None:
                        service.sampler.note(hit, self._loop.turn)
                    hit.tick = self._loop.turn
                    hit.uses += 1
                    if teacher is not None and isinstance(resource, Entry):
                        teacher.teach(data[start:at], target, resource, fields)
                    stop = self._emit_hit(method, target, fields, body)
                else:
                    self._request = request = Answering(service, self, method, target, fields, data[start:at])
                    if service.application is not None:
                        request.find_resource()
                    if fields.body:
                        at, stop = self._begin_body(request, data, at, share - count)
                        share = service.config.pipeline_max - self._answered
                    else:
                        stop = self._emit_step(request.answer())
                if stop is not None:
                    return stop
            return Stop.BYTES
        except HttpError as error:
            self._refuse(error, data[at : at + 5])
            return Stop.END
        finally:
            self._inbox = data[at:]
            if count:
                service.requests += count
                self._answered += count
                self._since = self._loop.now  # what is left begins another request, whose clock starts here

    def _parse(self, data: bytes, start: int) -> Parsed | None:
        """As `Parser.parse`, and which client asks: the peer, as long as the head is not understood."""
        self.client, self.origin = self._transport.peer, None
        parsed = self._service.parser.parse(data, start)
        if parsed is not None and self._proxies is not None:
            self.origin = self._proxies.origin(self._transport.peer, data[start : parsed[3]])
            if self.origin is not None:
                self.client = self.origin.client.name
        return parsed

    def _emit_hit(self, method: bytes, target: bytes, fields: Fields, body: Body) -> Stop | None:
        service = self._service
        mode = CLOSE if service.draining else fields.mode
        self._output.add((service.prefixes.ok[mode], *body.whole()), body)
        if service.log is not None:
            service.log(self.client, method, target, fields, 200, body.size)
        if mode == CLOSE:
            return Stop.END
        return None if body.copied else Stop.SHARE

    def _emit_step(self, step: Step) -> Stop | None:
        """Answer the request at hand, unless its answer must be waited for."""
        if step is None:
            return Stop.LOAD
        if isinstance(step, Reply):
            return self._emit(step)
        request = self._request
        assert request is not None
        chunks = request.fields.version == b"HTTP/1.1"
        made, outgoing = frame(step, has_content=request.has_content, chunks=chunks)
        return self._emit(made) if outgoing is None else self._emit_stream(request.fields, made, outgoing)

    def _emit(self, made: Reply, *, close: bool = False) -> Stop | None:
        """Put a response into `_output`, and tell whether more may follow at once."""
        service, request = self._service, self._request
        mode = CLOSE if close or service.draining or request is None else request.fields.mode
        self._output.add((service.prefixes.of(made.status, mode), *made.segments), made.body)
        self._log(made.status, made.length)
        self._end_request()
        if mode == CLOSE:
            return Stop.END
        return None if made.is_copied() else Stop.SHARE

    def _log(self, status: int, length: int) -> None:
        """Write the log's line of the answer at hand, and `length` bytes of content."""
        log, request = self._service.log, self._request
        if log is None:
            return
        if request is None:  # what was sent is no request
            log(self.client, b"", b"", None, status, length)
        else:
            log(self.client, request.method, request.target, request.fields, status, length)

    def _refuse(self, error: HttpError, unparsed: bytes = b"") -> None:
        """Answer what cannot be understood, and end: nothing behind it can be trusted. `unparsed` begins the request,
        where it could not even be parsed: HEAD gets no content, whatever else is wrong (RFC 9110 section 9.3.2)."""
        request = self._request
        with_content = (request is None or request.has_content) and unparsed != b"HEAD "
        self._end_request()
        self._discard = None
        self._lingers = True
        extra = reply.RETRY if error.status == 503 else b""
        self._emit(reply.page(error.status, with_content=with_content, extra=extra), close=True)
        self._stop = Stop.END

    def _begin_body(self, request: Answering, data: bytes, at: int, share: int) -> tuple[int, Stop | None]:
        """A request with a body: read it first, so that the connection stays in step. The offset behind what was
        read. `share` as in `_feed_body`."""
        expects = request.fields.expects
        if expects and request.resource is None and request.method not in (b"GET", b"HEAD", b"OPTIONS"):
            # The final answer instead of 100, and no knowing whether the body comes (RFC 9110 section 10.1.1).
            self._lingers = True
            made = request.answer()
            assert isinstance(made, Reply)
            return at, self._emit(made, close=True)
        self._discard = request.begin_body()
        if expects and at == len(data):
            self._output.add((reply.CONTINUE,))
        self._body_since, self._counted = self._loop.now, 0
        return self._feed_body(request, data, at, share)

    def _feed_body(self, request: Answering, data: bytes, at: int, share: int) -> tuple[int, Stop | None]:
        """Have the body take what is here of it, and answer when it is complete. Its chunks and trailers count like
        requests, of which `share` are left in this turn."""
        discard = self._discard
        assert discard is not None
        before = discard.lines
        at = discard.feed(data, at, share)
        self._answered += discard.lines - before
        if not discard.done:
            return at, Stop.SHARE if discard.rests else Stop.BODY
        self._discard = None
        return at, self._emit_step(request.end_body(discard))

    def _body_comes(self) -> bool:
        """A `body_timeout_s` has passed: go on for another if it brought `body_rate_min` bytes for each of its seconds.
        A byte now and then is not enough, however much came before."""
        config = self._service.config
        taken = self._discard.taken if self._discard is not None else 0
        wanted = max(1, ceil(config.body_rate_min * config.body_timeout_s))
        if taken - self._counted < wanted:
            return False
        self._body_since, self._counted = self._loop.now, taken
        return True

    def _end_request(self) -> None:
        """The request at hand is answered: an idle connection keeps nothing of it, an old generation least of all."""
        request, self._request = self._request, None
        if request is not None:
            request.end()

    # --- answers that were waited for ---------------------------------------------------------------------

    def addresses(self) -> tuple[object, object]:
        """As `Asker.addresses`."""
        return self._transport.addresses()

    def resumed(self) -> None:
        """As `Asker.resumed`: answer when what is before it is out."""
        self._is_resumed = True
        if not self._output.segments:
            self._go_on_with_request()

    def _go_on_with_request(self) -> None:
        self._is_resumed = False
        assert self._request is not None
        try:
            stop = self._emit_step(self._request.go_on())
        except HttpError as error:
            self._refuse(error)
            stop = Stop.END
        if stop is None:
            self._work()
        else:
            self._stop = stop
            self._work_out()

    # --- answers that come piece by piece -----------------------------------------------------------------

    def _emit_stream(self, fields: Fields, made: Reply, outgoing: Outgoing) -> Stop:
        """Begin an answer whose content comes piece by piece."""
        service = self._service
        if service.draining or fields.mode == CLOSE:
            outgoing.last = True
        mode = CLOSE if outgoing.last else fields.mode
        self._output.add((service.prefixes.of(made.status, mode), *made.segments))
        self._outgoing = outgoing
        return Stop.STREAM

    def _pull(self) -> None:
        """Have the stream's next piece brought, now that the last one is out."""
        if (
            self._outgoing is not None
            and self._stop is Stop.STREAM
            and self.state is State.WAIT
            and not self._output.segments
        ):
            self._pulled = True
            self._outgoing.stream.pull(self._on_piece)
            if self._pulled:
                self._begin_to_wait()

    def _on_piece(self, piece: Piece | None) -> None:
        self._pulled = False
        outgoing = self._outgoing
        if outgoing is None:
            return  # the client is gone
        try:
            if piece is None:
                raise CutShortError
            self._output.add(outgoing.frame(piece))
        except CutShortError:
            self.end()  # before the end that was promised: the client sees that something is missing
            return
        if outgoing.ended:
            self._end_stream()
            self._stop = Stop.END if outgoing.last else Stop.SHARE
        self._work_out()

    def _end_stream(self) -> None:
        outgoing, self._outgoing = self._outgoing, None
        self._pulled = False
        assert outgoing is not None
        outgoing.stream.close()
        self._log(outgoing.status, outgoing.sent)
        self._end_request()

    # --- output -------------------------------------------------------------------------------------------

    def _flush(self) -> bool:
        """Send what is in `_output`; True when all of it is out. Else the state says what is waited for."""
        flushed = self._output.flush(self._transport, self._service.config.turn_bytes_max)
        if flushed is _DONE:
            return True
        if flushed is Flushed.GONE:
            self.close()
        elif flushed is Flushed.TORN:
            self.end()  # before Content-Length
        elif flushed is Flushed.COLD:
            if self.state is not State.WAIT:
                self._set_state(State.WAIT)
            self._reading = spans.read_in_thread(self._service.fetcher, self._output.cold(), self._on_read)
            self._loop.timers.arm(self)
        else:
            if self.state is not _WRITE:
                self._set_state(_WRITE)
            self._since = self._loop.now
            if flushed is Flushed.ENOUGH:
                self._loop.again(self._write_on)
            else:
                self._queued = self._transport.unacknowledged()
        return False

    def _write_on(self) -> None:
        if self.state is _WRITE and self._output.rests:
            self._work_out()

    def _on_read(self, piece: memoryview | None) -> None:
        self._reading = None
        if self.state is not State.WAIT or not self._output.segments:
            return
        if piece is None:
            self.end()  # before Content-Length: the rest cannot be had
        else:
            self._output.supply(piece)
            self._work_out()


_HANDLERS: dict[State, Callable[[Connection, int], None]] = {
    State.HEAD: Connection._on_request,
    State.IDLE: Connection._on_request,
    State.BODY: Connection._on_request,
    State.WRITE: Connection._on_writable,
    State.WAIT: Connection._on_waiting,
}

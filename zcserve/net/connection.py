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
from dataclasses import dataclass, field
from functools import partial
from math import ceil, inf
from typing import TYPE_CHECKING

from zcserve.cache.entry import Body, DiskSpan, Entry, Redirect, device_of
from zcserve.cache.fetcher import Fetched, Fetcher, Renewed, Wait
from zcserve.cache.index import Generation
from zcserve.config import Config
from zcserve.errors import HttpError
from zcserve.forwarded import Origin, Proxies
from zcserve.http import KNOWN_METHODS, canonical_path
from zcserve.net import negotiate, reply, spans
from zcserve.net.bodies import Allowance, Hold
from zcserve.net.ending import Ending, may_close
from zcserve.net.exchange import Application, CutShortError, Exchange, Made, Outgoing, Piece, Resource, Stored
from zcserve.net.fastlane import Teacher
from zcserve.net.loop import Loop
from zcserve.net.output import Flushed, Output
from zcserve.net.poller import ERROR, HANG_UP, WRITE
from zcserve.net.reply import Prefixes, Reply
from zcserve.net.request import CLOSE, Collect, Discard, Fields, Parsed, Parser, split_target
from zcserve.net.sampler import Sampler
from zcserve.net.shortage import Shortage
from zcserve.net.transport import Transport
from zcserve.paths import SentPath

if TYPE_CHECKING:
    from zcserve.net._lane import Lane

# Read at a time. A browser's head is 0.5-2 KB; a longer one takes another turn.
RECV_BYTES = 8192
# How often a file may change under one request before the client is asked to come again.
RENEWALS_MAX = 3
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


@dataclass(slots=True)
class Service:
    """What all connections share. `log` takes a request's facts, or is None; `closed` hears of each that ends."""

    config: Config
    loop: Loop
    parser: Parser
    prefixes: Prefixes
    fetcher: Fetcher
    generation: Generation
    bodies: Allowance  # of requests, that are kept for applications
    log: Callable[..., None] | None = None
    teacher: Teacher | None = None
    sampler: Sampler | None = None
    application: Application | None = None
    proxies: Proxies | None = None  # that are trusted
    draining: bool = False  # every answer is its connection's last
    ending: bool = False  # and connections that wait for none are closed
    hurried: bool = False  # and an ending lasts no longer than until everything has arrived
    requests: int = 0
    connections: set[Connection] = field(default_factory=set)
    endings: set[Ending] = field(default_factory=set)
    closed: Callable[[], None] = lambda: None
    shortage: Shortage = field(init=False)

    def __post_init__(self) -> None:
        self.shortage = Shortage(self.loop.timers)

    @property
    def lane(self) -> Lane | None:
        """The compiled lane, if there is one."""
        return self.teacher.lane if self.teacher is not None else None

    def count(self) -> int:
        """Open connections, the lane's among them."""
        lane = self.lane
        # The lane counts those, too, that it has handed over and nobody has taken yet.
        return len(self.connections) + len(self.endings) if lane is None else lane.count + lane.foreign


class Connection:
    """One client, from accept to close."""

    __slots__ = (
        "_accepted",
        "_answered",
        "_body",
        "_body_since",
        "_brought",
        "_client",
        "_counted",
        "_discard",
        "_exchange",
        "_fields",
        "_head",
        "_hold",
        "_hung_up",
        "_inbox",
        "_lingers",
        "_loop",
        "_made",
        "_method",
        "_origin",
        "_outgoing",
        "_output",
        "_proxies",
        "_pulled",
        "_queued",
        "_read",
        "_renewals",
        "_resource",
        "_round",
        "_service",
        "_since",
        "_stop",
        "_stored",
        "_target",
        "_transport",
        "_wait",
        "armed",
        "state",
    )

    def __init__(self, service: Service, transport: Transport, *, from_lane: bool = False) -> None:
        self._service = service
        self._loop = service.loop
        self._transport = transport
        self._read = transport.read
        self._output = Output()
        peer = transport.peer
        self._client = peer  # or what a trusted proxy names
        self._origin: Origin | None = None  # what such a proxy says of the request at hand
        self._proxies = service.proxies if service.proxies is not None and service.proxies.trusts(peer) else None
        self._head = b""  # of the request at hand
        self._inbox = b""
        self._discard: Discard | None = None
        self._body_since, self._counted = 0.0, 0  # the body's clock, and how much of it had come when that was set
        self._hold: Hold | None = None  # what the body of the request at hand counts for
        self._method = self._target = b""
        self._fields: Fields | None = None
        self._body = b""  # a request's, kept for its resource
        self._resource: Resource | None = None  # of the application, that answers the request at hand
        self._exchange: Exchange | None = None  # whose answer is waited for
        self._made: Made | None = None  # the application's answer, until it is begun
        self._stored: Stored | None = None  # the entry that the application answers with
        self._outgoing: Outgoing | None = None
        self._brought: Callable[[], Stop | None] | None = None  # what to do with what was waited for
        self._wait: Wait | None = None  # for what a loader reads
        self._renewals = 0
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
                self._made = made
                self._take_request()
                self._bring(self._emit_given)
        except Exception:
            self.fail()
            raise
        self._catch_up()

    def _take_request(self) -> None:
        """Have the request at hand be the inbox's first, which the fast lane understood."""
        service = self._service
        parsed = self._parse(self._inbox, 0)
        assert parsed is not None
        self._method, self._target, self._fields, at = parsed
        self._head, self._inbox = self._inbox[:at], self._inbox[at:]
        service.requests += 1

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
            case State.WAIT if self._wait is not None:
                return self._wait.since + config.load_timeout_s
            case State.WAIT if config.app_timeout_s and self._is_applications_turn:
                return self._since + config.app_timeout_s
            case _:
                return inf

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
        elif self.state is _WAIT and self._wait is not None:
            self._expire_file()
        elif self.state is _WAIT:
            self._expire_application()
        elif self.state is _WRITE:
            self.close()  # the client reads nothing: waiting for it would be in vain
        elif self.is_silent():
            self.end()
        else:  # the loop was busy for long, and a request is here
            self._since = self._accepted = self._loop.now
            self._loop.timers.arm(self)
            self._catch_up()

    def _expire_application(self) -> None:
        """The application took too long: 504 (RFC 9110 section 15.6.5), or the end of a stream."""
        if self._exchange is None:
            self.end()
            return
        self._abandon()
        self._bring(lambda: self._emit(reply.page(504, with_content=self._has_content)))

    def _expire_file(self) -> None:
        """What a loader reads does not come: 503, or the end of an answer that is begun."""
        if self._output.segments:
            self.end()
            return
        self._cease_to_wait()
        self._bring(self._emit_unavailable)

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
        self._brought = None
        self._cease_to_wait()
        self._set_state(_CLOSED, keep=keep)
        self._service.connections.discard(self)

    def _abandon(self) -> None:
        """Tell the application that nobody waits any more."""
        self._discard = self._hold = None  # the application may go on with the body: it counts until that is over
        made, self._made = self._made, None
        if made is not None:
            made.discard()
        if self._outgoing is not None:
            self._end_stream()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

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
        return self._exchange is not None or self._pulled

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
        elif stop is Stop.LOAD and self._brought is not None:
            self._take_brought()
        else:
            if self.state is not State.WAIT:
                self._set_state(State.WAIT)
            if stop is Stop.SHARE:
                self._loop.again(self._go_on)
            elif stop is Stop.STREAM:
                self._loop.again(self._pull)
            elif self._exchange is not None:
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
        """Answer complete requests of the inbox into `_output`: the plain hit here, all else by `_answer`."""
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
                at, stop = self._feed_body(data, 0, share)
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
                    hit = self._choose(service.generation, resource, fields.accept) if resource.variants else resource
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
                    self._method, self._target, self._fields = method, target, fields
                    self._renewals = 0
                    self._stored = None
                    self._head = data[start:at]
                    self._resource = self._find_resource() if service.application is not None else None
                    if fields.body:
                        at, stop = self._begin_body(data, at, share - count)
                        share = service.config.pipeline_max - self._answered
                    else:
                        stop = self._answer()
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
        self._client, self._origin = self._transport.peer, None
        parsed = self._service.parser.parse(data, start)
        if parsed is not None and self._proxies is not None:
            self._origin = self._proxies.origin(self._transport.peer, data[start : parsed[3]])
            if self._origin is not None:
                self._client = self._origin.client.name
        return parsed

    def _emit_hit(self, method: bytes, target: bytes, fields: Fields, body: Body) -> Stop | None:
        service = self._service
        mode = CLOSE if service.draining else fields.mode
        self._output.add((service.prefixes.ok[mode], *body.whole()), body)
        if service.log is not None:
            service.log(self._client, method, target, fields, 200, body.size)
        if mode == CLOSE:
            return Stop.END
        return None if body.copied else Stop.SHARE

    def _emit(self, made: Reply, *, close: bool = False) -> Stop | None:
        """Put a response into `_output`, and tell whether more may follow at once."""
        span = made.first_span()
        if span is not None and not made.begun and not spans.is_at_hand(span):
            self._await_piece(span, partial(self._on_first_piece, made, span))
            return Stop.LOAD
        service = self._service
        fields = self._fields
        mode = CLOSE if close or service.draining or fields is None else fields.mode
        self._output.add((service.prefixes.of(made.status, mode), *made.segments), made.body)
        if service.log is not None:
            service.log(self._client, self._method, self._target, fields, made.status, made.length)
        self._end_request()
        if mode == CLOSE:
            return Stop.END
        may_more_follow = span is None and (made.body is None or made.body.copied)
        return None if may_more_follow else Stop.SHARE

    def _refuse(self, error: HttpError, unparsed: bytes = b"") -> None:
        """Answer what cannot be understood, and end: nothing behind it can be trusted. `unparsed` begins the request,
        where it could not even be parsed: HEAD gets no content, whatever else is wrong (RFC 9110 section 9.3.2)."""
        with_content = self._has_content and unparsed != b"HEAD "
        self._method = self._target = b""
        self._fields = None
        self._discard = None
        self._resource = None
        self._lingers = True
        extra = reply.RETRY if error.status == 503 else b""
        self._emit(reply.page(error.status, with_content=with_content, extra=extra), close=True)
        self._stop = Stop.END

    def _begin_body(self, data: bytes, at: int, share: int) -> tuple[int, Stop | None]:
        """A request with a body: read it first, so that the connection stays in step. The offset behind what was
        read. `share` as in `_feed_body`."""
        fields = self._fields
        assert fields is not None
        config = self._service.config
        resource = self._resource
        if fields.expects and resource is None and self._method not in (b"GET", b"HEAD", b"OPTIONS"):
            # The final answer instead of 100, and no knowing whether the body comes (RFC 9110 section 10.1.1).
            self._lingers = True
            made = self._respond()
            assert made is not None
            return at, self._emit(made, close=True)
        if resource is None:
            self._discard = Discard(fields.body, config.body_bytes_max, config.head_bytes_max)
        else:
            bodies = self._service.bodies
            self._hold = Hold(bodies)
            # A body that alone is too much would be so the next time, too.
            bytes_max = min(resource.body_bytes_max, bodies.bytes_max)
            self._discard = Collect(fields.body, bytes_max, config.head_bytes_max, self._hold)
        if fields.expects and at == len(data):
            self._output.add((reply.CONTINUE,))
        self._body_since, self._counted = self._loop.now, 0
        return self._feed_body(data, at, share)

    def _feed_body(self, data: bytes, at: int, share: int) -> tuple[int, Stop | None]:
        """Have the body take what is here of it, and answer when it is complete. Its chunks and trailers count like
        requests, of which `share` are left in this turn."""
        discard = self._discard
        assert discard is not None
        before = discard.lines
        at = discard.feed(data, at, share)
        self._answered += discard.lines - before
        if not discard.done:
            return at, Stop.SHARE if discard.rests else Stop.BODY
        self._keep_body()
        return at, self._answer()

    def _keep_body(self) -> None:
        if isinstance(self._discard, Collect):
            self._body = self._discard.content()
        self._discard = None

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
        self._method = self._head = b""
        self._resource = self._stored = None
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    # --- answers ------------------------------------------------------------------------------------------

    @property
    def _has_content(self) -> bool:
        """Whether content follows an answer's head to the request at hand, if its status has any: the one place that
        knows (RFC 9110 section 9.3.2)."""
        return self._method != b"HEAD"

    def _answer(self) -> Stop | None:
        """Answer the request at hand."""
        if self._resource is not None:
            return self._ask(self._resource)
        try:
            made = self._respond()
        except HttpError as error:
            if error.close:
                raise
            made = reply.page(error.status, with_content=self._has_content)
        return Stop.LOAD if made is None else self._emit(made)

    def _respond(self) -> Reply | None:
        """The response to the request at hand; None when a thread was asked to load first. Raises HttpError."""
        method, target = self._method, self._target
        if method in (b"GET", b"HEAD"):
            generation, resource, query = self._find(target)
            if isinstance(resource, Redirect):
                return reply.redirect(resource.location, query, with_content=self._has_content)
            if resource is None:
                return reply.not_found(self._service.generation.not_found_page, with_content=self._has_content)
            return self._respond_entry(generation, resource)
        if method == b"OPTIONS":
            if target != b"*" and self._find(target)[1] is None:
                return reply.not_found(self._service.generation.not_found_page, with_content=True)
            return reply.options()
        if method in KNOWN_METHODS:
            return reply.page(405, with_content=True, extra=reply.ALLOW)
        return reply.page(501, with_content=True)

    def _find(self, target: bytes) -> tuple[Generation, Entry | Redirect | None, bytes | None]:
        """What a target names, whose it is, and its query. Raises HttpError 400."""
        live = self._service.generation
        resource = live.resources.get(target)
        if resource is not None:
            return live, resource, None
        path, query = split_target(target)
        return *live.find(canonical_path(path)), query

    def _respond_entry(self, generation: Generation, base: Entry) -> Reply | None:
        fields = self._fields
        assert fields is not None
        chosen = self._choose(generation, base, fields.accept)
        if chosen is None:
            return reply.page(406, with_content=self._has_content, extra=reply.VARY)
        body = chosen.body
        teacher = self._service.teacher
        if teacher is not None and self._may_be_taught(base):
            teacher.teach(self._head, self._target, base, fields)
        if body is not None:
            chosen.uses += 1
            return self._represent(chosen, body)
        if self._stored is not None and self._stored.own:
            self._loop.call_soon(partial(self._on_loaded, chosen, Renewed()))  # nobody but its resource can bring it
        else:
            self._await(self._service.fetcher.fetch(generation, base, chosen, partial(self._on_loaded, chosen)))
        return None

    def _may_be_taught(self, base: Entry) -> bool:
        """Whether this entry is what the target always leads to."""
        if self._stored is not None:
            return self._stored.own
        return self._service.generation.resources.get(self._target) is base

    def _choose(self, generation: Generation, base: Entry, accept: dict[bytes, int] | None) -> Entry | None:
        """Negotiate, and have variants made again that were evicted."""
        for variant in base.variants:
            if variant.made and variant.body is None:
                self._service.fetcher.remake(generation, base, variant)
        return negotiate.choose(base, accept)

    def _represent(self, chosen: Entry, body: Body) -> Reply:
        """Conditions and ranges, now that the content is at hand."""
        fields = self._fields
        assert fields is not None
        if self._service.sampler is not None:
            self._service.sampler.note(chosen, self._loop.turn)
        chosen.tick = self._loop.turn
        stored = self._stored
        with_content = self._has_content
        decision = negotiate.WHOLE
        # Conditions and ranges are about a successful GET or HEAD (RFC 9110 sections 13.2.1, 14.2).
        if not fields.plain and self._method in (b"GET", b"HEAD") and (stored is None or stored.status == 200):
            ranges_max = self._service.config.ranges_max
            decision = negotiate.decide(fields, chosen, is_get=with_content, ranges_max=ranges_max)
        made = self._reply_of(decision, chosen, body, with_content=with_content)
        return made if stored is None else made.dressed(stored.status, stored.fields)

    def _reply_of(self, decision: negotiate.Decision, chosen: Entry, body: Body, *, with_content: bool) -> Reply:
        vary = reply.VARY if chosen.variants or chosen.encoding else b""
        match decision.status:
            case 206:
                return reply.partial(body, decision.ranges)
            case 304:
                return reply.not_modified(body)
            case 412:
                return reply.page(412, with_content=with_content, extra=vary)
            case 416:
                return reply.unsatisfiable(chosen.size, extra=vary)
            case _:
                return reply.whole(body, with_content=with_content)

    def _await(self, wait: Wait) -> None:
        """A loader reads for this connection; not for longer than `load_timeout_s` without progress."""
        self._wait = wait
        if self.state is State.WAIT:  # else its clock starts with the state
            self._loop.timers.arm(self)

    def _cease_to_wait(self) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            self._service.fetcher.cancel(wait)

    def _on_loaded(self, chosen: Entry, result: Fetched) -> None:
        self._wait = None
        if self.state is not _CLOSED:
            self._bring(partial(self._emit_loaded, chosen, result))

    def _bring(self, brought: Callable[[], Stop | None]) -> None:
        """What `Stop.LOAD` waited for is there; answer with it when what is before it is out."""
        self._brought = brought
        if not self._output.segments:
            self._take_brought()

    def _take_brought(self) -> None:
        brought, self._brought = self._brought, None
        assert brought is not None
        try:
            stop = brought()
        except HttpError as error:
            self._refuse(error)
            stop = Stop.END
        if stop is None:
            self._work()
        else:
            self._stop = stop
            self._work_out()

    def _emit_loaded(self, chosen: Entry, result: Fetched) -> Stop | None:
        """Answer with what a thread brought."""
        self._renewals += 1
        if isinstance(result, Body):
            return self._emit(self._represent(chosen, result))
        if isinstance(result, Renewed) and self._renewals <= RENEWALS_MAX:
            return self._answer() if self._stored is None else self._renew_stored(self._stored)
        return self._emit_unavailable()

    def _emit_unavailable(self) -> Stop | None:
        """The content cannot be had for now."""
        return self._emit(reply.page(503, with_content=self._has_content, extra=b"Retry-After: 1\r\n"))

    # --- answers of the application -----------------------------------------------------------------------

    def _find_resource(self) -> Resource | None:
        """What the application has for the request at hand. Who reads finds files first."""
        service = self._service
        assert service.application is not None
        if self._target == b"*" or self._method in (b"CONNECT", b"TRACE"):
            return None
        try:
            sent, query = split_target(self._target)
            path = SentPath(sent)
        except HttpError:
            return None  # `_respond` says so
        if self._method in (b"GET", b"HEAD") and path.key in service.generation.resources:
            return None
        websocket = self._fields is not None and self._fields.websocket and self._method == b"GET"
        return service.application.find(path, query, websocket=websocket)

    def _ask(self, resource: Resource) -> Stop | None:
        """Have the application answer the request at hand."""
        fields = self._fields
        assert fields is not None
        if resource.quick and fields.plain and self._service.teacher is not None:
            self._service.teacher.learn(self._head, fields)
        head = self._head.lstrip(b"\r\n")
        body, self._body = self._body, b""
        exchange = Exchange(
            self._method,
            self._target,
            head,
            body,
            self._client,
            self._transport.addresses,
            self._on_finished,
            self._hold,
            self._origin,
        )
        made = resource.respond(exchange)
        if made is None:
            self._exchange = exchange
            return Stop.LOAD
        return self._emit_made(made)

    def _on_finished(self, exchange: Exchange, made: Made) -> None:
        """In any thread."""
        self._loop.call_soon(partial(self._finished, exchange, made))

    def _finished(self, exchange: Exchange, made: Made) -> None:
        exchange.end()
        if exchange is not self._exchange:
            made.discard()
            if exchange.hold is not None:
                exchange.hold.release()
            return
        self._exchange = None
        self._made = made
        self._bring(self._emit_given)

    def _emit_given(self) -> Stop | None:
        made, self._made = self._made, None
        assert made is not None
        return self._emit_made(made)

    def _emit_made(self, made: Made) -> Stop | None:
        if isinstance(made, Stored):
            return self._emit_stored(made)
        assert self._fields is not None
        with_content = self._has_content and made.status not in (204, 304)
        framing = b""
        if made.length is not None and made.status not in (204, 304):  # RFC 9110 section 8.6
            framing = b"Content-Length: %d\r\n" % made.length
        content = made.content
        if isinstance(content, (bytes, tuple)):
            segments = (content,) if isinstance(content, bytes) else content
            head = framing + made.fields + b"\r\n"
            length = made.length if with_content and made.length is not None else 0
            return self._emit(Reply(made.status, (head, *segments) if length else (head,), length, made.body))
        chunked = made.length is None and self._fields.version == b"HTTP/1.1"
        if chunked and made.status not in (204, 304):
            framing = b"Transfer-Encoding: chunked\r\n"
        head = framing + made.fields + b"\r\n"
        if not with_content:
            content.close()
            return self._emit(Reply(made.status, (head,)))
        return self._emit_stream(made.status, head, Outgoing(content, made.status, made.length, chunked=chunked))

    def _emit_stored(self, stored: Stored) -> Stop | None:
        """A resource of the cache, as if it had been asked for."""
        self._stored = stored
        made = self._respond_entry(stored.generation, stored.entry)
        return Stop.LOAD if made is None else self._emit(made)

    def _renew_stored(self, stored: Stored) -> Stop | None:
        """What an application named has changed since, or what it made was evicted."""
        if stored.own:
            assert self._resource is not None
            return self._ask(self._resource)
        fresh = stored.generation.resources.get(stored.entry.key)
        if not isinstance(fresh, Entry):
            return self._emit(reply.not_found(None, with_content=self._has_content))
        stored.entry = fresh
        return self._emit_stored(stored)

    def _emit_stream(self, status: int, head: bytes, outgoing: Outgoing) -> Stop | None:
        """Begin an answer whose content comes piece by piece."""
        service = self._service
        fields = self._fields
        assert fields is not None
        if service.draining or fields.mode == CLOSE:
            outgoing.last = True
        self._output.add((service.prefixes.of(status, CLOSE if outgoing.last else fields.mode), head))
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
        if self._service.log is not None:
            status, sent = outgoing.status, outgoing.sent
            self._service.log(self._client, self._method, self._target, self._fields, status, sent)
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
            self._await_piece(self._output.cold(), self._on_read)
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

    def _await_piece(self, span: DiskSpan, done: Callable[[memoryview | None], None]) -> None:
        device = device_of(span.file.identity)
        self._await(self._service.fetcher.run(span, partial(_cold_piece, span), done, device))

    def _on_first_piece(self, made: Reply, span: DiskSpan, piece: memoryview | None) -> None:
        """Before the head is sent, so that there is another answer where a file cannot be read."""
        self._wait = None
        if self.state is _CLOSED:
            return
        if piece is None:
            self._bring(self._emit_unavailable)
        else:
            made.begin(span, piece)
            self._bring(partial(self._emit, made))

    def _on_read(self, piece: memoryview | None) -> None:
        self._wait = None
        if self.state is not State.WAIT or not self._output.segments:
            return
        if piece is None:
            self.end()  # before Content-Length: the rest cannot be had
        else:
            self._output.supply(piece)
            self._work_out()


def _cold_piece(span: DiskSpan) -> memoryview | None:
    """In a thread: the next bytes of a file; None when there are none, or none of the version that was begun."""
    try:
        return spans.read_cold(span)
    except (OSError, spans.TornError):
        return None


_HANDLERS: dict[State, Callable[[Connection, int], None]] = {
    State.HEAD: Connection._on_request,
    State.IDLE: Connection._on_request,
    State.BODY: Connection._on_request,
    State.WRITE: Connection._on_writable,
    State.WAIT: Connection._on_waiting,
}

"""One client: its states, its deadlines and its end.

    HEAD --head complete--> answer --all sent--> IDLE --first bytes--> HEAD ...
      |                       |  |                  (an answer that leaves at once changes no state)
      |                       |  +--socket full--> WRITE --drained--> go on
      |                       +--not resident, or a servlet's----> WAIT  --there it is---> go on
      +--has a body-----------> BODY --read------> answer
    anything --error, close--> CLOSED; what was sent arrives all the same (ending.py)

States change in one place (`_set_state`), which knows the lawful moves, points the loop at the state's handler, and
starts the state's clock. While output waits, or a thread works, nothing is read: a client that sends and never reads
costs what is in its inbox, which one read bounds.

Every state has something that ends it. HEAD, IDLE and BODY have deadlines for what the client owes, and WRITE has one
from progress to progress. WAIT for a thread ends with the thread, WAIT for the next turn with the turn. WAIT for an
application ends when the client closes its side (a client that wants an answer does not close before it; what is
complete is sent to such a client all the same), with the kernel's keepalive where the client has vanished, and with
`app_timeout_s` where that is set.

Requests of one read are answered together (`Http1.fill`), and leave together (`_flush`); `_answer` alternates the two
until something must be waited for. A turn's share is bounded by `pipeline_max` and `turn_bytes_max`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from math import inf

from zcserve.cache.fetcher import Wait
from zcserve.errors import HttpError
from zcserve.net import spans
from zcserve.net.ending import Ending, may_close
from zcserve.net.exchange import Answer
from zcserve.net.front import Kind
from zcserve.net.http1 import Http1, Stop
from zcserve.net.output import Flushed, Output
from zcserve.net.poller import ERROR, HANG_UP, WRITE
from zcserve.net.service import Service
from zcserve.net.transport import SocketTransport, Transport

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


class Connection:
    """One client, from accept to close."""

    __slots__ = (
        "_accepted",
        "_http",
        "_hung_up",
        "_is_resumed",
        "_loop",
        "_output",
        "_queued",
        "_read",
        "_reading",
        "_service",
        "_since",
        "_stop",
        "_transport",
        "armed",
        "state",
    )

    def __init__(self, service: Service, transport: Transport, *, from_front: bool = False) -> None:
        self._service = service
        self._loop = service.loop
        self._transport = transport
        self._read = transport.read
        self._is_resumed = False  # what the request at hand waited for is there
        self._reading: Wait | None = None  # for the output's next piece of a file
        self._queued = 0  # `Transport.unacknowledged` when it was last full
        self._hung_up = False  # the peer sends no more; told once, behind what it sent
        self._stop = Stop.BYTES
        self.armed = inf
        self.state = State.HEAD
        self._since = self._accepted = self._loop.now
        if from_front:
            self._loop.handlers[transport.fd] = self._on_request
        else:
            self._loop.add(transport.fd, self._on_request, Kind.CLIENT)
        self._output = Output()
        self._http = Http1(service, self, self._output, transport.peer)
        service.connections.add(self)
        self._loop.timers.arm(self)

    def go_on(self, data: bytes, answer: Answer | None, *, hung_up: bool) -> None:
        """Go on where the front stopped, with what is in `Handed`. Where it had asked the application for the first
        request, that answer is sent: an application is called once for a request, and the target may lead elsewhere by
        now."""
        self._hung_up = hung_up
        self._http.inbox = data
        try:
            if answer is None:
                self._answer()
            else:
                self._http.take(answer)
                self.resumed()
        except Exception:
            self.fail()
            raise
        self._catch_up()

    def _given_back(self) -> None:
        """The connection is idle, and the front's again: this object is done with it."""
        self._set_state(_CLOSED, keep=True)
        self._service.connections.discard(self)
        self._http.close()
        self._transport.release()

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
                if self._service.ending and not self._http.inbox:
                    return self._accepted + FRESH_S
                return self._since + config.head_timeout_s
            case State.IDLE:
                return self._since + config.idle_timeout_s
            case State.BODY:
                return self._http.body_since + config.body_timeout_s
            case State.WRITE:
                return self._since + config.write_timeout_s
            case State.WAIT if (wait := self._reading or self._http.wait) is not None:
                return wait.since + config.load_timeout_s
            case State.WAIT if config.app_timeout_s and self._http.is_applications_turn:
                return self._since + config.app_timeout_s
            case _:
                return inf

    def expire(self) -> None:
        """The state's deadline passed."""
        if self.state is _WRITE and self._transport.unacknowledged() < self._queued:
            self._queued = self._transport.unacknowledged()  # a slow reader, but it reads
            self._since = self._loop.now
            self._loop.timers.arm(self)
        elif self.state is State.BODY and self._http.body_comes():
            self._loop.timers.arm(self)
        elif self.state is State.BODY or (self.state is State.HEAD and self._http.inbox):
            late = HttpError(408, "the request took too long", close=True)
            self.proceed(self._http.refuse(late, self._http.inbox[:5]))
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
        if self._reading is None and self._http.expire():
            self.resumed()
            return
        config = self._service.config
        if self._reading is not None:
            self._http.tell(
                f"the download was cut, its file made no progress within --load-timeout ({config.load_timeout_s:g} s)"
            )
        else:
            self._http.tell(f"its stream was cut, it gave no piece within --app-timeout ({config.app_timeout_s:g} s)")
        self.end()

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has been read of this client, and it may not have had the time to send anything."""
        return self.state is _HEAD and not self._http.inbox and self._loop.now < self._accepted + FRESH_S

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
        idle = self.state is State.IDLE or (self.state is State.HEAD and not self._http.inbox)
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
        if (self._hung_up or not self._http.lingers) and may_close(
            self._transport, says_no_more=says_no_more or self._hung_up
        ):
            self.close()
            return
        self._leave(keep=True)
        Ending(self._service, self._transport, watched=True)
        self._http.close()

    def close(self) -> None:
        """End now, whatever is on its way: the client is gone, or reads nothing."""
        if self.state is _CLOSED:
            return
        self._leave(keep=False)
        self._transport.close()
        self._service.closed()
        self._http.close()

    def _leave(self, *, keep: bool) -> None:
        self._output.drop()
        self._is_resumed = False
        reading, self._reading = self._reading, None
        if reading is not None:
            self._service.fetcher.cancel(reading)
        self._set_state(_CLOSED, keep=keep)
        self._service.connections.discard(self)

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
        http = self._http
        if http.inbox:
            data = http.inbox + data
        elif self.state is not State.BODY:
            self._since = self._loop.now
        http.inbox = data
        self._answer()
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
            self._send()

    def _on_waiting(self, mask: int) -> None:
        """WAIT: a client that is gone need not be waited for."""
        if mask & ERROR:
            self.close()
        elif mask & HANG_UP:
            self._hung_up = True
            self._let_application_go()

    def _let_application_go(self) -> None:
        """The client has closed its side, as clients do that are gone: nothing is waited for that an application has
        yet to make. What is complete before it is still sent."""
        if not self._http.is_applications_turn:
            return
        if self._output.segments:
            self._http.abandon()
            self._stop = Stop.END
        else:
            self.end()

    # --- a request's way ----------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Answer and send until something must be waited for."""
        service = self._service
        answered = service.requests
        self._stop = self._http.fill()
        if service.requests != answered:
            self._since = self._loop.now  # what is left begins another request, whose clock starts here
        self._send()

    def proceed(self, stop: Stop) -> None:
        """As `Owner.proceed`."""
        self._stop = stop
        self._send()

    def resumed(self) -> None:
        """As `Owner.resumed`: answer when what is before it is out."""
        self._is_resumed = True
        if not self._output.segments:
            self._take_over_request()

    def _take_over_request(self) -> None:
        self._is_resumed = False
        stop = self._http.go_on()
        if stop is None:
            self._answer()
        else:
            self.proceed(stop)

    def addresses(self) -> tuple[object, object]:
        """As `Owner.addresses`."""
        return self._transport.addresses()

    def _send(self) -> None:
        """Send what is answered, then do what `Http1.fill` stopped for."""
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
                    self._http.body_since = self._loop.now
                self._set_state(State.BODY)
                self._catch_up()
        elif stop is Stop.LOAD and self._is_resumed:
            self._take_over_request()
        else:
            if self.state is not State.WAIT:
                self._set_state(State.WAIT)
            elif stop is Stop.LOAD:
                self._loop.timers.arm(self)
            if stop is Stop.SHARE:
                self._loop.again(self._answer_on)
            elif stop is Stop.STREAM:
                self._loop.again(self._pull)
            elif self._http.is_applications_turn:
                self._begin_to_wait()

    def _begin_to_wait(self) -> None:
        """It is the application's turn: its clock starts, unless its client is gone already."""
        if self._hung_up:
            self._let_application_go()
        elif self._service.config.app_timeout_s:
            self._since = self._loop.now
            self._loop.timers.arm(self)

    def _await_request(self) -> None:
        state = _HEAD
        if not self._http.inbox:
            state = _IDLE
            if self._service.ending:
                if self.is_silent():
                    self.end()
                    return
            elif not self._hung_up and self._loop.front.give(self._transport.fd):
                self._given_back()
                return
        if self.state is not state:
            missed = self.state not in (_HEAD, _IDLE)
            self._set_state(state)
            if missed:
                self._catch_up()

    def _catch_up(self) -> None:
        """Edges that came while nothing was read are not told again: try."""
        self._loop.again(self._read_on)

    def _answer_on(self) -> None:
        if self.state is State.WAIT and not self._output.segments:
            self._answer()

    def _finish(self) -> None:
        """The last answer is out. A client that has said that it closes sends no more (RFC 9112 section 9.6); but one
        that was long in reading its answer is not relied upon."""
        was_quick = self.state is not _WRITE and not self._http.inbox
        self.end(says_no_more=was_quick and not self._service.draining)

    def _pull(self) -> None:
        """Have a stream's next piece brought, now that the last one is out."""
        is_out = self.state is State.WAIT and not self._output.segments
        if is_out and self._stop is Stop.STREAM and self._http.pull():
            self._begin_to_wait()

    # --- output -------------------------------------------------------------------------------------------

    def _flush(self) -> bool:
        """Send what is in `_output`; True when all of it is out. Else the state says what is waited for."""
        flushed = self._output.flush(self._transport, self._service.config.turn_bytes_max)
        if flushed is _DONE:
            return True
        if flushed is Flushed.GONE:
            self.close()
        elif flushed is Flushed.TORN:
            self._http.tell("the download was cut, its file has changed")
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
            self._send()

    def _on_read(self, piece: memoryview | None) -> None:
        self._reading = None
        if self.state is not State.WAIT or not self._output.segments:
            return
        if piece is None:
            self._http.tell("the download was cut, its file has changed or cannot be read")
            self.end()  # before Content-Length: the rest cannot be had
        else:
            self._output.supply(piece)
            self._send()


def take_over(service: Service, fd: int) -> None:
    """The front hands a connection over: it is Python's until it is given back (`Connection._await_request`)."""
    handed = service.loop.front.take(fd)
    if handed is not None:
        peer, data, _, hung_up, made = handed
        Connection(service, SocketTransport.of(fd, peer), from_front=True).go_on(data, made, hung_up=hung_up)


_HANDLERS: dict[State, Callable[[Connection, int], None]] = {
    State.HEAD: Connection._on_request,
    State.IDLE: Connection._on_request,
    State.BODY: Connection._on_request,
    State.WRITE: Connection._on_writable,
    State.WAIT: Connection._on_waiting,
}

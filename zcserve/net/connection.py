"""One client: what it sends is read, what it is answered is sent, and how it ends.

The states (states.py) change in one place (`_set_state`), which has the clock make the move, and points the loop at the
state's handler. While output waits, or a thread works, nothing is read: a client that sends and
never reads costs what is in its inbox, which one read bounds.

Requests of one read are answered together (`Http1.fill`), and leave together (`Output.flush`); `_answer` alternates the
two until something must be waited for. A turn's share is bounded by `pipeline_max` and `turn_bytes_max`.
"""

from __future__ import annotations

from math import inf

from zcserve.errors import HttpError
from zcserve.net.ending import Ending, may_close
from zcserve.net.front import Handed, Kind
from zcserve.net.http1 import Http1
from zcserve.net.output import Flushed, Output
from zcserve.net.owner import Stop
from zcserve.net.poller import ERROR, HANG_UP, WRITE
from zcserve.net.service import Service
from zcserve.net.states import Clock, State
from zcserve.net.stay import IDLE_S, Stay
from zcserve.net.transport import SocketTransport, Transport
from zcserve.site.site import Site

# Read at a time. A browser's head is 0.5-2 KB; a longer one takes another turn.
RECV_BYTES = 8192

_DONE = Flushed.DONE
_HEAD, _IDLE, _BODY, _WRITE, _WAIT, _CLOSED = State
_READING = (_HEAD, _IDLE, _BODY)


class Connection:
    """One client, from accept to close."""

    __slots__ = (
        "_http", "_hung_up", "_is_resumed", "_loop", "_output", "_read", "_service", "_stay", "_stop", "armed",
        "clock", "transport",
    )  # fmt: skip

    def __init__(self, service: Service, transport: Transport, stay: Stay | None = None, read_at: float = 0.0) -> None:
        """`stay`: the front handed it over, and watches it already; what it has read it read at this time."""
        self._service, self._loop, self._stay = service, service.loop, stay
        self.transport, self._read = transport, transport.read
        self._is_resumed = False  # what the request at hand waited for is there
        self._hung_up = False  # the peer sends no more; told once, behind what it sent
        self._stop, self.armed = Stop.BYTES, inf
        self._output = Output(service.tally, read_at)
        self._http = Http1(service, self, self._output, transport.peer, transport.addresses)
        self.clock = Clock(service, self._http, self._output, inf if stay is None else IDLE_S)
        if stay is not None:  # `go_on` arms it, if there is something to wait for
            self._loop.handlers[transport.fd] = self._on_request
        else:
            self._loop.add(transport.fd, self._on_request, service.kind)
            self._loop.timers.arm(self)
        service.connections.add(self)

    def go_on(self, handed: Handed) -> None:
        """Go on where the front stopped; what it has not sent goes out first. Where it had asked the application, its
        answer to the first request is sent: it is called once for each, and the target may lead elsewhere by now."""
        _, data, _, self._hung_up, answer, unsent, account, _, request_id = handed
        self._http.inbox = data
        if unsent:
            self._output.add_for(self._service.tally.of(account), (unsent,))
        try:
            if answer is None:
                self._answer()
            else:
                self._http.take(answer, request_id)
                self._is_resumed, self._stop = True, Stop.LOAD
                self._send()
        except Exception:
            self.fail()
            raise
        if self.clock.state is not _CLOSED:
            self._loop.timers.arm(self)
            self._loop.again(self._read_on)

    # --- states -------------------------------------------------------------------------------------------

    def _set_state(self, state: State, *, keep: bool = False) -> None:
        self.clock.move(state)
        if state is _CLOSED:
            (self._loop.release if keep else self._loop.forget)(self.transport.fd)
            self._loop.timers.disarm(self)
            return
        self._loop.handlers[self.transport.fd] = self._on_request if state in _READING else self._on_event
        self._loop.timers.arm(self)

    def due(self) -> float:
        """As `Timed.due`."""
        return self.clock.due()

    def expire(self) -> None:
        """The state's deadline passed."""
        state = self.clock.state
        if self.clock.goes_on(self.transport):
            self._loop.timers.arm(self)
            self._loop.again(self._read_on)
        elif state is _BODY or (state is _HEAD and self._http.inbox):
            late = HttpError(408, "the request took too long", close=True)
            self.proceed(self._http.refuse(late, self._http.inbox[:5]))
        elif state is _WAIT:
            self._expire_wait()
        elif state is _WRITE:
            self.close()  # the client reads nothing: waiting for it would be in vain
        elif state is not _IDLE or not self._goes_back():
            self.end()

    def _expire_wait(self) -> None:
        """A file or an application takes too long: another answer, or the end of one that is begun."""
        if self._output.wait is not None:
            self._cut(f"its file made no progress within --load-timeout ({self._service.config.load_timeout_s:g} s)")
        elif self._http.expire():
            self.resumed()
        else:
            self.end()

    def _cut(self, why: str) -> None:
        """A download that is begun cannot be finished: it ends before its Content-Length."""
        self._http.tell(f"the download was cut, {why}")
        self.end()

    def asks(self, site: Site) -> bool:
        """As `Connected.asks`."""
        return self._http.asks(site)

    def shed(self) -> bool:
        """End to make room; False where the client has not everything, or a request lies unread: it would be reset."""
        if self.transport.unacknowledged() or self.transport.has_unread():
            return False
        self.end()
        return True

    def make_way(self) -> bool:
        """Close for a newcomer, whatever is on its way; False where the first request lies unread: it is read in the
        next turn, and a reset would be its answer."""
        if self.clock.state in _READING and self._http.is_new and self.transport.has_unread():
            return False
        self.close()
        return True

    def drain(self) -> None:
        """The server stops: end now if nothing is owed, else after the answer at hand. A client that has just connected
        has its chance to ask first."""
        if self.clock.is_fresh:
            self._loop.timers.arm(self)
        elif self.clock.state in (_HEAD, _IDLE) and not self._http.inbox and not self.transport.has_unread():
            self.end()

    def end(self) -> None:
        """End in order: what was sent arrives. What was not sent is dropped."""
        if self.clock.state is _CLOSED:
            return
        says_no_more = self._hung_up or (self._http.says_no_more if not self._http.inbox else False)
        if may_close(self.transport, says_no_more=says_no_more):
            self.close()
            return
        self._leave(keep=True)
        Ending(self._service, self.transport, watched=True, says_no_more=bool(says_no_more))
        self._http.close()

    fail = end  # a handler raised: whatever it was about, this connection is not to be trusted

    def close(self) -> None:
        """End now, whatever is on its way: the client is gone, or reads nothing."""
        if self.clock.state is _CLOSED:
            return
        self._leave(keep=False)
        self.transport.close()
        self._service.closed()
        self._http.close()

    def _leave(self, *, keep: bool) -> None:
        self._output.drop(self._service.fetcher)
        self._is_resumed = False
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
            data = b""
        if not data:
            self.close()  # half a request, or none: no answer is waited for
            return
        more = len(data) == RECV_BYTES or self._hung_up
        http, output = self._http, self._output
        output.read_at = now = self._loop.now
        if http.inbox:
            data = http.inbox + data
        elif self.clock.state is not _BODY:
            self.clock.since = output.began = now
        http.inbox = data
        self._answer()
        if more and self.clock.state in _READING:  # else it is read when the state is one of these again
            self._read_later()

    def _read_later(self) -> None:
        """There may be more to read. A client that sends no more, and of which all is read, is closed at once: steps
        are few in a turn, and many such clients would hold up those of others."""
        if self._hung_up and not self.transport.has_unread():
            self.close()
        else:
            self._loop.again(self._read_on)

    def _read_on(self) -> None:
        """Events that came while nothing was read are not told again: try."""
        if self.clock.state in _READING:
            self._on_request(0)

    def _on_event(self, mask: int) -> None:
        """WRITE and WAIT: the socket may take more, or the client is gone. What it sends meanwhile is no progress."""
        if mask & ERROR:
            self.close()
            return
        if mask & HANG_UP:
            self._hung_up = True
            self._let_application_go()
        if mask & WRITE and self.clock.state is _WRITE and self._output.segments and not self._output.rests:
            self._send()

    def _let_application_go(self) -> None:
        """The client has closed its side, as clients do that are gone: nothing is waited for that an application has
        yet to make. What is complete before it is still sent."""
        is_owed = self._http.is_applications_turn
        if is_owed and self._output.segments:
            self._http.abandon()
            self._stop = Stop.END
        elif is_owed:
            self.end()

    # --- a request's way ----------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Answer and send until something must be waited for."""
        answered = self._service.requests
        self._stop = self._http.fill()
        if self._service.requests != answered:
            self.clock.since = self._loop.now  # what is left begins another request, whose clock starts here
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

    def _send(self) -> None:
        """Send what is answered, then do what `Http1.fill` stopped for."""
        output = self._output
        share = self._service.config.turn_bytes_max
        if output.segments and (flushed := output.flush(self.transport, share)) is not _DONE:
            self._pause(flushed)
            return
        stop = self._stop
        if stop is Stop.BYTES:
            self._await_request()
        elif stop is Stop.END:
            self.end()
        elif stop is Stop.BODY:
            if self.clock.state is not _BODY:
                if self.clock.state is _WRITE and self._http.receiving is not None:
                    self._http.receiving.rest()  # else its clock goes on while it rests
                self._set_state(_BODY)
                self._loop.again(self._read_on)
        elif stop is Stop.LOAD and self._is_resumed:
            self._take_over_request()
        else:
            if self.clock.state is not _WAIT:
                self._set_state(_WAIT)
            elif stop is Stop.LOAD:
                self._loop.timers.arm(self)
            if stop is Stop.SHARE:
                self._loop.again(self._answer_on)
            elif stop is Stop.TURN:
                self._loop.calling.later(self._answer_on, is_quiet=self._http.is_quiet)
            elif stop is Stop.STREAM:
                self._loop.again(self._pull)
            elif self._http.is_applications_turn:
                self._begin_to_wait()

    def _begin_to_wait(self) -> None:
        """It is the application's turn: its clock starts, unless its client is gone already."""
        if self._hung_up:
            self._let_application_go()
        elif self._service.config.app_timeout_s:
            self.clock.since = self._loop.now
            self._loop.timers.arm(self)

    def _await_request(self) -> None:
        state, front, stay = _HEAD, self._loop.front, self._stay
        if not self._http.inbox:
            state = _IDLE
            if self._service.ending:
                if not self.transport.has_unread():
                    self.end()
                    return
            elif front.takes and (stay is None or stay.is_over(self._http.plain)) and self._goes_back():
                return
        if self.clock.state is not state:
            missed = self.clock.state not in (_HEAD, _IDLE)
            self._set_state(state)
            if missed:
                self._read_later()

    def _goes_back(self) -> bool:
        """Give the connection, which owes nothing, to the front, where that takes it."""
        if self._hung_up or self._service.kind is not Kind.CLIENT:
            return False
        if not self._loop.front.give(self.transport.fd, self.clock.since):
            return False
        self._leave(keep=True)
        self.transport.release()
        self._http.close()
        return True

    def _answer_on(self) -> None:
        if self.clock.state is _WAIT and not self._output.segments:
            self._answer()

    def _pull(self) -> None:
        """Have a stream's next piece brought, now that the last one is out."""
        is_out = self.clock.state is _WAIT and not self._output.segments
        if is_out and self._stop is Stop.STREAM and self._http.pull():
            self._begin_to_wait()

    # --- output -------------------------------------------------------------------------------------------

    def _pause(self, flushed: Flushed) -> None:
        """Something of `_output` is not sent: the state says what is waited for."""
        if flushed is Flushed.GONE:
            self.end()  # or a file system has no sendfile, or no luck: what stands before it arrives
        elif flushed is Flushed.TORN:
            self._cut("its file has changed")
        elif flushed is Flushed.COLD:
            if self.clock.state is not _WAIT:
                self._set_state(_WAIT)
            self._output.read(self._service.fetcher, self._on_read)
            self._loop.timers.arm(self)
        else:
            if self.clock.state is not _WRITE:
                self._set_state(_WRITE)
            self.clock.since = self._loop.now
            if flushed is Flushed.ENOUGH:
                self._loop.again(self._write_on)

    def _write_on(self) -> None:
        if self.clock.state is _WRITE and self._output.rests:
            self._send()

    def _on_read(self, piece: memoryview | None) -> None:
        if self._output.supply(piece):
            self._send()
        else:
            self._cut("its file has changed or cannot be read")


def take_over(service: Service, fd: int) -> None:
    """The front hands a connection over: it is Python's until it is given back (`Connection._goes_back`)."""
    handed = service.loop.front.take(fd)
    if handed is not None:
        peer, _, in_vain, *_, read_at, _ = handed
        Connection(service, SocketTransport.of(fd, peer), Stay(in_vain), read_at).go_on(handed)

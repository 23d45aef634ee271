"""The states of a connection, the moves between them, and how long each may last.

    HEAD --head complete--> answer --all sent--> IDLE --first bytes--> HEAD ...
      |                       |  |                  (an answer that leaves at once changes no state)
      |                       |  +--socket full--> WRITE --drained--> go on
      |                       +--not resident, or a servlet's----> WAIT  --there it is---> go on
      +--has a body-----------> BODY --read------> answer
    anything --error, close--> CLOSED; what was sent arrives all the same (ending.py)

Every state has something that ends it. HEAD, IDLE and BODY have deadlines for what the client owes, and WRITE has one
from progress to progress. WAIT for a thread ends with the thread, WAIT for the next turn with the turn. WAIT for an
application ends when the client closes its side (a client that wants an answer does not close before it; what is
complete is sent to such a client all the same), with the kernel's keepalive where the client has vanished, and with
`app_timeout_s` where that is set.
"""

from __future__ import annotations

import enum
from math import inf

from zcserve.net.http1 import Http1
from zcserve.net.output import Output
from zcserve.net.service import Claim, Service
from zcserve.net.transport import Transport

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


# Every state may end; these are the other lawful moves.
MOVES: dict[State, frozenset[State]] = {
    State.HEAD: frozenset((State.IDLE, State.HEAD, State.BODY, State.WRITE, State.WAIT)),
    State.IDLE: frozenset((State.HEAD, State.BODY, State.WRITE, State.WAIT)),
    State.BODY: frozenset((State.IDLE, State.HEAD, State.WRITE, State.WAIT)),
    State.WRITE: frozenset((State.IDLE, State.HEAD, State.BODY, State.WAIT)),
    State.WAIT: frozenset((State.IDLE, State.HEAD, State.BODY, State.WRITE)),
    State.CLOSED: frozenset(),
}


class Clock:
    """The state of one connection, since when it has it, and when it has lasted too long.

    state     changed by `move` alone
    accepted  when the client connected, or the front handed it over
    since     HEAD: its first byte. IDLE: its begin. WRITE: the last progress. WAIT: when an application was asked for
              an answer or a piece. BODY has the body's clock (`Receiving`), a file that is read the thread's
    """

    __slots__ = ("_http", "_idle_s", "_output", "_service", "accepted", "since", "state")

    def __init__(self, service: Service, http: Http1, output: Output, idle_s: float = inf) -> None:
        """`idle_s`: IDLE lasts so long at most, if not shorter."""
        self._service = service
        self._http = http
        self._output = output
        self._idle_s = min(idle_s, service.config.idle_timeout_s)
        self.since = self.accepted = service.loop.now
        self.state = State.HEAD
        service.tally.states[State.HEAD] += 1

    def move(self, state: State) -> None:
        """Have the state change, from now. Raises AssertionError for a move that is not lawful."""
        if state is not State.CLOSED and state not in MOVES[self.state]:
            raise AssertionError(f"{self.state.name} does not lead to {state.name}")
        self._service.tally.move(self.state, state)
        self.state = state
        self.since = self._service.loop.now

    def due(self) -> float:
        """When the state has lasted too long; inf for never."""
        config = self._service.config
        match self.state:
            case State.HEAD:
                if self._service.ending and not self._http.inbox:
                    return self.accepted + FRESH_S
                return self.since + config.head_timeout_s
            case State.IDLE:
                return self.since + self._idle_s
            case State.BODY if (receiving := self._http.receiving) is not None:
                return receiving.due()
            case State.WRITE:
                return self.since + config.write_timeout_s
            case State.WAIT if (wait := self._output.wait or self._http.wait) is not None:
                return wait.since + config.load_timeout_s
            case State.WAIT if config.app_timeout_s and self._http.is_applications_turn:
                return self.since + config.app_timeout_s
            case _:
                return inf

    def goes_on(self, transport: Transport) -> bool:
        """The state is due: whether it may go on, from now, since the client does what it owes."""
        now = self._service.loop.now
        match self.state:
            case State.BODY:
                return self._http.receiving is not None and self._http.receiving.suffices()
            case State.WRITE if self._output.is_taken(transport):
                self.since = now
                return True
            case State.HEAD | State.IDLE if not self._http.inbox and transport.has_unread():
                self.since = self.accepted = now  # the loop was busy for long
                return True
            case _:
                return False

    @property
    def idle_since(self) -> float:
        """Since when nothing has been asked of the server; inf while it owes an answer."""
        return self.since if self.state in (State.HEAD, State.IDLE) else inf

    def may_be_shed(self, age_s: float) -> bool:
        """Whether it is idle, was accepted `age_s` ago or earlier, and had the time to ask."""
        now = self._service.loop.now
        return self.idle_since < now and self.accepted <= now - age_s and not self.is_fresh

    @property
    def claim(self) -> Claim:
        """What the client has to its place."""
        http, state = self._http, self.state
        if state is State.WAIT and http.is_streaming:
            return Claim.STREAM
        if state is State.WAIT and (http.is_new or http.wait is not None or http.is_applications_turn):
            return Claim.OWED
        is_late = state is State.IDLE or not http.is_new or self._service.loop.now >= self.since + FRESH_S
        return Claim.NONE if is_late else Claim.FRESH

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has been read of this client, and it may not have had the time to send anything."""
        return self.state is State.HEAD and not self._http.inbox and self._service.loop.now < self.accepted + FRESH_S

"""zcserve.drain: the end of what a service serves, in order, at once, or since another process serves. With processes:
tests/wire/test_endings.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import COLD, GET, House, statuses
from tests.support.memory import MemoryTransport, body_of
from zcserve.config.addresses import UnixAddress
from zcserve.drain import LAST_S, Drain
from zcserve.net.connection import Connection
from zcserve.net.ending import Ending
from zcserve.net.listener import Listener, Reserve, bind
from zcserve.net.poller import HANG_UP, READ
from zcserve.net.states import State


class Desk:
    """A house with one listener, and how often its loop was stopped."""

    def __init__(self, path: Path, stack: ExitStack, **settings: Any) -> None:
        (path / "root").mkdir()
        self.here = House(path / "root", **settings)
        stack.callback(self.here.loop.close)
        self.address = path / "socket"
        (sock,) = bind(UnixAddress(str(self.address)))
        stack.callback(sock.close)
        self.reserve = Reserve()
        stack.callback(self.reserve.close)
        self.listener = Listener(sock, self.here.service, self.reserve, lambda: False)
        self.stops = 0
        self.here.loop.stop = self._stop  # type: ignore[method-assign]
        self.drain = Drain(self.here.service, [self.listener])

    def _stop(self) -> None:
        self.stops += 1

    def idle(self) -> tuple[Connection, MemoryTransport]:
        """A connection that has asked for something and owes nothing."""
        connection, transport = self.here.connect(GET)
        self.here.turn(transport)
        assert connection.clock.state is State.IDLE
        return connection, transport

    def busy(self) -> tuple[Connection, MemoryTransport]:
        """A connection whose answer is waited for."""
        connection, transport = self.here.connect(COLD)
        self.here.turn(transport)
        assert connection.clock.state is State.WAIT
        return connection, transport

    def leaves(self, transport: MemoryTransport) -> None:
        """A client has read its last answer, and closes."""
        transport.ended = True
        self.here.turn(transport, READ | HANG_UP)
        self.here.settle()

    def later(self, seconds: float) -> None:
        """Have the timers fire, so much later."""
        self.here.loop.now += seconds
        self.here.loop.timers.fire(self.here.loop.now)

    @property
    def accepts(self) -> bool:
        return bool(self.here.front.watched & {self.listener.fileno()})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    with ExitStack() as stack:
        yield lambda **settings: Desk(tmp_path, stack, **settings)


def test_before_it_begins_nothing_ends(desk: Callable[..., Desk]) -> None:
    one = desk()
    connection, _ = one.idle()
    connection.end()
    assert one.accepts
    assert (one.drain.until, one.stops, one.here.service.draining) == (inf, 0, False)


# --- stepping aside ---------------------------------------------------------------------------------------------------


def test_one_that_steps_aside_answers_all_and_each_answer_is_the_last_until_it_steps_back(
    desk: Callable[..., Desk],
) -> None:
    one = desk()
    first, asked = one.idle()
    _, waits = one.idle()
    assert (one.drain.step_aside(), one.drain.step_aside()) == (True, False)
    assert (one.accepts, one.drain.is_ending, first.clock.state) == (True, False, State.IDLE)
    asked.comes = GET
    one.here.turn(asked)
    _, new = one.here.connect(GET)
    one.here.turn(new)
    assert [transport.sent.count(b"Connection: close") for transport in (asked, new)] == [1, 1]
    assert (one.drain.step_back(), one.drain.step_back()) == (True, False)
    waits.comes = GET
    one.here.turn(waits)
    assert statuses(waits) == [200, 200]
    assert b"Connection: close" not in waits.sent
    assert (one.here.front.told, one.stops) == (["answer last", "answer on"], 0)


def test_the_end_of_one_that_stepped_aside_is_an_end_and_is_not_taken_back(desk: Callable[..., Desk]) -> None:
    one = desk()
    connection, _ = one.idle()
    one.drain.step_aside()
    connection.end()
    one.here.turn()
    assert one.stops == 0
    one.drain.begin()
    assert (one.drain.step_back(), one.here.service.draining, one.accepts) == (False, True, False)
    assert one.stops


# --- in order ---------------------------------------------------------------------------------------------------------


def test_idle_connections_are_closed_and_the_answer_at_hand_is_the_last(desk: Callable[..., Desk]) -> None:
    one = desk(grace_s=30.0)
    idle, _ = one.idle()
    busy, transport = one.busy()
    one.drain.begin()
    assert not one.accepts
    assert not one.address.exists()  # its name goes with it
    assert (idle.clock.state, busy.clock.state) == (State.CLOSED, State.WAIT)
    assert one.here.front.told == ["end idle"]
    assert one.drain.until == one.here.loop.now + 30
    assert one.here.service.ending
    assert one.stops == 0
    one.here.fetcher.done[0](body_of(b"loaded"))
    one.here.settle()
    assert statuses(transport) == [200]
    assert b"Connection: close" in transport.sent
    one.leaves(transport)
    assert busy.clock.state is State.CLOSED
    assert one.stops


def test_without_connections_it_is_over_at_once(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.drain.begin()
    assert one.stops


def test_the_fronts_connections_are_waited_for_too(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.here.front.own = 1
    one.drain.begin()
    one.here.turn()
    assert one.stops == 0
    one.here.front.own = 0  # of which only a turn tells
    one.here.turn()
    assert one.stops


def test_after_the_grace_what_is_under_way_is_cut_short(desk: Callable[..., Desk]) -> None:
    one = desk(grace_s=30.0)
    busy, transport = one.busy()
    one.drain.begin()
    one.later(29.0)
    assert (busy.clock.state, one.here.front.told) == (State.WAIT, ["end idle"])
    one.later(2.0)
    assert one.here.front.told == ["end idle", "end all"]
    assert (busy.clock.state, transport.sent) == (State.CLOSED, b"")
    assert one.stops


# --- at once ----------------------------------------------------------------------------------------------------------


def test_the_end_closes_all_and_stops_when_what_was_sent_has_arrived(desk: Callable[..., Desk]) -> None:
    one = desk(linger_timeout_s=300.0)
    busy, transport = one.busy()
    _, sent = one.idle()
    transport.queued = sent.queued = 100
    one.drain.end()
    assert not one.accepts
    assert one.here.front.told == ["end all"]
    assert busy.clock.state is State.CLOSED
    assert (one.here.service.ending, one.here.service.hurried) == (True, True)
    endings = len(one.here.service.endings)
    assert (endings > 0, one.stops) == (True, 0)
    transport.queued = sent.queued = 0
    for _ in range(3):
        one.later(0.2)
    assert not one.here.service.endings
    assert one.stops


def test_what_lingers_already_is_hurried(desk: Callable[..., Desk]) -> None:
    one = desk(linger_timeout_s=300.0)
    transport = MemoryTransport()
    Ending(one.here.service, transport, watched=False)
    one.drain.end()
    one.later(0.2)
    assert (transport.is_closed, one.stops > 0) == (True, True)


def test_a_client_that_takes_nothing_is_waited_for_so_long(desk: Callable[..., Desk]) -> None:
    one = desk(linger_timeout_s=300.0, write_timeout_s=300.0)
    _, transport = one.idle()
    transport.queued = 100
    one.drain.end()
    one.later(LAST_S / 2)
    assert one.stops == 0
    one.later(LAST_S / 2 + 0.1)
    assert one.stops
    assert not transport.is_closed


# --- another process serves -------------------------------------------------------------------------------------------


def test_what_is_here_is_answered_and_no_connection_is_closed_that_may_have_a_request_under_way(
    desk: Callable[..., Desk],
) -> None:
    one = desk()
    idle, transport = one.idle()
    one.drain.hand_over()
    assert not one.accepts
    assert one.address.exists()  # the name is the other process's by now
    assert one.here.front.told == ["drain"]
    assert (idle.clock.state, one.drain.until) == (State.IDLE, inf)
    assert (one.here.service.draining, one.here.service.ending, one.stops) == (True, False, 0)
    transport.comes = GET
    one.here.turn(transport)
    assert statuses(transport) == [200, 200]
    assert b"Connection: close" in transport.sent
    assert one.stops == 0
    one.leaves(transport)
    assert one.stops


def test_it_may_begin_to_end_later(desk: Callable[..., Desk]) -> None:
    one = desk(grace_s=30.0)
    idle, _ = one.idle()
    one.drain.hand_over()
    one.drain.begin()
    assert idle.clock.state is State.CLOSED
    assert one.here.front.told == ["drain", "end idle"]
    assert one.stops


def test_a_process_that_is_succeeded_and_has_no_client_is_over_at_once(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.drain.hand_over()
    assert one.stops


# --- room -------------------------------------------------------------------------------------------------------------


class Waits:
    """A listener that notes how often it is told that there is room."""

    retries = 0

    def retry(self) -> None:
        self.retries += 1

    def close(self, *, handed_over: bool = False) -> None:
        """It is none."""


def test_a_connection_that_ends_makes_room_for_another_unless_none_is_accepted(desk: Callable[..., Desk]) -> None:
    one = desk()
    waits: Any = Waits()
    drain = Drain(one.here.service, [waits])
    one.idle()[0].end()
    assert waits.retries == 1
    connection, _ = one.idle()
    drain.hand_over()
    connection.end()
    assert waits.retries == 1

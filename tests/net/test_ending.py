"""zcserve.net.ending with a client in memory: how long a transport is kept for what was sent to arrive. With sockets:
tests/wire/test_endings.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.house import LAST, House
from tests.support.memory import MemoryTransport
from zcserve.net.connection import RECV_BYTES
from zcserve.net.ending import Ending, may_close
from zcserve.net.poller import ERROR, HANG_UP, READ, WRITE

House_ = Callable[..., House]


@pytest.mark.parametrize(
    ("says_no_more", "unread", "queued", "held", "expected"),
    [
        (None, b"", 0, 0, True),
        (None, b"", 5, 0, False),  # something may be lost
        (None, b"x", 0, 0, False),
        (True, b"", 5, 0, True),  # all has left, and nothing comes that would reset it
        (True, b"", 5, 5, False),
        (True, b"x", 0, 0, False),
        (False, b"", 0, 0, False),  # it may be sending its next request
    ],
)
def test_a_connection_is_closed_at_once_where_nothing_can_be_lost(
    says_no_more: bool | None, unread: bytes, queued: int, held: int, expected: bool
) -> None:
    transport = MemoryTransport(unread)
    transport.queued, transport.held = queued, held
    assert may_close(transport, says_no_more=says_no_more) is expected


# --- after an answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps_to_it", [True, False])
def test_a_last_answer_that_has_not_left_is_waited_for_and_longer_where_more_is_sent(
    house: Callable[..., House], keeps_to_it: bool
) -> None:
    here = house(linger_timeout_s=300.0)
    _, transport = here.connect(LAST)
    transport.held = transport.queued = 300
    here.turn(transport)
    here.settle()
    assert (transport.is_output_ended, transport.is_closed) == (True, False)
    if not keeps_to_it:
        transport.comes = b"more"
        here.turn(transport)
        here.settle()
    transport.held = transport.queued = 0
    here.turn(transport, WRITE)
    here.settle()
    assert (transport.is_closed, len(here.service.endings)) == (keeps_to_it, not keeps_to_it)


@pytest.mark.parametrize("behind", [b"more", b"x" * RECV_BYTES])
def test_with_more_input_the_end_is_told_and_what_comes_is_thrown_away(
    house: Callable[..., House], behind: bytes
) -> None:
    here = house()
    _, transport = here.connect(LAST + behind)
    transport.queued = 300
    here.turn(transport)
    assert (transport.is_output_ended, transport.is_closed) == (True, False)
    assert len(here.service.endings) == 1
    here.settle()
    assert not transport.has_unread()
    transport.ended = True
    here.turn(transport, READ | HANG_UP)
    assert transport.is_closed
    assert not here.service.endings


# --- by itself --------------------------------------------------------------------------------------------------------


class End:
    """An ending, and how often it was heard that its descriptor is free."""

    def __init__(self, here: House, transport: MemoryTransport | None = None, **more: Any) -> None:
        self.here = here
        here.turn()  # so that the loop's time is the clock's
        self.transport = transport or MemoryTransport()
        self.freed = 0
        self.closed = 0
        here.service.closed.subscribe(self._on_closed)
        self.ending = Ending(here.service, self.transport, **{"watched": False} | more, freed=self._on_freed)

    def _on_freed(self) -> None:
        self.freed += 1

    def _on_closed(self) -> None:
        self.closed += 1

    def later(self, seconds: float) -> None:
        self.here.loop.now += seconds
        self.here.loop.timers.fire(self.here.loop.now)

    @property
    def is_over(self) -> bool:
        """It is over as a whole, or not at all."""
        parts = {
            self.transport.is_closed,
            self.ending not in self.here.service.endings,
            bool(self.freed),
            bool(self.closed),
        }
        assert len(parts) == 1
        assert max(self.freed, self.closed) <= 1
        return parts == {True}


def test_it_is_counted_until_it_is_over_and_its_end_is_told_once(house: House_) -> None:
    one = End(house())
    fd = one.transport.fd
    assert one.transport.is_output_ended
    assert one.here.service.count() == 1
    assert fd in one.here.front.watched
    one.ending.close()
    one.ending.close()
    assert one.is_over
    assert one.here.service.count() == 0
    assert fd not in one.here.front.watched


def test_a_client_that_is_gone_already_is_closed_in_the_next_turn(house: House_) -> None:
    transport = MemoryTransport()
    transport.gone = True
    one = End(house(), transport)
    assert not one.is_over
    one.here.settle()
    assert one.is_over


@pytest.mark.parametrize("how", ["it closes", "it is reset", "an error"])
def test_when_the_client_has_closed_nothing_can_be_lost_any_more(house: House_, how: str) -> None:
    one = End(house(linger_timeout_s=300.0))
    one.here.settle()
    assert not one.is_over
    if how == "it closes":
        one.transport.ended = True
    elif how == "it is reset":
        one.transport.gone = True
    one.here.turn(one.transport, ERROR if how == "an error" else READ | HANG_UP)
    assert one.is_over


@pytest.mark.parametrize("says_no_more", [False, True])
def test_when_all_has_arrived_it_lingers_unless_the_client_sends_no_more(house: House_, says_no_more: bool) -> None:
    here = house(linger_timeout_s=4.0, write_timeout_s=300.0)
    transport = MemoryTransport()
    transport.queued = 100
    one = End(here, transport, says_no_more=says_no_more)
    for _ in range(9):
        one.later(1.1)
    assert not one.is_over  # it has not arrived
    transport.queued = 0
    one.later(1.1)
    assert one.is_over is says_no_more
    one.later(3.0)
    assert one.is_over is says_no_more
    one.later(1.1)
    assert one.is_over


def test_a_client_that_takes_a_little_now_and_then_is_waited_for_and_one_that_takes_nothing_is_not(
    house: House_,
) -> None:
    here = house(linger_timeout_s=4.0, write_timeout_s=10.0)
    transport = MemoryTransport()
    transport.queued = 1000
    one = End(here, transport)
    for _ in range(5):
        for _ in range(8):
            one.later(1.1)
        transport.queued -= 1
        one.later(1.1)
        assert not one.is_over
    for _ in range(10):
        one.later(1.1)
    assert one.is_over


@pytest.mark.parametrize("already", [True, False])
def test_a_server_that_ends_waits_no_longer_than_until_all_has_arrived(house: House_, already: bool) -> None:
    here = house(linger_timeout_s=300.0, write_timeout_s=300.0)
    transport = MemoryTransport()
    transport.queued = 100
    here.service.hurried = already
    one = End(here, transport)
    here.service.hurried = True
    one.ending.hurry()
    one.later(0.2)
    assert not one.is_over
    assert not one.ending.has_arrived()
    transport.queued = 0
    assert one.ending.has_arrived()
    one.later(0.2)
    assert one.is_over


def test_a_step_that_raised_ends_it(house: House_) -> None:
    one = End(house())
    one.ending.fail()
    assert one.is_over


def test_what_cannot_be_watched_is_closed(house: House_, monkeypatch: pytest.MonkeyPatch) -> None:
    here = house()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(here.front, "watch", full)
    transport = MemoryTransport()
    with pytest.raises(OSError, match="No space left"):
        Ending(here.service, transport, watched=False)
    assert transport.is_closed
    assert not here.service.endings

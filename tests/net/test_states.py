"""zcserve.net.states: which moves there are, and when a state has lasted too long."""

from __future__ import annotations

from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.memory import MemoryTransport
from zcserve import Config
from zcserve.cache.fetcher import Wait
from zcserve.net.counts import Tally
from zcserve.net.output import Flushed, Output
from zcserve.net.service import Claim
from zcserve.net.states import FRESH_S, MOVES, Clock, State

LIMITS = {"head_timeout_s": 1.0, "idle_timeout_s": 2.0, "write_timeout_s": 4.0, "body_timeout_s": 8.0}


class Here:
    """A clock, and what it looks at."""

    def __init__(self, **settings: Any) -> None:
        config = Config(root=Path("/"), **LIMITS | settings)
        self.suffices = True
        self.service = SimpleNamespace(config=config, ending=False, loop=SimpleNamespace(now=100.0), tally=Tally())
        self.http = SimpleNamespace(
            inbox=b"",
            receiving=SimpleNamespace(due=lambda: 108.0, suffices=lambda: self.suffices),
            wait=None,
            is_applications_turn=False,
            is_streaming=False,
            is_new=True,
        )
        self.output = Output(Tally())
        self.transport = MemoryTransport()
        parts: Any = (self.service, self.http, self.output)
        self.clock = Clock(*parts)

    def at(self, state: State) -> Clock:
        """The clock, as if the connection were in this state."""
        self.clock.state = state
        return self.clock

    def later(self, seconds: float) -> None:
        self.service.loop.now += seconds


def test_every_move_leads_to_a_state_and_none_leads_out_of_the_end() -> None:
    assert set(MOVES) == set(State)
    assert not MOVES[State.CLOSED]
    assert all(State.CLOSED not in moves for moves in MOVES.values())


def test_a_move_is_counted_and_begins_the_states_time_and_an_unlawful_one_is_refused() -> None:
    here = Here()
    here.later(1)
    here.clock.move(State.WAIT)
    here.later(1)
    assert (here.clock.state, here.clock.since, here.clock.accepted) == (State.WAIT, 101, 100)
    assert [here.service.tally.states[state] for state in (State.HEAD, State.WAIT)] == [0, 1]
    here.clock.move(State.CLOSED)
    with pytest.raises(AssertionError, match="CLOSED does not lead to HEAD"):
        here.clock.move(State.HEAD)


@pytest.mark.parametrize(
    ("state", "due"),
    [
        (State.HEAD, 101),
        (State.IDLE, 102),
        (State.WRITE, 104),
        (State.BODY, 108),
        (State.WAIT, inf),
        (State.CLOSED, inf),
    ],
)
def test_each_state_has_its_limit(state: State, due: float) -> None:
    assert Here().at(state).due() == due


def test_a_wait_lasts_as_long_as_what_is_waited_for() -> None:
    here = Here(app_timeout_s=5.0, load_timeout_s=7.0)
    here.http.is_applications_turn = True
    assert here.at(State.WAIT).due() == 105
    here.output.wait = Wait(None, None, lambda _: None)
    assert here.at(State.WAIT).due() == inf  # its result is on its way
    here.output.wait = None
    here.http.wait = SimpleNamespace(since=99.0)
    assert here.at(State.WAIT).due() == 106


def test_when_the_server_ends_a_client_that_has_just_connected_has_a_moment_to_ask() -> None:
    here = Here(head_timeout_s=60.0)
    here.service.ending = True
    assert here.at(State.HEAD).due() == 100 + FRESH_S
    assert here.at(State.HEAD).is_fresh
    here.later(FRESH_S)
    assert not here.at(State.HEAD).is_fresh
    here.http.inbox = b"GET"
    assert here.at(State.HEAD).due() == 160


def test_a_body_goes_on_as_long_as_it_comes_fast_enough_and_no_longer_once_it_is_over() -> None:
    here = Here()
    assert here.at(State.BODY).goes_on(here.transport)
    here.suffices = False
    assert not here.clock.goes_on(here.transport)
    here.suffices, here.http.receiving = True, None
    assert not here.clock.goes_on(here.transport)
    assert here.clock.due() == inf


def test_a_slow_reader_goes_on_as_long_as_it_takes_something() -> None:
    here = Here()
    here.output.add((b"content",))
    here.transport.room, here.transport.queued = 1, 50
    assert here.output.flush(here.transport, 100) is Flushed.BLOCKED
    here.later(4)
    here.transport.queued = 49
    assert here.at(State.WRITE).goes_on(here.transport)
    assert here.at(State.WRITE).due() == 108
    assert not here.at(State.WRITE).goes_on(here.transport)


@pytest.mark.parametrize("state", [State.HEAD, State.IDLE])
def test_a_request_that_lies_unread_is_no_silence_and_half_a_head_is_late(state: State) -> None:
    here = Here()
    here.later(3)
    assert not here.at(state).goes_on(here.transport)
    here.transport.comes = b"GET /"
    assert here.at(state).goes_on(here.transport)
    assert here.at(State.HEAD).due() == 104
    here.http.inbox = b"GET"
    assert not here.at(state).goes_on(here.transport)


def test_what_is_closed_to_make_room_is_idle_and_not_of_this_moment() -> None:
    here = Here()
    here.later(0.5)
    assert not here.at(State.HEAD).may_be_shed(0.0)  # it is fresh
    assert here.at(State.IDLE).may_be_shed(0.0)
    assert not here.at(State.IDLE).may_be_shed(1.0)  # it came within this time
    here.later(FRESH_S)
    assert here.at(State.HEAD).may_be_shed(1.0)
    assert not here.at(State.WRITE).may_be_shed(0.0)
    assert here.at(State.WAIT).idle_since == inf
    here.clock.since = here.service.loop.now
    assert not here.at(State.IDLE).may_be_shed(0.0)  # it was answered in this turn


def test_a_client_that_keeps_the_server_waiting_has_no_claim_to_its_place() -> None:
    for state in (State.HEAD, State.BODY, State.WRITE):
        here = Here()
        assert here.at(state).claim is Claim.FRESH
        here.later(FRESH_S)
        assert here.at(state).claim is Claim.NONE


def test_a_client_that_had_its_answer_has_no_claim_and_one_that_is_owed_one_the_highest() -> None:
    here = Here()
    assert here.at(State.WAIT).claim is Claim.OWED  # its first request waits for its turn
    assert here.at(State.IDLE).claim is Claim.NONE  # after a plain hit
    here.http.is_new = False
    assert [here.at(state).claim for state in (State.IDLE, State.HEAD, State.WAIT)] == [Claim.NONE] * 3
    here.http.is_applications_turn = True
    assert here.at(State.WAIT).claim is Claim.OWED
    here.http.is_streaming = True
    assert here.at(State.WAIT).claim is Claim.STREAM
    assert here.at(State.WRITE).claim is Claim.NONE

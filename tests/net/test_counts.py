"""zcserve.net.counts: histograms, what the general lane counts, and how lanes and Python are told together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.house import COLD, CONTENT, GET, House
from zcserve.http import KNOWN_METHODS
from zcserve.net.counts import (
    BOUNDS_S,
    ENDING,
    IDLE,
    LANE_METHODS,
    METHODS,
    OF_STATES,
    OTHER,
    READING,
    SAMPLED_EVERY,
    SAMPLED_FIRST,
    SHORT_TURN_S,
    WAITING,
    WRITING,
    Answered,
    Answers,
    Histogram,
    Tally,
    Times,
    Told,
    by_account,
    read,
    turns_of,
)  # fmt: skip
from zcserve.net.states import State

POST = b"POST /page HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (BOUNDS_S[0], 0), (0.000011, 1), (1.0, BOUNDS_S.index(1.0)), (60.0, 20), (60.1, 21), (1e9, 21)],
)
def test_a_duration_is_in_the_bucket_of_the_first_bound_that_it_does_not_exceed(seconds: float, bucket: int) -> None:
    times = Times()
    times.add(seconds, 3)
    found = times.look()
    assert [i for i, count in enumerate(found.counts) if count] == [bucket]
    assert (found.times, found.sum_s) == (3, seconds * 3)


def test_histograms_add_up() -> None:
    one, other = Times(), Times()
    for seconds in (0.1, 0.2):
        one.add(seconds)
        other.add(seconds * 100)
    both = one.look() | other.look()
    assert both.times == 4
    assert both.sum_s == pytest.approx(30.3)
    assert both.bounds_s == BOUNDS_S


def test_turns_that_were_not_added_are_the_short_ones() -> None:
    long = Times()
    for took in (0.002, 0.2, 100.0):
        long.add(took)
    found = turns_of(10, 101.0, long)
    assert found.bounds_s[0] == SHORT_TURN_S
    assert (found.counts[0], found.counts[1], found.counts[-1], found.times) == (7, 1, 1, 10)
    assert found.sum_s == 101.0


def test_a_turn_that_holds_the_loop_is_a_long_one(house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    here = house()
    here.turn()
    clock = iter((2000.0, 2000.3))
    monkeypatch.setattr("zcserve.net.loop.time.monotonic", lambda: next(clock))
    here.turn()
    monkeypatch.undo()
    lag = here.service.counts().lag
    assert lag.counts[lag.bounds_s.index(0.5)] == 1
    assert lag.times == here.service.counts().turns == 2


# --- the general lane -----------------------------------------------------------------------------------------


def test_methods_that_clients_make_up_are_one() -> None:
    answers = Answers()
    for method in (*sorted(KNOWN_METHODS), b"BREW", b"", b"get", b"other"):
        answers.note(405, method)
    found = answers.look().requests
    assert {method for _, method in found} == {*METHODS, OTHER}
    assert found[405, OTHER] == len(KNOWN_METHODS) - len(METHODS) + 4


def test_each_state_of_a_connection_has_a_name() -> None:
    names = dict(zip(State, OF_STATES, strict=False))
    assert names == {
        State.HEAD: READING,
        State.IDLE: IDLE,
        State.BODY: READING,
        State.WRITE: WRITING,
        State.WAIT: WAITING,
    }


def test_connections_are_counted_by_what_they_do(house: Callable[..., House]) -> None:
    here = house()
    here.turn()  # the clock's time

    def states() -> dict[str, int]:
        return {name: count for name, count in here.service.counts().states.items() if count}

    transports = [here.connect(comes)[1] for comes in (b"", GET, POST, COLD)]
    assert states() == {READING: 4}
    for transport in transports[1:]:
        here.turn(transport)
    assert states() == {READING: 2, IDLE: 1, WAITING: 1}
    transports[1].room = 10
    transports[1].comes = GET
    here.turn(transports[1])
    assert states() == {READING: 2, WRITING: 1, WAITING: 1}
    for connection in list(here.service.connections):
        connection.end()
    assert READING not in states()
    here.settle()
    assert set(states()) <= {ENDING}


@pytest.mark.parametrize(("comes", "expired"), [(b"GET /pa", (408, OTHER)), (POST, (408, "POST"))])
def test_a_request_that_comes_too_slowly_is_counted_as_what_is_known_of_it(
    house: Callable[..., House], comes: bytes, expired: tuple[int, str]
) -> None:
    here = house()
    connection, transport = here.connect(comes)
    here.turn(transport)
    here.loop.now += 1000
    connection.expire()
    assert dict(here.service.counts().requests) == {expired: 1}
    assert here.service.counts().response_bytes == len(transport.sent)


def test_one_of_many_hits_is_measured_for_all_of_them(house: Callable[..., House]) -> None:
    here = house()
    _, transport = here.connect(b"")
    found = []
    for _ in range(3 * SAMPLED_EVERY):
        transport.comes = GET
        here.turn(transport)
        found.append(here.service.counts().durations.times)
    assert found[SAMPLED_FIRST - 2 : SAMPLED_FIRST] == [0, SAMPLED_EVERY]
    assert [abs(count - times) <= SAMPLED_EVERY // 2 for count, times in enumerate(found, 1)].count(False) == 0
    assert here.service.counts().requests == {(200, "GET"): 3 * SAMPLED_EVERY}


def test_what_was_waited_for_is_measured_from_its_first_byte(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = house()
    clock = [2000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    _, transport = here.connect(COLD[:10])
    here.turn(transport)
    clock[0] += 2
    transport.comes = COLD[10:] + COLD
    here.turn(transport)
    clock[0] += 4
    for _ in range(2):
        here.fetcher.done.pop()(here.body)
        here.settle()
    found = here.service.counts().durations
    assert (found.times, found.sum_s) == (2, 6 + 4)
    assert transport.sent.count(CONTENT) == 2


# --- lanes ----------------------------------------------------------------------------------------------------


def told(
    *, connections: int = 0, states: tuple[int, int, int, int] = (0, 0, 0, 0), said: int = 0, **answers: int
) -> Told:
    cells = [0] * (2 * LANE_METHODS)
    for name, count in answers.items():
        status, _, method = name[1:].partition("_")
        cells[(200, 503).index(int(status)) * LANE_METHODS + METHODS.index(method)] = count
    durations = (0,) * (len(BOUNDS_S) + 1), 0.0
    return tuple(cells), (10,), durations, 5, connections, states, (said,), durations


def test_a_lane_tells_its_answers_by_status_and_method() -> None:
    lane = read(told(s200_GET=3, s200_DELETE=2, s503_POST=1), (200, 503))
    assert lane.requests == {(200, "GET"): 3, (200, "DELETE"): 2, (503, "POST"): 1}
    assert (lane.refused, lane.accepted, lane.bytes_sent) == (1, 5, 10)
    assert lane.durations == lane.calls == Histogram(BOUNDS_S, (0,) * 22, 0.0)


def test_a_hit_is_what_is_answered_as_files_are_and_no_servlet_has_said() -> None:
    assert read(told(s200_GET=3, s200_POST=2, s503_POST=1, said=4), (200, 503)).hits == 1
    assert read(told(s200_GET=3, s503_POST=1), (200, 404)).hits == 3


def test_a_lane_tells_what_it_has_answered_for_each_account() -> None:
    one, other = told(s200_GET=3, said=1), told(s200_GET=5, s503_POST=1)
    lane = read((one[0] + other[0], (10, 20), *one[2:6], (1, 0), one[7]), (200, 503))
    assert lane.accounts == (
        Answered({(200, "GET"): 3}, 10, 2),
        Answered({(200, "GET"): 5, (503, "POST"): 1}, 20, 5),
    )
    assert (lane.requests, lane.bytes_sent, lane.hits, lane.said) == ({(200, "GET"): 8, (503, "POST"): 1}, 30, 7, 1)


def test_accounts_of_python_and_of_lanes_are_added_up_where_one_knows_fewer() -> None:
    tally = Tally()
    tally.of(2).note(404, b"GET")
    tally.of(2).hits[b"GET"] += 2
    tally.no_sites.bytes_sent += 7
    lane = Answered({(200, "GET"): 3}, 10, 3)
    assert by_account([[one.look() for one in tally.accounts], (lane,)]) == (
        Answered({(200, "GET"): 3}, 17, 3),
        Answered(),
        Answered({(404, "GET"): 1, (200, "GET"): 2}, 0, 0),
    )


@pytest.mark.parametrize(
    ("connections", "seen", "said"),
    [
        (10, (1, 2, 3, 0), {READING: 1, WRITING: 2, WAITING: 3, ENDING: 0, IDLE: 4}),
        (4, (1, 2, 3, 1), {READING: 1, WRITING: 2, WAITING: 1, ENDING: 0, IDLE: 0}),
        (0, (1, 0, 0, 1), {READING: 0, WRITING: 0, WAITING: 0, ENDING: 0, IDLE: 0}),
    ],
)
def test_what_connections_of_a_lane_do_adds_up_to_how_many_there_are(
    connections: int, seen: tuple[int, int, int, int], said: dict[str, int]
) -> None:
    lane = read(told(connections=connections, states=seen), (200, 503))
    assert (lane.states, lane.connections) == (said, connections)

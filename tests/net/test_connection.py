"""zcserve.net.connection with a client in memory, a clock and turns that the test makes.

What a socket shows stands in tests/wire. Here is what depends on the moment: which event comes when, how much the
client takes, what time it is.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.support.connections import connections_of
from tests.support.house import ABSENT, COLD, CONTENT, GET, LAST, House, statuses
from tests.support.memory import body_of
from zcserve.cache.entry import Entry
from zcserve.net.connection import RECV_BYTES
from zcserve.net.poller import ERROR, HANG_UP, READ, WRITE
from zcserve.net.states import State
from zcserve.net.stay import IDLE_S, KEPT, PLAIN_MAX


def test_requests_of_one_read_are_answered_together_and_leave_together(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.connect(GET + ABSENT + GET)
    here.turn(transport)
    assert statuses(transport) == [200, 404, 200]
    assert transport.flags == "s"
    assert connection.clock.state is State.IDLE
    assert [status for status, _ in here.log] == [200, 404, 200]


@pytest.mark.parametrize("cut", range(1, len(GET)))
def test_a_head_may_come_in_any_two_pieces(house: Callable[..., House], cut: int) -> None:
    here = house()
    connection, transport = here.connect(GET[:cut])
    here.turn(transport)
    assert (connection.clock.state, transport.sent) == (State.HEAD, b"")
    transport.comes = GET[cut:]
    here.turn(transport)
    assert (connection.clock.state, statuses(transport)) == (State.IDLE, [200])


def test_after_a_full_read_no_event_is_waited_for(house: Callable[..., House]) -> None:
    here = house()
    many = GET * (RECV_BYTES // len(GET) + 5)
    _, transport = here.connect(many)
    here.turn(transport)
    here.settle()
    assert len(statuses(transport)) == many.count(b"GET")


def test_a_full_client_is_waited_for_and_what_it_sends_meanwhile_is_not_read(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.connect(GET + GET, room=10)
    here.turn(transport)
    assert (connection.clock.state, here.body.pins) == (State.WRITE, 2)
    transport.comes = GET
    here.turn(transport, READ)
    assert transport.has_unread()
    transport.room = None
    here.turn(transport, READ | WRITE)
    here.settle()
    assert (connection.clock.state, here.body.pins) == (State.IDLE, 0)
    assert statuses(transport) == [200, 200, 200]


def test_a_slow_reader_may_go_on_and_one_that_reads_nothing_is_closed(house: Callable[..., House]) -> None:
    here = house(write_timeout_s=10.0)
    connection, transport = here.connect(GET, room=10)
    transport.queued = 100
    here.turn(transport)
    assert connection.clock.state is State.WRITE
    began = connection.due()
    transport.queued = 50
    connection.expire()
    assert connection.clock.state is State.WRITE
    assert connection.due() >= began
    connection.expire()
    assert (connection.clock.state, transport.is_closed, here.body.pins) == (State.CLOSED, True, 0)
    assert not here.front.watched & {transport.fd}


@pytest.mark.parametrize("how", ["error", "end", "reset"])
def test_a_client_that_leaves_is_closed_and_its_body_is_free(house: Callable[..., House], how: str) -> None:
    here = house()
    connection, transport = here.connect(GET, room=10)
    here.turn(transport)
    fd = transport.fd
    if how == "error":
        here.turn(transport, ERROR)
    elif how == "reset":
        transport.gone = True
        here.turn(transport, WRITE)
    else:
        transport.ended, transport.room = True, None
        here.turn(transport, HANG_UP | WRITE)
        here.settle()
        assert transport.sent.endswith(CONTENT)  # what is complete is sent all the same
    assert (connection.clock.state, transport.is_closed, here.body.pins) == (State.CLOSED, True, 0)
    assert fd not in here.loop.handlers
    assert not here.service.connections


def test_the_last_answer_ends_at_once_where_nothing_can_be_lost(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.connect(LAST)
    transport.queued = 300
    here.turn(transport)
    assert (connection.clock.state, transport.is_closed, transport.is_output_ended) == (State.CLOSED, True, False)


def test_what_was_sent_before_a_failure_that_is_not_the_clients_arrives(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = house()
    connection, transport = here.connect(GET, room=10)
    transport.queued = 10
    here.turn(transport)

    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "on purpose")

    monkeypatch.setattr(transport, "send", fails)
    here.turn(transport, WRITE)
    assert (connection.clock.state, transport.is_output_ended, transport.is_closed) == (State.CLOSED, True, False)


def test_what_is_not_resident_is_waited_for_without_the_client(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.connect(COLD + GET)
    here.turn(transport)
    assert (connection.clock.state, transport.sent) == (State.WAIT, b"")
    here.fetcher.done[0](body_of(b"loaded"))
    here.settle()
    assert (connection.clock.state, statuses(transport)) == (State.IDLE, [200, 200])
    assert transport.sent.index(b"loaded") < transport.sent.index(CONTENT)


@pytest.mark.parametrize("how", ["error", "end"])
def test_what_comes_for_a_client_that_left_is_nothing(house: Callable[..., House], how: str) -> None:
    here = house()
    connection, transport = here.connect(COLD)
    here.turn(transport)
    here.turn(transport, ERROR) if how == "error" else connection.end()
    assert here.fetcher.cancelled == 1
    here.fetcher.done[0](body_of(b"loaded"))
    assert transport.sent == b""


def test_a_file_that_does_not_come_is_503_and_the_connection_goes_on(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.connect(COLD + GET)
    here.turn(transport)
    connection.expire()
    here.settle()
    assert (connection.clock.state, statuses(transport)) == (State.IDLE, [503, 200])
    assert here.fetcher.cancelled == 1


@pytest.mark.parametrize(("comes", "status"), [(b"GET /pa", 408), (b"", 0)])
def test_half_a_request_is_told_and_silence_is_not(house: Callable[..., House], comes: bytes, status: int) -> None:
    here = house()
    _, transport = here.connect(comes)
    if comes:
        here.turn(transport)
    (connection,) = connections_of(here.service)
    connection.expire()
    assert statuses(transport) == ([status] if status else [])
    assert transport.is_closed or transport.is_output_ended


def test_a_request_that_came_while_the_loop_was_busy_is_answered_at_its_deadline(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.connect(GET)
    connection.expire()
    here.settle()
    assert (connection.clock.state, statuses(transport)) == (State.IDLE, [200])


def test_a_turns_share_of_bytes_is_kept_and_the_rest_needs_no_event(house: Callable[..., House]) -> None:
    here = house(turn_bytes_max=4096)
    entry = here.service.sites[0].live.resources[b"/page"]
    assert isinstance(entry, Entry)
    entry.body = here.body = body_of(bytes(3000))
    connection, transport = here.connect(GET * 4)
    transport.room = 5000
    here.turn(transport)
    assert (connection.clock.state, transport.flags, len(transport.sent)) == (State.WRITE, "s", 5000)
    transport.room = 5000
    here.turn(transport, WRITE)  # an event does not bring it a second share in one turn
    assert (connection.clock.state, transport.flags, len(transport.sent)) == (State.WRITE, "ss", 10_000)
    transport.room = None
    here.turn()
    assert statuses(transport) == [200] * 4
    assert connection.clock.state is State.IDLE


def test_a_draining_server_tells_that_an_answer_is_the_last(house: Callable[..., House]) -> None:
    here = house()
    here.service.draining = True
    _, transport = here.connect(GET + GET)
    here.turn(transport)
    assert statuses(transport) == [200]
    assert b"Connection: close\r\n" in transport.sent


# --- connections that the front handed over ---------------------------------------------------------------------------


def answered_before_it_goes_back(here: House, in_vain: int, request: bytes) -> int:
    """How often a client is answered, one request at a time, before the front has it again."""
    _, transport = here.take_over(in_vain)
    for count in range(1, 1000):
        transport.comes = request
        here.turn(transport)
        if here.front.given:
            assert transport.released > 0
            assert not transport.is_closed
            return count
    pytest.fail("it is kept")


@pytest.mark.parametrize("in_vain", [1, 2, 3, 4, 5, 255])
def test_the_more_often_it_was_handed_over_in_vain_the_longer_it_is_kept(
    house: Callable[..., House], in_vain: int
) -> None:
    kept = KEPT[min(in_vain, len(KEPT)) - 1]
    assert answered_before_it_goes_back(house(), in_vain, ABSENT) == kept


def test_plain_requests_in_a_row_have_it_go_back(house: Callable[..., House]) -> None:
    assert answered_before_it_goes_back(house(), len(KEPT), GET) == PLAIN_MAX


@pytest.mark.parametrize(
    "request_line",
    ["HEAD /page", "GET /page?v=1", "GET /page HTTP/1.1\r\nRange: bytes=1-2"],
    ids=["HEAD", "query", "range"],
)
def test_what_the_front_answers_by_itself_has_it_go_back(house: Callable[..., House], request_line: str) -> None:
    line, _, field = request_line.partition(" HTTP/1.1")
    request = f"{line} HTTP/1.1{field}\r\nHost: test\r\n\r\n".encode()
    assert answered_before_it_goes_back(house(), len(KEPT), request) == PLAIN_MAX


def test_several_ranges_which_no_front_answers_do_not_have_it_go_back(house: Callable[..., House]) -> None:
    request = GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-1,4-5\r\n\r\n")
    assert answered_before_it_goes_back(house(), len(KEPT), request) == KEPT[-1]


def test_plain_requests_between_others_do_not_have_it_go_back(house: Callable[..., House]) -> None:
    request = GET * (PLAIN_MAX - 1) + ABSENT + GET
    assert answered_before_it_goes_back(house(), len(KEPT), request) == KEPT[-1]


def test_one_that_is_kept_goes_back_after_a_second_and_its_idle_time_is_told(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.take_over(len(KEPT))
    transport.comes = ABSENT
    here.turn(transport)
    since = here.loop.now
    assert (connection.clock.state, connection.due()) == (State.IDLE, since + IDLE_S)
    assert not here.front.given
    connection.expire()
    assert (connection.clock.state, here.front.given) == (State.CLOSED, [since])
    assert not transport.is_closed


def test_one_that_is_kept_and_whose_client_has_ended_is_closed_in_time(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.take_over(len(KEPT))
    transport.comes = ABSENT
    here.turn(transport, READ | HANG_UP)
    connection.expire()
    assert (connection.clock.state, here.front.given) == (State.CLOSED, [])


def test_the_keep_alive_timeout_ends_one_that_is_kept_where_it_is_shorter(house: Callable[..., House]) -> None:
    here = house(idle_timeout_s=0.5)
    connection, transport = here.take_over(len(KEPT))
    transport.comes = ABSENT
    here.turn(transport)
    assert connection.due() == here.loop.now + 0.5


def test_a_server_that_ends_ends_one_that_is_kept(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.take_over(len(KEPT))
    transport.comes = ABSENT
    here.turn(transport)
    here.service.draining = here.service.ending = True
    connection.drain()
    assert (connection.clock.state, here.front.given) == (State.CLOSED, [])


def test_one_that_is_kept_may_be_shed_at_the_limit(house: Callable[..., House]) -> None:
    here = house()
    connection, transport = here.take_over(len(KEPT))
    transport.comes = ABSENT
    here.turn(transport)
    here.loop.now += 1.5
    assert connection.clock.may_be_shed(0.0)
    assert connection.shed()
    assert connection.clock.state is State.CLOSED

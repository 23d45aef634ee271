"""Where a node is in the stream of commands, and where that is a gap."""

from __future__ import annotations

import pytest

from zcserve.fleet.bus import UNACKNOWLEDGED_MAX
from zcserve.fleet.forms import FormError
from zcserve.fleet.jetstream import Held
from zcserve.fleet.nats_position import FIRST_BROUGHT, Position

AT_5 = Position("then", 5, 100.0, (3, 5))


@pytest.mark.parametrize(
    "position", [Position(), AT_5, Position("then", 2**40, 1.8e9, tuple(range(1, UNACKNOWLEDGED_MAX + 1)), "lost")]
)
def test_what_is_written_is_read(position: Position) -> None:
    assert Position.parse(position.dump()) == position


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"version": 1, "made": "then"}',
        b'{"version": 1, "made": "then", "heard": -1}',
        b'{"version": 1, "made": "then", "heard": 1, "open": 3}',
        b'{"version": 1, "made": "then", "heard": 1, "open": [0]}',
        b'{"version": 1, "made": "then", "heard": 1, "open": [%s]}' % b",".join([b"1"] * (UNACKNOWLEDGED_MAX + 1)),
        b'{"version": 2, "made": "then", "heard": 1}',
    ],
)
def test_what_is_no_position_is_refused(data: bytes) -> None:
    with pytest.raises(FormError):
        Position.parse(data)


@pytest.mark.parametrize(
    ("held", "heard"),
    [
        (Held("now", 1, 0), 0),
        (Held("now", 1, 3), 0),
        (Held("now", 1, 1000), 1000 - FIRST_BROUGHT),
        (Held("now", 990, 1000), 989),
        (Held("now", 1001, 1000), 1000),
    ],
)
def test_a_new_node_has_a_gap_and_is_brought_the_last_few(held: Held, heard: int) -> None:
    entered = Position().entered(held, is_same=True)
    assert (entered.made, entered.heard, entered.open) == ("now", heard, ())
    assert "new" in entered.gap


@pytest.mark.parametrize("held", [Held("then", 1, 5), Held("then", 6, 9), Held("then", 2, 100), Held("then", 6, 5)])
def test_where_nothing_is_lost_it_goes_on(held: Held) -> None:
    assert AT_5.entered(held, is_same=True) == AT_5


def test_a_stream_that_was_made_anew_is_read_from_its_beginning() -> None:
    entered = AT_5.entered(Held("now", 1, 9), is_same=True)
    assert (entered.made, entered.heard, entered.open) == ("now", 0, ())
    assert "made anew" in entered.gap


@pytest.mark.parametrize(("held", "is_same"), [(Held("then", 1, 4), True), (Held("then", 1, 9), False)])
def test_a_stream_that_has_lost_its_end_is_a_gap(held: Held, is_same: bool) -> None:
    entered = AT_5.entered(held, is_same)
    assert (entered.heard, entered.open) == (0, ())
    assert "lost its end" in entered.gap


def test_what_was_dropped_before_the_next_is_a_gap_and_what_is_open_stays() -> None:
    entered = AT_5.entered(Held("then", 7, 9), is_same=True)
    assert (entered.heard, entered.open) == (6, (3, 5))
    assert "dropped 1 " in entered.gap


def test_it_goes_on_record_by_record() -> None:
    position = AT_5.heard_to(6, 101.0, is_open=True)
    assert (position.heard, position.time, position.open) == (6, 101.0, (3, 5, 6))
    assert position.without(3, 6).open == (5,)
    assert position.heard_to(9).open == (3, 5, 6)

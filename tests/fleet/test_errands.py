"""Purges and warmings of a node: once each, whatever comes twice."""

from __future__ import annotations

from zcserve.fleet.bus import UNACKNOWLEDGED_MAX, Gap
from zcserve.fleet.errands import KNOWN_MAX, Errands
from zcserve.fleet.messages import DONE_MAX, Command
from zcserve.fleet.node_words import Acknowledge, Done, Failed, Purge, SetAside


def purge(number: int) -> Command:
    return Command(f"p{number}", "purge", "www", prefix="/")


def test_purges_do_not_wait_for_each_other() -> None:
    errands = Errands("n1")
    for number in range(UNACKNOWLEDGED_MAX):
        errands.take(purge(number))
    assert len(errands.begin(1.0)) == UNACKNOWLEDGED_MAX
    assert errands.begin(1.0) == []
    assert errands.ended(Failed("p3", "away"), 1.0) == []
    assert errands.ended(Done("p7", 12), 1.0) == [Acknowledge("p7", 12)]
    assert (errands.last(True), errands.purged) == (("p7",), (12,))
    assert errands.due is not None
    assert errands.begin(errands.due) == [Purge(purge(3))]


def test_the_ids_that_are_known_are_bounded_and_so_are_those_that_are_told() -> None:
    errands = Errands("n1")
    for number in range(KNOWN_MAX + 9):
        errands.take(purge(number))
        errands.begin(1.0)
        errands.ended(Done(f"p{number}"), 1.0)
    assert not errands.knows("p8")
    assert errands.knows("p9")
    assert len(errands.purged) == DONE_MAX
    assert errands.last(True) == tuple(f"p{number}" for number in range(KNOWN_MAX + 9 - DONE_MAX, KNOWN_MAX + 9))


def test_what_is_over_and_comes_again_is_told_again_as_it_was() -> None:
    errands = Errands("n1")
    assert errands.over(SetAside("x", "no such tag"))
    for number in range(DONE_MAX + 1):
        errands.over(Acknowledge(f"p{number}"))
    assert "p0" not in errands.last(True)
    assert errands.over(Acknowledge("p0")) == [Acknowledge("p0")]
    assert errands.last(True)[-1] == "p0"
    assert errands.over(Acknowledge("x")) == [Acknowledge("x")]
    assert (errands.last(False), "x" in errands.last(True)) == (("x",), False)
    errands.over(Acknowledge("p9"))
    assert errands.last(True).count("p9") == 1


def test_gaps_that_come_before_one_purge_of_all_has_begun_are_one() -> None:
    errands = Errands("n1")
    for _ in range(3):
        errands.miss(Gap("the stream begins later"), "www")
    assert len(errands.begin(1.0)) == 1
    # What was lost while it ran is not covered by it.
    errands.miss(Gap("again"), "www")
    assert len(errands.begin(1.0)) == 1


def test_what_ends_unasked_changes_nothing() -> None:
    errands = Errands("n1")
    assert errands.ended(Done("p1"), 1.0) == []
    errands.take(purge(1))
    assert errands.ended(Done("p1"), 1.0) == []
    assert not errands.knows("p1")

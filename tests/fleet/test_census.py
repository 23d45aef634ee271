"""The nodes of a site, as the operator hears of them."""

from __future__ import annotations

import pytest

from zcserve.fleet.bus import Heard
from zcserve.fleet.census import SILENT_S, Census, needed
from zcserve.fleet.messages import Release, State

R7 = Release("www-7", 7, "7" * 64, "7" * 64)


def state(node: str, number: int, boot: str = "boot", **members: object) -> State:
    return State("www", node, boot, number, 1, **members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quorum", "nodes", "many"), [(0.9, 10, 9), (0.7, 10, 7), (0.55, 20, 11), (0.9, 3, 3), (0.01, 3, 1), (1, 7, 7)]
)
def test_the_quorum_is_rounded_up_and_at_least_one(quorum: float, nodes: int, many: int) -> None:
    assert needed(quorum, nodes) == many


def test_a_state_that_comes_late_or_twice_changes_nothing() -> None:
    census = Census(R7, ["n1"])
    census.hear(Heard(state("n1", 2, live=R7), 0.0), 100.0)
    census.hear(Heard(state("n1", 1), 0.0), 101.0)
    census.hear(Heard(state("n1", 9, boot="before"), 50.0), 102.0)
    assert census.serving == {"n1"}
    census.hear(Heard(state("n1", 1, boot="after"), 0.0), 103.0)
    assert census.serving == frozenset()


def test_nodes_count_that_were_heard_of_lately_or_are_listed() -> None:
    census = Census(R7)
    census.hear(Heard(state("n1", 1), 10.0), 100.0)
    census.hear(Heard(state("n2", 1), 90.0), 100.0)
    census.settle(100.0, known_s=60.0)
    assert census.counted == {"n1"}
    assert [row.node for row in census.rows(100.0)] == ["n1", "n2"]
    listed = Census(R7, ["n3"])
    listed.hear(Heard(state("n1", 1, live=R7), 0.0), 100.0)
    listed.settle(100.0, known_s=60.0)
    assert listed.counted == {"n3"}
    assert listed.serving == frozenset()


def test_a_row_says_what_a_node_is_at_and_how_long_it_is_silent() -> None:
    census = Census(R7, ["n1", "n2"])
    census.hear(Heard(state("n1", 1, stage="fetching", live=R7, share=0.5, error="slow", retry_s=3.0), 1.0), 100.0)
    first, second = census.rows(100.0)
    assert first == ("n1", "fetching", 7, 0, 0.5, 1.0, "slow", 2.0)
    assert second.stage == "unknown"
    assert census.rows(103.0)[0].retry_s == 0
    assert census.why(["n1", "n2"], 100.0) == {"n1": "fetching: slow", "n2": "unknown"}
    assert census.rows(100.0 + SILENT_S)[0].stage == "silent"
    assert census.silent(["n1"], 99.0 + SILENT_S) == frozenset()

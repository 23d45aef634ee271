"""Canaries are watched for a while."""

from __future__ import annotations

from zcserve.fleet.bake import HEALTH_EVERY_S, Bake
from zcserve.fleet.bus import Heard
from zcserve.fleet.census import SILENT_S, Census
from zcserve.fleet.messages import Release, State
from zcserve.fleet.rollout_words import Health, Plan

R8 = Release("www-8", 8, "8" * 64, "8" * 64)
CANARIES = frozenset({"n1"})


def baking(bake_s: float = 100.0, canary_s: float = 20.0) -> tuple[Bake, Census]:
    census = Census(R8, ["n1", "n2"])
    for node in ("n1", "n2"):
        census.hear(Heard(State("www", node, "boot", 1, 1, "live", R8, R8), 0.0), 0.0)
    return Bake(Plan(R8, bake_s=bake_s, canary_s=canary_s), CANARIES, 0.0), census


def test_a_bake_ends_well_when_its_time_is_over_and_its_canaries_are_well() -> None:
    bake, census = baking(bake_s=60)
    bake.hear(Health("n1", True))
    assert bake.ended(census, 2, 59.0) is None
    assert bake.ended(census, 2, 60.0) == ""


def test_canaries_are_asked_every_five_seconds_or_ten_times_in_a_short_bake() -> None:
    for bake_s, every in ((300.0, HEALTH_EVERY_S), (10.0, 1.0), (0.0, 0.1)):
        bake, _ = baking(bake_s)
        assert bake.asks(0.0)
        assert not bake.asks(0.9 * every)
        assert bake.asks(every)


def test_one_that_does_not_say_how_it_is_has_as_long_as_for_a_restart() -> None:
    bake, census = baking(bake_s=10)
    assert bake.ended(census, 2, 10.0) is None
    assert bake.due <= 30.0
    assert bake.ended(census, 2, 29.0) is None
    assert bake.ended(census, 2, 30.0) == "canaries do not say how they are: n1"


def test_one_that_is_silent_is_missing() -> None:
    bake, census = baking(bake_s=1000)
    assert bake.ended(census, 2, SILENT_S + 1) is None
    assert bake.ended(census, 2, SILENT_S + 22) == "canaries do not serve it any more: n1"


def test_the_quorum_must_hold() -> None:
    bake, census = baking(bake_s=10)
    bake.hear(Health("n1", True))
    assert bake.ended(census, 3, 10.0) is None
    assert bake.ended(census, 3, 40.0) == "only 2 nodes have it prepared any more, and 3 must"

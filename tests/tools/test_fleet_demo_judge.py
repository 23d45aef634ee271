"""The judge of the demo's fleet: what a node may answer at a time, and what it may not."""

from __future__ import annotations

import pytest

from tools.fleet_demo.judge import Answer, Judge


def digests(build: int) -> dict[str, str]:
    """By path: pages that change, every time and every second time, one that does not, an asset of this build."""
    changing = {"/page": f"page {build}", "/pair": f"pair {build // 2}"}
    return changing | {"/same": "same", f"/asset.{build}": f"asset {build}"}


BUILDS = {number: digests(number) for number in range(1, 6)}


@pytest.fixture
def judge() -> Judge:
    """It knows five builds; node n serves the first since time 0."""
    judge = Judge(kept=1)
    for number, digests in BUILDS.items():
        judge.knows(number, digests)
    judge.serves("n", 1, 0.0)
    return judge


def found(path: str, build: int, begun: float, **more: object) -> Answer:
    """A path as a build has it, answered within a tenth of a second."""
    return Answer("n", path, begun, begun + 0.1, 200, BUILDS[build][path])._replace(**more)  # type: ignore[arg-type]


def absent(path: str, begun: float) -> Answer:
    return Answer("n", path, begun, begun + 0.1, 404, "")


def test_before_the_flip_a_node_answers_of_its_live_build_alone(judge: Judge) -> None:
    assert judge.fault(found("/page", 1, 1.0)) == ""
    assert judge.fault(found("/page", 2, 1.0)) == "it is of build 2, and build 1 is live"


def test_while_it_may_flip_either_build_is_right_and_then_the_new_one_alone(judge: Judge) -> None:
    judge.may_flip("n", 2, 1.0)
    assert judge.fault(found("/page", 1, 1.1)) == ""
    assert judge.fault(found("/page", 2, 1.1)) == ""  # it ends at 1.2
    assert judge.fault(found("/page", 1, 1.15)) == ""  # it began before that
    assert judge.fault(found("/page", 1, 1.3)) == "it goes back to build 1, after build 2"


def test_a_node_that_has_reported_a_flip_is_held_to_it(judge: Judge) -> None:
    judge.may_flip("n", 2, 1.0)
    judge.reports("n", 2, None, 2.0)
    assert judge.fault(found("/page", 1, 1.9)) == ""
    assert "goes back" in judge.fault(found("/page", 1, 2.1))
    assert judge.live("n", 2.0) == 2


def test_what_the_live_build_lacks_may_come_of_the_prepared_one_and_shows_no_flip(judge: Judge) -> None:
    assert "of build 2" in judge.fault(found("/asset.2", 2, 0.5))
    judge.may_flip("n", 2, 1.0)
    assert judge.fault(absent("/asset.2", 1.1)) == ""
    assert judge.fault(found("/asset.2", 2, 1.2)) == ""
    assert judge.fault(found("/page", 1, 2.0)) == ""


def test_what_is_reported_as_prepared_is_there(judge: Judge) -> None:
    judge.may_flip("n", 2, 1.0)
    judge.reports("n", 1, 2, 2.0)
    assert judge.fault(absent("/asset.2", 1.9)) == ""
    assert judge.fault(absent("/asset.2", 2.1)) == "not found, and build 2 has it, which is prepared"
    judge.reports("n", 1, None, 3.0)
    assert judge.fault(absent("/asset.2", 3.1)) == ""


def test_the_build_before_is_kept_and_the_one_before_that_is_not(judge: Judge) -> None:
    for number in (2, 3):
        judge.may_flip("n", number, float(number))
        judge.reports("n", number, None, number + 0.5)
    assert judge.fault(found("/asset.2", 2, 4.0)) == ""
    assert judge.fault(absent("/asset.2", 4.0)) == "not found, and build 2 has it, which is kept"
    assert judge.fault(absent("/asset.1", 4.0)) == ""
    assert "goes back to build 1" in judge.fault(found("/asset.1", 1, 4.0))


def test_what_a_live_build_has_is_found(judge: Judge) -> None:
    assert judge.fault(absent("/same", 1.0)) == "not found, and build 1 has it, which is live"
    judge.may_flip("n", 2, 1.0)
    assert "which is live" in judge.fault(absent("/same", 2.0))
    assert judge.fault(found("/same", 1, 2.0)) == ""
    assert judge.fault(found("/page", 1, 2.2)) == ""  # what both have shows no flip


def test_it_goes_back_by_a_rollback(judge: Judge) -> None:
    judge.may_flip("n", 2, 1.0)
    judge.reports("n", 2, None, 2.0)
    assert "goes back" in judge.fault(found("/page", 1, 2.1))
    judge.may_flip("n", 1, 3.0)
    judge.reports("n", 2, None, 3.1)
    assert judge.fault(found("/page", 2, 3.2)) == ""
    assert judge.fault(found("/page", 1, 3.2)) == ""
    assert judge.fault(found("/page", 2, 4.0)) == "it goes back to build 2, after build 1"
    assert judge.fault(found("/asset.2", 2, 4.0)) == ""


def test_bytes_of_no_build_are_wrong(judge: Judge) -> None:
    assert "no build" in judge.fault(found("/page", 1, 1.0, digest="torn"))


@pytest.mark.parametrize("trouble", [{"trouble": "reset"}, {"status": 503}])
def test_a_request_that_fails_is_wrong_but_at_a_node_that_is_down(judge: Judge, trouble: dict[str, object]) -> None:
    assert "failed" in judge.fault(found("/page", 1, 1.0, **trouble))
    judge.goes_down("n", 2.0)
    assert judge.fault(found("/page", 1, 1.95, **trouble)) == ""
    assert "failed" in judge.fault(found("/page", 1, 2.5, is_front=True, **trouble))
    judge.comes_up("n", 3.0)
    assert judge.fault(found("/page", 1, 2.99, **trouble)) == ""
    assert "failed" in judge.fault(found("/page", 1, 3.1, **trouble))


def test_a_server_that_is_started_anew_keeps_its_place_and_has_lost_what_was_beside(judge: Judge) -> None:
    judge.may_flip("n", 2, 1.0)
    judge.reports("n", 2, None, 2.0)
    judge.goes_down("n", 3.0)
    judge.comes_up("n", 4.0)
    assert "goes back" in judge.fault(found("/page", 1, 5.0))
    assert judge.fault(absent("/asset.1", 5.0)) == ""
    assert judge.fault(found("/page", 2, 5.0)) == ""
    judge.may_flip("n", 3, 6.0)
    judge.reports("n", 3, None, 7.0)
    assert judge.fault(absent("/asset.2", 8.0)) == "not found, and build 2 has it, which is kept"


def test_an_answer_of_no_known_node_is_wrong_and_other_statuses_are(judge: Judge) -> None:
    assert "no node" in judge.fault(found("/page", 1, 1.0, node=""))
    assert judge.fault(found("/page", 1, 1.0, status=206)) == "status 206"


def test_answers_are_counted(judge: Judge) -> None:
    judge.fault(found("/page", 1, 1.0))
    judge.fault(absent("/asset.4", 1.0))
    assert (judge.judged, judge.absent) == (2, 1)


def test_a_build_that_is_withdrawn_is_not_served_any_more(judge: Judge) -> None:
    judge.may_flip("n", 2, 1.0)
    judge.reports("n", 1, 2, 1.5)
    judge.withdraw("n", 2, 2.0)
    assert judge.fault(found("/asset.2", 2, 1.9)) == ""
    assert judge.fault(absent("/asset.2", 1.9)) == ""  # it was being let go of
    assert "of build 2" in judge.fault(found("/asset.2", 2, 2.1))
    assert judge.fault(found("/page", 1, 2.1)) == ""
    judge.may_flip("n", 2, 3.0)
    judge.reports("n", 2, None, 4.0)
    assert judge.fault(found("/page", 2, 5.0)) == ""
    assert "goes back" in judge.fault(found("/page", 1, 5.0))


def test_a_canary_goes_back_where_its_build_is_aborted(judge: Judge) -> None:
    judge.may_flip("n", 2, 1.0)
    judge.reports("n", 2, None, 2.0)
    judge.withdraw("n", 2, 2.5)  # it has flipped: so it says nothing
    judge.may_flip("n", 1, 3.0)
    assert judge.fault(found("/page", 2, 3.5)) == ""
    judge.reports("n", 1, None, 4.0)
    assert "goes back" in judge.fault(found("/page", 2, 4.5))
    assert judge.fault(found("/page", 1, 4.5)) == ""


def test_of_two_builds_that_a_node_may_come_to_the_one_that_lost_pushes_nothing_out(judge: Judge) -> None:
    judge.may_flip("n", 2, 1.0)
    judge.may_flip("n", 3, 1.0)
    assert judge.fault(found("/pair", 3, 1.5)) == ""  # it is at one of both, and is not seen at the second
    judge.reports("n", 3, None, 2.0)
    assert judge.fault(found("/asset.1", 1, 2.5)) == ""
    assert judge.fault(absent("/asset.1", 2.5)) == ""  # it may have been at the second
    judge.withdraw("n", 2, 3.0)
    assert judge.fault(found("/asset.1", 1, 3.5)) == ""
    assert judge.fault(absent("/asset.1", 3.5)) == "not found, and build 1 has it, which is kept"

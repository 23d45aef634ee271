"""Which sequence a release gets, and what a rollback goes back to: the same when a command is given again."""

from __future__ import annotations

import pytest

from tools.warm.planning import goes_back_to, sequence_for
from zcserve.errors import UsageError
from zcserve.fleet.messages import Desired, Release, State, Trial


def release(sequence: int, tree: int | None = None) -> Release:
    return Release(f"www.{sequence}", sequence, f"{sequence:064x}", f"{tree or sequence:064x}")


R6, R7, R8 = map(release, (6, 7, 8))
BACK = release(9, tree=7)
NEW = f"{99:064x}"


@pytest.mark.parametrize(
    ("desired", "tree", "sequence"),
    [
        (Desired("www"), NEW, 1),
        (Desired("www", 4, R7), NEW, 8),
        (Desired("www", 4, R7), R7.tree, 7),
        (Desired("www", 4, R7, Trial(R8)), R8.tree, 8),
        (Desired("www", 4, R7, Trial(R8)), R7.tree, 9),
        (Desired("www", 4, R7, Trial(R8)), NEW, 9),
        (Desired("www", 4, R8, earlier=(R7,)), R7.tree, 9),
        (Desired("www", 4, None, Trial(R8)), NEW, 9),
    ],
)
def test_the_same_files_are_the_release_that_lasts_and_others_come_after_all_that_were_told(
    desired: Desired, tree: str, sequence: int
) -> None:
    assert sequence_for(tree, desired, []) == sequence


def test_a_node_that_knows_of_a_release_which_came_to_nothing_takes_the_next_one() -> None:
    states = [State("www", "n1", "b", 1, 4, "live", release(11), release(11)), State("www", "n2", "b", 1)]
    assert sequence_for(NEW, Desired("www", 4, R7), states) == 12


@pytest.mark.parametrize(
    ("desired", "wanted", "found"),
    [
        (Desired("www", 6, R8, earlier=(R7, R6)), "previous", R7),
        (Desired("www", 6, R8, earlier=(R7, R6)), "6", R6),
        (Desired("www", 6, R8, earlier=(R7, R6)), "8", R8),
        (Desired("www", 8, BACK, earlier=(R8, R7, R6)), "previous", BACK),
        (Desired("www", 7, R8, Trial(BACK), earlier=(R7, R6)), "previous", R7),
        (Desired("www", 7, release(8, tree=7), earlier=(R7, R6)), "previous", R6),
    ],
)
def test_a_rollback_goes_back_to_the_same_release_when_it_is_given_again(
    desired: Desired, wanted: str, found: Release
) -> None:
    assert goes_back_to(desired, wanted) == found


@pytest.mark.parametrize(
    ("desired", "wanted", "said"),
    [
        (Desired("www"), "previous", "nothing was ever released to www"),
        (Desired("www", 2, R7), "previous", "--to previous: is not known; known before 7: none"),
        (Desired("www", 3, R8, earlier=(R7, R6)), "5", "--to 5: is not known; known before 8: 7, 6"),
    ],
)
def test_what_cannot_be_gone_back_to_says_what_can(desired: Desired, wanted: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        goes_back_to(desired, wanted)

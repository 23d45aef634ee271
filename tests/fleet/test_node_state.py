"""One node: what it does because of what it is told, and what it does not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from zcserve.fleet.bus import Gap
from zcserve.fleet.messages import REPORT_EVERY_S, Command, Desired, Poisoned, Release, State, Trial
from zcserve.fleet.node_memory import Memory
from zcserve.fleet.node_state import HELD_S, REPORT_GAP_S, VAIN_TRIES_MAX, NodeState
from zcserve.fleet.node_words import (
    Acknowledge,
    Action,
    Done,
    Drop,
    Event,
    Failed,
    Fetch,
    Fetched,
    Flip,
    Flipped,
    Keep,
    Observed,
    Prepare,
    Prepared,
    Purge,
    ReadDesired,
    Report,
    SetAside,
    Tick,
    Undone,
    Warm,
)


def release(sequence: int, tree: str = "") -> Release:
    return Release(f"www-{sequence}", sequence, f"{sequence:064x}", (tree or f"{sequence:x}").rjust(64, "f"))


R6, R7, R8, R9 = map(release, (6, 7, 8, 9))
PURGE = Command("p1", "purge", "www", tags=("news",))


class Node:
    """A node, and the clock; `on` gives the actions that are no reports, which it keeps."""

    def __init__(self, memory: Memory | None = None, served: str = "", now: float = 100.0) -> None:
        self.machine = NodeState("www", "n1", "boot", memory)
        self.now = now
        self.states: list[State] = []
        self.memory = memory
        self.first = self.on(Observed(served))

    def on(self, event: Event, after: float = 1.0) -> list[Action]:
        self.now += after
        actions = self.machine.on(event, self.now)
        self.states += [action.state for action in actions if isinstance(action, Report)]
        for action in actions:
            if isinstance(action, Keep):
                self.memory = action.memory
        return [action for action in actions if not isinstance(action, (Report, Keep))]

    @property
    def state(self) -> State:
        return self.states[-1]

    def later(self) -> list[Action]:
        """What it does when it is as late as it wants."""
        assert self.machine.due < math.inf
        return self.on(Tick(), self.machine.due - self.now)


def serving(current: Release, edition: int = 1) -> Node:
    """A node at rest with this release, which is desired."""
    node = Node(Memory(Desired("www", edition, current), current, current), current.tree)
    assert node.first == []
    return node


def prepared(node: Node, new: Release, edition: int = 2) -> Node:
    """That has the trial prepared."""
    assert node.on(Desired("www", edition, R7, Trial(new))) == [Fetch(new)]
    assert node.on(Fetched(new)) == [Prepare(new)]
    assert node.on(Prepared(new, 0.75)) == []
    return node


def test_a_new_node_fetches_prepares_and_flips_to_what_is_desired() -> None:
    node = Node()
    assert node.first == []
    assert node.state.stage == "empty"
    assert node.on(Desired("www", 3, R7)) == [Fetch(R7)]
    assert node.on(Fetched(R7)) == [Prepare(R7)]
    assert node.on(Prepared(R7)) == [Flip(R7)]
    assert node.on(Flipped(R7, 0.9)) == []
    assert (node.state.stage, node.state.live, node.state.share, node.state.edition) == ("live", R7, 0.9, 3)
    assert node.memory == Memory(Desired("www", 3, R7), R7, R7)
    assert [state.stage for state in node.states] == ["empty", "fetching", "preparing", "flipping", "live"]
    assert [state.number for state in node.states] == [1, 2, 3, 4, 5]


def test_a_trial_is_prepared_and_flipped_to_when_it_is_desired() -> None:
    node = prepared(serving(R7), R8)
    assert (node.state.stage, node.state.prepared, node.state.live, node.state.share) == ("prepared", R8, R7, 0.75)
    assert node.machine.needed == {R7.tree, R8.tree}
    assert node.on(Desired("www", 3, R8)) == [Flip(R8)]
    assert node.on(Flipped(R8)) == []
    assert (node.state.live, node.state.prepared) == (R8, None)


def test_a_trial_that_is_aborted_is_held_for_a_while_and_dropped_then() -> None:
    node = prepared(serving(R7), R8)
    assert node.on(Desired("www", 3, R7)) == []
    assert (node.state.stage, node.state.prepared, node.state.live) == ("live", None, R7)
    assert node.on(Observed(R7.tree, R8.tree), HELD_S - 2) == []
    assert node.on(Tick(), 2) == [Drop()]
    assert node.on(Tick(), HELD_S) == []


def test_what_is_held_makes_way_for_the_next_release_and_stays_until_that_is_prepared() -> None:
    node = prepared(serving(R7), R8)
    assert node.on(Desired("www", 3, R7)) == []
    assert node.on(Desired("www", 4, R7, Trial(R9))) == [Fetch(R9)]
    assert node.on(Tick(), HELD_S) == []
    assert node.on(Fetched(R9)) == [Prepare(R9)]
    assert node.on(Desired("www", 5, R7)) == [Drop()]  # in the middle: no client has anything of it


def test_a_trial_that_is_aborted_before_it_is_prepared_is_ended_at_once() -> None:
    node = serving(R7)
    assert node.on(Desired("www", 2, R7, Trial(R8))) == [Fetch(R8)]
    assert node.on(Desired("www", 3, R7)) == [Drop()]


def test_a_canary_serves_the_trial_goes_back_at_an_abort_and_stays_at_a_commit() -> None:
    for last, actions in ((R7, [Fetch(R7)]), (R8, [])):
        node = prepared(serving(R7), R8)
        assert node.on(Desired("www", 3, R7, Trial(R8, frozenset({"n1"})))) == [Flip(R8)]
        assert node.on(Flipped(R8)) == []
        assert node.memory == Memory(Desired("www", 3, R7, Trial(R8, frozenset({"n1"}))), R8, R7)
        assert node.on(Desired("www", 4, last)) == actions
    assert node.memory is not None
    assert node.memory.highest == R8


def test_a_canary_that_is_started_anew_in_the_bake_is_one_still() -> None:
    trial = Desired("www", 3, R7, Trial(R8, frozenset({"n1"})))
    assert Node(Memory(trial, R8, R7), R8.tree).first == []
    # The server came back with the release before: it goes on to the trial.
    assert Node(Memory(trial, R8, R7), R7.tree).first == [Fetch(R8)]
    # The abort came while the agent was away.
    node = Node(Memory(trial, R8, R7), R8.tree)
    assert node.on(Desired("www", 4, R7)) == [Fetch(R7)]
    assert node.on(Fetched(R7)) == [Prepare(R7)]


def test_another_node_than_the_canaries_does_not_flip() -> None:
    node = prepared(serving(R7), R8)
    assert node.on(Desired("www", 3, R7, Trial(R8, frozenset({"n2"})))) == []
    assert node.state.live == R7


def test_no_command_makes_a_flip() -> None:
    node = prepared(serving(R7), R8)
    for edition in (1, 2):
        actions = node.on(Command(f"flip:{edition}", "flip", "www", edition, R8))
        assert actions == [Acknowledge(f"flip:{edition}")]
    assert node.on(Command("flip:3", "flip", "www", 3, R8)) == [Acknowledge("flip:3"), ReadDesired()]
    assert node.on(Desired("www", 3, R8)) == [Flip(R8)]


def test_a_node_that_missed_all_goes_straight_to_the_newest() -> None:
    node = prepared(serving(R7), R8)
    assert node.on(Desired("www", 9, R9)) == [Fetch(R9)]
    assert node.on(Prepared(R8)) == []
    assert node.on(Fetched(R8)) == []
    assert node.on(Fetched(R9)) == [Prepare(R9)]


def test_a_node_that_is_behind_catches_up_before_it_tries() -> None:
    node = serving(R6)
    assert node.on(Desired("www", 5, R7, Trial(R8))) == [Fetch(R7)]
    node.on(Fetched(R7))
    node.on(Prepared(R7))
    assert node.on(Flipped(R7)) == [Fetch(R8)]


@pytest.mark.parametrize(
    ("desired", "said"),
    [
        (Desired("www", 9, R6), "sequence 6 is older than 7, which was live"),
        (Desired("www", 9, replace(R7, manifest="e" * 64)), "sequence 7 was live with another manifest, 000000000000"),
        (Desired("www", 9, R6, Trial(R8, frozenset({"n1"}))), "sequence 6 is older than 7, which was live"),
    ],
    ids=["older", "other", "trial"],
)
def test_what_leads_to_something_older_is_refused_and_named(desired: Desired, said: str) -> None:
    node = serving(R7)
    assert node.on(desired) == []
    assert (node.state.live, node.state.error, node.state.edition) == (R7, said, 1)
    assert node.on(Desired("www", 10, R8)) == [Fetch(R8)]
    assert node.state.error == ""


def test_a_trial_of_something_older_is_given_up_and_named() -> None:
    node = serving(R7)
    assert node.on(Desired("www", 9, None, Trial(R6))) == []
    assert (node.state.stage, node.state.release, node.state.live) == ("failed", R6, R7)
    assert node.state.error == "sequence 6 is older than 7, which was live"


def test_older_editions_and_repeats_change_nothing() -> None:
    node = serving(R7, edition=5)
    for desired in (Desired("www", 4, R8), Desired("www", 5, R8), Desired("blog", 6, R8), Desired("www", 0)):
        assert node.on(desired) == []
    assert node.states == [node.state]


def test_the_same_sequence_and_manifest_by_another_rollout_is_a_repeat() -> None:
    node = serving(R7)
    assert node.on(Desired("www", 2, replace(R7, rollout="again"))) == []
    assert node.state.edition == 2


def test_a_rollback_is_a_new_sequence_of_an_old_tree() -> None:
    node = serving(R7)
    back = Release("www-8", 8, "8" * 64, R6.tree)
    assert node.on(Desired("www", 2, R7, Trial(back))) == [Fetch(back)]
    assert node.on(Fetched(back)) == [Prepare(back)]
    node.on(Prepared(back))
    assert node.on(Desired("www", 3, back)) == [Flip(back)]


def test_a_release_of_the_tree_that_is_served_loads_nothing_but_its_manifest_is_fetched() -> None:
    node = serving(R7)
    again = release(8, tree="7")
    assert node.on(Desired("www", 2, R7, Trial(again))) == [Fetch(again)]
    assert node.on(Fetched(again)) == []
    assert node.state.prepared == again
    assert node.on(Desired("www", 3, again)) == []
    assert node.state.live == again
    assert node.memory == Memory(Desired("www", 3, again), again, again)


def test_what_fails_is_tried_again_later_each_time() -> None:
    node = serving(R7)
    node.on(Desired("www", 2, R7, Trial(R8)))
    waits = []
    for _ in range(8):
        assert node.on(Undone(R8, "the origin\nis away")) == []
        assert (node.state.stage, node.state.error) == ("fetching", "the origin is away")
        failed = node.now
        while not (actions := node.later()):
            pass
        assert actions == [Fetch(R8)]
        waits.append(node.now - failed)
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, (1, 2, 4, 8, 16, 32, 60, 60), strict=True))
    assert node.on(Fetched(R8)) == [Prepare(R8)]
    assert node.state.error == ""


def test_a_flip_that_failed_goes_by_prepare_again() -> None:
    node = prepared(serving(R7), R8)
    node.on(Desired("www", 3, R8))
    assert node.on(Undone(R8, "no answer")) == []
    assert node.on(Observed(R7.tree), 0.0) == []
    while not (actions := node.later()):
        pass
    assert actions == [Prepare(R8)]
    assert node.on(Prepared(R8)) == [Flip(R8)]


def test_flips_that_fail_are_later_each_time_though_prepare_succeeds_between() -> None:
    node = prepared(serving(R7), R8)
    node.on(Desired("www", 3, R8))
    waits = []
    for _ in range(8):
        assert node.on(Undone(R8, "the reload fails")) == []
        failed = node.now
        while not (actions := node.later()):
            pass
        assert actions == [Prepare(R8)]
        waits.append(node.now - failed)
        assert node.on(Prepared(R8)) == [Flip(R8)]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, (1, 2, 4, 8, 16, 32, 60, 60), strict=True))


def test_what_is_refused_is_given_up_until_something_else_is_desired() -> None:
    node = serving(R7)
    node.on(Desired("www", 2, R7, Trial(R8)))
    assert node.on(Undone(R8, "key ops: wrong signature", is_final=True)) == []
    assert (node.state.stage, node.state.release, node.state.error) == ("failed", R8, "key ops: wrong signature")
    assert node.later() == []
    assert node.on(Desired("www", 3, R7, Trial(R9))) == [Fetch(R9)]


def test_what_was_refused_is_tried_again_after_a_long_wait_which_the_state_tells() -> None:
    node = serving(R7)
    node.on(Desired("www", 2, R7, Trial(R8)))
    waits = []
    for _ in range(6):
        assert node.on(Undone(R8, "not signed", is_final=True)) == []
        refused = node.now
        assert node.state.retry_s > 100
        while not (actions := node.later()):
            assert (node.state.stage, node.state.error) == ("failed", "not signed")
            assert 0 < node.state.retry_s <= 3600 - (node.now - refused)
        assert actions == [Fetch(R8)]
        assert (node.state.stage, node.state.error, node.state.retry_s) == ("fetching", "not signed", 0.0)
        waits.append(node.now - refused)
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, (300, 600, 1200, 2400, 3600, 3600), strict=True))
    assert node.on(Fetched(R8)) == [Prepare(R8)]
    assert node.on(Prepared(R8)) == []
    assert (node.state.stage, node.state.error) == ("prepared", "")


def test_an_older_release_is_not_tried_again() -> None:
    node = serving(R7)
    node.on(Desired("www", 2, R7, Trial(R8)))
    node.on(Desired("www", 3, None, Trial(R6)))
    assert node.state.stage == "failed"
    for _ in range(500):  # four hours of reports
        assert node.later() == []
        assert (node.state.stage, node.state.retry_s) == ("failed", 0.0)


def test_what_fails_tells_when_it_is_tried_again() -> None:
    node = serving(R7)
    node.on(Desired("www", 2, R7, Trial(R8)))
    for most in (1, 2, 4):
        node.on(Undone(R8, "there is no room"))
        assert most / 2 <= node.state.retry_s <= most
        while not (actions := node.later()):
            pass
        assert actions == [Fetch(R8)]


def test_a_node_that_gave_up_what_is_desired_prepares_what_is_tried() -> None:
    node = serving(R6)
    node.on(Desired("www", 2, R7, Trial(R8)))
    assert node.on(Undone(R7, "wrong", is_final=True)) == [Fetch(R8)]


def test_what_is_desired_and_cannot_be_had_makes_room_for_a_trial_as_long_as_there_is_one() -> None:
    for is_early in (True, False):  # the trial is there before the last try, or comes while the node waits for the next
        node = serving(R6)
        node.on(Desired("www", 2, R7))
        for number in range(VAIN_TRIES_MAX - 1):
            assert node.on(Undone(R7, "answers 404")) == []
            if is_early and not number:
                assert node.on(Desired("www", 3, R7, Trial(R8)), 0.0) == []
            while not (actions := node.later()):
                pass
            assert actions == [Fetch(R7)]
        last = node.on(Undone(R7, "answers 404"))
        begun = last if is_early else node.on(Desired("www", 3, R7, Trial(R8)))
        assert begun == [Fetch(R8)]
        node.on(Fetched(R8))
        node.on(Prepared(R8))
        assert node.on(Tick(), 100_000) == []
        assert (node.state.stage, node.state.prepared, node.state.live) == ("prepared", R8, R6)
        if is_early:
            assert node.on(Desired("www", 4, R8)) == [Flip(R8)]
        else:
            assert node.on(Desired("www", 4, R7)) == [Fetch(R7)]


def test_a_flip_is_never_ended_whatever_is_desired_meanwhile() -> None:
    node = prepared(serving(R7), R8)
    assert node.on(Desired("www", 3, R8)) == [Flip(R8)]
    assert node.on(Desired("www", 4, R9)) == []
    assert node.on(Observed(R7.tree)) == []
    assert node.on(Flipped(R8)) == [Fetch(R9)]


def test_a_server_that_was_started_anew_prepares_again() -> None:
    node = prepared(serving(R7), R8)
    assert node.on(Observed(R7.tree, R8.tree)) == []
    assert node.on(Observed(R7.tree)) == [Prepare(R8)]


def test_a_server_that_serves_something_else_is_brought_back() -> None:
    node = serving(R7)
    assert node.on(Observed("e" * 64)) == [Fetch(R7)]
    assert (node.state.stage, node.state.live) == ("fetching", None)
    node.on(Fetched(R7))
    node.on(Prepared(R7))
    node.on(Flipped(R7))
    assert node.state.live == R7


def test_a_flip_that_ended_in_its_middle_is_made_again_or_back() -> None:
    node = serving(R7)
    assert node.on(Observed(R7.tree, current=R8.tree)) == [Fetch(R7)]
    node.on(Fetched(R7))
    assert node.on(Prepared(R7)) == [Flip(R7)]


def test_what_the_server_holds_and_nothing_wants_is_dropped() -> None:
    node = serving(R7)
    assert node.on(Observed(R7.tree, R8.tree)) == []
    assert node.on(Tick(), HELD_S - 1) == []
    assert node.on(Tick()) == [Drop()]
    assert node.on(Tick(), HELD_S) == []


# -- folders that are gone


def test_what_is_live_and_has_lost_its_folder_is_fetched_prepared_and_flipped_to_again() -> None:
    node = serving(R7)
    assert node.on(Observed(R7.tree, "", R7.tree, True, frozenset({R7.tree}))) == [Fetch(R7)]
    assert (node.state.stage, node.state.live) == ("fetching", R7)
    assert node.state.error == "the folder of release 7 is gone: it is fetched again"
    node.on(Undone(R7, "the origin is away"))
    assert node.state.error == "the folder of release 7 is gone: the origin is away"
    assert node.later() == [Fetch(R7)]
    assert node.on(Fetched(R7)) == [Prepare(R7)]
    assert node.on(Observed(R7.tree, "", R7.tree, True)) == []
    assert node.on(Prepared(R7)) == [Flip(R7)]
    assert node.on(Flipped(R7)) == []
    assert (node.state.stage, node.state.live, node.state.error) == ("live", R7, "")


def test_a_server_that_has_loaded_it_from_its_folder_by_itself_needs_no_flip() -> None:
    node = serving(R7)
    assert node.on(Observed(R7.tree, "", R7.tree, True, frozenset({R7.tree}))) == [Fetch(R7)]
    assert node.on(Fetched(R7)) == [Prepare(R7)]
    assert node.on(Observed(R7.tree, "", R7.tree)) == [Drop()]
    assert (node.state.stage, node.state.error) == ("live", "")


def test_what_is_prepared_and_has_lost_its_folder_is_fetched_again() -> None:
    node = prepared(serving(R7), R8)
    assert node.on(Observed(R7.tree, "", R7.tree, False, frozenset({R8.tree}))) == [Fetch(R8)]
    assert node.state.error == "the folder of release 8 is gone: it is fetched again"
    assert node.on(Fetched(R8)) == [Prepare(R8)]
    node.on(Undone(R8, "no such directory", is_final=True, is_lost=True))
    assert node.later() == [Fetch(R8)]
    node.on(Fetched(R8))
    assert node.on(Prepared(R8)) == []
    assert node.on(Desired("www", 3, R8)) == [Flip(R8)]
    node.on(Undone(R8, "no such release", is_lost=True))
    assert node.later() == [Fetch(R8)]


def test_what_a_rollback_may_go_to_is_fetched_again_when_there_is_nothing_else_to_do() -> None:
    node = Node(Memory(Desired("www", 1, R7, None, (R6,)), R7, R7), R7.tree)
    absent = frozenset({R6.tree, "d" * 64})
    assert node.on(Observed(R7.tree, absent=absent)) == [Fetch(R6)]
    assert (node.state.stage, node.state.live) == ("live", R7)
    assert node.state.error == "the folder of release 6 is gone: it is fetched again"
    assert node.on(Desired("www", 2, R7, Trial(R8), (R6,))) == [Fetch(R8)]
    node.on(Fetched(R8))
    assert node.on(Prepared(R8)) == []
    assert node.on(Desired("www", 3, R7, None, (R6,))) == [Fetch(R6)]
    assert node.on(Fetched(R6)) == []
    assert (node.state.stage, node.state.error) == ("live", "")
    assert node.on(Tick(), HELD_S) == [Drop()]


def test_what_a_rollback_may_go_to_and_cannot_be_fetched_is_given_up_for_long_or_until_something_is_desired() -> None:
    node = Node(Memory(Desired("www", 1, R7, None, (R6,)), R7, R7), R7.tree)
    assert node.on(Observed(R7.tree, absent=frozenset({R6.tree}))) == [Fetch(R6)]
    for _ in range(VAIN_TRIES_MAX - 1):
        node.on(Undone(R6, "answers 404", is_lost=True))
        assert node.later() == [Fetch(R6)]
    assert node.on(Undone(R6, "answers 404", is_lost=True)) == []
    assert node.on(Tick(), 60) == []
    assert (node.state.stage, node.state.release, node.state.live) == ("live", R7, R7)
    assert node.state.error == "the folder of release 6 is gone: answers 404"
    assert node.on(Desired("www", 2, R7, None, (R6,))) == [Fetch(R6)]


def test_a_node_is_behind_when_it_serves_what_is_older_than_the_release_before() -> None:
    node = serving(R7)
    assert node.machine.behind == ""
    node.on(Desired("www", 2, R8, None, (R7, R6)))
    assert node.machine.behind == ""
    node.on(Desired("www", 3, R9, None, (R8, R7, R6)))
    assert node.machine.behind == "release 7 is served, more than one behind 9, which is desired"
    for event in (Fetched(R9), Prepared(R9)):
        node.on(event)
    assert node.machine.behind
    node.on(Flipped(R9))
    assert node.machine.behind == ""
    back = release(10, "7")  # the files of an older one
    node.on(Desired("www", 4, back, None, (R9, R8)))
    assert node.machine.behind == ""


def test_a_node_is_not_behind_while_nothing_is_known_or_a_canary_is_ahead() -> None:
    assert NodeState("www", "n1", "boot").behind == ""
    node = Node(Memory(Desired("www", 1, R8, None, (R7,)), None, None), "e" * 64)
    assert node.machine.behind == ""  # what it serves is no release
    canary = serving(R9)
    canary.on(Desired("www", 2, R8, None, (R7, R6)))  # older than what was live: refused
    assert canary.machine.behind == ""
    same = serving(release(5, "7"))
    same.on(Desired("www", 2, R9, None, (R7,)))  # with the files of the release before
    assert same.machine.behind == ""


def test_nothing_begins_before_the_server_was_looked_at() -> None:
    machine = NodeState("www", "n1", "boot")
    desired = Desired("www", 3, R7)
    assert machine.on(desired, 1.0) == [Keep(Memory(desired))]
    assert machine.due == math.inf
    assert Fetch(R7) in machine.on(Observed(""), 2.0)


def test_what_is_kept_is_written_before_what_comes_of_it() -> None:
    machine = NodeState("www", "n1", "boot")
    machine.on(Observed(""), 1.0)
    first, *others = machine.on(Desired("www", 3, R7), 2.0)
    assert isinstance(first, Keep)
    assert others[0] == Fetch(R7)


# -- commands


def test_a_purge_is_done_once_and_acknowledged_when_it_is_done() -> None:
    node = serving(R7)
    assert node.on(PURGE) == [Purge(PURGE)]
    assert node.on(PURGE) == []
    assert node.on(Done("p1")) == [Acknowledge("p1")]
    assert node.state.done == ("p1",)
    assert node.on(Done("p1")) == []
    assert node.on(PURGE) == [Acknowledge("p1")]


def test_a_command_of_another_site_or_a_poisoned_one_is_set_aside() -> None:
    node = serving(R7)
    assert node.on(replace(PURGE, site="blog")) == [SetAside("p1", "site: blog, and this node is of www")]
    assert node.on(Poisoned("x1", "explode", "op: not known")) == [SetAside("x1", "op: not known")]
    assert (node.state.aside, node.state.error) == (("p1", "x1"), "set aside x1: op: not known")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (Command("c", "prepare", "www", 9, R6), "sequence 6 is older than 7, which was live"),
        (Command("c", "flip", "www", 9, R6), "sequence 6 is older than 7, which was live"),
        (Command("c", "prepare", "www", 2, R9), "rollout www-8 has the site, not www-9"),
        (Command("c", "prepare", "www", 2, replace(R8, manifest="e" * 64)), "rollout www-8 has the site, not www-8"),
    ],
    ids=["prepare", "flip", "second", "other manifest"],
)
def test_a_command_of_a_rollout_that_cannot_be_is_set_aside_with_the_reason(command: Command, why: str) -> None:
    node = prepared(serving(R7), R8)
    assert node.on(command) == [SetAside("c", why)]
    assert node.state.prepared == R8


def test_a_command_of_a_rollout_that_is_known_is_acknowledged() -> None:
    node = prepared(serving(R7), R8)
    for command in (
        Command("a", "prepare", "www", 2, R8),
        Command("b", "prepare", "www", 1, R9),
        Command("c", "abort", "www", 2, R8),
        Command("d", "flip", "www", 1, R7),
    ):
        assert node.on(command) == [Acknowledge(command.id)]


def test_a_gap_has_all_content_compared_once_and_what_is_desired_read() -> None:
    node = serving(R7)
    actions = node.on(Gap("the stream begins at 900, and 700 was the last"))
    assert actions[0] == ReadDesired()
    (purge,) = [action.command for action in actions if isinstance(action, Purge)]
    assert (purge.prefix, purge.is_hard, purge.op) == ("/", False, "purge")
    assert node.state.error.startswith("missed commands, so all content is compared: the stream begins at 900")
    assert node.memory is not None
    assert node.memory.has_gap
    assert isinstance(Node(node.memory, R7.tree).first[0], Purge)
    assert node.on(Done(purge.id)) == []
    assert not node.memory.has_gap
    assert (node.state.error, node.state.done) == ("", ())


def test_a_purge_is_tried_until_it_is_done_unless_the_server_refuses_it() -> None:
    node = serving(R7)
    node.on(PURGE)
    for _ in range(5):
        assert node.on(Failed("p1", "the server is away")) == []
        while not (actions := node.later()):
            pass
        assert actions == [Purge(PURGE)]
    assert node.on(Failed("p1", "no rule gives this tag", is_final=True)) == [SetAside("p1", "no rule gives this tag")]
    assert node.state.aside == ("p1",)
    assert node.on(PURGE) == [Acknowledge("p1")]


def test_a_warming_that_fails_thrice_is_set_aside() -> None:
    node = serving(R7)
    warm = Command("w1", "warm", "www", paths=("/a",))
    assert node.on(warm) == [Warm(warm)]
    for _ in range(2):
        node.on(Failed("w1", "no room"))
        while not node.later():
            pass
    assert node.on(Failed("w1", "no room")) == [SetAside("w1", "no room")]


# -- reports


def test_reports_are_not_closer_than_their_gap_and_not_rarer_than_their_period() -> None:
    node = serving(R7)
    for number in range(40):
        command = replace(PURGE, id=f"p{number}")
        node.on(command, 0.001)
        node.on(Done(command.id), 0.001)
    assert len(node.states) == 1
    assert node.machine.due - node.now <= REPORT_GAP_S
    node.later()
    assert len(node.state.done) == 40
    told = node.now
    node.later()
    assert 0.9 * REPORT_EVERY_S <= node.now - told <= REPORT_EVERY_S
    assert replace(node.states[-2], number=0) == replace(node.states[-1], number=0)

"""A rollout: its steps, and what it does when others, nodes or its operator come between."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest

from zcserve.errors import UsageError
from zcserve.fleet.bus import Caught, Heard
from zcserve.fleet.messages import Desired, Release, State, Trial
from zcserve.fleet.rollout import NO_NODE_WORDS, Phase, Rollout
from zcserve.fleet.rollout_words import (
    Action,
    AskHealth,
    Begin,
    Cancel,
    Claimed,
    ClaimHeld,
    Conflict,
    End,
    Ending,
    Event,
    GiveUpClaim,
    Health,
    Plan,
    Publish,
    Put,
    PutDesired,
    ReadDesired,
    RenewClaim,
    TakeClaim,
    Tick,
    rollout_id,
)


def release(sequence: int) -> Release:
    digest = f"{sequence:064x}"
    return Release(rollout_id("www", sequence, digest), sequence, digest, digest[::-1])


R7, R8, R9 = map(release, (7, 8, 9))
NODES = tuple(f"n{number}" for number in range(10))


class Run:
    """A rollout, with a bus that does what it is told at once, unless `stored` is changed behind its back."""

    def __init__(self, plan: Plan, stored: Desired | None = None, live: Release | None = R7) -> None:
        self.stored = stored or Desired("www", 4, R7)
        self.machine = Rollout("www", plan)
        self.now, self.number = 100.0, 0
        self.published: list[str] = []
        self.puts: list[Desired] = []
        self.others: list[Action] = []
        self.on(Begin())
        if live:
            for node in NODES:
                self.say([node], "live", live=live)
        self.on(Caught())

    def on(self, event: Event, after: float = 0.0) -> None:
        self.now += after
        for action in self.machine.on(event, self.now):
            match action:
                case TakeClaim():
                    self.on(Claimed())
                case ReadDesired():
                    self.on(self.stored)
                case PutDesired(desired, edition) if edition == self.stored.edition:
                    self.stored = desired
                    self.puts.append(desired)
                    self.on(Put())
                case PutDesired():
                    self.on(Conflict(self.stored))
                case Publish(command):
                    assert command.id == f"{command.release.rollout if command.release else ''}:{command.op}:" + str(
                        self.stored.edition
                    )
                    self.published.append(command.op)
                case _:
                    self.others.append(action)

    def say(self, nodes: Iterable[str], stage: str, **members: object) -> None:
        """Nodes report."""
        for node in nodes:
            self.number += 1
            state = State("www", node, "boot", self.number, min(self.stored.edition, 9), stage)
            self.on(Heard(replace(state, **members), 0.0))  # type: ignore[arg-type]

    def prepare(self, nodes: Iterable[str], new: Release = R8) -> None:
        self.say(nodes, "prepared", release=new, live=R7, prepared=new)

    def live(self, nodes: Iterable[str], new: Release = R8) -> None:
        self.say(nodes, "live", release=new, live=new)

    def later(self) -> None:
        assert self.machine.due < math.inf
        self.on(Tick(), max(0.0, self.machine.due - self.now))

    def wait(self, phase: Phase) -> None:
        """Until it is in this phase, by time alone."""
        for _ in range(1000):
            if self.phase is phase:
                return
            self.later()
        raise AssertionError(f"{self.phase}, not {phase}")

    @property
    def phase(self) -> Phase:
        return self.machine.phase

    def is_at(self, phase: Phase) -> bool:
        return self.phase is phase

    @property
    def end(self) -> End:
        assert self.machine.end is not None
        assert self.phase is Phase.ENDED
        assert self.machine.due == math.inf
        assert [type(action) for action in self.others[-2:]] in ([GiveUpClaim, End], [AskHealth, End], [End])
        return self.machine.end


def test_a_rollout_without_canaries_from_its_beginning_to_its_end() -> None:
    run = Run(Plan(R8))
    assert run.is_at(Phase.PREPARING)
    assert run.stored == Desired("www", 5, R7, Trial(R8))
    run.prepare(NODES[:8])
    assert run.machine.counts == (8, 0, 9, 10)
    run.prepare(NODES[:9])
    assert run.is_at(Phase.FLIPPING)
    assert run.stored == Desired("www", 6, R8, earlier=(R7,))
    run.live(NODES[:9])
    assert run.is_at(Phase.CONVERGING)
    assert run.others[-1] == GiveUpClaim()
    run.live(NODES)
    assert run.machine.end == End(Ending.LIVE, "", {})
    assert run.published == ["prepare", "flip"]


def test_canaries_flip_first_bake_and_are_asked_how_they_are() -> None:
    run = Run(Plan(R8, canaries=frozenset({"n1", "n2"}), bake_s=30))
    run.prepare(NODES[2:])
    assert run.is_at(Phase.PREPARING)  # n1 is a canary
    run.prepare(NODES[1:])
    assert run.is_at(Phase.TRYING)
    assert run.stored == Desired("www", 6, R7, Trial(R8, frozenset({"n1", "n2"})))
    run.live(["n1", "n2"])
    assert run.is_at(Phase.BAKING)
    assert run.others[-1] == AskHealth(frozenset({"n1", "n2"}))
    began = run.now
    for node in ("n1", "n2"):
        run.on(Health(node, True))
    run.wait(Phase.FLIPPING)
    assert run.now - began == 30
    assert run.others.count(AskHealth(frozenset({"n1", "n2"}))) == 10
    assert run.stored == Desired("www", 7, R8, earlier=(R7,))
    assert run.published == ["prepare", "flip", "flip"]


def test_a_share_of_canaries_is_chosen_of_those_that_are_prepared_and_always_the_same() -> None:
    chosen = set()
    for nodes in (NODES, NODES[::-1]):
        run = Run(Plan(R8, canary_share=0.25, quorum=1))
        run.prepare(nodes)
        assert run.stored.trial is not None
        assert len(run.stored.trial.canaries) == 3
        chosen.add(run.stored.trial.canaries)
    assert len(chosen) == 1


def test_a_canary_that_is_not_well_aborts_and_canaries_go_back() -> None:
    run = Run(Plan(R8, canaries=frozenset({"n1"})))
    run.prepare(NODES)
    run.live(["n1"])
    run.on(Health("n2", False, "no canary"))
    assert run.is_at(Phase.BAKING)
    run.on(Health("n1", False, "5% of answers are 500"))
    assert run.is_at(Phase.RETURNING)
    assert run.stored == Desired("www", 7, R7)
    assert run.published[-1] == "abort"
    run.live(["n1"], R7)
    assert run.end.ending is Ending.ABORTED
    assert run.end.why == "canary n1 is not well: 5% of answers are 500"


def test_a_canary_that_is_started_anew_in_the_bake_has_time_to_come_back() -> None:
    for comes_back in (True, False):
        run = Run(Plan(R8, canaries=frozenset({"n1"}), bake_s=300, canary_s=60))
        run.prepare(NODES)
        run.live(["n1"])
        run.on(Health("n1", True))
        run.say(["n1"], "fetching", boot="boot-2", release=R8, live=R7)
        began = run.now
        if comes_back:
            run.later()
            run.live(["n1"])
            for _ in range(100):
                if run.phase is not Phase.BAKING:
                    break
                run.later()
                run.live(["n1"])  # as each node reports now and then
            assert run.is_at(Phase.FLIPPING)
            continue
        run.wait(Phase.ENDED)
        assert run.now - began == 60
        assert run.end.why == "canaries do not serve it any more: n1"


def test_too_few_within_the_time_abort_and_are_named() -> None:
    run = Run(Plan(R8, prepare_s=60))
    run.prepare(NODES[:8])
    run.say(["n8"], "fetching", error="the origin is away", release=R8)
    run.wait(Phase.ENDED)
    assert run.now == 160
    assert run.end.why == "8 had it prepared within 60 s, and 9 of 10 nodes must"
    assert run.end.late == {"n8": "fetching: the origin is away", "n9": "live"}
    assert run.stored == Desired("www", 6, R7)


def test_too_many_that_have_given_up_abort_at_once() -> None:
    run = Run(Plan(R8))
    run.say(NODES[:2], "failed", release=R8, error="wrong signature")
    assert run.end.why == "2 of 10 nodes have given up on it"
    assert run.now == 100


def test_after_the_commit_nothing_is_undone_and_those_that_are_late_are_named() -> None:
    run = Run(Plan(R8, live_s=60))
    run.prepare(NODES)
    run.live(NODES[:5])
    run.wait(Phase.ENDED)
    assert run.end.ending is Ending.COMMITTED
    assert run.end.why == "5 of 10 nodes serve it"
    assert set(run.end.late) == set(NODES[5:])
    assert run.stored == Desired("www", 6, R8, earlier=(R7,))


def test_nodes_that_are_late_after_the_quorum_do_not_fail_it() -> None:
    run = Run(Plan(R8))
    run.prepare(NODES)
    run.live(NODES[:9])
    run.wait(Phase.ENDED)
    assert run.machine.end == End(Ending.LIVE, "9 of 10 nodes serve it", {"n9": "silent"})


def test_another_rollout_has_the_site() -> None:
    machine = Rollout("www", Plan(R8))
    machine.on(Begin(), 1.0)
    (end,) = machine.on(ClaimHeld("www.9", 41.0), 1.0)
    assert end == End(Ending.REFUSED, "www.9 has the site, for 41 s unless it ends before")


def test_a_claim_is_renewed_and_what_loses_it_ends() -> None:
    run = Run(Plan(R8))
    run.later()
    assert run.now == 120
    assert run.others == [RenewClaim(60.0)]
    run.on(ClaimHeld("www.9", 60.0))
    assert run.machine.end == End(Ending.SUPERSEDED, "www.9 has the site now")
    assert run.stored.trial is not None  # it is the other's to replace


@pytest.mark.parametrize(
    ("stored", "ending", "why"),
    [
        (Desired("www", 9, R7, Trial(R9)), Ending.SUPERSEDED, f"{R9.rollout} has the site now"),
        (Desired("www", 9, R9), Ending.SUPERSEDED, f"{R9.rollout} is desired now"),
        (Desired("www", 9, R7), Ending.ABORTED, "its trial is gone: another run of it has aborted it"),
    ],
    ids=["opened", "committed", "aborted"],
)
def test_what_is_put_behind_its_back_wins(stored: Desired, ending: Ending, why: str) -> None:
    run = Run(Plan(R8))
    run.stored = stored
    run.prepare(NODES)
    run.wait(Phase.ENDED)
    assert run.stored == stored
    assert run.end.ending is ending
    assert run.end.why.startswith(why)


def test_a_rollout_hears_from_nodes_that_what_is_desired_was_replaced() -> None:
    run = Run(Plan(R8))
    run.stored = Desired("www", 9, R7, Trial(R9))
    run.say(["n1"], "fetching", release=R9)
    assert run.end.ending is Ending.SUPERSEDED


def test_two_runs_of_one_rollout_help_each_other() -> None:
    run = Run(Plan(R8))
    run.stored = Desired("www", 9, R8)  # the other one had a quorum first
    run.prepare(NODES)
    assert run.is_at(Phase.FLIPPING)
    run = Run(Plan(R8, canaries=frozenset({"n1"})))
    run.stored = Desired("www", 9, R7, Trial(R8, frozenset({"n1"})))
    run.prepare(NODES)
    run.live(["n1"])
    assert run.is_at(Phase.BAKING)


@pytest.mark.parametrize(
    ("stored", "phase", "puts"),
    [
        (Desired("www", 4, R7, Trial(R8)), Phase.PREPARING, 0),
        (Desired("www", 4, R7, Trial(R8, frozenset({"n1"}))), Phase.PREPARING, 0),
        (Desired("www", 4, R8), Phase.FLIPPING, 0),
        (Desired("www", 4, R7, Trial(R9)), Phase.PREPARING, 1),  # killed, and its claim is over
    ],
    ids=["opened", "tried", "committed", "another's"],
)
def test_a_rollout_that_was_killed_goes_on_where_it_was(stored: Desired, phase: Phase, puts: int) -> None:
    run = Run(Plan(R8, canaries=frozenset({"n1"})), stored)
    assert run.phase is phase
    assert len(run.puts) == puts
    run.prepare(NODES)
    run.live(["n1"])
    assert run.phase is (Phase.FLIPPING if phase is Phase.FLIPPING else Phase.BAKING)


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (Plan(release(6)), "sequence 6 is older than 7: a rollback has a new sequence"),
        (Plan(replace(R7, manifest="e" * 64)), "sequence 7 is desired already, with another manifest: 000000000000"),
        (
            Plan(R8, canaries=frozenset({"n1", "x9"})),
            "canaries that are not known: x9; known: n0, n1, n2, n3, n4, n5, n6, n7, n8, n9",
        ),
    ],
    ids=["older", "other", "canary"],
)
def test_what_cannot_be_is_refused_and_nothing_is_put(plan: Plan, why: str) -> None:
    run = Run(plan)
    assert run.end == End(Ending.REFUSED, why)
    assert run.puts == []


def test_a_bus_that_lost_what_was_desired_does_not_let_an_older_sequence_through() -> None:
    run = Run(Plan(release(6)), Desired("www"))
    assert run.end == End(Ending.REFUSED, "n9 serves sequence 7, and 6 is older")


def test_a_site_without_nodes_has_no_rollout_unless_they_are_listed() -> None:
    assert Run(Plan(R8), live=None).end.why == NO_NODE_WORDS
    run = Run(Plan(R8, nodes=frozenset(NODES)), live=None)
    assert run.is_at(Phase.PREPARING)
    assert {row.stage for row in run.machine.rows(run.now)} == {"unknown"}


def test_a_first_release_has_nothing_to_go_back_to() -> None:
    run = Run(Plan(R8, canaries=frozenset({"n1"})), Desired("www"))
    run.prepare(NODES)
    run.live(["n1"])
    assert run.stored == Desired("www", 2, None, Trial(R8, frozenset({"n1"})))
    run.on(Health("n1", False, "hot"))
    assert run.end.ending is Ending.ABORTED
    assert run.stored == Desired("www", 3)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.BAKING, Phase.FLIPPING, Phase.CONVERGING])
def test_an_operator_ends_it(phase: Phase) -> None:
    run = Run(Plan(R8, canaries=frozenset({"n1"}), bake_s=1))
    if phase is not Phase.PREPARING:
        run.prepare(NODES)
        run.live(["n1"])
    if phase in (Phase.FLIPPING, Phase.CONVERGING):
        run.on(Health("n1", True))
        run.wait(Phase.FLIPPING)
    if phase is Phase.CONVERGING:
        run.live(NODES[:9])
    assert run.phase is phase
    run.on(Cancel("Ctrl-C"))
    if run.phase is Phase.RETURNING:
        run.live(["n1"], R7)
    endings = {Phase.FLIPPING: Ending.COMMITTED, Phase.CONVERGING: Ending.LIVE}
    assert run.end.ending is endings.get(phase, Ending.ABORTED)
    assert run.end.why == "Ctrl-C"
    assert (run.stored.release, run.stored.trial) == (R8 if phase in endings else R7, None)


def test_a_cancel_waits_for_what_is_being_put() -> None:
    machine = Rollout("www", Plan(R8, nodes=frozenset(NODES)))
    for event in (Begin(), Claimed(), Caught()):
        machine.on(event, 1.0)
    assert isinstance(machine.on(Desired("www", 4, R7), 1.0)[0], PutDesired)
    assert machine.on(Cancel("Ctrl-C"), 1.0) == []
    actions = machine.on(Put(), 1.0)
    assert [action.desired for action in actions if isinstance(action, PutDesired)] == [Desired("www", 6, R7)]


def test_a_bus_that_lost_what_was_desired_is_overtaken() -> None:
    run = Run(Plan(R8, nodes=frozenset(NODES)), Desired("www"), live=None)
    assert run.stored.edition == 1
    run.say(["n1"], "live", live=R7, edition=40)
    assert run.stored == Desired("www", 41, None, Trial(R8))
    run.say(["n2"], "live", live=R7, edition=10**14)
    assert run.stored.edition == 41


def test_a_rollback_is_a_new_sequence_of_an_old_tree() -> None:
    back = replace(R9, tree=R7.tree)
    run = Run(Plan(back), Desired("www", 4, R8))
    run.prepare(NODES, back)
    assert run.stored == Desired("www", 6, back, earlier=(R8,))


@pytest.mark.parametrize(
    "wrong", [{"quorum": 0}, {"quorum": 1.1}, {"canary_share": 2}, {"canary_share": 0.1, "canaries": frozenset({"a"})}]
)
def test_a_plan_that_cannot_be_is_wrong_use(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Plan(R8, **wrong)  # type: ignore[arg-type]


BACK = Plan(R8, takes_back=True)
TRIED = Desired("www", 5, R7, Trial(R8, frozenset(("n1",))))


def test_what_was_left_in_the_middle_is_taken_back_even_where_all_have_it_prepared() -> None:
    run = Run(BACK, TRIED, live=None)
    assert run.end.ending is Ending.ABORTED  # no node has reported, and none serves it
    assert (run.puts, run.published) == ([Desired("www", 6, R7)], ["abort"])


def test_what_is_not_in_the_middle_any_more_is_not_taken_back() -> None:
    for stored, ending in (
        (Desired("www", 6, R8, None, (R7,)), Ending.REFUSED),
        (Desired("www", 6, R7, Trial(R9)), Ending.SUPERSEDED),
        (Desired("www", 6, R9), Ending.SUPERSEDED),
        (Desired("www", 6, R7), Ending.ABORTED),
    ):
        run = Run(BACK, stored)
        assert (run.end.ending, run.puts) == (ending, []), stored


def test_of_a_commit_and_a_taking_back_at_once_one_is_done() -> None:
    def asked() -> Rollout:
        machine = Rollout("www", BACK)
        for event in (Begin(), Claimed(), TRIED, Caught()):
            actions = machine.on(event, 1.0)
        assert actions == [PutDesired(Desired("www", 6, R7), 5)]
        return machine

    machine = asked()
    machine.on(Conflict(Desired("www", 6, R8, None, (R7,))), 1.0)
    assert machine.end is not None
    assert (machine.end.ending, "rollback" in machine.end.why) == (Ending.REFUSED, True)
    machine = asked()  # its canaries were chosen meanwhile
    assert machine.on(Conflict(replace(TRIED, edition=8)), 1.0) == [PutDesired(Desired("www", 9, R7), 8)]

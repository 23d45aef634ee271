"""The simulator of a fleet: its parts do what they say, a run is the same each time, and what the machines are to do in
the large they do."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest

from tools.fleet_sim import __main__ as command
from tools.fleet_sim.clock import Clock, Desk
from tools.fleet_sim.failures import mend
from tools.fleet_sim.figures import Scenario, Times, run
from tools.fleet_sim.network import TIMEOUT_S, Link, Weather
from tools.fleet_sim.origin import Origin
from tools.fleet_sim.world import SITE, Size, World
from zcserve.fleet.messages import Command, Desired, Trial
from zcserve.fleet.rollout_words import Ending, Plan

SMALL = Size(fetched_bytes=20e6, loaded_bytes=20e6)


def test_things_happen_in_the_order_of_their_times_and_then_of_their_setting() -> None:
    clock, found = Clock(), []
    for name, delay in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
        clock.after(delay, lambda name=name: found.append(name))  # type: ignore[misc]
    clock.run(1.5)
    assert (found, clock.now) == (["a", "b"], 1.5)
    clock.run(9.0, lambda: True)
    assert (found, clock.now) == (["a", "b", "c"], 2.0)


def test_a_desk_does_one_thing_at_a_time() -> None:
    clock, found = Clock(), []
    desk = Desk(clock, 0.5)
    for _ in range(3):
        desk.take(lambda: found.append(clock.now))
    clock.run(9.0)
    assert found == [0.5, 1.0, 1.5]
    assert (desk.busy_s, desk.longest_s) == (1.5, 1.5)


def test_an_origin_shares_its_bandwidth_and_no_fetch_takes_more_than_its_link() -> None:
    clock, found = Clock(), []
    origin = Origin(clock, rate=100.0, link_rate=60.0)
    origin.fetch(120.0, lambda: found.append(("a", clock.now)))
    clock.run(1.0)  # a has 60
    origin.fetch(100.0, lambda: found.append(("b", clock.now)))  # 50 each: a ends at 2.2
    stopped = origin.fetch(1000.0, lambda: found.append(("never", clock.now)))
    origin.stop(stopped)
    clock.run(99.0)
    assert [(name, round(at, 6)) for name, at in found] == [("a", 2.2), ("b", round(2.2 + 40 / 60, 6))]
    assert round(origin.sent, 6) == 220
    assert (origin.peak, origin.most) == (100.0, 3)


def test_a_question_ends_once_answered_or_failed() -> None:
    clock, found = Clock(), []
    link = Link(clock, Random(1), Weather(loss=0.3, twice=0.3))
    for number in range(200):
        link.ask(
            lambda number=number: number,  # type: ignore[misc]
            lambda answer: found.append(answer),
            lambda number=number: found.append(-1 - number),  # type: ignore[misc]
        )
    clock.run(TIMEOUT_S)
    assert len(found) == 200
    assert 60 < sum(1 for answer in found if answer < 0) < 140
    assert len({answer if answer >= 0 else -1 - answer for answer in found}) == 200


def test_a_distribution_of_none_is_zero() -> None:
    assert Times.of([]) == Times(0, 0.0, 0.0, 0.0, 0.0)
    assert Times.of(range(100)) == Times(100, 50, 90, 99, 99)


def test_a_run_is_the_same_each_time_and_another_seed_is_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--nodes", "30", "--failing", "20%", "--canary", "10%", "--bake", "5", "--purges", "2", "--json"]
    found = []
    for seed in ("1", "1", "2"):
        assert command.main([*given, "--seed", seed]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert figures.pop("operator_cpu_s") < figures.pop("took_s")
        found.append(figures)
    assert found[0] == found[1] != found[2]
    assert found[0]["ending"] == "live"
    assert found[0]["origin"]["bytes"] >= 30 * 100e6 - 1
    assert found[0]["live"]["count"] == 30
    assert sum(found[0]["troubles"].values()) == 6


def test_figures_for_people_name_what_is_narrowest(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--nodes", "30", "--bytes", "2000000", "--origin", "0.01", "--purges", "1"]) == 0
    out = capsys.readouterr().out
    assert "30 nodes, seed 1; 2 MB for each, from an origin of 0.01 Gbit/s" in out
    assert "the origin is the narrowest part" in out


def test_what_did_not_hold_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run(Scenario(nodes=3, purges=0))
    monkeypatch.setattr(command, "run", lambda scenario: replace(figures, faults=["n1 flips to what it has not"]))
    assert command.main([]) == 1
    assert "FAULT      n1 flips to what it has not" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--nodes", "0"], ["--failing", "200%"], ["--bytes", "many"]], ids=str)
def test_wrong_use_is_told(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        command.main(wrong)
    assert raised.value.code == 2


# -- the machines in the large


def started(nodes: int = 5) -> World:
    world = World(nodes, 1, Weather(loss=0.0, twice=0.0), SMALL, quorum=0.8)
    world.begin(world.release(1))
    return world


def test_an_operator_that_is_killed_at_any_moment_is_run_again_and_goes_on() -> None:
    whole = started()
    plan = Plan(whole.release(2), 0.8, canaries=frozenset({"n1"}), bake_s=5.0)
    first = whole.operate(plan)
    begun = whole.clock.now
    whole.clock.run(begun + 600, lambda: first.end is not None)
    lasted = first.phases["converging"] - begun + 0.1
    phases = set()
    for moment in range(40):
        world = started()
        killed = world.operate(plan)
        world.clock.run(world.clock.now + lasted * moment / 39)
        phases.add(killed.machine.phase)
        killed.kill()
        world.clock.run(world.clock.now + 3.0)
        again = world.operate(plan)
        world.clock.run(world.clock.now + 600, lambda again=again: again.end is not None)  # type: ignore[misc]
        assert again.end is not None
        assert (again.end.ending, world.faults, world.converged()) == (Ending.LIVE, [], []), again.end
        assert world.bus.desired.release == plan.release
    assert {phase.value for phase in phases} >= {"preparing", "trying", "baking", "ended"}


def test_of_two_rollouts_at_once_one_wins_and_the_other_says_why() -> None:
    world = started()
    first, second = (world.operate(Plan(world.release(sequence), 0.8)) for sequence in (2, 3))
    world.clock.run(world.clock.now + 600, lambda: first.end is not None and second.end is not None)
    ends = sorted((first.end, second.end), key=lambda end: end.ending.value if end else "")
    assert [end.ending for end in ends if end] == [Ending.LIVE, Ending.REFUSED]
    assert ends[1] is not None
    assert "has the site, for" in ends[1].why
    assert world.converged() == []


def test_canaries_that_are_not_well_go_back_and_the_others_never_flip() -> None:
    world = started()
    world.sick.add("n1")
    operator = world.operate(Plan(world.release(2), 0.8, canaries=frozenset({"n1"}), bake_s=60.0))
    world.clock.run(world.clock.now + 600, lambda: operator.end is not None)
    assert operator.end is not None
    assert operator.end.ending is Ending.ABORTED
    assert operator.end.why == "canary n1 is not well: its answers are errors"
    assert {name for sequence, name in world.live_at if sequence == 2} == {"n1"}
    assert world.converged() == []


def test_a_node_that_was_away_catches_up_by_itself() -> None:
    world = started()
    world.fleet["n1"].cut()
    operator = world.operate(Plan(world.release(2), 0.8, live_s=10.0))
    world.clock.run(world.clock.now + 600, lambda: operator.end is not None)
    assert operator.end is not None
    assert operator.end.ending is Ending.LIVE
    assert set(operator.end.late) == {"n1"}
    for number in range(3):
        world.publish(Command(f"p{number}", "purge", SITE, prefix="/a/"))
    world.clock.run(world.clock.now + 5.0)
    assert {line.split()[-1] for line in world.unpurged()} == {"n1"}
    mend(world)
    world.clock.run(world.clock.now + 30.0)
    assert (world.converged(), world.unpurged(), world.faults) == ([], [], [])


def test_faults_are_found() -> None:
    """What must hold is looked at: a bus that is told to do wrong, and a server that flips to anything."""
    world = started()
    world.bus.put(Desired(SITE, 2, world.release(2)), after=1)
    world.flips(world.fleet["n1"], world.release(9))
    world.bus.put(Desired(SITE, 3, world.release(1), Trial(world.release(4))), after=2)
    assert [fault.partition("n1 ")[2] or fault for fault in world.faults] == [
        "www.2.000000000000 is committed, and 0 nodes had it",
        "flips to www.9.000000000000, which it has not prepared",
        "flips to www.9.000000000000, which it has not fetched",
        "flips to www.9.000000000000, which was never desired of it",
        "sequence 1 is desired after 2",
    ]

"""A small fleet in virtual time, to which anything may happen in any order (tools/fleet_sim): what must hold holds at
every moment (`World.faults`), and when failures stop, all nodes come to what is desired.

Messages go through their bytes, are lost, come twice and overtake each other throughout.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tools.fleet_sim.failures import mend
from tools.fleet_sim.network import Weather
from tools.fleet_sim.world import SITE, Size, World
from zcserve.fleet.messages import Command, Poisoned
from zcserve.fleet.rollout_words import Cancel, Ending, Plan

NODES = 4
NODE = st.sampled_from([f"n{number}" for number in range(NODES)])
SIZE = Size(fetched_bytes=20e6, loaded_bytes=20e6, retained=4)
# Between two things that happen: within a message, within a flip, a rollout, and its bake.
WAIT = st.sampled_from([0.0, 0.03, 0.3, 2.0, 20.0, 200.0])
# All that an operator, a network and machines may take for a rollout and what follows, in virtual seconds.
LONG_S = 1500.0


class Fleet(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32), loss=st.sampled_from([0.0, 0.05, 0.3]))
    def begin(self, seed: int, loss: float) -> None:
        weather = Weather(loss=loss, twice=loss)
        self.world = World(NODES, seed, weather, SIZE, quorum=0.75, is_coded=True)
        self.world.begin(self.world.release(1))
        self.sequence = 1
        self.purges = 0
        self.plans: list[Plan] = []

    def plan(self, tree: int = 0, canaries: frozenset[str] = frozenset()) -> Plan:
        self.sequence += 1
        release = self.world.release(self.sequence, tree)
        return Plan(
            release,
            quorum=0.75,
            prepare_s=120.0,
            live_s=60.0,
            canaries=canaries,
            canary_s=30.0,
            bake_s=20.0,
            nodes=frozenset(self.world.fleet),
            claim_lasts_s=15.0,
        )

    def wait(self, seconds: float) -> None:
        self.world.clock.run(self.world.clock.now + seconds)

    @rule(
        canaries=st.frozensets(NODE, max_size=2),
        tree=st.sampled_from([0, 0, 1]),
        is_signed=st.sampled_from([True, True, True, False]),
        seconds=WAIT,
    )
    def release(self, canaries: frozenset[str], tree: int, is_signed: bool, seconds: float) -> None:
        """A rollout begins; others may be there. Some are rollbacks, and of some the manifest is wrong."""
        plan = self.plan(tree, canaries)
        if is_signed:
            self.plans.append(plan)
        else:
            self.world.unsigned.add(plan.release.manifest)
        self.world.operate(plan)
        self.wait(seconds)

    @rule()
    def lose_claim(self) -> None:
        """So two may believe to have the site."""
        self.world.bus.lose_claim()

    @precondition(lambda self: self.plans)
    @rule(data=st.data(), seconds=WAIT)
    def again(self, data: st.DataObject, seconds: float) -> None:
        """A rollout is begun again, whether it has ended or not."""
        self.world.operate(data.draw(st.sampled_from(self.plans)))
        self.wait(seconds)

    @precondition(lambda self: self.plans)
    @rule(data=st.data(), seconds=WAIT)
    def take_back(self, data: st.DataObject, seconds: float) -> None:
        """A rollout is taken back, wherever it is."""
        self.world.operate(replace(data.draw(st.sampled_from(self.plans)), takes_back=True))
        self.wait(seconds)

    @precondition(lambda self: self.world.operators)
    @rule(data=st.data(), kills=st.booleans())
    def end(self, data: st.DataObject, kills: bool) -> None:
        operator = data.draw(st.sampled_from(self.world.operators))
        if kills:
            operator.kill()
        else:
            operator.tell(Cancel("enough"))

    @rule(node=NODE, down_s=st.sampled_from([0.0, 3.0, 50.0]), seconds=WAIT)
    def restart_agent(self, node: str, down_s: float, seconds: float) -> None:
        self.world.fleet[node].stop()
        self.world.clock.after(down_s, self.world.fleet[node].start)
        self.wait(seconds)

    @rule(node=NODE, seconds=WAIT)
    def restart_server(self, node: str, seconds: float) -> None:
        self.world.fleet[node].restart_server()
        self.wait(seconds)

    @rule(node=NODE, seconds=WAIT)
    def lose_folders(self, node: str, seconds: float) -> None:
        """What was fetched is deleted beneath it."""
        self.world.fleet[node].lose_folders()
        self.wait(seconds)

    @rule(node=NODE, down_s=st.sampled_from([1.0, 30.0, 400.0]), seconds=WAIT)
    def cut(self, node: str, down_s: float, seconds: float) -> None:
        self.world.fleet[node].cut()
        self.world.clock.after(down_s, self.world.fleet[node].mend)
        self.wait(seconds)

    @rule(node=NODE, trouble=st.sampled_from([0.0, 0.5, 0.9]), is_sick=st.booleans())
    def trouble(self, node: str, trouble: float, is_sick: bool) -> None:
        self.world.fleet[node].trouble = trouble
        self.world.sick = self.world.sick | {node} if is_sick else self.world.sick - {node}

    @rule(is_hard=st.booleans(), seconds=WAIT)
    def purge(self, is_hard: bool, seconds: float) -> None:
        self.purges += 1
        self.world.bus.publish(Poisoned("future-1", "explode", "op: 'explode' is not known"))
        self.world.publish(Command(f"purge-{self.purges}", "purge", SITE, tags=("news",), is_hard=is_hard))
        self.wait(seconds)

    @rule(node=NODE, data=st.data(), seconds=WAIT)
    def replay(self, node: str, data: st.DataObject, seconds: float) -> None:
        """A node hears of what was desired once."""
        self.world.fleet[node].hear(data.draw(st.sampled_from(self.world.history[-6:])))
        self.wait(seconds)

    @rule(node=NODE, data=st.data(), seconds=WAIT)
    def forge(self, node: str, data: st.DataObject, seconds: float) -> None:
        """A node hears of an older release as if it were desired anew."""
        old = data.draw(st.sampled_from(self.world.history))
        memory = self.world.fleet[node].memory
        highest = memory.highest if memory else None
        if highest and old.release and old.release.sequence < highest.sequence:
            self.world.fleet[node].hear(replace(old, edition=self.world.history[-1].edition + 1000))
        self.wait(seconds)

    @precondition(lambda self: self.world.bus.commands)
    @rule(node=NODE, data=st.data())
    def replay_command(self, node: str, data: st.DataObject) -> None:
        self.world.fleet[node].hear(data.draw(st.sampled_from(self.world.bus.commands)))

    @rule()
    def forget(self) -> None:
        """The bus loses all but the states."""
        self.world.bus.forget()

    @invariant()
    def nothing_is_wrong(self) -> None:
        if hasattr(self, "world"):
            assert not self.world.faults, self.world.faults

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        mend(world)
        world.clock.run(world.clock.now + LONG_S)
        assert not world.faults, world.faults
        assert not world.converged(), world.converged()
        assert not world.unpurged(), world.unpurged()
        for operator in world.operators:
            operator.kill()
        last = world.operate(self.plan())
        world.clock.run(world.clock.now + LONG_S)
        assert last.end is not None
        assert (last.end.ending, last.end.late) == (Ending.LIVE, {}), last.end
        assert (world.bus.desired.release, world.bus.desired.trial) == (last.plan.release, None)
        assert not world.converged(), world.converged()
        assert not world.faults, world.faults


# What fails is told as it was found: to make it smaller takes minutes, since each try runs for hours of virtual time.
TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)

"""A rollout that is driven over a bus, with nodes that run their own states: to its end, again after a kill, and two at
once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.fleet_bus import Hub, MemoryBus
from tools.warm import driving
from tools.warm.driving import Driver
from zcserve.fleet import node_state
from zcserve.fleet.bus import BusError
from zcserve.fleet.messages import Release
from zcserve.fleet.node_words import Flip, Prepare
from zcserve.fleet.rollout import Phase, Rollout
from zcserve.fleet.rollout_words import Ending, Health, Plan, rollout_id

Scene = Callable[[Hub, MemoryBus], Awaitable[None]]
NODES = ("n1", "n2", "n3")


def release(sequence: int) -> Release:
    digest = f"{sequence:064x}"
    return Release(rollout_id("www", sequence, digest), sequence, digest, digest[::-1])


R1, R2 = map(release, (1, 2))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "RETRY_S", 0.01)


def run(scene: Scene) -> None:
    async def whole() -> None:
        hub = Hub()
        hub.add(*NODES)
        async with asyncio.timeout(30):
            await scene(hub, MemoryBus(hub))

    asyncio.run(whole())


def driver(bus: MemoryBus, plan: Plan, look: Callable[[float], None] = lambda now: None, well: bool = True) -> Driver:
    async def ask(node: str) -> Health:
        return Health(node, well, "" if well else "status 500")

    return Driver(Rollout("www", plan), bus, ask, look)


def served(hub: Hub) -> list[int]:
    return [node.live.sequence if node.live else 0 for node in hub.nodes.values()]


def noted(hub: Hub) -> list[tuple[str, int]]:
    """Flips from now on: which node, to which sequence."""
    flips: list[tuple[str, int]] = []
    for node in hub.nodes.values():
        node.on_flip = lambda to, name=node.name: flips.append((name, to.sequence))  # type: ignore[misc]
    return flips


def test_a_release_comes_live_on_all_nodes_and_lets_go_of_the_site() -> None:
    async def scene(hub: Hub, bus: MemoryBus) -> None:
        phases = []
        one = driver(bus, Plan(R1), lambda now: phases.append(one.machine.phase))
        end = await one.run()
        assert (end.ending, end.late, served(hub)) == (Ending.LIVE, {}, [1, 1, 1])
        assert (hub.holder, hub.listening) == ("", [])
        assert phases[-1] is Phase.ENDED
        assert [command.op for command in hub.commands.values()] == ["prepare", "flip"]

    run(scene)


def test_a_bus_that_is_away_is_tried_again_until_it_is_back() -> None:
    async def scene(hub: Hub, bus: MemoryBus) -> None:
        bus.away = 5
        one = driver(bus, Plan(R1))
        assert (await one.run()).ending is Ending.LIVE
        assert one.trouble == ""

    run(scene)


def test_canaries_flip_first_and_one_that_is_not_well_takes_all_back() -> None:
    async def scene(hub: Hub, bus: MemoryBus) -> None:
        await driver(bus, Plan(R1)).run()
        flipped = noted(hub)
        end = await driver(bus, Plan(R2, canaries=frozenset({"n2"}), bake_s=0.02), well=False).run()
        assert (end.ending, end.why) == (Ending.ABORTED, "canary n2 is not well: status 500")
        assert flipped == [("n2", 2), ("n2", 1)]
        flipped.clear()
        end = await driver(bus, Plan(release(3), canaries=frozenset({"n2"}), bake_s=0.02)).run()
        assert (end.ending, flipped[0], served(hub)) == (Ending.LIVE, ("n2", 3), [3, 3, 3])

    run(scene)


def test_of_two_at_once_one_wins_and_the_other_says_which_one_has_the_site() -> None:
    async def scene(hub: Hub, bus: MemoryBus) -> None:
        one, other = driver(bus, Plan(R1)), driver(MemoryBus(hub), Plan(R2))
        first, second = await asyncio.gather(one.run(), other.run())
        assert (first.ending, second.ending, other.holder) == (Ending.LIVE, Ending.REFUSED, R1.rollout)
        assert served(hub) == [1, 1, 1]

    run(scene)


@pytest.mark.parametrize("step", [Prepare, Flip], ids=["before the commit", "after the commit"])
def test_an_operator_that_is_stopped_leaves_all_as_it_is_and_the_same_command_goes_on(step: type) -> None:
    async def scene(hub: Hub, bus: MemoryBus) -> None:
        for node in hub.nodes.values():
            node.holds = {step}
        first = driver(bus, Plan(R1))
        running = asyncio.create_task(first.run())
        while first.machine.phase is not (Phase.PREPARING if step is Prepare else Phase.FLIPPING):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (hub.holder, hub.listening, served(hub)) == ("", [], [0, 0, 0])
        puts = len(hub.puts)
        for node in hub.nodes.values():
            node.holds = set()
            node.restart()
        assert (await driver(bus, Plan(R1)).run()).ending is Ending.LIVE
        assert served(hub) == [1, 1, 1]
        assert len(hub.puts) - puts == (1 if step is Prepare else 0)  # the trial is not put again

    run(scene)


class Deadly(MemoryBus):
    """A bus whose operator is killed at one of its calls: before it is done, or after."""

    def __init__(self, hub: Hub, at: int, is_done: bool) -> None:
        super().__init__(hub)
        self.calls, self._at, self._is_done = 0, at, is_done
        self.kill: Callable[[], object] = lambda: None

    async def _turn(self) -> None:
        self.calls += 1
        if self.calls == self._at:
            self.kill()
            if not self._is_done:
                await asyncio.sleep(60)
        elif self.calls > self._at:
            raise BusError("it was killed")


@pytest.mark.parametrize("is_done", [False, True], ids=["before the call is done", "after"])
def test_an_operator_that_is_killed_at_any_of_its_calls_is_run_again_and_all_is_as_if_it_was_not(
    is_done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_state, "REPORT_GAP_S", 0.001)
    plan = Plan(R2, canaries=frozenset({"n2"}), bake_s=0.001)

    async def scene(hub: Hub, bus: MemoryBus) -> None:
        for at in range(1, 100):
            hub = Hub()
            hub.add(*NODES)
            await driver(MemoryBus(hub), Plan(R1)).run()
            flips = noted(hub)
            deadly = Deadly(hub, at, is_done)
            running = asyncio.create_task(driver(deadly, plan).run())
            deadly.kill = running.cancel
            await asyncio.gather(running, return_exceptions=True)
            if deadly.calls < at:
                assert at > 8
                return
            hub.until = 0.0  # the claim of what was killed ends by itself, and is the same rollout's in any case
            assert (await driver(MemoryBus(hub), plan).run()).ending is Ending.LIVE
            assert (served(hub), flips[0][0], sorted(name for name, _ in flips)) == (
                [2, 2, 2],
                "n2",
                ["n1", "n2", "n3"],
            )
        pytest.fail("it never ended")

    run(scene)


def test_a_node_that_is_away_is_late_and_comes_to_it_by_itself() -> None:
    async def scene(hub: Hub, bus: MemoryBus) -> None:
        hub.nodes["n3"].stop()
        end = await driver(bus, Plan(R1, quorum=0.6, live_s=0.5)).run()
        assert (end.ending, list(end.late), served(hub)) == (Ending.LIVE, ["n3"], [1, 1, 0])
        hub.nodes["n3"].restart()
        while served(hub) != [1, 1, 1]:
            await asyncio.sleep(0)

    run(scene)


def test_what_a_health_check_raises_ends_the_run() -> None:
    async def scene(hub: Hub, bus: MemoryBus) -> None:
        async def ask(node: str) -> Health:
            raise ZeroDivisionError

        plan = Plan(R1, canaries=frozenset({"n1"}), bake_s=0.02)
        with pytest.raises(ZeroDivisionError):
            await Driver(Rollout("www", plan), bus, ask, lambda now: None).run()
        assert hub.holder == ""

    run(scene)

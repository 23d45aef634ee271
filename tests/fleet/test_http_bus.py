"""The operator's side over HTTP, with real listeners of nodes: what most of the nodes have is so, whatever one does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.bus_promises import PROMISES, Promise
from tests.support.fleet_http import TOKEN, HttpNode, listed, nodes
from tests.support.http_wiring import HttpWiring
from tools.warm.driving import Driver
from zcserve.fleet import http_bus
from zcserve.fleet import peer as peers
from zcserve.fleet.bus import BusError, Caught, ClaimHeldError, ConflictError, Heard, MissingError
from zcserve.fleet.http_bus import HttpOperatorBus
from zcserve.fleet.http_listener import Answer, Request
from zcserve.fleet.http_node import Desk
from zcserve.fleet.http_proposals import Proposal
from zcserve.fleet.messages import Command, Desired, Release
from zcserve.fleet.rollout import Rollout
from zcserve.fleet.rollout_words import Ending, Health, Plan, rollout_id

Scene = Callable[[list[HttpNode], HttpOperatorBus], Awaitable[None]]


def release(sequence: int) -> Release:
    digest = f"{sequence:064x}"
    return Release(rollout_id("www", sequence, digest), sequence, digest, digest[::-1])


R1, R2 = map(release, (1, 2))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again is asked soon."""
    monkeypatch.setattr(http_bus, "AGAIN_S", 0.05)
    monkeypatch.setattr(peers, "AWAY_S", 0.05)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scene], None]:
    def run(scene: Scene) -> None:
        async def whole() -> None:
            async with asyncio.timeout(60), nodes(tmp_path) as made:
                bus = HttpOperatorBus("www", listed(made), TOKEN)
                try:
                    await scene(made, bus)
                finally:
                    await bus.close()

        asyncio.run(whole())

    return run


async def met(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def rolled(bus: HttpOperatorBus, plan: Plan) -> Ending:
    async def ask(node: str) -> Health:
        return Health(node, True)

    return (await Driver(Rollout("www", plan), bus, ask, lambda now: None).run()).ending


def served(made: list[HttpNode]) -> list[int]:
    return [one.node.live.sequence if one.node.live else 0 for one in made]


PLAN = Plan(R1, nodes=frozenset(("n1", "n2", "n3")), quorum=0.6, live_s=1.0)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_what_every_bus_promises(promise: Promise, tmp_path: Path) -> None:
    async def whole() -> None:
        async with HttpWiring(tmp_path) as wiring:
            await promise(wiring)

    asyncio.run(whole())


def test_a_claim_is_one_holders_until_it_is_given_up(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        other = HttpOperatorBus("www", listed(made), TOKEN)
        claim = await bus.claim("one")
        with pytest.raises(ClaimHeldError) as caught:
            await other.claim("other")
        assert caught.value.holder == "one"
        assert 50 < caught.value.left_s <= 60
        await bus.renew(claim)
        again = await other.claim("one")  # the same rollout, begun again
        with pytest.raises(ClaimHeldError):
            await bus.renew(claim)
        await other.give_up(again)
        assert (await bus.claim("two")).holder == "two"
        await other.close()

    run(scene)


def test_of_many_claims_at_once_one_wins(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        buses = [HttpOperatorBus("www", listed(made), TOKEN) for _ in range(4)]
        found = await asyncio.gather(
            *(one.claim(f"r{number}") for number, one in enumerate(buses)), return_exceptions=True
        )
        won = [one for one in found if not isinstance(one, BaseException)]
        assert len(won) == 1
        assert all(isinstance(one, ClaimHeldError) for one in found if one is not won[0])
        for one in buses:
            await one.close()

    run(scene)


def test_what_is_desired_is_replaced_after_the_edition_that_is_stored_alone(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        assert await bus.desired() == Desired("www")
        first, second = Desired("www", 1, R1), Desired("www", 2, R2, earlier=(R1,))
        await bus.put_desired(first, 0)  # without a claim: it takes one for itself
        await bus.claim("one")
        await bus.put_desired(first, 0)
        with pytest.raises(ConflictError) as caught:
            await bus.put_desired(second, 0)
        assert caught.value.stored == first
        await bus.put_desired(second, 1)
        assert await bus.desired() == second
        assert [one.shelf.desired for one in made] == [second] * 3

    run(scene)


def test_what_most_nodes_have_is_so_and_what_was_away_is_brought_to_it(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        await made[2].vanish()
        await bus.put_manifest(R1.manifest, b"a manifest")
        await bus.put_desired(Desired("www", 1, R1), 0)
        await made[2].appear()
        fresh = HttpOperatorBus("www", listed(made), TOKEN)
        assert (await fresh.desired()).release == R1
        assert made[2].shelf.desired.release == R1
        assert made[2].shelf.manifest(R1.manifest) == b"a manifest"
        assert (await fresh.claim("next")).holder == "next"  # the repair has let go
        await made[0].vanish()
        await made[1].vanish()
        with pytest.raises(BusError, match=r"1 of 3 nodes, and 2 are needed; n1: .*is not reached"):
            await fresh.desired()
        with pytest.raises(BusError):
            await fresh.put_manifest(R2.manifest, b"another")
        await fresh.close()

    run(scene)


def test_a_put_that_few_nodes_have_is_found_by_the_next_claim(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        first = Desired("www", 1, R1)
        await bus.put_desired(first, 0)
        claim = await bus.claim("one")
        cut_off = Desired("www", 2, R2)
        made[0].shelf.put_desired(cut_off, claim.token, 0.0)
        fresh = HttpOperatorBus("www", listed(made), TOKEN)
        await fresh.claim("one")
        assert await fresh.desired() == cut_off
        assert [one.shelf.desired for one in made] == [cut_off] * 3
        await fresh.close()

    run(scene)


def test_a_put_that_was_cut_off_as_it_ended_is_ended_by_the_next_look_and_no_node_is_left_behind(
    run: Callable[[Scene], None],
) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        await rolled(bus, PLAN)
        claim = await bus.claim("one")
        stored = await bus.desired()
        cut_off = stored.committed(stored.edition + 1, R2)
        for one in made:
            one.shelf.propose(Proposal(stored.edition, cut_off), claim.token, time.monotonic())
        await made[0].bus.put_desired(cut_off, claim.token)
        await met(lambda: made[0].node.live == R2)
        await bus.give_up(claim)
        await made[0].vanish()
        fresh = HttpOperatorBus("www", listed(made), TOKEN)
        assert await fresh.desired() == cut_off  # so that the next sequence is above it
        assert await rolled(fresh, replace(PLAN, release=release(3))) is Ending.LIVE
        await made[0].appear()
        while served(made) != [3, 3, 3]:
            await fresh.desired()  # whichever nodes answer in time
        await fresh.close()

    run(scene)


def test_a_proposal_that_few_nodes_have_is_acted_on_by_none_and_does_no_harm_to_another_of_its_sequence(
    run: Callable[[Scene], None],
) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        claim = await bus.claim("one")
        cut_off = Desired("www", 1, replace(R1, manifest="f" * 64))
        made[0].shelf.propose(Proposal(0, cut_off), claim.token, time.monotonic())
        await bus.give_up(claim)
        await made[0].vanish()
        assert await rolled(bus, PLAN) is Ending.LIVE
        assert served(made) == [0, 1, 1]
        await made[0].appear()
        while served(made) != [1, 1, 1]:
            assert (await bus.desired()).release == R1

    run(scene)


def test_of_two_puts_that_were_cut_off_one_after_the_other_the_later_one_is_ended_though_the_node_that_tells_is_away(
    run: Callable[[Scene], None],
) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        first, second = Desired("www", 1, R1), Desired("www", 1, replace(R1, manifest="f" * 64))
        claim = await bus.claim("one")
        made[0].shelf.propose(Proposal(0, first), claim.token, time.monotonic())
        await bus.give_up(claim)
        await made[0].vanish()
        fresh = [HttpOperatorBus("www", listed(made), TOKEN) for _ in range(2)]
        claim = await fresh[0].claim("one")
        for one in made[1:]:
            one.shelf.propose(Proposal(0, second), claim.token, time.monotonic())
        await made[1].bus.put_desired(second, claim.token)
        await met(lambda: made[1].node.live == second.release)
        await fresh[0].give_up(claim)
        await made[1].vanish()
        await made[0].appear()
        assert await fresh[1].desired() == second
        assert {one.shelf.desired for one in made} == {second}
        for side in fresh:
            await side.close()

    run(scene)


def test_a_site_whose_nodes_number_no_claims_yet_is_released_to(
    run: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered = Desk.answer

    async def without(desk: Desk, request: Request) -> Answer:
        """As an older agent, which reads no numbers and tells none."""
        if request.segments[2] == "claim" and request.method == "PUT":
            body = json.dumps(json.loads(request.body) | {"number": 0}).encode()
            await numbered(desk, request._replace(body=body))
            return Answer()
        answer = await numbered(desk, request._replace(query={**request.query, "number": "0"}))
        return answer._replace(fields=tuple(field for field in answer.fields if field[0] != "Zcserve-Number"))

    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        assert await rolled(bus, PLAN) is Ending.LIVE
        claim = await bus.claim("one")
        stored = await bus.desired()
        cut_off = stored.committed(stored.edition + 1, R2)
        for one in made:
            one.shelf.propose(Proposal(stored.edition, cut_off), claim.token, time.monotonic())
        await bus.give_up(claim)
        assert await bus.desired() == cut_off

    monkeypatch.setattr(Desk, "answer", without)
    run(scene)


def test_two_values_of_one_edition_become_a_higher_one(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        claim = await bus.claim("one")
        for one, desired in zip(made, (R2, R1, R1), strict=True):
            one.shelf.put_desired(Desired("www", 5, desired), claim.token, 0.0)
        found = await bus.desired()
        assert (found.edition, found.release) == (6, R1)
        await bus.put_desired(replace(found, edition=7), 6)
        assert {one.shelf.desired.edition for one in made} == {7}

    run(scene)


def test_manifests_are_found_at_any_node_or_missing(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        made[1].shelf.put_manifest(R1.manifest, b"one")
        assert await bus.manifest(R1.manifest) == b"one"
        with pytest.raises(MissingError):
            await bus.manifest(R2.manifest)

    run(scene)


def test_a_command_reaches_all_and_those_that_missed_it_are_named(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        purge = Command("p1", "purge", "www", tags=("news",))
        assert await bus.publish(purge) == frozenset()
        assert await bus.publish(purge) == frozenset()
        await met(lambda: all("p1" in one.node.purged for one in made))
        await made[1].vanish()
        assert await bus.publish(replace(purge, id="p2")) == {"n2"}
        assert [one.node.purged.count("p1") for one in made] == [1, 1, 1]
        for one in (made[0], made[2]):
            await one.vanish()
        with pytest.raises(BusError):
            await bus.publish(replace(purge, id="p3"))

    run(scene)


def test_states_are_all_told_then_each_that_comes(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        await made[2].vanish()
        told: list[str] = []
        async with aclosing(cast(Any, bus.states())) as states:
            async for found in states:
                if isinstance(found, Caught):
                    assert sorted(told) == ["n1", "n2"]
                    await bus.publish(Command("p1", "purge", "www", tags=("news",)))
                elif isinstance(found, Heard):
                    told.append(found.state.node)
                    assert found.age_s < 30
                    if "p1" in found.state.done and found.state.node == "n2":
                        break

    run(scene)


def test_a_node_by_another_name_is_no_node_of_the_list(run: Callable[[Scene], None]) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        wrong = HttpOperatorBus("www", [replace(listed(made)[0], name="n9")], TOKEN)
        async with aclosing(cast(Any, wrong.states())) as states:
            assert isinstance(await anext(states), Caught)
        url = listed(made)[0].agent
        assert wrong.trouble == {"n9": f"{url} is n1, and the list calls it n9"}
        await wrong.close()
        unknown = HttpOperatorBus("www", listed(made), "no token of these")
        with pytest.raises(BusError, match=r"status 401.*--token-file: is it the agent's"):
            await unknown.desired()
        await unknown.close()

    run(scene)


def test_a_rollout_over_http_ends_with_a_node_away_and_one_that_comes_back_is_brought_to_it(
    run: Callable[[Scene], None],
) -> None:
    async def scene(made: list[HttpNode], bus: HttpOperatorBus) -> None:
        assert await rolled(bus, PLAN) is Ending.LIVE
        assert served(made) == [1, 1, 1]
        await made[0].vanish()
        assert await rolled(bus, replace(PLAN, release=R2)) is Ending.LIVE
        assert served(made) == [1, 2, 2]
        await made[0].appear()
        assert await rolled(HttpOperatorBus("www", listed(made), TOKEN), replace(PLAN, release=R2)) is Ending.LIVE
        assert served(made) == [2, 2, 2]

    run(scene)

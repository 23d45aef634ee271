"""An operator's claim over HTTP, with real listeners of nodes: a later one has a higher number, and most know it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet_http import TOKEN, HttpNode, listed, nodes
from zcserve.fleet import peer
from zcserve.fleet.bus import BusError, ClaimHeldError
from zcserve.fleet.http_asking import Asking
from zcserve.fleet.http_claims import Claiming


def run(folder: Path, scene: Callable[[list[HttpNode], Asking], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60), nodes(folder) as made:
            asking = Asking("www", listed(made), TOKEN)
            try:
                await scene(made, asking)
            finally:
                await asking.close()

    asyncio.run(whole())


def numbers(made: list[HttpNode]) -> list[int]:
    return [one.shelf.number for one in made]


def test_a_later_claim_has_a_higher_number_and_takes_the_place_of_one_that_a_node_has_still(tmp_path: Path) -> None:
    async def scene(made: list[HttpNode], asking: Asking) -> None:
        one, other = Claiming(asking), Claiming(asking)
        first = await one.take("one", 60.0)
        assert (one.number, numbers(made), len(one.holders)) == (1, [1, 1, 1], 3)
        made[0].shelf.take_back(first.token, time.monotonic())
        made[1].shelf.take_back(first.token, time.monotonic())  # and the third node does not hear of it
        second = await other.take("two", 60.0)
        assert (other.claim, other.number, numbers(made), len(other.holders)) == (second, 2, [2, 2, 2], 3)
        assert [one.shelf.holder(time.monotonic())[0] for one in made] == ["two"] * 3
        with pytest.raises(ClaimHeldError, match="two has the site"):
            await one.renew(first, 60.0)
        assert one.claim is None

    run(tmp_path, scene)


def test_a_number_is_above_that_of_a_claim_that_a_few_nodes_have_given(tmp_path: Path) -> None:
    async def scene(made: list[HttpNode], asking: Asking) -> None:
        made[2].shelf.give("few", "1", 60.0, time.monotonic(), number=9)
        one = Claiming(asking)
        await one.take("one", 60.0)
        assert (one.number, numbers(made)) == (10, [10, 10, 10])
        made[1].shelf.give("few", "1", 60.0, time.monotonic(), number=12)
        await one.renew_as_it_is()
        assert (one.number, numbers(made), len(one.holders)) == (13, [13, 13, 13], 3)

    run(tmp_path, scene)


def test_a_claim_on_whose_number_too_few_agree_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(made: list[HttpNode], asking: Asking) -> None:
        made[1].shelf.give("few", "1", 0.0, time.monotonic(), number=5)
        await made[2].vanish()
        give = made[0].shelf.give

        def not_by_number(*claim: Any, number: int, **more: Any) -> int:
            if number:
                raise ClaimHeldError("another", 1.0)
            return give(*claim, **more)

        monkeypatch.setattr(made[0].shelf, "give", not_by_number)
        one = Claiming(asking)
        with pytest.raises(BusError, match="claim: 1 of 3 nodes, and 2 are needed; n1: status 409"):
            await one.take("one", 60.0)
        assert one.claim is None
        assert [one.shelf.holder(time.monotonic()) for one in made[:2]] == [("", 0.0)] * 2

    run(tmp_path, scene)


def test_what_may_have_been_proposed_is_followed_by_a_higher_number(tmp_path: Path) -> None:
    async def scene(made: list[HttpNode], asking: Asking) -> None:
        one = Claiming(asking)
        await one.take("one", 60.0)
        await one.renew_as_it_is()
        assert one.number == 1
        one.is_unsure = True
        await one.renew_as_it_is()
        assert (one.number, numbers(made), one.is_unsure) == (2, [2, 2, 2], False)

    run(tmp_path, scene)


def test_a_node_that_was_away_holds_it_once_it_has_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "AWAY_S", 0.0)

    async def scene(made: list[HttpNode], asking: Asking) -> None:
        await made[2].vanish()
        one = Claiming(asking)
        await one.take_briefly()
        assert [node.name for node in one.holders] == ["n1", "n2"]
        await made[2].appear()
        await one.join(asking.nodes)
        assert [node.name for node in one.holders] == ["n1", "n2", "n3"]
        assert numbers(made) == [1, 1, 1]

    run(tmp_path, scene)

"""Puts in two steps: which one a claim ends; and whatever is cut off, none is undone, or acted on in two forms."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.fleet import numbered
from zcserve.fleet import http_asking, http_claims
from zcserve.fleet.bus import BusError
from zcserve.fleet.forms import FormError
from zcserve.fleet.http_bus import HttpOperatorBus
from zcserve.fleet.http_listener import RefusedError, Request
from zcserve.fleet.http_node import Desk, HttpNodeBus
from zcserve.fleet.http_proposals import Proposal, right_of
from zcserve.fleet.http_shelf import Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.messages import Desired
from zcserve.fleet.node_list import Listed
from zcserve.fleet.peer import Answer

STORED = Desired("www", 4, numbered(1))
X, Y = (Proposal(4, Desired("www", 5, numbered(number))) for number in (2, 3))


def test_a_proposal_is_read_as_it_was_written() -> None:
    assert Proposal.parse(X.dump()) == X
    assert Proposal.parse(replace(X, number=7).dump()) == replace(X, number=7)
    assert Proposal.parse(b"4\n" + X.desired.dump()) == X  # an older agent's
    for bad in (
        b"",
        b"4",
        b"4 x\n" + X.desired.dump(),
        b"-1\n" + X.desired.dump(),
        b"\xff\n" + X.desired.dump(),
        b"9" * 5000 + b"\n{}",
    ):
        with pytest.raises(FormError):
            Proposal.parse(bad)


def test_what_was_to_replace_the_newest_is_ended_and_what_came_too_late_is_not() -> None:
    assert right_of([], STORED) is None
    assert right_of([X], STORED) == X
    assert right_of([replace(X, after=3)], STORED) is None
    assert right_of([replace(X, desired=replace(X.desired, edition=4))], STORED) is None
    later = Proposal(5, Desired("www", 6, numbered(4)))
    assert right_of([replace(X, desired=replace(X.desired, edition=9)), later], STORED) == later


def test_of_two_that_were_to_replace_the_same_the_one_of_the_later_claim_is_right() -> None:
    late = replace(X, number=7)
    assert right_of([Y, Y, replace(Y, number=6), late], STORED) == late


def test_of_two_of_one_number_the_one_of_more_nodes_gets_an_edition_above_both() -> None:
    far = replace(X, desired=replace(X.desired, edition=8))
    assert right_of([far, Y, Y], STORED) == replace(Y, desired=replace(Y.desired, edition=9))


class _Watched(Shelf):
    """Notes what it acts on."""

    acted: ClassVar[dict[int, set[Desired]]] = {}

    def put_desired(self, desired: Desired, token: str, now_s: float) -> None:
        super().put_desired(desired, token, now_s)
        self.acted.setdefault(desired.edition, set()).add(desired)


class _Line:
    """A peer that is asked without a socket: requests and answers are lost by chance, and all after `left`."""

    chance = random.Random(0)
    left = 0
    away: frozenset[str] = frozenset()
    desks: ClassVar[dict[str, Desk]] = {}

    def __init__(self, url: str, fields: dict[str, str]) -> None:
        self.url = url

    async def ask(self, method: str, target: str, content: bytes | None = None, *, within_s: float) -> Answer:
        line = type(self)
        line.left -= 1
        if line.left < 0 or self.url in line.away or line.chance.random() < 0.03:
            raise BusError("the request is lost")
        url = urlsplit(target)
        request = Request(method, tuple(url.path[1:].split("/")), dict(parse_qsl(url.query)), content or b"")
        try:
            answer = await line.desks[self.url].answer(request)
        except RefusedError as error:
            return Answer(error.status, {}, json.dumps({"error": str(error), "code": error.code} | error.more).encode())
        if line.chance.random() < 0.03:
            raise BusError("the answer is lost")
        return Answer(answer.status, {name.lower(): value for name, value in answer.fields}, answer.body)

    async def get_packed(self, target: str, *, within_s: float) -> Answer:
        return await self.ask("GET", target, within_s=within_s)

    def close(self) -> None:
        pass


async def _put_one(number: int) -> Desired | None:
    """What an operator has put well, of which any request may be the last; None: nothing."""
    chance = _Line.chance
    _Line.left = chance.randint(6, 36)
    _Line.away = frozenset(url for url in _Line.desks if chance.random() < 0.25)
    bus = HttpOperatorBus("www", [Listed(f"n{url}", url) for url in _Line.desks])
    with suppress(BusError):
        claim = await bus.claim("r")
        before = await bus.desired()
        desired = before.committed(before.edition + 1, numbered(number))
        await bus.put_desired(desired, before.edition)
        await bus.give_up(claim)
        return desired
    return None


@pytest.mark.parametrize("seed", [30, 32, 41, 49, 52, 58, 62])
def test_whatever_is_cut_off_no_put_is_undone_and_of_one_edition_one_value_is_acted_on(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_asking, "Peer", _Line)
    monkeypatch.setattr(http_claims, "DRAW_S", 0.001)
    kept = [Kept(str(tmp_path / str(number))) for number in range(3)]
    acted: dict[int, set[Desired]] = {}
    monkeypatch.setattr(_Watched, "acted", acted)
    _Line.chance = random.Random(seed)

    async def whole() -> None:
        shelves = [_Watched(one, "www", time.monotonic()) for one in kept]
        _Line.desks = {
            str(number): Desk(HttpNodeBus(shelf), "www", f"n{number}", "b") for number, shelf in enumerate(shelves)
        }
        well: list[Desired] = []
        for number in range(1, 25):
            if (found := await _put_one(number)) is not None:
                assert found.release is not None
                there = [one.sequence for one in found.earlier]
                assert all(one.release and one.release.sequence in there for one in well)
                well.append(found)
        assert all(len(values) == 1 for values in acted.values())
        assert acted

    try:
        asyncio.run(whole())
    finally:
        for one in kept:
            one.close()

"""Which nodes have done a command: an account of their states."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tools.warm import acknowledging
from tools.warm.acknowledging import KNOWN_S, Acknowledgements, acknowledged
from zcserve.fleet.bus import BusError, Caught, Heard
from zcserve.fleet.messages import Command, State


def heard(node: str, *, done: tuple[str, ...] = (), aside: tuple[str, ...] = (), age_s: float = 0.0) -> Heard:
    return Heard(State("www", node, "b", 1, error="no such tag", done=done, aside=aside), age_s)


def test_nodes_of_a_list_are_waited_for_and_no_others() -> None:
    found = Acknowledgements("p1", ("n1", "n2"))
    for event in (heard("n1", done=("p0", "p1")), heard("n9", done=("p1",)), Caught()):
        found.hear(event)
    assert (found.done, found.missing, found.is_complete) == ({"n1"}, ["n2"], False)
    found.hear(heard("n2", aside=("p1",)))
    assert (found.aside, found.missing, found.is_complete) == ({"n2": "no such tag"}, [], True)


def test_how_much_a_node_has_purged_is_known_where_it_says_so() -> None:
    found = Acknowledgements("p1", ("n1", "n2"))
    found.hear(Heard(State("www", "n1", "b", 1, done=("p0", "p1"), purged=(1, 12)), 0.0))
    found.hear(heard("n2", done=("p1",)))  # of an older version
    assert (found.purged, found.done) == ({"n1": 12}, {"n1", "n2"})


def test_without_a_list_the_nodes_are_those_that_were_heard_of_within_an_hour() -> None:
    found = Acknowledgements("p1")
    found.hear(heard("n1", done=("p1",)))
    assert not found.is_complete
    found.hear(heard("n2", age_s=KNOWN_S + 1))
    found.hear(Caught())
    assert found.is_complete
    found.hear(heard("n3"))
    assert found.missing == ["n3"]


def test_when_a_node_has_said_it_first_is_known_whenever_that_is_heard() -> None:
    found = Acknowledgements("p1")
    found.hear(heard("n1", age_s=2.0))
    assert found.ages == {}
    found.hear(heard("n1", done=("p1",), age_s=0.5))
    found.hear(heard("n1", done=("p1", "p2"), age_s=0.1))
    assert found.ages == {"n1": 0.5}


def test_a_command_is_published_also_where_no_node_is_known() -> None:
    class Bus:
        published: tuple[str, ...] = ()

        async def publish(self, command: Command, *, is_anew: bool = False) -> frozenset[str]:
            for _ in range(100):  # the states are there before
                await asyncio.sleep(0)
            self.published += (command.id,)
            return frozenset()

        async def states(self) -> AsyncIterator[Heard | Caught]:
            yield Caught()
            await asyncio.Event().wait()

    bus, command = Bus(), Command("p1", "purge", "www", tags=("a",))
    found = Acknowledgements("p1")
    assert asyncio.run(acknowledged(cast(Any, bus), command, found, lambda: None, 30)) == ""
    assert (bus.published, found.done) == (("p1",), set())


class Forgetful:
    """A bus whose one node has done a command, and was killed before it said so. It remembers ids, as NATS does."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self._has_done = asyncio.Event()

    async def publish(self, command: Command, *, is_anew: bool = False) -> frozenset[str]:
        self.told.append(is_anew)
        if len(self.told) == 1:
            raise BusError("away")
        if is_anew:
            self._has_done.set()
        return frozenset() if len(self.told) > 2 else frozenset({"n1"})

    async def states(self) -> AsyncIterator[Heard | Caught]:
        yield heard("n1")
        yield Caught()
        await self._has_done.wait()
        yield heard("n1", done=("p1",))


def test_a_node_that_does_not_say_that_it_has_done_it_is_told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledging, "AGAIN_S", 0.01)

    async def run() -> None:
        bus, found = Forgetful(), Acknowledgements("p1", ("n1",))
        trouble = await acknowledged(
            cast(Any, bus), Command("p1", "purge", "www", prefix="/"), found, lambda: None, 60.0
        )
        assert (trouble, found.missing) == ("", [])
        assert bus.told == [False, False, False, True]

    asyncio.run(run())

"""A node's state in NATS: agents of one name are noticed, and a run that comes after another is not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

pytest.importorskip("nats")

from tests.support.bus_promises import gaps, has, hearing, purge
from tests.support.nats_server import NatsServer, nats_server
from tests.support.nats_wiring import NatsWiring
from zcserve.fleet import nats_reports, nats_streams
from zcserve.fleet.bus import NameTakenError
from zcserve.fleet.messages import State
from zcserve.fleet.nats_bus import NatsNodeBus
from zcserve.fleet.nats_place import NatsPlace
from zcserve.fleet.nats_position import Position

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def wiring(server: NatsServer) -> NatsWiring:
    return NatsWiring(server)


class Agents:
    """Several that say they are n1, by their boots."""

    def __init__(self, wiring: NatsWiring, stack: AsyncExitStack) -> None:
        self._wiring = wiring
        self._stack = stack
        self._numbers: dict[str, int] = {}
        self.buses: dict[str, NatsNodeBus] = {}

    async def begin(self, boot: str) -> None:
        self.buses[boot] = await self._stack.enter_async_context(self._wiring.node("n1"))

    async def report(self, boot: str, error: str = "") -> State:
        """What is stored after it."""
        number = self._numbers[boot] = self._numbers.get(boot, 0) + 1
        await self.buses[boot].report(State(self._wiring.site, "n1", boot, number, error=error))
        stored = await self.stored()
        assert stored
        assert (stored.boot, stored.number) == (boot, number)
        return stored

    async def stored(self) -> State | None:
        async with self._wiring.jetstream() as jetstream:
            key = nats_streams.key(nats_streams.STATE, self._wiring.site, "n1")
            record = await jetstream.last(nats_streams.STATE, key)
            return State.parse(record.data) if record else None


def test_of_two_agents_of_one_name_both_say_so_and_the_later_one_ends(
    wiring: NatsWiring, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            agents = Agents(wiring, stack)
            for boot in ("first", "later"):
                await agents.begin(boot)
            assert (await agents.report("first")).error == ""
            assert (await agents.report("later")).error == ""
            assert (await agents.report("first")).error == "two agents say they are n1, and the other one began later"
            stored = await agents.report("later", "disk full")
            assert stored.error == "two agents say they are n1, and the other one was there before; disk full"
            assert caplog.text.count("two agents say they are n1") == 2
            await agents.report("later")  # the other one may have ended just then
            await agents.report("first")
            with pytest.raises(NameTakenError, match="another agent is node n1, and was there before"):
                await agents.report("later")
            assert (await agents.report("first")).error.startswith("two agents say they are n1")
            monkeypatch.setattr(nats_reports, "NOTICED_S", 0.0)
            assert (await agents.report("first")).error == ""

    caplog.set_level(logging.ERROR)
    asyncio.run(run())


def test_runs_that_follow_each_other_and_a_state_that_is_forgotten_are_one_agent(
    wiring: NatsWiring, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack, wiring.operator() as operator, wiring.jetstream() as jetstream:
            agents = Agents(wiring, stack)
            for boot in ("a", "b", "c"):
                await agents.begin(boot)
                for _ in range(2):
                    assert (await agents.report(boot)).error == ""
            key = nats_streams.key(nats_streams.STATE, wiring.site, "n1")
            before = (await agents.report("c")).since
            for stream in (None, nats_streams.STATE.name):
                if stream:
                    await jetstream.api(f"STREAM.DELETE.{stream}")
                else:
                    await operator.forget("n1")
                again = [await agents.report("c") for _ in range(2)]
                assert [one.error for one in again] == ["", ""]
                assert again[0].since == 0
                assert again[1].since not in (0, before)  # it is counted anew
            await jetstream.append(nats_streams.STATE, key, b"by hand")
            assert (await agents.report("c")).error == ""
            own = State(wiring.site, "n1", "c", 9)
            await jetstream.append(nats_streams.STATE, key, own.dump())  # its own, whose answer was lost
            assert (await agents.report("c")).error == ""

    asyncio.run(run())
    assert "two agents" not in caplog.text


def test_an_agent_that_does_not_compare_is_told_of_and_ends_none(wiring: NatsWiring) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack, wiring.jetstream() as jetstream:
            agents = Agents(wiring, stack)
            await agents.begin("new")
            await agents.report("new")
            key = nats_streams.key(nats_streams.STATE, wiring.site, "n1")
            for number in range(1, 4):
                await jetstream.append(nats_streams.STATE, key, State(wiring.site, "n1", "old", number).dump())
                assert (await agents.report("new")).error.startswith("two agents say they are n1")

    asyncio.run(run())


def test_the_one_that_goes_on_has_its_own_position_again(wiring: NatsWiring) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack, wiring.operator() as operator, wiring.jetstream() as jetstream:
            agents = Agents(wiring, stack)
            await agents.begin("first")
            await agents.report("first")
            commands = await stack.enter_async_context(hearing(agents.buses["first"].deliveries()))
            await commands.until(gaps)
            await operator.publish(purge(wiring, "c1"))
            await commands.until(has("c1"))  # and it is not done here yet
            await agents.begin("later")
            others = await stack.enter_async_context(hearing(agents.buses["later"].deliveries()))
            await others.until(has("c1"))
            await agents.buses["later"].acknowledge("c1")
            await agents.report("later")
            key = nats_streams.key(nats_streams.POSITION, wiring.site, "n1")

            async def still_open() -> int:
                record = await jetstream.last(nats_streams.POSITION, key)
                assert record
                return len(Position.parse(record.data).open)

            assert await still_open() == 0
            await agents.report("first")
            assert await still_open() == 1

    asyncio.run(run())


def test_a_user_that_may_not_read_its_state_reports_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused = '"$JS.API.CONSUMER.CREATE.KV_zcserve-state.>"'
    users = (
        f"authorization {{ users: [{{ user: a, password: b, permissions: {{ publish: {{ deny: [{refused}] }} }} }}] }}"
    )

    async def run() -> None:
        with nats_server(tmp_path / "nats", users) as server:
            place = NatsPlace.of(server.url.replace("//", "//a:b@"))
            async with NatsWiring(server, place).node("n1") as node:
                for number in (1, 2):
                    await node.report(State("www", "n1", "boot", number))

    asyncio.run(run())
    assert caplog.text.count("would not be noticed") == 1

"""What the bus over NATS does when NATS is away, is started anew, stands still, or has lost what it had."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

pytest.importorskip("nats")

from tests.support.bus_promises import desired, eventually, gaps, has, hearing, names, purge, state
from tests.support.nats_server import NatsServer, nats_server
from tests.support.nats_wiring import NatsWiring
from zcserve.fleet import nats_link, nats_streams
from zcserve.fleet.bus import BusError, Caught, Gap, Heard, MissingError
from zcserve.fleet.jetstream import Stream
from zcserve.fleet.messages import Desired
from zcserve.fleet.nats_bus import NatsNodeBus

pytestmark = pytest.mark.peer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """One of this test's own."""
    with nats_server(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def wiring(server: NatsServer) -> NatsWiring:
    return NatsWiring(server)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes less, so that tests do."""
    monkeypatch.setattr(nats_link, "WAITS_S", 0.2)
    monkeypatch.setattr(nats_link, "ANSWER_S", 1.0)
    monkeypatch.setattr(nats_link, "CONNECT_S", 1.0)
    monkeypatch.setattr(nats_link, "PING_S", 0.2)
    monkeypatch.setattr(nats_link, "PAUSE_MAX_S", 0.3)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log was told of NATS, without where it is."""
    return [record.getMessage().partition(" (")[0] for record in caplog.records if "NATS" in record.getMessage()]


@pytest.mark.usefixtures("impatient")
def test_a_bus_that_begins_while_nats_is_away_goes_on_when_it_is_there(
    wiring: NatsWiring, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wiring.server.end()

    async def run() -> None:
        async with (
            wiring.operator() as operator,
            wiring.node("n1") as node,
            hearing(node.deliveries()) as commands,
            hearing(node.desired()) as wanted,
            hearing(operator.states()) as states,
        ):
            for action in (operator.desired(), node.report(state(wiring, "n1", 1)), node.manifest("0" * 64)):
                began = time.monotonic()
                with pytest.raises(BusError, match=r"NATS is away: .*127\.0\.0\.1"):
                    await action
                assert time.monotonic() - began < 5
            await asyncio.sleep(0.5)
            wiring.server.start()
            await commands.until(gaps)
            await operator.publish(purge(wiring, "c1"))
            await operator.put_desired(desired(wiring, 1), 0)
            await node.report(state(wiring, "n1", 1))
            await commands.until(has("c1"))
            await wanted.until(lambda told: desired(wiring, 1) in told)
            await states.until(lambda told: any(isinstance(one, Heard) for one in told))

    asyncio.run(run())
    assert len([one for one in told(caplog) if one.startswith("NATS is away")]) == 2  # each side, once
    assert len([one for one in told(caplog) if one.startswith("NATS is back")]) == 2
    assert len(told(caplog)) == 4


@pytest.mark.parametrize("how", ["end", "kill"])
def test_nothing_is_lost_when_nats_is_started_anew(
    wiring: NatsWiring, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> None:
        async with (
            wiring.operator() as operator,
            wiring.node("n1") as node,
            hearing(node.deliveries()) as commands,
            hearing(node.desired()) as wanted,
            hearing(operator.states()) as states,
        ):
            await commands.until(gaps)
            await operator.put_desired(desired(wiring, 1), 0)
            await node.report(state(wiring, "n1", 1))
            claim = await operator.claim("www-1")
            await operator.put_manifest("0" * 64, b"manifest")
            sent = [f"c{number}" for number in range(60)]
            await states.until(lambda told: Caught() in told)

            async def restart() -> None:
                await commands.until(has("c10"))
                await asyncio.to_thread(getattr(wiring.server, how))
                await asyncio.to_thread(wiring.server.start)

            async def publish() -> None:
                for name in sent:
                    await eventually(lambda name=name: operator.publish(purge(wiring, name)))  # type: ignore[misc]
                    await asyncio.sleep(0.005)

            async def acknowledge() -> None:
                for name in sent:
                    await commands.until(has(name))
                    await eventually(lambda name=name: node.acknowledge(name))  # type: ignore[misc]

            await asyncio.gather(restart(), publish(), acknowledge())
            assert names(commands.heard) == sent
            assert len(gaps(commands.heard)) == 1
            await operator.put_desired(desired(wiring, 2), 1)
            await node.report(state(wiring, "n1", 2))
            await wanted.until(lambda told: desired(wiring, 2) in told)
            await states.until(lambda told: any(isinstance(one, Heard) and one.state.number == 2 for one in told))
            assert states.heard.count(Caught()) == 2
            await operator.renew(claim)
            assert await node.manifest("0" * 64) == b"manifest"

    asyncio.run(run())
    messages = told(caplog)
    assert len([one for one in messages if one.startswith("NATS is away")]) == 2
    assert len([one for one in messages if one.startswith("NATS is back")]) == 2
    assert len(messages) == 4


def test_where_the_store_is_lost_a_gap_is_told_and_all_begins_anew(wiring: NatsWiring) -> None:
    async def run() -> None:
        async with (
            wiring.operator() as operator,
            wiring.node("n1") as node,
            hearing(node.deliveries()) as commands,
            hearing(node.desired()) as wanted,
            hearing(operator.states()) as states,
        ):
            await commands.until(gaps)
            await operator.publish(purge(wiring, "before"))
            await commands.until(has("before"))
            await operator.put_desired(desired(wiring, 7), 0)
            await operator.put_manifest("0" * 64, b"manifest")
            await asyncio.to_thread(wiring.server.kill)
            wiring.server.lose_store()
            await asyncio.to_thread(wiring.server.start)
            await eventually(lambda: node.acknowledge("before"))
            await commands.until(lambda told: len(gaps(told)) == 2)
            assert "made anew" in gaps(commands.heard)[1].reason
            await operator.publish(purge(wiring, "after"))
            await commands.until(has("after"))
            assert await operator.desired() == Desired(wiring.site)
            await operator.put_desired(desired(wiring, 8, 2), 0)
            await wanted.until(lambda told: desired(wiring, 8, 2) in told)
            with pytest.raises(MissingError):
                await node.manifest("0" * 64)
            await node.report(state(wiring, "n1", 1))
            await states.until(lambda told: any(isinstance(one, Heard) for one in told))

    asyncio.run(run())


@pytest.mark.usefixtures("impatient")
def test_what_stands_still_is_away_and_comes_back(wiring: NatsWiring) -> None:
    async def run() -> None:
        async with wiring.operator() as operator, wiring.node("n1") as node, hearing(node.deliveries()) as commands:
            await commands.until(gaps)
            wiring.server.stand_still()
            began = time.monotonic()
            with pytest.raises(BusError):
                await operator.publish(purge(wiring, "c1"))
            assert time.monotonic() - began < 5
            with pytest.raises(BusError):
                await node.report(state(wiring, "n1", 1))
            wiring.server.go_on()
            await eventually(lambda: operator.publish(purge(wiring, "c1")))
            await eventually(lambda: operator.publish(purge(wiring, "c2")))
            assert names(await commands.until(has("c2"))) == ["c1", "c2"]
            assert len(gaps(commands.heard)) == 1

    asyncio.run(run())


def test_streams_that_are_deleted_are_made_anew(wiring: NatsWiring, caplog: pytest.LogCaptureFixture) -> None:
    commands_stream = nats_streams.commands(wiring.site)

    async def run() -> None:
        async with (
            wiring.operator() as operator,
            wiring.node("n1") as node,
            wiring.jetstream() as jetstream,
            hearing(node.deliveries()) as commands,
            hearing(node.desired()) as wanted,
            hearing(operator.states()) as states,
        ):
            await commands.until(gaps)
            await states.until(lambda told: Caught() in told)
            await operator.put_desired(desired(wiring, 1), 0)
            await wanted.until(lambda told: desired(wiring, 1) in told)
            for stream in (commands_stream, nats_streams.DESIRED, nats_streams.STATE, nats_streams.POSITION):
                await jetstream.api(f"STREAM.DELETE.{stream.name}")
            await operator.publish(purge(wiring, "c1"))
            await commands.until(has("c1"))
            assert [type(one) for one in commands.heard][1:] == [Gap, type(purge(wiring, "c1"))]
            await node.acknowledge("c1")
            while f"what was desired of {wiring.site} (edition 1) is not in NATS any more" not in caplog.text:
                await asyncio.sleep(0.01)
            await operator.put_desired(desired(wiring, 2), 0)
            await wanted.until(lambda told: desired(wiring, 2) in told)
            await node.report(state(wiring, "n1", 1))
            await states.until(lambda told: any(isinstance(one, Heard) for one in told))

    asyncio.run(run())


def test_what_is_not_of_the_bus_is_passed_over(wiring: NatsWiring) -> None:
    """Records that were written or deleted by hand, and those of a later version."""

    async def run() -> None:
        async with wiring.operator() as operator, wiring.node("n1") as node, wiring.jetstream() as jetstream:
            for stream, name in ((nats_streams.STATE, "n1"), (nats_streams.STATE, "n2")):
                await jetstream.append(stream, nats_streams.key(stream, wiring.site, name), b"?")
            deleted = {"KV-Operation": "DEL"}
            await jetstream.append(
                nats_streams.STATE, nats_streams.key(nats_streams.STATE, wiring.site, "n3"), b"", headers=deleted
            )
            forged = state(wiring, "n2", 1).dump()
            await jetstream.append(nats_streams.STATE, nats_streams.key(nats_streams.STATE, wiring.site, "n4"), forged)
            async with hearing(operator.states()) as states:
                assert await states.until(lambda told: Caught() in told) == [Caught()]
                await node.report(state(wiring, "n1", 1))
                await states.until(lambda told: len(told) == 2)
            key = nats_streams.key(nats_streams.DESIRED, wiring.site)
            async with hearing(node.desired()) as wanted:
                await jetstream.append(nats_streams.DESIRED, key, b'{"version": 2}')
                for side in (operator.desired(), node.read_desired(), operator.put_desired(desired(wiring, 1), 0)):
                    with pytest.raises(BusError, match="cannot be read: version"):
                        await side
                await jetstream.append(nats_streams.DESIRED, key, b"", headers=deleted)
                await operator.put_desired(desired(wiring, 1), 0)
                await wanted.until(lambda told: desired(wiring, 1) in told)
            key = nats_streams.key(nats_streams.CLAIM, wiring.site)
            await jetstream.append(nats_streams.CLAIM, key, b"?")
            await operator.claim("www-1")

    asyncio.run(run())


def test_a_stream_that_is_there_is_left_as_it_is(wiring: NatsWiring) -> None:
    wide = Stream(nats_streams.DESIRED.name, nats_streams.DESIRED.subject, by_subject=9)

    async def run() -> None:
        async with wiring.operator() as operator, wiring.jetstream() as jetstream:
            await jetstream.held(wide)
            await operator.put_desired(desired(wiring, 1), 0)
            await operator.put_desired(desired(wiring, 2), 1)
            info = await jetstream.api(f"STREAM.INFO.{wide.name}")
            assert (info["config"]["max_msgs_per_subject"], info["state"]["messages"]) == (9, 2)

    asyncio.run(run())


def test_fifty_nodes_hear_all_and_are_heard(wiring: NatsWiring) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            operator = await stack.enter_async_context(wiring.operator())
            nodes: list[NatsNodeBus] = []
            ears = []
            wanted = []
            for number in range(50):
                node = await stack.enter_async_context(wiring.node(f"n{number}"))
                nodes.append(node)
                ears.append(await stack.enter_async_context(hearing(node.deliveries())))
                wanted.append(await stack.enter_async_context(hearing(node.desired())))
            states = await stack.enter_async_context(hearing(operator.states()))
            await asyncio.gather(*[ear.until(gaps) for ear in ears])
            for number in range(10):
                await operator.publish(purge(wiring, f"c{number}"))
            await operator.put_desired(desired(wiring, 1), 0)
            for ear, one, node in zip(ears, wanted, nodes, strict=True):
                assert names(await ear.until(has("c9"))) == [f"c{number}" for number in range(10)]
                await one.until(lambda told: desired(wiring, 1) in told)
                await asyncio.gather(*[node.acknowledge(f"c{number}") for number in range(10)])
            await asyncio.gather(*[node.report(state(wiring, f"n{n}", 1)) for n, node in enumerate(nodes)])
            await states.until(lambda told: len({one.state.node for one in told if isinstance(one, Heard)}) == 50)

    asyncio.run(run())


def test_a_manifest_of_30_megabytes_is_carried(wiring: NatsWiring) -> None:
    data = bytes(range(256)) * 120_000

    async def run() -> None:
        async with wiring.operator() as operator, wiring.node("n1") as node:
            await operator.put_manifest("0" * 64, data)
            assert await node.manifest("0" * 64) == data

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(int(os.environ.get("ZCSERVE_SOAK_ROUNDS", "1"))))
def test_whatever_is_started_anew_each_command_comes_in_order_until_it_is_acknowledged(
    wiring: NatsWiring, seed: int
) -> None:
    """The agent and nats-server, at random; and some commands are not acknowledged when they come first."""
    chance = random.Random(seed)
    sent = [f"c{number}" for number in range(120)]
    done: set[str] = set()

    async def live(node: NatsNodeBus) -> None:
        """One life of an agent: what it is brought is in order, and nothing that it has acknowledged."""
        brought: list[int] = []
        ends_after = chance.randrange(10, 60)
        async for one in node.deliveries():
            for name in names([one]):
                assert name not in done
                brought.append(int(name[1:]))
                assert brought == sorted(set(brought))
                if chance.random() < 0.8 or len(done) > len(sent) - 30:
                    await eventually(lambda name=name: node.acknowledge(name))  # type: ignore[misc]
                    done.add(name)
            if len(brought) >= ends_after or len(done) == len(sent):
                return

    async def publish() -> None:
        async with wiring.operator() as operator:
            for name in sent:
                await eventually(lambda name=name: operator.publish(purge(wiring, name)))  # type: ignore[misc]
                await asyncio.sleep(chance.random() * 0.01)

    async def restart() -> None:
        for _ in range(3):
            await asyncio.sleep(chance.random() * 0.4)
            await asyncio.to_thread(chance.choice((wiring.server.end, wiring.server.kill)))
            await asyncio.to_thread(wiring.server.start)

    async def run() -> None:
        async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
            await commands.until(gaps)
        others = asyncio.gather(publish(), restart())
        async with asyncio.timeout(120):
            while len(done) < len(sent):
                async with wiring.node("n1") as node:
                    with suppress(TimeoutError):  # it waits for what was acknowledged already
                        async with asyncio.timeout(1):
                            await live(node)
        await others
        assert done == set(sent)

    asyncio.run(run())

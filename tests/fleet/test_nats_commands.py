"""A node's way through the stream of commands over NATS: its position, its gaps, what it sets aside."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("nats")

from tests.support.bus_promises import gaps, has, hearing, names, purge
from tests.support.nats_server import NatsServer, nats_server
from tests.support.nats_wiring import NatsWiring
from zcserve.fleet import nats_commands, nats_streams
from zcserve.fleet.bus import UNACKNOWLEDGED_MAX, BusError, Delivery, Gap
from zcserve.fleet.jetstream import BATCH

pytestmark = pytest.mark.peer

# Ten thousand take 3 s.
BACKLOG = 10_000 if "ZCSERVE_SOAK_ROUNDS" in os.environ else 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def wiring(server: NatsServer) -> NatsWiring:
    return NatsWiring(server)


def test_what_the_stream_has_dropped_is_a_gap(wiring: NatsWiring) -> None:
    """Before the node was there again, what was open, and in the middle."""
    small = replace(nats_streams.commands(wiring.site), records_max=5)

    async def publish(*numbers: int) -> None:
        async with wiring.operator() as operator:
            for number in numbers:
                await operator.publish(purge(wiring, f"c{number}"))

    async def run() -> None:
        async with wiring.jetstream() as jetstream:
            await jetstream.held(small)
            async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                await commands.until(gaps)
                await publish(1, 2)
                await commands.until(has("c2"))
                await node.acknowledge("c2")
            await publish(*range(3, 11))
            async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                await commands.until(has("c10"))
                assert names(commands.heard) == ["c6", "c7", "c8", "c9", "c10"]
                reasons = [one.reason for one in gaps(commands.heard)]
                assert any("has dropped" in reason for reason in reasons), reasons
                assert isinstance(commands.heard[0], Gap)
                for number in range(6, 11):
                    await node.acknowledge(f"c{number}")
                before = len(gaps(commands.heard))
                await publish(11)
                await commands.until(has("c11"))
                assert len(gaps(commands.heard)) == before
            # its limits stand as they were made
            info = await jetstream.api(f"STREAM.INFO.{small.name}")
            assert info["config"]["max_msgs"] == 5

    asyncio.run(run())


def test_a_position_that_is_lost_or_cannot_be_read_is_a_gap(wiring: NatsWiring) -> None:
    key = nats_streams.key(nats_streams.POSITION, wiring.site, "n1")

    async def run() -> None:
        async with wiring.operator() as operator, wiring.jetstream() as jetstream:
            for data in (None, b"no JSON", b'{"version": 1}'):
                async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                    await commands.until(gaps)
                    await operator.publish(purge(wiring, "c1"))
                    await commands.until(has("c1"))
                    await node.acknowledge("c1")
                if data is None:
                    await jetstream.drop(nats_streams.POSITION, key)
                else:
                    await jetstream.append(nats_streams.POSITION, key, data)

    asyncio.run(run())


def test_a_gap_is_told_again_to_an_agent_that_starts_soon_after(
    wiring: NatsWiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with wiring.operator() as operator:
            for _ in range(2):
                async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                    assert "new" in gaps(await commands.until(gaps))[0].reason
            monkeypatch.setattr(nats_commands, "GAP_KEPT_S", 0.0)
            async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                await commands.until(gaps)
                await operator.publish(purge(wiring, "c1"))
                await commands.until(has("c1"))
                await node.acknowledge("c1")
            await operator.publish(purge(wiring, "c2"))
            async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                await commands.until(has("c2"))
                assert gaps(commands.heard) == []

    asyncio.run(run())


def test_a_stream_that_has_lost_its_end_is_a_gap(wiring: NatsWiring) -> None:
    """A power cut takes what the server had not written yet, and its numbers are given again."""
    commands_stream = nats_streams.commands(wiring.site)

    async def run() -> None:
        async with wiring.operator() as operator, wiring.jetstream() as jetstream:
            async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                await commands.until(gaps)
                await operator.publish(purge(wiring, "c1"))
                await commands.until(has("c1"))
                await node.acknowledge("c1")
            key = nats_streams.key(nats_streams.POSITION, wiring.site, "n1")
            record = await jetstream.last(nats_streams.POSITION, key)
            assert record is not None
            for wrong in (
                record.data.replace(b'"heard":1', b'"heard":9'),
                record.data.replace(b'"time":1', b'"time":2'),
            ):
                assert wrong != record.data
                await jetstream.append(nats_streams.POSITION, key, wrong)
                async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                    await commands.until(has("c1"))
                    assert "lost its end" in gaps(commands.heard)[0].reason
            assert (await jetstream.held(commands_stream)).last == 1

    asyncio.run(run())


def test_what_is_set_aside_is_kept_with_its_reason(wiring: NatsWiring) -> None:
    async def run() -> None:
        async with wiring.operator() as operator, wiring.node("n.1") as node, wiring.jetstream() as jetstream:
            async with hearing(node.deliveries()) as commands:
                await commands.until(gaps)
                await wiring.publish_raw(b"\x00 no JSON")
                await operator.publish(purge(wiring, "c1"))
                bad, good = names(await commands.until(has("c1")))
                await node.set_aside(bad, "is no JSON: ä")
                await node.set_aside(good, "line\nbreak")
            key = nats_streams.key(nats_streams.ASIDE, wiring.site, "n.1")
            reader = await jetstream.read(nats_streams.ASIDE, key, {"deliver_policy": "all"})
            kept = [await reader.next(), await reader.next()]
            await reader.close()
            assert [one and one.data for one in kept] == [b"\x00 no JSON", purge(wiring, "c1").dump()]
            reasons = [dict(one.headers or {})["Zcserve-Reason"] for one in kept if one]
            assert reasons == ["is no JSON: \\xe4", "line break"]

    asyncio.run(run())


def test_what_cannot_be_kept_aside_is_over_all_the_same(wiring: NatsWiring, caplog: pytest.LogCaptureFixture) -> None:
    """Else a node that has as many of them as it has room for hears of nothing any more."""
    aside = nats_streams.ASIDE.name

    async def run() -> None:
        async with wiring.operator() as operator, wiring.node("n1") as node, wiring.jetstream() as jetstream:
            async with hearing(node.deliveries()) as commands:
                await commands.until(gaps)
                await jetstream.held(nats_streams.ASIDE)
                config = (await jetstream.api(f"STREAM.INFO.{aside}"))["config"]
                await jetstream.api(f"STREAM.UPDATE.{aside}", config | {"max_msg_size": 1})
                for number in range(UNACKNOWLEDGED_MAX):
                    await wiring.publish_raw(b"poison %d" % number)
                await operator.publish(purge(wiring, "c1"))
                await commands.until(lambda told: len(names(told)) == UNACKNOWLEDGED_MAX)
                for name in names(commands.heard):
                    await node.set_aside(name, "is no JSON")
                await commands.until(has("c1"))
                await jetstream.api(f"STREAM.UPDATE.{aside}", config)
                await node.set_aside("c1", "why")
            assert caplog.text.count(f"NATS stores nothing that is written to {aside}") == 1
            assert caplog.text.count("is set aside, and not kept for an operator") == UNACKNOWLEDGED_MAX
            assert caplog.text.count(f"NATS stores what is written to {aside} again") == 1

    caplog.set_level(logging.INFO)
    asyncio.run(run())


def test_a_backlog_of_commands_comes_in_order(wiring: NatsWiring) -> None:
    sent = [f"c{number}" for number in range(BACKLOG)]

    async def run() -> None:
        async with wiring.operator() as operator, wiring.jetstream() as jetstream:
            async with wiring.node("n1") as node, hearing(node.deliveries()) as commands:
                await commands.until(gaps)
            stream = nats_streams.commands(wiring.site)
            for start in range(0, len(sent), 500):
                batch = [purge(wiring, name).dump() for name in sent[start : start + 500]]
                await asyncio.gather(*[jetstream.append(stream, stream.subject, data) for data in batch])
            async with wiring.node("n1") as node:
                brought: list[str] = []
                async for one in node.deliveries():
                    for name in names([one]):
                        brought.append(name)
                        if len(brought) % 32 == 0:
                            await asyncio.gather(*[node.acknowledge(name) for name in brought[-32:]])
                    if len(brought) == len(sent):
                        break
                assert brought == sent
            await operator.publish(purge(wiring, "last"))

    asyncio.run(run())


def test_what_is_dropped_while_a_node_reads_is_a_gap_before_what_comes_after_it(wiring: NatsWiring) -> None:
    stream = nats_streams.commands(wiring.site)

    async def run() -> None:
        async with wiring.operator() as operator, wiring.node("n1") as node, wiring.jetstream() as jetstream:
            deliveries = node.deliveries()
            assert isinstance(await anext(deliveries), Gap)
            await operator.publish(purge(wiring, "c1"))
            assert names([await anext(deliveries)]) == ["c1"]
            for number in range(2, BATCH + 7):  # more than the reader has asked for
                await operator.publish(purge(wiring, f"c{number}"))
            await jetstream.api(f"STREAM.MSG.DELETE.{stream.name}", {"seq": BATCH + 3})
            heard: list[Delivery] = []
            while not has(f"c{BATCH + 6}")(heard):
                heard.append(await anext(deliveries))
                await node.acknowledge("".join(names(heard[-1:])) or "none")
            (gap,) = gaps(heard)
            assert "has dropped 1 " in gap.reason
            brought = names(heard[: heard.index(gap)]), names(heard[heard.index(gap) :])
            assert brought[0] == [f"c{number}" for number in range(2, BATCH + 3)]
            assert brought[1] == [f"c{number}" for number in range(BATCH + 4, BATCH + 7)]

    asyncio.run(run())


def test_what_is_set_aside_again_after_a_failure_is_kept_once(
    wiring: NatsWiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: object, name: str) -> None:
        raise BusError("away")

    async def run() -> None:
        async with wiring.operator() as operator, wiring.node("n1") as node, wiring.jetstream() as jetstream:
            async with hearing(node.deliveries()) as commands:
                await commands.until(gaps)
                await operator.publish(purge(wiring, "c1"))
                await commands.until(has("c1"))
                with monkeypatch.context() as patch:
                    patch.setattr(nats_commands.NatsCommands, "acknowledge", fail)
                    with pytest.raises(BusError):
                        await node.set_aside("c1", "why")
                await node.set_aside("c1", "why")
            key = nats_streams.key(nats_streams.ASIDE, wiring.site, "n1")
            reader = await jetstream.read(nats_streams.ASIDE, key, {"deliver_policy": "all"})
            assert reader.left == 1
            await reader.close()

    asyncio.run(run())

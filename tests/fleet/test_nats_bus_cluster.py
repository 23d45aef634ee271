"""The bus over a cluster of three nats-servers, one of which is killed. It waits for elections, some 15 s, so it is
asked for: ZCSERVE_SOAK_ROUNDS=1."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("nats")

from tests.support.bus_promises import desired, eventually, gaps, has, hearing, names, purge, state
from tests.support.nats_server import NatsServer
from tests.support.nats_wiring import NatsWiring
from tools.ports import free_port
from zcserve.fleet import nats_link, nats_streams
from zcserve.fleet.bus import Heard
from zcserve.fleet.jetstream import JetStream
from zcserve.fleet.nats_place import NatsPlace

pytestmark = pytest.mark.peer
__test__ = "ZCSERVE_SOAK_ROUNDS" in os.environ


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[NatsServer]]:
    """Three that know each other."""
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    made = []
    for number, port in enumerate(ports):
        folder = tmp_path / f"s{number}"
        folder.mkdir()
        cluster = f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [ {routes} ] }}'
        made.append(NatsServer(folder, f"server_name: s{number}\n{cluster}\n"))
    starting = [threading.Thread(target=server.start) for server in made]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    try:
        yield made
    finally:
        for server in made:
            server.kill()


async def leader(jetstream: JetStream, name: str) -> str:
    """Which server leads a stream."""
    info = await eventually(lambda: jetstream.api(f"STREAM.INFO.{name}"))
    return str(info["cluster"]["leader"])


def test_nothing_is_lost_when_the_leader_of_a_stream_is_killed(
    servers: list[NatsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_link, "ANSWER_S", 1.0)
    monkeypatch.setattr(nats_link, "WAITS_S", 1.0)
    urls = ",".join(server.url for server in servers)
    wiring = NatsWiring(servers[0], NatsPlace.of(urls, replicas=3))
    stream = nats_streams.commands(wiring.site)
    random.seed(7)

    async def run() -> None:
        async with (
            wiring.operator() as operator,
            wiring.node("n1") as node,
            wiring.jetstream() as jetstream,
            hearing(node.deliveries()) as commands,
            hearing(node.desired()) as wanted,
            hearing(operator.states()) as states,
        ):
            await commands.until(gaps, 60)
            await eventually(lambda: operator.put_desired(desired(wiring, 1), 0))
            sent = [f"c{number}" for number in range(30)]
            for name in sent[:10]:
                await eventually(lambda name=name: operator.publish(purge(wiring, name)))  # type: ignore[misc]
            await commands.until(has("c9"))
            await eventually(lambda: node.acknowledge("c3"))
            led = await leader(jetstream, stream.name)
            await asyncio.to_thread(servers[int(led[1:])].kill)
            for name in sent[10:]:
                await eventually(lambda name=name: operator.publish(purge(wiring, name)))  # type: ignore[misc]
            await commands.until(has(sent[-1]), 60)
            assert names(commands.heard) == sent
            assert len(gaps(commands.heard)) == 1
            await eventually(lambda: operator.put_desired(desired(wiring, 2), 1))
            await wanted.until(lambda told: desired(wiring, 2) in told, 60)
            await eventually(lambda: node.report(state(wiring, "n1", 1)))
            await states.until(lambda told: any(isinstance(one, Heard) for one in told), 60)
            assert await leader(jetstream, stream.name) != led

    asyncio.run(run())

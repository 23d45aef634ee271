"""An agent that NATS tells: a release, a purge, NATS that goes and comes back, and what was missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fleet import FleetNode, build, release
from zcserve.fleet.bus import BusError, Caught
from zcserve.fleet.messages import Command, Desired, State

pytest.importorskip("nats")
pytestmark = pytest.mark.peer

from tests.support.nats_server import NatsServer  # noqa: E402
from zcserve.fleet.nats_bus import NatsOperatorBus  # noqa: E402
from zcserve.fleet.nats_place import NatsPlace  # noqa: E402


async def wait(bus: NatsOperatorBus, is_so: Callable[[State], object]) -> None:
    """Until a state of which this is true is heard."""
    async for heard in bus.states():
        if not isinstance(heard, Caught) and is_so(heard.state):
            return


def is_live(sequence: int) -> Callable[[State], bool]:
    return lambda state: state.stage == "live" and state.live is not None and state.live.sequence == sequence


def test_a_node_goes_where_nats_says_and_serves_while_it_is_away(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    server, node = NatsServer(tmp_path / "nats"), FleetNode(tmp_path / "node")
    at = node.flags.index("--listen")
    node.flags = (*node.flags[:at], "--nats", server.url, *node.flags[at + 4 :])

    async def put(bus: NatsOperatorBus, number: int) -> None:
        manifest = build(tmp_path / str(number), {"/index.html": b"page %d" % number}, number)
        desired = Desired("www", number, release(manifest, tmp_path / str(number)))
        while True:
            try:
                await bus.put_manifest(manifest.digest, manifest.to_bytes())
                return await bus.put_desired(desired, number - 1)
            except BusError:  # it comes back
                await asyncio.sleep(0.05)

    async def run() -> None:
        bus = NatsOperatorBus(NatsPlace.of(server.url), "www")
        await put(bus, 1)
        await wait(bus, is_live(1))
        await bus.publish(Command("purge-1", "purge", "www", prefix="/"))
        await wait(bus, lambda state: "purge-1" in state.done)
        server.end()
        assert node.get("/") == (200, b"page 1")
        server.start()
        await put(bus, 2)
        await wait(bus, is_live(2))
        node.kill(node.agent)
        await put(bus, 3)
        node.begin_agent()
        await wait(bus, is_live(3))
        assert node.get("/") == (200, b"page 3")
        await bus.close()

    async def in_time() -> None:
        async with asyncio.timeout(120):
            await run()

    server.start()
    try:
        node.begin_agent()
        node.heard("agent of node n1")
        node.start_server()
        asyncio.run(in_time())
        server.end()
        assert node.agent is not None
        node.agent.process.terminate()
        assert node.agent.wait() == 0
    finally:
        node.close()
        server.end()

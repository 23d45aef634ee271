"""An agent whose folders are deleted or moved beneath it, beside a server of each engine: nothing that is served is
lost, the state tells of it, and what is gone comes back."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.command import Command as Process
from tests.support.engines import ENGINES
from tests.support.fleet import CLAIM, build, release
from zcserve.config.addresses import UnixAddress
from zcserve.ctl.client import Node
from zcserve.fleet import backoff, lookout, node_state
from zcserve.fleet.agent import Agent
from zcserve.fleet.folders import Folders
from zcserve.fleet.http_node import HttpNodeBus
from zcserve.fleet.http_shelf import Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.local_server import LocalServer
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.messages import Desired, State, Trial
from zcserve.fleet.node_state import NodeState
from zcserve.fleet.obtaining import Obtaining
from zcserve.fleet.standby import Standby


def pages(number: int) -> dict[str, bytes]:
    return {"/index.html": b"page %d" % number, f"/{number}.js": b"script %d" % number}


class Bystander:
    """Asks for a page all the while, and keeps what was no 200 with one of the pages."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.wrong: list[object] = []
        self.asked = 0

    def get(self, path: str) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    async def ask(self) -> None:
        while True:
            answer = await asyncio.to_thread(self.get, "/")
            self.asked += 1
            if answer != (200, b"page 2"):
                self.wrong.append(answer)
            await asyncio.sleep(0.002)


class Beside:
    """An agent in this process, and what its bus says."""

    def __init__(self, releases: Path, admin: Path, manifests: dict[str, bytes]) -> None:
        self.releases = releases
        self.folders, self.kept = Folders(releases), Kept(str(releases))
        server = LocalServer(Node(UnixAddress(str(admin)), timeout_s=60.0), "www")
        self.shelf = Shelf(self.kept, "www", 0.0)
        self.bus = HttpNodeBus(self.shelf)

        async def of_others(digest: str) -> bytes:
            return manifests[digest]

        self.bus.others = of_others
        self.agent = Agent(
            NodeState("www", "n1", "the-boot"),
            self.bus,
            server,
            Obtaining("www", self.folders, None),
            self.folders,
            self.kept,
            Standby(self.folders, self.kept, server),
            keep_count=3,
            keep_age_s=600.0,
        )
        self.shelf.give("r", CLAIM, 600.0, 0.0, renew=False)
        self.edition = 0

    async def desire(self, wanted: Desired) -> None:
        await self.bus.put_desired(wanted, CLAIM)

    async def told(self, is_so: Callable[[State], object]) -> State:
        """A state that is reported from now on, or was last."""
        while self.bus.state is None or not is_so(self.bus.state):
            await self.bus.has_state.wait()
        return self.bus.state

    def is_whole(self, *manifests: Manifest) -> bool:
        return all(self.folders.holds(one.tree) for one in manifests)


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        await asyncio.sleep(0.01)


def is_at_rest(sequence: int) -> Callable[[State], bool]:
    return lambda state: bool(
        state.stage == "live" and state.live and state.live.sequence == sequence and not state.error
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_deleted_or_moved_beneath_it_is_told_and_comes_back_and_the_server_serves(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(lookout, "LOOK_SOON_S", 0.02)
    monkeypatch.setattr(backoff, "FIRST_S", 0.05)
    monkeypatch.setattr(node_state, "VAIN_TRIES_MAX", 10**6)
    first, second, third = (build(tmp_path / str(number), pages(number), number) for number in (1, 2, 3))
    one, two, three = (release(manifest, tmp_path / str(manifest.sequence)) for manifest in (first, second, third))
    releases, admin = tmp_path / "releases", tmp_path / "admin"
    beside = Beside(releases, admin, {manifest.digest: manifest.to_bytes() for manifest in (first, second, third)})
    argv = ("--root", f"{releases}/current", "--port", "0", "--admin", f"unix:{admin}", "--engine", engine)
    server = Process((*argv, "--keep-generations", "1"), {}, tmp_path / "out")

    async def run() -> None:
        running = asyncio.create_task(beside.agent.run())
        await beside.desire(Desired("www", 1, one))
        await beside.told(is_at_rest(1))
        await beside.desire(Desired("www", 2, two, None, (one,)))
        await beside.told(is_at_rest(2))
        bystander = Bystander(server.port)
        asking = asyncio.create_task(bystander.ask())

        async def gone(number: int, is_so: Callable[[State], object]) -> State:
            """It is told; and its source, which was away, is there again."""
            state = await beside.told(
                lambda state: f"the folder of release {number} is gone" in state.error and is_so(state)
            )
            assert "it is fetched again" in state.error or "is not fetched: " in state.error
            os.rename(tmp_path / "held", tmp_path / str(number))
            return state

        def hold(number: int) -> None:
            os.rename(tmp_path / str(number), tmp_path / "held")

        hold(2)
        os.rename(releases / second.tree, releases / "moved")  # what is live
        state = await gone(2, lambda state: state.stage == "fetching")
        assert (state.live and state.live.sequence, state.share) == (2, 1.0)
        await beside.told(is_at_rest(2))
        assert beside.is_whole(first, second)

        hold(1)
        shutil.rmtree(releases / first.tree)  # what a rollback may go to
        await gone(1, lambda state: state.stage == "live")
        await beside.told(is_at_rest(2))
        assert beside.is_whole(first, second)

        await beside.desire(Desired("www", 3, two, Trial(three), (one,)))
        await beside.told(lambda state: state.stage == "prepared")
        hold(3)
        os.rename(releases / third.tree, releases / "moved-too")  # what is prepared
        await gone(3, lambda state: state.stage == "fetching")
        await beside.told(lambda state: state.stage == "prepared")
        assert beside.is_whole(third)
        assert await asyncio.to_thread(bystander.get, "/3.js") == (200, b"script 3")
        await beside.desire(Desired("www", 4, two, None, (one,)))
        await beside.told(is_at_rest(2))

        hold(2)
        asked = bystander.asked
        os.rename(releases, tmp_path / "away")  # all of it
        await gone(2, lambda state: bystander.asked > asked + 10)
        await until(lambda: beside.is_whole(first, second))
        await beside.told(is_at_rest(2))
        assert (releases / "current").readlink() == Path(second.tree)
        assert Desired.parse((releases / ".agent" / "desired.json").read_bytes()).edition == 4
        assert (releases / ".agent" / "memory.json").exists()
        assert await asyncio.to_thread(bystander.get, "/2.js") == (200, b"script 2")
        for task in (asking, running):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert bystander.wrong == []

    async def in_time() -> None:
        async with asyncio.timeout(60):
            await run()

    try:
        server.wait_ready()
        asyncio.run(in_time())
    finally:
        server.end()
        beside.kept.close()

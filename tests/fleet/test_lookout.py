"""When a server is looked at, and what of that is news."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.fleet import FakeServer
from zcserve.fleet import lookout
from zcserve.fleet.folders import Folders
from zcserve.fleet.keeping import Kept
from zcserve.fleet.local_server import LocalServer
from zcserve.fleet.lookout import Lookout
from zcserve.fleet.node_words import Observed
from zcserve.fleet.standby import Standby

TREE, OTHER = "a" * 64, "b" * 64
Talk = Callable[[FakeServer, Lookout, "asyncio.Queue[Observed]"], Awaitable[None]]


def run(releases: Path, talk: Talk) -> None:
    async def in_time() -> None:
        fake = FakeServer()
        folders, kept = Folders(releases), Kept(str(releases))
        for tree in (TREE, OTHER):
            (releases / tree).mkdir()
            (releases / f"{tree}.json").write_bytes(b"{}")
        folders.point(TREE)
        server = LocalServer(fake.node, "www")
        told: asyncio.Queue[Observed] = asyncio.Queue()
        watch = Lookout(server, Standby(folders, kept, server), folders, told.put_nowait)
        try:
            async with asyncio.timeout(60):
                looking = asyncio.create_task(watch.run())
                await talk(fake, watch, told)
                looking.cancel()
        finally:
            fake.close()
            kept.close()

    asyncio.run(in_time())


def test_what_is_news_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(lookout, "LOOK_SOON_S", 0.01)
    monkeypatch.setattr(lookout, "AWAY_S", 0.0)
    root = tmp_path.resolve()

    async def talk(fake: FakeServer, watch: Lookout, told: asyncio.Queue[Observed]) -> None:
        assert await told.get() == Observed("")  # it is away
        assert not watch.is_there.is_set()
        fake.serve(str(root / TREE), pid=1 << 30)
        assert await told.get() == Observed(TREE, "", TREE)
        assert watch.is_there.is_set()
        looks = len(fake.told)
        while len(fake.told) < looks + 3:
            await asyncio.sleep(0.005)
        assert told.empty()
        fake.serve(str(root / TREE), pid=1 << 30, prepared=str(root / OTHER))
        assert await told.get() == Observed(TREE, OTHER, TREE)
        fake.serve(str(root / TREE), pid=(1 << 30) + 1)
        assert await told.get() == Observed(TREE, "", TREE)
        assert "--root" not in caplog.text
        fake.serve("/elsewhere", pid=(1 << 30) + 1)
        assert await told.get() == Observed("", "", TREE)
        assert f"the server serves /elsewhere, where no release comes: start it with --root {root}" in caplog.text
        watch.doubt()
        assert await told.get() == Observed("", "", TREE)
        Folders(root).point(OTHER)  # a flip that was ended in the middle
        assert await told.get() == Observed("", "", OTHER)

    run(tmp_path, talk)


def test_a_look_beside_a_step_is_thrown_away_and_what_a_step_knows_is_no_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 60.0)
    root = tmp_path.resolve()

    async def talk(fake: FakeServer, watch: Lookout, told: asyncio.Queue[Observed]) -> None:
        fake.serve(str(root / TREE), pid=1 << 30)
        first = fake.answers["/stats"]
        watch.doubt()
        assert await told.get() == Observed(TREE, "", TREE)
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(words: object) -> object:
            loop.call_soon_threadsafe(asked.set)
            return first

        fake.answers["/stats"] = slow
        watch.doubt()
        await asked.wait()
        while not told.empty():
            told.get_nowait()
        with watch.step():  # the look's answer is on its way
            Folders(root).point(OTHER)
            fake.serve(str(root / OTHER), pid=1 << 30)
            seen = LocalServer(fake.node, "www").look()
        watch.know(seen)
        watch.know_prepared(str(root / TREE))
        fake.serve(str(root / OTHER), pid=1 << 30, prepared=str(root / TREE))
        looks = len(fake.told)
        while len(fake.told) < looks + 1:
            await asyncio.sleep(0.005)
        assert told.empty()
        watch.doubt()
        assert await told.get() == Observed(OTHER, TREE, OTHER)

    run(tmp_path, talk)


def test_current_that_was_removed_or_moved_leads_to_what_is_served_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.01)
    root, current = tmp_path.resolve(), tmp_path / "current"

    async def talk(fake: FakeServer, watch: Lookout, told: asyncio.Queue[Observed]) -> None:
        fake.serve(str(root / TREE), pid=1 << 30)
        watch.doubt()
        while await told.get() != Observed(TREE, "", TREE):
            pass
        current.unlink()
        while not current.is_symlink():
            await asyncio.sleep(0.005)
        assert current.readlink() == Path(TREE)
        for elsewhere in ("current", "nowhere", "none", str(tmp_path.parent), "."):
            current.with_name("new").symlink_to(elsewhere)
            current.with_name("new").rename(current)
            async with asyncio.timeout(60):
                while current.readlink() != Path(TREE):
                    await asyncio.sleep(0.005)
        assert told.empty()  # nothing has changed
        current.unlink()
        current.mkdir()  # what another has made is left alone
        assert await told.get() == Observed(TREE, "", "")
        assert not current.is_symlink()

    run(tmp_path, talk)


def test_a_server_whose_folder_is_gone_is_adrift_until_it_is_loaded_from_a_folder_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.01)
    root = tmp_path.resolve()

    async def talk(fake: FakeServer, watch: Lookout, told: asyncio.Queue[Observed]) -> None:
        def serve(directory: str, pid: int = 1 << 30) -> None:
            fake.serve(str(root / directory), pid=pid, files=3)

        serve(TREE)
        watch.doubt()
        while await told.get() != Observed(TREE, "", TREE):
            pass
        (root / OTHER).rmdir()
        assert await told.get() == Observed(TREE, "", TREE, False, frozenset({OTHER}))
        assert caplog.text.count("is gone") == 1
        (root / OTHER).mkdir()
        assert await told.get() == Observed(TREE, "", TREE)
        looks = len(fake.told)
        with watch.collecting() as forget:  # it is removed on purpose, and it takes some looks
            (root / OTHER).rmdir()
            while len(fake.told) < looks + 5:
                await asyncio.sleep(0.005)
            forget([OTHER])
        while len(fake.told) < looks + 10:
            await asyncio.sleep(0.005)
        assert told.empty()
        assert caplog.text.count("is gone") == 1
        os.rename(root / TREE, root / "moved")
        serve("moved")
        while await told.get() != Observed(TREE, "", TREE, True, frozenset({TREE})):
            pass
        os.rename(root / "moved", root / TREE)  # another folder, for all that is known
        assert await told.get() == Observed(TREE, "", TREE, True)
        serve(TREE)
        assert await told.get() == Observed(TREE, "", TREE)
        serve("elsewhere")  # by another root of its configuration: no folder is gone
        assert await told.get() == Observed("", "", TREE)
        serve(TREE)
        assert await told.get() == Observed(TREE, "", TREE)
        os.rename(root / TREE, root / "moved")
        while (await told.get()).absent != {TREE}:
            pass
        serve("moved", (1 << 30) + 1)  # another process, of which nothing is known
        assert (await told.get()).served == ""

    run(tmp_path, talk)

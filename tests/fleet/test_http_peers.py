"""A node that was away asks the others: what most of them have stored it takes, and manifests from any."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.fleet import numbered
from zcserve.config.addresses import TcpAddress
from zcserve.fleet import http_peers
from zcserve.fleet.bus import Gap, MissingError
from zcserve.fleet.http_listener import Listener
from zcserve.fleet.http_node import Desk, HttpNodeBus
from zcserve.fleet.http_peers import Peers
from zcserve.fleet.http_shelf import Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.messages import Command, Desired
from zcserve.fleet.node_list import Listed
from zcserve.fleet.packed import Packed
from zcserve.fleet.peer import Answer, Peer

TOKEN = "a token of some length"
FIRST, SECOND = (Desired("www", edition, numbered(edition)) for edition in (1, 2))


class Node:
    """A node's side of the bus with its listener."""

    def __init__(self, where: Path, name: str) -> None:
        where.mkdir(parents=True)
        self.kept = Kept(str(where))
        self.name = name
        self.bus = HttpNodeBus(Shelf(self.kept, "www", 0.0))
        desk = Desk(self.bus, "www", name, "the-boot")
        self.listener = Listener(TcpAddress("127.0.0.1", 0), TOKEN.encode(), desk.answer, desk.limit_of)

    async def store(self, desired: Desired, manifest: bytes = b"") -> None:
        assert desired.release is not None
        await self.bus.with_shelf(lambda shelf: shelf.give("r", "1", 60.0, 0.0, renew=False))
        await self.bus.put_desired(desired, "1")
        if manifest:
            digest = desired.release.manifest
            await self.bus.with_shelf(lambda shelf: shelf.put_manifest(digest, manifest))

    async def close(self) -> None:
        await self.listener.close()
        self.kept.close()


def run(tmp_path: Path, talk: Callable[[list[Node], Peers], Awaitable[None]]) -> None:
    """Three nodes, of which the last one asks, and a fourth that is away."""

    async def in_time() -> None:
        nodes = [Node(tmp_path / name, name) for name in ("n1", "n2", "n3")]
        try:
            async with asyncio.timeout(60):
                for node in nodes:
                    await node.listener.start()
                listed = [Listed(node.name, f"http://127.0.0.1:{node.listener.port}") for node in nodes]
                peers = Peers(nodes[2].bus, "www", "n3", (*listed, Listed("n4", "http://127.0.0.1:9")), TOKEN)
                nodes[2].bus.others = peers.manifest
                await talk(nodes, peers)
        finally:
            for node in nodes:
                await node.close()

    asyncio.run(in_time())


def test_what_most_of_the_nodes_have_is_what_is_desired(tmp_path: Path) -> None:
    async def talk(nodes: list[Node], peers: Peers) -> None:
        assert await peers.desired() == Desired("www")
        for node in nodes:
            await node.store(FIRST)
        assert await peers.desired() == FIRST
        await nodes[0].store(SECOND)
        assert await peers.desired() == Desired("www")  # two of four have one, and one the other
        await nodes[2].store(SECOND)
        assert await peers.desired() == Desired("www")
        await nodes[1].store(SECOND)
        assert await peers.desired() == SECOND

    run(tmp_path, talk)


def test_a_node_that_was_away_catches_up_and_has_the_manifest_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_peers, "PEER_EVERY_S", 0.01)

    async def talk(nodes: list[Node], peers: Peers) -> None:
        peers = Peers(
            nodes[2].bus,
            "www",
            "n3",
            [Listed(node.name, f"http://127.0.0.1:{node.listener.port}") for node in nodes],
            TOKEN,
        )
        following = asyncio.create_task(peers.follow())
        hearing = nodes[2].bus.desired()
        await nodes[0].store(FIRST, b"the manifest")
        await nodes[1].store(FIRST)
        assert await anext(hearing) == FIRST
        await nodes[0].store(SECOND)
        await nodes[1].store(SECOND, b"the second")
        assert await anext(hearing) == SECOND
        assert await nodes[2].bus.manifest(numbered(1).manifest) == b"the manifest"
        assert await nodes[2].bus.manifest(numbered(2).manifest) == b"the second"
        with pytest.raises(MissingError):
            await nodes[2].bus.manifest(numbered(3).manifest)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    run(tmp_path, talk)
    kept = Kept(str(tmp_path / "n3"))
    assert Shelf(kept, "www", 0.0).desired == SECOND


class _Noted(Peer):
    """Notes what is asked, and of which."""

    asked: ClassVar[list[tuple[str, str]]] = []

    async def ask(self, method: str, target: str, content: bytes | Packed | None = None, *, within_s: float) -> Answer:
        self.asked.append((self.url, target.rpartition("/")[2]))
        return await super().ask(method, target, content, within_s=within_s)


def test_it_asks_all_at_its_start_then_one_after_the_other_and_all_again_when_one_has_something_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(_Noted, "asked", asked)
    monkeypatch.setattr(http_peers, "Peer", _Noted)
    monkeypatch.setattr(http_peers, "PEER_EVERY_S", 0.01)

    async def talk(nodes: list[Node], peers: Peers) -> None:
        urls = [f"http://127.0.0.1:{port}" for port in (9, nodes[0].listener.port, nodes[1].listener.port)]
        of_all = [(url, "desired") for url in urls]
        turns = [(url, path) for url in (*urls, urls[0]) for path in ("desired", "commands")]
        following = asyncio.create_task(peers.follow())
        while len(asked) < 14:
            await asyncio.sleep(0.005)
        assert asked[:14] == [*of_all, *((url, "commands") for url in urls), *turns]
        await nodes[0].store(FIRST)
        asked.clear()
        while not any(asked[at : at + 3] == of_all for at in range(len(asked))):
            await asyncio.sleep(0.005)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    run(tmp_path, talk)


def purge(name: str) -> bytes:
    return Command(name, "purge", "www", prefix="/").dump()


def test_a_purge_that_others_have_had_and_this_node_has_not_is_a_gap_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_peers, "LATE_S", 0.0)
    monkeypatch.setattr(http_peers, "PEER_EVERY_S", 0.01)

    async def talk(nodes: list[Node], peers: Peers) -> None:
        for node in nodes:
            await node.bus.append(purge("all"))
            await node.bus.append(Command("warming", "warm", "www", paths=("/",)).dump())
        assert await peers.missed() == []
        await nodes[0].bus.append(purge("missed"))
        await nodes[1].bus.append(purge("missed"))
        await nodes[2].bus.append(purge("own"))
        told = nodes[2].bus.deliveries()
        start, *commands = [await anext(told) for _ in range(4)]
        assert isinstance(start, Gap)
        following = asyncio.create_task(peers.follow())
        gap = await anext(told)
        assert [one.id for one in commands if isinstance(one, Command)] == ["all", "warming", "own"]
        assert isinstance(gap, Gap)
        assert gap.reason.endswith(": missed")
        await nodes[1].bus.append(purge("missed.too"))
        assert isinstance(gap := await anext(told), Gap)
        assert gap.reason.endswith(": missed.too")
        assert await peers.missed() == []
        await nodes[2].bus.append(purge("missed"))  # it is given again, and is done
        assert isinstance(late := await anext(told), Command)
        assert late.id == "missed"
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    run(tmp_path, talk)


def test_a_purge_that_is_only_late_here_is_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_peers, "LATE_S", 0.5)

    async def talk(nodes: list[Node], peers: Peers) -> None:
        bus = nodes[2].bus
        told, looked = bus.deliveries(), bus.with_shelf
        assert isinstance(await anext(told), Gap)
        await nodes[0].bus.append(purge("late"))
        coming: list[asyncio.Task[None]] = []

        async def look_then_come(work: Callable[[Shelf], Any]) -> Any:
            found = await looked(work)
            if not coming:
                coming.append(asyncio.create_task(bus.append(purge("late"))))
            return found

        monkeypatch.setattr(bus, "with_shelf", look_then_come)
        missed: list[list[str]] = []
        miss = bus.miss

        def note(names: Iterable[str]) -> None:
            missed.append([*names])
            miss(missed[-1])

        monkeypatch.setattr(bus, "miss", note)
        following = asyncio.create_task(peers.follow())
        while not missed:
            await asyncio.sleep(0.01)
        assert missed == [["late"]]
        await bus.append(purge("next"))
        names = [one.id for one in [await anext(told), await anext(told)] if isinstance(one, Command)]
        assert names == ["late", "next"]
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    run(tmp_path, talk)


def test_what_a_node_says_that_is_not_understood_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk(nodes: list[Node], peers: Peers) -> None:
        await nodes[1].bus.append(purge("missed"))
        monkeypatch.setattr(nodes[0].bus, "purges", lambda: ["", 3])
        assert await peers.missed() == ["missed"]

    run(tmp_path, talk)

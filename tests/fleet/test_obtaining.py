"""A release comes to a node: what a manifest must be, and where its files come from."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.fleet import HeldOrigin, build, release
from zcserve.fleet.bus import BusError
from zcserve.fleet.folders import Folders
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.obtaining import ObtainError, Obtaining

FILES = {"/index.html": b"page", "/a/b.css": b"style"}


def obtain(
    obtaining: Obtaining, manifest: Manifest, of: Manifest | None = None, *, source: Path | str = "", asked: int = 1
) -> None:
    """Obtain the release of a manifest, where the bus has another one, perhaps; how often the bus is asked."""
    digests = []

    async def manifest_of(digest: str) -> bytes:
        digests.append(digest)
        return (of or manifest).to_bytes()

    try:
        asyncio.run(obtaining.obtain(release(manifest, source), manifest_of))
    finally:
        assert digests == [manifest.digest] * asked


def test_a_folder_that_is_there_needs_neither_bus_nor_source(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "releases")
    obtaining = Obtaining("www", folders, None)
    first = build(tmp_path / "source", FILES, 1)
    obtain(obtaining, first, source=tmp_path / "source")
    assert (tmp_path / "releases" / first.tree / "a" / "b.css").read_bytes() == b"style"
    obtain(obtaining, first, asked=0)
    back = first.with_sequence(9)  # a rollback: the same files, another manifest
    obtain(obtaining, back)
    assert Manifest.parse(folders.manifest(first.tree)) == back
    obtain(obtaining, back, asked=0)
    with pytest.raises(ObtainError, match="nothing says where its files come from"):
        obtain(obtaining, build(tmp_path / "source", FILES | {"/new": b"new"}, 2))


def test_a_nodes_own_source_goes_before_a_releases(tmp_path: Path) -> None:
    manifest = build(tmp_path / "source", FILES, 1)
    obtaining = Obtaining("www", Folders(tmp_path / "releases"), None, str(tmp_path / "source"), 1e9)
    obtain(obtaining, manifest, source="/none")
    assert (tmp_path / "releases" / manifest.tree / "index.html").read_bytes() == b"page"


def test_what_is_at_fault_is_final_and_what_is_away_is_not(tmp_path: Path) -> None:
    manifest = build(tmp_path / "source", FILES, 1)
    obtaining = Obtaining("www", Folders(tmp_path / "releases"), None)
    for other in (manifest.with_sequence(2), replace(manifest, tree="0" * 64)):
        with pytest.raises(ObtainError) as raised:
            obtain(obtaining, manifest, other, source=tmp_path / "source")
        assert raised.value.is_final
    for source in ("/none", "gopher://a/", str(tmp_path / "releases")):
        with pytest.raises(ObtainError) as raised:
            obtain(obtaining, manifest, source=source)
        assert not raised.value.is_final

    async def away(digest: str) -> bytes:
        raise BusError("the bus is away")

    with pytest.raises(ObtainError, match="the bus is away") as raised:
        asyncio.run(obtaining.obtain(release(manifest), away))
    assert not raised.value.is_final


def test_a_fetch_that_is_given_up_ends(tmp_path: Path) -> None:
    pytest.importorskip("urllib3")
    manifest = build(tmp_path / "source", FILES, 1)
    obtaining = Obtaining("www", Folders(tmp_path / "releases"), None)
    origin = HeldOrigin(tmp_path / "source")

    async def manifest_of(digest: str) -> bytes:
        return manifest.to_bytes()

    async def give_up() -> None:
        task = asyncio.create_task(obtaining.obtain(release(manifest, origin.url), manifest_of))
        while not origin.asked:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    try:
        asyncio.run(give_up())
        origin.go.set()
        obtain(obtaining, manifest, source=origin.url)
    finally:
        origin.close()

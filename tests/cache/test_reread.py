"""The slow look at content: how slow it is, and what it reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.trees import Tree
from zcserve.cache import reread
from zcserve.cache.index import Generation
from zcserve.cache.reread import READ_BYTES_PER_S, READS_PER_S, Reread
from zcserve.cache.root import Root
from zcserve.cache.tags import tag_of
from zcserve.cache.walk import walk
from zcserve.cache.watcher import Watcher


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path / "root")
    made.path.mkdir()
    return made


def known(tree: Tree, watcher: Watcher, root: Root) -> Generation:
    """What a walk finds, every file read once."""
    generation = walk(root, index=("index.html",), observer=watcher)
    for entry in generation.entries():
        entry.etag = tag_of((tree.path / entry.key[1:].decode()).read_bytes())
    return generation


@pytest.mark.parametrize(
    ("count", "size", "least_s"),
    [(300, 10, 300 / READS_PER_S), (6, 500_000, 3_000_000 / READ_BYTES_PER_S)],
    ids=["files", "bytes"],
)
def test_a_round_takes_its_time(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, count: int, size: int, least_s: float
) -> None:
    tree.plant({f"{number}": b"x" * size for number in range(count)})
    root = Root(tree.path)
    watcher = Watcher(root)
    reread_of = Reread(known(tree, watcher, root), watcher, 0.001)
    opened: list[bytes] = []
    open_file = Root.open_file

    def counted(self: Root, path: bytes) -> Any:
        opened.append(path)
        return open_file(self, path)

    monkeypatch.setattr(Root, "open_file", counted)
    now = 0.0
    while len(set(opened)) < count:
        now += reread_of.step(now)
    assert now >= least_s * 0.8
    assert not watcher.take(1e9)
    watcher.close()


def test_nothing_waits_for_a_disk_but_for_a_young_file(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.plant({"page": b"x", "empty": b""})
    root = Root(tree.path)
    watcher = Watcher(root)
    reread_of = Reread(known(tree, watcher, root), watcher, 0.001)
    flags: list[int] = []
    preadv = os.preadv

    def seen(fd: int, buffers: Any, at: int, flag: int = 0) -> int:
        flags.append(flag)
        return preadv(fd, buffers, at, flag)

    monkeypatch.setattr(os, "preadv", seen)
    reread_of.step(reread_of.step(0.0))
    assert set(flags) == {0}
    flags.clear()
    monkeypatch.setattr(reread, "YOUNG_S", -1e9)
    reread_of.step(1e9)
    assert flags[:1] == [os.RWF_NOWAIT]
    watcher.close()

"""The slow look at everything: what it finds, and how slow it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.trees import Tree, rewrite
from zcserve.cache.index import Generation
from zcserve.cache.recheck import LOOKS_AT_ONCE, LOOKS_PER_S_MAX, Recheck
from zcserve.cache.root import Root
from zcserve.cache.walk import Changes, walk
from zcserve.cache.watcher import Watcher


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path / "root")
    made.path.mkdir()
    return made


@pytest.fixture
def follow(tree: Tree) -> Iterator[Callable[[], tuple[Generation, Watcher]]]:
    watchers: list[Watcher] = []

    def start() -> tuple[Generation, Watcher]:
        root = Root(tree.path)
        watchers.append(Watcher(root))
        return walk(root, index=("index.html",), observer=watchers[-1]), watchers[-1]

    yield start
    for watcher in watchers:
        watcher.close()


def found(watcher: Watcher) -> Changes:
    """What a look has told, without any event."""
    return watcher.take(0.0)


def test_what_differs_is_told_and_nothing_else(tree: Tree, follow: Callable[[], tuple[Generation, Watcher]]) -> None:
    tree.plant(
        {"same": b"x", "edited": b"x", "gone": b"x", "d/index.html": b"x", "e/f": b"x", os.fsdecode(b"\xff"): b"x"}
    )
    generation, watcher = follow()
    look = Recheck(generation, watcher, 600.0)
    look.step(0.0)
    assert not found(watcher)
    for name in ("edited", "d/index.html", os.fsdecode(b"\xff")):
        rewrite(tree.path / name, b"y")
    (tree.path / "gone").unlink()
    (tree.path / "e").rename(tree.path.parent / "away")
    (tree.path / "e").mkdir()
    look.step(600.0)
    changes = found(watcher)
    assert changes.names == {b"": {b"edited", b"\xff", b"gone", b"e"}, b"d/": {b"index.html"}, b"e/": {b"f"}}
    assert changes.trees == {b"e/"}


def test_a_root_that_leads_elsewhere_is_everything(
    tree: Tree, follow: Callable[[], tuple[Generation, Watcher]]
) -> None:
    generation, watcher = follow()
    tree.path.rename(tree.path.parent / "away")
    tree.path.mkdir()
    Recheck(generation, watcher, 600.0).step(0.0)
    assert found(watcher).everything is not None


def test_the_looks_are_spread_over_the_interval(
    tree: Tree, follow: Callable[[], tuple[Generation, Watcher]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.plant({f"{number % 3}/{number}": b"x" for number in range(300)})
    generation, watcher = follow()
    looked: list[bytes] = []
    status = Root.status

    def counted(self: Root, path: bytes) -> os.stat_result:
        looked.append(path)
        return status(self, path)

    monkeypatch.setattr(Root, "status", counted)
    look = Recheck(generation, watcher, 600.0)
    waited, steps = 0.0, 0
    while len(set(looked)) < 303:
        before = len(looked)
        waited += look.step(waited)
        steps += 1
        assert len(looked) - before <= LOOKS_AT_ONCE
        assert steps < 100
    assert len(looked) < 303 + LOOKS_AT_ONCE
    assert waited == pytest.approx(600.0, rel=0.1)
    hurried, waited = Recheck(generation, watcher, 0.001), 0.0
    looked.clear()
    while len(set(looked)) < 303:
        waited += hurried.step(waited)
    assert waited >= (303 - 2 * LOOKS_AT_ONCE) / LOOKS_PER_S_MAX

"""The garbage collector does not look at content: a full collection costs the same with a million entries."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import pytest

from tests.support.trees import Tree, noise
from zcserve.cache import manifest
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.manifest import Heir
from zcserve.cache.patch import Patch
from zcserve.cache.preload import preload
from zcserve.cache.root import Root
from zcserve.cache.takeover import Memory
from zcserve.cache.walk import Changes, walk, walk_again

INDEX = ("index.html",)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path / "root")
    made.path.mkdir()
    made.plant({"index.html": b"top", "d/index.html": b"of d", "d/page": b"a page", "large": noise(100_000)})
    return made


def seen(generation: Generation) -> list[object]:
    """What of a generation the collector looks at."""
    things: list[object] = [generation.resources, *generation.resources.values()]
    for entry in generation.entries():
        things += [entry.body, getattr(entry.body, "keeper", None)]
    return [thing for thing in things if gc.is_tracked(thing)]


def test_what_a_walk_finds_and_a_loader_loads_is_not_seen(tree: Tree) -> None:
    generation = tree.walk()
    preload(generation, tree.loader())
    assert all(entry.body is not None for entry in generation.entries())
    assert seen(generation) == []
    again = walk(generation.root, index=INDEX, known=(generation,))
    assert seen(again) == []
    tree.close()


def test_what_is_patched_or_replaced_is_not_seen(tree: Tree) -> None:
    generation, loader = tree.walk(), tree.loader()
    preload(generation, loader)
    tree.plant({"d/new": b"new", "e/index.html": b"of e", "d/page": b"another page"})
    patch = walk_again(generation, Changes(names={b"d/": {b"new", b"page"}, b"": {b"e"}}), index=INDEX)
    assert set(patch.resources) == {b"/d/new", b"/d/page", b"/e", b"/e/", b"/e/index.html"}
    patch.apply(generation)
    assert seen(generation) == []
    page = generation.resources[b"/d/page"]
    assert isinstance(page, Entry)
    tree.plant({"d/page": b"one more page"})
    assert loader.succeed(generation, page) is not page
    assert seen(generation) == []
    tree.close()


def test_an_index_is_not_seen_for_a_moment_while_it_changes(tree: Tree) -> None:
    generation = tree.walk()
    entry = generation.resources[b"/d/page"]
    seen_by_a_collection: list[bool] = []
    done = threading.Event()

    def make_garbage() -> None:
        while not done.is_set():
            made: list[object] = []
            made.extend([made] for _ in range(1000))

    def collects(phase: str, _: object) -> None:
        if phase == "start":
            seen_by_a_collection.append(gc.is_tracked(generation.resources))

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=make_garbage)
    sys.setswitchinterval(1e-6)
    gc.callbacks.append(collects)
    thread.start()
    try:
        number = 0
        while len(seen_by_a_collection) < 300:
            generation.lay_over([b"/%d" % number], {b"/%d" % number: entry})
            number += 1
    finally:
        done.set()
        thread.join()
        gc.callbacks.remove(collects)
        sys.setswitchinterval(interval)
    # Not quite none: the callback is Python, and another thread may have its turn before it looks. Without `put` it is
    # 6 to 13 of 300.
    assert sum(seen_by_a_collection) <= 2
    tree.close()


def test_what_another_process_hands_over_is_not_seen(tree: Tree) -> None:
    generation, old, new = tree.walk(), tree.loader(), tree.loader()
    preload(generation, old)
    slabs, pages, numbers = old.store.freeze()
    memory = Memory(tuple(map(os.dup, slabs)), os.dup(pages), numbers)
    fd = os.memfd_create("manifest")
    manifest.write(fd, memory, {"a": generation}, old)
    got = manifest.adopt(fd, memory, {"a": Heir(0, Root(tree.path, tree.rules), new)}).get("a")
    os.close(fd)
    assert got is not None
    assert all(entry.body is not None for entry in got.entries())
    assert seen(got) == []
    tree.close()


def test_a_large_patch_is_few_objects() -> None:
    """Each that the collector knows of costs it time, and whichever thread it interrupts."""
    patch = Patch({b"/%d" % number: None for number in range(20_000)}, [])
    gc.collect()
    before = len(gc.get_objects())
    pieces = patch.pieces({}, 250)
    first = next(pieces)
    assert len(gc.get_objects()) - before < 200
    assert sum(map(len, pieces)) + len(first) == 20_000

"""Which entries are pinned, in which order they are loaded, and which had no room."""

from __future__ import annotations

import pytest

from tests.support.trees import Tree, entry_of, noise
from zcserve.cache.entry import Entry
from zcserve.cache.pinned import Pinned
from zcserve.cache.preload import preload
from zcserve.errors import UsageError


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"/assets/site.css", True),
        (b"/assets/old/site.css", False),
        (b"/a%20b/c.woff2", True),
        (b"/%C3%BCber/a%3Fb", True),
        (b"/index.html", False),
    ],
)
def test_a_key_is_matched_by_what_it_decodes_to(key: bytes, expected: bool) -> None:
    pinned = Pinned(["/assets/*.css", "*.woff2", "/\u00fcber/a?b"])
    assert pinned(Entry(key, b"", 0, None)) is expected


def test_nothing_is_pinned_without_a_glob(tree: Tree) -> None:
    tree.plant({"a.css": b"a"})
    generation = tree.walk()
    assert not Pinned([])(entry_of(generation, b"/a.css"))
    assert Pinned([]).first(generation) == Pinned([]).left_out(generation) == []


def test_what_is_pinned_is_loaded_first_small_before_large(tree: Tree) -> None:
    tree.plant({"a/large.css": bytes(900), "a/page.html": b"p", "b/small.css": b"s", "c/middle.css": bytes(50)})
    generation = tree.walk()
    first = Pinned(["*.css"]).first(generation)
    assert [entry.key for entry in first] == [b"/b/small.css", b"/c/middle.css", b"/a/large.css"]


def test_what_had_no_room_is_told_variants_too(tree: Tree) -> None:
    tree.plant({"a.css": noise(30_000), "b.css": noise(20_000), "c.html": noise(500)})
    tree.plant({"a.css.br": noise(2000), "a.css.gz": noise(25_000)})
    generation = tree.walk()
    pinned = Pinned(["*.css"])
    assert len(pinned.left_out(generation)) == 4
    preload(generation, tree.loader(memory=64 * 1024), first=pinned.first(generation))
    left = pinned.left_out(generation)
    assert left
    assert all(representation.body is None for representation in left)
    assert entry_of(generation, b"/b.css").body is not None
    preload(generation, tree.loader(memory="1M"), first=pinned.first(generation))
    assert pinned.left_out(generation) == []


def test_a_glob_that_matches_nothing_is_news_once(tree: Tree) -> None:
    tree.plant({"a.css": b"a", "b.js": b"b"})
    pinned = Pinned(["*.css", "*.woff2", "/fonts/", "*.css"])
    assert pinned.newly_idle(tree.walk()) == ["*.woff2", "/fonts/"]
    assert pinned.newly_idle(tree.walk()) == []
    tree.plant({"fonts/a.woff2": b"a"})
    assert pinned.newly_idle(tree.walk()) == []
    (tree.path / "fonts/a.woff2").unlink()
    (tree.path / "a.css").unlink()
    assert sorted(pinned.newly_idle(tree.walk())) == ["*.css", "*.woff2", "/fonts/"]


def test_globs_come_and_go_and_what_is_none_changes_nothing() -> None:
    pinned = Pinned(["*.css"])
    style, font = (Entry(key, b"", 0, None) for key in (b"/a.css", b"/b.woff2"))
    for _ in range(2):
        pinned.change(add=["*.woff2"], remove=["*.css", "/nothing"])
        assert pinned.globs == ("*.woff2",)
        assert [pinned(style), pinned(font)] == [False, True]
    with pytest.raises(UsageError):
        pinned.change(add=["*.css", ""], remove=["*.woff2"])
    assert pinned.globs == ("*.woff2",)


def test_what_is_held_is_counted_and_so_is_how_often_some_came_or_went(tree: Tree) -> None:
    tree.plant({"small.css": bytes(100), "large.css": noise(50_000), "page": b"1"})
    generation, pinned = tree.walk(), Pinned([])
    loader = tree.loader(memory="1M")
    store = loader.store
    loader.is_pinned = pinned
    preload(generation, loader)
    entries = [entry_of(generation, key) for key in (b"/small.css", b"/large.css", b"/page")]
    assert (len(store.held), store.held.bytes, store.resident) == (0, 0, 3)
    evictable = store.evictable
    for globs, count, changes in ((["*.css"], 2, 2), ([], 0, 4)):
        pinned.change(add=globs, remove=["*.css"])
        for _ in range(2):  # the second time nothing is sorted anew
            for entry in entries:
                store.repin(entry, pinned)
        assert (len(store.held), store.held.changes, store.resident) == (count, changes, 3)
        assert store.evictable == evictable - store.held.bytes
    pinned.change(add=["*.css"], remove=[])
    store.repin(entries[1], pinned)
    assert 50_000 <= store.held.bytes < 60_000
    store.drop(entries[1])
    assert (store.held.bytes, store.resident, store.held.changes) == (0, 2, 6)
    store.repin(entries[1], pinned)  # it is not there
    assert len(store.held) == 0

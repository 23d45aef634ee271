"""zcserve.cache.sharing: a generation with other rules has the entries that are sent with the same fields."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.trees import Tree, entry_of
from zcserve.cache.index import Generation
from zcserve.cache.preload import preload
from zcserve.cache.root import Root
from zcserve.cache.sharing import sharable
from zcserve.cache.walk import Changes, walk_again
from zcserve.rules.compiled import Rules
from zcserve.rules.rule import HeaderRule

ONE = Rules((HeaderRule(("/a/**",), set=((b"X-A", b"1"),)),))
SAME = Rules((HeaderRule(("/a/**",), set=((b"X-A", b"1"),)),))
OTHER = Rules((HeaderRule(("/a/**",), set=((b"X-A", b"2"),)), HeaderRule(("/c",), remove=(b"x-a",))))


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path / "root")
    made.plant({"a/index.html": b"a", "b.html": b"b", "a/x.css": b"x", "a/x.css.gz": b"zipped", "c": b"c"})
    yield made
    made.close()


def walked(tree: Tree, rules: Rules, last: Generation | None = None) -> Generation:
    tree.rules = rules
    return tree.walk(last=last)


@pytest.mark.parametrize("native", [True, False])
def test_what_other_rules_send_otherwise_is_another_entry(
    tree: Tree, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr("zcserve.cache.walk.native", None)
    first = walked(tree, ONE)
    second = walked(tree, OTHER, first)
    assert second.resources.keys() == first.resources.keys()
    shared = {key for key in first.resources if second.resources[key] is first.resources[key]}
    assert shared == {b"/b.html", b"/c"}
    third = walked(tree, SAME, first)
    assert {key for key in first.resources if third.resources[key] is not first.resources[key]} == {b"/a"}


def test_each_generation_keeps_its_own_heads(tree: Tree) -> None:
    loader = tree.loader()
    first = walked(tree, ONE)
    preload(first, loader)
    second = walked(tree, OTHER, first)
    preload(second, loader)
    for generation, value in ((first, b"1"), (second, b"2")):
        entry = entry_of(generation, b"/a/x.css")
        for one in (entry, *entry.variants):
            assert one.body is not None
            assert b"\r\nX-A: %b\r\n" % value in bytes(one.body.head())
    kept = entry_of(first, b"/b.html")
    assert kept is entry_of(second, b"/b.html")
    assert kept.body is not None


def test_what_is_patched_shares_nothing_that_is_sent_otherwise(tree: Tree) -> None:
    live = walked(tree, ONE)
    built = walked(tree, OTHER)
    changes = Changes(names={b"": {b"b.html"}, b"a/": {b"x.css"}})
    (tree.path / "a" / "x.css").touch()
    (tree.path / "b.html").touch()
    patch = walk_again(built, changes, index=("index.html",), also=walked(tree, ONE, live))
    assert patch.resources.keys() >= {b"/b.html", b"/a/x.css"}
    assert live.root.rules is ONE


def test_a_root_without_rules_has_what_is_known_itself(tree: Tree) -> None:
    generation = walked(tree, ONE)
    assert sharable(generation, Root(tree.path, SAME)) is generation.resources
    some = sharable(generation, Root(tree.path, OTHER))
    assert len(some) == len(generation.resources)
    assert some.get(b"/a/x.css") is None
    assert some.get(b"/a") is generation.resources[b"/a"]
    assert some.get(b"/absent") is None

"""zcserve.cache.listing: under which keys a directory looks for its names, and when another listing stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.trees import Tree
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.listing import ADDED_MAX, Listing, ListingRedirect, Resource, container_of, listed, listings_to_renew
from zcserve.cache.walk import Changes, walk_again
from zcserve.config.table import Config
from zcserve.content.merging import difference
from zcserve.rules.book import Rulebook


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path / "www")
    made.path.mkdir()
    rules = ({"path": "/closed/**", "listing": False},)
    made.rules = Rulebook(Config(root=made.path, listing=True, rules=rules)).rules()
    return made


def listing_of(generation: Generation, key: bytes) -> Listing:
    listing = generation.resources[key]
    assert isinstance(listing, Listing)
    return listing


def names(generation: Generation, key: bytes) -> list[bytes]:
    found = [name for name, _ in listed(key, listing_of(generation, key), generation.resources)]
    assert len(found) == len(set(found)), "each once"
    return sorted(found)


def change(tree: Tree, generation: Generation, directory: bytes, *changed: bytes) -> None:
    patch = walk_again(generation, Changes(names={directory: set(changed)}), index=("index.html",))
    for keys in patch.pieces(generation.resources, 1):
        patch.apply(generation, keys)


def test_a_directory_without_an_index_has_a_listing(tree: Tree) -> None:
    tree.plant({"a.txt": b"", "a.txt.gz": b"", "b/index.html": b"", "c d/x": b"", "closed/x": b"", ".h": b""})
    (tree.path / "empty").mkdir()
    generation = tree.walk()
    assert names(generation, b"/") == [b"a.txt", b"b/", b"c%20d/", b"empty/"]
    assert names(generation, b"/c%20d/") == [b"x"]
    assert names(generation, b"/empty/") == []
    assert isinstance(generation.resources[b"/c%20d"], ListingRedirect)
    assert not isinstance(generation.resources[b"/b"], ListingRedirect)
    assert generation.resources.keys().isdisjoint((b"/closed/", b"/closed", b""))


def test_another_listing_stands_there_when_a_name_is_another_and_only_then(tree: Tree) -> None:
    tree.plant({"d/a": b"", "e/b": b"", "closed/x": b""})
    generation = tree.walk()
    top, d, e = (listing_of(generation, key) for key in (b"/", b"/d/", b"/e/"))
    change(tree, generation, b"d/", b"a")
    assert listing_of(generation, b"/d/") is d
    tree.plant({"d/c": b""})
    change(tree, generation, b"d/", b"c")
    assert names(generation, b"/d/") == [b"a", b"c"]
    assert listing_of(generation, b"/d/") is not d
    assert (listing_of(generation, b"/"), listing_of(generation, b"/e/")) == (top, e)
    tree.plant({"closed/index.html": b""})
    change(tree, generation, b"closed/", b"index.html")
    assert listing_of(generation, b"/") is not top
    assert names(generation, b"/") == [b"closed/", b"d/", b"e/"]


def test_an_index_comes_before_a_listing_and_leaves_one_behind(tree: Tree) -> None:
    tree.plant({"d/a": b"", "d/sub/b": b"", "d/index.html": b""})
    generation = tree.walk()
    (tree.path / "d/index.html").unlink()
    change(tree, generation, b"d/", b"index.html")
    assert names(generation, b"/d/") == [b"a", b"sub/"]
    assert isinstance(generation.resources[b"/d"], ListingRedirect)
    tree.plant({"d/index.html": b"again"})
    change(tree, generation, b"d/", b"index.html")
    assert not isinstance(generation.resources[b"/d/"], Listing)
    assert not isinstance(generation.resources[b"/d"], ListingRedirect)


def test_a_listing_does_not_grow_for_ever(tree: Tree) -> None:
    tree.plant({"stays": b""})
    generation = tree.walk()
    for _ in range(3 * ADDED_MAX):
        tree.plant({"comes": b""})
        change(tree, generation, b"", b"comes")
        assert names(generation, b"/") == [b"comes", b"stays"]
        (tree.path / "comes").unlink()
        change(tree, generation, b"", b"comes")
    assert names(generation, b"/") == [b"stays"]
    assert len(listing_of(generation, b"/").pieces) <= ADDED_MAX + 3


def test_many_names_that_come_together_are_lists_of_a_thousand_and_each_is_listed_once() -> None:
    come = [b"/%d" % number for number in range(2500)]
    resources: dict[bytes, Resource] = {key: Entry(key, b"", 1, None) for key in (*come, b"/old")}
    listing = Listing([[b"/old", b"/7"]])
    for _ in range(ADDED_MAX):
        listing = listing.followed(come, resources)  # as if all had gone in between
        assert max(map(len, listing.pieces)) <= 1000
        assert len(listing.pieces) < ADDED_MAX + 10
        found = [name for name, _ in listed(b"/", listing, resources)]
        assert (len(found), set(found)) == (2501, {key[1:] for key in resources})


def test_of_two_generations_those_differ_of_which_a_name_differs(tree: Tree) -> None:
    tree.plant({"d/a": b"", "e/b": b""})
    last = tree.walk()
    assert list(difference(last, tree.walk(last=last))) == []
    tree.plant({"d/c": b""})
    assert set(difference(last, tree.walk(last=last))) == {b"/d/"}  # what is new led nowhere


def test_a_key_is_a_name_in_one_directory() -> None:
    contained = {b"/a": b"/", b"/a/": b"/", b"/a/b": b"/a/", b"/a/b/": b"/a/", b"/": b""}
    assert {key: container_of(key) for key in contained} == contained
    resources: dict[bytes, Resource] = {b"/a/": Listing([]), b"/": ListingRedirect(b"/")}
    assert list(listings_to_renew([b"/a/b", b"/a/c", b"/x", b"/"], resources)) == [b"/a/"]

"""zcserve.cache.patch: what a patch does to a generation, whole and in pieces."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

import pytest

from tests.support.trees import Tree
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation
from zcserve.cache.patch import Patch
from zcserve.cache.root import Root


def entry(key: bytes) -> Entry:
    return Entry(key, b"", 0, None)


@pytest.fixture
def generation(tree: Tree) -> Generation:
    """/changes, /goes, and a directory whose index changes."""
    made = Generation(Root(tree.path))
    index = entry(b"/d/index.html")
    known = {b"/changes": entry(b"/changes"), b"/goes": entry(b"/goes"), b"/d/index.html": index, b"/d/": index}
    made.lay_over([*known, b"/d"], {**known, b"/d": Redirect(b"/d/")})
    return made


def patch_of(resources: dict[bytes, Entry | Redirect | None], page: bytes | None = None) -> Patch:
    return Patch(resources, [], pages={} if page is None else {b"/404.html": page, b"/503.html": page})


def test_all_that_is_new_changed_or_gone_is_laid_over(generation: Generation) -> None:
    new, changed = entry(b"/new"), entry(b"/changes")
    patch_of({b"/new": new, b"/changes": changed, b"/goes": None}).apply(generation)
    known = generation.resources
    assert (known.get(b"/new"), known.get(b"/changes"), known.get(b"/goes")) == (new, changed, None)
    assert b"/d/" in known


def test_some_keys_of_it_may_be_laid_over_alone(generation: Generation) -> None:
    patch = patch_of({b"/new": entry(b"/new"), b"/goes": None})
    patch.apply(generation, [b"/goes"])
    assert b"/goes" not in generation.resources
    assert b"/new" not in generation.resources


@pytest.mark.parametrize(("keys", "page"), [(None, b"new"), ([b"/404.html"], b"new"), ([b"/goes"], b"old")])
def test_the_page_for_404_comes_with_its_key(
    generation: Generation, keys: Collection[bytes] | None, page: bytes
) -> None:
    generation.set_pages({b"/404.html": b"old", b"/503.html": b"old"})
    patch_of({b"/404.html": entry(b"/404.html"), b"/goes": None}, b"new").apply(generation, keys)
    assert (generation.error_pages.get(404), generation.error_pages[503]) == (page, b"old")


def test_what_is_new_comes_first_and_what_is_gone_last(generation: Generation) -> None:
    patch = patch_of({b"/goes": None, b"/changes": entry(b"/changes"), b"/new": entry(b"/new")})
    assert list(patch.pieces(generation.resources, 10)) == [[b"/new"], [b"/changes"], [b"/goes"]]


@pytest.mark.parametrize(
    ("count", "keys_max", "pieces"), [(9, 3, [3, 3, 3]), (10, 4, [4, 4, 2]), (3, 10, [3]), (0, 3, [])]
)
def test_a_piece_has_so_many_keys(generation: Generation, count: int, keys_max: int, pieces: list[int]) -> None:
    patch = patch_of({b"/new%d" % number: entry(b"") for number in range(count)})
    assert [len(piece) for piece in patch.pieces(generation.resources, keys_max)] == pieces


def test_a_directory_its_redirect_and_its_index_are_of_one_piece(generation: Generation) -> None:
    index = entry(b"/d/index.html")
    patch = patch_of(
        {b"/new": entry(b"/new"), b"/d": Redirect(b"/d/"), b"/d/": index, b"/d/index.html": index, b"/d/other": index}
    )
    pieces = list(patch.pieces(generation.resources, 1))
    assert sorted(map(sorted, pieces)) == [[b"/d", b"/d/", b"/d/index.html"], [b"/d/other"], [b"/new"]]


@pytest.mark.parametrize("now", [None, entry(b"/d/home.html")], ids=["gone", "another"])
def test_the_index_that_was_is_of_the_same_piece_too(generation: Generation, now: Entry | None) -> None:
    patch = patch_of({b"/d/index.html": None, b"/d/": now, b"/goes": None})
    assert sorted(map(sorted, patch.pieces(generation.resources, 1))) == [[b"/d/", b"/d/index.html"], [b"/goes"]]


def test_each_key_is_in_one_piece(generation: Generation) -> None:
    resources: dict[bytes, Entry | Redirect | None] = {}
    for number in range(50):
        index = entry(b"/%d/index.html" % number)
        resources |= {b"/%d/" % number: index, b"/%d" % number: Redirect(b"/%d/" % number), index.key: index}
        resources[b"/%d/file" % number] = None
    keys = list(chain.from_iterable(patch_of(resources).pieces(generation.resources, 7)))
    assert len(keys) == 200
    assert set(keys) == resources.keys()


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({b"/a": entry(b"/a")}, "updated: 1 changed, 0 gone: /a"),
        ({b"/a": None, b"/b": entry(b"/b"), b"/c": None}, "updated: 1 changed, 2 gone: /a and 2 more"),
    ],
)
def test_it_says_what_it_does(resources: dict[bytes, Entry | Redirect | None], told: str) -> None:
    assert patch_of(resources).told() == told


def test_when_it_is_applied_it_lets_go_of_all() -> None:
    keys = [b"/a"]
    patch = Patch({b"/a": entry(b"/a")}, [], [keys])
    patch.clear()
    assert (len(patch.resources), keys) == (0, [])

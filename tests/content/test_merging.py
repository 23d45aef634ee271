"""zcserve.content.merging: what one generation takes from another, and what it leaves while files are written."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.support.contents import Shop
from tests.support.trees import entry_of, publish
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation
from zcserve.cache.patch import Patch
from zcserve.cache.watcher import Watcher
from zcserve.content.builder import read_all
from zcserve.content.merging import difference, leave_out, take_from

Open = Callable[..., Shop]
FILES = {"a b": b"0", "page": b"1", "page.gz": b"g", "other": b"2", "d/index.html": b"3", "d/more": b"4"}


def write_some(path: Path) -> IO[bytes]:
    """Begin to write a file, and leave it open."""
    file = path.open("wb", buffering=0)
    file.write(b"half")
    return file


class Written:
    """A site of which a patch was made while one of its files was written."""

    def __init__(self, shop: Shop, name: str) -> None:
        built = shop.build()
        assert built.watcher is not None
        self.known: Generation = built.generation
        self.watcher: Watcher = built.watcher
        with write_some(shop.tree.path / name):
            read_all(self.watcher)
            fresh = shop.tree.walk()
        self.patch = Patch(dict(fresh.resources), [])

    def leave_out(self, *keys: bytes) -> tuple[set[bytes], list[bytes]]:
        """Which keys left the patch, and those of the entries that are not needed for it, in order."""
        before = set(self.patch.resources)
        left = leave_out(self.patch, list(keys) or before, self.known, self.watcher)
        return before - set(self.patch.resources), sorted(entry.key for entry in left)


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("other", {b"/other"}),
        ("a b", {b"/a%20b"}),
        ("page", {b"/page"}),
        ("page.gz", {b"/page", b"/page.gz"}),  # the file that it is a sibling of
        ("d/more", {b"/d/more"}),
    ],
)
def test_what_was_written_meanwhile_leaves_the_patch(shop: Open, name: str, out: set[bytes]) -> None:
    written = Written(shop(FILES, trust_siblings=True), name)
    assert written.leave_out() == (out, sorted(out))


def test_a_directory_whose_index_was_written_leaves_with_all_its_keys_and_the_entry_is_told_once(shop: Open) -> None:
    shop_ = shop(FILES)
    written = Written(shop_, "d/index.html")
    keys, entries = written.leave_out()
    assert keys == {b"/d", b"/d/", b"/d/index.html"}
    assert entries == [b"/d/index.html"]


def test_an_index_that_stood_there_before_counts_where_the_patch_has_none(shop: Open) -> None:
    written = Written(shop(FILES), "d/index.html")
    written.patch.resources[b"/d/"] = None
    keys, _ = written.leave_out()
    assert keys == {b"/d", b"/d/", b"/d/index.html"}


def test_only_the_keys_that_are_asked_about_leave(shop: Open) -> None:
    written = Written(shop(FILES), "other")
    assert written.leave_out(b"/page", b"/d/more") == (set(), [])
    assert written.leave_out(b"/other") == ({b"/other"}, [b"/other"])


def test_where_nothing_is_written_nothing_leaves(shop: Open) -> None:
    shop_ = shop(FILES)
    built = shop_.build()
    assert built.watcher is not None
    publish(shop_.tree.path / "other", b"new")
    read_all(built.watcher)
    built.watcher.take(time.monotonic() + 60)  # all is whole, and told
    patch = Patch(dict(shop_.tree.walk().resources), [])
    assert leave_out(patch, list(patch.resources), built.generation, built.watcher) == []
    assert b"/other" in patch.resources


# --- what another generation knows ------------------------------------------------------------------------------------


def two(shop: Open) -> tuple[Shop, Generation, Generation]:
    """What is live, and the next generation, which shares nothing with it."""
    one = shop(FILES, trust_siblings=True)
    return one, one.tree.walk(), one.tree.walk()


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (b"other", {b"/other"}),
        (b"page.gz", {b"/page.gz", b"/page"}),
        (b"d/index.html", {b"/d/index.html", b"/d/", b"/d"}),
        (b"absent", set()),
    ],
)
def test_what_is_taken_of_a_file_is_all_that_depends_on_it(shop: Open, path: bytes, keys: set[bytes]) -> None:
    _, live, generation = two(shop)
    before = dict(generation.resources)
    assert take_from(live, generation, path) == keys
    for key, resource in before.items():
        expected = live.resources[key] if key in keys else resource
        assert generation.resources[key] is expected


def test_what_the_live_one_does_not_have_goes_and_what_it_has_comes(shop: Open) -> None:
    one, live, _ = two(shop)
    (one.tree.path / "other").unlink()
    one.tree.plant({"new": b"x", "c d": b"x"})
    generation = one.tree.walk()
    assert take_from(live, generation, b"other") == {b"/other"}
    assert generation.resources[b"/other"] is live.resources[b"/other"]
    assert take_from(live, generation, b"new") == {b"/new"}
    assert b"/new" not in generation.resources
    assert take_from(live, generation, b"c d") == {b"/c%20d"}
    assert take_from(live, generation, b"new") == set()  # both know the same


def test_an_index_that_only_one_of_them_has_takes_its_directory_along(shop: Open) -> None:
    one, live, _ = two(shop)
    (one.tree.path / "d/index.html").unlink()
    generation = one.tree.walk()
    assert b"/d/" not in generation.resources
    assert take_from(live, generation, b"d/index.html") == {b"/d/index.html", b"/d/", b"/d"}
    assert generation.resources[b"/d/"] is live.resources[b"/d/"]
    one.tree.plant({"e/index.html": b"x"})
    later = one.tree.walk()
    assert take_from(live, later, b"e/index.html") == {b"/e/index.html", b"/e/", b"/e"}
    assert b"/e/" not in later.resources


# --- what differs -----------------------------------------------------------------------------------------------------


def test_keys_that_lead_elsewhere_or_nowhere_differ_and_new_ones_and_redirects_do_not(shop: Open) -> None:
    one = shop(FILES)
    last = one.build().generation
    publish(one.tree.path / "page", b"changed")
    (one.tree.path / "other").unlink()
    one.tree.plant({"new": b"x"})
    following = one.build(last=last).generation
    assert isinstance(following.resources[b"/d"], Redirect)
    assert entry_of(following, b"/d/more") is entry_of(last, b"/d/more")
    assert set(difference(last, following)) == {b"/page", b"/page.gz", b"/other"}
    assert set(difference(following, following)) == set()


def test_a_directory_that_became_a_file_differs(shop: Open) -> None:
    one = shop(FILES)
    last = one.build().generation
    (one.tree.path / "d").rename(one.tree.path / "e")
    (one.tree.path / "d").write_bytes(b"a file")
    following = one.build(last=last).generation
    assert isinstance(following.resources[b"/d"], Entry)
    assert set(difference(last, following)) == {b"/d", b"/d/", b"/d/index.html", b"/d/more"}

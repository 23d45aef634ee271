"""What the files of a directory become: entries with their times, and siblings as variants."""

from __future__ import annotations

import os
import time

import pytest

from tests.support.trees import Tree, codings, date, entry_of, keys, no_descriptors_left, problems, rewrite
from zcserve.cache.entry import Entry, Sibling, identity_of
from zcserve.cache.naming import path_of
from zcserve.cache.pairing import entry_at
from zcserve.cache.root import Root
from zcserve.http import format_date

YEAR_NS = 365 * 86400 * 10**9


# --- entries ----------------------------------------------------------------------------------------------


def test_an_entry_is_its_files_status(tree: Tree) -> None:
    tree.plant({"a.txt": b"four"})
    status = (tree.path / "a.txt").stat()
    entry = entry_of(tree.walk(), b"/a.txt")
    assert (entry.size, entry.identity) == (4, identity_of(status))
    assert (entry.encoding, entry.etag, entry.body, entry.made, entry.variants) == (b"", b"", None, False, ())


@pytest.mark.parametrize(
    ("mtime_ns", "expected"),
    [
        (0, 0),
        (1, 0),
        (999_999_999, 0),
        (1_500_000_000, 1),
        (784111777 * 10**9, 784111777),
        (-1, None),
        (-1_000_000_000, None),
        (-30 * YEAR_NS, None),
    ],
)
def test_last_modified_is_whole_seconds_from_1970_on(tree: Tree, mtime_ns: int, expected: int | None) -> None:
    tree.plant({"a.txt": b"x"})
    os.utime(tree.path / "a.txt", ns=(0, mtime_ns))
    assert (tree.path / "a.txt").stat().st_mtime_ns == mtime_ns
    assert entry_of(tree.walk(), b"/a.txt").modified == expected


@pytest.mark.parametrize("years", [1, 60, 200])
def test_last_modified_is_never_in_the_future(tree: Tree, years: int) -> None:
    tree.plant({"a.txt": b"x"})
    os.utime(tree.path / "a.txt", ns=(0, time.time_ns() + years * YEAR_NS))
    assert entry_of(tree.walk(now=1_000_000_000.9), b"/a.txt").modified == 1_000_000_000
    modified = entry_of(tree.walk(), b"/a.txt").modified
    assert modified is not None
    assert modified <= time.time()


def test_a_file_dated_after_2262_is_served(tree: Tree) -> None:
    tree.plant({"a.txt": b"x"})
    seconds = 10_000_000_000  # the year 2286
    os.utime(tree.path / "a.txt", (0, seconds))
    if (tree.path / "a.txt").stat().st_mtime != seconds:
        pytest.skip("this file system does not keep such a time")
    assert format_date(entry_of(tree.walk(), b"/a.txt").modified or 0)


# --- siblings ---------------------------------------------------------------------------------------------


def test_siblings_are_variants_and_files_of_their_own(tree: Tree) -> None:
    tree.plant({"a.css": b"x" * 9, "a.css.br": b"xxx", "a.css.zst": b"xxxx", "a.css.gz": b"xxxxx"})
    date(tree, a_css=100, a_css_br=100, a_css_zst=200, a_css_gz=300)
    generation = tree.walk()
    assert set(generation.resources) == {b"/a.css", b"/a.css.br", b"/a.css.zst", b"/a.css.gz"}
    entry = entry_of(generation, b"/a.css")
    for variant in entry.variants:
        own = entry_of(generation, b"/" + path_of(variant))
        assert isinstance(own, Sibling)
        assert own.variant is variant
        assert (own.encoding, own.identity, own.is_variant) == (b"", variant.identity, True)
    assert {(variant.encoding, variant.size, variant.modified) for variant in entry.variants} == {
        (b"br", 3, 100),
        (b"zstd", 4, 200),
        (b"gzip", 5, 300),
    }
    for variant in entry.variants:
        assert variant.key == b"/a.css"
        assert not variant.made
        ending = {b"br": "br", b"zstd": "zst", b"gzip": "gz"}[variant.encoding]
        assert variant.identity == identity_of((tree.path / f"a.css.{ending}").stat())


def test_a_compressed_file_without_a_base_is_a_resource(tree: Tree) -> None:
    tree.plant({"a.tar.gz": b"x", "b.br": b"x", "d.zst/a.txt": b"x", "gz": b"x", "e": b"x", "e.gz": b"x"})
    generation = tree.walk()
    assert keys(generation) == {b"/a.tar.gz", b"/b.br", b"/d.zst/a.txt", b"/gz", b"/e", b"/e.gz"}
    assert codings(entry_of(generation, b"/e")) == [b"gzip"]


def test_a_directory_is_no_base(tree: Tree) -> None:
    tree.plant({"d/a.txt": b"x", "d.gz": b"x"})
    assert keys(tree.walk()) == {b"/d/a.txt", b"/d.gz"}


def test_a_sibling_older_than_its_base_is_reported_and_a_file_and_no_variant(tree: Tree) -> None:
    tree.plant({"d/a.css": b"x", "d/a.css.gz": b"x", "d/a.css.br": b"x"})
    os.utime(tree.path / "d/a.css", ns=(0, 10**18))
    os.utime(tree.path / "d/a.css.gz", ns=(0, 10**18 - 1))
    os.utime(tree.path / "d/a.css.br", ns=(0, 10**18))
    generation = tree.walk()
    assert keys(generation) == {b"/d/a.css", b"/d/a.css.gz", b"/d/a.css.br"}
    assert codings(entry_of(generation, b"/d/a.css")) == [b"br"]
    assert not entry_of(generation, b"/d/a.css.gz").is_variant
    assert problems(generation) == {"d/a.css.gz": "is older than a.css: served under its own name only"}


def test_a_symlink_may_be_a_sibling_or_have_one(tree: Tree) -> None:
    tree.plant({"a.css": b"x", "packed": b"gz", "b.css.gz": b"gz"})
    date(tree, a_css=100, packed=100, b_css_gz=100)
    (tree.path / "a.css.gz").symlink_to("packed")
    (tree.path / "b.css").symlink_to("a.css")
    generation = tree.walk()
    assert keys(generation) == {b"/a.css", b"/a.css.gz", b"/b.css", b"/b.css.gz", b"/packed"}
    assert codings(entry_of(generation, b"/a.css")) == codings(entry_of(generation, b"/b.css")) == [b"gzip"]


def test_a_siblings_sibling_is_a_variant_of_that(tree: Tree) -> None:
    tree.plant({"a.css": b"x", "a.css.gz": b"x", "a.css.gz.br": b"x"})
    date(tree, a_css=100, a_css_gz=100, a_css_gz_br=100)
    generation = tree.walk()
    assert keys(generation) == {b"/a.css", b"/a.css.gz", b"/a.css.gz.br"}
    assert codings(entry_of(generation, b"/a.css")) == [b"gzip"]
    assert codings(entry_of(generation, b"/a.css.gz")) == [b"br"]


# --- one file, looked at again ----------------------------------------------------------------------------


def renewed(root: Root, entry: Entry) -> Entry:
    fresh = entry_at(root, entry.key)
    assert fresh is not None
    assert fresh is not entry
    assert fresh.key == entry.key
    return fresh


def test_a_renewed_entry_is_what_a_walk_would_find(tree: Tree) -> None:
    tree.plant({"d/a b.css": b"one", "d/a b.css.gz": b"gz", "d/a b.css.br": b"br"})
    root, entry = tree.entry(b"/d/a%20b.css")
    rewrite(tree.path / "d/a b.css", b"another")
    rewrite(tree.path / "d/a b.css.br", b"another br")
    os.utime(tree.path / "d/a b.css.gz", (0, 0))
    fresh = renewed(root, entry)
    _, walked = tree.entry(b"/d/a%20b.css")
    for one, other in zip((fresh, *fresh.variants), (walked, *walked.variants), strict=True):
        assert (one.identity, one.size, one.modified, one.encoding, one.made) == (
            other.identity,
            other.size,
            other.modified,
            other.encoding,
            other.made,
        )
    assert [variant.encoding for variant in fresh.variants] == [b"br"]


def test_a_sibling_that_came_or_went_is_seen(tree: Tree) -> None:
    tree.plant({"a.css": b"x", "a.css.gz": b"gz"})
    root, entry = tree.entry(b"/a.css")
    (tree.path / "a.css.gz").unlink()
    (tree.path / "a.css.zst").write_bytes(b"zst")
    assert [variant.encoding for variant in renewed(root, entry).variants] == [b"zstd"]


def test_a_time_in_the_future_is_not_renewed_either(tree: Tree) -> None:
    tree.plant({"a": b"x"})
    root, entry = tree.entry(b"/a")
    os.utime(tree.path / "a", (0, 4102444800))
    modified = renewed(root, entry).modified
    assert modified is not None
    assert modified < 4102444800


def test_a_file_that_cannot_be_opened_for_lack_of_descriptors_is_not_taken_for_gone(tree: Tree) -> None:
    tree.plant({"a": b"x"})
    root, entry = tree.entry(b"/a")
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files"):
        entry_at(root, entry.key)

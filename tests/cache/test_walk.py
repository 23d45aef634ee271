"""What a walk finds: names, links, siblings, times. The law of keys is in test_walk_laws.py."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import Tree, as_nobody, descriptors, entry_of

from zcserve.cache.entry import Entry, Redirect, identity_of
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.cache.walk import walk
from zcserve.errors import UsageError
from zcserve.http import format_date

YEAR_NS = 365 * 86400 * 10**9


def keys(generation: Generation) -> set[bytes]:
    """Where files are, without directories and redirects."""
    return {entry.key for entry in generation.entries()}


def problems(generation: Generation) -> dict[str, str]:
    assert len({problem.path for problem in generation.problems}) == len(generation.problems)
    return {problem.path: problem.why for problem in generation.problems}


def codings(entry: Entry) -> list[bytes]:
    return [variant.encoding for variant in entry.variants]


# --- names ------------------------------------------------------------------------------------------------


def test_an_empty_root_is_an_empty_generation(tree: Tree) -> None:
    generation = tree.walk()
    assert generation.resources == {}
    assert generation.problems == []


def test_every_file_has_its_key(tree: Tree) -> None:
    tree.plant({"a.txt": b"a", "d/b.txt": b"bb", "d/e/c": b"", "f/g/h/i.j": b"x"})
    generation = tree.walk()
    assert keys(generation) == {b"/a.txt", b"/d/b.txt", b"/d/e/c", b"/f/g/h/i.j"}
    assert generation.problems == []


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a b.txt", b"/a%20b.txt"),
        ("100%.txt", b"/100%25.txt"),
        ("%41.txt", b"/%2541.txt"),
        ("%2e%2e", b"/%252e%252e"),
        ("what?.txt", b"/what%3F.txt"),
        ("a#b", b"/a%23b"),
        ("ä.txt", b"/%C3%A4.txt"),
        ("日本", b"/%E6%97%A5%E6%9C%AC"),
        ("a+b&c=d;e", b"/a+b&c=d;e"),
        ("~user@host:80,(1)!$'*", b"/~user@host:80,(1)!$'*"),
        ("back\\slash", b"/back%5Cslash"),
        ("new\nline", b"/new%0Aline"),
        ("...", None),
        ("tab\t", b"/tab%09"),
        ("index.html", b"/index.html"),
    ],
)
def test_names_are_encoded_as_a_canonical_path_is(tree: Tree, name: str, key: bytes | None) -> None:
    tree.plant({name: b"x", f"d {name}/{name}": b"x"} if key else {name: b"x"})
    expected = {key, b"/d%20" + key[1:] + key} if key else set()
    assert keys(tree.walk()) == expected


def test_dotfiles_are_not_served_and_not_reported(tree: Tree) -> None:
    tree.plant({".htpasswd": b"x", ".git/config": b"x", "d/.hidden/a": b"x", "d/.env": b"x", "d/seen": b"x"})
    generation = tree.walk()
    assert keys(generation) == {b"/d/seen"}
    assert generation.problems == []


def test_well_known_is_served_at_the_top_and_only_there(tree: Tree) -> None:
    tree.plant(
        {
            ".well-known/security.txt": b"x",
            ".well-known/acme/token": b"x",
            ".well-known/.hidden": b"x",
            ".well-known/.well-known/a": b"x",
            "d/.well-known/a": b"x",
            ".well-known2/a": b"x",
        }
    )
    assert keys(tree.walk()) == {b"/.well-known/security.txt", b"/.well-known/acme/token"}


def test_a_name_that_is_not_utf8_is_reported(tree: Tree) -> None:
    for name in (b"\xff.txt", b"caf\xe9"):
        (tree.path / os.fsdecode(name)).write_bytes(b"x")
    directory = tree.path / os.fsdecode(b"d\xff")
    directory.mkdir()
    (directory / "a.txt").write_bytes(b"x")
    tree.plant({"good.txt": b"x"})
    generation = tree.walk()
    assert keys(generation) == {b"/good.txt"}
    assert [problem.why for problem in generation.problems] == ["its name is not UTF-8"] * 3


def test_every_problem_can_be_printed_and_tells_names_apart(tree: Tree) -> None:
    tree.plant({"d/\u00e9.txt": b"x", "d/\u00e9.txt.gz": b"x"})
    date(tree, **{"d/\u00e9_txt_gz": 0})
    (tree.path / "d" / os.fsdecode(b"\xfe.txt")).write_bytes(b"x")
    (tree.path / "d" / os.fsdecode(b"\xff.txt")).symlink_to("nowhere")
    assert problems(tree.walk()) == {
        "d/\\xfe.txt": "its name is not UTF-8",
        "d/\\xff.txt": "No such file or directory",
        "d/\u00e9.txt.gz": "is older than \u00e9.txt: not used",
    }


def test_every_problem_of_a_name_that_is_not_utf8_can_be_printed(tree: Tree) -> None:
    (tree.path / os.fsdecode(b"\xff.txt")).symlink_to("nowhere")
    (problem,) = tree.walk().problems
    assert problem.path.encode().decode() == problem.path


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


# --- directories ------------------------------------------------------------------------------------------


def test_a_directory_answers_with_its_index_and_redirects_without_its_slash(tree: Tree) -> None:
    tree.plant({"index.html": b"top", "d/index.html": b"d", "d e/index.html": b"x"})
    resources = tree.walk().resources
    assert resources[b"/"] is resources[b"/index.html"]
    assert resources[b"/d/"] is resources[b"/d/index.html"]
    assert resources[b"/d%20e/"] is resources[b"/d%20e/index.html"]
    for key in (b"/d", b"/d%20e"):
        redirect = resources[key]
        assert isinstance(redirect, Redirect)
        assert redirect.location == key + b"/"
    assert b"" not in resources


def test_a_directory_without_an_index_is_no_resource(tree: Tree) -> None:
    tree.plant({"d/a.txt": b"x", "d/e/index.html": b"x"})
    resources = tree.walk().resources
    assert not {b"/", b"/d", b"/d/"} & set(resources)
    assert {b"/d/e", b"/d/e/"} <= set(resources)


@pytest.mark.parametrize(
    ("names", "index", "expected"),
    [
        (("index.html", "index.htm"), ("index.html", "index.htm"), b"/index.html"),
        (("index.html", "index.htm"), ("index.htm", "index.html"), b"/index.htm"),
        (("index.htm",), ("index.html", "index.htm"), b"/index.htm"),
        (("default.asp", "index.html"), ("default.asp",), b"/default.asp"),
        (("start seite.html",), ("start seite.html",), b"/start%20seite.html"),
    ],
)
def test_the_first_index_name_that_exists_stands_for_the_directory(
    tree: Tree, names: tuple[str, ...], index: tuple[str, ...], expected: bytes
) -> None:
    tree.plant(dict.fromkeys(names, b"x"))
    assert entry_of(tree.walk(*index), b"/").key == expected


def test_a_directory_named_like_an_index_is_none(tree: Tree) -> None:
    tree.plant({"index.html/a.txt": b"x"})
    assert set(tree.walk().resources) == {b"/index.html/a.txt"}


def test_a_sibling_is_no_index(tree: Tree) -> None:
    tree.plant({"index.html": b"x", "index.html.gz": b"x"})
    assert entry_of(tree.walk("index.html.gz", "index.html"), b"/").key == b"/index.html"


# --- symlinks and what is no file -------------------------------------------------------------------------


def test_symlinks_inside_the_root_are_followed(tree: Tree) -> None:
    tree.plant({"a.txt": b"inside", "d/b.txt": b"b", ".hidden/c.txt": b"c"})
    (tree.path / "link.txt").symlink_to("a.txt")
    (tree.path / "absolute.txt").symlink_to(tree.path / "a.txt")
    (tree.path / "chain.txt").symlink_to("link.txt")
    (tree.path / "dirlink").symlink_to("d")
    (tree.path / "named.txt").symlink_to(".hidden/c.txt")
    generation = tree.walk()
    assert keys(generation) == {
        b"/a.txt",
        b"/d/b.txt",
        b"/link.txt",
        b"/absolute.txt",
        b"/chain.txt",
        b"/dirlink/b.txt",
        b"/named.txt",
    }
    assert entry_of(generation, b"/link.txt").size == 6
    assert entry_of(generation, b"/link.txt").identity == entry_of(generation, b"/a.txt").identity
    assert generation.problems == []


def link_to_file(path: Path) -> None:
    (path / "x").symlink_to("../outside/secret.txt")


def link_to_directory(path: Path) -> None:
    (path / "x").symlink_to("../outside")


def link_up(path: Path) -> None:
    (path / "x").symlink_to("..")


def link_to_device(path: Path) -> None:
    (path / "x").symlink_to("/dev/null")


def link_through_outside(path: Path) -> None:
    (path.parent / "outside" / "back").symlink_to("secret.txt")
    (path / "x").symlink_to("../outside/back")


@pytest.mark.parametrize("make", [link_to_file, link_to_directory, link_up, link_to_device, link_through_outside])
def test_symlinks_that_leave_the_root_are_refused_and_reported(
    tree: Tree, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_bytes(b"secret")
    tree.plant({"a.txt": b"x"})
    make(tree.path)
    generation = tree.walk()
    assert keys(generation) == {b"/a.txt"}
    assert problems(generation) == {"x": "is a symlink that leads outside the root"}


def test_a_directory_whose_name_begins_like_the_roots_is_outside(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "www-secret").mkdir()
    (tmp_path / "www-secret" / "key").write_bytes(b"x")
    (tree.path / "x").symlink_to("../www-secret/key")
    assert keys(tree.walk()) == set()


def test_a_link_that_leaves_and_comes_back_is_inside(tree: Tree) -> None:
    tree.plant({"a.txt": b"x"})
    (tree.path / "x").symlink_to("../www/a.txt")
    assert keys(tree.walk()) == {b"/a.txt", b"/x"}


def dangling(path: Path) -> None:
    (path / "x").symlink_to("nowhere")


def loop(path: Path) -> None:
    (path / "x").symlink_to("x")


def fifo(path: Path) -> None:
    os.mkfifo(path / "x")


def unix_socket(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/x")  # the socket's own path may be too long
    os.close(directory)


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path / ".fifo")
    (path / "x").symlink_to(".fifo")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (dangling, "No such file or directory"),
        (loop, "Too many levels of symbolic links"),
        (fifo, "is not a regular file"),
        (unix_socket, "is not a regular file"),
        (link_to_fifo, "is not a regular file"),
    ],
)
def test_what_cannot_be_served_is_skipped_and_reported(tree: Tree, make: Callable[[Path], None], why: str) -> None:
    tree.plant({"a.txt": b"x", "y.txt": b"x"})
    make(tree.path)
    generation = tree.walk()
    assert keys(generation) == {b"/a.txt", b"/y.txt"}
    assert problems(generation) == {"x": why}


def test_a_link_to_a_directory_above_ends_there(tree: Tree) -> None:
    tree.plant({"d/e/a.txt": b"x"})
    (tree.path / "d" / "e" / "up").symlink_to("..")
    (tree.path / "d" / "top").symlink_to(tree.path)
    (tree.path / "here").symlink_to(".")
    generation = tree.walk()
    assert keys(generation) == {b"/d/e/a.txt"}
    assert set(problems(generation)) == {"d/e/up", "d/top", "here"}


def test_two_directories_that_link_to_each_other_end(tree: Tree) -> None:
    tree.plant({"a/x.txt": b"x", "b/y.txt": b"y"})
    (tree.path / "a" / "b").symlink_to("../b")
    (tree.path / "b" / "a").symlink_to("../a")
    generation = tree.walk()
    assert keys(generation) == {b"/a/x.txt", b"/a/b/y.txt", b"/b/y.txt", b"/b/a/x.txt"}
    assert set(problems(generation)) == {"a/b/a", "b/a/b"}


# --- siblings ---------------------------------------------------------------------------------------------


def date(tree: Tree, **seconds: int) -> None:
    """Set mtimes; names with dots as keyword arguments spell them with underscores."""
    for name, mtime in seconds.items():
        os.utime(tree.path / name.replace("_", "."), (0, mtime))


def test_siblings_are_variants_and_no_resources(tree: Tree) -> None:
    tree.plant({"a.css": b"x" * 9, "a.css.br": b"xxx", "a.css.zst": b"xxxx", "a.css.gz": b"xxxxx"})
    date(tree, a_css=100, a_css_br=100, a_css_zst=200, a_css_gz=300)
    generation = tree.walk()
    assert set(generation.resources) == {b"/a.css"}
    entry = entry_of(generation, b"/a.css")
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
    assert keys(generation) == {b"/a.tar.gz", b"/b.br", b"/d.zst/a.txt", b"/gz", b"/e"}
    assert codings(entry_of(generation, b"/e")) == [b"gzip"]


def test_a_directory_is_no_base(tree: Tree) -> None:
    tree.plant({"d/a.txt": b"x", "d.gz": b"x"})
    assert keys(tree.walk()) == {b"/d/a.txt", b"/d.gz"}


def test_a_sibling_older_than_its_base_is_reported_and_neither_used_nor_served(tree: Tree) -> None:
    tree.plant({"d/a.css": b"x", "d/a.css.gz": b"x", "d/a.css.br": b"x"})
    os.utime(tree.path / "d/a.css", ns=(0, 10**18))
    os.utime(tree.path / "d/a.css.gz", ns=(0, 10**18 - 1))
    os.utime(tree.path / "d/a.css.br", ns=(0, 10**18))
    generation = tree.walk()
    assert keys(generation) == {b"/d/a.css"}
    assert codings(entry_of(generation, b"/d/a.css")) == [b"br"]
    assert problems(generation) == {"d/a.css.gz": "is older than a.css: not used"}


def test_a_symlink_may_be_a_sibling_or_have_one(tree: Tree) -> None:
    tree.plant({"a.css": b"x", "packed": b"gz", "b.css.gz": b"gz"})
    date(tree, a_css=100, packed=100, b_css_gz=100)
    (tree.path / "a.css.gz").symlink_to("packed")
    (tree.path / "b.css").symlink_to("a.css")
    generation = tree.walk()
    assert keys(generation) == {b"/a.css", b"/b.css", b"/packed"}
    assert codings(entry_of(generation, b"/a.css")) == codings(entry_of(generation, b"/b.css")) == [b"gzip"]


def test_a_siblings_sibling_is_served_or_reported(tree: Tree) -> None:
    tree.plant({"a.css": b"x", "a.css.gz": b"x", "a.css.gz.br": b"x"})
    date(tree, a_css=100, a_css_gz=100, a_css_gz_br=100)
    generation = tree.walk()
    assert keys(generation) == {b"/a.css", b"/a.css.gz.br"}
    assert codings(entry_of(generation, b"/a.css")) == [b"gzip"]
    assert codings(entry_of(generation, b"/a.css.gz.br")) == []


# --- the walk itself --------------------------------------------------------------------------------------


def test_progress_is_told_after_each_directory(tree: Tree) -> None:
    tree.plant({"a": b"", "b": b"", "d/c": b"", "e/f/g": b""})
    told: list[int] = []
    walk(Root(tree.path), index=(), progress=told.append)
    assert told == [2, 3, 3, 4]


def test_a_walk_leaves_only_the_roots_descriptor_open(tree: Tree) -> None:
    tree.plant({"a": b"", "d/e/f": b""})
    (tree.path / "link").symlink_to("d")
    (tree.path / "out").symlink_to("/etc")
    before = descriptors(tree.path.parent)
    generation = tree.walk()
    assert descriptors(tree.path.parent) == before + 1
    del generation
    assert descriptors(tree.path.parent) == before


def test_the_same_tree_is_walked_in_the_same_order(tree: Tree, tmp_path: Path) -> None:
    names = [f"{letter}/{number}.txt" for letter in "dabc" for number in (3, 1, 2)]
    other = Tree(tmp_path / "other")
    tree.plant(dict.fromkeys(names, b""))
    other.plant(dict.fromkeys(reversed(names), b""))
    assert list(tree.walk().resources) == list(other.walk().resources)


def test_deep_directories_are_walked(tree: Tree) -> None:
    path = "/".join("d" * 90)
    tree.plant({f"{path}/a.txt": b"x"})
    assert keys(tree.walk()) == {f"/{path}/a.txt".encode()}


def test_a_directory_that_may_not_be_read_is_reported(tree: Tree) -> None:
    tree.plant({"closed/a.txt": b"x", "open/b.txt": b"x"})
    for name, mode in (("open", 0o755), ("closed", 0)):
        (tree.path / name).chmod(mode)
    root = Root(tree.path)
    try:
        with as_nobody():
            generation = walk(root, index=())
    finally:
        (tree.path / "closed").chmod(0o755)
    assert keys(generation) == {b"/open/b.txt"}
    assert problems(generation) == {"closed/": "Permission denied"}


def test_a_root_that_cannot_be_read_any_more_is_the_users_mistake(tree: Tree) -> None:
    root = Root(tree.path)
    tree.path.chmod(0)
    try:
        with as_nobody(), pytest.raises(UsageError, match="cannot be read"):
            walk(root, index=())
    finally:
        tree.path.chmod(0o755)


def test_a_root_that_vanished_is_empty(tree: Tree) -> None:
    root = Root(tree.path)
    tree.path.rmdir()
    assert walk(root, index=()).resources == {}

"""What a walk finds: names, links, directories, and what it takes over. The law of keys is in test_walk_laws.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.trees import (
    Tree,
    as_nobody,
    date,
    descriptors,
    entry_of,
    keys,
    noise,
    problems,
    publish,
    renew_ctime,
    rewrite,
    rewrite_unseen,
)
from zcserve.cache import pairing
from zcserve.cache import walk as walk_module
from zcserve.cache.doubt import confirm
from zcserve.cache.entry import Body, Entry, Redirect, Sibling, SiblingVariant, identity_of
from zcserve.cache.index import Generation
from zcserve.cache.listing import Listing, Resource
from zcserve.cache.root import Root
from zcserve.cache.tags import PIECE_BYTES, identity_tag, tag_of
from zcserve.cache.walk import Changes, walk, walk_again
from zcserve.errors import UsageError

YEAR_NS = 365 * 86400 * 10**9


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


def test_a_name_that_is_not_utf8_is_its_bytes(tree: Tree, engine: str) -> None:
    for name in (b"\xff.txt", b"caf\xe9"):
        (tree.path / os.fsdecode(name)).write_bytes(b"x")
    directory = tree.path / os.fsdecode(b"d\xff")
    directory.mkdir()
    (directory / "a.txt").write_bytes(b"x")
    tree.plant({"good.txt": b"x"})
    generation = tree.walk()
    assert keys(generation) == {b"/good.txt", b"/%FF.txt", b"/caf%E9", b"/d%FF/a.txt"}
    assert generation.problems == []
    again = tree.walk(last=generation)
    assert all(again.resources[key] is resource for key, resource in generation.resources.items())


def test_every_problem_can_be_printed_and_tells_names_apart(tree: Tree) -> None:
    tree.plant({"d/\u00e9.txt": b"x", "d/\u00e9.txt.gz": b"x"})
    date(tree, **{"d/\u00e9_txt_gz": 0})
    os.mkfifo(tree.path / "d" / os.fsdecode(b"\xfe.txt"))
    (tree.path / "d" / os.fsdecode(b"\xff.txt")).symlink_to("nowhere")
    assert problems(tree.walk()) == {
        "d/\\xfe.txt": "is not a regular file",
        "d/\\xff.txt": "No such file or directory",
        "d/\u00e9.txt.gz": "is older than \u00e9.txt: served under its own name only",
    }


def test_every_problem_of_a_name_that_is_not_utf8_can_be_printed(tree: Tree) -> None:
    (tree.path / os.fsdecode(b"\xff.txt")).symlink_to("nowhere")
    (problem,) = tree.walk().problems
    assert problem.path.encode().decode() == problem.path


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


# --- the next walk ----------------------------------------------------------------------------------------


@pytest.fixture(params=["native", "python"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find out what is as it was; the compiled one where it is built."""
    if request.param == "native" and getattr(walk_module, "native", None) is None:
        pytest.skip("_walk.pyx is not built here")
    if request.param == "python":
        monkeypatch.setattr(walk_module, "native", None)
    assert isinstance(request.param, str)
    return request.param


def shared(last: Generation, now: Generation) -> set[bytes]:
    return {entry.key for entry in now.entries() if last.resources.get(entry.key) is entry}


def facts(generation: Generation) -> dict[bytes, object]:
    """All that a walk finds, in comparable form."""

    def of(resource: Resource) -> object:
        if not isinstance(resource, Entry):
            return resource.location if isinstance(resource, Redirect) else Listing
        variants = [(variant.encoding, variant.identity, variant.size) for variant in resource.variants]
        return resource.key, resource.identity, resource.size, resource.modified, variants

    return {key: of(resource) for key, resource in generation.resources.items()}


SITE = {
    "a.txt": b"a",
    "d/b c.txt": b"b",
    "d/\u00e9": b"e",
    "d/index.html": b"i",
    "d/e/c.css": b"c",
    "d/e/c.css.gz": b"z",
}


def touch(tree: Tree, name: str) -> None:
    rewrite(tree.path / name, b"x")


@pytest.mark.parametrize(
    ("change", "fresh"),
    [
        (lambda tree: None, set()),
        (lambda tree: touch(tree, "a.txt"), {b"/a.txt"}),
        (lambda tree: touch(tree, "d/b c.txt"), {b"/d/b%20c.txt"}),
        (lambda tree: touch(tree, "d/index.html"), {b"/d/index.html"}),
        (lambda tree: touch(tree, "d/e/c.css.gz"), {b"/d/e/c.css", b"/d/e/c.css.gz"}),
        (lambda tree: tree.plant({"a.txt.br": b"br"}), {b"/a.txt", b"/a.txt.br"}),
        (lambda tree: tree.plant({"a.txt.zst": b"zst"}), {b"/a.txt", b"/a.txt.zst"}),
        (lambda tree: (tree.path / "d/e/c.css.gz").unlink(), {b"/d/e/c.css"}),
        (lambda tree: (tree.path / "d/e/c.css").unlink(), {b"/d/e/c.css.gz"}),
        (lambda tree: tree.plant({"new": b"x", "d/.hidden": b"x"}), {b"/new"}),
        (lambda tree: (tree.path / "link").symlink_to("a.txt"), {b"/link"}),
        (lambda tree: publish(tree.path / "a.txt", b"a"), {b"/a.txt"}),
    ],
)
def test_entries_of_unchanged_files_are_taken_over_and_only_those(
    tree: Tree, engine: str, change: Callable[[Tree], None], fresh: set[bytes]
) -> None:
    tree.plant(SITE)
    last = tree.walk()
    change(tree)
    now = tree.walk(last=last)
    assert keys(now) - shared(last, now) == fresh
    assert facts(now) == facts(tree.walk())
    assert problems(now) == problems(tree.walk())


def test_a_file_where_a_directory_was_and_the_other_way_round(tree: Tree, engine: str) -> None:
    tree.plant({"d/a": b"x", "f": b"x", "index.html/a": b"x", "same": b"x"})
    last = tree.walk()
    for name in ("d/a", "index.html/a", "f"):
        (tree.path / name).unlink()
    (tree.path / "d").rmdir()
    (tree.path / "index.html").rmdir()
    tree.plant({"d": b"x", "f/a": b"x", "index.html": b"x"})
    now = tree.walk(last=last)
    assert facts(now) == facts(tree.walk())
    assert shared(last, now) == {b"/same"}


def test_a_variant_that_was_made_is_no_change_and_one_that_was_found_is_none_of_those(tree: Tree, engine: str) -> None:
    tree.plant({"a.css": b"a", "b.css": b"b", "b.css.gz": b"z"})
    last = tree.walk()
    made = Entry(b"/a.css", b"", 1, None).coded(b"gzip", 1)
    entry_of(last, b"/a.css").variants = (made,)
    entry_of(last, b"/b.css").variants += (made,)
    assert shared(last, tree.walk(last=last)) == {b"/a.css", b"/b.css", b"/b.css.gz"}
    (tree.path / "b.css.gz").unlink()
    assert shared(last, tree.walk(last=last)) == {b"/a.css"}


def test_what_none_of_the_first_generation_is_may_be_of_another(tree: Tree, tmp_path: Path, engine: str) -> None:
    tree.plant({"a.css": b"a", "b.css": b"b", "b.css.gz": b"z", "c.css": b"c"})
    first = tree.walk()
    other = Tree(tmp_path / "other")
    other.path.mkdir()
    os.link(tree.path / "a.css", other.path / "a.css")
    other.plant({"b.css": b"another", "new.css": b"new"})
    second = other.walk()
    both = walk(Root(tree.path), index=(), known=(second, first))
    assert shared(first, both) == {b"/b.css", b"/b.css.gz", b"/c.css"}
    assert shared(second, both) == {b"/a.css"}
    assert facts(both) == facts(tree.walk())
    assert shared(second, walk(Root(other.path), index=(), known=(first, second))) == keys(second) - {b"/a.css"}


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys of files that Python compares with what is known of them."""
    told: list[bytes] = []

    def tell(root: Root, directory: int, name: bytes, entry: Entry) -> bool:
        told.append(entry.key)
        return confirm(root, directory, name, entry)

    monkeypatch.setattr(pairing, "confirm", tell)
    return told


def read(generation: Generation, tree: Tree) -> None:
    """Have each entry know what it would, were it in memory."""
    for entry in generation.entries():
        entry.etag, entry.body = tag_of((tree.path / entry.key[1:].decode()).read_bytes()), Body(entry.size)


def test_a_file_of_which_ctime_alone_is_another_is_what_it_was_where_its_content_is(
    tree: Tree, engine: str, compared: list[bytes]
) -> None:
    sizes = (0, 1, 15, 16, 17, 31, 32, 1000, PIECE_BYTES, PIECE_BYTES + 1)
    tree.plant({f"{size}": noise(size) for size in sizes})
    last = tree.walk()
    read(last, tree)
    for size in sizes:
        renew_ctime(tree.path / f"{size}")
    now = tree.walk(last=last)
    assert shared(last, now) == keys(now)
    assert facts(now) == facts(tree.walk())  # the new ctimes among them
    assert set(compared) == ({b"/%d" % (PIECE_BYTES + 1)} if engine == "native" else keys(now))
    for size in sizes[1:]:
        content = noise(size)
        rewrite_unseen(tree.path / f"{size}", content[:-1] + bytes((content[-1] ^ 1,)))
    before = facts(now)
    again = tree.walk(last=now)
    assert shared(now, again) == {b"/0"}
    assert facts(now) == before  # it says what it said: it may be served
    assert facts(again) == facts(tree.walk())


def test_many_files_with_new_ctimes_are_all_compared(tree: Tree, engine: str) -> None:
    """More than are compared at once, by number and by bytes."""
    large, files = 50_000, 300
    tree.plant({f"{number}": noise(large if number % 10 == 0 else 100) for number in range(files)})
    last = tree.walk()
    read(last, tree)
    for number in range(files):
        (renew_ctime if number % 50 else lambda path: rewrite_unseen(path, b"x" * large))(tree.path / f"{number}")
    now = tree.walk(last=last)
    assert keys(now) - shared(last, now) == {b"/%d" % number for number in range(0, files, 50)}
    assert facts(now) == facts(tree.walk())


def test_siblings_with_new_ctimes_are_what_they_were_where_their_content_is(
    tree: Tree, engine: str, compared: list[bytes]
) -> None:
    files = {"a.css": b"a" * 100, "a.css.br": b"brotli", "a.css.gz": b"gzip", "b": b"b"}
    tree.plant(files)
    last = tree.walk()
    for entry in last.entries():  # siblings are held as variants
        held = entry.variant if isinstance(entry, Sibling) else entry
        held.etag, held.body = tag_of(files[entry.key[1:].decode()]), Body(entry.size)
    base = entry_of(last, b"/a.css")
    for variant in base.variants:
        assert isinstance(variant, SiblingVariant)
        variant.judged = base.identity
    for name in files:
        renew_ctime(tree.path / name)
    now = tree.walk(last=last)
    assert shared(last, now) == keys(now)
    assert facts(now) == facts(tree.walk())
    assert {variant.judged for variant in base.variants if isinstance(variant, SiblingVariant)} == {base.identity}
    assert set(compared) == (set() if engine == "native" else keys(now))
    compared.clear()
    rewrite_unseen(tree.path / "a.css.br", b"BROTLI")
    again = tree.walk(last=now)
    assert keys(again) - shared(now, again) == {b"/a.css"}  # of the sibling under its own name nothing was known
    assert facts(again) == facts(tree.walk())


def test_what_cannot_be_compared_by_its_etag_is_as_python_says(tree: Tree, engine: str, compared: list[bytes]) -> None:
    tree.plant(dict.fromkeys(("away", "closed", "large", "read", "unread"), b"content"))
    last = tree.walk()
    read(last, tree)
    entry_of(last, b"/away").body = None  # it is compared when it is loaded
    entry_of(last, b"/large").etag = identity_tag(b"any")  # which says nothing of its content
    entry_of(last, b"/unread").etag, entry_of(last, b"/unread").body = b"", None
    for name in ("away", "large", "read", "unread"):
        renew_ctime(tree.path / name)
    (tree.path / "closed").chmod(0)
    root = Root(tree.path)
    with as_nobody():
        now = walk(root, index=(), known=(last,))
    assert keys(now) - shared(last, now) == {b"/closed"}
    assert entry_of(now, b"/away").identity != identity_of((tree.path / "away").stat())
    assert set(compared) == keys(now) - ({b"/read"} if engine == "native" else set())


def test_many_names_in_one_directory_are_all_looked_at(tree: Tree, engine: str) -> None:
    tree.plant({f"{number}{'x' * (number % 200)}": b"x" for number in range(1000)})
    last = tree.walk()
    changed = {f"{number}{'x' * (number % 200)}" for number in range(0, 1000, 7)}
    for name in changed:
        rewrite(tree.path / name, b"y")
    told: list[int] = []
    now = walk(Root(tree.path), index=(), known=(last,), progress=told.append)
    assert keys(now) - shared(last, now) == {f"/{name}".encode() for name in changed}
    assert facts(now) == facts(tree.walk())
    assert told == [1000]


def test_a_walk_takes_stock_of_what_is_resident(tree: Tree, engine: str) -> None:
    tree.plant({"a.css": b"a", "a.css.gz": b"z", "b": b"bb", "c": b"ccc", "d/e": b"eeee"})
    last = tree.walk()
    assert last.stock is not None
    assert (last.stock.files, last.stock.bytes) == (0, 0)
    for key in (b"/a.css", b"/b", b"/c"):
        entry_of(last, key).body = Body(1)
    rewrite(tree.path / "c", b"c")
    now = tree.walk(last=last)
    assert now.stock is not None
    assert {entry.key for entry in now.stock.wanting} == {b"/a.css", b"/a.css.gz", b"/c", b"/d/e"}
    assert (now.stock.files, now.stock.bytes) == (1, 2)


def test_taking_over_leaves_no_descriptors_open(tree: Tree, engine: str) -> None:
    tree.plant(SITE)
    last = tree.walk()
    tree.walk(last=last)
    before = descriptors(tree.path)
    tree.walk(last=last)
    assert descriptors(tree.path) == before


def test_a_directory_that_goes_while_names_in_it_are_looked_at_is_another_change(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes once the directory has been opened: to open those above it again would fail."""
    tree.plant({"d/e/page": b"x", "other": b"x"})
    generation = tree.walk()
    inner = Root.open_directory

    def open_and_remove(root: Root, path: bytes) -> int:
        fd = inner(root, path)
        if path == b"d/e/":
            (tree.path / "d/e/page").unlink(missing_ok=True)
            (tree.path / "d/e").rmdir()
            (tree.path / "d").rmdir()
        return fd

    monkeypatch.setattr(Root, "open_directory", open_and_remove)
    walk_again(generation, Changes(names={b"d/e/": {b"page"}, b"": {b"other"}}), index=())

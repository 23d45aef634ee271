"""A release folder that is being made: what comes in, what stays after an interruption, what it takes to be named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from zcserve.fleet.folders import Folders
from zcserve.fleet.part import Content, Part, WrongContentError, holds
from zcserve.fleet.sharing import Sharer

TREE = "0" * 64


def content_of(what: bytes) -> Content:
    return len(what), sha256(what).hexdigest()


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    one = Folders(tmp_path).begin(TREE)
    yield one
    one.close()


def test_a_load_goes_on_where_it_ended(part: Part) -> None:
    size, digest = content_of(b"first, second")
    load = part.open_load(digest)
    load.write(b"first, ")
    load.close()
    assert part.loaded_bytes() == 7
    load = part.open_load(digest)
    assert load.size == 7
    load.write(b"second")
    load.require(size, digest)
    part.place(load, [(b"a", b"b"), (b"c",), (b"d", b"e")], Sharer())
    assert set(part.tree.files()) == {(b"a", b"b"), (b"c",), (b"d", b"e")}
    assert part.loaded_bytes() == 0
    assert holds(part.tree, (b"d", b"e"), (size, digest))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (b"short", "has 5 bytes, and the manifest says 7"),
        (b"too long", "has 8 bytes, and the manifest says 7"),
        (b"another", "has sha256 ae448ac86c4e8e4dec645729708ef41873ae79c6dff84eff73360989487f08e5, and"),
    ],
)
def test_a_load_of_another_content_says_how_it_differs(part: Part, what: bytes, said: str) -> None:
    size, digest = content_of(b"content")
    load = part.open_load(digest)
    load.write(what)
    with pytest.raises(WrongContentError, match=said):
        load.require(size, digest)
    load.restart()
    load.write(b"content")
    load.require(size, digest)
    load.close()


def test_what_an_earlier_run_left_is_read_again(part: Part, tmp_path: Path) -> None:
    right, wrong = content_of(b"right"), content_of(b"wrong")
    tree = tmp_path / f".part-{TREE}" / "tree"
    (tree / "a").mkdir()
    (tree / "a" / "right").write_bytes(b"right")
    (tree / "a" / "wrong").write_bytes(b"WRONG")  # a machine lost its power
    (tree / "short").write_bytes(b"")
    (tree / "stranger").write_bytes(b"right")
    (tree / "link").symlink_to("a/right")
    os.mkfifo(tree / "pipe")
    wanted = {
        (b"a", b"right"): right,
        (b"a", b"wrong"): wrong,
        (b"short",): right,
        (b"link",): right,
        (b"pipe",): right,
    }
    assert part.keep(wanted) == {(b"a", b"right")}
    assert set(part.tree.files()) == {(b"a", b"right")}


def test_all_that_comes_in_has_one_time_whatever_comes_first_and_in_which_run(part: Part, tmp_path: Path) -> None:
    tree = tmp_path / f".part-{TREE}"
    os.utime(tree / "began", (1000, 1000))  # the first run was long ago
    part.close()
    part = Folders(tmp_path).begin(TREE)
    for name, what in (("a.css.br", b"variant"), ("a.css", b"base")):
        load = part.open_load(content_of(what)[1])
        load.write(what)
        part.place(load, [(os.fsencode(name),)], Sharer())
        assert (tree / "tree" / name).stat().st_mtime == 1000
    part.close()

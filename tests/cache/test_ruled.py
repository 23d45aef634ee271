"""zcserve.cache.ruled: the rules that a root brings, which its walk passes over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.trees import Tree
from zcserve.cache.root import Root
from zcserve.cache.ruled import changed_files, open_root
from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.rules.book import Rulebook


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path / "root")
    made.plant({"a.html": b"a"})
    return made


def book_of(tree: Tree) -> Rulebook:
    return Rulebook(Config(root=tree.path))


def test_a_root_without_such_files_has_what_is_configured(tree: Tree) -> None:
    book = book_of(tree)
    root = open_root(tree.path, book)
    assert root.rules is book.rules()
    assert changed_files(root, book) == []


def test_what_the_files_say_are_rules_of_the_root(tree: Tree) -> None:
    tree.plant({"_headers": b"/a.html\n  X-A: 1\n", "_redirects": b"/old /a.html\n"})
    book = book_of(tree)
    root = open_root(tree.path, book)
    assert root.rules.fields_of(b"/a.html").lines == ((b"X-A", b"1"),)
    action = root.rules.answer(b"/old", None)
    assert action is not None
    assert action.location == b"/a.html"
    assert open_root(tree.path, book).rules is root.rules


def test_which_file_is_another_is_told(tree: Tree) -> None:
    tree.plant({"_headers": b"/a.html\n  X-A: 1\n"})
    book = book_of(tree)
    root = open_root(tree.path, book)
    tree.plant({"_headers": b"/a.html\n  X-A: 2\n"})
    assert changed_files(root, book) == [b"_headers"]
    tree.plant({"_redirects": b"/old /a.html\n"})
    assert changed_files(root, book) == [b"_headers", b"_redirects"]
    open_root(tree.path, book)
    (tree.path / "_headers").unlink()
    assert changed_files(root, book) == [b"_headers"]


def test_they_are_not_served_at_the_top_and_as_any_other_below(tree: Tree) -> None:
    tree.plant({"_headers": b"", "_redirects": b"", "sub/_headers": b"", "_other": b""})
    assert set(tree.walk().resources) == {b"/a.html", b"/sub/_headers", b"/_other"}


@pytest.mark.parametrize("kind", ["directory", "outside"])
def test_one_that_cannot_be_read_is_not_passed_over(tree: Tree, tmp_path: Path, kind: str) -> None:
    if kind == "directory":
        (tree.path / "_headers").mkdir()
    else:
        (tmp_path / "elsewhere").write_bytes(b"")
        os.symlink(tmp_path / "elsewhere", tree.path / "_headers")
    book = book_of(tree)
    with pytest.raises(UsageError, match="_headers of the root cannot be read: "):
        open_root(tree.path, book)
    assert changed_files(Root(tree.path), book) == [b"_headers", b"_redirects"]


def test_one_that_would_show_what_it_hides_is_refused(tree: Tree) -> None:
    tree.plant({"_headers": b"/a.html\n  Basic-Auth: a:b\n"})
    with pytest.raises(UsageError, match=r"_headers:2:3: Basic-Auth"):
        open_root(tree.path, book_of(tree))

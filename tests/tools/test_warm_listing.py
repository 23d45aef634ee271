"""The lines of a list, and the entries that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.warm.listing import find, read_list, resolve
from zcserve.cache.root import Root
from zcserve.cache.walk import walk


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"/index.html", b"/index.html"),
        (b"index.html", b"/index.html"),
        (b"./sub/index.html", b"/sub/index.html"),
        (b"./a b.txt", b"/a%20b.txt"),
        (b"/", b"/index.html"),
        (b"/sub/", b"/sub/index.html"),
        (b"/sub", b"/sub/index.html"),
        (b"a b.txt", b"/a%20b.txt"),
        (b"/a%20b.txt", b"/a%20b.txt"),
        (b"100%.txt", b"/100%25.txt"),
        (b"/100%25.txt", b"/100%25.txt"),
        ("/\xe4.svg".encode(), b"/%C3%A4.svg"),
        (b"/%c3%a4.svg", b"/%C3%A4.svg"),
        (b"/style.css?v=3", b"/style.css"),
        (b"style.css.gz", b"/style.css.gz"),
        (b"http://example.org:8080/style.css?v=3#top", b"/style.css"),
        (b"https://example.org/a%20b.txt", b"/a%20b.txt"),
        (b"https://example.org", b"/index.html"),
        (b"/../style.css", b"/style.css"),
        (b"style.css.br", None),
        (b"nowhere.html", None),
        (b"/index.html/", b"/index.html"),
        (b"/%zz", None),
        (b"/%00", None),
        (b"\xff", None),
    ],
)
def test_a_line_of_the_list_names_a_file(tree: Path, line: bytes, expected: bytes | None) -> None:
    entry = find(walk(Root(tree), index=("index.html",)), line)
    assert (entry.key if entry is not None else None) == expected


def test_a_list_has_comments_and_blank_lines_and_any_line_ending(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(b"# first\n\n/a\r\n  /b c \n\t# not this\n/d#e")
    assert read_list(str(file)) == [b"/a", b"/b c", b"/d#e"]


def test_what_is_listed_twice_counts_once_where_it_stood_first(tree: Path) -> None:
    generation = walk(Root(tree), index=("index.html",))
    found, unknown = resolve(generation, [b"style.css", b"/", b"gone", b"/style.css?v=2", b"index.html"])
    assert [entry.key for entry in found] == [b"/style.css", b"/index.html"]
    assert unknown == ["gone"]

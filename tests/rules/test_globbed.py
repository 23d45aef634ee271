"""zcserve.rules.globbed: many globs asked at once say what each of them says."""

from __future__ import annotations

import pytest

from zcserve.config.globs import parse_glob
from zcserve.errors import UsageError
from zcserve.rules.globbed import GlobTable


def one_by_one(globs: list[str], path: str) -> tuple[int, ...]:
    return tuple(number for number, glob in enumerate(globs) if parse_glob(glob).fullmatch(path))


GLOBS = [
    "/", "/**", "*", "/a/", "/a/**", "/a/*.css", "*.css", "/a.html", "index.html", "/**/x/*", "/a/**/b", "/[ab]/?.css",
    "?.css", "/a/b", "*[0-9].js", "/a[", "/**/*", "**/b", "/a*/b", "a/b",
]  # fmt: skip
PATHS = [
    "/", "/a", "/a/", "/a/b", "/a/c/b", "/a.html", "/index.html", "/a/x.css", "/b/x.css", "/x/y", "/a/x/y", "/9.js",
    "/a[", "/ä b.css", "/ab/b", "//", "/.css", "/a/b/",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_matched_by_what_matches_it(path: str) -> None:
    table = GlobTable((glob, number) for number, glob in enumerate(GLOBS))
    assert table.numbers(path) == one_by_one(GLOBS, path)


def test_a_number_of_several_globs_is_told_once() -> None:
    assert GlobTable([("/**", 3), ("*.css", 3), ("/a.css", 1)]).numbers("/a.css") == (1, 3)


def test_no_globs_match_nothing() -> None:
    table = GlobTable([])
    assert not table
    assert table.numbers("/a") == ()


def test_what_is_no_glob_is_refused_when_it_is_asked() -> None:
    with pytest.raises(UsageError):
        GlobTable([("/[z-a]", 0)]).numbers("/x")


@pytest.mark.parametrize("shape", ["/d%d/**", "/assets/x-%d-*.js", "/a/**/*.e%d", "*.e%d", "/f%d.js", "n%d.html"])
def test_ten_thousand_globs_are_not_asked_one_by_one(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = GlobTable((shape % number, number) for number in range(10_000))
    asked = 0

    def counted(text: str) -> object:
        nonlocal asked
        asked += 1
        return parse_glob(text)

    monkeypatch.setattr("zcserve.rules.globbed.parse_glob", counted)
    path = (shape % 7777).replace("/**", "/x").replace("*", "y")
    path = path if path.startswith("/") else "/" + path
    assert table.numbers(path) == (7777,)
    assert asked <= 10


def test_whatever_the_globs_they_say_what_each_says() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    piece = st.sampled_from(["/", "a", "b", ".css", "*", "**", "?", "[ab]", "[!a]", "/**/", "["])
    glob = st.lists(piece, min_size=1, max_size=6).map("".join)
    path = st.lists(st.sampled_from(["/", "a", "b", "ab", ".css", "["]), max_size=6).map(
        lambda some: "/" + "".join(some)
    )

    @hypothesis.settings(database=None, deadline=None)
    @hypothesis.given(st.lists(glob, max_size=8), st.lists(path, min_size=1, max_size=5))
    def law(globs: list[str], paths: list[str]) -> None:
        table = GlobTable((glob, number) for number, glob in enumerate(globs))
        for path in paths:
            assert table.numbers(path) == one_by_one(globs, path)

    law()

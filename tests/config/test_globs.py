"""zcserve.config.globs: which paths a pattern matches."""

from __future__ import annotations

import random
import time
from functools import cache

import pytest

from zcserve.config.globs import GLOB_CHARACTERS_MAX, any_glob, parse_glob
from zcserve.errors import UsageError


@pytest.mark.parametrize(
    ("glob", "matched", "not_matched"),
    [
        ("/index.html", ["/index.html"], ["/a/index.html", "/index_html", "/index.html.bak"]),
        ("/assets/*.css", ["/assets/site.css", "/assets/.css"], ["/assets/a/site.css", "/b/assets/site.css"]),
        ("assets/*.css", ["/assets/site.css"], ["/b/assets/site.css"]),
        ("*.woff2", ["/a.woff2", "/fonts/b/a.woff2"], ["/a.woff", "/a.woff2/b"]),
        ("logo.svg", ["/logo.svg", "/img/logo.svg"], ["/img/my-logo.svg"]),
        ("/fonts/", ["/fonts/a", "/fonts/b/a"], ["/fonts", "/fonts2/a", "/b/fonts/a"]),
        ("/", ["/a", "/b/a"], []),
        ("/a/**/z", ["/a/z", "/a/b/z", "/a/b/c/z"], ["/a/bz", "/z", "/b/a/z"]),
        ("**/a/*", ["/a/b", "/c/a/b", "/c/d/a/b"], ["/a/b/c"]),
        ("/a**", ["/a", "/ab/c"], ["/b/a"]),
        ("/page-?.html", ["/page-1.html", "/page-\u00fc.html"], ["/page-.html", "/page-10.html", "/page-/.html"]),
        ("/[a-c!]", ["/a", "/c", "/!"], ["/d", "/ab"]),
        ("/[!a-c]", ["/d", "/^"], ["/a", "//"]),
        ("/a[+-9]b", ["/a0b", "/a.b"], ["/a/b"]),
        ("/[]^&[]", ["/]", "/^", "/&", "/["], ["/a"]),
        ("/a[b", ["/a[b"], ["/ab"]),
        ("/a[]", ["/a[]"], ["/a"]),
        ("/100% (new)+.txt", ["/100% (new)+.txt"], ["/100% new.txt"]),
        ("/A", ["/A"], ["/a"]),
        ("/a\nb*", ["/a\nbc\nd"], []),
    ],
)
def test_a_glob_is_matched_with_a_whole_path(glob: str, matched: list[str], not_matched: list[str]) -> None:
    pattern = parse_glob(glob)
    assert [path for path in matched if not pattern.fullmatch(path)] == []
    assert [path for path in not_matched if pattern.fullmatch(path)] == []


@pytest.mark.parametrize("glob", ["", "a\0b", "/[z-a]", "a" * (GLOB_CHARACTERS_MAX + 1)])
def test_what_is_not_a_glob_is_refused(glob: str) -> None:
    with pytest.raises(
        UsageError, match=r"(is not a pattern|has more than).*; accepted: a pattern such as /assets/\*\.css"
    ):
        parse_glob(glob)


def _is_matched(glob: str, path: str) -> bool:
    """By the meaning of a pattern with a slash, one try after the other."""
    glob = "/" + glob.removeprefix("/") + ("**" if glob.endswith("/") else "")

    @cache
    def fits(i: int, j: int) -> bool:
        if i == len(glob):
            return j == len(path)
        if glob.startswith("/**/", i - 1):
            ends = (k for k in range(j + 1, len(path) + 1) if path[k - 1] == "/")
            return fits(i + 3, j) or any(fits(i + 3, k) for k in ends)
        if glob.startswith("**", i):
            return any(fits(i + 2, k) for k in range(j, len(path) + 1))
        if glob[i] == "*":
            return fits(i + 1, j) or (j < len(path) and path[j] != "/" and fits(i, j + 1))
        return j < len(path) and (path[j] != "/" if glob[i] == "?" else path[j] == glob[i]) and fits(i + 1, j + 1)

    return fits(0, 0)


def test_no_match_is_lost_by_looking_once() -> None:
    choice = random.Random(15)
    matches = 0
    for _ in range(1000):
        glob = "/" + "".join(
            choice.choices(["a", "b", "/", "*", "**", "/**/", "?", "*a", "**/"], k=choice.randint(1, 9))
        )
        pattern = parse_glob(glob)
        for _ in range(10):
            path = "/" + "".join(choice.choices("aab/", k=choice.randint(0, 9)))
            found = bool(pattern.fullmatch(path))
            assert found == _is_matched(glob, path), (glob, path)
            matches += found
    assert matches > 500


@pytest.mark.parametrize("wild", ["*a", "**a", "**/", "*?", "**?", "**/*a", "?*", "*a/**a"])
def test_no_pattern_makes_a_match_take_long(wild: str) -> None:
    pattern = parse_glob(wild * ((GLOB_CHARACTERS_MAX - 1) // len(wild) // 2) + "b")
    began = time.process_time()
    for path in ("/" + "a" * 255, "/a" * 2000, ("/" + "a" * 255) * 15):
        pattern.fullmatch(path)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("globs", [[], ["*.css"], ["/a|b", "/c"], ["/a/**/b*", "*.js", "/x/", "/[ab]?"]])
def test_any_of_some_globs_matches_what_one_of_them_does(globs: list[str]) -> None:
    paths = ["/a|b", "/a", "b", "/c", "/x.css", "/d/e.js", "/a/b", "/a/c/bd", "/a/c/d", "/x/y/z", "/a1", "/c1", "/"]
    one_by_one = [any(parse_glob(glob).fullmatch(path) for glob in globs) for path in paths]
    assert [any_glob(globs).fullmatch(path) is not None for path in paths] == one_by_one

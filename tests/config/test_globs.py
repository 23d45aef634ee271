"""zcserve.config.globs: which paths a pattern matches."""

from __future__ import annotations

import pytest

from zcserve.config.globs import parse_glob
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


@pytest.mark.parametrize("glob", ["", "a\0b", "/[z-a]"])
def test_what_is_not_a_glob_is_refused(glob: str) -> None:
    with pytest.raises(UsageError, match=r"is not a pattern.*; accepted: a pattern such as /assets/\*\.css"):
        parse_glob(glob)

"""zcserve.rules.patterns: how a pattern is read, and which paths it matches."""

from __future__ import annotations

import pytest

from zcserve.http import canonical_path
from zcserve.rules.patterns import PATTERN_CHARACTERS_MAX, Pattern, Splat, parse_pattern
from zcserve.rules.where import RuleError


@pytest.mark.parametrize(
    ("text", "segments", "splat"),
    [
        ("/", (), None),
        ("/about", (b"about",), None),
        ("/about/", (b"about",), None),
        ("/a///b//", (b"a", b"b"), None),
        ("/a/./b/../c/.", (b"a", b"c"), None),
        ("/../../a", (b"a",), None),
        ("/:x/../a", (b"a",), None),
        ("/c\u00e9line", (b"c%C3%A9line",), None),
        ("/c%c3%a9line", (b"c%C3%A9line",), None),
        ("/a b", (b"a%20b",), None),
        ("/a%2Fb", (b"a", b"b"), None),
        ("/%2e%2e/a", (b"a",), None),
        ("/%2A/%3Aname", (b"*", b":name"), None),
        ("/wiki/Talk:Main", (b"wiki", b"Talk:Main"), None),
        ("/12:30", (b"12:30",), None),
        ("/:/:1", (b":", b":1"), None),
        ("/\\x", (b"%5Cx",), None),
        ("/news/:year/:slug", (b"news", None, None), None),
        ("/*", (), Splat()),
        ("/a/*", (b"a",), Splat()),
        ("/a/*/", (b"a",), Splat()),
        ("/:lang/*", (None,), Splat()),
        ("/blog-*", (), Splat(b"blog-")),
        ("/docs/*.html", (b"docs",), Splat(b"", b".html")),
        ("/a/\u00e9*/b//c/", (b"a",), Splat(b"%C3%A9", b"/b/c")),
        ("/a/*%2Fb", (b"a",), Splat(b"", b"/b")),
    ],
)
def test_a_pattern_is_read_as_the_path_of_a_request_is(
    text: str, segments: tuple[bytes | None, ...], splat: Splat | None
) -> None:
    pattern = parse_pattern(text)
    assert (pattern.segments, pattern.splat, pattern.host) == (segments, splat, b"")


@pytest.mark.parametrize(
    ("text", "host", "segments"),
    [
        ("https://old.example/*", b"old.example", ()),
        ("http://Old.Example:8080/a", b"old.example", (b"a",)),
        ("HTTPS://old.example", b"old.example", ()),
        ("https://127.0.0.1/a", b"127.0.0.1", (b"a",)),
    ],
)
def test_a_pattern_may_be_for_one_host(text: str, host: bytes, segments: tuple[bytes, ...]) -> None:
    pattern = parse_pattern(text)
    assert (pattern.host, pattern.segments) == (host, segments)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("about", "begins with a slash"),
        ("//old.example/*", "begins with two slashes"),
        ("", "begins with a slash"),
        ("ftp://a/b", "begins with a slash"),
        ("https:///a", "is no host"),
        ("https://:project.pages.example/*", "a host is matched as a whole"),
        ("https://*.example/*", "a host is matched as a whole"),
        ("https://b\u00fccher.example/", "xn--"),
        ("https://user@old.example/", "is no host"),
        ("/a?b=c", "matched by query"),
        ("https://old.example?b", "matched by query"),
        ("/a#b", "%23"),
        ("/100%", "%25"),
        ("/a%zz", "%25"),
        ("/a%00", "NUL"),
        ("/a\0", "NUL"),
        ("/**", "two stars"),
        ("/*/a/*", "two stars"),
        ("/blog-:slug", "not a whole segment"),
        ("/:year-:month", "not a whole segment"),
        ("/:name.html", "not a whole segment"),
        ("/::a", "not a whole segment"),
        ("/:a*", "before the star"),
        ("/*/:a", "before the star"),
        ("/a%2Fb*", "no %2F before it"),
        ("/*/../a", "no dot segments"),
        ("/*/%2e/a", "no dot segments"),
        ("/:a/:b/:a", ":a stands there twice"),
        ("/:splat", "is the name of what a star takes"),
        ("/:splat/*", "and there is one"),
        ("/a\ud800", "no character"),
        ("/" + "a" * PATTERN_CHARACTERS_MAX, "has more than 1000 characters"),
    ],
)
def test_what_is_no_pattern_is_refused_with_what_to_write(text: str, problem: str) -> None:
    with pytest.raises(RuleError, match=problem) as caught:
        parse_pattern(text)
    assert caught.value.part == "from"


MATCHES = [
    ("/", "/", {}),
    ("/", "/a", None),
    ("/about", "/about", {}),
    ("/about", "/about/", {}),
    ("/about/", "/about", {}),
    ("/about", "/About", None),
    ("/about", "/about/us", None),
    ("/about", "/", None),
    ("/caf\u00e9", "/caf%c3%a9", {}),
    ("/news/:year/:slug", "/news/2024/a%20b", {"year": b"2024", "slug": b"a b"}),
    ("/news/:year/:slug", "/news/2024/a/", {"year": b"2024", "slug": b"a"}),
    ("/news/:year/:slug", "/news/2024", None),
    ("/news/:year/:slug", "/news/2024/a/b", None),
    ("/news/:year", "/news/", None),
    ("/:a", "/", None),
    ("/:a", "/%2A", {"a": b"*"}),
    ("/*", "/", {"splat": b""}),
    ("/*", "/a/b/", {"splat": b"a/b/"}),
    ("/blog/*", "/blog", {"splat": b""}),
    ("/blog/*", "/blog/", {"splat": b""}),
    ("/blog/*", "/blog/2024/a", {"splat": b"2024/a"}),
    ("/blog/*", "/blogs", None),
    ("/blog/*", "/", None),
    ("/:lang/*", "/", None),
    ("/:lang/*", "/de", {"lang": b"de", "splat": b""}),
    ("/:lang/docs/*", "/de/docs/%ff", {"lang": b"de", "splat": b"\xff"}),
    ("/blog-*", "/blog-", {"splat": b""}),
    ("/blog-*", "/blog-a/b/", {"splat": b"a/b/"}),
    ("/blog-*", "/blog", None),
    ("/blog-*", "/a/blog-b", None),
    ("/*.html", "/a/b.html", {"splat": b"a/b"}),
    ("/*.html", "/a.html/", {"splat": b"a"}),
    ("/*.html", "/.html", {"splat": b""}),
    ("/*.html", "/a.htm", None),
    ("/a/*/b", "/a/b", None),
    ("/a/*/b", "/a/x/y/b", {"splat": b"x/y"}),
    ("/aXbXa*Xa", "/aXbXa", None),
    ("/a*a", "/a", None),
    ("/a*a", "/aa", {"splat": b""}),
    ("/x*", "/x..", None),
    ("/x*", "/x../y", None),
    ("/x*", "/x...", {"splat": b"..."}),
    ("/*.x", "/y/..x", None),
    ("/*x", "/..x", None),
    ("/d*d", "/d/.d", None),
]


@pytest.mark.parametrize(("text", "path", "taken"), MATCHES)
def test_a_pattern_takes_a_path_apart(text: str, path: str, taken: dict[str, bytes] | None) -> None:
    assert parse_pattern(text).match(canonical_path(path.encode())) == taken


def test_names_of_placeholders_make_no_difference_to_the_shape() -> None:
    def shape(text: str) -> tuple[object, ...]:
        return parse_pattern(text).shape

    assert shape("/a/:b/*") == shape("/xyz/:c/*") != shape("/:a/b/*")
    assert shape("/ab*.x") == shape("/cd*.y") != shape("/cd*.yz")


def test_a_pattern_knows_what_it_takes() -> None:
    assert parse_pattern("/:a/:b/*").captures == {"a", "b", "splat"}
    assert parse_pattern("/a").captures == frozenset()
    assert isinstance(parse_pattern("/a"), Pattern)

"""zcserve.rules.targets: what a redirect leads to, and that a request forges nothing in it."""

from __future__ import annotations

import pytest

from zcserve.rules.targets import TARGET_CHARACTERS_MAX, parse_target
from zcserve.rules.where import RuleError

NAMES = frozenset({"splat", "year", "id"})


@pytest.mark.parametrize(
    ("text", "taken", "sent", "location"),
    [
        ("/", {}, b"", b"/"),
        ("/new", {}, b"a=1", b"/new?a=1"),
        ("/new?", {}, b"a=1", b"/new"),
        ("/new?b=2", {}, b"a=1", b"/new?b=2"),
        ("/new#part", {}, b"a=1", b"/new?a=1#part"),
        ("/new?b#part", {}, b"", b"/new?b#part"),
        ("/caf\u00e9 1", {}, b"", b"/caf%C3%A9%201"),
        ("/caf%c3%a9", {}, b"", b"/caf%C3%A9"),
        ("/a//b/%2F/c", {}, b"", b"/a/b/c"),
        ("/wiki/Talk:Main", {}, b"", b"/wiki/Talk:Main"),
        ("/a%3Ayear", {"year": b"1"}, b"", b"/a:year"),
        ("/blog/:splat", {"splat": b""}, b"", b"/blog/"),
        ("/blog/:splat", {"splat": b"a/b/"}, b"", b"/blog/a/b/"),
        ("/:splat", {"splat": b"a"}, b"x=1", b"/a?x=1"),
        ("/:splat/x", {"splat": b""}, b"", b"/x"),
        ("/:splat/:year", {"splat": b"", "year": b"evil.example"}, b"", b"/evil.example"),
        ("/:year-:id.html", {"year": b"2024", "id": b"a b"}, b"", b"/2024-a%20b.html"),
        ("/x:id", {"id": b"7"}, b"", b"/x7"),
        ("/:id", {"id": b"a?b#c\r\nX: y%"}, b"", b"/a%3Fb%23c%0D%0AX:%20y%25"),
        ("/:id", {"id": b"\\evil.example"}, b"", b"/%5Cevil.example"),
        ("/s?q=:id&y=:year", {"id": b"a&b=c+d e#f", "year": b"/"}, b"", b"/s?q=a%26b%3Dc%2Bd%20e%23f&y=/"),
        ("/s#:id", {"id": b"a b\n"}, b"", b"/s#a%20b%0A"),
        ("/s?a b\u00fc&c=%20", {}, b"", b"/s?a%20b%C3%BC&c=%20"),
        ("/a", {}, b"x=\r\nSet-Cookie:a#b\xff", b"/a?x=%0D%0ASet-Cookie:a%23b%FF"),
        ("https://New.Example", {}, b"a=1", b"https://new.example/?a=1"),
        ("HTTP://new.example:8080/:splat", {"splat": b"a/b"}, b"", b"http://new.example:8080/a/b"),
        ("https://[::1]/x", {}, b"", b"https://[::1]/x"),
        ("https://new.example?q=:id", {"id": b"1"}, b"", b"https://new.example/?q=1"),
        ("https://new.example/a%2Fb//c|\u00fc/:id", {"id": b"x"}, b"", b"https://new.example/a%2Fb//c%7C%C3%BC/x"),
        ("https://en.wikipedia.org/wiki/Help:Contents", {}, b"", b"https://en.wikipedia.org/wiki/Help:Contents"),
    ],
)
def test_a_target_is_filled_in(text: str, taken: dict[str, bytes], sent: bytes, location: bytes) -> None:
    assert parse_target(text, NAMES).location(taken, sent) == location


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("new", "leads nowhere"),
        ("", "leads nowhere"),
        ("javascript:alert(1)", "leads nowhere"),
        ("mailto:a@b.example", "leads nowhere"),
        ("//evil.example/:splat", "begins with two slashes"),
        ("https:///a", "is no host"),
        ("https://a@b.example/", "is no host"),
        ("https://b\u00fccher.example/", "xn--"),
        ("https://a b.example/", "is no host"),
        ("https://:splat", "must not name the host"),
        ("https://:year.example/", "must not name the host"),
        ("https://a.:year/", "must not name the host"),
        ("https://new.example:splat/", "is no host"),
        ("https://new.example:70000/", "is no host"),
        ("/:slug", "no placeholder :slug; did you mean"),
        ("/:yeer/x", "did you mean :year"),
        ("/s?q=:word", "no placeholder :word"),
        ("/a#:word", "no placeholder :word"),
        ("/../a", "dot segment"),
        ("/a/.", "dot segment"),
        ("/a/%2e%2E/b", "dot segment"),
        ("/a%2F../b", "dot segment"),
        ("/a/.:splat", "dot segment"),
        ("/a/:splat.", "dot segment"),
        ("/a/:splat%2e:year", "dot segment"),
        ("https://new.example/../:splat", "dot segment"),
        ("/100%", "%25"),
        ("/a%00", "NUL"),
        ("/a\0", "NUL"),
        ("/a\ud800", "no character"),
        ("/" + "a" * TARGET_CHARACTERS_MAX, "has more than 2000 characters"),
    ],
)
def test_what_is_no_target_is_refused_with_what_to_write(text: str, problem: str) -> None:
    with pytest.raises(RuleError, match=problem) as caught:
        parse_target(text, NAMES)
    assert caught.value.part == "to"


def test_a_name_that_no_pattern_has_is_told_without_a_suggestion() -> None:
    with pytest.raises(RuleError, match="no star that :splat could be"):
        parse_target("/:splat", frozenset())
    with pytest.raises(RuleError, match="no placeholder :a; a colon is written %3A"):
        parse_target("/:a", frozenset())


def test_a_target_knows_what_is_filled_in_and_how_it_begins() -> None:
    target = parse_target("/x/:id?y=:year#:splat", NAMES)
    assert (target.names, target.head) == (NAMES, b"/x/")
    assert parse_target("/", NAMES).names == frozenset()

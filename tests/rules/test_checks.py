"""zcserve.rules.checks: rules that never match, and redirects that never end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.waiting import Growth
from zcserve.rules.checks import STEPS_MAX, check_redirects, examples_of
from zcserve.rules.patterns import parse_pattern
from zcserve.rules.redirects import Redirects
from zcserve.rules.redirects_file import read_redirects


def of(text: str) -> Redirects:
    found = read_redirects(text.replace("; ", "\n").encode())
    assert found.problems == ()
    return Redirects(found.rules)


def found(text: str, **more: Any) -> list[tuple[str, int, list[int]]]:
    """The kind, the line, and the lines of the others."""
    return [
        (finding.kind.name.lower(), finding.rule.where.line, [rule.where.line for rule in finding.others])
        for finding in check_redirects(of(text), **more)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a /b; /c /d", []),
        ("/a /b; /a /c", [("twice", 2, [1])]),
        ("/a /b; /a/ /c", [("twice", 2, [1])]),
        ("/x/:a /b; /x/:b /c", [("twice", 2, [1])]),
        ("/a /b 200; /a /c 404!", [("twice", 2, [1])]),
        ("/* /b 200; /a /c", [("never", 2, [1])]),
        ("/a /c; /* /b 200", []),
        ("/x/* /b; /x /c; /x/y /c; /x/:a /c; /x/:a/* /c; /y /c", [("never", line, [1]) for line in (2, 3, 4, 5)]),
        ("/:a/* /b; /x/* /c; /* /d 200", [("never", 2, [1])]),
        ("/x/:a /b; /x/* /c", []),
        ("/x/:a/* /b; /x/* /c", []),
        ("/:a/y /b; /x/:b /c; /x/y /d", [("never", 3, [1])]),
        ("/x* /y; /xa /z; /xa/:b /z; /xb* /z", [("never", 2, [1]), *(("maybe_never", line, [1]) for line in (3, 4))]),
        ("/*.html /y; /a.html /z; /a/*.html /z; /:a /z", [("never", 2, [1]), ("maybe_never", 3, [1])]),
        ("/x/* /y; /x/a*b /z; /x/*/b /z", [("maybe_never", 2, [1]), ("maybe_never", 3, [1])]),
        # Conditions.
        ("/a i=1 /b; /a /c; /a i=2 /d", [("never", 3, [2])]),
        ("/a i=:i /b; /a i=1 /c; /a i=1 j=2 /c; /a j=2 /d", [("never", 2, [1]), ("never", 3, [1])]),
        ("/a i=1 /b; /a i=2 /b; /a i=:x /b; /a i=1 /c", [("twice", 4, [1])]),
        ("/* i=1 /b; /a i=1 /c; /a /d", [("never", 2, [1])]),
        # What an earlier rule leaves to later ones, since it would lead to where the request is.
        ("/* /index.html 302; /index.html /x 200; /about /y", [("never", 3, [1])]),
        ("/* /:splat 302; /a /b", [("nowhere", 1, [])]),
        ("/:a/:b /:b/a; /x/a /c 200; /x/:y /c 200", []),
        ("/slash /slash/; /slash/ /other", []),
        # Hosts.
        ("https://o.example/* https://n.example/:splat; https://o.example/a /c; /a /c", [("never", 2, [1])]),
        ("/* https://n.example/:splat; /a /b", [("never", 2, [1])]),
        ("http://o.example/* https://o.example/:splat", [("nowhere", 1, [])]),
    ],
)  # fmt: skip
def test_rules_that_never_match_are_told_with_what_hides_them(text: str, expected: list[Any]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a /b; /b /c; /c /d", []),
        ("/a /b; /b /a", [("loop", 1, [2])]),
        ("/c /a; /a /b; /b /a", [("loop", 2, [3])]),
        ("/:a/:b /:b/:a", [("loop", 1, [])]),
        ("/a /a", []),
        ("/a /a/", []),
        ("/x/* /y/:splat; /y/* /x/:splat", [("loop", 1, [2])]),
        ("/x/* /y/:splat; /y/* /z/:splat", []),
        ("/x/:a /y?q=:a; /y q=:b /x/:b", [("loop", 1, [2])]),
        ("/a /b?n=1; /b n=1 /a", [("loop", 1, [2])]),
        ("/* /a/:splat", [("endless", 1, [])]),
        ("/a /b; /b /b?x=1", []),
        ("/a /b; /b /a 200", []),
        ("/a /b; /b https://n.example/a", []),
        ("https://o.example/a https://o.example/b; https://o.example/b /a", [("loop", 1, [2])]),
        ("; ".join(f"/{n} /{n + 1}" for n in range(STEPS_MAX)), []),
        ("; ".join(f"/{n} /{n + 1}" for n in range(STEPS_MAX + 1)), [("endless", 1, list(range(2, STEPS_MAX + 2)))]),
    ],
)
def test_redirects_that_never_end_are_told_once(text: str, expected: list[Any]) -> None:
    assert found(text) == expected


def test_the_hosts_of_the_site_count() -> None:
    text = "/* https://www.me.example/:splat; /a /b"
    assert found(text, hosts=frozenset({b"me.example", b"www.me.example"})) == []
    loop = "/a https://me.example/b; /b /a"
    assert found(loop) == []
    assert found(loop, hosts=frozenset({b"me.example"})) == [("loop", 1, [2])]


def test_a_file_ends_what_rules_without_force_begin() -> None:
    def has_file(key: bytes) -> bool:
        return key == b"/b"

    assert found("/a /b; /b /a", has_file=has_file) == []
    assert found("/a /b; /b /a 301!", has_file=has_file) == [("loop", 1, [2])]


def test_a_finding_is_told_with_places() -> None:
    told = [str(finding) for finding in check_redirects(of("/a/* /b/:splat; /a/c /d; /b/* /a/:splat"))]
    loop = "redirects without end: '/a/*' (_redirects:1:1) -> '/b/*' (_redirects:3:1) -> '/a/*' again"
    never = "'/a/c' never matches: '/a/*' (_redirects:1:1) stands before it, and matches all that it matches"
    assert told == [f"_redirects:1:1: {loop}", f"_redirects:2:1: {never}"]


@pytest.mark.parametrize("text", ["/", "/a", "/:a/b", "/*", "/a/*", "/a*", "/*.b", "/a/*/b", "/:a/x*y", "/.*"])
def test_examples_of_a_pattern_match_it(text: str) -> None:
    pattern = parse_pattern(text)
    keys = examples_of(pattern)
    assert [key for key in keys if pattern.match(key) is None] == []
    assert len(keys) == (1 if pattern.splat is None else 2 if text in ("/a/*/b", "/.*") else 3)


def test_a_check_grows_with_the_number_of_rules_and_not_faster(growth: Growth) -> None:
    def check(number: int) -> None:
        lines = (b"/s/%d/* /t/%d/:splat\n/q i=%d /r\n" % (n, n, n) for n in range(number))
        assert check_redirects(Redirects(read_redirects(b"".join(lines)).rules)) == []

    assert growth(check, 100) < 8

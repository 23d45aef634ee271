"""zcserve.rules.doubts: redirects that do what is written, and hardly what was meant."""

from __future__ import annotations

import pytest

from zcserve.rules.doubts import doubts
from zcserve.rules.redirects_file import read_redirects

FILES = {b"/about.html", b"/docs/", b"/docs/index.html", b"/fn/a", b"/404.html", b"/"}


def told(text: str, heads: tuple[bytes, ...] = ()) -> list[str]:
    """Without the place, which is the first line's."""
    found = read_redirects(text.encode())
    assert found.problems == ()
    lines = list(doubts(found.rules, FILES.__contains__, lambda: FILES, heads))
    assert all(line.startswith("_redirects:1:1: ") for line in lines)
    return [line.removeprefix("_redirects:1:1: ") for line in lines]


REGEX = "a pattern is no regular expression: * takes all that follows, :name one segment"
BEHIND = "what stands at its end belongs to the path: words are parted by blanks alone"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("/old/(.*) /new/ 301", f"'(.*)' in '/old/(.*)': {REGEX}"),
        ("/(en|de)/old /new/ 301", f"'(en|de)' in '/(en|de)/old': {REGEX}"),
        ("/old/.* /new/ 301", f"'.*' in '/old/.*': {REGEX}"),
        ("/old$ /new 301", f"'$' in '/old$': {REGEX}"),
        ("/[a-z] /new 301", f"'[a-z]' in '/[a-z]': {REGEX}"),
        ("/old/{id} /new 301", "'{id}' in '/old/{id}': a placeholder is written :name"),
        ("/old, /new 301", f"',' in '/old,': {BEHIND}"),
        ("/old /new; 301", f"';' in '/new;': {BEHIND}"),
        (
            "/old/* /new/* 301",
            "'*' in '/new/*': a star in a target stands for itself; what the pattern's star takes is ",
        ),
        ("/old/* /new/$1 301", "'$1' in '/new/$1': it stands for itself; what the pattern's star takes is :splat"),
        ("/old/:id /new/{id}", "'{id}' in '/new/{id}': it stands for itself; what a placeholder takes is :name"),
        ("/about.html /about 301", "'/about.html' never answers: a file is at /about.html, and goes before; force has"),
        ("/docs /elsewhere 301", "'/docs' never answers: a file is at /docs/, and goes before"),
        ("/docs/ /docs 301", "'/docs/' never answers: a file is at /docs/"),
        ("/ /en/ 302", "'/' never answers: a file is at /, and goes before"),
        ("/old/* /old/:splat 301", "'/old/*' leads to where it is: no more than a slash at the end is another"),
        ("/old 301", "'/old' leads to where it is"),
        ("/old /gone.html 410", "no file is at /gone.html; until there is one, another page answers with 410"),
        ("/api/* /functions/:splat 200", "'/api/*' leads to what begins with /functions/, where nothing is"),
    ],
)
def test_what_was_hardly_meant_is_told(text: str, line: str) -> None:
    (found,) = told(text)
    assert found.startswith(line)


@pytest.mark.parametrize(
    "text",
    [
        "/old/* /new/:splat 301",
        "/about.html /about 301!",  # with force
        "/docs/* /elsewhere 301",  # not one path alone
        "/about.html 200",  # what is there is served as it is
        "/* /:splat",  # told by checks.py
        "/old /old/ 301",
        "/old /404.html 404",
        "/old 410",
        "/api/* /fn/:splat 200",
        "/wiki/Talk:Main /x 301",
        "/a /b?x=(1) 301",
        "/c++ /d 301",
        "/price-$5 /d 301",
        "/a.b /c 301",
        "/wiki/Name_(of_a.thing) /c 301",
    ],
)
def test_what_may_be_meant_is_not(text: str) -> None:
    assert told(text) == []


def test_what_an_application_may_have_is_not_missed() -> None:
    assert told("/api/* /functions/:splat 200", heads=(b"/functions",)) == []

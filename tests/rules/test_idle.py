"""zcserve.rules.idle: globs that match nothing that is there, and what may be meant."""

from __future__ import annotations

import pytest

from zcserve.config.tables import Table
from zcserve.rules.idle import NEAR_MAX, Place, near, places_of, told, unmatched
from zcserve.rules.where import Where

KEYS = [
    b"/index.html",
    b"/assets/site.css",
    b"/assets/fonts/a.woff2",
    b"/docs/start.html",
    b"/caf%C3%A9/a.js",
    b"/pub/",
]


def idle(*globs: str, heads: tuple[str, ...] = ()) -> list[str]:
    return [place.where for place in unmatched([Place(glob, (glob,)) for glob in globs], KEYS, heads)]


@pytest.mark.parametrize(
    "glob", ["*.css", "/assets/**", "/assets/fonts/", "/index.html", "/café/*", "/**", "/pub/", "/pub/**", "*.[jw]*"]
)
def test_a_glob_that_matches_something_is_not_idle(glob: str) -> None:
    assert idle(glob) == []


@pytest.mark.parametrize(
    ("glob", "meant"),
    [
        ("/asets/**", "/assets/**"),
        ("/assets/font/*.woff2", "/assets/fonts/*.woff2"),
        ("assets/site.csss", "/assets/site.css"),
        ("/Assets/*.css", "/assets/*.css"),
        ("*.wof2", "*.woff2"),
        ("indx.html", ""),  # of a name its ending alone is looked at, and that is there
        ("/kafé/a.js", "/café/a.js"),
        ("/blog.html", ""),  # an ending alone is no likeness
        ("/indx.html", "/index.html"),
        ("^/assets/.*", ""),
        ("/docs/*.pdf", ""),
        ("/nothing/like/it", ""),
        ("*.[x]", ""),
        ("Makefile", ""),
        ("/assets/", "/assets/"),
    ],
)
def test_a_slip_is_told_with_what_may_be_meant(glob: str, meant: str) -> None:
    assert near(glob, KEYS) == ("" if idle(glob) == [] else meant)


def test_what_answers_where_no_file_is_may_be_what_a_glob_is_for() -> None:
    globs = "/app/*.json", "/apps/x", "/ap?/x", "/old/**", "*.zip"
    assert idle(*globs) == list(globs)
    assert idle(*globs, heads=("/app",)) == ["/old/**", "*.zip"]  # which is for files
    assert idle(*globs, heads=("/",)) == []


def test_each_text_of_a_list_is_told_at_its_own_place_and_a_block_as_one() -> None:
    rule = Table({}, ("rules", 3))
    assert places_of(("/a",), rule) == [Place("rules[3].path", ("/a",))]
    assert places_of(("/a", "/b"), rule) == [Place("rules[3].path[0]", ("/a",)), Place("rules[3].path[1]", ("/b",))]
    block = places_of(("/docs/none", "/docs/start.html"), Where("_headers", 2, 1))
    assert block == [Place("_headers:2:1", ("/docs/none", "/docs/start.html"))]
    assert unmatched(block, KEYS) == []


def test_the_words_are_a_line_for_each_place() -> None:
    places = [
        Place("_headers:2:1", ("/asets", "/asets/**")),
        Place("_headers:2:1", ("/asets",)),
        Place("a", ("/x/**",)),
    ]
    assert list(told(places, lambda: KEYS)) == [
        "_headers:2:1: this path matches no file; did you mean '/assets'?",
        "a: '/x/**' matches no file",
    ]
    (line,) = told([Place("a", ("^/assets/(.*)$",))], lambda: KEYS)
    assert (
        line
        == "a: '^/assets/(.*)$' matches no file; it is no regular expression: * takes what is in a name, ** all below"
    )
    many = [Place(str(number), ("/asets",)) for number in range(NEAR_MAX + 1)]
    assert [line.endswith("?") for line in told(many, lambda: KEYS)] == [True] * NEAR_MAX + [False]

"""zcserve.config.places: where what tomllib returns stands in the text."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from zcserve.config.places import Path, places_of

FILE = '''\
root = "www"   # a comment = no key
"quoted key" = 1
'literal' = 2
a.b . c = [1, [2, 3], "x]", { d = 4, e.f = 5 }]
text = """
[no.table]
x = "1" \\"""
"""
raw = \'\'\'
[[no]]\'\'\'
when = 1979-05-27 07:32:00

[[rules]]
path = "/a/*"
set = { X-A = "b, }", "X-B" = ["c", "d"] }

  [rules.add]
  Link = ["</a>",   # }
    "</b>",
  ]
[[rules]]
path = [
  "/b",
  "/c"]
[sites.blog]
hosts = ["h"]
[[sites.blog.rules]]
path = "/d"
[[sites.blog.rules]]
path = "/e"
'''


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All that is in a value, with the way to it."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))


def at(text: str, path: Path) -> str:
    """What stands at the place of a path."""
    line, column = places_of(text)[path]
    return text.splitlines()[line - 1][column - 1 :]


def test_everything_that_tomllib_finds_has_a_place_and_nothing_else_has() -> None:
    assert places_of(FILE).keys() == {path for path, _ in leaves(tomllib.loads(FILE))}


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        (("root",), "root ="),
        (("quoted key",), '"quoted key"'),
        (("a", "b", "c"), "c = ["),
        (("a", "b", "c", 1, 1), "3]"),
        (("a", "b", "c", 3), "{ d"),
        (("a", "b", "c", 3, "e", "f"), "f = 5"),
        (("rules", 0), "[[rules]]"),
        (("rules", 0, "set", "X-A"), 'X-A = "b, }"'),
        (("rules", 0, "set", "X-B", 1), '"d"'),
        (("rules", 0, "add"), "[rules.add]"),
        (("rules", 0, "add", "Link", 1), '"</b>"'),
        (("rules", 1, "path", 1), '"/c"]'),
        (("sites", "blog", "rules", 1, "path"), 'path = "/e"'),
    ],
)
def test_a_place_is_where_it_begins(path: Path, begins: str) -> None:
    assert at(FILE, path).startswith(begins)


def test_an_item_of_a_list_of_tables_stands_at_its_own_header() -> None:
    places = places_of(FILE)
    assert places[("rules", 0)].line == 13
    assert places[("rules", 1)].line == 21
    assert places[("rules",)] == places[("rules", 0)]


def test_a_place_is_told_in_words() -> None:
    assert str(places_of("a = 1\r\n  b = 2\r\n")[("b",)]) == "2:3"


def test_a_quoted_key_may_have_escapes() -> None:
    assert places_of('"a\\u0062\\"" = 1')[('ab"',)] == (1, 1)


def test_an_empty_text_has_no_places() -> None:
    assert places_of("") == places_of("# nothing\n\n") == {}


def test_whatever_is_written_is_found() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    names = st.sampled_from(["a", "b-1", '"c d"', "'e'", '"\\t"'])
    values = st.recursive(
        st.sampled_from(["1", '"x # y"', "'[[z]]'", "true", "1979-05-27", '""', '"""\n"]"\n"""', "-1.5e3"]),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + " # c\n]")
            | st.dictionaries(names, inner.filter(lambda text: "\n" not in text), max_size=2).map(
                lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}"
            )
        ),
        max_leaves=6,
    )
    table = st.dictionaries(names, values, max_size=4)

    @hypothesis.settings(max_examples=150, database=None, deadline=None)
    @hypothesis.given(table, st.lists(table, max_size=3))
    def law(top: dict[str, str], rules: list[dict[str, str]]) -> None:
        lines = [f"{key} = {value}" for key, value in top.items()]
        for rule in rules:
            lines += ["[[rules]]", *(f"  {key}={value}" for key, value in rule.items())]
        text = "\n".join(lines)
        assert places_of(text).keys() == {path for path, _ in leaves(tomllib.loads(text))}

    law()

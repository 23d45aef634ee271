"""A table finds what trying every pattern in order of precedence finds."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from zcserve.http import canonical_path
from zcserve.paths import SentPath
from zcserve.servlets.routes import ConflictError, Route, Table

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

# Few and short, so that they meet.
LITERALS = st.sampled_from(["a", "b", "%C3%A9"])
STEPS = LITERALS | st.just("{}")
PATTERNS = st.builds(
    lambda steps, end: "/" + "/".join([*steps, *end]),
    st.lists(STEPS, max_size=4),
    st.sampled_from([[], [""], ["{:path}"]]),
).filter(lambda pattern: "//" not in pattern)
PATHS = st.lists(st.sampled_from(["a", "b", "%C3%A9", "c%25"]), max_size=5).flatmap(
    lambda segments: st.sampled_from(["/" + "/".join(segments), "/" + "/".join([*segments, ""])])
)


def numbered(pattern: str) -> str:
    """Names for the holes: {p0}, {p1}, ..."""
    pieces = pattern.split("{")
    return pieces[0] + "".join(f"{{p{at}{piece}" for at, piece in enumerate(pieces[1:]))


def route(pattern: str) -> Route:
    return Route(numbered, "a", frozenset({"GET"}), pattern, None, False, False, "servlets/a.py:1")


def precedence(pattern: str) -> list[int]:
    """At each segment: a literal, then one segment, then the rest."""
    return [0 if "{" not in step else 2 if step.endswith(":path}") else 1 for step in pattern[1:].split("/")]


def tried_in_order(patterns: list[str], path: str) -> tuple[str, dict[str, str]] | None:
    for pattern in sorted(patterns, key=precedence):
        expression = re.sub(r"\\{(p\d)(:path)?\\}", lambda hole: f"(?P<{hole[1]}>{'.+' if hole[2] else '[^/]+'})",
                            re.escape(pattern))  # fmt: skip
        if match := re.fullmatch(expression, path):
            return pattern, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


@given(st.lists(PATTERNS.map(numbered), unique=True, max_size=12), st.lists(PATHS, min_size=1, max_size=8))
def test_a_table_finds_what_trying_all_patterns_in_order_finds(patterns: list[str], paths: list[str]) -> None:
    table = Table()
    for pattern in patterns:
        table.add(route(pattern))
    segments = table.first_segments()
    for path in paths:
        if segments is not None and path[1:].partition("/")[0].encode() not in segments:
            assert table.find(SentPath(path.encode())) is None
        found = table.find(SentPath(path.encode()))
        assert (found and (found.by_method["GET"].path, found.params)) == tried_in_order(patterns, path)


@given(PATTERNS.map(numbered), PATTERNS.map(numbered))
def test_two_patterns_conflict_when_they_are_the_same_and_only_then(first: str, second: str) -> None:
    table = Table()
    table.add(route(first))
    try:
        table.add(route(second))
    except ConflictError:
        assert first == second
    else:
        assert first != second


@given(st.text(st.characters(exclude_characters="/\0{}", exclude_categories=["Cs"]), min_size=1, max_size=6))
def test_a_parameter_comes_back_as_the_author_of_the_link_meant_it(value: str) -> None:
    if value in (".", ".."):
        return
    table = Table()
    table.add(route("/{x}"))
    path = canonical_path(b"/" + b"".join(b"%%%02X" % byte for byte in value.encode()))
    found = table.find(SentPath(path))
    assert found is not None
    assert found.params == {"x": value}

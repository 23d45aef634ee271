"""zcserve.rules.trie: all patterns that match a path, found in a time that does not depend on how many there are."""

from __future__ import annotations

import time

import pytest

from tests.support.waiting import Growth
from zcserve.http import canonical_path
from zcserve.rules.patterns import parse_pattern
from zcserve.rules.trie import SHAPES_MAX, Patterns, Shapes, identity_of


def of(*texts: str) -> Patterns[str]:
    return Patterns((parse_pattern(text), text) for text in texts)


TEXTS = (
    "/",
    "/a",
    "/a/b",
    "/a/:x",
    "/:x/b",
    "/:x/:y",
    "/*",
    "/a/*",
    "/:x/b/*",
    "/a*",
    "/*.html",
    "/a/*/c",
    "/a/x*y",
    "https://old.example/a",
    "https://old.example/*",
)


@pytest.mark.parametrize("host", [b"", b"old.example", b"new.example"])
@pytest.mark.parametrize(
    "path",
    [
        *["/", "/a", "/a/", "/a/b", "/b/b", "/b/b/c", "/a/b/c", "/a/xy", "/a/x/y", "/a/xyy", "/a/x", "/a.html"],
        *["/a/.html", "/ab/c", "/b", "/b/", "/a/x..", "/a/b.html/"],
    ],
)
def test_it_finds_what_each_pattern_matches_alone(path: str, host: bytes) -> None:
    key = canonical_path(path.encode())
    alone = [text for text in TEXTS if (own := parse_pattern(text)).host in (b"", host) and own.match(key) is not None]
    assert sorted(of(*TEXTS).find(key, host)) == sorted(alone)


def test_it_knows_its_hosts() -> None:
    assert of(*TEXTS).hosts == {b"old.example"}
    assert of("/a").hosts == frozenset()
    assert of().find(b"/a") == []


def test_patterns_that_match_the_same_have_one_value() -> None:
    assert identity_of(parse_pattern("/:a/*")) == identity_of(parse_pattern("/:b//*/"))
    assert of("/:a", "/:b").find(b"/x") == ["/:b"]


def test_there_is_room_for_a_number_of_shapes() -> None:
    shapes = Shapes()
    assert all(shapes.take(number) for number in range(SHAPES_MAX))
    assert not shapes.take("one more")
    assert shapes.take(0)


def seconds(patterns: Patterns[str], key: bytes) -> float:
    """The least that a look-up takes."""
    times = []
    for _ in range(30):
        begin = time.perf_counter()
        patterns.find(key)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ("/old/page-{}", "/old/page-77"),
        ("/s{}/*", "/s77/a/b/c"),
        ("/s{}/:x/:y", "/s77/b/c"),
        ("/:x/s{}/*", "/a/s77/c"),
        ("/p{:05}*", "/p00077xyz"),
        ("/*-{:05}.html", "/a/b/c-00077.html"),
        ("/a/a/a/:x/{}", "/a/a/a/a/77"),
    ],
)
def test_a_look_up_takes_no_longer_among_thousands(form: str, path: str) -> None:
    few, many = of(form.format(77)), of(*(form.format(number) for number in range(2000)))
    assert few.find(path.encode()) == many.find(path.encode()) == [form.format(77)]
    assert seconds(many, path.encode()) < 10 * seconds(few, path.encode()) + 2e-5


def test_a_look_up_grows_with_the_path_and_not_faster(growth: Growth) -> None:
    depth = 6
    texts = ["/" + "/".join((f":x{at}", "a")[bits >> at & 1] for at in range(depth)) for bits in range(2**depth)]
    patterns = of(*texts, *(f"{text}/*" for text in texts), "/*z")
    assert len(patterns.find(b"/a" * 4000)) == 2**depth
    assert growth(lambda number: patterns.find(b"/a" * number), 2000) < 8

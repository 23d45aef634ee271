"""zcserve.net.leading: where a target leads that no application has, in the order of rules/compiled.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.trees import Tree
from zcserve.cache.entry import Entry
from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.net.leading import look_up
from zcserve.rules.book import Rulebook
from zcserve.site.exchange import Stored
from zcserve.site.reply import Reply
from zcserve.site.site import Site

FILES = {
    "index.html": b"i", "a.html": b"a", "dir/index.html": b"d", "old": b"o", "410.html": b"g", "x.html": b"x",
}  # fmt: skip
REDIRECTS = (
    {"from": "/forced", "to": "/a.html", "status": 200, "force": True},
    {"from": "/x.html", "to": "/y", "force": True},
    {"from": "/old", "to": "/new"},
    {"from": "/to-dir", "to": "/dir", "status": 200},
    {"from": "/to-nothing", "to": "/nothing", "status": 200},
    {"from": "/gone", "status": 410},
    {"from": "/moved/*", "to": "/here/:splat", "status": 307},
)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path / "root")
    made.plant(FILES)
    yield made
    made.close()


def site_of(tree: Tree, **config: Any) -> Site:
    tree.rules = Rulebook(Config(root=tree.path, **config)).rules()
    return Site(0, tree.walk())


def told(site: Site, target: bytes, method: bytes = b"GET") -> tuple[int, bytes]:
    """The status, and where it leads: a key, or a location."""
    found = look_up(site, method, target)
    if isinstance(found, Reply):
        return found.status, dict(found.fields).get(b"Location", b"")
    if isinstance(found, Stored):
        return found.status, found.entry.key
    _, entry = found
    assert isinstance(entry, Entry)
    return 200, entry.key


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", (200, b"/index.html")),
        (b"/dir", (301, b"/dir/")),
        (b"/dir?a", (301, b"/dir/?a")),
        (b"//dir/../a.html", (200, b"/a.html")),
        (b"/old", (200, b"/old")),
        (b"/x.html", (301, b"/y")),
        (b"/forced", (200, b"/a.html")),
        (b"/to-dir", (200, b"/dir/index.html")),
        (b"/to-nothing", (404, b"")),
        (b"/gone", (410, b"/410.html")),
        (b"/moved/a?b", (307, b"/here/a?b")),
        (b"/a", (404, b"")),
        (b"/none", (404, b"")),
    ],
)
def test_the_first_that_has_an_answer_gives_it(tree: Tree, target: bytes, expected: tuple[int, bytes]) -> None:
    site = site_of(tree, redirects=REDIRECTS)
    assert told(site, target) == told(site, target, b"HEAD") == expected
    assert told(site, target, b"OPTIONS")[0] == (404 if expected[0] == 404 else 200)
    is_moved = target in (b"/x.html", b"/moved/a?b")  # by a rule, and not since it is a directory
    assert told(site, target, b"POST") == told(site, target, b"DELETE") == (expected if is_moved else (405, b""))
    assert told(site, target, b"TRACE")[0] == 405
    assert told(site, target, b"BREW")[0] == 501


def test_without_rules_there_are_files_and_directories(tree: Tree) -> None:
    site = site_of(tree)
    assert [told(site, target)[0] for target in (b"/a.html", b"/dir", b"/a", b"/gone")] == [200, 301, 404, 404]
    assert told(site, b"*", b"OPTIONS")[0] == told(site, b"/dir", b"OPTIONS")[0] == 200
    assert told(site, b"/a", b"OPTIONS")[0] == 404


def test_a_clean_url_is_a_file_and_comes_before_rules(tree: Tree) -> None:
    site = site_of(tree, clean_urls=True, redirects=({"from": "/a", "to": "/b"},))
    assert told(site, b"/a") == (200, b"/a.html")
    assert told(site, b"/a/") == (301, b"/b")
    assert site.has_own(b"/a", None, b"")


def test_one_page_answers_what_looks_like_no_file(tree: Tree) -> None:
    site = site_of(tree, spa=True, redirects=({"from": "/b", "to": "/c"},))
    assert told(site, b"/some/route") == (200, b"/index.html")
    assert told(site, b"/some/asset.js") == (404, b"")
    assert told(site, b"/b") == (301, b"/c")


@pytest.mark.parametrize("rules", [{}, {"spa": True}])
def test_what_is_no_path_is_refused(tree: Tree, rules: dict[str, bool]) -> None:
    site = site_of(tree, **rules)
    for target in (b"/a%", b"/a%00", b"nothing"):
        with pytest.raises(HttpError):
            look_up(site, b"GET", target)


def test_what_lasts_is_told_to_the_front(tree: Tree) -> None:
    site = site_of(tree, redirects=(*REDIRECTS, {"from": "/exact", "to": "/e"}))
    exact = site.lasting(b"/exact")
    assert isinstance(exact, Reply)
    assert (exact.status, exact.fields[-1]) == (301, (b"Location", b"/e"))
    forced = site.lasting(b"/x.html")
    assert isinstance(forced, Reply)
    assert isinstance(site.lasting(b"/a.html"), Entry)
    assert [site.lasting(path) for path in (b"/forced", b"/moved/a", b"/none", b"/gone")] == [None] * 4

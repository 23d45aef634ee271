"""zcserve.net.leading: where a target leads that no application has, in the order of rules/compiled.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.passwords import ALICE_BCRYPT
from tests.support.trees import Tree
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation
from zcserve.config.table import Config
from zcserve.errors import HttpError
from zcserve.net.leading import lasting, look_up
from zcserve.rules.book import Rulebook
from zcserve.rules.redirects import Queries
from zcserve.site.exchange import Stored
from zcserve.site.listings import Listed
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
    assert not isinstance(found, Listed)
    _, entry = found
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


def lasts(site: Site, path: bytes) -> tuple[object, ...] | None:
    """What the front is told: the status, where it leads, for which queries, and whether the path is a key."""
    found = lasting(site, path)
    if found is None:
        return None
    answer = found.answer
    if isinstance(answer, Entry):
        return found.status, answer.key, found.queries, found.is_own
    return answer.status, dict(answer.fields).get(b"Location", b""), found.queries, found.is_own


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (b"/a.html", (200, b"/a.html", Queries.ANY, True)),
        (b"/dir", (301, b"/dir/", Queries.SENT, True)),
        (b"/a", (200, b"/a.html", Queries.ANY, False)),
        (b"/moved/a", (307, b"/here/a", Queries.PLAIN, False)),
        (b"/exact", (301, b"/e", Queries.PLAIN, False)),
        (b"/asks", (301, b"/asked", Queries.NONE, False)),
        (b"/forced", (200, b"/a.html", Queries.ANY, False)),
        (b"/to-dir", (200, b"/dir/index.html", Queries.ANY, False)),
        (b"/gone", (410, b"/410.html", Queries.ANY, False)),
        (b"/to-nothing", (404, b"", Queries.ANY, False)),
        (b"/route/x", (200, b"/index.html", Queries.ANY, False)),
        (b"/none.js", (404, b"", Queries.ANY, False)),
        (b"/x.html", (302, b"/y", Queries.PLAIN, False)),  # a file, and a rule with force over it
        (b"/x", None),  # the front cannot know that file by its key
        (b"/%61", None),
        (b"//a", None),
    ],
)
def test_what_lasts_is_told_to_the_front(tree: Tree, path: bytes, told: tuple[object, ...] | None) -> None:
    more = (
        {"from": "/x.html", "to": "/y", "force": True, "status": 302},
        {"from": "/exact", "to": "/e"},
        {"from": "/asks", "to": "/asked", "query": {"q": "1"}},
        {"from": "/asks", "to": "/asked"},
    )
    site = site_of(tree, redirects=(REDIRECTS[0], *more, *REDIRECTS[2:]), clean_urls=True, spa=True)
    assert lasts(site, path) == told


def test_what_an_older_release_has_does_not_last(tree: Tree) -> None:
    site = site_of(tree, clean_urls=True)
    kept = site.live
    site.serve(Generation(kept.root, {b"/b": Redirect(b"/b/")}), [kept])
    for path in (b"/a.html", b"/dir", b"/old"):
        assert site.find(path)[1] is not None
        assert lasts(site, path) is None
    assert lasts(site, b"/none") == (404, b"", Queries.ANY, False)


def test_a_path_and_its_file_are_asked_for_a_password_once_and_none_that_asks_is_taught(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bcrypt")
    tree.plant({"in.html": b"i", "451.html": b"l"})
    auth = ({"path": ["/in.html", "/451.html", "/secret/**"], "users": {"alice": ALICE_BCRYPT}},)
    leads = ({"from": "/rewritten", "to": "/in.html", "status": 200}, {"from": "/legal", "status": 451})
    site = site_of(tree, auth=auth, redirects=(*REDIRECTS, *leads), clean_urls=True)
    asked: list[bytes] = []
    asks = Site.asks

    def noted(self: Site, key: bytes) -> object:
        asked.append(key)
        return asks(self, key)

    monkeypatch.setattr(Site, "asks", noted)
    for path, keys, is_taught in (
        (b"/a.html", [b"/a.html"], True),
        (b"/old", [b"/old"], True),
        (b"/", [b"/", b"/index.html"], True),
        (b"/a", [b"/a", b"/a.html"], True),
        (b"/dir", [b"/dir"], True),
        (b"/none", [b"/none"], True),
        (b"/moved/a", [b"/moved/a"], True),
        (b"/forced", [b"/forced", b"/a.html"], True),
        (b"/in", [b"/in", b"/in.html"], False),
        (b"/in.html", [b"/in.html"], False),
        (b"/rewritten", [b"/rewritten", b"/in.html"], False),
        (b"/gone", [b"/gone", b"/410.html"], True),
        (b"/legal", [b"/legal", b"/451.html", b"/legal"], True),  # a small page: that of the site asks for more
        (b"/secret", [b"/secret"], False),
        (b"/secret/none", [b"/secret/none"], False),
    ):
        asked.clear()
        assert ((lasting(site, path) is not None), asked) == (is_taught, keys), path
    legal = lasting(site, b"/legal")
    assert legal is not None
    assert isinstance(legal.answer, Reply)

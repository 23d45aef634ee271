"""A release is prepared: what it shares, what it answers, what it gives back, and what a flip finds of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.contents import Show, Shown
from tests.support.trees import entry_of
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.content.builder import Builder
from zcserve.content.preparing import TOLD_MAX, Preparation
from zcserve.content.purging import Aim
from zcserve.errors import NotNowError

FILES = {"page": b"one", "same": b"the same in all", "a.1.js": b"asset of one", "large": b"large " * 20_000}
NEXT = {"page": b"two", "b.2.js": b"asset of two"}


class Node:
    """A root that leads to the directory `1`, which is served."""

    def __init__(self, show: Show, **settings: Any) -> None:
        self.shown: Shown = show(FILES, **settings)
        self.root = Path(self.shown.tree.path)
        self.at = self.root.parent
        self.root.rename(self.at / "1")
        self.point("1")
        self.shown.releases.ask()
        self.shown.finish()

    def make(self, name: str, changed: Mapping[str, bytes | None]) -> Path:
        """A release that has the files of the first one, hard-linked, but for these; None: it lacks one."""
        made = self.at / name
        shutil.copytree(self.at / "1", made, copy_function=os.link)
        for file, content in changed.items():
            (made / file).unlink(missing_ok=True)
            if content is not None:
                (made / file).write_bytes(content)
        return made

    def second(self) -> Path:
        changed: dict[str, bytes | None] = {"a.1.js": None, **NEXT}
        return self.make("2", changed)

    def point(self, to: str) -> None:
        aside = self.at / "aside"
        aside.symlink_to(to)
        aside.rename(self.root)

    def prepare(self, path: Path | str | None) -> Preparation:
        told: list[Preparation] = []
        self.shown.preparing.prepare(None if path is None else str(path), told.append)
        return self.shown.turn_until(lambda: told)[0]

    def reload(self) -> str:
        told: list[str] = []
        self.shown.releases.ask(told.append)
        return self.shown.turn_until(lambda: told)[0]

    def found(self, key: bytes) -> Generation | None:
        generation, resource = self.shown.site.find(key)
        return generation if resource is not None else None

    @property
    def memory(self) -> tuple[int, int, int]:
        store = self.shown.store
        store.take_back()
        return store.committed, store.resident, store.overhead


@pytest.fixture
def node(show: Show) -> Node:
    return Node(show, keep_generations=1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys of files that are read to be resident."""
    keys: list[bytes] = []
    for name in ("read_small", "_load_large"):
        whole = getattr(Loader, name)

        def told(self: Loader, root: Any, fd: Any, entry: Entry, *more: Any, whole: Callable[..., Any] = whole) -> Any:
            keys.append(entry.key)
            return whole(self, root, fd, entry, *more)

        monkeypatch.setattr(Loader, name, told)
    return keys


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The roots of generations that are built to be the live one."""
    paths: list[str] = []
    build = Builder.build

    def told(self: Builder, **options: Any) -> Any:
        paths.append(os.path.realpath(self.config.directory))
        return build(self, **options)

    monkeypatch.setattr(Builder, "build", told)
    return paths


def test_what_the_live_release_lacks_is_answered_from_the_prepared_one_which_shares_what_is_the_same(
    node: Node, read: list[bytes]
) -> None:
    site, second = node.shown.site, node.second()
    live = site.live
    told = node.prepare(second)
    assert (told.root, told.files, told.share, told.shared, told.is_live) == (str(second), 4, 1.0, 2, False)
    assert (told.bytes, told.problems_total, told.why) == (120_000 + len(b"the same in alltwoasset of two"), 0, "")
    assert sorted(read) == [b"/b.2.js", b"/page"]
    prepared = site.prepared
    assert prepared is not None
    assert site.live is live
    assert node.found(b"/b.2.js") is prepared
    assert (node.found(b"/page"), node.found(b"/a.1.js"), node.found(b"/nothing")) == (live, live, None)
    assert entry_of(prepared, b"/large") is entry_of(live, b"/large")

    again = node.prepare(second)
    assert (again.files, again.bytes, again.share) == (told.files, told.bytes, 1.0)
    assert len(read) == 2
    assert node.found(b"/b.2.js") is site.prepared


def test_a_flip_to_what_is_prepared_builds_and_reads_nothing_and_a_rollback_neither(
    node: Node, read: list[bytes], built: list[str]
) -> None:
    site, second = node.shown.site, node.second()
    first, asset = site.live, node.shown.entry(b"/a.1.js")
    node.prepare(second)
    prepared, count = site.prepared, len(read)
    node.point("2")
    assert node.reload() == ""
    assert site.live is prepared
    assert (site.prepared, site.older, node.shown.preparing.held) == (None, (first,), None)
    assert node.shown.live.watcher is not None
    assert not node.shown.live.watcher.is_lost
    assert (len(read), built) == (count, [])
    assert (node.found(b"/a.1.js"), node.found(b"/b.2.js")) == (first, prepared)

    told = node.prepare(node.at / "1")  # which is kept
    assert (told.share, told.shared, told.files) == (1.0, 4, 4)
    node.point("1")
    node.reload()
    assert (len(read), built) == (count, [])
    assert entry_of(site.live, b"/a.1.js") is asset
    assert node.found(b"/b.2.js") is prepared

    (node.at / "1" / "later").write_bytes(b"later")  # it is followed as any live release
    node.shown.turn_until(lambda: node.shown.patches.due(node.shown.loop.now) <= node.shown.loop.now)
    node.shown.patches.begin(node.shown.loop.now)
    node.shown.finish()
    assert node.found(b"/later") is site.live


def test_what_changes_while_it_is_prepared_is_there_after_the_flip(node: Node, built: list[str]) -> None:
    site, second = node.shown.site, node.second()
    node.prepare(second)
    (second / "later").write_bytes(b"later")
    (second / "b.2.js").unlink()
    aside = second / ".aside"
    aside.write_bytes(b"two, again")
    aside.rename(second / "page")
    with open(node.at / "1" / "same", "r+b") as file:  # the same file under the live release's name: no event here
        file.write(b"THE")
    node.shown.turn_until(lambda: node.shown.patches.due(node.shown.loop.now) <= node.shown.loop.now)
    node.shown.patches.begin(node.shown.loop.now)
    node.shown.finish()
    node.point("2")
    node.reload()
    assert built == []
    live = site.live
    assert live.root.is_in_place()
    assert node.found(b"/later") is live
    assert node.found(b"/b.2.js") is None
    contents = {key: node.shown.loader.read(live.root, entry_of(live, key)) for key in (b"/page", b"/same", b"/later")}
    assert contents == {b"/page": b"two, again", b"/same": b"THE same in all", b"/later": b"later"}


def test_memory_comes_back_when_it_is_dropped_and_when_another_one_is_prepared(node: Node) -> None:
    second, third = node.second(), node.make("3", {"big": b"another " * 30_000, "small": b"small"})
    before = node.memory
    node.prepare(third)
    with_third = node.memory
    assert with_third > before
    for _ in range(10):
        node.prepare(second)
        assert node.shown.site.prepared is not None
        assert node.found(b"/big") is None
        node.prepare(third)
        assert node.found(b"/b.2.js") is None
        assert node.memory == with_third
        assert node.prepare(None) == Preparation()
        assert node.shown.site.prepared is None
        assert node.memory == before
    assert node.prepare(None) == Preparation()
    assert not node.shown.live.is_building


@pytest.mark.parametrize(
    ("name", "why", "status"),
    [
        ("nothing", "does not exist", 503),
        ("1/page", "is not a directory", 503),
        ("", "is no absolute path", 400),
        ("3", "_redirects:1", 400),
    ],
)
def test_what_cannot_be_prepared_is_refused_for_now_or_for_good_and_what_was_prepared_stays(
    node: Node, name: str, why: str, status: int
) -> None:
    second = node.second()
    node.prepare(second)
    (node.at / "3").mkdir()
    (node.at / "3" / "_redirects").write_text("/drafts/* / 403! Nope=1\n")
    told = node.prepare(node.at / name if name else "2")
    assert why in told.why
    assert told.status == status
    assert node.found(b"/b.2.js") is node.shown.site.prepared is not None


def test_the_live_directory_is_prepared_by_being_live(node: Node) -> None:
    node.prepare(node.second())
    told = node.prepare(node.at / "1")
    assert (told.is_live, told.files, told.share) == (True, 4, 1.0)
    assert node.shown.site.prepared is None
    assert node.found(b"/b.2.js") is None


def test_a_root_that_leads_elsewhere_is_built_and_what_is_prepared_stays(node: Node, built: list[str]) -> None:
    site, second = node.shown.site, node.second()
    first = site.live
    node.prepare(second)
    node.make("3", {"page": b"three", "same": None})
    node.point("3")
    node.reload()
    assert [Path(path).name for path in built] == ["3"]
    assert site.generations == (site.live, site.prepared, first)
    assert node.found(b"/same") is site.prepared  # before the one that is kept
    node.point("2")
    prepared = site.prepared
    node.reload()
    assert site.live is prepared
    assert len(built) == 1


@pytest.mark.parametrize("how", ["no watch", "rules", "lost"])
def test_where_no_watcher_can_tell_it_is_built_and_shares(
    show: Show, how: str, read: list[bytes], built: list[str]
) -> None:
    node = Node(show, watch=how != "no watch")
    second = node.second()
    node.prepare(second)
    built.clear()
    count = len(read)
    if how == "rules":
        (second / "_headers").write_bytes(b"/never\n  X-Never: 1\n")
    elif how == "lost":
        second = second.rename(node.at / "moved")
    (second / "later").write_bytes(b"later")
    node.point(second.name)
    node.reload()
    site = node.shown.site
    assert len(built) == 1
    assert (site.prepared, node.shown.preparing.held) == (None, None)
    assert read[count:] == [b"/later"]
    assert node.found(b"/later") is node.found(b"/b.2.js") is site.live
    assert site.live.root.is_in_place()
    assert node.shown.store.overhead == site.live.index_bytes


def test_nothing_makes_room_for_what_is_prepared_and_the_flip_does(show: Show) -> None:
    node = Node(show, memory=400_000)
    keys = (b"/page", b"/same", b"/a.1.js", b"/large")
    second = node.make("2", {"large": b"LARGE " * 20_000, "more": b"more " * 30_000})
    told = node.prepare(second)
    assert 0 < told.share < 1
    assert all(node.shown.entry(key).body is not None for key in keys)
    assert node.shown.store.evictions == 0
    node.point("2")
    node.reload()
    report = node.shown.releases.report
    assert (report.left_out, report.files) == (0, 5)


def test_a_purge_is_of_what_is_prepared_too(node: Node) -> None:
    site, second = node.shown.site, node.second()
    node.prepare(second)
    status = (second / "b.2.js").stat()
    (second / "b.2.js").write_bytes(b"ASSET OF TWO")
    os.utime(second / "b.2.js", ns=(status.st_atime_ns, status.st_mtime_ns))
    purged = node.shown.purge(Aim.paths([b"/b.2.js"]), hard=False)
    assert (purged.matched, purged.purged, purged.bytes) == (1, 1, 12)
    assert site.prepared is not None
    assert node.shown.loader.read(site.prepared.root, entry_of(site.prepared, b"/b.2.js")) == b"ASSET OF TWO"
    purged = node.shown.purge(Aim.prefix(b"/"), hard=True)
    assert (purged.matched, purged.purged) == (6, 6)  # what both have counts once
    assert entry_of(site.prepared, b"/b.2.js").body is None


def test_while_another_process_has_the_memory_nothing_is_prepared_and_too_many_are_refused(node: Node) -> None:
    second = node.second()
    told: list[Preparation] = []
    before = node.memory
    node.shown.renewals.pause(lambda then: then())
    assert node.prepare(second).status == 409
    assert node.found(b"/b.2.js") is None
    assert node.memory == before
    node.shown.renewals.resume()
    for _ in range(TOLD_MAX):
        node.shown.preparing.prepare(str(second), told.append)
    with pytest.raises(NotNowError, match="wait for this"):
        node.shown.preparing.prepare(str(second), told.append)
    node.shown.turn_until(lambda: len(told) == TOLD_MAX)
    assert not any(one.why for one in told)
    node.shown.store.freeze()
    with pytest.raises(NotNowError, match="upgrade"):
        node.shown.preparing.prepare(None, told.append)


def test_what_is_wished_for_last_holds(node: Node) -> None:
    second, third = node.second(), node.make("3", {"c.3.js": b"asset of three"})
    told: dict[str, Preparation] = {}
    for name, path in (("first", second), ("then", third), ("drop", None), ("last", second)):
        wish = None if path is None else str(path)
        node.shown.preparing.prepare(wish, lambda found, name=name: told.update({name: found}))  # type: ignore[misc]
    node.shown.turn_until(lambda: len(told) == 4)
    assert [told[name].status for name in ("first", "then", "drop", "last")] == [409, 409, 409, 200]
    assert node.found(b"/b.2.js") is node.shown.site.prepared is not None


@pytest.mark.parametrize("then", ["a reload", "the flip", "a drop", "the same", "another"])
def test_a_long_preparation_makes_way(node: Node, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """What comes while it loads is done first, and what was loaded is not loaded again."""
    second = node.second()
    for number in range(3):
        (second / f"d{number}").mkdir()
        (second / f"d{number}" / "file").write_bytes(b"%d" % number)
    third = node.make("3", {"c.3.js": b"asset of three"})
    told: dict[str, Any] = {}
    come: list[bool] = []
    progress = node.shown.builder.progress

    def begin(done: int, total: int) -> None:
        if total and not come:
            come.append(True)
            preparing = node.shown.preparing
            path = {"a drop": None, "another": str(third)}.get(then, str(second))
            if then == "the flip":
                node.point("2")
            if then in ("a reload", "the flip"):
                node.shown.jobs.in_loop(lambda: node.shown.releases.ask(lambda why: told.update(then=why)))
            else:
                node.shown.jobs.in_loop(lambda: preparing.prepare(path, lambda found: told.update(then=found)))
            node.shown.jobs.in_loop(lambda: None)  # what was asked for has come to the thread by then

    progress.subscribe(begin)
    node.shown.preparing.prepare(str(second), lambda found: told.update(first=found))
    node.shown.turn_until(lambda: len(told) == 2)
    first: Preparation = told["first"]
    site = node.shown.site
    if then in ("a drop", "another"):
        assert (list(told), first.status) == (["first", "then"], 409)
        assert node.found(b"/d2/file") is None
        assert node.found(b"/c.3.js") is (None if then == "a drop" else site.prepared)
        return
    assert (first.status, first.share, first.files) == (200, 1.0, 7)
    if then == "the flip":
        assert (list(told), told["then"], first.is_live) == (["then", "first"], "", True)
        assert node.shown.releases.report.left_out == 0
    elif then == "a reload":
        assert (list(told), told["then"]) == (["then", "first"], "")
    assert node.found(b"/d2/file") is (site.live if then == "the flip" else site.prepared)


def test_the_end_of_the_server_waits_for_no_preparation(node: Node) -> None:
    second = node.second()
    told: list[Preparation] = []
    node.shown.builder.progress.subscribe(lambda done, total: node.shown.builder.closing.set())
    node.shown.preparing.prepare(str(second), told.append)
    node.shown.turn_until(node.shown.builder.closing.is_set)
    assert node.shown.jobs.close(10)
    node.shown.preparing.close()
    assert (node.shown.site.prepared, node.shown.live.is_building) == (None, False)
    node.shown.preparing.prepare(None, told.append)
    node.shown.preparing.end()
    node.shown.turn_until(lambda: len(told) == 2)  # they hear of it, for the server may go on
    assert [one.status for one in told] == [409, 409]
    with pytest.raises(NotNowError, match="built anew"):
        node.shown.preparing.prepare(None, told.append)


def test_what_is_pinned_meanwhile_is_pinned_in_what_is_prepared(node: Node) -> None:
    node.prepare(node.second())
    node.shown.pin(add=["*.js"])
    prepared = node.shown.site.prepared
    assert prepared is not None
    assert entry_of(prepared, b"/b.2.js") in node.shown.store.held
    before = node.shown.store.pinned_bytes
    node.prepare(None)
    assert node.shown.store.pinned_bytes < before


def test_a_clean_url_of_what_is_prepared_leads_there(show: Show) -> None:
    node = Node(show, clean_urls=True, keep_generations=1)
    node.prepare(node.make("2", {"about.html": b"about", "page": None}))
    assert node.found(b"/about") is node.shown.site.prepared
    node.prepare(None)
    assert node.found(b"/about") is None


def test_what_a_release_hides_is_hidden_before_it_is_live_and_when_it_is_no_more(node: Node) -> None:
    hidden = {"drafts": b"not yet", "_redirects": b"/drafts / 403!\n/a.1.js /page 301\n"}
    second = node.make("2", {**NEXT, **hidden})
    node.prepare(second)
    assert node.found(b"/b.2.js") is node.shown.site.prepared
    assert node.found(b"/drafts") is None
    node.point("2")
    node.reload()
    node.make("3", {})
    node.point("3")
    node.reload()
    assert node.found(b"/b.2.js") is node.shown.site.older[0]
    assert node.found(b"/drafts") is None


def test_what_is_not_served_as_it_lies_there_is_named(node: Node) -> None:
    second = node.second()
    for number in range(12):
        (second / f"outside-{number:02}").symlink_to("/etc/hostname")
    told = node.prepare(second)
    assert told.problems_total == 12
    assert [one.path for one in told.problems] == [f"outside-{number:02}" for number in range(10)]

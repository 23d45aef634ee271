"""The watcher, with the kernel's own events of real files; time is a number that the tests choose."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.trees import Tree, as_nobody, descriptors, entry_of, publish
from tests.support.waiting import is_readable
from zcserve.cache import inotify
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import Generation
from zcserve.cache.patch import Patch
from zcserve.cache.root import Root
from zcserve.cache.walk import Changes, walk, walk_again
from zcserve.cache.watcher import (
    BLIND_RESCAN_S,
    BURST_NAMES,
    BURST_WAIT_S,
    QUIET_S,
    SETTLE_S,
    SMALL_WAIT_S,
    Watcher,
)

INDEX = ("index.html",)


class Followed:
    """A tree that is watched from its first walk on, and the generation that is kept true."""

    def __init__(self, path: Path, **limits: Any) -> None:
        self.path = path
        self.root = Root(path)
        self.watcher = Watcher(self.root, **limits)
        self.generation: Generation = walk(self.root, index=INDEX, observer=self.watcher)
        self.now = 1000.0
        self.patch = Patch({}, [])

    def changes(self, wait_s: float = 0.0) -> Changes:
        """What is told `wait_s` seconds later (0: as soon as it is due)."""
        while is_readable(self.watcher.fd):
            self.watcher.read(self.now)
        due = self.watcher.due(self.now)
        self.now += wait_s
        if not wait_s and due < self.now + SMALL_WAIT_S + BURST_WAIT_S:
            self.now = max(self.now, due)
        return self.watcher.take(self.now)

    def follow(self, wait_s: float = 0.0) -> Changes:
        """Patch the generation with what has changed."""
        changes = self.changes(wait_s)
        self.patch = walk_again(self.generation, changes, index=INDEX, observer=self.watcher)
        self.patch.apply(self.generation)
        return changes

    def keys(self) -> set[bytes]:
        return {key for key, resource in self.generation.resources.items() if getattr(resource, "key", b"") == key}

    def entry(self, key: bytes) -> Entry:
        return entry_of(self.generation, key)


@pytest.fixture
def follow(tree: Tree) -> Iterator[Callable[..., Followed]]:
    """`follow(**limits)`: the tree, followed from now on."""
    made: list[Followed] = []

    def start(**limits: Any) -> Followed:
        made.append(Followed(tree.path, **limits))
        return made[-1]

    yield start
    for followed in made:
        followed.watcher.close()


# --- files ------------------------------------------------------------------------------------------------


def test_nothing_happens_while_nothing_happens(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"a": b"", "d/b": b""})
    site = follow()
    assert site.watcher.due(0.0) == math.inf
    assert not site.changes()
    assert (site.watcher.events, site.watcher.batches, site.watcher.overflows) == (0, 0, 0)


def test_a_page_renamed_over_another_is_told_at_once(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"page.html": b"old", "new.html": b"newer", "other.html": b"x"})
    site = follow()
    old, other = site.entry(b"/page.html"), site.entry(b"/other.html")
    (tree.path / "new.html").rename(tree.path / "page.html")
    assert site.follow() == Changes({b"": {b"new.html", b"page.html"}})
    assert site.now <= 1000.0 + SMALL_WAIT_S
    assert site.keys() == {b"/page.html", b"/other.html"}
    assert site.entry(b"/page.html") is not old
    assert site.entry(b"/page.html").size == 5
    assert site.entry(b"/other.html") is other
    assert site.patch.resources[b"/new.html"] is None
    assert site.watcher.batches == 1


def test_a_file_that_is_deleted_is_gone_and_one_that_is_linked_is_there_at_once(
    tree: Tree, follow: Callable[..., Followed]
) -> None:
    tree.plant({"a": b"a", "b": b"b"})
    site = follow()
    (tree.path / "a").unlink()
    os.link(tree.path / "b", tree.path / "c")
    (tree.path / "d").symlink_to("b")
    site.follow()
    assert site.keys() == {b"/b", b"/c", b"/d"}


def test_a_file_whose_status_alone_changes_is_a_new_entry(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"a": b"a"})
    site = follow()
    os.utime(tree.path / "a", (0, 5))
    site.follow()
    assert site.entry(b"/a").modified == 5


def test_a_name_that_was_looked_at_for_nothing_keeps_its_entry(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"a": b"a"})
    site = follow()
    os.close(os.open(tree.path / "a", os.O_WRONLY))
    assert site.follow().names == {b"": {b"a"}}
    assert site.patch.resources == {}


@pytest.mark.parametrize("name", ["new", "old"])
def test_a_file_is_told_when_its_writer_closes_it(tree: Tree, follow: Callable[..., Followed], name: str) -> None:
    tree.plant({"old": b"was"})
    site = follow()
    before = dict(site.generation.resources)
    with open(tree.path / name, "wb", buffering=0) as file:
        for _ in range(3):
            file.write(b"piece")
            assert site.follow() == Changes(held={name.encode()})
            assert site.generation.resources == before
    assert site.follow() == Changes({b"": {name.encode()}})
    assert site.entry(f"/{name}".encode()).size == 15


def test_a_file_that_stays_open_is_told_when_it_is_quiet(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({})
    site = follow()
    with open(tree.path / "a", "wb", buffering=0) as file:
        file.write(b"one")
        assert not site.changes()
        assert site.watcher.due(site.now) == site.now + QUIET_S
        assert not site.changes(QUIET_S / 2)
        file.write(b"two")
        assert not site.changes(QUIET_S * 3 / 4)  # quiet begins anew
        site.follow(QUIET_S)
        assert site.entry(b"/a").size == 6
        assert site.watcher.due(site.now) == math.inf
        file.write(b"three")
        assert not site.changes()
        os.truncate(tree.path / "a", 1)
        site.follow(QUIET_S)
        assert site.entry(b"/a").size == 1


def test_renaming_a_file_publishes_it_though_it_is_open(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({})
    site = follow()
    with open(tree.path / "a.new", "wb", buffering=0) as file:
        file.write(b"one")
        (tree.path / "a.new").rename(tree.path / "a")
        site.follow()
        assert site.entry(b"/a").size == 3
        file.write(b"two")
        assert site.follow() == Changes(held={b"a"})
    site.follow()
    assert site.entry(b"/a").size == 6


def test_a_deleted_file_is_not_held_though_it_is_open(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"a": b"a"})
    site = follow()
    with open(tree.path / "a", "wb", buffering=0) as file:
        file.write(b"one")
        (tree.path / "a").unlink()
        file.write(b"two")
        assert site.follow() == Changes({b"": {b"a"}})
    assert site.keys() == set()


def test_hidden_files_are_passed_over(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"d/a": b"x", ".well-known/b": b"x", ".git/c": b"x"})
    site = follow()
    tree.plant({".swp": b"x", "d/.a.Xy12": b"x", ".git/c": b"y", ".git/d": b"y"})
    (tree.path / ".git/refs").mkdir()
    assert not site.changes()
    assert site.watcher.due(site.now) == math.inf
    (tree.path / "d/.a.Xy12").rename(tree.path / "d/a")  # as rsync does
    publish(tree.path / ".well-known/b", b"longer")
    assert site.follow().names == {b"d/": {b"a"}, b".well-known/": {b"b", b"b.new"}}
    assert site.entry(b"/.well-known/b").size == 6


# --- siblings and indexes ---------------------------------------------------------------------------------


def test_siblings_are_paired_again(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"a.css": b"x", "a.css.gz": b"x"})
    os.utime(tree.path / "a.css", (0, 100))
    site = follow()

    def codings() -> list[bytes]:
        return [variant.encoding for variant in site.entry(b"/a.css").variants]

    assert codings() == [b"gzip"]
    tree.plant({"a.css.br": b"x"})
    site.follow()
    assert codings() == [b"br", b"gzip"]
    publish(tree.path / "a.css", b"newer")  # than both
    os.utime(tree.path / "a.css", (0, 1 << 33))
    site.follow()
    assert codings() == []
    assert {problem.path for problem in site.patch.problems} == {"a.css.gz", "a.css.br"}
    (tree.path / "a.css").unlink()
    site.follow()
    assert site.keys() == {b"/a.css.gz", b"/a.css.br"}
    tree.plant({"a.css": b"x"})
    os.utime(tree.path / "a.css", (0, 100))
    site.follow()
    assert site.keys() == {b"/a.css", b"/a.css.gz", b"/a.css.br"}
    assert codings() == [b"br", b"gzip"]


def test_while_a_file_is_written_its_siblings_wait_and_while_a_sibling_is_written_its_file_does_not(
    tree: Tree, follow: Callable[..., Followed]
) -> None:
    tree.plant({"a": b"old"})
    site = follow()
    kept = site.entry(b"/a")
    with open(tree.path / "a", "wb", buffering=0) as file:
        file.write(b"newer")
        tree.plant({"a.gz": b"x"})
        site.follow()
        assert site.entry(b"/a") is kept
        assert site.keys() == {b"/a"}
    with open(tree.path / "a.br", "wb", buffering=0) as file:
        file.write(b"x")
        site.follow()
        assert site.entry(b"/a").size == 5
        assert [variant.encoding for variant in site.entry(b"/a").variants] == [b"gzip"]
    site.follow()
    assert [variant.encoding for variant in site.entry(b"/a").variants] == [b"br", b"gzip"]


def test_a_directory_answers_while_it_has_an_index(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"d/a": b"x"})
    site = follow()
    tree.plant({"d/index.html": b"x", "index.html": b"x"})
    site.follow()
    resources = site.generation.resources
    assert resources[b"/"] is resources[b"/index.html"]
    assert resources[b"/d/"] is resources[b"/d/index.html"]
    assert isinstance(resources[b"/d"], Redirect)
    publish(tree.path / "d/index.html", b"another")
    site.follow()
    assert resources[b"/d/"] is resources[b"/d/index.html"]
    assert site.patch.resources.keys() == {b"/d/", b"/d/index.html"}
    (tree.path / "d/index.html").unlink()
    (tree.path / "index.html").unlink()
    site.follow()
    assert set(resources) == {b"/d/a"}


def test_a_file_and_a_directory_change_places(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"d/index.html": b"x", "e": b"x"})
    site = follow()
    (tree.path / "d").rename(tree.path / "f")
    (tree.path / "e").rename(tree.path / "d")
    (tree.path / "f").rename(tree.path / "e")
    site.follow()
    assert set(site.generation.resources) == {b"/d", b"/e", b"/e/", b"/e/index.html"}
    assert isinstance(site.generation.resources[b"/e"], Redirect)
    assert site.entry(b"/d").size == 1


# --- directories ------------------------------------------------------------------------------------------


def test_what_appears_in_a_new_directory_appears_however_deep(tree: Tree, follow: Callable[..., Followed]) -> None:
    site = follow()
    tree.plant({"d/e/f/a": b"x"})
    assert site.follow().names == {b"": {b"d"}}
    tree.plant({"d/e/f/b": b"x", "d/c/g": b"x"})
    assert site.follow().names == {b"d/e/f/": {b"b"}, b"d/": {b"c"}}
    assert site.keys() == {b"/d/e/f/a", b"/d/e/f/b", b"/d/c/g"}


def test_a_directory_that_is_renamed_is_followed_under_its_new_name_only(
    tree: Tree, follow: Callable[..., Followed]
) -> None:
    tree.plant({"d/e/a": b"x", "d/b": b"x"})
    site = follow()
    (tree.path / "d").rename(tree.path / "n")
    changes = site.follow()
    assert changes.names == {b"": {b"d", b"n"}}
    assert changes.trees >= {b"d/"}
    assert site.keys() == {b"/n/e/a", b"/n/b"}
    tree.plant({"n/e/c": b"x", "d/e/d": b"x"})
    site.follow()
    assert site.keys() == {b"/n/e/a", b"/n/b", b"/n/e/c", b"/d/e/d"}


def test_a_directory_that_is_moved_out_is_gone_and_nothing_in_it_is_told(
    tree: Tree, tmp_path: Path, follow: Callable[..., Followed]
) -> None:
    tree.plant({"d/e/a": b"x", "b": b"x"})
    site = follow()
    (tree.path / "d").rename(tmp_path / "d")
    site.follow()
    assert site.keys() == {b"/b"}
    (tmp_path / "d/e/c").write_bytes(b"x")
    assert not site.changes()
    (tmp_path / "d").rename(tree.path / "d")
    site.follow()
    assert site.keys() == {b"/b", b"/d/e/a", b"/d/e/c"}
    publish(tree.path / "d/e/a", b"longer")
    site.follow()
    assert site.entry(b"/d/e/a").size == 6


def test_a_directory_that_is_deleted_takes_all_below_it(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({f"d/{number}/index.html": b"x" for number in range(100)})
    tree.plant({"d0/a": b"x", "d-/a": b"x", "d.html": b"x"})
    site = follow()
    subprocess.run(["rm", "-r", tree.path / "d"], check=True)
    site.follow()
    assert site.keys() == {b"/d0/a", b"/d-/a", b"/d.html"}
    assert set(site.generation.resources) == site.keys()


def test_a_directory_is_there_while_it_may_be_read(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"d/a": b"x", "e/b": b"x"})
    (tree.path / "d").chmod(0o755)
    (tree.path / "e").chmod(0o755)
    site = follow()
    both = {b"/d/a", b"/e/b"}
    try:
        for mode, expected in ((0o700, {b"/e/b"}), (0o755, both), (0, {b"/e/b"}), (0o711, {b"/e/b"}), (0o555, both)):
            (tree.path / "d").chmod(mode & 0o055 if os.geteuid() else mode)  # not even to its owner, if that is us
            with as_nobody():
                assert site.follow().names == {b"": {b"d"}}
            assert site.keys() == expected
    finally:
        (tree.path / "d").chmod(0o755)


def test_a_directory_whose_time_is_set_is_not_walked(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"d/e/a": b"x"})
    site = follow()
    os.utime(tree.path / "d", (0, 5))  # as rsync does when it is done
    os.utime(tree.path, (0, 5))
    assert not site.changes()
    assert site.watcher.events == 3  # two of d: one by the root's watch, one by its own


# --- symlinks ---------------------------------------------------------------------------------------------


def test_a_link_that_is_re_pointed_stands_for_something_else(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"a": b"a", "b": b"long"})
    (tree.path / "link").symlink_to("a")
    site = follow()
    subprocess.run(["ln", "-sfn", "b", tree.path / "link"], check=True)
    site.follow()
    assert site.entry(b"/link").identity == site.entry(b"/b").identity


def test_a_change_of_a_file_changes_its_links(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({".hidden/a": b"a"})
    (tree.path / "b").symlink_to(".hidden/a")
    (tree.path / "c").symlink_to("b")
    site = follow()
    with open(tree.path / ".hidden/a", "ab", buffering=0) as file:
        file.write(b"a")
        assert site.changes() == Changes(held={b"b", b"c"})
    assert site.follow().names == {b"": {b"b", b"c"}}
    assert [site.entry(key).size for key in (b"/b", b"/c")] == [2, 2]
    (tree.path / ".hidden/a").unlink()
    site.follow()
    assert site.keys() == set()
    tree.plant({".hidden/a": b"again"})
    site.follow()
    assert site.keys() == {b"/b", b"/c"}


def test_a_volume_of_a_cluster_is_updated_in_one_step(tree: Tree, follow: Callable[..., Followed]) -> None:
    """Kubernetes' ConfigMap volumes: `file -> ..data/file`, `..data -> ..<time>`, re-pointed by rename."""
    tree.plant({"..1/a": b"old", "..1/b": b"old", "..2/a": b"newer", "..2/b": b"newer"})
    (tree.path / "..data").symlink_to("..1")
    for name in ("a", "b"):
        (tree.path / name).symlink_to(f"..data/{name}")
    site = follow()
    (tree.path / "..data_tmp").symlink_to("..2")
    (tree.path / "..data_tmp").rename(tree.path / "..data")
    assert site.follow().names == {b"": {b"a", b"b"}}
    assert [site.entry(key).size for key in (b"/a", b"/b")] == [5, 5]


def test_a_linked_directory_is_followed_by_both_its_paths(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"r/1/a": b"x", "r/2/b": b"x"})
    (tree.path / "now").symlink_to("r/1")
    site = follow()
    tree.plant({"r/1/c": b"x"})
    assert site.follow().names == {b"r/1/": {b"c"}, b"now/": {b"c"}}
    assert site.keys() == {b"/r/1/a", b"/r/1/c", b"/r/2/b", b"/now/a", b"/now/c"}
    subprocess.run(["ln", "-sfn", "r/2", tree.path / "now"], check=True)
    site.follow()
    assert site.keys() == {b"/r/1/a", b"/r/1/c", b"/r/2/b", b"/now/b"}
    (tree.path / "r").rename(tree.path / "q")
    site.follow()
    assert site.keys() == {b"/q/1/a", b"/q/1/c", b"/q/2/b"}


def test_a_link_to_itself_ends(tree: Tree, follow: Callable[..., Followed]) -> None:
    (tree.path / "a").symlink_to("b")
    (tree.path / "b").symlink_to("a")
    site = follow()
    assert site.keys() == set()
    publish(tree.path / "b", b"x")
    site.follow()
    assert site.keys() == {b"/a", b"/b"}


def test_nothing_outside_the_root_is_watched_for_a_link(
    tree: Tree, tmp_path: Path, follow: Callable[..., Followed]
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a").write_bytes(b"x")
    (tree.path / "link").symlink_to("../outside/a")
    (tree.path / "directory").symlink_to("../outside")
    site = follow()
    (tmp_path / "outside/a").write_bytes(b"longer")
    (tmp_path / "outside/b").write_bytes(b"x")
    assert not site.changes()
    assert site.watcher.events == 0


# --- the root ---------------------------------------------------------------------------------------------


def test_a_root_that_is_known_by_another_path_is_followed_by_that(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"releases/{number}").mkdir(parents=True)
    site = Followed(tmp_path / "releases/1")
    try:
        (tmp_path / "current").symlink_to("releases/1")
        site.watcher.name_root(Root(tmp_path / "current"))
        assert not site.changes()
        (tmp_path / "releases/1/a").write_bytes(b"a")
        assert site.changes().names == {b"": {b"a"}}
        (tmp_path / "aside").symlink_to("releases/2")
        (tmp_path / "aside").rename(tmp_path / "current")
        assert site.changes().everything is not None
    finally:
        site.watcher.close()


def test_a_root_that_leads_elsewhere_when_it_is_named_is_lost(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "current").symlink_to("1")
    site, other = Followed(tmp_path / "1"), Root(tmp_path / "current")
    try:
        (tmp_path / "current").unlink()
        site.watcher.name_root(other)
        assert site.watcher.is_lost
    finally:
        site.watcher.close()


def test_a_root_that_is_re_pointed_changes_everything(tmp_path: Path) -> None:
    for release in "12":
        (tmp_path / "releases" / release / "public").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    site = Followed(tmp_path / "current/public")
    try:
        (tmp_path / "releases/1/public/a").write_bytes(b"x")
        assert site.changes().names == {b"": {b"a"}}
        subprocess.run(["ln", "-sfn", "releases/2", tmp_path / "current"], check=True)
        assert site.changes() == Changes(everything="the root was moved, replaced or re-pointed")
        # It is not replaced yet, say because the new release could not be loaded: the way is a new one.
        (tmp_path / "releases/2/public").rename(tmp_path / "releases/2/old")
        assert site.changes().everything is not None
        (tmp_path / "releases/2/public").mkdir()
        assert site.changes().everything is not None
        assert site.watcher.overflows == 3
    finally:
        site.watcher.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.rename(path.with_name("old")),
        lambda path: path.rmdir(),
        lambda path: path.parent.rename(path.parent.with_name("old")),
        lambda path: path.chmod(0o700),
    ],
    ids=["moved", "deleted", "its directory moved", "its rights changed"],
)
def test_a_root_that_is_not_what_it_was_changes_everything(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "sites" / "www"
    path.mkdir(parents=True)
    path.chmod(0o755)
    site = Followed(path)
    try:
        change(path)
        assert site.changes().everything is not None
    finally:
        site.watcher.close()


def test_a_relative_root_has_a_way_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "www").mkdir()
    monkeypatch.chdir(tmp_path)
    site = Followed(Path("www"))
    try:
        (tmp_path / "www").rename(tmp_path / "old")
        assert site.changes().everything is not None
    finally:
        site.watcher.close()


# --- bursts -----------------------------------------------------------------------------------------------


def test_small_changes_wait_for_each_other_but_not_long(tree: Tree, follow: Callable[..., Followed]) -> None:
    site = follow()
    watcher = site.watcher
    for step in range(20):
        publish(tree.path / "a", b"%d" % step)
        now = step * SETTLE_S / 2
        watcher.read(now)
        assert watcher.due(now) == pytest.approx(min(now + SETTLE_S, SMALL_WAIT_S))


def test_a_burst_is_told_in_few_pieces(tree: Tree, follow: Callable[..., Followed]) -> None:
    site = follow()
    watcher = site.watcher
    for number in range(BURST_NAMES):
        publish(tree.path / str(number), b"")
    watcher.read(5.0)
    watcher.read(6.0)
    assert watcher.due(6.0) == pytest.approx(5.0 + SETTLE_S)  # nothing came after
    publish(tree.path / "another", b"")
    watcher.read(5.0 + BURST_WAIT_S)
    assert watcher.due(6.0) == pytest.approx(5.0 + BURST_WAIT_S)


def test_ten_thousand_files_published_by_rename(tree: Tree, follow: Callable[..., Followed]) -> None:
    """As rsync does: a hidden name beside, then the rename; the loop reads now and then."""
    tree.plant({f"{number % 10}/kept": b"x" for number in range(10)})
    site = follow()
    kept = [site.entry(b"/%d/kept" % number) for number in range(10)]
    for number in range(10_000):
        path = tree.path / str(number % 10) / f"{number}.html"
        aside = path.with_name(f".{path.name}.Xyz123")
        aside.write_bytes(b"%d" % number)
        aside.rename(path)
        if number % 1000 == 999:
            site.watcher.read(site.now)
    site.follow()
    assert site.watcher.batches == 1
    assert site.watcher.overflows == 0
    assert site.keys() == {entry.key for entry in tree.walk().entries()}
    assert [site.entry(b"/%d/kept" % number) for number in range(10)] == kept


def test_another_branch_is_checked_out(tree: Tree, follow: Callable[..., Followed]) -> None:
    """As git does: files are unlinked and written anew, directories come and go, in one go."""
    tree.plant({f"src/{number}/{name}": b"one" for number in range(30) for name in "abc"})
    site = follow()
    for number in range(30):
        for name in "abc":
            path = tree.path / f"src/{number}/{name}"
            path.unlink()
            if number % 3 == 0:
                path.write_bytes(b"another")
        if number % 3 == 1:
            path.parent.rmdir()
    tree.plant({f"src/new/{number}/a": b"new" for number in range(30)})
    site.follow()
    fresh = tree.walk()
    assert {entry.key: entry.identity for entry in site.generation.entries()} == {
        entry.key: entry.identity for entry in fresh.entries()
    }


def test_only_what_changed_is_looked_at(
    tree: Tree, follow: Callable[..., Followed], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.plant({f"{number}.html": b"" for number in range(1000)})
    site = follow()
    publish(tree.path / "5.html", b"new")
    changes = site.changes()
    asked: list[Any] = []
    stat = os.stat

    def count(path: Any, **how: Any) -> os.stat_result:
        asked.append(path)
        return stat(path, **how)

    monkeypatch.setattr(os, "stat", count)
    monkeypatch.setattr(os, "scandir", None)
    patch = walk_again(site.generation, changes, index=INDEX, observer=site.watcher)
    assert set(patch.resources) == {b"/5.html"}
    assert len(asked) < 30


# --- when it cannot be followed ---------------------------------------------------------------------------


def test_a_queue_that_overflowed_means_everything(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({"a": b"x"})
    site = follow()
    publish(tree.path / "a", b"y")
    site.watcher.read(site.now)
    site.watcher.take_in([(-1, inotify.IN_Q_OVERFLOW, b"")], site.now)  # as the kernel writes it
    changes = site.changes()
    assert changes == Changes(everything="the kernel's queue of events overflowed (fs.inotify.max_queued_events)")
    assert (site.watcher.batches, site.watcher.overflows) == (1, 1)
    assert site.watcher.due(site.now) == math.inf
    publish(tree.path / "a", b"y")
    assert site.changes().names == {b"": {b"a", b"a.new"}}


def test_a_queue_overflows_when_it_is_not_read(tree: Tree, follow: Callable[..., Followed]) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("this queue is long")
    site = follow()
    for name in ("a", "b"):
        tree.plant({name: b""})
    for _ in range(limit // 2 + 1):
        os.utime(tree.path / "a")
        os.utime(tree.path / "b")
    assert "overflowed" in (site.changes().everything or "")


def test_with_too_few_watches_everything_is_walked_now_and_then(tree: Tree, follow: Callable[..., Followed]) -> None:
    tree.plant({f"{number}/a": b"x" for number in range(20)})
    enough = kernel_watches(follow().watcher)
    assert follow(watches_max=enough).watcher.blind is None
    site = follow(watches_max=enough - 5)
    watcher = site.watcher
    assert watcher.blind == f"{enough - 5} watches are too few (fs.inotify.max_user_watches)"
    assert watcher.due(site.now) == site.now + BLIND_RESCAN_S
    assert watcher.due(site.now + 10) == site.now + BLIND_RESCAN_S
    publish(tree.path / "0/a", b"y")  # is among those that are watched
    assert site.changes().names == {b"0/": {b"a", b"a.new"}}
    assert site.changes(BLIND_RESCAN_S) == Changes(everything=watcher.blind)
    assert watcher.overflows == 1
    assert watcher.due(site.now) == site.now + BLIND_RESCAN_S


def test_a_storm_that_does_not_end_is_read_in_pieces(tree: Tree, follow: Callable[..., Followed]) -> None:
    site = follow()
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            for name in ("a", "b"):
                os.utime(tree.path / name)

    tree.plant({"a": b"", "b": b""})
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        answers = [site.watcher.read(site.now) for _ in range(50)]
    finally:
        stop.set()
        thread.join()
    assert len(answers) == 50
    while not site.watcher.read(site.now):
        pass
    assert site.follow().names in ({b"": {b"a", b"b"}}, {})


# --- descriptors and watches ------------------------------------------------------------------------------


def test_a_closed_watcher_leaves_nothing(tree: Tree, tmp_path: Path) -> None:
    tree.plant({"d/a": b"x"})
    (tree.path / "link").symlink_to("d/a")
    before = descriptors(tmp_path), len(os.listdir("/proc/self/fd"))
    site = Followed(tree.path)
    publish(tree.path / "d/a", b"y")
    site.follow()
    site.watcher.close()
    del site
    below, all_of_them = descriptors(tmp_path), len(os.listdir("/proc/self/fd"))
    assert below == before[0]
    assert all_of_them <= before[1]  # other tests of the same worker may have been closing theirs


def test_directories_and_links_that_went_leave_no_watches(
    tree: Tree, tmp_path: Path, follow: Callable[..., Followed]
) -> None:
    tree.plant({"a": b"x"})
    site = follow()
    before = kernel_watches(site.watcher)
    tree.plant({"d/e/f/b": b"x", ".h/c": b"x"})
    (tree.path / "link").symlink_to(".h/c")
    site.follow()
    assert kernel_watches(site.watcher) == before + 4
    (tree.path / "d").rename(tmp_path / "d")
    (tree.path / "link").unlink()
    site.follow()
    assert kernel_watches(site.watcher) == before


def kernel_watches(watcher: Watcher) -> int:
    return Path(f"/proc/self/fdinfo/{watcher.fd}").read_text().count("inotify wd:")


def test_a_change_while_a_directory_is_listed_is_not_missed(tree: Tree) -> None:
    """Each directory is watched before it is listed: what changes just after the listing is told."""
    tree.plant({f"{number}/a": b"x" for number in range(5)})
    root = Root(tree.path)
    watcher = Watcher(root)
    try:

        class Nasty:
            def directory(self, path: bytes, fd: int, status: os.stat_result) -> None:
                watcher.directory(path, fd, status)
                (tree.path / os.fsdecode(path) / "late").write_bytes(b"x")

            def link(self, directory: bytes, name: bytes, fd: int) -> None:
                watcher.link(directory, name, fd)

        generation = walk(root, index=INDEX, observer=Nasty())
        watcher.read(0.0)
        changes = watcher.take(1.0)
        assert changes.names == {directory: {b"late"} for directory in [b"", *(b"%d/" % n for n in range(5))]}
        assert walk_again(generation, changes, index=INDEX, observer=watcher).resources == {}
    finally:
        watcher.close()


def test_a_walk_in_a_thread_and_a_loop_that_reads_do_not_disturb_each_other(
    tree: Tree, follow: Callable[..., Followed]
) -> None:
    site = follow()
    churn = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, shutil, sys\n"
            "os.chdir(sys.argv[1])\n"
            "for turn in range(60):\n"
            "    for number in range(6):\n"
            "        os.makedirs(f'd{number}/e/f', exist_ok=True)\n"
            "        open(f'd{number}/e/f/{turn}', 'w').close()\n"
            "    os.rename('d0', f'n{turn}')\n"
            "    shutil.rmtree('d1')\n"
            "    os.rename('d2/e', 'd3/g') if not os.path.exists('d3/g') else shutil.rmtree('d3')\n",
            tree.path,
        ]
    )
    watcher, generation = site.watcher, site.generation

    def follow_once() -> None:
        changes = watcher.take(site.now)
        walk_again(generation, changes, index=INDEX, observer=watcher).apply(generation)

    while churn.poll() is None:
        thread = threading.Thread(target=follow_once)
        thread.start()
        while thread.is_alive():
            watcher.read(site.now)
    assert churn.returncode == 0
    while site.watcher.due(site.now) < math.inf or is_readable(watcher.fd):
        site.follow()
    fresh = tree.walk()
    assert {key: getattr(resource, "identity", b"") for key, resource in generation.resources.items()} == {
        key: getattr(resource, "identity", b"") for key, resource in fresh.resources.items()
    }
    assert kernel_watches(watcher) == kernel_watches(follow().watcher)

"""zcserve.cache.watches: which directories the kernel watches, by which paths and links, and when it ceases to. What is
made of their events: test_watcher.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from zcserve.cache import inotify
from zcserve.cache.watches import Watches, rights_of

MASK = inotify.IN_CREATE | inotify.IN_ONLYDIR


class Desk:
    """Watches of directories below one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = inotify.start()
        self.watches = Watches(self._unwatch)

    def _unwatch(self, wd: int) -> None:
        with suppress(OSError):  # the directory is gone, and the kernel knew it first
            inotify.remove_watch(self.fd, wd)

    def enter(self, *paths: str, as_path: bytes | None = None) -> None:
        """Watch directories, which are made as needed, each by its path or by another one."""
        for path in paths:
            (self.path / path).mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path / path, os.O_RDONLY)
            wd = inotify.add_watch(self.fd, fd, MASK)
            self.watches.enter(path.encode() if as_path is None else as_path, wd, os.fstat(fd), MASK)
            os.close(fd)

    def lead_over(self, path: str, name: bytes, link: bytes) -> int:
        """Watch a directory for a link's sake."""
        (self.path / path).mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path / path, os.O_RDONLY)
        try:
            wd = inotify.add_watch(self.fd, fd, MASK)
            self.watches.lead_over(wd, name, link, MASK)
            return wd
        finally:
            os.close(fd)

    def link(self, link: bytes, *over: tuple[str, bytes]) -> None:
        """A link whose way leads over names, each in a directory."""
        passed = [(self.lead_over(path, name, link), name) for path, name in over]
        self.watches.note_way(link, passed)

    def number(self, path: str) -> int:
        """The kernel's number of a directory that it watches already."""
        fd = os.open(self.path / path, os.O_RDONLY)
        try:
            return inotify.add_watch(self.fd, fd, MASK | inotify.IN_MASK_ADD)
        finally:
            os.close(fd)

    def count(self) -> int:
        """How many directories the kernel watches."""
        return Path(f"/proc/self/fdinfo/{self.fd}").read_text().count("inotify wd:")

    def paths(self) -> list[bytes]:
        return [path for path, _ in self.watches.places(b"", 1000)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    os.close(made.fd)


def test_a_directory_is_known_by_its_number_and_its_path(desk: Desk) -> None:
    desk.enter("", "d/", "d/e/")
    watched = desk.watches.get(desk.number("d"))
    assert watched is not None
    status = (desk.path / "d").stat()
    assert watched.paths == [b"d/"]
    assert watched.rights == rights_of(status) == (status.st_mode, status.st_uid, status.st_gid)
    assert watched.place == (status.st_dev, status.st_ino)
    assert [desk.watches.has_directory(path) for path in (b"", b"d/", b"d", b"other/")] == [True, True, False, False]
    assert desk.watches.get(1 << 20) is None


def test_what_is_entered_again_has_its_new_rights_and_is_watched_once(desk: Desk) -> None:
    desk.enter("d/")
    (desk.path / "d").chmod(0o700)
    desk.enter("d/")
    watched = desk.watches.get(desk.number("d"))
    assert watched is not None
    assert (watched.paths, desk.count()) == ([b"d/"], 1)
    assert watched.rights is not None
    assert watched.rights[0] & 0o777 == 0o700


def test_a_path_that_leads_to_another_directory_now_leaves_the_old_one(desk: Desk) -> None:
    desk.enter("d/")
    old = desk.number("d")
    (desk.path / "d").rename(desk.path / "away")
    desk.enter("d/")
    assert desk.watches.get(old) is None
    assert (desk.count(), desk.paths()) == (1, [b"d/"])


def test_a_directory_with_two_paths_is_watched_until_both_are_forgotten(desk: Desk) -> None:
    desk.enter("d/")
    desk.enter("d/", as_path=b"link/")
    assert (desk.count(), desk.paths()) == (1, [b"d/", b"link/"])
    desk.watches.forget(b"d/")
    assert (desk.count(), desk.paths()) == (1, [b"link/"])
    desk.watches.forget(b"link/")
    assert (desk.count(), desk.paths()) == (0, [])


def test_a_tree_is_forgotten_and_what_is_called_alike_is_not(desk: Desk) -> None:
    desk.enter("", "d/", "d/e/", "d/e/f/", "d-2/", "d0/", "c/")
    desk.link(b"d/e/link", ("d/", b"x"))
    desk.link(b"d-2/link", ("c/", b"x"))
    desk.watches.forget(b"d/")
    assert desk.paths() == [b"c/", b"d-2/", b"d0/"]
    assert desk.watches.has_directory(b"")
    assert (desk.watches.has_way(b"d/e/link"), desk.watches.has_way(b"d-2/link")) == (False, True)
    assert desk.count() == 4


def test_directories_are_told_in_order_some_at_a_time(desk: Desk) -> None:
    desk.enter("b/", "", "a/", "c/", "b/d/")
    places = desk.watches.places(b"", 2)
    assert [path for path, _ in places] == [b"a/", b"b/"]
    assert [path for path, _ in desk.watches.places(b"b/", 9)] == [b"b/d/", b"c/"]
    assert desk.watches.places(b"c/", 9) == []
    status = (desk.path / "a").stat()
    assert places[0][1] == (status.st_dev, status.st_ino)


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_directory_that_a_link_leads_over_is_watched_for_its_names(desk: Desk) -> None:
    desk.link(b"link", ("d/", b"x"), ("e/", b"y"))
    desk.link(b"other", ("d/", b"x"))
    watched = desk.watches.get(desk.number("d"))
    assert watched is not None
    assert watched.links == {b"x": [b"link", b"other"]}
    assert desk.count() == 2
    assert not desk.watches.has_directory(b"d/")  # no walk came to it
    desk.watches.leave_way(b"link")
    assert watched.links == {b"x": [b"other"]}
    assert (desk.count(), desk.watches.has_way(b"link")) == (1, False)
    desk.watches.leave_way(b"other")
    assert desk.count() == 0
    desk.watches.leave_way(b"other")  # nothing is known of it any more


def test_a_directory_of_the_site_that_a_link_leads_over_is_watched_for_both(desk: Desk) -> None:
    desk.enter("d/")
    desk.link(b"link", ("d/", b"x"))
    desk.watches.leave_way(b"link")
    assert desk.count() == 1
    desk.link(b"link", ("d/", b"x"))
    desk.watches.forget(b"d/")
    assert desk.count() == 1
    desk.watches.leave_way(b"link")
    assert desk.count() == 0


# --- what the kernel does by itself -----------------------------------------------------------------------------------


def test_a_watch_that_the_kernel_has_ended_is_forgotten_quietly(desk: Desk) -> None:
    desk.enter("d/")
    desk.link(b"link", ("d/", b"x"))
    number = desk.number("d")
    desk.watches.drop(number)
    desk.watches.drop(number)
    assert desk.watches.get(number) is None
    desk.watches.leave_way(b"link")
    desk.watches.forget(b"d/")
    assert desk.paths() == []


def test_a_directory_that_is_gone_before_it_is_forgotten_is_no_error(desk: Desk) -> None:
    desk.enter("d/")
    (desk.path / "d").rmdir()  # the kernel ends the watch
    desk.watches.forget(b"d/")
    assert desk.paths() == []


def test_a_path_by_which_nothing_can_be_watched_leaves_what_it_led_to(desk: Desk) -> None:
    desk.enter("d/", "e/")
    desk.watches.enter(b"d/", None, desk.path.stat(), MASK)
    assert (desk.count(), desk.paths(), len(desk.watches)) == (1, [b"e/"], 1)
    assert desk.watches.numbers() == [desk.number("e")]


def test_what_was_asked_for_is_known_of_each_directory(desk: Desk) -> None:
    desk.enter("d/")
    desk.link(b"link", ("d/", b"x"))
    watched = desk.watches.get(desk.number("d"))
    assert watched is not None
    assert watched.mask == MASK

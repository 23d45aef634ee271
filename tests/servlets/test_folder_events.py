"""Events tell of every change in a directory before the program that made it could ask anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zcserve.servlets.folder_events import FolderEvents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "servlets"
    folder.mkdir()
    (folder / "page.py").write_text("one")
    (tmp_path / "other.py").write_text("other")
    return folder


@pytest.fixture
def events(folder: Path) -> Iterator[FolderEvents]:
    events = FolderEvents(folder, ["page.py"])
    assert events.fd >= 0
    yield events
    events.close()


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda folder: (folder / "page.py").write_text("two"),
    "written to in part": lambda folder: os.pwrite(os.open(folder / "page.py", os.O_WRONLY), b"x", 0),
    "touched": lambda folder: os.utime(folder / "page.py", (1, 1)),
    "cut short": lambda folder: os.truncate(folder / "page.py", 0),
    "removed": lambda folder: (folder / "page.py").unlink(),
    "renamed": lambda folder: (folder / "page.py").rename(folder / "paper.py"),
    "moved away": lambda folder: (folder / "page.py").rename(folder.parent / "page.py"),
    "replaced by rename": lambda folder: (folder.parent / "other.py").rename(folder / "page.py"),
    "added": lambda folder: (folder / "new.py").write_text("new"),
    "linked": lambda folder: os.link(folder.parent / "other.py", folder / "linked.py"),
    "a directory moved": lambda folder: folder.rename(folder.parent / "moved"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_each_kind_of_change_is_told_once(events: FolderEvents, folder: Path, change: Callable[[Path], object]) -> None:
    assert not events.take()
    change(folder)
    assert events.take()
    assert not events.take()


def test_to_read_is_no_change(events: FolderEvents, folder: Path) -> None:
    assert (folder / "page.py").read_text() == "one"
    assert os.listdir(folder) == ["page.py"]
    assert not events.take()


def test_more_changes_than_one_read_gives_are_taken_together(events: FolderEvents, folder: Path) -> None:
    for number in range(500):
        (folder / f"{number}.py").write_text("")
    assert events.take()
    assert not events.take()


def test_where_a_symlink_leads_is_not_told_so_it_may_always_have_changed(folder: Path, tmp_path: Path) -> None:
    (folder / "elsewhere.py").symlink_to(tmp_path / "other.py")
    (tmp_path / "current").symlink_to(folder)
    for events in (FolderEvents(folder, ["page.py", "elsewhere.py"]), FolderEvents(tmp_path / "current", ["page.py"])):
        assert events.fd == -1
        assert events.take()
        assert events.take()


def test_a_directory_that_is_not_there_may_always_have_changed(tmp_path: Path) -> None:
    assert FolderEvents(tmp_path / "nothing", []).take()


def test_to_close_twice_is_harmless(folder: Path) -> None:
    events = FolderEvents(folder, [])
    events.close()
    events.close()
    assert events.fd == -1

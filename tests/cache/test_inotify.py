"""zcserve.cache.inotify: the kernel's own events of real directories."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.trees import no_descriptors_left
from tests.support.waiting import is_readable
from zcserve.cache import inotify

ALL = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO | inotify.IN_CLOSE_WRITE
WITHIN_S = 20.0


@pytest.fixture
def fd() -> Iterator[int]:
    made = inotify.start()
    yield made
    os.close(made)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield made
    os.close(made)


def told(fd: int) -> list[tuple[int, int, bytes]]:
    assert is_readable(fd, WITHIN_S)
    return list(inotify.events(os.read(fd, 1 << 16)))


def test_it_does_not_block_and_no_program_that_is_started_has_it(fd: int) -> None:
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)


def test_each_event_has_its_directory_its_kind_and_its_name(fd: int, directory: int, tmp_path: Path) -> None:
    wd = inotify.add_watch(fd, directory, ALL)
    long = "n" * 255
    (tmp_path / "a").touch()
    (tmp_path / "a").rename(tmp_path / long)
    (tmp_path / long).unlink()
    (tmp_path / "d").mkdir()
    assert told(fd) == [
        (wd, inotify.IN_CREATE, b"a"),
        (wd, inotify.IN_CLOSE_WRITE, b"a"),
        (wd, inotify.IN_MOVED_FROM, b"a"),
        (wd, inotify.IN_MOVED_TO, long.encode()),
        (wd, inotify.IN_DELETE, long.encode()),
        (wd, inotify.IN_CREATE | inotify.IN_ISDIR, b"d"),
    ]


def test_what_concerns_the_directory_itself_has_no_name(fd: int, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    directory = os.open(tmp_path / "d", os.O_PATH)
    wd = inotify.add_watch(fd, directory, inotify.IN_ATTRIB | inotify.IN_DELETE_SELF)
    os.close(directory)
    (tmp_path / "d").chmod(0o700)
    (tmp_path / "d").rmdir()
    events = told(fd)
    assert events[0] == (wd, inotify.IN_ATTRIB | inotify.IN_ISDIR, b"")
    assert (wd, inotify.IN_DELETE_SELF, b"") in events
    assert events[-1] == (wd, inotify.IN_IGNORED, b"")


def test_a_directory_keeps_its_number_by_whatever_name_and_another_has_its_own(
    fd: int, directory: int, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to(".")
    link, other = (os.open(tmp_path / name, os.O_RDONLY) for name in ("link", "d"))
    wd = inotify.add_watch(fd, directory, inotify.IN_CREATE)
    assert inotify.add_watch(fd, link, inotify.IN_DELETE | inotify.IN_MASK_ADD) == wd
    assert inotify.add_watch(fd, other, inotify.IN_CREATE) != wd
    (tmp_path / "a").touch()
    (tmp_path / "a").unlink()
    assert [mask for _, mask, _ in told(fd)] == [inotify.IN_CREATE, inotify.IN_DELETE]  # both are watched for
    os.close(link)
    os.close(other)


def test_a_watch_that_was_removed_tells_nothing_more_and_is_none(fd: int, directory: int, tmp_path: Path) -> None:
    wd = inotify.add_watch(fd, directory, ALL)
    inotify.remove_watch(fd, wd)
    (tmp_path / "a").touch()
    assert told(fd) == [(wd, inotify.IN_IGNORED, b"")]
    with pytest.raises(OSError, match="Invalid argument") as raised:
        inotify.remove_watch(fd, wd)
    assert raised.value.errno == errno.EINVAL


def test_what_is_no_directory_is_refused_where_only_one_is_meant(fd: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(NotADirectoryError):
        inotify.add_watch(fd, file, ALL | inotify.IN_ONLYDIR)
    os.close(file)


def test_without_a_descriptor_there_is_an_error() -> None:
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files"):
        inotify.start()


def test_an_overflow_is_of_no_directory_and_nothing_is_no_event() -> None:
    event = struct.pack("=iIII", -1, inotify.IN_Q_OVERFLOW, 0, 0)  # as the kernel writes it
    assert list(inotify.events(event * 2)) == [(-1, inotify.IN_Q_OVERFLOW, b"")] * 2
    assert list(inotify.events(b"")) == []

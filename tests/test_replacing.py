"""A file that is replaced as a whole is the old one or the new one, whatever happens on the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zcserve.replacing import BESIDE, replace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with content."""
    made = tmp_path / "file"
    replace(str(made), [b"old"])
    return made


def test_a_file_holds_what_was_written_last_and_is_for_one_user(file: Path) -> None:
    assert file.read_bytes() == b"old"
    replace(str(file), (b"%d" % number for number in range(3)))
    assert file.read_bytes() == b"012"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["file"]


def test_a_file_of_the_working_directory_has_no_directory_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    replace("file", [b"here"])
    assert (tmp_path / "file").read_bytes() == b"here"


def test_the_new_content_is_on_the_disk_before_it_has_the_name_and_the_name_after_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bytes]] = []
    sync = os.fsync

    def noted(fd: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{fd}"), file.read_bytes()))
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    replace(str(file), [b"new"])
    assert synced == [(f"{file}{BESIDE}", b"old"), (str(file.parent), b"new")]


def no_room() -> Iterator[bytes]:
    yield b"the beginning"
    raise OSError(28, "No space left on device")


def interrupted() -> Iterator[bytes]:
    yield b"the beginning"
    raise KeyboardInterrupt


@pytest.mark.parametrize("content", [no_room, interrupted])
def test_what_cannot_be_written_whole_leaves_the_old_one_and_nothing_beside(
    file: Path, content: Callable[[], Iterator[bytes]]
) -> None:
    with pytest.raises((OSError, KeyboardInterrupt)):
        replace(str(file), content())
    assert file.read_bytes() == b"old"
    assert os.listdir(file.parent) == ["file"]


def test_what_lies_beside_is_not_followed_elsewhere(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"another's")
    (tmp_path / f"file{BESIDE}").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic link"):
        replace(str(file), [b"new"])
    assert (elsewhere.read_bytes(), file.read_bytes()) == (b"another's", b"old")

"""Small files that are replaced as a whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from zcserve.errors import UsageError
from zcserve.fleet.keeping import FOLDER, Kept


def test_a_file_is_what_was_written_last_and_folders_are_in_order(tmp_path: Path) -> None:
    kept = Kept(str(tmp_path))
    assert kept.read("a") is None
    assert kept.names("some") == []
    for number in (2, 1, 10):
        kept.write(f"some/{number:03}", b"%d" % number)
        os.utime(tmp_path / FOLDER / f"some/{number:03}", ns=(number, number))
    kept.write("some/001", b"again")
    os.utime(tmp_path / FOLDER / "some/001", ns=(1, 1))
    (tmp_path / FOLDER / "some/000.new").write_bytes(b"half a fi")
    assert kept.names("some") == ["some/001", "some/002", "some/010"]
    assert kept.newest("some") == ["some/010", "some/002", "some/001"]
    assert kept.read("some/001") == b"again"
    kept.remove("some/001")
    kept.remove("some/001")
    assert kept.read("some/001") is None


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    kept = Kept(str(tmp_path))
    kept.write("a", b"before")
    (tmp_path / FOLDER / "a.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        kept.write("a", b"after")
    assert kept.read("a") == b"before"


def test_one_agent_has_a_folder(tmp_path: Path) -> None:
    kept = Kept(str(tmp_path))
    with pytest.raises(UsageError, match="another agent has these releases"):
        Kept(str(tmp_path))
    del kept
    Kept(str(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be used"):
        Kept(str(tmp_path / "file"))


def test_what_lies_at_the_top_is_written_anew_where_the_folder_is_gone(tmp_path: Path) -> None:
    before = Kept(str(tmp_path))
    before.write("read", b"1")
    before.close()
    kept = Kept(str(tmp_path))
    assert kept.read("read") == b"1"
    kept.write("written", b"2")
    kept.write("removed", b"3")
    kept.remove("removed")
    kept.write("some/001", b"4")
    assert not kept.find_again()
    shutil.rmtree(tmp_path / FOLDER)
    assert kept.find_again()
    assert not kept.find_again()
    assert {path.name: path.read_bytes() for path in (tmp_path / FOLDER).iterdir()} == {
        "read": b"1",
        "written": b"2",
        "lock": b"",
    }
    with pytest.raises(UsageError, match="another agent has these releases"):
        Kept(str(tmp_path))
    shutil.rmtree(tmp_path / FOLDER)
    other = Kept(str(tmp_path))  # it was first, and has it from now on
    with pytest.raises(BlockingIOError):
        kept.find_again()
    other.close()
    assert kept.find_again()

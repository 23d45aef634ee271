"""One file under two names: by which way, and what happens where a way is not to be had."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zcserve.fleet.sharing import COPY, HARD_LINK, REFLINK, Sharer


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "old").write_bytes(b"content" * 100)
    os.utime(tmp_path / "old", ns=(1, 1_000_000_007))
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_hard_link_comes_first(directory: int, tmp_path: Path) -> None:
    assert Sharer().share(directory, b"old", directory, b"new") == HARD_LINK
    assert (tmp_path / "old").samefile(tmp_path / "new")


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Have every hard link fail; which were tried."""
    tried: list[str] = []

    def link(*_: object, **__: object) -> None:
        tried.append("")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    return tried


def test_a_copy_comes_last_and_has_the_time_of_the_file(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = refuse(monkeypatch, errno.EPERM)
    sharer = Sharer()
    assert sharer.share(directory, b"old", directory, b"new") in (COPY, REFLINK)
    assert (tmp_path / "new").read_bytes() == b"content" * 100
    assert (tmp_path / "new").stat().st_mtime_ns == 1_000_000_007
    sharer.share(directory, b"old", directory, b"another")
    assert len(tried) == 1  # what is refused once is not tried again


def test_a_file_with_too_many_links_is_copied_and_the_next_is_linked(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refuse(patch, errno.EMLINK)
        sharer = Sharer()
        assert sharer.share(directory, b"old", directory, b"new") in (COPY, REFLINK)
    assert sharer.share(directory, b"old", directory, b"next") == HARD_LINK


@pytest.mark.parametrize("way", [HARD_LINK, COPY])
def test_a_file_that_has_gone_is_told_and_leaves_nothing(directory: int, way: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Sharer((way,)).share(directory, b"absent", directory, b"new")
    assert not (tmp_path / "new").exists()


def test_a_copy_that_fails_leaves_nothing(directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space"):
        Sharer((COPY,)).share(directory, b"old", directory, b"new")
    assert not (tmp_path / "new").exists()

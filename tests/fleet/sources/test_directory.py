"""A directory as a source: what a server of it would serve, and nothing outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.errors import UsageError
from zcserve.fleet.sources.directory import DirectorySource
from zcserve.fleet.sources.source import SourceError


@pytest.fixture
def source(tmp_path: Path) -> DirectorySource:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "a b").mkdir(parents=True)
    (root / "a b" / "100%").write_bytes(b"0123456789")
    (root / "inside").symlink_to("a b/100%")
    (root / "outside").symlink_to("../secret")
    return DirectorySource(str(root))


def read(source: DirectorySource, path: str, start: int = 0, version: str = "") -> tuple[bytes, int]:
    opened = source.open(path, start, version)
    try:
        return b"".join(opened.pieces), opened.start
    finally:
        opened.close()


def test_a_file_comes_from_where_it_is_asked_for(source: DirectorySource, tmp_path: Path) -> None:
    path = "/a%20b/100%25"
    assert read(source, path) == (b"0123456789", 0)
    assert read(source, "/inside", 7) == (b"789", 7)
    version = source.open(path, 0, "").version
    assert read(source, path, 4, version) == (b"456789", 4)
    assert read(source, path, 11) == (b"0123456789", 0)
    (tmp_path / "root" / "a b" / "100%").write_bytes(b"abcdef")
    assert read(source, path, 4, version) == (b"abcdef", 0)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/none", "is not there"),
        ("/inside/below", "is not there"),
        ("/outside", "leads outside the root"),
        ("/a%20b", "is not a regular file"),
        ("/..%2fsecret", "leads outside the root"),
    ],
)
def test_what_is_no_file_of_it_is_told(source: DirectorySource, path: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        source.open(path, 0, "")
    assert not caught.value.retry


def test_a_directory_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        DirectorySource(str(tmp_path / "none"))

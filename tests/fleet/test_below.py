"""Names of a manifest, and nothing outside of the folder by any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zcserve.fleet.below import OPEN_MAX, Below, UnsafeNameError, check_names, path_of, segments_of


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "empty"),
        ("/a", "empty"),
        ("a//b", "empty"),
        ("a/", "empty"),
        ("../a", r"\.\."),
        ("a/../../b", r"\.\."),
        ("./a", r"\."),
        ("a\0b", "NUL"),
        ("a/" + "b" * 256, "256 bytes"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, said: str) -> None:
    with pytest.raises(UnsafeNameError, match=said):
        segments_of(name)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "a/b"], "^/a and /a/b cannot both be there"),
        (["a/b/c", "x", "a"], "^/a and /a/b/c cannot both be there"),
        (["a b/c", "a b"], "^/a%20b and /a%20b/c cannot both"),
    ],
)
def test_no_name_is_a_directory_of_another(names: list[str], said: str) -> None:
    with pytest.raises(UnsafeNameError, match=said):
        check_names(names)


def test_names_that_only_begin_alike_are_fine() -> None:
    assert [*check_names(["a.b", "a/b", "a-b", "ab"])] == ["a/b", "a-b", "a.b", "ab"]


def test_a_name_of_any_bytes_is_its_path_in_a_url() -> None:
    assert path_of(segments_of(os.fsdecode(b"a b/100%/\xff.css.br"))) == "/a%20b/100%25/%FF.css.br"


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Below]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("../outside")
    (tmp_path / "in" / "file").symlink_to("../outside/file")
    made = Below.at(os.fsencode(tmp_path / "in"))
    yield made
    made.close()


@pytest.mark.parametrize("segments", [(b"link", b"file"), (b"file",), (b"link", b"new"), (b"link", b"deep", b"new")])
def test_no_symlink_is_followed(below: Below, segments: tuple[bytes, ...], tmp_path: Path) -> None:
    assert below.status(segments) is None
    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        below.open_file(segments, os.O_RDWR | os.O_CREAT)
    assert [one.name for one in (tmp_path / "outside").iterdir()] == ["file"]


def test_a_directory_that_is_a_symlink_is_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(".")
    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        Below.at(os.fsencode(tmp_path / "link"))


def test_many_directories_are_used_with_few_descriptors(tmp_path: Path) -> None:
    below = Below.at(os.fsencode(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    names = [(b"%d" % number, b"x", b"y", b"file") for number in range(2 * OPEN_MAX)]
    for name in names:
        os.close(below.open_file(name, os.O_WRONLY | os.O_CREAT))
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN_MAX
    assert set(below.files()) == set(names)
    below.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1

"""zcserve.cache.ways: the names that the kernel looks up, in their directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.trees import descriptors
from zcserve.cache.ways import way_of


def looked_up(directory: Path, path: str) -> list[tuple[str, str]]:
    """The way of a path from a directory: where each name is looked up, relative to it, and the name."""
    fd = os.open(directory, os.O_PATH)
    try:
        return [
            (os.path.relpath(os.readlink(f"/proc/self/fd/{here}"), directory), name.decode())
            for here, name in way_of(fd, os.fsencode(path))
        ]
    finally:
        os.close(fd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory as Kubernetes publishes one: `file -> ..data/file`, `..data -> ..1`."""
    (tmp_path / "..1").mkdir()
    (tmp_path / "..1" / "file").write_bytes(b"x")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "file").symlink_to("..data/file")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "up").symlink_to("../file")
    (tmp_path / "dangling").symlink_to("..data/no/where")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "way"),
    [
        ("..1", [(".", "..1")]),
        ("./d//../..1/", [(".", "d"), (".", "..1")]),
        ("file", [(".", "file"), (".", "..data"), (".", "..1"), ("..1", "file")]),
        ("d/up", [(".", "d"), ("d", "up"), (".", "file"), (".", "..data"), (".", "..1"), ("..1", "file")]),
        ("dangling", [(".", "dangling"), (".", "..data"), (".", "..1"), ("..1", "no")]),
        ("absent/file", [(".", "absent")]),
    ],
)
def test_every_name_on_the_way_is_told_with_its_directory(place: Path, path: str, way: list[tuple[str, str]]) -> None:
    assert looked_up(place, path) == way


def test_an_absolute_path_begins_at_the_top(place: Path) -> None:
    top = os.path.relpath("/", place)
    assert looked_up(place, "/no-such-name/file") == [(top, "no-such-name")]


def test_links_that_lead_round_end_as_in_the_kernel_and_leave_no_descriptor_open(place: Path) -> None:
    before = descriptors()
    assert len(looked_up(place, "loop")) == 41
    assert descriptors() == before

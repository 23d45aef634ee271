"""The root: what cannot be one, and that nothing outside is opened, whatever the names say by then."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support.trees import Tree, as_nobody, descriptors
from zcserve.cache.root import OutsideRootError, Root
from zcserve.errors import UsageError


def read(root: Root, path: bytes) -> bytes:
    fd = root.open_file(path)[0]
    try:
        return os.read(fd, 1000)
    finally:
        os.close(fd)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the root whose name begins like the root's, with a secret in it."""
    path = tmp_path / "www-secret"
    path.mkdir()
    (path / "key.txt").write_bytes(b"secret")
    return path


# --- what cannot be a root --------------------------------------------------------------------------------


def test_a_root_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent' does not exist$"):
        Root(tmp_path / "absent")


def test_a_relative_root_that_is_not_there_is_told_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"root 'absent' does not exist in '{tmp_path}', the working directory"):
        Root("absent")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="root 'absent' does not exist in the working directory"):
        Root("absent")


def test_a_file_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"file.*is not a directory"):
        Root(tmp_path / "file")


def test_a_symlink_that_goes_in_circles_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(UsageError, match="cannot be opened"):
        Root(tmp_path / "a")


def test_a_directory_that_may_not_be_read_is_no_root(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.path.chmod(0)
    monkeypatch.chdir(tree.path.parent)
    tree.path.parent.chmod(0o755)
    try:
        with as_nobody(), pytest.raises(UsageError, match="cannot be opened: Permission denied"):
            Root(tree.path.name)
    finally:
        tree.path.chmod(0o755)


def test_a_failed_root_leaves_no_descriptor(tmp_path: Path) -> None:
    before = descriptors(tmp_path)
    with pytest.raises(UsageError):
        Root(tmp_path / "absent")
    assert descriptors(tmp_path) == before


def test_a_root_costs_one_descriptor_until_it_dies(tree: Tree) -> None:
    before = descriptors(tree.path.parent)
    root = Root(tree.path)
    assert descriptors(tree.path.parent) == before + 1
    del root
    assert descriptors(tree.path.parent) == before


def test_a_symlink_to_a_directory_is_a_root(tree: Tree, tmp_path: Path) -> None:
    tree.plant({"d/a.txt": b"a"})
    (tmp_path / "current").symlink_to(tree.path)
    assert read(Root(tmp_path / "current"), b"d/a.txt") == b"a"
    assert Root(str(tmp_path / "current")).path == str(tmp_path / "current")


# --- opening ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"a.txt", b"d/b.txt", b"link.txt", b"dirlink/b.txt", b"absolute.txt"])
def test_what_lies_inside_is_opened_by_whatever_name(tree: Tree, path: bytes) -> None:
    tree.plant({"a.txt": b"inside", "d/b.txt": b"inside"})
    (tree.path / "link.txt").symlink_to("a.txt")
    (tree.path / "dirlink").symlink_to("d")
    (tree.path / "absolute.txt").symlink_to(tree.path / "d" / "b.txt")
    assert read(Root(tree.path), path) == b"inside"


def test_a_files_status_comes_with_it(tree: Tree) -> None:
    tree.plant({"a.txt": b"inside"})
    fd, status = Root(tree.path).open_file(b"a.txt")
    os.close(fd)
    assert status.st_size == 6
    assert status.st_ino == (tree.path / "a.txt").stat().st_ino


@pytest.mark.parametrize(
    "path", [b"link.txt", b"dirlink/key.txt", b"absolute.txt", b"../www-secret/key.txt", b"up/www-secret/key.txt"]
)
def test_what_lies_outside_is_refused_by_whatever_name(tree: Tree, outside: Path, path: bytes) -> None:
    (tree.path / "link.txt").symlink_to("../www-secret/key.txt")
    (tree.path / "dirlink").symlink_to("../www-secret")
    (tree.path / "absolute.txt").symlink_to(outside / "key.txt")
    (tree.path / "up").symlink_to("..")
    root = Root(tree.path)
    before = descriptors(tree.path.parent)
    with pytest.raises(OutsideRootError):
        root.open_file(path)
    assert descriptors(tree.path.parent) == before


@pytest.mark.parametrize("path", [b"..", b"dirlink", b"../www-secret"])
def test_a_directory_outside_is_refused(tree: Tree, outside: Path, path: bytes) -> None:
    (tree.path / "dirlink").symlink_to(outside)
    root = Root(tree.path)
    before = descriptors(tree.path.parent)
    with pytest.raises(OutsideRootError):
        root.open_directory(path)
    assert descriptors(tree.path.parent) == before


def test_a_symlink_that_was_swapped_to_lead_outside_is_refused(tree: Tree, outside: Path) -> None:
    tree.plant({"a.txt": b"inside"})
    link = tree.path / "link.txt"
    link.symlink_to("a.txt")
    root = Root(tree.path)
    assert read(root, b"link.txt") == b"inside"
    link.unlink()
    link.symlink_to(outside / "key.txt")
    with pytest.raises(OutsideRootError):
        root.open_file(b"link.txt")


def test_a_file_opened_in_its_directory_is_checked_when_it_is_a_symlink(tree: Tree, outside: Path) -> None:
    tree.plant({"d/a.txt": b"inside"})
    (tree.path / "d" / "in.txt").symlink_to("a.txt")
    (tree.path / "d" / "out.txt").symlink_to(outside / "key.txt")
    root = Root(tree.path)
    directory = root.open_directory(b"d")
    try:
        for name in (b"a.txt", b"in.txt"):
            fd = root.open_in(directory, name)
            assert os.read(fd, 100) == b"inside"
            os.close(fd)
        before = descriptors(tree.path.parent)
        with pytest.raises(OutsideRootError):
            root.open_in(directory, b"out.txt")
        with pytest.raises(FileNotFoundError):
            root.open_in(directory, b"absent.txt")
        assert descriptors(tree.path.parent) == before
    finally:
        os.close(directory)


@pytest.mark.parametrize("name", ["directory", "fifo", "socket", "device"])
def test_only_regular_files_are_opened_as_files(tree: Tree, name: str) -> None:
    """A FIFO without a writer above all: opening it must not wait."""
    (tree.path / "directory").mkdir()
    os.mkfifo(tree.path / "fifo")
    directory = os.open(tree.path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/socket")  # a socket's own path may be too long
        os.close(directory)
        (tree.path / "device").symlink_to("/dev/null")
        root = Root(tree.path)
        before = descriptors(tree.path.parent)
        with pytest.raises(OSError, match=r"."):
            root.open_file(name.encode())
        assert descriptors(tree.path.parent) == before


@pytest.mark.parametrize("path", [b"absent.txt", b"absent/a.txt", b"dangling"])
def test_what_is_not_there_is_not_found(tree: Tree, path: bytes) -> None:
    (tree.path / "dangling").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        Root(tree.path).open_file(path)


def test_a_root_that_was_renamed_is_the_same_root(tree: Tree, tmp_path: Path, outside: Path) -> None:
    tree.plant({"a.txt": b"inside"})
    (tree.path / "link.txt").symlink_to("a.txt")
    (tree.path / "out.txt").symlink_to(outside / "key.txt")
    root = Root(tree.path)
    tree.path.rename(tmp_path / "elsewhere")
    tree.path.mkdir()
    (tree.path / "a.txt").write_bytes(b"another root's")
    assert read(root, b"a.txt") == b"inside"
    assert read(root, b"link.txt") == b"inside"
    with pytest.raises(OutsideRootError):
        root.open_file(b"out.txt")


def test_roots_are_the_same_by_what_they_are_and_not_by_their_paths(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree.path)
    root = Root(tree.path)
    assert root.is_same(Root(tmp_path / "link"))
    tree.path.rename(tmp_path / "elsewhere")
    tree.path.mkdir()
    assert root.is_same(Root(tmp_path / "elsewhere"))
    assert not root.is_same(Root(tree.path))


def test_where_a_descriptor_lies_is_told_from_the_root(tree: Tree, tmp_path: Path) -> None:
    tree.plant({"d/a.txt": b"inside"})
    (tree.path / "link").symlink_to("d/a.txt")
    root = Root(tree.path)
    for path, expected in ((b"link", b"d/a.txt"), (b"d/a.txt", b"d/a.txt")):
        fd, _ = root.open_file(path)
        assert root.real_path(fd) == expected
        os.close(fd)
    fd = root.open_directory(b"")
    assert root.real_path(fd) == b""
    os.close(fd)
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OutsideRootError):
        root.real_path(fd)
    os.close(fd)


def test_the_file_systems_own_root_can_be_served(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"inside")
    assert read(Root("/"), bytes(tmp_path / "a.txt")[1:]) == b"inside"

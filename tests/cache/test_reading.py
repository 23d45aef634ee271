"""zcserve.cache.reading: one version of a file or nothing, and the tag that its entry gets. What becomes of the bytes:
test_loader.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.trees import Tree, noise, publish, renew_ctime, rewrite, rewrite_unseen
from zcserve.cache.entry import Entry, OpenFile, identity_of
from zcserve.cache.reading import STEADY_TRIES, ChangedError, Reader, learn
from zcserve.cache.tags import PIECE_BYTES, is_identity_tag, tag_of

LARGE = 2 * PIECE_BYTES + 5
SIZES = [0, 1, 1000, PIECE_BYTES, LARGE]
HASHED = 1 << 30


class Shelf:
    """A file, its entry, and a reader."""

    def __init__(self, tree: Tree, size: int, hash_bytes_max: int = HASHED) -> None:
        self.path = tree.path / "a"
        self.content = noise(size)
        self.path.write_bytes(self.content)
        self.root, self.entry = tree.entry(b"/a")
        self.reader = Reader(hash_bytes_max)

    def open(self) -> OpenFile:
        """The file, as its entry promises it."""
        fd, _ = self.root.open_file(b"a")
        return OpenFile(fd, self.entry.identity, self.entry.etag)

    def read(self, how: str) -> bytes:
        """The whole content, by one of the four ways."""
        if how == "whole":
            return self.reader.read_whole(self.open(), self.entry.size)
        if how == "tagged":
            return self.reader.read_tagged(self.open(), self.entry)
        if how == "small":
            fd = os.open(self.path, os.O_RDONLY)
            try:
                return self.reader.read_small(fd, self.entry)
            finally:
                os.close(fd)
        content = bytearray(self.entry.size)

        def sink(piece: memoryview, at: int) -> None:
            content[at : at + len(piece)] = piece

        self.reader.read_pieces(self.open(), self.entry, sink)
        return bytes(content)


TAGGING = ["tagged", "small", "pieces"]
WAYS = ["whole", *TAGGING]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", WAYS)
def test_all_of_a_file_is_read_and_its_entry_gets_the_tag_of_that(tree: Tree, how: str, size: int) -> None:
    shelf = Shelf(tree, size)
    assert shelf.read(how) == shelf.content
    assert shelf.entry.etag == (b"" if how == "whole" else tag_of(shelf.content))


@pytest.mark.parametrize("how", TAGGING)
def test_what_is_too_large_to_hash_is_tagged_by_its_identity_and_keeps_that_tag(tree: Tree, how: str) -> None:
    shelf = Shelf(tree, LARGE, LARGE - 1)
    assert shelf.read(how) == shelf.content
    tag = shelf.entry.etag
    assert is_identity_tag(tag)
    for again in TAGGING:
        renew_ctime(shelf.path)
        shelf.read(again)
        assert shelf.entry.etag == tag
    at_the_limit = Shelf(tree, LARGE, LARGE)
    at_the_limit.read(how)
    assert at_the_limit.entry.etag == tag_of(at_the_limit.content)


# --- files that are not what their entry says -------------------------------------------------------------------------


def other_size(path: Path) -> None:
    rewrite(path, path.read_bytes() + b"more")


def shorter(path: Path) -> None:
    rewrite(path, path.read_bytes()[:-1])


def other_date(path: Path) -> None:
    rewrite(path, path.read_bytes())


def unseen(path: Path) -> None:
    rewrite_unseen(path, path.read_bytes()[::-1])


def replaced(path: Path) -> None:
    publish(path, path.read_bytes())


@pytest.mark.parametrize("change", [other_size, shorter, other_date, unseen, replaced, renew_ctime])
@pytest.mark.parametrize("how", WAYS)
def test_of_a_file_that_is_not_what_the_walk_saw_nothing_is_used(
    tree: Tree, how: str, change: Callable[[Path], None]
) -> None:
    shelf = Shelf(tree, 1000)
    before = shelf.entry.identity
    change(shelf.path)
    with pytest.raises(ChangedError, match="it changes while it is read"):
        shelf.read(how)
    assert (shelf.entry.etag, shelf.entry.identity) == (b"", before)


@pytest.mark.parametrize("change", [other_date, replaced])
@pytest.mark.parametrize("how", TAGGING)
def test_another_file_with_the_same_content_is_another(tree: Tree, how: str, change: Callable[[Path], None]) -> None:
    shelf = Shelf(tree, 1000)
    shelf.read(how)
    before = shelf.entry.identity
    change(shelf.path)
    with pytest.raises(ChangedError):
        shelf.read(how)
    assert shelf.entry.identity == before


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("how", TAGGING)
def test_where_ctime_alone_is_another_the_tag_decides(tree: Tree, how: str, size: int) -> None:
    shelf = Shelf(tree, size)
    shelf.read(how)
    renew_ctime(shelf.path)
    assert shelf.read(how) == shelf.content
    assert shelf.entry.identity == identity_of(shelf.path.stat())  # which is known now
    unseen(shelf.path)
    with pytest.raises(ChangedError):
        shelf.read(how)
    assert shelf.entry.identity != identity_of(shelf.path.stat())
    assert shelf.entry.etag == tag_of(shelf.content)


class Disturbed:
    """Does something to a file behind so many reads of it that gave anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, disturb: Callable[[], None]) -> None:
        self.left = times
        for name in ("read", "pread", "preadv"):
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name), disturb))

    def _wrapped(self, real: Callable[..., object], disturb: Callable[[], None]) -> Callable[..., object]:
        def read(*arguments: object) -> object:
            result = real(*arguments)
            if self.left and result:
                self.left -= 1
                disturb()
            return result

        return read


@pytest.mark.parametrize("change", [other_size, shorter, other_date, unseen])
@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_changes_while_it_is_read_is_not_used(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, how: str, change: Callable[[Path], None]
) -> None:
    shelf = Shelf(tree, 1000)
    disturbed = Disturbed(monkeypatch, 1, lambda: change(shelf.path))
    with pytest.raises(ChangedError):
        shelf.read(how)
    assert disturbed.left == 0
    assert shelf.entry.etag == b""


@pytest.mark.parametrize(("times", "is_used"), [(STEADY_TRIES - 1, True), (STEADY_TRIES, False)])
def test_a_new_ctime_while_it_is_read_has_it_read_again_but_not_for_ever(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, times: int, is_used: bool
) -> None:
    shelf = Shelf(tree, 1000)
    shelf.read("tagged")
    disturbed = Disturbed(monkeypatch, times, lambda: renew_ctime(shelf.path))
    if is_used:
        assert shelf.read("tagged") == shelf.content
    else:
        with pytest.raises(ChangedError):
            shelf.read("tagged")
    assert disturbed.left == 0


def test_a_file_system_that_gives_little_at_a_time_is_read_to_the_end(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tree, 1000)
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 300), at))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: preadv(fd, [buffers[0][:300]], at))
    for how in ("whole", "pieces"):
        assert shelf.read(how) == shelf.content


@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("how", ["whole", "tagged", "small"])
def test_a_file_system_that_gives_less_or_more_than_it_says_is_not_believed(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, how: str, more: int
) -> None:
    shelf = Shelf(tree, 1000)
    given = (shelf.content + b"more")[: 1000 + more]
    monkeypatch.setattr(os, "pread", lambda fd, length, at: given[at : at + length])
    monkeypatch.setattr(os, "read", lambda fd, length: given[:length])
    with pytest.raises(ChangedError):
        shelf.read(how)
    assert shelf.entry.etag == b""


def test_no_more_than_an_entry_says_is_handed_on_of_a_file_that_grows(tree: Tree) -> None:
    shelf = Shelf(tree, 1000)
    file = shelf.open()
    other_size(shelf.path)
    lengths: list[int] = []
    with pytest.raises(ChangedError):
        shelf.reader.read_pieces(file, shelf.entry, lambda piece, at: lengths.append(at + len(piece)))
    assert lengths == [1000]


def test_what_a_sink_raises_is_raised_and_nothing_is_learned(tree: Tree) -> None:
    shelf = Shelf(tree, 1000)

    def full(piece: memoryview, at: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        shelf.reader.read_pieces(shelf.open(), shelf.entry, full)
    assert shelf.entry.etag == b""


# --- a tag without the content ----------------------------------------------------------------------------------------


def test_an_entry_without_a_tag_gets_one_and_with_one_is_made_sure_of(tree: Tree) -> None:
    shelf = Shelf(tree, LARGE)
    file = shelf.open()
    shelf.reader.tag(file, shelf.entry)
    assert shelf.entry.etag == file.etag == tag_of(shelf.content)
    renew_ctime(shelf.path)
    again = shelf.open()
    shelf.reader.tag(again, shelf.entry)
    assert shelf.entry.identity == again.identity == identity_of(shelf.path.stat())
    unseen(shelf.path)
    with pytest.raises(ChangedError):
        shelf.reader.tag(shelf.open(), shelf.entry)


def test_a_file_that_is_too_large_to_hash_is_tagged_without_being_read(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tree, LARGE, LARGE - 1)
    reads = Disturbed(monkeypatch, 9, lambda: None)
    file = shelf.open()
    shelf.reader.tag(file, shelf.entry)
    assert is_identity_tag(file.etag)
    assert reads.left == 9


def test_an_entry_that_has_its_tag_is_not_read_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tree, LARGE)
    shelf.reader.tag(shelf.open(), shelf.entry)
    reads = Disturbed(monkeypatch, 9, lambda: None)
    shelf.reader.tag(shelf.open(), shelf.entry)
    assert reads.left == 9


def test_an_entry_learns_its_tag_once() -> None:
    entry = Entry(b"/a", b"before", 5, 0)
    learn(entry, b'"1"', b"after")
    learn(entry, b'"1"', b"later")
    assert (entry.etag, entry.identity) == (b'"1"', b"later")
    with pytest.raises(ChangedError):
        learn(entry, b'"2"', b"last")
    assert (entry.etag, entry.identity) == (b'"1"', b"later")

"""zcserve.cache.doubt: files of which ctime alone has changed, with and without another content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.trees import Tree, noise, publish, renew_ctime, rewrite, rewrite_unseen
from zcserve.cache import doubt
from zcserve.cache.doubt import CONFIRMED_MAX, TRIES, confirm, is_in_doubt, know, name_anew, put_in_doubt, still_holds
from zcserve.cache.entry import (
    CONTENT_BYTES,
    Entry,
    Look,
    MadeVariant,
    OpenFile,
    Paged,
    Sent,
    SiblingVariant,
    identity_of,
)
from zcserve.cache.pages import Extent
from zcserve.cache.tags import PIECE_BYTES, identity_tag, tag_of

SIZES = [0, 10, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 5]


def opened(path: Path, etag: bytes = b"", flags: int = os.O_RDONLY) -> OpenFile:
    """A file as it is promised now."""
    fd = os.open(path, flags)
    return OpenFile(fd, identity_of(os.fstat(fd)), etag)


def flipped(content: bytes) -> bytes:
    """Other content of the same size; the last byte alone differs."""
    return content[:-1] + bytes((content[-1] ^ 1,))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"the content")
    return path


# --- does a file still hold what it held? -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_file_whose_ctime_alone_has_changed_is_compared_by_its_tag(file: Path, size: int) -> None:
    content = noise(size)
    file.write_bytes(content)
    one = opened(file, tag_of(content))
    assert still_holds(one)
    renew_ctime(file)
    assert still_holds(one)
    assert one.identity == identity_of(file.stat())  # the new ctime is known from then on
    assert one.look() is Look.SAME
    if content:
        before = one.identity
        rewrite_unseen(file, flipped(content))
        assert not still_holds(one)
        assert one.identity == before


@pytest.mark.parametrize("change", [lambda path: rewrite(path, b"the content"), lambda path: os.truncate(path, 3)])
def test_a_file_of_another_size_or_date_is_another_without_a_comparison(
    file: Path, change: Callable[[Path], None]
) -> None:
    one = opened(file, tag_of(b"the content"), os.O_WRONLY)  # it cannot be read
    change(file)
    assert not still_holds(one)


def test_a_file_that_has_lost_its_last_name_is_what_it_was(file: Path) -> None:
    one = opened(file, tag_of(b"the content"), os.O_WRONLY)
    before = one.identity
    while identity_of(os.fstat(one.fd)) == before:
        if file.exists():
            file.unlink()
        os.fchmod(one.fd, 0o600)
    assert still_holds(one)
    assert one.is_stale


@pytest.mark.parametrize("etag", [b"", identity_tag(b"any")])
def test_a_file_of_which_no_content_is_known_is_what_its_identity_says(file: Path, etag: bytes) -> None:
    one = opened(file, etag, os.O_WRONLY)
    renew_ctime(file)
    assert still_holds(one)


@pytest.mark.parametrize(("changed", "holds"), [(None, True), (2, False), (PIECE_BYTES + 9, False), (-1, True)])
def test_what_one_response_has_sent_of_it_must_be_what_it_still_holds(
    file: Path, changed: int | None, holds: bool
) -> None:
    content = bytearray(noise(3 * PIECE_BYTES))
    file.write_bytes(content)
    one = opened(file, identity_tag(b"any"))
    sent = Sent(one.identity, 1)
    sent.note(memoryview(bytes(content[1 : PIECE_BYTES + 100])))
    sent.note(memoryview(bytes(content[PIECE_BYTES + 100 : 2 * PIECE_BYTES])))
    if changed is None:
        renew_ctime(file)
    else:
        content[changed] ^= 1
        rewrite_unseen(file, bytes(content))
    assert still_holds(one, sent) is holds
    assert (sent.identity == identity_of(file.stat())) is holds
    assert one.identity != identity_of(file.stat())  # of the file itself nothing was found out


def test_what_is_remembered_of_a_file_does_not_stand_for_what_was_sent_of_it(file: Path) -> None:
    one, other = opened(file, identity_tag(b"any")), opened(file, identity_tag(b"any"))
    sent = Sent(one.identity, 0)
    sent.note(memoryview(b"the content"))
    rewrite_unseen(file, b"the CONTENT")
    assert still_holds(other)  # as its identity says
    assert not still_holds(one, sent)


def test_of_all_downloads_of_a_file_the_first_compares(file: Path) -> None:
    tag = tag_of(b"the content")
    first, second, other = opened(file, tag), opened(file, tag, os.O_WRONLY), opened(file, tag_of(b""), os.O_WRONLY)
    renew_ctime(file)
    assert still_holds(first)
    assert still_holds(second)
    with pytest.raises(OSError, match="Bad file descriptor"):  # it would have to be read
        still_holds(other)


def test_so_many_files_are_remembered(file: Path) -> None:
    tag = tag_of(b"the content")
    first, second = opened(file, tag), opened(file, tag, os.O_WRONLY)
    renew_ctime(file)
    assert still_holds(first)
    for number in range(CONFIRMED_MAX):  # other promises of the same file, that need no reading
        other = opened(file, identity_tag(b"%d" % number), os.O_WRONLY)
        other.identity = other.identity[:CONTENT_BYTES].ljust(len(other.identity), b"\0")
        assert still_holds(other)
    with pytest.raises(OSError, match="Bad file descriptor"):
        still_holds(second)


@pytest.mark.parametrize(("changes", "holds"), [(TRIES - 1, True), (TRIES, False)])
def test_a_file_that_changes_while_it_is_compared_is_compared_again_but_not_for_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch, changes: int, holds: bool
) -> None:
    one = opened(file, tag_of(b"the content"))
    renew_ctime(file)
    left, pread = [None] * changes, os.pread

    def disturbed(fd: int, length: int, offset: int) -> bytes:
        content = pread(fd, length, offset)
        if left:
            left.pop()
            renew_ctime(file)
        return content

    monkeypatch.setattr(os, "pread", disturbed)
    assert still_holds(one) is holds
    assert left == []


# --- does a file hold what an entry says? -----------------------------------------------------------------------------


Confirms = Callable[..., tuple[bool, Entry]]


@pytest.fixture
def confirms(tree: Tree) -> Confirms:
    """`confirms(change, load=..., **settings)`: what `confirm` says of /a when `change` was done to it, and the entry
    then. `load`: it is resident before."""

    def look(
        change: Callable[[Path], None],
        *,
        load: bool = True,
        prepare: Callable[[Entry], object] = id,
        **settings: object,
    ) -> tuple[bool, Entry]:
        tree.plant({"a": noise(2 * PIECE_BYTES)})
        root, entry = tree.entry(b"/a")
        loader = tree.loader(**settings)
        if load:
            loader.load(root, entry)
        prepare(entry)
        change(tree.path / "a")
        directory = root.open_directory(b"")
        try:
            return confirm(root, directory, b"a", entry), entry
        finally:
            os.close(directory)

    return look


def edit(path: Path) -> None:
    """Other content, of which ctime alone tells."""
    rewrite_unseen(path, flipped(path.read_bytes()))


def test_a_resident_file_is_compared_and_its_new_ctime_is_known(confirms: Confirms, tree: Tree) -> None:
    found, entry = confirms(renew_ctime)
    assert found
    assert entry.identity == identity_of((tree.path / "a").stat())
    found, entry = confirms(edit)
    assert not found
    assert entry.identity != identity_of((tree.path / "a").stat())


@pytest.mark.parametrize(("change", "expected"), [(renew_ctime, True), (edit, False)])
def test_a_resident_file_that_is_tagged_by_its_identity_is_compared_with_the_copy_in_memory(
    confirms: Confirms, change: Callable[[Path], None], expected: bool
) -> None:
    found, entry = confirms(change, hash_bytes_max=1)
    assert isinstance(entry.body, Paged)
    assert found is expected


def test_what_is_not_resident_is_compared_when_it_is_loaded(confirms: Confirms, tree: Tree) -> None:
    def evict(entry: Entry) -> None:
        entry.body, entry.etag = None, tag_of(noise(2 * PIECE_BYTES))

    found, entry = confirms(edit, load=False, prepare=evict)
    assert found
    assert entry.identity != identity_of((tree.path / "a").stat())


def test_a_file_with_variants_is_compared_since_these_may_be_asked_for_alone(confirms: Confirms) -> None:
    def vary(entry: Entry) -> None:
        entry.etag = tag_of(noise(2 * PIECE_BYTES))
        entry.change_variants(more=(entry.coded(b"gzip", 5),))

    assert confirms(renew_ctime, load=False, prepare=vary)[0]
    assert not confirms(edit, load=False, prepare=vary)[0]


def test_of_a_file_that_was_never_read_nothing_is_known_and_one_that_was_judged_is_another(confirms: Confirms) -> None:
    def pair(entry: Entry) -> None:
        entry.change_variants(more=(SiblingVariant(b"/a", b"", 5, 0),))

    def judge(entry: Entry) -> None:
        variant = SiblingVariant(b"/a", b"", 5, 0)
        variant.judged = entry.identity
        entry.change_variants(more=(variant,))

    assert confirms(edit, load=False)[0]
    assert confirms(edit, load=False, prepare=pair)[0]
    assert not confirms(renew_ctime, load=False, prepare=judge)[0]


@pytest.mark.parametrize("change", [Path.unlink, lambda path: publish(path, b"other")], ids=["gone", "replaced"])
def test_a_file_that_is_gone_or_another_is_not_confirmed(confirms: Confirms, change: Callable[[Path], None]) -> None:
    assert not confirms(change)[0]


# --- what is known of an entry ----------------------------------------------------------------------------------------


def test_a_new_ctime_is_known_of_what_depends_on_the_file() -> None:
    entry = Entry(b"/a", b"before", 10, 0)
    made = entry.coded(b"br", 5)
    judged, other = SiblingVariant(b"/a", b"sibling", 5, 0), SiblingVariant(b"/a", b"sibling", 5, 0)
    judged.judged, other.judged = b"before", b"another"
    entry.change_variants(more=(made, judged, other))
    know(entry, b"after")
    assert isinstance(made, MadeVariant)
    assert (entry.identity, made.identity) == (b"after", b"after")
    assert (judged.identity, judged.judged) == (b"sibling", b"after")
    assert (other.identity, other.judged) == (b"sibling", b"another")


def test_what_is_put_in_doubt_is_looked_at_as_if_ctime_had_changed(tree: Tree) -> None:
    tree.plant({"a": noise(2 * PIECE_BYTES)})
    root, entry = tree.entry(b"/a")
    body = tree.loader().load(root, entry)
    file = opened(tree.path / "a", entry.etag)
    renew_ctime(tree.path / "a")
    assert still_holds(file)  # so that it is remembered under this identity
    know(entry, file.identity)
    assert isinstance(body, Paged)
    assert isinstance(body.keeper, Extent)
    body.keeper.etag = entry.etag
    assert not is_in_doubt(entry)
    put_in_doubt(entry)
    assert is_in_doubt(entry)
    assert body.keeper.etag == b""  # its pages are no other name's any more
    unread = OpenFile(os.open(tree.path / "a", os.O_WRONLY), entry.identity, entry.etag)
    assert unread.look() is Look.DOUBTFUL
    with pytest.raises(OSError, match="Bad file descriptor"):  # nothing that was found before is believed
        still_holds(unread)


def test_a_sibling_that_is_put_in_doubt_is_compared_with_its_base_again() -> None:
    variant = SiblingVariant(b"/a", bytes(40), 5, 0)
    variant.judged = b"base"
    put_in_doubt(variant)
    assert variant.judged == b""


def test_two_contents_of_one_identity_have_different_tags() -> None:
    identity = bytes(range(40))
    old, fresh = Entry(b"/a", identity, 1, 0), Entry(b"/a", identity[:32] + bytes(8), 1, 0)
    old.etag = identity_tag(identity[:32])
    name_anew(fresh, old)
    assert fresh.etag not in (b"", old.etag)
    again = Entry(b"/a", fresh.identity, 1, 0)
    name_anew(again, fresh)  # and a third one
    assert again.etag not in (b"", old.etag, fresh.etag)


@pytest.mark.parametrize("etag", [b"", tag_of(b"content")])
def test_a_tag_of_content_needs_no_help(etag: bytes) -> None:
    old, fresh = Entry(b"/a", bytes(40), 1, 0), Entry(b"/a", bytes(40), 1, 0)
    old.etag = etag
    name_anew(fresh, old)
    assert fresh.etag == b""


def test_another_file_needs_no_help() -> None:
    old, fresh = Entry(b"/a", bytes(40), 1, 0), Entry(b"/a", b"\1" + bytes(39), 1, 0)
    old.etag = identity_tag(bytes(32))
    name_anew(fresh, old)
    assert fresh.etag == b""


def test_a_large_comparison_tells_that_it_goes_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[None] = []
    monkeypatch.setattr(doubt, "beat", lambda: beats.append(None))
    file.write_bytes(noise(3 * PIECE_BYTES))
    one = opened(file, tag_of(noise(3 * PIECE_BYTES)))
    renew_ctime(file)
    assert still_holds(one)
    assert len(beats) == 3

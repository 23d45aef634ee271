"""zcserve.cache.codings: which codings content lacks, and that each is made once. What becomes of them: test_loader.py,
test_variants.py."""

from __future__ import annotations

import gc
import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.support.counting import Codec
from tests.support.memory import body_of, large_body_of
from tests.support.trees import noise, prose
from zcserve import Config
from zcserve.cache.codings import Codings
from zcserve.cache.entry import Body, ComposedEntry, Entry, SiblingVariant
from zcserve.cache.tags import tag_of
from zcserve.errors import UsageError
from zcserve.media_types import MediaTypes

BYTES_MAX = 100_000


class Desk:
    """Codings, all of them made by one codec that counts."""

    def __init__(self, root: Path, *codings: bytes, **settings: Any) -> None:
        config = Config(root=root, **{"compress": True} | settings)
        self.codings = Codings(config, MediaTypes(), BYTES_MAX)
        self.codec = Codec()
        if codings:
            self.codings.codecs = dict.fromkeys(codings, self.codec)

    def missing(self, entry: Entry, content: bytes) -> dict[bytes, bytes]:
        return dict(self.codings.missing(entry, content))


def file_of(content: bytes, name: bytes = b"/a.css", *present: bytes) -> Entry:
    """A file's entry, with siblings in these codings."""
    entry = Entry(name, bytes(40), len(content), 0)
    entry.etag = tag_of(content)
    for coding in present:
        variant = SiblingVariant(name, bytes(40), 5, 0)
        variant.encoding = coding
        entry.change_variants(more=(variant,))
    return entry


def composed_of(content: bytes, content_type: str) -> ComposedEntry:
    return ComposedEntry(b"/servlet", len(content), 0, content_type, ())


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        (b"/a.css", 1024, True),
        (b"/a.css", 1023, False),
        (b"/a.css", BYTES_MAX, True),
        (b"/a.css", BYTES_MAX + 1, False),
        (b"/d/a%20b.svg", 5000, True),
        (b"/a.png", 5000, False),
        (b"/a.svgz", 5000, False),  # compressed already
        (b"/a.css.gz", 5000, False),
        (b"/unknown", 5000, False),
    ],
)
def test_files_that_compress_and_are_neither_too_small_nor_too_large_may_get_codings(
    tmp_path: Path, name: bytes, size: int, expected: bool
) -> None:
    assert Desk(tmp_path, b"gzip").codings.may_apply(Entry(name, b"", size, 0)) is expected
    assert not Desk(tmp_path, compress=False).codings.may_apply(Entry(name, b"", size, 0))


@pytest.mark.parametrize(
    ("content_type", "expected"), [("text/html; charset=utf-8", True), ("application/json", True), ("image/png", False)]
)
def test_of_what_comes_from_no_file_its_type_decides(tmp_path: Path, content_type: str, expected: bool) -> None:
    assert Desk(tmp_path).codings.may_apply(composed_of(bytes(5000), content_type)) is expected


def test_what_has_all_codings_gets_none(tmp_path: Path) -> None:
    desk = Desk(tmp_path, b"gzip", b"br")
    content = prose(5000)
    assert desk.codings.may_apply(file_of(content, b"/a.css", b"gzip"))
    assert not desk.codings.may_apply(file_of(content, b"/a.css", b"gzip", b"br"))
    assert desk.missing(file_of(content, b"/a.css", b"gzip"), content).keys() == {b"br"}
    assert desk.codec.calls == 1


def test_a_coding_that_saves_too_little_is_none(tmp_path: Path) -> None:
    desk = Desk(tmp_path, b"gzip")
    assert desk.missing(file_of(noise(5000)), noise(5000)) == {}
    assert desk.codings.make(file_of(noise(5000)), b"gzip", noise(5000)) == b""
    coded = desk.codings.make(file_of(prose(5000)), b"gzip", prose(5000))
    assert gzip.decompress(coded) == prose(5000)


@pytest.mark.parametrize("is_large", [False, True])
def test_the_coded_content_of_a_resident_variant_is_used_again(tmp_path: Path, is_large: bool) -> None:
    desk = Desk(tmp_path, b"gzip")
    content = prose(5000)
    coded = gzip.compress(content)
    body: Body = large_body_of(coded) if is_large else body_of(coded)
    variant = file_of(content).coded(b"gzip", len(coded))
    variant.body = body
    desk.codings.remember(tag_of(content), variant)
    assert desk.missing(file_of(content, b"/other.txt"), content) == {b"gzip": coded}
    assert desk.codec.calls == 0
    assert desk.missing(file_of(prose(5001)), prose(5001)).keys() == {b"gzip"}  # of other content
    assert desk.codec.calls == 1
    variant.body = None  # evicted
    desk.missing(file_of(content), content)
    assert desk.codec.calls == 2
    variant.body = body
    del variant
    gc.collect()
    desk.missing(file_of(content), content)  # what is gone is not kept for its content
    assert desk.codec.calls == 3


def test_what_was_made_of_a_file_is_kept_between_starts(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    settings: dict[str, Any] = {"compress_dir": str(tmp_path / "kept"), "hash_bytes_max": 6000}
    first, second = (Desk(tmp_path / "root", b"gzip", **settings) for _ in range(2))
    for content, calls in ((prose(5000), 0), (noise(5000), 0), (prose(6001), 1)):
        made = first.codings.make(file_of(content), b"gzip", content)
        before = second.codec.calls
        assert second.codings.make(file_of(content), b"gzip", content) == made
        assert second.codec.calls - before == calls  # not of what is too large to hash
    assert (first.codings.found_kept, second.codings.found_kept) == (0, 2)


def test_what_was_made_of_no_file_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    desk = Desk(tmp_path / "root", b"gzip", compress_dir=str(tmp_path / "kept"))
    content = prose(5000)
    for _ in range(2):
        desk.codings.make(composed_of(content, "text/plain"), b"gzip", content)
    assert desk.codec.calls == 2
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_directory_that_cannot_be_used_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lies in the root"):
        Desk(tmp_path, compress_dir=str(tmp_path / "kept"))


def test_the_tags_of_what_has_made_variants_or_might_have_are_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, b"gzip")
    might, picture, small, unread = (
        file_of(prose(5000)), file_of(prose(5001), b"/a.png"), file_of(b"x"), file_of(prose(5002))
    )  # fmt: skip
    unread.etag = b""
    has = file_of(prose(BYTES_MAX + 1))
    has.change_variants(more=(has.coded(b"gzip", 5),))
    sibling = file_of(prose(5003), b"/b.css", b"gzip")
    assert desk.codings.tags_of([might, picture, small, unread, has, sibling]) == {might.etag, has.etag}

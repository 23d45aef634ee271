"""Variants that are kept between starts: what is found again, what is not, and what is removed."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.counting import Codec
from tests.support.trees import Tree, content_of, noise, prose
from zcserve.cache.kept import DIGEST_BYTES, LEFT_S, VariantDirectory, open_kept
from zcserve.cache.tags import tag_of
from zcserve.config.table import Config
from zcserve.errors import UsageError

CONTENT, MADE = prose(5000), b"made of it"
TAG = tag_of(CONTENT)


@pytest.fixture
def kept(tmp_path: Path) -> VariantDirectory:
    return VariantDirectory(tmp_path / "some" / "kept", {b"gzip": "1-9", b"br": "2-11"})


def files(kept: VariantDirectory) -> list[Path]:
    """All files in the directory."""
    return sorted(path for path in kept.directory.rglob("*") if path.is_file())


def test_what_was_kept_is_found_by_content_and_coding(kept: VariantDirectory) -> None:
    assert kept.get(TAG, b"gzip", CONTENT) is None
    kept.put(TAG, b"gzip", CONTENT, MADE)
    assert kept.get(TAG, b"gzip", CONTENT) == MADE
    assert kept.get(TAG, b"br", CONTENT) is None
    kept.put(TAG, b"br", CONTENT, b"")
    assert kept.get(TAG, b"br", CONTENT) == b""  # it was not worth it
    assert len(files(kept)) == 2


def test_another_version_or_level_finds_nothing(kept: VariantDirectory, tmp_path: Path) -> None:
    kept.put(TAG, b"gzip", CONTENT, MADE)
    assert VariantDirectory(tmp_path / "some" / "kept", {b"gzip": "1-6"}).get(TAG, b"gzip", CONTENT) is None


def test_another_content_of_the_same_hash_finds_nothing(kept: VariantDirectory) -> None:
    kept.put(TAG, b"gzip", CONTENT, MADE)
    assert kept.get(TAG, b"gzip", CONTENT + b"!") is None


@pytest.mark.parametrize("length", [0, 1, DIGEST_BYTES, 2 * DIGEST_BYTES, 2 * DIGEST_BYTES + len(MADE) - 1])
def test_what_was_cut_short_or_broken_is_ignored(kept: VariantDirectory, length: int) -> None:
    kept.put(TAG, b"gzip", CONTENT, MADE)
    (file,) = files(kept)
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    assert kept.get(TAG, b"gzip", CONTENT) is None
    file.write_bytes(whole[:-1] + b"?")
    assert kept.get(TAG, b"gzip", CONTENT) is None
    kept.put(TAG, b"gzip", CONTENT, MADE)
    assert kept.get(TAG, b"gzip", CONTENT) == MADE


def test_what_is_not_referred_to_is_removed_and_nothing_else(kept: VariantDirectory) -> None:
    other = prose(5000, b"other ")
    for content in (CONTENT, other):
        kept.put(tag_of(content), b"gzip", content, MADE)
    directory = files(kept)[0].parent
    (directory / f"{TAG.decode()[1:-1]}.gzip-0-9").write_bytes(b"of an older version")
    (directory / "notes.txt").write_bytes(b"whose is this?")
    fresh, left = directory / f".{'0' * 32}.gzip-1-9-7-7~", directory / f".{'1' * 32}.gzip-1-9-7-7~"
    for file in (fresh, left):
        file.write_bytes(b"")
    os.utime(left, (0, time.time() - LEFT_S - 60))
    assert kept.sweep({TAG}) == 3
    assert kept.get(TAG, b"gzip", CONTENT) == MADE
    assert kept.get(tag_of(other), b"gzip", other) is None
    names = {file.name for file in files(kept)}
    assert {"notes.txt", fresh.name} <= names
    assert left.name not in names


def test_a_directory_that_cannot_be_written_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"compress_dir: '.*file' cannot be written: "):
        VariantDirectory(tmp_path / "file", {})


def test_where_nothing_more_can_be_written_that_is_told_once(
    kept: VariantDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "some" / "kept").rmdir()
    for _ in range(3):
        kept.put(TAG, b"gzip", CONTENT, MADE)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "variants cannot be kept in" in caplog.text
    assert kept.sweep(set()) == 0


@pytest.mark.parametrize(
    ("directory", "served"),
    [("root/kept", True), ("root", True), ("root/.well-known/kept", True), ("root/.kept", False)],
)
def test_a_directory_that_would_be_served_is_refused(tmp_path: Path, directory: str, served: bool) -> None:
    (tmp_path / "root").mkdir()
    config = Config(root=tmp_path / "root", compress=True, compress_dir=str(tmp_path / directory))
    if served:
        with pytest.raises(UsageError, match="lies in the root and would be served"):
            open_kept(config)
    else:
        assert open_kept(config) is not None
    assert open_kept(Config(root=tmp_path / "root", compress_dir=str(tmp_path / directory))) is None


# --- with a loader ----------------------------------------------------------------------------------------------


def started(tree: Tree, directory: Path) -> tuple[Any, int]:
    """A start: the files' entries with their variants, and how often something was compressed."""
    codec = Codec()
    loader = tree.loader(compress=True, compress_dir=str(directory))
    loader.codings.codecs = {b"gzip": codec}
    generation = tree.walk()
    for entry in generation.entries():
        loader.add_variants(generation.root, entry)
    return {entry.key: entry for entry in generation.entries()}, codec.calls


def test_the_next_start_compresses_what_is_new(tree: Tree, tmp_path: Path) -> None:
    directory = tmp_path / "kept"
    tree.plant({"a.css": prose(5000), "noise.css": noise(5000)})
    assert started(tree, directory)[1] == 2
    entries, calls = started(tree, directory)
    assert calls == 0  # nor is it tried again where it saves nothing
    body = entries[b"/a.css"].variants[0].body
    assert gzip.decompress(content_of(body)) == prose(5000)
    assert not entries[b"/noise.css"].variants
    tree.plant({"b.css": prose(6000)})
    os.rename(tree.path / "a.css", tree.path / "c.css")
    assert started(tree, directory)[1] == 1


def test_a_broken_one_is_made_anew(tree: Tree, tmp_path: Path) -> None:
    directory = tmp_path / "kept"
    tree.plant({"a.css": prose(5000)})
    started(tree, directory)
    (file,) = (path for path in directory.rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:-5])
    entries, calls = started(tree, directory)
    assert calls == 1
    assert gzip.decompress(content_of(entries[b"/a.css"].variants[0].body)) == prose(5000)
    assert started(tree, directory)[1] == 0


def test_an_evicted_variant_comes_back_from_there(tree: Tree, tmp_path: Path) -> None:
    tree.plant({"a.css": prose(5000)})
    codec = Codec()
    loader = tree.loader(compress=True, compress_dir=str(tmp_path / "kept"))
    loader.codings.codecs = {b"gzip": codec}
    root, entry = tree.entry(b"/a.css")
    loader.add_variants(root, entry)
    loader.store.drop(entry.variants[0])
    assert gzip.decompress(content_of(loader.load(root, entry.variants[0]))) == prose(5000)
    assert codec.calls == 1

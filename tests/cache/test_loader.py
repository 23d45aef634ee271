"""From files to bodies: what is read, what is refused, what it is tagged, where it comes to lie."""

from __future__ import annotations

import errno
import gc
import gzip
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mmh3
import pytest

from tests.support.counting import Codec
from tests.support.trees import (
    Tree,
    content_of,
    descriptors,
    entry_of,
    field,
    memfds,
    noise,
    prose,
    publish,
    rewrite,
    rewrite_unseen,
)
from zcserve.cache import closing
from zcserve.cache import loader as loading
from zcserve.cache.entry import Body, ComposedEntry, Entry, Fleeting, Look, OnDisk, Packed, Paged
from zcserve.cache.loader import Loader
from zcserve.cache.memfd import round_up
from zcserve.cache.naming import path_of
from zcserve.cache.pairing import entry_at
from zcserve.cache.reading import ChangedError
from zcserve.cache.root import OutsideRootError
from zcserve.cache.tags import tag_of_all
from zcserve.http import format_date

SMALL = 1000
LARGE = 700_000  # several pieces of a read
SIZES = [0, 1, SMALL, 16 * 1024, 16 * 1024 + 1, LARGE]
READERS = ("read", "pread", "readv", "preadv")


def tag_of(content: bytes) -> bytes:
    """The strong ETag of content, by mmh3's older interface."""
    return b'"%b"' % mmh3.hash_bytes(content, 0, True).hex().encode()


def load(tree: Tree, loader: Loader, key: bytes) -> tuple[Entry, Body]:
    root, entry = tree.entry(key)
    return entry, loader.load(root, entry)


# --- what is loaded ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_content_becomes_resident_with_its_head(tree: Tree, size: int) -> None:
    tree.plant({"a.html": noise(size)})
    os.utime(tree.path / "a.html", (0, 784111777))
    loader = tree.loader(cache_control="max-age=60")
    entry, body = load(tree, loader, b"/a.html")
    assert entry.body is body
    assert isinstance(body, Packed if size <= 16 * 1024 else Paged)
    assert content_of(body) == noise(size)
    assert entry.etag == tag_of(noise(size))
    head = body.head()
    assert field(head, b"Content-Length") == b"%d" % size
    assert field(head, b"Content-Type") == b"text/html; charset=utf-8"
    assert field(head, b"Last-Modified") == format_date(784111777)
    assert field(head, b"ETag") == entry.etag
    assert field(head, b"Cache-Control") == b"max-age=60"
    assert field(head, b"Vary") is None


def test_the_same_bytes_have_the_same_tag_under_any_name_and_time(tree: Tree) -> None:
    tree.plant({"a.txt": noise(LARGE), "d/b.css": noise(LARGE), "c": noise(LARGE - 1)})
    os.utime(tree.path / "a.txt", (0, 0))
    loader = tree.loader()
    tags = [load(tree, loader, key)[0].etag for key in (b"/a.txt", b"/d/b.css", b"/c")]
    assert tags[0] == tags[1] != tags[2]


@pytest.mark.parametrize("name", ["a b.txt", "100%.txt", "ä/日本.txt", "new\nline.txt", "%2e%2e"])
def test_a_file_is_found_by_its_encoded_key(tree: Tree, name: str) -> None:
    tree.plant({name: b"content"})
    generation = tree.walk()
    (entry,) = generation.entries()
    assert path_of(entry) == name.encode()
    assert content_of(tree.loader().load(generation.root, entry)) == b"content"


def test_siblings_are_loaded_as_what_they_are(tree: Tree) -> None:
    contents = {"a.css": b"base" * 100, "a.css.br": b"br", "a.css.zst": b"zst", "a.css.gz": noise(LARGE)}
    tree.plant(contents)
    root, entry = tree.entry(b"/a.css")
    loader = tree.loader()
    assert field(loader.load(root, entry).head(), b"Vary") == b"Accept-Encoding"
    found = {}
    for variant in entry.variants:
        body = loader.load(root, variant)
        found[variant.encoding] = content_of(body)
        assert field(body.head(), b"Content-Encoding") == variant.encoding
        assert field(body.head(), b"Content-Type") == b"text/css; charset=utf-8"
        assert field(body.head(), b"Vary") == b"Accept-Encoding"
        assert field(body.head(), b"ETag") == variant.etag == tag_of(content_of(body))
    assert found == {b"br": b"br", b"zstd": b"zst", b"gzip": noise(LARGE)}
    assert len({representation.etag for representation in (entry, *entry.variants)}) == 4


def test_content_is_read_for_other_uses_too(tree: Tree) -> None:
    tree.plant({"a": noise(LARGE)})
    root, entry = tree.entry(b"/a")
    loader = tree.loader()
    assert loader.read(root, entry) == noise(LARGE)
    assert loader.store.committed == 0
    rewrite(tree.path / "a", noise(LARGE, 1))
    with pytest.raises(ChangedError):
        loader.read(root, entry)


def test_any_number_of_large_bodies_costs_one_descriptor(tree: Tree) -> None:
    tree.plant({f"{i}.bin": noise(40_000, i) for i in range(60)})
    generation = tree.walk()
    before = descriptors()
    loader = tree.loader()
    bodies = [loader.load(generation.root, entry) for entry in generation.entries()]
    assert all(isinstance(body, Paged) and not body.holds_descriptor for body in bodies)
    assert descriptors() <= before + 1


def test_many_threads_may_load_one_file(tree: Tree) -> None:
    tree.plant({"small": noise(SMALL), "large": noise(LARGE)})
    generation = tree.walk()
    loader = tree.loader()
    wrong: list[str] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(20)
        for entry in generation.entries():
            size = SMALL if entry.key == b"/small" else LARGE
            if content_of(loader.load(generation.root, entry)) != noise(size):
                wrong.append(entry.key.decode())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert loader.store.resident == 2
    gc.collect()
    assert loader.store.committed <= 2 * 4096 + round_up(LARGE)


# --- what is not resident ---------------------------------------------------------------------------------


def test_a_body_that_is_too_large_for_the_budget_is_sent_from_its_file(tree: Tree) -> None:
    tree.plant({"a.bin": noise(LARGE)})
    loader = tree.loader(memory=1 << 20)
    entry, body = load(tree, loader, b"/a.bin")
    assert isinstance(body, OnDisk)
    assert entry.body is None
    assert content_of(body) == noise(LARGE)
    assert body.file.look() is Look.SAME
    assert entry.etag == tag_of(noise(LARGE)) == field(body.head(), b"ETag")
    assert loader.store.committed == loader.store.resident == 0


@pytest.mark.parametrize("size", [SMALL, 100_000])
def test_a_body_without_room_is_sent_from_its_file(tree: Tree, size: int) -> None:
    tree.plant({"full": noise(500_000), "full2": noise(500_000, 1), "a": noise(size)})
    generation = tree.walk()
    loader = tree.loader(memory=1 << 20)
    for key in (b"/full", b"/full2"):
        loader.load(generation.root, entry_of(generation, key)).pins = 1
    loader.store.count_index(0, loader.store.budget - loader.store.committed)
    entry = entry_of(generation, b"/a")
    body = loader.load(generation.root, entry)
    assert isinstance(body, OnDisk)
    assert content_of(body) == noise(size)
    assert field(body.head(), b"ETag") == tag_of(noise(size))


def test_a_small_body_is_read_once_and_sent_while_no_room_may_be_made(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As during an upgrade: what happens to the file after it was read is nothing to those that wait for it."""
    tree.plant({"a": noise(SMALL)})
    root, entry = tree.entry(b"/a")
    loader = tree.loader()
    loader.store.freeze()
    monkeypatch.setattr(loader.store, "place", lambda *_, **__: False)
    opened = descriptors(tree.path.parent)
    body = loader.load(root, entry)
    assert isinstance(body, Fleeting)
    assert descriptors(tree.path.parent) == opened
    rewrite(tree.path / "a", b"other")
    assert content_of(body) == noise(SMALL)
    assert field(body.head(), b"ETag") == tag_of(noise(SMALL))
    assert entry.body is None
    loader.store.thaw()


@pytest.mark.parametrize("is_shed", [False, True], ids=["its entry is gone", "descriptors are short"])
def test_the_file_of_a_body_on_disk_is_open_until_nothing_needs_it(tree: Tree, is_shed: bool) -> None:
    tree.plant({"a.bin": noise(LARGE)})
    loader = tree.loader(memory=1 << 20)
    root, entry = tree.entry(b"/a.bin")
    before = descriptors(tree.path.parent)
    body = loader.load(root, entry)
    assert entry.body is None
    assert loader.store.opened.get(entry) is body
    if is_shed:
        assert loader.store.shed_descriptor()
        assert not loader.store.shed_descriptor()
    else:
        loader.forget(entry)
    assert loader.store.opened.get(entry) is None
    assert descriptors(tree.path.parent) == before + 1
    assert content_of(body) == noise(LARGE)
    del body
    assert descriptors(tree.path.parent) == before


def test_a_file_over_the_hash_limit_is_tagged_by_its_identity(tree: Tree) -> None:
    tree.plant({"a.bin": noise(LARGE), "b.bin": noise(LARGE)})
    settings = {"memory": 1 << 20, "hash_bytes_max": LARGE - 1}
    loader = tree.loader(**settings)
    first, _ = load(tree, loader, b"/a.bin")
    again, _ = load(tree, tree.loader(**settings), b"/a.bin")
    other, _ = load(tree, loader, b"/b.bin")
    assert first.etag.startswith(b'"id-')
    assert len(first.etag) == len(tag_of(b""))
    assert first.etag == again.etag != other.etag
    rewrite(tree.path / "a.bin", noise(LARGE))
    assert load(tree, loader, b"/a.bin")[0].etag != first.etag


def test_a_file_at_the_hash_limit_is_tagged_by_its_content(tree: Tree) -> None:
    tree.plant({"a.bin": noise(LARGE)})
    entry, _ = load(tree, tree.loader(memory=1 << 20, hash_bytes_max=LARGE), b"/a.bin")
    assert entry.etag == tag_of(noise(LARGE))


def test_a_resident_file_over_the_hash_limit_is_tagged_by_its_identity_too(tree: Tree) -> None:
    tree.plant({"a.bin": noise(LARGE)})
    entry, _ = load(tree, tree.loader(hash_bytes_max=LARGE - 1), b"/a.bin")
    assert entry.etag.startswith(b'"id-')


def test_a_file_keeps_its_tag_when_it_becomes_resident(tree: Tree) -> None:
    tree.plant({"a.bin": noise(LARGE)})
    root, entry = tree.entry(b"/a.bin")
    loader = tree.loader(hash_bytes_max=LARGE - 1)
    loader.store.count_index(0, loader.store.budget)
    assert isinstance(loader.load(root, entry), OnDisk)
    tag = entry.etag
    loader.store.count_index(0, 0)
    assert isinstance(loader.load(root, entry), Paged)
    assert entry.etag == tag


# --- files that change ------------------------------------------------------------------------------------


def while_reading(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None], *, before: bool = False) -> list[str]:
    """Do something to the file after (or `before`) its first bytes are read; what is returned tells whether."""
    happened: list[str] = []

    def once(name: str) -> None:
        if not happened:
            happened.append(name)
            change()

    def wrapped(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def read(*arguments: object) -> object:
            if before:
                once(name)
            result = real(*arguments)
            once(name)
            return result

        return read

    for name in READERS:
        monkeypatch.setattr(os, name, wrapped(name))
    return happened


def same_size(path: Path, content: bytes) -> None:
    rewrite(path, content[::-1])


def grown(path: Path, content: bytes) -> None:
    rewrite(path, content + b"more")


def cut_short(path: Path, content: bytes) -> None:
    rewrite(path, content[: len(content) // 2])


def emptied(path: Path, content: bytes) -> None:
    rewrite(path, b"")


def dated_back(path: Path, content: bytes) -> None:
    """The same size and the same mtime, to the nanosecond."""
    rewrite_unseen(path, content[::-1])


CHANGES = [same_size, grown, cut_short, emptied, dated_back]
Change = Callable[[Path, bytes], None]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("before", [True, False], ids=["before the first read", "after it"])
@pytest.mark.parametrize(
    ("size", "memory"), [(SMALL, 64 << 20), (LARGE, 64 << 20), (LARGE, 1 << 20)], ids=["small", "large", "on disk"]
)
def test_a_file_that_changes_while_it_is_read_is_not_used(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, change: Change, before: bool, size: int, memory: int
) -> None:
    content = noise(size)
    tree.plant({"a": content})
    root, entry = tree.entry(b"/a")
    loader = tree.loader(memory=memory)
    opened = descriptors(tree.path.parent)
    happened = while_reading(monkeypatch, lambda: change(tree.path / "a", content), before=before)
    with pytest.raises(ChangedError):
        loader.load(root, entry)
    assert happened
    gc.collect()
    assert entry.body is None
    assert loader.store.committed == loader.store.resident == 0
    assert descriptors(tree.path.parent) == opened


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_that_changed_since_the_walk_is_not_used(tree: Tree, change: Change, size: int, in_place: bool) -> None:
    tree.plant({"a": noise(size)})
    root, entry = tree.entry(b"/a")
    change(tree.path / "a", noise(size))
    loader = tree.loader(in_place=in_place)
    with pytest.raises(ChangedError):
        loader.load(root, entry)
    assert entry.body is None
    fresh = entry_at(root, entry.key)
    assert fresh is not None
    body = loader.load(root, fresh)
    assert content_of(body) == (tree.path / "a").read_bytes()
    assert fresh.etag == tag_of(content_of(body))


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_file_replaced_by_rename_while_it_is_read_is_whole_or_not_used(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    tree.plant({"a": noise(size)})
    root, entry = tree.entry(b"/a")
    happened = while_reading(monkeypatch, lambda: publish(tree.path / "a", noise(size, 1)))
    try:
        content = content_of(tree.loader().load(root, entry))
    except ChangedError:
        content = noise(size)
    assert content == noise(size)
    assert happened


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_file_replaced_by_rename_since_the_walk_is_not_used(tree: Tree, size: int) -> None:
    tree.plant({"a": noise(size)})
    root, entry = tree.entry(b"/a")
    publish(tree.path / "a", noise(size, 1))
    with pytest.raises(ChangedError):
        tree.loader().load(root, entry)


def test_resident_content_does_not_change_with_its_file(tree: Tree) -> None:
    tree.plant({"small": noise(SMALL), "large": noise(LARGE)})
    generation = tree.walk()
    loader = tree.loader()
    bodies = {entry.key: loader.load(generation.root, entry) for entry in generation.entries()}
    cut_short(tree.path / "small", noise(SMALL))
    (tree.path / "large").write_bytes(b"")
    assert content_of(bodies[b"/small"]) == noise(SMALL)
    assert content_of(bodies[b"/large"]) == noise(LARGE)


def test_an_edit_of_the_same_size_in_the_same_second_has_another_tag(tree: Tree) -> None:
    tree.plant({"a": b"one"})
    loader = tree.loader()
    before, _ = load(tree, loader, b"/a")
    dated_back(tree.path / "a", b"one")
    after, body = load(tree, loader, b"/a")
    assert (before.modified, before.size) == (after.modified, after.size)
    assert before.etag != after.etag
    assert content_of(body) == b"eno"


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_symlink_that_was_swapped_since_the_walk_is_refused(tree: Tree, tmp_path: Path, size: int) -> None:
    (tmp_path / "secret").write_bytes(noise(size))
    tree.plant({"a": noise(size)})
    (tree.path / "link").symlink_to("a")
    root, entry = tree.entry(b"/link")
    (tree.path / "link").unlink()
    (tree.path / "link").symlink_to(tmp_path / "secret")
    opened = descriptors(tree.path.parent)
    with pytest.raises(OutsideRootError):
        tree.loader().load(root, entry)
    assert descriptors(tree.path.parent) == opened
    assert entry_at(root, entry.key) is None


def test_a_directory_that_was_swapped_for_a_symlink_is_refused(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a").write_bytes(b"inside")
    tree.plant({"d/a": b"inside"})
    root, entry = tree.entry(b"/d/a")
    (tree.path / "d").rename(tree.path / "was-d")
    (tree.path / "d").symlink_to(tmp_path / "secrets")
    with pytest.raises(OutsideRootError):
        tree.loader().load(root, entry)


def test_a_file_that_became_something_else_is_an_error(tree: Tree) -> None:
    tree.plant({"fifo": b"", "directory": b"", "gone": b""})
    generation = tree.walk()
    for name in ("fifo", "directory", "gone"):
        (tree.path / name).unlink()
    os.mkfifo(tree.path / "fifo")
    (tree.path / "directory").mkdir()
    loader = tree.loader()
    for entry in generation.entries():
        with pytest.raises(OSError, match=r"."):
            loader.load(generation.root, entry)
        assert entry_at(generation.root, entry.key) is None


# --- renewing ---------------------------------------------------------------------------------------------


def test_a_successor_stands_in_its_place_and_the_old_bodies_are_dropped(tree: Tree) -> None:
    tree.plant({"index.html": noise(50_000), "index.html.gz": b"gz"})
    generation = tree.walk()
    loader = tree.loader()
    old = entry_of(generation, b"/")
    for representation in (old, *old.variants):
        loader.load(generation.root, representation)
    rewrite(tree.path / "index.html.gz", b"another")
    fresh = loader.succeed(generation, old)
    assert fresh is not None
    assert generation.resources[b"/"] is generation.resources[b"/index.html"] is fresh
    assert loader.store.committed == loader.store.resident == 0
    (tree.path / "index.html").unlink()
    assert loader.succeed(generation, fresh) is None
    assert not {b"/", b"/index.html"} & set(generation.resources)


# --- drop_cache and in_place ------------------------------------------------------------------------------


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose cached pages were given back."""
    names: list[str] = []
    real = os.posix_fadvise

    def fadvise(fd: int, offset: int, length: int, advice: int) -> None:
        if advice == os.POSIX_FADV_DONTNEED and (offset, length) == (0, 0):
            names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        real(fd, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    return names


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"drop_cache": True}, ["large", "small"]),
        ({"drop_cache": True, "memory": 1 << 20}, ["small"]),
        ({"drop_cache": True, "in_place": True}, []),
    ],
    ids=["by default", "asked for", "not resident", "in place"],
)
def test_the_files_own_pages_are_given_back_when_asked_and_its_content_is_resident(
    tree: Tree, dropped: list[str], settings: dict[str, int], expected: list[str]
) -> None:
    tree.plant({"small": noise(SMALL), "large": noise(LARGE)})
    generation = tree.walk()
    loader = tree.loader(**settings)
    for entry in generation.entries():
        assert content_of(loader.load(generation.root, entry)) == noise(entry.size)
    assert sorted(dropped) == expected


def test_in_place_sends_large_files_themselves(tree: Tree) -> None:
    tree.plant({"small": noise(SMALL), "large": noise(LARGE)})
    loader = tree.loader(in_place=True)
    _, small = load(tree, loader, b"/small")
    assert isinstance(small, Packed)
    before = descriptors(tree.path.parent)
    entry, large = load(tree, loader, b"/large")
    assert isinstance(large, Paged)
    assert large.holds_descriptor
    assert entry.body is large
    assert os.fstat(large.fd).st_ino == (tree.path / "large").stat().st_ino
    assert content_of(large) == noise(LARGE)
    assert entry.etag == tag_of(noise(LARGE))
    assert loader.store.committed <= 4096
    assert descriptors(tree.path.parent) == before + 1


def test_in_place_goes_on_with_the_old_file_when_it_is_replaced(tree: Tree) -> None:
    tree.plant({"large": noise(LARGE)})
    _, body = load(tree, tree.loader(in_place=True), b"/large")
    publish(tree.path / "large", noise(LARGE, 1))
    assert content_of(body) == noise(LARGE)


def test_in_place_does_not_take_a_new_file_for_the_old_one_when_it_opens_it_again(tree: Tree) -> None:
    tree.plant({"large": noise(LARGE)})
    root, entry = tree.entry(b"/large")
    loader = tree.loader(in_place=True)
    loader.load(root, entry)
    assert loader.store.shed_descriptor()
    publish(tree.path / "large", noise(2 * LARGE, 1))
    with pytest.raises(ChangedError):
        loader.load(root, entry)


def test_in_place_sees_that_a_file_over_the_hash_limit_changed(tree: Tree) -> None:
    tree.plant({"large": noise(LARGE)})
    root, entry = tree.entry(b"/large")
    publish(tree.path / "large", noise(2 * LARGE, 1))
    with pytest.raises(ChangedError):
        tree.loader(in_place=True, hash_bytes_max=LARGE - 1).load(root, entry)


# --- variants that are made -------------------------------------------------------------------------------


def gzip_loader(tree: Tree, **settings: object) -> tuple[Loader, Codec]:
    loader = tree.loader(compress=True, **settings)
    codec = Codec()
    loader.codings.codecs = {b"gzip": codec}
    return loader, codec


@pytest.mark.parametrize("size", [5000, LARGE, 4 << 20])
def test_missing_variants_are_made_and_resident(tree: Tree, size: int) -> None:
    content = prose(size - 1000) + noise(1000)
    tree.plant({"a.css": content})
    loader, _ = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    assert loader.wants_variants(entry)
    loader.add_variants(root, entry)
    (variant,) = entry.variants
    assert variant.made
    assert (variant.key, variant.encoding, variant.modified) == (b"/a.css", b"gzip", entry.modified)
    body = variant.body
    assert body is not None
    assert gzip.decompress(content_of(body)) == content
    assert variant.size == body.size < size
    assert variant.etag == tag_of(content_of(body)) == field(body.head(), b"ETag")
    assert field(body.head(), b"Content-Encoding") == b"gzip"
    assert field(body.head(), b"Content-Length") == b"%d" % variant.size
    assert field(body.head(), b"Vary") == b"Accept-Encoding"
    assert field(loader.load(root, entry).head(), b"Vary") == b"Accept-Encoding"


def test_a_base_that_is_resident_already_tells_that_it_varies(tree: Tree) -> None:
    """As with `first` of preload, or a file that was renewed on demand before a reload."""
    tree.plant({"a.css": prose(5000)})
    loader, _ = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    loader.load(root, entry)
    loader.add_variants(root, entry)
    assert [variant.encoding for variant in entry.variants] == [b"gzip"]
    assert entry.body is None or field(entry.body.head(), b"Vary") == b"Accept-Encoding"


def test_all_codings_that_are_installed_are_made(tree: Tree) -> None:
    tree.plant({"a.html": prose(20_000)})
    loader = tree.loader(compress=True)
    root, entry = tree.entry(b"/a.html")
    loader.add_variants(root, entry)
    assert {variant.encoding for variant in entry.variants} == set(loader.codings.codecs)
    assert len({variant.etag for variant in entry.variants}) == len(loader.codings.codecs)


def test_a_sibling_is_not_made_again(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000), "a.css.gz": b"their own"})
    loader, codec = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    loader.add_variants(root, entry)
    assert codec.calls == 0
    assert [(variant.encoding, variant.made) for variant in entry.variants] == [(b"gzip", False)]


def test_a_variant_that_saves_nothing_is_not_kept(tree: Tree) -> None:
    tree.plant({"a.css": noise(5000)})
    loader, _ = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    loader.add_variants(root, entry)
    assert entry.variants == ()
    assert loader.store.resident == 0


@pytest.mark.parametrize(
    ("name", "size", "settings", "expected"),
    [
        ("a.css", 5000, {"compress": True}, True),
        ("a.svg", 5000, {"compress": True}, True),
        ("a.css", 5000, {}, False),
        ("a.png", 5000, {"compress": True}, False),
        ("a.zip", 5000, {"compress": True}, False),
        ("unknown", 5000, {"compress": True}, False),
        ("a.css", 1023, {"compress": True}, False),
        ("a.css", 1024, {"compress": True}, True),
        ("a.css", 99, {"compress": True, "compress_bytes_min": 100}, False),
        ("a.css", 600_000, {"compress": True, "memory": 1 << 20}, False),
    ],
)
def test_variants_are_wanted_of_compressible_files_that_are_large_enough(
    tree: Tree, name: str, size: int, settings: dict[str, int], expected: bool
) -> None:
    tree.plant({name: prose(size)})
    (entry,) = tree.walk().entries()
    assert tree.loader(**settings).wants_variants(entry) is expected


def test_a_file_that_has_every_variant_wants_none(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000), "a.css.gz": b"gz"})
    loader, _ = gzip_loader(tree)
    assert not loader.wants_variants(tree.entry(b"/a.css")[1])


def test_the_same_content_is_compressed_once_whatever_it_is_called(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000), "b.txt": prose(5000), "c.css": prose(5001)})
    loader, codec = gzip_loader(tree)
    generation = tree.walk()
    entries = [entry_of(generation, key) for key in (b"/a.css", b"/b.txt", b"/c.css")]
    for entry in entries:
        loader.add_variants(generation.root, entry)
    assert codec.calls == 2
    bodies = [variant.body for entry in entries for variant in entry.variants]
    contents = [gzip.decompress(content_of(body)) for body in bodies if body is not None]
    assert contents == [prose(5000), prose(5000), prose(5001)]


def test_a_large_variant_is_used_again_too(tree: Tree) -> None:
    content = prose(1 << 20) + noise(100_000)
    tree.plant({"a.css": content})
    loader, codec = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    loader.add_variants(root, entry)
    os.utime(tree.path / "a.css", (0, 0))
    root, again = tree.entry(b"/a.css")
    loader.add_variants(root, again)
    assert codec.calls == 1
    body = again.variants[0].body
    assert isinstance(body, Paged)
    assert gzip.decompress(content_of(body)) == content
    assert body.fd == loader.store.pages_fd


def test_a_variant_that_is_forgotten_is_not_kept_for_its_content(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000)})
    loader, codec = gzip_loader(tree)
    for _ in range(2):
        root, entry = tree.entry(b"/a.css")
        loader.add_variants(root, entry)
        loader.store.drop(entry.variants[0])
        del entry
        gc.collect()
        assert loader.store.committed == 0
    assert codec.calls == 2


def test_a_made_variant_that_was_evicted_is_made_again(tree: Tree) -> None:
    tree.plant({"a.css": prose(LARGE)})
    loader, codec = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    loader.add_variants(root, entry)
    (variant,) = entry.variants
    body = variant.body
    assert body is not None
    before = (content_of(body), variant.etag, variant.size)
    loader.store.drop(variant)
    body = loader.load(root, variant)
    assert variant.body is body
    assert (content_of(body), variant.etag, variant.size) == before
    assert codec.calls == 2


def test_a_made_variant_is_not_made_again_of_another_base(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000)})
    loader, _ = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    loader.add_variants(root, entry)
    loader.store.drop(entry.variants[0])
    rewrite(tree.path / "a.css", prose(5000, b"another "))
    with pytest.raises(ChangedError):
        loader.load(root, entry.variants[0])
    assert entry.variants[0].body is None


def test_variants_of_a_file_that_changed_are_not_made(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000)})
    loader, _ = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    rewrite(tree.path / "a.css", prose(5000, b"another "))
    with pytest.raises(ChangedError):
        loader.add_variants(root, entry)
    assert entry.variants == ()
    assert loader.store.resident == 0


def test_a_made_variant_without_room_is_no_error_that_load_does_not_promise(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000)})
    loader, _ = gzip_loader(tree)
    root, entry = tree.entry(b"/a.css")
    loader.add_variants(root, entry)
    loader.store.drop(entry.variants[0])
    loader.store.count_index(0, loader.store.budget)
    try:
        body = loader.load(root, entry.variants[0])
    except (ChangedError, OSError):
        return
    assert body.size == entry.variants[0].size


@pytest.mark.parametrize("size", [SMALL, 300_000])
def test_content_that_finds_no_room_has_a_body_of_its_own(tree: Tree, size: int) -> None:
    loader = tree.loader(memory=64 * 1024)
    pieces = [noise(size)[at : at + 100_000] for at in range(0, size, 100_000)]
    entry = ComposedEntry(b"/made", size, None, "text/plain", ((b"X-A", b"b"),), nosniff=False)
    entry.etag = tag_of_all(pieces)
    body = loader.fleeting(entry, pieces)
    assert content_of(body) == noise(size)
    assert (field(body.head(), b"X-A"), field(body.head(), b"X-Content-Type-Options")) == (b"b", None)
    assert loader.store.resident == 0
    assert bool(memfds("zcserve-fleeting")) == (size != SMALL)
    del body
    assert closing.wait(time.monotonic() + 20)
    assert not memfds("zcserve-fleeting")


def test_without_a_descriptor_such_a_body_is_bytes(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(loading, "open_memfd", refuse)
    entry = ComposedEntry(b"/made", 300_000, None, "text/plain", ())
    body = tree.loader().fleeting(entry, [noise(300_000)])
    assert isinstance(body, Fleeting)
    assert content_of(body) == noise(300_000)


def test_content_in_pieces_is_resident_as_a_whole(tree: Tree) -> None:
    loader = tree.loader()
    for size in (SMALL, 300_000):
        pieces = [noise(size)[at : at + 7_000] for at in range(0, size, 7_000)]
        entry = ComposedEntry(b"/made", size, None, "text/plain", ())
        body = loader.keep(entry, pieces, evict=True)
        assert body is entry.body
        assert body is not None
        assert content_of(body) == noise(size)

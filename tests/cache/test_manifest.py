"""A generation handed on: what the next process has of it without reading a file, and what it must leave alone.

Both processes are this one, with two stores over the same memfds: descriptors are duplicated as exec would.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.trees import Tree, content_of, entry_of, field, memfd_meter, noise, prose
from tests.support.waiting import WaitUntil
from zcserve.cache import manifest, siblings
from zcserve.cache.entry import Entry, MadeVariant, Sibling, SiblingVariant
from zcserve.cache.heat import Heat
from zcserve.cache.index import Generation
from zcserve.cache.loader import Loader
from zcserve.cache.manifest import Heir
from zcserve.cache.memfd import PAGE_BYTES, round_up
from zcserve.cache.preload import preload, retire
from zcserve.cache.root import Root
from zcserve.cache.takeover import Memory

LARGE = 100_000
FILES = {
    "index.html": b"<p>",
    "empty": b"",
    "a.css": prose(900),
    "a.css.gz": b"zipped",
    "ä b.txt": b"text",
    "large.bin": noise(LARGE),
    "deep/er/page.html": prose(5000),
}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path / "root")
    made.path.mkdir()
    yield made
    made.close()


def loaded(tree: Tree, **settings: Any) -> tuple[Loader, Generation]:
    """A generation as the old process has it."""
    loader = tree.loader(**settings)
    generation = tree.walk()
    loader.store.count_index(0, generation.index_bytes)
    preload(generation, loader)
    return loader, generation


def handed(loader: Loader) -> Memory:
    """What a child inherits: descriptors of its own."""
    slabs, pages, numbers = loader.store.freeze()
    return Memory(tuple(map(os.dup, slabs)), os.dup(pages), numbers)


def take_over(tree: Tree, old: Loader, generation: Generation, **settings: Any) -> tuple[Loader, Generation | None]:
    """As the new process does, under `settings`."""
    fd = os.memfd_create("manifest")
    try:
        memory = handed(old)
        manifest.write(fd, memory, {"a": generation}, old)
        new = tree.loader(**settings)
        return new, manifest.adopt(fd, memory, {"a": Heir(0, Root(tree.path, tree.rules), new)}).get("a")
    finally:
        os.close(fd)


def adopted(tree: Tree, old: Loader, generation: Generation, **settings: Any) -> tuple[Loader, Generation]:
    new, got = take_over(tree, old, generation, **settings)
    assert got is not None
    return new, got


def facts(entry: Entry) -> dict[str, Any]:
    """All that two processes must agree on."""
    body = entry.body
    return {
        name: getattr(entry, name) for name in ("key", "identity", "size", "modified", "encoding", "etag", "made")
    } | {
        "type": type(entry),
        "body": body and (type(body), bytes(body.head()), content_of(body)),
        "variants": [facts(variant) for variant in entry.variants],
    }


def all_facts(generation: Generation) -> list[dict[str, Any]]:
    return [facts(entry) for entry in generation.entries()]


def body_at(generation: Generation, key: bytes) -> Any:
    return entry_of(generation, key).body


# --- what comes along -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"compress": True}, {"cache_control": "max-age=60"}])
def test_what_was_served_is_resident_without_a_file(tree: Tree, settings: Any) -> None:
    tree.plant(FILES)
    os.utime(tree.path / "empty", (-5, -5))  # no Last-Modified
    old, generation = loaded(tree, **settings)
    for name in FILES:
        (tree.path / name).unlink()
    new, got = adopted(tree, old, generation, **settings)
    assert all_facts(got) == all_facts(generation)
    assert sum(map(len, got.pieces)) == len(got.resources)  # so that they are never listed all at once
    assert all(one["body"] for one in all_facts(got) if one["type"] is not Sibling)
    assert new.store.committed == old.store.committed


def test_a_walk_shares_what_is_the_same_and_finds_what_changed(tree: Tree) -> None:
    tree.plant(FILES)
    old, generation = loaded(tree)
    new, got = adopted(tree, old, generation)
    (tree.path / "new").write_bytes(noise(300))
    (tree.path / "new").rename(tree.path / "index.html")
    (tree.path / "empty").unlink()
    now = tree.walk(last=got)
    assert {key for key, entry in now.resources.items() if got.resources.get(key) is not entry} >= {b"/index.html"}
    assert all(now.resources[key] is got.resources[key] for key in (b"/a.css", b"/large.bin", b"/deep/er/page.html"))
    preload(now, new)
    assert retire(got, now, new) == 2
    assert content_of(body_at(now, b"/index.html")) == noise(300)
    assert entry_of(now, b"/a.css").variants[0].etag == entry_of(generation, b"/a.css").variants[0].etag


def test_a_made_variant_stays_one(tree: Tree) -> None:
    tree.plant({"a.css": prose(9000)})
    old, generation = loaded(tree, compress=True)
    new, got = adopted(tree, old, generation, compress=True)
    variants = entry_of(got, b"/a.css").variants
    assert variants
    assert all(isinstance(variant, MadeVariant) and variant.made for variant in variants)
    assert tree.walk(last=got).resources[b"/a.css"] is entry_of(got, b"/a.css")
    assert not new.wants_variants(entry_of(got, b"/a.css"))


def test_variants_that_were_still_to_come_are_made_by_the_next_process(tree: Tree, wait_until: WaitUntil) -> None:
    tree.plant({"a.css": prose(5000)})
    old, generation = loaded(tree, compress=True)
    entry_of(generation, b"/a.css").variants = ()  # they are not there yet
    new, got = adopted(tree, old, generation, compress=True)
    entry = entry_of(got, b"/a.css")
    assert (entry.variants, entry.body is not None) == ((), True)
    new.want_what_is_missing(got)
    wait_until(lambda: {variant.encoding for variant in entry.variants} == set(new.codings.codecs))
    assert all(variant.body is not None for variant in entry.variants)


def test_what_was_found_of_siblings_comes_along_unless_they_are_trusted(tree: Tree) -> None:
    tree.plant({"a.css": prose(3000), "b.css": prose(3000), "a.css.gz": gzip.compress(prose(3000)), "b.css.gz": b"no"})
    old, generation = loaded(tree, trust_siblings=False)
    assert entry_of(generation, b"/b.css").variants == ()
    _, got = adopted(tree, old, generation, trust_siblings=False)
    now = tree.walk(last=got)
    for key in (b"/a.css", b"/b.css", b"/a.css.gz", b"/b.css.gz"):
        assert now.resources[key] is got.resources[key]
    variant, refused = entry_of(now, b"/a.css").variants[0], got.resources[b"/b.css.gz"]
    assert isinstance(variant, SiblingVariant)
    assert isinstance(refused, Sibling)
    assert variant.judged == entry_of(now, b"/a.css").identity
    assert refused.variant.fault == siblings.BROKEN
    old, generation = loaded(tree, trust_siblings=False)
    _, got = adopted(tree, old, generation, trust_siblings=True)
    now = tree.walk(last=got)
    assert [variant.encoding for variant in entry_of(now, b"/b.css").variants] == [b"gzip"]
    assert now.problems == []


def test_what_was_not_resident_keeps_its_tag(tree: Tree) -> None:
    tree.plant({"a": noise(500), "b": noise(501)})
    old, generation = loaded(tree)
    old.store.drop(entry_of(generation, b"/a"))
    _, got = adopted(tree, old, generation)
    assert body_at(got, b"/a") is None
    assert entry_of(got, b"/a").etag == entry_of(generation, b"/a").etag != b""


@pytest.mark.parametrize(
    "settings",
    [{"cache_control": "no-cache"}, {"rules": ({"path": "/**", "set": {"Cache-Control": "no-cache"}},)}],
    ids=["cache_control", "rules"],
)
def test_other_heads_come_before_content_from_memory(tree: Tree, settings: dict[str, Any]) -> None:
    tree.plant(FILES)
    old, generation = loaded(tree)
    for name in FILES:
        (tree.path / name).unlink()
    new, got = adopted(tree, old, generation, **settings)
    for entry in got.entries():
        if entry.is_variant:
            continue
        assert entry.body is not None
        assert field(entry.body.head(), b"Cache-Control") == b"no-cache"
        assert content_of(entry.body) == content_of(body_at(generation, entry.key))
    assert new.store.committed <= 2 * old.store.committed


@pytest.mark.parametrize(
    "settings",
    [{"small_body_bytes_max": "8K"}, {"slab_bytes": "64K"}, {"compress": True}, {"hash_bytes_max": "1M"}],
)
def test_what_another_setting_made_is_not_taken_over(tree: Tree, settings: Any) -> None:
    tree.plant(FILES)
    meters = [memfd_meter(name) for name in ("zcserve-slab", "zcserve-pages")]
    old, generation = loaded(tree, small_body_bytes_max="16K", slab_bytes="128K")
    before = [meter() for meter in meters]
    new, got = take_over(tree, old, generation, **{"small_body_bytes_max": "16K", "slab_bytes": "128K"} | settings)
    assert got is None
    assert [meter() for meter in meters] == before
    assert new.store.committed == 0
    preload(now := tree.walk(), new)
    assert content_of(body_at(now, b"/large.bin")) == noise(LARGE)


def test_a_manifest_of_another_format_is_not_read(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.plant(FILES)
    old, generation = loaded(tree)
    fd = os.memfd_create("manifest")
    memory = handed(old)
    manifest.write(fd, memory, {"a": generation}, old)
    monkeypatch.setattr(manifest, "FORMAT", manifest.FORMAT + 1)
    assert manifest.adopt(fd, memory, {"a": Heir(0, Root(tree.path, tree.rules), tree.loader())}).get("a") is None
    for closed in (*memory.slabs, memory.pages):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(closed)
    os.close(fd)


def test_of_a_smaller_budget_what_was_used_last_has_the_most(tree: Tree) -> None:
    tree.plant({f"{number:03}": noise(2000, number) for number in range(400)})
    slabs = {"slab_bytes": "64K"}  # of the same size for both
    old, generation = loaded(tree, memory="2M", **slabs)
    for entry in generation.entries():
        entry.tick = int(entry.key[1:])
    new, got = adopted(tree, old, generation, memory="1M", **slabs)
    resident = [entry.body is not None for entry in got.entries()]
    assert 100 < sum(resident) < 400
    assert not any(resident[: 400 - sum(resident)])
    assert new.store.committed + new.store.overhead <= 1 << 20


@pytest.fixture
def full(tree: Tree) -> tuple[Loader, Generation]:
    """A store that nothing more fits into."""
    tree.plant({f"{number:03}": noise(4000, number) for number in range(300)})
    return loaded(tree, memory="1M")


def test_the_order_of_use_comes_along(tree: Tree, full: tuple[Loader, Generation]) -> None:
    old, generation = full
    resident = [entry for entry in generation.entries() if entry.body is not None]
    for tick, entry in enumerate(reversed(resident), 1000):
        entry.tick = tick
    new, got = adopted(tree, old, generation, memory="1M")
    new.store.takeover.release()
    cold = next(entry for entry in got.entries() if entry.body is None)
    new.load(got.root, cold)
    gone = [entry for entry in resident if body_at(got, entry.key) is None]
    assert gone == resident[-len(gone) :] != []


# --- what must be left alone ----------------------------------------------------------------------------------


def fill(loader: Loader, root: Root, entries: list[Entry]) -> None:
    for entry in entries:
        loader.load(root, entry)


def test_a_frozen_store_changes_nothing_and_a_thawed_one_goes_on(tree: Tree, full: tuple[Loader, Generation]) -> None:
    old, generation = full
    entries = list(generation.entries())
    cold = [entry for entry in entries if entry.body is None]
    dropped = next(entry for entry in entries if entry.body is not None)
    memory = old.store.freeze()
    before = os.pread(memory.slabs[0], 1 << 16, 0)
    committed = old.store.committed
    old.store.drop(dropped)
    fill(old, generation.root, [dropped, *cold])  # served from disk
    assert not any(entry.body for entry in [dropped, *cold])
    assert (old.store.evictions, old.store.committed) == (0, committed)
    assert os.pread(memory.slabs[0], 1 << 16, 0) == before
    old.store.thaw()
    fill(old, generation.root, [dropped, *cold])
    assert dropped.body is not None
    assert old.store.evictions > 0


def test_what_is_new_in_a_frozen_store_goes_beside_what_another_process_has(tree: Tree) -> None:
    tree.plant({f"{number}": noise(3000, number) for number in range(40)})
    old, generation = loaded(tree, slab_bytes="64K")
    entries = list(generation.entries())
    dropped = entries[::2]
    for entry in dropped:
        old.store.drop(entry)
    assert old.store.committed  # what was dropped is free
    memory = handed(old)
    before = [os.pread(fd, 1 << 16, 0) for fd in memory.slabs]
    fill(old, generation.root, dropped)
    assert all(entry.body is not None for entry in entries)
    assert [os.pread(fd, 1 << 16, 0) for fd in memory.slabs] == before
    fd = os.memfd_create("manifest")
    manifest.write(fd, memory, {"a": generation}, old)
    got = manifest.adopt(fd, memory, {"a": Heir(0, Root(tree.path, tree.rules), tree.loader(slab_bytes="64K"))}).get(
        "a"
    )
    os.close(fd)
    assert got is not None
    assert [entry.body is None for entry in got.entries()] == [entry in dropped for entry in entries]
    for entry in dropped:
        old.store.drop(entry)
    old.store.thaw()
    fill(old, generation.root, dropped)
    assert [content_of(body_at(generation, entry.key)) for entry in entries] == [
        noise(3000, int(entry.key[1:])) for entry in entries
    ]


def test_pages_that_a_failed_process_wrote_are_given_back(tree: Tree) -> None:
    tree.plant({"a": noise(LARGE), "b": noise(LARGE, 1)})
    meter = memfd_meter("zcserve-pages")
    old, generation = loaded(tree)
    new, got = adopted(tree, old, generation)
    before = meter()
    (tree.path / "b").unlink()
    tree.plant({"c": noise(LARGE, 2)})
    preload(tree.walk(last=got), new)
    assert meter() == before + round_up(LARGE)
    old.store.thaw()
    assert old.store.committed == before
    assert meter() == before
    tree.plant({"d": noise(LARGE, 3)})
    now = tree.walk(last=generation)
    preload(now, old)
    assert [content_of(body_at(now, key)) for key in (b"/a", b"/d")] == [noise(LARGE), noise(LARGE, 3)]


def test_nothing_that_was_taken_over_is_written_or_given_back_before_release(
    tree: Tree, full: tuple[Loader, Generation]
) -> None:
    old, generation = full
    tree.plant({"large": noise(3 * LARGE)})
    was = {entry.key: (entry.body, content_of(entry.body)) for entry in generation.entries() if entry.body}
    new, got = adopted(tree, old, generation, memory="1M")
    entries = list(got.entries())
    for entry in entries[:200]:
        new.store.drop(entry)
    fill(new, got.root, entries)
    assert all(content_of(body) == content for body, content in was.values())
    assert new.store.evictions == 0
    held = new.store.committed
    new.store.takeover.release()
    assert new.store.committed < held
    fill(new, got.root, entries)
    assert sum(entry.body is not None for entry in entries) > 100


def test_released_memory_is_what_the_kernel_has(tree: Tree) -> None:
    names = [f"{number:03}" for number in range(100)]
    tree.plant({name: noise(3000, int(name)) for name in names} | {f"l{name}": noise(LARGE) for name in names[:10]})
    meters = [memfd_meter(name) for name in ("zcserve-slab", "zcserve-pages")]
    old, generation = loaded(tree)
    for name in names[::3]:
        old.store.drop(entry_of(generation, b"/" + name.encode()))  # a hole
    whole = sum(meter() for meter in meters)
    for name in names[1::3]:
        del generation.resources[b"/" + name.encode()]  # only the old process knows of it: it may be sending it
    for name in names[:3]:
        del generation.resources[b"/l" + name.encode()]
    new, _ = adopted(tree, old, generation)
    assert sum(meter() for meter in meters) <= whole
    assert new.store.committed < whole
    new.store.takeover.release()
    assert new.store.committed == sum(meter() for meter in meters) < whole


def test_memory_is_handed_on_again_and_again(tree: Tree) -> None:
    tree.plant(FILES)
    loader, generation = loaded(tree)
    expected = all_facts(generation)
    committed = loader.store.committed
    for _ in range(3):
        loader, generation = adopted(tree, loader, generation)
        loader.store.takeover.release()
        assert loader.store.committed == committed
    assert all_facts(generation) == expected


def test_slabs_that_were_closed_leave_gaps_and_the_others_are_found_all_the_same(tree: Tree) -> None:
    tree.plant({f"{number:03}": noise(4000, number) for number in range(100)})
    old, generation = loaded(tree, slab_bytes="64K")
    for entry in list(generation.entries())[:60]:
        if entry.key[1:] < b"040" or entry.key[1:] > b"055":
            old.store.drop(entry)
    assert old.store.committed
    numbers = old.store.freeze().numbers
    assert numbers != tuple(range(len(numbers)))
    resident = {entry.key for entry in generation.entries() if entry.body is not None}
    _, got = adopted(tree, old, generation, slab_bytes="64K")
    assert {entry.key for entry in got.entries() if entry.body is not None} == resident
    for key in resident:
        assert content_of(body_at(got, key)) == noise(4000, int(key[1:]))


def test_a_key_as_long_as_paths_can_be_comes_along(tree: Tree) -> None:
    directory = tree.path
    names = ["ä" * 100] * 15
    directory.joinpath(*names).mkdir(parents=True)
    directory.joinpath(*names, "x").write_bytes(b"deep")
    old, generation = loaded(tree)
    _, got = adopted(tree, old, generation)
    (entry,) = got.entries()
    assert len(entry.key) > PAGE_BYTES
    assert content_of(body_at(got, entry.key)) == b"deep"


def test_each_site_has_its_own_and_one_that_is_gone_is_passed_over(tree: Tree) -> None:
    tree.plant({"page": b"a page", "large": noise(50_000)})
    old, first = loaded(tree)
    second, third = tree.walk(), tree.walk()
    for generation in (second, third):
        preload(generation, old)
    fd, new = os.memfd_create("manifest"), tree.loader()
    memory = handed(old)
    manifest.write(fd, memory, {"one": first, "gone": second, "two": third}, old)
    pinning = Loader(new.store, new.config, lambda entry: True)
    root = Root(tree.path)
    heirs = {"two": Heir(2, root, pinning), "new": Heir(3, root, new), "one": Heir(1, root, new)}
    served = manifest.adopt(fd, memory, heirs)
    os.close(fd)
    assert set(served) == {"one", "two"}
    for generation in served.values():
        assert {entry.key for entry in generation.entries() if entry.body is not None} == {b"/page", b"/large"}
    assert new.store.resident == 4
    assert len(new.store.held) == 2
    pinning.variants.close()


def test_the_next_process_goes_on_with_the_heat_of_this_one_and_an_older_program_passes_it_over(tree: Tree) -> None:
    tree.plant({"page": b"a page", "other": b"another", "cold": b"never"})
    old, generation = loaded(tree)
    heat, gone = Heat(), Entry(b"/other", b"", 1, None)
    heat.add(b"/page", 4.5)
    entry_of(generation, b"/page").uses = 2  # which no look has seen
    gone.uses = 3
    heat.leave(gone)
    root = Root(tree.path)
    for heir_heat in (None, Heat()):
        fd = os.memfd_create("manifest")
        manifest.write(fd, memory := handed(old), {"a": generation}, old, {"a": heat})
        new = tree.loader()
        assert manifest.adopt(fd, memory, {"a": Heir(0, root, new, heir_heat)}).keys() == {"a"}
        os.close(fd)
        old.store.thaw()
    assert heir_heat is not None
    assert sorted(item for some in heir_heat.items() for item in some) == [(b"/other", 3), (b"/page", 6.5)]

"""Filling the store: what fits, what stays out, what cannot be read; and what two generations share."""

from __future__ import annotations

import gc
import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.trees import Tree, as_nobody, content_of, entry_of, field, noise, prose, publish, rewrite
from zcserve.cache import entry as entry_module
from zcserve.cache.entry import Body, Entry
from zcserve.cache.heat import Heat
from zcserve.cache.index import ENTRY_BYTES, Generation
from zcserve.cache.loader import Loader
from zcserve.cache.memfd import PAGE_BYTES
from zcserve.cache.preload import Plan, Preloaded, preload, retire
from zcserve.cache.root import Root
from zcserve.cache.walk import walk

KIB = 1024
MIB = 1 << 20


def representations(generation: Generation) -> Iterator[Entry]:
    """All that is counted: each file once."""
    for entry in generation.entries():
        yield from entry_module.representations(entry)


def resident(generation: Generation) -> set[bytes]:
    return {entry.key for entry in generation.entries() if entry.body is not None}


def problems(generation: Generation) -> list[tuple[str, str]]:
    return [(problem.path, problem.why) for problem in generation.problems]


def entry_body(generation: Generation, key: bytes) -> Body:
    body = entry_of(generation, key).body
    assert body is not None
    return body


def check(generation: Generation, loader: Loader, report: Preloaded) -> None:
    """What holds after any preloading: the report is true, the store holds nothing that no entry names, and the
    budget is kept to a page or two."""
    all_of_them = list(representations(generation))
    held = [one for one in all_of_them if one.body is not None]
    assert report.files == len(all_of_them)
    assert report.bytes == sum(one.size for one in all_of_them)
    assert report.resident_files == len(held) == loader.store.resident
    assert report.resident_bytes == sum(one.body.size for one in held if one.body is not None)
    assert report.left_out == report.files - report.resident_files
    assert report.problems == generation.problems
    gc.collect()
    store = loader.store
    assert store.committed <= max(store.budget - store.overhead, 0) + 2 * PAGE_BYTES


def preloaded(tree: Tree, loader: Loader, generation: Generation | None = None) -> tuple[Generation, Preloaded]:
    generation = generation or tree.walk()
    loader.store.count_index(0, generation.index_bytes)
    report = preload(generation, loader)
    check(generation, loader, report)
    return generation, report


# --- the plan ---------------------------------------------------------------------------------------------


def entries(*sizes: int) -> list[Entry]:
    return [Entry(b"/%d" % number, b"", size, None) for number, size in enumerate(sizes)]


def taken(tree: Tree, sizes: tuple[int, ...], memory: int, overhead: int = 0) -> list[int]:
    """The sizes that the plan takes."""
    store = tree.loader(memory=memory).store
    store.count_index(0, overhead)
    files = entries(*sizes)
    plan = Plan(files, store)
    return [file.size for file in files if plan.takes(file)]


@pytest.mark.parametrize(
    ("sizes", "overhead", "expected"),
    [
        ((), 0, []),
        ((10, 20, 30), 0, [10, 20, 30]),
        ((0, 0), 0, [0, 0]),
        ((30, 300_000, 10, 400_000, 450_000), 0, [30, 300_000, 10, 400_000]),
        ((400_000, 10, 400_000, 400_000, 20), 0, [400_000, 10, 400_000, 20]),
        ((600_000, 10), 0, [10]),
        ((600_000,), 0, []),
        ((512 * KIB, 512 * KIB + 1), 0, [512 * KIB]),
        ((10, 20), MIB, []),
        ((10, 20), 2 * MIB, []),
        ((0,), 2 * MIB, []),
    ],
)
def test_the_plan_takes_small_before_large_as_far_as_they_fit(
    tree: Tree, sizes: tuple[int, ...], overhead: int, expected: list[int]
) -> None:
    assert taken(tree, sizes, MIB, overhead) == expected


@pytest.mark.parametrize("sizes", [tuple(range(100, 300_000, 977)), (50_000,) * 500, (100,) * 3000 + (5000,) * 9000])
def test_what_the_plan_takes_fits_and_fills_the_room(tree: Tree, sizes: tuple[int, ...]) -> None:
    for memory in range(2 * MIB, 40 * MIB, 3 * MIB):
        chosen = taken(tree, sizes, memory)
        assert sum(chosen) <= memory
        left = sorted(sizes)[len(chosen) :]
        assert sorted(chosen) == sorted(sizes)[: len(chosen)]
        assert not left or sum(chosen) + left[0] > memory * 0.97 - (len(chosen) + 1) * 4500


def test_variants_are_planned_for_and_what_is_resident_costs_nothing(tree: Tree) -> None:
    base, large = entries(300_000, 500_000)
    base.variants = tuple(entries(200_000, 250_000))
    store = tree.loader(memory=MIB).store
    assert not Plan([base, large], store).takes(large)
    base.body = Body(300_000)
    for variant in base.variants:
        variant.body = Body(200_000)
    assert Plan([base, large], store).takes(large)


# --- preloading -------------------------------------------------------------------------------------------


def test_nothing_is_preloaded_of_nothing(tree: Tree) -> None:
    _, report = preloaded(tree, tree.loader())
    assert (report.files, report.bytes, report.resident_files, report.left_out) == (0, 0, 0, 0)


def test_everything_is_resident_when_it_fits(tree: Tree) -> None:
    contents = {f"d{i % 7}/{i}.bin": noise(i * i * 37 % 70_000, i) for i in range(150)}
    contents |= {"index.html": b"x", "index.html.gz": b"gz", "empty": b""}
    tree.plant(contents)
    generation, report = preloaded(tree, tree.loader())
    assert report.left_out == 0
    assert (report.files, report.bytes) == (len(contents), sum(map(len, contents.values())))
    assert report.problems == []
    for name, content in contents.items():
        if not name.endswith(".gz"):
            assert content_of(entry_body(generation, f"/{name}".encode())) == content


def test_preloading_evicts_nothing_of_what_it_loaded(tree: Tree) -> None:
    tree.plant({f"{i}": noise(200 + i * i * 91 % 60_000, i) for i in range(120)})
    for memory in (256 * KIB, MIB, 2 * MIB, 4 * MIB):
        loader = tree.loader(memory=memory)
        _, report = preloaded(tree, loader)
        assert loader.store.evictions == 0
        assert report.resident_files > 0


def test_small_files_come_before_large_ones(tree: Tree) -> None:
    tree.plant({f"a{i}": noise(300 * KIB, i) for i in range(4)})
    tree.plant({f"z/{i}": noise(KIB, i) for i in range(100)} | {"y": noise(100 * KIB)})
    generation, report = preloaded(tree, tree.loader(memory=MIB))
    assert report.left_out <= 4
    assert {entry.size for entry in representations(generation) if entry.body is None} == {300 * KIB}


def test_a_higher_priority_comes_before_small_files_and_a_lower_one_after_all_others(tree: Tree) -> None:
    tree.plant({f"high/{i}": noise(250 * KIB, i) for i in range(2)} | {"high/most": noise(300 * KIB)})
    tree.plant({f"z/{i}": noise(20 * KIB, i) for i in range(6)} | {f"low/{i}": noise(10 * KIB, i) for i in range(30)})
    tree.plant({"a.css": prose(40 * KIB), "a.css.gz": gzip.compress(prose(40 * KIB))})
    rules = (
        {"path": "/high/", "priority": 1},
        {"path": "/high/most", "priority": 2},
        {"path": "/low/", "priority": -1},
    )
    loader = tree.loader(memory=MIB, rules=(*rules, {"path": "*.gz", "priority": 3}))
    told: list[tuple[int, int]] = []
    generation = tree.walk()
    report = preload(generation, loader, progress=lambda done, total: told.append((done, total)))
    check(generation, loader, report)
    loaded = resident(generation)
    assert loaded >= {b"/high/most", b"/high/0", b"/high/1", b"/a.css", *(b"/z/%d" % i for i in range(6))}
    assert 0 < sum(key.startswith(b"/low/") for key in loaded) < 30
    assert told == sorted(told)
    assert told[-1] == (41, 41)


def test_the_hottest_that_fit_come_before_small_files_and_behind_a_higher_priority(tree: Tree) -> None:
    tree.plant({"high": noise(250 * KIB), "huge": noise(600 * KIB), "a.css": prose(90 * KIB)})
    tree.plant({"a.css.gz": gzip.compress(prose(90 * KIB))})
    tree.plant({f"hot/{i}": noise(150 * KIB, i) for i in range(6)} | {f"z/{i}": noise(10 * KIB, i) for i in range(30)})
    loader = tree.loader(memory=MIB, rules=({"path": "/high", "priority": 1},))
    heat = Heat()
    for number in range(6):
        heat.add(b"/hot/%d" % number, number + 1)
    heat.add(b"/huge", 1e6)  # more than may ever be in memory
    heat.add(b"/a.css", 100)
    generation = tree.walk()
    loader.store.count_index(0, generation.index_bytes)
    report = preload(generation, loader, heat=heat)
    check(generation, loader, report)
    loaded = resident(generation)
    hot = {b"/hot/%d" % number for number in (5, 4, 3, 2)}
    assert {key for key in loaded if not key.startswith(b"/z/")} == {b"/high", b"/a.css", *hot}
    assert [one.body is not None for one in entry_of(generation, b"/a.css").variants] == [True]
    assert 0 < sum(key.startswith(b"/z/") for key in loaded) < 30
    assert report.left_out == 1 + 2 + 30 - sum(key.startswith(b"/z/") for key in loaded)


def test_what_is_over_the_largest_body_stays_out_although_it_would_fit(tree: Tree) -> None:
    tree.plant({"a": noise(600 * KIB), "b": noise(100 * KIB)})
    generation, report = preloaded(tree, tree.loader(memory=MIB))
    assert resident(generation) == {b"/b"}
    assert report.left_out == 1


def test_what_stays_out_is_counted(tree: Tree) -> None:
    tree.plant({f"{i}": noise(100 * KIB + i, i) for i in range(20)})
    generation, report = preloaded(tree, tree.loader(memory=MIB))
    assert 0 < report.left_out == 20 - len(resident(generation)) < 20
    sizes = [entry_of(generation, b"/%d" % i).body is not None for i in range(20)]
    assert sizes == sorted(sizes, reverse=True)
    assert report.resident_files >= 8


@pytest.mark.parametrize("size", [2000, 100 * KIB])
def test_of_files_of_one_size_as_many_are_loaded_as_fit(tree: Tree, size: int) -> None:
    tree.plant({f"{i:04}": noise(size, i) for i in range(2 * MIB // size)})
    loader = tree.loader(memory=MIB + 2 * MIB // size * ENTRY_BYTES)
    _, report = preloaded(tree, loader)
    assert report.resident_bytes > 0.7 * MIB


def test_long_heads_do_not_keep_everything_out(tree: Tree) -> None:
    count = 1000
    tree.plant({f"{i}": noise(300, i) for i in range(count)})
    loader = tree.loader(memory=count * ENTRY_BYTES + 700 * KIB, cache_control="max-age=60, " + "x" * 400)
    _, report = preloaded(tree, loader)
    assert report.resident_files > count // 2


def test_the_budget_holds_the_index_too(tree: Tree) -> None:
    tree.plant({f"{i}": b"x" for i in range(500)})
    loader = tree.loader(memory=64 * KIB)
    _, report = preloaded(tree, loader)
    assert loader.store.overhead >= 500 * ENTRY_BYTES
    assert report.left_out == 500


def test_progress_goes_up_to_the_end(tree: Tree) -> None:
    tree.plant({f"d{i % 5}/{i}": b"x" for i in range(50)} | {"a.css": b"x", "a.css.gz": b"x"})
    told: list[tuple[int, int]] = []
    preload(tree.walk(), tree.loader(), progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (52, 52)
    assert {total for _, total in told} == {52}


def test_what_is_asked_for_first_is_loaded_although_it_is_large(tree: Tree) -> None:
    tree.plant({"large": noise(400 * KIB)} | {f"{i:03}": noise(10 * KIB, i) for i in range(100)})
    generation = tree.walk()
    loader = tree.loader(memory=MIB)
    report = preload(generation, loader, first=[entry_of(generation, b"/large")])
    check(generation, loader, report)
    assert b"/large" in resident(generation)
    assert loader.store.evictions == 0


# --- files that cannot be read, or are not what they were ---------------------------------------------------


@contextmanager
def unreadable(tree: Tree, *names: str) -> Iterator[Generation]:
    """What a walk found; only root may read these, and the loader is not root inside."""
    for path in tree.path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    closed = [tree.path / name for name in names]
    for path in closed:
        if path.is_file():
            path.chmod(0)
    generation = tree.walk()
    for path in closed:
        path.chmod(0)
    try:
        with as_nobody():
            yield generation
    finally:
        for path in closed:
            path.chmod(0o755)


def test_a_file_that_may_not_be_read_is_a_problem_and_no_resource(tree: Tree) -> None:
    tree.plant({"d/closed.txt": b"x", "d/open.txt": b"x", "index.html": b"x"})
    loader = tree.loader()
    with unreadable(tree, "d/closed.txt", "index.html") as generation:
        report = preload(generation, loader)
    check(generation, loader, report)
    assert resident(generation) == {b"/d/open.txt"}
    assert set(generation.resources) == {b"/d/open.txt"}
    assert sorted(problems(generation)) == [("d/closed.txt", "Permission denied"), ("index.html", "Permission denied")]


def test_a_large_file_that_may_not_be_read_is_named_although_it_stays_out(tree: Tree) -> None:
    tree.plant({"closed": noise(800 * KIB), "open": noise(800 * KIB)})
    loader = tree.loader(memory=MIB)
    with unreadable(tree, "closed") as generation:
        report = preload(generation, loader)
    check(generation, loader, report)
    assert problems(generation) == [("closed", "Permission denied")]
    assert set(generation.resources) == {b"/open"}


def test_a_directory_that_was_closed_after_the_walk_is_a_problem_a_file(tree: Tree) -> None:
    tree.plant({"d/a": b"x", "d/b": b"x", "e/c": b"x"})
    loader = tree.loader()
    with unreadable(tree, "d") as generation:
        report = preload(generation, loader)
    check(generation, loader, report)
    assert problems(generation) == [("d/a", "Permission denied"), ("d/b", "Permission denied")]
    assert resident(generation) == {b"/e/c"}


def test_a_sibling_that_may_not_be_read_does_not_take_its_base_along(tree: Tree) -> None:
    tree.plant({"a.css": b"base", "a.css.br": b"br", "a.css.gz": b"gz"})
    loader = tree.loader()
    with unreadable(tree, "a.css.gz") as generation:
        preload(generation, loader)
    assert content_of(entry_body(generation, b"/a.css")) == b"base"
    assert [variant.encoding for variant in entry_of(generation, b"/a.css").variants] == [b"br"]


def test_a_sibling_that_may_not_be_read_is_named(tree: Tree) -> None:
    tree.plant({"a.css": b"base", "a.css.gz": b"gz"})
    with unreadable(tree, "a.css.gz") as generation:
        preload(generation, tree.loader())
    assert problems(generation) == [("a.css.gz", "Permission denied")]


@pytest.mark.parametrize("name", ["a.css.gz", "a.css.br"])
def test_a_sibling_that_is_gone_leaves_no_body_without_a_name(tree: Tree, name: str) -> None:
    tree.plant({"a.css": b"base", "a.css.br": b"br", "a.css.gz": b"gz"})
    generation = tree.walk()
    (tree.path / name).unlink()
    preloaded(tree, tree.loader(), generation)


@pytest.mark.parametrize("size", [100, 100 * KIB])
def test_a_file_that_is_gone_is_one_problem(tree: Tree, size: int) -> None:
    tree.plant({"a.css": noise(size), "a.css.gz": b"gz", "b": b"x"})
    generation = tree.walk()
    (tree.path / "a.css").unlink()
    preloaded(tree, tree.loader(), generation)
    assert problems(generation) == [("a.css", "No such file or directory")]
    assert resident(generation) == {b"/b"}


def test_a_directory_that_is_gone_is_a_problem_a_file(tree: Tree) -> None:
    tree.plant({"d/a": b"x", "d/b": b"x", "e/c": b"x"})
    generation = tree.walk()
    (tree.path / "d").rename(tree.path / "was-d")
    preloaded(tree, tree.loader(), generation)
    assert [path for path, _ in problems(generation)] == ["d/a", "d/b"]
    assert resident(generation) == {b"/e/c"}


def test_a_file_that_is_asked_for_first_and_is_gone_is_one_problem_too(tree: Tree) -> None:
    tree.plant({"a": b"x"})
    generation = tree.walk()
    (tree.path / "a").unlink()
    preload(generation, tree.loader(), first=[entry_of(generation, b"/a")])
    assert problems(generation) == [("a", "No such file or directory")]


def test_a_file_that_is_asked_for_first_and_changed_is_loaded_once(tree: Tree) -> None:
    tree.plant({"a": b"one"})
    generation = tree.walk()
    loader = tree.loader()
    rewrite(tree.path / "a", b"another")
    check(generation, loader, preload(generation, loader, first=[entry_of(generation, b"/a")]))


@pytest.mark.parametrize("size", [100, 100 * KIB])
def test_a_file_that_changed_since_the_walk_is_loaded_as_it_is_now(tree: Tree, size: int) -> None:
    tree.plant({"index.html": noise(size), "b": b"x"})
    generation = tree.walk()
    publish(tree.path / "index.html", noise(size + 1, 1))
    preloaded(tree, tree.loader(), generation)
    assert content_of(entry_body(generation, b"/index.html")) == noise(size + 1, 1)
    assert generation.resources[b"/"] is generation.resources[b"/index.html"]
    assert generation.problems == []


@pytest.mark.parametrize("size", [100, 100 * KIB])
@pytest.mark.parametrize("is_seen", [True, False])
def test_what_a_request_replaces_while_it_is_loaded_takes_no_memory_that_nothing_drops(
    tree: Tree, size: int, is_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generation is served: a request finds a file changed, before it is read here or after that."""
    tree.plant({"docs/index.html": noise(size), "docs/other": b"1"})
    generation = tree.walk()
    loader = tree.loader()
    old = entry_of(generation, b"/docs/index.html")
    name = "read_small" if size == 100 else "load_open"
    read = getattr(loader, name)

    def read_beside_a_request(root: Root, fd: int, entry: Entry, **how: bool) -> object:
        if entry is not old:
            return read(root, fd, entry, **how)
        found = None if is_seen else read(root, fd, entry, **how)
        publish(tree.path / "docs/index.html", noise(size, 1))
        loader.succeed(generation, old)
        return read(root, fd, entry, **how) if is_seen else found

    monkeypatch.setattr(loader, name, read_beside_a_request)
    if is_seen:  # what is read is another file by then
        tree.path.joinpath("docs/index.html").write_bytes(noise(size + 1, 2))
    preload(generation, loader)
    for _ in range(2):
        check(generation, loader, preload(generation, loader))
    assert old.body is None
    assert content_of(entry_body(generation, b"/docs/")) == noise(size, 1)


def test_a_file_that_became_a_symlink_out_of_the_root_is_a_problem(tree: Tree) -> None:
    (tree.path.parent / "secret").write_bytes(b"secret")
    tree.plant({"a": b"secret", "b": b"x"})
    generation = tree.walk()
    (tree.path / "a").unlink()
    (tree.path / "a").symlink_to("../secret")
    preloaded(tree, tree.loader(), generation)
    assert set(generation.resources) == {b"/b"}
    assert problems(generation) == [("a", "leads outside the root")]


def test_symlinks_inside_the_root_are_preloaded(tree: Tree) -> None:
    tree.plant({"d/a": b"inside"})
    (tree.path / "link").symlink_to("d/a")
    (tree.path / "dirlink").symlink_to("d")
    generation, report = preloaded(tree, tree.loader())
    assert report.left_out == 0
    for key in (b"/link", b"/dirlink/a"):
        assert content_of(entry_body(generation, key)) == b"inside"


def test_a_file_that_never_stays_the_same_is_left_for_later(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.plant({"a": b"0000", "b": b"x"})
    generation = tree.walk()
    real = os.read
    edits = iter(range(1000))

    def read(fd: int, length: int) -> bytes:
        content = real(fd, length)
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/a"):
            rewrite(tree.path / "a", b"%04d" % next(edits))
        return content

    monkeypatch.setattr(os, "read", read)
    preloaded(tree, tree.loader(), generation)
    assert 1 < next(edits) < 20
    assert resident(generation) == {b"/b"}
    assert b"/a" in generation.resources
    assert [path for path, _ in problems(generation)] == ["a"]


# --- variants ---------------------------------------------------------------------------------------------


def test_missing_variants_are_made_while_preloading(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000), "d/b.html": prose(50_000), "c.png": noise(5000), "tiny.css": b"x"})
    loader = tree.loader(compress=True)
    generation, report = preloaded(tree, loader)
    assert report.left_out == 0
    assert report.files == 4 + 2 * len(loader.codings.codecs)
    for key in (b"/a.css", b"/d/b.html"):
        assert {variant.encoding for variant in entry_of(generation, key).variants} == set(loader.codings.codecs)
        assert field(entry_body(generation, key).head(), b"Vary") == b"Accept-Encoding"
    for key in (b"/c.png", b"/tiny.css"):
        assert entry_of(generation, key).variants == ()
        assert field(entry_body(generation, key).head(), b"Vary") is None


def test_what_is_asked_for_first_tells_that_it_varies(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000)})
    generation = tree.walk()
    preload(generation, tree.loader(compress=True), first=[entry_of(generation, b"/a.css")])
    assert entry_of(generation, b"/a.css").variants
    assert field(entry_body(generation, b"/a.css").head(), b"Vary") == b"Accept-Encoding"


# --- the next generation ----------------------------------------------------------------------------------


def reloaded(tree: Tree, loader: Loader, last: Generation) -> tuple[Generation, int]:
    """As a server reloads: the next generation, and how many files of the last are not in it."""
    generation = tree.walk(last=last)
    report = preload(generation, loader)
    assert report.left_out == 0
    gone = retire(last, generation, loader)
    assert loader.store.resident == report.resident_files
    return generation, gone


def test_unchanged_files_are_shared_and_only_those(tree: Tree) -> None:
    tree.plant(
        {
            "same.css": b"x",
            "same.css.gz": b"gz",
            "edited": b"one",
            "published": b"one",
            "touched": b"one",
            "gone": b"x",
            "variant-edited.css": b"x",
            "variant-edited.css.gz": b"gz",
            "variant-gone.css": b"x",
            "variant-gone.css.gz": b"gz",
            "variant-new.css": b"x",
            "d/index.html": b"x",
        }
    )
    loader = tree.loader()
    last, _ = preloaded(tree, loader)
    bodies = {entry.key: entry.body for entry in last.entries()}
    rewrite(tree.path / "edited", b"two")
    publish(tree.path / "published", b"two")
    rewrite(tree.path / "touched", b"one")
    (tree.path / "gone").unlink()
    rewrite(tree.path / "variant-edited.css.gz", b"GZ")
    (tree.path / "variant-gone.css.gz").unlink()
    tree.plant({"variant-new.css.gz": b"gz", "new": b"x"})
    generation, gone = reloaded(tree, loader, last)
    shared = {entry.key for entry in generation.entries() if last.resources.get(entry.key) is entry}
    assert shared == {b"/same.css", b"/same.css.gz", b"/d/index.html"}
    assert generation.resources[b"/d/"] is last.resources[b"/d/"]
    for key in shared:
        assert entry_of(generation, key).body is bodies[key]
    assert gone == 9
    assert content_of(entry_body(generation, b"/edited")) == content_of(entry_body(generation, b"/published")) == b"two"
    assert entry_of(generation, b"/touched").etag == entry_of(last, b"/touched").etag != b""


def test_retired_bodies_give_their_memory_back_when_they_are_not_being_sent(tree: Tree) -> None:
    tree.plant({"small": noise(3000), "large": noise(100 * KIB), "kept": noise(50 * KIB)})
    loader = tree.loader()
    last, _ = preloaded(tree, loader)
    sending = entry_body(last, b"/large")
    before = loader.store.committed
    for name in ("small", "large"):
        (tree.path / name).unlink()
    generation = tree.walk(last=last)
    preload(generation, loader)
    assert loader.store.committed == before
    assert retire(last, generation, loader) == 2
    assert content_of(sending) == noise(100 * KIB)
    assert loader.store.committed == 152 * KIB
    del sending
    assert loader.store.committed == 52 * KIB
    assert resident(generation) == {b"/kept"}
    assert entry_of(last, b"/small").body is None


def test_retiring_nothing_drops_nothing(tree: Tree) -> None:
    tree.plant({"a": b"x", "d/index.html": b"x", "b.css": b"x", "b.css.gz": b"x"})
    loader = tree.loader()
    last, _ = preloaded(tree, loader)
    generation, gone = reloaded(tree, loader, last)
    assert gone == 0
    assert all(generation.resources[key] is resource for key, resource in last.resources.items() if key != b"/d")


def test_made_variants_are_shared_with_their_base(tree: Tree) -> None:
    tree.plant({"a.css": prose(5000), "b.css": prose(6000)})
    loader = tree.loader(compress=True)
    last, _ = preloaded(tree, loader)
    rewrite(tree.path / "b.css", prose(6001))
    generation, gone = reloaded(tree, loader, last)
    assert gone == 1
    assert generation.resources[b"/a.css"] is last.resources[b"/a.css"]
    assert len(entry_of(generation, b"/a.css").variants) == len(loader.codings.codecs)
    assert len(entry_of(generation, b"/b.css").variants) == len(loader.codings.codecs)


def test_a_file_that_becomes_the_index_is_still_one_entry(tree: Tree) -> None:
    tree.plant({"index.html": b"x", "index.htm": b"x"})
    loader = tree.loader()
    names = ("index.htm", "index.html")
    last = tree.walk(*names)
    preload(last, loader)
    (tree.path / "index.htm").unlink()
    generation = tree.walk(*names, last=last)
    preload(generation, loader)
    assert generation.resources[b"/"] is generation.resources[b"/index.html"]


def test_a_release_that_changes_everything_is_resident_afterwards(tree: Tree) -> None:
    tree.plant({f"{i}": noise(60 * KIB + i, i) for i in range(11)})
    loader = tree.loader(memory=MIB)
    last, report = preloaded(tree, loader)
    assert report.left_out == 0
    for i in range(11):
        publish(tree.path / f"{i}", noise(60 * KIB + i, 100 + i))
    generation = tree.walk(last=last)
    preload(generation, loader)
    retire(last, generation, loader)
    preload(generation, loader)  # as a reload does: where the last generation was, there is room now
    assert len(resident(generation)) == 11


def test_a_walk_of_another_root_may_be_preloaded_into_the_same_store(tree: Tree) -> None:
    other = Tree(tree.path.parent / "other")
    tree.plant({"a": b"this"})
    other.plant({"a": b"that"})
    loader = tree.loader()
    this = tree.walk()
    that = other.walk(last=this)
    preload(this, loader)
    preload(that, loader)
    assert [content_of(entry_body(generation, b"/a")) for generation in (this, that)] == [b"this", b"that"]
    assert walk(that.root, index=()).resources.keys() == {b"/a"}


@pytest.mark.parametrize("size", [100, 100 * KIB])
def test_what_is_thrown_away_while_it_is_read_does_not_become_resident(
    tree: Tree, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a hard purge does beside a reload: the old content was read before it."""
    tree.plant({"a": noise(size), "b": b"1"})
    generation = tree.walk()
    loader = tree.loader()
    head_of = loader.head_of

    def thrown_away(root: Root | None, entry: Entry) -> bytes:
        if entry.key == b"/a":
            loader.store.under_way.be_late([entry])
        return head_of(root, entry)

    with monkeypatch.context() as patched:
        patched.setattr(loader, "head_of", thrown_away)
        preload(generation, loader)
    assert resident(generation) == {b"/b"}
    preload(generation, loader)
    assert resident(generation) == {b"/a", b"/b"}

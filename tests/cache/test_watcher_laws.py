"""The law of the watcher: whatever happens below a root, what is patched is what a fresh walk finds."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import is_readable
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.listing import Listing
from zcserve.cache.root import Root
from zcserve.cache.walk import walk, walk_again
from zcserve.cache.watcher import Watcher
from zcserve.rules.compiled import Rules
from zcserve.rules.rule import HeaderRule
from zcserve.site.listing_page import names_of, page_of

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

INDEX = ("index.html", "index.htm")
LISTED = Rules([HeaderRule(("/**",), listing=True), HeaderRule(("/a/b/**", "/b/**"), listing=False)])

# Few names, so that they meet: files, directories, links and siblings of each other.
NAMES = ["a", "b", "a.gz", "a.gz.br", "a.br", "index.html", "index.htm", "index.html.gz", ".h", ".well-known", "é ?"]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


def write(top: Path, path: str, other: str) -> None:
    (top / path).write_bytes(other.encode())


def publish(top: Path, path: str, other: str) -> None:
    aside = (top / path).with_name(".aside")
    aside.write_bytes(other.encode())
    aside.rename(top / path)


def make_directory(top: Path, path: str, other: str) -> None:
    (top / path).mkdir(parents=True)


def plant(top: Path, path: str, other: str) -> None:
    (top / path).mkdir(parents=True)
    (top / path / "b").mkdir()
    (top / path / "b" / "index.html").write_bytes(b"planted")


def delete(top: Path, path: str, other: str) -> None:
    if (top / path).is_dir() and not (top / path).is_symlink():
        shutil.rmtree(top / path)
    else:
        (top / path).unlink()


def move(top: Path, path: str, other: str) -> None:
    (top / path).rename(top / other)


def move_out(top: Path, path: str, other: str) -> None:
    (top / path).rename(top.parent / f"out{len(os.listdir(top.parent))}")


def move_in(top: Path, path: str, other: str) -> None:
    outside = sorted(found for found in top.parent.iterdir() if found != top)
    outside[-1].rename(top / path)


def link(top: Path, path: str, other: str) -> None:
    up = "../" * path.count("/")
    (top / path).symlink_to(up + other)


def link_absolutely(top: Path, path: str, other: str) -> None:
    (top / path).symlink_to(top / other)


def point_elsewhere(top: Path, path: str, other: str) -> None:
    aside = (top / path).with_name(".aside")
    aside.symlink_to(other.rpartition("/")[2])
    aside.rename(top / path)


def age(top: Path, path: str, other: str) -> None:
    os.utime(top / path, (0, len(other)))


def chmod(top: Path, path: str, other: str) -> None:
    (top / path).chmod(0o755 if len(other) % 2 else 0o700)


DEEDS: list[Callable[[Path, str, str], None]] = [
    write, publish, make_directory, plant, delete, move, move_out, move_in, link, link_absolutely, point_elsewhere,
    age, chmod,
]  # fmt: skip
BATCHES = st.lists(st.lists(st.tuples(st.sampled_from(DEEDS), PATHS, PATHS), min_size=1, max_size=6), max_size=8)


def catch_up(watcher: Watcher, generation: Generation, now: float) -> float:
    """Read until nothing is left to be taken; what time it is then."""
    for _ in range(100):
        while is_readable(watcher.fd):
            assert watcher.read(now)
        due = watcher.due(now)
        if due == float("inf"):
            return now
        now = max(now, due)
        changes = watcher.take(now)
        assert changes.everything is None
        walk_again(generation, changes, index=INDEX, observer=watcher).apply(generation)
    raise AssertionError("there is no end of changes")


def looks(generation: Generation) -> dict[bytes, Any]:
    """All that can be seen of a generation, but for the order of its keys."""
    seen: dict[bytes, Any] = {}
    for key, resource in generation.resources.items():
        if isinstance(resource, Entry):
            variants = [(variant.encoding, variant.identity, variant.key) for variant in resource.variants]
            file = generation.resources[resource.key]
            seen[key] = (resource.key, resource.identity, resource.size, resource.modified, variants, file is resource)
        elif isinstance(resource, Listing):
            seen[key] = names_of(key, resource, generation.resources)
        else:
            seen[key] = resource.location
    return seen


def pages(generation: Generation) -> dict[bytes, tuple[Listing, bytes]]:
    """Each listing, and what it says."""
    found = generation.resources
    listings = {key: one for key, one in found.items() if isinstance(one, Listing)}
    return {key: (one, page_of(key, one, found, is_json=True).content) for key, one in listings.items()}


@given(BATCHES)
def test_what_is_patched_is_what_a_fresh_walk_finds(batches: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as path:
        top = Path(path) / "www"
        top.mkdir()
        root = Root(top, LISTED)
        watcher = Watcher(root)
        try:
            generation = walk(root, index=INDEX, observer=watcher)
            now = 0.0
            for batch in batches:
                before = pages(generation)
                for deed, one, other in batch:
                    with suppress(OSError, IndexError):
                        deed(top, one, other)
                now = catch_up(watcher, generation, now)
                assert looks(generation) == looks(walk(root, index=INDEX))
                for key, (listing, page) in pages(generation).items():
                    old, was = before.get(key, (None, page))
                    assert page == was or listing is not old, "a page that was made would go on"
        finally:
            watcher.close()


@given(st.randoms(use_true_random=False), BATCHES)
def test_it_makes_no_difference_when_in_the_course_of_changes_one_looks(chance: random.Random, batches: Any) -> None:
    with tempfile.TemporaryDirectory() as path:
        top = Path(path) / "www"
        top.mkdir()
        root = Root(top)
        watcher = Watcher(root)
        try:
            deeds = [deed for batch in batches for deed in batch]
            for deed, one, other in deeds[: len(deeds) // 2]:
                with suppress(OSError, IndexError):
                    deed(top, one, other)
            generation = walk(root, index=INDEX, observer=watcher)
            now = 0.0
            for deed, one, other in deeds[len(deeds) // 2 :]:
                with suppress(OSError, IndexError):
                    deed(top, one, other)
                if chance.random() < 0.5:
                    watcher.read(now)
                if chance.random() < 0.3:
                    changes = watcher.take(now)
                    walk_again(generation, changes, index=INDEX, observer=watcher).apply(generation)
            catch_up(watcher, generation, now)
            assert looks(generation) == looks(walk(root, index=INDEX))
        finally:
            watcher.close()

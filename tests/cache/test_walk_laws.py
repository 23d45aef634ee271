"""The law of keys: a walk and a request agree on what every file is called, however odd its name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from tests.support.trees import Tree, entry_of, keys, problems, rewrite, rewrite_unseen
from zcserve import http
from zcserve.cache import walk as walk_module
from zcserve.cache.entry import Body, Entry, Redirect, Sibling, SiblingVariant
from zcserve.cache.index import Generation
from zcserve.cache.naming import path_of
from zcserve.cache.tags import tag_of

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

PIECES = """a B . .. % %2e %2F %00 %zz ? # & + ; : @ ! $ ' ( ) * , = ~ - _ \\ | ^ [ ] { } " < > ` é 日 \u0301 \U0001f600
    .gz .br .html index"""
ODD = st.lists(st.sampled_from([*PIECES.split(), " ", "\n", "\t", "\x7f", "\x01"]), min_size=1, max_size=6).map("".join)
ANY = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
NAMES = (ODD | ANY).filter(lambda name: not name.startswith(".") and len(name.encode()) <= 200)


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=4))
def test_the_key_of_every_file_is_the_canonical_path_of_its_encoded_name(names: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as path:
        tree = Tree(Path(path))
        for directory, name in names:
            tree.plant({f"{directory}.d/{name}": name.encode(errors="replace")})
        generation = tree.walk()
        served = {path_of(entry) for entry in generation.entries()}
        served |= {path_of(variant) for entry in generation.entries() for variant in entry.variants}
        reported = {problem.path.encode() for problem in generation.problems}
        for directory, name in names:
            relative = f"{directory}.d/{name}".encode()
            key = http.canonical_path(b"/" + quote_from_bytes(relative, safe="/").encode())
            if key in generation.resources:
                entry = entry_of(generation, key)
                assert path_of(entry) == relative
                assert entry.size == (tree.path / f"{directory}.d/{name}").stat().st_size
            else:
                assert relative in served | reported


@given(st.lists(NAMES, min_size=1, max_size=6))
def test_every_key_of_a_walk_is_its_own_canonical_path(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as path:
        tree = Tree(Path(path))
        tree.plant({f"{name}.d/{other}": b"" for name in names for other in (names[0], "index.html")})
        resources = tree.walk().resources
        for key, resource in resources.items():
            assert http.canonical_path(key) == key
            if isinstance(resource, Redirect):
                assert resource.location == key + b"/"
                assert resource.location in resources


@given(st.dictionaries(NAMES, st.booleans(), min_size=1, max_size=8), st.lists(NAMES, max_size=3))
def test_a_walk_that_knows_the_last_one_finds_what_a_walk_finds(changed: dict[str, bool], new: list[str]) -> None:
    with tempfile.TemporaryDirectory() as path:
        tree = Tree(Path(path))
        tree.plant({f"{name}.d/{name}": b"x" for name in changed} | dict.fromkeys(changed, b"x"))
        last = tree.walk()
        for name in (name for name, again in changed.items() if again):
            rewrite(tree.path / name, b"yy")
        tree.plant(dict.fromkeys((name for name in new if name not in changed), b"new"))
        now, anew = tree.walk(last=last), tree.walk()
        assert now.resources.keys() == anew.resources.keys()
        for key, resource in anew.resources.items():
            if isinstance(resource, Redirect):
                assert isinstance(now.resources[key], Redirect)
            else:
                assert isinstance(resource, Entry)
                assert entry_of(now, key).identity == resource.identity
                assert entry_of(now, key).key == resource.key
        assert {problem.path for problem in now.problems} == {problem.path for problem in anew.problems}


FAMILIES = [
    f"{base}{more}" for base in ("a", "b", "c d") for more in ("", ".br", ".gz", ".zst", ".gz.br", ".br.zst.gz")
]
CHANGES = st.sampled_from(["touched", "dated back", "rewritten", "older", "gone", "a directory", "made", "at fault"])


def in_memory(tree: Tree) -> Generation:
    """What a walk finds, with what it would know had it been read."""
    generation = tree.walk()
    for entry in generation.entries():
        held = entry.variant if isinstance(entry, Sibling) else entry
        held.etag, held.body = tag_of((tree.path / path_of(entry).decode()).read_bytes()), Body(entry.size)
        for variant in entry.variants:
            assert isinstance(variant, SiblingVariant)
            variant.judged = entry.identity
    return generation


def change(tree: Tree, name: str, how: str) -> None:
    file = tree.path / name
    if how == "touched":
        file.chmod(0o600)
    elif how == "dated back":
        rewrite_unseen(file, b"another content"[: file.stat().st_size])
    elif how == "rewritten":
        rewrite(file, b"rewritten")
    elif how == "older":
        os.utime(file, (1, 1))
    elif how in ("gone", "a directory"):
        file.unlink()
        if how == "a directory":
            file.mkdir()


def changed(generation: Generation, name: str, how: str) -> None:
    """What is known of a file, and no walk finds: a variant that was made of it, or a fault of a sibling."""
    entry = entry_of(generation, http.encode_path(f"/{name}".encode()))
    if how == "made" and not isinstance(entry, Sibling):
        entry.variants = (*entry.variants, entry.coded(b"x", 1))
    if how == "at fault" and isinstance(entry, Sibling):
        entry.variant.fault = "is not it"
        for one in generation.entries():
            one.variants = tuple(variant for variant in one.variants if variant is not entry.variant)


def told(last: Generation, now: Generation) -> object:
    """What there is of each file, and what of it is the last one's."""
    files = {}
    for entry in now.entries():
        was = last.resources.get(entry.key)
        siblings = [(one.encoding, one.identity, getattr(one, "judged", b"")) for one in entry.variants]
        variant = entry.variant if isinstance(entry, Sibling) else None
        of = now.resources.get(entry.key.rpartition(b".")[0]) if variant else None
        is_its = isinstance(of, Entry) and variant in of.variants
        files[entry.key] = (entry is was, entry.identity, entry.size, siblings, is_its, variant and variant.fault)
    stock = now.stock
    assert stock is not None
    return files, problems(now), (stock.files, stock.bytes, {one.key for one in stock.wanting})


@pytest.mark.skipif(getattr(walk_module, "native", None) is None, reason="_walk.pyx is not built here")
@settings(deadline=None)
@given(st.sets(st.sampled_from(FAMILIES), min_size=1), st.dictionaries(st.sampled_from(FAMILIES), CHANGES, max_size=3))
def test_what_is_compiled_says_of_families_what_python_says(names: set[str], changes: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as path:
        tree = Tree(Path(path))
        tree.plant({f"{name}": f"of {name}".encode() for name in names})
        for name in names:  # one time for all, as releases have it
            os.utime(tree.path / name, ns=(10**18, 10**18))
        lasts = [in_memory(tree) for _ in range(2)]
        assert told(lasts[0], lasts[0]) == told(lasts[1], lasts[1])
        for name, how in changes.items():
            if name in names:
                change(tree, name, how)
                for last in lasts:
                    changed(last, name, how)
        now = tree.walk(last=lasts[0])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(walk_module, "native", None)
            slowly = tree.walk(last=lasts[1])
        assert told(lasts[0], now) == told(lasts[1], slowly)
        assert keys(now) == keys(tree.walk())

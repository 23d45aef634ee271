"""The law of keys: a walk and a request agree on what every file is called, however odd its name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from tests.support.trees import Tree, entry_of, rewrite
from zcserve import http
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.naming import path_of

pytest.importorskip("hypothesis")
from hypothesis import given
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

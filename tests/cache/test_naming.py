"""zcserve.cache.naming: which names belong together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zcserve.cache.counted_names import SIBLING_CODINGS
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.naming import (
    base_of,
    coding_of,
    directory_of,
    is_as_new,
    is_index,
    keys_of,
    sibling_of,
    siblings_of,
)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        (b"a.css.gz", b"a.css"),
        (b"a.br.zst", b"a.br"),
        (b"/d/a%20b.br", b"/d/a%20b"),
        (b"a.css", b""),
        (b"a.gzip", b""),
        (b"gz", b""),
        (b".gz", b""),
    ],
)
def test_an_ending_tells_the_base_of_a_sibling(name: bytes, base: bytes) -> None:
    assert base_of(name) == base


def test_each_coding_has_one_sibling_whose_name_tells_it() -> None:
    names = siblings_of(b"a.css")
    assert [coding for coding, _ in names] == list(SIBLING_CODINGS.values())
    for coding, name in names:
        assert (name, base_of(name), coding_of(name)) == (sibling_of(b"a.css", coding), b"a.css", coding)


def test_a_sibling_of_the_same_time_is_as_new(tmp_path: Path) -> None:
    statuses = []
    for number in (0, 1):
        file = tmp_path / str(number)
        file.touch()
        os.utime(file, ns=(0, number))
        statuses.append(file.stat())
    old, new = statuses
    assert (is_as_new(old, old), is_as_new(new, old), is_as_new(old, new)) == (True, True, False)


@pytest.mark.parametrize(("key", "directory"), [(b"/a", b"/"), (b"/d/a", b"/d/"), (b"/d/", b"/d/"), (b"/", b"/")])
def test_a_key_lies_in_a_directory(key: bytes, directory: bytes) -> None:
    assert directory_of(key) == directory


def test_a_directorys_index_is_known_by_its_files_key() -> None:
    index = Entry(b"/d/index.html", b"", 0, None)
    assert keys_of(b"/d/") == (b"/d/", b"/d")
    assert is_index(index, (b"/d/index.html",))
    assert not is_index(index, (b"/d/other.html",))
    assert not is_index(Redirect(b"/d/"), (b"/d/",))
    assert not is_index(None, (b"/d/",))

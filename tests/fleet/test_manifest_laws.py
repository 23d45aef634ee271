"""Laws of manifests, for any files: what is written is read, one content has one form, and a change is noticed."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from zcserve.fleet.manifest import Encoding, File, Manifest, ManifestError, Signature, diff
from zcserve.fleet.names import NameRefusedError, check_path, file_of, sibling_path
from zcserve.http import canonical_path, encode_path

pytest.importorskip("hypothesis")
from hypothesis import assume, given, settings
from hypothesis import strategies as st

# A manifest takes long to draw.
fewer = settings(max_examples=settings().max_examples // 4)
digests = st.integers(0, (1 << 256) - 1).map("{:064x}".format)
etags = st.one_of(st.just(""), st.integers(0, (1 << 128) - 1).map('"{:032x}"'.format))
sizes = st.integers(0, 1 << 42)
names = st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name and name[0] != 46)
paths = st.lists(names, min_size=1, max_size=4).map(lambda some: encode_path(b"/" + b"/".join(some)).decode())
types = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
encodings = st.dictionaries(st.sampled_from(["br", "gzip", "zstd"]), st.builds(Encoding, sizes, digests, etags))
tags = st.sets(st.text("abcXYZ019._:-", min_size=1, max_size=8), max_size=4).map(lambda some: tuple(sorted(some)))
served = st.builds(File, sizes, digests, etags, types, encodings, tags, st.integers(-100, 100))
sites = st.text("aZ0_.-", max_size=62).map("a{}".format)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    files = draw(st.dictionaries(paths, served, max_size=5))
    files.pop("/_headers", None), files.pop("/_redirects", None)
    try:
        return Manifest.of(draw(sites), draw(st.integers(1, (1 << 53) - 1)), files)
    except ManifestError:  # a file in a directory that is a file, and the like
        assume(False)
        raise


def shuffled(value: Any, source: random.Random) -> Any:
    """The same with the members of all objects in another order."""
    if isinstance(value, dict):
        items = [(name, shuffled(one, source)) for name, one in value.items()]
        source.shuffle(items)
        return dict(items)
    return [shuffled(one, source) for one in value] if isinstance(value, list) else value


@fewer
@given(manifests())
def test_what_is_written_is_read(manifest: Manifest) -> None:
    again = Manifest.parse(manifest.to_bytes())
    assert again == manifest == Manifest.parse(b" " + manifest.to_bytes())  # scanned, and in the general way
    assert again.to_bytes() == manifest.to_bytes()
    assert (again.digest, again.tree) == (manifest.digest, manifest.tree)


@fewer
@given(manifests(), st.integers(0, 1 << 32), st.sampled_from([None, 1, 4]))
def test_one_content_has_one_form_whatever_its_layout(manifest: Manifest, seed: int, indent: int | None) -> None:
    document = shuffled(json.loads(manifest.to_bytes()), random.Random(seed))
    again = Manifest.parse(json.dumps(document, indent=indent).encode())
    assert again.to_bytes() == manifest.to_bytes()
    assert again.digest == manifest.digest
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    assert canonical == manifest.to_bytes()


@fewer
@given(manifests(), manifests())
def test_digest_and_tree_tell_releases_apart(one: Manifest, other: Manifest) -> None:
    assert (one.tree == other.tree) == (one.files == other.files)
    same = (one.site, one.sequence, one.files) == (other.site, other.sequence, other.files)
    assert (one.digest == other.digest) == same


@fewer
@given(manifests(), st.data())
def test_a_byte_that_changes_is_noticed(manifest: Manifest, data: st.DataObject) -> None:
    content = bytearray(manifest.to_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        changed = Manifest.parse(bytes(content))
    except ManifestError:
        return
    assert changed.signed_bytes != manifest.signed_bytes
    assert changed.tree == manifest.tree  # else it is refused
    assert changed.files == manifest.files


@fewer
@given(manifests(), manifests())
def test_what_is_fetched_makes_one_release_of_the_other(old: Manifest, new: Manifest) -> None:
    found = diff(old, new)
    assert set(new.files) == set(old.files) - set(found.removed) | set(found.added)
    assert all(old.files[path] == new.files[path] for path in set(new.files) - set(found.added) - set(found.changed))
    had = {digest for _, _, digest in old.fetches()}
    assert {digest for _, _, digest in new.fetches()} - had == {digest for _, _, digest in found.fetched}
    assert found.bytes == sum(size for _, size, _ in found.fetched)
    assert not diff(new, new)
    assert diff(new, new).bytes == 0


@fewer
@given(manifests())
def test_files_lie_apart_and_below_the_folder(manifest: Manifest) -> None:
    names = [name for name, _, _ in manifest.fetches()]
    assert len(set(names)) == len(names)
    for name in names:
        assert not name.startswith("/")
        assert os.path.normpath(name) == name
        assert Path("/release", name).is_relative_to("/release")
        assert not {"", ".", ".."} & set(name.split("/"))
    for name in names:
        assert not any(other.startswith(f"{name}/") for other in names)


@given(st.one_of(paths, st.text(st.sampled_from("/.%2eEaF0\\ \0é"), max_size=20).map("/{}".format)))
def test_a_path_that_is_taken_is_the_servers_own_spelling(path: str) -> None:
    try:
        check_path(path)
    except NameRefusedError:
        return
    assert canonical_path(path.encode()) == path.encode()
    assert encode_path(b"/" + os.fsencode(file_of(path))).decode() == path
    assert file_of(sibling_path(path, "gzip")) == file_of(path) + ".gz"


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_anything_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.parse(data)


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3),
    max_leaves=6,
)


@fewer
@given(manifests(), json_values, st.data())
def test_any_value_in_any_place_is_read_or_refused(manifest: Manifest, value: Any, data: st.DataObject) -> None:
    document = json.loads(manifest.with_signatures(Signature("0" * 32, "A" * 86 + "==")).to_bytes())
    places = [(document, name) for name in document]
    places += [(file, name) for file in document["files"].values() for name in file]
    places += [(one, name) for one in document["signatures"] for name in one]
    parent, name = data.draw(st.sampled_from(places))
    parent[name] = value
    try:
        made = Manifest.parse(json.dumps(document).encode())
    except ManifestError:
        return
    assert made.tree == manifest.tree

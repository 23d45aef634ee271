"""What lies beside a complete release is read without being judged, and only where its digest is the folder's name."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.listed import read_files, write_files
from zcserve.fleet import kept_listing
from zcserve.fleet.fetching import Fetch, Fetched
from zcserve.fleet.folders import Folders
from zcserve.fleet.kept_listing import REMEMBERED_MAX, KeptListing, Listings, read_kept
from zcserve.fleet.manifest import Encoding, File, Manifest, ManifestError, Signature
from zcserve.fleet.sources.directory import DirectorySource

FILES = {
    "/a/b%20c.html": File(3, "1" * 64, '"' + "2" * 32 + '"', "text/html", {"br": Encoding(2, "3" * 64, "")}, ("t",), 5),
    "/%FF.css": File(0, "4" * 64, "", "text/css", {}, (), 0),
    "/_headers": File(9, "5" * 64, "", "", {}, (), 0),
}
MADE = Manifest.of("www", 7, FILES)


@pytest.mark.parametrize(
    "made", [MADE, MADE.with_signatures(Signature("0" * 32, "A" * 86 + "==")), Manifest.of("www", 1, {})]
)
def test_a_kept_manifest_lists_what_it_listed_when_it_was_judged(made: Manifest) -> None:
    kept = read_kept(made.to_bytes())
    assert isinstance(kept, KeptListing)
    assert (kept.tree, kept.to_bytes()) == (made.tree, made.to_bytes())
    assert list(kept.fetches()) == list(made.fetches())


def test_a_kept_manifest_of_which_one_bit_has_changed_has_another_tree() -> None:
    data = MADE.to_bytes()
    start, end = len(b'{"files":'), data.rfind(b',"format":')
    for at in range(start, end):
        changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        assert read_kept(changed).tree != MADE.tree


def test_what_is_not_in_canonical_form_is_judged() -> None:
    spaced = MADE.to_bytes().replace(b'{"files":', b'{ "files":', 1)
    assert read_kept(spaced) == MADE
    with pytest.raises(ManifestError, match="is no JSON"):
        read_kept(b"")


def test_what_came_or_was_read_is_known_by_its_bytes_and_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    listings, read = Listings(), []
    monkeypatch.setattr(kept_listing, "read_kept", lambda data: read.append(data) or read_kept(data))
    listings.came(MADE)
    for _ in range(2):
        found = listings.read(MADE.to_bytes())
        assert (found.tree, list(found.fetches())) == (MADE.tree, list(MADE.fetches()))
        assert found.to_bytes() == MADE.to_bytes()
    assert read == []
    others = [Manifest.of("www", number, FILES).to_bytes() for number in range(8, 8 + REMEMBERED_MAX)]
    for data in others:
        assert list(listings.read(data).fetches()) == list(MADE.fetches())
    assert set(read) == set(others)
    read.clear()
    assert listings.read(others[0]).tree == MADE.tree
    assert read == []
    assert listings.read(MADE.to_bytes()).tree == MADE.tree  # it was the oldest
    assert read == [MADE.to_bytes()]


def test_bytes_that_are_no_manifest_are_refused_and_large_ones_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    listings = Listings()
    with pytest.raises(ManifestError):
        listings.read(b"{}")
    changed = MADE.to_bytes().replace(b'"size":3', b'"size":4')
    assert listings.read(changed).tree != MADE.tree
    monkeypatch.setattr(kept_listing, "REMEMBERED_BYTES_MAX", 10)
    listings = Listings()
    listings.came(MADE)
    assert isinstance(listings.read(MADE.to_bytes()), KeptListing)


def _build(root: Path, contents: dict[str, bytes]) -> Manifest:
    write_files(root, contents)
    return Manifest.of(
        "www",
        1,
        {
            path: File(len(body), sha256(body).hexdigest(), "", "text/plain", {}, (), 0)
            for path, body in contents.items()
        },
    )


def _fetch(root: Path, manifest: Manifest, folders: Folders) -> Fetched:
    return Fetch(manifest, DirectorySource(str(root)), folders).run()


def test_a_release_gives_the_next_one_its_files_only_by_its_own_manifest(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "releases")
    contents = {"/a/1.txt": b"one", "/2.txt": b"two"}
    first = _fetch(tmp_path / "1", _build(tmp_path / "1", contents), folders)
    contents |= {"/2.txt": b"2", "/moved.txt": b"two"}
    second = _fetch(tmp_path / "2", _build(tmp_path / "2", contents), folders)
    assert second.shared == {"linked": 2}
    for tree in (first.release.tree, second.release.tree):  # of another tree, though it is right in itself
        Path(folders.path, f"{tree}.json").write_bytes(MADE.to_bytes())
    contents |= {"/2.txt": b"3"}
    third = _fetch(tmp_path / "3", _build(tmp_path / "3", contents), folders)
    assert third.shared == {}
    assert read_files(Path(folders.path, third.release.tree)) == {path[1:]: body for path, body in contents.items()}

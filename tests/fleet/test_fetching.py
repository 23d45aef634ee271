"""A release from a source to a folder: complete, or not there; and what a run moves, keeps and names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.support.listed import Listing, on_disk, read_files, write_files
from zcserve.fleet.fetching import Fetch, Fetched
from zcserve.fleet.folders import Folders
from zcserve.fleet.sources.directory import DirectorySource

FILES = {
    "/index.html": b"<h1>one</h1>",
    "/a/b.css": b"body {}" * 1000,
    "/a/b.css.br": b"\x8b\x03\x80",
    "/a/with%20space": b"space",
    "/a/100%25": b"percent",
    "/%ff%fe": b"not UTF-8",
    "/empty": b"",
    "/same": b"body {}" * 1000,
}


def fetch(tmp_path: Path, contents: Mapping[str, bytes], source: Mapping[str, bytes] | None = None) -> Fetched:
    """Contents by way of a directory, which has others where `source` says so."""
    write_files(tmp_path / "source", contents if source is None else source)
    folders = Folders(tmp_path / "releases")
    return Fetch(Listing.of(contents), DirectorySource(str(tmp_path / "source")), folders, read=Listing.parse).run()


def test_a_release_comes_whole_with_names_of_all_kinds(tmp_path: Path) -> None:
    done = fetch(tmp_path, FILES)
    assert read_files(tmp_path / "releases" / done.release.tree) == on_disk(FILES)
    assert done.moved == sum(map(len, FILES.values())) - len(FILES["/same"])
    assert fetch(tmp_path, FILES).moved == 0


def test_what_did_not_change_is_linked(tmp_path: Path) -> None:
    old = fetch(tmp_path, FILES)
    new = fetch(tmp_path, FILES | {"/index.html": b"<h1>two</h1>", "/a/moved": FILES["/a/b.css.br"]})
    assert (new.moved, new.shared) == (12, {"linked": 8})
    assert read_files(tmp_path / "releases" / old.release.tree) == on_disk(FILES)

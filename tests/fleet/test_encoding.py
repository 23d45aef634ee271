"""Siblings of a release: judged by content, and made where they are missing."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest

from tests.support.site import Site
from zcserve.cache.compress import codecs
from zcserve.cache.naming import path_of, sibling_of
from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.fleet import encoding
from zcserve.fleet.contents import Contents
from zcserve.fleet.encoding import Missing, siblings_in
from zcserve.fleet.manifest import ManifestError

TEXT = b"p { color: red }\n" * 200


def nothing(done: int, total: int) -> None:
    pass


def siblings(root: Path, **config: object) -> tuple[dict[str, set[str]], list[str]]:
    """Codings by path, doubts."""
    settings = Config(root=root, **config)  # type: ignore[arg-type]
    contents = Contents(settings)
    found, doubts = siblings_in(contents, {*contents.entries.values()}, settings)
    codings = {path_of(entry).decode(): {coding.decode() for coding in some} for entry, some in found.items()}
    assert contents.problems == []
    return codings, doubts


def make(root: Path, **config: object) -> Missing:
    settings = Config(root=root, **config)  # type: ignore[arg-type]
    contents = Contents(settings)
    contents.read(nothing)
    missing = Missing(contents, settings)
    missing.make(contents.entries.values(), nothing)
    return missing


def test_a_sibling_is_what_decodes_to_its_file_whatever_its_time(site: Site) -> None:
    site.write("new.css", TEXT, mtime=1000)
    site.write("new.css.gz", gzip.compress(TEXT), mtime=2000)
    site.write("old.css", TEXT, mtime=2000)
    site.write("old.css.gz", gzip.compress(TEXT), mtime=1000)
    site.write("other.css", TEXT)
    site.write("other.css.gz", gzip.compress(TEXT + b"!"))
    site.write("broken.css", TEXT)
    site.write("broken.css.gz", gzip.compress(TEXT)[:-1])
    site.write("alone.css.gz", gzip.compress(TEXT))
    codings, doubts = siblings(site.root)
    assert codings == {"new.css": {"gzip"}, "old.css": {"gzip"}}
    assert doubts == [
        "broken.css.gz: does not decode: served under its own name only",
        "other.css.gz: does not decode to its file's bytes: served under its own name only",
    ]


def test_a_sibling_of_a_sibling_is_a_file_of_its_own(site: Site) -> None:
    site.write("a.css", TEXT)
    site.write("a.css.gz", gzip.compress(TEXT))
    site.write("a.css.gz.gz", gzip.compress(gzip.compress(TEXT)))
    assert siblings(site.root) == ({"a.css": {"gzip"}}, [])


def test_what_cannot_be_decoded_here_is_trusted_and_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "decoders", lambda: {b"gzip": iter})
    site.write("a.css", TEXT)
    site.write("a.css.br", b"x")
    codings, doubts = siblings(site.root)
    assert codings == {"a.css": {"br"}}
    assert doubts == ["siblings in br cannot be decoded here and are trusted: pip install 'zcserve[compress]'"]
    assert siblings(site.root, trust_siblings=True) == (codings, [])


def test_what_is_missing_is_made_and_is_a_sibling_then(site: Site) -> None:
    site.write("a.css", TEXT, mtime=1000).chmod(0o640)
    site.write("small.css", b"p {}")
    site.write("a.png", TEXT)
    site.write("random.css", os.urandom(4096))
    site.write("d/b.js", TEXT)
    site.write("d/b.js.gz", gzip.compress(TEXT, 1))
    kept = (site.root / "d/b.js.gz").read_bytes()
    made = make(site.root)
    all_codings = {coding.decode() for coding in codecs()}
    assert {path: set(codings) for path, codings in made.written.items() if codings} == {
        "/a.css": all_codings, **({"/d/b.js": all_codings - {"gzip"}} if all_codings > {"gzip"} else {}),
    }  # fmt: skip
    assert siblings(site.root) == ({"a.css": all_codings, "d/b.js": all_codings}, [])
    assert (site.root / "d/b.js.gz").read_bytes() == kept
    for coding in codecs():
        status = (site.root / os.fsdecode(sibling_of(b"a.css", coding))).stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert status.st_mtime == 1000
    assert not [name for name in os.listdir(site.root) if name.startswith(".")]
    assert make(site.root).written == {}


def test_a_name_that_is_taken_is_left_alone(site: Site) -> None:
    site.write("a.css", TEXT)
    site.write("a.css.gz", b"something else")
    assert "gzip" not in make(site.root).written.get("/a.css", ())
    assert (site.root / "a.css.gz").read_bytes() == b"something else"
    assert siblings(site.root)[1] == ["a.css.gz: does not decode: served under its own name only"]


def test_a_name_that_something_else_has_is_left_alone_too(site: Site) -> None:
    site.write("a.css", TEXT)
    os.mkfifo(site.root / "a.css.gz")
    assert "gzip" not in make(site.root).written.get("/a.css", ())
    assert stat.S_ISFIFO((site.root / "a.css.gz").stat().st_mode)


def test_all_of_a_sibling_is_on_the_disk_before_it_has_its_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[tuple[set[bytes], list[str]]] = []  # contents beside the file, and the names that a walk sees

    def note(fd: int) -> None:
        os.fstat(fd)
        there = {path.name: path.read_bytes() for path in (site.root / "d").iterdir() if path.name != "a.css"}
        settled.append(({*there.values()}, [name for name in there if not name.startswith(".")]))

    monkeypatch.setattr(encoding, "settle", note)
    site.write("d/a.css", TEXT)
    make(site.root)
    before, after = settled  # of one file system: once before they are named, once after
    assert before[0] == after[0]
    assert (before[1], len(after[1])) == ([], len(codecs()))


def test_a_file_that_changes_before_it_is_encoded_is_an_error(site: Site) -> None:
    site.write("a.css", TEXT, mtime=1000)
    settings = Config(root=site.root)
    contents = Contents(settings)
    contents.read(nothing)
    site.write("a.css", TEXT.upper())
    with pytest.raises(ManifestError, match=r"a.css: it changes while it is read"):
        Missing(contents, settings).make(contents.entries.values(), nothing)


def test_what_cannot_be_written_is_told_with_its_name(site: Site) -> None:
    site.write("a.css", TEXT)
    settings = Config(root=site.root)
    contents = Contents(settings)
    contents.read(nothing)
    for coding in codecs():  # a directory that the walk did not see: no file takes its name
        (site.root / os.fsdecode(sibling_of(b"a.css", coding))).mkdir()
    with pytest.raises(UsageError, match=r"a.css.\w+ cannot be written: Is a directory"):
        Missing(contents, settings).make(contents.entries.values(), nothing)
    assert not [name for name in os.listdir(site.root) if name.startswith(".")]


def test_what_cannot_be_made_here_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "missing_codecs", lambda: "pip install brotli")
    assert make(site.root).doubts == ["not all encodings can be made here: pip install brotli"]

"""Manifests: what is read, what is refused and why, and what two releases differ in."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.releases import file_of, release_of, with_tree
from zcserve.fleet import manifest
from zcserve.fleet.manifest import File, Manifest, ManifestError, Signature, diff

FILES = {
    "/index.html": file_of(b"<p>", tags=("html", "start"), priority=3),
    "/a%20b.css": file_of(b"p {}", content_type="text/css", encodings={"gzip": b"gz", "br": b"b"}),
    "/_headers": file_of(b"/*\n  A: b\n", content_type="")._replace(etag=""),
}
MADE = Manifest.of("www", 7, FILES)
SIGNATURE = Signature("ab" * 16, "A" * 86 + "==")


def members() -> dict[str, Any]:
    """Of a manifest that is right, as JSON has them."""
    parsed: dict[str, Any] = json.loads(MADE.to_bytes())
    return parsed


def test_what_is_written_is_read() -> None:
    signed = MADE.with_signatures(SIGNATURE)
    again = Manifest.parse(signed.to_bytes())
    assert again == signed
    assert again.files == FILES
    assert (again.site, again.sequence, again.signatures) == ("www", 7, (SIGNATURE,))


def test_the_form_is_the_one_that_is_documented() -> None:
    document = json.loads(MADE.with_signatures(SIGNATURE).to_bytes())
    assert document.keys() == {"format", "site", "sequence", "tree", "files", "signatures"}
    assert document["format"] == 1
    assert document["files"]["/index.html"] == {
        "size": 3,
        "sha256": hashlib.sha256(b"<p>").hexdigest(),
        "etag": FILES["/index.html"].etag,
        "type": "text/html; charset=utf-8",
        "encodings": {},
        "tags": ["html", "start"],
        "priority": 3,
    }
    assert document["signatures"] == [{"key": SIGNATURE.key, "ed25519": SIGNATURE.ed25519}]


def test_digests_are_of_the_canonical_form() -> None:
    document = members()

    def canonical(value: object) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    assert MADE.to_bytes() == canonical(document)
    assert MADE.tree == hashlib.sha256(canonical(document["files"])).hexdigest()
    del document["signatures"]
    assert MADE.digest == hashlib.sha256(canonical(document)).hexdigest()
    assert MADE.signed_bytes == b"zcserve-manifest-1\n" + canonical(document)


def test_a_signature_changes_no_digest_and_a_sequence_no_tree() -> None:
    assert MADE.with_signatures(SIGNATURE).digest == MADE.digest
    later = MADE.with_signatures(SIGNATURE).with_sequence(8)
    assert (later.tree, later.files, later.signatures) == (MADE.tree, MADE.files, ())
    assert later.digest != MADE.digest
    for sequence in (0, -1, 1 << 53):
        with pytest.raises(ManifestError, match="sequence"):
            MADE.with_sequence(sequence)


def test_every_file_is_fetched_a_base_before_its_siblings() -> None:
    fetched = list(MADE.fetches())
    assert [name for name, _, _ in fetched] == ["_headers", "a b.css", "a b.css.br", "a b.css.gz", "index.html"]
    assert fetched[2][1:] == (1, hashlib.sha256(b"b").hexdigest())
    assert MADE.size == sum(size for _, size, _ in fetched) == 10 + 4 + 1 + 2 + 3


def test_only_files_of_rules_are_not_served() -> None:
    assert {path: file.is_served for path, file in MADE.files.items()} == {
        "/_headers": False, "/a%20b.css": True, "/index.html": True,
    }  # fmt: skip


def test_an_empty_release_is_one() -> None:
    assert list(Manifest.parse(Manifest.of("www", 1, {}).to_bytes()).fetches()) == []


# --- what is refused ------------------------------------------------------------------------------------------


def set_to(*where: str, to: Any) -> Callable[[dict[str, Any]], None]:
    """Changes a member, where members of that name lie."""

    def change(document: dict[str, Any]) -> None:
        for name in where[:-1]:
            document = document[name]
        document[where[-1]] = to

    return change


def without(*where: str) -> Callable[[dict[str, Any]], None]:
    """Removes a member."""

    def change(document: dict[str, Any]) -> None:
        for name in where[:-1]:
            document = document[name]
        del document[where[-1]]

    return change


def moved_to(path: str) -> Callable[[dict[str, Any]], None]:
    """Gives a file another path."""

    def change(document: dict[str, Any]) -> None:
        document["files"][path] = document["files"].pop("/index.html")

    return change


NO_SITES: list[object] = ["", "-a", ".", "a/b", "a b", "a\n", "x" * 64, 1, None, []]
NO_TAGS: list[object] = [["b", "a"], ["a", "a"], ["a b"], [""], [1], "a", {}]
INDEX = ("files", "/index.html")
CSS = ("files", "/a%20b.css")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_to("format", to=2), "format: 2 is not known here"),
        (set_to("format", to="1"), "format: '1' is not known"),
        (set_to("format", to=True), "format: true is not known"),
        (without("format"), "format: null is not known"),
        (set_to("expires", to=1), "'expires' is not known here"),
        (without("tree"), "tree is missing"),
        (without("signatures"), "signatures is missing"),
        *((set_to("site", to=site), "site: ") for site in NO_SITES),
        *((set_to("sequence", to=number), "sequence: ") for number in (0, -1, 1 << 53, True, "1", None)),
        (set_to("tree", to="0" * 63), "tree: "),
        (set_to("files", to=[]), "files: a list"),
        *((moved_to(path), "files: ") for path in ("/../a", "a", "/a//b", "/a%2fb", "/.git/a", "/a%00", "/\xe9", "/")),
        (moved_to("/a%20b.css.gz"), "'/a%20b.css.gz' is there twice"),
        (moved_to("/a%20b.css/c"), "is a file, and a directory"),
        (moved_to("/_headers/c"), "is a file, and a directory"),
        (moved_to("/_redirects"), "'/_redirects': is a file of rules"),
        (set_to("files", "/_headers", "type", to="text/plain"), "'/_headers': is a file of rules"),
        (set_to(*INDEX, to=1), "'/index.html': 1 is no object"),
        (set_to(*INDEX, "mode", to=0o644), "'/index.html': 'mode' is not known here"),
        (without(*INDEX, "tags"), "'/index.html': tags is missing"),
        *((set_to(*INDEX, "size", to=size), "'/index.html': size: ") for size in (-1, 1 << 43, True, "3", None)),
        *((set_to(*INDEX, "sha256", to=text), "sha256: ") for text in ("", "0" * 63, "G" * 64, "A" * 64, 1)),
        *((set_to(*INDEX, "etag", to=text), "etag: ") for text in ("0" * 32, '"0"', 'W/"%s"' % ("0" * 32), None)),
        (set_to(*INDEX, "etag", to='"id-%s"' % ("0" * 29)), "etag: "),
        *((set_to(*INDEX, "type", to=text), "type: ") for text in ("", " a/b", "a/b ", "a\r\nb", "\xe9", "x" * 513, 1)),
        (set_to(*INDEX, "encodings", to=[]), "encodings: a list"),
        (set_to(*CSS, "encodings", "deflate", to={}), "etag is missing"),
        (set_to(*CSS, "encodings", "deflate", to=members()["files"]["/a%20b.css"]["encodings"]["br"]), "'deflate'"),
        (set_to(*CSS, "encodings", "br", to=1), "1 is no object"),
        (set_to(*CSS, "encodings", "br", "size", to=-1), "'/a%20b.css': size: -1"),
        (set_to(*CSS, "encodings", "br", "type", to="a/b"), "'type' is not known"),
        (without(*CSS, "encodings", "br", "etag"), "etag is missing"),
        *((set_to(*INDEX, "tags", to=tags), "tags: ") for tags in NO_TAGS),
        (set_to(*INDEX, "tags", to=[f"{n:04}" for n in range(1025)]), "tags: a list"),
        *((set_to(*INDEX, "priority", to=number), "priority: ") for number in (-101, 101, True, "0", None)),
        (set_to("signatures", to={}), "signatures: an object"),
        (set_to("signatures", to=[1]), "1 is no object"),
        (set_to("signatures", to=[{"key": "a" * 31, "ed25519": SIGNATURE.ed25519}]), "key: "),
        (set_to("signatures", to=[{"key": SIGNATURE.key, "ed25519": "A" * 88}]), "ed25519: "),
        (set_to("signatures", to=[{"key": SIGNATURE.key, "rsa": ""}]), "'rsa' is not known"),
        (set_to("signatures", to=[SIGNATURE._asdict()] * 2), "one key signs once"),
        (set_to("signatures", to=[{**SIGNATURE._asdict(), "key": f"{n:032}"} for n in range(17)]), "a list"),
    ],
)  # fmt: skip
def test_what_is_not_well_formed_is_refused_with_its_place(change: Callable[[dict[str, Any]], None], why: str) -> None:
    document = members()
    change(document)
    data = json.dumps(document).encode() if "tree" not in document or "tree:" in why else with_tree(document)
    with pytest.raises(ManifestError) as caught:
        Manifest.parse(data)
    assert why in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "change",
    [
        set_to(*INDEX, "size", to=4),
        set_to(*INDEX, "priority", to=4),
        set_to(*CSS, "encodings", "br", "size", to=2),
        without(*INDEX),
        without(*CSS, "encodings", "br"),
        set_to("tree", to="0" * 64),
    ],
)
def test_files_that_do_not_make_the_tree_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    document = members()
    change(document)
    with pytest.raises(ManifestError, match=r"tree: .* which the files have"):
        Manifest.parse(json.dumps(document).encode())


TEXT = MADE.to_bytes().decode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is no JSON: line 1, column 1"),
        (b"{", "is no JSON: line 1, column "),
        (b"[]", "is no object of JSON"),
        (b"1", "is no object of JSON"),
        (TEXT[:-1].encode(), "is no JSON: line 1, column "),
        ((TEXT + "{}").encode(), "is no JSON: line 1, column "),
        (TEXT.replace("text/html", "text/h\xe9ml").encode(), "type: 'text/h\\xe9ml"),
        (TEXT.encode("utf-16"), "is no JSON: "),
        (b"\xef\xbb\xbf" + TEXT.encode(), "is no JSON: "),
        (TEXT.replace('"sequence":7', '"sequence":7,"sequence":8').encode(), "'sequence' comes twice"),
        (TEXT.replace('"/_headers":', '"/index.html":').encode(), "'/index.html' comes twice"),
        (TEXT.replace('"size":3', '"size":3,"size":3').encode(), "'size' comes twice"),
        (TEXT.replace('"sequence":7', '"sequence":7.0').encode(), "sequence: 7.0 is not accepted"),
        (TEXT.replace('"sequence":7', '"sequence":1e3').encode(), "sequence: 1000.0 is not accepted"),
        (TEXT.replace('"sequence":7', '"sequence":NaN').encode(), "NaN is no number"),
        (TEXT.replace('"sequence":7', '"sequence":-Infinity').encode(), "-Infinity is no number"),
        (TEXT.replace('"sequence":7', '"sequence":' + "9" * 5000).encode(), "a number in it is too long"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"format":' * 1_000_000, "nested too deeply"),
        (TEXT.replace('"sequence":7', '"sequence":' + "[" * 100_000 + "]" * 100_000).encode(), "nested too deeply"),
        (TEXT.replace("/index.html", "/\\ud800").encode(), "is not percent-encoded"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_what_is_no_manifest_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.parse(data)
    assert why in str(caught.value)


def test_a_gigabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "release.json", "wb") as file:
        file.write(b'{"format": 1, "files": {')
        file.truncate(1 << 30)
    began = time.process_time()
    with pytest.raises(ManifestError, match="67,108,865 bytes, and at most 67,108,864"):
        Manifest.read(tmp_path / "release.json")
    assert time.process_time() - began < 5.0  # 0.1 s: 64 MiB are read, and nothing is parsed


def test_what_cannot_be_said_is_not_made() -> None:
    with pytest.raises(ManifestError, match="leaves"):
        release_of({"/../a": b""})
    with pytest.raises(ManifestError, match="site"):
        release_of({}, site="a b")
    with pytest.raises(ManifestError, match="sha256"):
        Manifest.of("www", 1, {"/a": File(0, '","x":"', "", "a/b", {}, (), 0)})


def test_what_could_not_be_read_again_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"/{n}": FILES["/index.html"] for n in range(100)}
    size = len(Manifest.of("w" * 63, (1 << 53) - 1, files).with_signatures(*[SIGNATURE] * 16).to_bytes())
    monkeypatch.setattr(manifest, "MANIFEST_BYTES_MAX", size + 2000)
    assert len(Manifest.of("www", 1, files).files) == 100
    monkeypatch.setattr(manifest, "MANIFEST_BYTES_MAX", size)
    with pytest.raises(ManifestError, match=r"files: 100 files take more than [0-9,]+ bytes"):
        Manifest.of("www", 1, files)


def test_many_files_are_read_in_time() -> None:
    made = Manifest.of("www", 1, {f"/assets/{n % 97}/{n}.html": FILES["/a%20b.css"] for n in range(3_000)})
    data = made.to_bytes()
    began = time.process_time()
    assert Manifest.parse(data).digest == made.digest
    assert time.process_time() - began < 1.0  # 0.06 s


# --- two releases ---------------------------------------------------------------------------------------------


def test_a_difference_is_by_path_and_counts_what_is_to_be_fetched() -> None:
    old = release_of({"/same": b"same", "/gone": b"gone", "/changed": b"old", "/moved": b"moved content"})
    new = release_of({"/same": b"same", "/changed": b"newer", "/new": b"!", "/copy": b"!", "/to": b"moved content"})
    found = diff(old, new)
    assert found.added == ("/copy", "/new", "/to")
    assert found.removed == ("/gone", "/moved")
    assert found.changed == ("/changed",)
    assert [(name, size) for name, size, _ in found.fetched] == [("changed", 5), ("copy", 1)]
    assert found.bytes == 6
    assert not diff(old, old.with_sequence(9))


def test_another_tag_is_a_change_that_fetches_nothing() -> None:
    old = Manifest.of("www", 1, {"/a": file_of(b"x")})
    new = Manifest.of("www", 1, {"/a": file_of(b"x", tags=("t",))})
    assert diff(old, new).changed == ("/a",)
    assert diff(old, new).bytes == 0


def test_a_sibling_is_fetched_alone() -> None:
    old = Manifest.of("www", 1, {"/a": file_of(b"aaaa")})
    new = Manifest.of("www", 1, {"/a": file_of(b"aaaa", encodings={"gzip": b"gz"})})
    assert [(name, size) for name, size, _ in diff(old, new).fetched] == [("a.gz", 2)]
    assert diff(new, old).bytes == 0

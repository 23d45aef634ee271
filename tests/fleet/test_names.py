"""What a release may call its files, and which of them cannot lie together."""

from __future__ import annotations

import os

import pytest

from zcserve.cache.counted_names import DEPTH_MAX
from zcserve.fleet.names import NameRefusedError, base_of, check_path, check_together, file_of, sibling_path

LONG = "n" * 255


@pytest.mark.parametrize(
    "path",
    [
        "/a",
        "/a/b.html",
        "/a%20b.txt",
        "/caf%C3%A9/%E4.svg",
        "/.well-known/acme",
        "/.well-known",
        "/a..b",
        "/a...",
        "/100%25.txt",
        "/_headers",
        "/a/_headers",
        "/~user/(1)+'@:;=,!$&*",
        f"/{LONG}",
        "/d" * DEPTH_MAX + "/f",
        "/%0A%1B%7F",
    ],
)
def test_what_a_walk_finds_is_taken(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "does not begin with a slash"),
        ("a", "does not begin with a slash"),
        ("../a", "does not begin with a slash"),
        ("/..", "leaves"),
        ("/../a", "leaves"),
        ("/a/../../b", "leaves"),
        ("/%2e%2e/a", "leaves"),
        ("/%2E./a", "leaves"),
        ("/a/%2e%2e%2f%2e%2e/b", "leaves"),
        ("/..%2Fa", "leaves"),
        ("//a", "another spelling of /a"),
        ("//etc/passwd", "another spelling"),
        ("/a//b", "another spelling"),
        ("/a/./b", "another spelling"),
        ("/./a", "another spelling"),
        ("/a%2Fb", "another spelling of /a/b"),
        ("/%61", "another spelling of /a"),
        ("/caf%c3%a9", "another spelling"),
        ("/a|b", "another spelling"),
        ("/a\\b", "another spelling"),
        ("/", "is a directory"),
        ("/a/", "is a directory"),
        ("/a/..", "leaves"),
        ("/a/.", "another spelling"),
        ("/a%00b", "NUL"),
        ("/%00", "NUL"),
        ("/a\0b", "bad character"),
        ("/a b", "bad character"),
        ("/a\nb", "bad character"),
        ("/a?b", "bad character"),
        ("/a#b", "bad character"),
        ("/caf\xe9", "not percent-encoded"),
        ("/\ud800", "not percent-encoded"),
        ("/a%", "percent"),
        ("/a%4", "percent"),
        ("/a%zz", "percent"),
        ("/.hidden", "begins with a dot"),
        ("/.part-0123/a", "begins with a dot"),
        ("/a/.git/config", "begins with a dot"),
        ("/a/.well-known/b", "begins with a dot"),
        ("/%2Ehidden", "another spelling"),
        (f"/{LONG}n", "255 bytes"),
        ("/" + "%E4" * 256, "255 bytes"),
        ("/dd" * 90 + f"/{LONG}" * 12, "3072 bytes"),
        ("/d" * (DEPTH_MAX + 1) + "/f", "directories"),
    ],
)  # fmt: skip
def test_what_no_walk_finds_is_refused(path: str, why: str) -> None:
    with pytest.raises(NameRefusedError, match=why):
        check_path(path)


def test_a_path_is_a_name_on_disk_whatever_its_bytes_are() -> None:
    assert file_of("/a/b.html") == "a/b.html"
    assert os.fsencode(file_of("/a%20b/%E4%0A")) == b"a b/\xe4\n"


def test_a_sibling_has_the_ending_of_its_coding() -> None:
    assert [sibling_path("/a.js", coding) for coding in ("br", "zstd", "gzip")] == ["/a.js.br", "/a.js.zst", "/a.js.gz"]
    for path in (f"/{LONG}", "/" + "%E4" * 253):
        with pytest.raises(NameRefusedError, match="no room for the ending of br"):
            sibling_path(path, "br")
    assert sibling_path("/" + "%E4" * 252, "br").endswith("%E4.br")
    assert sibling_path(f"/{LONG}/a", "gzip") == f"/{LONG}/a.gz"


@pytest.mark.parametrize(
    ("codings", "why"),
    [
        ({"/a": ["gzip"], "/a.gz": []}, "'/a.gz' is there twice"),
        ({"/a": [], "/a/b": []}, "'/a' is a file, and a directory"),
        ({"/a/b/c/d": [], "/a/b": []}, "'/a/b' is a file"),
        ({"/a": ["br"], "/a.br/b": []}, "'/a.br' is a file"),
        ({f"/{LONG}": ["br"]}, "no room"),
    ],
)
def test_files_that_cannot_lie_together_are_refused(codings: dict[str, list[str]], why: str) -> None:
    with pytest.raises(NameRefusedError, match=why):
        check_together(codings)


def test_others_lie_together() -> None:
    check_together({"/a": ["gzip", "br"], "/a.zst": [], "/a.b/c": [], "/ab/c": ["gzip"], "/ab/c.gz.br": []})


def test_a_sibling_has_a_base() -> None:
    assert [*map(base_of, (b"a.css.br", b"a.gz", b"a.zst", b"a.css"))] == [b"a.css", b"a", b"a", None]

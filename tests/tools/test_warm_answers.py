"""Answers that are not what the file is, from a server that lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lying import PAGE, RIGHT, lying_server
from tools.warm.comparing import compare
from zcserve import Config, Server


@pytest.mark.parametrize(
    ("answer", "kept", "expected"),
    [
        (RIGHT, True, None),
        (RIGHT, False, None),
        (RIGHT.replace(b"hello", b"HELLO"), True, "the content is not the file's"),
        (RIGHT[:-5], False, "23 bytes of content came of 28"),
        (RIGHT.replace(b"ETag", b"X-Tag"), True, "ETag is missing"),
        (RIGHT.replace(b"Content-Length", b"X-Length") + b"more", False, "Content-Length is missing"),
        (RIGHT.replace(b"28", b"99999999") + bytes(99), True, "Content-Length is 99999999"),
        (RIGHT.replace(b"ETag", b"Content-Encoding: br\r\nETag"), True, "Content-Encoding is br, expected none"),
        (RIGHT.replace(b"200", b"503"), True, "status 503, expected 200"),
        (RIGHT.replace(b"HTTP/1.1", b"nonsense"), True, "no whole answer"),
        (b"", True, "no whole answer: Remote end closed connection without response"),
    ],
)
def test_an_answer_that_is_not_the_file_is_found_out(
    tmp_path: Path, answer: bytes, kept: bool, expected: str | None
) -> None:
    (tmp_path / "a.html").write_bytes(PAGE)
    (tmp_path / "b.html").write_bytes(PAGE)
    with lying_server(answer, kept=kept) as url:
        report = compare(Config(root=tmp_path), url, [], connections=1)
    assert report.right == (expected is None)
    assert [fault.path for fault in report.faults] == ([] if expected is None else ["/a.html", "/b.html"])
    assert all((expected or "") in fault.why for fault in report.faults)


def test_a_tag_made_from_identity_is_accepted_for_what_is_too_large_to_hash(tree: Path) -> None:
    with Server(Config(root=tree, port=0, memory=64 << 10, hash_bytes_max=1000)) as server:
        assert compare(Config(root=tree, hash_bytes_max=1000), server.url, []).right
        report = compare(Config(root=tree), server.url, [])
    assert [(fault.path, fault.why[:8]) for fault in report.faults] == [
        ("/large.bin", "ETag is "),
        ("/style.css", "ETag is "),
    ]

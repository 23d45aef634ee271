"""docs/examples/downloads: large files with names to save them by."""

from __future__ import annotations

import pytest

from tests.support.examples import GetExample, Holds, Row
from zcserve.command import main

LARGE, SMALL = "releases/tool-1.4-linux.tar.gz", "releases/tool-1.4-windows.zip"
SAVED = {"Content-Disposition": "attachment", "Cache-Control": "public, max-age=31536000, immutable"}
MEGABYTE = 1 << 20
NAME = "attachment; filename=\"...\"; filename*=UTF-8''Jahresbericht%202026%20f%C3%BCr%20%C3%96sterreich.pdf"
ROWS = (
    Row("a large file is sent from disk, and saved by its own name", f"/{LARGE}", 200,
        SAVED | {"Content-Type": "application/gzip", "Content-Encoding": None}, f"files/{LARGE}"),
    Row("it is what it is for clients that take gzip, too", f"/{LARGE}", 200, {"Content-Encoding": None},
        f"files/{LARGE}", ("Accept-Encoding: gzip",)),
    Row("it has no name of another's", f"HEAD /{LARGE}", 200,
        {"Content-Length": str(12 * MEGABYTE), "Accept-Ranges": "bytes"}),
    Row("one from memory is saved likewise", f"/{SMALL}", 200, SAVED, f"files/{SMALL}"),
    Row("a download goes on where it was", f"/{LARGE}", 206,
        SAVED | {"Content-Range": f"bytes {12 * MEGABYTE - 5}-{12 * MEGABYTE - 1}/{12 * MEGABYTE}",
        "Content-Length": "5"}, None, (f"Range: bytes={12 * MEGABYTE - 5}-",)),
    Row("one of another file begins anew", f"/{SMALL}", 200, {"Content-Length": str(MEGABYTE)}, None,
        ("Range: bytes=100-", 'If-Range: "other"')),
    Row("what is behind the end is told", f"/{SMALL}", 416, {"Content-Range": f"bytes */{MEGABYTE}"}, None,
        (f"Range: bytes={MEGABYTE}-",)),
    Row("a name for people has letters of any language", "/reports/2026-annual.pdf", 200,
        {"Content-Disposition": NAME, "Content-Type": "application/pdf"}),
    Row("a signature is shown", f"/{LARGE}.sig", 200,
        {"Content-Disposition": None, "Content-Type": "text/plain; charset=utf-8", "Access-Control-Allow-Origin": "*"},
        f"files/{LARGE}.sig"),
    Row("sums are shown, and asked for again", "/SHA256SUMS", 200,
        {"Content-Disposition": None, "Cache-Control": "no-cache"}, "files/SHA256SUMS"),
    Row("the newest release has a link of its own", "/latest/tool-linux.tar.gz", 302,
        {"Location": f"/{LARGE}", "Cache-Control": "no-cache", "Content-Disposition": None}),
    Row("its signature has one, too", "/latest/tool-linux.tar.gz.sig", 302, {"Location": f"/{LARGE}.sig"}),
    Row("a release that is missing is not saved", "/releases/none.zip", 404,
        {"Content-Disposition": None, "Cache-Control": None}),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("downloads"), ROWS)


def test_one_file_is_more_than_memory_has_room_for(example: GetExample, capsys: pytest.CaptureFixture[str]) -> None:
    example("downloads")
    assert main(["check", "--config", "site.toml"]) == 0
    assert "; 1 stay out" in capsys.readouterr().out

"""What the floor (floor.c) answers: ready-made bytes, as long as those that zcserve sends for the same request.

It looks at no request, so each of its requests names its answer by a number in the target. All else of the request is
as other servers get it. It must not know which kinds of requests there are, or how they are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from tools.bench.asking import CODINGS, Request, read_part

DATE = "Thu, 01 Jan 1970 00:00:00 GMT"
TAG = '"00000000000000000000000000000000"'
OWN_WORDS_BYTES = {HTTPStatus.NOT_FOUND: 125, HTTPStatus.MOVED_PERMANENTLY: 141}  # of zcserve's pages


def numbered(request: Request, number: int) -> Request:
    """The request as the floor gets it, for the answer of this number."""
    fields = tuple((name, value.replace("{modified}", DATE).replace("{etag}", TAG)) for name, value in request.headers)
    return replace(request, target=f"/{number:04}", headers=fields)


def answer(request: Request, root: Path) -> bytes:
    """The bytes of the right answer where `root` is served; 404 where what it asks for is not there."""
    status = HTTPStatus(request.status)
    if not request.file:
        content = b"." * OWN_WORDS_BYTES[status]
        fields = ["Location: /folder/"] if status == HTTPStatus.MOVED_PERMANENTLY else []
        return _head(status, [f"Content-Length: {len(content)}", *_type("text/html"), *fields]) + content
    if status == HTTPStatus.NOT_MODIFIED:
        return _head(status, [f"ETag: {TAG}"])
    coding = _coding(request, root)
    path = Path(f"{root}{request.file}{CODINGS[coding]}")
    if not path.exists():  # the site may be missing
        return _head(HTTPStatus.NOT_FOUND, ["Content-Length: 0"])
    content, size, fields = path.read_bytes(), path.stat().st_size, []
    for first, end in request.parts:  # one at most
        content, fields = read_part(path, first, end), [f"Content-Range: bytes {first}-{end - 1}/{size}"]
    fields = [f"Content-Length: {len(content)}", *fields, *_type("text/html"), f"Last-Modified: {DATE}"]
    fields += ["Accept-Ranges: bytes", *([f"Content-Encoding: {coding}"] if coding else []), f"ETag: {TAG}"]
    return _head(status, fields) + (b"" if request.method == "HEAD" else content)


def _coding(request: Request, root: Path) -> str:
    accepted = dict(request.headers).get("Accept-Encoding", "")
    return "br" if "br" in accepted and Path(f"{root}{request.file}.br").exists() else ""


def _type(name: str) -> list[str]:
    return [f"Content-Type: {name}; charset=utf-8", "X-Content-Type-Options: nosniff"]


def _head(status: HTTPStatus, fields: Sequence[str]) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", "Server: zcserve", f"Date: {DATE}", *fields]
    return "\r\n".join([*lines, "\r\n"]).encode()

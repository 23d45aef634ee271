"""Servlets and the site's files: what goes before what, and files as answers; on both engines."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from tests.support.following import Becomes
from tests.support.site import Serve, Site
from tests.support.stage import StageClient, write_servlets
from zcserve import Server

TIMES = 3  # by Python, then by the lane that learned from it, then by the lane again


def without_date(head: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]+", b"", head)


# --- files go before servlets ---------------------------------------------------------------------------------


SHADOW = """
@servlet("/dir/{name}", methods=["GET", "POST"])
def shadow(request, name):
    return f"servlet {name}"
"""


def test_files_go_before_servlets(live: Serve, site: Site, tmp_path: Path) -> None:
    site.write("dir/file", b"a file")
    server = live(site.root, servlets=str(write_servlets(tmp_path, shadow=SHADOW)))
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            assert client.get("/dir/other").body == b"servlet other"
            assert client.get("/dir/file").body == b"a file"
            assert client.get("/dir/file?q").body == b"a file"
            assert client.get("/dir/f%69le").body == b"a file"


def test_a_file_goes_before_a_servlet_that_was_asked_by_another_method(live: Serve, site: Site, tmp_path: Path) -> None:
    site.write("dir/file", b"a file")
    server = live(site.root, servlets=str(write_servlets(tmp_path, shadow=SHADOW)))
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            client.get("/dir/other")  # the lane learns the head's lines
        client.ask("/dir/file", method="POST")
        assert client.read().body == b"servlet file"  # a file cannot be posted to
        assert client.get("/dir/file").body == b"a file"


def test_a_file_that_appears_goes_before_a_servlet_until_it_vanishes(
    live: Serve, site: Site, tmp_path: Path, becomes: Becomes
) -> None:
    site.write("dir/x", b"")
    server = live(site.root, servlets=str(write_servlets(tmp_path, shadow=SHADOW)), watch=True)
    with StageClient(server.port) as client:
        for n in range(2):
            for _ in range(TIMES):
                assert client.get("/dir/new").body == b"servlet new"
            site.write("dir/new", b"a file %d" % n)
            becomes(client, "/dir/new", b"a file %d" % n)
            for _ in range(TIMES):
                assert client.get("/dir/new").body == b"a file %d" % n
            (site.root / "dir/new").unlink()
            becomes(client, "/dir/new", b"servlet new")


# --- send_file ------------------------------------------------------------------------------------------------

SENDS = """
@servlet("/send/{rest:path}", methods=["GET", "POST"])
def send(request, rest):
    return Response(headers={"X-Sent": "yes"}).send_file("/" + rest)

@servlet("/send-async/{rest:path}")
async def send_async(request, rest):
    return Response().send_file("/" + rest)

@servlet("/send-teapot/{rest:path}", thread=True)
def teapot(request, rest):
    return Response(status=418).send_file("/" + rest)
"""


@pytest.fixture
def sends(live: Serve, site: Site, tmp_path: Path) -> Server:
    site.write("file.txt", b"0123456789" * 50)
    site.write("file.txt.gz", b"\x1f\x8bshorter")
    site.write("dir/a b", b"blank")
    site.write("large.bin", bytes(range(256)) * 8000)
    return live(site.root, servlets=str(write_servlets(tmp_path, sends=SENDS)), trust_siblings=True)


def test_a_file_is_sent_with_everything_that_belongs_to_it(sends: Server) -> None:
    with StageClient(sends.port) as client:
        for _ in range(TIMES):
            own, sent = client.get("/file.txt"), client.get("/send/file.txt")
            assert sent.body == own.body == b"0123456789" * 50
            assert sent["X-Sent"] == b"yes"
            assert set(own.fields) - {("date", own["Date"])} <= set(sent.fields)
            assert client.get("/send-async/file.txt").body == own.body
            head = client.get("/send/file.txt", method="HEAD")
            assert without_date(head.head) == without_date(sent.head)

            again = client.get("/send/file.txt", f"If-None-Match: {own['ETag'].decode()}")
            assert (again.status, again.body, again["ETag"], again["X-Sent"]) == (304, b"", own["ETag"], b"yes")
            part = client.get("/send/file.txt", "Range: bytes=3-5")
            assert (part.status, part.body, part["Content-Range"]) == (206, b"345", b"bytes 3-5/500")
            assert client.get("/send/file.txt", "Range: bytes=500-").status == 416
            packed = client.get("/send/file.txt", "Accept-Encoding: gzip")
            assert (packed.body, packed["Content-Encoding"]) == (b"\x1f\x8bshorter", b"gzip")
            assert client.get("/send/file.txt", 'If-Match: "other"').status == 412
            assert client.get("/send/large.bin").body == bytes(range(256)) * 8000
            assert client.get("/send/dir/a%20b").body == b"blank"


def test_a_status_of_its_own_goes_with_the_whole_file(sends: Server) -> None:
    with StageClient(sends.port) as client:
        for _ in range(TIMES):
            for lines in ((), ("Range: bytes=3-5",), ("If-None-Match: *",)):
                response = client.get("/send-teapot/file.txt", *lines)
                assert (response.status, response.body) == (418, b"0123456789" * 50)


def test_a_file_may_answer_a_post(sends: Server) -> None:
    with StageClient(sends.port) as client:
        for _ in range(TIMES):
            client.ask("/send/file.txt", "Range: bytes=0-1", method="POST", body=b"x")
            response = client.read()
            assert (response.status, response.body) == (200, b"0123456789" * 50)


def test_an_answer_to_a_post_has_its_content_though_the_file_cannot_be_loaded(
    live: Serve, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All answers have content but those to HEAD: the next request is answered in step."""
    site.write("file.txt", b"0123456789" * 500)
    server = live(site.root, servlets=str(write_servlets(tmp_path, sends=SENDS)), memory="4K")

    def no_descriptor(*_: object) -> None:
        raise OSError(errno.EMFILE, "no descriptor is left")

    monkeypatch.setattr(server.loader, "load", no_descriptor)
    with StageClient(server.port) as client:
        for method in ("POST", "GET", "HEAD"):
            client.ask("/send/file.txt", method=method)
            response = client.read(method=method)
            assert (response.status, bool(response.body)) == (503, method != "HEAD")
            assert client.get("/send/missing").status == 404


@pytest.mark.parametrize("target", ["/missing", "/dir", "/", "/../file", "/%66ile.txt"])
def test_what_is_no_file_is_not_found(sends: Server, target: str) -> None:
    with StageClient(sends.port) as client:
        for _ in range(TIMES):
            assert client.get("/send" + target.replace("%", "%25")).status == 404
            assert client.get("/send/file.txt").status == 200


def test_a_file_that_changes_is_sent_as_it_is_now(live: Serve, site: Site, tmp_path: Path, becomes: Becomes) -> None:
    site.write("news", b"old")
    server = live(site.root, servlets=str(write_servlets(tmp_path, sends=SENDS)), watch=True)
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            assert client.get("/send/news").body == b"old"
        site.write("news", b"newer")
        becomes(client, "/news", b"newer")
        assert client.get("/send/news").body == b"newer"
        (site.root / "news").unlink()
        becomes(client, "/send/news", None)

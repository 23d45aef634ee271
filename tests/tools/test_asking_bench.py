"""What the benchmark calls a right answer to one request, before it sends that request many times."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from http.client import HTTPMessage
from pathlib import Path

import pytest

from tools.bench.asking import Found, Request, asking
from tools.bench.content import PAGE, make_page
from tools.bench.errors import BenchError
from tools.bench.peers import Server
from tools.bench.steady import ANY_LENGTH, NO_CONTENT, NUMBER, Record


def _found(status: int, body: bytes, **fields: str) -> Found:
    message = HTTPMessage()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return Found(status, body, message)


@pytest.fixture
def page(tmp_path: Path) -> bytes:
    make_page(tmp_path)
    (tmp_path / f"{PAGE[1:]}.br").write_bytes(b"coded")
    return (tmp_path / PAGE[1:]).read_bytes()


def test_a_whole_file_is_answered_with_its_bytes_or_those_of_the_sibling_that_the_coding_names(
    page: bytes, tmp_path: Path
) -> None:
    request = Request()
    assert request.is_answered_by(_found(200, page), tmp_path)
    assert request.is_answered_by(_found(200, b"coded", Content_Encoding="br"), tmp_path)
    assert not request.is_answered_by(_found(200, page, Content_Encoding="br"), tmp_path)
    assert not request.is_answered_by(_found(200, page[:-1]), tmp_path)
    assert not request.is_answered_by(_found(206, page), tmp_path)


def test_a_part_is_answered_with_its_bytes_alone_and_several_parts_are_in_the_answer(
    page: bytes, tmp_path: Path
) -> None:
    one = Request(status=206, parts=((10, 20),))
    assert one.is_answered_by(_found(206, page[10:20]), tmp_path)
    assert not one.is_answered_by(_found(206, page[10:21]), tmp_path)
    two = Request(status=206, parts=((0, 20), (500, 530)))
    several = _found(206, b"--x\r\n" + page[:20] + b"--x\r\n" + page[500:530] + b"--x--")
    assert two.is_answered_by(several, tmp_path)
    assert not two.is_answered_by(_found(206, page[:20]), tmp_path)
    assert two.record(several).length == ANY_LENGTH


@pytest.mark.parametrize(
    ("request_", "right", "wrong"),
    [
        (Request(status=304), _found(304, b""), _found(304, b"x")),
        (Request(method="HEAD"), _found(200, b"", Content_Length="1000"), _found(200, b"", Content_Length="999")),
        (Request("/echo", method="POST", body="{}", file=""), _found(200, b"{}"), _found(200, b"[]")),
        (Request("/absent", status=404, file=""), _found(404, b"gone"), _found(200, b"gone")),
    ],
)
def test_an_answer_without_a_file_in_it_is_judged_by_what_it_has(
    request_: Request, right: Found, wrong: Found, page: bytes, tmp_path: Path
) -> None:
    assert request_.is_answered_by(right, tmp_path)
    assert not request_.is_answered_by(wrong, tmp_path)
    expected = NO_CONTENT if request_.status == 304 or request_.method == "HEAD" else len(right.body)
    assert request_.record(right) == Record(request_.text, request_.status, expected)


class _Handler(http.server.BaseHTTPRequestHandler):
    """It has a tag and no date, and answers with what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sent = f"{self.path} {self.headers['Host']} {self.headers['If-Match']}".encode()
        self.send_response(200)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(sent)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def _serving() -> Iterator[Server]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Server("telling", 0, server.server_port, 0.0)
        server.shutdown()


def test_a_server_is_asked_with_its_own_validators_its_port_and_numbers_in_their_places(tmp_path: Path) -> None:
    request = Request(f"/a?{{run}}{NUMBER}", (("If-Match", "{etag}"),), file="")
    with _serving() as server, asking(server, tmp_path) as client:
        record = client.prove(request)
        assert f"{{run}}{NUMBER}" in record.text.decode()
        assert client.answer(client.fit(request)).body.decode() == (f'/a?0000{"0" * 10} 127.0.0.1:{server.port} "tag"')
        assert len(client.answer(client.fit(request)).body) == record.length


def test_a_validator_that_a_server_does_not_have_and_a_wrong_answer_are_told(page: bytes, tmp_path: Path) -> None:
    with _serving() as server, asking(server, tmp_path) as client:
        with pytest.raises(BenchError, match=r"telling gives /1000\.html no Last-Modified"):
            client.prove(Request(headers=(("If-Modified-Since", "{modified}"),), status=304))
        with pytest.raises(BenchError, match=r"telling answers /1000\.html with 200 with \d+ bytes, not 200 and"):
            client.prove(Request())

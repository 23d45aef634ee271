"""HTTP/1.1 over a real socket: methods, connections, targets, types, and what every response carries.

Its neighbours: test_http_conditions (validators and ranges), test_http_negotiation, test_http_bodies (bodies,
expectations), test_http_refusals.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client, Response
from tests.support.site import Serve, Site
from zcserve import Server
from zcserve.http import parse_date

INDEX, PAGE, SUB = b"<p>the index</p>", b"<p>a page</p>" * 20, b"<p>below</p>"
LARGE = bytes(range(256)) * 1200  # sent by sendfile

FILES = {
    "index.html": INDEX,
    "page.html": PAGE,
    "large.bin": LARGE,
    "empty.txt": b"",
    "dir/index.html": SUB,
    "dir/page.html": PAGE,
    "a b.html": b"a space",
    "\u00e9.html": b"an accent",
    "100%.html": b"a percent sign",
    "a+b&c=d;e.html": b"bytes that stand for themselves",
    "bare/page.html": b"no index here",
    ".hidden": b"a secret",
    "dir/.git/config": b"a secret",
    ".well-known/security.txt": b"Contact: nobody",
    "dir/.well-known/nothing.txt": b"not at the top",
}


@pytest.fixture(scope="module")
def server(lasting_site: Site, serve_lasting: Serve) -> Server:
    for path, content in FILES.items():
        lasting_site.write(path, content)
    started: Server = serve_lasting(lasting_site.root)
    return started


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.port) as connected:
        yield connected


def without_date(response: Response) -> list[tuple[bytes, bytes]]:
    return [field for field in response.fields if field[0] != b"date"]


# --- methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content"),
    [("/", INDEX), ("/page.html", PAGE), ("/large.bin", LARGE), ("/empty.txt", b""), ("/dir/", SUB)],
)
def test_get_answers_with_the_file(client: Client, path: str, content: bytes) -> None:
    response = client.get(path)
    assert (response.status, response.body) == (200, content)
    assert response["Content-Length"] == b"%d" % len(content)


@pytest.mark.parametrize(
    "target",
    ["/", "/page.html", "/large.bin", "/empty.txt", "/dir", "/dir?query", "/absent", "/%zz", "/.hidden"],
)
@pytest.mark.parametrize("lines", [(), ("If-None-Match: *",), ('If-Match: "x"',), ("Accept-Encoding: *;q=0",)])
def test_head_has_exactly_the_fields_of_get_and_no_content(client: Client, target: str, lines: tuple[str, ...]) -> None:
    get = client.get(target, *lines)
    head = client.get(target, *lines, method="HEAD")
    assert head.status == get.status
    assert without_date(head) == without_date(get)
    assert client.get("/page.html").body == PAGE, "nothing followed the head"


def test_head_knows_no_range(client: Client) -> None:
    whole = client.get("/page.html")
    head = client.get("/page.html", "Range: bytes=0-1", method="HEAD")
    assert head.status == 200
    assert without_date(head) == without_date(whole)


@pytest.mark.parametrize("target", ["*", "/", "/page.html", "/dir", "http://test/page.html"])
def test_options_tells_what_is_allowed(client: Client, target: str) -> None:
    response = client.get(target, method="OPTIONS")
    assert (response.status, response.body) == (200, b"")
    assert response["Allow"] == b"GET, HEAD, OPTIONS"
    assert response["Content-Length"] == b"0"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        *((method, "/page.html", 405) for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "QUERY", "LINK")),
        ("POST", "/absent", 405),
        ("DELETE", "*", 405),
        ("CONNECT", "test:443", 405),
        *((method, "/page.html", 501) for method in ("BREW", "get", "Get", "HEADS", "X-1!#$%&'*+.^_`|~")),
        ("OPTIONS", "/absent", 404),
        ("OPTIONS", "/%zz", 400),
    ],
)
def test_other_methods_are_refused_and_the_connection_goes_on(
    client: Client, method: str, target: str, status: int
) -> None:
    response = client.get(target, method=method)
    assert response.status == status
    assert response["Allow"] == (b"GET, HEAD, OPTIONS" if status == 405 else None)
    assert client.get("/page.html").body == PAGE


# --- connections ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "connection", "told", "stays"),
    [
        ("1.1", "", None, True),
        ("1.1", "Connection: keep-alive", None, True),
        ("1.1", "Connection: close", b"close", False),
        ("1.1", "connection:CLOSE", b"close", False),
        ("1.1", "Connection: keep-alive, close", b"close", False),
        ("1.1", "Connection: x\r\nConnection: y ,\tclose", b"close", False),
        ("1.1", "Connection: closed", None, True),
        ("1.0", "", b"close", False),
        ("1.0", "Connection: keep-alive", b"keep-alive", True),
        ("1.0", "Connection: Keep-Alive", b"keep-alive", True),
        ("1.0", "Connection: keep-alive, close", b"close", False),
        ("1.2", "", None, True),
    ],
)
@pytest.mark.parametrize("target", ["/page.html", "/large.bin", "/absent"])
def test_the_connection_is_kept_as_its_version_and_options_say(
    client: Client, version: str, connection: str, told: bytes | None, stays: bool, target: str
) -> None:
    lines = f"GET {target} HTTP/{version}\r\nHost: test\r\n{connection}\r\n".encode()
    client.send(lines + b"\r\n" if connection else lines)
    assert client.read()["Connection"] == told
    if stays:
        assert client.get("/").body == INDEX
    else:
        assert client.at_end()


def test_version_1_0_needs_no_host(client: Client) -> None:
    client.send(b"GET /page.html HTTP/1.0\r\n\r\n")
    assert client.read().body == PAGE


def test_empty_lines_before_a_request_are_passed_over(client: Client) -> None:
    client.send(b"\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert [client.read().body for _ in range(2)] == [INDEX, INDEX]


def request(target: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


PIPELINE = [
    ("/page.html", (), "GET", 200, PAGE),
    ("/large.bin", (), "GET", 200, LARGE),
    ("/absent", (), "GET", 404, None),
    ("/page.html", (), "HEAD", 200, b""),
    ("/dir", (), "GET", 301, None),
    ("/page.html", ("If-None-Match: *",), "GET", 304, b""),
    ("/large.bin", ("Range: bytes=1-3",), "GET", 206, LARGE[1:4]),
    ("*", (), "OPTIONS", 200, b""),
    ("/%zz", (), "GET", 400, None),
    ("/", (), "POST", 405, None),
    ("/", (), "GET", 200, INDEX),
]


@pytest.mark.parametrize("pipeline_max", [1, 3, 64])
def test_pipelined_requests_are_answered_in_order(server: Server, serve: Serve, pipeline_max: int) -> None:
    limited = serve(Path(server.config.directory), pipeline_max=pipeline_max)
    asked = PIPELINE * 5
    with Client(limited.port) as client:
        client.send(b"".join(request(target, *lines, method=method) for target, lines, method, _, _ in asked))
        for target, _, method, status, content in asked:
            response = client.read(method=method)
            assert (target, response.status) == (target, status)
            assert content is None or response.body == content


def test_answers_that_fit_leave_together(client: Client) -> None:
    client.send(request("/page.html") * 10)
    assert client.socket.recv(1 << 16).count(b"HTTP/1.1 200 OK\r\n") == 10


def test_a_pipeline_ends_at_connection_close(client: Client) -> None:
    client.send(request("/") + request("/page.html", "Connection: close") + request("/dir/"))
    assert [client.read().body for _ in range(2)] == [INDEX, PAGE]
    assert client.at_end()


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    for byte in request("/page.html", "Accept-Encoding: gzip"):
        client.send(bytes((byte,)))
    assert client.read().body == PAGE


def test_a_client_that_closes_its_sending_side_gets_what_it_asked_for(client: Client) -> None:
    client.send(request("/page.html", "Connection: close"))
    client.socket.shutdown(1)
    assert client.read().body == PAGE
    assert client.at_end()


# --- targets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "content"),
    [
        ("/page.html?", PAGE),
        ("/page.html?a=b?c&%zz", PAGE),
        ("/%70age%2ehtml", PAGE),
        ("/a%20b.html", b"a space"),
        ("/%C3%A9.html", b"an accent"),
        ("/%c3%a9.html", b"an accent"),
        ("/100%25.html", b"a percent sign"),
        ("/a+b&c=d;e.html", b"bytes that stand for themselves"),
        ("/a%2Bb%26c%3Dd%3Be.html", b"bytes that stand for themselves"),
        ("//page.html", PAGE),
        ("/dir//page.html", PAGE),
        ("/./dir/./page.html", PAGE),
        ("/dir/../page.html", PAGE),
        ("/absent/../page.html", PAGE),
        ("/../../../page.html", PAGE),
        ("/%2e%2E/page.html", PAGE),
        ("/dir%2Fpage.html", PAGE),
        ("/dir/.", SUB),
        ("/dir/..", INDEX),
        ("/dir/index.html", SUB),
        ("http://test/page.html", PAGE),
        ("HTTP://other.example:81/page.html?q", PAGE),
        ("https://[::1]:443/dir/", SUB),
        ("http://test", INDEX),
        ("http://test?q", INDEX),
        ("/.well-known/security.txt", b"Contact: nobody"),
    ],
)
def test_every_spelling_of_a_path_finds_its_file(client: Client, target: str, content: bytes) -> None:
    response = client.get(target)
    assert (response.status, response.body) == (200, content)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/%00", 400),
        ("/page.html%00", 400),
        ("/%", 400),
        ("/page.html%2", 400),
        ("/%zz", 400),
        ("/%ff", 404),
        ("/%c3.html", 404),
        ("/%c0%ae%c0%ae/", 404),
        ("/page.html#top", 400),
        ("/absent", 404),
        ("/page.html/", 404),
        ("/PAGE.HTML", 404),
        ("/%2525.html", 404),
        ("/100%2525.html", 404),
        ("/dir\\page.html", 404),
        ("/bare/", 404),
        ("/bare", 404),
        ("/.hidden", 404),
        ("/%2ehidden", 404),
        ("/dir/.git/config", 404),
        ("/dir/.well-known/nothing.txt", 404),
        ("/..%2f..%2fetc/passwd", 404),
    ],
)
def test_a_target_without_a_file_is_told_so_and_the_connection_goes_on(
    client: Client, target: str, status: int
) -> None:
    response = client.get(target)
    assert response.status == status
    assert response["Connection"] is None
    assert client.get("/page.html").body == PAGE


@pytest.mark.parametrize(
    "target",
    [
        "page.html",
        "*",
        "test:80",
        "ftp://test/page.html",
        "http:///page.html",
        "http://user@test/page.html",
        "http://[::1/page.html",
        "http:/page.html",
    ],
)
def test_what_is_no_target_is_refused_and_ends_the_connection(client: Client, target: str) -> None:
    response = client.get(target)
    assert (response.status, response["Connection"]) == (400, b"close")
    assert client.at_end()


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/dir", b"/dir/"),
        ("/dir?a=b&c", b"/dir/?a=b&c"),
        ("/dir?", b"/dir/?"),
        ("//dir", b"/dir/"),
        ("/absent/../%64ir?%zz", b"/dir/?%zz"),
        ("http://other.example/dir?q", b"/dir/?q"),
        ("//other.example/..//dir", b"/dir/"),
    ],
)
def test_a_directory_without_its_slash_redirects_with_the_query(client: Client, target: str, location: bytes) -> None:
    response = client.get(target)
    assert (response.status, response["Location"]) == (301, location)


def test_the_index_file_is_the_first_of_the_configured_names(site: Site, serve: Serve) -> None:
    site.write("both/b.html", b"b")
    site.write("both/a.html", b"a")
    site.write("one/b.html", b"only b")
    site.write("index.html", b"not asked for")
    with Client(serve(site.root, index=("a.html", "b.html")).port) as client:
        assert client.get("/both/").body == b"a"
        assert client.get("/one/").body == b"only b"
        assert client.get("/").status == 404


def test_absent_and_forbidden_are_one_and_the_same(site: Site, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_bytes(b"a secret")
    (site.root / "link.txt").symlink_to(tmp_path / "outside.txt")
    site.write(".hidden", b"a secret")
    with Client(serve(site.root).port) as client:
        answers = [client.get(target) for target in ("/absent", "/link.txt", "/.hidden")]
    assert {answer.status for answer in answers} == {404}
    assert len({(tuple(without_date(answer)), answer.body) for answer in answers}) == 1


# --- what a response carries ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.html", b"text/html; charset=utf-8"),
        ("a.CSS", b"text/css; charset=utf-8"),
        ("a.js", b"text/javascript; charset=utf-8"),
        ("a.txt", b"text/plain; charset=utf-8"),
        ("a.svg", b"image/svg+xml; charset=utf-8"),
        ("a.json", b"application/json"),
        ("a.png", b"image/png"),
        ("a.woff2", b"font/woff2"),
        ("a.wasm", b"application/wasm"),
        ("a.tar.gz", b"application/gzip"),
        ("a.unheard-of", b"application/octet-stream"),
        ("README", b"application/octet-stream"),
        ("html", b"application/octet-stream"),
    ],
)
def test_the_name_decides_the_type(site: Site, serve: Serve, name: str, content_type: bytes) -> None:
    site.write(name, b"content")
    with Client(serve(site.root).port) as client:
        response = client.get(f"/{name}")
    assert response["Content-Type"] == content_type
    assert response["X-Content-Type-Options"] == b"nosniff"


EVERY_STATUS = [
    (request("/"), 200),
    (request("/large.bin"), 200),
    (request("*", method="OPTIONS"), 200),
    (request("/", "Range: bytes=0-0"), 206),
    (request("/", "Range: bytes=0-0, 5-6"), 206),
    (request("/dir"), 301),
    (request("/", "If-None-Match: *"), 304),
    (b"bad\r\n\r\n", 400),
    (request("/%zz"), 400),
    (request("/absent"), 404),
    (request("/", method="POST"), 405),
    (request("/", "Accept-Encoding: identity;q=0"), 406),
    (request("/", 'If-Match: "x"'), 412),
    (request("/", "Content-Length: 999999999"), 413),
    (request("/" + "x" * 9000), 414),
    (request("/", "Range: bytes=999-"), 416),
    (request("/", "Content-Length: 1", "Expect: a miracle"), 417),
    (request("/", *("X: y" for _ in range(200))), 431),
    (request("/", method="BREW"), 501),
    (b"GET / HTTP/2.0\r\n\r\n", 505),
]


@pytest.mark.parametrize(("sent", "status"), EVERY_STATUS)
def test_every_response_has_a_server_and_the_present_date(client: Client, sent: bytes, status: int) -> None:
    before = int(time.time())
    client.send(sent)
    response = client.read()
    assert response.status == status
    assert response["Server"] == b"zcserve"
    date = parse_date(response["Date"])
    assert date is not None
    assert before - 1 <= date <= time.time()


@pytest.mark.parametrize(("sent", "status"), [case for case in EVERY_STATUS if case[1] == 301 or case[1] >= 400])
def test_error_pages_are_small_and_plain(client: Client, sent: bytes, status: int) -> None:
    client.send(sent)
    response = client.read()
    assert response["Content-Type"] == b"text/html; charset=utf-8"
    assert response["X-Content-Type-Options"] == b"nosniff"
    assert b"%d" % status in response.body
    assert len(response.body) < 400
    assert response["ETag"] is None


def test_a_file_404_html_is_the_page_of_what_is_absent(site: Site, serve: Serve) -> None:
    page = b"<h1>Nothing here</h1>"
    site.write("404.html", page)
    with Client(serve(site.root).port) as client:
        response = client.get("/absent")
        assert (response.status, response.body) == (404, page)
        assert response["Content-Type"] == b"text/html; charset=utf-8"
        assert response["ETag"] is None
        head = client.get("/absent", method="HEAD")
        assert without_date(head) == without_date(response)
        assert client.get("/absent", "If-None-Match: *", "Range: bytes=0-1").status == 404
        assert client.get("/404.html").status == 200


def test_cache_control_is_what_was_configured(site: Site, serve: Serve) -> None:
    site.write("page.html", PAGE)
    site.write("404.html", b"absent")
    with Client(serve(site.root, cache_control="public, max-age=60").port) as client:
        assert client.get("/page.html")["Cache-Control"] == b"public, max-age=60"
        assert client.get("/absent")["Cache-Control"] is None

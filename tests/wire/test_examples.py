"""The examples in servlets/ do what www/servlets/ says of them, served by either engine as a visitor starts them."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import sys
import time
import types
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.client import Client, Response
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server

ROOT = Path(__file__).parents[2]
WWW = ROOT / "www"
EXAMPLES = ROOT / "servlets"
PAGE = (WWW / "servlets" / "index.html").read_text()
LINKS = sorted({unescape(link) for link in re.findall(r'(?:href|src)="(/[^"]*)"', PAGE)})
EXCERPTS = re.findall(r'data-source="([a-z_]+\.py)"><code>(.*?)</code>', PAGE, re.DOTALL)
BOUNDARY = "a-boundary"


@pytest.fixture
def examples(live: Serve) -> Callable[[], Server]:
    """`examples()`: the demo site with its servlets."""
    return lambda: live(WWW, servlets=str(EXAMPLES))


@pytest.fixture(scope="module")
def shown(lasting_live: Serve) -> Server:
    """As `examples()`, for what leaves nothing behind."""
    return lasting_live(WWW, servlets=str(EXAMPLES))


def send(client: Client, method: str, target: str, body: bytes, content_type: str) -> Response:
    """Ask with a body."""
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    )
    client.send(head.encode() + b"\r\n" + body)
    return client.read(method=method)


def answered(server: Server) -> dict[str, int]:
    """The statuses of the page's links, by HEAD: the head of a stream is chunked, which `Client` does not read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    statuses = {}
    for link in LINKS:
        connection.request("HEAD", link)
        with connection.getresponse() as answer:
            statuses[link] = answer.status
    connection.close()
    return statuses


# --- the page -------------------------------------------------------------------------------------------------


def test_every_example_is_on_the_page() -> None:
    assert {name for name, _ in EXCERPTS} == {file.name for file in EXAMPLES.glob("[a-z]*.py")}


@pytest.mark.parametrize(("name", "excerpt"), EXCERPTS, ids=[name for name, _ in EXCERPTS])
def test_the_page_shows_lines_of_the_source(name: str, excerpt: str) -> None:
    source = [line for line in (EXAMPLES / name).read_text().splitlines() if line]
    for part in unescape(excerpt).split("\n\n"):
        lines = part.splitlines()
        at = source.index(lines[0])
        assert source[at : at + len(lines)] == lines


def test_every_link_of_the_page_leads_somewhere(examples: Callable[[], Server]) -> None:
    assert len(LINKS) > 10
    assert answered(examples()) == dict.fromkeys(LINKS, 200)


def test_without_servlets_the_page_is_there_and_its_examples_are_not(live: Serve) -> None:
    assert answered(live(WWW)) == {link: 200 if (WWW / link[1:]).exists() else 404 for link in LINKS}


# --- hello, counter -------------------------------------------------------------------------------------------


def test_hello_says_hello_to_get_alone(examples: Callable[[], Server]) -> None:
    with Client(examples().port) as client:
        assert client.get("/csp?hello").body == b"Hello, world\n"
        refused = client.get("/csp?hello", "Content-Length: 0", method="POST")
        assert (refused.status, refused["Allow"]) == (405, b"GET, HEAD, OPTIONS")


def counted(client: Client) -> int:
    found = re.search(rb"Counted: <b>(\d+)</b>", client.get("/csp?counter").body)
    assert found is not None
    return int(found[1])


def test_the_counter_counts_posts_and_survives_nothing(examples: Callable[[], Server]) -> None:
    with Client(examples().port) as client:
        assert (counted(client), counted(client)) == (0, 0)
        answer = client.get("/csp?counter", "Content-Length: 0", method="POST")
        assert (answer.status, answer["Location"]) == (303, b"/csp?counter")
        assert counted(client) == 1
    with Client(examples().port) as client:
        assert counted(client) == 0


# --- chart ----------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def drawn(client: Client, query: str) -> ElementTree.Element:
    answer = client.get(f"/chart.svg?{query}")
    assert (answer.status, answer["Content-Type"]) == (200, b"image/svg+xml")
    return ElementTree.fromstring(answer.body)


@pytest.mark.parametrize(
    ("numbers", "heights"),
    [
        ("3,1,4", [135, 45, 180]),
        ("1,-1", [90, 90]),
        ("-2", [180]),
        ("0,0", [0, 0]),
        ("1e8,%20.5e8", [180, 90]),
    ],
)
def test_the_chart_has_a_bar_for_each_number(shown: Server, numbers: str, heights: list[float]) -> None:
    with Client(shown.port) as client:
        bars = drawn(client, f"v={numbers}").findall(f"{SVG}rect")
    assert [float(bar.attrib["height"]) for bar in bars] == heights
    assert all(50 <= float(bar.attrib["y"]) <= 230 for bar in bars)


def test_text_from_the_client_is_text_in_the_chart_and_its_page(examples: Callable[[], Server]) -> None:
    title, sent = "\"><script>alert('x')</script>&amp;", "%22><script>alert('x')%00</script>%26amp;"
    with Client(examples().port) as client:
        svg = drawn(client, f"title={sent}")
        assert svg.findtext(f"{SVG}text") == title
        page = client.get(f"/chart?v=1,2&title={sent}").body.decode()
        assert client.get(f"/csp?chart&v=1,2&title={sent}").body.decode() == page
        assert "<script" not in page
        source = re.search(r'<img src="(/chart[^"]*)" width', page)
        assert source is not None
        image = client.get(unescape(source[1])).body
        assert ElementTree.fromstring(image).findtext(f"{SVG}text") == title


@pytest.mark.parametrize("numbers", ["", "a", "1,,2", "nan", "inf", "1,-inf", "1e9", "1," * 16 + "1", "<b>"])
@pytest.mark.parametrize("path", ["/chart", "/chart.svg"])
def test_what_is_no_number_is_refused(shown: Server, path: str, numbers: str) -> None:
    with Client(shown.port) as client:
        answer = client.get(f"{path}?v={numbers}")
    assert answer.status == 400
    assert b"v takes" in answer.body


# --- upload ---------------------------------------------------------------------------------------------------


def upload(client: Client, filename: str, content: bytes) -> Response:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    body = part.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return send(client, "POST", "/csp?upload", body, f"multipart/form-data; boundary={BOUNDARY}")


def test_an_upload_is_weighed_and_hashed(examples: Callable[[], Server]) -> None:
    pytest.importorskip("multipart")
    content = bytes(range(256)) * 1000
    with Client(examples().port) as client:
        assert b'enctype="multipart/form-data"' in client.get("/csp?upload").body
        answer = upload(client, "<i>ä.bin", content)
        assert answer.status == 200
        page = answer.body.decode()
        for said in ("&lt;i&gt;ä.bin", "256000 bytes", hashlib.sha256(content).hexdigest()):
            assert said in page
        assert "<i>" not in page
        assert upload(client, "", b"").status == 400
        assert send(client, "POST", "/csp?upload", b"file=x", "application/x-www-form-urlencoded").status == 400


def test_an_upload_without_the_package_says_how_to_install_it(
    examples: Callable[[], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "multipart", None)
    with Client(examples().port) as client:
        assert client.get("/csp?upload").status == 200
        answer = upload(client, "a", b"content")
    assert answer.status == 501
    assert "pip install 'zcserve[forms]'" in unescape(answer.body.decode())


# --- API ------------------------------------------------------------------------------------------------------


def said(client: Client, method: str, target: str, note: object = None) -> tuple[int, Any]:
    """Ask with JSON; the status, and the JSON of the answer."""
    if note is None:
        answer = client.get(target, method=method)
    else:
        answer = send(client, method, target, json.dumps(note).encode(), "application/json")
    is_json = answer["Content-Type"] == b"application/json"
    return answer.status, json.loads(answer.body) if is_json else None


def test_a_note_is_made_shown_changed_and_removed(examples: Callable[[], Server]) -> None:
    with Client(examples().port) as client:
        assert said(client, "GET", "/api/notes") == (200, [])
        made = send(client, "POST", "/api/notes", b'{"text": "milk"}', "application/json; charset=utf-8")
        assert (made.status, made["Location"]) == (201, b"/api/notes/1")
        assert json.loads(made.body) == {"number": 1, "text": "milk"}
        assert said(client, "GET", "/api/notes/1") == (200, {"number": 1, "text": "milk"})
        assert said(client, "PUT", "/api/notes/1", {"text": "Öl"}) == (200, {"number": 1, "text": "Öl"})
        assert said(client, "POST", "/api/notes", {"text": "tea"}) == (201, {"number": 2, "text": "tea"})
        assert said(client, "GET", "/api/notes") == (200, [{"number": 1, "text": "Öl"}, {"number": 2, "text": "tea"}])
        assert said(client, "DELETE", "/api/notes/1") == (204, None)
        for method, note in [("GET", None), ("DELETE", None), ("PUT", {"text": "x"})]:
            assert said(client, method, "/api/notes/1", note) == (404, None)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"text": 1}', "application/json", 400),
        (b'{"text": ""}', "application/json", 400),
        (b'{"text": "%b"}' % (b"x" * 1001), "application/json", 400),
        (b'{"text": "x"}', "text/plain", 415),
    ],
)
def test_what_is_no_note_is_refused(
    examples: Callable[[], Server], body: bytes, content_type: str, status: int
) -> None:
    with Client(examples().port) as client:
        assert send(client, "POST", "/api/notes", body, content_type).status == status
        assert said(client, "POST", "/api/notes", {"text": "x" * 1000})[0] == 201
        assert send(client, "PUT", "/api/notes/1", body, content_type).status == status
        assert len(said(client, "GET", "/api/notes")[1]) == 1


def test_other_paths_and_methods_are_none_of_the_api(examples: Callable[[], Server]) -> None:
    with Client(examples().port) as client:
        assert said(client, "GET", "/api/notes/")[0] == 404
        assert said(client, "GET", "/api/notes/01")[0] == 404
        refused = client.get("/api/notes", method="DELETE")
        assert (refused.status, refused["Allow"]) == (405, b"GET, HEAD, OPTIONS, POST")


def test_of_more_than_a_hundred_notes_the_oldest_goes(examples: Callable[[], Server]) -> None:
    with Client(examples().port) as client:
        for _ in range(102):
            assert said(client, "POST", "/api/notes", {"text": "x"})[0] == 201
        _, notes = said(client, "GET", "/api/notes")
    assert [note["number"] for note in notes] == list(range(3, 103))


# --- now, stream ----------------------------------------------------------------------------------------------


def test_now_is_called_once_a_second_at_most_and_answered_like_a_file(
    examples: Callable[[], Server], wait_until: WaitUntil
) -> None:
    with Client(examples().port) as client:

        def is_unchanged() -> bool:
            tag = client.get("/csp?now")["ETag"].decode()
            return client.get("/csp?now", f"If-None-Match: {tag}").status == 304

        begun = time.monotonic()
        calls = [int(client.get("/csp?now").body.split()[-1]) for _ in range(50)]
        assert calls == sorted(calls)
        assert calls[-1] <= time.monotonic() - begun + 2
        wait_until(is_unchanged)  # another second may begin between the two


def test_the_stream_sends_an_event_at_a_time_while_others_are_served(examples: Callable[[], Server]) -> None:
    server = examples()
    streaming = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    streaming.request("GET", "/csp?stream&n=2")
    answer = streaming.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (200, "text/event-stream")
    assert answer.getheader("Transfer-Encoding") == "chunked"
    first = b"".join(answer.readline() for _ in range(3))
    assert re.fullmatch(rb"id: 1\ndata: \d\d:\d\d:\d\d\n\n", first)
    with Client(server.port) as client:
        assert client.get("/csp?hello").body == b"Hello, world\n"
    assert re.fullmatch(rb"id: 2\ndata: \d\d:\d\d:\d\d\n\nevent: end\ndata:\n\n", answer.read())
    streaming.close()


@pytest.mark.parametrize("n", ["0", "61", "-1", "", "x", "9" * 5000])
def test_the_stream_is_bounded(shown: Server, n: str) -> None:
    with Client(shown.port) as client:
        assert client.get(f"/csp?stream&n={n}").status == 400


# --- one page for many paths ------------------------------------------------------------------------------------


def test_paths_of_the_application_get_its_page_and_missing_files_do_not(examples: Callable[[], Server]) -> None:
    content = (WWW / "spa" / "index.html").read_bytes()
    with Client(examples().port) as client:
        own = client.get("/spa/")
        assert (own.status, own.body) == (200, content)
        for target in (
            "/spa/notes",
            "/spa/notes/7",
            "/spa/notes/",
            "/spa/v1.2/notes",
            "/spa/notes?q=a.b",
            "/spa/%C3%A4",
        ):
            answer = client.get(target)
            assert (answer.status, answer.body, answer["ETag"]) == (200, content, own["ETag"])
            assert answer["Content-Type"] == own["Content-Type"]
            assert client.get(target, f"If-None-Match: {own['ETag'].decode()}").status == 304
            assert client.get(target, method="HEAD").status == 200
        assert client.get("/spa/route.js").body == (WWW / "spa" / "route.js").read_bytes()
        for target in ("/spa/old.js", "/spa/notes/img.png", "/spa/.hidden", "/spare/notes", "/other"):
            assert client.get(target).status == 404
        refused = client.get("/spa/notes/7", "Content-Length: 0", method="POST")
        assert (refused.status, refused["Allow"]) == (405, b"GET, HEAD, OPTIONS")


@pytest.mark.parametrize("pattern", ["/{rest:path}", "/{first}/{rest:path}", "/api/{rest:path}", "/api/v1/{rest:path}"])
def test_of_a_pattern_and_a_mount_the_longer_path_answers(
    live: Serve, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    module = types.ModuleType("mounted_below_a_pattern")

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["SCRIPT_NAME"].encode()]

    vars(module)["application"] = application
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (tmp_path / "servlets").mkdir()
    parameters = ", ".join(re.findall(r"{(\w+)", pattern))
    (tmp_path / "servlets" / "rest.py").write_text(
        f"from zcserve import servlet\n@servlet({pattern!r})\ndef get(request, {parameters}):\n    return 'servlet'\n"
    )
    mounts = ("/api=mounted_below_a_pattern:application", "/api/v1/deep=mounted_below_a_pattern:application")
    server = live(site.root, servlets=str(tmp_path / "servlets"), mount=mounts)
    mounted = {"/api/x": b"/api", "/api/v1/x": b"/api", "/api/v1/deep/x": b"/api/v1/deep"}
    of_the_servlet = {
        "/{rest:path}": ["/other/x"],
        "/{first}/{rest:path}": ["/other/x", "/api/x", "/api/v1/x"],
        "/api/{rest:path}": ["/api/x", "/api/v1/x"],
        "/api/v1/{rest:path}": ["/api/v1/x"],
    }[pattern]
    with Client(server.port) as client:
        for _ in range(2):  # the fast lane asks, too
            for target, prefix in {"/other/x": b"", **mounted}.items():
                answer = client.get(target)
                if target in of_the_servlet:
                    assert answer.body == b"servlet", target
                else:
                    assert (answer.status, answer.body if prefix else b"") == (200 if prefix else 404, prefix), target

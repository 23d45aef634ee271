"""Servlets over sockets: what is called, with what, and what becomes of the answer; on both engines.

The fast lane answers itself what it knows, from the second request on: so most things are asked for three times.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient, write_servlet, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server

TIMES = 3  # by Python, then by the lane that learned from it, then by the lane again

CALLS = """
def told(request, **params):
    return {
        "method": request.method, "path": request.path, "query": request.query.pairs, "params": params,
        "body": request.body.decode("latin-1"), "client": request.client, "query_string": request.query_string,
    }

def get(request):
    return told(request)

def post(request):
    return told(request)

@servlet("/hello/{name}")
@servlet("/hello/", methods=["PUT", "DELETE"])
def hello(request, name=""):
    return told(request, name=name)

@servlet("/hello/me")
def me(request):
    return "me"

@servlet("/below/{first}/{rest:path}", methods=["GET", "POST"])
def below(request, first, rest):
    return told(request, first=first, rest=rest)

@servlet("/write-only", methods=["POST"])
def write_only(request):
    return b""

@servlet("/threaded", methods=["GET", "POST"], thread=True)
def threaded(request):
    return told(request)

@servlet("/async", methods=["GET", "POST"])
async def asynchronous(request):
    return told(request)

@servlet("/options", methods=["OPTIONS"])
def options(request):
    return "my own"
"""

# name -> expression, status, content type, content; None: chunked with this content
HTML = b"text/html; charset=utf-8"
JSON = b"application/json"
KINDS: dict[str, tuple[str, int, bytes, bytes]] = {
    "bytes": ("b'some bytes'", 200, HTML, b"some bytes"),
    "nothing": ("b''", 200, HTML, b""),
    "text": ("'gr\\u00fcn'", 200, HTML, "grün".encode()),
    "dict": ("{'a': [1, None], 'b': '\\u00fc'}", 200, JSON, '{"a":[1,null],"b":"ü"}'.encode()),
    "list": ("[1, 2]", 200, JSON, b"[1,2]"),
    "response": ("Response('made', 201, {'Location': '/x', 'X-A': 'b'})", 201, HTML, b"made"),
    "typed": ("Response(b'a,b', content_type='text/csv')", 200, b"text/csv", b"a,b"),
    "json-response": ("Response({'error': 'no'}, 422)", 422, JSON, b'{"error":"no"}'),
    "large": ("b'x' * 3_000_000", 200, HTML, b"x" * 3_000_000),
    "denied": ("Response('not you', 403)", 403, HTML, b"not you"),
}
STREAMS: dict[str, tuple[str, int, bytes, list[bytes]]] = {
    "iterator": ("iter([b'one', b'', 'zwei \\u00fc', bytearray(b'three')])", 200, HTML,
                 [b"one", "zwei ü".encode(), b"three"]),
    "generator": ("(str(i) for i in range(20))", 200, HTML, [str(i).encode() for i in range(20)]),
    "empty": ("iter(())", 200, HTML, []),
    "streamed-response": ("Response(iter([b'a,b\\n'] * 3), 203, content_type='text/csv')", 203, b"text/csv",
                          [b"a,b\n"] * 3),
    "async-generator": ("spell()", 200, HTML, [b"a", b"b", b"c"]),
    "wide": ("(b'w' * 100_000 for _ in range(30))", 200, HTML, [b"w" * 100_000] * 30),
}  # fmt: skip
WHERES = ("loop", "thread", "async")

MADE = (
    """
async def spell():
    for letter in "abc":
        await asyncio.sleep(0)
        yield letter

MAKE = {
"""
    + "".join(f"    {name!r}: lambda: {kind[0]},\n" for name, kind in {**KINDS, **STREAMS}.items())
    + """}

@servlet("/loop/{kind}")
def in_loop(request, kind):
    return MAKE[kind]()

@servlet("/thread/{kind}", thread=True)
def in_thread(request, kind):
    return MAKE[kind]()

@servlet("/async/{kind}")
async def in_task(request, kind):
    await asyncio.sleep(0)
    return MAKE[kind]()
"""
)


@pytest.fixture(scope="module")
def calls(lasting_live: Serve, lasting_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return lasting_live(lasting_site.root, servlets=str(write_servlets(tmp_path_factory.mktemp("calls"), calls=CALLS)))


@pytest.fixture(scope="module")
def makes(lasting_live: Serve, lasting_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return lasting_live(lasting_site.root, servlets=str(write_servlets(tmp_path_factory.mktemp("makes"), made=MADE)))


def without_date(head: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]+", b"", head)


# --- what is called -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/csp?calls", {"path": "/csp", "query": [], "query_string": ""}),
        ("/csp?calls&", {"query": [], "query_string": ""}),
        ("/csp?calls&k=v&k=w&e=&x=%C3%BC+%2B", {"query": [["k", "v"], ["k", "w"], ["e", ""], ["x", "ü +"]]}),
        ("/csp?%63alls&k=v", {"query": [["k", "v"]]}),
        ("/%63sp?calls&k=v", {"query": [["k", "v"]]}),
        ("http://test/csp?calls&k=v", {"query": [["k", "v"]]}),
        ("/hello/you", {"path": "/hello/you", "params": {"name": "you"}, "query": []}),
        ("/hello/you?a=b&a", {"params": {"name": "you"}, "query": [["a", "b"], ["a", ""]], "query_string": "a=b&a"}),
        ("/hello/%C3%BCs", {"params": {"name": "üs"}}),
        ("/hello/a%20b", {"path": "/hello/a b", "params": {"name": "a b"}}),
        ("//hello/./x/../you", {"params": {"name": "you"}}),
        ("/below/a/b/c", {"params": {"first": "a", "rest": "b/c"}}),
        ("/below/a/b%2Fc", {"params": {"first": "a", "rest": "b/c"}}),  # a separator, as for files
        ("/below/a/b/", {"params": {"first": "a", "rest": "b/"}}),
        ("/threaded?x=1", {"path": "/threaded", "query": [["x", "1"]]}),
        ("/async?x=1", {"path": "/async", "query": [["x", "1"]]}),
    ],
)
def test_a_target_leads_to_a_function_with_its_parameters(calls: Server, target: str, expected: dict[str, Any]) -> None:
    with StageClient(calls.port) as client:
        for _ in range(TIMES):
            response = client.get(target)
            assert (response.status, response["Content-Type"]) == (200, JSON)
            said = json.loads(response.body)
            assert {name: said[name] for name in expected} == expected
            assert (said["method"], said["client"], said["body"]) == ("GET", "127.0.0.1", "")


def test_a_literal_goes_before_a_parameter(calls: Server) -> None:
    with StageClient(calls.port) as client:
        assert client.get("/hello/me").body == b"me"
        assert client.get("/hello/mee").body != b"me"


@pytest.mark.parametrize(
    "target",
    ["/csp", "/csp?", "/csp?nobody", "/csp?calls=1", "/csp?&calls", "/csp/?calls", "/csp?Calls", "/csp?_shared",
     "/hello", "/hello/a/b", "/below/a", "/below/a/", "/servlets/calls.py", "/csp?..%2Fcalls"],
)  # fmt: skip
def test_what_leads_nowhere_is_not_found(calls: Server, target: str) -> None:
    with StageClient(calls.port) as client:
        for _ in range(TIMES):
            assert client.get(target).status == 404


@pytest.mark.parametrize(
    ("target", "allow"),
    [
        ("/csp?calls", b"GET, HEAD, OPTIONS, POST"),
        ("/hello/", b"DELETE, OPTIONS, PUT"),
        ("/hello/you", b"GET, HEAD, OPTIONS"),
        ("/write-only", b"OPTIONS, POST"),
        ("/threaded", b"GET, HEAD, OPTIONS, POST"),
    ],
)
def test_other_methods_are_told_which_there_are(calls: Server, target: str, allow: bytes) -> None:
    with StageClient(calls.port) as client:
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - set(allow.decode().split(", ")):
            client.ask(target, method=method)
            response = client.read(method=method)
            assert (response.status, response["Allow"]) == (405, allow), method
        response = client.get(target, method="OPTIONS")
        assert (response.status, response["Allow"], response.body) == (200, allow, b"")
        assert response["Content-Length"] == b"0"


def test_a_servlet_may_answer_options_itself(calls: Server) -> None:
    with StageClient(calls.port) as client:
        assert client.get("/options", method="OPTIONS").body == b"my own"
        assert client.get("/options")["Allow"] == b"OPTIONS"


def test_the_servers_options_are_not_a_servlets(calls: Server) -> None:
    with StageClient(calls.port) as client:
        assert client.get("*", method="OPTIONS").status == 200
        assert client.get("/hello/you", method="TRACE").status == 405


# --- what is answered -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_complete_content_is_counted(makes: Server, kind: str) -> None:
    _, status, content_type, content = KINDS[kind]
    with StageClient(makes.port) as client:
        for where in WHERES:
            heads = []
            for method in ("GET", "HEAD") * TIMES:
                response = client.get(f"/{where}/{kind}", method=method)
                assert (response.status, response["Content-Type"]) == (status, content_type)
                assert response["Content-Length"] == b"%d" % len(content)
                assert response["X-Content-Type-Options"] == b"nosniff"
                assert response["Date"]
                assert response["Connection"] is None
                assert response.body == (content if method == "GET" else b"")
                heads.append(without_date(response.head))
            assert set(heads) == {heads[0]}  # HEAD has the same fields, and the lane says it as Python does
        assert client.get("/loop/response")["Location"] == b"/x"


@pytest.mark.parametrize("kind", STREAMS)
def test_iterators_are_sent_in_chunks(makes: Server, kind: str) -> None:
    _, status, content_type, pieces = STREAMS[kind]
    with StageClient(makes.port) as client:
        for where in WHERES:
            heads = []
            for method in ("GET", "HEAD") * TIMES:
                response = client.get(f"/{where}/{kind}", method=method)
                assert (response.status, response["Content-Type"]) == (status, content_type)
                assert response["Transfer-Encoding"] == b"chunked"
                assert response.body == (b"".join(pieces) if method == "GET" else b"")
                heads.append(without_date(response.head))
            assert set(heads) == {heads[0]}
            client.ask(f"/{where}/{kind}")
            client.read_head()
            assert list(iter(client.read_chunk, b"")) == pieces  # a piece is a chunk


@pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",)])
def test_in_http_1_0_the_end_of_a_stream_is_the_connections(makes: Server, lines: tuple[str, ...]) -> None:
    for kind, (_, status, _, pieces) in STREAMS.items():
        for where in WHERES:
            with StageClient(makes.port) as client:
                client.ask(f"/{where}/{kind}", *lines, version="1.0")
                response = client.read()
                assert (response.status, response.body) == (status, b"".join(pieces))
                assert (response["Transfer-Encoding"], response["Content-Length"]) == (None, None)
                assert response["Connection"] == b"close"


def test_in_http_1_0_counted_content_may_keep_the_connection(makes: Server) -> None:
    with StageClient(makes.port) as client:
        for where in WHERES * TIMES:
            client.ask(f"/{where}/bytes", "Connection: keep-alive", version="1.0")
            response = client.read()
            assert (response.body, response["Connection"]) == (b"some bytes", b"keep-alive")
        client.ask("/loop/bytes", version="1.0")
        assert client.read()["Connection"] == b"close"
        assert client.at_end()


@pytest.mark.parametrize("kind", ["bytes", "dict", "iterator", "async-generator"])
def test_a_connection_ends_when_the_client_asks_for_it(makes: Server, kind: str) -> None:
    content = KINDS[kind][3] if kind in KINDS else b"".join(STREAMS[kind][3])
    for where in WHERES * 2:
        with StageClient(makes.port) as client:
            assert client.get(f"/{where}/{kind}").body == content
            response = client.get(f"/{where}/{kind}", "Connection: close")
            assert (response.body, response["Connection"]) == (content, b"close")
            assert client.at_end()


@pytest.mark.parametrize("status", [204, 205, 304])
def test_some_statuses_have_no_content(live: Serve, site: Site, tmp_path: Path, status: int) -> None:
    source = f"""
def get(request):
    return Response(b"dropped", {status}, {{"X-A": "b", "ETag": '"t"'}})
"""
    server = live(site.root, servlets=str(write_servlets(tmp_path, empty=source)))
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            response = client.get("/csp?empty")
            assert (response.status, response["X-A"], response["Content-Type"]) == (status, b"b", None)
            # What a 304 says of the length is what the 200 would have (RFC 9110 section 8.6), and nobody knows that.
            assert response["Content-Length"] == (b"0" if status == 205 else None)
            assert response.body == b""


def test_fields_of_one_name_and_cookies_stay_apart(live: Serve, site: Site, tmp_path: Path) -> None:
    source = """
def get(request):
    response = Response("ok", headers=[("X-Many", "1"), ("X-Many", "2")])
    response.set_cookie("a", "1", max_age=5)
    response.set_cookie("b", "2", path="/x", httponly=False, samesite=None)
    return response
"""
    server = live(site.root, servlets=str(write_servlets(tmp_path, many=source)))
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            response = client.get("/csp?many")
            assert response.all("X-Many") == [b"1", b"2"]
            assert response.all("Set-Cookie") == [b"a=1; Max-Age=5; Path=/; HttpOnly; SameSite=Lax", b"b=2; Path=/x"]


# --- order ----------------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_their_requests(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    source = """
from tests.support.stage import wait_for

@servlet("/quick/{n}")
def quick(request, n):
    return n

@servlet("/slow", thread=True)
def slow(request):
    JOURNAL.append("slow")
    wait_for("go")
    return "slow"

@servlet("/later")
async def later(request):
    JOURNAL.append("later")
    await asyncio.sleep(0)
    return "later"

@servlet("/stream")
def stream(request):
    JOURNAL.append("stream")
    yield "str"
    yield "eam"
"""
    site.write("page", b"page")
    server = live(site.root, servlets=str(write_servlets(tmp_path, order=source)))
    targets = ["/quick/1", "/page", "/quick/2", "/slow", "/page", "/stream", "/quick/3", "/page", "/later", "/quick/4"]
    bodies = [b"1", b"page", b"2", b"slow", b"page", b"stream", b"3", b"page", b"later", b"4"]
    with StageClient(server.port) as client:
        for _ in range(TIMES):
            EVENTS["go"].clear()
            JOURNAL.clear()
            client.send(b"".join(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target.encode() for target in targets))
            assert [client.read().body for _ in range(3)] == bodies[:3]
            wait_until(lambda: JOURNAL == ["slow"])
            with StageClient(server.port) as other:
                assert [other.get(target).body for target in ("/quick/9", "/page")] == [b"9", b"page"]
            assert JOURNAL == ["slow"]  # what is behind it has not begun
            EVENTS["go"].set()
            assert [client.read().body for _ in range(7)] == bodies[3:]


def test_a_pipeline_is_answered_however_it_is_cut(calls: Server) -> None:
    requests = [
        b"GET /csp?calls&n=1 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"POST /csp?calls HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /threaded HTTP/1.1\r\nHost: test\r\n\r\n",
        b"POST /async HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nde\r\n1;x=y\r\nf\r\n0\r\nT: t\r\n\r\n",
        b"HEAD /hello/me HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /csp?calls&n=2 HTTP/1.1\r\nHost: test\r\n\r\n",
    ]
    methods = [request.split(b" ", 1)[0].decode() for request in requests]
    stream = b"".join(requests)
    with StageClient(calls.port) as client:
        for step in (1, 7, 50, 200, len(stream)):
            for at in range(0, len(stream), step):
                client.send(stream[at : at + step])
            answers = [client.read(method=method) for method in methods]
            assert [answer.status for answer in answers] == [200] * len(requests)
            said = [json.loads(answer.body) if answer.body else None for answer in answers]
            assert [each and each["body"] for each in said] == ["", "abc", "", "def", None, ""]
            assert said[0] is not None
            assert said[5] is not None
            assert (said[0]["query"], said[5]["query"]) == ([["n", "1"]], [["n", "2"]])


# --- around it ------------------------------------------------------------------------------------------------


def test_each_answer_is_logged_once_with_its_status_and_size(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    log = tmp_path / "access.log"
    site.write("page", b"page")
    folder = write_servlets(tmp_path, made=MADE)
    sends = 'def get(request):\n    return Response().send_file("/page")\n'
    write_servlet(folder, "sends", sends)
    server = live(site.root, servlets=str(folder), access_log=str(log))
    asked = [("GET", f"/{where}/{kind}") for where in WHERES for kind in ("bytes", "response", "generator", "empty")]
    asked += [("HEAD", "/loop/bytes"), ("HEAD", "/thread/generator"), ("POST", "/loop/bytes"), ("GET", "/csp?sends")]
    expected = []
    with StageClient(server.port) as client:
        for method, target in asked * TIMES:
            client.ask(target, "User-Agent: t", method=method)
            response = client.read(method=method)
            expected.append(f'"{method} {target} HTTP/1.1" {response.status} {len(response.body)} "-" "t"')
    wait_until(lambda: log.read_text().count("\n") >= len(expected))
    lines = log.read_text().splitlines()
    assert sorted(line.partition("] ")[2] for line in lines) == sorted(expected)
    assert {line.split(" ")[0] for line in lines} == {"127.0.0.1"}


def test_over_a_unix_socket_the_client_has_no_address(live: Serve, site: Site, tmp_path: Path) -> None:
    folder = write_servlets(tmp_path, calls=CALLS)
    with tempfile.TemporaryDirectory() as short:  # tmp_path may be longer than such a path may be
        path = f"{short}/socket"
        live(site.root, servlets=str(folder), listen=(f"unix:{path}",))
        with StageClient(path) as client:
            for target in ("/csp?calls", "/threaded", "/async") * TIMES:
                assert json.loads(client.get(target).body)["client"] == "unix:"


DRAINED = """
from tests.support.stage import wait_for

@servlet("/slow", thread=True)
def slow(request):
    JOURNAL.append("begun")
    wait_for("go")
    return "slow"

@servlet("/stream", thread=True)
def stream(request):
    yield "begun"
    wait_for("go")
    yield ", ended"

@servlet("/async")
async def asynchronous(request):
    JOURNAL.append("begun")
    while not EVENTS["go"].is_set():
        await asyncio.sleep(0.001)
    return "async"
"""


def test_a_server_that_stops_lets_answers_finish(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, drained=DRAINED)))
    with StageClient(server.port) as slow, StageClient(server.port) as stream, StageClient(server.port) as task:
        slow.ask("/slow")
        task.ask("/async")
        stream.ask("/stream")
        head = stream.read_head()
        assert stream.read_chunk() == b"begun"
        assert b"Connection: close" not in head
        wait_until(lambda: len(JOURNAL) == 2)
        server.loop.call_soon(server.stop)
        wait_until(lambda: server.service.ending)
        EVENTS["go"].set()
        for client, body in ((slow, b"slow"), (task, b"async")):
            response = client.read()
            assert (response.body, response["Connection"]) == (body, b"close")
            assert client.at_end()
        assert list(iter(stream.read_chunk, b"")) == [b", ended"]
        assert stream.at_end()
    wait_until(lambda: not server.is_serving)

"""Bodies of requests that servlets read, and what is answered when a servlet fails; on both engines."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from tests.support.site import Serve, Site
from tests.support.stage import StageClient, write_servlets
from zcserve import Server

LIMIT = 5000

BODIES = """
def post(request):
    return {"size": len(request.body), "body": request.body.decode("latin-1")[:20], "form": request.form.pairs}

def put(request):
    return request.json()

def get(request):
    return {"size": len(request.body), "body": request.body.decode("latin-1")[:20]}

@servlet("/thread", methods=["POST"], thread=True)
def thread(request):
    return {"size": len(request.body), "body": request.body.decode("latin-1")[:20]}

@servlet("/async", methods=["POST"])
async def asynchronous(request):
    return {"size": len(request.body), "body": request.body.decode("latin-1")[:20]}
"""
TARGETS = ("/csp?bodies", "/thread", "/async")


@pytest.fixture(scope="module")
def bodies(lasting_live: Serve, lasting_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = write_servlets(tmp_path_factory.mktemp("bodies"), bodies=BODIES)
    return lasting_live(lasting_site.root, servlets=str(folder), servlet_body_bytes_max=LIMIT)


def chunked(body: bytes, step: int) -> bytes:
    chunks = [body[at : at + step] for at in range(0, len(body), step)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: t\r\n\r\n"


# --- bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [0, 1, 19, LIMIT - 1, LIMIT])
def test_a_body_arrives_whole(bodies: Server, target: str, size: int) -> None:
    body = (b"0123456789\0\xff\r\n" * size)[:size]
    expected = {"size": size, "body": body[:20].decode("latin-1")}
    with StageClient(bodies.port) as client:
        for method in ("POST", "GET") if target == "/csp?bodies" else ("POST",):
            head = f"{method} {target} HTTP/1.1\r\nHost: test\r\n".encode()
            counted = head + b"Content-Length: %d\r\n\r\n" % size + body
            in_chunks = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 700)
            client.send(counted + in_chunks + counted)
            for _ in range(3):
                response = client.read()
                assert response.status == 200
                assert json.loads(response.body).items() >= expected.items()


@pytest.mark.parametrize("framing", ["counted", "chunked"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_body_may_come_in_pieces(bodies: Server, target: str, framing: str) -> None:
    head = f"POST {target} HTTP/1.1\r\nHost: test\r\n".encode()
    if framing == "counted":
        request = head + b"Content-Length: 10\r\n\r\n0123456789"
    else:
        request = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"0123456789", 4)
    with StageClient(bodies.port) as client:
        for at in range(len(request)):
            client.send(request[at : at + 1])
        assert json.loads(client.read().body)["body"] == "0123456789"
        for at in range(1, len(request), 5):
            client.send(request[:at])
            client.send(request[at:])
            assert json.loads(client.read().body)["body"] == "0123456789"


def test_without_a_body_there_is_an_empty_one(bodies: Server) -> None:
    with StageClient(bodies.port) as client:
        for target in TARGETS:
            response = client.get(target, method="POST")
            assert json.loads(response.body)["size"] == 0


def test_a_body_that_is_waited_for_is_asked_for(bodies: Server) -> None:
    with StageClient(bodies.port) as client:
        for target in TARGETS * 2:
            head = f"POST {target} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            client.send(head.encode())
            assert client.read().status == 100
            client.send(b"abc")
            assert json.loads(client.read().body)["body"] == "abc"


def test_a_body_that_comes_unasked_is_not_asked_for(bodies: Server) -> None:
    with StageClient(bodies.port) as client:
        client.send(b"POST /async HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        assert client.read().status == 200


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "request_of",
    [
        b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 5001\r\n\r\n",
        b"POST %b HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5001\r\n\r\n",
        b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 999999999999\r\n\r\n",
        b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 5001\r\n\r\n" + b"x" * 5001,
        b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1389\r\n",
        b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * 5001, 100),
    ],
    ids=["length", "expected", "huge", "sent", "one chunk", "many chunks"],
)
def test_a_body_beyond_the_limit_is_refused(bodies: Server, target: str, request_of: bytes) -> None:
    with StageClient(bodies.port) as client:
        client.send(request_of.replace(b"%b", target.encode()))
        response = client.read()
        assert (response.status, response["Connection"]) == (413, b"close")
        assert client.read_to_end() == b""


def test_a_malformed_chunk_never_reaches_a_servlet(bodies: Server) -> None:
    with StageClient(bodies.port) as client:
        head = b"POST /csp?bodies HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"3\r\nabcd\r\n0\r\n\r\n")
        response = client.read()
        assert (response.status, response["Connection"]) == (400, b"close")


def test_a_client_that_leaves_within_a_body_calls_nobody(bodies: Server) -> None:
    with StageClient(bodies.port) as client:
        client.send(b"POST /csp?bodies HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n012")
    with StageClient(bodies.port) as client:
        assert client.get("/csp?bodies").status == 200


def test_forms_and_json_are_read(bodies: Server) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    with StageClient(bodies.port) as client:
        client.ask("/csp?bodies", form, method="POST", body=b"a=1&a=%C3%BC+&b=")
        assert json.loads(client.read().body)["form"] == [["a", "1"], ["a", "ü "], ["b", ""]]
        client.ask("/csp?bodies", form, method="POST", body=b"a&" * 1500)
        assert client.read().status == 413
        for body, status in ((b'{"a": [1]}', 200), (b"{a}", 400), (b"\xff", 400), (b"", 400), (b"[" * 4000, 400)):
            client.ask("/csp?bodies", method="PUT", body=body)
            response = client.read()
            assert response.status == status, body
            assert response["Connection"] is None


# --- failures -------------------------------------------------------------------------------------------------

# expression -> status, and what the log names
FAILURES: dict[str, tuple[str, int, str]] = {
    "an exception": ("fail(ValueError('the <reason>'))", 500, "ValueError: the <reason>"),
    "a mistake": ("nowhere", 500, "NameError"),
    "an exit": ("sys.exit(3)", 500, "SystemExit: 3"),
    "an interrupt": ("fail(KeyboardInterrupt())", 500, "KeyboardInterrupt"),
    "an end of what": ("fail(StopIteration())", 500, "StopIteration"),
    "a cancellation": ("fail(asyncio.CancelledError())", 500, "CancelledError"),
    "a recursion": ("again()", 500, "RecursionError"),
    "none": ("None", 500, "TypeError: a servlet returned NoneType"),
    "a number": ("5", 500, "TypeError: a servlet returned int"),
    "a tuple": ("('body', 200)", 500, "TypeError: a servlet returned tuple"),
    "no json": ("{'a': {1}}", 500, "TypeError"),
    "infinity": ("[float('inf')]", 500, "ValueError"),
    "a status": ("Response(b'', 100)", 500, "ValueError: 100 is no status"),
    "a line end": ("Response(b'', headers={'X-A': 'b\\r\\nSet-Cookie: c=d'})", 500, "ValueError: the value of X-A"),
    "a split": ("Response(b'', headers={'X-A': 'b\\r\\n\\r\\n<html>'})", 500, "ValueError: the value of X-A"),
    "a name": ("Response(b'', headers={'X-A: b\\r\\nX-B': 'c'})", 500, "ValueError: "),
    "a cookie": ("Response(b'').set_cookie('a', 'b\\r\\nX: y')", 500, "ValueError: the value of the cookie a"),
    "framing": ("Response(b'abc', headers={'Content-Length': '1'})", 500, "Content-Length is not for a servlet"),
    "a first piece": ("(fail(ValueError('early')) for _ in range(3))", 500, "ValueError: early"),
    "a wrong first piece": ("iter([5])", 500, "TypeError: a piece of content must be bytes or str, not int"),
    "not found": ("fail(HttpError(404, 'no <such> thing'))", 404, ""),
    "unavailable": ("fail(HttpError(503, 'come back'))", 503, "come back"),
}

FAILING = (
    """
def fail(error):
    raise error

def again():
    return again()

MAKE = {
"""
    + "".join(f"    {name!r}: lambda: {failure[0]},\n" for name, failure in FAILURES.items())
    + """}

def get(request):
    return MAKE[request.query["what"]]()

@servlet("/thread", thread=True)
def in_thread(request):
    return MAKE[request.query["what"]]()

@servlet("/async")
async def in_task(request):
    await asyncio.sleep(0)
    return MAKE[request.query["what"]]()

@servlet("/fine")
def fine(request):
    return b"fine"

@servlet("/fine-thread", thread=True)
def fine_thread(request):
    return b"fine"

@servlet("/fine-async")
async def fine_async(request):
    return b"fine"
"""
)
PLACES = {"/csp?failing": "/fine", "/thread": "/fine-thread", "/async": "/fine-async"}


@pytest.fixture(scope="module")
def failing(lasting_live: Serve, lasting_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A long traceback is long to write."""
    folder = write_servlets(tmp_path_factory.mktemp("failing"), failing=FAILING)
    return lasting_live(lasting_site.root, servlets=str(folder), servlet_slow_s=60.0)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_is_an_answer_and_the_log_repeats_its_id(
    failing: Server, caplog: pytest.LogCaptureFixture, what: str, place: str
) -> None:
    server = failing
    _, status, told = FAILURES[what]
    target = f"{place}{'&' if '?' in place else '?'}what={what.replace(' ', '+')}"
    with StageClient(server.port) as client, StageClient(server.port) as other:
        for _ in range(3):
            caplog.clear()
            response = client.get(target)
            assert (response.status, response["Connection"]) == (status, None)
            assert response["Content-Type"] == b"text/html; charset=utf-8"
            errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
            if status == 500:
                number = re.search(rb"error ([0-9a-f]{8})", response.body)
                assert number is not None
                assert len(errors) == 1
                assert number[1].decode() in errors[0].getMessage()
                assert target in errors[0].getMessage()
                assert "servlets/failing.py:" in errors[0].getMessage()
                assert b"Traceback" not in response.body
                assert b"failing.py" not in response.body
            elif status == 404:
                assert b"no &lt;such&gt; thing" in response.body
            assert told in caplog.text
            assert response.all("Set-Cookie") == []
            head = client.get(target, method="HEAD")
            assert (head.status, head.body) == (status, b"")
            assert client.get(PLACES[place]).body == b"fine"
            assert other.get(PLACES[place]).body == b"fine"


@pytest.mark.parametrize("place", PLACES)
def test_in_development_the_page_shows_the_traceback(live: Serve, site: Site, tmp_path: Path, place: str) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, failing=FAILING)), dev=True)
    with StageClient(server.port) as client:
        for _ in range(3):
            response = client.get(f"{place}{'&' if '?' in place else '?'}what=an+exception")
            assert response.status == 500
            assert b"ValueError: the &lt;reason&gt;" in response.body
            assert b"servlets/failing.py" in response.body
            assert b"raise error" in response.body


@pytest.mark.parametrize("dev", [False, True])
def test_a_form_that_cannot_be_read_is_the_clients_fault(
    live: Serve, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, dev: bool
) -> None:
    pytest.importorskip("multipart")
    server = live(site.root, servlets=str(write_servlets(tmp_path, bodies=BODIES)), dev=dev)
    with StageClient(server.port) as client:
        client.ask("/csp?bodies", "Content-Type: multipart/form-data; boundary=b", method="POST", body=b"nonsense")
        assert client.read().status == 400
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

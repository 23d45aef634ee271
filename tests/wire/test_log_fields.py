"""What --access-log-fields has stand behind the lines of the access log, on each engine: host, request id, duration."""

from __future__ import annotations

import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server

Start = Callable[..., Server]
Facts = dict[str, Any]

SERVLET = """
from zcserve import Response, servlet

def get(request):
    return request.headers.get("X-Request-Id", "none")

def post(request):
    return request.headers.get("X-Request-Id", "none")

@servlet("/odd")
def odd(request):  # no bytes: the lane hands over what was made of it
    return Response(request.headers.get("X-Request-Id", "none"), status=201)

@servlet("/late", thread=True)
def late(request):
    import time
    time.sleep(0.05)
    return request.headers.get("X-Request-Id", "none")
"""
COMBINED = re.compile(
    r'\S+ - - \[[^]]+\] "(?P<method>\S+) (?P<target>\S+) HTTP/1\.[01]" (?P<status>\d+) (?P<bytes>\d+) "[^"]*" "[^"]*"'
    r'( "(?P<host>[^"]*)")?( "(?P<request_id>[^"]*)")?( (?P<duration>\d+\.\d{6}))?'
)
OWN_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")


def facts_of(line: str) -> Facts:
    """A line of either format."""
    if line.startswith("{"):
        return dict(json.loads(line))
    match = COMBINED.fullmatch(line)
    assert match is not None, line
    facts = match.groupdict()
    return facts | {"status": int(facts["status"]), "duration": float(facts["duration"] or "nan")}


@pytest.fixture(params=[("python", 1), ("native", 1), ("native", 2)], ids=["python", "native", "two lanes"])
def start(request: pytest.FixtureRequest, site: Site, serve: Serve, tmp_path: Path) -> Start:
    """`start(**config)`: a server with pages, servlets and a log at tmp_path / "log"."""
    engine, lanes = request.param
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    site.write("page.html", b"page")
    site.write("large.bin", b"x" * 10_000_000)
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets" / "echo.py").write_text(SERVLET)
    told = {"servlets": str(tmp_path / "servlets"), "access_log": str(tmp_path / "log")}
    return lambda **config: serve(site.root, **{"engine": engine, "lanes": lanes} | told | config)


@pytest.fixture
def source() -> str:
    """The address that the test's clients come from: a client of another test, late, may meet this test's server at a
    port that was its own server's."""
    return "127." + ".".join(str(random.randrange(1, 255)) for _ in range(3))


@pytest.fixture
def lines_now(tmp_path: Path, source: str) -> Callable[[], list[str]]:
    """`lines_now()`: the complete lines of the test's clients."""

    def read() -> list[str]:
        lines = (tmp_path / "log").read_text("ascii").splitlines(keepends=True)
        own = (f"{source} ", f'"peer": "{source}"')
        return [line[:-1] for line in lines if line.endswith("\n") and (line.startswith(own[0]) or own[1] in line)]

    return read


@pytest.fixture
def logged(lines_now: Callable[[], list[str]], wait_until: WaitUntil) -> Callable[[int], list[Facts]]:
    """`logged(count)`: the facts of so many lines, and no more."""

    def wait(count: int) -> list[Facts]:
        wait_until(lambda: len(lines_now()) >= count)
        lines = lines_now()
        assert len(lines) == count
        return [facts_of(line) for line in lines]

    return wait


def head(target: str, *lines: bytes, method: bytes = b"GET", host: bytes = b"example.org:80") -> bytes:
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target.encode()), b"Host: " + host, *lines, b"", b""])


@pytest.mark.parametrize("form", ["combined", "json"])
def test_a_line_has_the_host_as_sent_and_the_id_that_the_application_sees(
    start: Start, source: str, logged: Callable[[int], list[Facts]], form: str
) -> None:
    server = start(access_log_format=form, access_log_fields=("request_id,duration", "host"))
    given = [b"a-1", b"A" * 128, b"0Z.9_~+/=:@-"]
    unsafe = [b"", b"A" * 129, b"a b", b'a"b', b"\xc3\xa9", b"a,b", b"\\", b'" 200 1'] * 2
    asked: list[tuple[str, str | None]] = []  # target, the id that is to be there
    seen: list[tuple[str, str]] = []  # what the application saw
    with Client(server.port, source=source) as client:
        for target in ("/page.html", "/csp?echo", "/odd", "/late"):
            for value in [*given * 2, *(unsafe if target != "/late" else ())]:
                client.send(head(target, b"x-request-ID: " + value))
                body = client.read().body.decode()
                asked.append((target, value.decode() if value in given else None))
                if target != "/page.html":
                    seen.append((target, body))
            client.send(head(target, b"X-Request-Id: one", b"X-Request-Id: two") + head(target) * 3)
            for _ in range(4):
                body = client.read().body.decode()
                asked.append((target, None))
                if target != "/page.html":
                    seen.append((target, body))
        client.send(head("/csp?echo", b"Content-Length: 3", method=b"POST") + b"abc")
        seen.append(("/csp?echo", client.read().body.decode()))
        asked.append(("/csp?echo", None))
        client.send(b"GET /page.html HTTP/1.0\r\n\r\n")
        client.read()
    lines = logged(len(asked) + 1)
    assert {facts["host"] for facts in lines} == {"example.org:80", "-" if form == "combined" else ""}
    ids = [facts["request_id"] for facts in lines]
    expected = sorted((target, request_id) for target, request_id in asked if request_id is not None)
    sent = [facts for facts in lines if not OWN_ID.fullmatch(facts["request_id"])]
    assert sorted((facts["target"], facts["request_id"]) for facts in sent) == expected
    own = [request_id for request_id in ids if OWN_ID.fullmatch(request_id)]
    assert len(own) == len(set(own)) == len(lines) - len(expected)
    of_applications = sorted((f["target"], f["request_id"]) for f in lines if f["target"] != "/page.html")
    assert of_applications == sorted(seen)
    assert all(0 <= facts["duration"] < 20 for facts in lines)
    assert all(facts["duration"] >= 0.05 for facts in lines if facts["target"] == "/late")


def test_only_what_was_asked_for_stands_there(start: Start, source: str, logged: Callable[[int], list[Facts]]) -> None:
    server = start(access_log_fields=("host",), access_log_format="json")
    with Client(server.port, source=source) as client:
        for host in (b"a", b"a", b"a'b", b"[::1]"):
            client.send(head("/page.html", host=host))
            assert client.read().status == 200
        client.send(head("/page.html", host=b'a"b'))
        assert client.read().status == 400
    lines = sorted(logged(5), key=lambda facts: (facts["status"], facts["host"]))
    assert [facts["host"] for facts in lines] == ["[::1]", "a", "a", "a'b", ""]  # of what is refused nothing is known
    assert not {"request_id", "duration"} & set().union(*lines)


def test_a_duration_lasts_until_the_answer_is_with_the_kernel_or_the_client_is_gone(
    start: Start, source: str, logged: Callable[[int], list[Facts]]
) -> None:
    server = start(access_log_fields=("duration",))
    with Client(server.port, source=source, receive_buffer=65536) as client:
        for _ in range(3):  # the lane knows the page then
            client.get("/page.html")
        client.send(head("/page.html") + head("/large.bin") + head("/page.html?behind"))
        assert len(client.read().body) == 4
        time.sleep(0.15)  # the server is at the large one, or comes to it
        assert [len(client.read().body) for _ in range(2)] == [10_000_000, 4]
        for _ in range(3):
            client.send(head("/page.html?slow")[:20])
            time.sleep(0.1)  # a server that is held meanwhile reads it all at once
            client.send(head("/page.html?slow")[20:])
            client.read()
        client.send(head("/large.bin?gone"))
        client.socket.recv(1)
        time.sleep(0.15)
    times: dict[str, list[float]] = defaultdict(list)
    for facts in logged(10):
        times[facts["target"]].append(facts["duration"])
    assert min(times["/large.bin"] + times["/large.bin?gone"]) >= 0.12
    assert times["/page.html?behind"] >= times["/large.bin"]  # its first byte was there all the time
    assert max(times["/page.html?slow"]) >= 0.07
    assert all(0 < duration < 20 for of_target in times.values() for duration in of_target)


def test_one_line_of_several_is_written_and_what_is_left_out_is_counted(
    start: Start, wait_until: WaitUntil, source: str, lines_now: Callable[[], list[str]]
) -> None:
    server = start(access_log_sample=10, access_log_fields=("duration",))
    log = server.access_logs
    assert log is not None
    with Client(server.port, source=source) as client:
        for _ in range(20):
            client.send(head("/page.html") * 10 + head("/absent"))
            assert [client.read().status for _ in range(11)] == [200] * 10 + [404]

    def is_complete() -> bool:
        lines = lines_now()
        errors = sum(" 404 " in line for line in lines)
        return errors == 20 and len(lines) + log.left_out == 220

    wait_until(is_complete)
    assert 177 <= log.left_out <= 180  # of each lane, and of what Python answers, the first one is written


def test_without_them_a_line_is_what_it_was(
    start: Start, source: str, lines_now: Callable[[], list[str]], wait_until: WaitUntil
) -> None:
    server = start()
    with Client(server.port, source=source) as client:
        for _ in range(3):
            client.send(head("/csp?echo", b"X-Request-Id: a b"))
            assert client.read().body == b"a b"
            client.send(head("/csp?echo"))
            assert client.read().body == b"none"
    wait_until(lambda: len(lines_now()) == 6)
    assert all(re.search(r' "-" "-"$', line) for line in lines_now())

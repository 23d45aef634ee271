"""Behind a proxy, on both engines: log, servlets and applications know the client, and only a trusted proxy says it."""

from __future__ import annotations

import http.server
import itertools
import json
import socket
import sys
import threading
import types
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.lanes import ordered
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.forwarded import Trusted, read
from zcserve.net import access_log
from zcserve.net.fastlane import FastLane

SERVLET = """
from zcserve import Request, servlet

def told(request):
    return f"{request.client} {request.scheme} {request.host}"

def get(request):
    return told(request)

@servlet("/thread", thread=True)
def threaded(request):
    return told(request)

def post(request):
    return told(request)
"""
TRUSTED = "127.0.0.1,10.0.0.0/8,unix:"
FIELDS = ("X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: example.org")
SAID = b"1.2.3.4 https example.org"
_numbers = itertools.count()


class From(Client):
    """A client whose own address is `host`, of those that lead to this machine."""

    def __init__(self, port: int, host: str) -> None:
        super().__init__(port)
        self.socket.close()
        self.socket = socket.create_connection(("127.0.0.1", port), 20, (host, 0))


@pytest.fixture
def behind(live: Serve, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    """`behind(**config)`: a server that trusts proxies at 127.0.0.1, and has a file, a servlet and an access log."""
    monkeypatch.setattr(access_log, "FLUSH_INTERVAL_S", 0.02)

    def start(**config: Any) -> Server:
        site.write("a.txt", b"a file")
        (tmp_path / "servlets").mkdir(exist_ok=True)
        (tmp_path / "servlets" / "who.py").write_text(SERVLET)
        settings = {"proxy_headers": (TRUSTED,), "servlets": str(tmp_path / "servlets")}
        return live(site.root, **settings | config, access_log=str(tmp_path / "log"))

    return start


@pytest.fixture
def logged(tmp_path: Path, wait_until: WaitUntil) -> Callable[[int], list[str]]:
    """`logged(count)`: the clients of so many lines of the log, once they are written."""

    def clients(count: int) -> list[str]:
        def lines() -> list[str]:
            lines = (tmp_path / "log").read_text().splitlines()
            return lines if len(lines) >= count else []

        found = wait_until(lines)
        assert len(found) == count
        return [json.loads(line)["peer"] if line[0] == "{" else line.partition(" - - [")[0] for line in found]

    return clients


@pytest.fixture
def mounted() -> Iterator[Callable[[str, Any], str]]:
    """`mounted(path, application)`: as `--mount` wants it."""
    names: list[str] = []

    def mount(path: str, application: Any) -> str:
        names.append(f"mounted_behind_proxies_{next(_numbers)}")
        sys.modules[names[-1]] = types.ModuleType(names[-1])
        vars(sys.modules[names[-1]])["application"] = application
        return f"{path}={names[-1]}:application"

    yield mount
    for name in names:
        del sys.modules[name]


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    names = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([environ.get(name) for name in names]).encode()]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
    content = json.dumps([scope["client"], scope["scheme"], hosts, scope["server"]]).encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": content})


@pytest.mark.parametrize("form", ["combined", "json"])
def test_the_log_names_the_client_that_a_trusted_proxy_names(
    behind: Callable[..., Server], logged: Callable[[int], list[str]], form: str
) -> None:
    server = behind(access_log_format=form)
    with Client(server.port) as proxy, From(server.port, "127.0.0.2") as other:
        for client in (proxy, other):
            for target in ("/a.txt", "/csp?who", "/thread", "/nothing"):
                for _ in range(3):  # the fast lane knows them then
                    client.get(target, *FIELDS)
                    client.get(target)
        client.get("/a.txt", "Forwarded: for=1.2.3.4")
        for lines in (['Forwarded: for="[2001:DB8::1]:80", for=10.2.3.4'], ["x-forwarded-FOR: 1.1.1.1"]):
            assert proxy.get("/a.txt", *lines).body == b"a file"
    named = ["1.2.3.4", "127.0.0.1"] * 12 + ["127.0.0.2"] * 25 + ["2001:db8::1", "1.1.1.1"]
    assert ordered(logged(51)) == ordered(named)


def test_servlets_know_client_scheme_and_host(behind: Callable[..., Server]) -> None:
    server = behind()
    with Client(server.port) as proxy, From(server.port, "127.0.0.2") as other:
        for _ in range(3):
            for target in ("/csp?who", "/thread"):
                assert proxy.get(target, *FIELDS).body == SAID
                assert proxy.get(target).body == b"127.0.0.1 http test"
                assert other.get(target, *FIELDS).body == b"127.0.0.2 http test"
        proxy.send("\r\n".join(["POST /csp?who HTTP/1.1", "Host: x", *FIELDS, "Content-Length: 2", "", ""]).encode())
        proxy.send(b"ab")
        assert proxy.read().body == SAID


def test_each_of_pipelined_requests_has_its_client(
    behind: Callable[..., Server], logged: Callable[[int], list[str]]
) -> None:
    server = behind()
    with Client(server.port) as proxy:
        asked = [
            ("/a.txt", "1.1.1.1"),
            ("/csp?who", "2.2.2.2"),
            ("/a.txt", ""),
            ("/thread", "3.3.3.3"),
            ("/a.txt", "::1"),
        ]
        for _ in range(2):
            for target, name in asked:
                line = f"X-Forwarded-For: {name}\r\n" if name else ""
                proxy.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n{line}\r\n".encode())
            assert [proxy.read().body.split()[0] for _ in asked] == [b"a", b"2.2.2.2", b"a", b"3.3.3.3", b"a"]
        # What is not understood is the peer's.
        proxy.send(b"GET /a.txt HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 4.4.4.4\r\n\r\n")
        proxy.send(b"GET\r\nX-Forwarded-For: 5.5.5.5\r\n\r\n")
        assert [proxy.read().status for _ in range(2)] == [200, 400]
    named = ["1.1.1.1", "2.2.2.2", "127.0.0.1", "3.3.3.3", "::1"] * 2 + ["4.4.4.4", "127.0.0.1"]
    assert ordered(logged(12)) == ordered(named)


def test_applications_know_client_scheme_and_server(
    behind: Callable[..., Server], mounted: Callable[[str, Any], str]
) -> None:
    server = behind(mount=(mounted("/w", wsgi), mounted("/a", asgi)))
    forwarded = 'Forwarded: for="[2001:db8::1]:4711";proto=https;host="example.org:8443"'
    with Client(server.port) as proxy, From(server.port, "127.0.0.2") as other:
        said = json.loads(proxy.get("/w", *FIELDS).body)
        assert said == ["1.2.3.4", None, "https", "example.org", "example.org", "443"]
        said = json.loads(proxy.get("/w", forwarded).body)
        assert said == ["2001:db8::1", "4711", "https", "example.org:8443", "example.org", "8443"]
        own = proxy.socket.getsockname()[1]
        assert json.loads(proxy.get("/w", "X-Forwarded-Proto: https").body) == [
            "127.0.0.1", str(own), "https", "test", "127.0.0.1", str(server.port),
        ]  # fmt: skip
        said = json.loads(proxy.get("/a", *FIELDS).body)
        assert said == [["1.2.3.4", 0], "https", ["example.org"], ["example.org", 443]]
        said = json.loads(proxy.get("/a", forwarded).body)
        assert said == [["2001:db8::1", 4711], "https", ["example.org:8443"], ["example.org", 8443]]
        assert json.loads(other.get("/w", *FIELDS, forwarded).body)[::2] == ["127.0.0.2", "http", "127.0.0.1"]
        said = json.loads(other.get("/a", *FIELDS, forwarded).body)
        assert (said[0][0], said[1:]) == ("127.0.0.2", ["http", ["test"], ["127.0.0.1", server.port]])


@pytest.mark.parametrize("trusted", [("unix:",), ("127.0.0.1",)])
def test_a_proxy_on_a_unix_socket(
    behind: Callable[..., Server],
    mounted: Callable[[str, Any], str],
    tmp_path: Path,
    logged: Callable[[int], list[str]],
    trusted: Any,
) -> None:
    behind(listen=(f"unix:{tmp_path}/s",), proxy_headers=trusted, mount=(mounted("/w", wsgi), mounted("/a", asgi)))
    believed = trusted == ("unix:",)
    with Client(f"{tmp_path}/s") as proxy:
        for _ in range(3):
            assert proxy.get("/a.txt", *FIELDS[1:], "X-Forwarded-For: 1.2.3.4").body == b"a file"
        assert json.loads(proxy.get("/w", "X-Forwarded-For: 1.2.3.4").body)[0] == ("1.2.3.4" if believed else "")
        assert json.loads(proxy.get("/a", "X-Forwarded-For: ::1").body)[0] == (["::1", 0] if believed else None)
        assert json.loads(proxy.get("/w").body)[0] == ""
    named = [*["1.2.3.4"] * 4, "::1", "unix:"] if believed else ["unix:"] * 6
    assert ordered(logged(6)) == ordered(named)


def test_without_the_flag_nothing_changes(
    behind: Callable[..., Server], logged: Callable[[int], list[str]], mounted: Callable[[str, Any], str]
) -> None:
    def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [repr([environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_X_FORWARDED_FOR"]]).encode()]

    server = behind(proxy_headers=(), mount=(mounted("/w", echo),))
    with Client(server.port) as client:
        for _ in range(3):
            assert client.get("/csp?who", *FIELDS).body == b"127.0.0.1 http test"
            client.get("/a.txt", *FIELDS)
        assert client.get("/w", *FIELDS).body == b"['127.0.0.1', 'http', '6.6.6.6, 1.2.3.4, 10.0.0.7']"
    assert set(logged(7)) == {"127.0.0.1"}


def test_nothing_that_a_proxy_passes_on_forges_a_log_line(
    behind: Callable[..., Server], logged: Callable[[int], list[str]]
) -> None:
    server = behind()
    values = ['1.2.3.4" 200 1 "', "1.2.3.4\\x0a", "\x85", "for=1", '"', "1.2.3.4\t- - [", '_","peer":"6.6.6.6', "%0a"]
    with Client(server.port) as proxy:
        for value in values:
            lines = "".join(f"{name}: {value}\r\n" for name in ("X-Forwarded-For", "Forwarded", "X-Forwarded-Host"))
            proxy.send(b"GET /a.txt HTTP/1.1\r\nHost: test\r\n" + lines.encode("latin-1") + b"\r\n")
            assert proxy.read().status == 200
    assert logged(len(values)) == ["127.0.0.1"] * len(values)


def test_frameworks_make_the_clients_urls(behind: Callable[..., Server], mounted: Callable[[str, Any], str]) -> None:
    flask, starlette = pytest.importorskip("flask"), pytest.importorskip("starlette.applications")
    responses, routing = pytest.importorskip("starlette.responses"), pytest.importorskip("starlette.routing")
    one = flask.Flask("one")
    one.add_url_rule("/x", "x", lambda: [flask.request.remote_addr, flask.url_for("x", _external=True)])

    async def x(request: Any) -> Any:
        return responses.JSONResponse([request.client.host, str(request.url_for("x"))])

    two = starlette.Starlette(routes=[routing.Route("/x", x)])
    server = behind(mount=(mounted("/f", one), mounted("/s", two)))
    with Client(server.port) as proxy:
        for path in ("/f/x", "/s/x"):
            assert json.loads(proxy.get(path, *FIELDS).body) == ["1.2.3.4", f"https://example.org{path}"]


class Proxy(http.server.BaseHTTPRequestHandler):
    """A proxy as simple as one can be: it adds its client to X-Forwarded-For, and passes on all else."""

    protocol_version = "HTTP/1.1"
    to = 0

    def do_GET(self) -> None:
        told = ", ".join([*self.headers.get_all("X-Forwarded-For", []), self.client_address[0]])
        del self.headers["X-Forwarded-For"]
        lines = {
            **dict(self.headers),
            "X-Forwarded-For": told,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "shop",
        }
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{self.to}{self.path}", None, lines)
        ) as got:
            content = got.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_a_proxy_in_front(behind: Callable[..., Server], logged: Callable[[int], list[str]]) -> None:
    server = behind()
    handler = type("ToThisServer", (Proxy,), {"to": server.port})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            lies = ("X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6;host=evil", "X-Forwarded-Host: evil")
            for lines in ((), lies):
                with From(proxy.server_address[1], "127.0.0.3") as client:
                    assert client.get("/csp?who", *lines).body == b"127.0.0.3 https shop"
        finally:
            proxy.shutdown()
            thread.join()
    assert logged(2) == ["127.0.0.3"] * 2


NAMES = [
    "1.2.3.4", "10.0.0.9", "127.0.0.1", "256.1.1.1", "01.2.3.4", "1.2.3", "1.2.3.4.5", "1.2.3.4:80", "::1",
    "::", "1::", "::2:3", "2001:DB8::0:1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
    "1:0:0:2:0:0:0:3", "1:0:2::3", "64:ff9b::1.2.3.4", "::ffff:1.2.3.4", "::ffff:10.0.0.1", "::1.2.3.4",
    "fd00::9", "[2001:db8::1]", "[2001:db8::1]:8", "1::2::3", "12345::1", "0001::00f", "fe80::1%eth0", "unix:",
    "unknown", "_x", "1.2.3.4/8", "'1.2.3.4'", "x",
]  # fmt: skip
CHAINS = [
    "",
    ",",
    "{0},",
    " , {0} ,\t",
    "{0},10.0.0.1",
    "6.6.6.6, {0} ,10.0.0.1,fd00::1",
    "x,{0}",
    "{0}," + ",".join(["10.0.0.1"] * 9),
]


def test_the_fast_lane_reads_as_the_general_lane_does(
    behind: Callable[..., Server], logged: Callable[[int], list[str]]
) -> None:
    server = behind()
    trusted = Trusted([TRUSTED])
    expected = []
    with Client(server.port) as proxy:
        proxy.get("/a.txt")
        for name in NAMES:
            for chain in CHAINS:
                value = chain.format(name)
                proxy.send(f"GET /a.txt HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: {value}\r\n\r\n".encode())
                expected.append(read(trusted, "127.0.0.1", [(b"x-forwarded-for", value.encode())]).client.name)
            assert all(proxy.read().body == b"a file" for _ in CHAINS)
    assert ordered(logged(1 + len(expected))) == ordered(["127.0.0.1", *expected])


def test_the_fast_lane_answers_behind_a_proxy(behind: Callable[..., Server]) -> None:
    server = behind()
    if not isinstance(server.loop.front, FastLane):
        return
    lane = server.loop.front.lane
    with Client(server.port) as proxy:
        proxy.get("/a.txt")
        proxy.get("/csp?who")
        before = lane.requests
        for lines in (FIELDS, FIELDS[:1], FIELDS[1:], ("X-Forwarded-For: 2001:db8::1",), ()):
            for _ in range(2):
                assert proxy.get("/a.txt", *lines).status == 200
        for lines in (FIELDS, ('Forwarded: for="[2001:db8::1]:80"',), ()):
            assert proxy.get("/csp?who", *lines).status == 200
        assert lane.requests == before + 13

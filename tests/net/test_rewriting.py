"""zcserve.net.rewriting: a rewrite leads a request to a servlet or an application, as both engines answer it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support import plain_rules as plain
from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.stage import write_servlets
from zcserve import Config
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.check import check
from zcserve.explain import explanation_of
from zcserve.net.fields import Fields
from zcserve.net.request import Parser
from zcserve.net.rewriting import Sent, find
from zcserve.paths import SentPath
from zcserve.rules.compiled import Rules
from zcserve.rules.redirects import parse_redirect
from zcserve.rules.where import Where
from zcserve.site.exchange import Exchange
from zcserve.site.site import Site as SiteOf

SERVLETS = """
@servlet("/greet/{name}", methods=["GET", "POST"])
def greet(request, name):
    said = (request.method, name, request.path, request.query_string, "of", request.original_target, request.host)
    return " ".join(said) + " " + request.body.decode()

@servlet("/kept", ttl=60)
def kept(request):
    return f"kept {request.query_string}"

@servlet("/own/here", methods=["GET", "POST"])
def here(request):
    return "own"
"""
HELLO = """
def get(request):
    return f"hello {request.query_string} of {request.original_target}"
"""
APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_URI")
    return [" ".join(environ[name] for name in names).encode() + environ["wsgi.input"].read()]


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        told = scope["extensions"].get("zcserve.original_target", {}).get("target", b"none")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode() + b" of " + told})
"""
LED: tuple[dict[str, Any], ...] = (
    {"from": "/api/:name", "to": "/greet/:name", "status": 200},
    {"from": "/named/*", "to": "/csp?hello&rest=:splat", "status": 200},
    {"from": "/wsgi/*", "to": "/app/x/:splat", "status": 200},
    {"from": "/asgi/*", "to": "/asgi-app/:splat", "status": 200},
    {"from": "/result", "to": "/kept", "status": 200},
    {"from": "/own/here", "to": "/greet/forced", "status": 200, "force": True},
    {"from": "/forced.html", "to": "/greet/file", "status": 200, "force": True},
    {"from": "/file.html", "to": "/greet/never", "status": 200},
    {"from": "/there", "to": "/file.html", "status": 200},
    {"from": "/round", "to": "/round-again", "status": 200},
    {"from": "/round-again", "to": "/round", "status": 200},
    {"from": "https://a.example/host", "to": "/greet/a", "status": 200},
    {"from": "/host", "to": "/greet/other", "status": 200},
)


@pytest.fixture(params=["python", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
    return str(request.param)


@pytest.fixture
def configured(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    site.write("file.html", b"a file")
    site.write("forced.html", b"never")
    (tmp_path / "rewriting_app.py").write_text(APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    return {
        "servlets": str(write_servlets(tmp_path, some=SERVLETS, hello=HELLO)),
        "mount": ("/app=rewriting_app:app", "/asgi-app=asgi:rewriting_app:asgi"),
        "redirects": LED,
    }


def test_a_rewrite_is_answered_by_what_is_at_its_target(
    site: Site, serve: Serve, configured: dict[str, Any], engine: str
) -> None:
    with Client(serve(site.root, engine=engine, **configured).port) as client:
        for _ in range(3):
            said = client.get("/api/me?a=b")
            assert (said.status, said.body) == (200, b"GET me /greet/me a=b of /api/me?a=b test ")
            client.send(b"POST /api/me HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody")
            assert client.read().body == b"POST me /greet/me  of /api/me test body"
            client.send(b"GET http://else.example/api/me HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.read().body == b"GET me /greet/me  of http://else.example/api/me else.example "
            assert client.get("/named/x/y").body == b"hello rest=x/y of /named/x/y"
            assert client.get("/greet/me").body == b"GET me /greet/me  of /greet/me test "
            assert client.get("/wsgi/a%20b?c").body == b"GET /app /x/a b c /wsgi/a%20b?c"
            client.send(b"PUT /wsgi/ HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n!")
            assert client.read().body == b"PUT /app /x/  /wsgi/!"
            assert client.get("/asgi/a?b").body == b"/asgi-app/a of /asgi/a?b"
            assert client.get("/asgi-app/a").body == b"/asgi-app/a of none"
            assert client.get("/result?x").body == client.get("/kept?x").body == b"kept x"
            assert client.get("/api/me", method="HEAD").status == 200
            assert client.get("/api/me", method="DELETE").status == 405
            assert client.get("/api/me", method="OPTIONS")["Allow"] == b"GET, HEAD, OPTIONS, POST"


def test_files_go_before_it_and_force_before_files_and_servlets_and_it_is_made_once(
    site: Site, serve: Serve, configured: dict[str, Any], engine: str
) -> None:
    with Client(serve(site.root, engine=engine, **configured).port) as client:
        for _ in range(3):
            assert client.get("/file.html").body == client.get("/there").body == b"a file"
            assert client.get("/there", method="POST").status == 405
            assert client.get("/forced.html").body.startswith(b"GET file /greet/file")
            assert client.get("/own/here").body.startswith(b"GET forced /greet/forced")
            assert client.get("/own/here", method="POST").body.startswith(b"POST forced /greet/forced")
            assert client.get("/round").status == client.get("/round-again").status == 404
            assert client.get("/host").body.startswith(b"GET other ")
            client.send(b"GET /host HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert client.read().body.startswith(b"GET a ")


def test_a_rewrite_with_force_to_a_servlet_is_no_page_for_what_is_absent(
    site: Site, serve: Serve, configured: dict[str, Any], engine: str
) -> None:
    """No rule names a host, so the native engine may keep where rules lead."""
    redirects = [
        {"from": "/all/*", "to": "/csp?hello&rest=:splat", "status": 200, "force": True},
        {"from": "/all", "to": "/csp?hello", "status": 200, "force": True},
        {"from": "/none", "to": "/nothing", "status": 200, "force": True},
        {"from": "/", "to": "/greet/root", "status": 200, "force": True},
    ]
    with Client(serve(site.root, engine=engine, **(configured | {"redirects": redirects})).port) as client:
        for _ in range(3):
            assert client.get("/all/x").body == b"hello rest=x of /all/x"
            assert client.get("/all/x", method="HEAD").status == 200
            assert client.get("/all/?a=b").body == b"hello rest= of /all/?a=b"
            assert client.get("/none").status == 404
            for target in ("http://a.example", "http://a.example/", "http://a.example?b=/c"):
                for method, body in (("GET", ""), ("POST", "body")):
                    length = f"Content-Length: {len(body)}\r\n" if body else ""
                    client.send(f"{method} {target} HTTP/1.1\r\nHost: test\r\n{length}\r\n{body}".encode())
                    query = "b=/c" if "?" in target else ""
                    said = f"{method} root /greet/root {query} of {target} a.example {body}"
                    assert client.read().body == said.encode()


def test_what_is_asked_for_while_servlets_are_loaded_anew_is_led_as_ever(
    site: Site, serve: Serve, configured: dict[str, Any], engine: str, tmp_path: Path
) -> None:
    redirects = (*LED, {"from": "/moved", "to": "/file.html"})
    server = serve(site.root, engine=engine, **configured | {"redirects": redirects})
    with Client(server.port) as client:
        for number in range(3):
            write_servlets(tmp_path, more=f'@servlet("/more{number}")\ndef more(request): return "more"\n')
            assert client.get("/api/me").body.startswith(b"GET me /greet/me")
            write_servlets(tmp_path, more=f'@servlet("/else{number}")\ndef more(request): return "more"\n')
            assert client.get("/moved").status == 301


def test_check_knows_what_servlets_and_mounts_have_and_explain_says_where_a_rewrite_leads(
    site: Site, configured: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    led = (*LED, {"from": "/lost", "to": "/csp?nothing", "status": 200})
    config = Config(root=site.root, **configured | {"redirects": led})
    with caplog.at_level(logging.WARNING):
        assert check(config) == 0
    assert [line for line in caplog.messages if "where nothing is" in line] == [
        "redirects[9]: '/round' leads to /round-again, where nothing is",
        "redirects[10]: '/round-again' leads to /round, where nothing is",
        "redirects[13]: '/lost' leads to /csp?nothing, where nothing is",
    ]
    told = explanation_of(config, "/api/me?a", "POST")
    assert told.rule.startswith("redirects[0]: /api/:name to /greet/:name, 200")
    assert "the rewrite leads to /greet/me?a: what the application has there is the answer" in told.notes
    assert explanation_of(config, "/file.html").notes == []
    caplog.clear()
    check(Config(root=site.root, redirects=LED[:1] + LED[4:5]))
    assert [line for line in caplog.messages if "nothing is" in line] == [
        "redirects[0]: '/api/:name' leads to what begins with /greet/, where nothing is",
        "redirects[1]: '/result' leads to /kept, where nothing is",
    ]


class Named:
    """A resource that has a name alone."""

    body_bytes_max = 0

    def respond(self, exchange: Exchange) -> None: ...


class Servlets:
    """An `Application` with something at these keys."""

    def __init__(self, keys: set[str]) -> None:
        self.keys = keys

    def find(self, path: SentPath, query: bytes | None, *, websocket: bool = False) -> Named | None:
        return Named() if path.key.decode() in self.keys else None


def test_whatever_the_rules_a_plain_reading_of_them_asks_the_same_servlet(tmp_path: Path) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    keys = st.sampled_from(["/a", "/b", "/c/d", "/c/a"])
    targets = st.sampled_from(["/a", "/b", "/c/d", "/b?x=1", "/none"])
    rule = st.builds(
        plain.Rule,
        st.sampled_from(["/a", "/b", "/c/:x", "/*", "/c/*"]),
        targets,
        st.sampled_from([200, 200, 301, 404]),
        st.just({}),
        st.booleans(),
    )
    fields = parsed_fields()

    @hypothesis.settings(max_examples=200, database=None, deadline=None)
    @hypothesis.given(
        st.lists(rule, max_size=4), st.sets(keys), st.sets(keys), st.sampled_from(["GET", "HEAD", "POST"]), keys,
        st.sampled_from(["", "q=1"]),
    )  # fmt: skip
    def law(rules: list[plain.Rule], files: set[str], servlets: set[str], method: str, key: str, query: str) -> None:
        led = [
            parse_redirect(one.source, one.target, status=one.status, force=one.force, where=Where("_redirects"))
            for one in rules
        ]
        generation = Generation(Root(tmp_path))
        generation.root.rules = Rules(redirects=led)
        generation.lay_over(
            paths := [path.encode() for path in files], {path: Entry(path, b"", 0, None) for path in paths}
        )
        site = SiteOf(0, generation)
        site.application = Servlets(servlets)  # type: ignore[assignment]
        target = key.encode() + (b"?" + query.encode() if query else b"")
        found = find(site, Sent(method.encode(), target, fields, (SentPath(key.encode()), query.encode() or None)))
        told = None if found is None else (found.target.decode(), found.original is not None)
        assert told == plain.asked(rules, files, servlets, method, key, query)

    law()


def parsed_fields() -> Fields:
    parsed = Parser(Config(root="www")).parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0)
    assert parsed is not None
    return parsed[2]

"""Paths reach applications as they were sent, on both engines: the table below is what gunicorn, waitress, granian,
uvicorn and hypercorn give their applications; of a prefix none of them knows. And an authority goes before Host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.site import Serve, Site
from tests.support.stage import ConnectTo, Mounted, NameApplication, StageClient, asked, write_servlets


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    assert environ["SCRIPT_NAME"] in ("", "/app")
    return [environ["PATH_INFO"].encode("latin-1")]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    assert scope["path"].startswith(scope["root_path"])
    content = scope["path"].removeprefix(scope["root_path"]).encode() + b" " + scope["raw_path"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": content})


AS_SENT: list[tuple[str, bytes]] = [
    ("/a", b"/a"),
    ("", b""),
    ("/", b"/"),
    ("/http://e.com//x", b"/http://e.com//x"),
    ("/a//b", b"/a//b"),
    ("/a/./b/../c", b"/a/./b/../c"),
    ("/a%2Fb%2f%2e%2E/x", b"/a/b/../x"),
    ("/caf%E9", b"/caf\xe9"),
    ("/caf%C3%A9", b"/caf\xc3\xa9"),
    ("/%00%0d%0A", b"/\0\r\n"),
    ("/100%/%zz", b"/100%/%zz"),
    ("/%2525", b"/%25"),
    ('/[x]|"\\^{}`<>', b'/[x]|"\\^{}`<>'),
    ("/+;a=b,c", b"/+;a=b,c"),
]


def test_a_path_is_decoded_once_and_else_untouched(mounted: Mounted, client_of: ConnectTo) -> None:
    client = client_of(mounted(wsgi))
    for path, expected in AS_SENT:
        answer = asked(client, f"/app{path}?q=//x")
        assert (path, answer.status, answer.body) == (path, 200, expected)


def test_asgi_has_it_as_text_and_as_sent(mounted: Mounted, client_of: ConnectTo) -> None:
    client = client_of(mounted(asgi))
    for path, expected in AS_SENT:
        answer = asked(client, f"/app{path}?q=//x")
        text = expected.decode(errors="replace").encode()
        assert (path, answer.status, answer.body) == (path, 200, text + b" /app" + path.encode())


@pytest.mark.parametrize("application", [wsgi, asgi])
def test_a_prefix_is_neither_left_nor_forged(
    application: Any, module: NameApplication, live: Serve, site: Site, client_of: ConnectTo
) -> None:
    """What lies below the prefix is decided by the canonical path, and told from the prefix on."""
    site.write("static", b"static")
    inner = module(lambda environ, start_response: (start_response("200 OK", []) and []) or [b"inner"])
    client = client_of(live(site.root, mount=(f"/app={module(application)}", f"/app/inner={inner}")))
    outside = {
        "/app/../static": b"static", "/app/%2e%2e/static": b"static", "/app%2F..%2Fstatic": b"static",
        "/app/x/../../nothing": None, "/apps": None, "/app%00": None, "/static/../../nothing": None,
    }  # fmt: skip
    for path, content in outside.items():
        answer = asked(client, path)
        assert (path, answer.status) == (path, 404 if content is None else 200) or answer.status == 400
        assert content is None or answer.body == content
    for path in ("/app/inner/x", "/app/x/../inner", "/app/inner/a/../b", "//app//inner", "/app/%69nner/"):
        assert (path, asked(client, path).body) == (path, b"inner")
    below = {
        "/%61pp/x": b"/x", "//app/x": b"/x", "/x/../app/y": b"/y", "/./app//y": b"//y",
        "/app/inner/../y": b"/inner/../y", "/app/../app/y": b"/y", "/static/../app": b"",
    }  # fmt: skip
    for path, expected in below.items():
        answer = asked(client, path)
        assert (path, answer.status, answer.body.partition(b" ")[0]) == (path, 200, expected)


@pytest.mark.parametrize("application", [wsgi, asgi])
def test_a_mount_of_all_gets_all(
    application: Any, module: NameApplication, live: Serve, site: Site, client_of: ConnectTo
) -> None:
    client = client_of(live(site.root, mount=(f"/={module(application)}",)))
    for path in ("//app/x", "/../x", "/x/../y", "/", "//", "/a%2F%2Fb"):
        expected = path.replace("%2F", "/").encode()
        assert asked(client, path).body.partition(b" ")[0] == expected


def test_what_is_left_for_a_servlet_is_as_sent(live: Serve, site: Site, tmp_path: Path, client_of: ConnectTo) -> None:
    source = '@servlet("/rest/{rest:path}")\ndef rest(request, rest):\n    return [rest, request.path]\n'
    client = client_of(live(site.root, servlets=str(write_servlets(tmp_path, rest=source))))
    expected = {
        "/rest/http://e.com//x": b'["http://e.com//x","/rest/http:/e.com/x"]',
        "/rest/a/../b": b'["a/../b","/rest/b"]',
        "//rest//%2e/caf%C3%A9": '["/./café","/rest/café"]'.encode(),
        "/rest/%FF": '["\ufffd","/rest/\ufffd"]'.encode(),
    }
    for path, content in expected.items():
        for _ in range(3):  # the fast lane calls it, too
            assert (path, asked(client, path).body) == (path, content)
    assert asked(client, "/rest/../x").status == 404


# --- the authority of a target ----------------------------------------------------------------------------


def _host_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [f"{environ.get('HTTP_HOST')} {environ['PATH_INFO']}".encode()]


async def _host_asgi(scope: Any, receive: Any, send: Any) -> None:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b",".join(hosts) + b" " + scope["path"].encode()[4:]})


HOSTS: list[tuple[str, str, bytes]] = [
    ("http://real.example:81/app/x?q", "1.1", b"real.example:81 /x"),
    ("HTTPS://real.example/app/a//b", "1.0", b"real.example /a//b"),
    ("http://[::1]/app/", "1.1", b"[::1] /"),
    ("/app/http://real.example/x", "1.1", b"test /http://real.example/x"),
]


@pytest.mark.parametrize("application", [_host_wsgi, _host_asgi])
def test_an_authority_replaces_host(application: Any, mounted: Mounted, client_of: ConnectTo) -> None:
    server = mounted(application)
    for target, version, expected in HOSTS:
        client: StageClient = client_of(server)
        assert asked(client, target, version=version).body == expected


def test_an_authority_stands_for_a_missing_host(mounted: Mounted, client_of: ConnectTo) -> None:
    client = client_of(mounted(_host_wsgi))
    client.send(b"GET http://real.example/app/x HTTP/1.0\r\n\r\n")
    assert client.read().body == b"real.example /x"


def test_servlets_see_the_authority(live: Serve, site: Site, tmp_path: Path, client_of: ConnectTo) -> None:
    source = """
        def get(request):
            return [request.host, request.headers.all("host")]

        @servlet("/kept", ttl=60)
        def kept(request):
            return [request.host, request.headers.all("host")]
    """
    client = client_of(live(site.root, servlets=str(write_servlets(tmp_path, host=source))))
    for _ in range(3):
        assert asked(client, "/csp?host").body == b'["test",["test"]]'
        assert asked(client, "http://real.example/csp?host").body == b'["real.example",["real.example"]]'
    assert asked(client, "/kept").body == b'["",[]]'


def test_frameworks_see_both(mounted: Mounted, client_of: ConnectTo) -> None:
    flask = pytest.importorskip("flask")
    application = flask.Flask("paths")

    @application.get("/<path:rest>")
    def rest(rest: str) -> str:
        return f"{flask.request.host} {rest} {flask.request.path}"

    application.url_map.merge_slashes = False
    client = client_of(mounted(application))
    answer = asked(client, "http://real.example/app/http://e.com//x")
    assert answer.body == b"real.example http://e.com//x /http://e.com//x"


def test_starlette_sees_both(mounted: Mounted, client_of: ConnectTo) -> None:
    applications = pytest.importorskip("starlette.applications")
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def rest(request: Any) -> Any:
        return PlainTextResponse(f"{request.url.hostname} {request.path_params['rest']}")

    client = client_of(mounted(applications.Starlette(routes=[Route("/{rest:path}", rest)])))
    answer = asked(client, "http://real.example/app/http://e.com//x/../%C3%A9")
    assert answer.body == "real.example http://e.com//x/../é".encode()

"""Whose password was right is told to what answers, and no client says it itself; on both engines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.passwords import ALICE, BOB, BOB_BCRYPT, basic
from tests.support.site import Serve, Site
from tests.support.stage import NameApplication, write_servlets

pytest.importorskip("bcrypt")

NAME = "josé, admin"
AUTH = (
    {"path": "/in/kept", "users": {NAME: BOB_BCRYPT, "bob": BOB_BCRYPT}},
    {"path": ["/in/**", "/wsgi/in/**", "/asgi/in/**"], "users": {NAME: BOB_BCRYPT, "bob": BOB_BCRYPT}},
)
# What a client may say of itself, each in a spelling that some application reads.
FORGED = ("Remote-User: root", "REMOTE_USER: root", "Remote_User: root", "Auth-Type: Negotiate", "AUTH_TYPE: x")
SERVLETS = """
import json

def told(request):
    return json.dumps({"user": request.user, "headers": dict(request.headers.items())})

@servlet("/in/{name}")
def protected(request, name):
    return told(request)

@servlet("/open/{name}")
def free(request, name):
    return told(request)

@servlet("/in/thread", thread=True)
def in_thread(request):
    return told(request)

@servlet("/in/kept", ttl=60)
def kept(request):
    return told(request)
"""


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    told = {name: value for name, value in environ.items() if "USER" in name or "AUTH" in name or name == "HTTP_X_MINE"}
    return [json.dumps(told).encode()]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    told = {
        "auth": scope["extensions"].get("zcserve.auth"),
        "headers": [name.decode() for name, _ in scope["headers"]],
        "user": scope.get("user"),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


@pytest.fixture
def client(live: Serve, site: Site, module: NameApplication, tmp_path: Any) -> Iterator[Client]:
    folder = write_servlets(tmp_path, servlets=SERVLETS)
    mount = (f"/wsgi={module(wsgi)}", f"/asgi={module(asgi)}")
    with Client(live(site.root, mount=mount, servlets=str(folder), auth=AUTH).port) as client:
        yield client


def told_of(client: Client, target: str, *lines: str) -> Any:
    answer = client.get(target, *lines)
    assert answer.status == 200, target
    return json.loads(answer.body)


def test_the_user_is_told_and_the_password_is_not(client: Client) -> None:
    lines = (basic(NAME, BOB), *FORGED, "X-Mine: 1")
    for _ in range(2):
        environ = told_of(client, "/wsgi/in/x", *lines)
        # PEP 3333: text is latin-1 of the bytes. Of the client's own words none is left that means a user.
        assert environ.pop("REMOTE_USER").encode("latin-1").decode() == NAME
        assert environ == {"AUTH_TYPE": "Basic", "HTTP_AUTH_TYPE": "Negotiate", "HTTP_X_MINE": "1"}
        scope = told_of(client, "/asgi/in/x", *lines)
        assert (scope["auth"], scope["user"]) == ({"type": "Basic", "user": NAME}, None)
        assert not {"authorization", "remote-user", "remote_user"} & set(scope["headers"])
        assert "x-mine" in scope["headers"]
        for name in ("x", "thread"):
            request = told_of(client, f"/in/{name}", *lines)
            assert request["user"] == NAME
            assert not {"authorization", "remote-user", "remote_user"} & request["headers"].keys()
            assert request["headers"]["x-mine"] == "1"
    assert told_of(client, "/in/x", basic("bob", BOB))["user"] == "bob"  # on the same connection


def test_a_result_for_all_clients_names_no_user(client: Client) -> None:
    for name in (NAME, "bob"):
        assert told_of(client, "/in/kept", basic(name, BOB)) == {"user": "", "headers": {}}


def test_where_no_password_is_asked_for_there_is_no_user_and_nothing_is_kept_back(client: Client) -> None:
    for line in ("X-Mine: 1", basic(NAME, BOB), basic("root", ALICE), "Authorization: Bearer token"):
        name = line.partition(":")[0].lower()
        environ = told_of(client, "/wsgi/open", line, *FORGED)
        assert {"REMOTE_USER", "AUTH_TYPE"} & environ.keys() == set()
        assert environ["HTTP_REMOTE_USER"] == "root"  # the client's own word, under another name
        scope = told_of(client, "/asgi/open", line, *FORGED)
        assert scope["auth"] is None
        assert {name, "remote-user"} <= set(scope["headers"])
        request = told_of(client, "/open/x", line, *FORGED)
        assert request["user"] == ""
        assert {name, "remote-user"} <= request["headers"].keys()

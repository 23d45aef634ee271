"""Odd requests for what is protected, made at random from what servers, proxies and file systems read in two ways: each
engine, two lanes. Nothing that is protected leaves, and no application hears of it."""

from __future__ import annotations

import gzip
import posixpath
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.passwords import ALICE, ALICE_BCRYPT, BOB, BOB_BCRYPT, basic
from tests.support.site import Serve, Site
from tests.support.stage import NameApplication, write_servlets
from zcserve.config.site import SiteTable

pytest.importorskip("bcrypt")

SECRET, INNER = b"top secret " * 30, b"inner secret " * 30
AS_ALICE = basic("alice", ALICE)
AUTH: tuple[dict[str, Any], ...] = (
    {"path": ["/in/deep/**"], "realm": "Deep", "users": {"bob": BOB_BCRYPT}},
    {"path": ["/in/**", "*.csv", "/wsgi/in/**", "/made/in/**", "/app.html"], "users": {"alice": ALICE_BCRYPT}},
)
REDIRECTS = ({"from": "/rewritten/*", "to": "/in/:splat", "status": 200},)
SERVLETS = """
@servlet("/made/{rest:path}", methods=["GET", "POST"])
def made(request, rest):
    return "top secret" if rest.partition("/")[0] == "in" else "free"
"""
TARGETS = (
    "/in/a.txt", "/in/deep/b.txt", "/in/", "/in", "/t.csv", "/free/t.csv", "/wsgi/in/x", "/made/in/x", "/app",
    "/rewritten/a.txt", "/in/none",
)  # fmt: skip
RUNS = 400


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """What reads paths as file systems do."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    path = posixpath.normpath(environ["PATH_INFO"].replace("//", "/"))
    return [SECRET if path.startswith("/in/") else b"free"]


@pytest.fixture(params=["python", "native"])
def port(request: pytest.FixtureRequest, serve: Serve, site: Site, tmp_path: Path, module: NameApplication) -> int:
    for name in ("in/a.txt", "in/index.html", "t.csv", "free/t.csv", "app.html"):
        site.write(name, SECRET)
    site.write("in/deep/b.txt", INNER)
    site.write("in/a.txt.gz", gzip.compress(SECRET))
    site.write("free/b.txt", b"free")
    (other := tmp_path / "other").mkdir()
    (other / "index.html").write_bytes(b"free")
    lanes = 1
    if request.param == "native":
        pytest.importorskip("zcserve.net._lane")
        lanes = 2
    server = serve(
        site.root,
        engine=request.param,
        lanes=lanes,
        auth=AUTH,
        redirects=REDIRECTS,
        clean_urls=True,
        mount=(f"/wsgi={module(wsgi)}",),
        servlets=str(write_servlets(tmp_path, servlets=SERVLETS)),
        hosts=("test",),
        sites=(SiteTable(name="other", hosts=("other.example",), values={"root": str(other)}),),
        wrong_passwords_max=0,
    )
    return int(server.port)


Change = Callable[[random.Random, str], str]


def encoded(chance: random.Random, target: str) -> str:
    at = chance.randrange(len(target))
    form = chance.choice(["%%%02x", "%%%02X", "%%25%02x"])
    return target[:at] + form % ord(target[at]) + target[at + 1 :]


def put(*what: str) -> Change:
    def change(chance: random.Random, target: str) -> str:
        slashes = [at for at, letter in enumerate(target) if letter == "/"]
        at = chance.choice(slashes or [0])
        return target[:at] + chance.choice(what) + target[at + 1 :]

    return change


def end_with(*what: str) -> Change:
    return lambda chance, target: target + chance.choice(what)


def begin_with(*what: str) -> Change:
    return lambda chance, target: chance.choice(what) + target


def swap_case(chance: random.Random, target: str) -> str:
    at = chance.randrange(len(target))
    return target[:at] + target[at:].swapcase()


CHANGES: tuple[Change, ...] = (
    encoded,
    put("//", "/./", "/x/../", "/%2e/", "/x/%2e%2e/", "%2F", "/x%2f..%2f", "\\", "%5c", "/;/", "/..;/", "/x/..;/"),
    end_with("/", "/.", "?x=1", "?", ".", "%20", "%00", ".gz", ".br", ";x", "/..", "/../a.txt", "/%2e%2e/a.txt", ":$I"),
    begin_with("http://test", "HTTP://TEST:80", "http://test.", "http://other.example", "/free/..", "/.", "/free/x/.."),
    swap_case,
)  # fmt: skip
METHODS = ("GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "DELETE", "get", "TRACE", "PROPFIND")
FIELDS = (
    "Range: bytes=0-3", "Range: bytes=0-3, 5-7", "If-None-Match: *", 'If-Range: "x"', "Accept-Encoding: gzip",
    "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT", "Origin: https://a.example", "X-Original-URL: /free/b.txt",
    "X-Rewrite-URL: /free/b.txt", "X-HTTP-Method-Override: OPTIONS", "Authorization: Basic", "Authorization: Bearer x",
    "Proxy-" + AS_ALICE, "X-" + AS_ALICE, "Cookie: user=alice", "Remote-User: alice", "Expect: 100-continue",
    basic("alice", "wrong"), basic("bob", ALICE), basic("Alice", ALICE), basic("alice ", ALICE),
)  # fmt: skip
HOSTS = ("test", "TEST", "test.", "test:80", "other.example", "none.example", "other.example.")


def asked(chance: random.Random, *more: str) -> bytes:
    """A request for something that is protected, or for what a change has made of it."""
    target = chance.choice(TARGETS)
    for change in chance.sample(CHANGES, chance.choice([0, 1, 1, 2, 3])):
        target = change(chance, target)
    version = chance.choice(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"])
    lines = [
        f"Host: {chance.choice(HOSTS)}",
        "Connection: close",
        *chance.sample(FIELDS, chance.choice([0, 0, 1, 2])),
        *more,
    ]
    body = b""
    method = chance.choice(METHODS)
    if method == "POST":
        lines.append("Content-Length: 3")
        body = b"a=1"
    head = "\r\n".join((f"{method} {target} {version}", *lines, "", ""))
    return head.encode() + body


def answer_to(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(sent)
        return b"".join(iter(lambda: client.recv(65536), b""))


def leaks(answer: bytes) -> bool:
    return b"secret" in answer or gzip.compress(SECRET)[12:30] in answer


def tags_of(port: int) -> set[bytes]:
    """The ETags of what is protected: one tells that a file is there, and what it holds."""
    tags = set()
    with Client(port) as client:
        for target, who in (("/in/a.txt", AS_ALICE), ("/in/deep/b.txt", basic("bob", BOB))):
            for coding in ("identity", "gzip"):
                answer = client.get(target, who, f"Accept-Encoding: {coding}")
                assert answer.status == 200
                tags.add(answer["ETag"])
    assert len(tags) == 3
    return tags


def test_no_odd_request_gets_what_is_protected(port: int) -> None:
    chance = random.Random(16)
    statuses: set[bytes] = set()
    tags = tags_of(port)
    for _ in range(RUNS):
        sent = asked(chance)
        answer = answer_to(port, sent)
        assert not leaks(answer), sent
        assert answer.startswith(b"HTTP/1.1 "), sent
        statuses.add(answer[9:12])
        assert not any(tag in answer for tag in tags), sent
    assert {b"401", b"400", b"404", b"200"} <= statuses


def test_the_same_requests_with_the_right_password_get_it(port: int) -> None:
    """Else the test above might ask for nothing."""
    chance = random.Random(16)
    count = 0
    for _ in range(RUNS):
        answer = answer_to(port, asked(chance, AS_ALICE))
        assert b"inner secret" not in answer
        count += leaks(answer)
    assert count > RUNS / 20


def test_of_pipelined_requests_each_shows_its_own_password(port: int) -> None:
    targets = ("/in/a.txt", "/free/b.txt", "/in/a.txt", "/wsgi/in/x", "/in/deep/b.txt", "/in/none", "/in/a.txt")
    lines = (AS_ALICE, "X: y", "X: y", "X: y", AS_ALICE, AS_ALICE, AS_ALICE)
    for _ in range(3):
        with Client(port) as client:
            client.send(
                b"".join(
                    f"GET {target} HTTP/1.1\r\nHost: test\r\n{line}\r\n\r\n".encode()
                    for target, line in zip(targets, lines, strict=True)
                )
            )
            got = [client.read() for _ in targets]
            assert [one.status for one in got] == [200, 200, 401, 401, 401, 404, 200]
            assert [b"top secret" in one.body for one in got] == [True, *[False] * 5, True]

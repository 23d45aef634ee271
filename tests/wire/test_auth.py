"""Passwords over real sockets, on both engines: nothing that is protected leaves without one."""

from __future__ import annotations

import gc
import gzip
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response, get
from tests.support.command import StartCommand
from tests.support.passwords import ALICE, ALICE_ARGON2, ALICE_BCRYPT, BOB, BOB_BCRYPT, basic
from tests.support.site import Serve, Site
from tests.support.stage import NameApplication, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.auth import checks
from zcserve.explain import explanation_of
from zcserve.net.admission import Admission
from zcserve.net.answering import Answering
from zcserve.net.fastlane import FastLane

pytest.importorskip("bcrypt")
pytest.importorskip("argon2")

SECRET = b"secret " * 40
AS_ALICE, AS_BOB = basic("alice", ALICE), basic("bob", BOB)
USERS = {"alice": ALICE_ARGON2}
PREFLIGHT = ("Origin: https://a.example", "Access-Control-Request-Method: GET")
AUTH: tuple[dict[str, Any], ...] = (
    {"path": "/in/open.txt", "open": True},
    {"path": "/in/**", "users": USERS, "realm": 'The "in" side'},
    {"path": ["*.csv", "/app.html", "/csp"], "users": {"bob": BOB_BCRYPT}},
)
RULES: tuple[dict[str, Any], ...] = (
    {"path": "/in/cached.txt", "set": {"Cache-Control": "public, max-age=60", "CDN-Cache-Control": "max-age=9"}},
    {"path": "/in/cors.txt", "cors": {"origins": ["https://a.example"], "headers": ["authorization"]}},
    {"path": "/**", "set": {"X-All": "1"}},
)
REDIRECTS: tuple[dict[str, Any], ...] = (
    {"from": "/rewritten", "to": "/in/a.txt", "status": 200},
    {"from": "/in/moved", "to": "/out.txt"},
    {"from": "/in/outside", "to": "/out.txt", "status": 200},
    {"from": "/led", "to": "/in/made", "status": 200},
    {"from": "/in/led", "to": "/csp?servlets", "status": 200},
    {"from": "/gone", "to": "/in/a.txt", "status": 404},
)
SERVLETS = """
@servlet("/in/made", methods=["GET", "POST"])
def made(request):
    return f"secret {len(request.body)}"

@servlet("/in/kept", ttl=60)
def kept(request):
    return "secret, kept"

@servlet("/made")
def free(request):
    return "free"

@servlet("/open/{rest:path}")
def rest_of(request, rest):
    return rest
"""

FAILING = """
from zcserve import Response

@servlet("/fails")
def fails(request):
    raise ValueError

@servlet("/lacks")
def lacks(request):
    return Response().send_file("/no/such")
"""


def write_site(site: Site) -> None:
    for name in ("in/a.txt", "in/index.html", "in/open.txt", "in/cached.txt", "in/cors.txt", "in/sub/b.txt", "t.csv"):
        site.write(name, SECRET, mtime=1e9)
    site.write("in/a.txt.gz", gzip.compress(SECRET), mtime=1e9)
    site.write("t.csv.gz", gzip.compress(SECRET), mtime=1e9)
    site.write("t.csv.gz.gz", gzip.compress(gzip.compress(SECRET)), mtime=1e9)
    site.write("app.html", SECRET, mtime=1e9)
    site.write("out.txt", b"free", mtime=1e9)
    site.write("401.html", b"<p>log in, please")


@pytest.fixture(scope="module")
def server(lasting_live: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    site = Site(tmp_path_factory.mktemp("auth") / "www")
    write_site(site)
    folder = write_servlets(tmp_path_factory.mktemp("folder"), servlets=SERVLETS)
    return lasting_live(site.root, auth=AUTH, rules=RULES, redirects=REDIRECTS, clean_urls=True, servlets=str(folder))


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.port) as client:
        yield client


def leaks(answer: Response) -> bool:
    return b"secret" in answer.body or gzip.compress(SECRET)[10:20] in answer.body or answer["ETag"] is not None


# Each way to a protected byte that there is, by what is asked.
WAYS = [
    "/in/a.txt", "/in/", "/in", "/in/index.html", "/in/sub/b.txt", "/in/sub", "/in/a.txt.gz", "/in/a.txt?x=1",
    "/%69n/a.txt", "/in%2Fa.txt", "//in//a.txt", "/./in/a.txt", "/x/../in/a.txt", "/in/./a.txt", "/x/%2e%2e/in/a.txt",
    "http://test/in/a.txt", "/in/none", "/in/none/", "/in/none.gz", "/in/moved", "/in/outside", "/rewritten",
    "/t.csv", "/t.csv.gz", "/t.csv.gz.gz", "/t.csv.zst.br",
    "/app", "/app.html", "/in/made", "/in/kept", "/led", "/in/led", "/csp?servlets",
    "/in/open.txt/",
    "/in/open.txt/../a.txt",
]  # fmt: skip


@pytest.mark.parametrize("target", WAYS)
def test_no_way_leads_past_the_password(client: Client, target: str) -> None:
    for lines in (
        (),
        (basic("alice", "wrong"),),
        (basic("nobody", ALICE),),
        ("Range: bytes=0-3",),
        ("If-None-Match: *",),
    ):
        for method in ("GET", "HEAD", "OPTIONS", "POST", "GET"):
            if method in ("OPTIONS", "POST") and target in ("/rewritten", "/app"):
                continue  # by its file alone, which they do not send
            answer = client.get(target, *lines, "Accept-Encoding: gzip", method=method)
            assert (answer.status, leaks(answer)) == (401, False), (method, lines)
            assert answer["WWW-Authenticate"].startswith(b'Basic realm="')
            assert answer["Cache-Control"] == b"no-store"
            assert (answer["X-All"], answer["Last-Modified"]) == (b"1", None)
    assert client.get(target).body == b"<p>log in, please"


def test_the_right_password_opens_what_is_there_and_tells_what_is_not(client: Client) -> None:
    assert client.get("/in/a.txt")["WWW-Authenticate"] == b'Basic realm="The \\"in\\" side", charset="UTF-8"'
    for _ in range(2):
        whole = client.get("/in/a.txt", AS_ALICE)
        assert (whole.status, whole.body, whole.all("Cache-Control")) == (200, SECRET, [b"private"])
        tag = whole["ETag"].decode()
        part = client.get("/in/a.txt", AS_ALICE, "Range: bytes=0-5")
        assert (part.status, part.body, part.all("Cache-Control")) == (206, b"secret", [b"private"])
        same = client.get("/in/a.txt", AS_ALICE, f"If-None-Match: {tag}")
        assert (same.status, same.all("Cache-Control")) == (304, [b"private"])
        assert client.get("/in/a.txt", AS_ALICE, "Accept-Encoding: gzip")["Content-Encoding"] == b"gzip"
        assert client.get("/in/a.txt", AS_ALICE, method="HEAD")["Content-Length"] == b"%d" % len(SECRET)
        assert client.get("/rewritten", AS_ALICE).body == SECRET
        assert client.get("/in/", AS_ALICE).body == SECRET
        for target, status in (("/in", 301), ("/in/moved", 301), ("/in/none", 404), ("/in/made", 200)):
            answer = client.get(target, AS_ALICE)
            assert (answer.status, answer.all("Cache-Control")) == (status, [b"private"]), target
        outside = client.get("/in/outside", AS_ALICE)
        assert (outside.status, outside.body, outside.all("Cache-Control")) == (200, b"free", [b"private"])
        assert client.get("/in/kept", AS_ALICE).body == b"secret, kept"
        assert client.get("/in/a.txt", AS_ALICE, method="DELETE").status == 405
        assert client.get("/in/a.txt", AS_BOB).status == client.get("/t.csv", AS_ALICE).status == 401
        assert client.get("/t.csv.gz", AS_BOB).status == client.get("/app", AS_BOB).status == 200
        assert client.get("/in/open.txt").body == SECRET
        assert client.get("/out.txt").all("Cache-Control") == []
        assert client.get("/none").status == client.get("/gone", AS_ALICE).status == 404
        assert client.get("/made").body == b"free"
        assert client.get("/open/a/../b//./c").body == b"b/c"  # what was judged


def test_no_shared_cache_is_told_to_keep_it(client: Client) -> None:
    answer = client.get("/in/cached.txt", AS_ALICE)
    assert (answer.all("Cache-Control"), answer["CDN-Cache-Control"]) == ([b"private, max-age=60"], None)


def test_two_rules_want_two_right_answers(live: Serve, site: Site) -> None:
    write_site(site)
    same = {"path": "*.txt", "users": {"alice": ALICE_BCRYPT, "bob": BOB_BCRYPT}}
    auth = ({"path": "/in/**", "users": USERS}, same)
    redirects = ({"from": "/in/x", "to": "/out.txt", "status": 200},)
    with Client(live(site.root, auth=auth, redirects=redirects).port) as client:
        assert [client.get("/in/x", who).status for who in (AS_ALICE, AS_BOB)] == [200, 401]
        assert client.get("/out.txt", AS_BOB).status == 200


def test_the_names_in_a_protected_directory_are_protected(live: Serve, site: Site) -> None:
    write_site(site)
    rules = ({"path": "/**", "listing": True},)
    server = live(site.root, auth=({"path": "/in/**", "users": USERS},), rules=rules)
    for _ in range(2):
        for target in ("/in/sub/", "/in/sub", "/in/sub/?format=json", "/in//sub/", "/in/none/"):
            assert get(server.port, target).status == 401, target
            assert b"b.txt" not in get(server.port, target, "Accept: application/json").body
        listed = get(server.port, "/in/sub/", AS_ALICE)
        assert (listed.status, b"b.txt" in listed.body, listed.all("Cache-Control")) == (200, True, [b"private"])


def test_a_listing_names_nothing_that_asks_for_another_password(live: Serve, site: Site) -> None:
    for name in ("pub/a.csv", "pub/b.txt", "pub/deep/c.txt", "in/open.txt", "in/d.txt", "in/e.csv"):
        site.write(name, SECRET)
    auth = (
        {"path": "/in/open.txt", "open": True},
        {"path": ["*.csv", "/pub/deep/**"], "users": {"bob": BOB_BCRYPT}},
        {"path": "/in/**", "users": USERS},
    )
    with Client(live(site.root, auth=auth, listing=True).port) as client:

        def names(target: str, *lines: str) -> list[str]:
            page = client.get(target, *lines).body
            told = json.loads(client.get(target + "?format=json", *lines).body)
            assert all(one["href"].encode() in page for one in told["entries"])
            assert b"csv" not in page
            assert told["names"] == len(told["entries"])
            return [one["name"] for one in told["entries"]]

        for _ in range(2):
            assert names("/") == ["pub"]
            assert names("/pub/") == ["b.txt"]
            assert names("/in/", AS_ALICE) == ["d.txt", "open.txt"]
            assert client.get("/pub/deep/").status == client.get("/pub/a.csv").status == 401


@pytest.mark.parametrize("glob", ["*.html", "/errors/**"])
def test_a_page_for_errors_is_for_clients_that_may_read_it(live: Serve, site: Site, tmp_path: Path, glob: str) -> None:
    for name in ("404.html", "401.html", "410.html", "errors/missing.html", "errors/gone.html", "in/a.html"):
        site.write(name, SECRET)
    folder = write_servlets(tmp_path, servlets=FAILING)
    pages = {"4xx": "/errors/missing.html", "5xx": "/errors/missing.html"}
    led = [{"from": f"/as-{status}", "to": "/errors/gone.html", "status": status} for status in (403, 404, 410, 451)]
    led += [{"from": "/old/*", "status": 410}, {"from": "/missing", "to": "/errors/gone", "status": 404}]
    within = glob.replace("**", "none").replace("*", "/in/none")
    behind = within.replace("none", "gone-by-rule")
    led.append({"from": behind, "to": "/errors/gone.html", "status": 410})
    server = live(
        site.root,
        auth=({"path": glob, "users": USERS},),
        redirects=tuple(led),
        error_pages=(pages,),
        servlets=str(folder),
        clean_urls=True,
    )
    asked = [("/none", 404), ("/fails", 500), ("/lacks", 404), ("/old/a", 410), ("/missing", 404)]
    asked += [(f"/as-{status}", status) for status in (403, 404, 410, 451)]
    with Client(server.port) as client:
        for _ in range(3):
            for target, status in asked:
                for lines in ((), (AS_ALICE,)):  # the path asks for nothing: what is shown is not looked at
                    answer = client.get(target, *lines)
                    assert (answer.status, b"secret" in answer.body) == (status, False), target
            refused = client.get(within)
            assert (refused.status, refused.body) == (401, SECRET)
            assert client.get(within, AS_ALICE).body == SECRET
            assert client.get(behind).status == 401
            assert (client.get(behind, AS_ALICE).status, client.get(behind, AS_ALICE).body) == (410, SECRET)
        for target, status in asked[:1] + asked[3:]:
            told = explanation_of(server.config, target, "GET", ())
            assert (told.status, "missing.html" in told.answer, told.auth) == (status, False, ""), target


def test_a_browser_may_ask_for_leave_and_learns_nothing_of_what_is_there(client: Client) -> None:
    asked = client.get("/in/cors.txt", *PREFLIGHT, "Access-Control-Request-Headers: authorization", method="OPTIONS")
    assert (asked.status, asked["Access-Control-Allow-Headers"]) == (204, b"authorization")
    refused = client.get("/in/cors.txt", "Origin: https://a.example")
    assert (refused.status, refused["Access-Control-Allow-Origin"]) == (401, b"https://a.example")
    there, absent, made = (
        client.get(target, *PREFLIGHT, method="OPTIONS") for target in ("/in/a.txt", "/in/none", "/in/made")
    )
    heads = [
        {line for line in one.head.split(b"\r\n") if not line.startswith(b"Date")} for one in (there, absent, made)
    ]
    assert heads[0] == heads[1] == heads[2]
    assert leaks(there) is False


@pytest.mark.parametrize(
    "value",
    [
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YWxpY2U=",
        "Bearer abc",
        "Basic YQ==, Basic YQ==",
        "Basic 4pyT",
        "Basic OnB3",
    ],
)
def test_garbage_is_no_password(client: Client, value: str) -> None:
    assert client.get("/in/a.txt", f"Authorization: {value}").status == 401
    assert client.get("/in/a.txt", AS_ALICE, f"Authorization: {value}").status == 401
    assert client.get("/in/a.txt", AS_ALICE.replace("Basic", "bAsIc")).status == 200


def test_answers_stay_in_order_and_bodies_are_read(client: Client) -> None:
    asks = [("/in/a.txt", AS_ALICE), ("/out.txt", ""), ("/in/a.txt", basic("alice", "no")), ("/in/a.txt", "X: y")]
    client.send(
        b"".join(f"GET {target} HTTP/1.1\r\nHost: a\r\n{line or 'X: y'}\r\n\r\n".encode() for target, line in asks)
    )
    assert [client.read().status for _ in asks] == [200, 200, 401, 401]
    for line, status in ((AS_ALICE, 200), ("X: y", 401)):
        client.send(f"POST /in/made HTTP/1.1\r\nHost: a\r\n{line}\r\nContent-Length: 5\r\n\r\n12345".encode())
        answer = client.read()
        assert (answer.status, b"secret 5" in answer.body) == (status, status == 200)
    client.send(f"GET /in/a.txt HTTP/1.0\r\n{AS_ALICE}\r\n\r\n".encode())
    assert client.read().status == 200
    assert client.at_end()


def test_a_body_is_not_asked_for_from_a_client_that_names_nobody(server: Server) -> None:
    with Client(server.port) as client:
        client.send(b"POST /in/made HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.read().status == 401  # and no 100 before it


def test_the_lane_knows_nothing_that_is_protected(server: Server) -> None:
    front = server.loop.front
    has_lane = isinstance(front, FastLane)

    def by_lane(target: str, *lines: str) -> int:
        if not isinstance(front, FastLane):
            return 0
        before = front.lane.requests
        for _ in range(2):  # each by a connection that was the lane's until then
            assert get(server.port, target, *lines).status
        return front.lane.requests - before

    for target in WAYS:
        assert by_lane(target, AS_ALICE, "Accept-Encoding: gzip") == 0, target
    assert by_lane("/out.txt") == by_lane("/made") == 2 * has_lane


def test_a_reload_protects_at_once_and_takes_other_users(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    write_site(site)
    users = tmp_path / "users"
    users.write_text(f"# who\n\nalice:{ALICE_BCRYPT}\n")
    server = live(site.root, auth=({"path": "/in/**", "users_file": str(users)},))
    with Client(server.port) as client:
        assert "quick to guess" in caplog.text
        assert client.get("/in/a.txt", AS_ALICE).status == 200
        users.write_text(f"bob:{BOB_BCRYPT}\n")
        reload(server)
        assert [client.get("/in/a.txt", who).status for who in (AS_ALICE, AS_BOB)] == [401, 200]
        users.write_text("bob:plain\n")
        assert "users:1: the user 'bob': plain text" in reload(server)
        assert client.get("/in/a.txt", AS_BOB).status == 200
        users.unlink()
        assert "cannot be read" in reload(server)
        assert client.get("/in/a.txt", AS_BOB).status == 200


def test_a_check_that_a_reload_overtakes_is_made_again_by_the_hash_of_now(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    write_site(site)
    users = tmp_path / "users"
    users.write_text(f"alice:{ALICE_BCRYPT}\n")
    folder = write_servlets(tmp_path, servlets=SERVLETS)
    server = live(
        site.root, auth=({"path": "/in/**", "users_file": str(users)},), servlets=str(folder), wrong_passwords_max=0
    )
    checks = server.service.keeper.checks
    real, go_on = checks.check, threading.Event()
    begun: list[str] = []

    def check(hashed: str, password: bytes) -> bool:
        begun.append(hashed)
        assert go_on.wait(30)
        return real(hashed, password)

    checks.check = check
    asks = [("/in/a.txt", ALICE), ("/in/made", ALICE), ("/in/none", BOB), ("/in/made", BOB)]
    clients = [Client(server.port) for _ in asks]
    for client, (target, password) in zip(clients, asks, strict=True):
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n{basic('alice', password)}\r\n\r\n".encode())
    wait_until(lambda: len(begun) == 2)  # one question each
    users.write_text(f"alice:{BOB_BCRYPT}\n")
    assert reload(server) == ""
    go_on.set()
    assert [client.read().status for client in clients] == [401, 401, 404, 200]
    for client in clients:
        assert client.get("/in/a.txt", basic("alice", ALICE)).status == 401
        assert client.get("/in/a.txt", basic("alice", BOB)).status == 200
        client.close()
    assert begun[:2] == [ALICE_BCRYPT] * 2
    assert set(begun[2:]) == {BOB_BCRYPT}


def test_a_body_behind_a_wrong_password_is_read_or_not_asked_for_and_the_connection_stays_in_step(
    client: Client,
) -> None:
    wrong = basic("alice", "wrong")
    post = f"POST /in/made HTTP/1.1\r\nHost: a\r\n{wrong}\r\nContent-Length: 5\r\n"
    client.send(f"{post}\r\n12345GET /out.txt HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert [client.read().status, client.read().status] == [401, 200]
    chunked = f"POST /in/a.txt HTTP/1.1\r\nHost: a\r\n{wrong}\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(f"{chunked}3\r\nabc\r\n0\r\n\r\nGET /out.txt HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert [client.read().status, client.read().status] == [401, 200]
    # It is known to be wrong: no 100 before the 401, after which the connection ends, since a body may come or not.
    client.send(f"{post}Expect: 100-continue\r\n\r\n".encode())
    assert client.read().status == 401
    assert client.at_end()


def reload(server: Server) -> str:
    """Why a reload failed, or ""."""
    told: list[str] = []
    done = threading.Event()

    def tell(why: str) -> None:
        told.append(why)
        done.set()

    server.content.reload(tell)
    assert done.wait(20)
    return told[0]


def test_a_flood_of_wrong_passwords_holds_up_nobody_but_those_that_are_unknown(
    live: Serve, site: Site, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    write_site(site)
    server = live(site.root, auth=({"path": "/in/**", "users": USERS},), wrong_passwords_max=0)
    go_on = threading.Event()
    with Client(server.port) as client:
        assert client.get("/in/a.txt", AS_ALICE).status == 200
        keeper = server.service.keeper
        real = keeper.checks.check
        keeper.checks.check = lambda hashed, password: go_on.wait(30) and real(hashed, password)
        flood = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(checks.WAITING_MAX + 6)]
        for number, one in enumerate(flood):
            line = basic("alice", f"wrong {number}")
            one.sendall(f"GET /in/a.txt HTTP/1.1\r\nHost: a\r\n{line}\r\nConnection: close\r\n\r\n".encode())
        wait_until(lambda: keeper.checks.waiting == checks.WAITING_MAX)
        for _ in range(3):
            assert client.get("/in/a.txt", AS_ALICE).status == 200  # remembered
            assert client.get("/out.txt").status == 200
            assert client.get("/in/a.txt").status == 401  # without any
        go_on.set()
        statuses = [head(one) for one in flood]
        assert statuses.count(503) == 6 - checks.THREADS_MAX
        assert statuses.count(401) == checks.WAITING_MAX + checks.THREADS_MAX
        wait_until(lambda: keeper.checks.waiting == 0)


def head(connection: socket.socket) -> int:
    connection.settimeout(30)
    with connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if b" 503 " in answer[:20]:
        assert b"Retry-After: 1\r\n" in answer
    return int(answer.split(b" ")[1])


def test_a_client_that_leaves_takes_its_question_along(live: Serve, site: Site, wait_until: WaitUntil) -> None:
    write_site(site)
    server = live(site.root, auth=({"path": "/in/**", "users": USERS},))
    go_on = threading.Event()
    keeper = server.service.keeper
    keeper.checks.check = lambda hashed, password: go_on.wait(30)
    flood = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(checks.THREADS_MAX + 4)]
    for number, one in enumerate(flood):
        one.sendall(f"GET /in/ HTTP/1.1\r\nHost: a\r\n{basic('alice', str(number))}\r\n\r\n".encode())
    wait_until(lambda: keeper.checks.waiting == 4)
    for one in flood:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        one.close()
    wait_until(lambda: keeper.checks.waiting == 0)
    go_on.set()
    with Client(server.port) as client:
        assert client.get("/out.txt").status == 200


def test_nothing_of_a_request_waits_for_the_collector(server: Server, wait_until: WaitUntil) -> None:
    gc.collect()
    gc.disable()
    try:
        for line in (AS_ALICE, basic("alice", "no"), "X: y", AS_BOB):
            for target in ("/in/a.txt", "/in/made", "/rewritten"):
                get(server.port, target, line)
        with Client(server.port) as client:
            client.send(f"GET /in/a.txt HTTP/1.1\r\nHost: a\r\n{basic('alice', 'left')}\r\n\r\n".encode())
            client.reset()
        wait_until(lambda: not any(type(one) in (Admission, Answering) for one in gc.get_objects()))
    finally:
        gc.enable()


def test_the_log_has_the_user_and_no_line_is_forged(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    write_site(site)
    name = 'a "b" é'
    log = tmp_path / "log"
    server = live(site.root, auth=({"path": "/in/**", "users": {name: BOB_BCRYPT}},), access_log=str(log))
    with Client(server.port) as client:
        assert client.get("/in/a.txt", basic(name, BOB)).status == 200
        assert client.get("/in/a.txt", basic(name, "x")).status == 401
        assert client.get("/out.txt", basic(name, BOB)).status == 200
    lines = wait_until(lambda: len(text := log.read_text().splitlines()) == 3 and text)
    assert [line.split(" [")[0] for line in lines] == [
        r"127.0.0.1 - a\x20\x22b\x22\x20\xc3\xa9", "127.0.0.1 - -", "127.0.0.1 - -",
    ]  # fmt: skip


def test_an_application_is_not_called_for_a_client_without_a_password(
    live: Serve, site: Site, module: NameApplication
) -> None:
    called: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        called.append(environ["PATH_INFO"] + f" {environ.get('AUTH_TYPE')} {environ.get('REMOTE_USER')}")
        start_response("200 OK", [("Content-Length", "17"), ("Cache-Control", "public, max-age=5")])
        yield b"secret, "
        yield b"in pieces"

    named = module(application)
    mount = (f"/app={named}", f"/open={named}")
    server = live(site.root, mount=mount, auth=({"path": "/app/**", "users": USERS},))
    with Client(server.port) as client:
        for target in ("/app", "/app/", "/app/x", "/app/%zz", "/app/%00", "//app//x", "/%61pp/x", "/app/../app/x"):
            for method in ("GET", "POST", "PUT", "OPTIONS"):
                assert client.get(target, method=method).status == 401, (target, method)
        assert client.get("/app/x", *PREFLIGHT, method="OPTIONS").status == 200
        assert called == []
        answer = client.get("/app/x", AS_ALICE)
        assert (answer.body, answer.all("Cache-Control")) == (b"secret, in pieces", [b"private, max-age=5"])
        assert called == ["/x Basic alice"]
        # What is judged is what the application reads: it may have a route for `/admin/<path>`.
        for sent in ("/app/../open/./x/..//y", "/x/..//open//app/%2e%2e/y", "/open%2fapp%2f..%2fy"):
            assert client.get(sent).status == 200
            assert called.pop() == "/y None None"
        answer = client.get("/open/x", AS_ALICE, "Remote-User: alice", "Auth-Type: Basic")
        assert answer.all("Cache-Control") == [b"public, max-age=5"]
        assert called[1:] == ["/x None None"]


def test_what_the_lane_knew_is_asked_for_a_password_as_soon_as_a_reload_says_so(
    engine: str, site: Site, tmp_path: Path, command: StartCommand, wait_until: WaitUntil
) -> None:
    write_site(site)
    config, users = tmp_path / "site.toml", tmp_path / "users"
    before = f"engine = '{engine}'\n"
    config.write_text(before)
    users.write_text(f"alice:{ALICE_BCRYPT}\n")
    server = command(site.root, "--config", str(config))
    idle = [Client(server.port) for _ in range(8)]
    for client in idle:
        assert client.get("/in/a.txt").status == client.get("/in/a.txt").status == 200
        assert client.get("/in/none").status == 404
    config.write_text(f"{before}[[auth]]\npath = '/in/**'\nusers_file = '{users}'\n")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: any("reloaded: 1 sites" in line for line in server.lines))
    for client in idle:
        assert client.get("/in/a.txt").status == client.get("/in/none").status == 401
        assert client.get("/in/a.txt", AS_ALICE).status == 200
        client.close()


def test_a_site_has_its_own_users(live: Serve, site: Site, tmp_path: Path) -> None:
    from zcserve.config.site import SiteTable

    write_site(site)
    (other := tmp_path / "other").mkdir()
    (other / "in").mkdir()
    (other / "in" / "a.txt").write_bytes(b"free")
    blog = SiteTable(name="blog", hosts=("blog.example",), values={"root": str(other)})
    server = live(site.root, auth=({"path": "/in/**", "users": USERS},), sites=(blog,))
    with Client(server.port) as client:
        for _ in range(3):
            assert client.get("/in/a.txt").status == 401
            assert client.get("http://blog.example/in/a.txt").body == b"free"
            assert client.get("http://blog.example/in/none").status == 404
            assert client.get("/in/none").status == 401
    # Whose first segment the front knows: each by a connection that is the lane's.
    for target in (
        "/in/none",
        "/in/none?x",
        "/in",
        "/%69n/none",
        "//in/none",
        "/x/../in/none",
        "/in/a.txt.br",
    ):
        for _ in range(2):
            assert get(server.port, target).status == 401, target
    assert get(server.port, "/none").status == 404


def test_what_an_older_release_had_is_asked_for_by_the_rules_of_now(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    write_site(site)
    users = tmp_path / "users"
    users.write_text(f"alice:{ALICE_BCRYPT}")
    server = live(site.root, auth=({"path": "/in/**", "users_file": str(users)},), keep_generations=1, watch=False)
    (site.root / "in" / "a.txt").unlink()
    users.write_text(f"bob:{BOB_BCRYPT}")
    assert reload(server) == ""
    with Client(server.port) as client:
        for _ in range(2):
            assert [client.get("/in/a.txt", who).status for who in (AS_ALICE, AS_BOB, "X: y")] == [401, 200, 401]


@pytest.mark.parametrize(
    ("method", "target", "lines"),
    [
        ("GET", "/in/a.txt", ()),
        ("HEAD", "/in/none", ()),
        ("POST", "/in/a.txt", ()),
        ("GET", "/rewritten", ()),
        ("GET", "/in/cors.txt", ("Origin: https://a.example",)),
        ("OPTIONS", "/in/cors.txt", PREFLIGHT),
        ("OPTIONS", "/in/none", PREFLIGHT),
        ("GET", "/in/a.txt", (AS_ALICE,)),
        ("GET", "/in/cached.txt", (AS_ALICE, "Range: bytes=0-1")),
        ("GET", "/in/none", (AS_ALICE,)),
        ("GET", "/in/moved", (AS_ALICE,)),
        ("GET", "/in/outside", (AS_ALICE,)),
        ("GET", "/rewritten", (AS_ALICE,)),
        ("GET", "/in/open.txt", ()),
    ],
)
def test_what_is_told_of_a_request_is_what_it_gets(
    client: Client, server: Server, method: str, target: str, lines: tuple[str, ...]
) -> None:
    answer = client.get(target, *lines, method=method)
    told = explanation_of(server.config, target, method, lines)
    sent = [line.split(b": ", 1) for line in answer.head.split(b"\r\n")[1:] if line and not line.startswith(b"Date")]
    assert told.status == answer.status
    assert [(name.encode(), value.encode()) for name, value in told.fields] == [(name, value) for name, value in sent]
    assert bool(told.auth) == (target != "/in/open.txt" and method != "OPTIONS")
    if answer.status == 401:
        assert told.answer == "a name and a password are asked for"
        assert "realm" in told.auth
    elif told.auth:
        assert "the password is not checked here" in " ".join(told.notes)

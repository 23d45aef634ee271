"""CORS over real sockets, on both engines: which pages of other origins may read, and ask for, what is served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.engines import Engines, compare, lane_share, make_site
from tests.support.site import Serve, Site

A, BELOW, OTHER = "https://a.example", "https://x.y.b.example", "https://b.example"
LISTED = {
    "origins": [A, "https://*.b.example"],
    "methods": ["GET", "PUT"],
    "headers": ["X-Token"],
    "expose": ["X-Kind"],
    "max_age": "1h",
    "credentials": True,
}
RULES: tuple[dict[str, Any], ...] = (
    {"path": "/open/**", "cors": "*"},
    {"path": "/listed/**", "cors": LISTED, "set": {"X-Kind": "listed"}},
    {"path": "/listed/mine/**", "set": {"Access-Control-Allow-Origin": "https://mine.example"}},
)


@pytest.fixture
def root(site: Site) -> Site:
    for folder in ("open", "open/sub", "listed", "closed", "listed/mine"):
        site.write(f"{folder}/a.json", b'{"a": 1}')
        site.write(f"{folder}/index.html", b"<p>")
    return site


@pytest.fixture
def client(root: Site, live: Serve) -> Iterator[Client]:
    with Client(live(root.root, rules=RULES).port) as client:
        yield client


def allowed(answer: Response) -> tuple[bytes | None, list[bytes]]:
    return answer["Access-Control-Allow-Origin"], answer.all("Vary")


def test_what_is_open_to_all_says_so_in_each_answer_to_anybody(client: Client) -> None:
    tag = client.get("/open/a.json")["ETag"].decode()
    for _ in range(3):
        for lines, status in (((), 200), (("Range: bytes=0-1",), 206), ((f"If-None-Match: {tag}",), 304)):
            for origin in ((), (f"Origin: {OTHER}",)):
                answer = client.get("/open/a.json", *lines, *origin)
                assert (answer.status, *allowed(answer)) == (status, b"*", [])
        assert allowed(client.get("/open/sub")) == (b"*", [])  # the redirect to the folder
        assert allowed(client.get("/closed/a.json", f"Origin: {OTHER}")) == (None, [])


def test_a_list_is_answered_by_origin_and_says_that_it_depends_on_it(client: Client) -> None:
    tag = client.get("/listed/a.json")["ETag"].decode()
    for _ in range(3):
        for lines, status in (((), 200), (("Range: bytes=0-1",), 206), ((f"If-None-Match: {tag}",), 304)):
            for origin in (A, BELOW):
                answer = client.get("/listed/a.json", *lines, f"Origin: {origin}")
                assert (answer.status, *allowed(answer)) == (status, origin.encode(), [b"Origin"])
                assert answer["Access-Control-Allow-Credentials"] == b"true"
                assert answer["Access-Control-Expose-Headers"] == answer["X-Kind"].replace(b"listed", b"X-Kind")
            for other in ((), (f"Origin: {OTHER}",), ("Origin: null",), (f"Origin: {A}", f"Origin: {A}")):
                answer = client.get("/listed/a.json", *lines, *other)
                assert (answer.status, *allowed(answer)) == (status, None, [b"Origin"]), other
                assert answer["Access-Control-Allow-Credentials"] is None
        moved = client.get("/listed/mine", f"Origin: {A}")
        assert (moved.status, *allowed(moved)) == (301, A.encode(), [b"Origin"])
        assert allowed(client.get("/listed/", f"Origin: {A}")) == (A.encode(), [b"Origin"])
        assert (
            client.get("/listed/mine/a.json", f"Origin: {A}")["Access-Control-Allow-Origin"] == b"https://mine.example"
        )


def ask(client: Client, target: str, origin: str, method: str, *lines: str) -> Response:
    asked = f"Access-Control-Request-Method: {method}"
    return client.get(target, f"Origin: {origin}", asked, *lines, method="OPTIONS")


def test_a_browser_that_asks_for_leave_is_told_what_is_allowed(client: Client) -> None:
    open_to_all = ask(client, "/open/a.json", OTHER, "GET", "Access-Control-Request-Headers: x-any")
    assert (open_to_all.status, *allowed(open_to_all)) == (204, b"*", [])
    assert open_to_all["Access-Control-Allow-Methods"] == b"GET, HEAD"
    assert open_to_all["Access-Control-Allow-Headers"] == b"*"
    listed = ask(client, "/listed/", BELOW, "PUT", "Access-Control-Request-Headers: X-TOKEN")
    assert (listed.status, *allowed(listed)) == (204, BELOW.encode(), [b"Origin"])
    assert listed["Access-Control-Allow-Methods"] == b"GET, PUT"
    assert listed["Access-Control-Allow-Headers"] == b"x-token"
    assert (listed["Access-Control-Max-Age"], listed["Access-Control-Allow-Credentials"]) == (b"3600", b"true")
    assert listed["Access-Control-Allow-Private-Network"] is None


def test_what_is_not_allowed_gets_no_allow_origin(client: Client) -> None:
    for answer in (
        ask(client, "/listed/a.json", OTHER, "GET"),
        ask(client, "/listed/a.json", A, "DELETE"),
        ask(client, "/listed/a.json", A, "GET", "Access-Control-Request-Headers: x-token, x-other"),
    ):
        assert (answer.status, *allowed(answer)) == (204, None, [b"Origin"])
        assert answer["Access-Control-Allow-Methods"] is None
    authorized = ask(client, "/open/a.json", A, "GET", "Access-Control-Request-Headers: authorization")
    assert allowed(authorized) == (None, [])  # `*` does not stand for it
    assert allowed(ask(client, "/closed/a.json", A, "GET"))[0] is None
    assert client.get("/open/a.json", method="OPTIONS")["Allow"] == b"GET, HEAD, OPTIONS"
    for target, origin in (("/open/a.json", A), ("/listed/", A), ("/listed/", OTHER), ("/listed/mine/a.json", A)):
        asked, given = (client.get(target, f"Origin: {origin}", method=method) for method in ("OPTIONS", "GET"))
        names = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Allow-Credentials")
        assert (asked.status, [asked[one] for one in names]) == (200, [given[one] for one in names])
        assert asked.all("Vary") == [value for value in given.all("Vary") if value == b"Origin"]
    assert ask(client, "/closed/none", A, "GET").status == 404


def test_fields_that_a_site_sets_itself_stand_in_preflights_where_no_rule_is_about_cors(
    root: Site, live: Serve
) -> None:
    by_hand = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, PUT"}
    with Client(live(root.root, rules=({"path": "/**", "set": by_hand},)).port) as client:
        asks = (f"Origin: {OTHER}", "Access-Control-Request-Method: PUT")
        answer = client.get("/closed/a.json", *asks, method="OPTIONS")
        assert (answer.status, {name: answer[name] for name in by_hand}) == (
            200,
            {name: value.encode() for name, value in by_hand.items()},
        )


def test_what_is_absent_has_the_policy_of_its_page(root: Site, live: Serve) -> None:
    for cors, allow in (("*", b"*"), ({"origins": [A]}, A.encode())):
        server = live(root.root, rules=({"path": "/**", "cors": cors},))
        with Client(server.port) as client:
            for _ in range(3):
                absent = client.get("/none", f"Origin: {A}")
                assert (absent.status, absent["Access-Control-Allow-Origin"]) == (404, allow)
                other = client.get("/none", f"Origin: {OTHER}")
                assert other["Access-Control-Allow-Origin"] == (b"*" if cors == "*" else None)
                assert other.all("Vary") == ([] if cors == "*" else [b"Origin"])
            assert ask(client, "/none", A, "GET").status == 204


def test_both_engines_send_the_same_bytes_and_the_lane_answers_what_is_open_to_all(site: Site, serve: Serve) -> None:
    pytest.importorskip("zcserve.net._lane")
    make_site(site.root)
    rules = ({"path": "/**", "cors": "*"}, {"path": "/dir/**", "cors": LISTED})
    native, python = (serve(site.root, rules=rules, engine=engine) for engine in ("native", "python"))
    engines = Engines(native, python, [])

    def asked(target: str, origin: str, method: str = "GET", more: str = "") -> bytes:
        return f"{method} {target} HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n{more}\r\n".encode()

    preflight = "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: a\r\n"
    for origin in (A, BELOW, OTHER):
        pieces = [
            asked(target, origin, method, more)
            for target in ("/small.txt", "/dir/", "/dir", "/dir/a%20b.html?q", "/none", "/dir/none")
            for method, more in (
                ("GET", ""), ("HEAD", ""), ("GET", "Range: bytes=0-3\r\n"), ("OPTIONS", ""), ("OPTIONS", preflight),
                ("GET", "Accept-Encoding: gzip\r\n"), ("GET", "Range: bytes=999999-\r\n"), ("POST", ""),
            )
        ]  # fmt: skip
        assert compare(engines, pieces)

    def work() -> None:
        with Client(native.port) as client:
            for _ in range(20):
                assert client.get("/small.txt", f"Origin: {OTHER}")["Access-Control-Allow-Origin"] == b"*"
                assert client.get("/none", f"Origin: {OTHER}")["Access-Control-Allow-Origin"] == b"*"

    assert lane_share(engines, work) > 0.9


def test_a_page_learns_of_what_failed_as_of_what_is_there(site: Site, live: Serve) -> None:
    for name in ("open.json", "listed.json", "plain.json"):
        site.write(name, b"{}" * 10)
    rules = (
        {"path": "/*.json", "set": {"X-A": "1", "Cache-Control": "max-age=9"}},
        {"path": "/open.json", "cors": {"origins": "*", "expose": ["X-A"]}},
        {"path": "/listed.json", "cors": {"origins": ["https://a.example"]}},
    )
    allowed, exposed = "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"
    with Client(live(site.root, rules=rules).port) as client:
        for _ in range(3):
            for status, line in ((412, 'If-Match: "x"'), (416, "Range: bytes=999-")):
                answer = client.get("/open.json", line)
                assert (answer.status, answer[allowed], answer[exposed]) == (status, b"*", b"X-A")
                assert (answer["X-A"], answer["Cache-Control"], answer["Vary"]) == (b"1", None, None)
                answer = client.get("/listed.json", line)
                assert (answer.status, answer[allowed], answer["Vary"]) == (status, None, b"Origin")
                answer = client.get("/listed.json", line, "Origin: https://a.example")
                assert (answer[allowed], answer["Vary"]) == (b"https://a.example", b"Origin")
                answer = client.get("/plain.json", line)
                assert (answer.status, answer[allowed], answer["X-A"]) == (status, None, b"1")

"""Rules reach what is sent: header fields, redirects, rewrites, on both engines and with the same bytes."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.engines import TARGETS, Engines, compare, lane_share, make_site, tags_of
from tests.support.grammar import Maker
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.errors import UsageError
from zcserve.rules.preset import IMMUTABLE
from zcserve.site import reply

HASHED = "app-BVqDs1Xt.js"


def rules(*tables: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tables


def test_a_field_of_a_rule_is_in_every_answer_of_its_file(site: Site, live: Serve) -> None:
    site.write("a/page.html", b"<p>" * 100)
    site.write("a/page.html.gz", b"zipped", mtime=2_000_000_000)
    site.write("a/large.bin", b"x" * 100_000)
    site.write("b.html", b"b")
    written = rules({"path": "/a/**", "set": {"X-A": "b", "Cache-Control": "no-store"}})
    with Client(live(site.root, rules=written, cache_control="max-age=60", trust_siblings=True).port) as client:
        for _ in range(3):
            for lines in (
                (), ("Range: bytes=0-1",), ("If-None-Match: *",), ("Accept-Encoding: gzip",), ("Range: bytes=0-1,3-4",),
            ):  # fmt: skip
                for target in ("/a/page.html", "/a/large.bin"):
                    answer = client.get(target, *lines)
                    assert (answer["X-A"], answer["Cache-Control"]) == (b"b", b"no-store"), lines
            assert client.get("/a/page.html", method="HEAD")["X-A"] == b"b"
            other = client.get("/b.html")
            assert (other["X-A"], other["Cache-Control"]) == (None, b"max-age=60")


def test_what_is_no_file_has_the_fields_that_are_its_own(site: Site, live: Serve) -> None:
    site.write("docs/index.html", b"docs")
    site.write("assets/a.js", b"a")
    written = rules(
        {"path": "/**", "set": {"X-All": "1", "Cache-Control": "max-age=5"}},
        {"path": "/docs", "set": {"X-Moved": "1"}},
        {"path": "/assets/**", "set": {"Cache-Control": "immutable"}},
        {"path": "*.html", "set": {"X-Page": "1"}},
    )
    with Client(live(site.root, rules=written).port) as client:
        for _ in range(3):
            moved = client.get("/docs")
            assert (moved.status, moved["X-All"], moved["X-Moved"], moved["X-Page"]) == (301, b"1", b"1", None)
            absent = client.get("/assets/none.js")  # as /404.html: an error is not kept for as long as an asset
            assert (absent.status, absent["X-All"], absent["X-Page"]) == (404, b"1", b"1")
            assert absent["Cache-Control"] == b"max-age=5"
        for method, status in (("POST", 405), ("BREW", 501), ("OPTIONS", 200)):
            answer = client.get("/assets/a.js", method=method)
            assert (answer.status, answer["X-All"], answer["Cache-Control"]) == (status, b"1", None)


def test_switches_types_charsets_downloads_and_preloads(site: Site, live: Serve) -> None:
    for name in (HASHED, "app.js", "data.foo", "index.html"):
        site.write(name, b"x")
    written = rules(
        {"path": "*.foo", "type": "text/x-foo", "charset": "iso-8859-1", "download": "größe.foo"},
        {"path": "/index.html", "preload": ["/app.js"], "remove": ["x-frame-options", "X-Content-Type-Options"]},
    )
    with Client(live(site.root, rules=written, secure_headers=True, immutable=True).port) as client:
        for _ in range(2):
            assert client.get(f"/{HASHED}")["Cache-Control"] == IMMUTABLE
            app = client.get("/app.js")
            assert (app["Cache-Control"], app["X-Frame-Options"]) == (None, b"SAMEORIGIN")
            data = client.get("/data.foo")
            assert data["Content-Type"] == b"text/x-foo; charset=iso-8859-1"
            assert data["Content-Disposition"].startswith(b'attachment; filename="gr__e.foo"; filename*=UTF-8')
            page = client.get("/")
            assert page["Link"] == b"</app.js>; rel=preload; as=script"
            assert page["X-Frame-Options"] is page["X-Content-Type-Options"] is None


REDIRECTS = (
    {"from": "/old", "to": "/new"},
    {"from": "/blog/*", "to": "/docs/:splat", "status": 302},
    {"from": "/shop/:id", "to": "https://shop.example/item?id=:id", "status": 308},
    {"from": "/find", "query": {"q": ":q"}, "to": "/search/:q", "status": 307},
    {"from": "/find", "to": "/search"},
    {"from": "/page/*", "to": "/app.html", "status": 200},
    {"from": "/gone/*", "status": 410},
    {"from": "/hidden.html", "status": 404, "force": True},
    {"from": "/docs/a.html", "to": "/elsewhere", "force": True},
    {"from": "/docs/b.html", "to": "/elsewhere"},
)


def ruled(site: Site) -> None:
    for name in ("app.html", "hidden.html", "docs/a.html", "docs/b.html", "docs/index.html", "about.html"):
        site.write(name, name.encode())


def test_a_path_leads_where_the_first_rule_says_unless_a_file_is_there(site: Site, live: Serve) -> None:
    ruled(site)
    expected = {
        "/old": (301, b"/new"),
        "/old?a=b": (301, b"/new?a=b"),
        "/old/": (301, b"/new"),
        "/blog/x/y?z": (302, b"/docs/x/y?z"),
        "/shop/5": (308, b"https://shop.example/item?id=5"),
        "/find?q=a": (307, b"/search/a"),
        "/find": (301, b"/search"),
        "/find?x": (301, b"/search?x"),
        "/gone/x": (410, None),
        "/hidden.html": (404, None),
        "/docs/a.html": (301, b"/elsewhere"),
        "/docs/b.html": (200, None),
        "/page/x": (200, None),
        "/about": (404, None),
        "/none": (404, None),
    }
    with Client(live(site.root, redirects=REDIRECTS).port) as client:
        for _ in range(3):
            for target, (status, location) in expected.items():
                answer = client.get(target)
                assert (answer.status, answer["Location"]) == (status, location), target
            assert client.get("/page/x").body == b"app.html"
            assert client.get("/page/x", "Range: bytes=0-2").body == b"app"


def test_a_redirect_answers_a_form_too_and_a_file_refuses_it(site: Site, live: Serve) -> None:
    ruled(site)
    expected = {
        "/old?a=b": (301, b"/new?a=b"),
        "/shop/5": (308, b"https://shop.example/item?id=5"),
        "/find?q=a": (307, b"/search/a"),
        "/docs/a.html": (301, b"/elsewhere"),
        "/docs/b.html": (405, None),
        "/docs": (405, None),
        "/page/x": (405, None),
        "/gone/x": (405, None),
        "/none": (405, None),
        "/%00": (400, None),
    }
    written = rules(
        {"path": "/shop/**", "set": {"X-A": "1"}, "cors": {"origins": ["https://a.example"]}},
        {"path": "/old", "set": {"X-A": "2"}},
    )
    with Client(live(site.root, redirects=REDIRECTS, rules=written).port) as client:
        for method in ("POST", "PUT", "DELETE", "PROPFIND"):
            for target, (status, location) in expected.items():
                client.send(b"%b %b HTTP/1.1\r\nHost: a\r\n" % (method.encode(), target.encode()))
                client.send(b"Content-Length: 5\r\n\r\nGET /")  # content, and no request
                answer = client.read()
                assert (answer.status, answer["Location"]) == (status, location), (method, target)
        form = client.get("/shop/5", "Content-Length: 0", "Origin: https://a.example", method="POST")
        assert (form["X-A"], form["Vary"]) == (b"1", b"Origin")
        assert form["Access-Control-Allow-Origin"] == b"https://a.example"
        assert client.get("/old", "Content-Length: 0", method="POST")["X-A"] == b"2"
        for method, status in (("OPTIONS", 200), ("TRACE", 405), ("BREW", 501)):
            assert client.get("/old", method=method).status == status


def test_one_page_for_all_paths_and_clean_urls_and_an_error_page(site: Site, live: Serve) -> None:
    ruled(site)
    site.write("index.html", b"index")
    site.write("410.html", b"it is gone")
    with Client(live(site.root, redirects=REDIRECTS, spa=True, clean_urls=True).port) as client:
        for _ in range(2):
            assert client.get("/some/route").body == client.get("/").body == b"index"
            assert client.get("/some/asset.js").status == 404
            assert client.get("/about").body == client.get("/about.html").body == b"about.html"
            gone = client.get("/gone/x")
            assert (gone.status, gone.body) == (410, b"it is gone")
            assert client.get("/none.txt").status == 404


def test_files_of_rules_are_read_not_served_and_followed(
    site: Site, live: Serve, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    site.write("a.html", b"a")
    site.write("b.html", b"b")
    site.write("_headers", b"/a.html\n  X-A: 1\n  Date: never\n/*\n  X-T: file\n")
    site.write("_redirects", b"/old /a.html\n/mine /file\n")
    site.write("sub/_headers", b"a file as any other")
    written = {
        "rules": rules({"path": "/**", "set": {"X-T": "toml"}}),
        "redirects": ({"from": "/mine", "to": "/toml"},),
    }
    with caplog.at_level(logging.WARNING):
        server = live(site.root, **written)
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "_headers:3:3: 'Date' cannot be set by a rule" in told
    assert "_headers:4:1: X-T is as rules[0] says" in told
    assert "_redirects:2:1: /mine leads where redirects[0] says" in told
    with Client(server.port) as client:
        for _ in range(2):
            first, other = client.get("/a.html"), client.get("/b.html")
            assert (first["X-A"], first["X-T"], other["X-A"]) == (b"1", b"toml", None)
            assert client.get("/old")["Location"] == b"/a.html"
            assert client.get("/mine")["Location"] == b"/toml"
            assert client.get("/_headers").status == client.get("/_redirects").status == 404
        assert client.get("/sub/_headers").body == b"a file as any other"
        kept = server.site.live.resources[b"/b.html"]
        site.write("_headers.new", b"/a.html\n  X-A: 2\n").rename(site.root / "_headers")
        wait_until(lambda: client.get("/a.html")["X-A"] == b"2")
        assert server.site.live.resources[b"/b.html"] is kept
        site.write("_redirects.new", b"/old /b.html\n/later/* /a.html 200\n").rename(site.root / "_redirects")
        wait_until(lambda: client.get("/old")["Location"] == b"/b.html")
        assert client.get("/later/x").body == b"a"
        (site.root / "_redirects").unlink()
        wait_until(lambda: client.get("/old").status == 404)
        assert client.get("/later/x").status == 404
        (site.root / "_headers").unlink()
        wait_until(lambda: client.get("/a.html")["X-A"] is None)


def test_a_file_of_rules_that_hides_something_is_not_passed_over(site: Site) -> None:
    site.write("a.html", b"a")
    site.write("_redirects", b"/secret/* /login 302! Role=admin\n")
    with pytest.raises(UsageError, match=r"_redirects:1:\d+: "):
        Server(Config(root=site.root, port=0)).__enter__()


def test_rules_come_behind_an_application_unless_they_have_force(site: Site, live: Serve) -> None:
    site.write("index.html", b"index")
    folder = site.root.parent / "servlets"
    folder.mkdir()
    (folder / "here.py").write_text(
        "from zcserve import servlet\n@servlet('/app/{x:path}')\ndef get(request, x): return 'app ' + x\n"
        "@servlet('/app/{x:path}', methods=['POST'])\ndef post(request, x): return 'sent ' + x\n"
    )
    led = (
        {"from": "/app/forced", "to": "/a", "force": True},
        {"from": "/app/*", "to": "/b"},
        {"from": "/old", "to": "/c"},
    )
    with Client(live(site.root, servlets=str(folder), redirects=led, spa=True).port) as client:
        for _ in range(2):
            assert client.get("/app/forced")["Location"] == b"/a"
            assert client.get("/app/x").body == b"app x"
            assert client.get("/old")["Location"] == b"/c"
            assert client.get("/route").body == b"index"
            assert client.get("/app/forced", "Content-Length: 0", method="POST")["Location"] == b"/a"
            assert client.get("/app/x", "Content-Length: 0", method="POST").body == b"sent x"
            assert client.get("/old", "Content-Length: 0", method="POST")["Location"] == b"/c"
            assert client.get("/route", "Content-Length: 0", method="POST").status == 405
            assert client.get("/app/forced", method="OPTIONS")["Allow"] == b"GET, HEAD, OPTIONS, POST"


def test_a_rule_may_be_for_one_host_alone(site: Site, live: Serve) -> None:
    site.write("a.html", b"a")
    led = (
        {"from": "https://old.example/*", "to": "https://new.example/:splat", "force": True},
        {"from": "/moved", "to": "https://new.example/moved"},
    )
    with Client(live(site.root, redirects=led).port) as client:
        for _ in range(3):
            for target in ("/a.html", "/none", "http://old.example/a.html"):
                host = b"Host: test" if target.startswith("http") else b"Host: old.example:80"
                client.send(b"GET %b HTTP/1.1\r\n%b\r\n\r\n" % (target.encode(), host))
                answer = client.read()
                assert answer.status == 301
                assert answer["Location"].startswith(b"https://new.example/"), target
            assert client.get("/a.html").body == b"a"
            assert client.get("/none").status == 404
            assert client.get("/moved")["Location"] == b"https://new.example/moved"


NAMES = ("X-A", "X-B", "Cache-Control", "Link", "X-Content-Type-Options", "Vary", "Content-Security-Policy")
GLOBS = ("/**", "/dir/**", "*.txt", "*.js", "/small.txt", "/*", "*.html", "/dir", "/[ls]*", "*", "/404.html")


def random_rules(rng: random.Random) -> tuple[dict[str, Any], ...]:
    def table(verb: str) -> dict[str, Any]:
        names = rng.sample([name for name in NAMES if verb == "add" or name != "Vary"], rng.randint(1, 2))
        return {name: rng.choice(("1", "nosniff", "max-age=9", ["a", "b"], "x" * 300)) for name in names}

    made = []
    for _ in range(rng.randint(1, 12)):
        rule: dict[str, Any] = {"path": rng.sample(GLOBS, rng.randint(1, 2))}
        rule |= {verb: table(verb) for verb in ("set", "add") if rng.random() < 0.6}
        if rng.random() < 0.3 or len(rule) == 1:
            rule["remove"] = rng.sample([name for name in NAMES if name != "Vary"], 2)
        if rng.random() < 0.2:
            rule["type"] = rng.choice(("text/plain", "application/x-a"))
        if rng.random() < 0.3:
            rule["tags"] = rng.sample(("a", "b:1", "c-d"), 2)
        if rng.random() < 0.1:
            rule["cors"] = "*"  # a list would leave the lane little: test_cors.py
        made.append(rule)
    return tuple(made)


def random_redirects(rng: random.Random) -> tuple[dict[str, Any], ...]:
    sources = ("/absent", "/dir/*", "/x/:a", "/dir/absent%20too", "/small.txt", "/*", "/large.js", "/dir", "/q")
    made = []
    for source in rng.sample(sources, rng.randint(1, 6)):
        status = rng.choice((301, 301, 302, 303, 307, 308, 200, 200, 404, 410))
        rule: dict[str, Any] = {"from": source, "status": status, "force": rng.random() < 0.3}
        rule["to"] = rng.choice(("/small.txt", "/dir/", "/to", "/to?x=y", "/to#z", "/large.bin", "/index.html"))
        if status not in (301, 302, 303, 307, 308):
            rule["to"] = rule["to"].partition("#")[0]
        if rng.random() < 0.2:
            rule["query"] = {"v": "1"}
        made.append(rule)
    return tuple(made)


@pytest.mark.parametrize("seed", range(4))
def test_both_engines_send_the_same_bytes_whatever_the_rules(
    site: Site, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zcserve.net._lane")
    rng = random.Random(seed)
    make_site(site.root)
    monkeypatch.setattr(reply, "new_boundary", lambda: b"boundary")
    led = random_redirects(rng) if seed else ()
    config: dict[str, Any] = {
        "root": site.root, "port": 0, "trust_siblings": True, "rules": random_rules(rng), "redirects": led,
        "secure_headers": rng.random() < 0.5, "clean_urls": rng.random() < 0.3, "spa": rng.random() < 0.3,
        "tag_header": rng.choice(("none", "Surrogate-Key", "Cache-Tag")),
    }  # fmt: skip
    asked = (*TARGETS, b"/dir", b"/absent", b"/absent?a", b"/x/y", b"/q", b"/dir/absent%20too", b"/small", b"/dir?v=1",
        b"/small.txt?v=1", b"/x/y?a=%22", b"/q?", b"/route", b"/no.js")  # fmt: skip
    with Server(Config(engine="native", **config)) as native, Server(Config(engine="python", **config)) as python:
        engines = Engines(native, python, tags_of(python.port) if not led else [b'"x"'])
        maker = Maker(rng, asked, engines.tags, mischief=0.01, absent=0.1)

        def work() -> None:
            for _ in range(50):
                compare(engines, maker.pieces(maker.stream(rng.randint(1, 8))))

        assert lane_share(engines, work) > (0.2 if not led else -1)


# What rules lead to, and for which the lane has no answer beside them.
LED: tuple[dict[str, Any], ...] = (
    *({"from": f"/to/{status}/*", "to": "/:splat", "status": status} for status in (301, 302, 303, 307, 308)),
    {"from": "/asks", "to": "/asked", "query": {"v": "1"}},
    {"from": "/asks", "to": "/not-asked"},
    {"from": "/fixed", "to": "/small.txt?x", "status": 302},
    {"from": "/part", "to": "/small.txt#y", "status": 302},
    {"from": "/page/*", "to": "/small.txt", "status": 200},
    {"from": "/large/*", "to": "/large.js", "status": 200},
    {"from": "/error/*", "to": "/small.txt", "status": 404},
    {"from": "/gone/*", "to": "/mixed.json", "status": 410},
    {"from": "/lost/*", "status": 410},
    {"from": "/partly.css", "to": "/forced", "status": 307, "force": True},
    {"from": "/empty.txt", "to": "/dir/", "status": 200, "force": True},
)
BY_RULES = (
    *(b"/to/%d/a/b%%20c" % status for status in (301, 302, 303, 307, 308)), b"/asks", b"/fixed", b"/part", b"/page/a",
    b"/large/a", b"/error/x", b"/gone/x", b"/lost/x", b"/partly.css", b"/empty.txt", b"/dir", b"/dir/a%20b",
    b"/route/1", b"/none.js", b"/dir/none.css",
)  # fmt: skip
LINES = (
    b"", b"Accept-Encoding: gzip, br\r\n", b"Range: bytes=0-9\r\n", b"Range: bytes=999999-\r\n",
    b"If-None-Match: *\r\n", b"If-Match: \"x\"\r\n", b"Range: bytes=0-1,3-4\r\n",
)  # fmt: skip


def test_what_rules_lead_to_is_the_lanes_from_the_second_request_on_with_the_same_bytes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zcserve.net._lane")
    make_site(site.root)
    monkeypatch.setattr(reply, "new_boundary", lambda: b"boundary")
    config: dict[str, Any] = {
        "root": site.root, "port": 0, "trust_siblings": True, "redirects": LED, "clean_urls": True, "spa": True,
        "rules": ({"path": "/to/**", "set": {"X-To": "1"}}, {"path": "/**", "add": {"X-All": "1"}}),
    }  # fmt: skip
    asked = [(method, target + query) for target in BY_RULES for query in (b"", b"?v=1", b"?", b"?a=\"&b") for method in
             (b"GET", b"HEAD")]  # fmt: skip
    with Server(Config(engine="native", **config)) as native, Server(Config(engine="python", **config)) as python:
        engines = Engines(native, python, [])
        for lines in LINES:
            pieces = [b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, target, lines) for method, target in asked]
            compare(engines, [b"".join(pieces)])
        plain = [b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target for target in BY_RULES]
        assert lane_share(engines, lambda: compare(engines, [b"".join(plain)])) == 1.0

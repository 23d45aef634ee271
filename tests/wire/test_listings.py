"""Directories without an index answer with their names, on both engines, over real sockets.

A bystander's wait beside a listing of 100,000 names takes a minute, and a machine that does nothing else:
`ZCSERVE_SOAK_FILES=100000 python -m pytest -s tests/wire/test_listings.py -k bystander`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.following import Known, asking
from tests.support.listings import Page, follow
from tests.support.site import Serve, Site
from tests.support.stage import NameApplication
from tests.support.waited import BYSTANDER_FILES, check_bystander
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.command import main
from zcserve.site import listing_page, listings

ODD = (
    "a&b<c>.txt",
    "a b.txt",
    "'q\".txt",
    "x:y.txt",
    "javascript:alert(1)",
    "%41.txt",
    "#f?g.txt",
    "ü.txt",
    "\u202e.x",
    "\u061c.y",
)
RAW = (b"caf\xe9.txt", b"\x01\x7f.txt", b"line\nbreak", b"\xef\xbf\xbe")


def names(client: Client, target: str) -> list[str]:
    answer = client.get(target + "?format=json")
    assert answer.status == 200
    return [one["name"] for one in json.loads(answer.body)["entries"]]


@pytest.fixture
def tree(site: Site) -> Site:
    site.write("docs/b.txt", b"bb", mtime=1_700_000_000)
    site.write("docs/a.html", b"a")
    site.write("docs/a.html.gz", b"\x1f\x8b", mtime=2_000_000_000)
    site.write("docs/Z.txt")
    site.write("docs/.hidden", b"h")
    site.write("docs/sub/index.html", b"an index")
    site.write("docs/odd/x", b"x")
    return site


def test_a_page_of_names_and_the_same_as_json(tree: Site, live: Serve) -> None:
    server = live(tree.root, listing=True, trust_siblings=True)
    with Client(server.port) as client:
        for _ in range(3):
            answer = client.get("/docs/")
            assert (answer.status, answer["Content-Type"]) == (200, b"text/html; charset=utf-8")
            assert answer["Last-Modified"] is None
            page = Page(answer)
            assert list(page.names()) == ["odd/", "sub/", "Z.txt", "a.html", "b.txt"]
            assert "../" in page.links
            assert ("html", {"lang": "en"}) in page.tags
            assert not {"script", "img"} & {tag for tag, _ in page.tags}
            assert b"2023-11-14 22:13" in answer.body
            told = client.get("/docs/?format=json")
            assert told["Content-Type"] == b"application/json"
            found = json.loads(told.body)
            assert (found["path"], found["names"], found["left_out"]) == ("/docs/", 5, 0)
            assert found["entries"][0] == {"name": "odd", "href": "odd/", "type": "directory"}
            b = {"name": "b.txt", "href": "b.txt", "type": "file", "size": 2, "modified": "2023-11-14T22:13:20Z"}
            assert found["entries"][-1] == b
            # The two have validators of their own; HEAD, conditions and ranges are as of a file.
            assert answer["ETag"] != told["ETag"]
            head = client.get("/docs/", method="HEAD")
            assert (head["Content-Length"], head["ETag"]) == (b"%d" % len(answer.body), answer["ETag"])
            assert client.get("/docs/", f"If-None-Match: {answer['ETag'].decode()}").status == 304
            part = client.get("/docs/", "Range: bytes=0-14")
            assert (part.status, part.body) == (206, b"<!doctype html>")
            moved = client.get("/docs?a=b")
            assert (moved.status, moved["Location"]) == (301, b"/docs/?a=b")
            assert client.get("/docs/?other=query").body == answer.body
            assert client.get("/docs//").body == client.get("/%64ocs/").body == answer.body
            assert "../" not in Page(client.get("/")).links
            assert client.get("/docs/.hidden/").status == 404
        assert client.get("/docs/", method="OPTIONS").status == 200
        assert client.get("/docs/", method="POST").status == 405
    # Once it is made, the lane has it.
    asked = server.service.requests
    with Client(server.port) as client:
        for target in ("/docs/", "/docs/?format=json", "/docs"):
            assert client.get(target).status in (200, 301)
    if server.config.engine == "native":
        assert server.service.requests == asked


def test_nothing_is_listed_without_a_rule_and_rules_choose(tree: Site, live: Serve) -> None:
    tree.write("shop/a.txt", b"a")
    with Client(live(tree.root).port) as client:
        assert [client.get(target).status for target in ("/", "/docs/", "/docs", "/shop/")] == [404] * 4
    rules: Any = (
        {"path": "/docs/**", "listing": True, "set": {"X-Listed": "1"}, "tags": ["docs"], "cors": "*"},
        {"path": "/docs/odd/", "listing": False},
    )
    (tree.root / "docs/a.html.gz").unlink()
    with Client(live(tree.root, rules=rules, tag_header="Cache-Tag").port) as client:
        for _ in range(3):
            answer = client.get("/docs/")
            assert list(Page(answer).names()) == ["sub/", "Z.txt", "a.html", "b.txt"]
            assert (answer["X-Listed"], answer["Cache-Tag"]) == (b"1", b"docs")
            assert answer["Access-Control-Allow-Origin"] == b"*"
            assert client.get("/docs/", "If-None-Match: *")["X-Listed"] == b"1"
            assert [client.get(target).status for target in ("/", "/docs/odd/", "/docs/odd", "/shop/")] == [404] * 4


def test_header_rules_hold_for_a_listing_as_for_a_file(tree: Site, live: Serve, wait_until: WaitUntil) -> None:
    tree.write("docs/sub/index.html", b"index" * 400)
    rules: Any = (
        {"path": "/**", "set": {"X-A": "1", "X-B": "1"}, "cors": "*"},
        {"path": "/docs/**", "remove": ["X-Content-Type-Options", "X-A"], "set": {"X-B": "2"}, "add": {"X-C": "3"}},
        {"path": "/docs/odd/", "set": {"X-Content-Type-Options": "nosniff"}},
    )
    names = ("X-Content-Type-Options", "X-A", "X-B", "X-C", "Access-Control-Allow-Origin")
    with Client(live(tree.root, listing=True, rules=rules, compress=True, compress_bytes_min=1).port) as client:

        def said(target: str, *lines: str) -> list[bytes | None]:
            answer = client.get(target, *lines)
            return [b"%d" % answer.status, *(answer[name] for name in names)]

        for coding in ("identity", "gzip"):
            accept = f"Accept-Encoding: {coding}"
            wait_until(lambda: coding in f"identity {client.get('/docs/', accept)['Content-Encoding']}")  # noqa: B023
            for _ in range(3):
                for target in ("/docs/", "/docs/?format=json", "/docs/sub/"):
                    assert said(target, accept) == [b"200", None, None, b"2", b"3", b"*"]
                    assert said(target, "Range: bytes=0-1")[:2] == [b"206", None]
                    assert said(target, "If-None-Match: *") == [b"304", None, None, b"2", b"3", b"*"]
                    assert said(target, "If-Match: no") == said("/docs/b.txt", "If-Match: no")
                    assert said(target, "Range: bytes=999999-") == said("/docs/b.txt", "Range: bytes=999999-")
                assert said("/docs/odd/") == [b"200", b"nosniff", None, b"2", b"3", b"*"]
                assert said("/") == [b"200", b"nosniff", b"1", b"1", None, b"*"]


def test_an_origin_is_answered_for_each_request(tree: Site, live: Serve) -> None:
    rules: Any = ({"path": "/docs/**", "listing": True, "cors": {"origins": ["https://a.example"]}},)
    with Client(live(tree.root, rules=rules).port) as client:
        for _ in range(3):
            mine = client.get("/docs/", "Origin: https://a.example")
            assert (mine["Access-Control-Allow-Origin"], mine["Vary"]) == (b"https://a.example", b"Origin")
            other = client.get("/docs/", "Origin: https://b.example")
            assert (other.status, other["Access-Control-Allow-Origin"], other["Vary"]) == (200, None, b"Origin")


def test_what_else_may_answer_goes_first_and_the_page_of_spa_last(tree: Site, live: Serve) -> None:
    tree.write("docs.html", b"clean")
    tree.write("index.html", b"spa")
    redirects: Any = (
        {"from": "/docs/odd", "to": "/docs/sub/"},
        {"from": "/lib", "query": {"v": "1"}, "to": "/docs/sub/"},
    )
    tree.write("lib/a", b"a")
    config: dict[str, Any] = {"listing": True, "clean_urls": True, "spa": True, "redirects": redirects}
    with Client(live(tree.root, **config).port) as client:
        for _ in range(3):
            assert client.get("/docs").body == b"clean"
            assert b"Index of /docs/" in client.get("/docs/").body
            assert client.get("/docs/odd/")["Location"] == client.get("/docs/odd")["Location"] == b"/docs/sub/"
            assert client.get("/lib/?v=1")["Location"] == b"/docs/sub/"
            assert client.get("/lib?v=1")["Location"] == b"/docs/sub/"
            assert client.get("/lib")["Location"] == b"/lib/"
            assert b"Index of /lib/" in client.get("/lib/").body
            assert client.get("/elsewhere/").body == b"spa"


def test_a_directory_that_changes_has_a_new_page_at_once(
    tree: Site, live: Serve, known: Known, wait_until: WaitUntil
) -> None:
    server = live(tree.root, listing=True)
    tag = b""
    with Client(server.port) as client:

        def changed(*expected: str) -> None:
            nonlocal tag
            known(server)
            for _ in range(2):
                again = client.get("/docs/", f"If-None-Match: {tag.decode()}")
                assert again.status == 200
                assert list(Page(again).names()) == list(expected)
                told = json.loads(client.get("/docs/?format=json").body)
                assert [one["href"] for one in told["entries"]] == list(expected)
            tag = again["ETag"]
            assert client.get("/docs/", f"If-None-Match: {tag.decode()}").status == 304

        shutil.rmtree(tree.root / "docs/odd")
        (tree.root / "docs/a.html.gz").unlink()
        known(server)
        tag = client.get("/docs/")["ETag"]
        top = client.get("/")["ETag"]
        client.get("/docs/?format=json")
        tree.write("docs/c.txt", b"new")
        changed("sub/", "Z.txt", "a.html", "b.txt", "c.txt")
        tree.write("docs/c.txt", b"longer than before")
        changed("sub/", "Z.txt", "a.html", "b.txt", "c.txt")
        (tree.root / "docs/c.txt").rename(tree.root / "docs/d.txt")
        changed("sub/", "Z.txt", "a.html", "b.txt", "d.txt")
        (tree.root / "docs/e").mkdir()
        changed("e/", "sub/", "Z.txt", "a.html", "b.txt", "d.txt")
        assert names(client, "/docs/e/") == []
        assert client.get("/")["ETag"] == top
        old = server.site.live
        server.reload()
        wait_until(lambda: server.site.live is not old)
        assert client.get("/docs/")["ETag"] == tag
        tree.write("docs/index.html", b"an index")
        known(server)
        assert client.get("/docs/").body == b"an index"
        (tree.root / "docs/index.html").unlink()
        known(server)
        assert client.get("/docs/")["ETag"] == tag
        shutil.rmtree(tree.root / "docs")
        known(server)
        assert [client.get(target).status for target in ("/docs/", "/docs/?format=json", "/docs")] == [404] * 3
        assert names(client, "/") == []


def test_another_release_lists_its_own_names(site: Site, live: Serve, wait_until: WaitUntil) -> None:
    for release, name in (("1", "one.txt"), ("2", "two.txt")):
        site.write(f"releases/{release}/d/{name}")
        site.write(f"releases/{release}/same/a.txt", b"a", mtime=1_000_000_000)
    current = site.root / "current"
    current.symlink_to("releases/1")
    server = live(current, listing=True, keep_generations=1)
    with Client(server.port) as client:
        assert names(client, "/d/") == ["one.txt"]
        tag = client.get("/same/")["ETag"]
        (site.root / "next").symlink_to("releases/2")
        (site.root / "next").rename(current)
        wait_until(lambda: client.get("/d/two.txt").status == 200)
        assert names(client, "/d/") == ["two.txt"]  # though /d/one.txt is still reachable
        assert client.get("/d/one.txt").status == 200
        assert client.get("/same/")["ETag"] == tag


def test_a_page_without_room_in_memory_is_sent_all_the_same(
    site: Site, live: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        site.write(f"d/{number}.txt", b"x")
    with Client(live(site.root, listing=True, memory="4K").port) as client:
        first = client.get("/d/")
        for _ in range(2):
            again = client.get("/d/")
            assert (again.status, again.body, again["ETag"]) == (200, first.body, first["ETag"])
        assert client.get("/d/", f"If-None-Match: {first['ETag'].decode()}").status == 304
        assert client.get("/d/", method="HEAD")["Content-Length"] == b"%d" % len(first.body)
    told = [record for record in caplog.records if "finds no room in memory" in record.getMessage()]
    assert [(one.levelno, "/d/ (100 names" in one.getMessage()) for one in told] == [(logging.WARNING, True)]


def test_variants_of_a_page_are_made(site: Site, live: Serve, wait_until: WaitUntil) -> None:
    for number in range(100):
        site.write(f"d/{number}.txt", b"x")
    with Client(live(site.root, listing=True, compress=True).port) as client:
        coded = wait_until(lambda: (one := client.get("/d/", "Accept-Encoding: gzip"))["Content-Encoding"] and one)
        plain = client.get("/d/", "Accept-Encoding: identity")
        assert len(coded.body) < len(plain.body)
        assert (coded["Vary"], plain["Vary"]) == (b"Accept-Encoding", b"Accept-Encoding")
        assert coded["ETag"] != plain["ETag"]
        site.write("d/new.txt")
        wait_until(lambda: b"new.txt" in client.get("/d/", "Accept-Encoding: identity").body)


def test_a_page_says_how_many_names_it_leaves_out(site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_page, "NAMES_MAX", 3)
    for name in "abcde":
        site.write(f"d/{name}")
    with Client(serve(site.root, listing=True).port) as client:
        assert b"5 names, of which 2 are not shown" in client.get("/d/").body
        told = json.loads(client.get("/d/?format=json").body)
        assert (told["names"], told["left_out"], len(told["entries"])) == (5, 2, 3)


def test_an_application_goes_before_a_listing(site: Site, live: Serve, tmp_path: Path) -> None:
    servlets = tmp_path / "servlets"
    servlets.mkdir()
    (servlets / "d.py").write_text('path = "/d/"\n\n\ndef respond(request):\n    return "a servlet"\n')
    site.write("d/a", b"a")
    site.write("e/a", b"a")
    with Client(live(site.root, listing=True, servlets=str(servlets)).port) as client:
        for _ in range(2):
            answer = client.get("/d/")
            assert answer.status == 200
            assert b"Index of /e/" in client.get("/e/").body
            assert client.get("/e")["Location"] == b"/e/"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, lasting_live: Serve) -> tuple[Server, Path]:
    root = tmp_path_factory.mktemp("odd")
    server = lasting_live(root, listing=True)
    return server, root


def test_odd_names_lead_to_their_files(odd: tuple[Server, Path], known: Known) -> None:
    server, root = odd
    directory = root / "odd <&> names"
    directory.mkdir()
    for number, name in enumerate((*map(os.fsencode, ODD), *RAW)):
        (directory / os.fsdecode(name)).write_bytes(b"~%d" % number)
    known(server)
    with Client(server.port) as client:
        answer = client.get("/odd%20%3C&%3E%20names/")
        assert b"Index of /odd &lt;&amp;&gt; names/" in answer.body
        assert not any(byte in answer.body for byte in (b"\x01", b"\x7f", b"<c>", b"\xe9.txt"))
        follow(client, "/odd%20%3C&%3E%20names/", directory)


def test_any_byte_may_stand_in_a_name(odd: tuple[Server, Path], known: Known) -> None:
    server, root = odd
    directory = root / "bytes"
    directory.mkdir()
    for byte in range(1, 256):
        if byte != ord("/"):
            (directory / os.fsdecode(b"_%c" % byte)).write_bytes(b"%d" % byte)
    (directory / "<script>alert(1)<").mkdir()
    (directory / "<script>alert(1)<" / "script>").write_bytes(b"a script")
    known(server)
    with Client(server.port) as client:
        follow(client, "/bytes/", directory)
        below = client.get("/bytes/%3Cscript%3Ealert(1)%3C/")
        assert list(Page(below).names().values()) == ["script>"]
        assert b"<script" not in client.get("/bytes/").body + below.body


def test_what_lies_outside_or_is_hidden_is_in_no_listing(
    odd: tuple[Server, Path], known: Known, tmp_path: Path
) -> None:
    server, root = odd
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "file").write_bytes(b"secret")
    directory = root / "links"
    (directory / ".git").mkdir(parents=True)
    (directory / ".git" / "config").write_bytes(b"secret")
    (directory / ".well-known").mkdir()
    (directory / "in").mkdir()
    (directory / "in" / "a").write_bytes(b"a")
    outward = os.path.relpath(outside / "file", directory)
    links = {"file": str(outside / "file"), "up": str(outside), "relative": outward, "round": ".", "nowhere": "none"}
    for name, target in {**links, "same": "in", "one": "in/a"}.items():
        (directory / name).symlink_to(target)
    known(server)
    with Client(server.port) as client:
        assert names(client, "/links/") == ["in", "same", "one"]
        assert names(client, "/links/same/") == ["a"]
        for target in ("/links/.git/", "/links/up/", "/links/%2e%2e/%2e%2e/outside/", "/../outside/", "/.//"):
            assert client.get(target).status in (404, 200)
            assert b"secret" not in client.get(target).body
            assert b"below" not in client.get(target).body
        assert [client.get(target).status for target in ("/links/.git/", "/links/up/", "/links/file")] == [404] * 3


@pytest.mark.parametrize(("engine", "lanes"), [("python", 1), ("native", 1), ("native", 2)])
def test_a_listing_never_goes_back_while_its_directory_changes(
    site: Site, serve: Serve, known: Known, engine: str, lanes: int
) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    site.write("d/0", b"0")
    server = serve(site.root, listing=True, engine=engine, lanes=lanes)
    seen: list[set[str]] = [set() for _ in range(4)]
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in seen]

        def ask(number: int) -> None:
            there = set(names(clients[number], "/d/"))
            assert seen[number] <= there
            seen[number] = there
            page = Page(clients[number].get("/d/")).names()
            assert there <= set(page)

        with asking(len(seen), ask):
            for number in range(1, 40):
                site.write(f"d/{number}", b"%d" % number)
                if number % 10 == 0:
                    known(server)
                    with Client(server.port) as client:
                        assert len(names(client, "/d/")) == number + 1
        for client in clients:
            known(server)
            assert len(names(client, "/d/")) == 40


def test_the_lane_answers_listings_beside_a_mounted_application(
    tree: Site, live: Serve, known: Known, module: NameApplication
) -> None:
    def application(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"mounted"]

    tree.write("app/a", b"a")
    tree.write("app/sub/b", b"b")
    server = live(tree.root, listing=True, clean_urls=True, mount=(f"/app={module(application)}",))
    targets = {"/docs/": b"a.html", "/docs/?format=json": b"a.html", "/docs": b"", "/docs/a": b"a", "/none": b""}
    with Client(server.port) as client:
        for _ in range(3):
            answers = {target: client.get(target) for target in targets}
            assert [one.status for one in answers.values()] == [200, 200, 301, 200, 404]
            assert all(said in answers[target].body for target, said in targets.items())
            assert {client.get(target).body for target in ("/app/", "/app/sub/", "/app/?format=json")} == {b"mounted"}
    asked = server.service.requests
    with Client(server.port) as client:  # that is the lane's own, since no application has answered it
        for target, answer in answers.items():
            assert client.get(target).body == answer.body
        if server.config.engine == "native":
            assert server.service.requests == asked
        tree.write("docs/index.html", b"an index")
        known(server)
        assert client.get("/docs/").body == b"an index"


def test_a_listing_is_explained(tree: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], live: Serve) -> None:
    file = tmp_path / "site.toml"
    rule = '[[rules]]\npath = "/docs/**"\nlisting = true\nset = { X-A = "1" }\n'
    file.write_text(f'root = "{tree.root}"\ntrust_siblings = true\n{rule}')

    def explained(url: str) -> str:
        assert main(["explain", url, "--config", str(file)]) == 0
        return "\n".join(" ".join(line.split()) for line in capsys.readouterr().out.splitlines())

    with Client(live(tree.root, rules=({"path": "/docs/**", "listing": True, "set": {"X-A": "1"}},)).port) as client:
        answer = client.get("/docs/odd/")
    text = explained("/docs/odd/")
    assert "answer a listing of 1 name\n" in text
    place = f"{file}:3:1: rules[0]"
    assert f"rule {place}: listing\nheaders {place} (/docs/**)\n+ X-A: 1\nstatus 200\n" in text
    for name in ("Content-Length", "ETag", "Content-Type", "X-A"):
        assert f"{name}: {answer[name].decode()}\n" in text + "\n"
    assert "answer a listing of 5 names, as JSON" in explained("/docs/?format=json")
    assert "answer a directory: its own path ends in a slash" in explained("/docs")
    assert "answer nothing is at this path" in explained("/")


def test_a_file_that_is_found_gone_or_changed_is_so_in_the_listing(site: Site, live: Serve) -> None:
    for name in ("gone.bin", "longer.bin", "stays.bin"):
        site.write(f"d/{name}", b"x" * 9000)
    with Client(live(site.root, listing=True, memory="4K", watch=False).port) as client:
        assert names(client, "/d/") == ["gone.bin", "longer.bin", "stays.bin"]
        (site.root / "d/gone.bin").unlink()
        site.write("d/longer.bin", b"y" * 9001)
        assert (client.get("/d/gone.bin").status, len(client.get("/d/longer.bin").body)) == (404, 9001)
        told = json.loads(client.get("/d/?format=json").body)["entries"]
        assert [(one["name"], one["size"]) for one in told] == [("longer.bin", 9001), ("stays.bin", 9000)]


def test_a_site_that_goes_gives_the_memory_of_its_pages_back(tree: Site, serve: Serve) -> None:
    server = serve(tree.root, listing=True)
    store = server.loader.store
    with Client(server.port) as client:
        before = store.resident
        client.get("/docs/")
        assert store.resident == before + 1
    listings = server.site.listings
    assert listings is not None
    listings.close()
    assert store.resident == before


def test_a_page_is_written_in_a_thread_once_and_anew_where_it_is_old_by_then(
    tree: Site, live: Serve, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    threads: list[str] = []

    def write(*args: Any, **words: Any) -> listing_page.Page:
        page = listing_page.page_of(*args, **words)
        threads.append(threading.current_thread().name)
        begun.set()
        assert go_on.wait(20)
        return page

    server = live(tree.root, listing=True)
    monkeypatch.setattr(listings, "page_of", write)
    ask = b"GET /docs/ HTTP/1.1\r\nHost: a\r\n\r\n"
    with ExitStack() as stack:
        bystander, *clients = (stack.enter_context(Client(server.port)) for _ in range(4))
        for client in clients:
            client.send(ask)
        assert begun.wait(20)
        assert bystander.get("/docs/b.txt").status == 200
        assert len(threads) == 1
        tree.write("docs/new.txt")
        known(server)
        go_on.set()  # what was asked for before the change may have the older page, but has the newer one
        for client in clients:
            assert "new.txt" in Page(client.read()).names()
        assert all(name.startswith("zcserve-loader") for name in threads)


def test_of_more_pages_than_are_kept_the_first_are_made_again(
    tree: Site, live: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "KEPT_MAX", 2)
    server = live(tree.root, listing=True)
    with Client(server.port) as client:
        before = server.loader.store.resident
        tags = {target: client.get(target)["ETag"] for target in ("/", "/docs/", "/docs/odd/", "/?format=json")}
        for target, tag in tags.items():
            assert client.get(target)["ETag"] == tag
        assert server.loader.store.resident <= before + 3  # one may be on its way out


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bystander_of_a_listing_of_many_names_hardly_waits(engine: str, site: Site, command: StartCommand) -> None:
    for i in range(BYSTANDER_FILES):
        site.write(f"many/{i}", b"%d" % i)
    site.write("by", b"by")
    server = command(site.root, "--engine", engine, "--listing", "--no-watch")
    pages: list[bytes] = []

    def list_all(target: str) -> None:
        with Client(server.port, timeout=60) as client:
            pages.append(client.get(target).body)

    for target in ("/many/", "/many/?format=json"):
        check_bystander(server, f"{engine}, {target}", partial(list_all, target))
        assert pages[-1].count(b"href") >= BYSTANDER_FILES

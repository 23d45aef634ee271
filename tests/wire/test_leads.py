"""What rules lead to, while files change, come and go, and while clients ask for paths without end: both engines."""

from __future__ import annotations

import random

import pytest

from tests.support.client import Client
from tests.support.following import Known, asking, checked, in_loop, publish
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache.entry import Entry
from zcserve.net.fastlane import FastLane

# Which file answers at which path, once it is there; else the one of --spa.
PATHS = {"/about": "about.html", "/sub/page": "sub/page.html", "/to/a": "about.html", "/to/b?c": "about.html"}
REDIRECTS = (
    {"from": "/to/*", "to": "/about.html", "status": 200},
    {"from": "/moved/*", "to": "/:splat", "status": 302},
    {"from": "/gone/*", "status": 410},
)
COMES = "sub/page.html"


def content(name: str, version: int) -> bytes:
    return b"%b %d " % (name.encode(), version) + b"x" * version


def served(server: Server, requests: int) -> float:
    """Which share of the requests the fast lane has answered; 1, too, where there is none."""
    front = server.loop.front
    return front.lane.requests / requests if isinstance(front, FastLane) else 1.0


@pytest.mark.parametrize(("engine", "lanes"), [("python", 1), ("native", 1), ("native", 2)])
def test_no_lead_says_what_is_old_after_what_is_new(
    site: Site, serve: Serve, known: Known, engine: str, lanes: int
) -> None:
    site.write("sub/other", b"")
    for name in ("index.html", "about.html"):
        site.write(name, content(name, 0))
    server = serve(site.root, engine=engine, redirects=REDIRECTS, clean_urls=True, spa=True, lanes=lanes)
    least = {"index.html": 0, "about.html": 0, COMES: 0}
    stands = {"there": False, "may change": True}
    clients = [Client(server.port) for _ in range(3)]
    asked = [0]

    def ask(number: int) -> None:
        path = random.choice((*PATHS, f"/route/{random.randrange(50)}", "/moved/x"))
        before, certain = dict(least), not stands["may change"]
        there = stands["there"]
        answer = clients[number].get(path)
        asked[0] += 1
        if path == "/moved/x":
            assert (answer.status, answer["Location"]) == (302, b"/x")
            return
        name, version = checked(answer).body.split()[:2]
        wanted = PATHS.get(path, "index.html")
        if wanted == COMES and certain and not stands["may change"]:
            assert name.decode() == (COMES if there else "index.html")
        assert name.decode() in (wanted, "index.html" if wanted == COMES else wanted)
        assert int(version) >= before[name.decode()]

    with asking(3, ask):
        for version in range(1, 30):
            stands["may change"] = True
            for name in ("index.html", "about.html"):
                publish(site.root / name, content(name, version))
            if stands["there"]:
                (site.root / COMES).unlink()
            else:
                publish(site.root / COMES, content(COMES, version))
            known(server)
            least.update({"index.html": version, "about.html": version})
            if not stands["there"]:
                least[COMES] = version
            stands["there"] = not stands["there"]
            stands["may change"] = False
    for client in clients:
        client.close()
    assert served(server, asked[0]) > 0.8


def test_a_crawl_of_paths_without_end_is_the_lanes_and_takes_bounded_memory(
    site: Site, live: Serve, wait_until: WaitUntil
) -> None:
    site.write("index.html", b"index")
    server = live(site.root, redirects=REDIRECTS, spa=True)
    front = server.loop.front
    with Client(server.port) as client:
        for first in range(0, 3000, 100):
            paths = [b"/random/%d" % number for number in range(first, first + 100)]
            client.send(b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths))
            assert {client.read().body for _ in paths} == {b"index"}
    if isinstance(front, FastLane):
        assert served(server, 3000) == 1.0
        assert front.lane.leads[0] == 3000
        entry = server.site.live.resources[b"/index.html"]
        assert isinstance(entry, Entry)
        in_loop(server, lambda: front.lane.drop(entry))  # as if it was evicted: no lead holds it
        wait_until(lambda: not front.lane.holds(entry))  # once the last lane has passed it


@pytest.fixture
def reloading(site: Site, live: Serve) -> Server:
    site.write("a.html", b"a")
    site.write("b.html", b"b")
    site.write("_redirects", b"/x/* /a.html 200\n/old /a.html\n")
    return live(site.root)


def test_rules_that_change_and_a_purge_leave_no_lead_behind(
    site: Site, reloading: Server, wait_until: WaitUntil
) -> None:
    with Client(reloading.port) as client:
        for _ in range(3):
            assert client.get("/x/y").body == b"a"
            assert client.get("/old")["Location"] == b"/a.html"
            assert client.get("/none").status == 404
        publish(site.root / "_redirects", b"/x/* /b.html 200\n/old /b.html 308\n/none /b.html 200\n")
        wait_until(lambda: client.get("/old").status == 308)
        for _ in range(3):
            assert client.get("/x/y").body == client.get("/none").body == b"b"
        publish(site.root / "x", b"no folder")
        publish(site.root / "none", b"here")
        wait_until(lambda: client.get("/none").body == b"here")
        (site.root / "none").unlink()
        wait_until(lambda: client.get("/none").body == b"b")

"""A site's own pages for what fails: they lie in its root by status, and are sent from memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.stage import write_servlets
from tests.support.waiting import WaitUntil
from zcserve.cache.watcher import Watcher
from zcserve.config.site import SiteTable


def test_a_file_that_cannot_be_read_and_a_servlet_that_is_too_slow_have_the_sites_pages(
    site: Site,
    live: Serve,
    tmp_path: Path,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "zcserve.content.builder.Watcher", lambda root, instance: Watcher(root, instance, quiet_s=600.0)
    )
    site.write("page", b"o" * 9000)
    site.write("503.html", b"not now")
    site.write("504.html", b"too slow")
    site.write("500.html", b"it failed")
    slow = """
    @servlet("/slow")
    async def slow(request):
        await asyncio.sleep(60)

    @servlet("/fails")
    def fails(request):
        raise ValueError("a secret")
    """
    rules = (
        {"path": "/**", "set": {"X-A": "1", "Cache-Control": "max-age=9"}, "cors": "*"},
        {"path": "/page", "cors": {"origins": ["https://a.example"]}},
    )
    server = live(
        site.root, servlets=str(write_servlets(tmp_path, slow=slow)), app_timeout_s=0.2, memory="4K", rules=rules
    )
    with Client(server.port) as client, (site.root / "page").open("wb", buffering=0) as page:
        page.write(b"n")
        watcher = server.content.watcher
        assert watcher is not None
        wait_until(lambda: watcher.holds(b"page"))
        (site.root / "503.html").chmod(0)  # it is in memory
        answer = client.get("/page")
        assert (answer.status, answer["Retry-After"], answer.body) == (503, b"1", b"not now")
        assert answer["Content-Type"] == b"text/html; charset=utf-8"
        assert (answer["X-A"], answer["Cache-Control"], answer["Vary"]) == (b"1", None, b"Origin")
        assert answer["Access-Control-Allow-Origin"] is None
        named = client.get("/page", "Origin: https://a.example")
        assert (named.status, named["Access-Control-Allow-Origin"]) == (503, b"https://a.example")
        assert (late := client.get("/slow")).status == 504
        assert (late.body, late["Retry-After"]) == (b"too slow", None)
        assert (late["Access-Control-Allow-Origin"], late["X-A"], late["Cache-Control"]) == (b"*", b"1", None)
        failed = client.get("/fails")
        assert (failed["Access-Control-Allow-Origin"], failed["X-A"]) == (b"*", b"1")
        assert (failed.status, failed.body) == (500, b"it failed")
        assert f"error {failed['X-Error-Id'].decode()} at" in caplog.text
        site.write("504.html.new", b"slower").rename(site.root / "504.html")
        wait_until(lambda: server.site.live.error_pages[504] == b"slower")
        assert client.get("/slow").body == b"slower"
        (site.root / "504.html").unlink()
        wait_until(lambda: 504 not in server.site.live.error_pages)
        assert b"504" in client.get("/slow").body


def test_a_table_says_which_file_is_the_page_and_goes_before_names_and_the_servers_table(
    site: Site, live: Serve, tmp_path: Path, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "404.html").write_bytes(b"other's, by its name")
    site.write("404.html", b"by its name")
    site.write("e/missing.html", b"missing")
    site.write("e/index.html", b"sorry")
    site.write("e/closed.html", b"closed")
    fails = """
    @servlet("/fails")
    def fails(request):
        raise ValueError
    """
    table = SiteTable(
        name="other",
        hosts=("other.example",),
        values={"root": other, "error_pages": {"410": "/gone.html"}, "redirects": ({"from": "/old", "status": 410},)},
    )
    server = live(
        site.root,
        servlets=str(write_servlets(tmp_path, fails=fails)),
        sites=(table,),
        error_pages={"404": "/e/missing.html", "4xx": "/e/closed.html", "5xx": "/e/", "503": "/none.html"},
        rules=(
            {"path": "/e/missing.html", "set": {"X-A": "missing"}},
            {"path": "/e/closed.html", "set": {"X-A": "closed"}, "cors": "*"},
        ),
        redirects=(
            {"from": "/private/*", "status": 403, "force": True},
            {"from": "/law", "status": 451, "to": "/e/"},
            {"from": "/lost", "status": 404},
        ),
    )
    site.write("private/secret.html", b"a secret")
    assert "error_pages.503: no file is at /none.html; until there is one, another page answers with 503" in caplog.text
    assert "site other: sites.other" not in caplog.text
    with Client(server.port) as client, Client(server.port) as elsewhere:
        for _ in range(3):
            absent = client.get("/nothing")
            assert (absent.status, absent.body, absent["X-A"]) == (404, b"missing", b"missing")
            refused = client.get("/private/secret.html")
            assert (refused.status, refused.body, refused["X-A"]) == (403, b"closed", b"closed")
            assert refused["Access-Control-Allow-Origin"] == b"*"
            assert client.get("/private/secret.html", "Range: bytes=0-1", "If-None-Match: *").status == 403
            law = client.get("/law")
            assert (law.status, law.body, law["X-A"]) == (451, b"sorry", None)
            assert (client.get("/lost").status, client.get("/lost").body) == (404, b"missing")
            assert (failed := client.get("/fails")).body == b"sorry", failed.status
            elsewhere.send(b"GET /nothing HTTP/1.1\r\nHost: other.example\r\n\r\n")
            assert (named := elsewhere.read()).body == b"other's, by its name", named.status
            elsewhere.send(b"GET /old HTTP/1.1\r\nHost: other.example\r\n\r\n")
            assert b"410 Gone" in elsewhere.read().body
        site.write("e/new", b"very sorry").rename(site.root / "e/index.html")
        wait_until(lambda: client.get("/fails").body == b"very sorry")
        site.write("e/new", b"missed").rename(site.root / "e/missing.html")
        wait_until(lambda: client.get("/nothing").body == b"missed")
        (site.root / "e/missing.html").unlink()
        wait_until(lambda: client.get("/nothing").body == b"closed")
        (site.root / "e/closed.html").unlink()
        wait_until(lambda: client.get("/nothing").body == b"by its name")
        assert client.get("/nothing")["X-A"] == b"missing"
        assert b"403 Forbidden" in client.get("/private/secret.html").body
        (other / "gone.html").write_bytes(b"it is gone")

        def gone() -> bytes:
            elsewhere.send(b"GET /old HTTP/1.1\r\nHost: other.example\r\n\r\n")
            return elsewhere.read().body

        wait_until(lambda: gone() == b"it is gone")

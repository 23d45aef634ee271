"""A site's own pages for what fails: they lie in its root by status, and are sent from memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.stage import write_servlets
from tests.support.waiting import WaitUntil
from zcserve.cache.watcher import Watcher


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
    server = live(site.root, servlets=str(write_servlets(tmp_path, slow=slow)), app_timeout_s=0.2, memory="4K")
    with Client(server.port) as client, (site.root / "page").open("wb", buffering=0) as page:
        page.write(b"n")
        watcher = server.content.watcher
        assert watcher is not None
        wait_until(lambda: watcher.holds(b"page"))
        (site.root / "503.html").chmod(0)  # it is in memory
        answer = client.get("/page")
        assert (answer.status, answer["Retry-After"], answer.body) == (503, b"1", b"not now")
        assert answer["Content-Type"] == b"text/html; charset=utf-8"
        assert (late := client.get("/slow")).status == 504
        assert (late.body, late["Retry-After"]) == (b"too slow", None)
        failed = client.get("/fails")
        assert (failed.status, failed.body) == (500, b"it failed")
        assert f"error {failed['X-Error-Id'].decode()} at" in caplog.text
        site.write("504.html.new", b"slower").rename(site.root / "504.html")
        wait_until(lambda: server.site.live.error_pages[504] == b"slower")
        assert client.get("/slow").body == b"slower"
        (site.root / "504.html").unlink()
        wait_until(lambda: 504 not in server.site.live.error_pages)
        assert b"504" in client.get("/slow").body

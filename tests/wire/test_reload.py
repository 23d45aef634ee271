"""Reloads: the next generation is built beside the present one, and flipped to when it is complete.

The root is not watched here, so that nothing changes before it is asked for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache.entry import Entry
from zcserve.cache.walk import walk


@pytest.fixture
def reload(wait_until: WaitUntil) -> Callable[[Server], None]:
    """`reload(server)`: reload, and wait until the next generation is served."""

    def reload_and_wait(server: Server) -> None:
        old = server.site.live
        server.reload()
        wait_until(lambda: server.site.live is not old)

    return reload_and_wait


def test_what_is_new_changed_and_gone_is_so_after_a_reload(
    site: Site, serve: Serve, reload: Callable[[Server], None]
) -> None:
    for name in ("kept", "changed", "gone"):
        site.write(name, b"old")
    server = serve(site.root, watch=False)
    with Client(server.port) as client:
        before = {name: client.get(f"/{name}") for name in ("kept", "changed", "gone", "new")}
        assert before["new"].status == 404
        site.write("fresh", b"new").rename(site.root / "changed")
        (site.root / "gone").unlink()
        site.write("new", b"new")
        kept = server.site.live.resources[b"/kept"]
        assert client.get("/changed").body == b"old"  # not before it is asked for
        reload(server)
        assert [client.get(f"/{name}").body for name in ("kept", "changed", "new")] == [b"old", b"new", b"new"]
        assert client.get("/gone").status == 404
        assert server.site.live.resources[b"/kept"] is kept
        assert client.get("/kept")["ETag"] == before["kept"]["ETag"]


def test_the_page_for_404_is_reloaded(site: Site, serve: Serve, reload: Callable[[Server], None]) -> None:
    server = serve(site.root, watch=False)
    with Client(server.port) as client:
        plain = client.get("/absent")
        site.write("404.html", b"our own")
        reload(server)
        assert (client.get("/absent").status, client.get("/absent").body) == (404, b"our own")
        (site.root / "404.html").unlink()
        reload(server)
        assert client.get("/absent").body == plain.body


def test_a_reload_makes_room_in_memory_for_what_is_new(
    site: Site, serve: Serve, reload: Callable[[Server], None], wait_until: WaitUntil
) -> None:
    server = serve(site.root, memory="1M", watch=False)
    for generation in range(6):
        for number in range(20):
            site.write(f"{number}", bytes([generation]) * 20_000)
        reload(server)
        with Client(server.port) as client:
            for number in range(20):
                assert client.get(f"/{number}").body == bytes([generation]) * 20_000
    wait_until(lambda: server.store.committed <= 20 * 20_480)


# --- a root that cannot be read -------------------------------------------------------------------------------


def move_away(root: Path) -> None:
    root.rename(root.with_name("away"))


def put_a_file_in_its_place(root: Path) -> None:
    move_away(root)
    root.write_bytes(b"not a directory")


def put_a_dangling_symlink_in_its_place(root: Path) -> None:
    move_away(root)
    root.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (move_away, "does not exist"),
        (put_a_file_in_its_place, "is not a directory"),
        (put_a_dangling_symlink_in_its_place, "does not exist"),
    ],
)
def test_a_root_that_vanished_leaves_the_old_content_and_the_log_says_why(
    site: Site,
    serve: Serve,
    reload: Callable[[Server], None],
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
    why: str,
) -> None:
    site.write("page", b"a page")
    server = serve(site.root, watch=False)
    old = server.site.live
    with Client(server.port) as client:
        assert client.get("/page").body == b"a page"
        harm(site.root)
        server.reload()
        wait_until(lambda: "reload failed" in caplog.text)
        record = next(record for record in caplog.records if "reload failed" in record.getMessage())
        assert record.levelno == logging.ERROR
        assert str(site.root) in record.getMessage()
        assert why in record.getMessage()
        assert server.site.live is old
        assert client.get("/page").body == b"a page"
        # And when it is back, so is everything.
        if site.root.is_symlink() or site.root.exists():
            site.root.unlink()
        site.root.with_name("away").rename(site.root)
        site.write("page", b"a new page")
        reload(server)
        assert client.get("/page").body == b"a new page"


def test_a_reload_that_fails_by_a_mistake_of_ours_leaves_the_old_content(
    site: Site, serve: Serve, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("page", b"a page")
    server = serve(site.root, watch=False)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr("zcserve.content.builder.walk", fail)
    server.reload()
    wait_until(lambda: "the old content goes on" in caplog.text)
    assert "a mistake" in caplog.text
    with Client(server.port) as client:
        assert client.get("/page").body == b"a page"


# --- reloads and what goes on meanwhile -----------------------------------------------------------------------


def _hold_walks(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Semaphore, threading.Event]:
    """Walks from now on wait: a semaphore that counts those that began, an event that lets them go on."""
    began, go = threading.Semaphore(0), threading.Event()

    def held(*args: Any, **kwargs: Any) -> Any:
        began.release()
        assert go.wait(60)
        return walk(*args, **kwargs)

    monkeypatch.setattr("zcserve.content.builder.walk", held)
    return began, go


def test_the_old_generation_serves_while_the_next_is_built(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("page", b"old")
    server = serve(site.root, watch=False)
    old = server.site.live
    began, go = _hold_walks(monkeypatch)
    server.reload()
    assert began.acquire(timeout=60)
    site.write("fresh", b"new").rename(site.root / "page")
    with Client(server.port) as client:
        assert client.get("/page").body == b"old"
        go.set()
        wait_until(lambda: server.site.live is not old)
        assert client.get("/page").body == b"new"


def test_reloads_asked_for_while_one_runs_are_one_reload(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(site.root, watch=False)
    began, go = _hold_walks(monkeypatch)
    server.reload()
    assert began.acquire(timeout=60)
    site.write("page", b"after the first walk began")
    for _ in range(20):
        server.reload()
    go.set()
    wait_until(lambda: b"/page" in server.site.live.resources)
    assert began.acquire(timeout=60)
    assert not began.acquire(blocking=False)


def test_a_request_that_waits_for_a_file_is_answered_from_the_next_generation(
    site: Site, serve: Serve, reload: Callable[[Server], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("page", b"old" * 2000)
    server = serve(site.root, memory="4K", watch=False)
    began, go = threading.Event(), threading.Event()
    load = server.loader.load

    def held(root: Any, entry: Entry) -> Any:
        began.set()
        assert go.wait(60)
        return load(root, entry)

    monkeypatch.setattr(server.loader, "load", held)
    with Client(server.port) as client:
        client.send(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n")
        assert began.wait(60)
        site.write("fresh", b"new" * 2000).rename(site.root / "page")
        reload(server)
        go.set()
        response = client.read()
    assert (response.status, response.body) == (200, b"new" * 2000)


def test_a_server_that_ends_waits_for_its_reload(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.write("page", b"a page")
    server = Server(Config(root=site.root, port=0, watch=False))
    with server:
        began, go = _hold_walks(monkeypatch)
        server.reload()
        assert began.acquire(timeout=60)
        threading.Timer(0.1, go.set).start()
    assert go.is_set()  # it was waited for: nothing writes into memory that was given back
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

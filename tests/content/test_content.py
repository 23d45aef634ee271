"""zcserve.content.content: what is served and how it is replaced, at the seams where threads meet."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.cache.entry import Entry
from zcserve.cache.index import ENTRY_BYTES, Generation
from zcserve.cache.watcher import Watcher
from zcserve.content import builder
from zcserve.content.renewals import Renewals


def publish(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(data)
    aside.rename(path)


def entry(server: Server, key: bytes) -> Entry:
    found = server.site.live.resources[key]
    assert isinstance(found, Entry)
    return found


def once_before(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]) -> None:
    """Have `act` happen just before content/builder.py calls `name` the next time."""
    inner = getattr(builder, name)
    pending = [act]

    def call(*args: Any, **options: Any) -> Any:
        if pending:
            pending.pop()()
        return inner(*args, **options)

    monkeypatch.setattr(builder, name, call)


class Held:
    """Whoever has called `owner.name` waits behind the call, until `go_on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        inner = getattr(owner, name)
        self.go_on = threading.Event()
        self._is_called = threading.Event()

        def call(*args: Any) -> Any:
            result = inner(*args)
            self._is_called.set()
            assert self.go_on.wait(20)
            return result

        monkeypatch.setattr(owner, name, call)

    def await_it(self) -> None:
        assert self._is_called.wait(20)


def find_newer_meanwhile(server: Server, page: Path, held: Held, is_over: Callable[[], bool]) -> None:
    """While what has read the page is held, a request finds it newer; that is what is served from then on."""
    server.store.drop(entry(server, b"/page"))  # as if it was evicted
    publish(page, b"333")
    with Client(server.port) as client:
        assert client.get("/page").body == b"333"
        held.go_on.set()
        while not is_over():
            assert client.get("/page").body == b"333"
        assert client.get("/page").body == b"333"


def look_again(server: Server) -> None:
    """Have the server look at what has changed by now, behind what it looks at already."""
    known = threading.Event()
    server.loop.call_soon(lambda: server.content.when_known(known.set))
    assert known.wait(20)


# --- what changes while it is looked at -----------------------------------------------------------------------


def test_what_is_replaced_between_the_look_and_the_reading_is_looked_at_again(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"1")
    server = serve(site.root)
    once_before(monkeypatch, "preload", lambda: publish(page, b"333"))
    publish(page, b"22")
    sizes = set()

    def is_true() -> bool:
        sizes.add(entry(server, b"/page").size)
        return entry(server, b"/page").size == 3

    wait_until(is_true)
    assert sizes <= {1, 3}  # what was never read was never served
    wait_until(lambda: server.store.resident == 1)


def test_no_patch_is_laid_over_what_was_found_newer_meanwhile(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"1")
    made = Held(monkeypatch, builder.Builder, "make_patch")
    server = serve(site.root)
    publish(page, b"22")
    made.await_it()
    patched = threading.Event()
    server.loop.call_soon(lambda: server.content.when_known(patched.set))
    find_newer_meanwhile(server, page, made, patched.is_set)
    wait_until(lambda: server.store.resident == 1)


def test_no_flip_leads_back_behind_what_was_found_newer_meanwhile(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"1")
    catch_up, caught = builder.Builder.catch_up, list[None]()

    def change_and_catch_up(*args: Any) -> Any:
        caught.append(None)
        if len(caught) == 2:  # the last time, in the patches' thread: the live generation hears of it after the flip
            publish(page, b"22")
        return catch_up(*args)

    monkeypatch.setattr(builder.Builder, "catch_up", change_and_catch_up)
    built = Held(monkeypatch, Renewals, "await_successor")
    server = serve(site.root)
    server.reload()
    built.await_it()
    find_newer_meanwhile(server, page, built, lambda: server.content.counters.flips > 0)
    wait_until(lambda: server.store.resident == 1)


def test_what_is_written_between_the_look_and_the_reading_waits_until_it_is_whole(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"old")
    server = serve(site.root)
    old = entry(server, b"/page")
    files = []

    def begin() -> None:
        files.append(page.open("wb", buffering=0))
        files[0].write(b"half")

    once_before(monkeypatch, "preload", begin)
    page.write_bytes(b"newer")
    wait_until(lambda: files)
    look_again(server)
    assert entry(server, b"/page") is old
    files[0].write(b" and half")
    files[0].close()
    wait_until(lambda: entry(server, b"/page").size == len(b"half and half"))


def test_what_is_created_just_before_the_look_is_not_taken_for_whole(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("d/index.html", b"old")
    server = serve(site.root)
    old = entry(server, b"/d/")
    files = []

    def begin() -> None:
        files.append(page.open("wb", buffering=0))
        files[0].write(b"half")

    once_before(monkeypatch, "walk_again", begin)
    page.unlink()
    wait_until(lambda: files)
    look_again(server)
    assert entry(server, b"/d/") is entry(server, b"/d/index.html") is old
    files[0].write(b" and half")
    files[0].close()
    wait_until(lambda: entry(server, b"/d/").size == len(b"half and half"))
    wait_until(lambda: server.store.resident == 1)


def test_what_vanishes_between_the_look_and_the_reading_is_gone(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"old")
    server = serve(site.root)
    once_before(monkeypatch, "preload", page.unlink)
    publish(page, b"new")
    wait_until(lambda: b"/page" not in server.site.live.resources)
    wait_until(lambda: server.store.resident == 0)


def test_a_loader_and_a_patch_may_meet_over_one_file(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"1")
    server = serve(site.root)
    once_before(monkeypatch, "preload", lambda: server.loader.succeed(server.site.live, entry(server, b"/page")))
    publish(page, b"22")
    wait_until(lambda: server.content.counters.patches)
    assert entry(server, b"/page").size == 2
    wait_until(lambda: server.store.resident == 1)


def test_changes_that_come_while_the_next_generation_is_built_are_in_it(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"1")
    server = serve(site.root)

    def change() -> None:
        publish(page, b"22")
        site.write("more/page", b"333")

    once_before(monkeypatch, "preload", change)  # behind the walk
    server.reload()
    wait_until(lambda: server.content.counters.flips == 1)
    wait_until(lambda: b"/more/page" in server.site.live.resources)
    wait_until(lambda: entry(server, b"/page").size == 2)


def test_what_changed_before_the_loop_runs_is_caught_up_with(site: Site) -> None:
    """As in the new process of an upgrade, before it serves."""
    page = site.write("page", b"1")
    site.write("gone", b"x")
    server = Server(Config(root=site.root, port=0))
    server.open()
    try:
        publish(page, b"22")
        (site.root / "gone").unlink()
        site.write("d/index.html", b"of d")
        server.content.catch_up()
        assert entry(server, b"/page").size == 2
        assert entry(server, b"/d/") is entry(server, b"/d/index.html")
        assert b"/gone" not in server.site.live.resources
        assert server.store.resident == 2
    finally:
        server.close()


def test_a_root_that_leads_elsewhere_before_the_loop_runs_is_what_is_served(tmp_path: Path) -> None:
    """As above: the process before this one may have flipped to the next release already."""
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "page").write_bytes(release.encode() * int(release))
    root = tmp_path / "root"
    root.symlink_to("1")
    server = Server(Config(root=root, port=0))
    server.open()
    try:
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(root)
        server.content.catch_up()
        assert entry(server, b"/page").size == 2
        assert server.site.live.root.is_in_place()
        root.unlink()  # nothing can be built: what was is served until something can
        server.content.catch_up()
        assert entry(server, b"/page").size == 2
        assert server.content.counters.failed == 1
        assert server.content.due < math.inf
    finally:
        server.close()


def test_what_is_not_whole_before_the_loop_runs_is_looked_at_in_its_time(site: Site) -> None:
    """No further event may come: the loop must know when to look."""
    page = site.write("page", b"1")
    server = Server(Config(root=site.root, port=0))
    server.open()
    try:
        with page.open("wb", buffering=0) as file:
            file.write(b"22")
            server.content.catch_up()
            assert server.content.due < math.inf
    finally:
        server.close()


def test_content_that_comes_late_for_an_entry_that_left_is_not_kept(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sibling appears while its file is being loaded: the file is the same, its entry is another."""
    site.write("page", b"x" * 1000)
    server = serve(site.root, trust_siblings=True)
    old = entry(server, b"/page")
    server.store.drop(old)
    load, begun, go = server.loader.load, threading.Event(), threading.Event()

    def held(root: Any, wanted: Entry, **options: Any) -> Any:
        if wanted is old:
            begun.set()
            assert go.wait(60)
        return load(root, wanted, **options)

    monkeypatch.setattr(server.loader, "load", held)
    got: list[Any] = []
    server.loop.call_soon(lambda: server.service.fetcher.fetch(server.site.live, old, old, got.append))
    assert begun.wait(60)
    site.write("page.gz", b"packed")
    wait_until(lambda: entry(server, b"/page").variants)
    go.set()
    wait_until(lambda: got)
    assert got[0].size == 1000  # the request gets it
    assert old.body is None
    wait_until(lambda: server.store.resident == 2)


# --- what fails -----------------------------------------------------------------------------------------------


def test_a_patch_that_fails_is_made_good_by_a_walk(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page = site.write("page", b"1")
    monkeypatch.setattr(builder, "Watcher", lambda root, instance: Watcher(root, instance, rescan_s=0.05))
    server = serve(site.root)

    def fail() -> None:
        raise OSError("no luck")

    once_before(monkeypatch, "walk_again", fail)
    publish(page, b"22")
    wait_until(lambda: entry(server, b"/page").size == 2)
    wait_until(lambda: server.content.counters.rescans == 1)
    assert server.content.counters.failed == 1
    assert "no luck" in caplog.text


# --- accounts -------------------------------------------------------------------------------------------------


def test_the_budget_knows_all_entries_while_few_of_them_are_replaced(
    site: Site, serve: Serve, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        site.write(f"{number}", b"x")
    server = serve(site.root)
    seen: list[int] = []
    place = server.store.place
    monkeypatch.setattr(
        server.store, "place", lambda *args, **options: (seen.append(server.store.overhead), place(*args, **options))[1]
    )
    publish(site.root / "5", b"new")
    wait_until(lambda: server.content.counters.patches)
    assert seen
    assert min(seen) >= 100 * ENTRY_BYTES
    for number in range(50):
        (site.root / f"{number}").unlink()
    wait_until(lambda: server.store.overhead == 50 * ENTRY_BYTES)


def test_a_generation_that_is_given_up_holds_nothing(site: Site, serve: Serve, wait_until: WaitUntil) -> None:
    site.write("page", b"1")
    server = serve(site.root, watch=False)
    generations: list[Generation] = []
    for _ in range(3):
        old = server.site.live
        generations.append(old)
        server.reload()
        wait_until(lambda old=old: server.site.live is not old)
    wait_until(lambda: not any(generation.resources for generation in generations))
    assert entry(server, b"/page").body is not None


def test_a_reload_may_be_asked_for_in_the_middle_of_anything(site: Site, serve: Serve, wait_until: WaitUntil) -> None:
    """As a signal's handler does, which may come while its thread holds a lock: at each line of what takes some."""
    server = serve(site.root, watch=False)
    functions: set[str] = set()
    ended = threading.Event()

    def at_each_line(frame: FrameType, what: str, _: object) -> Any:
        if what == "line" and "zcserve" in frame.f_globals["__name__"]:
            functions.add(frame.f_code.co_qualname)
            server.reload()
        return at_each_line

    def ask() -> None:
        sys.settrace(at_each_line)
        server.content.when_known(ended.set)

    threading.Thread(target=ask, daemon=True).start()
    assert ended.wait(20)
    assert "Strand.submit" in functions
    wait_until(lambda: server.content.counters.flips > 0)


def test_a_watcher_is_closed_once_though_a_site_leaves_as_the_server_ends(
    site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(site.root)
    close, closed = Watcher.close, []

    def close_again(watcher: Watcher) -> None:
        closed.append(watcher)
        assert server.content.close()
        close(watcher)

    monkeypatch.setattr(Watcher, "close", close_again)
    server.loop.call_soon(server.drain.end)
    assert server.contents.close()
    assert len(closed) == 1


def test_a_reload_is_not_asked_for_when_all_is_over(site: Site, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(site.root, watch=False)
    server.content.close()
    server.reload()
    server.content.reload()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert os.path.isdir(site.root)

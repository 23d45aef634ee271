"""zcserve.content.filling: what is served is loaded meanwhile, on both engines, while it changes, is asked for and is
reloaded. A gate stands where the thread begins to load, so that each comes at its time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import fetched
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from tests.support.trees import publish
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache import heat_lines
from zcserve.cache.entry import Entry
from zcserve.cache.loader import Loader
from zcserve.cache.preload import Preloaded
from zcserve.cache.root import Root
from zcserve.content.builder import Builder

WITHIN_S = 20.0
FILES = 60


class Gate:
    """Stops the thread that loads before its first file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.fills = 0
        fill = Builder.fill

        def wait_and_fill(builder: Builder, *given: Any) -> Preloaded:
            self.fills += 1
            if self.fills == 1:
                self.wait()
            return fill(builder, *given)

        monkeypatch.setattr(Builder, "fill", wait_and_fill)

    def wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(WITHIN_S)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@pytest.fixture(params=ENGINES)
def start(request: pytest.FixtureRequest, serve: Serve, site: Site) -> Callable[..., Server]:
    """`start(**config)`: a server of `FILES` files that is asked before they are loaded."""
    for number in range(FILES):
        site.write(f"{number % 10}/{number}", b"content of %d" % number)
    site.write("large", bytes(300_000))

    def begin(**config: Any) -> Server:
        return serve(site.root, **{"engine": request.param, "listen_when": "start"} | config)

    return begin


def resident(server: Server) -> int:
    entries = [entry for entry in server.site.live.entries() if isinstance(entry, Entry)]
    return sum(entry.body is not None for entry in entries)


def test_it_answers_before_all_is_loaded_and_then_has_all(
    start: Callable[..., Server], gate: Gate, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server = start(pin=("/large",))
    assert gate.reached.wait(WITHIN_S)
    assert server.content.is_loading
    assert (server.content.report.files, resident(server)) == (FILES + 1, 0)
    assert fetched(server.port, "/3/13") == fetched(server.port, "/3/13") == (200, b"content of 13")
    assert fetched(server.port, "/absent")[0] == 404
    assert resident(server) == 1
    gate.opened.set()
    wait_until(lambda: not server.content.is_loading)
    wait_until(lambda: server.content.report.resident_files == FILES + 1)
    assert resident(server) == server.store.resident == FILES + 1
    assert fetched(server.port, "/3/13") == (200, b"content of 13")
    assert f"loaded: {FILES + 1} files, {FILES + 1} resident" in caplog.text


def test_the_hottest_are_loaded_first(
    start: Callable[..., Server],
    gate: Gate,
    site: Site,
    wait_until: WaitUntil,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hot = [b"/9/19", b"/3/13"]
    lines = [heat_lines.file_line("default", key, 10, 5.0) for key in hot]
    first = (heat_lines.first_line(1e12), heat_lines.root_line("default", str(site.root)))
    (tmp_path / "heat").write_bytes(b"".join([*first, *lines, heat_lines.last_line(2)]))
    server = start(heat_file=str(tmp_path / "heat"))
    assert gate.reached.wait(WITHIN_S)
    read: list[bytes] = []
    read_small = Loader.read_small

    def note(loader: Loader, root: Root, fd: int, entry: Entry) -> tuple[bytes, bytes]:
        read.append(entry.key)
        return read_small(loader, root, fd, entry)

    monkeypatch.setattr(Loader, "read_small", note)
    gate.opened.set()
    wait_until(lambda: not server.content.is_loading)
    assert sorted(read[:2]) == sorted(hot)
    assert len(read) == len(set(read)) == FILES


def test_what_changes_meanwhile_is_what_is_served(
    start: Callable[..., Server], gate: Gate, site: Site, wait_until: WaitUntil
) -> None:
    server = start()
    assert gate.reached.wait(WITHIN_S)
    publish(site.root / "1" / "11", b"new")
    (site.root / "2" / "12").unlink()
    site.write("3/more", b"more")
    wait_until(lambda: fetched(server.port, "/1/11") == (200, b"new"))
    wait_until(lambda: fetched(server.port, "/3/more") == (200, b"more"))
    wait_until(lambda: fetched(server.port, "/2/12")[0] == 404)
    gate.opened.set()
    wait_until(lambda: not server.content.is_loading)
    assert fetched(server.port, "/1/11") == (200, b"new")
    assert fetched(server.port, "/2/12")[0] == 404
    assert resident(server) == server.store.resident == FILES + 1


def test_what_has_changed_without_an_event_is_found_by_the_loading(
    start: Callable[..., Server], gate: Gate, site: Site, wait_until: WaitUntil
) -> None:
    server = start(watch=False)
    assert gate.reached.wait(WITHIN_S)
    publish(site.root / "1" / "11", b"new")
    (site.root / "2" / "12").unlink()
    gate.opened.set()
    wait_until(lambda: not server.content.is_loading)
    assert resident(server) == server.store.resident == FILES  # and not the one that is gone
    assert fetched(server.port, "/1/11") == (200, b"new")
    assert fetched(server.port, "/2/12")[0] == 404


def test_a_reload_goes_first_and_loads_what_is_missing(
    start: Callable[..., Server], gate: Gate, wait_until: WaitUntil
) -> None:
    server = start()
    assert gate.reached.wait(WITHIN_S)
    live = server.site.live
    server.reload()
    asked = threading.Event()
    server.loop.call_soon(asked.set)
    assert asked.wait(WITHIN_S)
    gate.opened.set()
    wait_until(lambda: server.site.live is not live)
    wait_until(lambda: not server.content.is_loading)
    assert gate.fills > 1
    assert resident(server) == server.store.resident == FILES + 1
    assert server.content.counters.flips == 1


def test_a_server_ends_while_it_loads(start: Callable[..., Server], gate: Gate, wait_until: WaitUntil) -> None:
    server = start()
    assert gate.reached.wait(WITHIN_S)
    server.loop.call_soon(server.stop)
    wait_until(lambda: not server.is_serving)
    assert not server.content.close(0.0)
    gate.opened.set()
    assert server.content.close(WITHIN_S)
    assert server.content.is_loading  # it was given up
    assert resident(server) < FILES


def test_files_that_cannot_be_read_are_named_and_the_others_loaded(
    start: Callable[..., Server], site: Site, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    opened = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if Path(os.fsdecode(path)).name == "13":
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *more, **named)

    monkeypatch.setattr("os.open", refuse)
    server = start()
    wait_until(lambda: not server.content.is_loading)
    assert resident(server) == FILES
    assert "13: Permission denied" in caplog.text

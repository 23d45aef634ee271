"""An import that hangs is told, and the last good version goes on; on both engines."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.following import Becomes
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, write_servlet, write_servlets
from tests.support.waiting import WaitUntil
from zcserve.servlets import loading

_numbers = itertools.count()

HANGS = "from tests.support.stage import wait_for\nwait_for('go on')\n"
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"%s"]
"""
SERVLET = """
def get(request):
    return "%s"
"""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(loading, "TOLD_AFTER_S", 0.3)
    EVENTS.clear()
    yield
    EVENTS["go on"].set()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.name == loading.__name__]


def test_a_mount_whose_import_hangs(
    site: Site,
    live: Serve,
    told: Callable[[], list[str]],
    wait_until: WaitUntil,
    becomes: Becomes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / f"late_{next(_numbers)}.py"
    file.write_text(APPLICATION % "old")
    mount = f"/app={file.stem}:application"
    with Client(live(site.root, mount=[mount]).port) as client:
        assert client.get("/app").body == b"old"
        file.write_text(HANGS + APPLICATION % "new")
        (late,) = wait_until(told)
        assert late.startswith(f"mount {mount} has not loaded within 0.3 s (")
        assert late.endswith("): the last good version goes on")
        assert client.get("/app").body == b"old"
        assert len(told()) == 1
        EVENTS["go on"].set()
        becomes(client, "/app", b"new")
        assert told()[1].startswith(f"mount {mount}: its load has ended after ")
        assert len(told()) == 2


def test_a_servlet_whose_import_hangs(
    site: Site,
    live: Serve,
    told: Callable[[], list[str]],
    becomes: Becomes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_servlets(tmp_path, one=SERVLET % "old", other=SERVLET % "other")
    server = live(site.root, servlets=str(folder))
    with Client(server.port) as client:
        assert client.get("/csp?one").body == b"old"
        write_servlet(folder, "one", HANGS + SERVLET % "new")
        assert client.get("/csp?one").body == b"old"  # it waits until the load is late
        assert [line.partition(" has not")[0] for line in told()] == ["servlets/one.py"]
        assert client.get("/csp?one").body == b"old"
        assert client.get("/csp?other").body == b"other"
        server.reload()
        assert client.get("/csp?one").body == b"old"
        monkeypatch.undo()  # what is loaded from now on is not late, however busy the machine is
        EVENTS["go on"].set()
        becomes(client, "/csp?one", b"new")
        assert len(told()) == 2
        write_servlet(folder, "one", SERVLET % "last")
        assert client.get("/csp?one").body == b"last"

"""The way of a static request through the general lane is short enough to be read: what runs for it is counted."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest

import zcserve
from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil

PACKAGE = str(Path(zcserve.__file__).parent)


@pytest.fixture
def run() -> Iterator[set[CodeType]]:
    """The functions of zcserve that threads begun from now on call."""
    called: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.add(frame.f_code)

    threading.setprofile(note)
    yield called
    threading.setprofile(None)


@pytest.mark.parametrize(
    ("fields", "lines_max"),
    [((), 800), (("Range: bytes=1-5", "Accept-Encoding: gzip", "If-None-Match: other"), 1500)],
    ids=["plain", "range"],
)
def test_what_runs_for_one_static_request_is_short(
    site: Site, serve: Serve, run: set[CodeType], wait_until: WaitUntil, fields: tuple[str, ...], lines_max: int
) -> None:
    site.write("page", b"content")
    server = serve(site.root, engine="python", watch=False)
    with Client(server.port) as client:
        client.get("/page")
    wait_until(lambda: not server.service.connections)
    run.clear()
    with Client(server.port) as client:
        assert client.get("/page", *fields).status == (206 if fields else 200)
    wait_until(lambda: not server.service.connections)
    lines = sum(len(inspect.getsourcelines(code)[0]) for code in run.copy())
    assert 300 < lines < lines_max

"""A line of the access log is there in time, whichever engine has written it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve.net import access_log, access_logs

INTERVAL_S = 0.1  # five lines took 0.3 s together, and 3 s without `keep_up`


def test_a_line_is_no_later_than_the_interval(
    site: Site, live: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    """The fast lane waits for up to a second by itself, half of one on the average."""
    for module in (access_log, access_logs):
        monkeypatch.setattr(module, "FLUSH_INTERVAL_S", INTERVAL_S)
    site.write("page", b"page")
    log = tmp_path / "access.log"
    late = 0.0
    with Client(live(site.root, access_log=str(log)).port) as client:
        client.get("/page")  # from now on the fast lane knows it
        wait_until(lambda: log.read_bytes().count(b"\n") == 1)
        for number in range(5):
            began = time.monotonic()
            client.get("/page")
            wait_until(lambda number=number: log.read_bytes().count(b"\n") == number + 2)
            late += time.monotonic() - began
    assert late < 25 * INTERVAL_S

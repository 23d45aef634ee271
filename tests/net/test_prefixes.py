"""zcserve.net.prefixes: what every response of a second begins with."""

from __future__ import annotations

import time

import pytest

from zcserve.http import format_date
from zcserve.net import prefixes as module
from zcserve.net.fields import CLOSE, KEEP, KEEP_10
from zcserve.net.prefixes import Prefixes


@pytest.mark.parametrize(
    ("mode", "line"), [(KEEP, b""), (KEEP_10, b"Connection: keep-alive\r\n"), (CLOSE, b"Connection: close\r\n")]
)
def test_a_prefix_has_status_server_date_and_connection(
    monkeypatch: pytest.MonkeyPatch, mode: int, line: bytes
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.9)
    prefixes = Prefixes()
    date = b"Server: zcserve\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n"
    assert prefixes.of(404, mode) == b"HTTP/1.1 404 Not Found\r\n" + date + line
    assert prefixes.ok[mode] == b"HTTP/1.1 200 OK\r\n" + date + line


def test_the_date_is_computed_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000_000.0
    computed = []
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(module, "format_date", lambda second: computed.append(second) or format_date(second))
    prefixes = Prefixes()
    first, ok = prefixes.of(404, KEEP), prefixes.ok
    now += 0.9
    prefixes.refresh()
    assert prefixes.of(404, KEEP) is first
    assert prefixes.ok is ok
    now += 0.1
    prefixes.refresh()
    assert b"01:46:41" in prefixes.of(404, KEEP)
    assert b"01:46:41" in prefixes.ok[KEEP]
    assert computed == [1_000_000_000, 1_000_000_001]

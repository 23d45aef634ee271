"""--slow-log: requests that took long are told, with what they waited for; on each engine."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.config.table import Config
from zcserve.net import telling

SERVLET = """
import time
from zcserve import servlet

def get(request):
    time.sleep(0.15)
    return "late"

def post(request):
    return "got"

@servlet("/thread", thread=True)
def in_thread(request):
    time.sleep(0.15)
    return "late"
"""


@pytest.mark.parametrize(
    ("engine", "lanes", "log"),
    [("python", 1, None), ("python", 1, "json"), ("native", 1, None), ("native", 1, "json"), ("native", 2, "combined")],
)
def test_what_is_slow_is_told_with_what_it_waited_for(
    site: Site,
    serve: Serve,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: WaitUntil,
    engine: str,
    lanes: int,
    log: str | None,
) -> None:
    monkeypatch.setattr(telling, "TOLD_EVERY_S", 0.0)
    site.write("page.html", b"page")
    site.write("large.bin", b"x" * 10_000_000)
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets" / "slow.py").write_text(SERVLET)
    config = {"access_log": str(tmp_path / "log"), "access_log_format": log, "access_log_sample": 3} if log else {}
    server = serve(
        site.root, engine=engine, lanes=lanes, servlets=str(tmp_path / "servlets"), slow_log_s=0.05, **config
    )

    def told(request: str, waited_for: str) -> None:
        pattern = (
            rf"slow: {re.escape(request)}: answered \d+ after \d\.\d{{6}} s to 127\.0\.0\.1, waited for {waited_for}"
        )
        wait_until(lambda: any(re.fullmatch(pattern, record.message) for record in caplog.records))
        caplog.clear()

    with Client(server.port, receive_buffer=65536) as client:
        for _ in range(3):
            client.get("/page.html")
            client.get("/absent")
        for _ in range(2):
            client.get("/csp?slow")
            told("GET /csp?slow", "an application")
        client.get("/thread?\\")
        told("GET /thread?\\", "an application")
        for _ in range(2):
            client.send(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
            client.socket.recv(1, socket.MSG_PEEK)
            time.sleep(0.15)
            client.read()
            told("GET /large.bin", "the client to read")
        client.send(b"POST /csp?slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.15)
        client.send(b"b")
        assert client.read().body == b"got"
        told("POST /csp?slow", "the client to send it")
        client.send(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        client.socket.recv(1)
        time.sleep(0.15)
    told("GET /large.bin", "the client, which has gone")
    if log:
        wait_until(lambda: b"/absent" in (tmp_path / "log").read_bytes())
        assert b"\x01" not in (tmp_path / "log").read_bytes()


@pytest.mark.parametrize(("engine", "lanes"), [("python", 1), ("native", 1), ("native", 2)])
def test_what_was_slow_since_the_last_line_is_told_when_the_server_ends(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, engine: str, lanes: int
) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets" / "slow.py").write_text(SERVLET)
    told: dict[str, Any] = {"engine": engine, "lanes": lanes, "servlets": str(tmp_path / "servlets"), "port": 0}
    with Server(Config(root=site.root, slow_log_s=0.05, **told)) as server, Client(server.port) as client:
        for number in range(3):
            client.get(f"/csp?slow&{number}")
    messages = [record.message for record in caplog.records if record.message.startswith("slow: ")]
    assert "GET /csp?slow&0:" in messages[0]
    assert len(messages) == 2
    assert messages[1].endswith("(the slowest of 2)")

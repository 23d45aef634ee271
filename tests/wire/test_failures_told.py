"""What is answered 503 or 504, or is cut, is told in the log: what, where and why, and not each of many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.servlets import servlets_of
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, StageClient, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server

SERVLETS = """
from tests.support.stage import wait_for

@servlet("/slow/{rest:path}")
async def slow(request, rest):
    await asyncio.sleep(300)

@servlet("/stream")
async def stream(request):
    yield b"first"
    await asyncio.sleep(300)

@servlet("/thread", methods=["GET", "POST"], thread=True)
def thread(request):
    wait_for("go")
    return "done"

@servlet("/kept/{name}", ttl=60, thread=True)
def kept(request, name):
    wait_for("go")
    return "done"
"""


@pytest.fixture
def start(live: Serve, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Server]]:
    caplog.set_level(logging.WARNING)
    servlets = str(write_servlets(tmp_path, told=SERVLETS))
    yield lambda **config: live(site.root, servlets=servlets, **config)
    EVENTS["go"].set()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [record.getMessage() for record in caplog.records]


def test_an_application_that_takes_too_long(start: Callable[..., Server], told: Callable[[], list[str]]) -> None:
    server = start(app_timeout_s=0.2)
    with Client(server.port) as client:
        assert client.get("/slow/%1b%ff?q").status == 504
        client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        client.read_to_end()
    assert told() == [
        "GET /slow/%1b%ff?q: answered 504, the application gave no answer within --app-timeout (0.2 s)",
        "GET /stream: its stream was cut, it gave no piece within --app-timeout (0.2 s)",
    ]


def test_no_thread_is_free(start: Callable[..., Server], told: Callable[[], list[str]], wait_until: WaitUntil) -> None:
    server = start(servlet_threads=1, servlet_queue_max=1)
    with StageClient(server.port) as first, StageClient(server.port) as second, Client(server.port) as third:
        first.send(b"GET /thread HTTP/1.1\r\nHost: test\r\n\r\n")
        wait_until(lambda: servlets_of(server).context.pool.idle == 0)
        second.send(b"GET /kept/a HTTP/1.1\r\nHost: test\r\n\r\n")
        wait_until(lambda: servlets_of(server).context.pool.waiting == 1)
        assert third.get("/thread").status == 503
        assert third.get("/kept/b").status == 503
        with Client(server.port) as fourth:
            fourth.send(b"GET /kept/a HTTP/1.1\r\nHost: test\r\n\r\n")
            assert third.get("/kept/a").status == 503
    assert [line.partition(":")[0] for line in told()] == ["GET /thread", "GET /kept/a"]
    assert all("--servlet-queue-max" in line for line in told())


def test_no_room_for_bodies(start: Callable[..., Server], told: Callable[[], list[str]], wait_until: WaitUntil) -> None:
    server = start(servlet_bodies_max=1000)
    post = b"POST /thread HTTP/1.1\r\nHost: test\r\nContent-Length: 600\r\n\r\n"
    with Client(server.port) as first, Client(server.port) as second:
        first.send(post)
        wait_until(lambda: server.service.bodies.held)
        second.send(post)
        assert second.read().status == 503
    (line,) = told()
    assert line.startswith("POST /thread: answered 503, ")
    assert "--servlet-bodies-max" in line


def test_a_download_whose_file_changes(
    site: Site, start: Callable[..., Server], told: Callable[[], list[str]], wait_until: WaitUntil
) -> None:
    site.write("big", b"x" * 8_000_000)
    server = start(memory="64K", watch=False)
    with Client(server.port, receive_buffer=65536) as client:
        client.send(b"GET /big?q HTTP/1.1\r\nHost: test\r\n\r\n")
        client.read_head()
        with (site.root / "big").open("r+b") as file:
            file.write(b"y" * 1000)
        client.read_to_end()
    (line,) = told()
    assert line.startswith("GET /big?q: the download was cut, its file has changed")

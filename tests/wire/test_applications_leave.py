"""What applications leave behind: children that they fork, threads and locks at the end; on both engines."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.command import StartCommand
from tests.support.site import Site
from tests.support.stage import StageClient
from tests.support.waiting import WaitUntil

ENGINES = ["python", "native"]

FORKS = """
import asyncio, os, sys

def wsgi(environ, start_response):
    child = os.fork()
    if not child and environ["PATH_INFO"] == "/exit":
        sys.exit()
    start_response("200 OK", [])
    return [str(child).encode()]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    child = os.fork()
    if scope["path"].endswith("/stop"):
        asyncio.get_running_loop().stop()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(child).encode()})
"""

HOLDS = """
import atexit, logging, threading, time
from concurrent.futures import ThreadPoolExecutor

def hold():
    logging._acquireLock()
    for handler in logging.root.handlers:
        handler.acquire()
    held.set()
    time.sleep(60)

held = threading.Event()
atexit.register(time.sleep, 60)
threading.Thread(target=time.sleep, args=(60,)).start()

def application(environ, start_response):
    start_response("200 OK", [])
    ThreadPoolExecutor().submit(time.sleep, 60)
    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    return [b"held"]
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_child_that_an_application_forked_ends_when_it_comes_back(
    command: StartCommand, site: Site, tmp_path: Path, wait_until: WaitUntil, engine: str
) -> None:
    (tmp_path / "forking.py").write_text(FORKS)
    mounts = ("--mount", "/wsgi=forking:wsgi", "--mount", "/asgi=forking:asgi")
    server = command(site.root, "--engine", engine, *mounts, cwd=tmp_path)
    with StageClient(server.port) as client:
        for target in ("/wsgi", "/wsgi/exit", "/asgi", "/asgi/stop"):  # which stops the loop of all, too
            child = int(client.get(target).body)
            status = Path(f"/proc/{child}/stat")
            try:
                wait_until(lambda status=status: status.read_text().rpartition(")")[2].split()[0] == "Z")
            finally:
                os.kill(child, signal.SIGKILL)
        assert [int(client.get("/asgi").body) > 0 for _ in range(3)] == [True] * 3  # nothing takes its wake-ups
    wait_until(lambda: sum("came back" in line for line in server.lines) == 7)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_application_holds_at_exit_does_not_hold_up_the_end(
    command: StartCommand, site: Site, tmp_path: Path, engine: str
) -> None:
    (tmp_path / "holding.py").write_text(HOLDS)
    flags = ("--grace", "500ms", "--mount", "/app=holding:application")
    server = command(site.root, "--engine", engine, *flags, cwd=tmp_path)
    with StageClient(server.port) as client:
        assert client.get("/app").body == b"held"
    began = time.monotonic()
    server.process.terminate()
    assert server.wait() == 0
    assert server.lines[-1].endswith("does not end: ended")
    assert time.monotonic() - began < 10

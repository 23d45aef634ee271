"""Reloads, patches, uploads and upgrades in their hundreds leave nothing behind: no memory, descriptors or threads.

A few rounds in every run. All of it takes 15 minutes, and more time a test than a test has (pyproject.toml):
`ZCSERVE_SOAK_ROUNDS=200 python -m pytest -o faulthandler_timeout=0 tests/wire/test_soak.py`.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.following import publish
from tests.support.site import Site
from tests.support.waiting import WaitUntil

ROUNDS = int(os.environ.get("ZCSERVE_SOAK_ROUNDS", "2"))
WARM_UP = 2
# What a heap may grow by without a leak: its pieces are never all in use.
GROWTH_KB_MAX = 12_000
# What a round uploads may lie about until it is collected, but not what two do.
UPLOAD, UPLOADS = b"x" * 4_000_000, 10

SERVLET = b"""
class Node:
    def __init__(self):
        self.me = self

def get(request):
    Node()
    return "hello"

def post(request):
    return str(len(request.body))
"""


class Left(NamedTuple):
    """What a process holds."""

    kilobytes: int
    descriptors: int
    threads: int


def left(pid: int) -> Left:
    status = Path(f"/proc/{pid}/status").read_text()
    size = re.search(r"VmRSS:\s+(\d+)", status)
    assert size is not None
    return Left(int(size[1]), len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


class Soaked:
    """A server and what is done to it, a round at a time."""

    def __init__(self, server: Any, root: Path, wait_until: WaitUntil) -> None:
        self.pid: int = server.pid
        self._server = server
        self._root = root
        self._wait_until = wait_until
        self._round = 0

    def _said(self, pattern: str) -> list[str]:
        return [line for line in self._server.lines if re.search(pattern, line)]

    def _signal(self, number: int, answer: str) -> None:
        count = len(self._said(answer))
        os.kill(self.pid, number)
        self._wait_until(lambda: len(self._said(answer)) > count)

    def _ask(self, target: str, body: bytes | None = None) -> bytes:
        with Client(self._server.port, timeout=60) as client:
            if body is None:
                return client.get(target).body
            head = f"POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n"
            client.send(head.encode() + body)
            return client.read().body

    def reloads(self) -> None:
        publish(self._root / "page", b"%d" % self._round)
        self._signal(signal.SIGHUP, "reloaded: ")

    def patches(self) -> None:
        publish(self._root / "page", b"%d" % self._round)
        publish(self._root / f"d/{self._round % 5}", b"%d" % self._round * 1000)
        self._wait_until(lambda: self._ask("/page") == b"%d" % self._round)

    def uploads(self) -> None:
        for _ in range(UPLOADS):
            assert self._ask("/csp?servlet", UPLOAD) == b"%d" % len(UPLOAD)
        self.reloads()

    def upgrades(self) -> None:
        old, count = self.pid, len(self._said("serves now"))
        os.kill(self.pid, signal.SIGUSR2)
        self._wait_until(lambda: len(self._said("serves now")) > count)
        told = re.search(r"process (\d+) serves now", self._said("serves now")[-1])
        assert told is not None
        self.pid = int(told[1])
        self._wait_until(lambda: self._said(f"process {old} has ended"))

    def round(self, what: str) -> None:
        self._round += 1
        for _ in range(5):
            self._ask("/csp?servlet")
        getattr(self, what)()

    def end(self) -> None:
        if self.pid != self._server.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def soaked(
    site: Site, command: StartCommand, wait_until: WaitUntil, tmp_path: Path
) -> Iterator[Callable[[str], Soaked]]:
    site.write("page", b"0")
    for number in range(500):
        site.write(f"d/{number}", b"x" * number)
    folder = tmp_path / "servlets"
    folder.mkdir()
    (folder / "servlet.py").write_bytes(SERVLET)
    made: list[Soaked] = []

    def start(engine: str) -> Soaked:
        if engine == "native":
            pytest.importorskip("zcserve.net._lane")
        server = command(site.root, "--servlets", str(folder), "--engine", engine, "--memory", "64M")
        made.append(Soaked(server, site.root, wait_until))
        return made[0]

    yield start
    for one in made:
        one.end()


@pytest.mark.parametrize("engine", ["python", "native"])
@pytest.mark.parametrize("what", ["reloads", "patches", "uploads", "upgrades"])
def test_rounds_of_changes_leave_nothing_behind(
    soaked: Callable[[str], Soaked], wait_until: WaitUntil, what: str, engine: str
) -> None:
    server = soaked(engine)
    for _ in range(WARM_UP):
        server.round(what)
    before = left(server.pid)
    growth_max = GROWTH_KB_MAX + (what == "uploads") * UPLOADS * len(UPLOAD) // 1000
    for _ in range(ROUNDS):
        server.round(what)

    def is_flat() -> bool:
        now = left(server.pid)
        grown = now.kilobytes - before.kilobytes
        return grown <= growth_max and now.descriptors <= before.descriptors + 2 and now.threads <= before.threads + 2

    wait_until(is_flat)

"""`--listen-when`: a real process whose start takes long, since it waits for variants; what it says, answers, and does
at a signal meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.site import Site
from tests.support.upgrades import Line
from tests.support.waiting import WaitUntil

SLOW = ("--compress", "--compress-wait", "1h", "--listen-when", "start")


@pytest.fixture
def root(site: Site) -> Path:
    """Some seconds of work for the compressors."""
    words = b" ".join(b"%x" % (number * 2654435761 % 2**32) for number in range(30_000))
    for number in range(60):
        site.write(f"{number}.txt", b"%d " % number + words)
    site.write("page", b"a page")
    return site.root


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_are_answered_while_it_loads_and_an_end_is_in_order(
    root: Path, command: StartCommand, engine: str
) -> None:
    server = command(root, *SLOW, "--engine", engine)
    assert any(line == "files: 61, being loaded: what is not in memory yet is read when it is asked for"
               for line in server.lines)  # fmt: skip
    with Client(server.port) as client:
        for _ in range(2):
            assert client.get("/page").body == b"a page"
            assert client.get("/7.txt").body.startswith(b"7 ")
        assert not any(" INFO loaded: " in line for line in server.lines)
        os.kill(server.pid, signal.SIGTERM)
        assert client.at_end()
    assert server.wait() == 0


def test_a_process_that_takes_over_has_all_loaded_before_it_serves(
    site: Site, command: StartCommand, wait_until: WaitUntil
) -> None:
    for number in range(20):
        site.write(f"{number}", b"%d" % number)
    line = Line(command(site.root, "--listen-when", "start"), wait_until)
    line.await_said(r"(loaded: 20 files, 20 resident)")
    site.write("more", b"more")
    try:
        line.upgrade()
        assert len(line.await_said(r"(files: 21, 21 resident)")) == 1
    finally:
        line.end()

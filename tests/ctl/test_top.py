"""`zcserve top` in a terminal, and without one."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import zcserve
from tests.support.canned import CannedNode, answer
from tests.support.client import Client
from tests.support.stats import stats
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until
from zcserve import Server
from zcserve.ctl.top import main

CHECKOUT = Path(zcserve.__file__).parents[1]
LEAVES = "\x1b[?1049l"


@pytest.fixture
def counting(canned: Callable[[Mapping[str, Any]], CannedNode]) -> CannedNode:
    """A node that has answered 100 requests more, in another second, each time that it is asked."""
    node = canned({})
    node.answers["/stats"] = lambda asked: answer(stats(len(node.asked)))
    return node


def top(node: CannedNode, *flags: str, every: str = "100ms") -> Terminal:
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    argv = [sys.executable, "-m", "zcserve", "top", "--admin", node.address, "--every", every, *flags]
    return Terminal(argv, environ)


@pytest.mark.parametrize(
    "end",
    [lambda it: it.type("q"), lambda it: it.type("\x03"), lambda it: it.process.terminate()],
    ids=["q", "ctrl-c", "sigterm"],
)
def test_numbers_come_again_and_again_and_the_terminal_is_as_before(
    counting: CannedNode, end: Callable[[Terminal], object]
) -> None:
    with top(counting) as terminal:
        terminal.read_until(lambda text: text.count("requests/s            100") >= 2)
        assert terminal.look() != terminal.modes
        end(terminal)
        assert terminal.wait() == 0
        assert terminal.text.endswith(LEAVES)
        assert terminal.look() == terminal.modes


def test_another_size_is_followed_at_once_and_a_stop_gives_the_terminal_back(counting: CannedNode) -> None:
    with top(counting, every="1h") as terminal:
        terminal.read_until(lambda text: "hottest" in text)
        terminal.resize(5, 20)
        terminal.read_until(lambda text: "\x1b[H\x1b[1mzcserve 0.1.0  nativ\x1b[0m" in text)
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.read_until(lambda text: LEAVES in text)
        wait_until(terminal.is_stopped)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.read_until(lambda text: text.rpartition(LEAVES)[2].count("requests/s") >= 1)
        terminal.type("q")
        assert terminal.wait() == 0


def test_a_node_that_goes_away_is_told_and_asked_again(counting: CannedNode) -> None:
    with top(counting) as terminal:
        terminal.read_until(lambda text: "requests/s            100" in text)
        told = counting.answers.pop("/stats")
        terminal.read_until(lambda text: "!! /stats is unknown; asked again" in text)
        counting.answers["/stats"] = answer(stats(1, pid=78))
        terminal.read_until(lambda text: "pid 78" in text)
        counting.answers["/stats"] = told
        terminal.type("q")
        assert terminal.wait() == 0


def test_without_a_terminal_it_is_one_frame(counting: CannedNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--admin", counting.address, "--every", "100ms"]) == 0
    out, err = capsys.readouterr()
    assert "requests/s            100    2xx 90/s  4xx 10/s\n" in out
    assert ("\x1b" in out, err) == (False, "")


def test_the_numbers_of_a_real_node_move(node: Server, socket_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    is_over = threading.Event()

    def ask() -> None:
        with Client(node.port) as client:
            while not is_over.is_set():
                assert client.get("/page").status == 200

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert main(["--admin", f"unix:{socket_path}", "--every", "300ms"]) == 0
    finally:
        is_over.set()
        thread.join(20)
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^(\S+(?: lag)?) +(\S+)", out, re.MULTILINE))
    assert node.loop.front.engine in out.splitlines()[0]
    assert float(rows["requests/s"].replace(",", "")) > 0
    assert "2xx" in out
    assert (rows["hits"], rows["residency"], rows["connections"]) == ("100%", "100%", "1")
    for label in ("bytes/s", "latency", "loop lag", "memory", "generation"):
        assert rows[label] != "-", label
    assert ("lanes" in rows) == (node.loop.front.engine == "native")


def test_one_frame_in_a_terminal_leaves_it_alone(counting: CannedNode) -> None:
    with top(counting, "--once") as terminal:
        assert terminal.wait() == 0
        assert "requests/s            100" in terminal.text
        assert "\x1b" not in terminal.text


def test_what_is_wrong_at_first_is_one_line(
    canned: Callable[[Mapping[str, Any]], CannedNode], socket_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"unix:{socket_path}"
    assert main(["--admin", address]) == 3
    assert capsys.readouterr().err.startswith("zcserve top: there is no socket")
    assert main(["www", "--admin", address]) == 2
    assert "a directory is served as ./top" in capsys.readouterr().err
    node = canned({})
    assert main(["--admin", address]) == 1
    assert capsys.readouterr().err == "zcserve top: /stats is unknown\n"
    node.answers["/stats"] = b"HTTP/1.1 200 OK\r\n\r\n<html>"
    assert main(["--admin", address]) == 3
    assert main(["--help"]) == 0

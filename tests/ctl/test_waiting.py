"""Waiting for a node that may not be there yet."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.canned import CannedNode
from tests.support.site import Serve, Site
from zcserve.config.addresses import UnixAddress
from zcserve.ctl.client import Node, NodeError
from zcserve.ctl.waiting import Progress, progress_text, wait

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
WARMING = {"is_ready": False, "phase": "warming", "share": 0.5, "resident_bytes": 1024, "wanted_bytes": 2048}
READY = {"is_ready": True, "phase": "ready"}


def lines(*values: Any) -> bytes:
    return HEAD + b"".join(json.dumps(value).encode() + b"\n" for value in values)


def waited(socket_path: str, timeout_s: float = 60) -> tuple[bool, list[Any]]:
    told: list[Any] = []
    node = Node(UnixAddress(socket_path), timeout_s=timeout_s)
    return wait(node, "/warmz", lambda readiness, line: told.append(readiness)), told


def test_it_waits_for_a_node_that_is_not_started_yet(site: Site, serve: Serve, socket_path: str) -> None:
    found: list[tuple[bool, list[Any]]] = []
    thread = threading.Thread(target=lambda: found.append(waited(socket_path)))
    thread.start()
    serve(site.root, admin=f"unix:{socket_path}")
    thread.join(60)
    ((is_ready, told),) = found
    assert is_ready
    assert told[-1]["is_ready"]


def test_a_node_that_ends_in_between_is_waited_for_again(
    canned: Callable[[Mapping[str, Any]], CannedNode], socket_path: str
) -> None:
    node = canned({})
    node.answers["/warmz"] = lambda asked: lines(WARMING) if len(node.asked) < 3 else lines(WARMING, READY)
    assert waited(socket_path) == (True, [WARMING, WARMING, WARMING, READY])


def test_it_gives_up_in_time(canned: Callable[[Mapping[str, Any]], CannedNode], socket_path: str) -> None:
    with pytest.raises(NodeError, match="there is no socket"):
        waited(socket_path, 0.01)
    canned({"/warmz": lines(WARMING)})
    assert waited(socket_path, 0.5)[0] is False


def test_what_is_no_node_is_not_waited_for(canned: Callable[[Mapping[str, Any]], CannedNode], socket_path: str) -> None:
    canned({"/warmz": HEAD + b"<html>\n"})
    with pytest.raises(NodeError, match="no JSON"):
        waited(socket_path)


def test_a_change_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for readiness in (WARMING, WARMING, READY):
        progress(readiness, b"")
    progress.end()
    assert capsys.readouterr().err == "warming  50.0%  1.0 KiB of 2.0 KiB\nready\n"
    assert progress_text({"phase": "a\x1b[2J"}) == "a\\x1b[2J"
    assert progress_text({"phase": "incomplete", "why": "no room"}) == "incomplete  no room"

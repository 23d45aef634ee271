"""The snapshot each second, as server-sent events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Serve
from zcserve import Config, Server
from zcserve.admin import events
from zcserve.admin.events import Events
from zcserve.admin.node import Node
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller


def fields_of(event: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in event.decode().strip().split("\n"))


def test_the_first_event_is_whole_and_what_follows_is_what_has_changed(node: Server, socket_path: str) -> None:
    with Client(socket_path) as client:
        client.send(b"GET /events HTTP/1.0\r\n\r\n")
        head = client.read_head()
        assert b"Content-Type: text/event-stream" in head
        assert b"Cache-Control: no-store" in head
        while client.buffer.count(b"\n\n") < 2:
            client.buffer += client.socket.recv(65536)
    first, second = map(fields_of, client.buffer.split(b"\n\n")[:2])
    assert (first["retry"], first["id"], first["event"]) == ("2000", "1", "whole")
    assert (second["id"], second["event"]) == ("2", "change")
    whole, change = json.loads(first["data"]), json.loads(second["data"])
    assert whole["version"] == 1
    assert whole["ready"]["is_ready"] is True
    assert change["time"] > whole["time"]
    assert change.keys() < whole.keys()
    assert not {"version", "pid", "hottest", "warnings", "release"} & change.keys()


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`/events` of a node that tells 1, 2, 3, ...: the loop, the stream, and what was told."""
    told: list[int] = []

    def snapshot_of(node: Node) -> dict[str, Any]:
        told.append(len(told) + 1)
        return {"count": told[-1], "same": "é\n\n"}

    monkeypatch.setattr(events, "snapshot_of", snapshot_of)
    monkeypatch.setattr(events, "EVERY_S", 0.0)
    loop = Loop(Poller())
    node = Node(Config(root=tmp_path), loop, lambda told: None, lambda told: "")
    exchange: Any = None
    yield loop, Events().get(node, exchange).content, told
    loop.close()


def test_nothing_is_made_for_a_client_that_takes_nothing(stream: Any) -> None:
    loop, content, told = stream
    given: list[bytes] = []
    content.pull(given.append)
    while not given:
        loop.run_once()
    loop.timers.call_later(0.1, loop.stop)
    loop.run()
    assert told == [1]  # no other was asked for
    content.pull(given.append)
    while len(given) < 2:
        loop.run_once()
    content.close()
    assert [fields_of(event)["data"] for event in given] == ['{"count":1,"same":"é\\n\\n"}', '{"count":2}']


def test_nothing_is_made_for_a_client_that_has_gone(stream: Any) -> None:
    loop, content, told = stream
    given: list[bytes] = []
    content.pull(given.append)
    content.close()
    loop.timers.call_later(0.1, loop.stop)
    loop.run()
    assert (told, given) == ([], [])


def test_a_page_in_a_machine_that_sleeps_fills_a_buffer_and_no_more(
    page_root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = serve(page_root, admin="127.0.0.1:0").admin_port
    made: list[int] = []

    def snapshot_of(_: Node) -> dict[str, Any]:
        made.append(1)
        return {"count": len(made), "text": f"{len(made):065536}"}

    monkeypatch.setattr(events, "snapshot_of", snapshot_of)
    monkeypatch.setattr(events, "EVERY_S", 0.0)
    with Client(port, receive_buffer=4096) as sleeping, Client(port) as awake:
        for client in (sleeping, awake):
            client.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        taken = 0
        while taken < 24:
            taken += awake.socket.recv(65536).count(b"event: ")
        assert len(made) - taken < 12

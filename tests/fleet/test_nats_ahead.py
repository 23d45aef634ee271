"""A command that goes ahead is published by one connection in the clear, or not at all, and nothing depends on it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.nats_server import nats_server
from zcserve.fleet import nats_ahead, nats_streams
from zcserve.fleet.messages import Command, parse_command
from zcserve.fleet.nats_ahead import go_ahead
from zcserve.fleet.nats_place import NatsPlace

PURGE = Command("purge.1", "purge", "www.example.com", tags=("news",))
INFO = {"headers": True, "max_payload": 1 << 20}
USER = "operator:secret@"


class Answering:
    """A server that says these lines, the last ones once it was sent a PING; and what it was sent."""

    def __init__(self, greeting: bytes, *answers: bytes) -> None:
        self._greeting, self._answers = greeting, answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.got = b""
        self.is_over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def place(self, user: str = "", **more: Any) -> NatsPlace:
        return NatsPlace.of(f"nats://{user}127.0.0.1:{self._listener.getsockname()[1]}", **more)

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
            with client:
                client.sendall(self._greeting)
                while b"PING\r\n" not in self.got and (data := client.recv(1 << 16)):
                    self.got += data
                for answer in self._answers if self.got else ():
                    client.sendall(answer)
                while data := client.recv(1 << 16):
                    self.got += data
        except OSError:
            pass
        finally:
            self.is_over.set()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # it is accepted from in a thread
        self._listener.close()


@contextmanager
def answering(greeting: bytes | dict[str, Any], *answers: bytes) -> Iterator[Answering]:
    text = greeting if isinstance(greeting, bytes) else b"INFO " + json.dumps(greeting).encode() + b" \r\n"
    server = Answering(text, *answers)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is waited for."""
    monkeypatch.setattr(nats_ahead, "AHEAD_S", 20.0)


def test_it_is_sent_with_its_id_and_the_user_and_is_there_when_a_ping_is_answered() -> None:
    with answering(INFO, b"PING\r\n", b"PONG\r\n") as server:
        assert go_ahead(server.place(USER), PURGE)
        assert server.is_over.wait(20)
    connect, hpub, *lines = server.got.split(b"\r\n")
    said = json.loads(connect.removeprefix(b"CONNECT "))
    assert (said["user"], said["pass"], said["headers"]) == ("operator", "secret", True)
    word, subject, head_bytes, all_bytes = hpub.split()
    assert (word, subject) == (b"HPUB", b"zcserve.commands.www__example__com")
    assert lines[:3] == [b"NATS/1.0", b"Nats-Msg-Id: purge.1", b""]
    assert lines[4:] == [b"PING", b"PONG", b""]
    head = b"\r\n".join(lines[:3]) + b"\r\n"
    assert (int(head_bytes), int(all_bytes)) == (len(head), len(head) + len(lines[3]))
    assert parse_command(lines[3]) == PURGE


def test_a_token_is_sent_as_one() -> None:
    with answering(INFO, b"PONG\r\n") as server:
        assert go_ahead(server.place("t0ken@"), PURGE)
    assert json.loads(server.got.partition(b"\r\n")[0].removeprefix(b"CONNECT "))["auth_token"] == "t0ken"


@pytest.mark.parametrize(
    "greeting",
    [
        INFO | {"tls_required": True},
        INFO | {"tls_available": True},
        INFO | {"headers": False},
        INFO | {"max_payload": 10},
        {},
        b"INFO []\r\n",
        b"INFO nothing\r\n",
        b"SSH-2.0\r\n",
        b"",
    ],
)
def test_where_it_takes_more_nothing_is_sent(greeting: bytes | dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_ahead, "STEP_S", 0.2)
    with answering(greeting) as server:
        assert not go_ahead(server.place(USER), PURGE)
        assert server.is_over.wait(20)
    assert server.got == b""


def test_where_encryption_is_wanted_or_nothing_listens_it_is_not_tried() -> None:
    with answering(INFO, b"PONG\r\n") as server:
        port = server.place().servers[0].rpartition(":")[2]
        assert not go_ahead(NatsPlace.of(f"tls://127.0.0.1:{port}"), PURGE)
        place = server.place()
    assert not go_ahead(place, PURGE)
    assert server.got == b""


@pytest.mark.parametrize("answer", [b"-ERR 'Authorization Violation'\r\n", b""])
def test_what_is_refused_is_not_there(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_ahead, "STEP_S", 0.2)
    with answering(INFO, answer) as server:
        assert not go_ahead(server.place(), PURGE)


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_ahead, "AHEAD_S", 0.01)
    with answering(b"") as server:
        assert not go_ahead(server.place(), PURGE)
        assert not server.is_over.is_set()  # its connection stands still


@pytest.mark.peer
def test_nats_appends_it_once_with_what_is_published_behind_it_and_a_wrong_password_does_no_harm(
    tmp_path: Path,
) -> None:
    pytest.importorskip("nats")
    from zcserve.fleet.jetstream import JetStream
    from zcserve.fleet.nats_bus import NatsOperatorBus
    from zcserve.fleet.nats_link import Link

    users = 'authorization { users: [{ user: "operator", password: "secret" }] }'
    with nats_server(tmp_path, users) as server:
        place = NatsPlace.of(server.url.replace("//", f"//{USER}"))
        stream = nats_streams.commands(PURGE.site)

        async def run() -> None:
            link = Link(place, "a test")
            bus = NatsOperatorBus(place, PURGE.site)
            held = await JetStream(link).held(stream)  # it is made
            assert held.last == 0
            assert go_ahead(place, PURGE)
            assert not go_ahead(NatsPlace.of(server.url.replace("//", "//operator:wrong@")), PURGE)
            await bus.publish(PURGE)
            record = await JetStream(link).at(stream, 1)
            assert record
            assert parse_command(record.data) == PURGE
            assert (await JetStream(link).held(stream)).last == 1
            await bus.close()
            await link.close()

        asyncio.run(run())

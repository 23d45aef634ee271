"""A command goes ahead to NATS, before the operator's program has imported what it talks to NATS with.

To import asyncio and the client of NATS takes a tenth of a second of a processor: as long as all nodes take for a
purge. What NATS wants for one message are four lines of text, and a socket sends them. So a command that is in a hurry
is published at once here, and then as ever (nats_bus.py), with the same id: the server appends it once, and where it
did not go ahead, for whatever reason, that was the first time.

So nothing depends on this. It does the simplest case alone: one server, no TLS, a user with a password or none. What
is more is left to the client. And it is waited for no longer than AHEAD_S; a name that is looked up, and a server that
is slow, go on in a thread that nothing waits for.
"""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from io import BufferedReader
from typing import Any
from urllib.parse import urlsplit

from zcserve import threads
from zcserve.errors import NoThreadError
from zcserve.fleet import strict_json
from zcserve.fleet.messages import Command
from zcserve.fleet.nats_place import NatsPlace
from zcserve.fleet.nats_subjects import commands_subject

# In seconds: a server on the same continent has answered by then.
AHEAD_S = 0.1
# For each step of the thread, in seconds.
STEP_S = 2.0
# Of a line of the server's, in bytes: a large cluster's INFO takes some thousand.
LINE_BYTES_MAX = 64 << 10


def go_ahead(place: NatsPlace, command: Command) -> bool:
    """Whether NATS has it already; False says nothing. Nothing is raised."""
    if place.creds or place.wants_tls:
        return False
    is_there = threading.Event()
    is_over = threading.Event()

    def publish() -> None:
        with suppress(OSError, ValueError):
            if _publish(place, command):
                is_there.set()
        is_over.set()

    try:
        threads.start(publish, "ahead")
    except NoThreadError:
        return False
    is_over.wait(AHEAD_S)
    return is_there.is_set()


def _publish(place: NatsPlace, command: Command) -> bool:
    """Raises OSError, ValueError where it is no server of NATS."""
    parts = urlsplit(place.servers[0])
    message = command.dump()
    with socket.create_connection((parts.hostname, parts.port), STEP_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as lines:
            word, _, text = _line(lines).partition(b" ")
            info = strict_json.read(text, LINE_BYTES_MAX) if word == b"INFO" else {}
            if not _is_simple(info, len(message)):
                return False
            connection.sendall(_connect(place) + _message(command.site, command.id, message) + b"PING\r\n")
            while (line := _line(lines)) != b"PONG":
                if line == b"PING":
                    connection.sendall(b"PONG\r\n")
                elif not line or line.startswith(b"-ERR"):
                    return False
    return True


def _line(lines: BufferedReader) -> bytes:
    return lines.readline(LINE_BYTES_MAX).rstrip(b"\r\n")


def _is_simple(info: Any, length: int) -> bool:
    """Whether nothing but what is here is needed to publish so much. A server that offers TLS is spoken to with it."""
    return (
        isinstance(info, dict)
        and info.get("headers") is True
        and not info.get("tls_required")
        and not info.get("tls_available")
        and length < info.get("max_payload", 0) // 2
    )


def _connect(place: NatsPlace) -> bytes:
    about = {"verbose": False, "pedantic": False, "headers": True, "protocol": 1, "lang": "python", "version": "1"}
    said = {"pass" if name == "password" else name: value for name, value in place.credentials().items()}
    if "token" in said:
        said = {"auth_token": said["token"]}
    return b"CONNECT %b\r\n" % json.dumps(about | {"name": "zcserve operator, ahead"} | said).encode()


def _message(site: str, name: str, data: bytes) -> bytes:
    """With the id by which the server knows it again; an id has no line ends (forms.identity)."""
    head = f"NATS/1.0\r\nNats-Msg-Id: {name}\r\n\r\n".encode()
    return f"HPUB {commands_subject(site)} {len(head)} {len(head) + len(data)}\r\n".encode() + head + data + b"\r\n"

"""Two servers of one root, one with the fast lane and one without, that are asked the same and must answer the same.

Only Date may differ, and 100 (Continue), which depends on how the client's pieces meet the server's reads.
"""

from __future__ import annotations

import os
import random
import re
import socket
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.client import Client
from tests.support.waiting import is_readable
from zcserve import Server
from zcserve.net.fastlane import FastLane

# What `--engine` takes here.
ENGINES = ("python", "native") if find_spec("zcserve.net._lane") else ("python",)

# A stream that asks for more than the socket takes may be cut off by a reset; asked again, it is rarely so.
TRIES = 5
FILES: dict[str, int] = {
    "index.html": 1000,
    "small.txt": 3000,
    "small.txt.gz": 900,
    "small.txt.br": 800,
    "small.txt.zst": 900,  # as long as .gz: the choice among equals shows
    "partly.css": 500,
    "partly.css.gz": 600,
    "empty.txt": 0,
    "large.bin": 90_000,
    "large.js": 60_000,
    "large.js.br": 30_000,
    "mixed.json": 40_000,
    "mixed.json.gz": 5_000,
    "dir/index.html": 200,
    "dir/a b.html": 300,
    ".well-known/known": 10,
    "404.html": 150,
}
TARGETS = (
    b"/", b"/index.html", b"/small.txt", b"/small.txt", b"/partly.css", b"/empty.txt", b"/large.bin", b"/large.js",
    b"/mixed.json", b"/dir/", b"/dir/a%20b.html", b"/.well-known/known", b"/404.html", b"/mixed.json.gz",
    b"/small.txt.br", b"/large.js.br",
)  # fmt: skip
_DATE = re.compile(rb"\r\nDate: [A-Za-z0-9:, ]{29}\r\n")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Engines(NamedTuple):
    """Two servers of one root, and the entity tags of its files."""

    native: Server
    python: Server
    tags: list[bytes]


def make_site(root: Path) -> None:
    """The files above, all of one old date, with bytes that cannot be mistaken for each other's."""
    for name, size in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.Random(name).randbytes(size))
        os.utime(file, (1_000_000_000, 1_000_000_000))


def tags_of(port: int) -> list[bytes]:
    tags: set[bytes] = set()
    with Client(port) as client:
        for target in TARGETS:
            for coding in ("identity", "gzip", "br", "zstd"):
                tags.add(client.get(target, f"Accept-Encoding: {coding}", method="HEAD")["ETag"])
    return sorted(tags)


class Answer(NamedTuple):
    """All that came back, and whether a reset cut it off."""

    data: bytes
    reset: bool


def ask(port: int, pieces: list[bytes], pause_s: float = 0.0, quiet_s: float = 0.0) -> Answer:
    """Send pieces, say that there are no more, and read to the end.

    An application answers no client that has said so: with `quiet_s` it is said when nothing has come for this long.
    """
    reset = False
    received = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                sock.sendall(piece)
                if pause_s:
                    time.sleep(pause_s)
            while quiet_s and is_readable(sock, quiet_s):
                received.append(sock.recv(1 << 18))
                if not received[-1]:
                    break
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            reset = True
        try:
            while data := sock.recv(1 << 18):
                received.append(data)
        except ConnectionResetError:
            reset = True
    data = _DATE.sub(b"\r\nDate: -\r\n", b"".join(received))
    return Answer(data.replace(_CONTINUE, b""), reset)


def ask_whole(port: int, pieces: list[bytes], pause_s: float, quiet_s: float) -> Answer:
    """As `ask`, again when a reset cut the answer off."""
    for _ in range(TRIES):
        answer = ask(port, pieces, pause_s, quiet_s)
        if not answer.reset:
            break
    return answer


def compare(engines: Engines, pieces: list[bytes], pause_s: float = 0.0, quiet_s: float = 0.0) -> bool:
    """Ask both engines and fail where they differ; False: a reset cut one off, and what came before it is the same."""
    expected = ask_whole(engines.python.port, pieces, pause_s, quiet_s)
    whole = not expected.reset
    for times in ("first", "second", "third"):  # what was taught is the lane's from the second on
        got = ask_whole(engines.native.port, pieces, pause_s, quiet_s)
        if got.reset or expected.reset:
            whole = False
            shorter, longer = sorted((got.data, expected.data), key=len)
            same = longer.startswith(shorter)
        else:
            same = got.data == expected.data
        if not same:
            pytest.fail(f"{times} time, sent {pieces!r}\n{difference(got.data, expected.data)}")
    return whole


def difference(got: bytes, expected: bytes) -> str:
    """Where two answers part."""
    at = next((i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), min(len(got), len(expected)))
    near = slice(max(at - 300, 0), at + 200)
    return f"native {len(got)} bytes: {got[near]!r}\npython {len(expected)} bytes: {expected[near]!r}"


def lane_share(engines: Engines, work: Callable[[], Any]) -> float:
    """How much of what the native server answers during `work` the lane answers by itself."""
    service, front = engines.native.service, engines.native.loop.front
    assert isinstance(front, FastLane)
    lane = front.lane
    by_lane, by_python = lane.requests, service.requests
    work()
    by_lane, by_python = lane.requests - by_lane, service.requests - by_python
    return by_lane / (by_lane + by_python)

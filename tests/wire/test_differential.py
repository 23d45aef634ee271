"""The two engines give the same answers, byte for byte, to whatever they are asked.

Two servers of one root, one with the fast lane and one without. Each made-up stream of bytes goes to the native server
twice (what it was taught the first time, it answers in the lane the second time) and to the Python server once.
Everything must be equal: heads, contents, and where the connection ends. Only Date may differ, and 100 (Continue),
which depends on how the client's pieces meet the server's reads.

A seed names a case: `test_streams[7]` makes the same streams every time.
"""

from __future__ import annotations

import os
import random
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fuzz.grammar import Maker
from wire.client import Client

from zcserve import Config, Server
from zcserve.net import reply
from zcserve.net.fastlane import FastLane

pytest.importorskip("zcserve.net._lane")

SEEDS = 8
STREAMS_PER_SEED = 400
PIPELINE_MAX = 20
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


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    root = tmp_path_factory.mktemp("site")
    make_site(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reply, "_boundary", lambda: b"boundary")
        with (
            Server(Config(root=root, port=0, engine="native", trust_siblings=True)) as native,
            Server(Config(root=root, port=0, engine="python", trust_siblings=True)) as python,
        ):
            yield Engines(native, python, tags_of(python.port))


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
            while quiet_s and select.select([sock], [], [], quiet_s)[0]:
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
    for times in ("first", "second"):
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
    service, front = engines.native._service, engines.native.loop.front
    assert isinstance(front, FastLane)
    lane = front.lane
    by_lane, by_python = lane.requests, service.requests
    work()
    by_lane, by_python = lane.requests - by_lane, service.requests - by_python
    return by_lane / (by_lane + by_python)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_streams(engines: Engines, seed: int) -> None:
    rng = random.Random(seed)
    maker = Maker(rng, TARGETS, engines.tags, mischief=0.003 if seed % 2 else 0.03)
    cut_off = 0

    def work() -> None:
        nonlocal cut_off
        for _ in range(STREAMS_PER_SEED):
            count = 1 if rng.random() < 0.4 else rng.randint(2, PIPELINE_MAX)
            stream = maker.stream(count)
            if rng.random() < 0.5:  # whether the connection goes on shows by who answers this
                stream += b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n"
            cut_off += not compare(engines, maker.pieces(stream), 0.0005 if rng.random() < 0.2 else 0.0)

    assert lane_share(engines, work) > 0.2
    assert cut_off < STREAMS_PER_SEED / 10


@pytest.mark.parametrize("seed", range(4))
def test_plain_streams_are_the_lanes(engines: Engines, seed: int) -> None:
    rng = random.Random(100 + seed)
    maker = Maker(rng, TARGETS, engines.tags, mischief=0)
    streams = [maker.stream(rng.randint(1, PIPELINE_MAX)) for _ in range(60)]
    for stream in streams:
        assert compare(engines, [stream]) or b"close" in stream.lower()
    # By now it knows their values, unless it learned more than it keeps.
    assert lane_share(engines, lambda: [ask(engines.native.port, [stream]) for stream in streams]) > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_one_request_cut_anywhere(engines: Engines, seed: int) -> None:
    rng = random.Random(200 + seed)
    maker = Maker(rng, TARGETS, engines.tags, mischief=0.05)
    request = maker.request()
    for at in range(1, min(len(request), 120)):
        compare(engines, [request[:at], request[at:]])


def test_every_coding_that_is_asked_for(engines: Engines) -> None:
    rng = random.Random(300)
    maker = Maker(rng, TARGETS, engines.tags)
    for _ in range(300):
        target = rng.choice((b"/small.txt", b"/partly.css", b"/large.js", b"/mixed.json", b"/index.html"))
        head = b"HEAD %b HTTP/1.1\r\nHost: test\r\nAccept-Encoding: %b\r\n\r\n" % (target, maker.accept())
        compare(engines, [head + head.replace(b"HEAD", b"GET")])


def test_every_condition_on_a_tag(engines: Engines) -> None:
    rng = random.Random(400)
    maker = Maker(rng, TARGETS, engines.tags)
    for _ in range(300):
        lines = [b"If-None-Match: " + maker.none_match(), b"Accept-Encoding: " + maker.accept(), b"Host: test"]
        if rng.random() < 0.2:
            lines.append(b"If-Modified-Since: Wed, 09 Sep 2026 00:00:00 GMT")
        target = rng.choice(TARGETS)
        compare(engines, [b"GET %b HTTP/1.1\r\n%b\r\n\r\n" % (target, b"\r\n".join(lines))])


def test_whatever_hypothesis_thinks_of(engines: Engines) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    field = st.sampled_from(
        [b"Host: test", b"Host:", b"Connection: close", b"Connection: keep-alive", b"Range: bytes=0-1", b"Cookie: a=b",
         b"Accept-Encoding: gzip, br", b"Accept-Encoding: *;q=0", b"If-None-Match: *", b"Content-Length: 2",
         b"Expect: x", *(b"If-None-Match: " + tag for tag in engines.tags[:2])]
    )  # fmt: skip
    head = st.builds(
        lambda method, target, version, lines: (
            b"%b %b %b\r\n%b\r\n\r\n" % (method, target, version, b"\r\n".join(lines))
        ),
        st.sampled_from([b"GET", b"HEAD", b"POST"]),
        st.sampled_from([*TARGETS, b"/missing", b"/dir"]),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]),
        st.lists(st.one_of(field, st.just(b"Host: test"), st.binary(max_size=8)), max_size=5),
    )

    @hypothesis.settings(max_examples=150, database=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(st.lists(head, min_size=1, max_size=4), st.integers(0, 400))
    def law(heads: list[bytes], cut: int) -> None:
        stream = b"".join(heads)
        compare(engines, [piece for piece in (stream[:cut], stream[cut:]) if piece])

    law()

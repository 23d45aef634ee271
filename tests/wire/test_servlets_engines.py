"""The two engines answer a servlet's requests with the same bytes, as tests/wire/test_differential.py has it for files.

Two servers of one root and one folder; streams made at random ask for servlets of all kinds and for files between them.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.engines import Engines, ask, compare, make_site, tags_of
from tests.support.grammar import Maker
from tests.support.mixed import MIXED, TARGETS, compare_all
from tests.support.stage import write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.net.fastlane import FastLane
from zcserve.site import reply

pytest.importorskip("zcserve.net._lane")

SEEDS = 4
STREAMS_PER_SEED = 150
PIPELINE_MAX = 12


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    root = tmp_path_factory.mktemp("site")
    make_site(root)
    folder = write_servlets(tmp_path_factory.mktemp("code"), mixed=MIXED)
    config: dict[str, Any] = {"root": root, "port": 0, "servlets": str(folder), "servlet_slow_s": 60.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reply, "new_boundary", lambda: b"boundary")
        patch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
        with (
            Server(Config(**config, engine="native")) as native,
            Server(Config(**config, engine="python")) as python,
        ):
            yield Engines(native, python, tags_of(python.port))


@pytest.mark.parametrize("target", TARGETS)
def test_each_kind_of_answer(engines: Engines, target: bytes) -> None:
    for method in (b"GET", b"HEAD", b"POST", b"OPTIONS", b"PUT"):
        for version in (b"1.1", b"1.0"):
            for line in (b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Range: bytes=0-1\r\n",
                         b"Accept-Encoding: gzip\r\n", b"If-None-Match: *\r\n"):  # fmt: skip
                compare_all(engines, [b"%b %b HTTP/%b\r\nHost: test\r\n%b\r\n" % (method, target, version, line)])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_streams_for_servlets_and_files(engines: Engines, seed: int) -> None:
    rng = random.Random(seed)
    maker = Maker(rng, TARGETS, engines.tags, mischief=0.003 if seed % 2 else 0.02, sends=0.3)
    cut_off = 0
    for _ in range(STREAMS_PER_SEED):
        stream = maker.stream(1 if rng.random() < 0.4 else rng.randint(2, PIPELINE_MAX))
        if rng.random() < 0.5:
            stream += b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n"
        cut_off += not compare_all(engines, maker.pieces(stream), 0.0005 if rng.random() < 0.2 else 0.0)
    assert cut_off < STREAMS_PER_SEED / 10


@pytest.mark.parametrize("seed", range(2))
def test_one_request_for_a_servlet_cut_anywhere(engines: Engines, seed: int) -> None:
    rng = random.Random(300 + seed)
    requests = [
        b"POST /csp?mixed HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12345",
        b"POST /csp?mixed HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n",
        b"GET /kind/pieces HTTP/1.1\r\nHost: test\r\n\r\n",
        b"PUT /async/text HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    ]
    stream = b"".join(rng.sample(requests, 3))
    for at in range(1, len(stream), 3):
        compare_all(engines, [stream[:at], stream[at:]])


def test_the_lane_asks_servlets_itself(engines: Engines, wait_until: WaitUntil) -> None:
    assert isinstance(engines.native.loop.front, FastLane)
    lane = engines.native.loop.front.lane
    stream = b"GET /csp?mixed HTTP/1.1\r\nHost: test\r\n\r\nGET /kind/text HTTP/1.1\r\nHost: test\r\n\r\n" * 20
    assert compare(engines, [stream])
    before = lane.requests
    ask(engines.native.port, [stream])
    wait_until(lambda: lane.requests - before >= 40)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_sent_to_servlets_in_one_piece_is_the_lanes(engines: Engines, wait_until: WaitUntil, seed: int) -> None:
    assert isinstance(engines.native.loop.front, FastLane)
    lane = engines.native.loop.front.lane
    rng = random.Random(400 + seed)
    requests = []
    for _ in range(30):
        body = rng.choice((b"", b"{}", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", rng.randbytes(rng.randrange(900))))
        lines = [b"Host: test", b"Content-Length: %d" % len(body), b"X: y", b"Content-Type: application/json"]
        rng.shuffle(lines)
        method, target = rng.choice(((b"POST", b"/kind/made"), (b"PATCH", b"/kind/made?q"), (b"DELETE", b"/kind/said")))
        requests.append(b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (method, target, b"\r\n".join(lines), body))
    stream = b"".join(requests)
    assert len(stream) < 16_384
    assert compare(engines, [stream])
    before = lane.requests
    ask(engines.native.port, [stream])
    wait_until(lambda: lane.requests - before >= 30)
    stream = b"".join(requests[:3])
    for at in range(1, len(stream), 23):
        compare_all(engines, [stream[:at], stream[at:]])

"""The two engines give the same answers, byte for byte, to whatever they are asked.

Two servers of one root, one with the fast lane and one without. Each made-up stream of bytes goes to the native server
twice and to the Python server once. Before some of them the lane is made to forget everything, so that it sees what it
is asked for first for the first time, and then again.
Everything must be equal: heads, contents, and where the connection ends. Only Date may differ, and 100 (Continue),
which depends on how the client's pieces meet the server's reads.

A seed names a case: `test_streams[7]` makes the same streams every time.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator

import pytest

from tests.support.engines import TARGETS, Engines, ask, compare, lane_share, make_site, tags_of
from tests.support.grammar import CONNECTIONS, Maker
from zcserve import Config, Server
from zcserve.net.fastlane import KEYS_FORGOTTEN_MAX
from zcserve.site import reply

pytest.importorskip("zcserve.net._lane")

# All of them in the build that watches memory (tools/sanitize.py, which .ci/run begins); elsewhere half are enough.
SEEDS = 8 if os.environ.get("ZCSERVE_SANITIZED") else 4
STREAMS_PER_SEED = 400
PIPELINE_MAX = 20
ASKED = (*TARGETS, b"/dir", b"/absent", b"/.env", b"/dir/absent%20too")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    root = tmp_path_factory.mktemp("site")
    make_site(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reply, "new_boundary", lambda: b"boundary")
        with (
            Server(Config(root=root, port=0, engine="native", trust_siblings=True)) as native,
            Server(Config(root=root, port=0, engine="python", trust_siblings=True)) as python,
        ):
            yield Engines(native, python, tags_of(python.port))


def forget(server: Server) -> None:
    """Have the lane know nothing: what it is asked for next it sees for the first time."""
    done = threading.Event()
    front = server.loop.front
    keys = [b"/"] * (KEYS_FORGOTTEN_MAX + 1)
    server.loop.call_soon(lambda: (front.shelf(0).forget_keys(keys, len(ASKED)), done.set()))
    assert done.wait(20)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_streams(engines: Engines, seed: int) -> None:
    rng = random.Random(seed)
    maker = Maker(rng, ASKED, engines.tags, mischief=0.003 if seed % 2 else 0.03, absent=0.15)
    cut_off = 0

    def work() -> None:
        nonlocal cut_off
        for _ in range(STREAMS_PER_SEED):
            count = 1 if rng.random() < 0.4 else rng.randint(2, PIPELINE_MAX)
            stream = maker.stream(count)
            if rng.random() < 0.5:  # whether the connection goes on shows by what answers this
                stream += b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n"
            if rng.random() < 0.3:
                forget(engines.native)
            cut_off += not compare(engines, maker.pieces(stream), 0.0005 if rng.random() < 0.2 else 0.0)

    assert lane_share(engines, work) > 0.2
    assert cut_off < STREAMS_PER_SEED / 10


@pytest.mark.parametrize("seed", range(4))
def test_plain_streams_are_the_lanes(engines: Engines, seed: int) -> None:
    rng = random.Random(100 + seed)
    maker = Maker(rng, ASKED, engines.tags, mischief=0)
    streams = [maker.stream(rng.randint(1, PIPELINE_MAX)) for _ in range(60)]
    for stream in streams:
        assert compare(engines, [stream]) or b"close" in stream.lower()
    assert lane_share(engines, lambda: [ask(engines.native.port, [stream]) for stream in streams]) > 0.5


def test_no_value_of_host_accept_encoding_or_connection_and_no_query_is_a_hand_over(engines: Engines) -> None:
    rng = random.Random(500)
    maker = Maker(rng, TARGETS, mischief=0)

    def head() -> bytes:
        values = (b"Host", maker.host()), (b"Accept-Encoding", maker.accept()), (b"Connection", rng.choice(CONNECTIONS))
        fields = [(name, value) for name, value in values if name == b"Host" or rng.random() < 0.5]
        rng.shuffle(fields)
        lines = b"".join(maker.line(name, value) for name, value in fields if b"pgrade" not in value)
        return b"GET %b HTTP/1.1\r\n%b\r\n" % (maker.target(), lines)

    streams = [b"".join(head() for _ in range(rng.randint(1, 5))) for _ in range(150)]
    for stream in streams:
        compare(engines, maker.pieces(stream))
    assert lane_share(engines, lambda: [ask(engines.native.port, [stream]) for stream in streams]) > 0.9


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
        target = rng.choice(TARGETS)
        compare(engines, [b"GET %b HTTP/1.1\r\n%b\r\n\r\n" % (target, b"\r\n".join(lines))])


def test_every_condition_and_range_of_every_kind_of_body(engines: Engines) -> None:
    rng = random.Random(500)
    maker = Maker(rng, TARGETS, engines.tags, mischief=0.1)
    for _ in range(300):
        heads = []
        for _ in range(rng.randint(1, 6)):
            fields = maker.conditions() or [(b"Range", maker.range())]
            fields += [(b"Host", b"test"), (b"Accept-Encoding", rng.choice((b"gzip, br", b"identity")))]
            rng.shuffle(fields)
            lines = b"".join(maker.line(name, value) for name, value in fields)
            heads.append(
                b"%b %b HTTP/1.1\r\n%b\r\n" % (rng.choice((b"GET", b"GET", b"HEAD")), rng.choice(TARGETS), lines)
            )
        compare(engines, maker.pieces(b"".join(heads)))


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

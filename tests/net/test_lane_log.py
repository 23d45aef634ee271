"""Lines of the lane that are not plain: one of several, with a duration behind it, wherever the socket stops."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.waiting import is_readable

pytest.importorskip("zcserve.net._lane")

from tests.support.driver import Driver, packed, put

ALL: dict[str, Any] = {"access_log_fields": ("host", "request_id", "duration")}
SOME: dict[str, Any] = {"access_log_sample": 5}


@pytest.fixture(params=[ALL, SOME, ALL | SOME, ALL | SOME | {"slow_log_s": 0.001}], ids=["all", "some", "both", "slow"])
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the log is to have."""
    return dict(request.param)


@pytest.fixture
def driver(tmp_path: Path, config: dict[str, Any]) -> Iterator[Driver]:
    """A lane whose clients' sockets take little."""
    made = Driver(tmp_path, log=True, **config)
    made.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(4))
def test_each_line_is_written_once_wherever_the_socket_stops(driver: Driver, config: dict[str, Any], seed: int) -> None:
    """Answers of which nothing went out are taken back, and answered again."""
    rng = random.Random(seed)
    stream, asked = b"", []
    driver.lane.set_not_found(b"Content-Length: 300\r\n\r\n", b"x" * 300)
    for number in range(150):
        fails = rng.random() < 0.2
        if not fails:
            put(driver.lane, b"/%d" % number, packed(rng.randbytes(rng.choice((0, 10, 100, 500, 3000)))))
        asked.append((b"/%d" % number, b"404" if fails else b"200"))
        stream += b"GET /%d HTTP/1.1\r\nHost: test\r\nX-Request-Id: %d\r\n" % (number, number)
        stream += b"Connection: close\r\n" * (number == 149) + b"\r\n"
    driver.lane.know([[target for target, status in asked if status == b"200"]], len(asked))
    with Client(driver.where, receive_buffer=4096) as client:
        client.send(stream)
        received, until = b"x", time.monotonic() + 20
        while received:
            assert time.monotonic() < until
            driver.turn()
            if rng.random() < 0.7 and is_readable(client.socket):
                received = client.socket.recv(rng.choice((50, 1000, 8000)))
    driver.until(lambda: driver.lane.count == 0)
    every = config.get("access_log_sample", 1)
    expected = [answer for answer in asked if answer[1] == b"404"]
    expected += [answer for answer in asked if answer[1] == b"200"][::every]
    lines = [line.split() for line in driver.lane.take_log().splitlines() if not line.startswith(b"\x01")]
    assert [(line[6], line[8]) for line in lines] == sorted(expected, key=asked.index)
    assert driver.lane.lines_left_out == len(asked) - len(expected)
    assert driver.lane.lost == (0, 0)
    if "access_log_fields" in config:
        assert [line[-3:-1] for line in lines] == [[b'"test"', b'"%b"' % line[6][1:]] for line in lines]
        assert all(0 <= float(line[-1]) < 20 for line in lines)

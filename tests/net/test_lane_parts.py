"""Parts of content, as the lane sends them: the numbers in their heads, and what lies there."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.driver import LEAD, PLAIN, Driver, Fake, Held, put

pytest.importorskip("zcserve.net._lane")

PAGE = 4096
Ask = Callable[[int, int], Response]


@pytest.fixture
def memory() -> Iterator[int]:
    """A descriptor of memory, as the pages' memfd."""
    fd = os.memfd_create("pages")
    yield fd
    os.close(fd)


@pytest.fixture
def ask(tmp_path: Path, memory: int) -> Iterator[Callable[[int], Ask]]:
    """`ask(size)(start, stop)`: the answer to a range of what has this size and lies in the memory."""
    driver = Driver(tmp_path)

    def begin(size: int) -> Ask:
        os.ftruncate(memory, size)
        body: Any = Held(LEAD % size + b'ETag: "tag"\r\n\r\n', b"", fd=memory)
        body.size = size
        put(driver.lane, b"/a", Fake(body))
        return lambda start, stop: driver.ask(
            client, PLAIN.replace(b"\r\n\r\n", b"\r\nRange: bytes=%d-%d\r\n\r\n" % (start, stop - 1))
        )[0]

    with Client(driver.where) as client:
        yield begin
    driver.close()


def test_positions_of_any_length_are_written(ask: Callable[[int], Ask]) -> None:
    size = (1 << 63) - PAGE
    asked = ask(size)
    edges = [0, *(edge + more for edge in (10**digits for digits in range(1, 19)) for more in (-1, 0)), size - 1]
    for start in edges:
        stop = min(start + random.Random(start).choice((1, 9, 10, 11, 99, 100, 101, 1000, 8192)), size)
        answer = asked(start, stop)
        assert answer.status == 206
        assert answer["Content-Range"] == b"bytes %d-%d/%d" % (start, stop - 1, size)
        assert answer["Content-Length"] == b"%d" % (stop - start)
        assert answer.body == bytes(stop - start)


def test_every_part_is_what_lies_there(ask: Callable[[int], Ask], memory: int) -> None:
    rng, size = random.Random(1), 5 * PAGE + 100
    content = rng.randbytes(size)
    asked = ask(size)
    os.pwrite(memory, content, 0)
    for _ in range(80):
        start = rng.randrange(size)
        stop = min(start + rng.choice((1, 100, PAGE, PAGE + 1, 8192, 8193)), size)
        assert asked(start, stop).body == content[start:stop], (start, stop)

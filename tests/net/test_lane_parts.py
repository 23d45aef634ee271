"""Parts of content, as the lane sends them: the numbers in their heads, and the pages that it keeps copies of."""

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
PLACES = 256  # for copies of pages
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


def test_every_part_is_what_lies_there_whether_it_was_copied_or_not(ask: Callable[[int], Ask], memory: int) -> None:
    rng, size = random.Random(1), 5 * PAGE + 100
    content = rng.randbytes(size)
    asked = ask(size)
    os.pwrite(memory, content, 0)
    for _ in range(80):
        start = rng.randrange(size)
        stop = min(start + rng.choice((1, 100, PAGE, PAGE + 1, 8192, 8193)), size)
        assert asked(start, stop).body == content[start:stop], (start, stop)


def test_a_page_that_is_asked_for_twice_is_copied_and_one_that_is_read_through_drives_it_out_of_nothing(
    ask: Callable[[int], Ask], memory: int
) -> None:
    """What lies there is changed here, which the cache never does: so it is seen where an answer comes from."""
    asked = ask(3 * PLACES * PAGE)
    for _ in range(2):
        assert asked(10, 20).body == bytes(10)
    os.pwrite(memory, b"x" * PAGE, 0)
    assert asked(10, 20).body == bytes(10)
    for page in (PLACES, 2 * PLACES, PLACES):  # they belong to the same place
        asked(page * PAGE, page * PAGE + 10)
    assert asked(10, 20).body == bytes(10)
    asked(PLACES * PAGE, PLACES * PAGE + 10)
    assert asked(10, 20).body == b"x" * 10

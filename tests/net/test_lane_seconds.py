"""The lane's seconds: how it says them, as `http.format_date` and the log's two formats do, and when."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.driver import DATE, PLAIN, Driver, at_one_time, laid_out, packed, put
from tests.support.waiting import is_readable
from zcserve.http import format_date, parse_date
from zcserve.net.access_log import NOTHING, as_combined, as_json
from zcserve.net.fastlane import STATUSES

pytest.importorskip("hypothesis")
from hypothesis import example, given
from hypothesis import strategies as st

lane_module: Any = pytest.importorskip("zcserve.net._lane")
DAY = 86400
YEAR_2101 = 4_133_980_800


def seconds_of(day: int) -> Iterator[int]:
    """The first and the last second of a day, and one between."""
    return iter((day * DAY, day * DAY + day % DAY, day * DAY + DAY - 1))


def test_a_date_is_the_general_lanes_on_each_day_up_to_2100() -> None:
    for day in range(YEAR_2101 // DAY):
        for second in seconds_of(day):
            assert lane_module.say_second(second)[0] == format_date(second)


@given(st.integers(min_value=-(1 << 62), max_value=1 << 62))
@example(-62_135_596_800)
@example(-62_135_596_801)
@example(253_402_300_799)
@example(253_402_300_800)
@example(-1)
def test_a_date_is_the_general_lanes_in_any_second(second: int) -> None:
    assert lane_module.say_second(second)[0] == format_date(second)


@given(st.integers(min_value=0, max_value=YEAR_2101))
@example(0)
@example(951_782_400)  # 29 February 2000
@example(4_107_542_399)  # 28 February 2100, the last second: the year has no 29th
@example(4_107_542_400)
@example(1_735_689_599)  # the end of a year of 366 days
def test_a_time_in_the_log_is_the_general_lanes_in_any_second(second: int) -> None:
    record = (second, "127.0.0.1", b"GET", b"/", None, 200, 0, 0, NOTHING, b"")
    combined = re.search(r"\[(.*)\]", as_combined(record))
    assert combined
    said = (combined[1].encode(), json.loads(as_json(record))["time"].encode())
    assert lane_module.say_second(second)[1:] == said


@pytest.mark.parametrize(
    "prefixes",
    [
        (b"HTTP/1.1 200 OK\r\n" + DATE,) * (3 * len(STATUSES) - 1),
        (b"HTTP/1.1 200 OK\r\n",) * 3 * len(STATUSES),
        (b"HTTP/1.1 200 OK\r\nDate: today\r\n",) * 3 * len(STATUSES),
        (b"HTTP/1.1 200 OK\r\n" + DATE + b"X" * 100,) * 3 * len(STATUSES),
    ],
    ids=["too few", "no Date", "no date", "too long"],
)
def test_prefixes_without_room_for_a_date_are_refused(tmp_path: Path, prefixes: tuple[bytes, ...]) -> None:
    with closing(Driver(tmp_path)) as driver, pytest.raises(ValueError, match="prefix"):
        driver.lane.set_prefixes(prefixes)


def second_of(answer: Response) -> int:
    """When it was made, as its Date says."""
    second = parse_date(answer["Date"] or b"")
    assert second is not None
    return second


def test_answers_and_log_lines_say_the_second_in_which_they_are_made(tmp_path: Path) -> None:
    with closing(Driver(tmp_path, log=True)) as driver, Client(driver.where) as client:
        put(driver.lane, b"/a", packed(b"content"))
        seen: set[int] = set()
        while len(seen) < 2:
            before = int(time.time())
            second = second_of(driver.ask(client, PLAIN)[0])
            assert before <= second <= time.time()
            assert lane_module.say_second(second)[1] in driver.lane.take_log()
            seen.add(second)


def test_what_waits_for_the_socket_keeps_the_date_of_the_second_in_which_it_was_made(tmp_path: Path) -> None:
    """Answers so short that the socket stops in the middle of a prefix, mostly."""
    whole = b"HTTP/1.1 200 OK\r\n" + DATE + laid_out(packed(b"c"))
    received = b""
    with closing(Driver(tmp_path)) as driver:
        put(driver.lane, b"/a", packed(b"c"))
        driver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with Client(driver.where, receive_buffer=4096) as client:
            client.send(PLAIN * 500)
            driver.until(lambda: driver.lane.inboxes)
            began = int(time.time())
            driver.until(lambda: time.time() >= began + 1)
            while len(received) < 500 * len(whole):
                driver.turn()
                if is_readable(client.socket):
                    received += client.socket.recv(1000)
    assert at_one_time(received) == 500 * whole
    seconds = [parse_date(date) or 0 for date in re.findall(rb"Date: (.*)\r", received)]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) > 1

"""zcserve.net.lane.counts: what a lane counts, beside what its clients had."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.driver import PLAIN, Driver, packed, put
from tests.support.waiting import is_readable
from zcserve.net.counts import (
    BOUNDS_S,
    ENDING,
    IDLE,
    METHODS,
    READING,
    SAMPLED_EVERY,
    SAMPLED_FIRST,
    WRITING,
    LaneCounts,
    read,
)
from zcserve.net.fastlane import STATUSES
from zcserve.site.accounts import ACCOUNTS_MAX

native = pytest.importorskip("zcserve.net._lane")

LARGE = bytes(range(256)) * 30_000


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def start(**settings: Any) -> Driver:
        drivers.append(Driver(tmp_path, **settings))
        put(drivers[-1].lane, b"/a", packed(b"content"))
        put(drivers[-1].lane, b"/large", packed(LARGE))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


def counts(driver: Driver) -> LaneCounts:
    """Of the first lane, as they are: what is taken back is told as less."""
    return read(driver.lane.counts()[0], STATUSES)


def test_python_and_the_lane_have_the_same_bounds_and_sample_as_often() -> None:
    assert (native.bounds_s, native.sampled_every) == (BOUNDS_S, SAMPLED_EVERY)


def test_answers_are_counted_by_status_and_method(drive: Callable[..., Driver]) -> None:
    driver = drive()
    asked = [(b"", "GET", 200)] * 3
    asked += [(b"", "HEAD", 200), (b"If-None-Match: *", "GET", 304), (b"If-None-Match: *", "HEAD", 304)]
    asked += [(b"Range: bytes=1-2", "GET", 206)]
    received = 0
    with Client(driver.where) as client:
        for line, method, status in asked:
            request = PLAIN.replace(b"GET", method.encode())[:-2] + (line + b"\r\n" if line else b"") + b"\r\n"
            answer = driver.ask(client, request, method=method)[0]
            assert answer.status == status
            received += len(answer.head) + 4 + len(answer.body)
    found = counts(driver)
    assert sum(found.requests.values()) == driver.lane.requests == len(asked)
    assert found.requests == {(status, method): asked.count((line, method, status)) for line, method, status in asked}
    assert found.bytes_sent == received
    assert METHODS[:2] == ("GET", "HEAD")


@pytest.mark.parametrize("account", [0, 1, ACCOUNTS_MAX - 2, ACCOUNTS_MAX - 1])
def test_each_account_has_a_cell_of_its_own_for_each_status(drive: Callable[..., Driver], account: int) -> None:
    driver = drive()
    for account_in_use in (ACCOUNTS_MAX - 1, account):
        driver.lane.note_as(account_in_use, b"")
    head = b"Content-Length: 0\r\nLocation: /to\r\n\r\n"
    pages = [row for row, status in enumerate(STATUSES) if status not in (200, 206, 304)]
    for row in pages:
        driver.lane.lead_to_page(b"/%d" % row, row, head, b"", 0)
    with Client(driver.where) as client:
        for row in pages:
            for _ in range(row + 1):
                driver.ask(client, b"GET /%d HTTP/1.1\r\nHost: test\r\n\r\n" % row)
    found = counts(driver).accounts
    assert len(found) == ACCOUNTS_MAX
    assert found[account].requests == {(STATUSES[row], "GET"): row + 1 for row in pages}
    assert sum(one.answers for one in found) == driver.lane.requests == sum(row + 1 for row in pages)


def test_an_answer_is_counted_before_its_client_has_it_and_what_no_socket_takes_is_taken_back(
    drive: Callable[..., Driver],
) -> None:
    driver = drive()
    page, wanted = bytes(20_000), 400
    put(driver.lane, b"/b", packed(page))
    received, looks = 0, [0]

    def has_come() -> bool:
        nonlocal received
        if len(looks) > 50 and is_readable(client.socket):  # before that the socket gets full
            received += len(client.socket.recv(1 << 16))
        looks.append(driver.lane.requests)
        assert received / (len(page) + 300) <= looks[-1] <= counts(driver).bytes_sent / len(page) + 1
        return received >= wanted * len(page) and received == counts(driver).bytes_sent

    with Client(driver.where, receive_buffer=32768) as client:
        client.send(PLAIN.replace(b"/a", b"/b") * wanted)  # one recv of the lane's
        deadline = time.monotonic() + 30
        while not has_come():
            assert time.monotonic() < deadline
            driver.turn()
    assert looks[50] < wanted
    assert looks[-1] == wanted
    assert all(before <= later for before, later in pairwise(looks))


def test_one_of_many_is_measured_for_all_of_them(drive: Callable[..., Driver]) -> None:
    driver = drive()
    times = []
    with Client(driver.where) as client:
        for _ in range(2 * SAMPLED_EVERY):
            driver.ask(client, PLAIN)
            times.append(counts(driver).durations.times)
        assert times[SAMPLED_FIRST - 2 : SAMPLED_FIRST] == [0, SAMPLED_EVERY]
        assert times[-1] == 2 * SAMPLED_EVERY
        for _ in range(4):
            driver.ask(client, PLAIN * SAMPLED_EVERY, SAMPLED_EVERY)
        assert counts(driver).durations.times == 6 * SAMPLED_EVERY


def test_an_answer_that_a_client_takes_slowly_has_the_time_until_it_has_left(drive: Callable[..., Driver]) -> None:
    driver = drive()
    received = 0
    with Client(driver.where, receive_buffer=4096) as client:
        driver.ask(client, PLAIN * (SAMPLED_FIRST - 1), SAMPLED_FIRST - 1)
        began = time.monotonic()
        client.send(PLAIN.replace(b"/a", b"/large"))
        driver.until(lambda: counts(driver).bytes_sent > 100_000)
        assert counts(driver).durations.times == 0
        paused_at = time.monotonic()
        driver.until(lambda: time.monotonic() > paused_at + 0.05)
        while received < len(LARGE):
            driver.turn()
            if is_readable(client.socket):
                received += len(client.socket.recv(1 << 20))
        driver.until(lambda: counts(driver).durations.times)
        took = time.monotonic() - began
    found = counts(driver).durations
    assert found.times == SAMPLED_EVERY
    assert 0.05 <= found.sum_s / SAMPLED_EVERY <= took


def test_an_answer_that_nobody_takes_has_no_duration(drive: Callable[..., Driver]) -> None:
    driver = drive()
    with Client(driver.where, receive_buffer=4096) as client:
        driver.ask(client, PLAIN * (SAMPLED_FIRST - 1), SAMPLED_FIRST - 1)
        client.send(PLAIN.replace(b"/a", b"/large"))
        driver.until(lambda: counts(driver).bytes_sent > 100_000)
        client.reset()
    driver.until(lambda: not driver.lane.count)
    found = counts(driver)
    assert (found.durations.times, found.requests) == (0, {(200, "GET"): SAMPLED_FIRST})


def test_clients_are_counted_and_a_sweep_says_what_they_do(drive: Callable[..., Driver]) -> None:
    driver = drive(idle_timeout_s=0.4, linger_timeout_s=20.0)  # a sweep every 0.1 s
    clients = [Client(driver.where, receive_buffer=4096) for _ in range(4)]
    clients[1].send(PLAIN.replace(b"/a", b"/large"))
    clients[2].send(PLAIN[:-2] + b"Connection: close\r\n\r\n" + PLAIN)
    try:
        driver.until(lambda: driver.lane.count == 4)

        def states() -> dict[str, int]:
            return {name: count for name, count in counts(driver).states.items() if count}

        driver.until(lambda: states() == {READING: 2, WRITING: 1, ENDING: 1})
        driver.ask(clients[0], PLAIN)
        driver.until(lambda: states().get(IDLE) == 1)
        assert counts(driver).accepted == 4
    finally:
        for client in clients:
            client.close()
    driver.until(lambda: not driver.lane.count)
    assert counts(driver).connections == 0
    assert set(counts(driver).states.values()) == {0}


def test_each_lane_counts_its_own(drive: Callable[..., Driver]) -> None:
    driver = drive()
    where = driver.add_lane()
    with Client(where) as client:
        client.send(PLAIN * 100)
        for _ in range(100):
            client.read()
        first, other = (read(told, STATUSES) for told in driver.lane.counts())
        assert (first.requests, first.accepted, first.connections) == ({}, 0, 0)
        assert (other.requests, other.accepted, other.connections) == ({(200, "GET"): 100}, 1, 1)
        assert client.socket.family is socket.AF_INET

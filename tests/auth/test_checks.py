"""zcserve.auth.checks: passwords are checked in a few threads, and clients take turns."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

import pytest

from tests.support.waiting import WaitUntil
from zcserve import threads
from zcserve.auth.checks import NICE, THREADS_MAX, WAITING_MAX, WAITING_S_MAX, Checks
from zcserve.errors import NoThreadError


class House:
    """Checks whose loop turns when it is told to, and whose threads wait."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], object]] = deque()
        self.go = threading.Event()
        self.begun: list[bytes] = []
        self.nice: set[int] = set()
        self.told: list[tuple[object, object]] = []
        self.now = 0.0
        self.checks = Checks(self.calls.append, lambda: self.now)
        self.checks.check = self.check

    def check(self, hashed: str, password: bytes) -> bool:
        self.begun.append(password)
        self.nice.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        assert self.go.wait(30)
        if password == b"fails":
            raise ValueError("no hash")
        return password == b"right"

    def ask(self, password: str, client: str = "a") -> Callable[[], None]:
        then = lambda verdict: self.told.append((password, verdict))  # noqa: E731
        return self.checks.ask(password, "hash", password.encode(), client, then)

    def turn(self) -> None:
        while self.calls:
            self.calls.popleft()()

    def finish(self, wait_until: WaitUntil, count: int) -> None:
        self.go.set()
        wait_until(lambda: self.turn() or len(self.told) == count)


@pytest.fixture
def house() -> House:
    return House()


def test_a_verdict_comes_later_and_one_question_is_asked_once(house: House, wait_until: WaitUntil) -> None:
    for _ in range(10):
        house.ask("right")
    house.ask("wrong")
    assert house.told == []
    house.finish(wait_until, 11)
    assert sorted(house.begun) == [b"right", b"wrong"]
    assert sorted(house.told, key=str) == [*[("right", True)] * 10, ("wrong", False)]
    assert house.nice == {min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19)} or house.nice == {NICE}
    assert house.checks.waiting == 0


def test_few_run_at_once_and_clients_take_turns(house: House, wait_until: WaitUntil) -> None:
    for number in range(10):
        house.ask(f"flood {number}")
    house.ask("quiet", client="b")
    wait_until(lambda: len(house.begun) == THREADS_MAX)
    assert house.checks.waiting == 11 - THREADS_MAX
    house.finish(wait_until, 11)
    assert len(house.begun) == 11
    assert house.begun.index(b"quiet") <= THREADS_MAX + 2  # and not behind all ten


def test_without_room_the_client_that_has_most_waiting_goes_without(house: House, wait_until: WaitUntil) -> None:
    for number in range(WAITING_MAX + THREADS_MAX):
        house.ask(str(number), client=f"2001:db8::{number:x}")  # one network
    assert house.told == []
    house.ask("quiet", client="b")
    house.turn()
    assert house.told == [(str(WAITING_MAX + THREADS_MAX - 1), None)]
    house.finish(wait_until, WAITING_MAX + THREADS_MAX + 1)
    assert ("quiet", False) in house.told


def test_of_equals_the_newcomer_goes_without(house: House, wait_until: WaitUntil) -> None:
    for number in range(WAITING_MAX + THREADS_MAX + 3):
        house.ask(str(number), client=f"client {number}")
    house.turn()
    assert house.told == [(str(WAITING_MAX + THREADS_MAX + number), None) for number in range(3)]
    house.finish(wait_until, WAITING_MAX + THREADS_MAX + 3)


def test_what_nobody_waits_for_is_not_checked(house: House, wait_until: WaitUntil) -> None:
    for number in range(THREADS_MAX):
        house.ask(str(number))
    withdraw, other = house.ask("left"), house.ask("left")
    withdraw()
    withdraw()
    assert house.checks.waiting == 1
    other()
    assert house.checks.waiting == 0
    house.finish(wait_until, THREADS_MAX)
    assert b"left" not in house.begun


def test_what_has_waited_for_too_long_is_not_begun(house: House, wait_until: WaitUntil) -> None:
    for number in range(THREADS_MAX + 3):
        house.ask(str(number))
    house.now = WAITING_S_MAX + 1
    house.ask("late")
    house.finish(wait_until, THREADS_MAX + 4)
    verdicts = dict(house.told)
    assert [verdicts[str(number)] for number in range(THREADS_MAX + 3)] == [False] * THREADS_MAX + [None] * 3
    assert verdicts["late"] is False
    assert house.checks.waiting == 0


def test_a_check_that_fails_is_none_and_told(
    house: House, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.ask("fails")
    house.finish(wait_until, 1)
    assert house.told == [("fails", None)]
    assert "a password cannot be checked" in caplog.text

    def none(*_: object) -> None:
        raise NoThreadError("no thread can be had")

    monkeypatch.setattr(threads, "start", none)
    house.ask("right")
    house.turn()
    assert house.told[-1] == ("right", None)
    assert "no thread can be had" in caplog.text

"""zcserve.auth.checks: passwords are checked in a few threads, and clients take turns."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

import pytest

from tests.support.waiting import WaitUntil
from zcserve import threads
from zcserve.auth.attempts import Attempts, Question
from zcserve.auth.checks import NICE, THREADS_MAX, WAITING_MAX, WAITING_S_MAX, Checks, Verdict
from zcserve.errors import NoThreadError

RIGHT, WRONG, BUSY, LIMITED = Verdict
WITHIN_S = 60.0


class House:
    """Checks whose loop turns when it is told to, and whose threads wait."""

    def __init__(self, wrong_max: int = 0) -> None:
        self.calls: deque[Callable[[], object]] = deque()
        self.ends = threading.Semaphore(0)  # so many checks may end
        self.begun: list[bytes] = []
        self.nice: set[int] = set()
        self.told: list[tuple[str, Verdict]] = []
        self.now = 0.0
        self.attempts = Attempts(wrong_max, WITHIN_S, lambda: self.now)
        self.checks = Checks(self.calls.append, lambda: self.now, self.attempts)
        self.checks.check = self.check

    def check(self, hashed: str, password: bytes) -> bool:
        self.begun.append(password)
        self.nice.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        assert self.ends.acquire(timeout=30)
        if password == b"fails":
            raise ValueError("no hash")
        return password == b"right"

    def ask(
        self, password: str, client: str = "a", *, is_known: bool = True, is_free: bool = False
    ) -> Callable[[], None]:
        then = lambda verdict: self.told.append((password, verdict))  # noqa: E731
        question = Question("hash", is_known, password.encode())
        return self.checks.ask(question, password.encode(), client, then, is_free=is_free)

    def turn(self) -> None:
        while self.calls:
            self.calls.popleft()()

    def finish(self, wait_until: WaitUntil, count: int) -> None:
        self.ends.release(100)
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
    assert sorted(house.told, key=str) == [*[("right", RIGHT)] * 10, ("wrong", WRONG)]
    assert house.nice == {min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19)} or house.nice == {NICE}
    assert house.checks.waiting == 0


def test_few_run_at_once_and_clients_take_turns(house: House, wait_until: WaitUntil) -> None:
    for number in range(10):
        house.ask(f"flood {number}")
    house.ask("quiet", client="b")
    wait_until(lambda: len(house.begun) == THREADS_MAX)
    assert house.checks.waiting == 11 - THREADS_MAX
    for begun in range(THREADS_MAX + 1, 12):  # one by one: a thread may be slow to begin with what it has taken
        house.ends.release()
        wait_until(lambda begun=begun: house.turn() or len(house.begun) == begun)
    house.finish(wait_until, 11)
    assert len(house.begun) == 11
    assert house.begun.index(b"quiet") <= THREADS_MAX + 2  # and not behind all ten


def test_without_room_the_client_that_has_most_waiting_goes_without(house: House, wait_until: WaitUntil) -> None:
    for number in range(WAITING_MAX + THREADS_MAX):
        house.ask(str(number), client="a")
    assert house.told == []
    house.ask("quiet", client="b")
    house.turn()
    assert house.told == [(str(WAITING_MAX + THREADS_MAX - 1), BUSY)]
    house.finish(wait_until, WAITING_MAX + THREADS_MAX + 1)
    assert ("quiet", WRONG) in house.told


def test_of_equals_the_newcomer_goes_without(house: House, wait_until: WaitUntil) -> None:
    for number in range(WAITING_MAX + THREADS_MAX + 3):
        house.ask(str(number), client=f"client {number}")
    house.turn()
    assert house.told == [(str(WAITING_MAX + THREADS_MAX + number), BUSY) for number in range(3)]
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
    assert [verdicts[str(number)] for number in range(THREADS_MAX + 3)] == [WRONG] * THREADS_MAX + [BUSY] * 3
    assert verdicts["late"] is WRONG
    assert house.checks.waiting == 0


def test_a_check_that_fails_is_busy_and_told(
    house: House, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.ask("fails")
    house.finish(wait_until, 1)
    assert house.told == [("fails", BUSY)]
    assert "a password cannot be checked" in caplog.text

    def none(*_: object) -> None:
        raise NoThreadError("no thread can be had")

    monkeypatch.setattr(threads, "start", none)
    house.ask("right")
    house.turn()
    assert house.told[-1] == ("right", BUSY)
    assert "no thread can be had" in caplog.text


def test_a_right_password_beside_an_unknown_name_is_wrong(house: House, wait_until: WaitUntil) -> None:
    house.ask("right", is_known=False)
    house.finish(wait_until, 1)
    assert house.told == [("right", WRONG)]


def test_of_passwords_that_come_at_once_no_more_are_checked_than_may_be_wrong(wait_until: WaitUntil) -> None:
    house = House(wrong_max=5)
    for number in range(30):
        house.ask(f"guess {number}", is_known=number % 2 == 0)
        house.ask(f"guess {number}", is_known=number % 2 == 0)
    house.ask("right", client="b")
    house.ask("right", is_free=True)
    house.finish(wait_until, 62)
    verdicts = [verdict for _, verdict in house.told]
    checked = verdicts.count(WRONG) // 2
    assert 5 <= checked < 5 + THREADS_MAX
    assert verdicts.count(LIMITED) == 60 - 2 * checked
    assert len(house.begun) == checked + 2
    assert verdicts.count(RIGHT) == 2  # another client's, and one that is no guess
    house.now = WITHIN_S
    house.ask("right")
    house.finish(wait_until, 63)
    assert house.told[-1] == ("right", RIGHT)


def test_a_wrong_password_counts_though_its_client_has_left(wait_until: WaitUntil) -> None:
    house = House(wrong_max=1)
    withdraw = house.ask("guess")
    wait_until(lambda: house.begun)
    withdraw()
    house.ends.release(100)
    wait_until(lambda: house.turn() or house.attempts.wait_s("a"))
    assert house.told == []


def test_a_check_that_was_not_made_counts_for_nothing(wait_until: WaitUntil) -> None:
    house = House(wrong_max=1)
    house.ask("fails")
    house.finish(wait_until, 1)
    house.ask("right")
    house.finish(wait_until, 2)
    assert house.told == [("fails", BUSY), ("right", RIGHT)]
    assert house.attempts.wait_s("a") == 0

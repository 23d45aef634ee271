"""zcserve.net.admission: what a request must show, and what is said where it does not."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import pytest

from tests.support.passwords import ALICE, ALICE_BCRYPT, BOB, basic
from tests.support.waiting import WaitUntil
from zcserve.auth.checks import WAITING_MAX
from zcserve.auth.remembered import GUESSES_MAX, REMEMBERED_S
from zcserve.auth.users import Users
from zcserve.config.tables import Table
from zcserve.net.admission import Admission, Keeper
from zcserve.rules.protected import Protection
from zcserve.site.exchange import HeadLines

pytest.importorskip("bcrypt")

RULE = Protection(("/**",), "Here", Users({b"alice": ALICE_BCRYPT}), Table({}, ("auth", 0)))


class House:
    """A keeper whose loop turns when it is told to."""

    def __init__(self, wrong_max: int = 0) -> None:
        self.calls: deque[Callable[[], object]] = deque()
        self.now = 0.0
        self.keeper = Keeper(self.calls.append, lambda: self.now, wrong_max, 60.0)
        self.asked = 0
        check = self.keeper.checks.check

        def counted(hashed: str, password: bytes) -> bool:
            self.asked += 1
            return check(hashed, password)

        self.keeper.checks.check = counted

    def request(self, name: str, password: str, client: str = "a") -> Admission:
        line = basic(name, password).partition(": ")
        return Admission(self.keeper, client, HeadLines(b"HTTP/1.1", ((line[0].encode(), line[2].encode()),)))

    def verdict(self, admission: Admission, wait_until: WaitUntil) -> bool | None:
        """What comes of it, now or later."""
        told: list[bool] = []
        if (now := admission.may_pass(RULE, lambda: told.append(True))) is not None:
            return now

        wait_until(lambda: self.turn() or told)
        return admission.may_pass(RULE, lambda: None)

    def turn(self) -> None:
        while self.calls:
            self.calls.popleft()()


@pytest.fixture
def house() -> House:
    return House()


def test_a_password_that_was_right_is_not_checked_again(house: House, wait_until: WaitUntil) -> None:
    first = house.request("alice", ALICE)
    assert first.may_pass(RULE, lambda: None) is None
    assert house.verdict(first, wait_until) is True
    assert (first.user, house.asked) == (b"alice", 1)
    again = house.request("alice", ALICE)
    assert again.may_pass(RULE, lambda: None) is True
    assert (again.user, house.asked) == (b"alice", 1)
    house.now = 1e6
    assert house.verdict(house.request("alice", ALICE), wait_until) is True
    assert house.asked == 2


def test_wrong_ones_and_unknown_names_cost_the_same_and_get_the_same(house: House, wait_until: WaitUntil) -> None:
    for name, password in (("alice", "wrong"), ("nobody", ALICE), ("nobody", "wrong"), ("alice", BOB)):
        before = house.asked
        for _ in range(2):
            admission = house.request(name, password)
            assert house.verdict(admission, wait_until) is False
            assert admission.user == b""
        assert house.asked == before + 2
    assert len(house.keeper.remembered) == 0


def test_a_right_password_beside_an_unknown_name_is_two_questions(house: House, wait_until: WaitUntil) -> None:
    """The stand-in's hash is alice's own, and her password is right for it."""
    unknown, known = house.request("nobody", ALICE), house.request("alice", ALICE)
    assert unknown.may_pass(RULE, lambda: None) is None
    assert house.verdict(known, wait_until) is True
    assert house.verdict(unknown, wait_until) is False


def test_a_request_that_names_nobody_is_not_asked_about(house: House) -> None:
    admission = Admission(house.keeper, "a", HeadLines(b"HTTP/1.1"))
    assert admission.may_pass_now(RULE) is False
    assert admission.may_pass(RULE, lambda: None) is False
    assert house.asked == 0


def test_a_request_that_is_gone_is_not_told(house: House, wait_until: WaitUntil) -> None:
    told: list[bool] = []
    admission = house.request("alice", ALICE)
    assert admission.may_pass(RULE, lambda: told.append(True)) is None
    admission.cancel()
    admission.cancel()
    other = house.request("alice", ALICE)
    assert house.verdict(other, wait_until) is True
    assert told == []


def test_an_application_is_told_nothing_that_names_a_user_but_the_one_that_was_checked(
    house: House, wait_until: WaitUntil
) -> None:
    line = basic("alice", ALICE).encode().partition(b": ")
    lines = ((b"Host", b"a"), (b"AUTHORIZATION", line[2]), (b"Remote-User", b"x"), (b"remote_user", b"y"))
    admission = Admission(house.keeper, "a", HeadLines(b"HTTP/1.0", lines))
    assert admission.head.lines == lines
    assert house.verdict(admission, wait_until) is True
    assert admission.head == HeadLines(b"HTTP/1.0", lines[:1])


def test_a_client_that_was_wrong_too_often_is_not_looked_at_and_no_other_feels_it(wait_until: WaitUntil) -> None:
    house = House(wrong_max=3)
    assert house.verdict(house.request("alice", ALICE), wait_until) is True  # remembered from now on
    for number in range(3):
        for _ in range(3):  # one that is told again costs no check
            assert house.verdict(house.request(("alice", "nobody")[number % 2], f"{number}"), wait_until) is False
    assert house.asked == 1 + 3
    assert house.keeper.counts == {"right": 1, "wrong": 9, "busy": 0, "limited": 0}
    assert house.request("alice", "4").may_pass(RULE, lambda: None) is False
    assert house.request("nobody", "1").may_pass(RULE, lambda: None) is False
    assert house.request("alice", ALICE).may_pass(RULE, lambda: None) is True
    assert house.keeper.counts == {"right": 1, "wrong": 10, "busy": 0, "limited": 1}
    assert house.keeper.retry_after_s("a") == 60
    house.now = 59.5
    assert house.keeper.retry_after_s("a") == 1
    house.now = REMEMBERED_S + 30
    for number in range(3):
        assert house.verdict(house.request("alice", f"{number}"), wait_until) is False
    assert house.request("nobody", ALICE).may_pass(RULE, lambda: None) is False
    assert house.verdict(house.request("nobody", ALICE, client="b"), wait_until) is False  # the stand-in's own password
    asked = house.asked
    assert house.verdict(house.request("alice", ALICE), wait_until) is True  # it is checked: it was right once
    assert house.asked == asked + 1


def test_what_is_remembered_is_no_way_to_try_passwords_without_a_limit(wait_until: WaitUntil) -> None:
    house = House(wrong_max=3)
    assert house.verdict(house.request("alice", ALICE), wait_until) is True

    def now(password: str, client: str) -> bool | None:
        return house.request("alice", password, client).may_pass(RULE, lambda: None)

    for client in ("a", "b"):
        for number in range(3):
            assert house.verdict(house.request("nobody", f"{number}", client), wait_until) is False
    # Where alice never was, the right password gets what each other gets.
    assert [now(password, "b") for password in ("guess", ALICE)] == [False, False]
    assert house.keeper.counts["limited"] == 2
    # At her own address she is known, until too many others were told for her.
    for number in range(GUESSES_MAX):
        assert now(ALICE, "a") is True
        assert now(f"guess {number}", "a") is False
    assert now(ALICE, "a") is False
    assert house.asked == 1 + 6
    house.now = 60
    for client in ("a", "b", "c"):  # once for each
        assert house.verdict(house.request("alice", ALICE, client), wait_until) is True
        assert now(ALICE, client) is True
    assert house.asked == 1 + 6 + 3


def test_what_is_remembered_is_no_way_to_try_passwords_while_there_is_no_room(wait_until: WaitUntil) -> None:
    house = House(wrong_max=3)
    assert house.verdict(house.request("alice", ALICE), wait_until) is True
    real, go_on = house.keeper.checks.check, threading.Event()
    house.keeper.checks.check = lambda hashed, password: go_on.wait(30) and real(hashed, password)
    told: list[None] = []
    asked = 0
    for client in ("b", "a"):
        for number in range(WAITING_MAX):
            request = house.request("alice", f"guess {number}", client)
            assert request.may_pass(RULE, lambda: told.append(None)) is None
            asked += 1
    # Where alice never was, the right password waits, or has no room, as each other.
    assert house.request("alice", ALICE, "b").may_pass(RULE, lambda: told.append(None)) is None
    assert house.request("alice", ALICE, "a").may_pass(RULE, lambda: None) is True
    go_on.set()
    wait_until(lambda: house.turn() or len(told) == asked + 1)

"""zcserve.auth.attempts: how often a client may be wrong."""

from __future__ import annotations

import pytest

from zcserve.auth import attempts
from zcserve.auth.attempts import Attempts, Question, is_local, network_of

MOST, WITHIN_S = 3, 60.0


class House:
    """Attempts at a time that is told."""

    def __init__(self, most: int = MOST) -> None:
        self.now = 1000.0
        self.attempts = Attempts(most, WITHIN_S, lambda: self.now)

    def wrong(self, number: int, client: str = "a") -> None:
        self.attempts.add(client, question(number))


def question(number: int) -> Question:
    return Question("hash", is_known=True, digest=b"%d" % number)


@pytest.fixture
def house() -> House:
    return House()


def test_after_so_many_wrong_ones_the_client_waits_until_the_first_is_old(house: House) -> None:
    for number in range(MOST):
        assert house.attempts.wait_s("a") == 0
        house.wrong(number)
        house.now += 10
    assert house.attempts.wait_s("a") == WITHIN_S - 30
    assert house.attempts.wait_s("b") == 0
    house.now += WITHIN_S - 30
    assert house.attempts.wait_s("a") == 0
    house.wrong(MOST)
    assert house.attempts.wait_s("a") == 10  # the second one is old by then
    house.now += 1000
    assert house.attempts.wait_s("a") == 0


def test_one_that_a_thread_had_already_counts_and_makes_the_wait_no_shorter(house: House) -> None:
    for number in range(MOST + 1):
        house.wrong(number)
        house.now += 1
    assert house.attempts.wait_s("a") == WITHIN_S - MOST


def test_what_was_wrong_counts_once_and_is_known_for_its_time(house: House) -> None:
    for _ in range(2 * MOST):
        house.wrong(1)
    assert (house.attempts.wait_s("a"), len(house.attempts)) == (0, 1)
    assert house.attempts.was_wrong("a", question(1))
    assert not house.attempts.was_wrong("a", question(2))
    assert not house.attempts.was_wrong("b", question(1))
    # A reload has made another hash: it may be right by now.
    assert not house.attempts.was_wrong("a", question(1)._replace(hashed="another"))
    house.now += WITHIN_S
    assert not house.attempts.was_wrong("a", question(1))


def test_without_a_limit_nothing_is_kept() -> None:
    house = House(most=0)
    for number in range(100):
        house.wrong(number)
    assert (house.attempts.wait_s("a"), len(house.attempts)) == (0, 0)
    assert not house.attempts.was_wrong("a", question(1))


def test_what_is_old_goes_and_there_is_room_for_the_youngest(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        house.wrong(number, client=f"old {number}")
    house.now += WITHIN_S
    house.wrong(0)
    assert len(house.attempts) == 1
    monkeypatch.setattr(attempts, "KEPT_MAX", 4)
    house.wrong(0, client="b")
    for number in range(1, MOST):
        house.wrong(number)
    assert len(house.attempts) == MOST + 1
    house.wrong(0, client="c")
    assert len(house.attempts) == MOST + 1
    assert not house.attempts.was_wrong("b", question(0))  # whose last one was the oldest
    assert house.attempts.wait_s("a") > 0


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_an_ipv6_client_is_its_network(client: str, network: str) -> None:
    assert network_of(client) == network


def test_a_client_of_this_machine_may_be_a_proxy() -> None:
    assert all(map(is_local, ("127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1", "unix:")))
    assert not any(map(is_local, ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1", "")))

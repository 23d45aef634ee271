"""How long it is before something is tried again."""

from __future__ import annotations

from zcserve.fleet import backoff


def test_a_wait_doubles_up_to_the_longest_and_is_never_less_than_half() -> None:
    for tries, most in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10**6, 60)]:
        waits = [backoff.wait_s(tries, f"node-{number}") for number in range(200)]
        assert most / 2 <= min(waits) < 0.6 * most
        assert 0.9 * most < max(waits) <= most


def test_a_wait_is_the_same_for_the_same_node() -> None:
    assert backoff.wait_s(3, "n1") == backoff.wait_s(3, "n1")

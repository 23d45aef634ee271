"""Rates, waits and slowness: laws over any times."""

from __future__ import annotations

import pytest

from zcserve.fleet.pacing import Backoff, Pauses, Slowness, TokenBucket


def test_a_rate_is_kept_after_the_first_burst() -> None:
    bucket = TokenBucket(1000.0, burst=500.0)
    assert bucket.take(500, 0.0) == 0.0
    assert bucket.take(1000, 0.0) == 1.0
    assert bucket.take(0, 1.0) == 0.0


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="never ends"):
        TokenBucket(0)


def test_whatever_comes_and_when_is_within_the_rate() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.settings(max_examples=60, deadline=None)
    @hypothesis.given(
        rate=st.floats(1, 1e9),
        burst=st.floats(0, 1e6),
        steps=st.lists(st.tuples(st.integers(0, 100_000), st.floats(-1, 5)), max_size=30),
    )
    def law(rate: float, burst: float, steps: list[tuple[int, float]]) -> None:
        """One connection that waits as it is told, and does something else between: at each moment the bytes that came
        are those of the rate, the burst, and the one piece that is waited for."""
        bucket, now, came = TokenBucket(rate, burst), 0.0, 0
        for count, idle in steps:
            wait = bucket.take(count, now)
            assert wait >= 0
            now += wait
            came += count
            assert came <= burst + rate * now + 1e-6 * (came + 1)
            now += max(0.0, idle)
            bucket.take(0, now - 2.0)  # another thread that read the clock earlier

    law()


def test_waits_grow_to_their_limit_and_end() -> None:
    backoff = Backoff(tries=5, first_s=1.0, most_s=3.0)
    assert [backoff.wait_s(failures, 1.0) for failures in range(1, 7)] == [1.0, 2.0, 3.0, 3.0, None, None]
    assert backoff.wait_s(1, 0.0) == 0.0
    assert Backoff(tries=10**6).wait_s(10**5, 0.5) == 10.0


def test_a_pause_is_the_longest_that_was_asked_for() -> None:
    pauses = Pauses()
    assert pauses.left_s(5.0) == 0.0
    pauses.extend(10.0, 5.0)
    pauses.extend(1.0, 6.0)
    assert pauses.left_s(7.0) == 8.0
    assert pauses.left_s(20.0) == 0.0


def test_only_waiting_for_the_source_is_slow() -> None:
    slowness = Slowness(bytes_min=1000, window_s=10.0)
    assert not slowness.is_too_slow(999, 9.9)
    assert not slowness.is_too_slow(1, 0.1)  # a window with enough
    assert not slowness.is_too_slow(0, 9.9)
    assert slowness.is_too_slow(999, 0.1)

"""Laws of the live curve, for any accesses: what is told exactly is exact, and what is estimated keeps its shape."""

from __future__ import annotations

import pytest

from zcserve.cache.curve import MissRatioCurve

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

SIZES = [1, 7, 30, 3, 12, 5, 2, 1]
# An object to use, or (negative) to forget.
STEPS = st.lists(st.integers(-len(SIZES), len(SIZES) - 1), max_size=60)


@given(STEPS)
def test_small_distances_are_exact_whatever_is_used_and_forgotten(steps: list[int]) -> None:
    curve = MissRatioCurve()
    ticks = [0] * len(SIZES)
    order: list[int] = []  # the least recently used first
    distances = []
    accesses = 0
    for tick, step in enumerate(steps, 1):
        number = step if step >= 0 else -1 - step
        if step < 0:
            curve.forget(number)
            ticks[number] = 0
        else:
            accesses += 1
            if number in order:
                distances.append(sum(SIZES[other] for other in order[order.index(number) :]))
            curve.measure(SIZES[number], ticks[number])
            curve.follow(number, SIZES[number], tick)
            ticks[number] = tick
        if number in order:
            order.remove(number)
        if step >= 0:
            order.append(number)
    assert curve.samples == len(order)
    for memory, said in curve.points(range(64)):
        assert said == pytest.approx(sum(distance <= memory for distance in distances) / max(1, accesses))


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**52), st.booleans()), max_size=200),
    st.integers(8, 64),
)
def test_the_curve_rises_from_nothing_and_memory_is_bounded(
    accesses: list[tuple[int, int, bool]], samples_max: int
) -> None:
    curve = MissRatioCurve(samples_max=samples_max, half_life=50)
    ticks: dict[int, int] = {}
    unit = curve.unit
    for tick, (hash32, size, is_second_over) in enumerate(accesses, 1):
        curve.measure(size, ticks.get(hash32, 0))
        curve.follow(hash32, size, tick)
        ticks[hash32] = tick
        assert curve.samples <= samples_max
        if is_second_over:
            curve.adapt(0.001)
        assert curve.unit >= unit
        unit = curve.unit
    ratios = [ratio for _, ratio in curve.points([0, *(2**power for power in range(54)), 2**70])]
    assert ratios == sorted(ratios)
    assert ratios[0] >= 0.0
    assert ratios[-1] <= 1.0 + 1e-9

"""What a process has taken over of another one's memory."""

from __future__ import annotations

import itertools
import random

import pytest

from zcserve.cache.ledger import Ledger


@pytest.mark.parametrize(
    ("claims", "gaps"),
    [
        ([], [(0, 160)]),
        ([(0, 160)], []),
        ([(32, 16)], [(0, 32), (48, 160)]),
        ([(144, 16), (0, 16), (16, 32)], [(48, 144)]),
    ],
)
def test_gaps_are_what_lies_between_the_claims(claims: list[tuple[int, int]], gaps: list[tuple[int, int]]) -> None:
    ledger = Ledger(160, 16)
    for offset, length in claims:
        ledger.claim(offset, length)
    assert [(start, end) for start, end in ledger.gaps() if start < end] == gaps


def test_many_claims_in_any_order_leave_the_rest_of_a_memory_of_terabytes() -> None:
    unit = 4096
    edges = sorted(random.Random(1).sample(range(1 << 32), 40_000))
    spans = list(itertools.pairwise(edges))
    claims, gaps = spans[::2], spans[1::2]
    ledger = Ledger(edges[-1] * unit, unit)
    ledger.claim(0, edges[0] * unit)
    for start, end in random.Random(2).sample(claims, len(claims)):
        ledger.claim(start * unit, (end - start) * unit)
    found = [(start // unit, end // unit) for start, end in ledger.gaps() if start < end]
    assert found == gaps

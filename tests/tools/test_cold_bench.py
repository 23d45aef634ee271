"""The benchmark of cold files: its figures, and one run that is small but real."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from tools.bench.cold import PAGE_CONNECTIONS, Run, faults, run_cold, table
from tools.bench.steady import Latency

LATENCY = Latency(4000, 2000.0, p50_ms=0.1, p99_ms=0.2, p999_ms=0.5, max_ms=1.0, unanswered=0)
OTHERS = replace(LATENCY, requests=100, requests_per_s=50.0)


def run(round: int, p99_ms: float, others: Latency | None) -> Run:
    return Run("python", "cold", "steady", round, replace(LATENCY, p99_ms=p99_ms), others)


def test_ratios_are_within_a_round() -> None:
    done = [run(1, 0.2, None), run(1, 0.4, OTHERS), run(2, 0.4, None), run(2, 0.4, OTHERS), run(3, 0.1, None)]
    alone, beside = table([*done, run(3, 0.3, OTHERS)]).rows
    assert (alone[2], alone[5], alone[-1]) == ("alone", "0.200", "")
    assert (beside[2], beside[5], beside[-2]) == ("cold", "0.400", "50")
    assert beside[-1] == "2.00 (1.00 to 3.00)"


def test_a_rate_that_was_not_kept_is_a_fault() -> None:
    late = replace(LATENCY, unanswered=PAGE_CONNECTIONS + 1)
    assert faults([run(1, 0.2, None), run(1, 0.2, OTHERS)]) == []
    assert "17 requests were not answered" in faults([replace(run(1, 0.2, None), page=late)])[0]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_small_run_measures_every_kind_alone_and_beside_others() -> None:
    done = run_cold(["python"], rounds=1, seconds=0.3, files=200)
    assert {(one.kind, one.load, one.others is None) for one in done} == {
        (kind, load, alone)
        for kind in ("resident", "cold", "slow")
        for load in ("steady", "closed")
        for alone in (True, False)
    }
    assert all(one.page.requests > 0 for one in done)
    assert all(one.others is None or one.others.requests > 0 for one in done)

"""The load generator of the benchmark: what it prints, and what it counts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.bench.content import PAGE, make_page
from tools.bench.errors import BenchError
from tools.bench.peers import PEERS, build, running
from tools.bench.steady import STEADY_SOURCE, Latency, parse_latency

LINE = "requests 10 seconds 2.000000 p50_ns 100000 p99_ns 250000 p999_ns 300000 max_ns 1000000 unanswered 3\n"


def test_a_report_is_read() -> None:
    assert parse_latency(LINE) == Latency(10, 5.0, 0.1, 0.25, 0.3, 1.0, 3)


@pytest.mark.parametrize("output", ["", "steady: connect\n", LINE.replace("p99_ns", "p98_ns")])
def test_what_is_no_report_is_said(output: str) -> None:
    with pytest.raises(BenchError, match="no report"):
        parse_latency(output)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("rate", [0, 100])
def test_what_no_rate_made_due_is_not_unanswered(rate: int, tmp_path: Path) -> None:
    make_page(tmp_path)
    (tmp_path / "targets").write_text(f"{PAGE}\n")
    with running("floor", PEERS["floor"], tmp_path, tmp_path, ready_path=PAGE) as server:
        words = (build(STEADY_SOURCE, tmp_path), server.port, 3, rate, 0.2, 1, tmp_path / "targets")
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60, check=True)
    found = parse_latency(done.stdout)
    assert found.requests > 0
    assert found.unanswered == 0 or rate
    assert not rate or found.requests + found.unanswered in range(20, 30)
    assert 0 < found.p50_ms <= found.p99_ms <= found.p999_ms <= found.max_ms

"""What steady.c prints, read.

It must not know what was asked of which server, or why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tools.bench.errors import BenchError

STEADY_SOURCE = Path(__file__).with_name("steady.c")


@dataclass(frozen=True)
class Latency:
    """What one client found: how many requests, and milliseconds."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    unanswered: int


def parse_latency(output: str) -> Latency:
    """Read the line that steady.c prints. Raises BenchError when it is none."""
    pattern = r"requests (\d+) seconds ([\d.]+) p50_ns (\d+) p99_ns (\d+) p999_ns (\d+) max_ns (\d+) unanswered (\d+)\n"
    found = re.fullmatch(pattern, output)
    if found is None:
        raise BenchError(f"steady's output is no report of a run: {output.strip()[-200:]!r}")
    requests, seconds, *times, unanswered = found.groups()
    p50, p99, p999, longest = (int(time) / 1e6 for time in times)
    return Latency(int(requests), int(requests) / float(seconds), p50, p99, p999, longest, int(unanswered))

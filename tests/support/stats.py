"""An answer of /stats, for what reads one."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

_STATS: dict[str, Any] = {
    "version": 1,
    "time": 1_800_000_000.0,
    "uptime_s": 100.0,
    "engine": "native",
    "lanes": 2,
    "pid": 77,
    "zcserve": "0.1.0",
    "ready": {"is_ready": True, "phase": "ready", "share": 0.99, "wanted_bytes": 4096, "missing_total": 1},
    "requests": {
        "total": 1000,
        "by": [{"code": 200, "method": "GET", "total": 900}, {"code": 404, "method": "GET", "total": 100}],
        "response_bytes_total": 1 << 20,
        "duration_s": {"bounds": [0.001, 0.01], "counts": [900, 100, 0], "sum": 1.0, "count": 1000},
    },
    "connections": {
        "open": 12,
        "max": 10_000,
        "by_state": {"idle": 10, "reading": 2, "writing": 0},
        "accepted_total": 50,
        "shed_total": {"idle": 1},
        "refused_total": {},
    },
    "cache": {
        "hits_total": 900,
        "misses_total": 100,
        "evictions_total": 5,
        "resident_bytes": 256 << 20,
        "budget_bytes": 512 << 20,
    },
    "generation": {"number": 3, "age_s": 60.0, "files": 17, "problems": 0},
    "loop": {"lag_s": {"bounds": [0.001], "counts": [10, 0], "sum": 0.001, "count": 10}},
    "lanes_detail": [
        {"lane": 0, "connections": 7, "requests_total": 600},
        {"lane": 1, "connections": 5, "requests_total": 400},
    ],
    "hottest": [{"path": "/a", "uses": 50, "bytes": 2048}],
}


def stats(after_s: int = 0, **changes: Any) -> dict[str, Any]:
    """What a node says so many seconds later, in each of which it has answered 100 requests."""
    found = deepcopy(_STATS)
    found["uptime_s"] += after_s
    found["requests"]["total"] += 100 * after_s
    found["requests"]["by"][0]["total"] += 90 * after_s
    found["requests"]["by"][1]["total"] += 10 * after_s
    found["requests"]["response_bytes_total"] += 2048 * after_s
    found["requests"]["duration_s"]["counts"][1] += 100 * after_s
    found["requests"]["duration_s"]["count"] += 100 * after_s
    found["connections"]["accepted_total"] += 3 * after_s
    found["connections"]["shed_total"]["idle"] += 2 * after_s
    found["cache"]["hits_total"] += 99 * after_s
    found["cache"]["misses_total"] += after_s
    found["lanes_detail"][0]["requests_total"] += 60 * after_s
    found["lanes_detail"][1]["requests_total"] += 40 * after_s
    return found | changes

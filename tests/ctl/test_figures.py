"""Answers as text for people."""

from __future__ import annotations

from math import inf

import pytest

from zcserve.ctl.figures import (
    buckets_of,
    count_text,
    quantile,
    quantiles_text,
    share_text,
    size_text,
    span_text,
    table,
)

HISTOGRAM = {"bounds": [0.001, 0.01, 0.1], "counts": [50, 40, 9, 1], "sum": 1.0, "count": 100}
CUMULATIVE = HISTOGRAM | {"counts": [50, 90, 99, 100]}


def test_an_object_is_a_table_whose_names_say_the_units() -> None:
    value = {
        "is_ready": False,
        "phase": "warming",
        "share": 0.985,
        "wanted_bytes": 3 << 20,
        "total": 1234567,
        "age_s": 75,
        "none": None,
        "pins": ["*.css", "/fonts/"],
        "missing": [{"path": "/a", "bytes": 10}, {"path": "/b\x1b[2J", "bytes": 2048}],
        "nested": {"uptime_s": 0.25, "durations": HISTOGRAM, "empty": {}},
    }
    assert table(value) == (
        "ready   no\n"
        "phase   warming\n"
        "share   98.5%\n"
        "wanted  3.0 MiB\n"
        "total   1,234,567\n"
        "age     1m 15s\n"
        "none    -\n"
        "pins\n"
        "  *.css\n"
        "  /fonts/\n"
        "missing\n"
        "  path         bytes\n"
        "  /a            10 B\n"
        "  /b\\x1b[2J  2.0 KiB\n"
        "nested\n"
        "  uptime     250 ms\n"
        "  durations  p50 1 ms, p90 10 ms, p99 100 ms of 100\n"
        "  empty      -\n"
    )


def test_objects_that_hold_others_stand_one_below_the_other() -> None:
    sites = [{"name": name, "generation": {"files": 1}} for name in ("default", "blog")]
    assert table({"sites": sites}) == (
        "sites\n  name  default\n  generation\n    files  1\n  name  blog\n  generation\n    files  1\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.00012, "120 us"), (0.0012, "1.2 ms"), (3.44, "3.44 s"), (63, "1m 3s"), (3599, "59m 59s"),
     (3600, "1h 0m"), (86399, "23h 59m"), (86400 * 40 + 3600, "40d 1h")],
)  # fmt: skip
def test_times_are_rounded(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


def test_numbers_are_rounded_and_only_all_is_all() -> None:
    assert [count_text(1234), count_text(0.25), count_text(1234.5), count_text(2.0)] == ["1,234", "0.25", "1,234", "2"]
    assert [size_text(0), size_text(1536), size_text(5 << 40)] == ["0 B", "1.5 KiB", "5.0 TiB"]
    assert [share_text(1), share_text(0.999999), share_text(0.5), share_text(0)] == ["100%", "99.99%", "50.0%", "0.0%"]


def test_a_quantile_is_that_of_prometheus() -> None:
    assert quantile(HISTOGRAM, 0.25) == pytest.approx(0.0005)
    assert quantile(HISTOGRAM, 0.7) == pytest.approx(0.001 + 0.009 * 20 / 40)
    assert quantile(HISTOGRAM, 0.995) == inf
    assert quantile({"bounds": [1.0], "counts": [0, 0]}, 0.5) is None
    assert quantiles_text(HISTOGRAM | {"counts": [0, 0, 0, 100]}) == "p50 > 100 ms, p90 > 100 ms, p99 > 100 ms"
    assert quantiles_text(HISTOGRAM | {"counts": [0, 0, 0, 0], "count": 0}) == "none yet"


def test_buckets_are_each_alone_however_they_are_counted() -> None:
    assert buckets_of(HISTOGRAM) == buckets_of(CUMULATIVE) == [50, 40, 9, 1]
    assert buckets_of({"bounds": [1.0, 2.0], "counts": [3, 2], "count": 9}) == [3, 2, 4]


def test_keys_that_would_be_called_alike_keep_their_units() -> None:
    value = {"resident": 1, "resident_bytes": 2048, "missing": [], "missing_total": 0, "why": ""}
    assert (
        table(value)
        == "resident        1\nresident bytes  2.0 KiB\nmissing         -\nmissing total   0\nwhy             -\n"
    )

"""Frames of `zcserve top`."""

from __future__ import annotations

import re

import pytest

from tests.support.stats import stats
from zcserve.ctl.rates import Site, between
from zcserve.ctl.screen import frame


def test_all_that_is_known_stands_in_it() -> None:
    before, after = stats(), stats(1)
    text = "\n".join(frame(after, between(before, after, 1.0), 200, 50))
    assert text == (
        "zcserve 0.1.0  native, 2 lanes  ready  up 1m 41s  pid 77\n"
        "\n"
        "requests/s            100    2xx 90/s  4xx 10/s\n"
        "bytes/s           2.0 KiB\n"
        "hits                99.0%\n"
        "latency      p50    5.5 ms  p90    9.1 ms  p99   9.91 ms\n"
        "loop lag     p50         -  p90         -  p99         -\n"
        "connections            12 of 10,000   idle 10 reading 2   accepted 3/s  refused 2/s\n"
        "memory       [###############               ] 256.0 MiB of 512.0 MiB, 50.0%   evictions 0/s\n"
        "residency           99.0% of 4.0 KiB wanted, 1 missing\n"
        "generation              3   1m 0s old   17 files\n"
        "lanes        0: 60/s 7 open   1: 40/s 5 open\n"
        "\n"
        "        uses       bytes  hottest\n"
        "          50     2.0 KiB  /a"
    )


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20, 3), (80, 24), (300, 100)])
def test_it_is_no_larger_than_the_terminal_whatever_is_known(width: int, height: int) -> None:
    both = between(stats(), stats(1), 1.0)
    for value, rates in ((stats(), None), (stats(1), both), ({}, None), ({"hottest": [{}]}, between({}, {}, 1.0))):
        lines = frame(value, rates, width, height, "a note")
        assert len(lines) <= height
        assert all(len(line) <= width for line in lines)


def test_a_path_does_not_speak_to_the_terminal_and_a_note_stands_first() -> None:
    lines = frame(stats(hottest=[{"path": "/\x1b[2Ja\n", "uses": 1, "bytes": 1}]), None, 80, 50, "!! gone")
    assert lines[1] == "!! gone"
    assert lines[-1].endswith("  /\\x1b[2Ja\\n")


def test_sites_that_were_asked_are_shown_before_what_is_hottest() -> None:
    sites = [Site("blog", 12.0, 2048.0, 0.5), *[Site(f"s{number}", 1.0, None, None) for number in range(9)]]
    rates = between(stats(), stats(1), 1.0)._replace(sites=(*sites, Site("(none)", 0.0, 0.0, None)))
    lines = frame(stats(1), rates, 80, 40)
    begin = next(number for number, line in enumerate(lines) if line.endswith("  site"))
    assert [line.split()[-1] for line in lines[begin + 1 : begin + 9]] == ["blog", *[f"s{n}" for n in range(7)]]
    assert re.fullmatch(r" +12 +2\.0 KiB +50\.0%  blog", lines[begin + 1]), lines[begin + 1]
    assert lines[begin + 9].strip() == "and 2 more"
    assert "hottest" in lines[begin + 11]

"""Rates from two answers of /stats."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stats import stats
from zcserve.ctl.figures import quantile
from zcserve.ctl.rates import Lane, Site, are_of_one_process, at, between, number


@pytest.mark.parametrize("after_s", [1, 2, 50])
def test_a_rate_is_of_a_second_of_the_nodes_own_clock(after_s: int) -> None:
    rates = between(stats(), stats(after_s), 7.0)
    assert (rates.requests, rates.bytes, rates.codes) == (100, 2048, {"2xx": 90, "4xx": 10})
    assert (rates.hit_ratio, rates.accepted, rates.refused, rates.evictions) == (0.99, 3, 2, 0)
    assert rates.lanes == (Lane(0, 7, 60), Lane(1, 5, 40))
    assert rates.latency is not None
    assert quantile(rates.latency, 0.5) == pytest.approx(0.001 + 0.009 / 2)  # all before were faster


def test_without_a_clock_of_its_own_the_time_of_the_two_questions_counts() -> None:
    before, after = stats(), stats(2)
    del before["uptime_s"]
    assert between(before, after, 4.0).requests == 50


def test_where_nothing_was_asked_there_is_no_ratio() -> None:
    rates = between(stats(), stats(), 1.0)
    assert (rates.requests, rates.hit_ratio) == (0, None)
    assert rates.latency is not None
    assert quantile(rates.latency, 0.5) is None


@pytest.mark.parametrize("later", [{}, {"requests": None, "connections": {}, "cache": [], "lanes_detail": None}])
def test_what_a_node_does_not_tell_is_unknown(later: dict[str, Any]) -> None:
    rates = between({}, later, 1.0)
    assert (rates.requests, rates.hit_ratio, rates.codes, rates.latency, rates.lanes) == (None, None, {}, None, ())


def test_a_lane_or_a_bound_that_was_not_there_before_has_no_rate() -> None:
    before = stats()
    before["lanes_detail"].pop()
    before["requests"]["duration_s"]["bounds"] = [0.5, 1.0]
    rates = between(before, stats(1), 1.0)
    assert rates.lanes[1] == Lane(1, 5, None)
    assert rates.latency == stats(1)["requests"]["duration_s"]


def test_counters_begin_anew_with_another_process() -> None:
    assert are_of_one_process(stats(), stats(1))
    assert not are_of_one_process(stats(), stats(1, pid=78))
    assert not are_of_one_process(stats(5), stats())  # a container: always process 1
    assert between(stats(5), stats(), 1.0).requests == 0  # and never less than nothing


def test_a_number_is_found_or_is_unknown() -> None:
    value = {"a": {"b": 1, "c": True, "d": "1"}}
    assert [number(value, "a", "b"), number(value, "a", "c"), number(value, "a", "d"), number(value, "b", "c")] == [
        1,
        None,
        None,
        None,
    ]
    assert at(value, "a", "d", "e") is None


def test_sites_have_rates_of_their_own_the_busiest_first_and_one_that_is_new_counts_from_nothing() -> None:
    def told(after_s: int, *sites: tuple[str, int, int, int]) -> Any:
        found = stats(after_s)
        keys = ("site", "requests_total", "hits_total", "misses_total")
        found["requests"]["by_site"] = [
            dict(zip(keys, one, strict=True)) | {"response_bytes_total": 0} for one in sites
        ]
        return found

    before, after = (
        told(0, ("(none)", 1, 0, 0), ("a", 10, 5, 5)),
        told(2, ("(none)", 1, 0, 0), ("a", 14, 8, 6), ("b", 8, 0, 0)),
    )
    assert between(before, after, 1.0).sites == (
        Site("b", 4.0, 0.0, None),
        Site("a", 2.0, 0.0, 0.75),
        Site("(none)", 0.0, 0.0, None),
    )
    assert between(stats(), stats(1), 1.0).sites == ()

"""What happens in a second: the difference of two answers of /stats. Nothing is known of a terminal here.

A figure that a node does not have is None. So a newer `zcserve top` shows what an older node knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from zcserve.ctl.figures import buckets_of, is_histogram

Stats: TypeAlias = Mapping[str, Any]


class Lane(NamedTuple):
    """One lane: its number, its connections, its requests a second."""

    number: int
    connections: float | None
    requests: float | None


class Site(NamedTuple):
    """One of several sites: its name, its requests and bytes a second, its hits among what was asked meanwhile."""

    name: str
    requests: float
    bytes: float | None
    hit_ratio: float | None


class Rates(NamedTuple):
    """Of each second between the two; `latency` and `lag` are histograms of that time alone.

    hit_ratio  of what was asked meanwhile; None where nothing was
    codes      by class: "2xx"
    sites      the busiest first; none where there is one site
    """

    requests: float | None
    bytes: float | None
    hit_ratio: float | None
    codes: Mapping[str, float]
    latency: Stats | None
    lag: Stats | None
    accepted: float | None
    refused: float | None
    evictions: float | None
    lanes: tuple[Lane, ...]
    sites: tuple[Site, ...]


def at(stats: Any, *path: str) -> Any:
    """What stands there; None where something on the way is missing."""
    for key in path:
        if not isinstance(stats, Mapping):
            return None
        stats = stats.get(key)
    return stats


def number(stats: Stats, *path: str) -> float | None:
    """The same where it is a number."""
    value = at(stats, *path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def are_of_one_process(before: Stats, after: Stats) -> bool:
    """Whether the counters went on: a restart and an upgrade begin anew."""
    earlier, later = number(before, "uptime_s"), number(after, "uptime_s")
    is_later = earlier is None or later is None or later >= earlier
    return at(before, "pid") == at(after, "pid") and is_later


def between(before: Stats, after: Stats, elapsed_s: float) -> Rates:
    """The rates; `elapsed_s` is what to divide by where the node does not say when each was."""
    earlier, later = number(before, "uptime_s"), number(after, "uptime_s")
    if earlier is not None and later is not None and later > earlier:
        elapsed_s = later - earlier
    elapsed_s = max(elapsed_s, 1e-6)

    def rate(*path: str) -> float | None:
        return _rate(number(before, *path), number(after, *path), elapsed_s)

    hits, misses = rate("cache", "hits_total"), rate("cache", "misses_total")
    asked = (hits or 0.0) + (misses or 0.0)
    shed = _rate(_sum_at(before, "shed_total"), _sum_at(after, "shed_total"), elapsed_s)
    refused = _rate(_sum_at(before, "refused_total"), _sum_at(after, "refused_total"), elapsed_s)
    return Rates(
        requests=rate("requests", "total"),
        bytes=rate("requests", "response_bytes_total"),
        hit_ratio=(hits or 0.0) / asked if asked else None,
        codes=_codes(before, after, elapsed_s),
        latency=_difference(at(before, "requests", "duration_s"), at(after, "requests", "duration_s")),
        lag=_difference(at(before, "loop", "lag_s"), at(after, "loop", "lag_s")),
        accepted=rate("connections", "accepted_total"),
        refused=None if shed is None and refused is None else (shed or 0.0) + (refused or 0.0),
        evictions=rate("cache", "evictions_total"),
        lanes=_lanes(before, after, elapsed_s),
        sites=_sites(before, after, elapsed_s),
    )


def _rate(before: float | None, after: float | None, elapsed_s: float) -> float | None:
    return None if before is None or after is None else max(after - before, 0.0) / elapsed_s


def _sum_at(stats: Stats, key: str) -> float | None:
    found = at(stats, "connections", key)
    if not isinstance(found, Mapping):
        return number(stats, "connections", key)
    return sum(value for value in found.values() if isinstance(value, int | float))


def _codes(before: Stats, after: Stats, elapsed_s: float) -> dict[str, float]:
    earlier, later = _by_class(before), _by_class(after)
    return {key: max(count - earlier.get(key, 0.0), 0.0) / elapsed_s for key, count in sorted(later.items())}


def _by_class(stats: Stats) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in at(stats, "requests", "by") or ():
        key, count = f"{str(at(one, 'code'))[:1]}xx", number(one, "total") or 0.0
        found[key] = found.get(key, 0.0) + count
    return found


def _difference(before: Any, after: Any) -> Stats | None:
    """The observations of the time between. Of another process's histogram, all of the later one's."""
    if not is_histogram(after):
        return None
    if not is_histogram(before) or before["bounds"] != after["bounds"]:
        return after  # type: ignore[no-any-return]
    counts = [max(b - a, 0) for a, b in zip(buckets_of(before), buckets_of(after), strict=False)]
    return {"bounds": after["bounds"], "counts": counts, "count": sum(counts)}


def _lanes(before: Stats, after: Stats, elapsed_s: float) -> tuple[Lane, ...]:
    earlier = {at(one, "lane"): number(one, "requests_total") for one in at(before, "lanes_detail") or ()}
    return tuple(
        Lane(
            int(number(one, "lane") or 0),
            number(one, "connections"),
            _rate(earlier.get(at(one, "lane")), number(one, "requests_total"), elapsed_s),
        )
        for one in at(after, "lanes_detail") or ()
    )


def _sites(before: Stats, after: Stats, elapsed_s: float) -> tuple[Site, ...]:
    earlier = {str(at(one, "site")): one for one in at(before, "requests", "by_site") or ()}
    found = []
    for one in at(after, "requests", "by_site") or ():
        name = str(at(one, "site"))

        def rate(key: str, one: Stats = one, name: str = name) -> float | None:
            return _rate(number(earlier.get(name, {}), key) or 0.0, number(one, key), elapsed_s)

        hits, misses = rate("hits_total") or 0.0, rate("misses_total") or 0.0
        ratio = hits / (hits + misses) if hits + misses else None
        found.append(Site(name, rate("requests_total") or 0.0, rate("response_bytes_total"), ratio))
    return tuple(sorted(found, key=lambda site: -site.requests))

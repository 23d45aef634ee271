"""A node's numbers as lines of a terminal: a frame of `zcserve top`. Pure text, without escapes.

What is not known is "-". Of a frame that is too high for its terminal the end is left out: the lines that matter most
stand first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

from zcserve.ctl.figures import count_text, printable, quantile, share_text, size_text, span_text
from zcserve.ctl.rates import Rates, Site, Stats, at, number

UNKNOWN = "-"
_LABEL = 13
_BAR = 30
_HOTTEST_MAX = 10
_SITES_MAX = 8
_LANES_ON_A_LINE = 4


def frame(stats: Stats, rates: Rates | None, width: int, height: int, note: str = "") -> list[str]:
    """At most `height` lines of at most `width` characters. `rates` is None where there is only one answer yet; `note`
    says what is wrong."""
    lines = [_title(stats), *([note] if note else []), ""]
    for label, text in _rows(stats, rates):
        lines.append(f"{label:{_LABEL}}{text}")
    lines += _sites(rates.sites if rates is not None else ())
    lines += _hottest(stats)
    return [printable(line)[:width].rstrip() for line in lines[:height]]


def _title(stats: Stats) -> str:
    lanes = number(stats, "lanes")
    parts = [
        f"zcserve {at(stats, 'zcserve') or ''}".strip(),
        f"{at(stats, 'engine') or UNKNOWN}" + (f", {lanes:g} lane{'s' * (lanes != 1)}" if lanes else ""),
        str(at(stats, "ready", "phase") or UNKNOWN),
        f"up {_told(span_text, number(stats, 'uptime_s'))}",
        f"pid {at(stats, 'pid') or UNKNOWN}",
    ]
    return "  ".join(parts)


def _rows(stats: Stats, rates: Rates | None) -> Iterator[tuple[str, str]]:
    yield "requests/s", f"{_told(count_text, rates and rates.requests):>12}    {_codes(rates)}".rstrip()
    yield "bytes/s", f"{_told(size_text, rates and rates.bytes):>12}"
    yield "hits", f"{_told(share_text, rates and rates.hit_ratio):>12}"
    yield "latency", _quantiles(rates and rates.latency)
    yield "loop lag", _quantiles(rates and rates.lag)
    yield "connections", _connections(stats, rates)
    yield "memory", _memory(stats, rates)
    yield "residency", _residency(stats)
    yield "generation", _generation(stats)
    lanes = rates.lanes if rates is not None else ()
    for begin in range(0, len(lanes), _LANES_ON_A_LINE):
        some = lanes[begin : begin + _LANES_ON_A_LINE]
        yield (
            "" if begin else "lanes",
            "   ".join(
                f"{one.number}: {_told(count_text, one.requests)}/s {_told(count_text, one.connections)} open"
                for one in some
            ),
        )


def _told(say: Callable[[float], str], value: float | None) -> str:
    return UNKNOWN if value is None else say(value)


def _codes(rates: Rates | None) -> str:
    if rates is None or not rates.codes:
        return ""
    return "  ".join(f"{key} {count_text(round(rate, 1))}/s" for key, rate in rates.codes.items())


def _quantiles(histogram: Stats | None) -> str:
    if histogram is None:
        return f"{UNKNOWN:>12}"
    most = histogram["bounds"][-1] if histogram["bounds"] else 0.0
    parts = []
    for share in (0.5, 0.9, 0.99):
        found = quantile(histogram, share)
        text = f"> {span_text(most)}" if found == inf else _told(span_text, found)
        parts.append(f"p{share * 100:g} {text:>9}")
    return "  ".join(parts)


def _connections(stats: Stats, rates: Rates | None) -> str:
    opened, most = number(stats, "connections", "open"), number(stats, "connections", "max")
    text = f"{_told(count_text, opened):>12} of {_told(count_text, most)}"
    states = at(stats, "connections", "by_state")
    if isinstance(states, dict):
        text += "   " + " ".join(f"{name} {count_text(count)}" for name, count in states.items() if count)
    if rates is not None:
        text += f"   accepted {_told(count_text, rates.accepted)}/s  refused {_told(count_text, rates.refused)}/s"
    return text


def _memory(stats: Stats, rates: Rates | None) -> str:
    used, budget = number(stats, "cache", "resident_bytes"), number(stats, "cache", "budget_bytes")
    if used is None or not budget:
        return f"{UNKNOWN:>12}"
    share = used / budget
    filled = min(round(share * _BAR), _BAR)
    text = f"[{'#' * filled}{' ' * (_BAR - filled)}] {size_text(used)} of {size_text(budget)}, {share * 100:.1f}%"
    return text + f"   evictions {_told(count_text, rates and rates.evictions)}/s"


def _residency(stats: Stats) -> str:
    share = number(stats, "ready", "share")
    wanted, missing = number(stats, "ready", "wanted_bytes"), number(stats, "ready", "missing_total")
    text = f"{_told(share_text, share):>12} of {_told(size_text, wanted)} wanted"
    return text + (f", {count_text(missing)} missing" if missing else "")


def _generation(stats: Stats) -> str:
    text = f"{_told(count_text, number(stats, 'generation', 'number')):>12}"
    age = number(stats, "generation", "age_s")
    files, problems = number(stats, "generation", "files"), number(stats, "generation", "problems")
    text += f"   {_told(span_text, age)} old   {_told(count_text, files)} {'file' if files == 1 else 'files'}"
    return text + (f"   {count_text(problems)} problems" if problems else "")


def _sites(sites: tuple[Site, ...]) -> list[str]:
    """Those that were asked for anything since the last frame."""
    busy = [one for one in sites if one.requests]
    if not busy:
        return []
    lines = ["", f"{'requests/s':>12}  {'bytes/s':>10}  {'hits':>6}  site"]
    for one in busy[:_SITES_MAX]:
        size, hits = _told(size_text, one.bytes), _told(share_text, one.hit_ratio)
        lines.append(f"{count_text(one.requests):>12}  {size:>10}  {hits:>6}  {one.name}")
    if len(busy) > _SITES_MAX:
        lines.append(f"{'':>32}  and {len(busy) - _SITES_MAX} more")
    return lines


def _hottest(stats: Stats) -> list[str]:
    """Uses since each was found on disk: the node counts them anew some seconds apart (admin/survey.py)."""
    found = at(stats, "hottest") or ()
    if not found:
        return []
    lines = ["", f"{'uses':>12}  {'bytes':>10}  hottest"]
    for one in found[:_HOTTEST_MAX]:
        uses, size = _told(count_text, number(one, "uses")), _told(size_text, number(one, "bytes"))
        lines.append(f"{uses:>12}  {size:>10}  {at(one, 'path')}")
    return lines

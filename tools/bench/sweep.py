"""Loads along a scale, and the charts of what they gave.

A sweep is a row of SWEEPS. It must not know how anything is measured: a chart is drawn from rows, be they of this run
or read from the results of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.bench.charts import Bars, Line, Panel, bars_chart, lines_chart
from tools.bench.summary import Row
from tools.bench.workloads import CONCURRENCY, SIZES, WORKLOADS, Workload


@dataclass(frozen=True)
class Sweep:
    """`loads`: x -> the load at x; `tick` words an x. Requests/s span decades where `log_speed` is set."""

    title: str
    x_label: str
    loads: Mapping[int, Workload]
    tick: Callable[[int], str]
    log_speed: bool = False


def size_words(size: int) -> str:
    """100 B, 10 KB, 1 MB: in thousands, exactly."""
    for unit, sign in ((1_000_000, "MB"), (1000, "KB")):
        if size >= unit:
            return f"{size / unit:g} {sign}"
    return f"{size} B"


SWEEPS = {
    "connections": Sweep("The 1000-byte page, by connections", "connections, all busy", CONCURRENCY, "{:,}".format),
    "size": Sweep("Bodies, by size", "body size", SIZES, size_words, log_speed=True),
}
# (title of the panel, the figure of a row, logarithmic y); requests/s is logarithmic where the sweep says so.
FIGURES: tuple[tuple[str, Callable[[Row], float], bool], ...] = (
    ("requests/s (more is better)", lambda row: row.requests_per_s, False),
    ("server CPU, us/request (less is better)", lambda row: row.cpu_us, True),
    ("median latency, ms (less is better)", lambda row: row.p50_ms, True),
    ("99th percentile of latency, ms (less is better)", lambda row: row.p99_ms, True),
)


def loads(names: Iterable[str]) -> dict[str, Workload]:
    """The workloads of these sweeps, named `SWEEP-X`."""
    return {f"{name}-{x}": load for name in names for x, load in SWEEPS[name].loads.items()}


def note(where: Mapping[str, str]) -> str:
    """The circumstances as a chart's small print."""
    plain = ("cpu", "kernel", "date", "run")
    return "; ".join(value if name in plain else f"{name} {value}" for name, value in where.items())


def sweep_chart(name: str, rows: Sequence[Row], where: Mapping[str, str]) -> str:
    """SVG of one sweep; rows of other workloads are left out."""
    sweep = SWEEPS[name]
    x_of = {f"{name}-{x}": x for x in sweep.loads}
    own = [row for row in rows if row.workload in x_of]
    peers = dict.fromkeys(row.peer for row in own)
    panels = []
    for title, figure, log in FIGURES:
        lines = tuple(
            Line(peer, tuple((x_of[row.workload], figure(row)) for row in own if row.peer == peer)) for peer in peers
        )
        ticks = tuple((float(x), sweep.tick(x)) for x in sweep.loads)
        panels.append(Panel(title, sweep.x_label, ticks, lines, log or sweep.log_speed))
    return lines_chart(sweep.title, note(where), panels)


def workloads_chart(rows: Sequence[Row], where: Mapping[str, str]) -> str:
    """SVG of CPU per request, a group of bars for each workload."""
    groups = []
    for name in dict.fromkeys(row.workload for row in rows):
        about = WORKLOADS[name].about if name in WORKLOADS else name
        bars = tuple((row.peer, row.cpu_us) for row in rows if row.workload == name and row.cpu_us)
        groups.append(Bars(about, bars))
    return bars_chart("Server CPU, microseconds per request (less is better)", note(where), groups)

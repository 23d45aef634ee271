"""Many samples made few figures: medians, and ratios taken within a round before the median is.

It must not know how samples are come by or how figures are shown. A ratio is of neighbours in time: a machine
that is slow for a minute changes both of them, and their ratio little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tools.bench.rounds import Sample


@dataclass(frozen=True)
class Row:
    """Medians over the rounds of one peer under one workload; figures as in `rounds.Sample`."""

    workload: str
    peer: str
    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    beside_per_s: float | None = None


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest of what it stands for."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """`subject` over `peer`: CPU per request, where less is better, and requests/s, where more is."""

    workload: str
    subject: str
    peer: str
    cpu: Spread
    requests_per_s: Spread


def spread(values: Sequence[float]) -> Spread:
    """Raises statistics.StatisticsError when there are no values."""
    return Spread(median(values), min(values), max(values))


def rows(samples: Sequence[Sample]) -> list[Row]:
    """One row for each workload and peer, in the order of their first samples."""
    found = []
    for workload, peer in dict.fromkeys((sample.workload, sample.peer) for sample in samples):
        own = [sample for sample in samples if (sample.workload, sample.peer) == (workload, peer)]
        beside = [sample.beside_per_s for sample in own if sample.beside_per_s is not None]
        found.append(
            Row(
                workload,
                peer,
                median(sample.requests_per_s for sample in own),
                median(sample.cpu_us for sample in own),
                median(sample.p50_ms for sample in own),
                median(sample.p99_ms for sample in own),
                median(beside) if beside else None,
            )
        )
    return found


def ratios(samples: Sequence[Sample]) -> list[Ratio]:
    """The first peer against each other one, by workload; a round in which one did nothing is left out."""
    workloads = dict.fromkeys(sample.workload for sample in samples)
    subject, *others = dict.fromkeys(sample.peer for sample in samples)
    by_place = {(sample.workload, sample.round, sample.peer): sample for sample in samples}
    rounds = dict.fromkeys(sample.round for sample in samples)
    found = []
    for workload in workloads:
        for peer in others:
            places = [((workload, n, subject), (workload, n, peer)) for n in rounds]
            pairs = [(by_place[own], by_place[other]) for own, other in places if {own, other} <= by_place.keys()]
            pairs = [(own, other) for own, other in pairs if own.cpu_us and other.cpu_us]
            if pairs:
                cpu = spread([own.cpu_us / other.cpu_us for own, other in pairs])
                speed = spread([own.requests_per_s / other.requests_per_s for own, other in pairs])
                found.append(Ratio(workload, subject, peer, cpu, speed))
    return found


def faults(samples: Sequence[Sample]) -> list[str]:
    """What makes the run invalid, a line each; empty when it is valid."""
    return [
        f"{sample.workload}, {sample.peer}, round {sample.round}: {error}"
        for sample in samples
        for error in sample.errors
    ]

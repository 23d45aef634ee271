"""The ratios that zcserve promises to keep, and whether one run shows them kept.

A target is a row of TARGETS. Its two sides are measured in the same round, one after the other, and it is the
median of the rounds' ratios that counts; so both sides stand in one group of cells (`plan`). It must not know how
anything is measured.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tools.bench.rounds import Cell, Sample
from tools.bench.summary import Spread, spread

CPU, SPEED, IDLE_MEMORY = "CPU/request", "requests/s", "bytes/idle connection"
P50, P99 = "p50 latency", "p99 latency"


@dataclass(frozen=True)
class Target:
    """`own` over `other` (None: `own` alone) in one of the figures above is at most `bound`, or at least.

    Without a bound it is told, and nothing is promised.
    """

    about: str
    against: str
    own: Cell
    other: Cell | None
    bound: float | None
    figure: str = CPU
    at_least: bool = False

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What must be measured for it."""
        return (self.own,) if self.other is None else (self.own, self.other)


@dataclass(frozen=True)
class Measured:
    """What was measured for a target; `measured` is None when it was not."""

    target: Target
    measured: Spread | None

    @property
    def reached(self) -> bool | None:
        """Whether the median keeps to the bound; None when nothing was measured or promised."""
        if self.measured is None or self.target.bound is None:
            return None
        median, bound = self.measured.median, self.target.bound
        return median >= bound if self.target.at_least else median <= bound


def _against(about: str, workload: str, peer: str, bound: float) -> Target:
    return Target(about, peer, Cell(workload, "zcserve"), Cell(workload, peer), bound)


def _quick(about: str, workload: str, peer: str, bound: float) -> Target:
    return Target(about, peer, Cell(workload, "zcserve"), Cell(workload, peer), bound, SPEED, at_least=True)


_PAGE = Cell("page", "zcserve")
_IDLE = Cell("idle", "zcserve")
TARGETS = (
    _against("1000-byte page, keep-alive, 120 connections", "page", "floor", 1.10),
    _against("1000-byte page, keep-alive, 120 connections", "page", "nginx", 0.60),
    _against("1000-byte page, keep-alive, 120 connections", "page", "h2o", 0.75),
    _against("browser headers, new cookie, 5,000 files at random", "files", "nginx", 0.55),
    _against("16 pipelined requests", "pipelined", "h2o", 0.20),
    _against("64 KB body", "64KB", "nginx", 0.95),
    _against("1 MB body", "1MB", "nginx", 0.95),
    _quick("10 MB body", "10MB", "nginx", 1.0),
    Target("10,000 idle connections and 120 busy", "itself, 120 busy only", _IDLE, _PAGE, 1.10),
    Target("10,000 idle connections and 120 busy", "", _IDLE, None, 2048, IDLE_MEMORY),
    _against("a new connection for each request", "connections", "nginx", 0.95),
    _quick("a new connection for each request", "connections", "nginx", 1.0),
    _against("a new connection for each request (ab)", "ab-close", "nginx", 0.95),
    _quick("a new connection for each request (ab)", "ab-close", "nginx", 1.0),
    Target("access log on", "itself, log off", Cell("page", "zcserve-log"), _PAGE, 1.08),
)


def plan(targets: Sequence[Target], peers: Collection[str]) -> list[list[Cell]]:
    """Groups of cells that are to be measured in turn, for the targets whose peers are all at hand.

    Targets that share a cell share a group: what is measured once is compared with all its neighbours. Within a
    group cells keep the targets' order, but for the workload `idle`, which disturbs most and so comes last.
    """
    groups: list[list[Cell]] = []
    for target in targets:
        if not {cell.peer for cell in target.cells} <= set(peers):
            continue
        shared = [group for group in groups if any(cell in group for cell in target.cells)]
        groups = [group for group in groups if group not in shared]
        together = [cell for group in shared for cell in group] + list(target.cells)
        groups.append(sorted(dict.fromkeys(together), key=lambda cell: cell.workload == "idle"))
    return groups


def _figure(sample: Sample, figure: str) -> float:
    return {
        CPU: sample.cpu_us,
        SPEED: sample.requests_per_s,
        IDLE_MEMORY: sample.idle_bytes or 0.0,
        P50: sample.p50_ms,
        P99: sample.p99_ms,
    }[figure]


def outcomes(targets: Sequence[Target], samples: Sequence[Sample]) -> list[Measured]:
    """Each target with the spread of its rounds; a round in which a side did nothing, or is missing, is left out."""
    done = {(Cell(one.workload, one.peer), one.round): one for one in samples if one.requests}
    rounds = dict.fromkeys(one.round for one in samples)
    found = []
    for target in targets:
        complete = [[done[cell, n] for cell in target.cells] for n in rounds if _all_in(done, target, n)]
        figures = [[_figure(sample, target.figure) for sample in sides] for sides in complete]
        values = [own / (other[0] if other else 1.0) for own, *other in figures if all(other)]
        found.append(Measured(target, spread(values) if values else None))
    return found


def _all_in(done: dict[tuple[Cell, int], Sample], target: Target, round: int) -> bool:
    return all((cell, round) in done for cell in target.cells)

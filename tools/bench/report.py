"""Results for people and programs: text and Markdown tables, JSON, and where and when they were made.

It must not measure.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench.budget import Budget
from tools.bench.preload import Figure
from tools.bench.summary import Ratio, Row, Spread
from tools.bench.targets import Measured


@dataclass(frozen=True)
class Table:
    """`rows` are as wide as `columns`; columns from `numbers_from` on stand to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int


def circumstances(versions: dict[str, str]) -> dict[str, str]:
    """Machine, versions and date: what a figure means nothing without."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model,
        "cores": str(os.cpu_count()),
        "memory": f"{memory_bytes / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **versions,
    }


def requests_table(rows: Sequence[Row]) -> Table:
    """Medians of each peer under each workload; one more column where something went on beside one of them."""
    others = any(row.beside_per_s is not None for row in rows)
    return Table(
        "Medians over the rounds",
        ("workload", "peer", "requests/s", "CPU us/request", "p50 ms", "p99 ms", *["beside it/s"] * others),
        tuple(
            (
                row.workload,
                row.peer,
                f"{row.requests_per_s:,.0f}",
                f"{row.cpu_us:.2f}",
                f"{row.p50_ms:.3f}",
                f"{row.p99_ms:.3f}",
                *["" if row.beside_per_s is None else f"{row.beside_per_s:,.0f}"] * others,
            )
            for row in rows
        ),
        numbers_from=2,
    )


def _with_range(spread: Spread, decimals: int) -> tuple[str, str]:
    return f"{spread.median:,.{decimals}f}", f"{spread.low:,.{decimals}f} to {spread.high:,.{decimals}f}"


def ratios_table(ratios: Sequence[Ratio]) -> Table:
    """Medians of the ratios within each round, and between what they lay."""
    return Table(
        "Ratios within a round (median, range)",
        ("workload", "ratio of", "CPU/request", "range", "requests/s", "range"),
        tuple(
            (
                ratio.workload,
                f"{ratio.subject} / {ratio.peer}",
                *_with_range(ratio.cpu, 3),
                *_with_range(ratio.requests_per_s, 3),
            )
            for ratio in ratios
        ),
        numbers_from=2,
    )


def targets_table(outcomes: Sequence[Measured]) -> Table:
    """What was promised, what was measured, and whether that is reached."""
    rows = []
    for one in outcomes:
        target, bound = one.target, one.target.bound
        decimals = 0 if bound is not None and bound > 100 else 3
        required = (
            "" if bound is None else f"{'>=' if target.at_least else '<='} {bound:,.{0 if decimals == 0 else 2}f}"
        )
        measured = ("", "") if one.measured is None else _with_range(one.measured, decimals)
        reached = {None: "", True: "yes", False: "no"}[one.reached] if one.measured else "not measured"
        rows.append((target.about, target.against, target.figure, required, *measured, reached))
    columns = ("workload", "against", "figure", "required", "median", "range", "reached")
    return Table("Promised ratios (median of the rounds, range)", columns, tuple(rows), numbers_from=3)


def preload_table(figures: Sequence[Figure]) -> Table:
    """Medians over the rounds, and between what they lay."""
    return Table(
        "Preloading (median, range)",
        ("what", "unit", "median", "range"),
        tuple((figure.name, figure.unit, *_with_range(figure.spread, figure.decimals)) for figure in figures),
        numbers_from=2,
    )


def budget_table(done: Budget) -> Table:
    """What was asked, and what it cost in memory."""
    rows = (
        ("budget", f"{done.budget:,}"),
        ("content", f"{done.content:,} in {done.files:,} files"),
        ("peak growth over an empty root", f"{done.growth_peak:,}"),
        ("allowed growth", f"{done.limit:,}"),
        ("requests", f"{done.requests:,}"),
        ("wrong bodies", f"{done.wrong:,}"),
    )
    return Table("Memory budget (bytes)", ("what", "figure"), rows, numbers_from=1)


def _aligned(cells: Sequence[str], widths: Sequence[int], numbers_from: int) -> list[str]:
    return [
        cell.rjust(width) if place >= numbers_from else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def text(table: Table) -> str:
    """The table for a terminal."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.columns))]
    shown = ["  ".join(_aligned(line, widths, table.numbers_from)).rstrip() for line in lines]
    return "\n".join([table.title, *shown, ""])


def markdown(table: Table) -> str:
    """The table for a README."""
    left, right = table.numbers_from, len(table.columns) - table.numbers_from
    lines = [table.columns, ("---",) * left + ("--:",) * right, *table.rows]
    return "\n".join([f"**{table.title}**", "", *("| " + " | ".join(line) + " |" for line in lines), ""])


def write_results(
    tables: Sequence[Table],
    where: dict[str, str],
    figures: dict[str, Any],
    faults: Sequence[str],
    *,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Print the tables that have rows, and write the files that were asked for."""
    tables = [table for table in tables if table.rows]
    invalid = [f"INVALID: {fault}" for fault in faults]
    head = [f"{name}: {value}" for name, value in where.items()]
    print("\n".join([*head, "", *map(text, tables), *invalid]))
    if json_file is not None:
        whole = {"circumstances": where, "valid": not faults, "faults": list(faults), **figures}
        json_file.write_text(json.dumps(whole, indent=2) + "\n")
    if markdown_file is not None:
        foot = "; ".join(f"{name} {value}" for name, value in where.items())
        markdown_file.write_text("\n".join([*map(markdown, tables), *(f"{line}\n" for line in [*invalid, foot])]))

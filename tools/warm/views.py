"""What an operator sees while a command lasts: a table that moves, lines, or events for programs.

All three are told the same: rows of nodes, and what has happened. What has not changed is not told again.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tools.warm.words import printable
from zcserve.fleet.census import Row
from zcserve.fleet.extra import is_there

HEADS = ("node", "stage", "serves", "prepared", "in memory", "heard", "trouble")
# A table is drawn at most so often, in seconds.
DRAW_S = 0.1


class Lines:
    """A line for each node that changes, and for each thing that happens."""

    def __init__(self) -> None:
        self._known: dict[str, Row] = {}

    def table(self, rows: Iterable[Row], now: float) -> None:
        """How the nodes are."""
        for row in rows:
            if self._known.get(row.node) != (same := row._replace(lag_s=0.0, retry_s=0.0)):
                self._known[row.node] = same
                self._row(row)

    def event(self, name: str, text: str, **fields: Any) -> None:
        """Something has happened: a word for programs, and a line for people."""
        self._say(text)

    def close(self) -> None:
        """Nothing more comes."""

    def _row(self, row: Row) -> None:
        self._say("  ".join(f"{cell:{width}}" for cell, width in zip(cells(row), WIDTHS, strict=True)).rstrip())

    def _say(self, text: str) -> None:
        print(printable(text), flush=True)


WIDTHS = (12, 9, 6, 8, 9, 6, 0)


class Events(Lines):
    """The same as JSON, an event a line."""

    def event(self, name: str, text: str, **fields: Any) -> None:
        print(json.dumps({"event": name, "text": text, **fields}), flush=True)

    def _row(self, row: Row) -> None:
        lag = {} if math.isinf(row.lag_s) else {"lag_s": round(row.lag_s, 3)}
        print(json.dumps({"event": "node", **row._asdict(), "lag_s": None, **lag}), flush=True)


class Table(Lines):
    """A table that stays in its place on a terminal, by `rich`; what happens scrolls above it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.live import Live

        self._live = Live(auto_refresh=False, redirect_stderr=False)
        self._live.start()
        self._drawn_at = -math.inf
        self._rows: list[Row] = []

    def table(self, rows: Iterable[Row], now: float) -> None:
        self._rows = list(rows)
        if now >= self._drawn_at + DRAW_S:
            self._drawn_at = now
            self._draw()

    def _draw(self) -> None:
        from rich.table import Table as Drawn
        from rich.text import Text

        drawn = Drawn(*HEADS, box=None, pad_edge=False)
        for row in self._rows:
            drawn.add_row(*(Text(printable(cell)) for cell in cells(row)))
        self._live.update(drawn, refresh=True)

    def close(self) -> None:
        self._draw()
        self._live.stop()

    def _say(self, text: str) -> None:
        self._draw()  # what is printed has the table below it once more
        self._live.console.print(printable(text), markup=False, highlight=False)


def cells(row: Row) -> tuple[str, ...]:
    """A row's words, as HEADS has them."""
    heard = "never" if math.isinf(row.lag_s) else f"{row.lag_s:.1f}s"
    serves, prepared = (str(number) if number else "-" for number in (row.sequence, row.prepared))
    again = f" (tried again in {row.retry_s:.0f} s)" if row.retry_s else ""
    return (row.node, row.stage, serves, prepared, f"{row.share:.0%}", heard, row.error + again)


def view_of(is_json: bool) -> Lines:
    """The view that fits the output."""
    if is_json:
        return Events()
    kind: Callable[[], Lines] = Table if sys.stdout.isatty() and is_there("rich") else Lines
    return kind()

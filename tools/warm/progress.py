"""How far something long is, on a terminal: by `rich` where it is installed, else by the house's own line.

Nothing is written where standard error is no terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zcserve.progress import Meter

BAR_WIDTH = 30


def bar(done: int, total: int) -> str:
    """How far it is, for a `Meter`."""
    full = "#" * (BAR_WIDTH * done // total)
    return f"[{full:.<{BAR_WIDTH}}] {100 * done // total:3}%  {done} of {total}"


@contextmanager
def shown(what: str, *, of_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A function to be told how many of how many are done, and what stands before that: "reading"."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
    except ImportError:
        meter = Meter(bar)
        try:
            yield meter
        finally:
            meter.clear()
        return
    counts = (DownloadColumn(binary_units=True), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *counts, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

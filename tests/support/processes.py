"""What /proc tells of processes that a test has started, and of those that they start."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def started_by(task: Path) -> list[int]:
    """The children of a thread."""
    try:
        return [int(pid) for pid in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return []


def children_of(pid: int) -> list[int]:
    """The children of all threads of a process. One whose thread ends just then is not seen: ask again."""
    try:
        return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in started_by(task)]
    except OSError:
        return []


def end(pids: Iterable[int]) -> None:
    """End processes, and what they have started; what they start next as well, since they stand still at first."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            end(children_of(pid))
            os.kill(pid, signal.SIGKILL)

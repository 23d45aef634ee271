"""What a client waits for that is a server's, on a machine that others use, too.

Where both cores are busy, a program that only looks at the clock misses up to 10 ms at a time on the machine that this
was written on. So a bystander's wait alone says little of a server.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.client import Client
from tests.support.command import Command

# The files of what a bystander stands beside, and how long it waits: the median, and what of the longest can be the
# server's own, for a thread that has the GIL may stand in the kernel's queue.
BYSTANDER_FILES = int(os.environ.get("ZCSERVE_SOAK_FILES", "2000"))
MEDIAN_S, LONGEST_S = (0.005, 0.005) if "ZCSERVE_SOAK_FILES" in os.environ else (0.02, 1.0)


class Waited:
    """How long this thread waits in a `with`, in seconds, but for the time in which it, or the server's loop, stands in
    the kernel's queue for a core: it is other programs of a busy machine that the client waits for then.

    `of_server` is what of it can be the server's own doing: no more than the processor time of all its threads. A
    thread that has the GIL may stand in the queue, too, and then the loop waits for other programs all the same."""

    def __init__(self, server: Command) -> None:
        self._threads = Path(f"/proc/{server.pid}/task")
        self.seconds = self.of_server = 0.0

    def _processor(self) -> float:
        total = 0
        for thread in list(self._threads.iterdir()):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e9

    def _clock(self) -> float:
        queued = (self._threads / self._threads.parent.name / "schedstat", Path("/proc/thread-self/schedstat"))
        return time.monotonic() - sum(int(file.read_text().split()[1]) for file in queued) / 1e9

    def __enter__(self) -> Self:
        self._took = self._processor()
        self._began = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._clock() - self._began
        self.of_server = min(self.seconds, self._processor() - self._took)


def check_bystander(server: Command, about: str, work: Callable[[], object]) -> None:
    """A client that asks for `/by`, which says `by`, hardly waits while this is done in a thread."""
    took: list[Waited] = []
    working = threading.Thread(target=work)
    with Client(server.port) as bystander:
        working.start()
        while working.is_alive():
            with Waited(server) as waited:
                assert bystander.get("/by").body == b"by"
            took.append(waited)
            time.sleep(0.0003)  # as a client that reads what it gets
        working.join()
    median = statistics.median(one.seconds for one in took)
    longest, most = max(one.of_server for one in took), max(one.seconds for one in took)
    print(f"{about}: {len(took)} answers, median {median:.6f} s, longest {most:.6f}, the server's own {longest:.6f}")
    assert (median < MEDIAN_S, longest < LONGEST_S) == (True, True)

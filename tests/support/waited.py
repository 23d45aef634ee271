"""What a client waits for that is a server's, on a machine that others use, too.

Where both cores are busy, a program that only looks at the clock misses up to 10 ms at a time on the machine that this
was written on. So a bystander's wait alone says little of a server.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.command import Command


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

"""What a test has begun and not ended: descriptors and threads."""

from __future__ import annotations

import gc
import os
import threading
from contextlib import suppress


def open_descriptors() -> int:
    """How many this process has open, and none of them is garbage, which could go while a test looks."""
    while gc.collect():  # finalizers of what is collected leave more
        pass
    return len(os.listdir("/proc/self/fd"))


class Begun:
    """Descriptors that are open, and threads that run, since this was made."""

    def __init__(self) -> None:
        gc.collect()  # what others have left goes now, and not while this looks
        self._before = self._all()

    @staticmethod
    def _all() -> set[tuple[object, str]]:
        found: set[tuple[object, str]] = {(thread, thread.name) for thread in threading.enumerate()}
        for fd in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # that of the listing
                found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
        return found

    def left(self) -> list[str]:
        """What they are."""
        return sorted(name for _, name in self._all() - self._before)

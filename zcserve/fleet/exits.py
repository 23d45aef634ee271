"""Hears of a process's end at once, and costs nothing until then (pidfd_open(2)).

Where the process is not to be seen (it is in another container) nothing is heard. It may be another one of that number
then: so what is heard is a reason to look, and no more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress


class Exits:
    """Calls `heard` once for each process that is followed and ends. Follows one at a time. To be closed."""

    def __init__(self, heard: Callable[[], object]) -> None:
        self._heard = heard
        self._pid = 0
        self._fd = -1

    def follow(self, pid: int) -> None:
        """Follow this process instead of the one before."""
        if pid == self._pid:
            return
        self.close()
        self._pid = pid
        with suppress(OSError):
            self._fd = os.pidfd_open(pid)
            asyncio.get_running_loop().add_reader(self._fd, self._on_end)

    def _on_end(self) -> None:
        self.close()
        self._heard()

    def close(self) -> None:
        """Follow none."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
        self._pid, self._fd = 0, -1

"""What other threads wake a thread by that waits for descriptors: an eventfd (eventfd(2)).

A thread may be stopped just before it writes, while another one is done with the descriptor. To close it then would
give its number to another file, which would get what is written. So it lives as long as something refers to it, and a
thread that writes does: there is no `close`, and no lock, since a signal's handler writes, too.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

# What waits for a wake-up that is lost waits for the next one: the write is tried again.
TRIES = 3

_ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes


class Wake:
    """`fd` is readable from `tell` to `clear`."""

    fd = -1

    def __init__(self) -> None:
        """Raises OSError."""
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def tell(self) -> None:
        """Wake the thread. In any thread, and in a signal's handler."""
        for _ in range(TRIES):
            with suppress(OSError):
                os.write(self.fd, _ONE)
                return

    def clear(self) -> None:
        """It is awake."""
        with suppress(OSError):
            os.read(self.fd, 8)

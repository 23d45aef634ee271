"""What a server counts, looked at where that may be done: in its loop's thread."""

from __future__ import annotations

from queue import SimpleQueue

from zcserve import Server
from zcserve.net.counts import Counts


def counts_of(server: Server) -> Counts:
    """One look at all that it has counted."""
    found: SimpleQueue[Counts] = SimpleQueue()
    server.loop.call_soon(lambda: found.put(server.service.counts()))
    return found.get(timeout=20)

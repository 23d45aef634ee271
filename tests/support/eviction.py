"""A budget that is watched while a server answers: what the tests of eviction and compaction share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from zcserve import Server
from zcserve.cache.entry import Entry

POLICIES = ["lru", "sieve", "s3-fifo"]
# A policy knows no engine, and none of them the policy: each of either, and a policy beside both.
PAIRS = [("lru", "python"), ("sieve", "auto"), ("s3-fifo", "python"), ("s3-fifo", "auto")]


@contextmanager
def within_budget(server: Server) -> Iterator[None]:
    """Watch what is committed, without a pause, until the block ends."""
    store = server.store
    ended = threading.Event()
    peaks = [0]

    def watch() -> None:
        while not ended.wait(0.0005):
            peaks.append(max(peaks.pop(), store.committed))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    assert peaks[0] <= store.budget
    assert store.committed <= store.budget


def entry_of(server: Server, target: str) -> Entry:
    entry = server.site.live.resources[target.encode()]
    assert isinstance(entry, Entry)
    return entry

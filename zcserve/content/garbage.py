"""What releases leave is collected: the content is out of the collector's sight (cache/unseen.py), but an application's
objects are not, and may be many; and so are what is known of a thousand sites.

One for all sites: a collection takes as long as there are objects of all of them, whichever was released.
"""

from __future__ import annotations

import gc
import threading
import time

# What a reload leaves is collected at once where that takes no longer; where it takes N times as long, every Nth time.
COLLECTION_S = 0.005


class Garbage:
    """Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._after = 0  # so many releases

    def collect(self, *, is_last: bool) -> None:
        """A release is over. Not for each of many: the `last` of those that are under way has all of it collected."""
        with self._lock:
            self._after -= 1
            if self._after > 0 or not is_last:
                return
            began = time.thread_time()
            gc.collect()
            self._after = int((time.thread_time() - began) / COLLECTION_S)

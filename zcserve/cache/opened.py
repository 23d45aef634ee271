"""Files that stay on disk, kept open between two requests.

A file that is too large to be resident is answered from the disk, and to open it anew for each request takes a thread,
which costs three times as much as 100 KB of it. So the files that were asked for last stay open, a few of them: what
the operator's limit of descriptors is for are clients.

A body that is kept here holds what the index says, as far as the index knows: whatever replaces its entry drops it
(`Store.drop`), as it drops what is resident. An open file besides tells by its own status when it was changed, or lost
its name; then it is given out no more, and its path is opened anew. What it does not tell, such as a symlink that leads
elsewhere now, is found where nothing watches after KEPT_S, when the path is opened anew, too. Then it is closed, though
no request asks for it: a file system can be unmounted, and a file that was removed frees its disk.

Only files of disks are kept: one that another machine or program serves must be asked for in a thread anyway, and its
close may hang.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from zcserve.cache.closing import may_hang
from zcserve.cache.entry import Entry, OnDisk, device_of

CallSoon = Callable[[Callable[[], object]], object]
CallLater = Callable[[float, Callable[[], object]], object]

OPENED_MAX = 128
# So long a file is given out: a thread that opens it once a second costs nothing beside the requests of that second.
KEPT_S = 1.0


class Opened:
    """Bodies by their entries, the one that was asked for last at the end. Any thread may call it."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[Entry, tuple[OnDisk, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._is_timed = False  # `_expire` will be called
        self._expire_later: Callable[[], object] = lambda: None

    def begin(self, call_soon: CallSoon, call_later: CallLater) -> None:
        """Have a loop close what has been open for KEPT_S."""
        self._expire_later = partial(call_soon, partial(call_later, KEPT_S, self._expire))

    def keep(self, entry: Entry, body: OnDisk) -> None:
        """Keep a body open that was just made, instead of the one that was asked for longest ago."""
        if may_hang(device_of(entry.identity)):
            return
        last = None
        with self._lock:
            was_timed, self._is_timed = self._is_timed, True
            before = self._bodies.pop(entry, None)
            self._bodies[entry] = body, time.monotonic() + KEPT_S
            if len(self._bodies) > OPENED_MAX:
                last = self._bodies.popitem(last=False)
        del before, last  # closed, unless they are being sent, without the lock
        if not was_timed:
            self._expire_later()

    def get(self, entry: Entry) -> OnDisk | None:
        """The body of an entry, if it is open and holds what the entry says."""
        if not self._bodies:
            return None
        with self._lock:
            body, until = self._bodies.get(entry, (None, 0.0))
            if body is None:
                return None
            is_true = not body.file.is_stale and body.file.identity == entry.identity
            if is_true and time.monotonic() < until:
                self._bodies.move_to_end(entry)
                return body
            del self._bodies[entry]
        return None

    def _expire(self) -> None:
        """Close what has been open for long enough, and look again while anything is left."""
        now = time.monotonic()
        with self._lock:
            late = [entry for entry, (_, until) in self._bodies.items() if until <= now]
            closed = [self._bodies.pop(entry) for entry in late]
            self._is_timed = is_left = bool(self._bodies)
        del closed
        if is_left:
            self._expire_later()

    def drop(self, entry: Entry) -> None:
        """The entry left the index, or its head is another now."""
        if self._bodies:
            with self._lock:
                kept = self._bodies.pop(entry, None)
            del kept

    def shed(self) -> bool:
        """Give up the one that was asked for longest ago, for its descriptor; False where there is none."""
        with self._lock:
            if not self._bodies:
                return False
            last = self._bodies.popitem(last=False)
        del last
        return True

    def close(self) -> None:
        """Give up all of them."""
        while self.shed():
            pass

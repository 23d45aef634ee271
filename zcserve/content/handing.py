"""A site that a reload builds anew takes the place of the old one, and nothing that a client has seen is older then.

    old     serves, patches, purges, renews -------- its patches wait ------------------- it leaves
    new     is built of the same files, catches up - catches up for the last time --- [loop: switch]

Between the end of the build and the switch the old site could lay something over that the new one lacks until its own
watcher is asked: a client would meet older content. So the patches of the old one wait for the switch, which takes no
thread, and the new one catches up meanwhile. What its watcher has no event of (what a purge, a request or a comparison
found) the old one has noted, and the new one looks at it again. What a request finds in this time is the one thing that
goes on: then the new one catches up once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zcserve.cache.doubt import put_in_doubt
from zcserve.cache.entry import Entry
from zcserve.content.builder import Built, look_again
from zcserve.content.jobs import Jobs
from zcserve.content.live import Live

Made = TypeVar("Made")


class Handing:
    """What is told to the old site from now on is noted, until `end`. In the thread that makes the new one."""

    def __init__(self, live: Live, jobs: Jobs) -> None:
        self._live = live
        self._jobs = jobs
        self._noted = live.note()

    def hold(self) -> None:
        """From now on its patches wait, once those before are over."""
        self._reached = self._jobs.hold()

    def await_held(self, until: float) -> None:
        """Wait until nothing is laid over any more, or until then (of `time.monotonic`): its file system hangs. Raises
        ClosingError."""
        self._jobs.await_set(self._reached, until)

    def tell(self, built: Built) -> bool:
        """Have what was built look again at what the old one was told of. Whether it has to be built anew for that."""
        keys = look_again(built, self._noted.take())
        for key in keys:
            entry = built.generation.resources.get(key)
            if isinstance(entry, Entry) and entry.etag and not entry.made:
                put_in_doubt(entry)
        return built.watcher is None and bool(keys)

    @property
    def is_known(self) -> bool:
        """Whether all that was told is known by what was built. In the loop."""
        return not self._noted.renewed

    def in_loop(self, step: Callable[[], Made]) -> Made:
        """As `Jobs.in_loop`."""
        return self._jobs.in_loop(step)

    def end(self) -> None:
        """The switch is made, or will not be: the old one goes on with what waits. Once."""
        self._live.end_note(self._noted)
        self._jobs.patches.go_on()

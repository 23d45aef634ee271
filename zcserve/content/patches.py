"""What the watcher tells of: looked at and loaded in a thread, and laid over the live generation by the loop.

What is written while a patch is made leaves it: the watcher tells of it again when it is whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from math import inf

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.patch import Patch
from zcserve.cache.walk import Changes
from zcserve.cache.watcher import Watcher
from zcserve.content.builder import Builder
from zcserve.content.jobs import Counters, Jobs
from zcserve.content.live import Live, LostError
from zcserve.content.news import EVENTS_READ_S
from zcserve.content.releases import Releases
from zcserve.content.renewals import Renewals
from zcserve.content.told import tell_problems
from zcserve.errors import reason_of
from zcserve.log import Log

_log = Log(__name__)

# So many keys of a patch are laid over the live generation between two turns of the loop: about a millisecond.
KEYS_LAID_AT_ONCE = 250
# How many turns the loop reads events before a piece of a patch is laid over all the same: a storm may have no end.
READS_MAX = 100


class Patches:
    """Follows the changes that the live watcher tells of. In the patches' thread, but for `due`, `begin` and
    `when_known`, which are the loop's."""

    def __init__(
        self, builder: Builder, live: Live, jobs: Jobs, releases: Releases, renewals: Renewals, counters: Counters
    ) -> None:
        """`releases` follow where everything is to be walked, or a patch fails."""
        self._builder = builder
        self._loader = builder.loader
        self._live = live
        self._site = live.site
        self._jobs = jobs
        self._releases = releases
        self._renewals = renewals
        self._counters = counters
        self._is_busy = False

    def due(self, now: float) -> float:
        """When the watcher has something whole to tell of, a time of the loop."""
        watcher = self._live.watcher
        return inf if watcher is None or self._is_busy else watcher.due(now)

    def begin(self, now: float) -> None:
        """Follow what is due."""
        watcher = self._live.watcher
        assert watcher is not None
        self._is_busy = True
        self._jobs.submit(self._jobs.patches, partial(self._follow, watcher, now))

    def when_known(self, then: Callable[[], None]) -> None:
        """Call `then` when all that has changed by now is served; after the next flip, where the watcher has lost track
        or the root leads elsewhere. In the loop, and so is `then`."""
        self._jobs.submit(self._jobs.patches, partial(self._know, then))

    def _know(self, then: Callable[[], None]) -> None:
        watcher = self._live.watcher
        if watcher is not None:
            while not self._jobs.in_loop(partial(watcher.read, time.monotonic(), EVENTS_READ_S)):
                pass
            if watcher.is_lost or not self._site.live.root.is_in_place():
                self._live.after_flip(partial(self.when_known, then))
                return
            self._follow(watcher, time.monotonic())
        self._jobs.when_passed(then)

    def _follow(self, watcher: Watcher, now: float) -> None:
        try:
            if watcher is not self._live.watcher:
                return  # it belongs to a generation that is gone
            changes = watcher.take(now)
            if changes.everything is not None:
                _log.info("%severything is walked anew: %s", self._site.label, changes.everything)
                self._releases.build_for(watcher)
            elif changes and (self._live.is_adrift or not self._site.live.root.is_in_place()):
                why = "the root leads elsewhere by now, or could not be loaded"
                _log.info("%schanges are not followed: %s", self._site.label, why)
            elif changes:
                self._patch(watcher, changes)
        except OSError as error:
            self._counters.rescans += 1
            again, why = self._releases.try_again_later(), reason_of(error)
            label = self._site.label
            _log.error("%san update failed, the old content goes on and is compared in %g s: %s", label, again, why)
            self._counters.failed += 1
        except Exception:
            self._counters.rescans += 1
            self._releases.try_again_later()
            raise
        finally:
            self._jobs.in_loop(self._rest)

    def _rest(self) -> None:
        self._is_busy = False
        self._live.plan()

    def _patch(self, watcher: Watcher, changes: Changes) -> None:
        generation = self._site.live
        patch = self._builder.make_patch(generation, watcher, changes)
        self._renewals.await_successor(self._jobs.call_soon)
        if patch.resources:
            try:
                for entry in self._lay_over(watcher, generation, patch):
                    self._loader.forget(entry)
            except LostError:
                fresh = [new for new in patch.resources.values() if isinstance(new, Entry)]
                self._builder.forget_unless_in(generation, fresh)
                return
            self._loader.store.count_index(self._site.id, generation.index_bytes)
            generation.tidy()
        if patch.resources:
            self._counters.patches += 1
            self._counters.changed += len(patch.resources)
            _log.info("%s%s", self._site.label, patch.told())
        patch.clear()
        tell_problems(patch.problems)

    def _lay_over(self, watcher: Watcher, generation: Generation, patch: Patch) -> Iterator[Entry]:
        """Make the patch the truth, but for what was being written while it was looked at, of which the watcher will
        tell again. The entries that are not needed any more."""
        for keys in list(patch.pieces(generation.resources, KEYS_LAID_AT_ONCE)):
            for left in reversed(range(READS_MAX)):
                lay = partial(self._live.lay_over, watcher, generation, patch, keys, is_last_try=not left)
                if (unneeded := self._jobs.in_loop(lay)) is not None:
                    yield from unneeded
                    break  # else the loop has taken in some events, and serves others before it takes in more

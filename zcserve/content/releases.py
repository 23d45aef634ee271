"""The next generation: built beside the last, caught up, compared, flipped to; then what only the last one had goes.

In the builder's thread, but for the last step before a flip, which is the patches': nothing is patched meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import chain
from math import inf
from typing import TypeAlias

from zcserve.cache.burial import empty
from zcserve.cache.crew import beat
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.loader import call
from zcserve.cache.naming import directory_of, keys_of
from zcserve.cache.pairing import entry_at
from zcserve.cache.preload import Preloaded, retire, survey
from zcserve.cache.shards import Shards, marked
from zcserve.cache.watcher import Watcher
from zcserve.config.table import Config
from zcserve.config.units import counted
from zcserve.content.builder import Builder, Built, ClosingError, look_again
from zcserve.content.jobs import Counters, Jobs, PausedError
from zcserve.content.live import Live, Step, expect_all, expect_some, settle_all
from zcserve.content.merging import difference
from zcserve.content.noted import Noted
from zcserve.content.preparing import Preparing
from zcserve.content.renewals import Renewals
from zcserve.content.told import report_problems, resident, warn_of_memory
from zcserve.errors import UsageError
from zcserve.log import Log

_log = Log(__name__)

# How often the next generation catches up with what has changed before patches wait for it; each time takes less.
CATCH_UPS_MAX = 5
# How often a generation is built anew when its watcher has lost track by then.
BUILDS_MAX = 3
# How often a flip waits for what requests find newer meanwhile: a storm may have no end.
FLIPS_MAX = 100
# A reload that failed is tried again after so long, then after twice as long each time, up to this.
TRIED_AGAIN_AFTER_S = 1.0
TRIED_AGAIN_MAX_S = 60.0

Told: TypeAlias = Callable[[str], object]


class Releases:
    """Replaces the live generation as a whole.

    due       when a reload that failed is tried again, of `time.monotonic`
    report    what of the live generation is resident
    """

    def __init__(
        self,
        config: Config,
        builder: Builder,
        live: Live,
        jobs: Jobs,
        renewals: Renewals,
        counters: Counters,
        preparing: Preparing,
        report: Preloaded,
    ) -> None:
        self.due = inf
        self.report = report
        self._config = config
        self._builder = builder
        self._loader = builder.loader
        self._store = builder.store
        self._live = live
        self._site = live.site
        self._jobs = jobs
        self._renewals = renewals
        self._counters = counters
        self._preparing = preparing
        self._is_asked = False
        self._waiting: list[Told] = []  # for what is built next
        self._tried_again_after = 0.0
        builder.rules_changed.subscribe(self.ask)

    # --- asking for one -----------------------------------------------------------------------------------

    def ask(self, told: Told | None = None) -> None:
        """Have the next generation built; in any thread, and in a signal's handler, which must take no locks. `told` as
        of `Content.reload`."""
        if not self._builder.closing.is_set():
            if told is not None:
                self._waiting.append(told)  # first: what is built from now on has what is there by now
            self._is_asked = True
            self._jobs.call_soon(partial(self._jobs.submit, self._jobs.builders, self._build_if_asked))

    def _build_if_asked(self) -> None:
        if self._is_asked:  # else the reload that just ended began after this one was asked for
            self._is_asked = False
            waiting, self._waiting = self._waiting, []
            why = "the log says why"
            try:
                why = self._build_next()
            except PausedError:
                why = "an upgrade is under way, and the new process reads the root"
                raise
            finally:
                for told in waiting:
                    self._jobs.call_soon(partial(told, why))

    def build_for(self, watcher: Watcher) -> None:
        """Build the next generation since a watcher has lost track."""
        self._jobs.submit(self._jobs.builders, partial(self._build_unless_done, watcher))

    def _build_unless_done(self, watcher: Watcher) -> None:
        if watcher is self._live.watcher:
            self._counters.rescans += self._site.live.root.is_in_place()  # else it is a release
            self._build_next()

    def try_again_later(self) -> float:
        """Reload by itself, unless something else has it reloaded before; in how many seconds."""
        wait = self._tried_again_after = min(max(self._tried_again_after * 2, TRIED_AGAIN_AFTER_S), TRIED_AGAIN_MAX_S)
        self.due = time.monotonic() + wait
        return wait

    def try_again(self) -> None:
        """It is due."""
        self.due = inf
        self.ask()

    # --- before the loop runs -----------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Know of what has changed since the first generation was built, and build anew where the root leads elsewhere
        by now, or its watcher has lost track. Before the loop runs."""
        for _ in range(BUILDS_MAX):
            built = Built(self._site.live, self._live.watcher, self.report)
            for _ in range(CATCH_UPS_MAX):
                caught = self._builder.catch_up(built)
                for entry in caught.unneeded:
                    self._loader.forget(entry)
                if not caught.keys:
                    break
                self._live.expect(caught.keys)
                self._live.settle(caught.keys)
                self._live.tell_page()
            leads_elsewhere = built.watcher is not None and not built.generation.root.is_in_place()
            if not (built.is_lost or leads_elsewhere) or not self._flip_at_once():
                break

    def _flip_at_once(self) -> bool:
        """The process before this one may serve the next release already. Whether it could be built."""
        last, watcher = self._site.live, self._live.watcher
        try:
            built = self._builder.build(last=last)
        except (UsageError, OSError) as error:
            self._failed(error, last)
            return False
        changed = Shards[bytes, bool]()
        changed.update(marked(difference(last, built.generation)))
        expect_all(self._live, built.generation, call)
        over = self._live.flip(built, changed) or []
        if watcher is not None:
            watcher.close()
        self._tidy_up(built, changed, over, call)
        return True

    # --- in the builder's thread --------------------------------------------------------------------------

    def _build_next(self) -> str:
        """Why it failed, or ""."""
        live = self._live
        last, watcher = self._site.live, live.watcher
        self.due = inf
        noted = live.note()
        try:
            built, changed, over = self._build_and_compare(last, noted)
        except (UsageError, OSError) as error:
            self._failed(error, last)
            return str(error)
        except (ClosingError, PausedError):
            raise
        except Exception:
            self.try_again_later()
            raise
        finally:
            live.end_note(noted)
            self._jobs.call_soon(live.plan)
            self._close_unless_live(watcher)
        live.is_adrift = False
        self._tried_again_after = 0.0
        self._jobs.await_passed()
        self._tidy_up(built, changed, over, self._jobs.in_loop)
        empty(changed)
        return ""

    def _failed(self, error: UsageError | OSError, last: Generation) -> None:
        self._live.is_adrift = isinstance(error, UsageError) or not last.root.is_in_place()
        again = self.try_again_later()
        _log.error("%sreload failed, the old content goes on; tried again in %g s: %s", self._site.label, again, error)
        self._counters.failed += 1  # last: what sees it counted finds it told

    def _build_and_compare(self, last: Generation, noted: Noted) -> tuple[Built, Shards[bytes, bool], list[Generation]]:
        """The next generation, flipped to; which keys lead elsewhere than in the `last`, or perhaps do; whose time is
        over."""
        for left in reversed(range(BUILDS_MAX)):
            built = self._preparing.claim() or self._builder.build(last=last)
            try:
                changed = self._caught_up(built, last)
                if self._preparing.has(built):
                    changed.update(built.changed)
                else:
                    changed.update(marked(difference(last, built.generation)))
                    changed.update(self._caught_up(built, last))
                if not built.is_lost or not left:
                    flip = partial(self._catch_up_and_flip, built, changed, noted)
                    return built, changed, self._jobs.in_patches(flip)
            except BaseException:
                if not self._preparing.has(built):
                    self._close_unless_live(built.watcher)
                raise
            if not self._preparing.has(built):
                self._close_unless_live(built.watcher)
                retire(built.generation, last, self._loader)
        raise AssertionError

    def _close_unless_live(self, watcher: Watcher | None) -> None:
        """A server that ends may have flipped, though the thread that waited for it does not hear of it."""
        if watcher is not None and watcher is not self._live.watcher:
            watcher.close()

    def _caught_up(self, built: Built, last: Generation) -> Shards[bytes, bool]:
        """Have what was built catch up with what has changed since, until that is nothing; the keys."""
        keys: Shards[bytes, bool] = Shards()
        for _ in range(CATCH_UPS_MAX):
            caught = self._builder.catch_up(built, last, self._expected_by(built))
            self._builder.forget_unless_in(last, caught.unneeded)
            keys.update(caught.keys)
            if not caught.keys:
                break
        return keys

    def _expected_by(self, built: Built) -> Callable[[Iterable[bytes]], None]:
        """What is told of keys before what was built has them: where it answers already, the front hears of them."""

        def expect(keys: Iterable[bytes]) -> None:
            if built.generation is self._site.prepared:
                expect_some(self._live, keys, self._jobs.in_loop)

        return expect

    def _catch_up_and_flip(self, built: Built, changed: Shards[bytes, bool], noted: Noted) -> list[Generation]:
        """In the patches' thread: catch up with the rest, and flip. The generations whose time is over."""
        if self._renewals.is_paused:
            raise PausedError
        if built.noted is not None:
            self._look_again(built, changed, built.noted.take())
        self._look_again(built, changed, noted.laid)
        caught = self._builder.catch_up(built, self._site.live, self._expected_by(built))
        changed.update(caught.keys)
        self._renewals.await_successor(self._jobs.call_soon)
        if not self._preparing.has(built):  # whose keys were expected when it was prepared
            expect_all(self._live, built.generation, self._jobs.in_loop)
        self._live.note_keys(changed, but=noted)  # before the flip, and not in it: it is short
        for left in reversed(range(FLIPS_MAX)):
            self._renew_too(built.generation, changed, noted.renewed)
            flip = partial(self._flip, built, changed, noted, is_last_try=not left)
            if (over := self._jobs.in_loop(flip)) is not None:
                break
        assert over is not None
        self._builder.forget_unless_in(built.generation, caught.unneeded)
        return over

    def _look_again(self, built: Built, changed: Shards[bytes, bool], keys: Iterable[bytes]) -> None:
        """What was purged since, or has changed, may have been read for this generation before, and no event need tell
        of it."""
        changed.update(marked(keys))
        for key in keys:
            beat()
            if built.watcher is None:
                self._renew(built.generation, changed, key)
            else:
                look_again(built, (key,))

    def _flip(
        self, built: Built, changed: Shards[bytes, bool], noted: Noted, *, is_last_try: bool
    ) -> list[Generation] | None:
        """In the loop, as `Live.flip`. Raises PausedError: what was served until now is another site's by now, perhaps,
        and is not to be cleared."""
        if self._renewals.is_paused:
            raise PausedError
        return self._live.flip(built, changed, noted, is_last_try=is_last_try)

    def _renew_too(self, following: Generation, changed: Shards[bytes, bool], renewed: dict[bytes, None]) -> None:
        """Have the next generation know what lies now where requests found something newer than the live one had: its
        clients have seen that."""
        while renewed:
            key, _ = renewed.popitem()
            self._renew(following, changed, key)

    def _renew(self, following: Generation, changed: Shards[bytes, bool], key: bytes) -> None:
        entry = following.resources.get(key)
        if not isinstance(entry, Entry):
            return
        fresh = entry_at(following.root, key)
        if fresh is None or fresh.identity != entry.identity:
            self._loader.put_in_place(following, entry, fresh)
            changed.update(marked((key, *keys_of(directory_of(key)))))

    def _tidy_up(
        self, built: Built, changed: Shards[bytes, bool], over: list[Generation], in_loop: Callable[[Step], None]
    ) -> None:
        """After a flip: let go of what is not needed any more, and tell. The loop makes its steps by `in_loop`."""
        generation, report = built.generation, built.report
        if is_prepared := self._preparing.flipped(built):
            settle_all(self._live, changed, in_loop)  # what it had, and has no more
            self._builder.tell_of_globs(generation)
            report = survey(generation)  # what was resident may have been evicted
        self._loader.variants.follow(generation)
        self._store.count_index(self._site.id, generation.index_bytes)
        self._retire(over, in_loop, None if self._config.keep_generations else changed)
        if report.left_out:
            for old in self._site.generations[1:]:
                retire(old, generation, self._loader)  # reachable still, but the new content needs the room
            report = self._builder.load(generation)  # where the last generation was, there is room now
        self.report = report
        self._counters.flips += 1
        self._counters.live_since = time.time()
        files, paths = counted(report.files - report.variants, "file"), counted(len(changed), "path")
        how = "flipped to the prepared release" if is_prepared else "reloaded"
        _log.info("%s%s: %s, %s changed or gone, %s", self._site.label, how, files, paths, resident(report))
        report_problems(generation.problems)
        warn_of_memory(self._store, report)
        self.tidy_variants()
        self._jobs.collect()

    def tidy_variants(self) -> None:
        """Have `--compress-dir` hold nothing that is not served."""
        self._loader.variants.tidy(self._live_tags)

    def _live_tags(self) -> set[bytes]:
        """The ETags of what is served, in a thread of the variants'."""
        return set().union(*(self._loader.codings.tags_of(one.entries()) for one in self._live.all_served()))

    def retire(self, over: list[Generation]) -> None:
        """In the builder's thread: their time is over."""
        self._jobs.submit(self._jobs.builders, partial(self._retire, over, self._jobs.in_loop))

    def _retire(
        self, over: list[Generation], in_loop: Callable[[Step], None], keys: Collection[bytes] | None = None
    ) -> None:
        """Forget what only they have, and have it be absent. It stands under `keys`, if that is known."""
        generation, *older = self._site.generations
        for old in over:
            known = keys if keys is not None else chain.from_iterable(old.keys_in_pieces())
            settle_all(self._live, known, in_loop)
        kept = {id(entry) for old in older for entry in old.entries()}
        for old in over:
            for key in keys if keys is not None else chain.from_iterable(old.keys_in_pieces()):
                entry = old.resources.get(key)
                if not isinstance(entry, Entry) or id(entry) in kept:
                    continue
                if generation.resources.get(entry.key) is not entry:
                    self._loader.forget(entry)
            old.clear()  # so that a thread that loads for it knows, and not all of it ends at once

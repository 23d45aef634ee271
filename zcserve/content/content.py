"""The content of a site, and when each of its parts is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from math import inf

from zcserve.cache.crew import CLOSE_WITHIN_S
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.naming import directory_of, keys_of, path_of
from zcserve.cache.pairing import entry_at
from zcserve.cache.preload import Preloaded
from zcserve.cache.watcher import Watcher
from zcserve.config.units import counted
from zcserve.content.builder import Builder, Built, ClosingError
from zcserve.content.crews import Crews
from zcserve.content.filling import Filling
from zcserve.content.handing import Handing
from zcserve.content.jobs import CLOSING_SEEN_S, Counters, Jobs
from zcserve.content.live import Live
from zcserve.content.news import News
from zcserve.content.patches import READS_MAX, Patches
from zcserve.content.pinning import Pinning
from zcserve.content.preparing import Preparing
from zcserve.content.purging import PurgeResults, Purging
from zcserve.content.readiness import Readiness
from zcserve.content.rechecks import Rechecks
from zcserve.content.releases import Releases
from zcserve.content.renewals import Ask, Begun, Renewals
from zcserve.content.told import warn_of_memory
from zcserve.content.warming import Warming
from zcserve.events import Event
from zcserve.log import Log
from zcserve.net.service import Service
from zcserve.site.site import Site

_log = Log(__name__)


class Content:
    """The generations of a site, and their replacement. In the loop, but for `reload`, `status` and `close`.

    planned                    event: something is due at this time of the loop, perhaps earlier than before
    purging, warming, pinning, preparing  what an operator may have done to it
    readiness                  whether all is there that is to be
    """

    def __init__(
        self,
        builder: Builder,
        built: Built,
        service: Service,
        crews: Crews,
        news: News,
        *,
        purge_results: PurgeResults | None = None,
    ) -> None:
        """The site serves what was built already; the loop does the last step of each change. `crews` have the
        threads, and `news` tell of changes; `purge_results` is the application's, if it keeps any. Raises
        NoThreadError."""
        config, loop = builder.config, service.loop
        self.counters = counters = Counters()
        self.due = inf  # when `each_turn` has something to do
        self.planned: Event[float] = Event()
        self._is_gone = False  # what is under way still plans nothing
        self._builder = builder
        self._loader = builder.loader
        self._loop = loop
        self._renewals = renewals = Renewals(builder.loader, builder.closing)
        self._jobs = jobs = Jobs(loop, builder.closing, counters, crews, lambda: builder.site.root.device)
        self._live = live = Live(builder.site, service, config, news, self._plan)
        self.preparing = preparing = Preparing(builder, live, jobs, lambda: renewals.is_paused)
        self._releases = releases = Releases(config, builder, live, jobs, renewals, counters, preparing, built.report)
        self._patches = Patches(builder, live, jobs, self._releases, renewals, counters)
        self._rechecks = Rechecks(config.recheck_s, live, jobs, loop)
        self._filling = filling = Filling(builder, live, jobs, self.renew, self._on_filled)
        self.warming = warming = Warming(builder.site, service, builder.store)
        self.pinning = pinning = Pinning(live, jobs, builder.store, warming)
        self.purging = Purging(builder, live, jobs, self._patches, self._releases, warming, preparing, purge_results)
        self.readiness = Readiness(
            live,
            builder.store,
            report=lambda: releases.report,
            is_filling=lambda: not filling.is_over,
            is_loading=lambda: warming.is_busy or pinning.is_busy,
            is_draining=lambda: service.draining,
            drained_for=lambda: service.drained_for,
            call_soon=loop.call_soon,
            wanted_share=config.ready_share,
        )
        if built.generation.is_disturbed:
            again = self._releases.try_again_later()
            _log.warning("a file system does not work: all is walked again in %g s", again)
        live.tell_keys()
        live.follow(built.watcher)
        self._releases.tidy_variants()
        if not built.is_loaded:
            self._filling.begin()

    @property
    def is_loading(self) -> bool:
        """Whether what fits is still being loaded, though it is served: `--listen-when start`."""
        return not self._filling.is_over

    @property
    def site(self) -> Site:
        """Whose content it is."""
        return self._live.site

    @property
    def watcher(self) -> Watcher | None:
        """What follows the root, or None."""
        return self._live.watcher

    @property
    def events(self) -> int:
        """As `Live.events`."""
        return self._live.events

    def count_on(self, old: Content) -> None:
        """It takes the place of this one: what is counted does not begin anew."""
        self.site.hits += old.site.hits
        self.site.misses += old.site.misses
        self.counters.follow(old.counters)
        self._live.events_before += old.events

    @property
    def report(self) -> Preloaded:
        """What of the live generation is resident."""
        return self._releases.report

    @property
    def variants_pending(self) -> int:
        """Of how many files variants are still to be made."""
        return self._loader.variants.pending

    def warn_of_memory(self) -> None:
        """Say so where what is known of the files leaves no room for their content."""
        warn_of_memory(self._builder.store, self.report)

    def status(self) -> str:
        """What is served, in a line. In any thread."""
        told = f"serving: {self.told_of_memory()}"
        if self.is_loading:
            told += ", more are being loaded"
        return told + ("; the last reload failed, and is tried again" if self.has_failed else "")

    def told_of_memory(self) -> str:
        """How much of all sites is resident."""
        return f"{counted(self._builder.store.resident, 'file or variant', 'files and variants')} in memory"

    @property
    def has_failed(self) -> bool:
        """Whether the last reload failed; it is tried again."""
        return self._releases.due < inf

    def _on_filled(self, report: Preloaded) -> None:
        self._releases.report = report
        self.warn_of_memory()

    def reload(self, told: Callable[[str], object] | None = None) -> None:
        """Build the next generation beside the live one and flip to it; any thread may ask, and a signal's handler,
        which must take no locks. Returns at once. `told` hears in the loop's thread why it failed, or "" when what was
        there by now is served."""
        self._releases.ask(told)

    def catch_up(self) -> None:
        """As `Releases.catch_up`."""
        self._releases.catch_up()
        self._plan()  # the watcher's times: what is not whole yet may bring no event any more

    def when_known(self, then: Callable[[], None]) -> None:
        """As `Patches.when_known`."""
        self._patches.when_known(then)

    # --- while another process takes over -----------------------------------------------------------------

    def pause(self, then: Callable[[], None], ask: Ask) -> None:
        """Replace nothing any more but what the process that takes over knows, which `ask` asks; when that is so, call
        `then`."""
        self._renewals.pause(ask)
        self._plan()
        self._jobs.submit(self._jobs.patches, partial(self._paused, then))

    def _paused(self, then: Callable[[], None]) -> None:
        self._renewals.finish()
        self._jobs.call_soon(then)

    def resume(self) -> None:
        """No other process takes over: go on."""
        if self._renewals.is_paused:
            self._renewals.resume()
            self._plan()
            self.reload()  # one may have been given up

    def follow_on(self) -> None:
        """The process that takes over serves: go on, but only to what it knows of."""
        self._renewals.follow_on()
        self.preparing.tell_of_end("the new process knows nothing of it")
        self._plan()

    def stand_still(self) -> None:
        """Replace nothing any more."""
        self._renewals.stand_still()
        self._plan()

    def hand_over(self) -> Handing:
        """Another site is about to be made of the same files, and takes the place of this one. In any thread."""
        return Handing(self._live, self._jobs)

    # --- each turn ----------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """When to look again: at the time of a part, or when a generation's is over."""
        due = inf
        if not self._renewals.is_paused:
            due = min(self._patches.due(self._loop.now), self._releases.due, self._rechecks.due())
        self.due = min(due, self._live.next_over())
        self._loop.wake_at(self.due if not self._is_gone else inf, self)
        self.planned(self.due)

    def each_turn(self) -> None:
        """Hand what is due to the threads."""
        now = self._loop.now
        if now < self.due:
            return
        if over := self._live.take_over(now):
            self._releases.retire(over)
        try:
            if not self._renewals.is_paused:
                self._begin_what_is_due(now)
        finally:
            self._plan()  # whatever failed: else it would be tried again in each turn

    def _begin_what_is_due(self, now: float) -> None:
        if self._releases.due <= now:
            self._releases.try_again()
        if self._rechecks.due() <= now:
            self._rechecks.begin(now)
        if self._patches.due(now) <= now:
            self._patches.begin(now)

    # --- in the loaders' threads ----------------------------------------------------------------------------

    def renew(self, generation: Generation, entry: Entry) -> bool:
        """As `Fetcher.outdated`: what lies at a path now takes its entry's place, before the watcher tells of it. Not
        while the file is being written, and not when the root leads elsewhere: changes of the old root are no news."""
        if generation is not self.site.live:
            self._loader.succeed(generation, entry)
            return True
        if not generation.root.is_in_place():
            return False
        # First: what is written from then on is another file, and what is written by then has its events.
        fresh = entry_at(generation.root, entry.key)
        try:
            any(self._jobs.in_loop(self._live.read_events) for _ in range(READS_MAX))  # until all are read
            begun = self._jobs.in_loop(partial(self._begin_to_renew, entry))
        except ClosingError:
            return False
        if begun is not None and (watcher := self.watcher) is not None:
            watcher.is_renewed(path_of(entry), time.monotonic())  # no patch that is being made is laid over it
            self._jobs.call_soon(self._plan)
        if begun is None or not self._renewals.renew(generation, entry, fresh, begun, self._jobs.call_soon):
            return False
        self._jobs.call_soon(partial(self._live.forget_listing, entry.key))
        if fresh is None:
            self._jobs.call_soon(partial(self._live.settle, [entry.key, *keys_of(directory_of(entry.key))]))
        return True

    def _begin_to_renew(self, entry: Entry) -> Begun | None:
        if self.watcher is not None and self.watcher.holds(path_of(entry)):
            return None
        self._live.note_renewed(entry.key)  # in this step: what takes the live one's place comes before it, or knows
        return self._renewals.begin()

    # --- ending -------------------------------------------------------------------------------------------

    def leave(self) -> bool:
        """The site is served no more, and the server goes on: end the threads, once what they are at is over. In a
        thread, after `stand_still`. False where one goes on, or hangs. Raises ClosingError when the server ends."""
        over = threading.Event()
        self._jobs.submit(self._jobs.builders, partial(self._jobs.submit, self._jobs.patches, over.set))
        while not over.wait(CLOSING_SEEN_S):
            self._builder.go_on()
        self._jobs.in_loop(self._live.unfollow)
        self.preparing.tell_of_end("the site is built anew, or gone")
        ended = self.close()
        self._loop.call_soon(self._let_go)
        return ended

    def _let_go(self) -> None:
        """Break the circles: the parts tell this of what they do, and it holds them. A collector need not find them,
        and would not where they are frozen."""
        self._is_gone = True
        self.preparing.end()
        self._live.let_go()
        self._filling.let_go()
        for event in (self.planned, self._builder.rules_changed, self._builder.progress):
            event.close()
        self._loop.wake_at(inf, self)

    def end(self) -> None:
        """Have the threads end, and wait for none: `close` does."""
        self._builder.closing.set()

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """End the threads: they must not write into memory that is given back. False where one goes on, or hangs."""
        ended = self._jobs.close(within_s)
        if ended:  # in one step: the end of the server may come while the site leaves, in another thread
            watcher, self._live.watcher = self._live.watcher, None
            if watcher is not None:
                watcher.close()
            self.preparing.close()
        return ended

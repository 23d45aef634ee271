"""What is served, and how it is replaced while it is served.

A generation is built by a walk and loaded by `preload`; after that it changes in two ways:

- **A patch.** The watcher says what changed below the root; a thread looks at just that, loads it, and the loop lays
  the difference over the live generation, a piece between two turns. What was written meanwhile is left out: the
  watcher tells of it again when it is whole.
- **A flip.** The root leads elsewhere (`ln -sfn`), somebody asked (SIGHUP), or the watcher lost track: a thread builds
  the whole next generation beside the live one, sharing what is the same, and the loop changes one reference. What
  cannot be built leaves the old one serving. `keep_generations` of those that were flipped away stay reachable for
  requests that the live one has nothing for.

So a request meets old or new, never a mixture. Two threads do the work that may block, each one job after another:

    content   take changes -> look -> load -> [loop: lay over, piece by piece]        catch up -> [loop: flip]
    builder                      walk -> preload -> catch up -> compare -> catch up -> /             retire, log

Patches go on while the next generation is built. That has a watcher of its own, which told it of the same changes; it
catches up with them before the flip, the last time in the thread of the patches, so that none is laid over the live
generation meanwhile: nothing that was served is older after a flip. Only a root that leads elsewhere is an end: what
happens to a release that is being replaced no longer matters.

The loop reads the watcher's events, says when, and does the last step of each job. No step of it is long, however much
has changed: it reads events for EVENTS_READ_S, and lays KEYS_LAID_AT_ONCE keys over at a time. Nor is any step in C of
the threads, for it holds the GIL.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, compress, islice
from math import inf
from operator import is_not
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from zcserve import threads
from zcserve.cache.budget import eaten
from zcserve.cache.burial import bury, empty
from zcserve.cache.crew import CLOSE_WITHIN_S, Crew
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import ENTRY_BYTES, NOT_FOUND_KEY, Generation, Problem
from zcserve.cache.loader import ChangedError, Loader, path_of
from zcserve.cache.pinned import Pinned
from zcserve.cache.preload import Preloaded, Progress, preload, retire
from zcserve.cache.recheck import Recheck
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.cache.unseen import hide
from zcserve.cache.walk import SIBLING_CODINGS, Changes, Patch, walk, walk_again
from zcserve.cache.watcher import Watcher
from zcserve.config import Config, size_text
from zcserve.errors import NoThreadError, UsageError, reason_of
from zcserve.http import encode_path
from zcserve.log import Log
from zcserve.net.connection import Service
from zcserve.net.loop import Loop
from zcserve.renewals import Ask, Begun, Renewals

_log = Log(__name__)

# Problems named one by one; of more, only the number.
PROBLEMS_NAMED_MAX = 20
# A job that waits for the loop looks so often whether the server ends.
CLOSING_SEEN_S = 0.1
# So many keys are compared in C before another thread may have the GIL: a millisecond.
KEYS_AT_ONCE = 1_000
# So many keys of a patch are laid over the live generation between two turns of the loop: about a millisecond.
KEYS_LAID_AT_ONCE = 250
# The watcher's events are read for about so long in a turn: some hundred.
EVENTS_READ_S = 0.001
# How many turns the loop reads events before a piece of a patch is laid over all the same: a storm may have no end.
READS_MAX = 100
# How often the next generation catches up with what has changed before patches wait for it; each time takes less.
CATCH_UPS_MAX = 5
# How often a generation is built anew when its watcher has lost track by then.
BUILDS_MAX = 3
# While a generation is built, the events of its watcher are read so often: the kernel queues 16,384.
WATCHED_EVERY_S = 0.02
# What was just walked is rechecked for the first time after so long, or after an interval.
RECHECK_FIRST_AFTER_S = 10.0
# A reload that failed is tried again after so long, then after twice as long each time, up to this.
TRIED_AGAIN_AFTER_S = 1.0
TRIED_AGAIN_MAX_S = 60.0
# What a reload leaves is collected at once where that takes no longer; where it takes N times as long, every Nth time.
COLLECTION_S = 0.005
# So many keys of the fast lane are forgotten one by one; of more, all are.
KEYS_FORGOTTEN_MAX = 1000


Made = TypeVar("Made")


class _ClosingError(Exception):
    """The server ends: nobody waits for this generation."""


class _PausedError(Exception):
    """Another process takes over: nothing is replaced any more."""


class _LostError(Exception):
    """The root leads elsewhere: this patch is of no use."""


@dataclass(slots=True)
class Counters:
    """What became of the content since the start."""

    flips: int = 0
    failed: int = 0
    patches: int = 0
    changed: int = 0  # resources that patches replaced, added or took away
    rescans: int = 0  # walks of everything because the watcher lost track, or a patch failed


@dataclass(slots=True)
class Built:
    """A complete generation, its content loaded as far as it fits, and who follows its root (None: nobody)."""

    generation: Generation
    watcher: Watcher | None
    report: Preloaded

    @property
    def is_lost(self) -> bool:
        """Whether something may have changed that its watcher does not know of."""
        return self.watcher is not None and self.watcher.is_lost


@dataclass(slots=True)
class Caught:
    """What a generation caught up with: the keys, and the entries that it has no more or never had."""

    keys: set[bytes] = field(default_factory=set)
    unneeded: list[Entry] = field(default_factory=list)


class Builder:
    """Makes generations of one root."""

    def __init__(self, config: Config, store: Store, loader: Loader, pinned: Pinned) -> None:
        self.config = config
        self.store = store
        self.loader = loader
        self.pinned = pinned
        self.closing = threading.Event()  # nobody waits for what is being built

    def build(self, *, last: Generation | None = None, progress: bool = False) -> Built:
        """Build a generation, sharing what is the same in `last`. Raises UsageError."""
        show = Progress() if progress and sys.stderr.isatty() else None
        read_at = 0.0

        def note(done: int, total: int) -> None:
            nonlocal read_at
            self.go_on()
            if show is not None and total:
                show(done, total)
            if watcher is not None and (now := time.monotonic()) > read_at + WATCHED_EVERY_S:
                read_at = now
                watcher.read(now)

        root = Root(self.config.root)
        watcher = self._watch(root)
        try:
            found = partial(note, total=0)
            generation = walk(root, index=self.config.index, last=last, observer=watcher, progress=found)
            report = preload(
                generation, self.loader, first=self.pinned.first(generation), make_room=True, progress=note
            )
        except BaseException:
            if watcher is not None:
                _close(watcher)
            raise
        finally:
            if show is not None:
                show.clear()
        self.read_not_found_page(generation)
        if left := self.pinned.left_out(generation):
            size = size_text(sum(representation.size for representation in left))
            _log.warning("pinned: %d files, %s, do not fit into memory: sent from disk", len(left), size)
        return Built(generation, watcher, report)

    def go_on(self) -> None:
        """Raises _ClosingError when the server ends."""
        if self.closing.is_set():
            raise _ClosingError

    def _watch(self, root: Root) -> Watcher | None:
        if not self.config.watch:
            return None
        try:
            return Watcher(root)
        except OSError as error:
            _log.warning(
                "the root is not watched (%s; raise fs.inotify.max_user_instances or ulimit -n): "
                "changes are seen after SIGHUP only",
                reason_of(error),
            )
            return None

    def make_patch(
        self, generation: Generation, watcher: Watcher, changes: Changes, also: Generation | None = None
    ) -> Patch:
        """What these changes make of a generation, loaded; `also` has entries to share."""
        patch = walk_again(generation, changes, index=self.config.index, observer=watcher, also=also)
        if patch.resources:
            self._load(generation, watcher, patch)
        return patch

    def _load(self, generation: Generation, watcher: Watcher, patch: Patch) -> None:
        """Make resident what the patch brings: what fits, and whatever takes the place of something resident.

        What changes meanwhile leaves the patch: perhaps it is being written, and the watcher knows when it is whole.
        """
        fresh = Generation(generation.root)
        fresh.resources = {key: new for key, new in patch.resources.items() if new is not None}
        hide(fresh.resources)
        preload(fresh, self.loader, first=self.pinned.first(fresh), make_room=True, progress=lambda *_: self.go_on())
        for key in list(patch.resources):
            new = patch.resources[key]
            now, old = fresh.resources.get(key), generation.resources.get(key)
            if now is None:
                patch.resources[key] = None
            elif now is not new and isinstance(now, Entry):
                del patch.resources[key]
                self.loader.forget(now)
                watcher.look_again(path_of(now), time.monotonic())
            elif isinstance(now, Entry) and isinstance(old, Entry) and now.body is None and old.body is not None:
                if now.is_variant and not old.is_variant:
                    continue  # what was held under its own name is held as a variant now
                with suppress(ChangedError, OSError):  # it changed once more, which the watcher knows
                    self.loader.load(generation.root, now)
        self.read_not_found_page(fresh)
        patch.problems += fresh.problems
        patch.not_found_page = fresh.not_found_page

    def catch_up(self, built: Built, live: Generation | None = None) -> Caught:
        """Have a generation that is not served yet know of what has changed since it was built, as far as that is
        whole; of what is not, it has what the `live` one has, which was."""
        caught = Caught()
        watcher, generation = built.watcher, built.generation
        if watcher is None:
            return caught
        _read_all(watcher)
        if watcher.is_lost:
            return caught
        changes = watcher.take(time.monotonic())
        if changes:
            patch = self.make_patch(generation, watcher, changes, live)
            _read_all(watcher)
            caught.unneeded += _leave_out(patch, patch.resources, generation, watcher)
            was = [old for key in patch.resources if isinstance(old := generation.resources.get(key), Entry)]
            patch.apply(generation, patch.resources)
            caught.unneeded += [old for old in was if generation.resources.get(old.key) is not old]
            caught.keys |= patch.resources.keys()
            generation.problems += patch.problems
        if live is not None:
            for path in watcher.written():
                caught.keys |= _take_from(live, generation, path)
        return caught

    def read_not_found_page(self, generation: Generation) -> None:
        """Have the generation know the content of its 404.html."""
        generation.not_found_page = None
        entry = generation.resources.get(NOT_FOUND_KEY)
        if isinstance(entry, Entry):
            try:
                generation.not_found_page = self.loader.read(generation.root, entry)
            except (ChangedError, OSError) as error:
                generation.problems.append(Problem("404.html", f"is not used for 404: {reason_of(error)}"))


class Content:
    """The generations that a service serves, the present one first of all."""

    def __init__(self, builder: Builder, built: Built, loop: Loop, service: Service) -> None:
        """`service` has what was built already; `loop` does the last step of each change. Raises NoThreadError."""
        self.report = built.report
        self.counters = Counters()
        self.due = inf  # when `each_turn` has something to do
        self._builder = builder
        self._config = builder.config
        self._store = builder.store
        self._loader = builder.loader
        self._loop = loop
        self._service = service
        self._watcher: Watcher | None = None
        self._pool = Crew(1, "zcserve-content", stand_ins=0)
        self._builders = Crew(1, "zcserve-builder", stand_ins=0)
        # A thread of its own: it may hang with a file system, and changes elsewhere are followed all the same.
        self._rechecks = Crew(1, "zcserve-recheck", stand_ins=0) if self._config.recheck_s else None
        self._recheck: Recheck | None = None
        self._recheck_at = inf
        self._reload_asked = False
        self._laid: set[bytes] = set()  # keys of patches that came while the next generation was built
        self._is_building = False
        self._resumed = threading.Event()  # cleared while another process takes over
        self._resumed.set()
        self._collection_after = 0  # so many reloads
        self._try_again_at = inf  # the last reload failed: when it is tried again,
        self._tried_again_after = 0.0  # after so long
        self._busy = False  # a job of the watcher's is under way
        self._adrift = False  # the root leads to what cannot be served: what becomes of the old one is not followed
        self._renewals = Renewals(builder.loader, builder.closing)
        self._is_succeeded = False
        self._unknown: list[Callable[[], None]] = []  # of `when_known`
        service.fetcher.renew = self._renew
        if built.generation.is_disturbed:
            _log.warning("a file system does not work: all is walked again in %g s", self._try_again_later())
        self._follow(built.watcher)

    @property
    def generation(self) -> Generation:
        """What is served now."""
        return self._service.generation

    @property
    def watcher(self) -> Watcher | None:
        """Who follows the root, or None."""
        return self._watcher

    def warn_of_memory(self) -> None:
        """Say so where what is known of the files leaves no room for their content."""
        report = self.report
        if report.left_out and (told := eaten(self._store, report.files - report.variants, report.bytes)):
            _log.warning("%s", told)

    def reload(self) -> None:
        """Build the next generation beside the present one and flip to it; any thread may ask, and a signal's handler,
        which must take no locks. Returns at once."""
        if not self._builder.closing.is_set():
            self._reload_asked = True
            self._loop.call_soon(partial(self._submit, self._builders, self._reload))

    def catch_up(self) -> None:
        """Know of what has changed since the first generation was built, and build anew where the root leads elsewhere
        by now, or its watcher has lost track. Before the loop runs."""
        for _ in range(BUILDS_MAX):
            built = Built(self.generation, self._watcher, self.report)
            for _ in range(CATCH_UPS_MAX):
                caught = self._builder.catch_up(built)
                for entry in caught.unneeded:
                    self._loader.forget(entry)
                if not caught.keys:
                    break
            leads_elsewhere = built.watcher is not None and not self.generation.root.is_in_place()
            if not (built.is_lost or leads_elsewhere) or not self._flip_before_the_loop():
                break
        self._plan()  # the watcher's times: what is not whole yet may bring no event any more

    def _flip_before_the_loop(self) -> bool:
        """The process before this one may serve the next release already. Whether it could be built."""
        last, watcher = self.generation, self._watcher
        try:
            built = self._builder.build(last=last)
        except (UsageError, OSError) as error:
            self._reload_failed(error, last)
            return False
        changed = set(_difference(last, built.generation))
        over, _ = self._flip(built, changed)
        if watcher is not None:
            watcher.close()
        self._tidy_up(built, changed, over)
        return True

    def pause(self, then: Callable[[], None], ask: Ask) -> None:
        """Replace nothing any more but what the process that takes over knows, which `ask` asks; when that is so, call
        `then`. In the loop, and so are these."""
        self._renewals.pause(ask)
        self.stand_still()
        self._submit(self._pool, partial(self._paused, then))

    def follow_on(self) -> None:
        """The process that takes over serves: go on, but only to what it knows of. In the loop."""
        self._is_succeeded = True
        self._resumed.set()
        self._plan()

    def stand_still(self) -> None:
        """Replace nothing any more. In the loop."""
        self._resumed.clear()
        self._plan()

    def _paused(self, then: Callable[[], None]) -> None:
        self._renewals.finish()
        self._loop.call_soon(then)

    def resume(self) -> None:
        """Go on. In the loop."""
        if not self._resumed.is_set():
            self._resumed.set()
            self._renewals.resume()
            self._plan()
            self.reload()  # one may have been given up

    # --- in the loop --------------------------------------------------------------------------------------

    def _follow(self, watcher: Watcher | None) -> None:
        if watcher is not None:
            self._loop.add(watcher.fd, lambda _: self._read_events())
            if watcher.blind is not None:
                _log.warning("not everything is watched: %s; everything is walked now and then", watcher.blind)
        self._watcher = watcher
        self._recheck, self._recheck_at = None, inf
        if watcher is not None and self._rechecks is not None:
            self._recheck_at = self._loop.now  # made then: the watcher's generation is not the present one yet
        self._plan()

    def _read_events(self) -> bool:
        watcher, is_over = self._watcher, True
        try:
            if watcher is not None and not (is_over := watcher.read(self._loop.now, EVENTS_READ_S)):
                self._loop.again(self._read_events)
        except OSError as error:
            assert watcher is not None
            _log.warning("events of the root cannot be read: %s", error)
            watcher.rescan_later(f"events could not be read ({reason_of(error)})", self._loop.now)
        self._plan()
        return is_over

    def _plan(self) -> None:
        """When to look again: at the watcher's time, or when a generation's is over."""
        due = inf
        if self._watcher is not None and not self._busy and self._resumed.is_set():
            due = self._watcher.due(self._loop.now)
        if self._resumed.is_set():
            due = min(due, self._try_again_at, self._recheck_at)
        self.due = self._loop.wake_at = min([due, *(old.until for old in self.generation.older)])

    def each_turn(self) -> None:
        """Hand what is due to the threads."""
        now = self._loop.now
        if now < self.due:
            return
        generation = self.generation
        over = [old for old in generation.older if old.until <= now]
        if over:
            generation.older = tuple(old for old in generation.older if old.until > now)
            self._submit(self._builders, partial(self._retire, over))
        watcher = self._watcher
        try:
            if self._try_again_at <= now and self._resumed.is_set():
                self._try_again_at = inf
                self.reload()
            if self._recheck_at <= now and self._resumed.is_set():
                self._recheck_some(now)
            if watcher is not None and not self._busy and self._resumed.is_set() and watcher.due(now) <= now:
                self._busy = True
                self._submit(self._pool, partial(self._follow_changes, watcher, now))
        finally:
            self._plan()  # whatever failed: else it would be tried again in each turn

    def _recheck_some(self, now: float) -> None:
        """Have the next few names compared with what is known of them."""
        self._recheck_at = inf
        watcher, pool = self._watcher, self._rechecks
        if watcher is not None and pool is not None:
            if self._recheck is None:
                self._recheck = Recheck(self.generation, watcher, self._config.recheck_s)
                wait = min(self._config.recheck_s, RECHECK_FIRST_AFTER_S)  # what was just walked is as it was
                self._rechecked(self._recheck, wait)
            elif not self._adrift:
                self._submit(pool, partial(self._recheck_and_tell, self._recheck, now))

    def _recheck_and_tell(self, recheck: Recheck, now: float) -> None:
        """In the thread of rechecks."""
        wait = recheck.step(now)
        self._loop.call_soon(partial(self._rechecked, recheck, wait))

    def _rechecked(self, recheck: Recheck, wait: float) -> None:
        if recheck is self._recheck:
            self._recheck_at = self._loop.now + wait
            self._plan()

    def _in_loop(self, step: Callable[[], Made]) -> Made:
        """Have the loop make a step, between two turns, and wait until it has; what it gave. Raises _ClosingError."""
        return self._made_by(self._loop.call_soon, step)

    def _made_by(self, submit: Callable[[Callable[[], None]], object], step: Callable[[], Made]) -> Made:
        made: Future[Made] = Future()

        def make() -> None:
            try:
                made.set_result(step())
            except Exception as error:
                made.set_exception(error)

        submit(make)
        while not made.done() and not self._builder.closing.is_set():
            wait((made,), CLOSING_SEEN_S)
        if not made.done():  # and never will be: nobody closes before the loop has ended
            raise _ClosingError
        return made.result()

    # --- in the loaders' threads ----------------------------------------------------------------------------

    def _renew(self, generation: Generation, entry: Entry) -> bool:
        """Have what lies at an entry's path now take its place before the watcher says so: not while it is being
        written, and not when the root leads elsewhere, since what becomes of the old one is no news."""
        if generation is not self.generation:
            self._loader.succeed(generation, entry)
            return True
        if not generation.root.is_in_place():
            return False
        # First: what is written from then on is another file, and what is written by then has its events.
        fresh = self._loader.renew(generation.root, entry)
        try:
            any(self._in_loop(self._read_events) for _ in range(READS_MAX))  # until all are read
            begun = self._in_loop(partial(self._begin_to_renew, path_of(entry)))
        except _ClosingError:
            return False
        return begun is not None and self._renewals.renew(generation, entry, fresh, begun, self._loop.call_soon)

    def _begin_to_renew(self, path: bytes) -> Begun | None:
        return None if self._watcher is not None and self._watcher.holds(path) else self._renewals.begin()

    # --- in the threads -----------------------------------------------------------------------------------

    def _submit(self, pool: Crew, job: Callable[[], object]) -> None:
        if not self._builder.closing.is_set():
            pool.submit(partial(self._guarded, job))

    def _guarded(self, job: Callable[[], object]) -> None:
        try:
            job()
        except (_ClosingError, _PausedError):
            pass
        except Exception:
            _log.exception("the content could not be replaced, the old content goes on")
            self.counters.failed += 1

    # --- patches, in the content's thread -----------------------------------------------------------------

    def _follow_changes(self, watcher: Watcher, now: float) -> None:
        try:
            if watcher is not self._watcher:
                return  # it belongs to a generation that is gone
            changes = watcher.take(now)
            if changes.everything is not None:
                _log.info("everything is walked anew: %s", changes.everything)
                self._submit(self._builders, partial(self._build_for, watcher))
            elif changes and not self._adrift and self.generation.root.is_in_place():
                self._patch(watcher, changes)
        except OSError as error:
            self.counters.rescans += 1
            again, why = self._try_again_later(), reason_of(error)
            _log.error("an update failed, the old content goes on and is compared in %g s: %s", again, why)
            self.counters.failed += 1
        except Exception:
            self.counters.rescans += 1
            self._try_again_later()
            raise
        finally:
            self._in_loop(self._rest)

    def when_known(self, then: Callable[[], None]) -> None:
        """Call `then` when all that has changed by now is served; after the next flip, where the watcher has lost track
        or the root leads elsewhere. In the loop, and so is `then`."""
        self._submit(self._pool, partial(self._know, then))

    def _know(self, then: Callable[[], None]) -> None:
        watcher = self._watcher
        if watcher is not None:
            while not self._in_loop(partial(watcher.read, self._loop.now, EVENTS_READ_S)):
                pass
            if watcher.is_lost or not self.generation.root.is_in_place():
                self._unknown.append(then)
                return
            self._follow_changes(watcher, time.monotonic())
        self._loop.call_soon(then)

    def _rest(self) -> None:
        self._busy = False
        self._plan()

    def _patch(self, watcher: Watcher, changes: Changes) -> None:
        generation = self.generation
        patch = self._builder.make_patch(generation, watcher, changes)
        self._await_successor()
        if patch.resources:
            try:
                for entry in self._lay_over(watcher, generation, patch):
                    self._loader.forget(entry)
            except _LostError:
                self._forget_unless_live(
                    [new for new in patch.resources.values() if isinstance(new, Entry)], generation
                )
                return
            self._store.overhead = len(generation.resources) * ENTRY_BYTES
            generation.tidy()
        if patch.resources:
            self.counters.patches += 1
            self.counters.changed += len(patch.resources)
            _log.info("%s", _told(patch))
        tell_problems(patch.problems)

    def _await_successor(self) -> None:
        """What is to be served was read: where another process has taken over, wait until that has read no less."""
        if self._is_succeeded and not self._renewals.is_known(self._loop.call_soon):
            raise _ClosingError

    def _lay_over(self, watcher: Watcher, generation: Generation, patch: Patch) -> Iterator[Entry]:
        """Make the patch the truth, but for what was being written while it was looked at, of which the watcher will
        tell again. The entries that are not needed any more."""
        for keys in list(patch.pieces(generation.resources, KEYS_LAID_AT_ONCE)):
            for left in reversed(range(READS_MAX)):
                step = partial(self._lay_piece, watcher, generation, patch, keys, is_last_try=not left)
                if (unneeded := self._in_loop(step)) is not None:
                    yield from unneeded
                    break  # else the loop has taken in some events, and serves others before it takes in more

    def _lay_piece(
        self, watcher: Watcher, generation: Generation, patch: Patch, keys: list[bytes], *, is_last_try: bool
    ) -> list[Entry] | None:
        """In the loop: lay some keys over. None: not yet, there are events to be read first. Raises _LostError."""
        if not watcher.read(self._loop.now, EVENTS_READ_S) and not is_last_try:
            return None
        if watcher.is_lost and not generation.root.is_in_place():
            raise _LostError
        unneeded = _leave_out(patch, keys, generation, watcher)
        keys = [key for key in keys if key in patch.resources]
        known = generation.resources
        was = [old for key in keys if isinstance(old := known.get(key), Entry)]
        comes_or_goes = any(patch.resources[key] is None or key not in known for key in keys)
        patch.apply(generation, keys)
        if self._is_building:
            self._laid.update(keys)
        self._forget_keys(keys, files_come_or_go=comes_or_goes)
        unneeded += [old for old in was if known.get(old.key) is not old]
        return unneeded

    def _forget_keys(self, keys: Collection[bytes], *, files_come_or_go: bool = True) -> list[object]:
        """In the loop: the fast lane lets go of these, and the application of what it knew of them. What the lane gives
        up is for the thread to free."""
        if self._service.application is not None and files_come_or_go:
            self._service.application.forget(keys)
        lane = self._service.lane
        if lane is None:
            return []
        if len(keys) > KEYS_FORGOTTEN_MAX:
            return lane.clear(len(self.generation.resources))
        for key in keys:
            lane.forget_key(key)
        return []

    # --- flips, in the builder's thread -------------------------------------------------------------------

    def _reload(self) -> None:
        if self._reload_asked:  # else the reload that just ended began after this one was asked for
            self._reload_asked = False
            self._build_next()

    def _build_for(self, watcher: Watcher) -> None:
        """Build the next generation since a watcher has lost track."""
        if watcher is not self._watcher:
            return  # that is done already
        self.counters.rescans += self.generation.root.is_in_place()  # else it is a release
        self._build_next()

    def _build_next(self) -> None:
        last, watcher = self.generation, self._watcher
        self._try_again_at = inf
        self._laid = set()
        self._is_building = True
        try:
            built, changed, over = self._build_and_compare(last)
        except (UsageError, OSError) as error:
            self._reload_failed(error, last)
            self._in_loop(self._plan)
            return
        except (_ClosingError, _PausedError):
            raise
        except Exception:
            self._try_again_later()
            self._in_loop(self._plan)
            raise
        finally:
            self._is_building = False
        self._adrift = False
        self._tried_again_after = 0.0
        if watcher is not None:
            _close(watcher)
        self._tidy_up(built, changed, over)

    def _reload_failed(self, error: UsageError | OSError, last: Generation) -> None:
        self._adrift = isinstance(error, UsageError) or not last.root.is_in_place()
        again = self._try_again_later()
        _log.error("reload failed, the old content goes on; tried again in %g s: %s", again, error)
        self.counters.failed += 1  # last: who sees it counted finds it told

    def _try_again_later(self) -> float:
        """Reload by itself, unless something else has it reloaded before; in how many seconds."""
        wait = self._tried_again_after = min(max(self._tried_again_after * 2, TRIED_AGAIN_AFTER_S), TRIED_AGAIN_MAX_S)
        self._try_again_at = time.monotonic() + wait
        return wait

    def _build_and_compare(self, last: Generation) -> tuple[Built, set[bytes], list[Generation]]:
        """The next generation, flipped to; which keys lead elsewhere than in the `last`, or perhaps do; whose time is
        over."""
        for left in reversed(range(BUILDS_MAX)):
            built = self._builder.build(last=last)
            try:
                changed = self._caught_up(built, last)
                changed.update(_difference(last, built.generation))
                changed |= self._caught_up(built, last)
                if not built.is_lost or not left:
                    over = self._made_by(partial(self._submit, self._pool), partial(self._take_over, built, changed))
                    return built, changed, over
            except BaseException:
                if built.watcher is not None:
                    _close(built.watcher)
                raise
            assert built.watcher is not None
            _close(built.watcher)
            retire(built.generation, last, self._loader)
        raise AssertionError

    def _caught_up(self, built: Built, last: Generation) -> set[bytes]:
        """Have what was built catch up with what has changed since, until that is nothing; the keys."""
        keys: set[bytes] = set()
        for _ in range(CATCH_UPS_MAX):
            caught = self._builder.catch_up(built, last)
            self._forget_unless_live(caught.unneeded, last)
            keys |= caught.keys
            if not caught.keys:
                break
        return keys

    def _forget_unless_live(self, entries: Collection[Entry], live: Generation) -> None:
        for entry in entries:
            if live.resources.get(entry.key) is not entry:
                self._loader.forget(entry)

    def _take_over(self, built: Built, changed: set[bytes]) -> list[Generation]:
        """In the content's thread, so that nothing is patched meanwhile: catch up with the rest, and flip."""
        if not self._resumed.is_set():
            raise _PausedError
        last = self.generation
        caught = self._builder.catch_up(built, last)
        changed |= caught.keys
        self._await_successor()
        over, given_up = self._in_loop(partial(self._flip, built, changed))
        self._forget_unless_live(caught.unneeded, built.generation)
        bury(given_up)
        return over

    def _flip(self, built: Built, changed: set[bytes]) -> tuple[list[Generation], list[object]]:
        """In the loop: the next generation is the present one. Whose time is over, and what the lane gave up."""
        last, generation, watcher = self.generation, built.generation, self._watcher
        self._follow(built.watcher)  # first, since it can fail
        last.until = self._loop.now + self._config.keep_for_s
        changed |= self._laid
        older = (last, *last.older)
        kept = self._config.keep_generations
        generation.older, last.older = older[:kept], ()
        self._service.generation = generation
        if watcher is not None:
            self._loop.forget(watcher.fd)
        self._plan()
        unknown, self._unknown = self._unknown, []
        for then in unknown:
            self.when_known(then)
        return list(older[kept:]), self._forget_keys(changed)

    def _tidy_up(self, built: Built, changed: set[bytes], over: list[Generation]) -> None:
        """After a flip: let go of what is not needed any more, and tell."""
        generation, report = built.generation, built.report
        self._loader.variants.follow(generation)
        self._store.overhead = len(generation.resources) * ENTRY_BYTES
        self._retire(over, None if self._config.keep_generations else changed)
        if report.left_out:
            for old in generation.older:
                retire(old, generation, self._loader)  # reachable still, but the new content needs the room
            report = preload(generation, self._loader)  # where the last generation was, there is room now
        self.report = report
        self.counters.flips += 1
        files = report.files - report.variants
        _log.info("reloaded: %d files, %d changed or gone, %s", files, len(changed), resident(report))
        report_problems(generation.problems)
        self.warn_of_memory()
        self._loader.variants.tidy()
        self._collect()

    def _retire(self, over: list[Generation], keys: Collection[bytes] | None = None) -> None:
        """Their time is over: forget what only they have. It stands under `keys`, if that is known."""
        generation = self.generation
        kept = {id(entry) for old in generation.older for entry in old.entries()}
        for old in over:
            for key in keys if keys is not None else chain.from_iterable(old.keys_in_pieces()):
                entry = old.resources.get(key)
                if not isinstance(entry, Entry) or id(entry) in kept:
                    continue
                if generation.resources.get(entry.key) is not entry:
                    self._loader.forget(entry)
            empty(old.resources)  # so that a thread that loads for it knows, and not all of it ends at once

    def _collect(self) -> None:
        """Collect what the last release's servlets and the like have left. The content is out of the collector's sight
        (cache/unseen.py), but an application's objects are not, and may be many."""
        self._collection_after -= 1
        if self._collection_after <= 0:
            began = time.thread_time()
            gc.collect()
            self._collection_after = int((time.thread_time() - began) / COLLECTION_S)

    # --- ending -------------------------------------------------------------------------------------------

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """End the thread: it must not write into memory that is given back. False where it goes on, or hangs."""
        self._builder.closing.set()
        until = time.monotonic() + within_s
        ended = self._builders.close(within_s)
        ended &= self._pool.close(max(until - time.monotonic(), 0))
        if self._rechecks is not None:
            ended &= self._rechecks.close(max(until - time.monotonic(), 0))
        if self._watcher is not None and ended:
            self._watcher.close()
            self._watcher = None
        return ended


def _read_all(watcher: Watcher) -> None:
    while not watcher.read(time.monotonic()):
        pass


def _is_whole(key: bytes, watcher: Watcher) -> bool:
    """Whether neither a file nor one of its siblings was written since the watcher was asked for changes."""
    path = unquote_to_bytes(key)[1:]
    return not (watcher.was_written(path) or any(watcher.was_written(path + ending) for ending in SIBLING_CODINGS))


def _leave_out(patch: Patch, keys: Collection[bytes], known: Generation, watcher: Watcher) -> list[Entry]:
    """Take out of these keys of a patch what was written meanwhile; the entries that the patch had for it."""
    if not watcher.writes:
        return []
    out = {key for key in keys if not _is_whole(key, watcher)}
    for directory in [key for key in keys if key.endswith(b"/")]:
        index = patch.resources[directory] or known.resources.get(directory)
        if isinstance(index, Entry) and index.key in out:
            out |= {directory, directory[:-1]} & patch.resources.keys()
    left_out = {id(new): new for key in out if isinstance(new := patch.resources.pop(key), Entry)}
    return list(left_out.values())


def _take_from(live: Generation, generation: Generation, path: bytes) -> set[bytes]:
    """Have a generation know of a file, or the one that it is a sibling of, what the live one knows. The keys."""
    key = encode_path(b"/" + path)
    names = [key, *(key.removesuffix(ending) for ending in SIBLING_CODINGS if path.endswith(ending))]
    directory = key[: key.rfind(b"/") + 1]
    here, there = generation.resources.get, live.resources.get
    if any(isinstance(index := find(directory), Entry) and index.key in names for find in (here, there)):
        names += [directory, directory[:-1]]
    other = [name for name in names if here(name) is not there(name)]
    generation.lay_over(other, {name: there(name) for name in other})
    return set(other)


def _difference(last: Generation, generation: Generation) -> Iterator[bytes]:
    """The keys that lead elsewhere than they did, or nowhere. `last` may be patched meanwhile."""
    now, was = generation.resources.get, last.resources.get
    shared = 0
    keys = iter(generation.resources)
    while some := list(islice(keys, KEYS_AT_ONCE)):
        shared += len(some)
        for key in compress(some, map(is_not, map(was, some), map(now, some))):
            old = was(key)
            if old is None:
                shared -= 1
            elif not (isinstance(old, Redirect) and isinstance(now(key), Redirect)):
                yield key  # redirects are made anew; of one key there is but one place to go
    if shared < len(last.resources):
        yield from (key for key in chain.from_iterable(last.keys_in_pieces()) if key not in generation.resources)


def _close(watcher: Watcher) -> None:
    """Close a watcher, in a thread of its own: the kernel first waits for everybody who is about to tell of an event,
    16 ms on a busy machine and seconds at worst, and nobody here need wait with it."""
    try:
        threads.start(watcher.close, "zcserve-closing")
    except NoThreadError:
        watcher.close()


def tell_problems(problems: Sequence[Problem]) -> None:
    """Name some of them in the log, and count the rest: a checkout can have thousands at once."""
    for problem in problems[:PROBLEMS_NAMED_MAX]:
        _log.warning("%s: %s", problem.path, problem.why)
    if len(problems) > PROBLEMS_NAMED_MAX:
        _log.warning("and %d more", len(problems) - PROBLEMS_NAMED_MAX)


def report_problems(problems: Sequence[Problem]) -> None:
    """Say what is not served, in the log."""
    tell_problems(problems)
    if problems:
        _log.warning("%d files are not served as they lie there", len(problems))


def resident(report: Preloaded) -> str:
    """What is in memory, in words."""
    files = report.resident_files - report.resident_variants
    variants = f" with {report.resident_variants} variants" if report.resident_variants else ""
    text = f"{files} resident{variants} ({size_text(report.resident_bytes)})"
    if report.left_out:
        missing = report.variants - report.resident_variants
        text += f", {report.left_out - missing}" + (f" and {missing} variants" if missing else "")
        text += f" stay on disk until asked for ({size_text(report.bytes - report.resident_bytes)})"
    return text


def _told(patch: Patch) -> str:
    gone = sum(new is None for new in patch.resources.values())
    named = next(iter(patch.resources)).decode()
    more = f" and {len(patch.resources) - 1} more" if len(patch.resources) > 1 else ""
    return f"updated: {len(patch.resources) - gone} changed, {gone} gone: {named}{more}"

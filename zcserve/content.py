"""What is served, and how it is replaced while it is served.

A generation is built by a walk and loaded by `preload`; after that it changes in two ways:

- **A patch.** The watcher says what changed below the root; a thread looks at just that, loads it, and the loop lays
  the difference over the live generation between two turns. What was written meanwhile is left out: the watcher
  tells of it again when it is whole.
- **A flip.** The root leads elsewhere (`ln -sfn`), somebody asked (SIGHUP), or the watcher lost track: a thread builds
  the whole next generation beside the live one, sharing what is the same, and the loop changes one reference. What
  cannot be built leaves the old one serving. `keep_generations` of those that were flipped away stay reachable for
  requests that the live one has nothing for.

So a request meets old or new, never a mixture. All work that may block is done by one thread, one job after another;
the loop reads the watcher's events, says when, and does the last step of each job. While a flip is under way no patch
is made: what happens to a release that is being replaced no longer matters.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import compress
from math import inf
from operator import is_not
from typing import Any, cast

from zcserve import threads
from zcserve.cache.crew import CLOSE_WITHIN_S, Crew
from zcserve.cache.entry import Entry, Redirect
from zcserve.cache.index import ENTRY_BYTES, NOT_FOUND_KEY, Generation, Problem
from zcserve.cache.loader import ChangedError, Loader, path_of
from zcserve.cache.pinned import Pinned
from zcserve.cache.preload import Preloaded, forget, preload, retire
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.cache.walk import SIBLING_CODINGS, Changes, Patch, walk, walk_again
from zcserve.cache.watcher import Watcher
from zcserve.config import Config, size_text
from zcserve.errors import NoThreadError, UsageError
from zcserve.http import encode_path
from zcserve.log import Log
from zcserve.net.connection import Service
from zcserve.net.loop import Loop

_log = Log(__name__)

# Problems named one by one; of more, only the number.
PROBLEMS_NAMED_MAX = 20
# Preloading shows its progress on a terminal when it takes longer than this.
PROGRESS_AFTER_S = 1.0
# A job that waits for the loop looks so often whether the server ends.
CLOSING_SEEN_S = 0.1
# So many keys are compared in C before another thread may have the GIL: some milliseconds.
KEYS_AT_ONCE = 20_000
# So many keys of the fast lane are forgotten one by one; of more, all are.
KEYS_FORGOTTEN_MAX = 1000


class _ClosingError(Exception):
    """The server ends: nobody waits for this generation."""


@dataclass(slots=True)
class Counters:
    """What became of the content since the start."""

    flips: int = 0
    failed: int = 0
    patches: int = 0
    changed: int = 0  # resources that patches replaced, added or took away
    rescans: int = 0  # flips because the watcher lost track


@dataclass(slots=True)
class Built:
    """A complete generation, its content loaded as far as it fits, and who follows its root (None: nobody)."""

    generation: Generation
    watcher: Watcher | None
    report: Preloaded


class Builder:
    """Makes generations of one root."""

    def __init__(
        self, config: Config, store: Store, loader: Loader, pinned: Pinned, *, foreground: bool = False
    ) -> None:
        """`foreground`: the process is ours alone."""
        self.config = config
        self.store = store
        self.loader = loader
        self.pinned = pinned
        self.closing = threading.Event()  # nobody waits for what is being built
        self._foreground = foreground

    def build(self, *, last: Generation | None = None, progress: bool = False) -> Built:
        """Build a generation, sharing what is the same in `last`. Raises UsageError."""
        show = _Progress() if progress and sys.stderr.isatty() else None

        def note(done: int, total: int) -> None:
            self.go_on()
            if show is not None and total:
                show(done, total)

        root = Root(self.config.root)
        watcher = self._watch(root)
        gc.disable()  # a hundred thousand new objects, and not one of them garbage
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
            if self._foreground:
                gc.freeze()  # in somebody else's process, what is frozen would outlive its server
            gc.enable()
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
                "the root is not watched (%s; raise fs.inotify.max_user_instances): changes are seen after SIGHUP only",
                error.strerror,
            )
            return None

    def read_not_found_page(self, generation: Generation) -> None:
        """Have the generation know the content of its 404.html."""
        generation.not_found_page = None
        entry = generation.resources.get(NOT_FOUND_KEY)
        if isinstance(entry, Entry):
            try:
                generation.not_found_page = self.loader.read(generation.root, entry)
            except (ChangedError, OSError) as error:
                generation.problems.append(Problem("404.html", f"is not used for 404: {error}"))


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
        self._thread = Crew(1, "zcserve-content", stand_ins=0)
        self._reload_asked = False
        self._busy = False  # a job of the watcher's is under way
        self._adrift = False  # the root leads to what cannot be served: what becomes of the old one is not followed
        service.fetcher.may_renew = self._may_renew
        self._follow(built.watcher)

    @property
    def generation(self) -> Generation:
        """What is served now."""
        return self._service.generation

    @property
    def watcher(self) -> Watcher | None:
        """Who follows the root, or None."""
        return self._watcher

    def reload(self) -> None:
        """Build the next generation beside the present one and flip to it; any thread may ask, and a signal's handler,
        which must take no locks. Returns at once."""
        if not self._builder.closing.is_set():
            self._reload_asked = True
            self._loop.call_soon(partial(self._submit, self._reload))

    # --- in the loop --------------------------------------------------------------------------------------

    def _follow(self, watcher: Watcher | None) -> None:
        if watcher is not None:
            self._loop.add(watcher.fd, lambda _: self._read_events())
            if watcher.blind is not None:
                _log.warning("not everything is watched: %s; everything is walked now and then", watcher.blind)
        self._watcher = watcher
        self._plan()

    def _read_events(self) -> None:
        watcher = self._watcher
        try:
            if watcher is not None and not watcher.read(self._loop.now):
                self._loop.again(self._read_events)
        except OSError as error:
            assert watcher is not None
            _log.warning("events of the root cannot be read: %s", error)
            watcher.rescan_later(f"events could not be read ({error.strerror})", self._loop.now)
        self._plan()

    def _plan(self) -> None:
        """When to look again: at the watcher's time, or when a generation's is over."""
        due = self._watcher.due(self._loop.now) if self._watcher is not None and not self._busy else inf
        self.due = self._loop.wake_at = min([due, *(old.until for old in self.generation.older)])

    def each_turn(self) -> None:
        """Hand what is due to the thread."""
        now = self._loop.now
        if now < self.due:
            return
        generation = self.generation
        over = [old for old in generation.older if old.until <= now]
        if over:
            generation.older = tuple(old for old in generation.older if old.until > now)
            self._submit(partial(self._retire, over))
        watcher = self._watcher
        try:
            if watcher is not None and not self._busy and watcher.due(now) <= now:
                changes = watcher.take(now)
                if changes:
                    self._busy = True
                    self._submit(partial(self._follow_changes, watcher, changes))
        finally:
            self._plan()  # whatever failed: else it would be tried again in each turn

    def _in_loop(self, step: Callable[[], object]) -> object:
        """Have the loop make a step, between two turns, and wait until it has; what it gave. Raises _ClosingError."""
        made: Future[object] = Future()

        def make() -> None:
            try:
                made.set_result(step())
            except Exception as error:
                made.set_exception(error)

        self._loop.call_soon(make)
        while not made.done() and not self._builder.closing.is_set():
            wait((made,), CLOSING_SEEN_S)
        if not made.done():  # and never will be: nobody closes before the loop has ended
            raise _ClosingError
        return made.result()

    # --- in the loaders' threads ----------------------------------------------------------------------------

    def _may_renew(self, generation: Generation, entry: Entry) -> bool:
        """Whether what lies at an entry's path now may take its place before the watcher says so: not while it is being
        written, and not when the root leads elsewhere, since what becomes of the old one is no news."""
        if generation is not self.generation:
            return True
        try:
            return generation.root.is_in_place() and not self._in_loop(partial(self._is_held, path_of(entry)))
        except _ClosingError:
            return False

    def _is_held(self, path: bytes) -> bool:
        self._read_events()
        return self._watcher is not None and self._watcher.holds(path)

    # --- in the thread ------------------------------------------------------------------------------------

    def _submit(self, job: Callable[[], None]) -> None:
        if not self._builder.closing.is_set():
            self._thread.submit(partial(self._guarded, job))

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except _ClosingError:
            pass
        except Exception:
            _log.exception("the content could not be replaced, the old content goes on")
            self.counters.failed += 1

    # --- patches ------------------------------------------------------------------------------------------

    def _follow_changes(self, watcher: Watcher, changes: Changes) -> None:
        try:
            if watcher is not self._watcher:
                pass  # it belongs to a generation that is gone
            elif changes.everything is not None:
                _log.info("everything is walked anew: %s", changes.everything)
                self.counters.rescans += self.generation.root.is_in_place()  # else it is a release
                self._build_next()
            elif not self._adrift:
                self._patch(watcher, changes)
        except Exception as error:
            watcher.rescan_later(f"an update failed ({error})", self._loop.now)
            raise
        finally:
            self._in_loop(self._rest)

    def _rest(self) -> None:
        self._busy = False
        self._plan()

    def _patch(self, watcher: Watcher, changes: Changes) -> None:
        generation = self.generation
        patch = walk_again(generation, changes, index=self._config.index, observer=watcher)
        page = self._load(watcher, generation, patch) if patch.resources else None
        if patch.resources:
            replaced, given_up = cast(
                tuple[list[Entry], list[object]],
                self._in_loop(lambda: self._lay_over(watcher, generation, patch, page)),
            )
            _bury(given_up)
            for entry in replaced:
                forget(self._store, entry)
            self._store.overhead = len(generation.resources) * ENTRY_BYTES
        if patch.resources:
            self.counters.patches += 1
            self.counters.changed += len(patch.resources)
            _log.info("%s", _told(patch))
        for problem in patch.problems:
            _log.warning("%s: %s", problem.path, problem.why)

    def _load(self, watcher: Watcher, generation: Generation, patch: Patch) -> bytes | None:
        """Make resident what the patch brings: what fits, and whatever takes the place of something resident. The new
        404 page, if the patch has one.

        What changes meanwhile leaves the patch: perhaps it is being written, and the watcher knows when it is whole.
        """
        fresh = Generation(generation.root)
        fresh.resources = {key: new for key, new in patch.resources.items() if new is not None}
        first = self._builder.pinned.first(fresh)
        preload(fresh, self._loader, first=first, make_room=True, progress=lambda *_: self._builder.go_on())
        for key, new in list(patch.resources.items()):
            now, old = fresh.resources.get(key), generation.resources.get(key)
            if now is None:
                patch.resources[key] = None
            elif now is not new and isinstance(now, Entry):
                del patch.resources[key]
                forget(self._store, now)
                watcher.look_again(path_of(now), self._loop.now)
            elif isinstance(now, Entry) and isinstance(old, Entry) and now.body is None and old.body is not None:
                with suppress(ChangedError, OSError):  # it changed once more, which the watcher knows
                    self._loader.load(generation.root, now)
        self._builder.read_not_found_page(fresh)
        patch.problems += fresh.problems
        return fresh.not_found_page

    def _lay_over(
        self, watcher: Watcher, generation: Generation, patch: Patch, not_found_page: bytes | None
    ) -> tuple[list[Entry], list[object]]:
        """In the loop: make the patch the truth, but for what was being written while it was looked at, of which the
        watcher will tell again. The entries that are not needed any more, and what the lane gave up."""
        self._read_events()
        unneeded = [new for path in watcher.written() for new in _leave_out(patch, path)]
        was = [old for key in patch.resources if isinstance(old := generation.resources.get(key), Entry)]
        patch.apply(generation)
        if NOT_FOUND_KEY in patch.resources:
            generation.not_found_page = not_found_page
        unneeded += [old for old in was if generation.resources.get(old.key) is not old]
        return unneeded, self._forget_keys(patch.resources)

    def _forget_keys(self, keys: Collection[bytes]) -> list[object]:
        """In the loop: the fast lane lets go of these, and the application of what it knew of them. What the lane gives
        up is for the thread to free."""
        if self._service.application is not None:
            self._service.application.forget()
        lane = self._service.lane
        if lane is None:
            return []
        if len(keys) > KEYS_FORGOTTEN_MAX:
            return lane.clear()
        for key in keys:
            lane.forget_key(key)
        return []

    # --- flips --------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        if self._reload_asked:  # else the reload that just ended began after this one was asked for
            self._reload_asked = False
            self._build_next()

    def _build_next(self) -> None:
        last, watcher = self.generation, self._watcher
        try:
            built = self._builder.build(last=last)
        except (UsageError, OSError) as error:
            self._adrift = isinstance(error, UsageError) or not last.root.is_in_place()
            if watcher is not None:
                watcher.rescan_later("the last reload failed", self._loop.now)
            _log.error("reload failed, the old content goes on: %s", error)
            self.counters.failed += 1  # last: who sees it counted finds it told
            self._in_loop(self._plan)
            return
        generation, report = built.generation, built.report
        changed = _difference(last, generation)
        try:
            over, given_up = cast(
                tuple[list[Generation], list[object]], self._in_loop(lambda: self._flip(built, changed))
            )
        except BaseException:
            if built.watcher is not None:
                _close(built.watcher)
            raise
        self._adrift = False
        if watcher is not None:
            _close(watcher)
        _bury(given_up)
        self._store.overhead = len(generation.resources) * ENTRY_BYTES
        self._retire(over, None if self._config.keep_generations else changed)
        if report.left_out:
            for old in generation.older:
                retire(old, generation, self._loader)  # reachable still, but the new content needs the room
            report = preload(generation, self._loader)  # where the last generation was, there is room now
        self.report = report
        self.counters.flips += 1
        _log.info("reloaded: %d files, %d changed or gone, %s", report.files, len(changed), resident(report))
        report_problems(generation)

    def _flip(self, built: Built, changed: list[bytes]) -> tuple[list[Generation], list[object]]:
        """In the loop: the next generation is the present one. Whose time is over, and what the lane gave up."""
        last, generation, watcher = self.generation, built.generation, self._watcher
        self._follow(built.watcher)  # first, since it can fail
        last.until = self._loop.now + self._config.keep_for_s
        older = (last, *last.older)
        kept = self._config.keep_generations
        generation.older, last.older = older[:kept], ()
        self._service.generation = generation
        if watcher is not None:
            self._loop.forget(watcher.fd)
        self._plan()
        return list(older[kept:]), self._forget_keys(changed)

    def _retire(self, over: list[Generation], keys: Collection[bytes] | None = None) -> None:
        """Their time is over: forget what only they have. It stands under `keys`, if that is known."""
        generation = self.generation
        kept = {id(entry) for old in generation.older for entry in old.entries()}
        for old in over:
            for key in keys if keys is not None else list(old.resources):
                entry = old.resources.get(key)
                if not isinstance(entry, Entry) or id(entry) in kept:
                    continue
                if generation.resources.get(entry.key) is not entry:
                    forget(self._store, entry)
            _empty(old.resources)  # so that a thread that loads for it knows, and not all of it ends at once

    # --- ending -------------------------------------------------------------------------------------------

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """End the thread: it must not write into memory that is given back. False where it goes on, or hangs."""
        self._builder.closing.set()
        ended = self._thread.close(within_s)
        if self._watcher is not None and ended:
            self._watcher.close()
            self._watcher = None
        return ended


def _leave_out(patch: Patch, path: bytes) -> Iterator[Entry]:
    """Take a file out of a patch, or the one that it is a sibling of: what the patch had for it."""
    keys = [encode_path(b"/" + path)]
    keys += [keys[0].removesuffix(ending) for ending in SIBLING_CODINGS if path.endswith(ending)]
    for key in keys:
        if key in patch.resources:
            new, directory = patch.resources.pop(key), key[: key.rfind(b"/") + 1]
            if directory in patch.resources and patch.resources[directory] is new:  # its index
                del patch.resources[directory]
                patch.resources.pop(directory[:-1], None)
            if isinstance(new, Entry):
                yield new


def _difference(last: Generation, generation: Generation) -> list[bytes]:
    """The keys that lead elsewhere than they did, or nowhere."""
    now = generation.resources.get
    was = last.resources.get
    changed: list[bytes] = []
    keys = list(last.resources)
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        changed += compress(some, map(is_not, map(was, some), map(now, some)))
    # Redirects are made anew; of one key there is but one place to go.
    return [key for key in changed if not (isinstance(was(key), Redirect) and isinstance(now(key), Redirect))]


def _close(watcher: Watcher) -> None:
    """Close a watcher, in a thread of its own: the kernel first waits for everybody who is about to tell of an event,
    16 ms on a busy machine and seconds at worst, and nobody here need wait with it."""
    try:
        threads.start(watcher.close, "zcserve-closing")
    except NoThreadError:
        watcher.close()


def _empty(table: dict[Any, Any]) -> None:
    """One by one: to free a hundred thousand objects at a stroke would hold the loop up."""
    while table:
        table.popitem()


def _bury(given_up: list[object]) -> None:
    """Free what the lane gave up, likewise."""
    while given_up:
        one = given_up.pop()
        if isinstance(one, dict):
            _empty(one)


class _Progress:
    """How far preloading is, on a terminal."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._began > PROGRESS_AFTER_S and now - self._shown > 0.1:
            self._shown = now
            print(f"\rloading   {done} of {total} files ({100 * done // total}%)", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown != self._began:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def report_problems(generation: Generation) -> None:
    """Say what is not served, in the log."""
    for problem in generation.problems[:PROBLEMS_NAMED_MAX]:
        _log.warning("%s: %s", problem.path, problem.why)
    if len(generation.problems) > PROBLEMS_NAMED_MAX:
        _log.warning("and %d more", len(generation.problems) - PROBLEMS_NAMED_MAX)
    if generation.problems:
        _log.warning("%d files are not served as they lie there", len(generation.problems))


def resident(report: Preloaded) -> str:
    """What is in memory, in words."""
    text = f"{report.resident_files} resident ({size_text(report.resident_bytes)})"
    if report.left_out:
        text += f", {report.left_out} stay on disk until asked for ({size_text(report.bytes - report.resident_bytes)})"
    return text


def _told(patch: Patch) -> str:
    gone = sum(new is None for new in patch.resources.values())
    named = next(iter(patch.resources)).decode()
    more = f" and {len(patch.resources) - 1} more" if len(patch.resources) > 1 else ""
    return f"updated: {len(patch.resources) - gone} changed, {gone} gone: {named}{more}"

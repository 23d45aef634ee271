"""Generations and patches of one root: walked, loaded as far as they fit, and caught up with what has changed since."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation, Problem
from zcserve.cache.instance import Instance
from zcserve.cache.loader import Loader
from zcserve.cache.naming import path_of
from zcserve.cache.pairing import entry_at
from zcserve.cache.patch import Patch
from zcserve.cache.preload import Faults, Preloaded, preload, survey
from zcserve.cache.reading import ChangedError
from zcserve.cache.root import SCARCE, Root
from zcserve.cache.ruled import changed_files, open_root
from zcserve.cache.shards import Shards, marked, tables_of
from zcserve.cache.store import Store
from zcserve.cache.walk import Changes, walk, walk_again
from zcserve.cache.watcher import Watcher
from zcserve.config.table import Config
from zcserve.config.units import counted, size_text
from zcserve.content.merging import leave_out, take_from
from zcserve.content.missed import idle_pin, missed_by_rules
from zcserve.content.noted import Noted
from zcserve.content.told import PROGRESS_AFTER_S, loading
from zcserve.errors import reason_of
from zcserve.events import Event
from zcserve.log import Log
from zcserve.progress import Meter
from zcserve.rules.book import Rulebook
from zcserve.rules.bounds import FILES
from zcserve.site.site import Site

_log = Log(__name__)

# While a generation is built, the events of its watcher are read so often: the kernel queues 16,384.
WATCHED_EVERY_S = 0.02
# How often a page for errors may change while it is read.
TRIES = 3


# Is told files done and files in all, and may raise.
Note: TypeAlias = Callable[[int, int], None]


class SteppedAsideError(Exception):
    """Something else waits for the thread."""


def _expect_nothing(keys: Iterable[bytes]) -> None:
    """Of a generation that answers nothing yet."""


class ClosingError(Exception):
    """The server ends: what is being built is for nothing."""


@dataclass(slots=True)
class Built:
    """A complete generation, and what follows its root (None: nothing does).

    is_loaded  as far as it fits
    noted      what has changed of the live generation meanwhile, of whose files it may have some under names of its
               own; None: it is not kept for later
    changed    where it is: the keys of the live generation that lead elsewhere here, but for what was noted
    """

    generation: Generation
    watcher: Watcher | None
    report: Preloaded
    is_loaded: bool = True
    noted: Noted | None = None
    changed: Shards[bytes, bool] = field(default_factory=Shards)

    @property
    def is_lost(self) -> bool:
        """Whether something may have changed that its watcher does not know of."""
        return self.watcher is not None and self.watcher.is_lost


@dataclass(slots=True)
class Caught:
    """What a generation caught up with: the keys, and the entries that it has no more or never had."""

    keys: Shards[bytes, bool] = field(default_factory=Shards)
    unneeded: list[Entry] = field(default_factory=list)


class Builder:
    """Makes the generations of a site.

    progress  event: so many files of so many are loaded, in the thread that builds; of 0 while they are looked for, or
              while variants are waited for
    rules_changed  event: a file of rules is another, so that another generation is due; in the thread that makes a
              patch
    """

    def __init__(self, config: Config, store: Store, loader: Loader, site: Site, instance: Instance) -> None:
        """`instance` is what the watchers of all sites share. Raises UsageError where the rules are wrong."""
        self.config = config
        self.store = store
        self.loader = loader
        self.site = site
        self._instance = instance
        self.book = Rulebook(config)
        self.closing = threading.Event()  # what is being built is not waited for
        self._missed: frozenset[str] = frozenset()  # as the log has it
        self.progress: Event[int, int] = Event()
        self.rules_changed: Event[()] = Event()

    def open_root(self) -> Root:
        """The root as it is now, with its rules; what is wrong in its own files of rules is told. Raises UsageError."""
        return self.open_beside(self.config.directory, self.book)

    def open_beside(self, path: str | os.PathLike[str], book: Rulebook) -> Root:
        """As `open_root`, of another directory, with a book of its own."""
        root = open_root(path, book, self.site.id)
        told, book.told = book.told, []
        for line in told:
            _log.warning("%s%s", self.site.label, line)
        return root

    def build(self, *, last: Generation | None = None, progress: bool = False, load: bool = True) -> Built:
        """Build a generation, sharing what is the same in `last`, and in what else is served. Without `load` all else
        stays on disk. Raises UsageError."""
        known = [] if last is None else [last, *(one for one in self.site.generations if one is not last)]

        def fill(generation: Generation, note: Note) -> Preloaded:
            self.store.count_index(self.site.id, generation.index_bytes, at_least=True)
            return self._load_all(generation, note) if load else survey(generation)

        built = self._made(self.open_root(), self.book, known, fill, progress=progress)
        built.is_loaded = load
        self.tell_of_globs(built.generation)
        return built

    def build_beside(
        self,
        root: Root,
        book: Rulebook,
        known: Sequence[Generation],
        walked: Callable[[Generation], None],
        is_awaited: Callable[[], bool],
    ) -> Built:
        """Build a generation of another root, which was opened by this book, sharing what is the same in these;
        `walked` is told of it before it is loaded, and no more is loaded once something `is_awaited`. Nothing that is
        resident makes room for it. Raises UsageError."""
        is_loaded = True

        def fill(generation: Generation, note: Note) -> Preloaded:
            nonlocal is_loaded

            def go_on(done: int, total: int) -> None:
                note(done, total)
                if is_awaited():
                    raise SteppedAsideError

            walked(generation)
            try:
                first, heat = self._pinned(generation), self.site.heat
                return preload(generation, self.loader, first=first, progress=go_on, heat=heat)
            except SteppedAsideError:
                is_loaded = False
                return survey(generation)

        built = self._made(root, book, known, fill)
        built.is_loaded = is_loaded
        return built

    def _made(
        self,
        root: Root,
        book: Rulebook,
        known: Sequence[Generation],
        fill: Callable[[Generation, Note], Preloaded],
        *,
        progress: bool = False,
    ) -> Built:
        show = Meter(loading, after_s=PROGRESS_AFTER_S) if progress else None
        read_at = 0.0

        def note(done: int, total: int) -> None:
            nonlocal read_at
            self.go_on()
            self.progress(done, total)
            if show is not None:
                show(done, total)
            if watcher is not None and (now := time.monotonic()) > read_at + WATCHED_EVERY_S:
                read_at = now
                watcher.read(now)

        watcher = self._watch(root)
        # First what was made of the same directory, as where a release is rolled back: most of it is the same.
        known = sorted(known, key=lambda one: not one.root.is_same(root))
        try:
            found = partial(note, total=0)
            generation = walk(root, index=self.config.index, known=known, observer=watcher, progress=found)
            report = fill(generation, note)
        except BaseException:
            if watcher is not None:
                watcher.close()
            raise
        finally:
            if show is not None:
                show.clear()
        if watcher is not None:
            for name in changed_files(root, book):  # before they were watched
                watcher.look_again(name, time.monotonic())
        self.read_error_pages(generation)
        return Built(generation, watcher, report)

    def tell_of_globs(self, generation: Generation) -> None:
        """The log says which pins and rules are for files that are not there, of a generation that is about to be
        served."""
        for glob in self.site.pins.newly_idle(generation):
            _log.warning("%s%s", self.site.label, idle_pin(self.config, glob))
        self._tell_what_is_missed(generation)

    def _load_all(self, generation: Generation, note: Note, faults: Faults | None = None) -> Preloaded:
        """As far as it fits, what is pinned first."""
        first = self._pinned(generation)
        heat = self.site.heat
        report = preload(generation, self.loader, first=first, make_room=True, progress=note, faults=faults, heat=heat)
        if left := self.site.pins.left_out(generation):
            files, size = counted(len(left), "file"), size_text(sum(one.size for one in left))
            _log.warning("%spinned files do not fit into memory: %s, %s: sent from disk", self.site.label, files, size)
        return report

    def _tell_what_is_missed(self, generation: Generation) -> None:
        """The log says which rules are for files that are not there, once for as long as they are not."""
        missed = list(missed_by_rules(generation, self.config))
        for line in missed:
            if line not in self._missed:
                _log.warning("%s%s", self.site.label, line)
        self._missed = frozenset(missed)

    def load(self, generation: Generation) -> Preloaded:
        """Load what fits of a generation that is served, since there is more room now."""
        return self._load_all(generation, lambda *_: self.go_on())

    def fill(self, generation: Generation, faults: Faults, note: Note) -> Preloaded:
        """Load what fits of a generation that is served already; `note` is told how far it is, and may raise."""

        def on_progress(done: int, total: int) -> None:
            self.go_on()
            self.progress(done, total)
            note(done, total)

        return self._load_all(generation, on_progress, faults)

    def _pinned(self, generation: Generation) -> list[Entry]:
        """What is loaded first, which the generation notes."""
        first = self.site.pins.first(generation)
        generation.pinned = dict.fromkeys(entry.key for entry in first)
        return first

    def go_on(self) -> None:
        """Raises ClosingError when the server ends."""
        if self.closing.is_set():
            raise ClosingError

    def _watch(self, root: Root) -> Watcher | None:
        if not self.config.watch:
            return None
        try:
            return Watcher(root, self._instance)
        except OSError as error:
            self.go_on()  # else the server ends, and nothing is watched any more
            _log.warning(
                "%sthe root is not watched (%s%s): changes are seen after SIGHUP only",
                self.site.label,
                reason_of(error),
                "; raise fs.inotify.max_user_instances or ulimit -n" if error.errno in SCARCE else "",
            )
            return None

    def make_patch(
        self, generation: Generation, watcher: Watcher, changes: Changes, also: Generation | None = None
    ) -> Patch:
        """What these changes make of a generation, loaded; `also` has entries to share."""
        if changes.names.get(b"", set()).intersection(FILES):
            self.rules_changed()
        patch = walk_again(generation, changes, index=self.config.index, observer=watcher, also=also)
        if patch.resources:
            self._load(generation, watcher, patch)
        return patch

    def _load(self, generation: Generation, watcher: Watcher, patch: Patch) -> None:
        """Make resident what the patch brings: what fits, and whatever takes the place of something resident.

        What changes meanwhile leaves the patch: perhaps it is being written, and the watcher knows when it is whole.
        """
        fresh = Generation(generation.root)
        for keys in patch.order:
            fresh.lay_over([key for key in keys if key in patch.resources], patch.resources)
        first = self._pinned(fresh)
        generation.pinned.update(fresh.pinned)
        go_on, heat = lambda *_: self.go_on(), self.site.heat
        preload(fresh, self.loader, first=first, make_room=True, progress=go_on, heat=heat)
        for key in chain.from_iterable(map(list, tables_of(patch.resources))):
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
        self.read_error_pages(fresh)
        patch.problems += fresh.problems
        patch.pages = fresh.pages
        fresh.clear()

    def catch_up(
        self,
        built: Built,
        live: Generation | None = None,
        expect: Callable[[Iterable[bytes]], None] = _expect_nothing,
    ) -> Caught:
        """Have a generation that is not the live one yet know of what has changed since it was built, as far as that is
        whole; of what is not, it has what the `live` one has, which was. `expect` is told which keys are to lead
        elsewhere, before they do."""
        caught = Caught()
        watcher, generation = built.watcher, built.generation
        if watcher is None:
            return caught
        read_all(watcher)
        if watcher.is_lost:
            return caught
        changes = watcher.take(time.monotonic())
        if changes:
            patch = self.make_patch(generation, watcher, changes, live)
            read_all(watcher)
            caught.unneeded += leave_out(patch, patch.resources, generation, watcher)
            was = [old for key in patch.resources if isinstance(old := generation.resources.get(key), Entry)]
            expect(patch.resources)
            patch.apply(generation, patch.resources)
            caught.unneeded += [old for old in was if generation.resources.get(old.key) is not old]
            caught.keys.update(marked(patch.resources))
            generation.problems += patch.problems
            patch.clear()
        if live is not None:
            for path in watcher.written():
                caught.keys.update(marked(take_from(live, generation, path)))
        return caught

    def forget_unless_in(self, live: Generation, entries: Collection[Entry]) -> None:
        """Let go of these, but for what a generation has."""
        for entry in entries:
            if live.resources.get(entry.key) is not entry:
                self.loader.forget(entry)

    def read_error_pages(self, generation: Generation) -> None:
        """Have the generation know the content of its 404.html and the like."""
        pages: dict[bytes, bytes] = {}
        told = generation.root.rules.error_pages
        for key in told.in_memory:
            entry = generation.resources.get(key)
            if isinstance(entry, Entry):
                try:
                    pages[key] = self._read_page(generation.root, entry)
                except (ChangedError, OSError) as error:
                    statuses = ", ".join(map(str, told.statuses_of(key)))
                    why = f"is not used for {statuses}: {reason_of(error)}"
                    generation.problems.append(Problem(key[1:].decode(), why))
        generation.set_pages(pages)

    def _read_page(self, root: Root, entry: Entry) -> bytes:
        """What lies at an entry's path: its content, or that of the file that is there instead, whose own entry comes
        when it is asked for, or by a patch. Raises ChangedError or OSError."""
        for _ in range(TRIES):
            try:
                return self.loader.read(root, entry)
            except ChangedError:
                if (fresh := entry_at(root, entry.key)) is None:
                    break
                entry = fresh
        raise ChangedError


def look_again(built: Built, keys: Iterable[bytes]) -> list[bytes]:
    """Have what was built look again at the files at these keys, of which its watcher may have no event; the keys."""
    told, now = list(keys), time.monotonic()
    for key in told:
        if built.watcher is not None and not key.endswith(b"/"):  # what a directory leads to has a key of its own
            built.watcher.look_again(unquote_to_bytes(key)[1:], now)
    return told


def read_all(watcher: Watcher) -> None:
    while not watcher.read(time.monotonic()):
        pass

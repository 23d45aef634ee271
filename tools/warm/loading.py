"""A root loaded through `zcserve.cache`, as the server would but without a socket, and what came of it.

It must not know how content is kept: that is the cache's. What is odd: a listed file is *touched* by giving it a tick,
as a hit would, the first line the latest one, so that the evictor gives up the end of the list before its beginning.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from tools.warm.classes import CLASSES, class_of
from tools.warm.listing import resolve
from zcserve.cache.budget import with_budget
from zcserve.cache.entry import Body, Entry, representations
from zcserve.cache.index import Generation, Problem
from zcserve.cache.loader import Loader, call
from zcserve.cache.naming import name_of
from zcserve.cache.preload import preload
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.cache.walk import walk
from zcserve.config.table import Config
from zcserve.config.units import DAY_S


@dataclass(slots=True)
class LoadedClass:
    """One class of a loaded root. Files are representations: siblings and made variants count as well. `not_served`
    counts what the walk or the loading gave up; `seconds` is reading, hashing and compressing, summed over threads."""

    name: str
    files: int = 0
    bytes: int = 0
    resident_files: int = 0
    resident_bytes: int = 0
    left_out_files: int = 0
    left_out_bytes: int = 0
    not_served: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A representation that did not fit, by its key."""

    path: str
    coding: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading a root did."""

    root: str
    budget: int
    committed: int
    classes: list[LoadedClass]
    left_out: list[LeftOut]
    not_served: list[Problem]
    unknown: list[str]
    walk_s: float
    load_s: float

    @property
    def right(self) -> bool:
        """Whether all there is can be served, and all that was listed exists."""
        return not self.not_served and not self.unknown


class TimedLoader(Loader):
    """A loader that knows how many seconds it spent on each class: `read_small` sees all small files, `load_open` the
    others."""

    def __init__(self, store: Store, config: Config) -> None:
        super().__init__(store, config)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._counting = threading.Lock()

    def read_small(self, root: Root, fd: int, entry: Entry) -> tuple[bytes, bytes]:
        with self._timed(entry):
            return super().read_small(root, fd, entry)

    def load_open(self, root: Root, fd: int, entry: Entry, *, evict: bool = True) -> Body:
        if self.is_small(entry) and not entry.made:
            return super().load_open(root, fd, entry, evict=evict)
        with self._timed(entry):
            return super().load_open(root, fd, entry, evict=evict)

    def add_variants(self, root: Root, entry: Entry, attach: Callable[[Callable[[], None]], None] = call) -> None:
        with self._timed(entry):
            super().add_variants(root, entry, attach)

    @contextmanager
    def _timed(self, entry: Entry) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            with self._counting:
                self.seconds[class_of(name_of(entry))] += took


def new_store(config: Config) -> Store:
    """An empty store, as the server's configuration has it."""
    return Store(config.memory, slab_bytes=config.slab_bytes, small_body_bytes_max=config.small_body_bytes_max)


def load_root(config: Config, lines: Iterable[bytes], progress: Callable[[int, int], None] | None = None) -> Loaded:
    """Load `config.root` as far as its memory goes, first what `lines` name. Raises UsageError."""
    config = replace(with_budget(config), compress_wait_s=DAY_S)  # variants are waited for: the report counts them all
    with closing(new_store(config)) as store:
        return _loaded(config, store, lines, progress)


def _loaded(
    config: Config, store: Store, lines: Iterable[bytes], progress: Callable[[int, int], None] | None
) -> Loaded:
    """The same, into this store."""
    loader = TimedLoader(store, config)
    began = time.perf_counter()
    generation = walk(Root(config.directory), index=config.index)
    listed, unknown = resolve(generation, lines)
    walked = time.perf_counter()
    preload(generation, loader, first=_touch(listed), progress=progress)
    done = time.perf_counter()
    # Each once: what was given up when it was loaded first is met again in its directory's turn.
    problems = list(dict.fromkeys(generation.problems))
    return Loaded(
        root=str(config.directory),
        budget=store.budget,
        committed=store.committed,
        classes=_count(generation, problems, loader.seconds),
        left_out=_left_out(generation),
        not_served=problems,
        unknown=unknown,
        walk_s=walked - began,
        load_s=done - walked,
    )


def _touch(listed: list[Entry]) -> Iterator[Entry]:
    """The listed entries, marked as used, the first most recently."""
    for recency, entry in zip(range(len(listed), 0, -1), listed, strict=True):
        for one in (entry, *entry.variants):
            one.tick = recency
        yield entry


def _representations(generation: Generation) -> Iterator[tuple[Entry, Entry]]:
    """Every entry with each of its representations."""
    for entry in generation.entries():
        for one in representations(entry):
            yield entry, one


def _left_out(generation: Generation) -> list[LeftOut]:
    return [
        LeftOut(entry.key.decode(), one.encoding.decode(), one.size)
        for entry, one in _representations(generation)
        if one.body is None
    ]


def _count(generation: Generation, problems: Iterable[Problem], seconds: dict[str, float]) -> list[LoadedClass]:
    """One row a class that has anything to say, in the order of `CLASSES`."""
    rows = {name: LoadedClass(name, seconds=seconds.get(name, 0.0)) for name in CLASSES}
    for entry, one in _representations(generation):
        row = rows[class_of(name_of(entry))]
        row.files += 1
        row.bytes += one.size
        if one.body is not None:
            row.resident_files += 1
            row.resident_bytes += one.size
        else:
            row.left_out_files += 1
            row.left_out_bytes += one.size
    for problem in problems:
        rows[class_of(problem.path)].not_served += 1
    return [row for row in rows.values() if row.files or row.not_served]

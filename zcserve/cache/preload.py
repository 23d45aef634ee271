"""Filling the store: everything that fits, before the first request.

Preloading never evicts: what was loaded first stays. When all does not fit, small files come before large ones: each
file costs one hit's disk access if it stays out, whatever its size, so the most hits a byte are bought with small
files. Where it is known how hot files are (heat.py), those with the greatest benefit come before all of which nothing
is known. Files are still read in the order of the walk, directory by directory. Where rules give priorities, those of
the highest are planned and loaded before any other, and so on: each round has the room that the ones before have left.

The same code fills a generation made by a reload: what it shares with the last one is resident already. And one that is
served while it is filled: then it is for others to replace what has changed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby

from zcserve.cache.burial import let_go
from zcserve.cache.entry import Entry, Sibling, SiblingVariant, each_coding, representations
from zcserve.cache.heads import HEAD_BYTES
from zcserve.cache.heat import Heat, in_bands
from zcserve.cache.index import Generation, Problem, Stock
from zcserve.cache.loader import Loader
from zcserve.cache.memfd import round_up
from zcserve.cache.naming import base_of, directory_of, path_of
from zcserve.cache.pinned import Pin, nothing
from zcserve.cache.reading import ChangedError
from zcserve.cache.root import NO_NEWS, Root
from zcserve.cache.store import Store
from zcserve.cache.unseen import hide
from zcserve.errors import reason_of
from zcserve.rules.compiled import Rules

# The plan leaves this share of the budget, for heads longer than planned and pages shared by halves.
HEADROOM = 0.02
CHANGED_TRIES = 3
# So many files are compared with their siblings before it is asked whether to go on.
JUDGED_AT_ONCE = 32
# Small files placed together; one directory may hold a million.
BATCH_BYTES = 1 << 20
# So many files of a directory are loaded before it is asked whether to go on.
LOADED_AT_ONCE = 64


@dataclass(slots=True)
class Preloaded:
    """What preloading did: `files` are representations, of which `variants` are not the file itself; `bytes` their
    content. `pinned_bytes` are those of `resident_bytes` that are pinned; `unread` are files that fit, and stay out
    since they could not be read for now."""

    files: int = 0
    bytes: int = 0
    resident_files: int = 0
    resident_bytes: int = 0
    variants: int = 0
    resident_variants: int = 0
    problems: list[Problem] = field(default_factory=list)
    pinned_bytes: int = 0
    unread: list[Entry] = field(default_factory=list)

    def count(self, representation: Entry) -> None:
        """Add a file, unless it is counted as a variant, and its variants."""
        if not representation.is_variant:
            self.variants += bool(representation.encoding)
            self.resident_variants += bool(representation.encoding) and representation.body is not None
            self.files += 1
            self.bytes += representation.size
            if representation.body is not None:
                self.resident_files += 1
                self.resident_bytes += representation.size
        for variant in representation.variants:
            self.count(variant)

    @classmethod
    def of(cls, generation: Generation, stock: Stock) -> Preloaded:
        """Without those that the stock has as wanting: they are still to be counted."""
        return cls(stock.files, stock.bytes, stock.files, stock.bytes, problems=generation.problems)

    @property
    def left_out(self) -> int:
        """How many files are known but not resident."""
        return self.files - self.resident_files


class Faults:
    """What becomes of files that are found changed, or cannot be read: the generation, which is not served yet, has
    what lies there now. What cannot be read leaves it and becomes a problem."""

    def __init__(self, generation: Generation, loader: Loader) -> None:
        self.generation = generation
        self._loader = loader

    def replace(self, entry: Entry, representation: Entry, error: ChangedError | OSError) -> Entry | None:
        """What to load instead of a file, one of whose representations is not what it was."""
        if isinstance(error, OSError):
            problem = Problem.of(path_of(representation), reason_of(error))
            if not entry.is_variant or problem not in self.generation.problems:  # else it is told already
                self.generation.problems.append(problem)
        return self._loader.succeed(self.generation, entry)

    def give_up(self, entry: Entry, error: OSError) -> None:
        """Its directory cannot be opened."""
        _give_up(self.generation, entry, error)


def survey(generation: Generation) -> Preloaded:
    """What there is, and what of it is resident. Nothing is loaded."""
    stock = _take_stock(generation)
    report = Preloaded.of(generation, stock)
    for entry in stock.wanting:
        report.count(entry)
    let_go(stock.wanting)
    return report


def _take_stock(generation: Generation) -> Stock:
    """The walk's, which is true once, or a new one."""
    stock, generation.stock = generation.stock, None
    if stock is None:
        stock = Stock()
        stock.take(generation.entries())
    return stock


def preload(
    generation: Generation,
    loader: Loader,
    *,
    first: Iterable[Entry] = (),
    make_room: bool = False,
    progress: Callable[[int, int], None] | None = None,
    faults: Faults | None = None,
    heat: Heat | None = None,
) -> Preloaded:
    """Make resident what fits. `first` is loaded before all else, and `make_room` has others make room for it; `heat`
    tells what comes next. `progress` is told files done and files in all, 0 and 0 while variants are waited for; it may
    raise.

    What becomes of a file that cannot be read, or has changed, `faults` say.
    """
    faults = faults or Faults(generation, loader)
    store = loader.store
    until = time.monotonic() + loader.config.compress_wait_s
    first = list(first)
    judge_siblings(generation, loader, first)
    _make_variants(generation, loader, first, until, progress)
    for entry in first:
        generation.stock = None  # what was taken before this is not true any more
        _load(generation, loader, entry, faults, evict=make_room)
    stock = _take_stock(generation)
    report = Preloaded.of(generation, stock)
    todo = stock.wanting
    done = 0

    def note(more: int) -> None:
        if progress is not None:
            progress(done + more, len(todo))

    rounds = in_rounds(generation.root.rules, todo)
    # Each is divided when its turn comes, by the room that there is then.
    for entries in (some for one in rounds for some in hottest_first(one, heat, store, loader.is_pinned)):
        if with_variants := [entry for entry in entries if entry.variants]:
            wanted = Plan(entries, store, is_pinned=loader.is_pinned)
            judge_siblings(generation, loader, filter(wanted.has_variants_of, with_variants), progress)
        _make_variants(generation, loader, entries, until, progress)
        wanted = Plan(entries, store, is_pinned=loader.is_pinned)
        for _, group in groupby(entries, key=lambda entry: directory_of(entry.key)):
            files = list(group)
            if not all(map(_is_resident, files)):
                _Directory(generation, loader, files, wanted, report.unread).load(faults, note)
            done += len(files)
            note(0)
        if entries is not todo:
            let_go(entries)
    for entry in todo:
        now = generation.resources.get(entry.key)  # what changed meanwhile has been replaced
        if isinstance(now, Entry):
            report.count(now)
        if now is not entry:
            loader.forget(entry)  # another thread has replaced it, perhaps before it was resident
    report.pinned_bytes = sum(one.size for one in pinned_of(generation, generation.pinned) if one.body is not None)
    let_go(todo)
    return report


def in_rounds(rules: Rules, entries: list[Entry]) -> list[list[Entry]]:
    """The same in lists, each in its order: those of the highest priority first. A sibling is in its base's, with
    which it is judged."""
    if not rules.has_priorities:
        return [entries]
    rounds: dict[int, list[Entry]] = {}
    for entry in entries:
        priority = rules.priority_of(base_of(entry.key) if isinstance(entry, Sibling) else entry.key)
        if priority not in rounds:
            rounds[priority] = []
            hide(rounds[priority])
        rounds[priority].append(entry)
    return [rounds[priority] for priority in sorted(rounds, reverse=True)]


def hottest_first(
    entries: list[Entry], heat: Heat | None, store: Store, is_pinned: Pin, reserved: int = 0
) -> list[list[Entry]]:
    """The same in lists, each in its order: first the hottest that fit together (`heat.in_bands`). `reserved` and
    `is_pinned` as of `Plan`."""
    if not heat:
        return [entries]

    def key_of(entry: Entry) -> bytes:
        return base_of(entry.key) if isinstance(entry, Sibling) else entry.key

    def cost(entry: Entry) -> int:
        missing = (one for one in representations(entry) if one.body is None and one.size <= store.largest)
        return sum(cost_of(max(one.size, 0), store) for one in missing)

    room = int(store.room_of(is_pinned, reserved) * (1 - HEADROOM))
    return in_bands(entries, lambda entry: heat.of(key_of(entry)), cost, room)


def _is_resident(entry: Entry) -> bool:
    return all(one.body is not None for one in representations(entry))


def _magnitude(size: int) -> int:
    """Greater for a greater size, and the same for sizes that differ by a sixty-fourth at most."""
    bits = size.bit_length()
    return bits << 7 | size >> max(bits - 7, 0)


def cost_of(size: int, store: Store) -> int:
    """What a body of this size, and its head, take of the budget."""
    return HEAD_BYTES + (size if size <= store.small_body_bytes_max else round_up(size))


class Plan:
    """Which representations fit into a store together, small before large; what is resident already costs nothing.
    `reserved` bytes are for others; `is_pinned` is the site's."""

    def __init__(self, entries: Iterable[Entry], store: Store, reserved: int = 0, *, is_pinned: Pin = nothing) -> None:
        self._below = store.largest + 1  # all that are smaller than this,
        self._of_that_size = 0  # and so many of just this size
        room = int(store.room_of(is_pinned, reserved) * (1 - HEADROOM))
        counts = Counter(
            representation.size
            for entry in entries
            for representation in representations(entry)
            if representation.body is None and representation.size <= store.largest
        )
        # To sort a million sizes is one long step in C; these are some hundred lists of like sizes.
        alike: dict[int, list[int]] = {}
        for size in counts:
            alike.setdefault(_magnitude(size), []).append(size)
        for size in chain.from_iterable(sorted(alike[magnitude]) for magnitude in sorted(alike)):
            cost = cost_of(size, store)
            fit = max(room, 0) // cost
            if fit < counts[size]:
                self._below = size
                self._of_that_size = fit
                break
            room -= cost * counts[size]

    def has_variants_of(self, entry: Entry) -> bool:
        """Whether a variant of a file is resident, or will or might be."""
        below = self._below + bool(self._of_that_size)
        return any(variant.body is not None or variant.size < below for variant in entry.variants)

    def takes(self, representation: Entry) -> bool:
        """Whether this one is loaded; to be asked once for each."""
        if representation.size == self._below and self._of_that_size:
            self._of_that_size -= 1
            return True
        return representation.size < self._below


class _Directory:
    """The files of one directory on their way into the store: small ones are placed together."""

    def __init__(
        self, generation: Generation, loader: Loader, files: list[Entry], wanted: Plan, unread: list[Entry]
    ) -> None:
        """`unread` gets what could not be read for now."""
        self._unread = unread
        self._generation = generation
        self._loader = loader
        self._files = files
        self._wanted = wanted
        self._batch: list[tuple[Entry, bytes, bytes]] = []
        self._batch_bytes = 0

    def load(self, faults: Faults, note: Callable[[int], None]) -> None:
        """Load what is wanted of it, each file through the directory's descriptor; what fails, once more by itself.
        `note` is told how many are done."""
        root = self._generation.root
        failed: list[Entry] = []
        try:
            fd = root.open_directory(path_of(self._files[0]).rpartition(b"/")[0])
        except OSError as error:
            if error.errno not in NO_NEWS:  # else they stay out for now
                for entry in self._files:
                    faults.give_up(entry, error)
            else:
                self._unread += [one for one in self._files if one.body is None and self._wanted.takes(one)]
            return
        try:
            for done, entry in enumerate(self._files, 1):
                if not done % LOADED_AT_ONCE:
                    note(done)
                try:
                    for representation in each_coding(entry):
                        if representation.body is None and not representation.made:
                            self._load_one(root, fd, representation)
                except (ChangedError, OSError):
                    failed.append(entry)
            self._place()
        finally:
            os.close(fd)
            self._end()
        for entry in failed:
            if not _load(self._generation, self._loader, entry, faults):
                self._unread.append(entry)

    def _load_one(self, root: Root, directory: int, representation: Entry) -> None:
        """A load as any other: what is thrown away meanwhile does not become resident."""
        under_way = self._loader.store.under_way
        under_way.begin(representation)
        is_in_batch = False
        try:
            is_in_batch = self._read_one(root, directory, representation)
        finally:
            if not is_in_batch:
                under_way.end((representation,))
        if self._batch_bytes > BATCH_BYTES:
            self._place()

    def _read_one(self, root: Root, directory: int, representation: Entry) -> bool:
        """Whether what was read is in the batch now."""
        path = path_of(representation)
        fd = root.open_in(directory, path[path.rfind(b"/") + 1 :])
        loader = self._loader
        if loader.judge.is_due(representation):
            os.close(fd)  # it did not seem to fit, or could not be read: it is compared when it is asked for
        elif representation.is_variant:
            if loader.may_share(representation):
                loader.load_open(root, fd, representation, evict=False)
            else:
                os.close(fd)  # held once, until it is asked for by this name
        elif not self._wanted.takes(representation):
            os.close(fd)  # stays out, but must be readable, or it is named now rather than when it is asked for
        elif not loader.is_small(representation):
            loader.load_open(root, fd, representation, evict=False)
        else:
            try:
                self._batch.append((representation, *loader.read_small(root, fd, representation)))
            finally:
                os.close(fd)
            self._batch_bytes += representation.size
            return True
        return False

    def _place(self) -> None:
        place = partial(self._loader.store.place, evict=False, is_pinned=self._loader.is_pinned)
        if not place(self._batch):
            for one in self._batch:  # near the budget: some may fit
                place([one])
        self._end()

    def _end(self) -> None:
        """What is in the batch is placed, or never will be."""
        self._loader.store.under_way.end(entry for entry, _, _ in self._batch)
        self._batch = []
        self._batch_bytes = 0


def _load(generation: Generation, loader: Loader, entry: Entry, faults: Faults, *, evict: bool = False) -> bool:
    """Load one file and its variants for sure: as it is now, should it have changed since the walk. False where it
    cannot be read for now."""
    now: Entry | None = entry
    why = "changes while it is read: loaded when asked for"
    for _ in range(CHANGED_TRIES):
        if now is None:
            return True
        judge_siblings(generation, loader, [now])  # of one that has changed since the walk
        for representation in each_coding(now):
            try:
                if representation.body is None and not representation.made and not loader.judge.is_due(representation):
                    loader.load(generation.root, representation, evict=evict)
            except (ChangedError, OSError) as error:
                if isinstance(error, OSError) and error.errno in NO_NEWS:
                    return False  # stays out for now, like what does not fit
                now = faults.replace(now, representation, error)
                break
        else:
            if not generation.has(now):
                loader.forget(now)  # another thread has replaced it, perhaps before it was resident
            return True
    generation.problems.append(Problem.of(path_of(entry), why))
    return True


def try_to_open(generation: Generation) -> None:
    """What cannot be opened leaves the generation and becomes a problem; nothing is read."""
    for entry in list(generation.entries()):
        for representation in each_coding(entry):
            try:
                fd, _ = generation.root.open_file(path_of(representation))
                os.close(fd)
            except OSError as error:
                _give_up(generation, representation, error)


def _give_up(generation: Generation, entry: Entry, error: OSError) -> None:
    generation.problems.append(Problem.of(path_of(entry), reason_of(error)))
    generation.replace(entry, None)


def judge_siblings(
    generation: Generation,
    loader: Loader,
    todo: Iterable[Entry],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compare the siblings of these files with them, by threads: the decoders release the GIL. What is no variant is
    none any more, and becomes a problem; what cannot be read is left to the loading that follows."""

    def judge(some: list[Entry]) -> list[SiblingVariant]:
        refused = []
        for entry in some:
            with contextlib.suppress(OSError):
                refused += loader.judge_siblings(generation.root, entry)
        return refused

    todo = list(todo)
    loader.judge.tell_trusted(variant for entry in todo for variant in entry.variants)
    due = [entry for entry in todo if any(map(loader.judge.is_due, entry.variants))]
    if not due:
        return
    pieces = [due[at : at + JUDGED_AT_ONCE] for at in range(0, len(due), JUDGED_AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count() or 1, "zcserve-siblings") as pool:
        results: Iterable[list[SiblingVariant]] = map(judge, pieces)
        if len(pieces) > 1:
            with contextlib.suppress(RuntimeError):  # no thread is to be had: this one does it
                results = pool.map(judge, pieces)
        try:
            for refused in results:
                generation.problems += [Problem.of(path_of(variant), variant.fault) for variant in refused]
                if progress is not None:
                    progress(0, len(todo))
        except BaseException:  # the server ends: what has not begun is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _make_variants(
    generation: Generation,
    loader: Loader,
    todo: list[Entry],
    until: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    """`--compress`: have the variants made that these files lack, and wait for them. Those that are not made by then
    follow."""
    wanting = [entry for entry in todo if loader.wants_variants(entry)]
    if wanting:
        batch = loader.variants.want(generation.root, wanting)
        batch.wait(until, partial(progress, 0, 0) if progress is not None else lambda: None)


def pinned_of(generation: Generation, keys: Iterable[bytes]) -> Iterator[Entry]:
    """What is to be resident of the files at these keys: counted as `Preloaded.count` does."""
    find = generation.resources.get
    for key in keys:
        entry = find(key)
        if isinstance(entry, Entry) and entry.key == key:
            yield from representations(entry)


def retire(last: Generation, generation: Generation, loader: Loader) -> int:
    """Forget the bodies of entries that the new generation does not share; how many files left."""
    count = 0
    was, now = last.resources.get, generation.resources.get
    for key in chain.from_iterable(last.keys_in_pieces()):
        entry = was(key)
        if entry is not now(key) and isinstance(entry, Entry) and entry.key == key:
            count += 1
            loader.forget(entry)
    return count


def forget(store: Store, entry: Entry) -> None:
    """Forget the bodies of what comes from no file, and of its variants; of a file, `Loader.forget` does."""
    for representation in each_coding(entry):
        store.drop(representation)

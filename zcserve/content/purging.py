"""Content is looked at anew, or thrown away, because somebody says so: a purge.

    soft  what is resident is put in doubt: it is compared with its file in the background, by content, as after a
          change of which ctime alone tells (cache/doubt.py), and replaced where it is another, by a patch. Meanwhile it
          serves. Without a watcher the next generation is built, which shares what is the same; so is what is prepared
    hard  what is resident is dropped at once, and the next request loads the file anew; what is pinned is loaded at
          once. When that is told, no lane sends from the old memory any more, but for answers that were begun

A soft one is told when all is compared; an *early* one when all is in doubt, which takes 3 us a file instead of 60.
From then on whatever looks at a file compares it: a load, a patch, the next generation, the process after this one. So
what is left is to have each looked at, and should that fail, the next generation is built.

What is not resident has nothing to lose: it is compared when it is loaded, as always. A file's variants, siblings under
their own names and an application's results at the path go with it.

A purge may be of a hundred thousand paths. So the keys are found in the patches' thread, and are purged there, a few at
a time: the loop hears of PURGED_AT_ONCE keys in a step. What makes answers right comes first, for all keys; memory is
taken back when the purge is told. Purges come one after the other, but what an early one has compared goes on beside
those that follow.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, takewhile
from typing import TypeVar

from zcserve.cache.counted_names import SIBLING_ENDINGS
from zcserve.cache.crew import BURST_S, REST_S, beat
from zcserve.cache.doubt import is_in_doubt, put_in_doubt
from zcserve.cache.entry import Entry, Sibling
from zcserve.cache.index import Generation
from zcserve.cache.naming import base_of, path_of
from zcserve.cache.shards import in_pieces
from zcserve.cache.unseen import hide
from zcserve.config.globs import parse_glob
from zcserve.config.units import counted, size_text
from zcserve.content.builder import Builder, ClosingError
from zcserve.content.jobs import Jobs
from zcserve.content.live import Live
from zcserve.content.patches import Patches
from zcserve.content.preparing import Preparing
from zcserve.content.releases import Releases
from zcserve.content.warming import Warming, Warmth
from zcserve.errors import NotNowError
from zcserve.http import canonical_path
from zcserve.log import Log
from zcserve.paths import decoded
from zcserve.rules.compiled import Rules

_log = Log(__name__)

# So many keys are purged between two turns of the loop, which hears of them in a sixth of a millisecond. For 1.5 ms the
# store's lock is held.
PURGED_AT_ONCE = 500
# So many are compared before what comes of it is waited for: 60 us each. What the watcher tells of meanwhile waits no
# longer than that, and the next purge. With 100, 200, 500 or 1,000 at once 10,000 cost the same.
COMPARED_AT_ONCE = 200
# Purges that wait for another one, or for what they have compared: whoever asks in a loop hears of it.
PURGES_WAITING_MAX = 64

T = TypeVar("T")

# Purges an application's results: whether a path's go, whether at once, and what to call with how many there were, and
# their bytes.
PurgeResults = Callable[[Callable[[bytes], bool], bool, Callable[[int, int], object]], object]


class Aim:
    """What a purge is of: paths, all that begins like one, what a glob matches, or what has a tag."""

    def __init__(self, keys: Iterable[bytes], takes: Callable[[bytes], bool] | None = None) -> None:
        """Just these, or whatever `takes` says yes to: in the loop's thread, and in that of the patches."""
        self._keys = frozenset(keys)
        self._takes = takes

    @classmethod
    def paths(cls, paths: Iterable[bytes]) -> Aim:
        """Just these: as sent in a URL, without a query, percent-encoded in any way. Raises HttpError."""
        return cls(map(canonical_path, paths))

    @classmethod
    def prefix(cls, prefix: bytes) -> Aim:
        """What begins so: "/assets/", or "/assets/a". Raises HttpError."""
        begin = canonical_path(prefix)
        return cls((), lambda key: key.startswith(begin))

    @classmethod
    def glob(cls, glob: str) -> Aim:
        """What a pattern matches (config/globs.py). Raises UsageError."""
        pattern = parse_glob(glob)
        return cls((), lambda key: pattern.fullmatch(decoded(key)) is not None)

    @classmethod
    def tag(cls, rules: Rules, tag: str) -> Aim:
        """What these rules give a tag. Raises UsageError."""
        return cls((), rules.tagged(tag))

    def takes(self, key: bytes) -> bool:
        """Whether it is aimed at this key."""
        return self._takes(key) if self._takes is not None else key in self._keys

    def takes_another(self, key: bytes, entry: Entry) -> bool:
        """Whether what a key leads to is purged under another one: a directory's index under its own name, and a
        sibling with its base."""
        if entry.key != key:
            return self.takes(entry.key)
        return isinstance(entry, Sibling) and self.takes(base_of(key))

    def of(self, generation: Generation) -> Iterator[bytes]:
        """The keys of a generation that it is aimed at."""
        if self._takes is None:
            yield from (key for key in self._keys if key in generation.resources)
            return
        for keys in generation.keys_in_pieces():
            beat()
            yield from filter(self.takes, keys)


@dataclass(slots=True)
class Purged:
    """What came of a purge.

    matched  files that it was aimed at
    purged   representations that were resident: dropped, or put in doubt, and looked at again
    bytes    the content of these
    results  of applications, likewise: dropped, or being made again; their bytes count, too
    why      it failed, and is not complete; "" where it is
    """

    matched: int = 0
    purged: int = 0
    bytes: int = 0
    results: int = 0
    why: str = ""


Told = Callable[[Purged], object]


def _tell_nothing(_: Purged) -> None:
    """What a purge tells that goes on elsewhere."""


@dataclass(slots=True, eq=False)
class _Purge:
    """One that waits, or is under way."""

    aim: Aim
    hard: bool
    told: Told
    purged: Purged
    is_early: bool


class Purging:
    """Purges, one after the other. In the loop's thread, but for what says else."""

    def __init__(
        self,
        builder: Builder,
        live: Live,
        jobs: Jobs,
        patches: Patches,
        releases: Releases,
        warming: Warming,
        preparing: Preparing,
        purge_results: PurgeResults | None,
    ) -> None:
        """`purge_results` is the application's, if it keeps any."""
        self._builder = builder
        self._store = builder.store
        self._live = live
        self._site = live.site
        self._jobs = jobs
        self._patches = patches
        self._releases = releases
        self._warming = warming
        self._preparing = preparing
        self._purge_results = purge_results
        self._purges: deque[_Purge] = deque()  # the first is under way
        self._comparing: list[_Purge] = []  # early ones that were told

    def purge(self, aim: Aim, *, hard: bool, told: Told, is_early: bool = False) -> None:
        """Purge what this is aimed at; `told` gets what came of it: when all is done, or, of a soft one that
        `is_early`, when all is in doubt. Returns at once. Raises NotNowError."""
        if self._store.frozen:
            raise NotNowError("an upgrade is under way: ask again when the new process serves")
        if len(self._purges) + len(self._comparing) > PURGES_WAITING_MAX:
            raise NotNowError(f"{PURGES_WAITING_MAX} purges wait already: ask again when one is done")
        self._purges.append(_Purge(aim, hard, told, Purged(), is_early and not hard))
        if len(self._purges) == 1:
            self._begin()

    def follow(self, old: Purging) -> None:
        """The site takes the place of one that has these purges under way: they are of this one from now on."""
        for one in old.hand_over():
            try:
                self.purge(one.aim, hard=one.hard, told=one.told, is_early=one.is_early)
            except NotNowError as error:
                one.told(Purged(why=str(error)))

    def hand_over(self) -> list[_Purge]:
        """Those that are not over. What comes of them here is told no more."""
        handed = [replace(one) for one in (*self._comparing, *self._purges)]
        for one in self._purges:
            one.told = _tell_nothing
        return handed

    def _begin(self) -> None:
        one = self._purges[0]
        if self._purge_results is None:
            self._go_on(one, 0, 0)
        else:
            self._purge_results(one.aim.takes, one.hard, partial(self._go_on, one))

    def _go_on(self, one: _Purge, results: int, size: int) -> None:
        one.purged.results, one.purged.bytes = results, size
        self._have(one, partial(self._purge, one))

    def _have(self, one: _Purge, step: Callable[[], object]) -> None:
        """Have the patches' thread make a step of a purge. In any thread."""
        self._jobs.submit(self._jobs.patches, partial(self._guarded, one, step))

    def _guarded(self, one: _Purge, step: Callable[[], object]) -> None:
        try:
            step()
        except ClosingError:
            raise
        except Exception:
            one.purged.why = "it failed: the log says why"
            self._jobs.call_soon(partial(self._end, one))  # the others need not wait for ever
            raise

    def _end(self, one: _Purge) -> None:
        if one.hard:
            self._jobs.submit(self._jobs.patches, self._give_back)
        if one not in self._comparing:
            self._tell(one)
            return
        self._comparing.remove(one)
        if one.purged.why:  # it was told: what is in doubt must be compared all the same
            self._releases.try_again_later()
            self._live.plan()

    def _tell_early(self, one: _Purge, pieces: deque[list[bytes]]) -> None:
        """All is in doubt. What is left is done beside those that follow."""
        self._comparing.append(one)
        self._tell(one)
        one.told, one.purged = _tell_nothing, Purged()
        self._have(one, partial(self._compare_all, one, pieces))

    def _tell(self, one: _Purge) -> None:
        """What came of the first one; the next has its turn."""
        self._purges.popleft()
        if self._purges:
            self._begin()
        how, purged = "hard" if one.hard else "soft", one.purged
        _log.info(
            "purged (%s): %s matched; resident were %s and %s, %s",
            how,
            counted(purged.matched, "file"),
            counted(purged.purged, "representation"),
            counted(purged.results, "result"),
            size_text(purged.bytes),
        )
        one.told(purged)

    # --- in the patches' thread -----------------------------------------------------------------------------------

    def _purge(self, one: _Purge) -> None:
        if one.hard:
            self._drop_all(one, _pieces(one.aim, self._site.generations, PURGED_AT_ONCE))
            return
        pieces = _pieces(one.aim, (self._site.live,), COMPARED_AT_ONCE)
        for keys in pieces:
            self._doubt(one, self._site.live, keys)
        if (prepared := self._site.prepared) is not None:
            for keys in _pieces(one.aim, (prepared,), COMPARED_AT_ONCE):
                self._doubt(one, prepared, keys)
        if one.is_early:
            self._jobs.call_soon(partial(self._tell_early, one, pieces))
        else:
            self._compare_all(one, pieces)

    def _compare_all(self, one: _Purge, pieces: deque[list[bytes]]) -> None:
        """Have all that is in doubt compared."""
        if self._live.watcher is None:
            self._live.after_flip(partial(self._have, one, partial(self._compare_prepared, one)))
            self._releases.ask()
        else:
            self._compare(one, pieces)

    def _doubt(self, one: _Purge, generation: Generation, keys: list[bytes]) -> None:
        """Put what has content of the files at these keys in doubt."""
        beat()
        self._live.note_keys(keys)
        content, matched = self._content(one.aim, generation, keys)
        one.purged.matched += matched
        watcher = self._live.watcher if generation is self._site.live else None
        if watcher is not None and watcher.writes:  # what is being written is looked at when it is whole
            content = [each for each in content if not watcher.holds(path_of(each))]
        for each in content:
            self._store.opened.drop(each)
        _doubt_all(one, content)

    def _compare(self, one: _Purge, pieces: deque[list[bytes]]) -> None:
        """Have what is resident and in doubt of the next pieces looked at, and the others when what came of it is
        served. What was compared meanwhile, for another purge, need not be."""
        if not pieces:
            self._compare_prepared(one)
            return
        watcher, now, count = self._live.watcher, time.monotonic(), 0
        while pieces and not count:
            beat()
            content, _ = self._content(one.aim, self._site.live, pieces.popleft())
            for each in content:
                if watcher is not None and each.body is not None and is_in_doubt(each):
                    watcher.look_again(path_of(each), now)
                    count += 1
        self._patches.when_known(partial(self._have, one, partial(self._compare, one, pieces)))

    def _compare_prepared(self, one: _Purge) -> None:
        """And what the prepared generation alone has: it is prepared again, which compares."""
        generation = self._site.prepared
        end = partial(self._jobs.when_passed, partial(self._end, one))
        if generation is not None and any(
            is_in_doubt(each)
            for keys in _pieces(one.aim, (generation,), COMPARED_AT_ONCE)
            for each in self._content(one.aim, generation, keys)[0]
        ):
            self._preparing.prepare_again(end)
        else:
            end()

    def _drop_all(self, one: _Purge, pieces: deque[list[bytes]]) -> None:
        others: list[bytes] = []  # keys under which the same content stands
        contents: deque[list[Entry]] = deque()
        for made in (others, contents):
            hide(made)
        for keys in pieces:
            contents.append(self._doubt_for_good(one, keys))
            others += {each.key for each in contents[-1]}.difference(keys)
        # Before it is dropped: what a lane knows then is dropped there one by one, in as many steps of the loop.
        keys_of_all = in_pieces(chain(chain.from_iterable(pieces), others), PURGED_AT_ONCE)
        self._jobs.in_turns(partial(self._live.forget, some) for some in keys_of_all)
        again: deque[bytes] = deque()  # keys of what is pinned; some twice
        hide(again)
        for entries in contents:
            beat()
            self._store.under_way.be_late(entries)
            self._store.drop_all(entries)
            if self._site.pins.globs:
                again += (each.key for each in entries if self._site.pins(each))
        self._jobs.in_turns(partial(self._live.load_anew, entries) for entries in _emptied(contents))
        self._read_pages(pieces)
        for _ in _emptied(pieces):
            beat()  # to let go of all at once is a long step
        loaded = partial(self._loaded, one)
        self._jobs.in_loop(partial(self._warming.begin, _emptied(again), len(again), loaded))

    def _doubt_for_good(self, one: _Purge, keys: list[bytes]) -> list[Entry]:
        """What has content of the files at these keys, in any generation; put in doubt, for what is loaded next is
        compared with its ETag, and shares no memory."""
        beat()
        self._live.note_keys(keys)
        content: list[Entry] = []
        hide(content)
        for generation in self._site.generations:
            found, matched = self._content(one.aim, generation, keys)
            content += found
            one.purged.matched += matched
        _doubt_all(one, content)
        return content

    def _read_pages(self, pieces: Iterable[list[bytes]]) -> None:
        """Where a page for errors was dropped, it is read again."""
        pages = self._site.root.rules.error_pages.in_memory
        if not all(map(pages.isdisjoint, pieces)):
            self._builder.read_error_pages(self._site.live)
            self._jobs.in_loop(self._live.tell_page)

    def _give_back(self) -> None:
        """Take back the memory of what was dropped: at leisure, for what makes the answers right is told before. What
        waits for this thread waits for a burst and a rest."""
        until = time.monotonic() + BURST_S
        while (is_left := self._store.take_back()) and time.monotonic() < until:
            pass
        if is_left:
            time.sleep(REST_S)
            self._jobs.submit(self._jobs.patches, self._give_back)

    def _loaded(self, one: _Purge, _: Warmth) -> None:
        self._jobs.when_passed(partial(self._end, one))

    def _content(self, aim: Aim, generation: Generation, keys: Iterable[bytes]) -> tuple[list[Entry], int]:
        """All that has content of the files at these keys, but for what a generation that is looked at before has; and
        how many files these are. A microsecond for each, where nothing is odd."""
        before = [
            known.resources.get for known in takewhile(lambda known: known is not generation, self._site.generations)
        ]
        find = generation.resources.get
        found: list[Entry] = []
        matched = 0
        for key in keys:
            entry = find(key)
            if not isinstance(entry, Entry) or (before and any(known(key) is entry for known in before)):
                continue
            is_own = entry.key == key
            if (not is_own or isinstance(entry, Sibling)) and aim.takes_another(key, entry):
                matched += is_own
                continue
            matched += 1
            found.append(entry)
            found += entry.variants
            if isinstance(entry, Sibling):
                found.append(entry.variant)
            # The same content under other names. One that a request has renewed is no Sibling until its base is walked.
            for ending in SIBLING_ENDINGS:
                if isinstance(own := find(entry.key + ending), Entry):
                    found.append(own)
        return found, matched


def _pieces(aim: Aim, generations: Sequence[Generation], at_once: int) -> deque[list[bytes]]:
    """The keys of some generations, each once, so many together; in the order of an index, in which those of a
    directory stand together. No step with it is long, however many there are: a dict of 100,000 would hold the GIL for
    4 ms as it grows, and for 2 as it goes, and the collector would for 3 as it looks at them all."""
    pieces: deque[list[bytes]] = deque()
    for number, generation in enumerate(generations):
        keys = aim.of(generation)
        if newer := [one.resources for one in generations[:number]]:
            keys = (key for key in keys if not any(key in known for known in newer))
        for some in in_pieces(keys, at_once):
            hide(some)
            pieces.append(some)
    return pieces


def _emptied(items: deque[T]) -> Iterator[T]:
    while items:
        yield items.popleft()


def _doubt_all(one: _Purge, content: Iterable[Entry]) -> None:
    """Put all of it in doubt. Counts what is resident."""
    resident = size = 0
    for each in content:
        if each.body is not None:
            resident += 1
            size += each.size
        if each.etag and not each.made:  # else there is nothing to compare with, or the base is
            put_in_doubt(each)
    one.purged.purged += resident
    one.purged.bytes += size

"""A release is prepared: its generation is built and loaded beside the live one, before the root leads to it.

    prepare(directory) -> builders' thread: open, walk, load -> [loop: it has what the live one lacks] -> told
    the root leads there -> Releases: `claim` -> catch up -> [loop: flip], and nothing is built

A fleet does not flip in one moment. So from then on a path that the live generation has nothing for is answered from
the prepared one: a page that another node has served already finds its assets here. What the live one has, its rules,
its listings and its pages for errors are its own until the flip.

A long preparation makes way for a reload: what is loaded so far is prepared, and the rest follows.

**Memory.** What is the same file as in a generation that is served is one entry of both, body and all. The rest is
loaded as far as there is room, pinned files first, and nothing that is resident makes room for it: what clients ask for
today is worth more than what they may ask for tomorrow. What is left out is loaded when it is asked for, or at the
flip, when the old release has to make room. Where a live release needs the room, what is prepared alone is let go of.

**What changes meanwhile.** The watcher of the prepared generation has been told, and is asked at the flip. It does not
hear of what is written under another name of the same file: what changes of the live release is noted, and looked at
again. Where the watcher cannot tell (`--no-watch`, it has lost track, the directory was moved) the flip builds anew,
and shares with what was prepared. Preparing the same directory again does so, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from zcserve.cache.crew import beat
from zcserve.cache.entry import each_coding
from zcserve.cache.index import Generation, Problem
from zcserve.cache.preload import Preloaded, survey
from zcserve.cache.root import Root
from zcserve.cache.shards import Shards, marked
from zcserve.content.builder import Builder, Built, ClosingError, SteppedAsideError, read_all
from zcserve.content.jobs import Jobs, PausedError
from zcserve.content.live import Live, expect_all, settle_all
from zcserve.content.merging import difference
from zcserve.content.told import report_problems, resident
from zcserve.errors import NotNowError, UsageError
from zcserve.log import Log
from zcserve.rules.book import RefusedRootError, Rulebook

_log = Log(__name__)

# So many may wait to hear of one preparation: whoever asks in a loop hears of it.
TOLD_MAX = 16
# Files that are named because they are not served as they lie there.
PROBLEMS_NAMED_MAX = 10

_SUPERSEDED = "another preparation was asked for meanwhile"
_ANEW = "the site is built anew, or gone: ask again"
_UPGRADE = "an upgrade is under way: ask again when the new process serves"


class RelativeError(UsageError):
    """The path of a directory that depends on where the server was started."""


# What a directory would be refused for again, as long as nothing is written there.
_LASTING = (RefusedRootError, RelativeError)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What came of a preparation.

    root      the directory as it was named; None: nothing is prepared
    is_live   it is the live release's own: there is nothing to prepare
    files     of the release; `bytes` of content with all variants, of which `resident_bytes` are in memory
    shared    files that it has in common with what is served besides
    problems  the first PROBLEMS_NAMED_MAX of `problems_total` files that are not served as they lie there
    why       it failed, and nothing has changed; "" where it did not
    status    of HTTP, where it failed: 400, this directory would be refused again; 503, it cannot be read, which may be
              over soon; 409, something else is under way
    """

    root: str | None = None
    is_live: bool = False
    files: int = 0
    bytes: int = 0
    resident_bytes: int = 0
    shared: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_total: int = 0
    why: str = ""
    status: int = 200

    @property
    def share(self) -> float:
        """Of its bytes that are resident, from 0 to 1."""
        return self.resident_bytes / self.bytes if self.bytes else 1.0


Told = Callable[[Preparation], object]


@dataclass(slots=True, eq=False)
class Prepared:
    """What is prepared. `told` is what was said of it; `shared` files count as another generation's."""

    built: Built
    book: Rulebook
    told: Preparation
    shared: int

    @property
    def generation(self) -> Generation:
        """What was built."""
        return self.built.generation


@dataclass(slots=True, eq=False)
class _Wish:
    """A directory that is to be prepared, None for none, and what hears of it."""

    path: str | None
    tolds: list[Told]

    def tell(self, found: Preparation) -> None:
        for told in self.tolds:
            told(found)


class Preparing:
    """Prepares releases of a site, one at a time. `prepare` and `close` are the loop's.

    held  what is prepared; None: nothing is
    """

    def __init__(self, builder: Builder, live: Live, jobs: Jobs, is_paused: Callable[[], bool]) -> None:
        """`is_paused` tells whether another process takes over: nothing is replaced then."""
        self.held: Prepared | None = None
        self._builder = builder
        self._loader = builder.loader
        self._store = builder.store
        self._live = live
        self._site = live.site
        self._jobs = jobs
        self._is_paused = is_paused
        self._next: _Wish | None = None  # it waits for the one that is under way
        self._is_over = False

    def prepare(self, path: str | None, told: Told) -> None:
        """Have this directory prepared, instead of what is; None: nothing. `told` gets what came of it, in the loop.
        What is wished for last holds: one that waits, or is being loaded, is not gone on with, unless it is of the same
        directory. Returns at once. Raises NotNowError."""
        if self._store.frozen or self._is_over:
            raise NotNowError(self._why_paused())
        before = self._next
        if before is not None and before.path == path:
            if len(before.tolds) >= TOLD_MAX:
                raise NotNowError(f"{TOLD_MAX} wait for this already: ask again when it is done")
            before.tolds.append(told)
            return
        self._next = _Wish(path, [told])
        if before is not None:
            before.tell(Preparation(why=_SUPERSEDED, status=409))
        else:
            self._jobs.submit(self._jobs.builders, self._work)

    def prepare_again(self, then: Callable[[], object]) -> None:
        """Have what is prepared compared with its files, and call `then` in the loop when it is. In any thread."""
        self._jobs.call_soon(partial(self._again, then))

    def _again(self, then: Callable[[], object]) -> None:
        try:
            if self.held is not None:
                self.prepare(self.held.told.root, lambda _: then())
                return
        except NotNowError:
            pass
        then()

    def _begin(self) -> _Wish | None:
        wish, self._next = self._next, None
        return wish

    def _end(self, wish: _Wish, found: Preparation | None) -> None:
        """None: it has stepped aside."""
        if found is None and self._is_over:
            wish.tell(Preparation(why=_ANEW, status=409))
        elif found is None and self._next is None:
            self._next = wish
            self._jobs.submit(self._jobs.builders, self._work)
        elif found is None and self._next is not None and self._next.path == wish.path:
            self._next.tolds[:0] = wish.tolds
        else:
            wish.tell(found or Preparation(why=_SUPERSEDED, status=409))

    def tell_of_end(self, why: str) -> None:
        """The log says that what is prepared is let go of, if anything is."""
        if self.held is not None:
            _log.info("%s%s is not prepared any more: %s", self._site.label, self.held.told.root, why)

    def _why_paused(self) -> str:
        return _UPGRADE if self._store.frozen else _ANEW

    def end(self) -> None:
        """In the loop, once no thread begins anything more: what waits hears of it."""
        self._is_over = True
        if (wish := self._begin()) is not None:
            wish.tell(Preparation(why=_ANEW, status=409))

    def close(self) -> None:
        """The threads have ended: follow nothing any more."""
        held, self.held = self.held, None
        if held is not None and held.built.watcher is not None:
            held.built.watcher.close()

    # --- in the builders' thread ----------------------------------------------------------------------------------

    def _work(self) -> None:
        wish = self._jobs.in_loop(self._begin)
        if wish is None:
            return
        found: Preparation | None = Preparation(why="it failed: the log says why", status=500)
        try:
            found = self._prepare(wish.path) if wish.path is not None else self._drop()
        except SteppedAsideError:
            found = None
        except (UsageError, OSError) as error:
            _log.error("%s%s is not prepared: %s", self._site.label, wish.path, error)
            found = Preparation(why=str(error), status=400 if isinstance(error, _LASTING) else 503)
        except PausedError:
            found = Preparation(why=self._why_paused(), status=409)
        except ClosingError:
            found = Preparation(why=_ANEW, status=409)
            raise
        finally:
            self._jobs.call_soon(partial(self._end, wish, found))

    def _drop(self) -> Preparation:
        if (before := self.held) is not None:
            self._hold(None)
            self.held = None
            self._let_go(before.built)
            _log.info("%s%s is not prepared any more", self._site.label, before.told.root)
            self._jobs.collect()
        return Preparation()

    def _prepare(self, path: str) -> Preparation:
        before, site = self.held, self._site
        if not os.path.isabs(path):
            raise RelativeError(f"{path!r} is no absolute path")
        if (watcher := self._live.watcher) is not None:
            read_all(watcher)  # else what its own watcher is told first is how the directory came to be
        book = copy(self._builder.book)  # which has the rules of the live release, and finds the same again
        root = self._builder.open_beside(path, book)
        if root.is_same(site.root):
            self._drop()
            return _told_of(path, survey(site.live), site.live, 0, is_live=True)
        pins = site.pins.globs
        built, shared = self._build(root, book, before)
        generation = built.generation
        self.held = Prepared(built, book, _told_of(path, built.report, generation, shared), shared)
        built.changed.update(marked(difference(site.live, generation)))
        if before is not None:
            self._let_go(before.built)
        if site.pins.globs != pins:  # what was loaded meanwhile is pinned as it was before
            for one in chain.from_iterable(map(each_coding, generation.entries())):
                self._store.repin(one, site.pins)
        if not built.is_loaded:
            raise SteppedAsideError
        _log.info("%sprepared %s: %s", site.label, path, resident(built.report))
        report_problems(generation.problems)
        self._jobs.collect()
        return self.held.told

    def _build(self, root: Root, book: Rulebook, before: Prepared | None) -> tuple[Built, int]:
        """What answers from now on what the live generation lacks, and how many files it shares with others. Not all is
        loaded where something else waits for the thread. Raises UsageError, PausedError."""
        site = self._site
        shared = 0

        def walked(generation: Generation) -> None:
            nonlocal shared
            others = (site.live, *site.older)
            shared = _count_shared(generation, others)
            self._store.count_index(~site.id, generation.bytes_beside(shared))
            if before is not None:  # what is prepared now gives back what the next does not share
                self._forget_but_for(before.generation, (generation, *others))

        noted = self._live.note(is_building=False)
        try:
            built = self._builder.build_beside(root, book, site.generations, walked, self._is_awaited)
        except BaseException:
            self._live.end_note(noted)
            raise
        built.noted = noted
        try:
            expect_all(self._live, built.generation, self._jobs.in_loop)
            self._hold(built.generation)
        except PausedError:
            self._let_go(built)
            raise
        except BaseException:
            self._close_watcher(built)
            raise
        return built, shared

    def _is_awaited(self) -> bool:
        return self._jobs.builders.is_awaited

    def _hold(self, following: Generation | None) -> None:
        """No client gets from then on what was before."""
        self._jobs.in_loop(partial(self._hold_now, following))
        self._jobs.await_passed()

    def _hold_now(self, following: Generation | None) -> None:
        """In the loop."""
        if self._is_paused():
            self._live.expect_next(self._site.live)
            raise PausedError
        self._live.prepare(following)

    def _let_go(self, before: Built) -> None:
        """It answers nothing: give back what it alone has."""
        generation = before.generation
        if before.noted is not None:
            self._live.end_note(before.noted)
        self._close_watcher(before)
        settle_all(self._live, chain.from_iterable(generation.keys_in_pieces()), self._jobs.in_loop)
        self._forget_but_for(generation, self._site.generations)
        generation.clear()
        while self._store.take_back():
            beat()
        self._count_index()

    def _count_index(self) -> None:
        held = self.held
        taken = 0 if held is None else held.generation.bytes_beside(held.shared)
        self._store.count_index(~self._site.id, taken)

    def _forget_but_for(self, generation: Generation, others: Sequence[Generation]) -> None:
        """Forget what of this one none of these have."""
        finds = [one.resources.get for one in others]
        for entry in generation.entries():
            if not any(find(entry.key) is entry for find in finds):
                self._loader.forget(entry)

    def _close_watcher(self, built: Built) -> None:
        watcher, built.watcher = built.watcher, None
        if watcher is not None:
            watcher.close()

    # --- the flip -------------------------------------------------------------------------------------------------

    def claim(self) -> Built | None:
        """What is prepared, where the site's root leads to it by now, and its watcher knows all that has changed: it is
        to be the live one. None: it is to be built."""
        held = self.held
        if held is None or (watcher := held.built.watcher) is None or watcher.is_lost or watcher.blind is not None:
            return None
        generation, directory = held.generation, self._builder.config.directory
        try:
            if not Root(directory).is_same(generation.root):
                return None
            root = self._builder.open_beside(directory, held.book)
        except UsageError:
            return None  # to build it says why
        if root.rules is not generation.root.rules:
            return None
        generation.root = root
        watcher.name_root(root)
        return held.built

    def has(self, built: Built) -> bool:
        """Whether this is what is prepared, and stays so where a flip to it fails."""
        return self.held is not None and self.held.built is built

    def flipped(self, built: Built) -> bool:
        """After a flip: what was prepared of the same directory is no more. Whether this was it."""
        held = self.held
        if held is None:
            return False
        if held.built is built:
            self.held = None
            self._builder.book = held.book
            if built.noted is not None:
                self._live.end_note(built.noted)
            built.noted, built.changed = None, Shards()
            self._count_index()
            return True
        if held.generation.root.is_same(self._site.root):
            self._drop()
        else:  # what is noted is of the keys that the live one has had, and others have come
            held.built.changed.update(marked(difference(self._site.live, held.generation)))
            held.shared = _count_shared(held.generation, (self._site.live, *self._site.older))
            self._count_index()
        return False


def _told_of(
    path: str, report: Preloaded, generation: Generation, shared: int, *, is_live: bool = False
) -> Preparation:
    problems = generation.problems
    return Preparation(
        path,
        is_live,
        report.files - report.variants,
        report.bytes,
        report.resident_bytes,
        shared,
        problems[:PROBLEMS_NAMED_MAX],
        len(problems),
    )


def _count_shared(generation: Generation, others: Sequence[Generation]) -> int:
    """How many files it has in common with these."""
    finds = [one.resources.get for one in others]
    return sum(any(find(entry.key) is entry for find in finds) for entry in generation.entries())

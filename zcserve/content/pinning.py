"""What is pinned changes while the server runs: what is resident is sorted anew, and what is pinned now is loaded.

The globs themselves change at once (cache/pinned.py), so what becomes resident from then on goes by the new ones. Then
the patches' thread goes through all that is served, and gives each resident body to the eviction or takes it from it;
nothing is patched meanwhile. Changes that come until that is done are sorted together, behind it: so however many there
are, patches have their turn. What is pinned and not resident is loaded by a list of the server's own (warming.py).

Pins live as long as the process: they survive reloads, and not a restart or an upgrade, which begins with `--pin`. A
result that an application made, and that is kept already, is sorted when it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from zcserve.cache.entry import each_coding
from zcserve.cache.pinned import Pinned
from zcserve.cache.store import Store
from zcserve.content.builder import ClosingError
from zcserve.content.jobs import Jobs
from zcserve.content.live import Live
from zcserve.content.warming import Warming, Warmth
from zcserve.errors import NotNowError

# Changes that wait while what is pinned is sorted: whoever asks in a loop hears of it.
CHANGES_WAITING_MAX = 64


@dataclass(frozen=True, slots=True)
class Pins:
    """What is pinned after a change.

    globs     in force
    files     that they match in the live release
    resident  of these, with all their variants; `bytes` of content
    failed    the first of those that are not resident, each with the reason; `failed_total` counts all
    """

    globs: tuple[str, ...]
    files: int
    resident: int
    bytes: int
    failed: list[tuple[str, str]] = field(default_factory=list)
    failed_total: int = 0


class Pinning:
    """Changes what is pinned. In the loop's thread, but for `sort`."""

    def __init__(self, live: Live, jobs: Jobs, store: Store, warming: Warming) -> None:
        self._live = live
        self._site = live.site
        self._jobs = jobs
        self._store = store
        self._warming = warming
        self._is_sorting = False  # what is pinned is sorted, and loaded
        self._waiting: list[Callable[[Pins], object]] = []  # for the next time that it is

    def change(self, add: Collection[str], remove: Collection[str], told: Callable[[Pins], object]) -> None:
        """Pin what these globs match, and no more what those match; `told` gets what came of it, when what is pinned
        was loaded. What is so already is no error. Raises UsageError for what is no glob, and NotNowError where too
        many wait, or another process takes over; then nothing has changed."""
        if self._store.frozen:
            raise NotNowError("an upgrade is under way: ask again when the new process serves")
        if len(self._waiting) >= CHANGES_WAITING_MAX:
            raise NotNowError(f"{CHANGES_WAITING_MAX} changes of pins wait already: ask again when they are done")
        self._site.pins.change(add, remove)
        self._sort_later(told)

    def follow(self, old: Pinned, known: Collection[str]) -> None:
        """The site takes the place of one that has these pins, of which it had the `known` ones when it was built: what
        has come and gone since then does so here, and is loaded. Raises UsageError, and has changed nothing then."""
        if set(old.globs) != set(known):
            self._site.pins.follow(old, known)
            self._sort_later(lambda _: None)

    @property
    def is_busy(self) -> bool:
        """Whether what is pinned is sorted, and loaded."""
        return self._is_sorting

    def _sort_later(self, told: Callable[[Pins], object]) -> None:
        self._waiting.append(told)
        if not self._is_sorting:
            self._begin()

    def _begin(self) -> None:
        self._is_sorting = True
        told, self._waiting = self._waiting, []
        self._jobs.submit(self._jobs.patches, partial(self._guarded, told))

    def _guarded(self, told: list[Callable[[Pins], object]]) -> None:
        """In the patches' thread."""
        try:
            self._sort(told)
        except ClosingError:
            raise
        except Exception:
            self._jobs.call_soon(self._end)  # the next change need not wait for ever
            raise

    def _end(self) -> None:
        self._is_sorting = False
        if self._waiting:
            self._begin()

    def _sort(self, told: list[Callable[[Pins], object]]) -> None:
        """In the patches' thread: sort what is resident."""
        for generation in self._site.generations:
            for entry in generation.entries():
                for one in each_coding(entry):
                    self._store.repin(one, self._site.pins)
        live = self._site.live
        first = self._site.pins.first(live)
        live.pinned = dict.fromkeys(entry.key for entry in first)
        self._jobs.call_soon(partial(self._load, [entry.key for entry in first], told))

    def _load(self, keys: list[bytes], told: list[Callable[[Pins], object]]) -> None:
        if self._live.is_building:  # the next generation may have been loaded by the globs from before
            self._live.after_flip(partial(self._sort_later, lambda _: None))
        self._warming.begin(keys, len(keys), partial(self._loaded, told))

    def _loaded(self, told: list[Callable[[Pins], object]], warmth: Warmth) -> None:
        globs = self._site.pins.globs
        pins = Pins(globs, warmth.paths, warmth.resident, warmth.resident_bytes, warmth.failed, warmth.failed_total)
        self._end()
        for tell in told:
            tell(pins)

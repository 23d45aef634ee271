"""Loading what is served already: `--listen-when start` has clients answered when it is known what there is.

In the builder's thread, for as long as nothing else waits for it: a reload goes first, and loads what is missing by
itself. Changes below the root are followed meanwhile, by the other thread. So nothing here replaces anything: a file
that is found changed, or cannot be read, is told to whatever replaces what a request finds so.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation, Problem
from zcserve.cache.loader import Loader
from zcserve.cache.naming import path_of
from zcserve.cache.preload import Faults, Preloaded
from zcserve.cache.reading import ChangedError
from zcserve.config.units import counted
from zcserve.content.builder import Builder, ClosingError, SteppedAsideError
from zcserve.content.jobs import Jobs
from zcserve.content.live import Live
from zcserve.content.told import resident, tell_problems
from zcserve.errors import reason_of
from zcserve.log import Log

_log = Log(__name__)

# What has changed while it was loaded is loaded again, so often at most; then it is loaded when it is asked for.
FILLS_MAX = 3

# Have what lies at an entry's path now take its place. True: it has.
Renew = Callable[[Generation, Entry], bool]


def _renew_nothing(generation: Generation, entry: Entry) -> bool:
    """A `Renew` once all is over."""
    return False


def _tell_nothing(report: Preloaded) -> None:
    """A `filled` once all is over."""


class _Told(Faults):
    """Of a generation that is served: what replaces is told, and does it."""

    def __init__(self, generation: Generation, loader: Loader, renew: Renew) -> None:
        super().__init__(generation, loader)
        self.renewed = 0
        self.problems: list[Problem] = []
        self._renew = renew

    def replace(self, entry: Entry, representation: Entry, error: ChangedError | OSError) -> Entry | None:
        """As `Faults.replace`; nothing is loaded instead, for now."""
        if isinstance(error, OSError):
            self.problems.append(Problem.of(path_of(representation), reason_of(error)))
        else:
            self.renewed += self._renew(self.generation, entry)
        return None

    def give_up(self, entry: Entry, error: OSError) -> None:
        """As `Faults.give_up`."""
        self.problems.append(Problem.of(path_of(entry), reason_of(error)))


class Filling:
    """Loads what fits of the live generation. `filled` is told what is resident then, in the builder's thread."""

    def __init__(
        self, builder: Builder, live: Live, jobs: Jobs, renew: Renew, filled: Callable[[Preloaded], None]
    ) -> None:
        self.is_over = True
        self._builder = builder
        self._live = live
        self._jobs = jobs
        self._renew = renew
        self._filled = filled
        self._began = 0.0

    def begin(self) -> None:
        """Have it loaded."""
        self.is_over = False
        self._began = time.monotonic()
        self._jobs.submit(self._jobs.builders, self._fill)

    def let_go(self) -> None:
        """Its threads have ended: what it told refers to it."""
        self._renew, self._filled = _renew_nothing, _tell_nothing

    def _fill(self) -> None:
        try:
            self._fill_now()
        except SteppedAsideError:
            self._jobs.submit(self._jobs.builders, self._fill)
        except ClosingError:
            raise
        except BaseException:
            self.is_over = True  # what is missing is loaded when it is asked for
            raise

    def _fill_now(self) -> None:
        generation, loader = self._live.site.live, self._builder.loader
        for _ in range(FILLS_MAX):
            faults = _Told(generation, loader, self._renew)
            report = self._builder.fill(generation, faults, self._go_on)
            if not faults.renewed:
                break
        loader.want_what_is_missing(generation)  # of what was asked for before it was loaded
        tell_problems(faults.problems)
        took = time.monotonic() - self._began
        files = counted(report.files - report.variants, "file")
        _log.info("loaded: %s, %s, in %.2f s", files, resident(report), took)
        self._filled(report)
        self.is_over = True

    def _go_on(self, done: int, total: int) -> None:
        if self._jobs.builders.is_awaited:
            raise SteppedAsideError

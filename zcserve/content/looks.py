"""Looks at the files of all sites, about once a minute: their heat knows then how often they were used (cache/heat.py).
And has it written down now and then, where it is kept (heat_file.py).

In the loop, in short steps (net/steps.py): a look at 100,000 files takes 0.1 s of a core, and comes once a minute. Of a
million they are as rare as keeps them below a small share of the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from math import inf

from zcserve.cache.entry import each_coding
from zcserve.content.heat_file import WRITTEN_EVERY_S, HeatFile
from zcserve.net.service import Service
from zcserve.net.steps import Steps
from zcserve.net.timers import Deadline

EVERY_S = 60.0


class Looks:
    """Of one server. In the loop's thread, but for `close`."""

    def __init__(self, service: Service) -> None:
        """Look now and then, from now on, where the configuration counts heat."""
        self._service = service
        self._loop = service.loop
        path = service.config.heat_file
        self._file = HeatFile(path) if path else None
        self._is_over = False
        self._write_at = self._loop.now + WRITTEN_EVERY_S
        self._steps = Steps(service.loop, self._looked)
        self._deadline = Deadline(self._look)
        if service.config.counts_heat:
            self._wait(EVERY_S)

    def end(self) -> None:
        """Look no more, and write nothing down: another process does."""
        self._is_over = True
        self._deadline.at = inf
        self._loop.timers.disarm(self._deadline)
        self._steps.stop()

    def close(self) -> None:
        """The loop turns no more: write down what is known by now, unless it has ended."""
        if self._is_over:
            return
        self.end()
        if self._file is not None:
            for entry in chain.from_iterable(site.live.entries() for site in self._service.sites):
                for one in each_coding(entry):
                    self._loop.front.tell_uses(one)
            for _ in self._look_at_all():
                pass
            self._file.write(self._service.sites)

    def _look(self) -> None:
        self._deadline.at = inf
        self._steps.begin(self._look_at_all())

    def _look_at_all(self) -> Iterator[object]:
        for site in self._service.sites:
            yield from site.heat.look(site.live.entries(), self._loop.now)

    def _looked(self) -> None:
        now, file = self._loop.now, self._file
        if file is not None and now >= self._write_at:
            self._write_at = now + WRITTEN_EVERY_S
            self._service.fetcher.run(file, partial(file.write, self._service.sites), lambda _: None)
        self._wait(self._steps.pause_s(EVERY_S))

    def _wait(self, seconds: float) -> None:
        self._deadline.at = self._loop.now + seconds
        self._loop.timers.arm(self._deadline)

"""The content of a site without a server: what `Content` is made of, each part for itself, and a loop that the test
turns."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.trees import Tree, entry_of
from tests.support.waiting import Predicate, T
from zcserve import Config
from zcserve.cache.entry import Entry, each_coding
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.index import Generation
from zcserve.cache.instance import Instance
from zcserve.cache.loader import Loader
from zcserve.cache.pinned import Pinned
from zcserve.cache.root import Root
from zcserve.cache.store import Store
from zcserve.content.builder import Builder, Built
from zcserve.content.crews import Crews
from zcserve.content.jobs import Counters, Jobs
from zcserve.content.live import Live
from zcserve.content.news import News
from zcserve.content.patches import Patches
from zcserve.content.pinning import Pinning, Pins
from zcserve.content.preparing import Preparing
from zcserve.content.purging import Aim, Purged, Purging
from zcserve.content.readiness import Readiness
from zcserve.content.releases import Releases
from zcserve.content.renewals import Renewals
from zcserve.content.warming import Warming, Warmth
from zcserve.net.bodies import Allowance
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.service import Service
from zcserve.site.site import Site

WITHIN_S = 20.0


class Shop:
    """A root, and a builder for it."""

    def __init__(self, path: Path, **settings: Any) -> None:
        path.mkdir(exist_ok=True)
        self.tree = Tree(path)
        self.config = config = Config(root=path, **settings)
        self.site = Site(0, Generation(Root(path)), pins=Pinned(config.pin))
        self.store = Store(
            config.memory,
            slab_bytes=config.slab_bytes,
            small_body_bytes_max=config.small_body_bytes_max,
        )
        self.instance = Instance()
        self.loader = Loader(self.store, config, self.site.pins, self.site.heat)
        self.builder = Builder(config, self.store, self.loader, self.site, self.instance)
        self._built: list[Built] = []

    def build(self, **more: Any) -> Built:
        """The next generation; its watcher is closed with the shop."""
        self._built.append(self.builder.build(**more))
        return self._built[-1]

    def close(self) -> None:
        for built in self._built:
            if built.watcher is not None:
                with contextlib.suppress(OSError):  # a release has closed it
                    built.watcher.close()
        self.loader.variants.close()
        self.instance.close()
        self.store.close()


class Shown(Shop):
    """A shop whose first generation is served; `planned` counts how often its times were asked to be looked at."""

    def __init__(self, path: Path, files: dict[str, bytes], **settings: Any) -> None:
        super().__init__(path, **settings)
        self.tree.plant(files)
        self.loop = Loop(Poller())
        self.counters = Counters()
        self.planned = 0
        built = self.builder.build()
        self.site.serve(built.generation)
        self.fetcher = Fetcher(self.loader, 1, self.loop.call_soon)
        self.service = Service(
            config=self.config,
            loop=self.loop,
            parser=Parser(self.config),
            prefixes=Prefixes(),
            fetcher=self.fetcher,
            sites=(self.site,),
            bodies=Allowance(1 << 20),
        )
        closing = self.builder.closing
        self.crews = Crews()
        self.jobs = Jobs(self.loop, closing, self.counters, self.crews, lambda: self.site.root.device)
        self.renewals = Renewals(self.loader, closing)
        self.live = Live(self.site, self.service, self.config, News(self.instance, self.loop), self._plan)
        self.preparing = Preparing(self.builder, self.live, self.jobs, lambda: self.renewals.is_paused)
        self.releases = Releases(
            self.config,
            self.builder,
            self.live,
            self.jobs,
            self.renewals,
            self.counters,
            self.preparing,
            built.report,
        )
        self.patches = Patches(self.builder, self.live, self.jobs, self.releases, self.renewals, self.counters)
        self.warming = Warming(self.site, self.service, self.store)
        self.pinning = Pinning(self.live, self.jobs, self.store, self.warming)
        self.purging = Purging(
            self.builder,
            self.live,
            self.jobs,
            self.patches,
            self.releases,
            self.warming,
            self.preparing,
            self._purge_results,
        )
        self.is_draining = self.is_filling = False
        self.readiness = Readiness(
            self.live,
            self.store,
            report=lambda: self.releases.report,
            is_filling=lambda: self.is_filling,
            is_loading=lambda: self.warming.is_busy,
            is_draining=lambda: self.is_draining,
            call_soon=self.loop.call_soon,
            wanted_share=self.config.ready_share,
        )
        self.results_purged: list[bool] = []  # whether at once, of each purge
        self.live.follow(built.watcher)

    def _purge_results(self, takes: object, hard: bool, then: Callable[[int, int], object]) -> None:
        self.results_purged.append(hard)
        then(0, 0)

    def purge(self, aim: Aim, *, hard: bool, is_early: bool = False) -> Purged:
        """Purge, and turn until that is told."""
        told: list[Purged] = []
        self.purging.purge(aim, hard=hard, told=told.append, is_early=is_early)
        return self.turn_until(lambda: told)[0]

    def warm(self, *paths: bytes) -> Warmth:
        """Warm a list, likewise."""
        warmth = self.warming.warm(paths, len(paths), lambda _: None)
        self.turn_until(lambda: warmth.is_over)
        return warmth

    def pin(self, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Pins:
        """Change what is pinned, likewise."""
        told: list[Pins] = []
        self.pinning.change(add, remove, told.append)
        return self.turn_until(lambda: told)[0]

    def drop(self, *keys: bytes) -> None:
        """Have files leave memory."""
        for key in keys:
            for one in each_coding(self.entry(key)):
                self.store.drop(one)

    def _plan(self) -> None:
        self.planned += 1

    def entry(self, key: bytes) -> Entry:
        """What is served under a key."""
        return entry_of(self.site.live, key)

    def turn_until(self, is_true: Predicate[T]) -> T:
        """Turn the loop until something is true."""
        deadline = time.monotonic() + WITHIN_S
        while not (value := is_true()):
            if time.monotonic() > deadline:
                pytest.fail(f"not true within {WITHIN_S} s: {is_true!r}")
            self.loop.wake_at(self.loop.now + 0.005, self)
            self.loop.run_once()
        return value

    def finish(self) -> None:
        """Turn until the threads have done what they were given."""
        for crew in (self.jobs.patches, self.jobs.builders):
            done: list[bool] = []
            self.jobs.submit(crew, lambda done=done: done.append(True))  # type: ignore[misc]
            self.turn_until(lambda done=done: done)

    def close(self) -> None:
        self.builder.closing.set()
        self.jobs.close(WITHIN_S)
        self.crews.close(WITHIN_S)
        self.fetcher.close()
        if self.live.watcher is not None:
            self.live.watcher.close()
        self.loop.close()
        super().close()


Show = Callable[..., Shown]

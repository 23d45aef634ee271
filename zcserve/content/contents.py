"""The content of all sites of a server, as if it were one: what is asked of each, what is told when all are done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf

from zcserve.agenda import Agenda
from zcserve.cache.crew import CLOSE_WITHIN_S
from zcserve.cache.entry import Entry
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.index import Generation
from zcserve.cache.instance import Instance
from zcserve.content.content import Content
from zcserve.content.crews import Crews
from zcserve.content.news import News
from zcserve.content.readiness import MISSING_NAMED_MAX, Ready
from zcserve.content.renewals import Ask
from zcserve.net.loop import Loop


class Contents:
    """One `Content` for each site. In the loop, but for `reload`, `status` and `close`.

    crews    the threads in which all of it is made
    news     what tells of changes
    unbuilt  why the last reload could not build all sites that the configuration names; "" where it could
    """

    def __init__(self, loop: Loop, fetcher: Fetcher, instance: Instance) -> None:
        """`instance` is what the watchers of all sites share, and is closed with this."""
        self.unbuilt = ""
        self.crews = Crews()
        self.news = News(instance, loop)
        self._loop = loop
        self._agenda: Agenda[Content] = Agenda()
        self._by_site: dict[int, Content] = {}
        self._leaving: set[Content] = set()  # of sites that are gone, while their threads end
        self._hearing: list[Callable[[int, str], None]] = []  # how those end whose end is waited for
        fetcher.outdated.subscribe(self._renew)

    def add(self, content: Content) -> None:
        """From now on it is one of them."""
        self._by_site[content.site.id] = content
        content.planned.subscribe(partial(self._plan, content))
        self._plan(content, content.due)

    def remove(self, site: int) -> Content:
        """It is none of them any more: have it leave."""
        content = self._by_site.pop(site)
        self._leaving.add(content)
        self._agenda.set(content, inf)
        content.stand_still()
        for hear in tuple(self._hearing):  # what takes its place was made of what is there
            hear(site, "")
        return content

    def has_left(self, content: Content) -> None:
        """Its threads have ended. In any thread."""
        self._leaving.discard(content)

    def sort(self, sites: Iterable[int]) -> None:
        """From now on this is the order of all of them."""
        self._by_site = {site: self._by_site[site] for site in sites}

    def __iter__(self) -> Iterator[Content]:
        return iter(tuple(self._by_site.values()))

    def __len__(self) -> int:
        return len(self._by_site)

    @property
    def first(self) -> Content:
        """That of the default site, or of the first that the configuration names."""
        return next(iter(self))

    def _renew(self, generation: Generation, entry: Entry) -> bool:
        """As `Fetcher.outdated`: told to the site whose generation it is."""
        content = self._by_site.get(generation.root.site)
        return content is not None and content.renew(generation, entry)

    # --- each turn ----------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When one of them has something to do."""
        return self._agenda.first

    def _plan(self, content: Content, due: float) -> None:
        if self._by_site.get(content.site.id) is content:  # else it leaves
            self._agenda.set(content, due)

    def each_turn(self) -> None:
        """Have those do what is due that have something to do."""
        if self._loop.now < self._agenda.first:
            return
        due = deque(self._agenda.take(self._loop.now))
        try:
            while due:
                due.popleft().each_turn()
        finally:
            for content in due:  # one has failed: the others have their turn
                self._plan(content, content.due)

    # --- what is known ------------------------------------------------------------------------------------

    @property
    def is_loading(self) -> bool:
        """Whether one is still being loaded, though it is served: `--listen-when start`."""
        return any(content.is_loading for content in self)

    @property
    def left_out(self) -> int:
        """How many files of all live generations did not fit."""
        return sum(content.report.left_out for content in self)

    def of(self, site: int) -> Content | None:
        """That of the site of this number. In any thread."""
        return self._by_site.get(site)

    def named(self, site: str) -> Content | None:
        """That of the site of this name."""
        return next((content for content in self if content.site.name == site), None)

    def readiness(self) -> Ready:
        """Whether all are ready; what of all is wanted and there."""
        found = [content.readiness.ask() for content in self]
        if len(found) == 1:
            return found[0]
        labels = [content.site.label for content in self]
        wanted = sum(one.wanted_bytes for one in found)
        resident = sum(one.resident_bytes for one in found)
        missing = [
            lacking._replace(why=label + lacking.why)
            for label, one in zip(labels, found, strict=True)
            for lacking in one.missing
        ]
        worst = next((one for one in found if not one.is_ready), found[0])
        return worst._replace(
            share=resident / wanted if wanted else 1.0,
            wanted_bytes=wanted,
            resident_bytes=resident,
            missing=tuple(missing[:MISSING_NAMED_MAX]),
            missing_total=sum(one.missing_total for one in found),
            why="" if worst.is_ready else labels[found.index(worst)] + worst.why,
        )

    def status(self) -> str:
        """What is served, in a line. In any thread."""
        told = self.first.status()
        if len(self) > 1:
            failed = [content.site.name for content in self if content.has_failed]
            told = f"serving {len(self)} sites: {self.first.told_of_memory()}"
            told += f"; the last reload failed of: {', '.join(failed)}" if failed else ""
        return told + (f"; the sites are not as configured: {self.unbuilt}" if self.unbuilt else "")

    # --- all of them --------------------------------------------------------------------------------------

    def reload(self, told: Callable[[str], object] | None = None) -> None:
        """As `Content.reload`, of each; `told` hears of the last one why some failed, or ""."""
        contents = tuple(self)
        if told is None:
            for content in contents:
                content.reload()
            return
        left = {content.site.id: content.site.label for content in contents}
        whys: list[str] = []

        def hear(site: int, why: str) -> None:
            if site not in left:
                return  # it has gone
            label = left.pop(site)
            whys.append(label + why if why else "")
            if not left:
                self._hearing.remove(hear)
                told("; ".join(filter(None, whys)))

        self._hearing.append(hear)
        for content in contents:
            content.reload(partial(hear, content.site.id))

    def catch_up(self) -> None:
        """As `Content.catch_up`, of each."""
        for content in self:
            content.catch_up()

    def when_known(self, then: Callable[[], None]) -> None:
        """As `Content.when_known`, once each has said so."""
        after_all((content.when_known for content in self), then)

    def pause(self, then: Callable[[], None], ask: Ask) -> None:
        """As `Content.pause`; `then` is called when it is so of each."""

        def pause(content: Content, then: Callable[[], None]) -> None:
            content.pause(then, ask)

        after_all((partial(pause, content) for content in self), then)

    def resume(self) -> None:
        """As `Content.resume`, of each."""
        for content in self:
            content.resume()

    def follow_on(self) -> None:
        """As `Content.follow_on`, of each."""
        for content in self:
            content.follow_on()

    def stand_still(self) -> None:
        """As `Content.stand_still`, of each."""
        for content in self:
            content.stand_still()

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """As `Content.close`, of all within this time."""
        until = time.monotonic() + within_s
        contents = *self, *self._leaving
        for content in contents:
            content.end()  # all at the same time
        ended = [content.close(max(until - time.monotonic(), 0)) for content in contents]
        ended.append(self.crews.close(max(until - time.monotonic(), 0)))
        self.news.close()  # also where a thread goes on: it finds the instance closed
        return all(ended)


def after_all(begin: Iterable[Callable[[Callable[[], None]], object]], then: Callable[[], None]) -> None:
    """Begin several things that each say when they are over, and call `then` after the last. In the loop's thread."""
    steps = list(begin)
    left = len(steps)

    def over() -> None:
        nonlocal left
        left -= 1
        if not left:
            then()

    for step in steps:
        step(over)

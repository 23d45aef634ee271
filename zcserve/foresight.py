"""What more or less memory would give: a miss-ratio curve, drawn once there are misses, and told in the log."""

from __future__ import annotations

from zcserve.cache.curve import MissRatioCurve
from zcserve.cache.store import Store
from zcserve.config.units import size_text
from zcserve.content.contents import Contents
from zcserve.log import Log
from zcserve.net.sampler import Sampler
from zcserve.net.service import Service

_log = Log(__name__)

# How often the log says it, while not everything fits.
MEMORY_TOLD_EVERY_S = 600.0


class Foresight:
    """In the loop."""

    def __init__(self, service: Service, store: Store, content: Contents) -> None:
        self._service = service
        self._store = store
        self._content = content
        self._sampler: Sampler | None = None
        self._tell_at = 0.0

    def curve(self) -> MissRatioCurve | None:
        """What is known by now; None where nothing has missed yet."""
        return self._sampler.curve if self._sampler is not None else None

    def each_second(self) -> None:
        """Have the curve drawn, once there are misses."""
        now, sampler = self._service.loop.now, self._sampler
        if sampler is not None:
            sampler.each_second(now)
            if now >= self._tell_at:
                self._tell_at = now + MEMORY_TOLD_EVERY_S
                self._tell(sampler)
        elif self._store.evictions or self._content.left_out:
            self._sampler = Sampler(self._service.loop.front)
            for site in self._service.sites:
                site.sampler = self._sampler
            self._tell_at = now + MEMORY_TOLD_EVERY_S

    def _tell(self, sampler: Sampler) -> None:
        curve, memory = sampler.curve, self._store.budget
        if curve.accesses:
            points = curve.points([memory // 2, memory, 2 * memory])
            told = ", ".join(f"{ratio:.2f} with {size_text(size)}" for size, ratio in points)
            _log.info("memory: the share of requests that finds content resident would be %s", told)

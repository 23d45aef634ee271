"""What the connections of a server share: settings, the loop, what is served, and which connections there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zcserve.cache.entry import Entry
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.index import Generation
from zcserve.config.table import Config
from zcserve.forwarded import Proxies
from zcserve.net import negotiate
from zcserve.net.bodies import Allowance
from zcserve.net.exchange import Application
from zcserve.net.failures import Failures
from zcserve.net.fastlane import Teacher
from zcserve.net.loop import Loop
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.sampler import Sampler
from zcserve.net.shortage import Shortage

if TYPE_CHECKING:
    from zcserve.net._lane import Lane
    from zcserve.net.connection import Connection
    from zcserve.net.ending import Ending


@dataclass(slots=True)
class Service:
    """What all connections share. `log` writes a line of the access log; None: there is none. `closed` is called when a
    connection has ended."""

    config: Config
    loop: Loop
    parser: Parser
    prefixes: Prefixes
    fetcher: Fetcher
    generation: Generation
    bodies: Allowance  # of requests, that are kept for applications
    log: Callable[..., None] | None = None
    teacher: Teacher | None = None
    sampler: Sampler | None = None
    application: Application | None = None
    proxies: Proxies | None = None  # the trusted ones
    draining: bool = False  # every answer is its connection's last
    ending: bool = False  # idle connections are closed, too
    hurried: bool = False  # an ending lasts only until everything has arrived
    requests: int = 0
    connections: set[Connection] = field(default_factory=set)
    endings: set[Ending] = field(default_factory=set)
    closed: Callable[[], None] = lambda: None
    shortage: Shortage = field(init=False)
    failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        self.shortage = Shortage(self.loop.timers)
        self.failures = Failures(self.loop.timers)

    @property
    def lane(self) -> Lane | None:
        """The compiled lane, if there is one."""
        return self.teacher.lane if self.teacher is not None else None

    def count(self) -> int:
        """Open connections, the lane's among them."""
        lane = self.lane
        # The lane counts those, too, that it has handed over and that Python has not taken yet.
        return len(self.connections) + len(self.endings) if lane is None else lane.count + lane.foreign

    def choose(self, generation: Generation, base: Entry, accept: dict[bytes, int] | None) -> Entry | None:
        """Negotiate, and have variants made again that were evicted."""
        for variant in base.variants:
            if variant.made and variant.body is None:
                self.fetcher.remake(generation, base, variant)
        return negotiate.choose(base, accept)

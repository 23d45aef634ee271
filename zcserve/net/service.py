"""What the connections of a server share: settings, the loop, its sites, and which connections there are."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from zcserve.cache.entry import Entry
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.index import Generation
from zcserve.config.table import Config
from zcserve.events import Event
from zcserve.forwarded import Proxies
from zcserve.net import negotiate
from zcserve.net.access_logs import AccessLogs
from zcserve.net.admission import Keeper
from zcserve.net.bodies import Allowance
from zcserve.net.counts import SAMPLED_EVERY, Counts, Tally, by_account, states_of, turns_of
from zcserve.net.failures import Failures
from zcserve.net.front import Kind
from zcserve.net.loop import Loop
from zcserve.net.notes import Notes
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
from zcserve.net.shortage import QUESTIONS, Shortage
from zcserve.site.accounts import Accounts
from zcserve.site.hosts import Hosts
from zcserve.site.site import Site


class Claim(enum.IntEnum):
    """What a client has to its place, where any may have to make way for a newcomer: the least goes first."""

    NONE = 0  # it had its answer, or has kept the server waiting for FRESH_S: for a request, the rest of it, or to read
    STREAM = 1  # it is sent what goes on, and can ask for that again
    FRESH = 2  # its first request may be on its way, or it may be about to read
    OWED = 3  # its answer is being made: it makes no way


class Standing(Protocol):
    """What the clock of a connection (states.py) tells all else.

    since  as `Clock.since`: of equal claims the first goes first
    """

    since: float

    @property
    def idle_since(self) -> float:
        """As `Clock.idle_since`."""

    def may_be_shed(self, age_s: float) -> bool:
        """As `Clock.may_be_shed`."""

    @property
    def claim(self) -> Claim:
        """As `Clock.claim`."""


class Connected(Protocol):
    """What has to be known of a connection (connection.py) by all else."""

    @property
    def clock(self) -> Standing:
        """Its state, as time goes by."""

    def asks(self, site: Site) -> bool:
        """Whether the request at hand is for this site."""

    def shed(self) -> bool:
        """End to make room; False where something would be lost."""

    def make_way(self) -> bool:
        """Close for a newcomer; False where a first request lies unread."""

    def drain(self) -> None:
        """The server stops: end when nothing is owed."""

    def end(self) -> None:
        """End in order."""


class Leaving(Protocol):
    """What has to be known of a connection that ends (ending.py) by all else."""

    def has_arrived(self) -> bool:
        """Whether the client's kernel has all that was sent."""

    def hurry(self) -> None:
        """The server ends: wait no longer than until everything has arrived."""

    def close(self) -> None:
        """Give the descriptor back."""


@dataclass(slots=True)
class Service:
    """What all connections share. `log` writes a line of the server's access log; None: there is none, or `notes` see
    to it. `hosts` tells the site of each request; None: all are for the one that there is. `keeper` knows
    passwords.
    `closed` is an event: a connection has ended. `kind`: clients, which the front may have; or streams, which are
    Python's and no clients."""

    config: Config
    loop: Loop
    parser: Parser
    prefixes: Prefixes
    fetcher: Fetcher
    sites: tuple[Site, ...]  # at least one
    bodies: Allowance  # of requests, that are kept for applications
    log: Callable[..., None] | None = None
    logs: AccessLogs | None = None  # those of all sites
    notes: Notes | None = None  # of each request, where the log says more of it than its line has
    proxies: Proxies | None = None  # the trusted ones
    kind: Kind = Kind.CLIENT
    draining: bool = False  # every answer is its connection's last
    drained_for: str = ""  # why, in the words of what has said so
    ending: bool = False  # idle connections are closed, too
    hurried: bool = False  # an ending lasts only until everything has arrived
    requests: int = 0
    accounts: Accounts = field(default_factory=Accounts)
    past_hits: Counter[int] = field(default_factory=Counter)  # of sites that are gone, as `Site.hits`, by account
    past_misses: Counter[int] = field(default_factory=Counter)
    connections: set[Connected] = field(default_factory=set)
    endings: set[Leaving] = field(default_factory=set)
    closed: Event[()] = field(default_factory=Event[()])
    tally: Tally = field(default_factory=Tally)
    shortage: Shortage = field(init=False)
    failures: Failures = field(init=False)
    hosts: Hosts | None = field(init=False)
    keeper: Keeper = field(init=False)

    def __post_init__(self) -> None:
        self.shortage = Shortage(self.loop.timers)
        self.failures = Failures(self.loop.timers)
        loop = self.loop
        most, time_s = self.config.wrong_passwords_max, self.config.wrong_passwords_time_s
        self.keeper = Keeper(loop.call_soon, lambda: loop.now, most, time_s)
        hosts = Hosts(self.sites, refuses_unknown=self.config.unknown_host == "421")
        self.hosts = None
        if not hosts.is_one:
            self._find_by(hosts)

    def serve(self, sites: tuple[Site, ...], *, refuses_unknown: bool = False) -> None:
        """From the next request on these are the sites, by the names that they have now. In the loop's thread, between
        two turns."""
        self.sites = sites  # and each request asks: connections remember the site that was the only one
        self._find_by(Hosts(sites, refuses_unknown=refuses_unknown))

    def _find_by(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.loop.front.set_hosts(*hosts.numbers)

    def site_of(self, name: bytes) -> Site:
        """The site that a host name belongs to (`http.host_name`), b"" for a request that names none."""
        return self.sites[0] if self.hosts is None else self.hosts.find(name)

    def is_asked(self, site: Site) -> bool:
        """Whether a connection of Python's has a request for this site that is not answered yet."""
        return any(connection.asks(site) for connection in self.connections)

    def generations(self) -> Iterator[Generation]:
        """All that is served, of every site."""
        return chain.from_iterable(site.generations for site in self.sites)

    def count(self) -> int:
        """Open connections, the front's among them."""
        known = len(self.connections) + len(self.endings)
        return self.loop.front.count(known) if self.kind is Kind.CLIENT else known

    def counts(self) -> Counts:
        """What was answered, sent and accepted until now, and what the connections do. In the loop's thread; it takes
        some 0.1 ms."""
        lanes, tally, loop, shortage = tuple(self.loop.front.counts()), self.tally, self.loop, self.shortage
        durations = tally.durations.look()
        for lane in lanes:
            durations |= lane.durations
        refused = Counter(shortage.refused)
        refused[QUESTIONS] += sum(lane.refused for lane in lanes)
        return Counts(
            accounts=by_account([[one.look() for one in tally.accounts], *(lane.accounts for lane in lanes)]),
            durations=durations,
            sampled_every=SAMPLED_EVERY,
            accepted=tally.accepted + sum(lane.accepted for lane in lanes),
            open=self.count(),
            connections_max=self.config.connections_max,
            states=states_of(tally, len(self.endings), lanes),
            shed=dict(shortage.shed),
            refused=dict(+refused),
            waits=dict(shortage.waits),
            turns=loop.rounds,
            lag=turns_of(loop.rounds, loop.busy_s, loop.long_turns),
            lanes=lanes,
        )

    def choose(self, generation: Generation, base: Entry, accept: dict[bytes, int] | None) -> Entry | None:
        """Negotiate, and have variants made again that were evicted."""
        for variant in base.variants:
            if variant.made and variant.body is None:
                self.fetcher.remake(generation, base, variant)
        return negotiate.choose(base, accept)

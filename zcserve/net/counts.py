"""Counts: what was answered, sent and accepted, how long answers took, and what connections do.

Each answer is counted once, where it is decided, before it is sent: by the lane (lane/counts.pxd), or here, beside the
access log (`Writer`). So counts agree with the log's lines, and no client has an answer that is not counted. A request
that is handed over is counted by what answers it; content that comes piece by piece when it ends. A client that is
turned away for want of descriptors has an answer, too (503).

    requests   by status and method. Clients choose methods: those that are not in METHODS count as "other", and so does
               what was not understood (400, 408, 414, 431, 505, and 503 for clients that are turned away)
    bytes      that the kernel has taken for clients, heads and content
    durations  from the turn of the loop in which a request's first byte was read to the time when the kernel has the
               last byte of its answer. What is answered at once is measured once in SAMPLED_EVERY times, and noted as
               so many: a look at the clock would cost a hit of the lane 5%. What is waited for is measured each time.
               An answer that the client does not take to its end has no duration
    states     of connections. A lane looks at its own once a second; those that have come since count as idle

Requests and bytes are counted by account (site/accounts.py): that of the site that a request is for.

`Tally` is what the general lane counts, in the loop's thread; `Counts` is one look at all of it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from zcserve.site.accounts import NONE_NUMBER

# Upper bounds of durations: from a hit of the lane (10 us) to a slow client, as Prometheus has them (1, 2.5, 5).
BOUNDS_S = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
# Of what is answered at once, one of so many is measured; the first in the middle, so that the histogram has never more
# than that too many, or too few.
SAMPLED_EVERY = 64
SAMPLED_FIRST = 32
# Turns of the loop that are no longer are counted together: a clock and a comparison for each is all they cost.
SHORT_TURN_S = 0.001

# The first six are those that a lane answers, in the order of lane/counts.pxd.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE")
OTHER = "other"
_NAMES = {name.encode(): name for name in METHODS}
# A lane has room for so many methods behind each status.
LANE_METHODS = 8

# What a connection does, in the order of `states.State` without CLOSED; an `Ending` is "ending".
READING, IDLE, WRITING, WAITING, ENDING = "reading", "idle", "writing", "waiting", "ending"
OF_STATES = (READING, IDLE, READING, WRITING, WAITING)
STATES = (IDLE, READING, WRITING, WAITING, ENDING)

# Statuses that a lane answers where a path leads to a file, and to nothing else but `LaneCounts.said`.
OF_FILES = frozenset((200, 206, 304, 412, 416))

# How many answers there were, by status and method.
Requests: TypeAlias = Mapping[tuple[int, str], int]


class Histogram(NamedTuple):
    """How long something took: `counts[i]` times at most `bounds_s[i]` and longer than the bound before, and the last
    one of `counts` longer than all; `sum_s` together."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float

    @property
    def times(self) -> int:
        """How often."""
        return sum(self.counts)

    def __or__(self, other: Histogram) -> Histogram:
        """Both together; their bounds are the same."""
        counts = tuple(map(sum, zip(self.counts, other.counts, strict=True)))
        return Histogram(self.bounds_s, counts, self.sum_s + other.sum_s)


class Times:
    """A histogram that grows."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Something took so long, so many times."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += times
        self._sum_s += seconds * times

    def look(self) -> Histogram:
        """As it is now."""
        return Histogram(BOUNDS_S, tuple(self._counts), self._sum_s)


class Answers:
    """What the general lane has answered for one account.

    hits        plain hits, by method; what else was answered: `note`
    bytes_sent  as the module says
    """

    __slots__ = ("_others", "bytes_sent", "hits")

    def __init__(self) -> None:
        self.hits = {b"GET": 0, b"HEAD": 0}
        self.bytes_sent = 0
        self._others: dict[tuple[int, str], int] = {}

    def note(self, status: int, method: bytes) -> None:
        """An answer with this status to a request with this method; b"": it was not understood."""
        key = status, _NAMES.get(method, OTHER)
        self._others[key] = self._others.get(key, 0) + 1

    def look(self) -> Answered:
        """As it is now."""
        found = dict(self._others)
        for method, count in self.hits.items():
            if count:
                key = 200, _NAMES[method]
                found[key] = found.get(key, 0) + count
        return Answered(found, self.bytes_sent)


class Tally:
    """What the general lane counts.

    accounts    what was answered, by account
    accepted    clients that Python has accepted, those that were turned away, too
    states      how many connections are in which state, by `states.State`
    durations   as the module says; `left` answers are given at once until one of them is measured
    """

    __slots__ = ("accepted", "accounts", "durations", "left", "states")

    def __init__(self) -> None:
        self.accounts = [Answers()]
        self.accepted = 0
        self.states = [0] * (len(OF_STATES) + 1)
        self.durations = Times()
        self.left = SAMPLED_FIRST

    def of(self, account: int) -> Answers:
        """What counts for the account of this number."""
        while account >= len(self.accounts):
            self.accounts.append(Answers())
        return self.accounts[account]

    @property
    def no_sites(self) -> Answers:
        """What counts for no site."""
        return self.accounts[NONE_NUMBER]

    def move(self, before: int, state: int) -> None:
        """A connection's state has changed."""
        self.states[before] -= 1
        self.states[state] += 1

    def measure(self, owed: Iterable[tuple[float, int]]) -> None:
        """The kernel has all of these answers: when each was asked for, and how often it counts."""
        now = time.monotonic()
        for began, times in owed:
            self.durations.add(now - began, times)


class Answered(NamedTuple):
    """What was answered for one account. `lane_hits`: by lanes, of a resident file; the others are their sites'."""

    requests: Requests = MappingProxyType({})
    bytes_sent: int = 0
    lane_hits: int = 0

    @property
    def answers(self) -> int:
        """Requests of all kinds."""
        return sum(self.requests.values())


class LaneCounts(NamedTuple):
    """What one lane tells of itself. `states` are those of its connections; `said` of its answers are servlets', all of
    them 200, and `calls` are how long those took that it has called."""

    accounts: tuple[Answered, ...]
    durations: Histogram
    accepted: int
    states: Mapping[str, int]
    said: int
    calls: Histogram

    @property
    def requests(self) -> Requests:
        """Of all accounts."""
        return added(account.requests for account in self.accounts)

    @property
    def answers(self) -> int:
        """Likewise, of all kinds."""
        return sum(account.answers for account in self.accounts)

    @property
    def bytes_sent(self) -> int:
        """Likewise."""
        return sum(account.bytes_sent for account in self.accounts)

    @property
    def hits(self) -> int:
        """Answers that were made of a resident file."""
        return sum(account.lane_hits for account in self.accounts)

    @property
    def connections(self) -> int:
        """How many it has."""
        return sum(self.states.values())

    @property
    def refused(self) -> int:
        """Requests that it could not ask the first lane about: it answers 503 to nothing else."""
        return sum(count for one in self.accounts for (status, _), count in one.requests.items() if status == 503)


# A histogram's counts and sum.
Durations: TypeAlias = tuple[tuple[int, ...], float]
# What `Lane.counts` has of a lane: answers by account, status and method, bytes by account, durations, accepted
# clients, connections, and how many of these were reading, writing, waiting and ending; the answers of servlets by
# account, and durations of their calls.
Told: TypeAlias = tuple[
    tuple[int, ...], tuple[int, ...], Durations, int, int, tuple[int, int, int, int], tuple[int, ...], Durations
]


def read(told: Told, statuses: Sequence[int]) -> LaneCounts:
    """What a lane tells; it has a row of answers for each of `statuses`."""
    answers, bytes_sent, durations, accepted, connections, states, said, calls = told
    cells = len(statuses) * LANE_METHODS
    accounts = tuple(
        _account(answers[number * cells : (number + 1) * cells], bytes_sent[number], said[number], statuses)
        for number in range(len(bytes_sent))
    )
    doing: dict[str, int] = {}
    for name, count in zip((READING, WRITING, WAITING, ENDING), states, strict=True):
        doing[name] = min(count, connections)  # since the sweep some may have gone
        connections -= doing[name]
    doing[IDLE] = connections
    took, calls_took = Histogram(BOUNDS_S, *durations), Histogram(BOUNDS_S, *calls)
    return LaneCounts(accounts, took, accepted, doing, sum(said), calls_took)


def _account(answers: Sequence[int], bytes_sent: int, said: int, statuses: Sequence[int]) -> Answered:
    """What a lane tells of one account."""
    if not any(answers):
        return Answered(bytes_sent=bytes_sent)
    requests = {
        (status, METHODS[i]): count
        for row, status in enumerate(statuses)
        for i, count in enumerate(answers[row * LANE_METHODS : (row + 1) * LANE_METHODS])
        if count
    }
    of_files = sum(count for (status, _), count in requests.items() if status in OF_FILES)
    return Answered(requests, bytes_sent, of_files - said)


class Counts(NamedTuple):
    """One look at all that is counted, of Python and all lanes together. What is told twice grows; `states` and `open`
    alone may fall.

    accounts        what was answered, by account; requests by status and method (METHODS and "other")
    durations       of answers; `sampled_every`: one of so many was measured of those that were given at once
    accepted        clients, since the start
    open            connections now; `connections_max` is their limit
    states          what they do (STATES). One that goes from a lane to another is in none
    shed            idle connections that were closed to make room, by reason (shortage.py)
    refused         clients, and requests, that were answered with 503 since there was no room, by reason
    waits           how often new clients were left in the kernel's queue, by reason
    turns           of Python's loop
    lag             how long they took; what comes meanwhile waits for the turn's end
    lanes           each of them, the first with what Python does not answer; none with the Python engine
    """

    accounts: tuple[Answered, ...]
    durations: Histogram
    sampled_every: int
    accepted: int
    open: int
    connections_max: int
    states: Mapping[str, int]
    shed: Mapping[str, int]
    refused: Mapping[str, int]
    waits: Mapping[str, int]
    turns: int
    lag: Histogram
    lanes: tuple[LaneCounts, ...]

    @property
    def requests(self) -> Requests:
        """Of all accounts, by status and method."""
        return added(account.requests for account in self.accounts)

    @property
    def response_bytes(self) -> int:
        """Heads and content, as far as the kernel has taken them."""
        return sum(account.bytes_sent for account in self.accounts)

    @property
    def answers(self) -> int:
        """Requests of all kinds."""
        return sum(account.answers for account in self.accounts)


def by_account(looks: Iterable[Sequence[Answered]]) -> tuple[Answered, ...]:
    """What Python and lanes have answered, together, by account."""
    return tuple(
        Answered(
            added(one.requests for one in some),
            sum(one.bytes_sent for one in some),
            sum(one.lane_hits for one in some),
        )
        for some in zip_longest(*looks, fillvalue=Answered())
    )


def added(counts: Iterable[Mapping[tuple[int, str], int]]) -> Requests:
    """All of these together."""
    several = [one for one in counts if one]  # of most accounts each lane has nothing
    if len(several) == 1:
        return several[0]
    found: dict[tuple[int, str], int] = {}
    for one in several:
        for key, count in one.items():
            found[key] = found.get(key, 0) + count
    return MappingProxyType(found)


def turns_of(turns: int, busy_s: float, long: Times) -> Histogram:
    """How long so many turns of a loop took, all together `busy_s`. Those that were not added to `long` are the first
    bucket, with SHORT_TURN_S as its bound."""
    first = BOUNDS_S.index(SHORT_TURN_S)
    counts = long.look().counts[first + 1 :]
    return Histogram(BOUNDS_S[first:], (max(turns - sum(counts), 0), *counts), busy_s)


def states_of(tally: Tally, endings: int, lanes: Iterable[LaneCounts]) -> Mapping[str, int]:
    """What all connections do; so many of Python's are `endings`."""
    found = dict.fromkeys(STATES, 0)
    found[ENDING] = endings
    for name, count in zip(OF_STATES, tally.states, strict=False):
        found[name] += count
    for lane in lanes:
        for name, count in lane.states.items():
            found[name] += count
    return MappingProxyType(found)

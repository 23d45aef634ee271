"""Every policy against a short simulation of its published description, eviction by eviction, for objects of one size;
and what holds for all policies at all times: an entry that goes was free to go, and none is lost."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.policies import Cached, resident
from zcserve.cache.entry import Body, Entry
from zcserve.cache.evictor import LeastRecentlyUsed, Policy
from zcserve.cache.s3fifo import S3Fifo
from zcserve.cache.sieve import Sieve
from zcserve.cache.store import POLICIES

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

# --- the published descriptions ---------------------------------------------------------------------------


class Reference:
    """A cache of `capacity` objects. `evict` takes out and returns one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.evicted: list[int] = []

    def holds(self, x: int) -> bool:
        raise NotImplementedError

    def hit(self, x: int) -> None:
        raise NotImplementedError

    def insert(self, x: int) -> None:
        raise NotImplementedError

    def evict(self) -> int:
        raise NotImplementedError

    def drop(self, x: int) -> None:
        raise NotImplementedError

    def size(self) -> int:
        raise NotImplementedError

    def get(self, x: int) -> bool:
        if self.holds(x):
            self.hit(x)
            return True
        while self.size() >= self.capacity:
            self.evicted.append(self.evict())
        self.insert(x)
        return False


class ReferenceLru(Reference):
    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.order: OrderedDict[int, None] = OrderedDict()

    def holds(self, x: int) -> bool:
        return x in self.order

    def hit(self, x: int) -> None:
        self.order.move_to_end(x)

    def insert(self, x: int) -> None:
        self.order[x] = None

    def evict(self) -> int:
        return self.order.popitem(last=False)[0]

    def drop(self, x: int) -> None:
        self.order.pop(x, None)

    def size(self) -> int:
        return len(self.order)


class ReferenceSieve(Reference):
    """Zhang et al., NSDI'24, Algorithm 1. Its queue's tail, the oldest, is the list's beginning."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.queue: list[int] = []
        self.visited: dict[int, bool] = {}
        self.hand: int | None = None  # what is looked at next; None: the tail

    def holds(self, x: int) -> bool:
        return x in self.queue

    def hit(self, x: int) -> None:
        self.visited[x] = True

    def insert(self, x: int) -> None:
        self.queue.append(x)
        self.visited[x] = False

    def newer(self, x: int) -> int | None:
        place = self.queue.index(x) + 1
        return self.queue[place] if place < len(self.queue) else None

    def evict(self) -> int:
        o = self.hand if self.hand is not None else self.queue[0]
        while self.visited[o]:
            self.visited[o] = False
            newer = self.newer(o)
            o = newer if newer is not None else self.queue[0]
        self.hand = self.newer(o)
        self.queue.remove(o)
        return o

    def drop(self, x: int) -> None:
        if x in self.queue:
            if self.hand == x:
                self.hand = self.newer(x)
            self.queue.remove(x)

    def size(self) -> int:
        return len(self.queue)


class ReferenceS3Fifo(Reference):
    """Yang et al., SOSP'23, Algorithm 1, but for one thing: when its EVICTS moves an object to a full M, it evicts from
    M and goes on; here, as in the authors' libCacheSim, that is left to the next EVICT. What returns from G leaves a
    hole: G is a stretch of time, the last 0.9 x capacity that entered it (their section on implementation)."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.s: deque[int] = deque()
        self.m: deque[int] = deque()
        self.g: deque[int | None] = deque(maxlen=9 * capacity // 10)
        self.freq: dict[int, int] = {}

    def holds(self, x: int) -> bool:
        return x in self.s or x in self.m

    def hit(self, x: int) -> None:
        self.freq[x] = min(self.freq[x] + 1, 3)

    def insert(self, x: int) -> None:
        if x in self.g:
            self.g[self.g.index(x)] = None
            self.m.appendleft(x)
        else:
            self.s.appendleft(x)
        self.freq[x] = 0

    def evict(self) -> int:
        if 10 * len(self.s) >= self.capacity:
            while self.s:
                t = self.s.pop()
                if self.freq[t] <= 1:
                    self.g.append(t)
                    return t
                self.freq[t] = 0
                self.m.appendleft(t)
        while True:
            t = self.m.pop()
            if self.freq[t] == 0:
                return t
            self.freq[t] -= 1
            self.m.appendleft(t)

    def size(self) -> int:
        return len(self.s) + len(self.m)


CAPACITIES = st.integers(1, 24)
# Few keys, some of them asked for again and again, so that there are hits, promotions and returns.
KEYS = st.one_of(st.integers(0, 5), st.integers(0, 40))


@given(capacity=CAPACITIES, keys=st.lists(KEYS, max_size=400))
@pytest.mark.parametrize(
    ("policy", "reference"), [(LeastRecentlyUsed, ReferenceLru), (Sieve, ReferenceSieve), (S3Fifo, ReferenceS3Fifo)]
)
def test_a_policy_evicts_what_its_published_description_evicts(
    policy: Callable[[], Policy], reference: Callable[[int], Reference], capacity: int, keys: list[int]
) -> None:
    ours, published = Cached(policy(), capacity), reference(capacity)
    for key in keys:
        assert ours.get(key) == published.get(key)
        assert ours.evicted == published.evicted


@given(capacity=CAPACITIES, calls=st.lists(st.tuples(st.sampled_from(["get"] * 6 + ["drop"]), KEYS), max_size=400))
@pytest.mark.parametrize(("policy", "reference"), [(LeastRecentlyUsed, ReferenceLru), (Sieve, ReferenceSieve)])
def test_also_when_files_disappear_in_between(
    policy: Callable[[], Policy],
    reference: Callable[[int], Reference],
    capacity: int,
    calls: list[tuple[str, int]],
) -> None:
    ours, published = Cached(policy(), capacity), reference(capacity)
    for call, key in calls:
        assert getattr(ours, call)(key) == getattr(published, call)(key)
        assert ours.evicted == published.evicted


# --- whatever happens -------------------------------------------------------------------------------------

CHOICE = st.integers(0, 30)


class PolicyMachine(RuleBasedStateMachine):
    """`resident` is the model: the entries that are in."""

    policy: type[Policy]

    def __init__(self) -> None:
        super().__init__()
        self.order = self.policy()
        self.resident: list[Entry] = []
        self.gone: list[Entry] = []

    def admit(self, entry: Entry) -> None:
        entry.body = Body(0)
        self.resident.append(entry)
        self.order.add(entry)

    def lose(self, entry: Entry) -> None:
        self.resident.remove(entry)
        entry.body = None
        self.gone.append(entry)

    @rule(size=st.sampled_from([0, 1, 1000, 50_000]))
    def add(self, size: int) -> None:
        self.admit(resident(size=size))

    @rule(choice=CHOICE)
    def add_again(self, choice: int) -> None:
        if self.gone:
            self.admit(self.gone.pop(choice % len(self.gone)))

    @rule(choices=st.lists(CHOICE, max_size=8))
    def use(self, choices: list[int]) -> None:
        for choice in choices:
            if self.resident:
                entry = self.resident[choice % len(self.resident)]
                entry.uses += 1
                entry.tick += 1

    @rule(choice=CHOICE, pins=st.integers(0, 1))
    def send(self, choice: int, pins: int) -> None:
        if self.resident:
            body = self.resident[choice % len(self.resident)].body
            assert body is not None
            body.pins = pins

    @rule(choice=CHOICE)
    def discard(self, choice: int) -> None:
        if self.resident:
            entry = self.resident[choice % len(self.resident)]
            self.order.discard(entry)
            self.lose(entry)

    @rule(lane=st.integers(0, 3))
    def pop(self, lane: int) -> None:
        sending = set(self.resident[:lane])
        free = [entry for entry in self.resident if entry.body and not entry.body.pins and entry not in sending]
        victim = self.order.pop(sending.__contains__)
        if free:
            assert victim in free
            assert victim is not None
            self.lose(victim)
        else:
            assert victim is None

    @invariant()
    def all_are_in_once(self) -> None:
        assert len(self.order) == len(self.resident)
        assert sorted(map(id, self.order.entries())) == sorted(map(id, self.resident))


def _machine(policy: type[Policy]) -> Any:
    machine: Any = type(f"{policy.__name__}Machine", (PolicyMachine,), {"policy": policy})
    case = machine.TestCase
    case.settings = settings(deadline=None, stateful_step_count=60)
    return case


TestLeastRecentlyUsed = _machine(LeastRecentlyUsed)
TestSieve = _machine(Sieve)
TestS3Fifo = _machine(S3Fifo)


def test_every_policy_is_held_to_these_laws() -> None:
    assert set(POLICIES.values()) == {LeastRecentlyUsed, Sieve, S3Fifo}

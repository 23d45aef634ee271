"""What each site has of a store's memory, and whose body goes when room must be made.

    [sites.NAME]  memory_min   what evictions for other sites leave it              Share.least
                  memory_max   what it has at most: beyond that its own bodies go   Share.most

A site that says either has a `Share` of its own: an order of eviction, and the bytes of its resident bodies. All other
sites have the common share together. The store knows a site by its `Pin`.

Room is made in the share that has the most beyond its least (max-min fairness): a crawl of one site grows until it has
as much beyond its least as any other, and then evicts its own. A share at its least gives nothing to another, so no
victim is searched among what must stay: each share has a policy of its own, whose next victim is the first one. Only
where a victim is larger than what its share has beyond its least is it put back.

Preloading evicts nothing, so it leaves free what other sites are guaranteed and do not have yet. What comes by a
request may take that, and gives it back when the site asks.

Of a thousand shares none but the first is looked at, as a rule: a heap has each with what it has beyond its least, or
with more than that, which is found when it comes to the top.

A server whose sites say neither has the common share alone: then nothing is looked up, and no entry is noted here.
Everything here is called with the store's lock held, but for what says otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain, count

from zcserve.cache.entry import Body, Entry, Paged
from zcserve.cache.evictor import IsSending, Policy, never_sending
from zcserve.cache.pages import Extent
from zcserve.cache.pinned import Pin, memory_of
from zcserve.cache.unseen import hide, put

# The heap of shares is made anew when it has twice as many ranks as there are shares, and so many more.
RANKS_SPARE_MAX = 64


class Share:
    """What one site has, or all that say nothing have together.

    bytes   of its resident bodies; pages that two of them share count once
    pinned  those that are never evicted
    number  of shares that have as much beyond their least the first one gives
    rank    what it has beyond its least at most, as `Shares` has noted; None while it has noted nothing
    """

    def __init__(self, policy: Policy, least: int = 0, most: int | None = None, number: int = 0) -> None:
        """`most` None: no more than there is."""
        self.number = number
        self.rank: int | None = None
        self.policy = policy
        self.least = least
        self.most = most
        self.bytes = 0
        self.pinned = 0

    @property
    def beyond(self) -> int:
        """What it may lose to others; less than zero where it has less than its least."""
        return self.bytes - self.least

    @property
    def kept(self) -> int:
        """Bytes of it, beside what is pinned, that others leave it now."""
        return max(min(self.least, self.bytes) - self.pinned, 0)

    def may_have(self, more: int) -> bool:
        """Whether it is within its most with so many more bytes."""
        return self.most is None or self.bytes + more <= self.most

    def may_ever_have(self, more: int) -> bool:
        """Whether it would be, if all were evicted that can be."""
        return self.most is None or self.pinned + more <= self.most

    def spare(self, room: int) -> int:
        """How much of so many free bytes it may take."""
        return room if self.most is None else min(room, self.most - self.bytes)


class Shares:
    """All shares of a store, whose lock this is. `new_policy` makes an order of eviction."""

    def __init__(self, lock: threading.Lock, new_policy: Callable[[], Policy]) -> None:
        self._lock = lock
        self._new_policy = new_policy
        self._common = Share(new_policy())
        self._of_site: dict[Pin, Share] = {}
        self._own: list[Share] = []  # of those, and of sites that are gone while something of them is resident
        self._of_entry: dict[Entry, Share] = {}  # of what is resident and not in the common share
        hide(self._of_entry)
        self._owed = 0  # bytes that all are guaranteed and do not have
        self._ranked: list[tuple[int, int, Share]] = []  # a heap: what has the most beyond its least is first
        self._numbers = count(1)

    def set(self, site: Pin, least: int, most: int | None) -> None:
        """A site that is to come has a share of its own: `least` bytes are guaranteed, and it has `most` at most. Any
        thread may call it."""
        with self._lock:
            self._of_site[site] = share = Share(self._new_policy(), least, most, next(self._numbers))
            if not self._own:
                self._rank(self._common)
            self._own.append(share)
            self._owed += _lacks(share)
            self._rank(share)

    def remove(self, site: Pin) -> None:
        """A site is gone. What is resident of it still goes like any other's. Any thread may call it."""
        with self._lock:
            if (share := self._of_site.pop(site, None)) is not None:
                self._owed -= _lacks(share)
                share.least, share.most = 0, None
                self._rank(share)
            here = set(self._of_site.values())
            self._own = [one for one in self._own if one in here or one.bytes or len(one.policy)]

    def of_site(self, site: Pin) -> Share:
        """The share that a site's bodies are charged to."""
        return self._of_site.get(site, self._common)

    def of_entry(self, entry: Entry) -> Share:
        """The share that a resident entry is charged to."""
        return self._of_entry.get(entry, self._common)

    def __iter__(self) -> Iterator[Share]:
        return chain((self._common,), self._own)

    def __len__(self) -> int:
        """How many entries may be evicted."""
        return sum(len(share.policy) for share in self)

    def entries(self) -> Iterator[Entry]:
        """All that may be evicted."""
        return chain.from_iterable(share.policy.entries() for share in self)

    def owed(self, share: Share) -> int:
        """Bytes that all others are guaranteed and do not have."""
        return self._owed - _lacks(share)

    def spare(self, site: Pin, free: int) -> int:
        """How much of so many free bytes a site may take without an eviction. Any thread may call it."""
        with self._lock:
            share = self.of_site(site)
            return share.spare(free - self.owed(share))

    def reach(self, site: Pin, evictable: int) -> int:
        """How much a site may take of so many bytes that are not pinned, if others are evicted for it. Any thread may
        call it, and waits for no lock."""
        share = self.of_site(site)
        kept = sum(other.kept for other in self._own if other is not share)
        within = evictable if share.most is None else share.most - share.pinned
        return min(evictable - kept, within)

    def charge(self, entry: Entry, site: Pin) -> Share:
        """An entry of a site has become resident; the share that it is charged to."""
        share = self.of_site(site)
        if share is not self._common:
            put(self._of_entry, ((entry, share),))
        self._change(share, _own_bytes(entry.body, sharers=1))
        return share

    def give_back(self, entry: Entry, body: Body | None) -> Share:
        """An entry had this body until now; as `charge`. The pages' other sharers are counted without it."""
        share = self._of_entry.pop(entry, self._common) if self._of_entry else self._common
        self._change(share, -_own_bytes(body, sharers=0))
        return share

    def _change(self, share: Share, more: int) -> None:
        if not self._own:
            share.bytes += more
            return
        self._owed -= _lacks(share)
        share.bytes += more
        self._owed += _lacks(share)
        if more > 0:
            self._rank(share)

    def _rank(self, share: Share) -> None:
        """A share has more beyond its least, perhaps. Where it has less, its rank is lowered once it is the first."""
        beyond = share.beyond
        if share.rank is not None and beyond <= share.rank:
            return
        share.rank = beyond
        heappush(self._ranked, (-beyond, share.number, share))
        if len(self._ranked) > 2 * len(self._own) + RANKS_SPARE_MAX:
            self._ranked = [(-one.rank, one.number, one) for one in self if one.rank is not None]
            heapify(self._ranked)

    def _by_rank(self) -> Iterator[Share]:
        """All that are ranked, what has the most beyond its least first. None of them is ranked any more."""
        while self._ranked:
            rank, _, share = heappop(self._ranked)
            if share.rank != -rank:
                continue  # it has another one by now
            share.rank = None
            if share.beyond < -rank:
                self._rank(share)
            else:
                yield share

    def pop(self, asking: Share, is_sending: IsSending = never_sending) -> Entry | None:
        """Take out and return the next to go for the share that asks; None where there is none."""
        if not self._own:
            return self._common.policy.pop(is_sending)
        asked: list[Share] = []
        try:
            for share in self._by_rank():
                asked.append(share)
                if share is not asking and share.beyond <= 0:
                    break  # and so it is of those behind
                if (victim := _give(share, asking, is_sending)) is not None:
                    return victim
            return None if asking in asked else _give(asking, asking, is_sending)
        finally:
            for share in asked:
                self._rank(share)


def _lacks(share: Share) -> int:
    """Bytes that it is guaranteed and does not have."""
    return max(-share.beyond, 0)


def _give(share: Share, asking: Share, is_sending: IsSending) -> Entry | None:
    """Take out the next to go of a share for the one that asks; None where it gives none."""
    victim = share.policy.pop(is_sending)
    if victim is None or share is asking or _own_bytes(victim.body, sharers=1) <= share.beyond:
        return victim
    share.policy.add(victim)
    return None


def _own_bytes(body: Body | None, *, sharers: int) -> int:
    """Bytes that a body holds by itself: none, where its pages have more sharers than these."""
    if isinstance(body, Paged) and isinstance(body.keeper, Extent) and body.keeper.sharers > sharers:
        return 0
    return memory_of(body)

"""What each site has of a store's memory: what the others leave it, and what it has at most."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.shared_store import BUDGET, HEAD, LARGE, SharedStore
from zcserve.cache.entry import Entry, Paged
from zcserve.cache.evictor import LeastRecentlyUsed
from zcserve.cache.pinned import Pinned
from zcserve.cache.preload import Plan
from zcserve.cache.shares import Shares
from zcserve.cache.store import POLICIES


@pytest.fixture(params=list(POLICIES))
def sites(request: pytest.FixtureRequest) -> Iterator[SharedStore]:
    made = SharedStore(request.param)
    yield made
    made.store.close()


def test_a_crawl_leaves_another_site_what_it_is_guaranteed(sites: SharedStore) -> None:
    sites.share("a", least=400_000)
    sites.crawl("a", 20)
    assert sites.resident("a") == 20 * LARGE
    sites.crawl("c")
    assert 400_000 - LARGE <= sites.resident("a") < 20 * LARGE
    assert sites.store.shares.of_site(sites.pins["a"]).bytes >= 400_000
    assert sites.resident("c") > 300_000


def test_a_guarantee_is_asked_back_from_those_that_have_more(sites: SharedStore) -> None:
    sites.share("a", least=400_000)
    sites.crawl("c")
    assert sites.resident("c") > 800_000
    sites.crawl("a", 10)
    assert sites.resident("a") == 10 * LARGE


def test_a_site_at_its_guarantee_makes_room_for_itself(sites: SharedStore) -> None:
    sites.share("a", least=BUDGET // 2)
    sites.share("b", least=BUDGET // 2)
    sites.crawl("a")
    sites.crawl("b")
    old = sites.resident("a"), sites.resident("b")
    assert sites.put("a", LARGE).body is not None
    assert sites.put("c", LARGE).body is None or sites.resident("c") == LARGE
    assert sites.resident("b") == old[1]


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_site_has_no_more_than_its_most(sites: SharedStore, size: int) -> None:
    sites.share("a", most=300_000)
    for _ in range(4 * LARGE // size * 4):
        newest = sites.put("a", size)
        assert sites.store.shares.of_site(sites.pins["a"]).bytes <= 300_000
    assert newest.body is not None
    assert sites.resident("a") > 200_000
    before = sites.store.evictions
    sites.put("c", LARGE)
    assert sites.resident("c") == LARGE
    assert sites.store.evictions == before


def test_nothing_is_evicted_for_what_never_fits_into_a_most(sites: SharedStore) -> None:
    sites.share("a", most=200_000)
    kept = [sites.put("a", LARGE, key=b"/pinned1"), sites.put("a", LARGE)]
    assert sites.put("a", 190_000).body is None
    assert sites.put("a", 300_000).body is None
    assert all(entry.body is not None for entry in kept)


def test_preloading_leaves_free_what_others_are_guaranteed(sites: SharedStore) -> None:
    sites.share("a", least=600_000)
    sites.share("b", most=100_000)
    entries = [Entry(b"/%d" % number, b"", LARGE, None) for number in range(100)]
    taken = {}
    for site in "abc":
        plan = Plan(entries, sites.store, is_pinned=sites.pins[site])
        taken[site] = sum(map(plan.takes, entries)) * LARGE
    assert taken["a"] > 900_000
    assert taken["b"] == 2 * LARGE
    assert 300_000 < taken["c"] <= BUDGET - 600_000
    for _ in range(30):
        sites.put("c", LARGE, evict=False)
    assert 300_000 < sites.resident("c") <= BUDGET - 600_000
    for _ in range(30):
        sites.put("a", LARGE, evict=False)
    assert sites.resident("a") >= 600_000 - LARGE
    assert sites.store.evictions == 0


def test_without_shares_all_is_one_order() -> None:
    shares = Shares(threading.Lock(), LeastRecentlyUsed)
    one, other = Pinned(()), Pinned(())
    assert shares.of_site(one) is shares.of_site(other)
    assert shares.pop(shares.of_site(one)) is None
    assert shares.owed(shares.of_site(one)) == 0


def test_what_a_site_leaves_behind_goes_like_any_others(sites: SharedStore) -> None:
    sites.share("a", least=BUDGET // 2)
    sites.crawl("a", 15)
    sites.store.shares.remove(sites.pins["a"])
    assert len(list(sites.store.shares)) == 2
    sites.crawl("c")
    assert sites.resident("a") < BUDGET * 6 // 10
    for entry in sites.entries["a"]:
        sites.store.drop(entry)
    sites.store.shares.remove(sites.pins["b"])
    assert len(list(sites.store.shares)) == 1


def test_pages_that_two_bodies_share_are_charged_once(sites: SharedStore) -> None:
    sites.share("a", least=1, most=BUDGET // 2)
    share = sites.store.shares.of_site(sites.pins["a"])
    entry = sites.put("a", LARGE)
    other = Entry(b"/y", b"", LARGE, None)
    body = entry.body
    assert isinstance(body, Paged)
    once = share.bytes
    sites.store.admit(other, Paged(HEAD, body.fd, body.offset, LARGE, body.keeper), sites.pins["a"])
    assert share.bytes == once >= LARGE
    sites.store.drop(entry)
    assert share.bytes == once
    sites.store.drop(other)
    assert share.bytes == 0


def test_what_a_site_can_reach_is_what_others_are_not_left(sites: SharedStore) -> None:
    sites.share("a", least=400_000)
    sites.share("b", most=150_000)
    shares, pins = sites.store.shares, sites.pins
    assert [shares.reach(pins[site], 800_000) for site in "abc"] == [800_000, 150_000, 800_000]
    sites.put("a", LARGE, key=b"/pinned1")
    sites.crawl("a", 15)
    sites.put("b", LARGE, key=b"/pinned1")
    pinned = shares.of_site(pins["a"]).pinned
    assert pinned >= LARGE
    left = 800_000 - (400_000 - pinned)
    assert [shares.reach(pins[site], 800_000) for site in "abc"] == [800_000, 150_000 - pinned, left]


def test_two_threads_do_not_bring_more_than_a_most_together(sites: SharedStore) -> None:
    sites.share("a", most=100_000)
    pins, store = sites.pins["a"], sites.store
    extents = [store.reserve(60_000, is_pinned=pins) for _ in range(2)]
    for extent in extents:
        assert extent is not None
        entry = Entry(b"/x", b"", 60_000, None)
        store.admit(entry, Paged(HEAD, store.pages_fd, extent.offset, 60_000, extent), pins)
        assert 60_000 <= store.shares.of_site(pins).bytes <= 100_000

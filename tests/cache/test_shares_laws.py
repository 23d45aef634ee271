"""Shares under random requests, drops and pins: the accounts are right, a guarantee is kept, and a most is kept to."""

from __future__ import annotations

import pytest

from tests.support.shared_store import SMALL, SharedStore
from zcserve.cache.pinned import memory_of
from zcserve.cache.store import POLICIES

pytest.importorskip("hypothesis")
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

LEAST, MOST = 300_000, 250_000
SITE = st.sampled_from("abcd")
SIZE = st.one_of(st.integers(0, SMALL), st.integers(SMALL + 1, 120_000))


class SharesMachine(RuleBasedStateMachine):
    """`a` is guaranteed something, `b` has something at most."""

    @initialize(policy=st.sampled_from(list(POLICIES)))
    def open(self, policy: str) -> None:
        self.sites = SharedStore(policy)
        self.sites.share("a", least=LEAST)
        self.sites.share("b", most=MOST)

    def bytes_of(self, site: str) -> int:
        return self.sites.store.shares.of_site(self.sites.pins[site]).bytes

    @rule(site=SITE, sizes=st.lists(SIZE, min_size=1, max_size=30), evict=st.booleans(), pinned=st.booleans())
    def ask(self, site: str, sizes: list[int], evict: bool, pinned: bool) -> None:
        for number, size in enumerate(sizes):
            had = self.bytes_of("a")
            self.sites.put(site, size, evict=evict, key=b"/pinned" if pinned and not number else b"/x")
            if site != "a":
                assert self.bytes_of("a") >= min(had, LEAST)

    @rule(site=SITE, choice=st.integers(0, 1000))
    def use(self, site: str, choice: int) -> None:
        if entries := self.sites.entries[site]:
            entries[choice % len(entries)].uses += 1

    @rule(site=SITE, choice=st.integers(0, 1000), pins=st.integers(0, 1))
    def send(self, site: str, choice: int, pins: int) -> None:
        """A connection begins to wait to send a body, or ends."""
        entries = self.sites.entries[site]
        body = entries[choice % len(entries)].body if entries else None
        if body is not None:
            body.pins = pins

    @rule(site=SITE, every=st.integers(1, 4))
    def drop(self, site: str, every: int) -> None:
        for entry in self.sites.entries[site][::every]:
            self.sites.store.drop(entry)
        self.sites.entries[site] = [entry for entry in self.sites.entries[site] if entry.body is not None]

    @precondition(lambda self: any(self.sites.entries.values()))
    @rule(site=SITE)
    def repin(self, site: str) -> None:
        pins = self.sites.pins[site]
        pins.change((), pins.globs) if pins.globs else pins.change(("/pinned*",), ())
        for entry in self.sites.entries[site]:
            self.sites.store.repin(entry, pins)

    @invariant()
    def accounts_are_right(self) -> None:
        if not hasattr(self, "sites"):
            return
        store = self.sites.store
        for names in ("a", "b", "cd"):
            resident = [entry for name in names for entry in self.sites.entries[name] if entry.body is not None]
            share = store.shares.of_site(self.sites.pins[names[0]])
            assert share.bytes == sum(memory_of(entry.body) for entry in resident)
            pinned = [entry for entry in resident if entry in store.held]
            assert share.pinned == sum(memory_of(entry.body) for entry in pinned)
            assert len(share.policy) == len(resident) - len(pinned)
        assert self.bytes_of("b") <= MOST

    def teardown(self) -> None:
        if hasattr(self, "sites"):
            self.sites.store.close()


TestShares = SharesMachine.TestCase
TestShares.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)

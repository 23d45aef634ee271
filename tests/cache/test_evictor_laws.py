"""The lazily kept order against brute force: whatever happens, the victim is the least recently used that may go."""

from __future__ import annotations

import pytest

from zcserve.cache.entry import Body, Entry
from zcserve.cache.evictor import LeastRecentlyUsed

pytest.importorskip("hypothesis")
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

CHOICE = st.integers(0, 30)


class EvictorMachine(RuleBasedStateMachine):
    """`resident` is the model: the entries that are in, whatever their ticks."""

    def __init__(self) -> None:
        super().__init__()
        self.lru = LeastRecentlyUsed()
        self.resident: list[Entry] = []
        self.gone: list[Entry] = []
        self.turn = 0

    def chosen(self, choice: int) -> Entry | None:
        return self.resident[choice % len(self.resident)] if self.resident else None

    def admit(self, entry: Entry) -> None:
        entry.body = Body(0)
        self.resident.append(entry)
        self.lru.add(entry)

    @rule()
    def add(self) -> None:
        entry = Entry(b"%d" % len(self.resident), b"", 0, None)
        entry.tick = self.turn
        self.admit(entry)

    @rule(choice=CHOICE)
    def add_again(self, choice: int) -> None:
        if self.gone:
            self.admit(self.gone.pop(choice % len(self.gone)))

    @rule(choices=st.lists(CHOICE, max_size=5), later=st.integers(0, 2))
    def use(self, choices: list[int], later: int) -> None:
        """Some are used in one turn; `later` 0 is the turn that was."""
        self.turn += later
        for choice in choices:
            if (entry := self.chosen(choice)) is not None:
                entry.tick = self.turn

    @rule(choice=CHOICE, pins=st.integers(0, 1))
    def pin(self, choice: int, pins: int) -> None:
        entry = self.chosen(choice)
        if entry is not None and entry.body is not None:
            entry.body.pins = pins

    @rule(choice=CHOICE)
    def discard(self, choice: int) -> None:
        if (entry := self.chosen(choice)) is not None:
            self.lru.discard(entry)
            self.resident.remove(entry)
            self.gone.append(entry)

    @rule()
    def pop(self) -> None:
        free = [entry for entry in self.resident if entry.body is not None and not entry.body.pins]
        victim = self.lru.pop()
        if victim is None:
            assert not free
            return
        assert victim in free
        assert victim.tick == min(entry.tick for entry in free)
        self.resident.remove(victim)
        self.gone.append(victim)

    @invariant()
    def all_are_in_once(self) -> None:
        assert len(self.lru) == len(self.resident)

    def teardown(self) -> None:
        assert {id(entry) for entry in self.lru.entries()} == {id(entry) for entry in self.resident}
        for entry in self.resident:
            entry.body = Body(0)
        ticks = []
        while (victim := self.lru.pop()) is not None:
            ticks.append(victim.tick)
        assert ticks == sorted(entry.tick for entry in self.resident)


TestEvictor = EvictorMachine.TestCase
TestEvictor.settings = settings(deadline=None, stateful_step_count=60)

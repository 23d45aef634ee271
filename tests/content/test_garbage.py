"""zcserve.content.garbage: what many releases leave is collected once."""

from __future__ import annotations

import gc

import pytest

from zcserve.content.garbage import COLLECTION_S, Garbage


class Collector:
    """A collector that takes its time, of a clock that the test has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes_s: float) -> None:
        self.collections = 0
        self._now = 0.0
        self._takes_s = takes_s
        monkeypatch.setattr(gc, "collect", self._collect)
        monkeypatch.setattr("zcserve.content.garbage.time.thread_time", lambda: self._now)

    def _collect(self) -> int:
        self.collections += 1
        self._now += self._takes_s
        return 0


@pytest.mark.parametrize(("takes_s", "collections"), [(COLLECTION_S / 2, 40), (10.5 * COLLECTION_S, 4)])
def test_what_takes_long_is_done_seldom(monkeypatch: pytest.MonkeyPatch, takes_s: float, collections: int) -> None:
    collector, garbage = Collector(monkeypatch, takes_s), Garbage()
    for _ in range(40):
        garbage.collect(is_last=True)
    assert collector.collections == collections


def test_of_many_releases_at_a_time_the_last_one_has_all_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    collector, garbage = Collector(monkeypatch, COLLECTION_S / 2), Garbage()
    for number in range(1000):
        garbage.collect(is_last=number == 999)
    assert collector.collections == 1

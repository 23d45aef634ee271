"""zcserve.content.rechecks: when the names of the live generation are compared, in a thread beside the loop."""

from __future__ import annotations

from math import inf

import pytest

from tests.support.contents import Show, Shown
from tests.support.trees import rewrite
from zcserve.cache.recheck import Recheck
from zcserve.content.rechecks import RECHECK_FIRST_AFTER_S, Rechecks


def rechecks_of(shown: Shown, every_s: float) -> Rechecks:
    return Rechecks(every_s, shown.live, shown.jobs, shown.loop)


@pytest.mark.parametrize("every_s", [3.0, 600.0])
def test_what_was_just_walked_is_left_alone_for_a_while(show: Show, every_s: float) -> None:
    shown = show({"page": b"1"})
    rechecks = rechecks_of(shown, every_s)
    assert rechecks.due() == 0.0
    rechecks.begin(1000.0)
    assert rechecks.due() == 1000.0 + min(every_s, RECHECK_FIRST_AFTER_S)


def test_what_brings_no_event_is_told_to_the_watcher_and_the_next_time_is_known(show: Show) -> None:
    shown = show({"page": b"1"})
    rechecks = rechecks_of(shown, 600.0)
    rechecks.begin(shown.loop.now)
    watcher = shown.live.watcher
    assert watcher is not None
    rewrite(shown.tree.path / "page", b"2")
    while not watcher.read(0.0):
        pass
    watcher.take(1e9)  # as if no event had told
    planned = shown.planned
    rechecks.begin(shown.loop.now)
    assert rechecks.due() == inf  # while it is compared
    shown.turn_until(lambda: rechecks.due() < inf)
    assert rechecks.due() > shown.loop.now
    assert shown.planned > planned
    assert watcher.take(1e9).names == {b"": {b"page"}}


def test_a_new_generation_begins_a_new_round(show: Show) -> None:
    shown = show({"page": b"1"})
    rechecks = rechecks_of(shown, 600.0)
    rechecks.begin(1000.0)
    shown.live.watcher = shown.build().watcher
    assert rechecks.due() == 0.0
    rechecks.begin(2000.0)
    assert rechecks.due() == 2000.0 + RECHECK_FIRST_AFTER_S


def test_what_an_old_round_found_does_not_move_the_new_ones_time(show: Show) -> None:
    shown = show({"page": b"1"})
    rechecks = rechecks_of(shown, 600.0)
    rechecks.begin(1000.0)
    rechecks.begin(1000.0)  # a thread compares
    shown.live.watcher = shown.build().watcher
    rechecks.begin(2000.0)
    shown.loop.call_soon(lambda: None)
    shown.finish()
    for _ in range(3):
        shown.loop.call_soon(lambda: None)
        shown.loop.run_once()
    assert rechecks.due() == 2000.0 + RECHECK_FIRST_AFTER_S


def test_while_the_root_leads_elsewhere_nothing_is_compared(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show({"page": b"1"})
    rechecks = rechecks_of(shown, 600.0)
    steps: list[float] = []
    step = Recheck.step

    def noted(self: Recheck, now: float) -> float:
        steps.append(now)
        return step(self, now)

    monkeypatch.setattr(Recheck, "step", noted)
    rechecks.begin(1000.0)
    shown.live.is_adrift = True
    rechecks.begin(2000.0)
    assert rechecks.due() == inf
    shown.live.is_adrift = False
    rechecks.begin(3000.0)
    shown.turn_until(lambda: rechecks.due() < inf)
    assert steps == [3000.0]


def test_without_a_watcher_or_an_interval_nothing_is_ever_due(show: Show) -> None:
    shown = show({"page": b"1"})
    never = rechecks_of(shown, 0)
    assert never.due() == inf
    rechecks = rechecks_of(shown, 600.0)
    rechecks.begin(1000.0)
    watcher, shown.live.watcher = shown.live.watcher, None
    assert rechecks.due() == inf
    shown.live.watcher = watcher

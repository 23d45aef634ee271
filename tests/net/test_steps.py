"""zcserve.net.steps: what is long is done in short steps of the loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.waiting import WaitUntil
from zcserve.net import steps
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller
from zcserve.net.steps import SHARE_MAX, Steps


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop(Poller())
    yield one
    one.close()


def test_each_step_is_short_and_the_end_is_told(
    loop: Loop, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "STEP_S", 1e-9)
    ended: list[int] = []
    stops: list[int] = []
    one = Steps(loop, lambda: ended.append(len(stops)))
    one.begin(stops.append(number) for number in range(3))
    assert (stops, one.is_under_way) == ([0], True)

    def turn() -> bool:
        before = len(stops)
        loop.run_once()
        assert len(stops) <= before + 1
        return not one.is_under_way

    wait_until(turn)
    assert (stops, ended) == ([0, 1, 2], [3])
    assert one.took_s > 0


def test_what_is_short_is_done_at_once_and_may_be_begun_again(loop: Loop) -> None:
    ended: list[bool] = []
    one = Steps(loop, lambda: ended.append(one.is_under_way))
    one.begin(iter(range(3)))
    one.begin(iter(()))
    assert ended == [False, False]


def test_what_is_stopped_goes_no_further(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP_S", 1e-9)
    ended: list[int] = []
    one = Steps(loop, lambda: ended.append(1))
    one.begin(iter(range(3)))
    one.stop()
    assert not one.is_under_way
    loop.timers.fire(loop.now + 10, lambda call: call())
    assert ended == []


def test_the_pause_is_a_multiple_of_what_it_took(loop: Loop) -> None:
    one = Steps(loop, lambda: None)
    one.took_s = 0.5
    assert one.pause_s(5.0) == 0.5 / SHARE_MAX
    one.took_s = 0.0001
    assert one.pause_s(5.0) == 5.0

"""What bodies of requests count for together: taken at once, and given back whatever happens."""

from __future__ import annotations

import gc
import threading

import pytest

from zcserve.errors import HttpError
from zcserve.net import bodies
from zcserve.net.bodies import Allowance, Hold
from zcserve.net.fields import CHUNKED
from zcserve.net.received import Collect


def held(allowance: Allowance, count: int) -> Hold:
    hold = Hold(allowance)
    hold.grow(count)
    return hold


def test_what_is_taken_counts_until_it_is_given_back() -> None:
    allowance = Allowance(100)
    first, second = held(allowance, 60), held(allowance, 40)
    assert allowance.held == 100
    first.release()
    first.release()
    assert allowance.held == 40
    second.grow(60)
    assert allowance.held == 100
    second.release()
    assert allowance.held == 0


def test_what_is_too_much_is_refused_and_does_not_count() -> None:
    allowance = Allowance(100)
    hold = held(allowance, 60)
    with pytest.raises(HttpError) as caught:
        hold.grow(41)
    assert (caught.value.status, caught.value.close) == (503, True)
    assert allowance.held == 60
    hold.grow(40)


def test_a_hold_that_is_lost_counts_no_more() -> None:
    allowance = Allowance(100)
    hold = held(allowance, 100)
    del hold
    assert allowance.held == 0


def test_bytes_come_back_from_any_thread() -> None:
    allowance = Allowance(1000)
    holds = [held(allowance, 1) for _ in range(1000)]

    def give_back(mine: list[Hold]) -> None:
        for hold in mine:
            hold.release()

    threads = [threading.Thread(target=give_back, args=(holds[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert allowance.held == 0


def test_what_is_refused_says_which_setting_bounds_it() -> None:
    with pytest.raises(HttpError) as refused:
        Allowance(10).take(11)
    assert refused.value.status == 503
    assert "--servlet-bodies-max" in refused.value.reason


@pytest.mark.parametrize(
    ("length", "pieces", "counts"),
    [
        (5, [b"he", b"llo"], [5, 5]),
        (CHUNKED, [b"2\r\nhe", b"\r\n3\r\n", b"llo\r\n0\r\n\r\n"], [2, 5, 5]),
        (0, [b""], [0]),
    ],
)
def test_a_body_counts_from_when_it_is_announced(length: int, pieces: list[bytes], counts: list[int]) -> None:
    allowance = Allowance(100)
    body = Collect(length, 100, 100, Hold(allowance))
    for piece, count in zip(pieces, counts, strict=True):
        assert body.feed(piece, 0, 10) == len(piece)
        assert allowance.held == count
    assert body.done
    assert body.content() == (b"hello" if length else b"")
    del body
    assert allowance.held == 0


def test_what_an_application_left_in_a_circle_does_not_refuse_bodies_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    allowance = Allowance(100)

    def leave() -> None:
        circle: list[object] = [held(allowance, 100)]
        circle.append(circle)

    gc.disable()
    try:
        leave()
        assert allowance.held == 100
        held(allowance, 100).release()
        leave()
        with pytest.raises(HttpError):  # not at each refusal: it takes a while
            held(allowance, 100)
        monkeypatch.setattr(bodies, "COLLECTED_EVERY_S", 0)
        held(allowance, 100).release()
    finally:
        gc.enable()

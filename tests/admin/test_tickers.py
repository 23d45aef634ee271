"""Content that goes on."""

from __future__ import annotations

from zcserve.admin.tickers import Ticker
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller


def test_a_piece_comes_at_once_and_the_next_when_its_time_has_come_and_it_is_asked_for() -> None:
    loop = Loop(Poller())
    made: list[int] = []
    given: list[object] = []

    def make() -> bytes:
        made.append(1)
        return b"%d" % len(made)

    ticker = Ticker(loop, 0.2, make)
    ticker.pull(given.append)
    while not given:
        loop.run_once()
    first_at = loop.now
    loop.timers.call_later(0.5, loop.stop)
    loop.run()
    assert given == [b"1"]  # nobody has asked for another
    ticker.pull(given.append)
    while len(given) < 2:
        loop.run_once()
    second_at = loop.now
    ticker.pull(given.append)
    while len(given) < 3:
        loop.run_once()
    assert loop.now - second_at >= 0.2
    assert second_at > first_at
    ticker.pull(given.append)
    ticker.close()
    loop.close()
    assert given == [b"1", b"2", b"3"]


def test_what_cannot_be_made_cuts_the_response_short() -> None:
    loop = Loop(Poller())
    given: list[object] = []

    def make() -> bytes:
        raise ValueError("nothing")

    Ticker(loop, 0.1, make).pull(given.append)
    while not given:
        loop.run_once()
    loop.close()
    assert given == [None]

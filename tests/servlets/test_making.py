"""zcserve.servlets.making: one call for all requests that wait, and calls that hang."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.result_kitchen import Kitchen, content_of
from zcserve.servlets.making import Call
from zcserve.servlets.response import Response
from zcserve.servlets.results import STALE_TTLS_MAX
from zcserve.site.exchange import Answer, Stored
from zcserve.site.reply import Reply


def test_all_requests_that_wait_have_one_call(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n), thread=True)
    asked = [kitchen.asked(route) for _ in range(100)]
    kitchen.side.turn_until(lambda: all(one.made for one in asked))
    assert kitchen.calls == 1
    assert len({id(one.made) for one in asked}) == 1


def test_all_requests_that_wait_hear_of_a_failure(kitchen: Kitchen) -> None:
    def make(n: int) -> object:
        raise RuntimeError("no")

    route = kitchen.route(make, thread=True)
    asked = [kitchen.asked(route) for _ in range(10)]
    kitchen.side.turn_until(lambda: all(one.made for one in asked))
    assert [one.answer().status for one in asked] == [500] * 10


def test_a_request_that_waits_for_what_is_not_for_all_has_a_call_of_its_own(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: Response("x", headers={"Set-Cookie": "a=b"}), thread=True)
    asked = [kitchen.asked(route) for _ in range(10)]
    kitchen.side.turn_until(lambda: all(one.made for one in asked))
    assert len({id(one.made) for one in asked}) == 10
    assert kitchen.calls == 10


def test_where_no_thread_is_free_it_is_503(small_kitchen: Kitchen) -> None:
    go, kitchen = threading.Event(), small_kitchen
    route = kitchen.route(lambda n: str(go.wait(20)), thread=True)
    asked = [kitchen.asked(route, "/1")]
    kitchen.side.turn_until(lambda: kitchen.calls)
    asked += [kitchen.asked(route, f"/{n}") for n in (2, 3)]
    assert asked[2].answer().status == 503
    go.set()
    kitchen.side.turn_until(lambda: all(one.made for one in asked))
    assert len(kitchen.results) == 2


# --- calls that hang -----------------------------------------------------------------------------------------


class Hanging:
    """A servlet whose first `good` calls return, and the others when they are let go."""

    def __init__(self, kitchen: Kitchen, good: int = 1) -> None:
        self.begun: list[int] = []
        self.go = threading.Event()
        self._good = good
        self.route = kitchen.route(self._make, thread=True)

    def _make(self, n: int) -> str:
        self.begun.append(n)
        if n > self._good:
            assert self.go.wait(20)
        return str(n)


def call_of(kitchen: Kitchen, target: str = "/it") -> Call:
    return kitchen.results.making.wanted[target.encode()]


def give_up(kitchen: Kitchen) -> None:
    """The deadline of the call at hand passes."""
    call = call_of(kitchen)
    assert call.due() < float("inf")
    call.expire()


def status_of(made: Answer | None) -> int:
    assert isinstance(made, Reply)
    return made.status


def test_a_result_outlives_a_call_that_hangs(kitchen: Kitchen, caplog: pytest.LogCaptureFixture) -> None:
    hanging = Hanging(kitchen)
    first = kitchen.entry(hanging.route)
    for n in range(STALE_TTLS_MAX):
        assert kitchen.entry(hanging.route) is first
        kept = kitchen.kept()
        assert kept is not None
        kept.expire()
        if n in (1, 3):  # in the middle of a ttl
            kitchen.side.turn_until(lambda n=n: len(hanging.begun) == 2 + n // 2)
            give_up(kitchen)
    assert hanging.begun == [1, 2, 3]  # two hang, and there is no third
    assert kitchen.entry(hanging.route) is first
    assert caplog.text.count("was given up: no result within 30 s") == 2
    hanging.go.set()


def test_a_call_that_hangs_is_given_up_and_no_request_joins_it(kitchen: Kitchen) -> None:
    hanging = Hanging(kitchen, good=0)
    waiting = [kitchen.asked(hanging.route) for _ in range(3)]
    kitchen.side.turn_until(lambda: hanging.begun == [1])
    give_up(kitchen)
    for asked in waiting:
        assert status_of(asked.outcome()) == 504
    second = kitchen.asked(hanging.route)  # a call of its own: what hung may have recovered
    kitchen.side.turn_until(lambda: hanging.begun == [1, 2])
    give_up(kitchen)
    assert status_of(second.outcome()) == 504
    busy = kitchen.asked(hanging.route)
    assert status_of(busy.made) == 503  # at once, and without a third thread
    assert status_of(kitchen.asked(hanging.route).made) == 503
    assert hanging.begun == [1, 2]
    hanging.go.set()
    kitchen.side.turn_until(lambda: not kitchen.results.making.hung)
    assert content_of(kitchen.entry(hanging.route)) == b"3"


def test_what_a_call_returns_after_its_deadline_is_not_kept(kitchen: Kitchen) -> None:
    hanging = Hanging(kitchen)
    for _ in range(2):
        first = kitchen.entry(hanging.route)
    kept = kitchen.kept()
    assert kept is not None
    kept.expire()
    kitchen.side.turn_until(lambda: hanging.begun == [1, 2])
    give_up(kitchen)
    hanging.go.set()
    kitchen.side.turn_until(lambda: not kitchen.results.making.hung)
    assert kitchen.entry(hanging.route) is first
    assert content_of(first) == b"1"


def test_no_more_wait_for_one_result_than_may(small_kitchen: Kitchen) -> None:
    hanging = Hanging(small_kitchen, good=0)
    waiting = small_kitchen.asked(hanging.route)
    assert status_of(small_kitchen.asked(hanging.route).made) == 503
    hanging.go.set()
    assert waiting.outcome()


def test_a_call_that_all_have_left_is_not_begun(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, servlet_threads=1, servlet_queue_max=3)
    hanging = Hanging(kitchen, good=0)
    working = kitchen.asked(hanging.route, "/it?first")
    kitchen.side.turn_until(lambda: hanging.begun)
    queued = [kitchen.asked(hanging.route) for _ in range(3)]
    assert kitchen.side.context.pool.waiting == 1
    for asked in queued[:2]:
        asked.exchange.abandon()
    assert kitchen.side.context.pool.waiting == 1
    queued[2].exchange.abandon()
    assert kitchen.side.context.pool.waiting == 0
    assert list(kitchen.results.making.wanted) == [b"/it?first"]
    again = kitchen.asked(hanging.route)
    hanging.go.set()
    for asked in (working, again):
        assert isinstance(asked.outcome(), Stored)
    assert hanging.begun == [1, 2]
    assert all(asked.made is None for asked in queued)
    kitchen.close()


def test_a_call_that_has_begun_goes_on_when_all_have_left(kitchen: Kitchen) -> None:
    hanging = Hanging(kitchen, good=0)
    left = kitchen.asked(hanging.route)
    kitchen.side.turn_until(lambda: hanging.begun)
    left.exchange.abandon()
    joins = kitchen.asked(hanging.route)
    hanging.go.set()
    assert isinstance(joins.outcome(), Stored)
    assert hanging.begun == [1]


def test_a_deadline_that_passes_while_a_result_is_made_resident_lets_go_of_it(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    asked = kitchen.asked(route)  # called at once; a thread of the loader has it now
    give_up(kitchen)
    assert status_of(asked.outcome()) == 504
    kitchen.side.turn_until(lambda: not kitchen.fetcher.waiting and not kitchen.store.resident)
    assert kitchen.kept() is None


def test_a_call_that_no_thread_has_begun_by_its_deadline_does_not_hang(small_kitchen: Kitchen) -> None:
    hanging = Hanging(small_kitchen, good=0)
    small_kitchen.asked(hanging.route, "/it?first")
    small_kitchen.side.turn_until(lambda: hanging.begun)
    for _ in range(3):  # more often than calls may hang
        asked = small_kitchen.asked(hanging.route)
        give_up(small_kitchen)
        assert status_of(asked.outcome()) == 504
    hanging.go.set()

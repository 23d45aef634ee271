"""zcserve.content.renewals: a file that is found to have changed is replaced at once, or when another process knows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.contents import Shop
from tests.support.trees import entry_of, publish
from tests.support.waiting import WaitUntil
from zcserve.cache.pairing import entry_at
from zcserve.content.builder import ClosingError
from zcserve.content.renewals import Begun, Renewals

WITHIN_S = 20.0


class Desk:
    """A file that has changed since it was loaded, and renewals of it in threads. The loop is the test's own thread:
    `turn` makes what it was asked for."""

    def __init__(self, shop: Shop) -> None:
        self.generation = shop.build().generation
        self.old = entry_of(self.generation, b"/page")
        publish(shop.tree.path / "page", b"changed")
        self.fresh = entry_at(self.generation.root, b"/page")
        self.closing = threading.Event()
        self.renewals = Renewals(shop.loader, self.closing)
        self.calls: queue.Queue[Callable[[], object]] = queue.Queue()
        self.asked: list[Callable[[], None]] = []  # what to call when the other process knows
        self.threads: list[threading.Thread] = []

    def turn(self) -> None:
        self.calls.get(timeout=WITHIN_S)()

    def in_thread(self, job: Callable[[], object]) -> list[object]:
        """What a job gave, or raised, once it has ended."""
        made: list[object] = []

        def run() -> None:
            try:
                made.append(job())
            except ClosingError:
                made.append(ClosingError)

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()
        return made

    def renew(self, begun: Begun) -> list[object]:
        return self.in_thread(lambda: self.renewals.renew(self.generation, self.old, self.fresh, begun, self.calls.put))

    @property
    def is_replaced(self) -> bool:
        return self.generation.resources.get(b"/page") is self.fresh

    def close(self) -> None:
        self.closing.set()
        for thread in self.threads:
            thread.join(WITHIN_S)
            assert not thread.is_alive()


@pytest.fixture
def desk(shop: Callable[..., Shop]) -> Iterator[Desk]:
    made = Desk(shop({"page": b"the page"}, watch=False))
    yield made
    made.close()


def test_what_lies_there_now_is_put_into_place_at_once(desk: Desk, wait_until: WaitUntil) -> None:
    made = desk.renew(desk.renewals.begin())
    wait_until(lambda: made)
    assert (made, desk.is_replaced, desk.old.body) == ([True], True, None)
    assert desk.calls.empty()  # no other process is asked


def test_what_is_gone_leaves_its_place(desk: Desk, wait_until: WaitUntil) -> None:
    desk.fresh = None
    made = desk.renew(desk.renewals.begin())
    wait_until(lambda: made)
    assert (made, b"/page" in desk.generation.resources) == ([True], False)


def test_while_another_process_takes_over_it_is_asked_first(desk: Desk, wait_until: WaitUntil) -> None:
    desk.renewals.pause(desk.asked.append)
    assert desk.renewals.is_paused
    made = desk.renew(desk.renewals.begin())
    desk.turn()
    (tell,) = desk.asked
    assert (made, desk.is_replaced) == ([], False)  # no time runs out
    tell()
    wait_until(lambda: made)
    assert (made, desk.is_replaced) == ([True], True)
    tell()  # a second word changes nothing


def test_where_no_other_process_takes_over_after_all_it_goes_on(desk: Desk, wait_until: WaitUntil) -> None:
    desk.renewals.pause(desk.asked.append)
    begun = desk.renewals.begin()
    desk.renewals.resume()
    assert not desk.renewals.is_paused
    made = desk.renew(begun)
    desk.turn()
    wait_until(lambda: made)
    assert (made, desk.asked, desk.is_replaced) == ([True], [], True)
    assert desk.renewals.begin()[1] is None  # nothing is asked any more


def test_when_the_server_ends_what_waits_is_given_up_and_nothing_replaced(desk: Desk, wait_until: WaitUntil) -> None:
    desk.renewals.pause(desk.asked.append)
    made = desk.renew(desk.renewals.begin())
    desk.turn()
    desk.closing.set()
    wait_until(lambda: made)
    assert (made, desk.is_replaced) == ([False], False)


def test_those_that_have_not_asked_are_waited_for_and_those_that_ask_are_not(desk: Desk, wait_until: WaitUntil) -> None:
    first, second = desk.renewals.begin(), desk.renewals.begin()
    desk.renewals.pause(desk.asked.append)
    desk.renewals.begin()  # asks
    finished = desk.in_thread(lambda: desk.renewals.finish() or "finished")
    made = desk.renew(first)
    wait_until(lambda: made)
    assert finished == []
    desk.renew(second)
    wait_until(lambda: finished)
    assert finished == ["finished"]


def test_a_server_that_ends_waits_for_none(desk: Desk, wait_until: WaitUntil) -> None:
    desk.renewals.begin()
    finished = desk.in_thread(lambda: desk.renewals.finish() or "finished")
    desk.closing.set()
    wait_until(lambda: finished)


# --- what is replaced when another process serves ---------------------------------------------------------------------


def test_nothing_waits_for_a_process_that_does_not_serve(desk: Desk) -> None:
    desk.renewals.await_successor(desk.calls.put)
    desk.renewals.pause(desk.asked.append)
    desk.renewals.await_successor(desk.calls.put)
    assert desk.calls.empty()


def test_what_is_replaced_from_then_on_waits_for_the_process_that_serves(desk: Desk, wait_until: WaitUntil) -> None:
    desk.renewals.pause(desk.asked.append)
    desk.renewals.follow_on()
    assert not desk.renewals.is_paused
    made = desk.in_thread(lambda: desk.renewals.await_successor(desk.calls.put))
    desk.turn()
    assert made == []
    desk.asked[0]()
    wait_until(lambda: made)
    assert made == [None]
    late = desk.in_thread(lambda: desk.renewals.await_successor(desk.calls.put))
    desk.turn()
    desk.closing.set()
    wait_until(lambda: late)
    assert late == [ClosingError]


def test_when_all_is_known_nothing_more_is_replaced_but_on_demand(desk: Desk, wait_until: WaitUntil) -> None:
    desk.renewals.stand_still()
    assert desk.renewals.is_paused
    made = desk.renew(desk.renewals.begin())
    wait_until(lambda: made)
    assert desk.is_replaced

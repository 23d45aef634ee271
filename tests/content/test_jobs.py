"""zcserve.content.jobs: threads that do one job after another, and have the loop make their steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.waiting import WaitUntil
from zcserve.content.builder import ClosingError
from zcserve.content.crews import Crews
from zcserve.content.jobs import Counters, Jobs, PausedError
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller

WITHIN_S = 20.0


class Desk:
    """Jobs, and a loop that the test turns."""

    def __init__(self) -> None:
        self.loop = Loop(Poller())
        self.closing = threading.Event()
        self.counters = Counters()
        self.crews = Crews()
        self.jobs = Jobs(self.loop, self.closing, self.counters, self.crews, lambda: None)

    def turn_until(self, is_true: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not is_true():
            assert time.monotonic() < deadline
            self.loop.wake_at(self.loop.now + 0.005, self)
            self.loop.run_once()

    def outcome(self, job: Callable[[], Any]) -> Any:
        """What a job gives, or raises, in the builders' thread, while the loop turns."""
        made: list[Any] = []

        def run() -> None:
            try:
                made.append(job())
            except BaseException as error:
                made.append(error)

        self.jobs.submit(self.jobs.builders, run)
        self.turn_until(lambda: made)
        return made[0]

    def close(self) -> None:
        self.jobs.close(WITHIN_S)
        self.crews.close(WITHIN_S)
        self.loop.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def name_of_thread() -> str:
    return threading.current_thread().name


def test_each_thread_does_its_jobs_in_their_order_and_beside_the_other(desk: Desk, wait_until: WaitUntil) -> None:
    done: list[object] = []
    go = threading.Event()
    desk.jobs.submit(desk.jobs.patches, lambda: done.append(go.wait(WITHIN_S)))
    for number in range(3):
        desk.jobs.submit(desk.jobs.patches, lambda number=number: done.append(number))  # type: ignore[misc]
    desk.jobs.submit(desk.jobs.builders, lambda: done.append("built"))
    wait_until(lambda: done)
    assert done == ["built"]
    go.set()
    wait_until(lambda: len(done) == 5)
    assert done == ["built", True, 0, 1, 2]


def test_a_job_that_fails_is_told_and_counted_and_the_next_one_is_done(
    desk: Desk, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    def fail() -> None:
        raise OSError("no luck")

    done: list[None] = []
    desk.jobs.submit(desk.jobs.patches, fail)
    desk.jobs.submit(desk.jobs.patches, lambda: done.append(None))
    wait_until(lambda: done)
    assert desk.counters.failed == 1
    assert "the content could not be replaced, the old content goes on" in caplog.text
    assert "no luck" in caplog.text


@pytest.mark.parametrize("error", [ClosingError, PausedError])
def test_a_job_that_is_given_up_is_no_failure(
    desk: Desk, error: type[Exception], caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    def give_up() -> None:
        raise error

    done: list[None] = []
    desk.jobs.submit(desk.jobs.patches, give_up)
    desk.jobs.submit(desk.jobs.patches, lambda: done.append(None))
    wait_until(lambda: done)
    assert (desk.counters.failed, caplog.messages) == (0, [])


def test_the_loop_makes_a_step_and_a_thread_goes_on_with_what_it_gave(desk: Desk) -> None:
    assert desk.outcome(lambda: desk.jobs.in_loop(name_of_thread)) == name_of_thread()


def test_the_patches_thread_does_a_job_for_another_one(desk: Desk) -> None:
    assert "zcserve-content" in desk.outcome(lambda: desk.jobs.in_patches(name_of_thread))


@pytest.mark.parametrize("where", ["in_loop", "in_patches"])
def test_what_a_step_raises_is_raised_where_it_was_asked_for(desk: Desk, where: str) -> None:
    def fail() -> None:
        raise LookupError("this")

    assert isinstance(desk.outcome(lambda: getattr(desk.jobs, where)(fail)), LookupError)
    assert desk.counters.failed == 0


def test_a_step_of_a_loop_that_does_not_turn_any_more_is_not_waited_for(desk: Desk, wait_until: WaitUntil) -> None:
    raised: list[str] = []

    def job() -> None:
        try:
            desk.jobs.in_loop(name_of_thread)
        except ClosingError:
            raised.append(name_of_thread())

    desk.jobs.submit(desk.jobs.patches, job)
    desk.closing.set()
    wait_until(lambda: raised)
    assert "zcserve-content" in raised[0]


def test_what_a_step_gave_counts_though_the_server_ends_meanwhile(desk: Desk) -> None:
    def end() -> str:
        desk.closing.set()
        return "made"

    assert desk.outcome(lambda: desk.jobs.in_loop(end)) == "made"


def test_from_the_word_that_the_server_ends_no_job_is_begun(desk: Desk, wait_until: WaitUntil) -> None:
    done: list[None] = []
    behind: list[None] = []
    desk.closing.set()
    desk.jobs.submit(desk.jobs.patches, lambda: done.append(None))
    desk.jobs.patches.submit(lambda: behind.append(None))
    wait_until(lambda: behind)
    assert done == []


def test_when_the_server_ends_no_job_is_begun_and_the_threads_have_ended(desk: Desk) -> None:
    done: list[None] = []
    assert desk.jobs.close(WITHIN_S)
    assert desk.closing.is_set()
    desk.jobs.submit(desk.jobs.patches, lambda: done.append(None))
    with pytest.raises(ClosingError):
        desk.jobs.in_patches(name_of_thread)
    assert done == []


@pytest.mark.parametrize("crew", ["patches", "builders"])
def test_a_thread_that_goes_on_is_told_of_and_not_waited_for(desk: Desk, crew: str) -> None:
    begun, go = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go.wait(WITHIN_S)

    desk.jobs.submit(getattr(desk.jobs, crew), hang)
    assert begun.wait(WITHIN_S)
    began = time.monotonic()
    assert not desk.jobs.close(0.05)
    assert time.monotonic() - began < WITHIN_S / 2
    go.set()


def test_steps_are_made_a_turn_for_each_and_waited_for_once(desk: Desk) -> None:
    made: list[object] = []
    desk.loop.each_turn.subscribe(lambda: made.append("turn"))
    assert desk.outcome(lambda: desk.jobs.in_turns(partial(made.append, number) for number in range(3))) is None
    steps = [one for one in made if one != "turn"]
    assert steps == [0, 1, 2]
    assert all("turn" in made[made.index(one) : made.index(one + 1)] for one in (0, 1))
    assert desk.outcome(lambda: desk.jobs.in_turns(())) is None


def test_what_one_of_the_steps_raises_is_raised_in_the_thread_and_the_others_are_not_made(desk: Desk) -> None:
    made: list[int] = []

    def fail() -> None:
        raise KeyError("no")

    found = desk.outcome(lambda: desk.jobs.in_turns([partial(made.append, 1), fail, partial(made.append, 2)]))
    assert (type(found), made) == (KeyError, [1])

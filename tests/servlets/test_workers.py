"""A bounded pool of threads, and asyncio in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.waiting import WaitUntil
from zcserve.servlets.workers import AsyncThread, BusyError, Pool

WITHIN_S = 20.0


@pytest.fixture
def tasks() -> Iterator[AsyncThread]:
    tasks = AsyncThread()
    yield tasks
    tasks.close()


class Blocked:
    """Jobs that wait until they are let go, and what they have done."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.started = threading.Semaphore(0)
        self.done: list[Any] = []

    def job(self, name: object) -> Any:
        def run() -> None:
            self.started.release()
            assert self.go.wait(WITHIN_S)
            self.done.append(name)

        return run


def test_no_more_threads_than_allowed_and_no_more_jobs_wait_than_may(wait_until: WaitUntil) -> None:
    pool, blocked = Pool(2, 3), Blocked()
    for number in range(2):
        pool.submit(blocked.job(number))
        assert blocked.started.acquire(timeout=WITHIN_S)
    for number in range(2, 5):
        pool.submit(blocked.job(number))
    with pytest.raises(BusyError):
        pool.submit(blocked.job(5))
    assert not blocked.started.acquire(blocking=False)
    blocked.go.set()
    wait_until(lambda: sorted(blocked.done) == [0, 1, 2, 3, 4])
    pool.close()


def test_what_has_begun_goes_first_and_is_never_turned_away(wait_until: WaitUntil) -> None:
    pool, blocked = Pool(1, 1), Blocked()
    pool.submit(blocked.job("running"))
    assert blocked.started.acquire(timeout=WITHIN_S)
    pool.submit(blocked.job("new"))
    pool.submit(blocked.job("begun"), begun=True)
    blocked.go.set()
    wait_until(lambda: blocked.done == ["running", "begun", "new"])
    pool.close()


def test_a_job_that_raises_even_systemexit_leaves_the_thread_to_others(wait_until: WaitUntil) -> None:
    pool = Pool(1, 10)
    names: list[str] = []
    pool.submit(lambda: names.append(threading.current_thread().name))

    def leave() -> None:
        raise SystemExit

    pool.submit(leave)
    pool.submit(lambda: names.append(threading.current_thread().name))
    wait_until(lambda: len(names) == 2)
    assert len(set(names)) == 1
    pool.close()


def test_an_idle_thread_is_used_again() -> None:
    pool = Pool(50, 10)
    names = set()
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            names.add(threading.current_thread().name)
            done.set()

        pool.submit(job)
        assert done.wait(WITHIN_S)
    assert len(names) < 20
    pool.close()


def test_a_closed_pool_begins_nothing() -> None:
    pool = Pool(1, 10)
    pool.close()
    with pytest.raises(BusyError):
        pool.submit(lambda: None)
    with pytest.raises(BusyError):
        pool.submit(lambda: None, begun=True)


def test_coroutines_run_on_one_loop_in_a_thread_of_its_own(tasks: AsyncThread) -> None:
    async def where() -> tuple[int, int]:
        return threading.get_ident(), id(asyncio.get_running_loop())

    places = {tasks.start(where()).result(WITHIN_S) for _ in range(3)}
    assert len(places) == 1
    assert threading.get_ident() not in {ident for ident, _ in places}


def test_coroutines_that_run_are_cancelled_at_the_end() -> None:
    tasks = AsyncThread()
    seen: list[str] = []
    began = threading.Event()

    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    future = tasks.start(forever())
    assert began.wait(WITHIN_S)
    tasks.close()
    assert seen == ["ended"]
    assert future.cancelled()


def test_a_thread_that_was_never_needed_was_never_started() -> None:
    before = threading.active_count()
    AsyncThread().close()
    assert threading.active_count() == before


# --- what is not wanted any more ------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True])
def test_a_job_that_is_withdrawn_gives_up_its_place(wait_until: WaitUntil, begun: bool) -> None:
    pool, blocked = Pool(1, 2), Blocked()
    pool.submit(blocked.job("running"))
    assert blocked.started.acquire(timeout=WITHIN_S)
    jobs = {name: blocked.job(name) for name in ("a", "b", "c")}
    for name in ("a", "b"):
        pool.submit(jobs[name], begun=begun)
    assert pool.withdraw(jobs["a"])
    assert not pool.withdraw(jobs["a"])
    assert pool.waiting == 1
    pool.submit(jobs["c"])
    blocked.go.set()
    wait_until(lambda: blocked.done == ["running", "b", "c"])
    assert not pool.withdraw(jobs["b"])  # it has begun, and ended
    pool.close()


def test_what_a_withdrawn_job_holds_is_freed_at_once() -> None:
    pool, blocked = Pool(1, 2), Blocked()
    pool.submit(blocked.job("running"))
    assert blocked.started.acquire(timeout=WITHIN_S)
    job = blocked.job("queued")
    pool.submit(job)
    gone = weakref.ref(job)
    pool.withdraw(job)
    del job
    assert gone() is None
    blocked.go.set()
    pool.close()


def test_of_what_has_begun_the_first_is_the_first(wait_until: WaitUntil) -> None:
    pool, blocked = Pool(1, 1), Blocked()
    pool.submit(blocked.job("running"))
    assert blocked.started.acquire(timeout=WITHIN_S)
    for name in range(5):
        pool.submit(blocked.job(name), begun=True)
    blocked.go.set()
    wait_until(lambda: blocked.done == ["running", 0, 1, 2, 3, 4])
    pool.close()


def test_where_no_thread_can_be_started_the_job_that_needs_the_first_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: list[str] = []
    go, ended = threading.Event(), threading.Event()
    pool = Pool(2, 8)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BusyError, match="can't start new thread"):
            pool.submit(lambda: done.append("never"))
    pool.submit(lambda: (done.append("first"), go.wait(20))[0])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.submit(lambda: done.append("second"))  # by the one that there is
    go.set()
    pool.submit(ended.set)
    assert ended.wait(20)
    pool.close()
    assert "never" not in done
    assert sorted(done) == ["first", "second"]

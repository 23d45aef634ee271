"""Threads that may hang: stand-ins for them, what a device may stop, and an end that does not wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from queue import Queue
from typing import Any

import pytest

from tests.support.waiting import WaitUntil
from zcserve.cache import crew as crew_module
from zcserve.cache.crew import BURST_S, Crew, beat
from zcserve.errors import UsageError

WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def stalled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs stall after a twentieth of the time, so that the tests need not wait."""
    monkeypatch.setattr(crew_module, "STALL_S", 0.05)


class Disk:
    """A device whose reads come back when it is `released`."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.released = threading.Event()
        self.begun = 0

    def read(self) -> None:
        self.begun += 1
        assert self.released.wait(WITHIN_S)


@pytest.fixture
def far() -> Iterator[Disk]:
    disk = Disk(b"far")
    yield disk
    disk.released.set()


@pytest.fixture
def make() -> Iterator[Callable[..., Crew]]:
    made: list[Crew] = []

    def start(threads: int = 2, **settings: Any) -> Crew:
        made.append(Crew(threads, "test", **settings))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_crew_without_jobs_has_ended_however_slow_its_threads_are(make: Callable[..., Crew], far: Disk) -> None:
    assert make(4).close(0)
    busy = make(2)
    busy.submit(far.read)
    while not far.begun:
        time.sleep(0.001)
    assert not busy.close(0)


def done(crew: Crew, device: bytes | None = None) -> threading.Event:
    """Set when a job of this device has run."""
    event = threading.Event()
    crew.submit(event.set, device)
    return event


def test_jobs_that_stall_are_stood_in_for(make: Callable[..., Crew], far: Disk) -> None:
    crew = make()
    for _ in range(2):
        crew.submit(far.read, far.name)
    assert done(crew, b"near").wait(WITHIN_S)
    assert done(crew).wait(WITHIN_S)


def test_jobs_that_do_not_stall_run_no_more_than_there_are_threads_for(make: Callable[..., Crew]) -> None:
    crew = make(2)
    lock = threading.Lock()
    now, most, ended = 0, 0, threading.Semaphore(0)

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        for _ in range(30):  # longer than a stall, but it goes on
            time.sleep(0.004)
            beat()
        with lock:
            now -= 1
        ended.release()

    for _ in range(8):
        crew.submit(work, b"near")
    for _ in range(8):
        assert ended.acquire(timeout=WITHIN_S)
    assert most == 2


def test_a_device_gets_no_more_threads_than_the_crew_has(
    make: Callable[..., Crew], far: Disk, wait_until: WaitUntil
) -> None:
    crew = make(2)
    for _ in range(10):
        crew.submit(far.read, far.name)
    for _ in range(10):
        assert done(crew, b"near").wait(WITHIN_S)
    assert 2 <= far.begun < 4  # those that began while one had not stalled yet
    far.released.set()
    wait_until(lambda: far.begun == 10)  # when it comes back, all the others are done


def test_three_devices_may_hang_at_once(make: Callable[..., Crew], wait_until: WaitUntil) -> None:
    crew = make(1)
    disks = [Disk(name) for name in (b"1", b"2", b"3")]
    try:
        for disk in disks:
            crew.submit(disk.read, disk.name)
        wait_until(lambda: [disk.begun for disk in disks] == [1, 1, 1])
        assert done(crew, b"near").wait(WITHIN_S)
    finally:
        for disk in disks:
            disk.released.set()


def test_a_device_hangs_when_as_many_jobs_are_stuck_as_there_are_threads(
    make: Callable[..., Crew], far: Disk, wait_until: WaitUntil
) -> None:
    crew = make(2, stuck_s=0.1)
    crew.submit(far.read, far.name)
    wait_until(lambda: far.begun == 1)
    time.sleep(0.2)
    assert not crew.hangs(far.name)  # one file may be in trouble by itself
    crew.submit(far.read, far.name)
    wait_until(lambda: crew.hangs(far.name))
    assert not crew.hangs(b"near")
    assert not crew.hangs(None)
    far.released.set()
    wait_until(lambda: not crew.hangs(far.name))


def test_a_job_that_was_withdrawn_is_not_begun(make: Callable[..., Crew], far: Disk, wait_until: WaitUntil) -> None:
    crew = make(1, stand_ins=0)
    first = crew.submit(far.read)
    wait_until(lambda: far.begun == 1)
    assert not crew.withdraw(first)
    unwanted = threading.Event()
    assert crew.withdraw(crew.submit(unwanted.set))
    far.released.set()
    assert done(crew).wait(WITHIN_S)
    assert not unwanted.is_set()


def test_jobs_without_stand_ins_run_one_after_another(make: Callable[..., Crew]) -> None:
    crew = make(1, stand_ins=0)
    order: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.06 if not number else 0)
        order.append(number)

    for number in range(5):
        crew.submit(partial(work, number))
    assert done(crew).wait(WITHIN_S)
    assert order == [0, 1, 2, 3, 4]


def test_a_job_that_gives_way_rests_as_long_as_it_works_but_for_a_rush(
    make: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "RUSH_S", 10 * BURST_S)
    took: Queue[tuple[float, float]] = Queue()

    def work() -> None:
        began, worked = time.monotonic(), time.thread_time()
        while (used := time.thread_time() - worked) < 40 * BURST_S:
            beat()
        took.put((used, time.monotonic() - began))

    make(1, gives_way=True).submit(work)
    used, passed = took.get(timeout=10)
    assert passed > 1.5 * used  # and more, on a busy machine
    rested: list[float] = []
    monkeypatch.setattr(crew_module, "RUSH_S", 1000.0)
    monkeypatch.setattr(time, "sleep", rested.append)
    make(1, gives_way=True).submit(work)
    took.get(timeout=10)
    assert rested == []


def test_what_a_job_raises_ends_no_thread(make: Callable[..., Crew]) -> None:
    crew = make(1, stand_ins=0)

    def fail() -> None:
        raise SystemExit

    crew.submit(fail)
    assert done(crew).wait(WITHIN_S)


def test_the_end_waits_for_jobs_at_hand_and_not_for_what_hangs(
    make: Callable[..., Crew], far: Disk, wait_until: WaitUntil
) -> None:
    crew = make(2)
    assert done(crew).wait(WITHIN_S)
    assert crew.close()
    crew = make(2)
    crew.submit(far.read)
    wait_until(lambda: far.begun == 1)
    began = time.monotonic()
    assert not crew.close(0.1)
    assert time.monotonic() - began < 5.0
    assert not done(crew).wait(0.1)  # nothing is begun any more


def test_threads_that_cannot_be_had_are_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(UsageError, match="can't start new thread"):
        Crew(2, "test")


def test_threads_that_cannot_be_had_later_leave_those_that_there_are(
    make: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = make(2)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(10):
        assert done(crew).wait(WITHIN_S)
    together = threading.Barrier(3)

    def meet() -> None:
        together.wait(WITHIN_S)

    for _ in range(2):
        crew.submit(meet)
    together.wait(WITHIN_S)
    assert done(crew).wait(WITHIN_S)

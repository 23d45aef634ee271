"""zcserve.content.crews: jobs of many sites in a few threads, and sites whose file system hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.waiting import WaitUntil
from zcserve.cache import crew as crew_module
from zcserve.content.crews import HANGING_MAX, SITES_AT_ONCE, Crews, Strand

WITHIN_S = 30.0
KIND = "zcserve-test-crews"


@pytest.fixture
def crews(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crews]:
    monkeypatch.setattr(crew_module, "STALL_S", 0.05)
    made = Crews()
    yield made
    assert made.close(WITHIN_S)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Set when the test is over: what hangs goes on."""
    event = threading.Event()
    yield event
    event.set()


def threads_of(kind: str) -> int:
    return sum(thread.name.startswith(kind) for thread in threading.enumerate())


def hang(strand: Strand, release: threading.Event) -> threading.Event:
    """A job that goes on when that is set; what is set when it has begun."""
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        release.wait(WITHIN_S)

    strand.submit(wait)
    return begun


def test_one_site_has_one_thread_and_hundreds_have_a_few(crews: Crews, wait_until: WaitUntil) -> None:
    strands = [crews.strand(KIND)]
    assert threads_of(KIND) == 1
    strands += [crews.strand(KIND) for _ in range(300)]
    assert threads_of(KIND) == SITES_AT_ONCE + 1
    done: list[int] = []
    for number, strand in enumerate(strands):
        strand.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    wait_until(lambda: len(done) == len(strands))
    assert threads_of(KIND) <= SITES_AT_ONCE + HANGING_MAX


def test_jobs_of_one_site_are_done_one_after_another_in_their_order(crews: Crews, wait_until: WaitUntil) -> None:
    strands = [crews.strand(KIND) for _ in range(3)]
    done: list[list[int]] = [[] for _ in strands]
    at_work = [0 for _ in strands]

    def job(site: int, number: int) -> None:
        at_work[site] += 1
        done[site].append(number if at_work[site] == 1 else -1)
        at_work[site] -= 1

    for number in range(50):
        for site, strand in enumerate(strands):
            strand.submit(lambda site=site, number=number: job(site, number))  # type: ignore[misc]
    wait_until(lambda: all(len(one) == 50 for one in done))
    assert done == [list(range(50))] * 3


def test_a_job_that_raises_does_not_keep_the_next_one(crews: Crews, wait_until: WaitUntil) -> None:
    strand = crews.strand(KIND)
    done: list[None] = []

    def fail() -> None:
        raise OSError("no luck")

    strand.submit(fail)
    strand.submit(lambda: done.append(None))
    wait_until(lambda: done)


def test_a_file_system_that_hangs_stops_the_sites_that_lie_on_it_and_no_other(
    crews: Crews, release: threading.Event, wait_until: WaitUntil
) -> None:
    away = [crews.strand(KIND, lambda: b"away") for _ in range(40)]
    here = crews.strand(KIND, lambda: b"here")
    for strand in away:
        hang(strand, release)
    done: list[int] = []
    for number in range(5):
        here.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    wait_until(lambda: len(done) == 5)
    assert threads_of(KIND) <= SITES_AT_ONCE + HANGING_MAX


def test_sites_that_hang_each_by_itself_take_a_thread_each(
    crews: Crews, release: threading.Event, wait_until: WaitUntil
) -> None:
    hanging = [crews.strand(KIND, lambda number=number: b"%d" % number) for number in range(HANGING_MAX)]  # type: ignore[misc]
    for strand in hanging:
        begun = hang(strand, release)
        hang(strand, release)  # behind the first
        assert begun.wait(WITHIN_S)
    done: list[None] = []
    crews.strand(KIND, lambda: b"here").submit(lambda: done.append(None))
    wait_until(lambda: done)


def test_what_waits_is_not_begun_once_a_site_is_gone_and_what_runs_is_waited_for_a_little(
    crews: Crews, release: threading.Event, wait_until: WaitUntil
) -> None:
    strand = crews.strand(KIND)
    done: list[None] = []
    assert hang(strand, release).wait(WITHIN_S)
    strand.submit(lambda: done.append(None))
    assert strand.is_awaited
    assert not strand.close(0.01)
    release.set()
    assert strand.close(WITHIN_S)
    strand.submit(lambda: done.append(None))
    other: list[None] = []
    crews.strand(KIND).submit(lambda: other.append(None))
    wait_until(lambda: other)
    assert done == []


def test_a_strand_that_is_held_begins_nothing_more_and_takes_no_thread(crews: Crews, wait_until: WaitUntil) -> None:
    strands = [crews.strand(KIND) for _ in range(50)]
    done: list[int] = []
    strands[0].submit(lambda: done.append(0))
    reached = [strand.hold() for strand in strands]
    assert all(event.wait(WITHIN_S) for event in reached)
    for number, strand in enumerate(strands, 1):
        strand.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    other = crews.strand(KIND)
    other.submit(lambda: done.append(-1))
    wait_until(lambda: len(done) == 2)
    assert done == [0, -1]
    for strand in strands:
        strand.go_on()
    wait_until(lambda: len(done) == 52)


def test_a_strand_that_goes_on_before_it_was_held_is_not_held(crews: Crews, release: threading.Event) -> None:
    strand, done = crews.strand(KIND), threading.Event()
    assert hang(strand, release).wait(WITHIN_S)
    strand.hold()
    strand.go_on()
    strand.submit(done.set)
    release.set()
    assert done.wait(WITHIN_S)

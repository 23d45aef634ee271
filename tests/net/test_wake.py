"""zcserve.net.wake: an eventfd that other threads and signals' handlers write, whatever becomes of its owner."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Callable, Iterable

import pytest

from tests.support.waiting import is_readable
from zcserve.net.wake import TRIES, Wake

WITHIN_S = 20.0


def test_it_is_readable_from_the_word_until_it_is_cleared() -> None:
    one = Wake()
    assert not is_readable(one.fd)
    one.tell()
    one.tell()
    assert is_readable(one.fd)
    one.clear()  # all words at once
    assert not is_readable(one.fd)
    one.clear()  # nothing waits for a word that does not come
    one.tell()
    assert is_readable(one.fd)


def test_a_word_is_said_once() -> None:
    one = Wake()
    one.tell()
    assert int.from_bytes(os.read(one.fd, 8), sys.byteorder) == 1


def test_a_word_of_another_thread_ends_a_wait() -> None:
    one = Wake()
    woken: list[bool] = []
    waits = threading.Thread(target=lambda: woken.append(is_readable(one.fd, WITHIN_S)))
    waits.start()
    one.tell()
    waits.join(WITHIN_S)
    assert woken == [True]


def test_a_word_to_a_counter_that_is_full_is_not_waited_for() -> None:
    one = Wake()
    os.write(one.fd, (2**64 - 2).to_bytes(8, sys.byteorder))  # eventfd(2): a further word would block
    one.tell()
    one.clear()
    assert not is_readable(one.fd)


@pytest.mark.parametrize(("failures", "is_heard"), [(TRIES - 1, True), (TRIES, False)])
def test_a_word_that_is_lost_is_said_again_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, failures: int, is_heard: bool
) -> None:
    one = Wake()
    write = os.write
    lost: list[int] = []

    def fails_at_first(fd: int, data: bytes) -> int:
        if len(lost) < failures:
            lost.append(fd)
            raise InterruptedError
        return write(fd, data)

    monkeypatch.setattr(os, "write", fails_at_first)
    one.tell()
    monkeypatch.undo()
    assert (is_readable(one.fd), lost) == (is_heard, [one.fd] * failures)


def test_its_number_lives_as_long_as_something_refers_to_it() -> None:
    one = Wake()
    fd, tell = one.fd, one.tell
    del one
    tell()  # a thread that was stopped just before it writes
    assert is_readable(fd)
    del tell
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_program_that_is_started_does_not_have_it() -> None:
    assert not os.get_inheritable(Wake().fd)


def test_one_that_cannot_be_had_is_an_error_and_ends_quietly(recwarn: Iterable[Warning]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    make: Callable[[], Wake] = Wake
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            make()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not list(recwarn)  # no exception of `__del__` was ignored

"""zcserve.threads: threads that are there, or whose lack is told in one line."""

from __future__ import annotations

import threading

import pytest

from zcserve import threads
from zcserve.errors import NoThreadError

WITHIN_S = 20.0


def test_a_thread_runs_and_does_not_keep_the_process_from_ending() -> None:
    ran = threading.Event()
    thread = threads.start(ran.set, "zcserve-test")
    assert ran.wait(WITHIN_S)
    assert (thread.name, thread.daemon) == ("zcserve-test", True)
    thread.join(WITHIN_S)


def test_a_thread_that_cannot_be_had_is_wrong_use_and_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ran = threading.Event()
    thread = threading.Thread(target=ran.set, name="zcserve-test", daemon=True)
    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(
        NoThreadError, match=r"^no thread can be had for zcserve-test \(can't start new thread\): raise"
    ):
        threads.begin(thread)
    with pytest.raises(NoThreadError, match="for zcserve-other"):
        threads.start(ran.set, "zcserve-other")
    monkeypatch.undo()
    threads.begin(thread)
    assert ran.wait(WITHIN_S)


def test_what_is_no_lack_of_threads_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: threading.Thread) -> None:
        raise MemoryError

    monkeypatch.setattr(threading.Thread, "start", broken)
    with pytest.raises(MemoryError):
        threads.start(print, "zcserve-test")

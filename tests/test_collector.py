"""zcserve.collector: the garbage collector stands still."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from zcserve import collector


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """The collector runs, before and after."""
    had = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if had else gc.disable)()


def test_it_stands_still_until_the_last_thread_has_what_it_wants() -> None:
    may_leave, is_in = threading.Event(), threading.Event()

    def other() -> None:
        with collector.paused():
            is_in.set()
            may_leave.wait(60)

    thread = threading.Thread(target=other)
    with collector.paused(), collector.paused():
        thread.start()
        assert is_in.wait(60)
        assert not gc.isenabled()
    assert not gc.isenabled()
    may_leave.set()
    thread.join()
    assert gc.isenabled()


def test_where_it_did_not_run_it_does_not_run_after() -> None:
    gc.disable()
    with collector.paused():
        pass
    assert not gc.isenabled()


def test_it_runs_again_after_what_went_wrong() -> None:
    with pytest.raises(ZeroDivisionError), collector.paused():
        _ = 1 / 0
    assert gc.isenabled()

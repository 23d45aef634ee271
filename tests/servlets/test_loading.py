"""zcserve.servlets.loading: a load that takes long is told with the line where it is, and so is its end."""

from __future__ import annotations

import logging
import threading

import pytest

from tests.support.waiting import WaitUntil
from zcserve.servlets import loading
from zcserve.servlets.loading import told_when_late

WITHIN_S = 20.0
SOON_S = 0.02


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A load is late soon."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(loading, "TOLD_AFTER_S", SOON_S)


def test_a_load_that_ends_in_time_is_not_told_and_leaves_no_thread(
    caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    caplog.set_level(logging.DEBUG)
    late: list[str] = []
    before = set(threading.enumerate())
    with told_when_late("mount /app", "meanwhile", lambda: late.append("late")):
        looks = set(threading.enumerate()) - before
        assert [thread.name for thread in looks] == ["zcserve-loading"]
    wait_until(lambda: not looks.intersection(threading.enumerate()), loading.TOLD_AFTER_S / 2)
    assert (late, caplog.messages) == ([], [])


@pytest.mark.usefixtures("soon")
def test_a_load_that_takes_long_is_told_once_with_where_it_is_and_what_happens_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called = threading.Event()
    late_in: list[threading.Thread] = []

    def late() -> None:
        late_in.append(threading.current_thread())
        called.set()

    with told_when_late("mount /app", "the last good version goes on", late):
        assert called.wait(WITHIN_S)
        assert len(caplog.messages) == 1
    first, last = caplog.messages
    assert first.startswith(f"mount /app has not loaded within {SOON_S:g} s (")
    assert first.endswith("): the last good version goes on")
    where, _, line = first.partition("(")[2].partition("):")[0].rpartition(":")
    assert where == threading.__file__, "it waits there"
    assert int(line) > 0
    assert last == "mount /app: its load has ended after 0 s"
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert len(late_in) == 1
    assert late_in[0] is not threading.current_thread()


@pytest.mark.usefixtures("soon")
def test_what_a_late_load_raises_comes_through_and_its_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    called = threading.Event()

    def load() -> None:
        with told_when_late("it", "meanwhile", called.set):
            assert called.wait(WITHIN_S)
            raise LookupError

    with pytest.raises(LookupError):
        load()
    assert caplog.messages[-1].startswith("it: its load has ended after ")


@pytest.mark.usefixtures("soon")
def test_a_load_that_ends_while_it_is_told_late_waits_until_that_is_done(caplog: pytest.LogCaptureFixture) -> None:
    called, done = threading.Event(), threading.Event()
    order: list[str] = []

    def late() -> None:
        called.set()
        done.wait(2 * SOON_S)  # the load ends meanwhile
        order.append("told late")

    with told_when_late("it", "meanwhile", late):
        assert called.wait(WITHIN_S)
    order.append("ended")
    assert order == ["told late", "ended"]


@pytest.mark.usefixtures("soon")
def test_where_no_thread_is_to_be_had_it_is_loaded_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    loaded: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with told_when_late("it", "meanwhile", lambda: loaded.append("late")):
            loaded.append("loaded")
    assert (loaded, caplog.messages) == (["loaded"], [])

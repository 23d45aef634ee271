"""Work in threads, waited for by asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from zcserve import threads
from zcserve.errors import NoThreadError
from zcserve.fleet import background
from zcserve.fleet.background import in_thread


def test_what_work_gives_or_raises_comes_back() -> None:
    assert asyncio.run(in_thread(lambda: threading.current_thread().name, "the work")) == "the work"
    with pytest.raises(ValueError, match="of the work"):
        asyncio.run(in_thread(lambda: int("of the work"), "the work"))


def test_what_waits_can_give_up_and_the_loop_can_end_before_the_work() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait(60)
        ended.set()

    async def give_up() -> None:
        async with asyncio.timeout(0):
            await in_thread(work, "work")

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    go_on.set()
    assert ended.wait(60)


def test_a_thread_that_cannot_be_had_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "THREAD_AGAIN_S", 0.0)
    start, refusals = threads.start, [NoThreadError("none"), NoThreadError("none")]

    def refusing(target: Callable[[], object], name: str) -> threading.Thread:
        if refusals:
            raise refusals.pop()
        return start(target, name)

    monkeypatch.setattr(threads, "start", refusing)
    assert asyncio.run(in_thread(lambda: 5, "work")) == 5
    assert refusals == []

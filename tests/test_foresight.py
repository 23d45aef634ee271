"""zcserve.foresight: when the curve of misses is drawn, and what the log says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.site import Site
from zcserve import Config, Server
from zcserve.foresight import MEMORY_TOLD_EVERY_S, Foresight

TOLD = "memory: the share of requests that finds content resident would be "


class Desk:
    """A server that is open and does not run."""

    def __init__(self, site: Site, stack: ExitStack, **settings: Any) -> None:
        self.server = server = Server(Config(root=site.root, port=0, **settings))
        server.open()
        stack.callback(server.close)
        self.foresight = Foresight(server.service, server.store, server.contents)

    def after(self, seconds: float) -> None:
        """A second's work, so much later."""
        self.server.loop.now += seconds
        self.foresight.each_second()

    def use(self, count: int) -> None:
        """Have all that is served asked for so often, in the general lane."""
        for _ in range(count):
            self.server.loop.tick += 1
            for entry in self.server.site.live.entries():
                self.server.site.note_use(entry, self.server.loop.tick)


@pytest.fixture
def desk(site: Site, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Desk]]:
    caplog.set_level("INFO")
    site.write("small", bytes(1000))
    site.write("large", bytes(4 << 20))
    with ExitStack() as stack:
        yield lambda **settings: Desk(site, stack, **settings)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith(TOLD)]


def test_while_everything_fits_nothing_is_drawn(desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture) -> None:
    one = desk()
    one.after(1.0)
    assert one.server.site.sampler is None
    one.use(1000)
    one.after(2 * MEMORY_TOLD_EVERY_S)
    assert told(caplog) == []


@pytest.mark.parametrize("engine", ["auto", "python"])
def test_with_misses_the_curve_is_drawn_and_told_now_and_then(
    desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture, engine: str
) -> None:
    one = desk(memory=1 << 20, engine=engine)
    one.after(1.0)
    sampler = one.server.site.sampler
    assert sampler is not None
    one.use(5000)
    one.after(MEMORY_TOLD_EVERY_S - 1)
    assert told(caplog) == []
    one.after(1.0)
    (line,) = told(caplog)
    assert line.removeprefix(TOLD).count(" with ") == 3
    assert line.endswith(" with 2.0 MiB")
    assert " with 512.0 KiB, " in line
    one.after(1.0)
    assert len(told(caplog)) == 1
    one.after(MEMORY_TOLD_EVERY_S)
    assert len(told(caplog)) == 2
    assert one.server.site.sampler is sampler  # it goes on with the same


def test_the_front_is_told_each_second_what_to_note(desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    one = desk(memory=1 << 20, engine="python")
    told: list[object] = []
    monkeypatch.setattr(one.server.loop.front, "sample", told.append)
    for _ in range(3):
        one.after(1.0)
    assert len(told) == 3
    assert len(set(map(id, told))) == 1


def test_what_was_evicted_is_a_reason_to_draw_it(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.server.store.evictions += 1
    one.after(1.0)
    assert one.server.site.sampler is not None


def test_of_nothing_nothing_is_told(desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture) -> None:
    one = desk(memory=1 << 20)
    one.after(1.0)
    one.after(MEMORY_TOLD_EVERY_S)
    assert told(caplog) == []

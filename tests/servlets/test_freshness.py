"""zcserve.servlets.freshness: which servlets are in use, and when they are not those that lie there. With requests that
wait: test_application.py, and over sockets: tests/wire/test_servlets_refresh.py."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.stage import EVENTS, write_servlet, write_servlets
from zcserve.net.front import Shelf
from zcserve.servlets import freshness as module
from zcserve.servlets.folder import Folder
from zcserve.servlets.freshness import Freshness

PAGE = """
@servlet("/{name}")
def get(request, name):
    return name
"""
WITHIN_S = 20.0


class Noting(Shelf):
    """A shelf that notes what it is to doubt and to forget."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def doubt(self) -> None:
        self.told.append("doubt")

    def forget_quick(self) -> None:
        self.told.append("forget")


class Desk:
    """A folder that is kept fresh; `turn` makes the next step of the loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.shelf = Noting()
        self.freshness = Freshness(Folder(path), self.shelf, self.calls.put)
        self.loads = 0
        self.freshness.loaded.subscribe(self._count)
        self.freshness.begin()

    def _count(self) -> None:
        self.loads += 1

    def turn(self) -> None:
        self.calls.get(timeout=WITHIN_S)()

    def turn_until(self, told: list[str], count: int) -> None:
        while len(told) < count:
            self.turn()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(module, "SURE_S", 0.0)  # each question looks
    desk = Desk(write_servlets(tmp_path, page=PAGE, other=PAGE.replace("/", "/other/")))
    yield desk
    EVENTS["go"].set()
    desk.freshness.close()


def test_what_was_changed_is_stale_and_so_is_what_leads_nowhere_until_it_is_loaded(desk: Desk) -> None:
    assert not any(desk.freshness.is_stale(names) for names in ({"page"}, {"other"}, set(), None))
    write_servlet(desk.path, "page", PAGE.replace("name}", "more}"))
    assert desk.freshness.is_known_fresh({"page"})  # it has not looked
    assert [desk.freshness.is_stale(names) for names in ({"page"}, {"other"}, None)] == [True, False, True]
    assert not desk.freshness.is_known_fresh({"page"})
    assert desk.shelf.told == ["doubt", "forget"]
    before, told = desk.freshness.in_use, []
    desk.freshness.look()
    desk.freshness.refresh(lambda: told.append("loaded"))
    desk.turn_until(told, 1)
    assert desk.freshness.in_use is not before
    assert not desk.freshness.is_stale(None)
    assert desk.loads == 1  # of both that asked


def test_nothing_changed_is_nothing_loaded_and_all_can_be_loaded_all_the_same(desk: Desk) -> None:
    desk.freshness.look()
    desk.freshness.refresh_all()
    desk.turn()
    assert desk.loads == 1
    assert desk.calls.get(timeout=WITHIN_S)() is None  # no request waits
    assert desk.calls.empty()


def test_what_takes_long_to_load_is_stale_no_more_and_what_was_asked_for_meanwhile_comes_behind_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zcserve.servlets.loading.TOLD_AFTER_S", 0.02)
    write_servlet(desk.path, "page", "assert EVENTS['go'].wait(20)\n" + PAGE)
    assert desk.freshness.is_stale({"page"})
    told: list[str] = []
    desk.freshness.refresh(lambda: told.append("goes on"))
    desk.turn_until(told, 1)  # it is late
    assert desk.loads == 0
    assert not desk.freshness.is_stale({"page"})
    desk.freshness.refresh_all()
    EVENTS["go"].set()
    while desk.loads < 2:
        desk.turn()
    assert not desk.freshness.is_stale(None)

"""zcserve.content.news: events that the loop reads for several watchers, and what other threads have read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zcserve.cache.instance import Instance
from zcserve.cache.root import Root
from zcserve.cache.walk import walk
from zcserve.cache.watcher import Watcher
from zcserve.content.news import News
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller


class Desk:
    """Two roots that are followed, and a loop that the test turns; `planned` says whose plan was called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = Loop(Poller())
        self.instance = Instance()
        self.news = News(self.instance, self.loop)
        self.planned: list[str] = []
        self.watchers: dict[str, Watcher] = {}
        for name in ("one", "other"):
            (path / name).mkdir()
        for name in ("one", "other"):
            root = Root(path / name)
            watcher = self.watchers[name] = Watcher(root, self.instance)
            walk(root, index=(), observer=watcher)
            self.news.follow(watcher, lambda name=name: self.planned.append(name))  # type: ignore[misc]

    def turn(self) -> None:
        self.loop.wake_at(self.loop.now, self)
        self.loop.run_once()

    def close(self) -> None:
        for watcher in self.watchers.values():
            watcher.close()
        self.news.close()
        self.loop.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_the_site_plans_that_something_is_told_of_and_no_other(desk: Desk) -> None:
    desk.turn()
    assert desk.planned == []
    (desk.path / "other" / "page").write_bytes(b"x")
    desk.turn()
    assert desk.planned == ["other"]
    assert desk.watchers["other"].was_written(b"page") or desk.watchers["other"].due(desk.loop.now) < float("inf")
    assert desk.watchers["one"].due(desk.loop.now) == float("inf")


def test_what_another_thread_reads_is_planned_for_by_the_loop(desk: Desk) -> None:
    desk.turn()
    (desk.path / "one" / "page").write_bytes(b"x")
    thread = threading.Thread(target=desk.watchers["other"].read, args=(desk.loop.now,))
    thread.start()
    thread.join()
    assert desk.planned == []
    desk.turn()
    assert desk.planned == ["one"]


def test_what_is_not_followed_any_more_plans_nothing(desk: Desk) -> None:
    desk.news.leave(desk.watchers["one"])
    (desk.path / "one" / "page").write_bytes(b"x")
    desk.turn()
    assert desk.planned == []


def test_events_that_cannot_be_read_have_everything_walked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> bool:
        raise OSError("no luck")

    monkeypatch.setattr(desk.instance, "read", fail)
    assert desk.news.read()
    assert sorted(desk.planned) == ["one", "other"]
    assert all(watcher.due(desk.loop.now) < float("inf") for watcher in desk.watchers.values())
    assert "events of the roots cannot be read" in caplog.text

"""zcserve.cache.instance: real directories, watched by several that share one inotify instance."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import WaitUntil
from zcserve.cache import inotify
from zcserve.cache import instance as instance_module
from zcserve.cache.instance import Instance, Told

MASK = inotify.IN_CREATE | inotify.IN_DELETE
NOW = 1000.0


class Taken:
    """What takes events in, and notes them."""

    def __init__(self, instance: Instance) -> None:
        self.events: list[Told] = []
        self.numbers: list[int] = []
        self.instance = instance
        instance.join(self)

    def take_in(self, events: list[Told], now: float) -> bool:
        self.events += events
        return True

    def watch(self, path: Path, mask: int = MASK, name: bytes | None = None) -> int:
        fd = os.open(path, os.O_RDONLY)
        try:
            self.instance.watch(self, fd, mask, self.numbers.append, NOW, name)
        finally:
            os.close(fd)
        return self.numbers[-1]

    def told(self) -> list[tuple[int, bytes]]:
        """Mask and name of what has come since this was asked last."""
        while not self.instance.read(NOW):
            pass
        events, self.events = self.events, []
        return [(mask, name) for _, mask, name in events]


@pytest.fixture
def instance() -> Iterator[Instance]:
    made = Instance()
    yield made
    made.close()


def kernel_watches(instance: Instance) -> int:
    return Path(f"/proc/self/fdinfo/{instance.fd}").read_text().count("inotify wd:")


def test_it_takes_a_descriptor_when_the_first_watcher_joins_and_gives_it_back_once(instance: Instance) -> None:
    assert instance.fd == -1
    Taken(instance)
    fd = instance.fd
    Taken(instance)
    assert instance.fd == fd
    os.fstat(fd)
    instance.close()
    instance.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_each_is_told_of_what_it_watches_and_both_of_what_both_watch(instance: Instance, tmp_path: Path) -> None:
    for name in ("one", "both", "other"):
        (tmp_path / name).mkdir()
    one, other = Taken(instance), Taken(instance)
    assert one.watch(tmp_path / "both") == other.watch(tmp_path / "both")
    one.watch(tmp_path / "one")
    other.watch(tmp_path / "other")
    for name in ("one", "both", "other"):
        (tmp_path / name / name).touch()
    assert one.told() == [(inotify.IN_CREATE, b"one"), (inotify.IN_CREATE, b"both")]
    assert other.told() == [(inotify.IN_CREATE, b"both"), (inotify.IN_CREATE, b"other")]
    assert instance.touched() == {one, other}
    assert instance.touched() == set()


def test_what_one_asks_for_takes_nothing_from_what_the_other_asked_for(instance: Instance, tmp_path: Path) -> None:
    one, other = Taken(instance), Taken(instance)
    one.watch(tmp_path, inotify.IN_CREATE)
    other.watch(tmp_path, inotify.IN_DELETE)
    (tmp_path / "a").touch()
    (tmp_path / "a").unlink()
    assert {(inotify.IN_CREATE, b"a"), (inotify.IN_DELETE, b"a")} <= set(one.told())


def test_the_kernel_watches_a_directory_until_the_last_has_left_it(instance: Instance, tmp_path: Path) -> None:
    one, other = Taken(instance), Taken(instance)
    wd = one.watch(tmp_path)
    other.watch(tmp_path)
    instance.leave(one, one.numbers)
    assert (kernel_watches(instance), len(instance)) == (1, 1)
    (tmp_path / "a").touch()
    assert (other.told(), one.events) == ([(inotify.IN_CREATE, b"a")], [])
    instance.unwatch(other, wd)
    instance.unwatch(other, wd)
    assert (kernel_watches(instance), len(instance)) == (0, 0)


def test_a_watcher_that_has_left_watches_nothing_more(instance: Instance, tmp_path: Path) -> None:
    one = Taken(instance)
    instance.leave(one, [])
    with pytest.raises(OSError, match="closed"):
        one.watch(tmp_path)
    assert (kernel_watches(instance), one.numbers) == (0, [])


def test_a_directory_that_is_gone_is_told_of_and_forgotten(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    one = Taken(instance)
    one.watch(tmp_path / "d")
    (tmp_path / "d").rmdir()
    assert (inotify.IN_IGNORED, b"") in one.told()
    assert len(instance) == 0
    instance.leave(one, one.numbers)


def test_an_overflow_is_told_to_all(instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Taken(instance), Taken(instance)
    one.watch(tmp_path)
    (tmp_path / "a").touch()
    overflow = (-1, inotify.IN_Q_OVERFLOW, b"")
    monkeypatch.setattr(inotify, "events", lambda data: iter([overflow]))
    assert (one.told(), other.told()) == ([overflow[1:]], [overflow[1:]])


def test_who_watches_for_a_name_hears_of_that_and_of_the_directory_itself(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    one, other, both = Taken(instance), Taken(instance), Taken(instance)
    one.watch(tmp_path / "d", name=b"one")
    other.watch(tmp_path / "d", name=b"other")
    both.watch(tmp_path / "d", name=b"one")
    both.watch(tmp_path / "d")
    for name in ("one", "other", "third"):
        (tmp_path / "d" / name).touch()
    assert one.told() == [(inotify.IN_CREATE, b"one")]
    assert other.told() == [(inotify.IN_CREATE, b"other")]
    assert both.told() == [(inotify.IN_CREATE, name) for name in (b"one", b"other", b"third")]
    instance.leave(both, both.numbers)
    (tmp_path / "d" / "one").unlink()
    assert one.told() == [(inotify.IN_DELETE, b"one")]
    for name in ("other", "third"):
        (tmp_path / "d" / name).unlink()
    (tmp_path / "d").rmdir()
    assert one.told()[-1] == other.told()[-1] == (inotify.IN_IGNORED, b"")


class Slow:
    """A kernel that takes its time to add a watch, until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.added, self.go = threading.Event(), threading.Event()
        self._add = inotify.add_watch
        monkeypatch.setattr(inotify, "add_watch", self._add_late)

    def _add_late(self, *given: Any) -> int:
        wd = self._add(*given)
        self.added.set()
        assert self.go.wait(20)
        return wd


def test_what_happens_while_a_watch_is_added_is_told_once_it_is_known_whose_it_is(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    first, one = Taken(instance), Taken(instance)
    first.watch(tmp_path)
    slow = Slow(monkeypatch)
    thread = threading.Thread(target=one.watch, args=(tmp_path / "d",))
    thread.start()
    assert slow.added.wait(20)
    (tmp_path / "d" / "a").touch()
    (tmp_path / "b").touch()
    assert first.told() == [(inotify.IN_CREATE, b"b")]  # the others go on
    assert one.events == []
    slow.go.set()
    thread.join()
    assert one.told() == [(inotify.IN_CREATE, b"a")]
    assert instance.touched() == {first, one}


def test_a_watch_does_not_end_while_another_one_is_added_which_may_be_of_the_same_directory(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, one = Taken(instance), Taken(instance)
    first.watch(tmp_path)
    slow = Slow(monkeypatch)
    thread = threading.Thread(target=one.watch, args=(tmp_path,))
    thread.start()
    assert slow.added.wait(20)
    instance.leave(first, first.numbers)
    slow.go.set()
    thread.join()
    (tmp_path / "a").touch()
    assert one.told() == [(inotify.IN_CREATE, b"a")]
    instance.leave(one, one.numbers)
    assert kernel_watches(instance) == 0


def test_a_watcher_whose_file_system_hangs_loses_track_and_the_others_go_on(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_module, "KEPT_EVENTS_MAX", 2)
    (tmp_path / "d").mkdir()
    first, one = Taken(instance), Taken(instance)
    first.watch(tmp_path)
    slow = Slow(monkeypatch)
    thread = threading.Thread(target=one.watch, args=(tmp_path / "d",))
    thread.start()
    assert slow.added.wait(20)
    for name in "abc":
        (tmp_path / name).touch()
    assert len(first.told()) == 3
    assert one.events == [(-1, inotify.IN_Q_OVERFLOW, b"")]
    slow.go.set()
    thread.join()


def test_a_read_waits_for_another_one_no_longer_than_it_may(
    instance: Instance, tmp_path: Path, wait_until: WaitUntil
) -> None:
    begun, go = threading.Event(), threading.Event()

    class Held(Taken):
        def take_in(self, events: list[Told], now: float) -> bool:
            begun.set()
            assert go.wait(20)
            return super().take_in(events, now)

    one = Held(instance)
    one.watch(tmp_path)
    (tmp_path / "a").touch()
    read: list[bool] = []
    threads = [threading.Thread(target=lambda: read.append(instance.read(NOW))) for _ in range(2)]
    threads[0].start()
    assert begun.wait(20)
    assert instance.read(NOW, 0.001) is False  # there may be more: another thread has it in its hands
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join()
    assert read == [True, True]
    assert one.events == [(one.numbers[0], inotify.IN_CREATE, b"a")]


def test_who_reads_tells_that_a_watcher_was_told_something(instance: Instance, tmp_path: Path) -> None:
    told: list[None] = []
    instance.told = lambda: told.append(None)
    one = Taken(instance)
    one.watch(tmp_path)
    assert instance.read(NOW)
    assert told == []
    (tmp_path / "a").touch()
    assert instance.read(NOW)
    assert told == [None]


def test_it_is_given_back_by_the_last_thread_that_uses_it_and_none_opens_another_one(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Taken(instance)
    slow = Slow(monkeypatch)
    thread = threading.Thread(target=one.watch, args=(tmp_path,))
    thread.start()
    assert slow.added.wait(20)
    fd = instance.fd
    instance.close()
    os.fstat(fd)  # its number is not another file's while a watch is added
    assert instance.read(NOW)
    for use in (lambda: instance.join(one), lambda: one.watch(tmp_path)):
        with pytest.raises(OSError, match="the server ends"):
            use()
    slow.go.set()
    thread.join()
    assert instance.fd == -1
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_it_is_given_back_by_a_thread_that_reads(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, begun, go = Taken(instance), threading.Event(), threading.Event()
    take_in = one.take_in

    def late(events: list[Told], now: float) -> bool:
        begun.set()
        assert go.wait(20)
        return take_in(events, now)

    monkeypatch.setattr(one, "take_in", late)
    one.watch(tmp_path)
    (tmp_path / "a").touch()
    thread = threading.Thread(target=instance.read, args=(NOW,))
    thread.start()
    assert begun.wait(20)
    instance.close()
    assert instance.fd >= 0
    go.set()
    thread.join()
    assert instance.fd == -1

"""zcserve.content.pinning: globs come and go, what is resident is sorted anew, and what is pinned is loaded."""

from __future__ import annotations

import pytest

from tests.support.contents import Show
from tests.support.trees import noise
from zcserve.content.pinning import CHANGES_WAITING_MAX, Pins
from zcserve.errors import NotNowError, UsageError


def test_what_is_pinned_at_run_time_is_loaded_and_never_evicted_until_it_is_pinned_no_more(show: Show) -> None:
    files = {f"{i}.bin": noise(40_000, i) for i in range(8)} | {"a.css": b"1", "b.css": b"2"}
    shown = show(files, memory=256 * 1024)
    out = next(f"/{i}.bin" for i in range(8) if shown.entry(f"/{i}.bin".encode()).body is None)
    shown.drop(b"/b.css")
    pins = shown.pin([out, "*.css"])
    assert (pins.globs, pins.files, pins.resident, pins.failed_total) == ((out, "*.css"), 3, 3, 0)
    assert pins.bytes == 40_002
    assert shown.pin(["*.css"]) == pins  # it is so already
    entry = shown.entry(out.encode())
    others = [f"/{i}.bin".encode() for i in range(8) if f"/{i}.bin" != out]
    for _ in range(2):
        shown.warm(*others)
        assert entry.body is not None
    assert len(shown.store.held) == 3
    pins = shown.pin(remove=[out, "/nothing"])
    assert (pins.globs, pins.files, len(shown.store.held)) == (("*.css",), 2, 2)
    shown.warm(*others)
    assert entry.body is None
    assert shown.store.held.bytes > 0
    assert shown.pin(remove=["*.css"]).files == 0
    assert shown.store.held.bytes == 0


def test_what_is_no_glob_changes_nothing(show: Show) -> None:
    shown = show({"a": b"1"}, pin=("a",))
    with pytest.raises(UsageError):
        shown.pin(["*.css", ""], remove=["a"])
    assert shown.site.pins.globs == ("a",)


def test_pins_survive_a_release_also_one_that_was_being_built(show: Show) -> None:
    shown = show({"a.css": b"1"})
    noted = shown.live.note()
    shown.pin(["*.css"])
    shown.live.end_note(noted)
    shown.tree.plant({"new.css": b"2"})
    shown.releases.ask()
    shown.turn_until(lambda: shown.counters.flips)
    shown.finish()
    assert shown.site.live.pinned.keys() == {b"/a.css", b"/new.css"}
    assert len(shown.store.held) == 2


def test_what_does_not_fit_is_told(show: Show) -> None:
    shown = show({"large": noise(400_000), "small": b"1"}, memory=512 * 1024)
    pins = shown.pin(["*"])
    assert (pins.files, pins.resident) == (2, 1)
    assert [path for path, _ in pins.failed] == ["/large"]


def test_however_many_changes_come_two_sorts_are_enough(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show({"a.css": b"1", "b.js": b"2"})
    sorts: list[int] = []
    first = shown.site.pins.first
    monkeypatch.setattr(shown.site.pins, "first", lambda live: sorts.append(1) or first(live))
    told: list[Pins] = []
    for number in range(CHANGES_WAITING_MAX + 1):
        shown.pinning.change([f"/{number}", "*.css"], [], told.append)
    with pytest.raises(NotNowError, match="wait already"):
        shown.pinning.change(["*.js"], [], told.append)
    shown.turn_until(lambda: len(told) == CHANGES_WAITING_MAX + 1)
    assert len(sorts) == 2
    assert "*.js" not in shown.site.pins.globs
    assert {pins.files for pins in told} == {1}
    assert shown.pin(["*.js"]).files == 2


def test_a_sort_that_fails_leaves_the_next_one_its_turn(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show({"a.css": b"1"})
    with monkeypatch.context() as patch:
        patch.setattr(shown.site.pins, "first", lambda live: 1 / 0)
        shown.pinning.change(["*.css"], [], lambda _: None)
        shown.turn_until(lambda: shown.counters.failed)
    assert shown.pin(["*.css"]).files == 1


def test_while_another_process_takes_over_nothing_is_pinned(show: Show) -> None:
    shown = show({"a.css": b"1"})
    shown.store.freeze()
    with pytest.raises(NotNowError, match="upgrade"):
        shown.pin(["*.css"])
    shown.store.thaw()
    assert shown.pin(["*.css"]).files == 1

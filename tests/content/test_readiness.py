"""zcserve.content.readiness: which share of what is wanted is resident, what is missing and why, and when it looks."""

from __future__ import annotations

import errno
import os
from math import isclose
from typing import Any

import pytest

from tests.support.contents import Show, Shown
from tests.support.trees import noise, publish
from zcserve.cache.root import Root
from zcserve.content import readiness as module
from zcserve.content.purging import Aim
from zcserve.content.readiness import MISSING_NAMED_MAX, Ready


def asked(shown: Shown) -> Ready:
    """The answer when it has looked at all that is pinned."""
    shown.readiness.ask()
    for _ in range(3):
        shown.loop.call_soon(lambda: None)
        shown.loop.run_once()
    return shown.readiness.ask()


def test_what_was_loaded_is_all_that_is_wanted_and_what_does_not_fit_is_not_missing(show: Show) -> None:
    shown = show({f"{i}.bin": noise(40_000, i) for i in range(8)}, memory=256 * 1024)
    report = shown.releases.report
    assert report.left_out
    ready = shown.readiness.ask()
    assert ready == Ready(True, 1.0, 1.0, report.resident_bytes, report.resident_bytes, (), 0, False, "ready", "")
    entry = next(entry for entry in shown.site.live.entries() if entry.body is not None)
    shown.store.drop(entry)  # as the evictor does
    shown.purge(Aim.prefix(b"/"), hard=True)
    assert shown.readiness.ask() == ready


def test_a_site_without_content_is_ready(show: Show) -> None:
    ready = show({}).readiness.ask()
    assert (ready.is_ready, ready.share, ready.wanted_bytes) == (True, 1.0, 0)


def test_what_is_pinned_is_wanted_whether_it_fits_or_not(show: Show) -> None:
    files = {"a.css": bytes(100), "b.css": bytes(200), "c.css": noise(300_000), "page": bytes(700)}
    shown = show(files, memory=512 * 1024, pin=("*.css",))
    ready = asked(shown)
    assert (ready.is_ready, ready.phase, ready.missing_total) == (False, "incomplete", 1)
    assert (ready.wanted_bytes, ready.resident_bytes) == (301_000, 1000)
    assert isclose(ready.share, 1000 / 301_000)
    assert "0.33% of what is wanted is resident" in ready.why
    assert "waiting is of no use, there is no room for 1 wanted file, 293.0 KiB: more --memory" in ready.why
    assert [(one.path, one.bytes) for one in ready.missing] == [("c.css", 300_000)]
    assert "half of the memory budget" in ready.missing[0].why
    shown.pin(remove=["*.css"], add=["a.css", "b.css"])
    assert asked(shown).is_ready
    shown.store.drop(shown.entry(b"/b.css"))
    ready = asked(shown)
    assert (ready.resident_bytes, [one.path for one in ready.missing]) == (800, ["b.css"])
    assert (ready.phase, ready.missing[0].why) == ("warming", "it is loaded when it is asked for")
    shown.warming.begin([b"/b.css"], 1, lambda _: None)
    shown.store.drop(shown.entry(b"/a.css"))
    assert {one.why for one in shown.readiness.ask().missing} == {"it is being loaded"}
    shown.warm(b"/a.css")
    assert asked(shown).is_ready


def test_a_file_that_is_pinned_and_comes_or_goes_is_wanted_or_is_not(show: Show) -> None:
    shown = show({"a.css": bytes(100)}, pin=("*.css",))
    assert asked(shown).wanted_bytes == 100
    for name, size in (("b.css", 50), ("a.css", 10)):
        publish(shown.tree.path / name, bytes(size))
    (shown.tree.path / "a.css").unlink()
    known: list[bool] = []
    shown.patches.when_known(lambda: known.append(True))
    shown.turn_until(lambda: known)
    assert (asked(shown).wanted_bytes, asked(shown).is_ready) == (50, True)


def test_what_could_not_be_read_for_now_is_missing_until_it_is_there(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_in = Root.open_in

    def fail(self: Root, directory: int, name: bytes) -> int:
        if name == b"bad":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open_in(self, directory, name)

    open_file = Root.open_file

    def fail_too(self: Root, path: bytes) -> tuple[int, os.stat_result]:
        if path == b"bad":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open_file(self, path)

    monkeypatch.setattr(Root, "open_in", fail)
    monkeypatch.setattr(Root, "open_file", fail_too)
    shown = show({"bad": bytes(10), "good": bytes(30)})
    monkeypatch.undo()
    ready = shown.readiness.ask()
    assert (ready.is_ready, ready.share) == (False, 0.75)
    assert [one.why for one in ready.missing] == ["it cannot be read: the log says why"]
    shown.warm(b"/bad")
    assert shown.readiness.ask().is_ready


def test_a_part_may_be_enough_and_whoever_drains_or_ends_is_not_ready(show: Show) -> None:
    shown = show({"a": bytes(95), "b": bytes(5)}, pin=("a", "b"), ready_share=0.95)
    shown.store.drop(shown.entry(b"/b"))
    ready = asked(shown)
    assert (ready.is_ready, ready.share, ready.missing_total) == (True, 0.95, 1)
    shown.is_filling = True
    ready = shown.readiness.ask()
    assert (ready.is_ready, ready.phase, ready.wanted_bytes, ready.resident_bytes) == (False, "warming", 100, 50)
    shown.is_filling = False
    shown.is_draining = True
    ready = shown.readiness.ask()
    assert (ready.is_ready, ready.draining, ready.phase, ready.why) == (False, True, "draining", "it is drained")
    shown.is_draining = False
    shown.live.is_adrift = True
    assert "could not be loaded" in shown.readiness.ask().why


def test_many_are_looked_at_in_pieces_and_only_when_some_came_or_went(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKED_AT_ONCE", 10)
    shown = show({str(i): b"1" for i in range(25)}, pin=("*",))
    for i in range(15):
        shown.store.drop(shown.entry(b"/%d" % i))
    ready = shown.readiness.ask()
    assert (ready.is_ready, ready.why) == (False, "what is pinned is being looked at")
    steps = 0
    while shown.readiness.ask().why == ready.why:
        shown.loop.run_once()
        steps += 1
    assert steps >= 2
    ready = shown.readiness.ask()
    assert (ready.wanted_bytes, ready.resident_bytes, ready.missing_total) == (25, 10, 15)
    assert len(ready.missing) == MISSING_NAMED_MAX

    def look(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "pinned_of", look)
    assert shown.readiness.ask() == ready

"""zcserve.content.handing: what a site is told while another one is made of the same files."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support.contents import Show, Shown
from zcserve.cache.entry import Entry
from zcserve.content.builder import Built, ClosingError
from zcserve.content.handing import Handing


def entry_at(built: Built, key: bytes) -> Entry:
    entry = built.generation.resources[key]
    assert isinstance(entry, Entry)
    return entry


def handing_of(shown: Shown) -> Handing:
    return Handing(shown.live, shown.jobs)


def test_what_was_laid_over_is_looked_at_again_by_what_was_built(show: Show) -> None:
    shown = show({"a": b"1", "b": b"2"})
    handing = handing_of(shown)
    built = shown.build()
    known = [entry_at(built, key).identity for key in (b"/a", b"/b")]
    shown.live.note_keys([b"/a", b"/gone", b"/"])
    assert handing.tell(built) is False
    in_doubt = [entry_at(built, key).identity != was for key, was in zip((b"/a", b"/b"), known, strict=True)]
    assert in_doubt == [True, False]
    assert built.watcher is not None
    assert built.watcher.take(time.monotonic()).names == {b"": {b"a", b"gone"}}
    handing.end()
    assert not shown.live.is_building


def test_without_a_watcher_what_was_told_has_all_built_anew(show: Show) -> None:
    shown = show({"a": b"1"}, watch=False)
    handing = handing_of(shown)
    built = shown.build()
    assert handing.tell(built) is False
    shown.live.note_keys([b"/a"])
    assert handing.tell(built) is True
    assert handing.tell(built) is False
    handing.end()


def test_what_a_request_finds_newer_is_not_known_until_it_was_told(show: Show) -> None:
    shown = show({"a": b"1"})
    handing = handing_of(shown)
    built = shown.build()
    assert handing.is_known
    shown.live.note_renewed(b"/a")
    assert not handing.is_known
    handing.tell(built)
    assert handing.is_known
    handing.end()


def test_patches_wait_until_the_end_once_those_before_are_over(show: Show) -> None:
    shown = show({"a": b"1"})
    handing, go, done = handing_of(shown), threading.Event(), list[int]()
    shown.jobs.submit(shown.jobs.patches, lambda: go.wait(20))
    handing.hold()
    shown.jobs.submit(shown.jobs.patches, lambda: done.append(1))
    handing.await_held(0)  # not reached: what was told is waited for no longer
    go.set()
    handing.await_held(time.monotonic() + 20)
    assert done == []
    handing.end()
    shown.turn_until(lambda: done)


def test_a_server_that_ends_is_not_waited_for(show: Show) -> None:
    shown = show({"a": b"1"})
    handing, go = handing_of(shown), threading.Event()
    shown.jobs.submit(shown.jobs.patches, lambda: go.wait(20))
    handing.hold()
    shown.builder.closing.set()
    with pytest.raises(ClosingError):
        handing.await_held(time.monotonic() + 20)
    go.set()

"""zcserve.content.patches: what the watcher tells of becomes the truth, or a reload, or a failure that is told."""

from __future__ import annotations

import time
from math import inf
from pathlib import Path

import pytest

from tests.support.contents import Show, Shown
from tests.support.trees import content_of, publish
from tests.support.waiting import WaitUntil
from zcserve.cache import inotify
from zcserve.cache.walk import Changes
from zcserve.content import patches as module
from zcserve.content.builder import Builder, read_all
from zcserve.content.releases import TRIED_AGAIN_AFTER_S

LATER_S = 60.0


def begin(shown: Shown) -> None:
    """Follow what the watcher has to tell by now, as if it had been quiet for long, and wait for that."""
    assert shown.live.watcher is not None
    read_all(shown.live.watcher)
    shown.patches.begin(time.monotonic() + LATER_S)
    shown.finish()


def test_something_is_due_when_the_watcher_has_something_to_tell_and_nothing_is_under_way(show: Show) -> None:
    shown = show({"page": b"1"})
    now = time.monotonic()
    assert shown.patches.due(now) == inf
    publish(shown.tree.path / "page", b"22")
    assert shown.live.watcher is not None
    read_all(shown.live.watcher)
    assert shown.patches.due(now) < now + LATER_S
    shown.patches.begin(now + LATER_S)
    assert shown.patches.due(now) == inf
    shown.finish()
    publish(shown.tree.path / "page", b"333")
    read_all(shown.live.watcher)
    assert shown.patches.due(now) < inf
    watcher, shown.live.watcher = shown.live.watcher, None
    assert shown.patches.due(now) == inf
    shown.live.watcher = watcher


def test_what_changed_is_served_and_told_and_what_was_is_forgotten(
    show: Show, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shown = show({"page": b"1", "gone": b"2", "same": b"3"})
    same, old = shown.entry(b"/same"), shown.entry(b"/page")
    publish(shown.tree.path / "page", b"22")
    (shown.tree.path / "gone").unlink()
    shown.tree.plant({"new": b"x"})
    planned = shown.planned
    begin(shown)
    body = shown.entry(b"/page").body
    assert body is not None
    assert content_of(body) == b"22"
    assert b"/gone" not in shown.site.live.resources
    assert shown.entry(b"/same") is same
    assert (old.body, shown.store.resident) == (None, 3)
    assert (shown.counters.patches, shown.counters.changed, shown.counters.failed) == (1, 3, 0)
    assert any("updated: 2 changed, 1 gone: " in message for message in caplog.messages)
    assert shown.planned > planned


def test_a_look_that_finds_nothing_new_is_no_patch(show: Show) -> None:
    shown = show({"page": b"1"})
    publish(shown.tree.path / ".hidden", b"x")
    assert shown.live.watcher is not None
    shown.live.watcher.look_again(b"page", time.monotonic())
    begin(shown)
    assert (shown.counters.patches, shown.counters.changed) == (0, 0)


def test_problems_of_what_changed_are_named(show: Show, caplog: pytest.LogCaptureFixture) -> None:
    shown = show({"page": b"1"})
    (shown.tree.path / "out").symlink_to("/")
    begin(shown)
    assert "out: is a symlink that leads outside the root" in caplog.messages


def test_many_keys_are_laid_over_some_at_a_time(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS_LAID_AT_ONCE", 10)
    shown = show({})
    shown.tree.plant({str(number): b"x" for number in range(35)})
    laid: list[int] = []
    shelf = shown.loop.front.shelf(0)
    add_keys = shelf.add_keys
    monkeypatch.setattr(shelf, "add_keys", lambda keys: (laid.append(len(keys)), add_keys(keys)))
    begin(shown)
    assert laid == [10, 10, 10, 5]


def test_a_watcher_of_a_generation_that_is_gone_is_not_followed(show: Show) -> None:
    shown = show({"page": b"1"})
    publish(shown.tree.path / "page", b"22")
    assert shown.live.watcher is not None
    read_all(shown.live.watcher)
    shown.patches.begin(time.monotonic() + LATER_S)
    old, shown.live.watcher = shown.live.watcher, None
    shown.finish()
    shown.live.watcher = old
    assert shown.entry(b"/page").size == 1
    assert shown.patches.due(0.0) < inf  # it has still to be told


@pytest.mark.parametrize("what", ["a root that leads elsewhere", "a new root that failed to load"])
def test_changes_of_an_old_root_are_no_news(
    show: Show, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level("INFO")
    shown = show({"page": b"1"})
    publish(shown.tree.path / "page", b"22")
    assert shown.live.watcher is not None
    read_all(shown.live.watcher)
    shown.loop.forget(shown.live.watcher.fd)  # the loop does not hear of the move meanwhile
    if what == "a new root that failed to load":
        shown.live.is_adrift = True
    else:
        shown.tree.path.rename(shown.tree.path.with_name("away"))
        shown.tree.path.mkdir()
    shown.patches.begin(time.monotonic() + LATER_S)
    wait_until(lambda: "changes are not followed" in caplog.text)  # before the loop reads that the root is gone
    shown.finish()
    assert shown.entry(b"/page").size == 1


def test_a_watcher_that_has_lost_track_has_everything_walked(show: Show, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    shown = show({"page": b"1"})
    shown.tree.path.rename(shown.tree.path.with_name("away"))
    shown.tree.plant({"page": b"22"})
    begin(shown)
    shown.turn_until(lambda: shown.counters.flips)
    assert shown.entry(b"/page").size == 2
    assert "everything is walked anew: the root was moved, replaced or re-pointed" in caplog.messages


@pytest.mark.parametrize(
    ("error", "told"), [(OSError("no luck"), "an update failed"), (LookupError("no luck"), "could not")]
)
def test_a_patch_that_fails_is_told_and_all_is_compared_later(
    show: Show, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, told: str
) -> None:
    shown = show({"page": b"1"})

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Builder, "make_patch", fail)
    publish(shown.tree.path / "page", b"22")
    began = time.monotonic()
    begin(shown)
    assert (shown.counters.failed, shown.counters.rescans) == (1, 1)
    assert told in caplog.text
    assert "no luck" in caplog.text
    assert began + TRIED_AGAIN_AFTER_S <= shown.releases.due < inf
    assert shown.patches.due(0.0) == inf  # nothing is left to tell, and nothing under way
    publish(shown.tree.path / "page", b"333")
    assert shown.live.watcher is not None
    read_all(shown.live.watcher)
    assert shown.patches.due(0.0) < inf


def test_what_is_being_written_is_laid_over_when_it_is_whole(show: Show) -> None:
    shown = show({"page": b"1", "other": b"2"})
    old = shown.entry(b"/page")
    with (shown.tree.path / "page").open("wb", buffering=0) as file:
        file.write(b"half")
        publish(shown.tree.path / "other", b"33")
        assert shown.live.watcher is not None
        read_all(shown.live.watcher)
        shown.patches.begin(time.monotonic())
        shown.finish()
        assert shown.entry(b"/other").size == 2
        assert shown.entry(b"/page") is old
        file.write(b" and half")
    begin(shown)
    assert shown.entry(b"/page").size == len(b"half and half")


def test_a_patch_of_a_root_that_went_meanwhile_is_of_no_use(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show({"page": b"1"})
    make_patch = Builder.make_patch

    def make_and_move(self: Builder, generation: object, watcher: object, changes: Changes) -> object:
        patch = make_patch(self, generation, watcher, changes)  # type: ignore[arg-type]
        shown.tree.path.rename(shown.tree.path.with_name("away"))
        shown.tree.path.mkdir()
        return patch

    monkeypatch.setattr(Builder, "make_patch", make_and_move)
    publish(shown.tree.path / "page", b"22")
    begin(shown)
    assert shown.entry(b"/page").size == 1
    assert (shown.counters.patches, shown.counters.failed) == (0, 0)
    assert shown.store.resident == 1  # what the patch had loaded is forgotten


# --- when all is known ------------------------------------------------------------------------------------------------


def test_all_that_has_changed_by_now_is_served_before_it_is_told(show: Show) -> None:
    shown = show({"page": b"1"})
    publish(shown.tree.path / "page", b"22")
    known: list[int] = []
    shown.patches.when_known(lambda: known.append(shown.entry(b"/page").size))
    shown.turn_until(lambda: known)
    assert known == [2]


def test_without_a_watcher_all_is_known_at_once(show: Show) -> None:
    shown = show({"page": b"1"}, watch=False)
    known: list[None] = []
    shown.patches.when_known(lambda: known.append(None))
    shown.turn_until(lambda: known)


def test_where_the_watcher_has_lost_track_all_is_known_after_the_next_flip(show: Show) -> None:
    shown = show({"page": b"1"})
    assert shown.live.watcher is not None
    shown.live.watcher.take_in([(-1, inotify.IN_Q_OVERFLOW, b"")], time.monotonic())
    last, known = shown.site.live, []
    shown.patches.when_known(lambda: known.append(shown.site.live is last))
    shown.finish()
    assert known == []
    begin(shown)
    shown.turn_until(lambda: known)
    assert known == [False]


def test_where_the_root_leads_elsewhere_all_is_known_after_the_next_flip(show: Show, tmp_path: Path) -> None:
    shown = show({"page": b"1"})
    shown.tree.path.rename(tmp_path / "away")
    shown.tree.plant({"page": b"22"})
    known: list[int] = []
    shown.patches.when_known(lambda: known.append(shown.entry(b"/page").size))
    shown.finish()
    assert known == []
    begin(shown)
    shown.turn_until(lambda: known)
    assert known == [2]

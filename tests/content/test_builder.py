"""zcserve.content.builder: generations, patches and what they catch up with, of one root and without a loop. Changes at
the worst moment: test_content.py."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.contents import Shop
from tests.support.trees import content_of, descriptors, entry_of, publish
from tests.support.waiting import WaitUntil
from zcserve.cache.entry import Entry
from zcserve.cache.index import ENTRY_BYTES
from zcserve.cache.instance import Instance
from zcserve.cache.reading import ChangedError
from zcserve.cache.root import Root
from zcserve.cache.watcher import Watcher
from zcserve.content import builder
from zcserve.content.builder import Built, ClosingError, read_all
from zcserve.errors import UsageError

Open = Callable[..., Shop]
LATER_S = 60.0  # all that was written is whole by then


def watcher_of(built: Built) -> Watcher:
    assert built.watcher is not None
    return built.watcher


# --- a generation -----------------------------------------------------------------------------------------------------


def test_what_is_built_is_loaded_counted_and_followed(shop: Open) -> None:
    one = shop({"page": b"a page", "d/index.html": b"of d"})
    built = one.build()
    assert {entry.key for entry in built.generation.entries()} == {b"/page", b"/d/index.html"}
    assert all(entry.body is not None for entry in built.generation.entries())
    assert (built.report.files, built.report.resident_files) == (2, 2)
    assert one.store.overhead >= 2 * ENTRY_BYTES
    assert not built.is_lost
    publish(one.tree.path / "page", b"new")
    read_all(watcher_of(built))
    assert b"page" in watcher_of(built).take(time.monotonic()).names[b""]


def test_what_is_the_same_is_shared_and_resident_already(shop: Open) -> None:
    one = shop({"same": b"x", "other": b"y"})
    last = one.build().generation
    publish(one.tree.path / "other", b"new")
    following = one.build(last=last).generation
    assert following.resources[b"/same"] is last.resources[b"/same"]
    assert following.resources[b"/other"] is not last.resources[b"/other"]
    body = entry_of(following, b"/other").body
    assert body is not None
    assert content_of(body) == b"new"


def test_without_watching_there_is_no_watcher(shop: Open) -> None:
    built = shop({"page": b"x"}, watch=False).build()
    assert (built.watcher, built.is_lost) == (None, False)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EMFILE, "(Too many open files; raise fs.inotify.max_user_instances or ulimit -n)"),
        (errno.EACCES, "(Permission denied)"),
    ],
)
def test_without_a_watcher_to_be_had_the_log_says_so_and_the_next_one_is_tried(
    shop: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, said: str
) -> None:
    def none_left(root: Root, instance: Instance) -> Watcher:
        raise OSError(number, os.strerror(number))

    one = shop({"page": b"x"})
    monkeypatch.setattr(builder, "Watcher", none_left)
    assert one.build().watcher is None
    assert f"the root is not watched {said}: changes are seen after SIGHUP only" in caplog.text
    monkeypatch.undo()
    assert one.build().watcher is not None


def test_a_build_of_a_server_that_ends_is_given_up_and_leaves_no_watcher(shop: Open, wait_until: WaitUntil) -> None:
    one = shop({"page": b"x"})
    one.builder.go_on()
    one.builder.closing.set()
    with pytest.raises(ClosingError):
        one.builder.go_on()
    before = descriptors(one.tree.path.parent)
    with pytest.raises(ClosingError):
        one.build()
    wait_until(lambda: descriptors(one.tree.path.parent) == before)
    assert len(one.instance) == 0


def test_a_server_that_ends_while_content_is_loaded_is_not_waited_for(
    shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shop({str(number): b"x" for number in range(100)})
    place = one.store.place

    def place_and_end(*given: Any, **options: Any) -> Any:
        one.builder.closing.set()
        return place(*given, **options)

    monkeypatch.setattr(one.store, "place", place_and_end)
    with pytest.raises(ClosingError):
        one.build()


def inotify_count() -> int:
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return sum("inotify" in link for link in links)


def test_a_root_that_is_not_there_is_wrong_use(shop: Open) -> None:
    one = shop({})
    one.tree.path.rmdir()
    with pytest.raises(UsageError, match="does not exist"):
        one.build()


def test_events_are_read_while_it_is_built_so_that_the_queue_does_not_overflow(
    shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shop({str(number): b"x" for number in range(50)})
    monkeypatch.setattr(builder, "WATCHED_EVERY_S", 0.0)
    reads: list[float] = []
    read = Watcher.read

    def noted(self: Watcher, now: float, *within: float) -> bool:
        reads.append(now)
        return read(self, now, *within)

    monkeypatch.setattr(Watcher, "read", noted)
    one.build()
    assert reads


def test_pins_that_match_nothing_and_those_without_room_are_told_of(
    shop: Open, caplog: pytest.LogCaptureFixture
) -> None:
    one = shop({"large": bytes(3 << 20)}, memory=1 << 20, pin=("/large", "/nothing/*"))
    one.build()
    assert "--pin /nothing/* matches no file" in caplog.messages
    assert "pinned files do not fit into memory: 1 file, 3.0 MiB: sent from disk" in caplog.messages


# --- the page for 404 -------------------------------------------------------------------------------------------------


def test_the_sites_page_for_404_is_known_and_goes_with_its_file(shop: Open) -> None:
    one = shop({"404.html": b"not here", "503.html": b"not now", "sub/504.html": b"a page"})
    generation = one.build().generation
    assert generation.error_pages.get(404) == b"not here"
    assert generation.error_pages == {404: b"not here", 503: b"not now"}
    (one.tree.path / "404.html").unlink()
    assert one.build().generation.error_pages.get(404) is None


def test_a_page_for_404_that_has_changed_since_the_walk_is_what_lies_there(shop: Open) -> None:
    one = shop({"404.html": b"not here"}, watch=False)
    generation = one.build().generation
    publish(one.tree.path / "404.html", b"another")
    entry_of(generation, b"/404.html").body = None
    one.builder.read_error_pages(generation)
    assert generation.error_pages.get(404) == b"another"
    assert generation.problems == []


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_page_for_404_that_cannot_be_read_is_a_problem(
    shop: Open, is_gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shop({"404.html": b"not here"}, watch=False)
    generation = one.build().generation
    if is_gone:
        (one.tree.path / "404.html").unlink()
        entry_of(generation, b"/404.html").body = None
    else:
        monkeypatch.setattr(one.builder.loader, "read", _change)
    one.builder.read_error_pages(generation)
    assert generation.error_pages.get(404) is None
    assert [(problem.path, problem.why) for problem in generation.problems] == [
        (
            "404.html",
            f"is not used for 404: {'No such file or directory' if is_gone else 'it changes while it is read'}",
        )
    ]


def _change(*_: object) -> bytes:
    """A file that changes whenever it is read."""
    raise ChangedError


# --- patches ----------------------------------------------------------------------------------------------------------


def test_a_patch_brings_what_changed_loaded_and_what_is_gone_as_nothing(shop: Open) -> None:
    one = shop({"page": b"1", "gone": b"2", "same": b"3", "404.html": b"4"})
    built = one.build()
    publish(one.tree.path / "page", b"new")
    publish(one.tree.path / "404.html", b"new page")
    (one.tree.path / "gone").unlink()
    read_all(watcher_of(built))
    patch = one.builder.make_patch(built.generation, watcher_of(built), watcher_of(built).take(time.monotonic()))
    page = patch.resources[b"/page"]
    assert isinstance(page, Entry)
    assert page.body is not None
    assert content_of(page.body) == b"new"
    assert patch.resources[b"/gone"] is None
    assert b"/same" not in patch.resources
    assert patch.pages == {b"/404.html": b"new page"}
    assert built.generation.resources[b"/page"] is not page  # nothing is laid over yet


def test_what_takes_the_place_of_something_resident_is_resident_though_there_is_no_room(shop: Open) -> None:
    one = shop({"page": bytes(1000), "other": bytes(1000)})
    built = one.build()
    one.store.count_index(7, one.store.budget)  # nothing fits by itself
    publish(one.tree.path / "page", b"x" * 1000)
    one.tree.plant({"new": bytes(1000)})
    read_all(watcher_of(built))
    changes = watcher_of(built).take(time.monotonic() + LATER_S)
    patch = one.builder.make_patch(built.generation, watcher_of(built), changes)
    assert patch.resources.keys() == {b"/page", b"/new"}
    assert one.store.resident <= 3


# --- catching up ------------------------------------------------------------------------------------------------------


def test_what_changed_since_is_known_and_what_is_not_needed_is_told(shop: Open) -> None:
    one = shop({"page": b"1", "gone": b"2"})
    built = one.build()
    old, gone = (entry_of(built.generation, key) for key in (b"/page", b"/gone"))
    publish(one.tree.path / "page", b"22")
    (one.tree.path / "gone").unlink()
    caught = one.builder.catch_up(built)
    assert set(caught.keys) == {b"/page", b"/gone"}
    assert {id(entry) for entry in caught.unneeded} == {id(old), id(gone)}
    assert entry_of(built.generation, b"/page").size == 2
    assert b"/gone" not in built.generation.resources
    again = one.builder.catch_up(built)
    assert (set(again.keys), again.unneeded) == (set(), [])


def test_of_what_is_being_written_it_has_what_the_live_one_has(shop: Open) -> None:
    one = shop({"page": b"1"})
    live = one.build().generation
    built = one.build()
    assert entry_of(built.generation, b"/page") is not entry_of(live, b"/page")
    with (one.tree.path / "page").open("wb", buffering=0) as file:
        file.write(b"half")
        caught = one.builder.catch_up(built, live)
        assert set(caught.keys) == {b"/page"}
        assert entry_of(built.generation, b"/page") is entry_of(live, b"/page")


def test_without_a_watcher_or_with_one_that_is_lost_nothing_is_caught_up_with(shop: Open) -> None:
    one = shop({"page": b"1"}, watch=False)
    assert not one.builder.catch_up(one.build(), one.build().generation).keys
    other = shop({"page": b"1"})
    built = other.build()
    other.tree.path.rename(other.tree.path.with_name("away"))
    other.tree.path.mkdir()
    caught = other.builder.catch_up(built)
    assert built.is_lost
    assert not caught.keys
    assert b"/page" in built.generation.resources


def test_entries_are_forgotten_unless_the_live_generation_has_them(shop: Open) -> None:
    one = shop({"kept": b"1", "dropped": b"2"})
    live = one.build().generation
    kept, dropped = entry_of(live, b"/kept"), entry_of(live, b"/dropped")
    del live.resources[b"/dropped"]
    one.builder.forget_unless_in(live, [kept, dropped])
    assert kept.body is not None
    assert (dropped.body, one.store.resident) == (None, 1)

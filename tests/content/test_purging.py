"""zcserve.content.purging: what a purge is aimed at; soft, it is compared with its file while it serves; hard, it is
dropped. With both engines, over sockets: tests/wire/test_purges.py."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.support.contents import WITHIN_S, Show, Shown
from tests.support.trees import content_of, noise, publish
from zcserve.cache.doubt import is_in_doubt
from zcserve.cache.entry import Entry, each_coding
from zcserve.cache.naming import path_of
from zcserve.content import purging as module
from zcserve.content.builder import Built
from zcserve.content.purging import PURGES_WAITING_MAX, Aim, Purged
from zcserve.errors import HttpError, NotNowError, UsageError
from zcserve.rules.compiled import Rules
from zcserve.rules.rule import HeaderRule

FILES = {
    "a b.txt": b"1",
    "assets/page.css": b"22",
    "assets/page.css.br": b"3",
    "assets/page.css.gz": noise(30_000),  # on pages of its own, which both names share
    "assets/other.js": b"5",
    "docs/index.html": b"666",
    "top.js": b"7",
}
TAGGED = Rules((HeaderRule(("*.css",), tags=("both", "css")), HeaderRule(("/docs/",), tags=("both",))))
# A piece of a purge in a test that asks for several: fewer files have to be written.
AT_ONCE = 100
FAMILY = {b"/assets/page.css", b"/assets/page.css.br", b"/assets/page.css.gz"}


def write_unseen(path: Path, content: bytes) -> None:
    """Write another content of the same size, and give the file its old date: only ctime tells."""
    status = path.stat()
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def memory(shown: Shown) -> set[bytes]:
    """The paths of what is resident."""
    entries = [entry for entry in shown.site.live.resources.values() if isinstance(entry, Entry)]
    return {b"/" + path_of(one) for entry in entries for one in each_coding(entry) if one.body is not None}


def held(shown: Shown, key: bytes) -> bytes:
    """What is resident of a file."""
    body = shown.entry(key).body
    assert body is not None
    return content_of(body)


ALL = {b"/" + name.encode() for name in FILES}


@pytest.mark.parametrize(
    ("aim", "gone", "matched"),
    [
        (lambda: Aim.paths([b"/%61%20b.txt", b"/nowhere"]), {b"/a b.txt"}, 1),
        (lambda: Aim.paths([b"/assets/page.css"]), FAMILY, 1),
        (lambda: Aim.paths([b"/docs/"]), {b"/docs/index.html"}, 1),
        (lambda: Aim.paths([b"/docs"]), set(), 0),
        (lambda: Aim.prefix(b"/assets/"), FAMILY | {b"/assets/other.js"}, 4),
        (lambda: Aim.prefix(b"/d"), {b"/docs/index.html"}, 1),
        (lambda: Aim.prefix(b"/"), ALL, 7),
        (lambda: Aim.glob("*.js"), {b"/assets/other.js", b"/top.js"}, 2),
        (lambda: Aim.glob("/a *"), {b"/a b.txt"}, 1),
        (lambda: Aim.glob("/docs/"), {b"/docs/index.html"}, 1),
        (lambda: Aim.tag(TAGGED, "both"), FAMILY | {b"/docs/index.html"}, 2),
        (lambda: Aim.tag(TAGGED, "other"), set(), 0),
    ],
)  # fmt: skip
def test_what_a_hard_purge_is_aimed_at_is_dropped_with_all_that_has_its_content(
    show: Show, aim: object, gone: set[bytes], matched: int
) -> None:
    shown = show(FILES, trust_siblings=True)
    before = memory(shown)
    assert callable(aim)
    purged = shown.purge(aim(), hard=True)
    assert memory(shown) == before - gone
    assert purged.matched == matched
    assert (purged.bytes > 0, purged.purged >= len(gone & before), purged.why) == (bool(gone), True, "")
    again = shown.purge(aim(), hard=True)
    assert again == Purged(matched=matched)
    assert shown.results_purged == [True, True]


def test_a_sibling_that_is_purged_takes_its_memory_from_its_base_too(show: Show) -> None:
    shown = show(FILES, trust_siblings=True)
    variant = next(one for one in shown.entry(b"/assets/page.css").variants if one.encoding == b"gzip")
    assert variant.body is not None
    shown.purge(Aim.paths([b"/assets/page.css.gz"]), hard=True)
    assert variant.body is None
    assert shown.entry(b"/assets/page.css").body is not None


def test_a_sibling_that_was_renewed_alone_goes_with_its_base(show: Show) -> None:
    shown = show(FILES, trust_siblings=True, watch=False)
    entry = shown.entry(b"/assets/page.css.br")
    publish(shown.tree.path / "assets/page.css.br", b"4")
    assert shown.loader.succeed(shown.site.live, entry) is not None
    shown.warm(b"/assets/page.css.br")
    assert held(shown, b"/assets/page.css.br") == b"4"
    shown.purge(Aim.paths([b"/assets/page.css"]), hard=True)
    assert shown.entry(b"/assets/page.css.br").body is None


@pytest.mark.parametrize("path", [b"no/path", b"/a b", b"/a?b", b"/%zz"])
def test_what_is_no_path_is_refused(path: bytes) -> None:
    for aim in (Aim.prefix, lambda one: Aim.paths([one])):
        with pytest.raises(HttpError):
            aim(path)
    with pytest.raises(UsageError):
        Aim.glob("")


def test_what_was_dropped_is_loaded_anew_and_compared_with_what_it_was(show: Show) -> None:
    shown = show({"page": b"old"}, watch=False)
    shown.fetcher.outdated.subscribe(lambda generation, entry: shown.loader.succeed(generation, entry) is not None)
    write_unseen(shown.tree.path / "page", b"new")
    assert held(shown, b"/page") == b"old"
    shown.purge(Aim.prefix(b"/"), hard=True)
    shown.warm(b"/page")
    assert held(shown, b"/page") == b"new"


def test_what_is_pinned_is_dropped_too_and_is_there_again_when_that_is_told(show: Show) -> None:
    shown = show({"page": b"1", "other": b"2"}, pin=("page",))
    body = shown.entry(b"/page").body
    shown.purge(Aim.prefix(b"/"), hard=True)
    assert memory(shown) == {b"/page"}
    assert shown.entry(b"/page").body is not body


@pytest.mark.parametrize("watch", [True, False])
def test_a_soft_purge_finds_what_has_changed_unseen_and_nothing_leaves_memory_meanwhile(
    show: Show, watch: bool
) -> None:
    shown = show(FILES, trust_siblings=True, watch=watch)
    before = memory(shown)
    same = shown.entry(b"/top.js")
    watcher, shown.live.watcher = shown.live.watcher, None
    if watcher is not None:
        shown.loop.forget(watcher.fd)
    write_unseen(shown.tree.path / "assets/other.js", b"X")
    (shown.tree.path / "a b.txt").unlink()
    if watcher is not None:
        os.read(watcher.fd, 1 << 16)  # no event tells of that
        shown.live.follow(watcher)
    told: list[Purged] = []
    shown.purging.purge(Aim.prefix(b"/"), hard=False, told=told.append)
    left = set()
    while not told:
        shown.turn_until(lambda: True)
        shown.loop.wake_at(shown.loop.now + 0.005, shown)
        shown.loop.run_once()
        left |= before - memory(shown)
    assert left <= {b"/a b.txt"}
    assert held(shown, b"/assets/other.js") == b"X"
    assert b"/a%20b.txt" not in shown.site.live.resources
    assert shown.entry(b"/top.js") is same
    # One file is in memory as a variant and under its own name.
    assert (told[0].matched, told[0].purged, told[0].why) == (7, len(before) + 1, "")
    assert shown.purge(Aim.glob("*.js"), hard=False).matched == 2
    assert held(shown, b"/assets/other.js") == b"X"


def change_unseen(shown: Shown, name: str, content: bytes) -> None:
    """Write a file so that neither an event nor its date tells."""
    watcher, shown.live.watcher = shown.live.watcher, None
    if watcher is not None:
        shown.loop.forget(watcher.fd)
    write_unseen(shown.tree.path / name, content)
    if watcher is not None:
        os.read(watcher.fd, 1 << 16)
        shown.live.follow(watcher)


@pytest.mark.parametrize("watch", [True, False])
def test_an_early_purge_is_told_when_all_is_in_doubt_and_the_next_ones_do_not_wait_for_what_is_compared(
    show: Show, monkeypatch: pytest.MonkeyPatch, watch: bool
) -> None:
    shown = show(FILES, trust_siblings=True, watch=watch, pin=("top.js",))
    before = memory(shown)
    change_unseen(shown, "assets/other.js", b"X")
    waiting: list[Callable[[], None]] = []
    with monkeypatch.context() as patched:  # nothing is compared for now
        patched.setattr(shown.patches, "when_known", waiting.append)
        patched.setattr(shown.releases, "ask", lambda: waiting.append(lambda: None))
        purged = shown.purge(Aim.prefix(b"/"), hard=False, is_early=True)
        assert (purged.matched, purged.purged, purged.why) == (7, len(before) + 1, "")
        assert memory(shown) == before
        assert doubts(shown) == {True}
        assert shown.purge(Aim.glob("*.js"), hard=False, is_early=True).purged == 2
        assert shown.purge(Aim.paths([b"/docs/index.html"]), hard=True).purged == 1
        shown.turn_until(lambda: len(waiting) == 2)
    if watch:
        for then in waiting:
            shown.patches.when_known(then)
    else:
        shown.releases.ask()
    shown.turn_until(lambda: held(shown, b"/assets/other.js") == b"X")
    shown.finish()
    assert memory(shown) == before - ({b"/docs/index.html"} if watch else set())  # what is built is loaded
    assert shown.counters.failed == 0


def doubts(shown: Shown) -> set[bool]:
    """Whether what is resident is in doubt."""
    entries = [one for one in shown.site.live.resources.values() if isinstance(one, Entry)]
    return {is_in_doubt(one) for entry in entries for one in each_coding(entry) if one.body is not None}


def test_what_was_told_early_and_could_not_be_compared_is_walked_by_the_next_generation(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show({"page": b"old", "other": b"2"})
    change_unseen(shown, "page", b"new")

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    watcher = shown.live.watcher
    assert watcher is not None
    monkeypatch.setattr(watcher, "look_again", fail)
    assert shown.purge(Aim.prefix(b"/"), hard=False, is_early=True).why == ""
    shown.turn_until(lambda: shown.counters.failed and shown.releases.due < math.inf)
    monkeypatch.undo()
    assert shown.purge(Aim.paths([b"/nowhere"]), hard=True).why == ""  # those behind it have their turn
    shown.releases.try_again()
    shown.turn_until(lambda: held(shown, b"/page") == b"new")


def test_what_one_purge_has_had_compared_is_not_compared_for_another(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show({f"{i}": b"1" for i in range(5)})
    watcher = shown.live.watcher
    assert watcher is not None
    looked: list[bytes] = []
    look_again = watcher.look_again
    monkeypatch.setattr(watcher, "look_again", lambda path, now: (looked.append(path), look_again(path, now)))
    for _ in range(3):
        shown.purge(Aim.prefix(b"/"), hard=False, is_early=True)
    assert shown.purge(Aim.paths([b"/0"]), hard=False).purged == 1
    shown.finish()
    shown.turn_until(lambda: doubts(shown) == {False})
    assert set(looked) == {b"0", b"1", b"2", b"3", b"4"}
    assert len(looked) < 4 * 5


def test_memory_comes_back_when_a_hard_purge_is_told(show: Show) -> None:
    shown = show({f"{i}": noise(5000 + i, i) for i in range(300)})
    taken = shown.store.taken
    assert shown.purge(Aim.prefix(b"/"), hard=True).purged == 300
    assert shown.store.resident == 0
    shown.turn_until(lambda: shown.store.taken == 0)
    assert taken > 300 * 5000


def test_what_is_being_written_is_left_to_the_watcher(show: Show) -> None:
    shown = show({"page": b"old"})
    with (shown.tree.path / "page").open("r+b") as file:
        file.write(b"n")
        file.flush()
        shown.turn_until(lambda: shown.live.watcher is not None and shown.live.watcher.holds(b"page"))
        shown.purge(Aim.prefix(b"/"), hard=False)
        assert held(shown, b"/page") == b"old"


def test_the_page_for_what_is_absent_is_what_lies_there_when_a_hard_purge_is_told(show: Show) -> None:
    shown = show({"404.html": b"old"}, watch=False)
    page = shown.tree.path / "404.html"
    for write, content in ((write_unseen, b"new"), (publish, b"another one")):
        write(page, content)
        shown.purge(Aim.paths([b"/404.html"]), hard=True)
        assert shown.site.live.error_pages.get(404) == content
    page.unlink()
    shown.purge(Aim.paths([b"/404.html"]), hard=True)
    assert shown.site.live.error_pages.get(404) is None


def test_many_purges_come_one_after_the_other_each_step_is_short_and_too_many_are_refused(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PURGED_AT_ONCE", AT_ONCE)
    count = 3 * AT_ONCE
    shown = show({f"{i}": b"" for i in range(count)})
    forgotten: list[int] = []
    monkeypatch.setattr(shown.loop.front.shelf(0), "forget_keys", lambda keys, _: forgotten.append(len(keys)))
    told: list[Purged] = []
    for _ in range(PURGES_WAITING_MAX + 1):
        shown.purging.purge(Aim.prefix(b"/"), hard=True, told=told.append)
    with pytest.raises(NotNowError, match="wait already"):
        shown.purging.purge(Aim.prefix(b"/"), hard=True, told=told.append)
    shown.turn_until(lambda: len(told) == PURGES_WAITING_MAX + 1)
    assert [one.purged for one in told] == [count] + [0] * PURGES_WAITING_MAX
    assert max(forgotten) <= AT_ONCE


def test_what_several_generations_have_is_told_once_and_what_an_older_one_has_alone_goes_too(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show({f"{i}": b"1" for i in range(5)}, keep_generations=1)
    older = shown.site.live
    (shown.tree.path / "3").unlink()
    publish(shown.tree.path / "4", b"22")
    shown.site.serve(shown.build(last=older).generation, [older])
    forgotten: list[bytes] = []
    monkeypatch.setattr(shown.loop.front.shelf(0), "forget_keys", lambda keys, _: forgotten.extend(keys))
    purged = shown.purge(Aim.prefix(b"/"), hard=True)
    assert sorted(forgotten) == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert (purged.matched, purged.purged, memory(shown)) == (6, 6, set())
    assert older.resources[b"/3"].body is None  # type: ignore[union-attr]


@pytest.mark.parametrize("watch", [True, False])
def test_what_is_built_while_a_hard_purge_is_told_has_nothing_that_was_read_before_it(
    show: Show, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, watch: bool
) -> None:
    shown = show({"page": b"1st"}, watch=watch)
    before, unseen = shown.site.live, tmp_path / "unseen"  # no event tells what is written under another name
    os.link(shown.tree.path / "page", unseen)
    is_built, is_purged = Event(), Event()

    def build(build: Callable[..., Built] = shown.builder.build, **more: Any) -> Built:
        built = build(**more)
        is_built.set()
        assert is_purged.wait(WITHIN_S)
        return built

    monkeypatch.setattr(shown.builder, "build", build)
    unseen.write_bytes(b"2nd")
    shown.releases.ask()
    shown.turn_until(is_built.is_set)
    unseen.write_bytes(b"3rd")
    shown.purge(Aim.prefix(b"/"), hard=True)
    is_purged.set()
    shown.turn_until(lambda: shown.site.live is not before)
    shown.warm(b"/page")
    assert held(shown, b"/page") == b"3rd"


def lists_of_keys() -> int:
    """How many lists of many keys the garbage collector sees."""
    found = [one for one in gc.get_objects() if type(one) is list and len(one) >= AT_ONCE]
    return sum(isinstance(one[0], bytes) and one[0].startswith(b"/") for one in found)


@pytest.mark.parametrize("hard", [True, False])
def test_the_collector_does_not_see_the_keys_that_wait(show: Show, monkeypatch: pytest.MonkeyPatch, hard: bool) -> None:
    for limit in ("COMPARED_AT_ONCE", "PURGED_AT_ONCE"):
        monkeypatch.setattr(module, limit, AT_ONCE)
    shown = show({f"{i}": b"1" for i in range(4 * AT_ONCE)})
    know = shown.patches.when_known
    before, seen = lists_of_keys(), list[int]()

    def see() -> None:
        seen.append(lists_of_keys())

    monkeypatch.setattr(type(shown.live), "forget", lambda *_: see())
    monkeypatch.setattr(shown.patches, "when_known", lambda then: (see(), know(then)))
    assert shown.purge(Aim.prefix(b"/"), hard=hard).purged == 4 * AT_ONCE
    assert len(seen) >= 4
    assert max(seen) <= before + 2  # the piece at hand


def test_one_that_fails_says_so_and_the_next_one_has_its_turn(
    show: Show, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shown = show({"page": b"1"})

    def fail(entry: Entry) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(module, "put_in_doubt", fail)
    assert shown.purge(Aim.prefix(b"/"), hard=True).why == "it failed: the log says why"
    monkeypatch.undo()
    assert shown.purge(Aim.prefix(b"/"), hard=True).why == ""
    assert shown.counters.failed == 1


def test_while_another_process_has_the_memory_nothing_is_purged(show: Show) -> None:
    shown = show({"page": b"1"})
    shown.store.freeze()
    with pytest.raises(NotNowError, match="upgrade"):
        shown.purge(Aim.prefix(b"/"), hard=True)
    shown.store.thaw()
    publish(shown.tree.path / "page", b"22")
    assert shown.purge(Aim.prefix(b"/"), hard=True).purged == 1

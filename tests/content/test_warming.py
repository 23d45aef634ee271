"""zcserve.content.warming: files become resident in the order of a list, and what does not is told with the reason."""

from __future__ import annotations

import pytest

from tests.support.contents import Show, Shown
from tests.support.trees import noise, publish
from zcserve.cache.entry import each_coding
from zcserve.content import warming as module
from zcserve.content.warming import DOES_NOT_FIT, FAILED_NAMED_MAX, LEFT_AGAIN, LISTS_WAITING_MAX, PATHS_MAX
from zcserve.errors import NotNowError

FILES = {f"{i}.bin": noise(40_000, i) for i in range(8)}


def resident(shown: Shown, *keys: bytes) -> list[bool]:
    return [all(one.body is not None for one in each_coding(shown.entry(key))) for key in keys]


def test_what_a_list_names_becomes_resident_and_what_it_cannot_be_is_told_why(show: Show) -> None:
    shown = show(
        {"a b.txt": b"1", "page.css": b"22", "page.css.br": b"3", "docs/index.html": b"4444"}, trust_siblings=True
    )
    keys = (b"/a%20b.txt", b"/page.css", b"/docs/index.html")
    shown.drop(*keys)
    paths = (b"/%61%20b.txt", b"/page.css", b"/docs/", b"/docs", b"/nowhere", b"/a b", b"/page.css?x", b"no/path")
    warmth = shown.warm(*paths, b"/page.css")
    assert resident(shown, *keys) == [True] * 3
    assert (warmth.paths, warmth.done, warmth.resident) == (9, 9, 4)
    assert warmth.resident_bytes == 1 + 2 * (2 + 1) + 4
    assert warmth.failed_total == 5
    reasons = dict(warmth.failed)
    assert reasons["/docs"] == "it leads to /docs/"
    assert reasons["/nowhere"] == "there is no such file"
    assert all("percent-encoded" in reasons[path] for path in ("/a b", "/page.css?x", "no/path"))


def test_a_list_takes_the_room_of_what_is_not_in_it_and_nothing_of_it_leaves_for_what_comes_later(show: Show) -> None:
    shown = show(FILES, memory=256 * 1024)
    keys = [f"/{i}.bin".encode() for i in range(8)]
    before = resident(shown, *keys)
    assert 2 <= sum(before) < 8
    out = [key for key, is_in in zip(keys, before, strict=True) if not is_in]
    into = [key for key, is_in in zip(keys, before, strict=True) if is_in]
    order = [*out, *into]  # those that are not there come first
    warmth = shown.warm(*order)
    assert resident(shown, *out) == [True] * len(out)
    count = warmth.resident
    assert resident(shown, *order) == [True] * count + [False] * (8 - count) or count >= len(out)
    assert {why for _, why in warmth.failed} == {DOES_NOT_FIT}
    assert count + warmth.failed_total == 8
    again = shown.warm(*order)
    assert (again.resident, again.failed_total) == (warmth.resident, warmth.failed_total)  # it is idempotent


def test_a_file_that_has_changed_is_loaded_as_it_is_now_and_one_that_is_gone_is_told(show: Show) -> None:
    shown = show({"page": b"1", "gone": b"2"}, watch=False)
    shown.fetcher.outdated.subscribe(lambda generation, entry: shown.loader.succeed(generation, entry) is not None)
    shown.drop(b"/page", b"/gone")
    publish(shown.tree.path / "page", b"22")
    (shown.tree.path / "gone").unlink()
    warmth = shown.warm(b"/page", b"/gone")
    assert (warmth.resident, warmth.resident_bytes) == (1, 2)
    assert shown.entry(b"/page").body is not None
    assert [path for path, _ in warmth.failed] == ["/gone"]


def test_a_load_that_makes_no_progress_is_not_waited_for(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show({"page": b"1"}, load_timeout_s=1)
    shown.drop(b"/page")
    fetch = shown.fetcher.fetch
    monkeypatch.setattr(
        shown.fetcher, "fetch", lambda root, base, one, _: fetch(root, base, one, lambda _: None)
    )  # never told
    told: list[object] = []
    warmth = shown.warming.warm([b"/page"], 1, told.append)
    shown.turn_until(lambda: shown.entry(b"/page").body is not None)
    shown.drop(b"/page")
    shown.turn_until(lambda: told)
    assert warmth.failed == [("/page", "it cannot be read: the log says why")]


def test_what_has_left_again_by_the_end_is_told(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED_AT_ONCE", 2)
    shown = show({str(i): b"1" for i in range(5)})
    keys = [f"/{i}".encode() for i in range(5)]
    warmth = shown.warming.warm(keys, 5, lambda _: None)
    shown.turn_until(lambda: warmth.done == 5)
    shown.drop(b"/4")  # the others are looked at before it
    shown.turn_until(lambda: warmth.is_over)
    assert (warmth.resident, warmth.failed) == (4, [("/4", LEFT_AGAIN)])


def test_lists_come_one_after_the_other_and_not_too_many_wait(show: Show) -> None:
    shown = show({"page": b"1"})
    with pytest.raises(NotNowError, match="at most 1000000"):
        shown.warming.warm([], PATHS_MAX + 1, lambda _: None)
    order: list[int] = []
    assert not shown.warming.is_busy
    lists = [
        shown.warming.warm([b"/page"] * 3, 3, lambda _, i=i: order.append(i))  # type: ignore[misc]
        for i in range(LISTS_WAITING_MAX + 1)
    ]
    with pytest.raises(NotNowError, match="wait already"):
        shown.warming.warm([b"/page"], 1, lambda _: None)
    shown.warming.begin([], 0, lambda _: order.append(-1))  # one of the server's own waits for none
    assert shown.warming.is_busy
    shown.turn_until(lambda: lists[-1].is_over)
    assert order.index(-1) < 2
    assert [i for i in order if i >= 0] == list(range(len(lists)))
    assert not shown.warming.is_busy


def test_of_many_reasons_some_are_named(show: Show) -> None:
    shown = show({"page": b"1"})
    warmth = shown.warm(*[b"/nowhere"] * (FAILED_NAMED_MAX + 5))
    assert (len(warmth.failed), warmth.failed_total) == (FAILED_NAMED_MAX, FAILED_NAMED_MAX + 5)


def test_the_log_has_what_a_list_came_to_and_nothing_of_one_that_names_nothing(
    show: Show, caplog: pytest.LogCaptureFixture
) -> None:
    shown = show({"page": b"a page"})
    with caplog.at_level("INFO"):
        shown.warm()
        shown.warm(b"/page")
        shown.warm(b"/page", b"/none")
    told = [message for message in caplog.messages if message.startswith("warmed")]
    assert told == ["warmed: resident are 1 of 1 file, 6 B", "warmed: resident are 1 of 2 files, 6 B; 1 failed"]

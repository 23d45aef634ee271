"""zcserve.servlets.results: for how long a result is kept, and what becomes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.result_kitchen import Kitchen, content_of
from zcserve.cache.entry import Entry
from zcserve.errors import HttpError
from zcserve.servlets.kept import SWEPT_AT_ONCE
from zcserve.servlets.response import Response
from zcserve.servlets.results import CONSIDERED_MAX, LOOK_EVERY_S, STALE_TTLS_MAX
from zcserve.site.reply import Reply


def test_a_result_has_a_head_as_a_file_has(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: Response("100%", headers={"X-Share": "5%", "Content-Type": "text/x; a=%d"}))
    entry = kitchen.entry(route)
    assert entry.body is not None
    assert bytes(entry.body.head()) == (
        b"Content-Length: 4\r\nContent-Type: text/x; a=%%d\r\nAccept-Ranges: bytes\r\n"
        b"X-Content-Type-Options: nosniff\r\nETag: %b\r\nX-Share: 5%%\r\nCache-Control: max-age=3600\r\n\r\n"
        % entry.etag
    )
    assert content_of(entry) == b"100%"


def test_a_result_that_was_used_is_made_again_and_replaced(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    first = kitchen.entry(route)
    assert kitchen.entry(route) is first
    kitchen.expire()
    second = kitchen.entry(route)
    assert content_of(second) == b"2"
    assert second.etag != first.etag
    assert second.uses > first.uses  # as popular as the old one
    kitchen.side.turn_until(lambda: first.body is None)
    assert kitchen.store.resident == 1


def test_what_was_asked_for_once_is_not_made_again(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    entry = kitchen.entry(route)
    kitchen.expire()
    assert kitchen.kept() is None
    kitchen.side.turn_until(lambda: entry.body is None)
    assert kitchen.calls == 1


@pytest.mark.parametrize(
    ("make", "is_same"),
    [
        (lambda n: "always", True),
        (lambda n: str(n), False),
        (lambda n: Response("always", headers={"X-N": str(n)}), False),
        (lambda n: Response("always", content_type=f"text/{n}"), False),
    ],
)
def test_an_entry_lives_on_while_it_says_the_same(kitchen: Kitchen, make: Any, is_same: bool) -> None:
    route = kitchen.route(make)
    first = kitchen.entry(route)
    for n in range(2, 5):
        assert kitchen.ask(route)
        kitchen.expire()
        assert kitchen.calls == n
        assert (kitchen.entry(route) is first) is is_same
    kitchen.side.turn_until(lambda: kitchen.store.resident == 1)


@pytest.mark.parametrize("failure", [RuntimeError("no"), HttpError(503, "not now"), None])
def test_an_old_result_outlives_so_many_failures_and_no_more(
    kitchen: Kitchen, failure: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    def make(n: int) -> object:
        if n == 1:
            return "good"
        if failure is not None:
            raise failure
        return Response("bad", 500)

    route = kitchen.route(make)
    first = kitchen.entry(route)
    for n in range(STALE_TTLS_MAX):
        assert kitchen.entry(route) is first
        kitchen.expire()
        assert kitchen.calls == n + 2
    assert kitchen.entry(route) is first
    kitchen.expire()
    made = kitchen.ask(route)
    assert isinstance(made, Reply)
    assert made.status in (500, 503)
    assert kitchen.calls == STALE_TTLS_MAX + 2
    told = [record.getMessage() for record in caplog.records]
    assert sum("goes on as it was" in message for message in told) == STALE_TTLS_MAX


def test_a_success_between_failures_is_a_new_beginning(kitchen: Kitchen) -> None:
    def make(n: int) -> object:
        return Response("bad", 500) if n % 8 else "good"

    route = kitchen.route(make)
    kitchen.calls = 7
    first = kitchen.entry(route)
    for _ in range(3 * STALE_TTLS_MAX):
        assert kitchen.entry(route) is first
        kitchen.expire()
    assert kitchen.entry(route) is first


def test_a_result_that_may_not_be_kept_any_more_is_dropped(kitchen: Kitchen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "zcserve.servlets.making")
    route = kitchen.route(lambda n: "for all" if n == 1 else Response("yours", headers={"Set-Cookie": "a=b"}))
    for _ in range(2):
        kitchen.entry(route)
    kitchen.expire()
    assert kitchen.kept() is None
    made = kitchen.ask(route)
    assert isinstance(made, Reply)
    assert made.content == b"yours"
    assert "is not kept: it has Set-Cookie: a=b" in caplog.text


def test_an_iterator_of_a_result_that_no_request_waits_for_is_closed(kitchen: Kitchen) -> None:
    closed: list[bool] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    route = kitchen.route(lambda n: "whole" if n == 1 else pieces())
    for _ in range(2):
        kitchen.entry(route)
    kitchen.expire()
    assert kitchen.kept() is None
    assert closed


def test_what_was_evicted_is_made_again(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    for n in range(1, 4):
        entry = kitchen.entry(route)
        assert content_of(entry) == b"%d" % n
        kitchen.store.drop(entry)
    kitchen.expire()
    assert kitchen.kept() is None
    assert kitchen.calls == 3


def test_what_finds_no_room_is_answered(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, memory=1 << 20)
    route = kitchen.route(lambda n: b"x" * (600 << 10))
    for _ in range(2):
        made = kitchen.ask(route)
        assert isinstance(made, Reply)
        assert made.content == b"x" * (600 << 10)
    assert kitchen.calls == 2
    assert not len(kitchen.results)
    kitchen.close()


def test_when_there_are_too_many_one_goes_that_was_not_used(small_kitchen: Kitchen) -> None:
    kitchen = small_kitchen
    route = kitchen.route(lambda n: str(n))
    for target in ("/a", "/b", "/c", "/a", "/c", "/d"):
        kitchen.entry(route, target)
    assert sorted(kitchen.results.kept) == [b"/a", b"/c", b"/d"]
    for target in ("/a", "/d", "/e"):
        kitchen.entry(route, target)
    assert sorted(kitchen.results.kept) == [b"/a", b"/d", b"/e"]
    kitchen.side.turn_until(lambda: kitchen.store.resident == 3)


def test_results_of_a_function_that_is_gone_are_dropped(kitchen: Kitchen) -> None:
    old, other = (kitchen.route(lambda n: str(n)) for _ in range(2))
    kitchen.entry(old, "/old")
    kitchen.entry(other, "/other")
    under_way = kitchen.asked(old, "/under-way")
    kitchen.results.servlets_changed([other])
    assert list(kitchen.results.kept) == [b"/other"]
    under_way.outcome()
    assert under_way.answer().content == b"3"
    assert list(kitchen.results.kept) == [b"/other"]
    kitchen.side.turn_until(lambda: kitchen.store.resident == 1)


def test_a_target_that_leads_to_another_function_now_has_another_result(kitchen: Kitchen) -> None:
    one, two = (kitchen.route(lambda n: str(n)) for _ in range(2))
    assert content_of(kitchen.entry(one)) == b"1"
    assert content_of(kitchen.entry(two)) == b"2"
    asked = [kitchen.asked(one), kitchen.asked(two)]
    kitchen.side.turn_until(lambda: all(each.made for each in asked))
    assert asked[0].answer().content == b"3"  # it was not kept
    assert content_of(kitchen.entry(two)) == b"4"
    assert len(kitchen.results) == 1
    kitchen.side.turn_until(lambda: kitchen.store.resident == 1)


def test_files_go_before_results(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: str(n))
    for target in ("/a", "/a?q=1", "/%61?q=2", "/b"):
        kitchen.entry(route, target)
    kitchen.side.site.live.resources[b"/a"] = Entry(b"/a", b"", 0, None)
    kitchen.results.files_changed([b"/a"])
    kitchen.side.turn_until(lambda: len(kitchen.results) == 1)
    assert list(kitchen.results.kept) == [b"/b"]


@pytest.mark.parametrize("what", ["a file comes", "a servlet goes"])
def test_many_results_go_a_few_at_a_time_and_none_is_answered_meanwhile(kitchen: Kitchen, what: str) -> None:
    route, other = (kitchen.route(lambda n: str(n)) for _ in range(2))
    many = 3 * SWEPT_AT_ONCE
    for n in range(many):
        kitchen.entry(route, f"/it?{n}")
    kitchen.entry(other, "/other")
    if what == "a file comes":
        kitchen.side.site.live.resources[b"/it"] = Entry(b"/it", b"", 0, None)
        kitchen.results.files_changed([b"/it"])
    else:
        kitchen.results.servlets_changed([other])
    assert len(kitchen.results) == many + 1 - SWEPT_AT_ONCE
    late = f"/it?{many - 1}"
    kept = kitchen.kept(late)
    assert kept is not None
    kept.expire()  # between two pieces: it is not made again
    assert kitchen.kept(late) is None
    if what == "a servlet goes":  # its last result but one is still there, and is no answer
        assert kitchen.kept(f"/it?{many - 2}") is not None
        assert content_of(kitchen.entry(other, f"/it?{many - 2}")) == b"%d" % (many + 2)
    kitchen.side.turn_until(lambda: len(kitchen.results) <= 2)
    assert kitchen.kept("/other") is not None


def test_no_more_than_some_are_considered_to_make_room_for_one(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, servlet_results_max=3 * CONSIDERED_MAX)
    try:
        route = kitchen.route(lambda n: str(n))
        for n in range(3 * CONSIDERED_MAX):
            for _ in range(2):
                kitchen.entry(route, f"/{n}")  # used since it was made
        kitchen.entry(route, "/new")
        assert kitchen.kept(f"/{CONSIDERED_MAX - 1}") is None
        assert len(kitchen.results) == 3 * CONSIDERED_MAX
    finally:
        kitchen.close()


def test_files_are_looked_at_while_there_are_results(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("zcserve.servlets.results.time", SimpleNamespace(monotonic=lambda: now))

    def time_passes() -> None:
        nonlocal now
        now += LOOK_EVERY_S + 1
        kitchen.timers.fire(now)

    time_passes()
    assert kitchen.looks == []
    kitchen.entry(kitchen.route(lambda n: str(n)))
    for n in range(1, 3):
        time_passes()
        assert len(kitchen.looks) == n
    kitchen.expire()
    for _ in range(3):
        time_passes()
    assert len(kitchen.looks) == 2


def test_closed_it_holds_nothing(kitchen: Kitchen) -> None:
    kitchen.entry(kitchen.route(lambda n: str(n)))
    kitchen.results.close()
    assert not len(kitchen.results)
    assert kitchen.store.resident == 0


# --- a purge ----------------------------------------------------------------------------------------------------------


def purged(kitchen: Kitchen, path: bytes, *, hard: bool) -> tuple[int, int]:
    """How many results went, and their bytes; when that is told, and all that is being made is done."""
    told: list[tuple[int, int]] = []
    kitchen.results.purge(lambda key: key == path, hard, lambda count, size: told.append((count, size)))
    kitchen.side.turn_until(lambda: kitchen.timers.fire(time.monotonic()) or told)
    kitchen.settle()
    return told[0]


def test_a_hard_purge_drops_the_results_of_a_path_and_a_soft_one_makes_them_again(kitchen: Kitchen) -> None:
    route = kitchen.route(lambda n: "x" * n)
    targets = ["/it?a", "/it?b", "/other"]
    old = [kitchen.entry(route, target) for target in targets]
    assert purged(kitchen, b"/it", hard=False) == (2, 1 + 2)
    entries = [kitchen.entry(route, target) for target in targets]
    assert [entry.size for entry in entries] == [4, 5, 3]
    assert entries[2] is old[2]
    assert purged(kitchen, b"/it", hard=True) == (2, 4 + 5)
    assert [kitchen.kept(target) is None for target in targets] == [True, True, False]
    assert purged(kitchen, b"/it", hard=True) == (0, 0)
    kitchen.side.turn_until(lambda: kitchen.store.resident == 1)


def test_a_result_that_cannot_be_made_again_outlives_a_soft_purge(
    kitchen: Kitchen, caplog: pytest.LogCaptureFixture
) -> None:
    def make(n: int) -> str:
        if n > 1:
            raise RuntimeError("no")
        return "first"

    route = kitchen.route(make)
    first = kitchen.entry(route)
    assert purged(kitchen, b"/it", hard=False) == (1, 5)
    assert kitchen.entry(route) is first
    assert any("goes on as it was" in message for message in caplog.messages)


def test_many_results_are_made_again_a_few_at_a_time(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zcserve.servlets.results.MADE_AT_ONCE", 2)
    most = 0

    def make(n: int) -> str:
        nonlocal most
        most = max(most, len(kitchen.results.making.wanted))
        return str(n)

    route = kitchen.route(make)
    for n in range(7):
        kitchen.entry(route, f"/it?{n}")
    most = 0
    assert purged(kitchen, b"/it", hard=False)[0] == 7
    assert (kitchen.calls, most) == (14, 2)

"""The survey: which files are hot, and which do not fit, found in short steps of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.waiting import WaitUntil
from zcserve.admin.survey import FRESH_S, TOLD_MAX, Survey
from zcserve.cache.entry import Entry, Fleeting
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.net.loop import Loop
from zcserve.net.poller import Poller

MANY = 8_000


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop(Poller())
    yield one
    one.close()


def generation_of(count: int) -> Generation:
    """So many files, all resident."""
    generation = Generation(Root("/"))
    for number in range(count):
        key = b"/%d" % number
        entry = Entry(key, b"", number, None)
        entry.body = Fleeting(b"", b"")
        generation.resources[key] = entry
    return generation


def entry_of(generation: Generation, key: bytes) -> Entry:
    entry = generation.resources[key]
    assert isinstance(entry, Entry)
    return entry


def done(survey: Survey, loop: Loop) -> Callable[[], bool]:
    """Turns the loop; whether a walk has ended."""

    def turn() -> bool:
        if survey.at is None:
            loop.run_once()
        return survey.at is not None

    return turn


def test_the_hottest_are_found_and_those_that_do_not_fit_by_their_last_use(loop: Loop, wait_until: WaitUntil) -> None:
    generation = generation_of(100)
    for number in range(20):
        entry_of(generation, b"/%d" % number).uses = number
    for number in range(50, 70):
        entry = entry_of(generation, b"/%d" % number)
        entry.body = None
        entry.tick = 5 if number < 53 else 0
    survey = Survey(loop, lambda: [generation])
    survey.ask()
    wait_until(done(survey, loop))
    assert [one["uses"] for one in survey.hottest] == [*range(19, 19 - TOLD_MAX, -1)]
    assert survey.hottest[0] == {"path": "/19", "uses": 19, "bytes": 19}
    assert [one["path"] for one in survey.does_not_fit] == ["/52", "/51", "/50", *(f"/{n}" for n in range(69, 62, -1))]


def test_a_variants_uses_are_its_files_and_what_was_never_used_is_not_hot(loop: Loop, wait_until: WaitUntil) -> None:
    generation = generation_of(2)
    entry = entry_of(generation, b"/1")
    coded = entry.coded(b"gzip", 1)
    coded.uses, coded.body, entry.body = 3, entry.body, None
    entry.variants = (coded,)
    survey = Survey(loop, lambda: [generation])
    survey.ask()
    wait_until(done(survey, loop))
    assert survey.hottest == [{"path": "/1", "uses": 3, "bytes": 1}]
    assert survey.does_not_fit == []


def test_what_is_resident_is_told_of_each_site_and_no_content_twice(loop: Loop, wait_until: WaitUntil) -> None:
    first, second = generation_of(5), Generation(Root("/", site=7))
    base = entry_of(first, b"/4")
    base.variants = (base.coded(b"gzip", 100),)
    base.variants[0].body = base.body
    entry_of(first, b"/3").body = None
    survey = Survey(loop, lambda: [first, second])
    assert survey.resident == {}
    survey.ask()
    wait_until(done(survey, loop))
    assert survey.resident == {0: 0 + 1 + 2 + 4 + 100, 7: 0}


def test_many_files_are_walked_in_pieces_while_some_come_and_go(loop: Loop, wait_until: WaitUntil) -> None:
    generation = generation_of(MANY)
    survey = Survey(loop, lambda: [generation])
    survey.ask()
    assert survey.at is None
    generation.lay_over([b"/new", b"/5"], {b"/new": Entry(b"/new", b"", 1, None), b"/5": None})
    wait_until(done(survey, loop))
    assert survey.at is not None


def test_it_is_walked_when_asked_for_and_not_again_at_once(loop: Loop, wait_until: WaitUntil) -> None:
    walks = []
    survey = Survey(loop, lambda: walks.append(1) or [])
    for _ in range(3):
        survey.ask()
    assert len(walks) == 1
    loop.now += FRESH_S + 1
    survey.ask()
    assert len(walks) == 2

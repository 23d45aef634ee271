"""zcserve.cache.resident: results are put into memory and taken out of it, and what finds no room takes none."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.result_kitchen import Kitchen, content_of
from zcserve.cache.entry import ComposedEntry
from zcserve.cache.loader import Loader
from zcserve.cache.resident import forget_all, is_resident, make_resident, with_variants
from zcserve.cache.tags import tag_of
from zcserve.http import FieldLines

TEXT = b"a line that comes again and again\n" * 200
NOISE = random.Random(1).randbytes(4096)
MEMORY = 2 << 20
TOO_LARGE = bytes(MEMORY + 1)


@pytest.fixture
def kitchen(tmp_path: Path) -> Iterator[Kitchen]:
    kitchen = Kitchen(tmp_path, MEMORY)
    yield kitchen
    kitchen.close()


@pytest.fixture
def compressing(tmp_path: Path) -> Iterator[Kitchen]:
    kitchen = Kitchen(tmp_path, MEMORY, compress=True)
    yield kitchen
    kitchen.close()


def result(
    content: bytes, content_type: str = "text/plain", modified: int | None = None, fields: FieldLines = ()
) -> ComposedEntry:
    """The entry of a result that is not made resident yet."""
    return ComposedEntry(b"/it?k=v", len(content), modified, content_type, fields)


def resident(loader: Loader, content: bytes) -> ComposedEntry:
    made = make_resident(loader, None, result(content), content)
    assert made is not None
    return made


def test_a_result_that_is_new_is_put_into_memory_with_its_tag(kitchen: Kitchen) -> None:
    entry = result(TEXT)
    assert not is_resident(entry)
    assert make_resident(kitchen.loader, None, entry, TEXT) is entry
    assert is_resident(entry)
    assert content_of(entry) == TEXT
    assert entry.etag == tag_of(TEXT)
    assert kitchen.store.resident == 1


def test_a_result_that_says_the_same_stays_what_it_is(kitchen: Kitchen) -> None:
    old = resident(kitchen.loader, TEXT)
    body = old.body
    assert make_resident(kitchen.loader, old, result(TEXT), TEXT) is old
    assert old.body is body
    assert kitchen.store.resident == 1


@pytest.mark.parametrize(
    ("content", "differs"),
    [
        (TEXT[1:], {}),
        (TEXT, {"content_type": "text/html"}),
        (TEXT, {"modified": 1}),
        (TEXT, {"fields": ((b"X-A", b"b"),)}),
    ],
    ids=["content", "type", "date", "fields"],
)
def test_a_result_that_differs_in_anything_is_a_new_one(
    kitchen: Kitchen, content: bytes, differs: dict[str, Any]
) -> None:
    fresh = result(content, **differs)
    old = resident(kitchen.loader, TEXT)
    assert make_resident(kitchen.loader, old, fresh, content) is fresh
    assert is_resident(fresh)
    assert is_resident(old), "it serves until the new one has its place"


def test_a_result_that_was_evicted_is_made_anew_though_it_says_the_same(kitchen: Kitchen) -> None:
    old = resident(kitchen.loader, TEXT)
    kitchen.store.drop(old)
    assert not is_resident(old)
    fresh = result(TEXT)
    assert make_resident(kitchen.loader, old, fresh, TEXT) is fresh


def test_a_result_for_which_there_is_no_room_takes_none(kitchen: Kitchen) -> None:
    assert make_resident(kitchen.loader, None, result(TOO_LARGE), TOO_LARGE) is None
    assert kitchen.store.resident == 0


def test_a_result_takes_the_place_of_others_where_memory_is_full(kitchen: Kitchen) -> None:
    content = b"y" * (MEMORY // 8)
    made = [resident(kitchen.loader, content) for _ in range(12)]
    assert is_resident(made[-1])
    assert not is_resident(made[0])


def test_variants_belong_to_an_entry_of_their_own_that_says_the_same(compressing: Kitchen) -> None:
    loader = compressing.loader
    entry = result(TEXT, "text/css", 5, ((b"X-A", b"b"),))
    assert make_resident(loader, None, entry, TEXT) is entry
    entry.tick = 7
    fresh = with_variants(loader, entry, TEXT)
    assert fresh is not None
    assert fresh is not entry
    for each in (entry, fresh):
        assert (each.key, each.size, each.modified, each.content_type) == (b"/it?k=v", len(TEXT), 5, "text/css")
        assert (each.fields, each.etag, each.tick) == (((b"X-A", b"b"),), tag_of(TEXT), 7)
    assert content_of(fresh) == TEXT
    assert entry.variants == ()
    assert b"gzip" in {variant.encoding for variant in fresh.variants}
    assert is_resident(fresh)
    assert fresh.body is not None
    assert b"Vary: Accept-Encoding" in bytes(fresh.body.head())


def test_a_result_is_resident_with_all_its_variants_or_not_at_all(compressing: Kitchen) -> None:
    fresh = with_variants(compressing.loader, resident(compressing.loader, TEXT), TEXT)
    assert fresh is not None
    compressing.store.drop(fresh.variants[0])
    assert fresh.body is not None
    assert not is_resident(fresh)


@pytest.mark.parametrize("content", [NOISE, b""])
def test_what_compression_makes_no_smaller_has_no_variants_and_takes_no_memory(
    compressing: Kitchen, content: bytes
) -> None:
    entry = resident(compressing.loader, content)
    assert with_variants(compressing.loader, entry, content) is None
    assert is_resident(entry)
    assert compressing.store.resident == 1


def test_without_compress_there_are_no_variants(kitchen: Kitchen) -> None:
    assert with_variants(kitchen.loader, resident(kitchen.loader, TEXT), TEXT) is None
    assert kitchen.store.resident == 1


def test_variants_go_again_where_their_result_finds_no_room(compressing: Kitchen) -> None:
    entry = result(TOO_LARGE)
    assert with_variants(compressing.loader, entry, TOO_LARGE) is None
    assert compressing.store.resident == 0


def test_the_memory_of_results_is_given_back_with_that_of_their_variants(compressing: Kitchen) -> None:
    loader = compressing.loader
    plain = resident(loader, TEXT)
    coded = with_variants(loader, plain, TEXT)
    assert coded is not None
    stays = resident(loader, NOISE)
    forget_all(loader, [plain, coded])
    assert (is_resident(plain), coded.body, {variant.body for variant in coded.variants}) == (False, None, {None})
    assert is_resident(stays)
    assert compressing.store.resident == 1
    forget_all(loader, [])

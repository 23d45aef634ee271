"""zcserve.cache.heat: uses that decay, by key, and which files come first by them."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from zcserve.cache.entry import Entry
from zcserve.cache.heat import (
    BAND_MIN,
    FORGOTTEN_BELOW,
    HALF_LIFE_S,
    LOOKED_AT_ONCE,
    PLAIN_KEYS_MAX,
    Heat,
    benefit,
    decay,
    in_bands,
    size_of,
)


def entry_of(key: bytes, uses: int = 0, size: int = 1) -> Entry:
    entry = Entry(key, b"", size, None)
    entry.uses = uses
    return entry


def look(heat: Heat, entries: Iterable[Entry], after_s: float = 0.0) -> int:
    """How often it stopped."""
    return sum(1 for _ in heat.look(entries, heat.at + after_s))


def test_uses_are_counted_once_and_halved_in_a_half_life() -> None:
    heat, entry = Heat(), entry_of(b"/a", uses=8)
    look(heat, [entry])
    assert heat.of(b"/a") == 8
    look(heat, [entry], HALF_LIFE_S)
    assert heat.of(b"/a") == pytest.approx(4)
    entry.uses += 6
    look(heat, [entry], HALF_LIFE_S)
    assert heat.of(b"/a") == pytest.approx(8)
    assert heat.of(b"/b") == 0
    entry.uses += 2
    assert [heat.of(b"/a"), heat.now(entry)] == pytest.approx([8, 10])


def test_a_file_that_changed_is_as_hot_as_before() -> None:
    heat, entry = Heat(), entry_of(b"/a", uses=5)
    look(heat, [entry])
    entry.uses += 1
    for _ in range(2):
        heat.leave(entry)  # it may be said twice
    assert heat.left == [(b"/a", 1)]
    look(heat, [entry_of(b"/a", uses=2)])
    assert heat.of(b"/a") == pytest.approx(8)


def test_what_its_variants_are_used_for_is_the_files() -> None:
    heat, entry = Heat(), entry_of(b"/a", uses=1, size=10)
    entry.variants = (entry.coded(b"gzip", 4), entry.coded(b"br", -1))
    entry.variants[0].uses = 3
    look(heat, [entry])
    look(heat, [entry])
    assert heat.of(b"/a") == pytest.approx(4)
    assert size_of(entry) == 14


def test_what_is_gone_decays_until_it_is_forgotten() -> None:
    heat = Heat()
    look(heat, [entry_of(b"/a", uses=1), entry_of(b"/b", uses=1000)])
    look(heat, [], 5.5 * HALF_LIFE_S)
    assert (heat.of(b"/a"), len(heat)) == (0, 1)
    assert heat.of(b"/b") > FORGOTTEN_BELOW


def test_a_clock_that_is_set_back_makes_nothing_hotter() -> None:
    assert decay(-1000.0) == 1
    assert decay(HALF_LIFE_S) == 0.5


def test_a_look_stops_often_and_a_large_table_has_all_keys() -> None:
    count = PLAIN_KEYS_MAX + 1000
    heat = Heat()
    entries = [entry_of(b"/%d" % number, uses=number % 5) for number in range(count)]
    assert look(heat, entries) >= count // LOOKED_AT_ONCE
    assert look(heat, entries) >= 1.7 * (count // LOOKED_AT_ONCE)  # it decays, too
    found = dict(item for some in heat.items() for item in some)
    assert len(found) == len(heat) == sum(entry.uses > 0 for entry in entries)
    assert found[b"/4"] == heat.of(b"/4") == pytest.approx(4)


def test_an_entry_is_not_larger_for_its_heat() -> None:
    assert Entry.__basicsize__ <= 112  # of obmalloc's classes, with what the collector has in front of it, that of 128


def test_benefit_is_by_byte_and_an_empty_file_takes_its_head() -> None:
    assert benefit(4, 0) > benefit(4, 10_000) > benefit(1, 10_000) > benefit(1, 10_000_000) > 0


def bands(entries: list[Entry], uses: dict[bytes, float], room: int) -> list[list[bytes]]:
    found = in_bands(entries, lambda entry: uses.get(entry.key, 0.0), lambda entry: entry.size, room)
    return [[entry.key for entry in band] for band in found]


def test_the_hottest_that_fit_come_first_and_one_that_does_not_is_passed_over() -> None:
    entries = [entry_of(b"/%d" % size, size=size) for size in (10, 500, 20, 30, 40)]
    uses = {b"/500": 5000.0, b"/20": 40.0, b"/30": 90.0, b"/40": 1.0}
    assert bands(entries, uses, 50) == [[b"/20", b"/30"], [b"/10", b"/500", b"/40"]]
    assert bands(entries, uses, 1000) == [[b"/500", b"/20", b"/30", b"/40"], [b"/10"]]
    assert bands(entries, {}, 50) == [[b"/10", b"/500", b"/20", b"/30", b"/40"]]
    assert bands(entries, uses, 0) == [[b"/10", b"/500", b"/20", b"/30", b"/40"]]


def test_a_band_has_the_order_of_the_walk_and_each_is_twice_as_long() -> None:
    entries = [entry_of(b"/%d" % number) for number in range(4 * BAND_MIN)]
    found = bands(entries, {entry.key: number + 1.0 for number, entry in enumerate(entries)}, len(entries))
    assert [len(band) for band in found] == [BAND_MIN, 2 * BAND_MIN, BAND_MIN, 0]
    assert found[0] == [b"/%d" % number for number in range(3 * BAND_MIN, 4 * BAND_MIN)]
    assert found[1] == [b"/%d" % number for number in range(BAND_MIN, 3 * BAND_MIN)]


def test_a_new_heat_is_of_now() -> None:
    assert abs(Heat().at - time.monotonic()) < 10
    assert not Heat()

"""The order of eviction. The laws are in test_evictor_laws.py."""

from __future__ import annotations

from zcserve.cache.entry import Body, Entry
from zcserve.cache.evictor import LeastRecentlyUsed


def resident(name: bytes, tick: int = 0) -> Entry:
    entry = Entry(name, b"", 0, None)
    entry.body = Body(0)
    entry.tick = tick
    return entry


def ordered(*entries: Entry) -> LeastRecentlyUsed:
    lru = LeastRecentlyUsed()
    for entry in entries:
        lru.add(entry)
    return lru


def test_an_empty_order_gives_nothing() -> None:
    lru = LeastRecentlyUsed()
    assert lru.pop() is None
    assert len(lru) == 0


def test_the_first_in_is_the_first_out_when_nothing_is_used() -> None:
    entries = [resident(b"%d" % i) for i in range(5)]
    lru = ordered(*entries)
    assert [lru.pop() for _ in range(6)] == [*entries, None]


def test_what_was_used_goes_after_what_was_not() -> None:
    a, b, c = (resident(name) for name in (b"a", b"b", b"c"))
    lru = ordered(a, b, c)
    a.tick = 2
    b.tick = 1
    assert [lru.pop(), lru.pop(), lru.pop()] == [c, b, a]


def test_use_between_two_sweeps_counts() -> None:
    a, b, c = (resident(name, tick) for tick, name in enumerate((b"a", b"b", b"c")))
    lru = ordered(a, b, c)
    assert lru.pop() is a
    b.tick = 7
    assert lru.pop() is c
    c.tick = 9
    lru.add(c)
    assert [lru.pop(), lru.pop()] == [b, c]


def test_a_pinned_entry_is_passed_over_and_stays() -> None:
    a, b = resident(b"a"), resident(b"b")
    lru = ordered(a, b)
    assert a.body is not None
    a.body.pins = 1
    assert lru.pop() is b
    assert lru.pop() is None
    assert len(lru) == 1
    a.body.pins = 0
    assert lru.pop() is a


def test_a_discarded_entry_is_out_and_may_be_discarded_again() -> None:
    a, b = resident(b"a"), resident(b"b")
    lru = ordered(a, b)
    lru.discard(a)
    lru.discard(a)
    assert len(lru) == 1
    assert lru.pop() is b
    lru.discard(b)
    assert lru.pop() is None


def test_an_entry_is_found_to_discard_although_it_was_used_since() -> None:
    a, b = resident(b"a"), resident(b"b")
    lru = ordered(a, b)
    c = resident(b"c")
    lru.add(c)
    assert lru.pop() is a  # the others are in the order now
    b.tick = 5
    lru.discard(b)
    assert lru.entries() == [c]


def test_looking_at_the_entries_takes_nothing_out() -> None:
    a, b = resident(b"a", 2), resident(b"b", 1)
    lru = ordered(a, b)
    assert set(lru.entries()) == {a, b}
    assert lru.pop() is b
    assert lru.entries() == [a]
    assert len(lru) == 1

"""zcserve.net.negotiate: which representation, and whether and what of it. Whole requests: wire/test_http_*.py."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from zcserve.cache.entry import Body, Entry, MadeVariant
from zcserve.http import ANY_TAG, EntityTag, parse_accept_encoding
from zcserve.net.negotiate import NOT_MODIFIED, PRECONDITION_FAILED, UNSATISFIABLE, WHOLE, Decision, choose, decide

MTIME = 1_000_000


def entry(size: int, encoding: bytes = b"", *, made: bool = False, resident: bool = True) -> Entry:
    made_entry = (MadeVariant if made else Entry)(b"/a.js", b"", size, MTIME)
    made_entry.encoding = encoding
    made_entry.etag = b'"tag"'
    made_entry.body = Body(size) if resident else None
    return made_entry


def resource(size: int, *variants: Entry) -> Entry:
    base = entry(size)
    base.variants = variants
    return base


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, b""),
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"gzip, br", b"br"),
        (b"gzip, br;q=0.5", b"gzip"),
        (b"*", b"br"),
        (b"identity", b""),
        (b"zstd", b""),
        (b"identity;q=0", None),
        (b"*;q=0", None),
        (b"*;q=0, br", b"br"),
    ],
)
def test_the_most_wanted_is_chosen(accept: bytes | None, coding: bytes | None) -> None:
    base = resource(1000, entry(300, b"gzip"), entry(200, b"br"))
    chosen = choose(base, None if accept is None else parse_accept_encoding(accept))
    assert (chosen and chosen.encoding) == coding


def test_a_made_variant_that_is_not_resident_is_passed_over_unless_nothing_else_will_do() -> None:
    base = resource(1000, entry(100, b"br", made=True, resident=False), entry(300, b"gzip", resident=False))
    chosen = choose(base, {b"br": 1000, b"gzip": 1000})
    assert chosen is not None
    assert chosen.encoding == b"gzip"
    assert choose(base, {b"br": 1000, b"identity": 0}) is base.variants[0]


NONE: dict[str, Any] = dict.fromkeys(
    ("match", "unmodified_since", "none_match", "modified_since", "ranges", "if_range")
)
TAG, WEAK, OTHER = EntityTag(b'"tag"', weak=False), EntityTag(b'"tag"', weak=True), EntityTag(b'"x"', weak=False)
SOME = Decision(206, ((0, 2),))


@pytest.mark.parametrize(
    ("conditions", "decision"),
    [
        ({}, WHOLE),
        ({"match": (OTHER, TAG)}, WHOLE),
        ({"match": ANY_TAG}, WHOLE),
        ({"match": (WEAK,)}, PRECONDITION_FAILED),
        ({"match": ()}, PRECONDITION_FAILED),
        ({"match": (TAG,), "unmodified_since": MTIME - 1}, WHOLE),
        ({"unmodified_since": MTIME}, WHOLE),
        ({"unmodified_since": MTIME - 1}, PRECONDITION_FAILED),
        ({"none_match": (OTHER, WEAK)}, NOT_MODIFIED),
        ({"none_match": ANY_TAG}, NOT_MODIFIED),
        ({"none_match": (OTHER,), "modified_since": MTIME}, WHOLE),
        ({"none_match": (), "modified_since": MTIME}, WHOLE),
        ({"modified_since": MTIME}, NOT_MODIFIED),
        ({"modified_since": MTIME - 1}, WHOLE),
        ({"match": (OTHER,), "none_match": (TAG,)}, PRECONDITION_FAILED),
        ({"match": (TAG,), "none_match": (TAG,)}, NOT_MODIFIED),
        ({"ranges": ((0, 1),)}, SOME),
        ({"ranges": ((0, 1), (5, None))}, Decision(206, ((0, 2), (5, 10)))),
        ({"ranges": ((10, None),)}, UNSATISFIABLE),
        ({"ranges": ((0, 0),) * 5}, WHOLE),
        ({"ranges": ((0, 1),), "none_match": (TAG,)}, NOT_MODIFIED),
        ({"ranges": ((0, 1),), "if_range": TAG}, SOME),
        ({"ranges": ((0, 1),), "if_range": WEAK}, WHOLE),
        ({"ranges": ((0, 1),), "if_range": MTIME}, SOME),
        ({"ranges": ((0, 1),), "if_range": MTIME + 1}, WHOLE),
        ({"ranges": ((10, None),), "if_range": OTHER}, WHOLE),
    ],
)
def test_conditions_decide_in_the_order_of_the_rfc(conditions: dict[str, Any], decision: Decision) -> None:
    fields: Any = SimpleNamespace(**NONE | conditions)
    assert decide(fields, entry(10), is_get=True, ranges_max=4) == decision
    as_head = WHOLE if decision.status in (206, 416) else decision
    assert decide(fields, entry(10), is_get=False, ranges_max=4) == as_head


def test_a_date_of_this_second_is_no_strong_validator() -> None:
    fresh = entry(10)
    fresh.modified = int(time.time())
    fields: Any = SimpleNamespace(**NONE | {"ranges": ((0, 1),), "if_range": fresh.modified})
    assert decide(fields, fresh, is_get=True, ranges_max=4) == WHOLE


@pytest.mark.parametrize("condition", ["unmodified_since", "modified_since"])
def test_a_file_without_a_time_meets_no_date(condition: str) -> None:
    timeless = entry(10)
    timeless.modified = None
    fields: Any = SimpleNamespace(**NONE | {condition: 5})
    assert decide(fields, timeless, is_get=True, ranges_max=4) == WHOLE

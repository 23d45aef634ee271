"""Which representation, and whether and what of it: decisions, no bytes.

`choose` is proactive negotiation by content coding (RFC 9110 section 12.5.3); `decide` the conditions and ranges, in
the order of section 13.2.2.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from zcserve.cache.entry import Entry, each_coding
from zcserve.http import AnyTag, EntityTag, coding_quality, resolve_ranges, strong_match, weak_match
from zcserve.net.fields import Fields


def choose(entry: Entry, accept: dict[bytes, int] | None) -> Entry | None:
    """The representation of `entry` that the client wants most, the smallest among equals; None: none is acceptable.

    Without Accept-Encoding any coding would do (RFC 9110 section 12.5.3), but only identity is sure to be understood.
    A variant made here that is not resident is passed over, unless nothing else will do: it is not made while a client
    waits.
    """
    if accept is None:
        return entry
    best: Entry | None = None
    best_quality = 0
    passed: Entry | None = None
    for candidate in each_coding(entry):
        quality = coding_quality(accept, candidate.encoding or b"identity")
        if not quality:
            continue
        if candidate.made and candidate.body is None:
            passed = candidate
        elif quality > best_quality or (quality == best_quality and best is not None and candidate.size < best.size):
            best, best_quality = candidate, quality
    return best or passed


class Decision(NamedTuple):
    """What to answer: 200, 206 with `ranges` (half-open, in bytes), 304, 412, or 416."""

    status: int
    ranges: tuple[tuple[int, int], ...] = ()


WHOLE = Decision(200)
NOT_MODIFIED = Decision(304)
PRECONDITION_FAILED = Decision(412)
UNSATISFIABLE = Decision(416)


def decide(fields: Fields, entry: Entry, *, is_get: bool, ranges_max: int) -> Decision:
    """Evaluate the conditions of a GET or HEAD against the chosen representation, whose ETag is known."""
    etag, modified = entry.etag, entry.modified
    if fields.match is not None:
        if not _any_matches(fields.match, etag, strong=True):
            return PRECONDITION_FAILED
    elif fields.unmodified_since is not None and modified is not None and modified > fields.unmodified_since:
        return PRECONDITION_FAILED
    if fields.none_match is not None:
        if _any_matches(fields.none_match, etag, strong=False):
            return NOT_MODIFIED
    elif fields.modified_since is not None and modified is not None and modified <= fields.modified_since:
        return NOT_MODIFIED
    if is_get and fields.ranges is not None and _range_holds(fields.if_range, etag, modified):
        found = resolve_ranges(fields.ranges, entry.size, ranges_max)
        if found is not None:
            return Decision(206, tuple(found)) if found else UNSATISFIABLE
    return WHOLE


def _any_matches(tags: tuple[EntityTag, ...] | AnyTag, etag: bytes, *, strong: bool) -> bool:
    """RFC 9110 sections 13.1.1 and 13.1.2; `*` matches, since the representation exists."""
    if isinstance(tags, AnyTag):
        return True
    match = strong_match if strong else weak_match
    tag = EntityTag(etag, weak=False)
    return any(match(candidate, tag) for candidate in tags)


def _range_holds(if_range: EntityTag | int | None, etag: bytes, modified: int | None) -> bool:
    """RFC 9110 section 13.1.5: a date must be exactly Last-Modified, and old enough to be a strong validator
    (section 8.8.2.2), which it is when the file could not have changed again within its second."""
    if if_range is None:
        return True
    if isinstance(if_range, EntityTag):
        return strong_match(if_range, EntityTag(etag, weak=False))
    return modified == if_range and modified < int(time.time()) - 1

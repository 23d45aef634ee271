"""Laws of content negotiation, for every Accept-Encoding and every set of variants."""

from __future__ import annotations

import pytest

from zcserve.cache.entry import Body, Entry, MadeVariant
from zcserve.http import coding_quality, parse_accept_encoding
from zcserve.net.negotiate import choose

pytest.importorskip("hypothesis")
from hypothesis import assume, given
from hypothesis import strategies as st

CODINGS = [b"gzip", b"br", b"zstd"]
WEIGHTS = st.sampled_from([b"", b";q=0", b";q=0.001", b";q=0.5", b";q=1", b"; q=1.000", b";q=2", b";x"])
NAMES = st.sampled_from([*CODINGS, b"identity", b"*", b"deflate", b"x-gzip", b"GZIP", b""])
ACCEPTS = st.lists(st.builds(lambda name, weight: name + weight, NAMES, WEIGHTS), max_size=6).map(b", ".join)


@st.composite
def resources(draw: st.DrawFn) -> Entry:
    base = Entry(b"/a", b"", draw(st.integers(0, 5)), None)
    variants = []
    for coding in draw(st.lists(st.sampled_from(CODINGS), unique=True)):
        size, is_made = draw(st.integers(0, 5)), draw(st.booleans())
        variant = (MadeVariant if is_made else Entry)(b"/a", b"", size, None)
        variant.encoding = coding
        variant.body = Body(variant.size) if draw(st.booleans()) else None
        variants.append(variant)
    base.variants = tuple(variants)
    return base


def quality(accept: bytes, candidate: Entry) -> int:
    return coding_quality(parse_accept_encoding(accept), candidate.encoding or b"identity")


def on_offer(base: Entry, accept: bytes) -> list[Entry]:
    """What may be sent: at hand and acceptable, or else what would have to be made."""
    acceptable = [one for one in (base, *base.variants) if quality(accept, one) > 0]
    return [one for one in acceptable if not one.made or one.body is not None] or acceptable


@given(resources(), ACCEPTS)
def test_nothing_is_sent_that_was_refused(base: Entry, accept: bytes) -> None:
    chosen = choose(base, parse_accept_encoding(accept))
    assert chosen is None or quality(accept, chosen) > 0


@given(resources(), ACCEPTS)
def test_there_is_always_something_but_where_all_is_refused(base: Entry, accept: bytes) -> None:
    assert (choose(base, parse_accept_encoding(accept)) is None) == (not on_offer(base, accept))


@given(resources(), ACCEPTS)
def test_nothing_at_hand_is_wanted_more_nor_as_much_and_smaller(base: Entry, accept: bytes) -> None:
    chosen = choose(base, parse_accept_encoding(accept))
    assume(chosen is not None)
    assert chosen is not None
    offered = on_offer(base, accept)
    assert chosen in offered
    if not chosen.made or chosen.body is not None:
        rank = (quality(accept, chosen), -chosen.size)
        assert all((quality(accept, other), -other.size) <= rank for other in offered)


@given(resources(), ACCEPTS)
def test_identity_is_refused_only_by_name_or_by_star(base: Entry, accept: bytes) -> None:
    if choose(base, parse_accept_encoding(accept)) is None:
        assert b"identity;q=0" in accept or b"*;q=0" in accept


@given(resources())
def test_without_accept_encoding_identity_is_sent(base: Entry) -> None:
    assert choose(base, None) is base

"""Laws of the words of HTTP: what holds for every input."""

from __future__ import annotations

import email.utils
import posixpath
import time
from itertools import pairwise
from urllib.parse import unquote_to_bytes

import pytest

from zcserve import http
from zcserve.errors import HttpError

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

# Paths as an attacker spells them: pieces that matter, strung together.
SPELLINGS = """/ // . .. ... a b.html é %2e %2E %2f %5c \\ %25 %252e %61 %c3%a9 %c3 %00 %3f %23 %0a % %2
    ? # | [ ~ + ; & : @ ' \x7f"""
PIECES = st.sampled_from(SPELLINGS.split()).map(str.encode)
RAW_PATHS = st.lists(PIECES | st.binary(max_size=3), max_size=12).map(lambda pieces: b"/" + b"".join(pieces))
DECODED_PATHS = st.lists(
    st.sampled_from(["", ".", "..", "...", "a", "%2e", "?", "#", " ", "\\"])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
).map(lambda segments: ("/" + "/".join(segments)).encode())


def key_or_none(path: bytes) -> bytes | None:
    try:
        return http.canonical_path(path)
    except HttpError:
        return None


@given(RAW_PATHS | DECODED_PATHS.map(http.encode_path))
def test_a_key_is_its_own_key_and_leads_nowhere_else(path: bytes) -> None:
    key = key_or_none(path)
    if key is None:
        return
    assert http.canonical_path(key) == key
    assert key.startswith(b"/")
    assert not key.translate(None, http.TOKEN_BYTES + b"/()*,;=:@")  # ASCII, printable, no `?`
    decoded = unquote_to_bytes(key)
    assert http.encode_path(decoded) == key
    assert b"\0" not in decoded
    assert b"//" not in decoded
    assert not {b".", b".."} & set(decoded.split(b"/"))


@given(DECODED_PATHS)
def test_an_encoded_path_has_the_key_that_posixpath_makes_of_it(decoded: bytes) -> None:
    segments = decoded.split(b"/")
    clean = posixpath.normpath(b"/" + decoded.lstrip(b"/"))
    if segments[-1] in (b"", b".", b"..") and clean != b"/":
        clean += b"/"
    key = http.canonical_path(http.encode_path(decoded))
    assert unquote_to_bytes(key) == clean
    assert key == http.encode_path(clean)


@given(st.binary())
def test_encoding_loses_nothing(decoded: bytes) -> None:
    encoded = http.encode_path(decoded)
    assert unquote_to_bytes(encoded) == decoded
    assert encoded == b"".join(http.encode_path(bytes((byte,))) for byte in decoded)


@given(st.integers(-62135596800, 253402300799))
def test_a_date_survives_writing_and_reading(seconds: int) -> None:
    text = http.format_date(seconds)
    assert len(text) == 29
    assert http.parse_date(text) == seconds


@given(st.integers(0, 253402300799))
def test_a_date_is_written_as_the_standard_library_does(seconds: int) -> None:
    assert http.format_date(seconds).decode() == email.utils.formatdate(seconds, usegmt=True)


@given(st.integers(0, 99), st.integers(0, 253402300799 - 60 * 366 * 86400))
def test_a_two_digit_year_is_the_latest_within_fifty_years(digits: int, now: int) -> None:
    text = b"Monday, 01-Jan-%02d 00:00:00 GMT" % digits
    seconds = http.parse_date(text, now)
    assert seconds is not None
    year, this_year = time.gmtime(seconds).tm_year, time.gmtime(now).tm_year
    assert year % 100 == digits
    assert -50 < year - this_year <= 50


TAGS = st.builds(
    http.EntityTag,
    st.binary(max_size=6).map(lambda opaque: b'"%s"' % opaque.translate(None, bytes(range(0x21)) + b'"\x7f')),
    st.booleans(),
)


@given(st.lists(TAGS), st.sampled_from([b",", b", ", b" ,, ", b"\t,"]))
def test_tags_survive_writing_and_reading(tags: list[http.EntityTag], comma: bytes) -> None:
    value = comma.join((b"W/" if tag.weak else b"") + tag.opaque for tag in tags)
    assert http.parse_entity_tags(value) == tuple(tags)


@given(TAGS, TAGS)
def test_a_strong_match_is_a_weak_match_and_both_are_symmetric(a: http.EntityTag, b: http.EntityTag) -> None:
    assert http.strong_match(a, b) <= http.weak_match(a, b)
    assert http.strong_match(a, b) == http.strong_match(b, a)
    assert http.weak_match(a, b) == http.weak_match(b, a)
    assert http.weak_match(a, a)


POSITIONS = st.integers(0, 30) | st.integers(0, 10**30)
SPECS = st.lists(
    st.one_of(
        st.tuples(POSITIONS, POSITIONS).map(sorted).map(tuple),
        st.tuples(POSITIONS, st.none()),
        st.tuples(st.none(), POSITIONS),
    ),
    min_size=1,
    max_size=8,
)


def written(specs: list[tuple[int | None, int | None]]) -> bytes:
    return b"bytes=" + b",".join(
        b"-".join(b"" if number is None else b"%d" % number for number in spec) for spec in specs
    )


def asked_bytes(spec: tuple[int | None, int | None], size: int) -> set[int]:
    """The positions that a spec asks for, by the definition of RFC 9110 section 14.1.2, the slow way."""
    first, last = spec
    if first is None:
        return {position for position in range(size) if position >= size - (last or 0)}
    return {position for position in range(size) if first <= position and (last is None or position <= last)}


@given(SPECS, st.integers(0, 40), st.integers(1, 8))
def test_resolved_ranges_hold_exactly_what_was_asked_for(
    specs: list[tuple[int | None, int | None]], size: int, count_max: int
) -> None:
    parsed = http.parse_ranges(written(specs))
    assert parsed is not None
    assert len(parsed) == len(specs)
    parts = http.resolve_ranges(parsed, size, count_max)
    asked = [asked_bytes(spec, size) for spec in specs]
    if len(specs) > count_max or (not size and any(first is None and last for first, last in specs)):
        assert parts is None
        return
    if parts is None:
        assert sum(map(len, asked)) > len(set().union(*asked)) + 2  # three overlaps are three bytes twice
        return
    assert all(0 <= start < stop <= size for start, stop in parts)
    in_order = sorted(parts)
    assert all(before[1] < after[0] for before, after in pairwise(in_order))
    assert {position for start, stop in parts for position in range(start, stop)} == set().union(*asked)
    firsts = [
        next(place for place, wanted in enumerate(asked) if wanted & set(range(start, stop))) for start, stop in parts
    ]
    assert firsts == sorted(firsts)


@given(st.binary())
def test_nothing_that_a_client_sends_makes_a_reader_raise(value: bytes) -> None:
    http.parse_date(value)
    http.parse_entity_tags(value)
    http.parse_ranges(b"bytes=" + value)
    http.is_host(value)
    http.is_host(b"[" + value + b"]")
    accepted = http.parse_accept_encoding(value)
    assert all(0 <= quality <= 1000 and coding == coding.lower() for coding, quality in accepted.items())
    key_or_none(b"/" + value)


CODINGS = st.sampled_from([b"br", b"gzip", b"zstd", b"identity", b"*", b"deflate"])
WEIGHTED = st.dictionaries(CODINGS, st.integers(0, 1000))


@given(WEIGHTED, st.sampled_from([b";q=", b" ; q=", b"\t;\tQ="]), st.sampled_from([b"", b"a b", b"a;q"]))
def test_weights_survive_writing_and_reading(weights: dict[bytes, int], q: bytes, noise: bytes) -> None:
    elements = [coding + q + b"%d.%03d" % divmod(weight, 1000) for coding, weight in weights.items()]
    assert http.parse_accept_encoding(b", ".join([noise, *elements, noise])) == weights


@given(WEIGHTED)
def test_a_named_coding_has_its_weight_and_star_stands_for_the_rest(weights: dict[bytes, int]) -> None:
    for coding in (b"br", b"gzip", b"zstd", b"identity"):
        quality = http.coding_quality(weights, coding)
        if coding in weights:
            assert quality == weights[coding]
        elif b"*" in weights:
            assert quality == weights[b"*"]
        else:
            assert (quality > 0) == (coding == b"identity")


PARTS = st.sampled_from(
    ["%", "%6", "%61", "%26", "%3D", "%3d", "%25", "%ff", "+", "&", "=", "\\", "\\x41", "\\u0100", "a", "\0"]
)
RAW = st.lists(PARTS.map(str.encode) | st.binary(max_size=3), max_size=12).map(b"".join)


@given(RAW)
def test_what_is_decoded_in_one_pass_is_what_the_library_decodes(raw: bytes) -> None:
    assert http.percent_decoded(raw) == unquote_to_bytes(raw)


@given(RAW)
def test_parameters_are_what_the_library_makes_of_each_part(query: bytes) -> None:
    pairs = [pair.partition(b"=")[::2] for pair in query.replace(b"+", b" ").split(b"&") if pair]
    plain = [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, value in pairs]
    told = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in http.parameter_pairs(query)]
    assert told == plain


@given(st.binary(max_size=20), st.sampled_from([b"", b"%", http.TOKEN_BYTES]))
def test_what_is_encoded_is_encoded_byte_by_byte(raw: bytes, allowed: bytes) -> None:
    plain = b"".join(b"%c" % byte if byte in allowed else b"%%%02X" % byte for byte in raw)
    assert http.percent_encoded(raw, allowed) == plain

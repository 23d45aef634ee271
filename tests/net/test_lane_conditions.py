"""Conditions and ranges in the lane: exactly what the general lane decides, or unsure.

The vectors and the law ask both: `Lane.decide` for one head, and `negotiate.decide` for the same fields.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.driver import LEAD, PLAIN, Driver, Held, packed, put
from tests.support.grammar import TELLING_BYTES
from zcserve import Config
from zcserve.cache.entry import Entry
from zcserve.http import parse_date
from zcserve.net import negotiate
from zcserve.net.fields import Line, combine

Lane: Any = pytest.importorskip("zcserve.net._lane").Lane

TAG = b'"0123456789abcdef"'
SIZE = 1000
MODIFIED = 784111777
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE, BEHIND = DATE.replace(b":37", b":36"), DATE.replace(b":37", b":38")
RANGES_MAX = 16
NOW = int(time.time())  # the twin looks at the clock, for years of two digits

NONE_MATCH, SINCE, RANGE = b"If-None-Match", b"If-Modified-Since", b"Range"
IF_RANGE, MATCH, UNMODIFIED = b"If-Range", b"If-Match", b"If-Unmodified-Since"
NAMES = (NONE_MATCH, SINCE, RANGE, IF_RANGE, MATCH, UNMODIFIED)
WHOLE, NOT_MODIFIED, FAILED, UNSATISFIABLE = (200, 0, 0), (304, 0, 0), (412, 0, 0), (416, 0, 0)

Fields = dict[bytes, bytes]

VECTORS: tuple[tuple[Fields, tuple[int, int, int] | None], ...] = (
    *(({NONE_MATCH: value}, NOT_MODIFIED) for value in (
        TAG, b"W/" + TAG, b"*", b'"a", ' + TAG, TAG + b",", b",," + TAG, b'"a,b",\t' + TAG + b" , W/\"c\"",
        b'"\x80",' + TAG,
        b"," * 99 + TAG,
    )),
    *(({NONE_MATCH: value}, WHOLE) for value in (
        b"", b'"a"', TAG[1:-1], TAG[:-1], b"w/" + TAG, b"W/", b"W", b'W/"', b"W /" + TAG, TAG + TAG, TAG + b" x",
        b"*, " + TAG, b"**",
        b'"a b",' + TAG, TAG + b',"', b"," * 100 + TAG, b'""', b"\x80",
    )),
    *(({SINCE: value}, NOT_MODIFIED) for value in (
        DATE, BEHIND, b"Mon" + DATE[3:], b"Sun, 06 Nov 9999 23:59:60 GMT", b"Thu, 29 Feb 1996 00:00:00 GMT",
        b"Tue, 29 Feb 2000 00:00:00 GMT",
    )),
    *(({SINCE: value}, WHOLE) for value in (
        BEFORE, b"", b"Sun", b"Sun, 06 Nov 2094 24:00:00 GMT", b"Sun, 31 Nov 2094 08:49:37 GMT",
        b"Sun, 00 Nov 2094 08:49:37 GMT",
        b"Sun, 29 Feb 2100 00:00:00 GMT", b"Sun, 06 nov 2094 08:49:37 GMT", b"sun, 06 Nov 2094 08:49:37 GMT",
        b"Sun, 06 Nov 2094 08:60:37 GMT", b"Sun, 06 Nov 2094 08:49:61 GMT", b"Sun, 06 Nov 2094 08:49:37 UTC",
        DATE + b"x",
        b"Sun, 6 Nov 2094 08:49:37 GMT", b"Sun, 01 Jan 0000 00:00:00 GMT", b"Sun, 06 Nov 0001 08:49:37 GMT", b"Sun,x",
        b"yesterday",
    )),
    *(({SINCE: value}, NOT_MODIFIED) for value in (
        b"Sunday, 06-Nov-94 08:49:37 GMT", b"Wednesday, 06-Nov-94 08:49:37 GMT", b"Thursday, 29-Feb-96 00:00:00 GMT",
        b"Saturday, 07-Nov-94 23:59:60 GMT", b"Friday, 01-Jan-25 00:00:00 GMT",
    )),
    *(({SINCE: value}, WHOLE) for value in (
        b"Sunday, 06-Nov-94 08:49:36 GMT", b"Monday, 31-Dec-93 23:59:59 GMT", b"Tuesday, 01-Jan-90 00:00:00 GMT",
        b"Yesterday", b"Sunday", b"Sunday, 06-Nov-1994 08:49:37 GMT", b"Sunday, 6-Nov-14 08:49:37 GMT",
        b"Sunday, 06 Nov 14 08:49:37 GMT", b"Sunnyday, 06-Nov-14 08:49:37 GMT", b"Wed, 06-Nov-14 08:49:37 GMT",
        b"sunday, 06-Nov-14 08:49:37 GMT", b"Sunday, 31-Nov-14 08:49:37 GMT", b"Sunday, 06-Nov-xx 08:49:37 GMT",
        b"Sunday, 06-Nov-14 24:49:37 GMT", b"Sunday, 06-Nov-14 08:49:37 UTC", b"Sunday, 06-nov-14 08:49:37 GMT",
        b"Sunday, 06-Nov-14 08:49:37 GMTx", b"Sunday,06-Nov-14 08:49:37 GMT ", b"Wednesday, 06-Nov-14 08:49:37",
    )),
    *(({SINCE: value}, NOT_MODIFIED) for value in (b"Sun Nov  6 08:49:37 1994", b"Mon Nov 16 08:49:37 1994")),
    *(({SINCE: value}, WHOLE) for value in (
        b"Sun Nov  6 08:49:36 1994", b"Sun Nov 31 08:49:37 2094", b"Sun Nov 6 08:49:37 2094",
        b"Sun Nov  0 08:49:37 2094",
        b"Sun Nov  6 08:49:37 0000", b"Sun Nov  x 08:49:37 2094", b"Sun Nov  6 08:49:37 94",
        b"Sun Nov 06 08-49:37 1994",
    )),
    ({NONE_MATCH: b'"a"', SINCE: DATE}, WHOLE),
    ({NONE_MATCH: TAG, SINCE: BEFORE}, NOT_MODIFIED),
    *(({RANGE: value}, (206, start, stop)) for value, start, stop in (
        (b"bytes=0-9", 0, 10), (b"BYTES=0-0", 0, 1), (b"bytes=5-", 5, 1000), (b"bytes=-5", 995, 1000),
        (b"bytes=-5000", 0, 1000),
        (b"bytes=999-", 999, 1000), (b"bytes=990-99999999999999999999999", 990, 1000), (b"bytes= \t007-008 ", 7, 9),
        (b"bytes=-99999999999999999999", 0, 1000), (b"bytes=0-18446744073709551615", 0, 1000),
        (b"bytes=000000000000000000000001-1", 1, 2),
    )),
    *(({RANGE: value}, UNSATISFIABLE) for value in (
        b"bytes=1000-", b"bytes=1000-1001", b"bytes=-0", b"bytes=99999999999999999999-99999999999999999998",
    )),
    *(({RANGE: value}, WHOLE) for value in (
        b"", b"bytes", b"bytes=", b"bytes=-", b"bytes=9-1", b"bytes=a-", b"bytes=0-9x", b"bytes =0-9", b"bytes=0-9 1",
        b"lines=0-9", b"byte=0-9", b"bytes:0-9", b"bytes=0 -9", b"bytes=--5", b"bytes=+0-9", b"bytes=0", b"bytes==0-9",
    )),
    *(({RANGE: value}, None) for value in (b"bytes=0-1,3-4", b"bytes=0-1,", b",bytes=0-1")),
    *(({RANGE: b"bytes=0-9", IF_RANGE: value}, (206, 0, 10)) for value in (TAG, DATE, b"," + TAG + b" ,")),
    *(({RANGE: b"bytes=0-9", IF_RANGE: value}, WHOLE) for value in (
        b'"a"', b"W/" + TAG, BEFORE, BEHIND, b"Sun, x", TAG + TAG, b"", TAG + b"," + TAG, b"*",
    )),
    ({RANGE: b"bytes=0-9", IF_RANGE: b"Sunday, 06-Nov-94 08:49:37 GMT"}, (206, 0, 10)),
    ({RANGE: b"bytes=0-9", IF_RANGE: b"Yesterday"}, WHOLE),
    ({IF_RANGE: TAG}, WHOLE),
    ({RANGE: b"bytes=0-9", NONE_MATCH: TAG}, NOT_MODIFIED),
    ({RANGE: b"bytes=0-9", MATCH: b'"a"'}, FAILED),
    *(({MATCH: value}, WHOLE) for value in (TAG, b"*", b'W/"a", ' + TAG)),
    *(({MATCH: value}, FAILED) for value in (b'"a"', b"W/" + TAG, b"", TAG + b'"')),
    ({MATCH: TAG, UNMODIFIED: BEFORE}, WHOLE),
    ({MATCH: TAG, NONE_MATCH: TAG}, NOT_MODIFIED),
    *(({UNMODIFIED: value}, WHOLE) for value in (DATE, BEHIND, b"Sun, x")),
    ({UNMODIFIED: BEFORE}, FAILED),
    ({UNMODIFIED: b"Sun Nov  6 08:49:36 1994"}, FAILED),
    ({UNMODIFIED: b"Sunday, 06-Nov-94 08:49:36 GMT"}, FAILED),
)  # fmt: skip


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = Lane(Config(root=tmp_path_factory.mktemp("root"), ranges_max=RANGES_MAX), False)
    yield made
    made.close()


def by_lane(lane: Any, fields: Fields, modified: int | None, size: int, now: int, method: bytes = b"GET") -> Any:
    lines = b"".join(b"%b: %b\r\n" % field for field in fields.items())
    return lane.decide(b"%b / HTTP/1.1\r\nHost: test\r\n%b\r\n" % (method, lines), TAG, modified, size, now)


def by_twin(fields: Fields, modified: int | None, size: int, method: bytes = b"GET") -> tuple[int, int, int] | str:
    """What the general lane decides; "several" for several ranges."""
    lines = (
        Line(b"host", b"test", True),
        *(Line(name.lower(), value.strip(b" \t"), True) for name, value in fields.items()),
    )
    entry = Entry(b"/", b"", size, modified)
    entry.etag = TAG
    decision = negotiate.decide(combine(lines, True), entry, is_get=method == b"GET", ranges_max=RANGES_MAX)
    if len(decision.ranges) > 1:
        return "several"
    return (decision.status, *(decision.ranges[0] if decision.ranges else (0, 0)))


def name_of(one: object) -> str:
    return repr(one) if isinstance(one, dict) else ""


@pytest.mark.parametrize(("fields", "expected"), VECTORS, ids=name_of)
def test_the_lane_and_its_twin_decide_as_expected(lane: Any, fields: Fields, expected: Any) -> None:
    assert by_lane(lane, fields, MODIFIED, SIZE, NOW) == expected
    if expected is not None:
        assert by_twin(fields, MODIFIED, SIZE) == expected


def test_head_has_conditions_and_no_ranges(lane: Any) -> None:
    assert by_lane(lane, {RANGE: b"bytes=0-9"}, MODIFIED, SIZE, NOW, b"HEAD") == WHOLE
    assert by_lane(lane, {SINCE: DATE}, MODIFIED, SIZE, NOW, b"HEAD") == NOT_MODIFIED


def test_a_date_of_the_last_seconds_in_if_range_is_for_the_general_lane(lane: Any) -> None:
    fields = {RANGE: b"bytes=0-9", IF_RANGE: DATE}
    assert by_lane(lane, fields, MODIFIED, SIZE, MODIFIED + 1) is None
    assert by_lane(lane, fields, MODIFIED, SIZE, MODIFIED + 2) == (206, 0, 10)


def test_a_year_of_two_digits_is_the_latest_that_is_no_more_than_50_years_away(lane: Any) -> None:
    """And what the twin's clock could read otherwise by the time that it is asked is for the general lane."""
    for now in (NOW, 1_000_000_000, 951_782_400, 2_524_607_999, 4_102_444_800):  # 29 February; 31 December 2049; 2100
        for year in range(100):
            for second in (-3600, -5, -1, 0, 1, 5, 3600):
                at = time.gmtime(now + second)
                date = b"Sunday, %02d-%b-%02d %b GMT" % (
                    at.tm_mday, time.strftime("%b", at).encode(), year, time.strftime("%H:%M:%S", at).encode(),
                )  # fmt: skip
                meant = parse_date(date, now)
                decided = by_lane(lane, {SINCE: date}, meant, SIZE, now)
                assert decided == (WHOLE if meant is None else NOT_MODIFIED) or (decided is None and abs(second) < 5)
                assert meant is None or by_lane(lane, {SINCE: date}, meant + 1, SIZE, now) in (WHOLE, decided)


def test_the_empty_file_has_no_ranges(lane: Any) -> None:
    for value in (b"bytes=0-", b"bytes=-0", b"bytes=-1", b"bytes=0-0"):
        assert by_lane(lane, {RANGE: value}, MODIFIED, 0, NOW) == by_twin({RANGE: value}, MODIFIED, 0)


def test_what_the_lane_decides_is_what_its_twin_decides(lane: Any) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    seeds = sorted({value for fields, _ in VECTORS for value in fields.values()})
    tag = st.sampled_from([TAG, b"W/" + TAG, b'"a"', b'"a,b"', b"", b"*", b'"', b"W/"])
    number = st.one_of(
        st.just(b""),
        st.integers(0, SIZE + 2).map(b"%d".__mod__),
        st.sampled_from([b"0" * 30, b"9" * 19, b"1" + b"0" * 19]),
    )
    moments = st.tuples(
        st.sampled_from([b"Sun", b"Mon", b"sun"]),
        st.integers(0, 32),
        st.sampled_from([b"Jan", b"Feb", b"Nov", b"Dec", b"xxx"]),
        st.one_of(st.integers(0, 9999), st.integers(1990, 2001)),
        *(st.integers(0, most) for most in (24, 60, 61)),
    )
    fixdate = st.builds(b"%b, %02d %b %04d %02d:%02d:%02d GMT".__mod__, moments)
    forms = st.sampled_from([b"%b %b %2d %02d:%02d:%02d %04d", b"%b %b %02d %02d:%02d:%02d %04d"])
    asctime = st.builds(lambda form, at: form % (at[0], at[2], at[1], *at[4:], at[3]), forms, moments)
    day = st.sampled_from([b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday", b"Sun"])
    rfc850 = st.builds(
        lambda day, at: b"%b, %02d-%b-%02d %02d:%02d:%02d GMT" % (day, *at[1:3], at[3] % 100, *at[4:]), day, moments
    )
    value = st.one_of(
        st.sampled_from(seeds),
        st.builds(
            lambda tags, comma: comma.join(tags), st.lists(tag, max_size=4), st.sampled_from([b",", b", ", b" "])
        ),
        st.builds(b"bytes=%b-%b".__mod__, st.tuples(number, number)),
        fixdate,
        asctime,
        rfc850,
    )
    spoilt = st.builds(
        lambda value, at, byte: value[: at % (len(value) + 1)] + byte + value[at % (len(value) + 1) + 1 :],
        value,
        st.integers(0, 40),
        st.sampled_from([bytes((byte,)) for byte in TELLING_BYTES if (byte >= 0x20 and byte != 0x7F) or byte == 9]),
    )
    fields = st.dictionaries(st.sampled_from(NAMES), st.one_of(value, spoilt), max_size=4)
    moment = st.sampled_from([None, MODIFIED, MODIFIED - 1, 0, -1, 1 << 40])

    @hypothesis.settings(database=None, deadline=None)
    @hypothesis.given(fields, moment, st.sampled_from([0, 1, SIZE]), st.sampled_from([b"GET", b"HEAD"]))
    def law(fields: Fields, modified: int | None, size: int, method: bytes) -> None:
        decided = by_lane(lane, fields, modified, size, NOW, method)
        assert decided is None or decided == by_twin(fields, modified, size, method)

    law()


@pytest.mark.parametrize("told", [DATE, BEFORE, b"Sun, 06 Nov 1994 08:49:37 GM", b"never"])
def test_the_date_in_a_head_counts_for_a_representation_that_has_it(tmp_path: Path, told: bytes) -> None:
    """Whatever stands there: what the representation has been modified at decides."""
    entry: Any = packed(b"x")
    entry.modified = MODIFIED
    head = LEAD % 1 + b'Last-Modified: %b\r\nETag: "tag"\r\n\r\n' % told
    entry.body = Held(head, b"x")
    with closing(Driver(tmp_path)) as driver, Client(driver.where) as client:
        put(driver.lane, b"/a", entry)
        for value, status in ((DATE, 304), (BEFORE, 200), (BEHIND, 304), (told, 200 if told != DATE else 304)):
            request = PLAIN.replace(b"\r\n\r\n", b"\r\nIf-Modified-Since: %b\r\n\r\n" % value)
            assert driver.ask(client, request)[0].status == status, value

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Conditions and ranges: the fields that make an answer depend on more than its target, and what they decide.

The twin of net/negotiate.py's `decide`, with what net/fields.py and http.py read in the values (RFC 9110 sections 8.8.3, 13.1, 13.2.2,
5.6.7): exactly their decision, or UNSURE. Unsure are several ranges, an If-Range with a date of the last seconds, and a date whose year
has two digits and is 50 years away to the second. A field that comes twice is the general lane's before this is asked
(`note_condition`). Every read is bounded by the end of the value.

Odd: dates are compared as numbers. To read one takes less than to find the Last-Modified in a head.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp, strlen

from zcserve.net.lane.grammar cimport ELEMENTS_MAX, UNSURE
from zcserve.net.lane.ranges cimport Part, resolve_range
from zcserve.net.lane.records cimport NO_DATE, Rep
from zcserve.net.lane.system cimport gmtime_r, time_t, tm
from zcserve.net.lane.text cimport Text, skip_blanks

cdef enum:                       # which field; `Conditions.present` has a bit for each
    NONE_MATCH = 0
    MODIFIED_SINCE = 1
    RANGE = 2
    IF_RANGE = 3
    MATCH = 4
    UNMODIFIED_SINCE = 5
    CONDITIONS = 6

cdef enum:
    FIXDATE_LEN = 29             # Sun, 06 Nov 1994 08:49:37 GMT
    ASCTIME_LEN = 24             # Sun Nov  6 08:49:37 1994
    BEHIND_DAY_LEN = 24          # Sunday, 06-Nov-94 08:49:37 GMT

cdef struct Conditions:          # values are set where `present` says so
    unsigned int present
    Text values[CONDITIONS]

cdef struct Tags:                # what a list of entity tags says of one tag
    bint well_formed
    int count                    # of tags
    bint any                     # it is `*`
    bint matches                 # by weak comparison
    bint matches_strongly

# A `.pxd` can hold no tables, so this is C.
cdef extern from * nogil:
    """
    static const char zc_months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const char zc_days[] = "MonTueWedThuFriSatSun";
    static const char *const zc_day_ends[7] = {"day", "sday", "nesday", "rsday", "day", "urday", "day"};
    static const unsigned short zc_days_before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    """
    const char *MONTHS "zc_months"
    const char *DAYS "zc_days"
    const char **DAY_ENDS "zc_day_ends"
    const unsigned short *DAYS_BEFORE "zc_days_before"


cdef inline bint note_condition(Conditions *conditions, int which, Text value) noexcept nogil:
    """Keep a field's value; False where there is one already."""
    cdef unsigned int bit = 1u << which
    if conditions.present & bit:
        return False
    conditions.present |= bit
    conditions.values[which] = value
    return True


cdef inline bint has(const Conditions *conditions, int which) noexcept nogil:
    return (conditions.present >> which) & 1


cdef inline int decide(
    const Conditions *conditions, const Rep *rep, bint is_get, int ranges_max, int64_t now, Part *part
) noexcept nogil:
    """As negotiate.decide: 200, 206 with its `part`, 304, 412, 416; or UNSURE. `now` is the second."""
    cdef Tags tags
    cdef int64_t date
    if has(conditions, MATCH):
        tags = read_tags(conditions.values[MATCH], rep)
        if not (tags.any or (tags.well_formed and tags.matches_strongly)):
            return 412
    elif has(conditions, UNMODIFIED_SINCE) and rep.modified != NO_DATE:
        if not read_date(conditions.values[UNMODIFIED_SINCE], now, &date):
            return UNSURE
        if date != NO_DATE and rep.modified > date:
            return 412
    if has(conditions, NONE_MATCH):
        if is_the_tag(conditions.values[NONE_MATCH], rep):
            return 304
        tags = read_tags(conditions.values[NONE_MATCH], rep)
        if tags.any or (tags.well_formed and tags.matches):
            return 304
    elif has(conditions, MODIFIED_SINCE) and rep.modified != NO_DATE:
        if not read_date(conditions.values[MODIFIED_SINCE], now, &date):
            return UNSURE
        if date != NO_DATE and rep.modified <= date:
            return 304
    if not is_get or not has(conditions, RANGE):
        return 200
    return decide_range(conditions, rep, ranges_max, now, part)


cdef inline int decide_range(const Conditions *conditions, const Rep *rep, int ranges_max, int64_t now, Part *part) noexcept nogil:
    """200, 206, 416 or UNSURE, where the other conditions hold (RFC 9110 sections 13.1.5, 14.2). A date in If-Range is a strong
    validator where the file could not have changed again within its second."""
    cdef Tags tags
    cdef int64_t date
    if not has(conditions, IF_RANGE) or is_the_tag(conditions.values[IF_RANGE], rep):
        return resolve_range(conditions.values[RANGE], rep.size, ranges_max, part)
    tags = read_tags(conditions.values[IF_RANGE], rep)
    if tags.well_formed and tags.count == 1 and not tags.any:
        return resolve_range(conditions.values[RANGE], rep.size, ranges_max, part) if tags.matches_strongly else 200
    if not read_date(conditions.values[IF_RANGE], now, &date):
        return UNSURE
    if date == NO_DATE or rep.modified != date:
        return 200
    if rep.modified >= now - 1:
        return UNSURE            # the second may be over by the time that the twin looks at it
    return resolve_range(conditions.values[RANGE], rep.size, ranges_max, part)


# --- entity tags --------------------------------------------------------------------------------------------


cdef inline bint is_the_tag(Text value, const Rep *rep) noexcept nogil:
    """Whether a value is the representation's own tag, and nothing else."""
    return value.len == rep.tag_len and memcmp(value.at, rep.head + rep.tag, value.len) == 0


cdef inline Tags read_tags(Text value, const Rep *rep) noexcept nogil:
    """As http.parse_entity_tags, and what of it matches (RFC 9110 sections 8.8.3.2, 13.1.1, 13.1.2)."""
    cdef Tags tags = Tags(False, 0, False, False, False)
    cdef const char *p = value.at
    cdef const char *end = value.at + value.len
    cdef const char *tag
    cdef bint weak
    if commas(value) >= ELEMENTS_MAX:
        return tags
    if value.len == 1 and p[0] == c'*':
        tags.any = True
        return tags
    while p < end:
        p = skip_blanks(p, end)
        weak = end - p >= 3 and p[0] == c'W' and p[1] == c'/' and p[2] == c'"'
        tag = p + 2 * weak
        if tag < end and tag[0] == c'"':
            p = tag + 1
            while p < end and is_tag_byte(<uint8_t> p[0]):
                p += 1
            if p == end or p[0] != c'"':
                return tags
            p += 1
            tags.count += 1
            if is_the_tag(Text(tag, p - tag), rep):
                tags.matches = True
                tags.matches_strongly |= not weak
            p = skip_blanks(p, end)
        if p < end:
            if p[0] != c',':
                return tags
            p += 1
    tags.well_formed = True
    return tags


cdef inline bint is_tag_byte(uint8_t c) noexcept nogil:
    """Whether it may stand between the quotes of a tag (etagc)."""
    return c == c'!' or (c'#' <= c <= c'~') or c >= 0x80


cdef inline int commas(Text value) noexcept nogil:
    cdef int n = 0
    cdef size_t i
    for i in range(value.len):
        n += value.at[i] == c','
    return n


# --- dates --------------------------------------------------------------------------------------------------


cdef inline bint read_date(Text value, int64_t now, int64_t *seconds) noexcept nogil:
    """As http.parse_date: seconds since 1970, or NO_DATE for what is none. False where a second more or less of `now` decides."""
    cdef const char *p = value.at
    cdef size_t name
    cdef int year
    seconds[0] = NO_DATE
    if value.len == FIXDATE_LEN:
        if (
            p[3] == c',' and p[4] == c' ' and p[7] == c' ' and p[11] == c' ' and p[16] == c' '
            and memcmp(p + 25, b" GMT", 4) == 0 and name_at(DAYS, 7, p) >= 0
        ):
            seconds[0] = seconds_of(two_digits(p + 5), p + 8, four_digits(p + 12), p + 17)
    elif value.len == ASCTIME_LEN:
        if (
            p[3] == c' ' and p[7] == c' ' and p[10] == c' ' and p[19] == c' ' and name_at(DAYS, 7, p) >= 0
        ):
            seconds[0] = seconds_of(digit(p[9]) if p[8] == c' ' else two_digits(p + 8), p + 4, four_digits(p + 20), p + 11)
    elif value.len > FIXDATE_LEN:
        name = long_day_len(p)
        p += name
        if (
            name and value.len == name + BEHIND_DAY_LEN and p[0] == c',' and p[1] == c' ' and p[4] == c'-' and p[8] == c'-'
            and p[11] == c' ' and memcmp(p + 20, b" GMT", 4) == 0
        ):
            year = year_of(p + 2, now - 1)
            if year != year_of(p + 2, now + 2):      # the twin looks at its own clock, a little later
                return False
            seconds[0] = seconds_of(two_digits(p + 2), p + 5, year, p + 12)
    return True


cdef inline size_t long_day_len(const char *p) noexcept nogil:
    """How long the whole name of a day is that stands there, 0 for none; FIXDATE_LEN bytes can be read."""
    cdef int day = name_at(DAYS, 7, p)
    if day < 0 or memcmp(p + 3, DAY_ENDS[day], strlen(DAY_ENDS[day])) != 0:
        return 0
    return 3 + strlen(DAY_ENDS[day])


cdef inline int year_of(const char *date, int64_t now) noexcept nogil:
    """Of 06-Nov-94 08:49:37 the latest year that is no more than 50 years after `now`; negative for none."""
    cdef time_t second = <time_t> now
    cdef tm today
    cdef int year = two_digits(date + 7), last
    if year < 0 or gmtime_r(&second, &today) == NULL:
        return -1
    last = today.tm_year + 1900 + 50
    year += last - last % 100
    if order_of(
        year, name_at(MONTHS, 12, date + 3), two_digits(date), two_digits(date + 10), two_digits(date + 13), two_digits(date + 16)
    ) > order_of(last, today.tm_mon, today.tm_mday, today.tm_hour, today.tm_min, today.tm_sec):
        year -= 100
    return year


cdef inline int64_t order_of(int64_t year, int month, int day, int hour, int minute, int second) noexcept nogil:
    """A number that is greater for what is later, whether it is a date or none; each has at most two digits but for the year."""
    return ((((year * 100 + month) * 100 + day) * 100 + hour) * 100 + minute) * 100 + second


cdef inline int64_t seconds_of(int day, const char *month_at, int year, const char *time) noexcept nogil:
    """Of a day, a month's name, a year (negative: none), and 08:49:37; NO_DATE for what is none."""
    cdef int month = name_at(MONTHS, 12, month_at)
    cdef int hour = two_digits(time), minute = two_digits(time + 3), second = two_digits(time + 6)
    if (
        year <= 0 or month < 0 or time[2] != c':' or time[5] != c':'
        or not 0 <= hour <= 23 or not 0 <= minute <= 59 or not 0 <= second <= 60
    ):
        return NO_DATE
    if not 1 <= day <= days_of(month, year):
        return NO_DATE
    return 86400 * days_since_1970(year, month, day) + 3600 * hour + 60 * minute + second


cdef inline int digit(char c) noexcept nogil:
    return c - c'0' if c'0' <= c <= c'9' else -1


cdef inline int two_digits(const char *p) noexcept nogil:
    """The number that two digits write, -1 for what are none."""
    if not (c'0' <= p[0] <= c'9' and c'0' <= p[1] <= c'9'):
        return -1
    return 10 * (p[0] - c'0') + (p[1] - c'0')


cdef inline int four_digits(const char *p) noexcept nogil:
    """Likewise of four."""
    cdef int hundreds = two_digits(p), rest = two_digits(p + 2)
    return 100 * hundreds + rest if hundreds >= 0 and rest >= 0 else -1


cdef inline int name_at(const char *names, int count, const char *p) noexcept nogil:
    """Which of `count` names of three letters stands there, -1 for none."""
    cdef int i
    for i in range(count):
        if p[0] == names[3 * i] and p[1] == names[3 * i + 1] and p[2] == names[3 * i + 2]:
            return i
    return -1


cdef inline bint is_leap(int year) noexcept nogil:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


cdef inline int days_of(int month, int year) noexcept nogil:
    """How long a month is; January is 0."""
    if month == 11:
        return 31
    return DAYS_BEFORE[month + 1] - DAYS_BEFORE[month] + (month == 1 and is_leap(year))


cdef inline int64_t days_since_1970(int year, int month, int day) noexcept nogil:
    """Of the Gregorian calendar, from the year 1 on."""
    cdef int y = year - 1
    return 365 * y + y // 4 - y // 100 + y // 400 + DAYS_BEFORE[month] + (month > 1 and is_leap(year)) + day - 719163

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Dates: what a date of HTTP's says, as seconds since 1970 (RFC 9110 section 5.6.7).

The twin of http.py's `parse_date`: exactly its answer, or unsure. Unsure is a date whose year has two digits and is 50 years away to
the second. Every read is bounded by the end of the value.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp, strlen

from zcserve.net.lane.system cimport gmtime_r, time_t, tm
from zcserve.net.lane.text cimport Text

cdef enum:
    FIXDATE_LEN = 29             # Sun, 06 Nov 1994 08:49:37 GMT
    ASCTIME_LEN = 24             # Sun Nov  6 08:49:37 1994
    BEHIND_DAY_LEN = 24          # Sunday, 06-Nov-94 08:49:37 GMT

cdef extern from *:
    """
    #define ZC_NO_DATE INT64_MIN
    """
    const int64_t NO_DATE "ZC_NO_DATE"

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

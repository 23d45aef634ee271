# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Seconds: when a lane looks at the wall clock, and how HTTP's Date and the access log's two formats say the second.

The twin of http.py's `format_date`, and of the times in net/access_log.py: exactly their texts. They are made by arithmetic, for the
system's `gmtime_r` takes a lock that all threads share.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from zcserve.net.lane.dates cimport DAYS, MONTHS, days_of
from zcserve.net.lane.system cimport CLOCK_REALTIME, clock_gettime, timespec

cdef enum:
    DATE_LEN = 29                # Sun, 06 Nov 1994 08:49:37 GMT
    LOG_TIME_MAX = 26            # 06/Nov/1994:08:49:37 +0000
    JSON_TIME_LEN = 20           # 1994-11-06T08:49:37Z

cdef extern from *:
    """
    #define ZC_FIRST_SECOND (-62135596800LL)
    #define ZC_LAST_SECOND 253402300799LL
    """
    const int64_t FIRST_SECOND "ZC_FIRST_SECOND"     # of the year 1
    const int64_t LAST_SECOND "ZC_LAST_SECOND"       # of the year 9999

cdef struct Seconds:
    int64_t now                  # by the wall clock; all texts of the lane say this second
    double until                 # by the monotonic clock; the wall clock is looked at then

cdef struct Moment:              # in UTC
    int year, month, day         # January is 0, the first day 1
    int weekday                  # Monday is 0
    int hour, minute, second


cdef inline bint is_another(Seconds *seconds, double now) noexcept nogil:
    """Look at the wall clock; by the monotonic one it is `now`. Whether another second has begun."""
    cdef timespec t
    cdef int64_t last = seconds.now
    clock_gettime(CLOCK_REALTIME, &t)
    seconds.until = now + 1 - t.tv_nsec * 1e-9
    seconds.now = t.tv_sec
    return t.tv_sec != last


cdef inline Moment moment_of(int64_t second) noexcept nogil:
    """As `time.gmtime`; outside of the years 1 to 9999 their first or last second."""
    cdef Moment moment
    cdef int64_t since = min(max(second, FIRST_SECOND), LAST_SECOND) - FIRST_SECOND
    cdef int days = <int> (since // 86400), left = <int> (since % 86400)
    cdef int centuries, years
    moment.weekday = days % 7
    moment.hour, moment.minute, moment.second = left // 3600, left // 60 % 60, left % 60
    moment.year = 1 + days // 146097 * 400
    days %= 146097               # of 400 years
    centuries = min(days // 36524, 3)
    days -= centuries * 36524
    moment.year += 100 * centuries + days // 1461 * 4
    days %= 1461                 # of 4 years
    years = min(days // 365, 3)
    days -= years * 365
    moment.year += years
    moment.month = 0
    while days >= days_of(moment.month, moment.year):
        days -= days_of(moment.month, moment.year)
        moment.month += 1
    moment.day = days + 1
    return moment


cdef inline void write_date(char *at, int64_t second) noexcept nogil:
    """Write DATE_LEN bytes, as http.format_date."""
    cdef Moment moment = moment_of(second)
    memcpy(at, b"Day, 00 Mon 0000 00:00:00 GMT", DATE_LEN)
    memcpy(at, DAYS + 3 * moment.weekday, 3)
    write_two(at + 5, moment.day)
    memcpy(at + 8, MONTHS + 3 * moment.month, 3)
    write_two(at + 12, moment.year // 100)
    write_two(at + 14, moment.year % 100)
    write_clock(at + 17, &moment)


cdef inline size_t write_log_time(char *at, int64_t second, bint json) noexcept nogil:
    """Write the second as the log's lines say it; how many bytes, at most LOG_TIME_MAX."""
    cdef Moment moment = moment_of(second)
    if json:
        memcpy(at, b"0000-00-00T00:00:00Z", JSON_TIME_LEN)
        write_two(at, moment.year // 100)
        write_two(at + 2, moment.year % 100)
        write_two(at + 5, moment.month + 1)
        write_two(at + 8, moment.day)
        write_clock(at + 11, &moment)
        return JSON_TIME_LEN
    memcpy(at, b"00/Mon/0000:00:00:00 +0000", LOG_TIME_MAX)
    write_two(at, moment.day)
    memcpy(at + 3, MONTHS + 3 * moment.month, 3)
    write_two(at + 7, moment.year // 100)
    write_two(at + 9, moment.year % 100)
    write_clock(at + 12, &moment)
    return LOG_TIME_MAX


cdef inline void write_clock(char *at, const Moment *moment) noexcept nogil:
    """08:49:37, of which the colons stand there."""
    write_two(at, moment.hour)
    write_two(at + 3, moment.minute)
    write_two(at + 6, moment.second)


cdef inline void write_two(char *at, int number) noexcept nogil:
    at[0] = <char> (c'0' + number // 10)
    at[1] = <char> (c'0' + number % 10)

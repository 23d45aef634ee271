# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What a Range field asks for: one range of bytes (RFC 9110 sections 14.1.1, 14.1.2, 14.2).

The twin of http.py's `parse_ranges` and `resolve_ranges`: exactly their answer, or UNSURE. Unsure is a value with a comma: several
ranges are the general lane's. Every read is bounded by the end of the value.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr

from zcserve.net.lane.grammar cimport UNSURE
from zcserve.net.lane.text cimport Text, same_name, skip_blanks

cdef enum:
    POSITION_DIGITS_MAX = 19     # as http.py's

cdef extern from *:
    """
    #define ZC_POSITION_BEYOND 10000000000000000000ULL
    """
    const uint64_t POSITION_BEYOND "ZC_POSITION_BEYOND"      # likewise: behind the end of every file

cdef struct Part:                # of content, in bytes, half-open
    int64_t start, stop


cdef inline int resolve_range(Text value, int64_t size, int ranges_max, Part *part) noexcept nogil:
    """206 with the `part` of a representation of `size` bytes; 416; 200 where the field is ignored; or UNSURE."""
    cdef uint64_t first = 0, last = 0
    cdef bint has_first, has_last
    if not read_range(value, &first, &has_first, &last, &has_last):
        return 200 if memchr(value.at, c',', value.len) == NULL else UNSURE
    if has_first and has_last and last < first:
        return 200
    if ranges_max < 1 or (not size and not has_first and last):
        return 200
    if not has_first:
        part.start = size - <int64_t> min(last, <uint64_t> size)
        part.stop = size
    elif first >= <uint64_t> size:
        return 416
    else:
        part.start = <int64_t> first
        part.stop = <int64_t> (last + 1) if has_last and last < <uint64_t> size else size
    return 206 if part.start < part.stop else 416


cdef inline bint read_range(Text value, uint64_t *first, bint *has_first, uint64_t *last, bint *has_last) noexcept nogil:
    """The numbers of `bytes=first-last`; False for what is not one range of bytes."""
    cdef const char *p = value.at
    cdef const char *end = value.at + value.len
    if value.len < 6 or not same_name(p, b"bytes", 5) or p[5] != c'=':
        return False
    p = skip_blanks(p + 6, end)
    has_first[0] = read_position(&p, end, first)
    if p == end or p[0] != c'-':
        return False
    p += 1
    has_last[0] = read_position(&p, end, last)
    return skip_blanks(p, end) == end and (has_first[0] or has_last[0])


cdef inline bint read_position(const char **at, const char *end, uint64_t *number) noexcept nogil:
    """Pass over digits; POSITION_BEYOND for a number that no file reaches. False where there are none."""
    cdef const char *p = at[0]
    cdef const char *digits
    cdef uint64_t n = 0
    cdef unsigned int digit
    while p < end and p[0] == c'0':
        p += 1
    digits = p
    while p < end:
        digit = <unsigned int> p[0] - c'0'
        if digit > 9:
            break
        n = 10 * n + digit       # of too many digits it is not looked at
        p += 1
    number[0] = n if p - digits <= POSITION_DIGITS_MAX else POSITION_BEYOND
    digits = at[0]
    at[0] = p
    return p > digits

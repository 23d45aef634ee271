# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What is absent: a set of all keys that lead somewhere. A target that is its own key and is not in the set gets 404.

The set holds a hash of each key, no key (hashes.pxd). A key that is not there and has the hash of one that is (or that went, and
was not removed yet) is answered in Python.

Keys are added before they lead anywhere and removed after they did, so that no key which leads somewhere is ever called absent.
Where the set is not complete, or was given up, nothing is called absent.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memchr

from zcserve.net.lane.atomic cimport acquire_pointer, release_pointer
from zcserve.net.lane.hashes cimport Hashes, close_hashes, lacks
from zcserve.net.lane.records cimport Record, free_record, record_of_page
from zcserve.net.lane.text cimport Text
from zcserve.net.lane.withdrawn cimport withdraw

# 1 for what stands for itself in a segment of a canonical path, 2 for what begins one: `http._CANONICAL_BYTES`.
cdef extern from * nogil:
    """
    static const unsigned char zc_key[256] = {
        ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
        ['-'] = 1, ['.'] = 1, ['_'] = 1, ['~'] = 1, ['!'] = 1, ['$'] = 1, ['&'] = 1, ['\\''] = 1, ['('] = 1, [')'] = 1,
        ['*'] = 1, ['+'] = 1, [','] = 1, [';'] = 1, ['='] = 1, [':'] = 1, ['@'] = 1, ['/'] = 2,
    };
    """
    const uint8_t *KEY "zc_key"

cdef struct Absent:
    Hashes keys
    Record *page                 # the answer, of which other lanes read; NULL for none


cdef inline void close_absent(Absent *absent) noexcept:
    """Free everything. Nothing is being sent any more."""
    close_hashes(&absent.keys)
    if absent.page != NULL:
        free_record(absent.page)


cdef inline int set_page(Absent *absent, int status, bytes head, bytes content) except -1:
    """What is absent gets this from now on."""
    cdef Record *old = absent.page
    release_pointer(<void **> &absent.page, record_of_page(b"", status, head, content))
    if old != NULL:
        withdraw(absent.keys.withdrawn, old)
    return 0


cdef inline void drop_page(Absent *absent) noexcept nogil:
    """Nothing is called absent any more."""
    cdef Record *old = absent.page
    release_pointer(<void **> &absent.page, NULL)
    if old != NULL:
        withdraw(absent.keys.withdrawn, old)


# --- a request ----------------------------------------------------------------------------------------------


cdef inline bint is_own_key(Text path) noexcept nogil:
    """Whether `http.canonical_path` leaves a path as it is."""
    cdef const char *p = path.at
    cdef const char *end = path.at + path.len
    if p == end or p[0] != c'/':
        return False
    while p < end:
        if KEY[<uint8_t> p[0]] == 1:
            p += 1
        elif p[0] == c'/' and not is_segment_left_out(p + 1, end):
            p += 1
        elif p[0] == c'%' and end - p > 2 and is_escaped(p[1], p[2]):
            p += 3
        else:
            return False
    return True


cdef inline bint is_segment_left_out(const char *p, const char *end) noexcept nogil:
    """Whether an empty segment, or one of dots alone, stands at `p`. The path may end in an empty one."""
    if p < end and p[0] == c'/':
        return True
    if p == end or p[0] != c'.':
        return False
    p += 1
    if p < end and p[0] == c'.':
        p += 1
    return p == end or p[0] == c'/'


cdef inline bint is_escaped(char high, char low) noexcept nogil:
    """Whether `http.encode_path` writes a byte by these two digits."""
    cdef int byte = 16 * hex_digit(high) + hex_digit(low)
    return hex_digit(high) >= 0 and hex_digit(low) >= 0 and byte != 0 and not KEY[byte & 0xFF]


cdef inline int hex_digit(char c) noexcept nogil:
    """A hex digit in upper case; -1 for anything else."""
    if c'0' <= c <= c'9':
        return c - c'0'
    return c - c'A' + 10 if c'A' <= c <= c'F' else -1


cdef inline Record *page_of(const Absent *absent, Text target) noexcept nogil:
    """The answer to a target whose path is known to be absent, whatever its query is; NULL for all else."""
    cdef const char *query = <const char *> memchr(target.at, c'?', target.len)
    cdef Text path = Text(target.at, query - target.at) if query != NULL else target
    if not is_own_key(path) or not lacks(&absent.keys, path.at, path.len):
        return NULL
    return <Record *> acquire_pointer(<void * const *> &absent.page)

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Log fields: what `--access-log-fields` has stand behind a line, and where it is in a request's head.

The twin of net/log_fields.py. They are looked for where they are wanted, in a head that was parsed: the parser keeps nothing of them, so that nothing
is paid for what is not logged. A request whose id is not to be trusted is Python's, which gives it another one and shows that to applications.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcpy

from zcserve.net.lane.head cimport Head, method_of
from zcserve.net.lane.text cimport Text, is_plain, same_name

cdef extern from * nogil:
    """
    static const unsigned char zc_id[256] = {
        ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
        ['.'] = 1, ['_'] = 1, ['~'] = 1, ['+'] = 1, ['/'] = 1, ['='] = 1, [':'] = 1, ['@'] = 1, ['-'] = 1,
    };
    """
    const unsigned char *ID "zc_id"

cdef enum:                       # `Behind.fields`
    HOST = 1
    REQUEST_ID = 2
    DURATION = 4

cdef enum:
    ID_MAX = 128                 # of what a client may call its request
    ID_BEGIN = 12                # hexadecimal digits, a lane's own
    OWN_ID_MAX = 32

cdef struct Behind:              # a line of the access log
    int fields
    Text host, id                # of the request at hand
    bint is_own                  # the id is the lane's
    uint64_t count               # of ids that the lane gave
    char own[OWN_ID_MAX]         # the last one of them


cdef inline int open_fields(Behind *behind, names) except -1:
    """Of zeros. Fields with these names stand behind the lines."""
    cdef bytes begin
    behind.fields = (HOST if "host" in names else 0) | (REQUEST_ID if "request_id" in names else 0)
    behind.fields |= DURATION if "duration" in names else 0
    if behind.fields & REQUEST_ID:
        from os import urandom
        begin = urandom(ID_BEGIN // 2).hex().encode() + b"-"
        memcpy(behind.own, PyBytes_AS_STRING(begin), ID_BEGIN + 1)
    return 0


cdef inline bint read_fields(Behind *behind, const Head *head, size_t most) noexcept nogil:
    """Read what is wanted of a head. False where that is Python's: a value that needs escaping, or is longer than `most`, or an id that is
    none."""
    cdef const char *p = method_of(head).at
    cdef const char *end = p + head.length - 2       # of the field lines
    cdef const char *name
    cdef size_t length
    behind.host = behind.id = Text(NULL, 0)
    while True:
        p = <const char *> memchr(p, c'\n', end - p) + 1
        if p >= end:
            break
        name = p
        length = <const char *> memchr(p, c':', end - p) - p
        if length == 4 and same_name(name, b"host", 4):
            behind.host = value_at(name + 5, end)
        elif length == 12 and same_name(name, b"x-request-id", 12):
            if behind.id.at != NULL:
                return False
            behind.id = value_at(name + 13, end)
    behind.is_own = behind.fields & REQUEST_ID and behind.id.at == NULL
    if behind.is_own:
        give_id(behind)
    elif behind.fields & REQUEST_ID and not is_id(behind.id):
        return False
    return behind.host.len <= most and is_plain(behind.host.at, behind.host.len)


cdef inline Text value_at(const char *at, const char *end) noexcept nogil:
    """The value of a field's line behind its colon, without the white space around it."""
    cdef const char *behind = <const char *> memchr(at, c'\r', end - at)
    while at < behind and (at[0] == c' ' or at[0] == c'\t'):
        at += 1
    while behind > at and ((behind - 1)[0] == c' ' or (behind - 1)[0] == c'\t'):
        behind -= 1
    return Text(at, behind - at)


cdef inline bint is_id(Text id) noexcept nogil:
    """Whether a client's or a proxy's id of a request stands in the log as it is."""
    cdef size_t i
    for i in range(id.len):
        if not ID[<unsigned char> id.at[i]]:
            return False
    return 0 < id.len <= ID_MAX


cdef inline void give_id(Behind *behind) noexcept nogil:
    """An id that no other request has."""
    cdef uint64_t left = behind.count
    cdef int digits = 1, i
    behind.count += 1
    while left >= 16:
        left //= 16
        digits += 1
    left = behind.count - 1
    for i in range(digits):
        behind.own[ID_BEGIN + digits - i] = <char> (left % 16 + (c'0' if left % 16 < 10 else c'a' - 10))
        left //= 16
    behind.id = Text(<const char *> behind.own, ID_BEGIN + 1 + digits)


cdef inline Text own_id(const Behind *behind) noexcept nogil:
    """The id of the request at hand, if the lane has given it one."""
    return behind.id if behind.is_own else Text(NULL, 0)

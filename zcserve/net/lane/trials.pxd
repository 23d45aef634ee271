# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Trials: single steps of the lane, for tests and the fuzzer, on copies that end where the bytes do."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from zcserve.net.lane.absent cimport page_of
from zcserve.net.lane.answering cimport read_head
from zcserve.net.lane.conditions cimport decide
from zcserve.net.lane.dates cimport NO_DATE
from zcserve.net.lane.grammar cimport KINDS, NUMBERS_MAX, UNSURE, numbers_of, read_value
from zcserve.net.lane.head cimport Head
from zcserve.net.lane.owned cimport may_own
from zcserve.net.lane.ranges cimport Part
from zcserve.net.lane.records cimport Rep
from zcserve.net.lane.seconds cimport DATE_LEN, LOG_TIME_MAX, write_date, write_log_time
from zcserve.net.lane.sending cimport Answering
from zcserve.net.lane.sites cimport Site
from zcserve.net.lane.table cimport hash_of
from zcserve.net.lane.text cimport Text, copied, siphash13


cdef inline object numbers_read(int kind, bytes value):
    """As `_lane.read_value`."""
    cdef int64_t numbers[NUMBERS_MAX]
    cdef Text copy
    if not 0 <= kind < KINDS:
        raise ValueError("no kind of value")
    copy = copied(value)
    try:
        if not read_value(kind, copy, numbers):
            return None
        return tuple([numbers[i] for i in range(numbers_of(kind))])
    finally:
        free(<void *> copy.at)


cdef inline object parsed(Answering *lane, bytes data):
    """As `Lane.parse`."""
    cdef Head head
    cdef Text copy = copied(data)
    lane.gil.held = True         # the caller has it
    try:
        if not read_head(lane, copy.at, copy.at + copy.len, &head):
            return None
        return head.length + head.body, data[: head.method_len], head.target.at[: head.target.len], head.mode
    finally:
        lane.gil.held = False
        free(<void *> copy.at)


cdef inline object sited(Answering *lane, bytes data):
    """As `Lane.site_of`."""
    cdef Head head
    cdef Text copy = copied(data)
    lane.gil.held = True         # the caller has it
    try:
        return head.site.table.site if read_head(lane, copy.at, copy.at + copy.len, &head) else None
    finally:
        lane.gil.held = False
        free(<void *> copy.at)


cdef inline object decided(Answering *lane, bytes data, bytes etag, modified, int64_t size, int64_t now):
    """As `Lane.decide`."""
    cdef Head head
    cdef Part part = Part(0, 0)
    cdef Text copy = copied(data)
    cdef Rep rep
    cdef int status
    cdef bytes tail = b"ETag: " + etag
    rep.head = PyBytes_AS_STRING(tail)
    rep.date, rep.tail, rep.tag_len, rep.size = 0, 0, PyBytes_GET_SIZE(etag), size
    rep.modified = NO_DATE if modified is None else modified
    lane.gil.held = True         # the caller has it
    try:
        if not read_head(lane, copy.at, copy.at + copy.len, &head) or head.for_servlet:
            return None
        status = decide(&head.conditions, &rep, head.is_get, lane.rules.ranges_max, now, &part)
        return (status, part.start, part.stop) if status == 206 else (status, 0, 0) if status != UNSURE else None
    finally:
        lane.gil.held = False
        free(<void *> copy.at)


cdef inline uint32_t hashed(uint32_t seed, bytes key):
    """As `Lane.hash`."""
    return hash_of(seed, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))


cdef inline uint64_t keyed_hash(bytes data, uint64_t first, uint64_t second):
    """As `Lane.keyed_hash`."""
    return siphash13(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), first, second)


cdef inline int absences(const Site *site, bytes target, int times):
    """As `Lane.is_absent`."""
    cdef Text text = Text(PyBytes_AS_STRING(target), PyBytes_GET_SIZE(target))
    cdef int said = 0
    with nogil:
        for _ in range(times):
            said += not may_own(&site.owned, text) and page_of(&site.absent, text) != NULL
    return said


cdef inline tuple said(int64_t second):
    """As `_lane.say_second`."""
    cdef char date[DATE_LEN]
    cdef char combined[LOG_TIME_MAX]
    cdef char json[LOG_TIME_MAX]
    write_date(date, second)
    return date[:DATE_LEN], combined[: write_log_time(combined, second, False)], json[: write_log_time(json, second, True)]

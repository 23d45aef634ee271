# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which representation a request gets: as net/negotiate.py decides, for what the lane takes up.

Of Accept-Encoding it sees only what the field means, of If-None-Match the value.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp

from zcserve.net.lane.records cimport Record, Rep
from zcserve.net.lane.text cimport Text


cdef inline Rep *choose(Record *record, const int64_t *accept) noexcept nogil:
    """As negotiate.choose: the most wanted, the smallest among equals; NULL when none is acceptable. `accept`: a quality for each
    coding; NULL without Accept-Encoding."""
    cdef Rep *best = NULL
    cdef int i
    cdef int64_t quality, best_quality = 0
    if accept == NULL:
        return &record.reps[0]
    for i in range(record.count):
        quality = accept[record.reps[i].coding]
        if quality > best_quality or (
            quality == best_quality and best != NULL and record.reps[i].size < best.size
        ):
            best = &record.reps[i]
            best_quality = quality
    return best


cdef inline int none_match(const Rep *rep, Text value) noexcept nogil:
    """If-None-Match (RFC 9110 section 13.1.2). 1: the tag is the representation's, 0: it is another, -1: it is not just one tag."""
    cdef const char *tag = value.at
    cdef size_t tag_len = value.len, i
    cdef uint8_t c
    if tag_len >= 2 and tag[0] == c'W' and tag[1] == c'/':
        tag += 2
        tag_len -= 2
    if tag_len < 2 or tag[0] != c'"' or tag[tag_len - 1] != c'"':
        return -1
    for i in range(1, tag_len - 1):
        c = <uint8_t> tag[i]
        if c < c'!' or c == c'"' or c == 0x7F:
            return -1
    return tag_len == rep.tag_len and memcmp(tag, rep.head + rep.tag, tag_len) == 0

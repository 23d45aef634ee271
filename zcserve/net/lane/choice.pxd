# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which representation a request gets: as net/negotiate.py's `choose`. Of Accept-Encoding it sees only what the field means."""

from libc.stdint cimport int64_t

from zcserve.net.lane.records cimport Record, Rep, reps_of


cdef inline Rep *choose(Record *record, const int64_t *accept) noexcept nogil:
    """As negotiate.choose: the most wanted, the smallest among equals; NULL when none is acceptable. `accept`: a quality for each
    coding; NULL without Accept-Encoding."""
    cdef Rep *best = NULL
    cdef int i
    cdef int64_t quality, best_quality = 0
    if accept == NULL:
        return &reps_of(record)[0]
    for i in range(record.count):
        quality = accept[reps_of(record)[i].coding]
        if quality > best_quality or (
            quality == best_quality and best != NULL and reps_of(record)[i].size < best.size
        ):
            best = &reps_of(record)[i]
            best_quality = quality
    return best

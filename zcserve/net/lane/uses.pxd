# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Uses: which records were used since Python was told, so that eviction knows what is hot.

A use writes the representation's own counters; the record is noted once. Entries are told a bounded number at a time.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc

from zcserve.net.lane.records cimport Dead, Record, Rep, maybe_dead, reps_of

cdef enum:
    TICKS_AT_ONCE = 256          # told when something is evicted: a tenth of a millisecond

cdef struct Uses:
    Record **touched
    int count, size
    int due                      # of these, to be told before the next second's


cdef inline void close_uses(Uses *uses, Dead *dead) noexcept:
    cdef int i
    for i in range(uses.count):
        uses.touched[i].refs -= 1
        maybe_dead(dead, uses.touched[i])
    free(uses.touched)


cdef inline void touch(Uses *uses, Record *record, Rep *rep, uint64_t turn) noexcept nogil:
    """Count a use. Without memory Python is not told of it."""
    cdef Record **grown
    rep.tick = turn
    rep.uses += 1
    if record.touched_at >= 0:
        return
    if uses.count == uses.size:
        grown = <Record **> realloc(uses.touched, (2 * uses.size + 1024) * sizeof(Record *))
        if grown == NULL:
            return
        uses.touched = grown
        uses.size = 2 * uses.size + 1024
    record.touched_at = uses.count
    record.refs += 1             # until the tick is drained
    uses.touched[uses.count] = record
    uses.count += 1


cdef inline int untouch(Uses *uses, Record *record) except -1:
    """Tell the entries of a record's uses, and take it out of what was touched."""
    cdef Record *last
    cdef Rep *rep
    cdef int i
    if record.touched_at < 0:
        return 0
    uses.count -= 1
    last = uses.touched[uses.count]
    uses.touched[record.touched_at] = last
    last.touched_at = record.touched_at
    record.touched_at = -1
    record.refs -= 1
    for i in range(record.count):
        rep = &reps_of(record)[i]
        if rep.uses:
            entry = <object> rep.entry
            entry.tick = max(entry.tick, rep.tick)
            entry.uses += rep.uses
            rep.uses = 0
    return 0


cdef inline int untouch_some(Uses *uses, Dead *dead, int most) except -1:
    cdef Record *record
    while most and uses.count:
        record = uses.touched[uses.count - 1]
        untouch(uses, record)
        maybe_dead(dead, record)
        most -= 1
    uses.due = min(uses.due, uses.count)
    return 0


cdef inline int tell_uses(Uses *uses, Dead *dead, int most) except -1:
    """Tell at most so many (-1: all) of those that there were when this began; how many of them are left."""
    if uses.due <= 0 or most < 0:
        uses.due = uses.count
    if most < 0:
        most = uses.due
    most = min(most, min(uses.due, uses.count))
    uses.due -= most
    untouch_some(uses, dead, most)
    return uses.due

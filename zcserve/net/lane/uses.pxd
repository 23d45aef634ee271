# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Uses: what was used, how often and when, so that eviction knows what is hot.

What a use writes is the lane's: each representation has a number (`Rep.number`), and by it each lane has a `Use` of it. Python is told of
the uses, a bounded number of entries at a time; each record that was used since stands among the touched once.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from zcserve.net.lane.records cimport Dead, Record, Rep, close_dead, maybe_dead, reps_of
from zcserve.net.lane.steady cimport give_addresses, have_memory, take_addresses

cdef enum:
    TICKS_AT_ONCE = 256          # told when something is evicted: a tenth of a millisecond
    NUMBERS_MAX = 0x1000000      # what has no number is not taught
    NUMBERS_MIN = 0x10000        # where there are few addresses

cdef struct Use:                 # of a representation
    uint64_t tick                # the turn of the last one
    uint64_t told                # the turn in which it was last sighted
    uint32_t count               # since Python was told
    int touched_at               # of a record's first: where it stands among the touched, counted from 1; 0 for nowhere

cdef struct Uses:
    Use *all                     # by number
    int size, size_max
    Record **touched
    int count, room
    int due                      # of these, to be told before the next second's


cdef inline int open_uses(Uses *uses) except -1:
    uses.size_max = NUMBERS_MAX
    uses.all = <Use *> take_addresses(&uses.size_max, sizeof(Use), NUMBERS_MIN)
    if uses.all == NULL or not has_uses(uses, 0):
        raise MemoryError
    return 0


cdef inline void close_uses(Uses *uses, Dead *dead) noexcept:
    cdef int i
    for i in range(uses.count):
        uses.touched[i].refs -= 1
        maybe_dead(dead, uses.touched[i])
    close_dead(dead)
    free(uses.touched)
    give_addresses(uses.all, uses.size_max * sizeof(Use))


cdef inline bint has_uses(Uses *uses, uint32_t number) noexcept nogil:
    """Have a place for the uses of what has this number. False without memory."""
    cdef int size
    if number < <uint32_t> uses.size:
        return True
    size = <int> min(2 * <int64_t> number + 1024, <int64_t> uses.size_max)
    if number >= <uint32_t> size or not have_memory(uses.all, size * sizeof(Use)):
        return False
    uses.size = size
    return True


cdef inline Use *use_of(const Uses *uses, const Rep *rep) noexcept nogil:
    return &uses.all[rep.number]


cdef inline void touch(Uses *uses, Record *record, Use *use, uint64_t turn) noexcept nogil:
    """Count a use. Without memory Python is not told of it."""
    cdef Use *first
    cdef Record **grown
    use.tick = turn
    use.count += 1
    if use.count > 1:
        return
    first = use_of(uses, reps_of(record))
    if first.touched_at:
        return
    if uses.count == uses.room:
        grown = <Record **> realloc(uses.touched, (2 * uses.room + 1024) * sizeof(Record *))
        if grown == NULL:
            return
        uses.touched = grown
        uses.room = 2 * uses.room + 1024
    record.refs += 1             # until the tick is drained
    uses.touched[uses.count] = record
    uses.count += 1
    first.touched_at = uses.count


cdef inline int untouch(Uses *uses, Record *record) except -1:
    """Tell the entries of a record's uses, and take it out of what was touched."""
    cdef Rep *reps = reps_of(record)
    cdef Use *use
    cdef Record *last
    cdef int i, at
    if not record.count or not use_of(uses, reps).touched_at:
        return 0
    uses.count -= 1
    last = uses.touched[uses.count]
    at = use_of(uses, reps).touched_at
    uses.touched[at - 1] = last
    use_of(uses, reps_of(last)).touched_at = at
    use_of(uses, reps).touched_at = 0
    record.refs -= 1
    for i in range(record.count):
        use = use_of(uses, &reps[i])
        if use.count:
            entry = <object> reps[i].entry
            entry.tick = max(entry.tick, use.tick)
            entry.uses += use.count
            use.count = 0
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

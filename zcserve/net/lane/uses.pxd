# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Uses: what was used, how often and when, so that eviction knows what is hot.

What a use writes is the lane's: each representation has a number (`Rep.number`), and by it each lane has a `Use` of it. Python is told of
the uses, a bounded number of entries at a time. Of what was used since, the numbers stand in a list, each once, whatever has them by
then: where a number has gone to another representation, its uses were told before, and what the list leads to is that one.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from zcserve.net.lane.records cimport Numbers, PyObject, Record, Rep, owner_of, reps_of
from zcserve.net.lane.steady cimport give_addresses, have_memory, take_addresses

cdef enum:
    TICKS_AT_ONCE = 256          # told when something is evicted: a tenth of a millisecond
    NUMBERS_MAX = 0x1000000      # what has no number is not taught
    NUMBERS_MIN = 0x10000        # where there are few addresses

cdef extern from *:
    """
    #define ZC_TICKS_PER_S 1048576.0
    #define ZC_LISTED 0x80000000u
    """
    const double TICKS_PER_S "ZC_TICKS_PER_S"    # as cache/evictor.py's
    const uint32_t LISTED "ZC_LISTED"    # in `Use.count`: the number stands among those that were touched

cdef struct Use:                 # of a representation
    uint64_t tick                # when the last one was (cache/evictor.py); 0 for none
    uint32_t told                # the lower half of the tick when it was last sighted
    uint32_t count               # since Python was told, and LISTED

cdef struct Uses:
    Use *all                     # by number
    int size, size_max
    uint32_t *touched            # numbers
    int count, room
    int due                      # of these, to be told before the next second's


cdef inline int open_uses(Uses *uses) except -1:
    uses.size_max = NUMBERS_MAX
    uses.all = <Use *> take_addresses(&uses.size_max, sizeof(Use), NUMBERS_MIN)
    if uses.all == NULL or not has_uses(uses, 0):
        raise MemoryError
    return 0


cdef inline void close_uses(Uses *uses) noexcept:
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


cdef inline uint64_t tick_at(double now) noexcept nogil:
    """The tick of a time by the monotonic clock."""
    return <uint64_t> <int64_t> (now * TICKS_PER_S)


cdef inline Use *use_of(const Uses *uses, const Rep *rep) noexcept nogil:
    return &uses.all[rep.number]


cdef inline void begin_uses(Use *use, uint64_t tick) noexcept nogil:
    """The uses of what has its number from now on, and was used last at `tick`."""
    use.tick = tick
    use.told = 0
    use.count &= LISTED


cdef inline void touch(Uses *uses, uint32_t number, Use *use, uint64_t tick) noexcept nogil:
    """Count a use. Without memory Python is not told of it."""
    cdef uint32_t *grown
    use.tick = tick
    use.count += 1
    if use.count & LISTED:
        return
    if uses.count == uses.room:
        grown = <uint32_t *> realloc(uses.touched, (2 * <size_t> uses.room + 1024) * sizeof(uint32_t))
        if grown == NULL:
            return
        uses.touched = grown
        uses.room = 2 * uses.room + 1024
    uses.touched[uses.count] = number
    uses.count += 1
    use.count |= LISTED


cdef inline void take_use_back(Use *use) noexcept nogil:
    """The last use was none. It may have been told."""
    if use.count & ~LISTED:
        use.count -= 1


cdef inline int tell(PyObject *entry, Use *use) except -1:
    """Tell an entry of the uses since it was last told."""
    cdef uint32_t count = use.count & ~LISTED
    if count:
        (<object> entry).tick = max((<object> entry).tick, use.tick)
        (<object> entry).uses += count
        use.count &= LISTED
    return 0


cdef inline int tell_uses_of(Uses *uses, Record *record) except -1:
    """Tell the entries of a record's uses: it is in no table any more."""
    cdef Rep *rep
    cdef int i
    for i in range(record.count):
        rep = &reps_of(record)[i]
        if rep.number:
            tell(rep.entry, use_of(uses, rep))
    return 0


cdef inline int tell_some(Uses *uses, const Numbers *numbers, int most) except -1:
    """Tell the entries of those that were touched last, at most so many."""
    cdef uint32_t number
    while most > 0 and uses.count:
        uses.count -= 1
        number = uses.touched[uses.count]
        if owner_of(numbers, number) != NULL:
            tell(owner_of(numbers, number), &uses.all[number])
        uses.all[number].count = 0
        most -= 1
    uses.due = min(uses.due, uses.count)
    return 0


cdef inline int tell_uses(Uses *uses, const Numbers *numbers, int most) except -1:
    """Tell at most so many (-1: all) of those that there were when this began; how many of them are left."""
    if uses.due <= 0 or most < 0:
        uses.due = uses.count
    if most < 0:
        most = uses.due
    most = min(most, min(uses.due, uses.count))
    uses.due -= most
    tell_some(uses, numbers, most)
    return uses.due

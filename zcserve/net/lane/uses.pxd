# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Uses: what was used, how often and when, so that eviction knows what is hot.

What a use writes is the lane's: each representation has a number (`Rep.number`), and by it each lane has a `Use` of it. Counts only grow:
Python's thread looks at them, and knows what it was told before (numbers.pxd). For that a lane lists the numbers of what was used, each once
in a list: what was used since the list was begun has a tick that says so. From time to time the list goes to Python's thread, as it is.

A number goes to another representation when no lane can use the one before any more. What the list leads to is what has the number by then.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from zcserve.net.lane.atomic cimport set_32, set_64
from zcserve.net.lane.growing cimport grown
from zcserve.net.lane.parcels cimport Parcel, send_parcel
from zcserve.net.lane.records cimport Rep
from zcserve.net.lane.steady cimport give_addresses, have_memory, take_addresses

cdef enum:
    NUMBERS_MAX = 0x1000000      # what has no number is not taught
    NUMBERS_MIN = 0x10000        # where there are few addresses

cdef extern from *:
    """
    #define ZC_TICKS_PER_S 1048576.0
    """
    const double TICKS_PER_S "ZC_TICKS_PER_S"    # as cache/evictor.py's

cdef struct Use:                 # of a representation. Other lanes look at it
    uint64_t tick                # when the last one was (cache/evictor.py); 0 for none
    uint32_t sighted             # the lower half of the tick when it was last sighted
    uint32_t count               # of all that there ever were of this number

cdef struct Uses:
    Use *all                     # by number
    int size, size_max           # Python's thread's
    uint64_t since               # the number stands in the list of what was last used at this tick, or later
    uint32_t *touched            # the list
    size_t count, room
    size_t room_sent             # of the list that was sent last


cdef inline int open_uses(Uses *uses) except -1:
    uses.since = 1
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


# --- in the lane --------------------------------------------------------------------------------------------


cdef inline void touch(Uses *uses, uint32_t number, Use *use, uint64_t tick) noexcept nogil:
    """Count a use."""
    set_32(&use.count, use.count + 1)
    note_tick(uses, number, use, tick)


cdef inline void note_tick(Uses *uses, uint32_t number, Use *use, uint64_t tick) noexcept nogil:
    """What has this number was used last at `tick`."""
    cdef uint64_t last = use.tick
    set_64(&use.tick, tick)
    if last < uses.since:
        list_number(uses, number)


cdef inline void list_number(Uses *uses, uint32_t number) noexcept nogil:
    """Without memory Python is told of its uses the next time."""
    cdef uint32_t *touched
    if uses.count == uses.room:
        touched = <uint32_t *> grown(uses.touched, &uses.room, sizeof(uint32_t))
        if touched == NULL:
            return
        uses.touched = touched
    uses.touched[uses.count] = number
    uses.count += 1


cdef inline void take_use_back(Use *use) noexcept nogil:
    """The last use was none. Where Python was told of it, the next one is not told."""
    set_32(&use.count, use.count - 1)


cdef inline void send_uses(Uses *uses, Parcel *list, uint64_t since) noexcept nogil:
    """Where it `may_send`: the list goes to Python's thread, and another one begins for what is used from `since` on, which is later than all
    that was until now."""
    cdef size_t room = uses.room
    send_parcel(list, <void **> &uses.touched, uses.count)
    uses.count = 0
    uses.room = uses.room_sent
    uses.room_sent = room
    uses.since = since

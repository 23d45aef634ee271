# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Lanes: what each lets the others see of it, and the epoch by which what was withdrawn is freed.

A `Station` is all of a lane that another thread may touch: its mailbox, its parcels, and numbers that the lane alone writes. Station 0 is that of the
first lane, in whose thread Python's loop runs.

Epochs. Python's thread takes something out of what lanes read, and then begins another epoch. A lane notes the epoch at the start of a
turn, and QUIET when it waits. What was withdrawn before an epoch began is out of reach when each lane has noted that epoch, or a later
one, or QUIET: then `passed` is true of it. The note comes before each read of the turn, in all threads' eyes; so does the withdrawal before the
epoch. The first lane withdraws between its own turns, so it notes nothing.
"""

from libc.stdint cimport uint64_t

from zcserve.net.lane.atomic cimport acquire, add, load, look_int, release, store
from zcserve.net.lane.mail cimport Letter, Mailbox, put_letter
from zcserve.net.lane.parcels cimport Parcel

cdef extern from *:
    """
    #define ZC_QUIET (~(uint64_t) 0)
    """
    const uint64_t QUIET "ZC_QUIET"      # no epoch: the lane reads nothing

cdef enum:
    LANES_MAX = 64

cdef enum:                       # `Letter.kind`
    STOP = 0                     # close all connections, and end
    GIVEN = 1                    # `what`: a `Given` (moving.pxd), a connection that is the taker's from now on
    RETURNED = 2                 # `what`: a dead `Record` (withdrawn.pxd), which the first lane is to free
    LISTEN = 3                   # `fd`: accept clients from here; it is the taker's. `what` is its number in Python
    UNLISTEN = 4                 # `fd`: accept no more from the one that has this number in Python
    ACCEPT = 5                   # clients wait at the listeners: the taker has the fewest
    TOLD = 6                     # a parcel has come for Python
    ASK = 7                      # `what`: the first `Question` of a chain (asking.pxd), for the first lane
    ANSWERED = 8                 # likewise, and it has answered them

cdef enum:                       # `Station.numbers`
    REQUESTS = 0                 # that it has answered
    CONTENT_BYTES = 1            # of content
    UNMODIFIED = 2               # answers that were 304
    NUMBERS = 3

cdef struct Station:
    Mailbox mail
    Parcel lines                 # of the log, for Python
    void *log                    # its `Log` (log.pxd), NULL for none: Python's when the lane has `ended`
    char before[64]              # what follows is written by the lane alone
    uint64_t seen                # the epoch of its turn, or QUIET
    uint64_t lost                # lines of the log that found no room
    int load                     # its connections
    int ended                    # it runs no more
    uint64_t numbers[NUMBERS]    # at the end of its last turn
    char behind[64]

cdef struct Lanes:
    int count                    # 1: there is the first one alone
    uint64_t epoch               # written by Python's thread
    Station *stations[LANES_MAX]


cdef inline void open_lanes(Lanes *lanes, Station *first) noexcept nogil:
    lanes.count = 1
    lanes.stations[0] = first
    first.seen = QUIET


cdef inline void begin_reading(const Lanes *lanes, Station *station) noexcept nogil:
    """A turn of a lane that is not the first begins."""
    store(&station.seen, acquire(&lanes.epoch))


cdef inline void end_reading(Station *station) noexcept nogil:
    """The lane has no pointer any more to what it has read, but for what it holds by a reference."""
    release(&station.seen, QUIET)


cdef inline uint64_t next_epoch(Lanes *lanes) noexcept nogil:
    """Python's thread: what was withdrawn until now is out of reach when this has `passed`."""
    return add(&lanes.epoch, 1)


cdef inline bint passed(const Lanes *lanes, uint64_t epoch) noexcept nogil:
    """Whether each lane has begun a turn in this epoch or later, or waits."""
    cdef int i
    for i in range(1, lanes.count):
        if load(&lanes.stations[i].seen) < epoch:
            return False
    return True


cdef inline int idlest(const Lanes *lanes) noexcept nogil:
    """The number of the lane with the fewest connections."""
    cdef int i, least = 0
    for i in range(1, lanes.count):
        if look_int(&lanes.stations[i].load) < look_int(&lanes.stations[least].load):
            least = i
    return least


cdef inline uint64_t total(const Lanes *lanes, int number) noexcept nogil:
    """One of the numbers, of all lanes but the first."""
    cdef uint64_t sum = 0
    cdef int i
    for i in range(1, lanes.count):
        sum += acquire(&lanes.stations[i].numbers[number])
    return sum


cdef inline bint send(Lanes *lanes, int number, Letter letter) noexcept nogil:
    """Put a letter into a lane's box; False where that is full."""
    return put_letter(&lanes.stations[number].mail, letter)

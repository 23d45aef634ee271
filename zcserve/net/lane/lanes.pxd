# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Lanes: what each lets the others see of it, and the epoch by which what was withdrawn is freed.

A `Station` is all of a lane that another thread may touch: its mailbox, its parcels, and numbers that the lane alone writes. Station 0 is
that of the first lane, in whose thread Python's loop runs. `Lanes` is what belongs to all.

Epochs. Python's thread takes something out of what lanes read, and then begins another epoch. A lane notes the epoch at the start of a
turn, and QUIET when it waits. What was withdrawn before an epoch began is out of reach when each lane has noted that epoch, or a later
one, or QUIET: then `passed` is true of it. The note comes before each read of the turn, in all threads' eyes; so does the withdrawal before the
epoch. The first lane withdraws between its own turns, so nothing waits for it: others only see whether it waits for events.
"""

from libc.stdint cimport uint64_t

from zcserve.net.lane.atomic cimport acquire, add, load, release, store
from zcserve.net.lane.mail cimport Letter, Mailbox, put_letter, put_order
from zcserve.net.lane.parcels cimport Parcel

cdef extern from *:
    """
    #define ZC_QUIET (~(uint64_t) 0)
    """
    const uint64_t QUIET "ZC_QUIET"      # no epoch: the lane reads nothing

cdef enum:
    LANES_MAX = 64

cdef enum:
    IDLEST_MAX = 16              # connections of a lane that others know of

cdef enum:                       # `Letter.kind`
    GIVEN = 1                    # `what`: a `Given` (moving.pxd), a connection that is the taker's from now on
    RETURNED = 2                 # `what`: a dead `Record` (withdrawn.pxd), which the first lane is to free
    LISTEN = 3                   # `fd`: accept clients from here; it is the taker's. `generation` is the listener's number
    ASK = 4                      # `what`: the first `Question` of a chain (asking.pxd), for the first lane
    ANSWERED = 5                 # likewise, and it has answered them

cdef enum:                       # orders
    STOP = 1                     # close all connections, and end
    DRAIN = 2                    # each answer is its connection's last, or not any more, as `Lanes.draining` says
    END_IDLE = 4                 # close what owes nothing, too
    END_ALL = 8                  # close everything in order
    SHED = 16                    # close its `share` of what is idle up to `Lanes.shed_up_to`, and tell which are the idlest then
    ACCEPT = 32                  # clients wait, and the taker has the fewest (accepting.pxd)
    LEAVE = 64                   # give up the listeners that are `closed`
    TELL = 128                   # send the log's lines at once
    SHUT = 8192                  # each answer is its connection's last, and no client comes any more
    # to the first lane:
    STAND_BEHIND = 256           # be the last one that the kernel tells of a client
    TROUBLE = 512                # Python is to see to the listeners that are `troubled`
    ROOM = 1024                  # all have looked for connections to close, and Python is to try to accept again
    OVER = 2048                  # all drain, and the last connection is gone
    TOLD = 4096                  # a parcel has come for Python

cdef struct Station:
    Mailbox mail
    Parcel lines                 # of the log, for Python
    void *log                    # its `Log` (log.pxd), NULL for none: Python's when the lane has `ended`
    char before[64]
    int asked                    # how often others told it to accept; they write it
    int share                    # of what is to be shed, at most; the first lane writes it
    char between[56]             # what follows is written by the lane alone
    uint64_t seen                # the epoch of its turn, or QUIET
    uint64_t lost                # lines of the log that found no room
    uint64_t written             # an epoch from before which all lines were sent
    bint has_chores              # something may be left to do in pieces (table.pxd); the first lane's, elsewhere never
    int ended                    # it runs no more
    int load                     # its connections; changed when one comes or goes
    int looked                   # what `asked` was when it last looked at all its listeners
    int shed                     # connections that it closed as it was told to, since the start
    int idlest_told              # one more than there are in `idlest`; 0: it was never asked
    double idlest[IDLEST_MAX]    # the ranks (endings.pxd) of its connections that would be shed first
    char behind[64]
    Parcel touched               # numbers of what was used (uses.pxd), for Python
    Parcel noted                 # sightings, likewise

cdef struct Lanes:
    int count                    # 1: there is the first one alone
    uint64_t epoch               # written by Python's thread
    Station *stations[LANES_MAX]
    uint64_t closed              # listeners that Python has closed, by number; written by Python's thread, as are the next
    int listeners                # how many it has opened
    int draining                 # each answer is its connection's last
    double shed_up_to            # the rank
    int shed_told                # connections that others have closed to make room, as far as Python was told
    int sheddings                # how often others were told to since one was closed; the first lane's, as is the next
    double shedding_at           # when they were told last
    char before[64]              # what follows is written by all when a connection comes or goes, or cannot come
    int connections              # of all lanes, in letters, and Python's
    int listening                # listeners that lanes but the first have
    int still_shed               # lanes that were told to and have not looked yet
    uint64_t troubled            # listeners, by number
    char behind[64]


cdef inline void open_lanes(Lanes *lanes, Station *first) noexcept nogil:
    lanes.count = 1
    lanes.stations[0] = first
    first.seen = QUIET


cdef inline bint waits(const Station *station) noexcept nogil:
    """Whether a lane waits for events."""
    return acquire(&station.seen) == QUIET


cdef inline void begin_reading(const Lanes *lanes, Station *station) noexcept nogil:
    """A turn of a lane that is not the first begins."""
    store(&station.seen, acquire(&lanes.epoch))


cdef inline void begin_work(Station *station) noexcept nogil:
    """A turn of the first lane begins."""
    release(&station.seen, 0)


cdef inline void end_reading(Station *station) noexcept nogil:
    """The lane has no pointer any more to what it has read, but for what it holds by a reference."""
    release(&station.seen, QUIET)


cdef inline void note_chores(Lanes *lanes) noexcept nogil:
    """Python's thread: there is something to do in pieces."""
    lanes.stations[0].has_chores = True


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


cdef inline bint send(Lanes *lanes, int number, Letter letter) noexcept nogil:
    """Put a letter into a lane's box; False where that is full."""
    return put_letter(&lanes.stations[number].mail, letter)


cdef inline void order(Lanes *lanes, int number, int what) noexcept nogil:
    put_order(&lanes.stations[number].mail, what)


cdef inline void order_others(Lanes *lanes, int what) noexcept nogil:
    """All but the first."""
    cdef int i
    for i in range(1, lanes.count):
        order(lanes, i, what)

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Shedding: which connections are closed when there are too many.

Room is made where connections were idle longest, in whatever lane. Each lane but the first lets the others see the ranks of those that it would
close first, when it is told to look. The first lane finds the rank up to which there are as many in all as are to go, and how many of them
each lane has; it closes its own, and has the others close theirs. The rank alone would not do: those that were answered in one turn
have the same. A rank that was seen long ago does no harm: what was asked for since has a later one, and is spared.
Python is told when all lanes have looked, and asks again then: at the first time nothing may have been seen yet, at the second they close
what the first has shown. Only where nothing was closed at the third, there is none that may be.

The unit knows no HTTP.
"""

from zcserve.net.lane.atomic cimport acquire_int, add_int, look_double, look_int, release_int, set_double, set_int
from zcserve.net.lane.connections cimport OWNER_LANE, Conn, Conns, unsent, wait_for_unread
from zcserve.net.lane.endings cimport YOUNG_S, end
from zcserve.net.lane.lanes cimport IDLEST_MAX, ROOM, SHED, Lanes, Station, order, order_others
from zcserve.net.lane.system cimport monotonic

cdef extern from *:
    """
    #define ZC_FOREVER_S 1e9
    #define ZC_NO_RANK -1e18
    #define ZC_STALE_S 1.0
    """
    const double FOREVER_S "ZC_FOREVER_S"        # longer than the monotonic clock runs
    const double NO_RANK "ZC_NO_RANK"            # below that of any connection
    const double STALE_S "ZC_STALE_S"            # ranks that were told so long ago are looked for anew

cdef enum:
    PENDING = -1                 # others look for connections to close; Python is told when they have
    SHEDDINGS = 2                # one shows the ranks, the next one closes up to one of them

cdef struct Choice:              # what is to go, of all lanes, in this order
    int count
    double ranks[IDLEST_MAX]
    int lanes[IDLEST_MAX]


cdef inline int shed(Conns *conns, int most) noexcept nogil:
    """The first lane's. Close up to `most` connections, those that have ended first, then the longest idle; how many were closed. Other
    lanes close theirs soon, and the last one tells (ROOM): what they have closed is in the number that the next call gives. PENDING where
    none was, and they still look.

    Not one whose first request may be on its way, or that was answered in this turn; and not one that has sent what was not read yet,
    or to which not all has left: closing would reset it."""
    cdef Lanes *lanes = conns.lanes
    cdef Choice choice
    cdef int victims[IDLEST_MAX]
    cdef int found, done
    cdef bint looking = acquire_int(&lanes.still_shed) > 0
    done = shed_elsewhere(lanes)
    most = min(most, IDLEST_MAX)
    if done or not most or looking:
        return done if done or not most else PENDING
    found = find_victims(conns, most, victims)
    choose(conns, most, victims, found, &choice)
    if is_to_ask(lanes):
        looking = True
        tell_shares(lanes, &choice)
    done = close_victims(conns, victims, found, last_rank(&choice), share_of(&choice, 0))
    if done:
        lanes.sheddings = 0
    return PENDING if looking and not done else done


cdef inline bint is_to_ask(Lanes *lanes) noexcept nogil:
    """Whether other lanes may have something to close that the last call has not shown."""
    cdef double now
    if lanes.count == 1:
        return False
    now = monotonic()
    if lanes.sheddings >= SHEDDINGS and now - lanes.shedding_at < STALE_S:
        lanes.sheddings = 0      # whoever asks next asks for another client
        return False
    if now - lanes.shedding_at >= STALE_S:
        lanes.sheddings = 0
    lanes.sheddings += 1
    lanes.shedding_at = now
    return True


cdef inline void choose(const Conns *conns, int most, const int *victims, int found, Choice *choice) noexcept nogil:
    """Which connections are to be closed, in all lanes: `most`, as far as they have told, and none while one has not."""
    cdef const Lanes *lanes = conns.lanes
    cdef const Station *station
    cdef int i, j, told
    choice.count = 0
    for i in range(1, lanes.count):
        station = lanes.stations[i]
        told = acquire_int(&station.idlest_told) - 1
        if told < 0:
            choice.count = 0     # it looks for them now
            return
        for j in range(told):
            put_in_order(choice, most, look_double(&station.idlest[j]), i)
    for i in range(found):
        put_in_order(choice, most, rank(conns, victims[i]), 0)
    if lanes.count > 1 and choice.count and choice.ranks[0] < 0:
        while choice.ranks[choice.count - 1] >= 0:
            choice.count -= 1    # those that have ended are room enough


cdef inline void put_in_order(Choice *choice, int most, double one, int lane) noexcept nogil:
    """Into the first `most` of those that were put."""
    cdef int i = choice.count
    if i == most:
        if choice.ranks[i - 1] <= one:
            return
        i -= 1
    else:
        choice.count += 1
    while i > 0 and choice.ranks[i - 1] > one:
        choice.ranks[i] = choice.ranks[i - 1]
        choice.lanes[i] = choice.lanes[i - 1]
        i -= 1
    choice.ranks[i] = one
    choice.lanes[i] = lane


cdef inline double last_rank(const Choice *choice) noexcept nogil:
    return choice.ranks[choice.count - 1] if choice.count else NO_RANK


cdef inline int share_of(const Choice *choice, int lane) noexcept nogil:
    """How many of them a lane has."""
    cdef int i, count = 0
    for i in range(choice.count):
        count += choice.lanes[i] == lane
    return count


cdef inline void tell_shares(Lanes *lanes, const Choice *choice) noexcept nogil:
    """Have the others close theirs."""
    cdef int i
    set_double(&lanes.shed_up_to, last_rank(choice))
    for i in range(1, lanes.count):
        set_int(&lanes.stations[i].share, share_of(choice, i))
    release_int(&lanes.still_shed, lanes.count - 1)
    order_others(lanes, SHED)


cdef inline int close_victims(Conns *conns, const int *victims, int found, double last, int most) noexcept nogil:
    """Close the first ones, up to `most`, that have a rank up to the `last`, and may be closed; how many it were."""
    cdef int i, done = 0
    cdef bint ended = found > 0 and conns.all[victims[0]].lingering
    for i in range(found):
        if done == most or rank(conns, victims[i]) > last or done and ended and not conns.all[victims[i]].lingering:
            break                # those that have ended are room enough
        if not wait_for_unread(conns, victims[i]) and not unsent(victims[i]):
            end(conns, victims[i])
            done += 1
    return done


cdef inline void shed_as_told(Conns *conns) noexcept nogil:
    """Another lane's: close what it is to, and tell which are the idlest now."""
    cdef Station *station = conns.station
    cdef int victims[IDLEST_MAX]
    cdef int i, found = find_victims(conns, IDLEST_MAX, victims)
    cdef int done = close_victims(conns, victims, found, look_double(&conns.lanes.shed_up_to), look_int(&station.share))
    if done:
        set_int(&station.shed, station.shed + done)
        found = find_victims(conns, IDLEST_MAX, victims)
    for i in range(found):
        set_double(&station.idlest[i], rank(conns, victims[i]))
    release_int(&station.idlest_told, found + 1)
    if not add_int(&conns.lanes.still_shed, -1):
        order(conns.lanes, 0, ROOM)


cdef inline int shed_elsewhere(Lanes *lanes) noexcept nogil:
    """How many connections other lanes have closed to make room, since the last call."""
    cdef int i, done = 0, before = lanes.shed_told
    for i in range(1, lanes.count):
        done += look_int(&lanes.stations[i].shed)
    lanes.shed_told = done
    if done > before:
        lanes.sheddings = 0
    return done - before


cdef inline int find_victims(const Conns *conns, int most, int *victims) noexcept nogil:
    """The connections that are shed first, in this order; how many there are."""
    cdef int fd, i, found = 0
    cdef double young = monotonic() - YOUNG_S
    for fd in range(conns.size):
        if not is_idle(conns, fd, young):
            continue
        if found == most:
            if not found or not rank(conns, fd) < rank(conns, victims[found - 1]):
                continue
            found -= 1
        i = found
        while i > 0 and rank(conns, fd) < rank(conns, victims[i - 1]):
            victims[i] = victims[i - 1]
            i -= 1
        victims[i] = fd
        found += 1
    return found


cdef inline bint is_idle(const Conns *conns, int fd, double young) noexcept nogil:
    """Whether a connection may be shed: not where its first request may be on its way, or it was answered in this turn."""
    cdef const Conn *conn = &conns.all[fd]
    if conn.owner != OWNER_LANE or conn.pending.record != NULL or conn.inbox_len or conn.queued:
        return False
    if conn.lingering:
        return not unsent(fd)
    return conn.since < conns.now and (conn.answered or conn.born < young)


cdef inline double rank(const Conns *conns, int fd) noexcept nogil:
    """Of two connections the one with the lower rank is shed first. Those that have ended have ranks below 0. The turn in which one was
    answered may have begun long before it came."""
    cdef const Conn *conn = &conns.all[fd]
    return conn.since - FOREVER_S if conn.lingering else max(conn.since, conn.born)

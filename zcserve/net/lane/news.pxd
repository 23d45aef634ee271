# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""News: what another lane than the first has for Python's thread, in parcels: the log's lines, and which
numbers were used (uses.pxd) with what was noted of uses (sightings.pxd).

It sends what it has gathered when it has been at work for NEWS_S, when a buffer is filling, and before it waits for long; an order tells Python's
thread that something has come. Where that has not taken what came before, the lane gathers on, and tries again as much or NEWS_S later. What finds no room then
is lost, and counted: no lane waits for Python.

When a lane has ended, Python's thread takes what was never sent, too. The first lane's own lines it takes from where they are gathered.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

from zcserve.net.lane.atomic cimport acquire, acquire_int, look_64, release, release_int
from zcserve.net.lane.lanes cimport TELL, TOLD, Lanes, Station, next_epoch, order, order_others
from zcserve.net.lane.log cimport LOG_FILLING, SPECIAL, Log, left_out_of, taken_lines
from zcserve.net.lane.parcels cimport close_parcel, has_come, let_parcel_go, may_send, open_parcel, send_parcel
from zcserve.net.lane.sightings cimport Sightings, send_sightings
from zcserve.net.lane.system cimport MADV_DONTNEED, madvise
from zcserve.net.lane.uses cimport TICKS_PER_S, Uses, send_uses

cdef enum:
    LINES_ROOM = 33554432        # in each of two buffers: a second of 300,000 lines; it is memory only where Python's thread was held so long
    LINES_MANY = 2097152         # a buffer that has held more is memory no longer
    PAGES_BYTES = 65536          # whole pages of any system

cdef extern from *:
    """
    #define ZC_NEWS_S 0.2
    """
    const double NEWS_S "ZC_NEWS_S"      # fastlane.py has the same


cdef inline int open_news(Station *station, Log *log) except -1:
    """In a lane that nothing runs yet. Raises MemoryError."""
    cdef char *lines
    if not log.on:
        return 0
    lines = <char *> malloc(LINES_ROOM)
    if lines == NULL:
        raise MemoryError
    free(log.lines)
    log.lines = lines
    log.room = LINES_ROOM
    log.loses = True
    log.plain = SPECIAL
    station.log = log
    return open_parcel(&station.lines, LINES_ROOM)


cdef inline void close_news(Station *station) noexcept nogil:
    close_parcel(&station.lines)


# --- in the lane --------------------------------------------------------------------------------------------


cdef inline double send_news(
    Lanes *lanes, Station *station, Log *log, Uses *uses, Sightings *sightings, uint64_t tick
) noexcept nogil:
    """Send what was gathered, between two turns, of which the last one had this `tick`. Within how many seconds this is to be done again;
    -1: when something has happened."""
    cdef bint is_told = send_lines(lanes, station, log)
    if tick >= uses.since + <uint64_t> TICKS_PER_S:      # Python tells once a second
        is_told |= send_used(station, uses, sightings, tick)
    if is_told:
        order(lanes, 0, TOLD)
    return NEWS_S if is_told or has_news(log, uses, sightings) else -1


cdef inline bint has_news(const Log *log, const Uses *uses, const Sightings *sightings) noexcept nogil:
    """Whether something was gathered."""
    return log.len > 0 or uses.count > 0 or sightings.count > 0


cdef inline bint send_used(Station *station, Uses *uses, Sightings *sightings, uint64_t tick) noexcept nogil:
    """Whether numbers or sightings were sent."""
    cdef bint is_sent = False
    if sightings.count and may_send(&station.noted):
        send_sightings(sightings, &station.noted)
        is_sent = True
    if uses.count and may_send(&station.touched):
        send_uses(uses, &station.touched, tick + 1)
        is_sent = True
    return is_sent


cdef inline bint send_lines(const Lanes *lanes, Station *station, Log *log) noexcept nogil:
    """Whether lines were sent."""
    cdef uint64_t epoch = acquire(&lanes.epoch)
    cdef bint is_any = log.len > 0
    release(&station.lost, log.lost)
    if is_any and not may_send(&station.lines):
        log.filling_at = log.len + LOG_FILLING       # tried again then
        return False
    if is_any:
        send_parcel(&station.lines, <void **> &log.lines, log.len)
        log.len = log.done = 0
        log.filling_at = LOG_FILLING
    release(&station.written, epoch)
    return is_any


cdef inline void tell_lines(Lanes *lanes, Station *station, Log *log) noexcept nogil:
    """Send the lines, and have Python look, as it has ordered. Where it has not taken the last ones, they come within NEWS_S."""
    send_lines(lanes, station, log)
    order(lanes, 0, TOLD)


cdef inline void end_news(Station *station) noexcept nogil:
    """The lane has ended: what is left lies where it was gathered, and is Python's."""
    release_int(&station.ended, True)


# --- in Python's thread -------------------------------------------------------------------------------------


cdef inline uint64_t ask_for_lines(Lanes *lanes) noexcept nogil:
    """Have all lanes send their lines; an epoch for `are_sent`."""
    cdef uint64_t epoch = next_epoch(lanes)
    order_others(lanes, TELL)
    return epoch


cdef inline bint are_sent(const Lanes *lanes, uint64_t epoch) noexcept nogil:
    """Whether all lines from before this epoch were sent, of lanes that have not ended."""
    cdef int i
    for i in range(1, lanes.count):
        if acquire(&lanes.stations[i].written) < epoch and not acquire_int(&lanes.stations[i].ended):
            return False
    return True


cdef inline bytes told_lines(const Lanes *lanes):
    """The lines of other lanes that have come; of a lane that has ended, all."""
    cdef bytes lines = b""
    cdef Station *station
    cdef int i
    for i in range(1, lanes.count):
        station = lanes.stations[i]
        if has_come(&station.lines):
            lines += (<char *> station.lines.what)[: station.lines.count]
            if station.lines.count > LINES_MANY:
                let_memory_go(station.lines.what, station.lines.count)
            let_parcel_go(&station.lines)
        if acquire_int(&station.ended) and station.log != NULL:
            lines += taken_lines(<Log *> station.log)
    return lines


cdef inline void let_memory_go(void *start, size_t length) noexcept nogil:
    """The whole pages in it are memory again when they are written."""
    cdef size_t behind = <size_t> start % PAGES_BYTES
    cdef size_t before = PAGES_BYTES - behind if behind else 0
    madvise(<char *> start + before, (length - before) // PAGES_BYTES * PAGES_BYTES, MADV_DONTNEED)


cdef inline size_t lost_lines(const Lanes *lanes) noexcept nogil:
    """How many lines have found no room since the start."""
    cdef size_t lost = 0
    cdef int i
    for i in range(1, lanes.count):
        lost += acquire(&lanes.stations[i].lost)
    return lost


cdef inline uint64_t lines_left_out(const Log *first, const Lanes *lanes) noexcept nogil:
    """How many lines were not written since the start, of all lanes, since others stand for them (`--access-log-sample`)."""
    cdef uint64_t count = left_out_of(first, first.seen)
    cdef const Log *log
    cdef int i
    for i in range(1, lanes.count):
        log = <const Log *> lanes.stations[i].log
        if log != NULL:
            count += left_out_of(log, look_64(&log.seen))
    return count

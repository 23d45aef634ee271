# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sightings: uses that are sampled for the miss-ratio curve (cache/curve.py), which net/sampler.py takes once a second.

Two rules choose them, each independent of the other: a use is `followed` by its key's hash, and `measured` by chance. Each lane notes its
own; what other lanes than the first have noted comes as parcels. What finds no place is `lost`, and counted: no lane waits for Python.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from zcserve.net.lane.atomic cimport look_64, look_double, set_64, set_double
from zcserve.net.lane.lanes cimport Lanes
from zcserve.net.lane.numbers cimport Numbers, last_use
from zcserve.net.lane.parcels cimport Parcel, has_come, let_parcel_go, send_parcel
from zcserve.net.lane.records cimport Record, Rep
from zcserve.net.lane.uses cimport Use

cdef enum:
    SIGHTINGS_MAX = 16384        # a second's
    SIGHTINGS_BYTES = 16385 * 40     # room for one more
    SITE_STEP = 2654435769       # as in net/sampler.py: two sites' `/index.html` are two resources


cdef struct Rule:                # which uses are sampled: Python's thread sets it, and lanes look at it
    double unit                  # as `MissRatioCurve`'s attributes of these names; 0: nothing is sampled
    uint64_t pause
    uint64_t every

cdef struct Sighting:
    uint32_t hash
    int64_t size
    uint64_t tick, last          # of this use, and of the use before
    bint followed, measured

cdef struct Sightings:
    uint64_t seed                # of chance
    int64_t gap                  # uses until the next that is measured
    Sighting *noted              # SIGHTINGS_BYTES
    size_t count
    uint64_t lost                # since the start; Python's thread looks at it


cdef inline int open_sightings(Sightings *sightings) except -1:
    sightings.noted = <Sighting *> malloc(SIGHTINGS_BYTES)
    if sightings.noted == NULL:
        raise MemoryError
    return 0


cdef inline void close_sightings(Sightings *sightings) noexcept:
    free(sightings.noted)


cdef inline int set_rule(Rule *rule, double unit, uint64_t pause, int64_t every) except -1:
    """`every` first: a lane that sees the new unit has it, too, or will in a moment. Raises ValueError."""
    if unit < 0 or pause < 1 or every < 1:
        raise ValueError("no rule to sample by")
    set_64(&rule.every, every)
    set_64(&rule.pause, pause)
    set_double(&rule.unit, unit)
    return 0


cdef inline bint is_sampling(const Rule *rule) noexcept nogil:
    return look_double(&rule.unit) > 0


cdef inline void sight(
    const Rule *rule, Sightings *sightings, const Numbers *numbers, const Record *record, const Rep *rep, Use *use, uint64_t tick
) noexcept nogil:
    """Note a use where it is sampled, before its tick is written."""
    cdef Sighting *sighting = &sightings.noted[sightings.count]
    cdef int64_t size = rep.head_len + rep.size
    cdef uint32_t hash = record.hash ^ <uint32_t> rep.coding ^ numbers.owners.all[rep.number].site * <uint32_t> SITE_STEP
    sighting.followed = (
        <uint32_t> tick - use.sighted >= look_64(&rule.pause)
        and <double> hash * look_double(&rule.unit) < <double> size * 4294967296.0
    )
    sightings.gap -= 1
    sighting.measured = sightings.gap <= 0
    if sighting.measured:
        sightings.seed = sightings.seed * 6364136223846793005u + 1442695040888963407u
        sightings.gap = 1 + (sightings.seed >> 33) % max(2 * look_64(&rule.every) - 1, 1)
    if not sighting.followed and not sighting.measured:
        return
    if sightings.count == SIGHTINGS_MAX:
        set_64(&sightings.lost, sightings.lost + 1)
    else:
        if sighting.followed:
            use.sighted = <uint32_t> tick
        sighting.hash = hash
        sighting.size = size
        sighting.tick = tick
        sighting.last = min(last_use(numbers, rep.number), tick)
        sightings.count += 1


cdef inline void send_sightings(Sightings *sightings, Parcel *noted) noexcept nogil:
    """Where it `may_send`: all go to Python's thread."""
    send_parcel(noted, <void **> &sightings.noted, sightings.count)
    sightings.count = 0


cdef inline int add_sightings(list found, const Sighting *noted, size_t count) except -1:
    cdef const Sighting *sighting
    cdef size_t i
    for i in range(count):
        sighting = &noted[i]
        found.append((
            sighting.hash, sighting.size, sighting.tick, sighting.last, bool(sighting.followed), bool(sighting.measured)
        ))
    return 0


cdef inline list taken(Sightings *sightings, const Lanes *lanes):
    """What was noted since the last call, and has come: [(hash, size, tick, tick of the use before, followed, measured)], in the order of ticks."""
    cdef Parcel *noted
    cdef list found = []
    cdef int i
    add_sightings(found, sightings.noted, sightings.count)
    sightings.count = 0
    for i in range(1, lanes.count):
        noted = &lanes.stations[i].noted
        if has_come(noted):
            add_sightings(found, <const Sighting *> noted.what, noted.count)
            let_parcel_go(noted)
    if lanes.count > 1:
        found.sort(key=lambda one: one[2])
    return found

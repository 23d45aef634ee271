# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sightings: uses that are sampled for the miss-ratio curve (cache/curve.py), which net/sampler.py takes once a second.

Two rules choose them, each independent of the other: a use is `followed` by its key's hash, and `measured` by chance. What
finds no place is not noted.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from zcserve.net.lane.records cimport Record, Rep
from zcserve.net.lane.uses cimport Use

cdef enum:
    SIGHTINGS_MAX = 16384        # a second's

cdef struct Sighting:
    uint32_t hash
    int64_t size
    uint64_t tick, last          # of this use, and of the use before
    bint followed, measured

cdef struct Sightings:
    double unit                  # as `MissRatioCurve`'s attributes of these names; 0: nothing is sampled
    uint64_t pause
    int64_t every
    uint64_t seed                # of chance
    int64_t gap                  # uses until the next that is measured
    Sighting *noted              # one more than SIGHTINGS_MAX
    int count


cdef inline int open_sightings(Sightings *sightings) except -1:
    sightings.noted = <Sighting *> malloc((SIGHTINGS_MAX + 1) * sizeof(Sighting))
    if sightings.noted == NULL:
        raise MemoryError
    return 0


cdef inline void close_sightings(Sightings *sightings) noexcept:
    free(sightings.noted)


cdef inline void sight(
    Sightings *sightings, const Record *record, const Rep *rep, Use *use, uint64_t tick
) noexcept nogil:
    """Note a use where it is sampled, before its tick is written."""
    cdef Sighting *sighting = &sightings.noted[sightings.count]
    cdef int64_t size = rep.head_len + rep.size
    cdef uint32_t hash = record.hash ^ <uint32_t> rep.coding
    sighting.followed = (
        <uint32_t> tick - use.told >= sightings.pause and <double> hash * sightings.unit < <double> size * 4294967296.0
    )
    sightings.gap -= 1
    sighting.measured = sightings.gap <= 0
    if sighting.measured:
        sightings.seed = sightings.seed * 6364136223846793005u + 1442695040888963407u
        sightings.gap = 1 + (sightings.seed >> 33) % (2 * sightings.every - 1)
    if (sighting.followed or sighting.measured) and sightings.count < SIGHTINGS_MAX:
        if sighting.followed:
            use.told = <uint32_t> tick
        sighting.hash = hash
        sighting.size = size
        sighting.tick = tick
        sighting.last = use.tick
        sightings.count += 1


cdef inline list taken(Sightings *sightings):
    """What was noted since the last call: [(hash, size, tick, tick of the use before, followed, measured)]."""
    cdef int i
    cdef Sighting *sighting
    cdef list found = []
    for i in range(sightings.count):
        sighting = &sightings.noted[i]
        found.append((
            sighting.hash, sighting.size, sighting.tick, sighting.last, bool(sighting.followed), bool(sighting.measured)
        ))
    sightings.count = 0
    return found

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Shared: what several lanes would look at, and Python's thread alone writes.

What a request leads to stands here; what a lane writes as it answers (connections, what is gathered and sent, uses, sightings, log lines,
memos of values, counters) is its own, and stands in `Answering`. docs/lanes.md says what each part needs for a second lane to read it.
"""

from libc.stdint cimport uint32_t

from zcserve.net.lane.absent cimport Absent, close_absent
from zcserve.net.lane.hashes cimport close_hashes, open_hashes
from zcserve.net.lane.lanes cimport Lanes
from zcserve.net.lane.numbers cimport Numbers, open_numbers
from zcserve.net.lane.owned cimport Owned
from zcserve.net.lane.records cimport Dead, Record, free_record
from zcserve.net.lane.sightings cimport Rule
from zcserve.net.lane.table cimport Table, close_table, open_table
from zcserve.net.lane.uses cimport Uses
from zcserve.net.lane.withdrawn cimport Withdrawn, close_withdrawn, open_withdrawn

cdef struct Shared:
    Lanes lanes
    Withdrawn withdrawn
    Numbers numbers
    Rule rule
    Table table
    Absent absent
    Owned owned
    Record *unavailable          # the page for 503; it never changes


cdef inline int open_shared(Shared *shared, Uses *uses, Dead *dead, uint32_t seed, bytes absent_seed, bytes owned_seed) except -1:
    """`uses` and `dead` are the first lane's. Raises MemoryError."""
    open_withdrawn(&shared.withdrawn, &shared.lanes, dead)
    open_numbers(&shared.numbers, &shared.lanes, uses)
    open_table(&shared.table, seed, &shared.numbers, &shared.withdrawn)
    open_hashes(&shared.absent.keys, absent_seed, &shared.withdrawn)
    open_hashes(&shared.owned.segments, owned_seed, &shared.withdrawn)
    return 0


cdef inline void close_shared(Shared *shared) noexcept:
    """All lanes have ended, and nothing is being sent any more."""
    close_withdrawn(&shared.withdrawn)
    close_table(&shared.table)
    close_absent(&shared.absent)
    close_hashes(&shared.owned.segments)
    if shared.unavailable != NULL:
        free_record(shared.unavailable)

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Shared: what several lanes would look at, and Python's thread alone writes.

What a request leads to stands here; what a lane writes as it answers (connections, what is gathered and sent, uses, sightings, log lines,
memos of values, counters) is its own, and stands in `Answering`. docs/lanes.md says what each part needs for a second lane to read it.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport free

from zcserve.net.lane.atomic cimport acquire_pointer, release_pointer
from zcserve.net.lane.hosts cimport Hosts, leads_to, new_hosts
from zcserve.net.lane.judged cimport Judged, follow_hosts
from zcserve.net.lane.lanes cimport Lanes
from zcserve.net.lane.numbers cimport Numbers, bury, open_numbers
from zcserve.net.lane.records cimport Dead, Record, free_record
from zcserve.net.lane.sightings cimport Rule
from zcserve.net.lane.sites cimport Sites, close_sites, let_site_go, open_sites, site_of
from zcserve.net.lane.uses cimport Uses
from zcserve.net.lane.withdrawn cimport Withdrawn, close_withdrawn, open_withdrawn, withdraw_memory

cdef struct Shared:
    Lanes lanes
    Withdrawn withdrawn
    Numbers numbers
    Rule rule
    Sites sites
    Hosts *hosts                 # `hosts_of`: other lanes read it
    Record *unavailable          # the page for 503; it never changes


cdef inline void open_shared(Shared *shared, Uses *uses, Dead *dead, uint32_t seed) noexcept nogil:
    """`uses` and `dead` are the first lane's."""
    open_withdrawn(&shared.withdrawn, &shared.lanes, dead)
    open_numbers(&shared.numbers, &shared.lanes, uses)
    open_sites(&shared.sites, seed, &shared.numbers, &shared.withdrawn)


cdef inline void close_shared(Shared *shared) noexcept:
    """All lanes have ended, and nothing is being sent any more."""
    cdef Dead *dead = shared.withdrawn.dead
    close_withdrawn(&shared.withdrawn)
    close_sites(&shared.sites)
    free(shared.hosts)
    if shared.unavailable != NULL:
        free_record(shared.unavailable)
    if dead != NULL:             # else it was never opened
        bury(dead)
        free(dead.records)


cdef inline const Hosts *hosts_of(const Shared *shared) noexcept nogil:
    return <const Hosts *> acquire_pointer(<void **> &shared.hosts)


cdef inline int set_hosts(Shared *shared, Judged *judged, dict names, unnamed, unknown) except -1:
    """As `Lane.set_hosts`. `judged` is the first lane's, which may be in the middle of a turn."""
    cdef Hosts *old = shared.hosts
    cdef Hosts *hosts = new_hosts(&shared.sites, names, unnamed, unknown, old.version + 1 if old != NULL else 1)
    release_pointer(<void **> &shared.hosts, hosts)
    withdraw_memory(&shared.withdrawn, old)
    follow_hosts(judged, hosts)
    return 0


cdef inline int drop_site(Shared *shared, uint32_t number) except -1:
    """As `Lane.drop_site`."""
    if leads_to(shared.hosts, site_of(&shared.sites, number)):
        raise ValueError(f"a host leads to site {number}")
    return let_site_go(&shared.sites, number)

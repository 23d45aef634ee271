# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Shared: what several lanes would look at, and Python's thread alone writes.

What a request leads to stands here; what a lane writes as it answers (connections, what is gathered and sent, uses, sightings, log lines,
memos of values, counters) is its own, and stands in `Answering`. docs/lanes.md says what each part needs for a second lane to read it.
"""

from zcserve.net.lane.absent cimport Absent
from zcserve.net.lane.lanes cimport Lanes
from zcserve.net.lane.owned cimport Owned
from zcserve.net.lane.numbers cimport Numbers
from zcserve.net.lane.records cimport Record
from zcserve.net.lane.sightings cimport Rule
from zcserve.net.lane.table cimport Table
from zcserve.net.lane.withdrawn cimport Withdrawn

cdef struct Shared:
    Lanes lanes
    Withdrawn withdrawn
    Numbers numbers
    Rule rule
    Table table
    Absent absent
    Owned owned
    Record *unavailable          # the page for 503; it never changes

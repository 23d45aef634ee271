# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Finding: what a path leads to that is not in the table is asked of Python, which teaches it, and the connection stays here.

So a file costs little more when it is asked for the first time than later. A client chooses what it asks for, so a turn has room for
FINDS_MAX questions: whatever is beyond waits for the next one, as a hand-over does. A question counts as several requests in its
connection's share of the turn, so that one client leaves room for others.

Odd: what stands in a table that was left behind is moved and not taught anew. To replace it would end a record that answers may
have been gathered from, and nothing holds those before they are sent.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memchr

from zcserve.net.lane.records cimport Record
from zcserve.net.lane.sites cimport Site
from zcserve.net.lane.table cimport find_key, moved
from zcserve.net.lane.text cimport Text

cdef enum:
    FINDS_MAX = 64               # for the events of a turn, and again for what was left of others: some 2 us each
    FIND_REQUESTS = 8            # what a question counts

cdef struct Finder:
    int left                     # questions, in this turn


cdef inline bint may_find(const Finder *finder) noexcept nogil:
    """Whether Python may be asked now. If not, the request waits."""
    return finder.left > 0


cdef inline Record *find_out(Finder *finder, Site *site, Text target) noexcept with gil:
    """What a target leads to, taught or moved now; NULL where the general lane is to answer. The caller has the GIL already."""
    cdef const char *query = <const char *> memchr(target.at, c'?', target.len)
    cdef Text path = Text(target.at, query - target.at) if query != NULL else target
    cdef Record *record = moved(&site.table, path)
    if record == NULL and site.teach != NULL:
        finder.left -= 1
        try:
            (<object> site.teach)(PyBytes_FromStringAndSize(path.at, path.len))
        except BaseException:    # the general lane fails as it does, and says so
            return NULL
        record = find_key(&site.table, path)
    return record if record != NULL and (query == NULL or record.any_query) else NULL

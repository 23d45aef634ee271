# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Finding: what a path leads to that is not in the table is asked of Python, which teaches it, and the connection stays here.

So a file costs little more when it is asked for the first time than later. A client chooses what it asks for, so a turn has room for
FINDS_MAX questions: whatever is beyond waits for the next one, as a hand-over does. A question counts as several requests in its
connection's share of the turn, so that one client leaves room for others.

Odd: what stands in a table that was left behind is moved and not taught anew. To replace it would end a record that answers may
have been gathered from, and nothing holds those before they are sent. Leads may be replaced (leads.pxd).
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memchr

from zcserve.net.lane.atomic cimport acquire_pointer, look_64
from zcserve.net.lane.leads cimport Lead, lead_of, note_use, target_of
from zcserve.net.lane.records cimport QUERY_PLAIN, Record
from zcserve.net.lane.scan cimport BEHIND_TARGET, query_end
from zcserve.net.lane.sites cimport Site
from zcserve.net.lane.table cimport find, find_key, moved
from zcserve.net.lane.text cimport Text

cdef enum:
    FINDS_MAX = 64               # for the events of a turn, and again for what was left of others: some 2 us each
    FIND_REQUESTS = 8            # what a question counts

cdef struct Finder:
    int left                     # questions, in this turn


cdef inline bint may_find(const Finder *finder) noexcept nogil:
    """Whether Python may be asked now. If not, the request waits."""
    return finder.left > 0


cdef inline Record *find_out(Finder *finder, Site *site, Text target, uint8_t *said) noexcept with gil:
    """What a target leads to, taught or moved now, and what is `said` with it (`follow`); NULL where the general lane is to answer. The
    caller has the GIL already."""
    cdef const char *query = <const char *> memchr(target.at, c'?', target.len)
    cdef Text path = Text(target.at, query - target.at) if query != NULL else target
    cdef Record *record = find_key(&site.table, path)
    cdef Record *answer
    if record == NULL:
        record = moved(&site.table, path)
    answer = answer_at(site, record, target, query, said)
    if answer == NULL and site.teach != NULL and not (query != NULL and is_in_force(site, record)):
        finder.left -= 1
        try:
            (<object> site.teach)(PyBytes_FromStringAndSize(path.at, path.len))
        except BaseException:    # the general lane fails as it does, and says so
            return NULL
        answer = answer_at(site, find_key(&site.table, path), target, query, said)
    return answer


cdef inline Record *answer_at(Site *site, Record *record, Text target, const char *query, uint8_t *said) noexcept nogil:
    """What a record at a target's path says to it; NULL for nothing."""
    if record == NULL or (query != NULL and not record.any_query):
        return NULL
    return follow(site, record, target, said) if record.front else record


cdef inline bint is_in_force(const Site *site, const Record *record) noexcept nogil:
    """Whether a path has a record, and not a lead that is void. What that has no answer to is Python's, and need not be taught again."""
    return record != NULL and (not record.front or lead_of(record).version == site.table.version)


cdef inline bint is_known(const Site *site, Text key) noexcept nogil:
    """As `Lane.knows`."""
    return is_in_force(site, find_key(&site.table, key))


# --- leads --------------------------------------------------------------------------------------------------


cdef inline Record *follow(Site *site, Record *record, Text target, uint8_t *said) noexcept nogil:
    """The record that a lead has the answer from, and the status that is `said` with a file's content. NULL: Python is asked, since the
    lead is void, or what it leads to is not known, or not in memory."""
    cdef Lead *lead = lead_of(record)
    if look_64(&site.table.version) != lead.version:
        return NULL
    note_use(lead)
    if record.count:
        return record if record.any_query != QUERY_PLAIN or is_plain_query(target) else NULL
    if not lead.target_len:
        return <Record *> acquire_pointer(<void * const *> &site.absent.page)
    said[0] = record.status
    if look_64(&site.table.drops) == lead.drops and lead.target != NULL:
        return lead.target
    record = find(&site.table, target_of(record), lead.target_len, lead.target_hash)
    return record if record != NULL and not record.front else NULL


cdef inline bint is_plain_query(Text target) noexcept nogil:
    """Whether a target has no query, or one in which nothing is to be escaped: `targets.escape_query`."""
    cdef const char *query = <const char *> memchr(target.at, c'?', target.len)
    cdef const char *end = target.at + target.len
    return query == NULL or query_end(query, end + BEHIND_TARGET) == end         # a blank stands there

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Leads: what rules answer at a path that no file has, or that a file has and a rule with force is laid over.

A lead is a record in the table of its site, under the path that is asked for. It is one of three: the key of a file, whose own record
answers, with another status perhaps (clean URLs, rewrites, the page of --spa, pages of errors); a page that was made for it (redirects,
410); or neither: the site's page for what is absent. So a lead holds no content and no entry. It keeps nothing in memory, a use is the
file's, and a file that changes or is evicted takes no lead along: its key leads to what stands there by then.

Rules may answer something else wherever a file comes or goes. So a lead holds for one `version` of its table, which is another one
whenever a key leads elsewhere. What is void then is asked for anew.

Clients choose the paths, so leads have LEADS_BYTES_MAX in all sites together. When that is full, the oldest goes that was not used
since it was last looked at (SIEVE, as in cache/sieve.py): what a crawl asks for once pushes out what is not used either.

Odd: where a file's record stands is looked up when a lead is made. So a use of it compares a number, and looks up only when a record was
dropped since.
Odd: what only a lead has stands in front of its record, in one block (`Record.front`), so that records of files need no room for it.
Odd: a lead that goes is withdrawn until the turn is over, with one lane, too. It may go while Python is asked in the middle of a turn,
and answers may have been gathered from its page by then.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from zcserve.net.lane.atomic cimport look_int, set_int
from zcserve.net.lane.records cimport Record, key_at

cdef enum:
    LEADS_BYTES_MAX = 0x1000000  # 16 MiB: some 100,000 paths that lead to files, or 25,000 redirects
    LEAD_BYTES_MAX = 8192        # a longer one is asked for each time: clients choose how long a path is, and a Location
    LOOKS_MAX = 64               # leads that are looked at for one that goes, whether they are used or not

cdef struct Lead:                # in front of its record
    Lead *newer
    Lead *older
    void *table                  # in which it stands; NULL: in none any more
    uint64_t version             # of the table, for which it holds
    Record *target               # what stood at the key of a file then, while nothing was dropped from the table since
    uint64_t drops
    uint32_t target_hash
    uint32_t target_len          # of the key of a file, which stands behind the record's; 0: it has a page, or leads nowhere
    size_t bytes                 # that it takes
    int used                     # any lane says so, and Python's thread takes it back

cdef struct Leads:               # Python's thread alone
    Lead *newest
    Lead *oldest
    Lead *hand                   # the next one to be looked at; NULL: the oldest
    size_t bytes
    size_t count


cdef inline Lead *lead_of(const Record *record) noexcept nogil:
    return <Lead *> record - 1


cdef inline Record *record_of_lead(const Lead *lead) noexcept nogil:
    return <Record *> (lead + 1)


cdef inline const char *target_of(const Record *record) noexcept nogil:
    return key_at(record) + record.key_len


cdef inline void note_use(Lead *lead) noexcept nogil:
    """It is written once, and not with each use: other lanes read what stands beside it."""
    if not look_int(&lead.used):
        set_int(&lead.used, True)


cdef inline void link(Leads *leads, Lead *lead) noexcept nogil:
    """It stands in its table, and is the newest."""
    lead.newer = NULL
    lead.older = leads.newest
    if leads.newest != NULL:
        leads.newest.newer = lead
    else:
        leads.oldest = lead
    leads.newest = lead
    leads.bytes += lead.bytes
    leads.count += 1


cdef inline void unlink(Leads *leads, Lead *lead) noexcept nogil:
    """It is none of them any more, if it was one."""
    if lead.table == NULL:
        return
    if leads.hand == lead:
        leads.hand = lead.newer
    if lead.newer != NULL:
        lead.newer.older = lead.older
    else:
        leads.newest = lead.older
    if lead.older != NULL:
        lead.older.newer = lead.newer
    else:
        leads.oldest = lead.newer
    lead.table = NULL
    leads.bytes -= lead.bytes
    leads.count -= 1


cdef inline Lead *next_to_go(Leads *leads) noexcept nogil:
    """The next lead that is to go; there is one."""
    cdef int looks
    for looks in range(LOOKS_MAX):
        if leads.hand == NULL:
            leads.hand = leads.oldest
        if not look_int(&leads.hand.used):
            break
        set_int(&leads.hand.used, False)
        leads.hand = leads.hand.newer
    return leads.hand if leads.hand != NULL else leads.oldest

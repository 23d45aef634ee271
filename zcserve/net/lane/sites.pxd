# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sites: what the lanes know of each, and of all together.

A `Site` is what is served under some host names: what its keys lead to (the table), which keys lead nowhere, what its application may
own, and what is asked in Python. Keys are paths, so each site has a table of its own. Connections, numbers, uses, epochs and what was withdrawn belong to no site.

A site never moves, and its number is never another one's. Python's thread alone makes sites and writes in them. What a lane has of one it has
for a turn, since a host led to it (hosts.pxd). So a site that no host leads to is emptied in pieces, as a table that is cleared, and goes when all lanes have
passed (withdrawn.pxd).

An entry (a representation's Python object) is found by its numbers (owners.pxd), in whichever tables it stands.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from zcserve.net.lane.absent cimport Absent, close_absent, drop_page
from zcserve.net.lane.atomic cimport look_int, release_pointer
from zcserve.net.lane.counts cimport ACCOUNTS
from zcserve.net.lane.growing cimport grown
from zcserve.net.lane.hashes cimport close_hashes, give_up, open_hashes
from zcserve.net.lane.leads cimport Leads
from zcserve.net.lane.numbers cimport TICKS_AT_ONCE, Numbers, bury, is_telling, tell_some
from zcserve.net.lane.owned cimport Owned
from zcserve.net.lane.owners cimport first_of, next_of
from zcserve.net.lane.records cimport Dead, Record, key_at
from zcserve.net.lane.table cimport (
    CHORE_RECORDS, SLOTS_MIN, Chores, Table, close_table, drop_key, empty_tables, leave_table, open_table, stands_in,
)
from zcserve.net.lane.text cimport Text
from zcserve.net.lane.withdrawn cimport Withdrawn, free_some, is_over, is_waiting, withdraw_memory
from zcserve.net.lane.withdrawn cimport holds as is_withdrawn

cdef enum:
    LOG_MARK_MAX = 8             # as in net/access_logs.py

cdef struct Site:
    Table table
    uint32_t account             # that its requests are counted for (counts.pxd)
    bint is_unlogged             # it has no access log
    uint32_t log_mark_len
    char log_mark[LOG_MARK_MAX]  # begins its lines, where they are not the server's (log.pxd)
    Absent absent
    Owned owned
    int has_ruled_failures       # 1: rules have fields for 412 and 416, which Python makes
    # Python's, of `Lane`:
    PyObject *teach              # has `Lane.put` or `put_redirect` called for a path, or not; NULL: nothing is asked
    PyObject *look_up            # `Application.look_up`; NULL for none
    PyObject *quick              # the keys of what that found
    Site *next                   # in `Sites.leaving`

cdef struct Sites:
    Site **all                   # by number; NULL: it is gone
    size_t room
    uint32_t count               # of numbers that were given
    uint32_t accounts            # that are in use: their numbers begin with 0
    Site *leaving                # those that go
    uint32_t seed                # of all tables: a secret
    Chores chores
    Leads leads
    Numbers *numbers
    Withdrawn *withdrawn


cdef inline void open_sites(Sites *sites, uint32_t seed, Numbers *numbers, Withdrawn *withdrawn) noexcept nogil:
    sites.seed = seed
    sites.accounts = 1
    sites.numbers = numbers
    sites.withdrawn = withdrawn


cdef inline Site *add_site(Sites *sites, bytes secret, set quick) except NULL:
    """Another site, which leads nowhere yet. `secret`: 32 bytes. Raises MemoryError."""
    cdef Site *site
    cdef Site **all
    if sites.count == sites.room:
        all = <Site **> grown(sites.all, &sites.room, sizeof(Site *))
        if all == NULL:
            raise MemoryError
        sites.all = all
    site = <Site *> calloc(1, sizeof(Site))
    if site == NULL:
        raise MemoryError
    try:
        open_table(&site.table, sites.seed, sites.count, &sites.chores, sites.numbers, sites.withdrawn, &sites.leads)
        open_hashes(&site.absent.keys, secret[:16], sites.withdrawn)
        open_hashes(&site.owned.segments, secret[16:], sites.withdrawn)
    except BaseException:
        free_site(site)
        raise
    site.quick = <PyObject *> quick
    sites.all[sites.count] = site
    sites.count += 1
    return site


cdef inline void free_site(Site *site) noexcept:
    """No lane reads it, and nothing is being sent from it."""
    close_table(&site.table)
    close_absent(&site.absent)
    close_hashes(&site.owned.segments)
    free(site)


cdef inline void close_sites(Sites *sites) noexcept:
    """All lanes have ended, nothing is being sent any more, and no uses are told."""
    cdef uint32_t number
    cdef Site *site
    for number in range(sites.count):
        if sites.all[number] != NULL:
            free_site(sites.all[number])
    while sites.leaving != NULL:
        site = sites.leaving
        sites.leaving = site.next
        free_site(site)
    free(sites.all)
    sites.all = NULL
    sites.count = 0


cdef inline Site *site_of(const Sites *sites, uint32_t number) except NULL:
    """Raises ValueError where there is none of this number, or none any more."""
    if number >= sites.count or sites.all[number] == NULL:
        raise ValueError(f"there is no site {number}")
    return sites.all[number]


cdef inline int note_as(Sites *sites, uint32_t number, uint32_t account, bytes mark) except -1:
    """As `Lane.note_as`."""
    cdef Site *site = site_of(sites, number)
    if account >= ACCOUNTS:
        raise ValueError(f"there is no account {account}")
    if mark is not None and len(mark) > LOG_MARK_MAX:
        raise ValueError("a mark that is too long")
    site.account = account
    sites.accounts = max(sites.accounts, account + 1)
    site.is_unlogged = mark is None
    site.log_mark_len = len(mark) if mark is not None else 0
    if site.log_mark_len:
        memcpy(site.log_mark, PyBytes_AS_STRING(mark), site.log_mark_len)
    return 0


cdef inline int let_site_go(Sites *sites, uint32_t number) except -1:
    """A site goes, to which no host leads and of which nothing is asked in Python. Raises ValueError, MemoryError."""
    cdef Site *site = site_of(sites, number)
    leave_table(&site.table, SLOTS_MIN - 1, False)
    give_up(&site.absent.keys)
    give_up(&site.owned.segments)
    drop_page(&site.absent)
    release_pointer(<void **> &site.owned.is_fresh, NULL)
    site.teach = site.look_up = NULL
    sites.all[number] = NULL
    site.next = sites.leaving
    sites.leaving = site
    return 0


cdef inline void withdraw_sites(Sites *sites) noexcept nogil:
    """Withdraw those that go and are empty. Between two turns of the first lane."""
    cdef Site **at = &sites.leaving
    cdef Site *site
    while at[0] != NULL:
        site = at[0]
        if site.table.limbo != NULL:
            at = &site.next
            continue
        at[0] = site.next
        withdraw_memory(sites.withdrawn, site.table.slots)
        withdraw_memory(sites.withdrawn, site)


# --- entries ------------------------------------------------------------------------------------------------


cdef inline Record *record_of(const Sites *sites, uint32_t number) noexcept nogil:
    """The record that a number belongs to, where that stands in a table; NULL: in none any more."""
    cdef Record *record = sites.numbers.owners.all[number].record
    cdef const Site *site = sites.all[sites.numbers.owners.all[number].site]
    return record if site != NULL and stands_in(&site.table, record) else NULL


cdef inline uint32_t number_behind(const Sites *sites, uint32_t number, entry) noexcept:
    """The number that an entry has behind this one; 0 for none."""
    return next_of(&sites.numbers.owners, sites.numbers.owners.all[number].next, <PyObject *> entry)


cdef inline bint holds(const Sites *sites, entry) noexcept:
    """As `Lane.holds`."""
    cdef uint32_t number = first_of(&sites.numbers.owners, <PyObject *> entry)
    while number:
        if record_of(sites, number) != NULL:
            return True
        number = number_behind(sites, number, entry)
    return is_withdrawn(sites.withdrawn, entry)


cdef inline bint is_sending(const Sites *sites, entry) noexcept:
    """As `Lane.pinned`."""
    cdef uint32_t number = first_of(&sites.numbers.owners, <PyObject *> entry)
    cdef const Record *record
    while number:
        record = record_of(sites, number)
        if record != NULL and look_int(&record.refs) > 1:
            return True
        number = number_behind(sites, number, entry)
    return False


cdef inline int drop_entry(Sites *sites, entry) except -1:
    """Take every record out that a representation belongs to."""
    cdef uint32_t number = first_of(&sites.numbers.owners, <PyObject *> entry)
    cdef Record *record
    if number:
        tell_some(sites.numbers, TICKS_AT_ONCE)     # so that eviction knows the uses of the last second
    while number:
        record = record_of(sites, number)
        if record != NULL:
            drop_key(&sites.all[sites.numbers.owners.all[number].site].table, Text(key_at(record), record.key_len))
        number = number_behind(sites, number, entry)
    bury(sites.withdrawn.dead)
    return 0


# --- in pieces ----------------------------------------------------------------------------------------------


cdef inline bint has_chores(const Sites *sites) noexcept nogil:
    """Whether there is something that can be done now: the lane comes back to Python after each turn. Where `Station.has_chores` is not
    set, there is not."""
    return sites.chores.first != NULL or sites.leaving != NULL or is_telling(sites.numbers) or is_over(sites.withdrawn)


cdef inline bint are_chores_left(const Sites *sites) noexcept nogil:
    """What `Station.has_chores` is to say when Python has done what it had to: as `has_chores`, or something waits for other lanes."""
    return sites.chores.first != NULL or sites.leaving != NULL or is_telling(sites.numbers) or is_waiting(sites.withdrawn)


cdef inline bint do_chores(Sites *sites) except -1:
    """See to a piece of what tables have left behind, of what was withdrawn, and of the uses that are told. True while more is left of the
    tables."""
    empty_tables(&sites.chores)
    if is_telling(sites.numbers):
        tell_some(sites.numbers, TICKS_AT_ONCE)
    free_some(sites.withdrawn, CHORE_RECORDS)
    bury(sites.withdrawn.dead)
    return sites.chores.first != NULL


cdef inline int see_to_chores(Sites *sites) except -1:
    """As `do_chores`, and of the sites that go, if there is something to do. Between two turns of the first lane."""
    if has_chores(sites):
        do_chores(sites)
        withdraw_sites(sites)
    return 0

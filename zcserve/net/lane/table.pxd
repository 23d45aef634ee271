# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The table of a site: key -> record, by open addressing.

Keys are hashed with a secret seed, since clients choose what is looked up; and a search looks at PROBES_MAX slots at most,
since keys can be computed that have one hash under every seed. What finds no place is left to the general lane.

Nothing here takes long. Slots that are too few, or cleared, are left behind (`Limbo`), and `empty_tables` sees to a piece of them
after each turn, of whichever site; what still stands there and is asked for moves at once (finding.pxd). The table in use has no
tombs: what follows a record that goes is moved. One that was left behind gets `tomb` where a record stood: a search goes on
behind it.

Python's thread alone writes. Other lanes read at the same time: the slots by one pointer, and each slot once, by acquire and release. So they
find a whole record or none. They miss one that is being moved, or stands in slots that were left behind; then they ask the first lane.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp

from zcserve.net.lane.atomic cimport acquire_pointer, release_pointer, set_64
from zcserve.net.lane.lanes cimport note_chores
from zcserve.net.lane.leads cimport Leads, lead_of, unlink
from zcserve.net.lane.numbers cimport Numbers, bury, give_numbers, number_reps, tell_record
from zcserve.net.lane.owners cimport has_many
from zcserve.net.lane.records cimport (
    QUERY_SENT, Dead, Record, free_record, is_resident, key_at, record_of_file, record_of_page, reps_of,
)
from zcserve.net.lane.system cimport CACHE_LINE, prefetch
from zcserve.net.lane.text cimport Text, murmur3
from zcserve.net.lane.withdrawn cimport Withdrawn, put_thing, withdraw, withdraw_memory

cdef enum:
    PROBES_MAX = 256             # slots that a search looks at: a table at most half full needs some dozens
    SLOTS_MIN = 64
    SPARSE = 16                  # slots for each record: a table of more is not crowded, its keys were chosen
    CHORE_SLOTS = 4096           # of a table that was left behind, seen to in a turn: some ten microseconds
    CHORE_RECORDS = 256          # likewise, and at most so many records: some hundred

cdef struct Slots:               # one block: its mask is the one that fits
    uint32_t mask
    Record *at[1]                # mask + 1 of them

cdef struct Limbo:               # a table that was left behind, of which what stands from `at` on is still to be seen to
    Slots *slots
    uint32_t at
    bint moves                   # to the present table; else it is let go
    Limbo *next

cdef struct Table

cdef struct Chores:              # tables that have left slots behind
    Table *first

cdef struct Table:
    uint32_t seed                # one for all tables
    uint32_t site                # whose table it is: the site's number
    Slots *slots                 # `slots_of`: other lanes read it
    uint32_t count
    Limbo *limbo
    Table *next                  # in `Chores`, where it has a `limbo`
    Chores *chores
    Numbers *numbers
    Dead *dead
    Withdrawn *withdrawn
    Leads *leads                 # of all tables
    uint64_t drops               # of records that are no leads, until now. Other lanes look at it
    uint64_t version             # of what keys lead to: leads hold for one. Other lanes look at it
    Record tomb

cdef inline int open_table(
    Table *table, uint32_t seed, uint32_t site, Chores *chores, Numbers *numbers, Withdrawn *withdrawn, Leads *leads
) except -1:
    """Raises MemoryError."""
    table.seed = seed
    table.site = site
    table.chores = chores
    table.numbers = numbers
    table.withdrawn = withdrawn
    table.dead = withdrawn.dead
    table.leads = leads
    table.slots = new_slots(SLOTS_MIN - 1)
    if table.slots == NULL:
        raise MemoryError
    table.tomb.key_len = 0xFFFFFFFFu
    return 0


cdef inline void close_table(Table *table) noexcept:
    """Free everything. Nothing is being sent any more, and no uses are told."""
    cdef Limbo *limbo
    if table.dead == NULL:
        return                   # it was never opened
    if table.slots != NULL:
        release_all(table, table.slots, 0)
    free(table.slots)
    while table.limbo != NULL:
        limbo = table.limbo
        release_all(table, limbo.slots, limbo.at)
        table.limbo = limbo.next
        free(limbo.slots)
        free(limbo)


cdef inline Slots *new_slots(uint32_t mask) noexcept nogil:
    """NULL without memory."""
    cdef Slots *slots = <Slots *> calloc(1, sizeof(Slots) + <size_t> mask * sizeof(Record *))
    if slots != NULL:
        slots.mask = mask
    return slots


cdef inline void release_all(Table *table, Slots *slots, uint32_t at) noexcept:
    """Free what stands in a table from `at` on."""
    while at <= slots.mask:
        if slots.at[at] != NULL and slots.at[at] != &table.tomb:
            free_record(slots.at[at])
        at += 1


cdef inline Slots *slots_of(const Table *table) noexcept nogil:
    return <Slots *> acquire_pointer(<void **> &table.slots)


cdef inline Record *record_at(const Slots *slots, uint32_t at) noexcept nogil:
    return <Record *> acquire_pointer(<void **> &slots.at[at])


cdef inline void put_at(Slots *slots, uint32_t at, Record *record) noexcept nogil:
    release_pointer(<void **> &slots.at[at], record)


# --- searching ----------------------------------------------------------------------------------------------


cdef inline uint32_t hash_of(uint32_t seed, const char *key, size_t length) noexcept nogil:
    return murmur3(key, length, seed)


cdef inline void expect(const Table *table, uint32_t hash) noexcept nogil:
    """A record of this hash will be asked for soon."""
    cdef const Slots *slots = slots_of(table)
    cdef const char *record = <const char *> record_at(slots, hash & slots.mask)
    if record != NULL:
        prefetch(record)
        prefetch(record + CACHE_LINE)
        prefetch(record + 2 * CACHE_LINE)


cdef inline bint is_of(const Record *record, const char *key, size_t length, uint32_t hash) noexcept nogil:
    return record.hash == hash and record.key_len == length and memcmp(key_at(record), key, length) == 0


cdef inline Record *seek(const Slots *slots, const char *key, size_t length, uint32_t hash, uint32_t *slot) noexcept nogil:
    """A record, and where it stands; NULL for none."""
    cdef uint32_t at = hash & slots.mask
    cdef Record *record
    cdef int probe
    for probe in range(PROBES_MAX):
        record = record_at(slots, at)
        if record == NULL:
            return NULL
        if is_of(record, key, length, hash):
            slot[0] = at
            return record
        at = (at + 1) & slots.mask
    return NULL


cdef inline Record *find(const Table *table, const char *key, size_t length, uint32_t hash) noexcept nogil:
    cdef uint32_t slot
    return seek(slots_of(table), key, length, hash, &slot)


cdef inline Record *find_path(const Table *table, Text target) noexcept nogil:
    """The record of a target's path, where a query changes nothing; NULL, too, for a target without a query."""
    cdef const char *query = <const char *> memchr(target.at, c'?', target.len)
    cdef Record *record
    if query == NULL:
        return NULL
    record = find(table, target.at, query - target.at, hash_of(table.seed, target.at, query - target.at))
    return record if record != NULL and record.any_query else NULL


cdef inline Text text_of(bytes key) noexcept:
    return Text(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))


cdef inline Record *find_key(const Table *table, Text key) noexcept nogil:
    return find(table, key.at, key.len, hash_of(table.seed, key.at, key.len))


cdef inline Record *find_left(const Table *table, Text key, Limbo **where, uint32_t *slot) noexcept nogil:
    """A record that is still to move, and where it stands; NULL for none."""
    cdef Limbo *limbo = table.limbo
    cdef Record *record = NULL
    while limbo != NULL and record == NULL:
        if limbo.moves:
            where[0] = limbo
            record = seek(limbo.slots, key.at, key.len, hash_of(table.seed, key.at, key.len), slot)
        limbo = limbo.next
    return record


cdef inline Record *find_any(const Table *table, Text key) noexcept nogil:
    """A record, moved or still to move; NULL for none."""
    cdef Record *record = find_key(table, key)
    cdef Limbo *limbo
    cdef uint32_t slot
    return record if record != NULL else find_left(table, key, &limbo, &slot)


cdef inline bint stands_in(const Table *table, const Record *record) noexcept nogil:
    """Whether a record is found in the table, or is still to move."""
    return find_any(table, Text(key_at(record), record.key_len)) == record


# --- putting ------------------------------------------------------------------------------------------------


cdef inline uint32_t mask_for(uint32_t resources) noexcept nogil:
    """That of a table which is at most half full with so many."""
    cdef uint32_t mask = SLOTS_MIN - 1
    while mask // 2 < resources and mask < 0x7FFFFFFFu:
        mask = 2 * mask + 1
    return mask


cdef inline bint place(Slots *slots, Record *record) noexcept nogil:
    """Put a record into the first free slot from where its search begins; False when that is not in reach."""
    cdef uint32_t at = record.hash & slots.mask
    cdef int probe
    for probe in range(PROBES_MAX):
        if slots.at[at] == NULL:
            put_at(slots, at, record)
            return True
        at = (at + 1) & slots.mask
    return False


cdef inline bint insert(Table *table, Record *record) except -1:
    """Put a record into the table; False when there is no slot for it in reach of a search, however large the table is."""
    if 2 * (table.count + 1) > table.slots.mask:
        leave_table(table, 2 * table.slots.mask + 1, True)
    while not place(table.slots, record):
        if table.slots.mask > SPARSE * table.count:
            return False
        leave_table(table, 2 * table.slots.mask + 1, True)
    table.count += 1
    return True


cdef inline bint insert_or_free(Table *table, Record *record) except -1:
    """Put a record into the table; False: it is freed, there is no place."""
    record.hash = hash_of(table.seed, key_at(record), record.key_len)
    if number_reps(table.numbers, record, table.site) and insert(table, record):
        return True
    give_numbers(table.numbers, record)
    free_record(record)
    return False


cdef inline int put_file(Table *table, bytes key, tuple entries, bint any_query) except -1:
    """As `Lane.put`."""
    cdef Record *record = record_of_file(key, entries, any_query)
    drop_key(table, text_of(key))
    if record == NULL:
        return 0
    if has_many(&table.numbers.owners, reps_of(record).entry):
        free_record(record)
        return 0
    if insert_or_free(table, record) and not is_resident(record):
        drop_key(table, text_of(key))    # evicted meanwhile, before the lane could be told
    return 0


cdef inline int put_redirect(Table *table, bytes key, int status, bytes head, bytes content) except -1:
    """Put a redirect that takes each query along. Raises ValueError."""
    cdef Record *record
    if not head.endswith(b"\r\n\r\n"):
        raise ValueError("not a head")
    record = record_of_page(key, status, head, content)
    record.any_query = QUERY_SENT
    drop_key(table, text_of(key))
    insert_or_free(table, record)
    return 0


cdef inline Record *moved(Table *table, Text key) noexcept:
    """A record that was still to move, moved; NULL where there is none."""
    cdef Limbo *limbo
    cdef uint32_t slot
    cdef Record *record = find_left(table, key, &limbo, &slot)
    if record == NULL or not place(table.slots, record):
        return NULL
    put_at(limbo.slots, slot, &table.tomb)
    return record


cdef inline int leave_table(Table *table, uint32_t mask, bint moves) except -1:
    """Have an empty table. What stands in the old slots is seen to by `empty_tables`."""
    cdef Slots *slots = new_slots(mask)
    cdef Limbo *limbo = <Limbo *> malloc(sizeof(Limbo))
    if slots == NULL or limbo == NULL:
        free(slots)
        free(limbo)
        raise MemoryError
    limbo.slots = table.slots
    limbo.at = 0
    limbo.moves = moves
    limbo.next = table.limbo
    if table.limbo == NULL:
        table.next = table.chores.first
        table.chores.first = table
    table.limbo = limbo
    note_chores(table.withdrawn.lanes)
    if not moves:
        while limbo != NULL:
            limbo.moves = False
            limbo = limbo.next
    release_pointer(<void **> &table.slots, slots)
    return 0


# --- dropping -----------------------------------------------------------------------------------------------


cdef inline int drop_key(Table *table, Text key) except -1:
    """Take a record out of the table, if there is one."""
    cdef Record *record = find_key(table, key)
    cdef Limbo *limbo
    cdef uint32_t slot
    if record != NULL:
        take_out(table, record)
    else:
        record = find_left(table, key, &limbo, &slot)
        if record == NULL:
            return 0
        put_at(limbo.slots, slot, &table.tomb)
    table.count -= 1
    return let_go(table, record)


cdef inline void take_out(Table *table, Record *record) noexcept nogil:
    """Probe chains are closed by moving what follows."""
    cdef Slots *slots = table.slots
    cdef uint32_t at, hole, home
    at = record.hash & slots.mask
    while slots.at[at] != record:
        at = (at + 1) & slots.mask
    hole = at
    while True:
        at = (at + 1) & slots.mask
        if slots.at[at] == NULL:
            break
        home = slots.at[at].hash & slots.mask
        if ((at - home) & slots.mask) >= ((at - hole) & slots.mask):
            put_at(slots, hole, slots.at[at])
            hole = at
    put_at(slots, hole, NULL)


cdef inline int let_go(Table *table, Record *record) except -1:
    """A record is in no table any more."""
    if record.front:
        unlink(table.leads, lead_of(record))
        put_thing(table.withdrawn, <uintptr_t> record)
        return 0
    set_64(&table.drops, table.drops + 1)
    tell_record(table.numbers, record)
    withdraw(table.withdrawn, record)
    return 0


cdef inline int clear(Table *table, uint32_t resources) except -1:
    """Take out everything, in the next turns, and have room for so many records."""
    leave_table(table, max(table.slots.mask, mask_for(resources)), False)
    table.count = 0
    return 0


cdef inline int reserve(Table *table, uint32_t resources) except -1:
    """Have room for so many records, so that the table need not grow."""
    if mask_for(resources) > table.slots.mask:
        leave_table(table, mask_for(resources), True)
    return 0


# --- in pieces ----------------------------------------------------------------------------------------------


cdef inline int empty_tables(Chores *chores) except -1:
    """See to a piece of what stands in slots that were left behind."""
    cdef int slots = CHORE_SLOTS, records = CHORE_RECORDS
    while chores.first != NULL and slots > 0 and records > 0:
        empty_some(chores.first, &slots, &records)
        if chores.first.limbo == NULL:
            chores.first = chores.first.next
    return 0


cdef inline int empty_some(Table *table, int *slots, int *records) except -1:
    """As `empty_tables`, of one: of so many slots and records, which become less."""
    cdef Limbo *limbo = table.limbo
    cdef Record *record
    while limbo != NULL and slots[0] and records[0]:
        if limbo.at > limbo.slots.mask:
            table.limbo = limbo.next
            withdraw_memory(table.withdrawn, limbo.slots)
            free(limbo)
            limbo = table.limbo
            continue
        record = limbo.slots.at[limbo.at]
        put_at(limbo.slots, limbo.at, &table.tomb)
        limbo.at += 1
        slots[0] -= 1
        if record == NULL or record == &table.tomb:
            continue
        records[0] -= 1
        if not limbo.moves:
            let_go(table, record)
        elif not place(table.slots, record):
            table.count -= 1
            let_go(table, record)
    return 0

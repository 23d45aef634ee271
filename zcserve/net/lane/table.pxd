# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The table: key -> record, by open addressing.

Keys are hashed with a secret seed, since clients choose what is looked up; and a search looks at PROBES_MAX slots at most,
since keys can be computed that have one hash under every seed. What finds no place is left to the general lane.

Nothing here takes long. A table that grows or is cleared is left behind (`Limbo`), and `do_chores` sees to a piece of it
after each turn; what still stands there is not found, and the general lane answers for it meanwhile. The table in use has no
tombs: what follows a record that goes is moved. One that was left behind gets `tomb` where a record stood: a search goes on
behind it.

`entries` leads from an entry (a representation's Python object) to the keys it was put under. It is hidden from the
collector, as content is (cache/unseen.py).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp

from zcserve.net.lane.records cimport Dead, Record, bury, maybe_dead, release
from zcserve.net.lane.system cimport CACHE_LINE, hide, prefetch
from zcserve.net.lane.text cimport Text, murmur3
from zcserve.net.lane.uses cimport TICKS_AT_ONCE, Uses, close_uses, untouch, untouch_some

cdef enum:
    PROBES_MAX = 256             # slots that a search looks at: a table at most half full needs some dozens
    SLOTS_MIN = 1024
    SPARSE = 16                  # slots for each record: a table of more is not crowded, its keys were chosen
    CHORE_SLOTS = 4096           # of a table that was left behind, seen to in a turn: some ten microseconds
    CHORE_RECORDS = 256          # likewise, and at most so many records: some hundred

cdef struct Limbo:               # a table that was left behind, of which what stands from `at` on is still to be seen to
    Record **slots
    uint32_t mask, at
    bint moves                   # to the present table; else it is let go
    Limbo *next

cdef struct Table:
    uint32_t seed
    uint32_t mask
    Record **slots
    uint32_t count
    Limbo *limbo
    PyObject *entries            # a dict: entry -> set of keys
    Uses uses
    Dead dead
    Record tomb


cdef inline int open_table(Table *table, uint32_t seed) except -1:
    entries = {}
    table.seed = seed
    table.mask = SLOTS_MIN - 1
    table.slots = <Record **> calloc(SLOTS_MIN, sizeof(Record *))
    if table.slots == NULL:
        raise MemoryError
    Py_INCREF(entries)
    table.entries = <PyObject *> entries
    table.tomb.key_len = 0xFFFFFFFFu
    return 0


cdef inline void close_table(Table *table) noexcept:
    """Free everything. Nothing is being sent any more."""
    cdef Limbo *limbo
    close_uses(&table.uses, &table.dead)
    if table.slots != NULL:
        release_all(table, table.slots, 0, table.mask)
    free(table.slots)
    while table.limbo != NULL:
        limbo = table.limbo
        release_all(table, limbo.slots, limbo.at, limbo.mask)
        table.limbo = limbo.next
        free(limbo.slots)
        free(limbo)
    bury(&table.dead)
    free(table.dead.records)
    if table.entries != NULL:
        Py_DECREF(<object> table.entries)


cdef inline void release_all(Table *table, Record **slots, uint32_t at, uint32_t mask) noexcept:
    """Free what stands in a table from `at` on."""
    while at <= mask:
        if slots[at] != NULL and slots[at] != &table.tomb:
            release(slots[at])
        at += 1


# --- searching ----------------------------------------------------------------------------------------------


cdef inline uint32_t hash_of(const Table *table, const char *key, size_t length) noexcept nogil:
    return murmur3(key, length, table.seed)


cdef inline void expect(const Table *table, uint32_t hash) noexcept nogil:
    """A record of this hash will be asked for soon."""
    cdef const char *record = <const char *> table.slots[hash & table.mask]
    if record != NULL:
        prefetch(record)
        prefetch(record + CACHE_LINE)
        prefetch(record + 2 * CACHE_LINE)


cdef inline bint is_of(const Record *record, const char *key, size_t length, uint32_t hash) noexcept nogil:
    return record.hash == hash and record.key_len == length and memcmp(record.key, key, length) == 0


cdef inline Record *find(const Table *table, const char *key, size_t length, uint32_t hash) noexcept nogil:
    cdef uint32_t at = hash & table.mask
    cdef Record *record
    cdef int probe
    for probe in range(PROBES_MAX):
        record = table.slots[at]
        if record == NULL:
            return NULL
        if is_of(record, key, length, hash):
            return record
        at = (at + 1) & table.mask
    return NULL


cdef inline Record *find_path(const Table *table, Text target) noexcept nogil:
    """The record of a target's path, where a query changes nothing; NULL, too, for a target without a query."""
    cdef const char *query = <const char *> memchr(target.at, c'?', target.len)
    cdef Record *record
    if query == NULL:
        return NULL
    record = find(table, target.at, query - target.at, hash_of(table, target.at, query - target.at))
    return record if record != NULL and record.any_query else NULL


cdef inline Record *find_key(const Table *table, bytes key) noexcept:
    cdef const char *start = PyBytes_AS_STRING(key)
    return find(table, start, PyBytes_GET_SIZE(key), hash_of(table, start, PyBytes_GET_SIZE(key)))


cdef inline Record **find_left(const Table *table, bytes key) noexcept:
    """The slot of a record that is still to move; NULL for none."""
    cdef const char *start = PyBytes_AS_STRING(key)
    cdef size_t length = PyBytes_GET_SIZE(key)
    cdef uint32_t at, hash = hash_of(table, start, length)
    cdef Limbo *limbo = table.limbo
    cdef int probe
    while limbo != NULL:
        at = hash & limbo.mask
        for probe in range(PROBES_MAX if limbo.moves else 0):
            if limbo.slots[at] == NULL:
                break
            if is_of(limbo.slots[at], start, length, hash):
                return &limbo.slots[at]
            at = (at + 1) & limbo.mask
        limbo = limbo.next
    return NULL


cdef inline Record *find_any(const Table *table, bytes key) noexcept:
    """A record, moved or still to move; NULL for none."""
    cdef Record *record = find_key(table, key)
    cdef Record **left
    if record == NULL:
        left = find_left(table, key)
        record = left[0] if left != NULL else NULL
    return record


cdef inline bint is_sending(const Table *table, entry):
    """Whether the lane is in the middle of sending from this entry."""
    cdef Record *record
    for key in tuple((<dict> table.entries).get(entry, ())):
        record = find_any(table, key)
        if record != NULL and record.sending:
            return True
    return False


cdef inline uint64_t note_use(const Table *table, entry, uint64_t turn) except? 0:
    """Python uses a representation in this turn: the turn of the use before, as the lane knows it; 0 for none."""
    cdef Record *record
    cdef uint64_t last = 0
    cdef int i
    for key in tuple((<dict> table.entries).get(entry, ())):
        record = find_any(table, key)
        if record != NULL:
            for i, (known, _, _) in enumerate(<list> record.keep):
                if known is entry:
                    last = max(last, record.reps[i].tick)
                    record.reps[i].tick = turn
    return last


# --- putting ------------------------------------------------------------------------------------------------


cdef inline uint32_t mask_for(uint32_t resources) noexcept nogil:
    """That of a table which is at most half full with so many."""
    cdef uint32_t mask = SLOTS_MIN - 1
    while mask // 2 < resources and mask < 0x7FFFFFFFu:
        mask = 2 * mask + 1
    return mask


cdef inline bint place(Record **slots, uint32_t mask, Record *record) noexcept nogil:
    """Put a record into the first free slot from where its search begins; False when that is not in reach."""
    cdef uint32_t at = record.hash & mask
    cdef int probe
    for probe in range(PROBES_MAX):
        if slots[at] == NULL:
            slots[at] = record
            return True
        at = (at + 1) & mask
    return False


cdef inline bint insert(Table *table, Record *record) except -1:
    """Put a record into the table; False when there is no slot for it in reach of a search, however large the table is."""
    if 2 * (table.count + 1) > table.mask:
        leave_table(table, 2 * table.mask + 1, True)
    while not place(table.slots, table.mask, record):
        if table.mask > SPARSE * table.count:
            return False
        leave_table(table, 2 * table.mask + 1, True)
    table.count += 1
    return True


cdef inline int insert_file(Table *table, bytes key, Record *record) except -1:
    """Put a record of `record_of_file`; or free it, where there is no place."""
    cdef list keep = <list> record.keep
    cdef dict entries = <dict> table.entries
    record.hash = hash_of(table, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    if not insert(table, record):
        release(record)
        return 0
    for kept in keep:
        hide(<PyObject *> kept)
        keys = entries.setdefault(kept[0], set())
        keys.add(key)
        hide(<PyObject *> keys)
    hide(<PyObject *> keep)
    hide(<PyObject *> entries)
    return 0


cdef inline int leave_table(Table *table, uint32_t mask, bint moves) except -1:
    """Have an empty table. What stands in the old one is seen to by `do_chores`."""
    cdef Record **slots = <Record **> calloc(<size_t> mask + 1, sizeof(Record *))
    cdef Limbo *limbo = <Limbo *> malloc(sizeof(Limbo))
    if slots == NULL or limbo == NULL:
        free(slots)
        free(limbo)
        raise MemoryError
    limbo.slots = table.slots
    limbo.mask = table.mask
    limbo.at = 0
    limbo.moves = moves
    limbo.next = table.limbo
    table.limbo = limbo
    if not moves:
        while limbo != NULL:
            limbo.moves = False
            limbo = limbo.next
    table.slots = slots
    table.mask = mask
    return 0


# --- dropping -----------------------------------------------------------------------------------------------


cdef inline int drop_key(Table *table, bytes key) except -1:
    """Take a record out of the table, if there is one."""
    cdef Record *record = find_key(table, key)
    cdef Record **left
    if record != NULL:
        take_out(table, record)
    else:
        left = find_left(table, key)
        if left == NULL:
            return 0
        record = left[0]
        left[0] = &table.tomb
    table.count -= 1
    forget_entries(table, record)
    return let_go(table, record)


cdef inline void take_out(Table *table, Record *record) noexcept nogil:
    """Probe chains are closed by moving what follows."""
    cdef uint32_t at, hole, home
    at = record.hash & table.mask
    while table.slots[at] != record:
        at = (at + 1) & table.mask
    hole = at
    while True:
        at = (at + 1) & table.mask
        if table.slots[at] == NULL:
            break
        home = table.slots[at].hash & table.mask
        if ((at - home) & table.mask) >= ((at - hole) & table.mask):
            table.slots[hole] = table.slots[at]
            hole = at
    table.slots[hole] = NULL


cdef inline int forget_entries(Table *table, Record *record) except -1:
    cdef bytes key = record.key[: record.key_len]
    cdef dict entries = <dict> table.entries
    for entry, _, _ in (<list> record.keep if record.count else ()):
        keys = entries.get(entry)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del entries[entry]
    return 0


cdef inline int let_go(Table *table, Record *record) except -1:
    """A record is in no table any more: it is freed when nothing is sent from it."""
    untouch(&table.uses, record)
    record.dropped = True
    maybe_dead(&table.dead, record)
    return 0


cdef inline int drop_entry(Table *table, entry) except -1:
    """Take out every record that a representation belongs to."""
    keys = (<dict> table.entries).pop(entry, None)
    if keys is None:
        return 0
    untouch_some(&table.uses, &table.dead, TICKS_AT_ONCE)     # so that eviction knows the uses of the last second
    for key in keys:
        drop_key(table, key)
    bury(&table.dead)
    return 0


cdef inline object clear(Table *table, uint32_t resources):
    """Take out everything, in the next turns, and have room for so many records; the `entries` that there were."""
    given_up = <object> table.entries
    entries = {}
    leave_table(table, max(table.mask, mask_for(resources)), False)
    table.count = 0
    Py_INCREF(entries)
    table.entries = <PyObject *> entries
    Py_DECREF(given_up)          # of two references, one is the caller's now
    do_chores(table)
    return given_up


cdef inline int reserve(Table *table, uint32_t resources) except -1:
    """Have room for so many records, so that the table need not grow."""
    if mask_for(resources) > table.mask:
        leave_table(table, mask_for(resources), True)
    return 0


cdef inline bint has_chores(const Table *table) noexcept nogil:
    """Whether something is done in pieces: the lane comes back to Python after each turn."""
    return table.limbo != NULL or table.uses.due > 0


cdef inline bint do_chores(Table *table) except -1:
    """See to a piece of what stands in tables that were left behind. True while more is left."""
    cdef Limbo *limbo = table.limbo
    cdef Record *record
    cdef int slots = CHORE_SLOTS, records = CHORE_RECORDS
    while limbo != NULL and slots and records:
        if limbo.at > limbo.mask:
            table.limbo = limbo.next
            free(limbo.slots)
            free(limbo)
            limbo = table.limbo
            continue
        record = limbo.slots[limbo.at]
        limbo.slots[limbo.at] = &table.tomb
        limbo.at += 1
        slots -= 1
        if record == NULL or record == &table.tomb:
            continue
        records -= 1
        if not limbo.moves:
            let_go(table, record)
        elif not place(table.slots, table.mask, record):
            forget_entries(table, record)
            table.count -= 1
            let_go(table, record)
    bury(&table.dead)
    return table.limbo != NULL

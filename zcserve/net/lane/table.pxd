# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The table: key -> record, by open addressing.

Keys are hashed with a secret seed, since clients choose what is looked up; and a search looks at PROBES_MAX slots at most,
since keys can be computed that have one hash under every seed. What finds no place is left to the general lane.

Nothing here takes long. A table that grows or is cleared is left behind (`Limbo`), and `do_chores` sees to a piece of it
after each turn; what still stands there and is asked for moves at once (finding.pxd). The table in use has no
tombs: what follows a record that goes is moved. One that was left behind gets `tomb` where a record stood: a search goes on
behind it.

Python's thread alone writes. Other lanes read at the same time: the slots by one pointer, and each slot once, by acquire and release. So they
find a whole record or none. They miss one that is being moved, or stands in a table that was left behind; then they ask the first lane.

An entry (a representation's Python object) is found by its own `key`: under that, or that of its directory, whose index it is then,
stands all that it may be put under (`may_be_under`).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp

from zcserve.net.lane.atomic cimport acquire_pointer, look_int, release_pointer
from zcserve.net.lane.lanes cimport note_chores
from zcserve.net.lane.numbers cimport (
    TICKS_AT_ONCE, Numbers, bury, give_numbers, is_telling, last_use, take_number, tell_record, tell_some,
)
from zcserve.net.lane.records cimport Dead, Record, Rep, free_record, is_resident, is_with, key_at, record_of_file, reps_of
from zcserve.net.lane.system cimport CACHE_LINE, prefetch
from zcserve.net.lane.text cimport Text, murmur3
from zcserve.net.lane.uses cimport note_tick
from zcserve.net.lane.withdrawn cimport Withdrawn, free_some, is_over, is_waiting, withdraw, withdraw_memory

cdef enum:
    PROBES_MAX = 256             # slots that a search looks at: a table at most half full needs some dozens
    SLOTS_MIN = 1024
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

cdef struct Table:
    uint32_t seed
    Slots *slots                 # `slots_of`: other lanes read it
    uint32_t count
    Limbo *limbo
    Numbers *numbers
    Dead *dead
    Withdrawn *withdrawn
    Record tomb


cdef inline int open_table(Table *table, uint32_t seed, Numbers *numbers, Withdrawn *withdrawn) except -1:
    table.seed = seed
    table.numbers = numbers
    table.withdrawn = withdrawn
    table.dead = withdrawn.dead
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
    bury(table.dead)
    free(table.dead.records)


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


cdef inline uint32_t hash_of(const Table *table, const char *key, size_t length) noexcept nogil:
    return murmur3(key, length, table.seed)


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
    record = find(table, target.at, query - target.at, hash_of(table, target.at, query - target.at))
    return record if record != NULL and record.any_query else NULL


cdef inline Text text_of(bytes key) noexcept:
    return Text(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))


cdef inline Record *find_key(const Table *table, Text key) noexcept nogil:
    return find(table, key.at, key.len, hash_of(table, key.at, key.len))


cdef inline Record *find_left(const Table *table, Text key, Limbo **where, uint32_t *slot) noexcept nogil:
    """A record that is still to move, and where it stands; NULL for none."""
    cdef Limbo *limbo = table.limbo
    cdef Record *record = NULL
    while limbo != NULL and record == NULL:
        if limbo.moves:
            where[0] = limbo
            record = seek(limbo.slots, key.at, key.len, hash_of(table, key.at, key.len), slot)
        limbo = limbo.next
    return record


cdef inline Record *find_any(const Table *table, Text key) noexcept nogil:
    """A record, moved or still to move; NULL for none."""
    cdef Record *record = find_key(table, key)
    cdef Limbo *limbo
    cdef uint32_t slot
    return record if record != NULL else find_left(table, key, &limbo, &slot)


cdef inline Text directory_of(Text key) noexcept nogil:
    """The key of the directory that an entry's key lies in."""
    while key.len and key.at[key.len - 1] != c'/':
        key.len -= 1
    return key


cdef inline bint may_be_under(bytes key, Text own) noexcept:
    """Whether an entry that has the key `own` may be put under `key`."""
    cdef Text text = text_of(key)
    return text.len in (own.len, directory_of(own).len) and memcmp(text.at, own.at, text.len) == 0


cdef inline int find_with(const Table *table, entry, Record **found) except -1:
    """The records that an entry's representation belongs to; how many."""
    cdef bytes own = entry.key
    cdef Text key = text_of(own)
    cdef Text directory = directory_of(key)
    cdef int count = 0
    found[0] = find_any(table, key)
    count += found[0] != NULL and is_with(found[0], entry)
    if directory.len < key.len:
        found[count] = find_any(table, directory)
        count += found[count] != NULL and is_with(found[count], entry)
    return count


cdef inline bint is_sending(const Table *table, entry) except -1:
    """Whether the lane is in the middle of sending from this entry."""
    cdef Record *found[2]
    cdef int i
    for i in range(find_with(table, entry, found)):
        if look_int(&found[i].refs) > 1:
            return True
    return False


cdef inline int tell_entry(const Table *table, entry) except -1:
    """Tell an entry of its uses until now."""
    cdef Record *found[2]
    cdef int i
    for i in range(find_with(table, entry, found)):
        tell_record(table.numbers, found[i])
    return 0


cdef inline uint64_t note_use(const Table *table, entry, uint64_t tick) except? 0:
    """Python uses a representation at this tick: that of the use before, as the lanes know it; 0 for none."""
    cdef Record *found[2]
    cdef uint64_t last = 0
    cdef int i, place
    for i in range(find_with(table, entry, found)):
        for place in range(found[i].count):
            rep = &reps_of(found[i])[place]
            if <object> rep.entry is entry:
                last = max(last, last_use(table.numbers, rep.number))
                note_tick(table.numbers.uses[0], rep.number, &table.numbers.uses[0].all[rep.number], tick)
    return last


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
    record.hash = hash_of(table, key_at(record), record.key_len)
    if number_reps(table, record) and insert(table, record):
        return True
    give_numbers(table.numbers, record)
    free_record(record)
    return False


cdef inline bint number_reps(Table *table, Record *record) except -1:
    """Have a place for the uses of a file's representations. False without memory."""
    cdef Rep *rep
    cdef int i
    for i in range(record.count):
        rep = &reps_of(record)[i]
        if rep.entry == NULL:
            continue
        rep.number = take_number(table.numbers, <object> rep.entry)
        if not rep.number:
            return False
    return True


cdef inline int put_file(Table *table, bytes key, tuple entries, bint any_query) except -1:
    """As `Lane.put`."""
    cdef Record *record = record_of_file(key, entries, any_query)
    cdef bytes own
    drop_key(table, text_of(key))
    if record == NULL:
        return 0
    for entry in entries:
        own = entry.key
        if not may_be_under(key, text_of(own)):
            free_record(record)
            raise ValueError(f"{key!r} is no key of {own!r}")
    if insert_or_free(table, record) and not is_resident(record):
        drop_key(table, text_of(key))    # evicted meanwhile, before the lane could be told
    return 0


cdef inline int put_page(Table *table, bytes key, Record *record) except -1:
    """Put what is the same with each query."""
    record.any_query = True
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
    """Have an empty table. What stands in the old one is seen to by `do_chores`."""
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
    tell_record(table.numbers, record)
    withdraw(table.withdrawn, record)
    return 0


cdef inline int drop_entry(Table *table, entry) except -1:
    """Take out every record that a representation belongs to."""
    cdef Record *found[2]
    cdef int i, count = find_with(table, entry, found)
    if count:
        tell_some(table.numbers, TICKS_AT_ONCE)     # so that eviction knows the uses of the last second
    for i in range(count):
        drop_key(table, Text(key_at(found[i]), found[i].key_len))
    bury(table.dead)
    return 0


cdef inline int clear(Table *table, uint32_t resources) except -1:
    """Take out everything, in the next turns, and have room for so many records."""
    leave_table(table, max(table.slots.mask, mask_for(resources)), False)
    table.count = 0
    do_chores(table)
    return 0


cdef inline int reserve(Table *table, uint32_t resources) except -1:
    """Have room for so many records, so that the table need not grow."""
    if mask_for(resources) > table.slots.mask:
        leave_table(table, mask_for(resources), True)
    return 0


cdef inline bint has_chores(const Table *table) noexcept nogil:
    """Whether there is something that can be done now: the lane comes back to Python after each turn. Where `Station.has_chores` is not
    set, there is not."""
    return table.limbo != NULL or is_telling(table.numbers) or is_over(table.withdrawn)


cdef inline bint are_chores_left(const Table *table) noexcept nogil:
    """What `Station.has_chores` is to say when Python has done what it had to: as `has_chores`, or something waits for other lanes."""
    return table.limbo != NULL or is_telling(table.numbers) or is_waiting(table.withdrawn)


cdef inline bint do_chores(Table *table) except -1:
    """See to a piece of what stands in tables that were left behind, of what was withdrawn, and of the uses that are told. True while
    more is left of the tables."""
    cdef Limbo *limbo = table.limbo
    cdef Record *record
    cdef int slots = CHORE_SLOTS, records = CHORE_RECORDS
    while limbo != NULL and slots and records:
        if limbo.at > limbo.slots.mask:
            table.limbo = limbo.next
            withdraw_memory(table.withdrawn, limbo.slots)
            free(limbo)
            limbo = table.limbo
            continue
        record = limbo.slots.at[limbo.at]
        put_at(limbo.slots, limbo.at, &table.tomb)
        limbo.at += 1
        slots -= 1
        if record == NULL or record == &table.tomb:
            continue
        records -= 1
        if not limbo.moves:
            let_go(table, record)
        elif not place(table.slots, record):
            table.count -= 1
            let_go(table, record)
    if is_telling(table.numbers):
        tell_some(table.numbers, TICKS_AT_ONCE)
    free_some(table.withdrawn, CHORE_RECORDS)
    bury(table.dead)
    return table.limbo != NULL

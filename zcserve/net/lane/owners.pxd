# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Owners: which record a number belongs to, in whose table that was put, and which numbers an entry has.

An entry may stand in several records: under its own key and its directory's, and in the table of one site or another. So it is found by
what it is, not by a key: its address leads to a bucket, and that to its numbers. Buckets are split one at a time, as numbers come (linear hashing,
Litwin 1980), so that no step is long. What a number costs: 16 bytes, and 4 to 8 for the buckets.

All here is changed and read with the GIL. An address is no client's choice, so its hash needs no secret.
"""

from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memset

from zcserve.net.lane.growing cimport grown
from zcserve.net.lane.records cimport Record, reps_of

cdef enum:
    BUCKETS_MIN = 64             # a power of two
    KEYS_MAX = 256               # that lead to one entry: what is under more, clients choose, and all of it goes in one step

cdef struct Owner:               # of one number
    Record *record               # NULL for none
    uint32_t next                # the next number of its bucket, 0 for none
    uint32_t site                # the number of the site in whose table the record was put

cdef struct Owners:
    Owner *all                   # by number
    size_t room
    uint32_t *buckets            # the first number of each, 0 for none
    size_t buckets_room
    uint32_t whole               # buckets before the last doubling: a power of two, 0 for nothing yet
    uint32_t split               # so many of these were split since
    uint32_t count               # of numbers that belong to a record


cdef inline void close_owners(Owners *owners) noexcept nogil:
    free(owners.all)
    free(owners.buckets)
    owners.all = NULL
    owners.buckets = NULL
    owners.room = owners.buckets_room = owners.whole = 0


cdef inline bint has_room_for(Owners *owners, uint32_t number) noexcept nogil:
    """Have a place for this number, and for what buckets come with it. False without memory."""
    cdef void *list
    if number >= owners.room:
        list = grown(owners.all, &owners.room, sizeof(Owner))
        if list == NULL:
            return False
        owners.all = <Owner *> list
    if owners.whole + owners.split + 1 >= owners.buckets_room:
        list = grown(owners.buckets, &owners.buckets_room, sizeof(uint32_t))
        if list == NULL:
            return False
        owners.buckets = <uint32_t *> list
    if not owners.whole:
        owners.whole = BUCKETS_MIN
        memset(owners.buckets, 0, BUCKETS_MIN * sizeof(uint32_t))
    return True


cdef inline uint32_t hash_of_entry(const PyObject *entry) noexcept nogil:
    return <uint32_t> (((<uintptr_t> entry >> 4) * <uint64_t> 0x9E3779B97F4A7C15u) >> 32)


cdef inline uint32_t bucket_of(const Owners *owners, uint32_t hash) noexcept nogil:
    cdef uint32_t bucket = hash & (owners.whole - 1)
    return bucket if bucket >= owners.split else hash & (2 * owners.whole - 1)


cdef inline PyObject *entry_of(const Owners *owners, uint32_t number) noexcept nogil:
    """Whose representation has a number; NULL: none has."""
    cdef const Record *record = owners.all[number].record
    cdef int i
    if record == NULL:
        return NULL
    for i in range(record.count):
        if reps_of(record)[i].number == number:
            return reps_of(record)[i].entry
    return NULL


cdef inline void put_owner(Owners *owners, uint32_t number, Record *record, uint32_t site) noexcept nogil:
    """A representation in this record has this number, for which there is room."""
    cdef uint32_t bucket
    owners.all[number] = Owner(record, 0, site)
    bucket = bucket_of(owners, hash_of_entry(entry_of(owners, number)))
    owners.all[number].next = owners.buckets[bucket]
    owners.buckets[bucket] = number
    owners.count += 1
    if owners.count > owners.whole + owners.split:
        split_bucket(owners)


cdef inline void split_bucket(Owners *owners) noexcept nogil:
    """Have one more bucket: what belongs there stands in one that is there."""
    cdef uint32_t last = owners.whole + owners.split
    cdef uint32_t *at = &owners.buckets[owners.split]
    cdef uint32_t number
    owners.buckets[last] = 0
    owners.split += 1
    while at[0]:
        number = at[0]
        if bucket_of(owners, hash_of_entry(entry_of(owners, number))) != last:
            at = &owners.all[number].next
            continue
        at[0] = owners.all[number].next
        owners.all[number].next = owners.buckets[last]
        owners.buckets[last] = number
    if owners.split == owners.whole:
        owners.whole *= 2
        owners.split = 0


cdef inline void take_owner(Owners *owners, uint32_t number) noexcept nogil:
    """A number belongs to no record any more. Its record is still there."""
    cdef uint32_t *at = &owners.buckets[bucket_of(owners, hash_of_entry(entry_of(owners, number)))]
    while at[0] != number:
        at = &owners.all[at[0]].next
    at[0] = owners.all[number].next
    owners.all[number].record = NULL
    owners.count -= 1


cdef inline uint32_t next_of(const Owners *owners, uint32_t number, const PyObject *entry) noexcept nogil:
    """The first of these numbers, from this one on, that is an entry's; 0 for none."""
    while number and entry_of(owners, number) != entry:
        number = owners.all[number].next
    return number


cdef inline uint32_t first_of(const Owners *owners, const PyObject *entry) noexcept nogil:
    """The first number that an entry has, behind which come the others (`next_of`); 0 for none."""
    if not owners.whole:
        return 0
    return next_of(owners, owners.buckets[bucket_of(owners, hash_of_entry(entry))], entry)


cdef inline bint has_many(const Owners *owners, const PyObject *entry) noexcept nogil:
    """Whether an entry is under KEYS_MAX keys."""
    cdef uint32_t number = first_of(owners, entry)
    cdef int count = 0
    while number and count < KEYS_MAX:
        count += 1
        number = next_of(owners, owners.all[number].next, entry)
    return count == KEYS_MAX

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What is absent: a set of all keys that lead somewhere. A target that is its own key and is not in the set gets 404.

The set holds a hash of 64 bits for each key, no key. A key that is not there and has the hash of one that is (or that went, and
was not removed yet) is answered in Python. The hash is keyed: a client cannot make a name that takes another name's hash along
when it is removed. Two names have one hash by chance in 3 of 100 million sites of a million keys.

Keys are added before they lead anywhere and removed after they did, so that no key which leads somewhere is ever called absent.
Where the set cannot grow for lack of memory, it is given up, and Python answers again.

No step is long. The set is made with room for its keys (12 bytes each); beyond that it doubles, and each key that is added or
removed later takes some slots of the older set along. Meanwhile both are searched. Slots are searched one behind the other, from a place that
the upper half of the hash tells; a hash that goes is replaced by those behind it, so that each search ends at an empty slot. In
the older set it leaves GONE.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy

from zcserve.net.lane.records cimport Record, free_record, record_of_page
from zcserve.net.lane.text cimport Text, siphash13
from zcserve.net.lane.withdrawn cimport Withdrawn, withdraw

cdef enum:
    HASHES_MIN = 1024            # slots
    HASHES_MAX = 0x40000000      # likewise: 8 GB
    MOVED_AT_ONCE = 4            # slots of the older set, for each key: three would do

cdef enum:                       # what stands in a slot, besides hashes
    EMPTY = 0
    GONE = 1                     # of the older set: the search goes on behind it
    HASH_MIN = 2

# 1 for what stands for itself in a canonical path: `http._CANONICAL_BYTES`.
cdef extern from * nogil:
    """
    static const unsigned char zc_key[256] = {
        ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
        ['-'] = 1, ['.'] = 1, ['_'] = 1, ['~'] = 1, ['!'] = 1, ['$'] = 1, ['&'] = 1, ['\\''] = 1, ['('] = 1, [')'] = 1,
        ['*'] = 1, ['+'] = 1, [','] = 1, [';'] = 1, ['='] = 1, [':'] = 1, ['@'] = 1, ['/'] = 1,
    };
    """
    const uint8_t *KEY "zc_key"

cdef struct Absent:
    bint is_known                # the set is complete
    uint64_t seed[2]
    uint64_t *slots              # NULL: there is no set
    uint32_t size, count         # slots, and hashes in them
    uint64_t *older              # what is still to be moved, from `older_at` on; NULL for nothing
    uint32_t older_size, older_at
    Record *page                 # the answer


cdef inline int open_absent(Absent *absent, bytes seed) except -1:
    """`seed`: 16 bytes."""
    if PyBytes_GET_SIZE(seed) != sizeof(absent.seed):
        raise ValueError("a seed of 16 bytes is wanted")
    memcpy(absent.seed, PyBytes_AS_STRING(seed), sizeof(absent.seed))
    return 0


cdef inline void close_absent(Absent *absent) noexcept:
    """Free everything. Nothing is being sent any more."""
    give_up(absent)
    if absent.page != NULL:
        free_record(absent.page)


cdef inline void give_up(Absent *absent) noexcept nogil:
    """Nothing is called absent any more."""
    free(absent.slots)
    free(absent.older)
    absent.is_known = False
    absent.slots = absent.older = NULL
    absent.size = absent.count = 0


cdef inline int set_page(Absent *absent, Withdrawn *withdrawn, int status, bytes head, bytes content) except -1:
    """What is absent gets this from now on."""
    cdef Record *record = record_of_page(b"", status, head, content)
    if absent.page != NULL:
        withdraw(withdrawn, absent.page)
    absent.page = record
    return 0


# --- a set of hashes ----------------------------------------------------------------------------------------


cdef inline uint64_t hash_key(const Absent *absent, const char *key, size_t length) noexcept nogil:
    cdef uint64_t hash = siphash13(key, length, absent.seed[0], absent.seed[1])
    return hash if hash >= HASH_MIN else hash + HASH_MIN


cdef inline uint32_t home_of(uint64_t hash, uint32_t size) noexcept nogil:
    """Where the search for a hash begins."""
    return <uint32_t> (((hash >> 32) * size) >> 32)


cdef inline uint32_t seek(const uint64_t *slots, uint32_t size, uint64_t hash) noexcept nogil:
    """The slot of a hash, or the empty one where its search ends."""
    cdef uint32_t at = home_of(hash, size)
    while slots[at] != EMPTY and slots[at] != hash:
        at = at + 1 if at + 1 < size else 0
    return at


cdef inline bint has(const Absent *absent, uint64_t hash) noexcept nogil:
    if absent.slots[seek(absent.slots, absent.size, hash)] == hash:
        return True
    return absent.older != NULL and absent.older[seek(absent.older, absent.older_size, hash)] == hash


cdef inline void begin_set(Absent *absent, uint32_t keys) noexcept nogil:
    """An empty set with room for so many keys."""
    give_up(absent)
    if keys <= HASHES_MAX // 2:
        absent.size = max(keys + keys // 2, <uint32_t> HASHES_MIN)
        absent.slots = <uint64_t *> calloc(absent.size, sizeof(uint64_t))


cdef inline void add_hash(Absent *absent, uint64_t hash) noexcept nogil:
    """Put a hash in, unless it is there. Without memory the set is given up."""
    if absent.slots == NULL:
        return
    if 4 * <uint64_t> (absent.count + 1) > 3 * <uint64_t> absent.size and not grow(absent):
        give_up(absent)
        return
    if absent.older != NULL:
        move_some(absent)
    put_hash(absent, hash)


cdef inline void put_hash(Absent *absent, uint64_t hash) noexcept nogil:
    cdef uint64_t *slot = &absent.slots[seek(absent.slots, absent.size, hash)]
    absent.count += slot[0] == EMPTY
    slot[0] = hash


cdef inline bint grow(Absent *absent) noexcept nogil:
    """Go on in an empty set of twice the room. What was moved to the present one by now is all there was."""
    cdef uint64_t *slots
    cdef uint32_t size = max(2 * absent.count, <uint32_t> HASHES_MIN)
    if absent.count > HASHES_MAX // 2:
        return False
    slots = <uint64_t *> calloc(size, sizeof(uint64_t))
    if slots == NULL:
        return False
    while absent.older != NULL:  # never, as MOVED_AT_ONCE is
        move_some(absent)
    absent.older = absent.slots
    absent.older_size = absent.size
    absent.older_at = 0
    absent.slots = slots
    absent.size = size
    absent.count = 0
    return True


cdef inline void move_some(Absent *absent) noexcept nogil:
    """Move some slots of the older set."""
    cdef uint32_t end = min(absent.older_at + <uint32_t> MOVED_AT_ONCE, absent.older_size)
    while absent.older_at < end:
        if absent.older[absent.older_at] >= HASH_MIN:
            put_hash(absent, absent.older[absent.older_at])
        absent.older_at += 1
    if absent.older_at == absent.older_size:
        free(absent.older)
        absent.older = NULL


cdef inline void remove_hash(Absent *absent, uint64_t hash) noexcept nogil:
    cdef uint32_t at
    if absent.slots == NULL:
        return
    if absent.older != NULL:
        at = seek(absent.older, absent.older_size, hash)
        if absent.older[at] == hash:
            absent.older[at] = GONE
        move_some(absent)
    at = seek(absent.slots, absent.size, hash)
    if absent.slots[at] == hash:
        absent.count -= 1
        close_hole(absent.slots, absent.size, at)


cdef inline void close_hole(uint64_t *slots, uint32_t size, uint32_t hole) noexcept nogil:
    """Empty a slot: of what stands behind it, what is searched for from there or before moves up."""
    cdef uint32_t at = hole, home
    while True:
        at = at + 1 if at + 1 < size else 0
        if slots[at] == EMPTY:
            break
        home = home_of(slots[at], size)
        if distance(home, at, size) >= distance(hole, at, size):
            slots[hole] = slots[at]
            hole = at
    slots[hole] = EMPTY


cdef inline uint32_t distance(uint32_t start, uint32_t at, uint32_t size) noexcept nogil:
    """How many slots a search goes from one to another."""
    return at - start if at >= start else at + size - start


cdef inline int add_keys(Absent *absent, keys) except -1:
    """These keys, of bytes, are not absent."""
    cdef bytes key
    for key in keys:
        add_hash(absent, hash_key(absent, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)))
    return 0


cdef inline int remove_keys(Absent *absent, keys) except -1:
    cdef bytes key
    for key in keys:
        remove_hash(absent, hash_key(absent, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)))
    return 0


# --- a request ----------------------------------------------------------------------------------------------


cdef inline bint is_own_key(Text path) noexcept nogil:
    """Whether `http.canonical_path` leaves a path as it is."""
    cdef const char *p = path.at
    cdef const char *end = path.at + path.len
    if p == end or p[0] != c'/':
        return False
    while p < end:
        if p[0] == c'/' and is_segment_left_out(p + 1, end):
            return False
        if KEY[<uint8_t> p[0]]:
            p += 1
        elif p[0] == c'%' and end - p > 2 and is_escaped(p[1], p[2]):
            p += 3
        else:
            return False
    return True


cdef inline bint is_segment_left_out(const char *p, const char *end) noexcept nogil:
    """Whether an empty segment, or one of dots alone, stands at `p`. The path may end in an empty one."""
    if p < end and p[0] == c'/':
        return True
    if p == end or p[0] != c'.':
        return False
    p += 1
    if p < end and p[0] == c'.':
        p += 1
    return p == end or p[0] == c'/'


cdef inline bint is_escaped(char high, char low) noexcept nogil:
    """Whether `http.encode_path` writes a byte by these two digits."""
    cdef int byte = 16 * hex_digit(high) + hex_digit(low)
    return hex_digit(high) >= 0 and hex_digit(low) >= 0 and byte != 0 and not KEY[byte & 0xFF]


cdef inline int hex_digit(char c) noexcept nogil:
    """A hex digit in upper case; -1 for anything else."""
    if c'0' <= c <= c'9':
        return c - c'0'
    return c - c'A' + 10 if c'A' <= c <= c'F' else -1


cdef inline Record *page_of(const Absent *absent, Text target) noexcept nogil:
    """The answer to a target whose path is known to be absent, whatever its query is; NULL for all else."""
    cdef const char *query = <const char *> memchr(target.at, c'?', target.len)
    cdef Text path = Text(target.at, query - target.at) if query != NULL else target
    if not absent.is_known or absent.page == NULL or not is_own_key(path):
        return NULL
    return NULL if has(absent, hash_key(absent, path.at, path.len)) else absent.page

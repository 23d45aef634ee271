# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A set of hashes of 64 bits, which Python's thread changes and any lane asks what is not in it.

The hash is keyed: a client cannot make a name that takes another name's hash along when it is removed. Two names have one hash by
chance in 3 of 100 million sets of a million names.

No step is long. The set is made with room for its hashes (12 bytes each); beyond that it doubles, and each hash that is added or
removed later takes some of the older places along. Meanwhile both are searched. Places are searched one behind the other, from one that
the upper half of the hash tells; a hash that goes is replaced by those behind it, so that each search ends at an empty place. In
the older ones it leaves GONE. Where the set cannot grow for lack of memory, it is given up.

A search in another lane may miss a hash that moves meanwhile. So the set has a version, which is odd while hashes move, and while the set
is not complete; a lane that has not found a hash looks at it before and after, and is sure only where it is even and the same.
Places that are left are withdrawn (withdrawn.pxd).
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from zcserve.net.lane.atomic cimport acquire, acquire_pointer, release, release_pointer
from zcserve.net.lane.text cimport siphash13
from zcserve.net.lane.withdrawn cimport Withdrawn, withdraw_memory

cdef enum:
    HASHES_MIN = 64              # places
    HASHES_MAX = 0x40000000      # likewise: 8 GB
    MOVED_AT_ONCE = 4            # of the older places, for each hash: three would do

cdef enum:                       # what stands in a place, besides hashes
    EMPTY = 0
    GONE = 1                     # of the older ones: the search goes on behind it
    HASH_MIN = 2

cdef struct Places:              # one block
    uint64_t size
    uint64_t at[1]               # `size` of them

cdef struct Hashes:
    uint64_t seed[2]
    uint64_t version             # odd: what is not found may be there all the same
    Places *places               # NULL: there is no set
    Places *older                # what is still to be moved, from `older_at` on; NULL for nothing
    uint32_t count               # of hashes in `places`
    uint32_t older_at
    Withdrawn *withdrawn


cdef inline int open_hashes(Hashes *hashes, bytes seed, Withdrawn *withdrawn) except -1:
    """`seed`: 16 bytes."""
    if PyBytes_GET_SIZE(seed) != sizeof(hashes.seed):
        raise ValueError("a seed of 16 bytes is wanted")
    memcpy(hashes.seed, PyBytes_AS_STRING(seed), sizeof(hashes.seed))
    hashes.withdrawn = withdrawn
    return 0


cdef inline void close_hashes(Hashes *hashes) noexcept nogil:
    """All lanes have ended."""
    free(hashes.places)
    free(hashes.older)
    hashes.places = hashes.older = NULL


# --- what any lane asks -------------------------------------------------------------------------------------


cdef inline uint64_t hash_key(const Hashes *hashes, const char *key, size_t length) noexcept nogil:
    cdef uint64_t hash = siphash13(key, length, hashes.seed[0], hashes.seed[1])
    return hash if hash >= HASH_MIN else hash + HASH_MIN


cdef inline Places *places_of(Places * const *which) noexcept nogil:
    return <Places *> acquire_pointer(<void * const *> which)


cdef inline bint is_set(const Hashes *hashes) noexcept nogil:
    """Whether there is a set, complete or not."""
    return places_of(&hashes.places) != NULL


cdef inline bint lacks(const Hashes *hashes, const char *key, size_t length) noexcept nogil:
    """Whether a key is none of the set's; False, too, where that cannot be told now."""
    cdef uint64_t hash = hash_key(hashes, key, length)
    cdef uint64_t version = acquire(&hashes.version)
    cdef Places *places = places_of(&hashes.places)
    cdef Places *older = places_of(&hashes.older)
    if version & 1 or places == NULL:
        return False
    if acquire(&places.at[seek(places, hash)]) == hash:
        return False
    if older != NULL and acquire(&older.at[seek(older, hash)]) == hash:
        return False
    return acquire(&hashes.version) == version


cdef inline uint64_t home_of(uint64_t hash, uint64_t size) noexcept nogil:
    """Where the search for a hash begins."""
    return ((hash >> 32) * size) >> 32


cdef inline uint64_t seek(const Places *places, uint64_t hash) noexcept nogil:
    """The place of a hash, or the empty one where its search ends."""
    cdef uint64_t at = home_of(hash, places.size)
    cdef uint64_t there = acquire(&places.at[at])
    while there != EMPTY and there != hash:
        at = at + 1 if at + 1 < places.size else 0
        there = acquire(&places.at[at])
    return at


# --- what Python's thread changes ---------------------------------------------------------------------------


cdef inline bint begin_change(Hashes *hashes) noexcept nogil:
    """What is not found may be there, from now on. False: that was so."""
    if hashes.version & 1:
        return False
    release(&hashes.version, hashes.version + 1)
    return True


cdef inline void end_change(Hashes *hashes) noexcept nogil:
    release(&hashes.version, hashes.version + 1)


cdef inline void put(uint64_t *place, uint64_t hash) noexcept nogil:
    """A lane that sees this sees that the version is odd, if it was before."""
    release(place, hash)


cdef inline Places *new_places(uint64_t size) noexcept nogil:
    """NULL without memory."""
    cdef Places *places = <Places *> calloc(1, sizeof(Places) + (size - 1) * sizeof(uint64_t))
    if places != NULL:
        places.size = size
    return places


cdef inline void replace_places(Hashes *hashes, Places *places, Places *older) noexcept nogil:
    release_pointer(<void **> &hashes.older, older)
    release_pointer(<void **> &hashes.places, places)
    hashes.older_at = hashes.count = 0


cdef inline void give_up(Hashes *hashes) noexcept nogil:
    """There is no set any more."""
    cdef Places *places = hashes.places
    cdef Places *older = hashes.older
    cdef bint began = begin_change(hashes)
    replace_places(hashes, NULL, NULL)
    withdraw_memory(hashes.withdrawn, places)
    withdraw_memory(hashes.withdrawn, older)
    if began:
        end_change(hashes)


cdef inline void begin_set(Hashes *hashes, uint32_t keys) noexcept nogil:
    """An empty set with room for so many keys, not complete until `end_set`. Without memory there is none."""
    begin_change(hashes)
    give_up(hashes)
    if keys <= HASHES_MAX // 2:
        replace_places(hashes, new_places(max(keys + keys // 2, <uint32_t> HASHES_MIN)), NULL)


cdef inline void end_set(Hashes *hashes) noexcept nogil:
    end_change(hashes)


cdef inline void add_hash(Hashes *hashes, uint64_t hash) noexcept nogil:
    """Put a hash in, unless it is there. Without memory the set is given up."""
    cdef bint began
    if hashes.places == NULL:
        return
    began = begin_change(hashes)
    if 4 * <uint64_t> (hashes.count + 1) > 3 * hashes.places.size and not grow(hashes):
        give_up(hashes)
    else:
        move_some(hashes)
        put_hash(hashes, hash)
    if began:
        end_change(hashes)


cdef inline void put_hash(Hashes *hashes, uint64_t hash) noexcept nogil:
    cdef uint64_t *place = &hashes.places.at[seek(hashes.places, hash)]
    hashes.count += place[0] == EMPTY
    put(place, hash)


cdef inline bint grow(Hashes *hashes) noexcept nogil:
    """Go on in empty places of twice the room. What was moved to the present ones by now is all there was."""
    cdef Places *places
    if hashes.count > HASHES_MAX // 2:
        return False
    places = new_places(max(2 * hashes.count, <uint32_t> HASHES_MIN))
    if places == NULL:
        return False
    while hashes.older != NULL:  # never, as MOVED_AT_ONCE is
        move_some(hashes)
    replace_places(hashes, places, hashes.places)
    return True


cdef inline void move_some(Hashes *hashes) noexcept nogil:
    """Move some of the older ones."""
    cdef Places *older = hashes.older
    cdef uint32_t end
    if older == NULL:
        return
    end = <uint32_t> min(hashes.older_at + <uint64_t> MOVED_AT_ONCE, older.size)
    while hashes.older_at < end:
        if older.at[hashes.older_at] >= HASH_MIN:
            put_hash(hashes, older.at[hashes.older_at])
        hashes.older_at += 1
    if hashes.older_at == older.size:
        release_pointer(<void **> &hashes.older, NULL)
        withdraw_memory(hashes.withdrawn, older)


cdef inline void remove_hash(Hashes *hashes, uint64_t hash) noexcept nogil:
    cdef uint64_t at
    cdef bint began
    if hashes.places == NULL:
        return
    began = begin_change(hashes)
    if hashes.older != NULL:
        at = seek(hashes.older, hash)
        if hashes.older.at[at] == hash:
            put(&hashes.older.at[at], GONE)
        move_some(hashes)
    at = seek(hashes.places, hash)
    if hashes.places.at[at] == hash:
        hashes.count -= 1
        close_hole(hashes.places, at)
    if began:
        end_change(hashes)


cdef inline void close_hole(Places *places, uint64_t hole) noexcept nogil:
    """Empty a place: of what stands behind it, what is searched for from there or before moves up."""
    cdef uint64_t at = hole, home
    while True:
        at = at + 1 if at + 1 < places.size else 0
        if places.at[at] == EMPTY:
            break
        home = home_of(places.at[at], places.size)
        if distance(home, at, places.size) >= distance(hole, at, places.size):
            put(&places.at[hole], places.at[at])
            hole = at
    put(&places.at[hole], EMPTY)


cdef inline uint64_t distance(uint64_t start, uint64_t at, uint64_t size) noexcept nogil:
    """How many places a search goes from one to another."""
    return at - start if at >= start else at + size - start


cdef inline int add_keys(Hashes *hashes, keys) except -1:
    """Keys are bytes."""
    cdef bytes key
    for key in keys:
        add_hash(hashes, hash_key(hashes, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)))
    return 0


cdef inline int set_keys(Hashes *hashes, pieces, uint32_t count) except -1:
    """From now on the set has these keys, about `count` of them, and no others."""
    begin_set(hashes, count)
    for keys in pieces:
        add_keys(hashes, keys)
    end_set(hashes)
    return 0


cdef inline int remove_keys(Hashes *hashes, keys) except -1:
    cdef bytes key
    for key in keys:
        remove_hash(hashes, hash_key(hashes, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)))
    return 0


cdef inline size_t bytes_of(const Hashes *hashes) noexcept nogil:
    """What the set takes."""
    cdef size_t places = hashes.places.size if hashes.places != NULL else 0
    return sizeof(uint64_t) * (places + (hashes.older.size if hashes.older != NULL else 0))

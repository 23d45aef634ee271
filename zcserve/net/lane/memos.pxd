# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Memos: what was found out about a text, kept by the text, where it takes longer to find out than to compare.

A `Memo` is one lane's. It has PLACES, so it takes no memory for what comes later. A text stands in one of TRIES places from the one that
its hash tells: where that is taken, in any of them, whatever stood there. So texts that take turns find places beside each other. What a
place says holds for one `version`: a number that only grows with each change of what it was found out from. So nothing is taken out, and a
text of an older version is found out again.

Clients choose the texts. A flood of new ones drives out what is in use, which is found out once more when it comes next: that costs what it
costs without a memo. So the hash has no secret, and texts of one hash do no other harm.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from zcserve.net.lane.text cimport Text

cdef enum:
    PLACES_LOG = 12              # the first of a text is told by the upper bits of its hash
    PLACES = 4096                # four for each of 1,000 texts that take turns
    TRIES = 4
    MEMO_TEXT_MAX = 104          # a place is two lines of cache, of which short texts take one; longer ones are found out each time

cdef struct Place:
    uint64_t version             # 0: nothing stands here
    void *what                   # was found out
    uint32_t hash
    uint32_t len
    char text[MEMO_TEXT_MAX]

cdef struct Memo:
    Place *places
    uint32_t taken               # how often the first one was: which is next


cdef inline int open_memo(Memo *memo) except -1:
    """Raises MemoryError."""
    memo.places = <Place *> calloc(PLACES, sizeof(Place))
    if memo.places == NULL:
        raise MemoryError
    return 0


cdef inline void close_memo(Memo *memo) noexcept nogil:
    free(memo.places)


cdef inline bint says(const Place *place, Text text, uint64_t version) noexcept nogil:
    """Whether a place is this text's, and still holds."""
    return place.len == text.len and place.version == version and memcmp(place.text, text.at, text.len) == 0


cdef inline const Place *place_of(const Memo *memo, Text text, uint32_t hash, uint64_t version) noexcept nogil:
    """Where it stands what was found out about a text, and still holds; NULL for nowhere."""
    cdef const Place *place
    cdef uint32_t at
    for at in range(TRIES):
        place = &memo.places[((hash >> (32 - PLACES_LOG)) + at) & (PLACES - 1)]
        if place.hash == hash and says(place, text, version):
            return place
    return NULL


cdef inline void *recall(const Memo *memo, Text text, uint32_t hash, uint64_t version) noexcept nogil:
    """What was found out about a text, and still holds; NULL for nothing."""
    cdef const Place *place = place_of(memo, text, hash, version)
    return place.what if place != NULL else NULL


cdef inline void note(Memo *memo, Text text, uint32_t hash, uint64_t version, void *what) noexcept nogil:
    """What was found out about a text, which `recall` has nothing of. It is not NULL."""
    cdef Place *place = &memo.places[hash >> (32 - PLACES_LOG)]
    if text.len > MEMO_TEXT_MAX:
        return
    if place.version:
        memo.taken += 1
        place = &memo.places[((hash >> (32 - PLACES_LOG)) + memo.taken % TRIES) & (PLACES - 1)]
    place.version = version
    place.what = what
    place.hash = hash
    place.len = <uint32_t> text.len
    memcpy(place.text, text.at, text.len)

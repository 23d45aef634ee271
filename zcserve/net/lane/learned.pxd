# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Field values whose meaning Python told: Host, Accept-Encoding, Connection.

What a value means is policy, and Python's. Clients choose values, so the number and the length of those that are remembered
are bounded; everything is forgotten when too much is known, and a value without a slot in reach is asked for each time.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from zcserve.net.lane.grammar cimport CLOSE, KEEP, KIND_CONNECTION_10, KIND_CONNECTION_11, KIND_HOST
from zcserve.net.lane.records cimport CODINGS
from zcserve.net.lane.text cimport Text, murmur3

cdef enum:
    MEANINGS_MAX = 1024
    MEANING_SLOTS = 4096
    MEANING_PROBES_MAX = 256
    LEARNED_VALUE_MAX = 512      # longer field values are Python's to judge each time

cdef struct Meaning:
    uint32_t hash
    uint32_t length
    int kind
    char *value
    int32_t meaning[CODINGS]

cdef struct Learned:
    uint32_t seed
    Meaning *slots
    int count


cdef inline int open_learned(Learned *learned, uint32_t seed) except -1:
    learned.seed = seed
    learned.slots = <Meaning *> calloc(MEANING_SLOTS, sizeof(Meaning))
    if learned.slots == NULL:
        raise MemoryError
    return 0


cdef inline void close_learned(Learned *learned) noexcept:
    if learned.slots != NULL:
        forget_all(learned)
    free(learned.slots)


cdef inline void forget_all(Learned *learned) noexcept:
    cdef int i
    for i in range(MEANING_SLOTS):
        free(learned.slots[i].value)
    memset(learned.slots, 0, MEANING_SLOTS * sizeof(Meaning))
    learned.count = 0


cdef inline Meaning *slot_of(const Learned *learned, int kind, Text value, uint32_t hash) noexcept nogil:
    """The slot that holds a value, or the free one where it belongs; NULL where there is none in reach."""
    cdef uint32_t at = hash & (MEANING_SLOTS - 1)
    cdef Meaning *m
    cdef int probe
    for probe in range(MEANING_PROBES_MAX):
        m = &learned.slots[at]
        if m.value == NULL or (
            m.hash == hash and m.kind == kind and m.length == value.len and memcmp(m.value, value.at, value.len) == 0
        ):
            return m
        at = (at + 1) & (MEANING_SLOTS - 1)
    return NULL


cdef inline uint32_t value_hash(const Learned *learned, int kind, Text value) noexcept nogil:
    return murmur3(value.at, value.len, learned.seed) ^ <uint32_t> kind


cdef inline const int32_t *meaning(const Learned *learned, int kind, Text value) noexcept nogil:
    """What a field value means; NULL when that was not learned."""
    cdef Meaning *m = slot_of(learned, kind, value, value_hash(learned, kind, value))
    return m.meaning if m != NULL and m.value != NULL else NULL


cdef inline int learn(Learned *learned, int kind, bytes value, tuple meaning) except -1:
    """Remember what a value means. Raises ValueError for what is no meaning, MemoryError."""
    cdef Text text = Text(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    cdef uint32_t hash = value_hash(learned, kind, text)
    cdef Meaning *m = slot_of(learned, kind, text, hash)
    cdef int i
    cdef int32_t numbers[CODINGS]
    if text.len > LEARNED_VALUE_MAX or m == NULL:
        return 0
    if len(meaning) != CODINGS or not KIND_HOST <= kind <= KIND_CONNECTION_10:
        raise ValueError("no meaning of a value")
    for i in range(CODINGS):
        numbers[i] = meaning[i]
    if kind >= KIND_CONNECTION_11 and not KEEP <= numbers[0] <= CLOSE:
        raise ValueError("no mode of a connection")
    if m.value == NULL:
        if learned.count >= MEANINGS_MAX:
            forget_all(learned)
            m = slot_of(learned, kind, text, hash)
        m.value = <char *> malloc(text.len + 1)
        if m.value == NULL:
            raise MemoryError
        memcpy(m.value, text.at, text.len)
        m.length = <uint32_t> text.len
        m.kind = kind
        m.hash = hash
        learned.count += 1
    for i in range(CODINGS):
        m.meaning[i] = numbers[i]
    return 0

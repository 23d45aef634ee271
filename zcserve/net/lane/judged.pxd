# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Judged: what a field's value means, as the grammar in C says it, or else Python's judge (`fastlane.judge`).

Such answers are remembered. Clients choose values, so their number and their length are bounded, and new values do not
drive out what is in use: a value is remembered when it is seen for the second time (`sights` has the hashes of what was
seen once, the latest first), and in the place of the one of a few that is used least.

Odd: a Host or an Accept-Encoding takes longer to read than to compare, and most requests say what others said. So the last
Accept-Encoding of each length is kept, too, and of each Host the site that it is for (memos.pxd), until there are other hosts: behind a
proxy each request of a connection may name another one.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memmove

from zcserve.net.lane.gil cimport Gil, hold_gil
from zcserve.net.lane.grammar cimport KIND_ACCEPT, KIND_HOST, NUMBERS_MAX, numbers_of, read_value
from zcserve.net.lane.hosts cimport Hosts, site_of_host
from zcserve.net.lane.memos cimport Memo, Place, close_memo, note, open_memo, place_of, says
from zcserve.net.lane.sites cimport Site
from zcserve.net.lane.text cimport Text, murmur3, sampled_hash

cdef enum:
    SETS = 256                   # a value's hash chooses a set
    WAYS = 4                     # meanings in each, and hashes in each of the sights
    SIGHT_SETS = 1024
    USES_MAX = 0xFFFF
    JUDGED_VALUE_MAX = 512       # longer values are judged each time
    LENGTHS = 32                 # of Accept-Encodings: the last one of each; those that are longer are read each time

cdef struct Meaning:
    uint32_t hash
    uint32_t length
    int kind
    uint32_t uses
    char *value                  # NULL for none
    int64_t numbers[NUMBERS_MAX]

cdef struct Last:
    size_t len                   # 0 for none
    int64_t numbers[NUMBERS_MAX]
    char value[LENGTHS]

cdef struct Judged:
    uint32_t seed
    PyObject *judge              # of `Lane`; NULL: what C is unsure about is the general lane's
    Gil *gil
    const Hosts *hosts           # of this turn
    Memo sites                   # by the value of Host: what they say
    const Place *last            # of these, the one that was asked for last: most requests say what the one before said
    Meaning *meanings
    uint32_t sights[SIGHT_SETS * WAYS]
    Last lasts[LENGTHS]


cdef inline int open_judged(Judged *judged, uint32_t seed) except -1:
    judged.seed = seed
    judged.meanings = <Meaning *> calloc(SETS * WAYS, sizeof(Meaning))
    if judged.meanings == NULL:
        raise MemoryError
    open_memo(&judged.sites)
    judged.last = judged.sites.places
    return 0


cdef inline void close_judged(Judged *judged) noexcept:
    cdef int i
    for i in range(SETS * WAYS if judged.meanings != NULL else 0):
        free(judged.meanings[i].value)
    free(judged.meanings)
    close_memo(&judged.sites)


cdef inline bint means(Judged *judged, int kind, Text value, int64_t *numbers) noexcept nogil:
    """What a value means, into `numbers` (grammar.pxd says what they are). False where only the general lane can say it."""
    return read_value(kind, value, numbers) or (judged.judge != NULL and recall_or_ask(judged, kind, value, numbers))


cdef inline bint accepts(Judged *judged, Text value, int64_t *numbers) noexcept nogil:
    """As `means`, of an Accept-Encoding."""
    cdef Last *last = &judged.lasts[value.len % LENGTHS]
    if last.len == value.len and value.len and memcmp(last.value, value.at, value.len) == 0:
        memcpy(numbers, last.numbers, sizeof(last.numbers))
        return True
    if not means(judged, KIND_ACCEPT, value, numbers):
        return False
    if value.len < LENGTHS:
        last.len = value.len
        memcpy(last.value, value.at, value.len)
        memcpy(last.numbers, numbers, sizeof(last.numbers))
    return True


cdef inline void follow_hosts(Judged *judged, const Hosts *hosts) noexcept nogil:
    """Which sites hosts are for, until this is called again: at the start of each turn, as the ones before may be gone by then."""
    judged.hosts = hosts


cdef inline Site *site_of(Judged *judged, Text host) noexcept nogil:
    """The site that a Host is for; NULL where it is none, or Python is to answer."""
    if says(judged.last, host, judged.hosts.version):
        return <Site *> judged.last.what
    return recall_site(judged, host) if host.len else judged.hosts.unnamed


cdef inline Site *recall_site(Judged *judged, Text host) noexcept nogil:
    """As `site_of`, of another Host than the last one."""
    cdef uint32_t hash = sampled_hash(host.at, host.len)
    cdef const Place *place = place_of(&judged.sites, host, hash, judged.hosts.version)
    if place == NULL:
        return find_site(judged, host, hash)
    judged.last = place
    return <Site *> place.what


cdef inline Site *find_site(Judged *judged, Text host, uint32_t hash) noexcept nogil:
    """As `site_of`, of a host that is not remembered."""
    cdef int64_t numbers[NUMBERS_MAX]
    cdef Site *site
    if not means(judged, KIND_HOST, host, numbers) or not numbers[0]:
        return NULL
    site = site_of_host(judged.hosts, host)
    if site != NULL:
        note(&judged.sites, host, hash, judged.hosts.version, site)
    return site


cdef inline bint recall_or_ask(Judged *judged, int kind, Text value, int64_t *numbers) noexcept nogil:
    cdef uint32_t hash = murmur3(value.at, value.len, judged.seed) ^ <uint32_t> kind
    cdef Meaning *ways = &judged.meanings[WAYS * (hash % SETS)]
    cdef Meaning *m
    cdef int way
    for way in range(WAYS):
        m = &ways[way]
        if (
            m.value != NULL and m.hash == hash and m.kind == kind and m.length == value.len
            and memcmp(m.value, value.at, value.len) == 0
        ):
            m.uses += m.uses < USES_MAX
            memcpy(numbers, m.numbers, sizeof(m.numbers))
            return True
    hold_gil(judged.gil)
    if not ask(judged, kind, value, numbers):
        return False
    if value.len <= JUDGED_VALUE_MAX and was_sighted(&judged.sights[WAYS * (hash % SIGHT_SETS)], hash):
        remember(ways, hash, kind, value, numbers)
    return True


cdef inline bint was_sighted(uint32_t *sights, uint32_t hash) noexcept nogil:
    """Whether it is among the latest of its set; else it is noted as the latest."""
    cdef int way
    for way in range(WAYS):
        if sights[way] == hash:
            return True
    memmove(sights + 1, sights, (WAYS - 1) * sizeof(uint32_t))
    sights[0] = hash
    return False


cdef inline bint ask(const Judged *judged, int kind, Text value, int64_t *numbers) noexcept with gil:
    """What Python's judge says; False where that is no meaning."""
    cdef int i
    try:
        meaning = (<object> judged.judge)(kind, PyBytes_FromStringAndSize(value.at, value.len))
        if len(meaning) != numbers_of(kind):
            return False
        for i in range(numbers_of(kind)):
            numbers[i] = meaning[i]
        return True
    except BaseException:
        return False


cdef inline void remember(Meaning *ways, uint32_t hash, int kind, Text value, const int64_t *numbers) noexcept nogil:
    """Put a meaning in the place of the one that is used least. What is not used becomes less by it."""
    cdef Meaning *least = ways
    cdef char *copy = <char *> malloc(value.len + 1)
    cdef int way
    if copy == NULL:
        return
    for way in range(WAYS):
        if ways[way].uses < least.uses:
            least = &ways[way]
    for way in range(WAYS):
        ways[way].uses //= 2
    free(least.value)
    memcpy(copy, value.at, value.len)
    least.value = copy
    least.length = <uint32_t> value.len
    least.hash = hash
    least.kind = kind
    least.uses = 1
    memcpy(least.numbers, numbers, sizeof(least.numbers))

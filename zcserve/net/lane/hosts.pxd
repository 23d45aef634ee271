# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Hosts: which site a request is for, by the name of its host (RFC 9110 section 7.2).

    a name of a site's own -> that site; else the longest `*.` that it lies below; else what stands for unknown ones

The twin of site/hosts.py. The names are one block that never changes: Python's thread publishes another one, and withdraws the one before. A lane
reads either, and remembers what one says (judged.pxd) with its `version`. Clients choose the hosts
that are looked for: a look takes as many steps as the longest wildcard has labels, and remembers nothing.

Odd: a wildcard stands in the table as what is behind its star, `.example.org`. A name with an empty label lies below none, and is looked
for only where it does not begin with a dot.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memchr, memcmp, memcpy

from zcserve.net.lane.sites cimport Site, Sites, site_of
from zcserve.net.lane.text cimport Text, murmur3

cdef enum:
    HOST_BYTES_MAX = 255         # of a name in DNS (RFC 1035 section 2.3.4); a longer one is no site's

cdef struct Name:
    const char *at               # behind the table
    uint32_t len                 # 0 for no name
    uint32_t hash
    Site *site

cdef struct Hosts:               # one block: the names, and their texts behind them
    uint64_t version             # from 1 on; no other one has it
    Site *unnamed                # of a request that names no host; NULL: Python is to answer
    Site *unknown                # of a name that no site has; likewise
    uint32_t seed
    uint32_t labels_max          # dots in the wildcard that has most, 0: there is none
    uint32_t count               # of names
    uint32_t mask
    Name names[1]                # mask + 1 of them, at most half of them taken


# --- what any lane asks -------------------------------------------------------------------------------------


cdef inline Site *site_of_host(const Hosts *hosts, Text value) noexcept nogil:
    """The site that a Host is for, which is well-formed; NULL: Python is to answer."""
    cdef char lower[HOST_BYTES_MAX]
    cdef const Name *found
    cdef Text name = name_in(value)
    if not name.len:
        return hosts.unnamed
    if not hosts.count or name.len > HOST_BYTES_MAX:
        return hosts.unknown
    write_lower(lower, name)
    name.at = <const char *> lower
    found = seek(hosts, name) if lower[0] != c'.' else NULL
    if found == NULL and hosts.labels_max and not has_empty_label(name):
        found = seek_wildcard(hosts, name)
    return found.site if found != NULL else hosts.unknown


cdef inline Text name_in(Text value) noexcept nogil:
    """The name or the address of a Host: without a port, and a dot at the end."""
    cdef const char *end = <const char *> memchr(value.at, c']' if value.len and value.at[0] == c'[' else c':', value.len)
    if end != NULL:
        value.len = end - value.at + (end[0] == c']')
    if value.len and value.at[value.len - 1] == c'.':
        value.len -= 1
    return value


cdef inline bint has_empty_label(Text name) noexcept nogil:
    """Whether a name that is none in DNS begins with a dot, or has two in a row."""
    cdef size_t at
    for at in range(name.len):
        if name.at[at] == c'.' and (at == 0 or name.at[at - 1] == c'.'):
            return True
    return False


cdef inline void write_lower(char *to, Text name) noexcept nogil:
    cdef size_t i
    for i in range(name.len):
        to[i] = name.at[i] | 0x20 if c'A' <= name.at[i] <= c'Z' else name.at[i]


cdef inline Name *seek(const Hosts *hosts, Text name) noexcept nogil:
    """NULL for none."""
    cdef uint32_t hash = murmur3(name.at, name.len, hosts.seed)
    cdef const Name *there = place_of(hosts, name, hash)
    return <Name *> there if there.len else NULL


cdef inline Name *place_of(const Hosts *hosts, Text name, uint32_t hash) noexcept nogil:
    """Where a name stands, or the empty place where its search ends."""
    cdef uint32_t at = hash & hosts.mask
    cdef const Name *there = &hosts.names[at]
    while there.len and (there.hash != hash or there.len != name.len or memcmp(there.at, name.at, name.len) != 0):
        at = (at + 1) & hosts.mask
        there = &hosts.names[at]
    return <Name *> there


cdef inline Name *seek_wildcard(const Hosts *hosts, Text name) noexcept nogil:
    """The longest wildcard that a name lies below; NULL for none."""
    cdef size_t first = name.len, at = name.len
    cdef uint32_t labels = 0
    cdef Name *found
    while at and labels < hosts.labels_max:      # no wildcard has more dots behind it
        at -= 1
        if name.at[at] == c'.':
            labels += 1
            first = at
    for at in range(first, name.len):
        if name.at[at] == c'.':
            found = seek(hosts, Text(name.at + at, name.len - at))
            if found != NULL:
                return found
    return NULL


# --- what Python's thread makes -----------------------------------------------------------------------------


cdef inline Hosts *new_hosts(Sites *sites, dict names, unnamed, unknown, uint64_t version) except NULL:
    """As `Lane.set_hosts`. Raises ValueError, MemoryError."""
    cdef Hosts *hosts
    cdef size_t length = 0
    cdef uint32_t mask = 1
    cdef char *at
    for name, number in names.items():
        check_name(name)
        site_or_none(sites, number)
        length += len(name)
    first, other = <size_t> site_or_none(sites, unnamed), <size_t> site_or_none(sites, unknown)
    while mask < 2 * <size_t> len(names):
        mask = 2 * mask + 1
    hosts = <Hosts *> calloc(1, sizeof(Hosts) + mask * sizeof(Name) + length)
    if hosts == NULL:
        raise MemoryError
    hosts.version = version
    hosts.unnamed, hosts.unknown = <Site *> <size_t> first, <Site *> <size_t> other
    hosts.seed = sites.seed
    hosts.mask = mask
    at = <char *> &hosts.names[mask + 1]
    for name, number in names.items():
        at += put_name(hosts, at, name, site_or_none(sites, number))
    return hosts


cdef inline Site *site_or_none(Sites *sites, number) except? NULL:
    """NULL for None. Raises ValueError."""
    return site_of(sites, number) if number is not None else NULL


cdef inline int check_name(bytes name) except -1:
    """Raises ValueError for what no Host would be found by."""
    cdef bytes whole = name.removeprefix(b"*.")
    cdef bint has_port = b":" in whole and not whole.startswith(b"[")
    if not whole or whole != whole.lower() or len(name) > HOST_BYTES_MAX or whole.strip(b".") != whole or b"*" in whole or has_port:
        raise ValueError(f"{name!r} is no name of a host")
    return 0


cdef inline Py_ssize_t put_name(Hosts *hosts, char *at, bytes name, Site *site) except -1:
    """Put a name in, whose text is to lie at this place: how long it is there."""
    cdef bytes key = name[1:] if name.startswith(b"*") else name
    cdef Text text = Text(at, PyBytes_GET_SIZE(key))
    cdef uint32_t hash
    memcpy(at, PyBytes_AS_STRING(key), text.len)
    hash = murmur3(text.at, text.len, hosts.seed)
    place_of(hosts, text, hash)[0] = Name(at, <uint32_t> text.len, hash, site)
    hosts.count += 1
    if key.startswith(b"."):
        hosts.labels_max = max(hosts.labels_max, <uint32_t> key.count(b"."))
    return text.len


cdef inline bint leads_to(const Hosts *hosts, const Site *site) noexcept nogil:
    """Whether there is a host that is a site's."""
    cdef uint32_t at
    for at in range(hosts.mask + 1):
        if hosts.names[at].site == site:
            return True
    return hosts.unnamed == site or hosts.unknown == site

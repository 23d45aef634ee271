# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Proxies that are listened to, and the client that such a proxy names, for the log: as forwarded.py reads it, or not at all.

Addresses are read by inet_pton and written by inet_ntop, so a name in the log is never a client's own bytes.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy

from zcserve.net.lane.head cimport X_FORWARDED, X_FORWARDED_FOR, X_FORWARDED_FORS, Head
from zcserve.net.lane.system cimport AF_INET, AF_INET6, inet_ntop, inet_pton
from zcserve.net.lane.text cimport Text, c_length, is_blank, skip_blanks

cdef enum:
    HOPS_MAX = 8                 # proxies, of which one has named the next; more are Python's to read
    NAME_MAX = 46                # INET6_ADDRSTRLEN

cdef struct Network:             # of addresses that are trusted
    uint8_t family, bits
    unsigned char address[16]

cdef struct Proxies:
    Network *networks
    int count
    bint trusts_unix             # peers on a unix socket
    char name[NAME_MAX]          # of the client that was found last


cdef inline bint trust(Proxies *proxies, list networks, bint unix) except -1:
    """Listen to (4 or 6, address, bits) of each network. Whether any peer is trusted. Raises ValueError, MemoryError."""
    cdef int i, version, bits
    cdef bytes address
    free(proxies.networks)
    proxies.count = 0
    proxies.networks = <Network *> calloc(len(networks) + 1, sizeof(Network))
    if proxies.networks == NULL:
        raise MemoryError
    for i, (version, address, bits) in enumerate(networks):
        if len(address) != (4 if version == 4 else 16) or not 0 <= bits <= 8 * len(address):
            raise ValueError("no network")
        proxies.networks[i].family = AF_INET if version == 4 else AF_INET6
        proxies.networks[i].bits = <uint8_t> bits
        memcpy(proxies.networks[i].address, PyBytes_AS_STRING(address), len(address))
    proxies.count = len(networks)
    proxies.trusts_unix = unix
    return unix or proxies.count > 0


cdef inline bint same_bits(const unsigned char *a, const unsigned char *b, int bits) noexcept nogil:
    """Whether the first bits of two addresses are the same."""
    cdef int whole = bits // 8, rest = bits % 8
    return memcmp(a, b, whole) == 0 and (not rest or (a[whole] ^ b[whole]) >> (8 - rest) == 0)


cdef inline bint holds_v4(const unsigned char *address) noexcept nogil:
    """Whether an IPv6 address may be an IPv4 address in other words, which are written in more ways than one."""
    cdef unsigned char bits = 0
    cdef int i
    for i in range(10):
        bits |= address[i]
    return not bits


cdef inline bint has_network_of(const Proxies *proxies, uint8_t family, const unsigned char *address) noexcept nogil:
    cdef int i
    cdef const Network *network
    if family != AF_INET and family != AF_INET6:
        return proxies.trusts_unix
    for i in range(proxies.count):
        network = &proxies.networks[i]
        if network.family == family and same_bits(network.address, address, network.bits):
            return True
    return False


cdef inline bint find_client(Proxies *proxies, Head *head) noexcept nogil:
    """The client that a trusted peer names: the last element of X-Forwarded-For that is no trusted proxy. False where Python
    is to be asked: for Forwarded, for more than one line, and for an element that is no plain address."""
    cdef const char *end = head.clients.at + head.clients.len
    cdef Text name
    cdef unsigned char address[16]
    cdef int hop, family = 0
    if not head.forwarded & X_FORWARDED or head.forwarded & X_FORWARDED_FORS:
        return False
    if not head.forwarded & X_FORWARDED_FOR:
        return True
    for hop in range(HOPS_MAX):
        name = last_element(head.clients.at, end)
        if not name.len:
            break
        end = name.at
        family = read_address(name, proxies.name, address)
        if family < 0:
            return False
        if not has_network_of(proxies, <uint8_t> family, address):
            break
    else:
        return False
    if family == AF_INET6:       # an IPv4 address has one spelling alone
        inet_ntop(family, address, proxies.name, NAME_MAX)
    if family:                   # all elements may have been empty
        head.client.at = proxies.name
        head.client.len = c_length(proxies.name)
    return True


cdef inline Text last_element(const char *start, const char *end) noexcept nogil:
    """What stands behind the last comma of a list; an empty element does not count, nor blanks around it."""
    cdef const char *at
    while end > start and (is_blank((end - 1)[0]) or (end - 1)[0] == c','):
        end -= 1
    at = end
    while at > start and (at - 1)[0] != c',':
        at -= 1
    at = skip_blanks(at, end)
    return Text(at, end - at)


cdef inline int read_address(Text name, char *text, unsigned char *address) noexcept nogil:
    """The family of an address, which is written to `text` and `address`; -1 for what is none, or may be an IPv4 address in
    other words."""
    cdef int family = AF_INET6 if memchr(name.at, c':', name.len) != NULL else AF_INET
    if name.len >= NAME_MAX:
        return -1
    memcpy(text, name.at, name.len)
    text[name.len] = 0
    if inet_pton(family, text, address) != 1 or (family == AF_INET6 and holds_v4(address)):
        return -1
    return family

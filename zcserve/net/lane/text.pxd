# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Bytes of text: classes of characters, comparisons, numbers in decimal, and hashes of a key.

All functions work on a pointer and a length, and read nothing behind it. The unit knows no HTTP but for the characters that
RFC 9110 section 5.6.2 (token) and RFC 3986 section 3.2.2 (host) allow.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy


# A `.pxd` can hold no tables, so these are C: 1 for what a token is made of, for what a host's name is made of, and for what a log
# line holds as it is; digits, which are written two at a time. So is `same_name`, which has to be inline: whether `name` is `lower` but for case; of small letters, digits,
# dashes, colons and slashes. It compares words, not bytes: with a `length` that the compiler knows that is a few instructions.
cdef extern from * nogil:
    """
    static const unsigned char zc_token[256] = {
        ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
        ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,
        ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1,
    };
    static const unsigned char zc_host[256] = {
        ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
        ['!'] = 1, ['$'] = 1, ['&' ... '.'] = 1, [';'] = 1, ['='] = 1, ['_'] = 1, ['~'] = 1,
    };
    static const unsigned char zc_plain[256] = { [' ' ... '!'] = 1, ['#' ... '['] = 1, [']' ... '~'] = 1 };
    static const char zc_pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    static const uint64_t zc_powers[19] = {
        1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u, 1000000000u, 10000000000u, 100000000000u,
        1000000000000u, 10000000000000u, 100000000000000u, 1000000000000000u, 10000000000000000u, 100000000000000000u,
        1000000000000000000u,
    };

    static inline __attribute__((always_inline)) uint64_t zc_differs(const char *name, const char *lower, size_t length) {
        uint64_t a = 0, b = 0;
        memcpy(&a, name, length);
        memcpy(&b, lower, length);
        return (a | (b >> 1 & 0x2020202020202020u)) ^ b;   /* of these bytes letters alone have the bit 0x40 */
    }
    static inline __attribute__((always_inline)) int zc_same_name(const char *name, const char *lower, size_t length) {
        uint64_t differs = 0;
        size_t at = 0;
        if (length <= 8)
            return !zc_differs(name, lower, length);
        for (; at + 8 < length; at += 8)
            differs |= zc_differs(name + at, lower + at, 8);
        return !(differs | zc_differs(name + length - 8, lower + length - 8, 8));
    }
    """
    const uint8_t *TOKEN "zc_token"
    const uint8_t *HOST "zc_host"
    const uint8_t *PLAIN "zc_plain"
    const char *PAIRS "zc_pairs"                 # of digits, from 00 to 99
    const uint64_t *POWERS "zc_powers"           # of ten
    unsigned int zeros_before "__builtin_clzll" (uint64_t number)        # of its 64 bits
    bint same_name "zc_same_name" (const char *name, const char *lower, size_t length)

cdef struct Text:                # a part of bytes that belong to something else
    const char *at
    size_t len


cdef inline bint is_token(char c) noexcept nogil:
    return TOKEN[<uint8_t> c]


cdef inline bint is_host_char(char c) noexcept nogil:
    """Whether a host's name may hold it as it is: unreserved and sub-delims (RFC 3986 section 3.2.2)."""
    return HOST[<uint8_t> c]


cdef inline bint is_hex(char c) noexcept nogil:
    return c'0' <= c <= c'9' or c'a' <= (c | 0x20) <= c'f'


cdef inline bint is_blank(char c) noexcept nogil:
    """Whether it may stand around a field's value (OWS)."""
    return c == c' ' or c == c'\t'


cdef inline const char *skip_blanks(const char *p, const char *end) noexcept nogil:
    """Where spaces and tabs end (OWS, RFC 9110 section 5.6.3)."""
    while p < end and is_blank(p[0]):
        p += 1
    return p


cdef inline bint is_plain(const char *text, size_t length) noexcept nogil:
    """Whether all bytes may stand in a log line, in both formats, as they are."""
    cdef size_t i
    for i in range(length):
        if not PLAIN[<uint8_t> text[i]]:
            return False
    return True


cdef inline size_t decimal(int64_t number, char *target) noexcept nogil:
    """Write a number that is not negative; its length, at most 19."""
    cdef uint64_t left = <uint64_t> number
    cdef size_t length = digits_of(left)
    cdef char *p = target + length
    while left >= 100:
        p -= 2
        memcpy(p, &PAIRS[2 * (left % 100)], 2)
        left //= 100
    if left >= 10:
        memcpy(target, &PAIRS[2 * left], 2)
    else:
        target[0] = <char> (c'0' + left)
    return length


cdef inline size_t digits_of(uint64_t number) noexcept nogil:
    """How many digits a number below 2**63 has: from its bits, and one more where it reaches the power of ten among them."""
    cdef size_t digits = ((64 - zeros_before(number | 1)) * 1233) >> 12      # log10(2) is 1233/4096
    return digits + ((number | 1) >= POWERS[digits])


cdef inline size_t c_length(const char *text) noexcept nogil:
    cdef size_t n = 0
    while text[n]:
        n += 1
    return n


cdef inline uint32_t rotl(uint32_t x, int r) noexcept nogil:
    return (x << r) | (x >> (32 - r))


cdef inline uint32_t murmur3(const char *data, size_t length, uint32_t seed) noexcept nogil:
    """MurmurHash3 x86 32, equal to mmh3.hash(data, seed, signed=False)."""
    cdef uint32_t h = seed, k
    cdef size_t blocks = length // 4, i
    cdef const uint8_t *tail
    for i in range(blocks):
        memcpy(&k, data + 4 * i, 4)
        k *= 0xcc9e2d51u
        k = rotl(k, 15)
        k *= 0x1b873593u
        h ^= k
        h = rotl(h, 13)
        h = h * 5 + 0xe6546b64u
    tail = <const uint8_t *> data + 4 * blocks
    k = 0
    if (length & 3) >= 3:
        k ^= <uint32_t> tail[2] << 16
    if (length & 3) >= 2:
        k ^= <uint32_t> tail[1] << 8
    if (length & 3) >= 1:
        k ^= tail[0]
        k *= 0xcc9e2d51u
        k = rotl(k, 15)
        k *= 0x1b873593u
        h ^= k
    h ^= <uint32_t> length
    h ^= h >> 16
    h *= 0x85ebca6bu
    h ^= h >> 13
    h *= 0xc2b2ae35u
    h ^= h >> 16
    return h


cdef inline uint32_t sampled_hash(const char *data, size_t length) noexcept nogil:
    """A hash for what is compared anyway: no secret, in few instructions, the upper bits first. Of more than 24 bytes it sees the first 8,
    those in the middle and the last. At least one."""
    cdef uint64_t first = 0, middle = 0, last = 0
    if length >= 8:
        memcpy(&first, data, 8)
        memcpy(&middle, data + length // 2 - 4, 8)
        memcpy(&last, data + length - 8, 8)
    elif length >= 4:
        memcpy(&first, data, 4)
        memcpy(&last, data + length - 4, 4)
    else:
        first = <uint8_t> data[0]
        middle = <uint8_t> data[length // 2]
        last = <uint8_t> data[length - 1]
    return ((((first ^ length) * 0x9E3779B97F4A7C15u + middle) * 0xC2B2AE3D27D4EB4Fu + last) * 0x9E3779B97F4A7C15u) >> 32


cdef inline uint64_t rotl64(uint64_t x, int r) noexcept nogil:
    return (x << r) | (x >> (64 - r))


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = rotl64(v[1], 13) ^ v[0]
    v[3] = rotl64(v[3], 16) ^ v[2]
    v[0] = rotl64(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = rotl64(v[1], 17) ^ v[2]
    v[3] = rotl64(v[3], 21) ^ v[0]
    v[2] = rotl64(v[2], 32)


cdef inline uint64_t siphash13(const char *data, size_t length, uint64_t first, uint64_t second) noexcept nogil:
    """SipHash-1-3 under a key of two numbers, as CPython's own hash of bytes: without the key no two texts of one hash can be
    computed."""
    cdef uint64_t v[4]
    cdef uint64_t block
    cdef size_t blocks = length // 8, i
    v[0] = first ^ <uint64_t> 0x736f6d6570736575u
    v[1] = second ^ <uint64_t> 0x646f72616e646f6du
    v[2] = first ^ <uint64_t> 0x6c7967656e657261u
    v[3] = second ^ <uint64_t> 0x7465646279746573u
    for i in range(blocks + 1):
        if i < blocks:
            memcpy(&block, data + 8 * i, 8)
        else:
            block = 0
            memcpy(&block, data + 8 * i, length & 7)
            block |= <uint64_t> length << 56
        v[3] ^= block
        sip_round(v)
        v[0] ^= block
    v[2] ^= 0xFF
    for i in range(3):
        sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline Text copied(bytes data):
    """A copy of just this size, to be freed, so that a sanitizer sees its end. Raises MemoryError."""
    cdef size_t length = PyBytes_GET_SIZE(data)
    cdef char *copy = <char *> malloc(length + (not length))
    if copy == NULL:
        raise MemoryError
    memcpy(copy, PyBytes_AS_STRING(data), length)
    return Text(copy, length)

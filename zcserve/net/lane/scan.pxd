# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Scanning: where a target, a part of one, a field's name, its value or a tag in that ends, a block of bytes at a time.

A block is what one register holds: 16 bytes with SSE2 or NEON, 8 in a plain word elsewhere (and with ZC_WORDS, for the test of
that twin). Of each block all bytes are judged at once, and the first that does not belong is where the text ends. A block that would
reach beyond `end` is read so that it ends there, and what is before `p` is shifted out: so BLOCK_MAX bytes before `end` must be
readable, whatever `p` is.

The classes are RFC 9110 sections 5.5 (field value), 5.6.2 (token) and 8.8.3 (entity tag), and RFC 9112 section 3.2 (target); of a query what
`targets.escape_query` leaves as it is.
"""

from zcserve.net.lane.text cimport is_token

# `zc_odd_...` sets the high bit of each byte that does not belong, `zc_bits` collects these: 1 << ZC_SHIFT bits for a byte.
cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__SSE2__) && !defined(ZC_WORDS)
    #include <emmintrin.h>
    enum { ZC_BLOCK = 16, ZC_SHIFT = 0 };
    typedef __m128i zc_block;
    static inline zc_block zc_load(const char *p) { return _mm_loadu_si128((const __m128i *) p); }
    static inline zc_block zc_or(zc_block a, zc_block b) { return _mm_or_si128(a, b); }
    static inline zc_block zc_but(zc_block a, zc_block b) { return _mm_andnot_si128(b, a); }
    static inline zc_block zc_all(unsigned char c) { return _mm_set1_epi8((char) c); }
    static inline zc_block zc_is(zc_block a, unsigned char c) { return _mm_cmpeq_epi8(a, zc_all(c)); }
    static inline zc_block zc_up_to(zc_block a, unsigned char c) { return _mm_cmpeq_epi8(_mm_min_epu8(a, zc_all(c)), a); }
    static inline uint64_t zc_bits(zc_block a) { return (uint64_t) (unsigned) _mm_movemask_epi8(a); }
    #elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(ZC_WORDS)
    #include <arm_neon.h>
    enum { ZC_BLOCK = 16, ZC_SHIFT = 2 };
    typedef uint8x16_t zc_block;
    static inline zc_block zc_load(const char *p) { return vld1q_u8((const uint8_t *) p); }
    static inline zc_block zc_or(zc_block a, zc_block b) { return vorrq_u8(a, b); }
    static inline zc_block zc_but(zc_block a, zc_block b) { return vbicq_u8(a, b); }
    static inline zc_block zc_all(unsigned char c) { return vdupq_n_u8(c); }
    static inline zc_block zc_is(zc_block a, unsigned char c) { return vceqq_u8(a, zc_all(c)); }
    static inline zc_block zc_up_to(zc_block a, unsigned char c) { return vcleq_u8(a, zc_all(c)); }
    static inline uint64_t zc_bits(zc_block a) {
        return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(a), 4)), 0);
    }
    #else
    enum { ZC_BLOCK = 8, ZC_SHIFT = 3 };
    typedef uint64_t zc_block;
    static inline zc_block zc_load(const char *p) {
        uint64_t word;
        memcpy(&word, p, 8);
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        return word;
    }
    static inline zc_block zc_all(unsigned char c) { return 0x0101010101010101u * c; }
    static inline zc_block zc_or(zc_block a, zc_block b) { return a | b; }
    static inline zc_block zc_but(zc_block a, zc_block b) { return a & ~b; }
    /* No sum of two numbers below 0x80 reaches into the next byte. */
    static inline zc_block zc_up_to(zc_block a, unsigned char c) {       /* c < 0x80 */
        return ~(((a & zc_all(0x7F)) + zc_all(0x7F - c)) | a) & zc_all(0x80);
    }
    static inline zc_block zc_is(zc_block a, unsigned char c) { return zc_up_to(a ^ zc_all(c), 0); }
    static inline uint64_t zc_bits(zc_block a) { return a & zc_all(0x80); }
    #endif

    static inline zc_block zc_odd_value(zc_block a) {    /* controls but the tab */
        return zc_or(zc_but(zc_up_to(a, 0x1F), zc_is(a, 9)), zc_is(a, 0x7F));
    }
    static inline zc_block zc_odd_target(zc_block a) {   /* what is not visible in ASCII */
        return zc_or(zc_but(zc_all(0xFF), zc_up_to(a, 0x7E)), zc_up_to(a, 0x20));
    }
    static inline zc_block zc_odd_name(zc_block a) {     /* neither letter nor dash: most names are made of these */
        zc_block lower = zc_or(a, zc_all(0x20));
        return zc_but(zc_all(0xFF), zc_or(zc_but(zc_up_to(lower, 'z'), zc_up_to(lower, 'a' - 1)), zc_is(a, '-')));
    }
    static inline zc_block zc_odd_tag(zc_block a) {      /* what stands in no tag: controls, blanks, quotes */
        return zc_or(zc_or(zc_up_to(a, 0x20), zc_is(a, '"')), zc_is(a, 0x7F));
    }
    static inline zc_block zc_odd_query(zc_block a) {    /* what no URL has: controls, blanks, and " # < > [ \\ ] ^ ` { | } */
        zc_block lower = zc_or(a, zc_all(0x20));         /* of these [ \\ ] are { | } */
        zc_block odd = zc_or(zc_odd_target(a), zc_but(zc_up_to(lower, '}'), zc_up_to(lower, 'z')));
        odd = zc_or(odd, zc_or(zc_is(a, '^'), zc_is(a, '`')));
        return zc_or(odd, zc_or(zc_is(zc_or(a, zc_all(1)), '#'), zc_is(zc_or(a, zc_all(2)), '>')));
    }
    static inline __attribute__((always_inline)) const char *zc_skip(
        const char *p, const char *end, zc_block (*odd)(zc_block)
    ) {
        const char *last = end - ZC_BLOCK;
        uint64_t bits;
        for (; p <= last; p += ZC_BLOCK) {
            bits = zc_bits(odd(zc_load(p)));
            if (bits)
                return p + (__builtin_ctzll(bits) >> ZC_SHIFT);
        }
        if (p == end)
            return p;
        bits = zc_bits(odd(zc_load(last))) >> ((ZC_BLOCK - (end - p)) << ZC_SHIFT);
        return bits ? p + (__builtin_ctzll(bits) >> ZC_SHIFT) : end;
    }
    static inline const char *zc_value_end(const char *p, const char *end) { return zc_skip(p, end, zc_odd_value); }
    static inline const char *zc_target_end(const char *p, const char *end) { return zc_skip(p, end, zc_odd_target); }
    static inline const char *zc_tag_end(const char *p, const char *end) { return zc_skip(p, end, zc_odd_tag); }
    static inline const char *zc_query_end(const char *p, const char *end) { return zc_skip(p, end, zc_odd_query); }
    static inline const char *zc_plain_name_end(const char *p, const char *end) { return zc_skip(p, end, zc_odd_name); }
    """
    const char *value_end "zc_value_end" (const char *p, const char *end)      # the first byte that no value may hold
    const char *target_end "zc_target_end" (const char *p, const char *end)    # likewise of a target
    const char *tag_end "zc_tag_end" (const char *p, const char *end)          # of what stands between the quotes of a tag
    const char *query_end "zc_query_end" (const char *p, const char *end)      # of what stands for itself in a query
    const char *plain_name_end "zc_plain_name_end" (const char *p, const char *end)

cdef enum:
    BLOCK_MAX = 16
    BEHIND_TARGET = 11           # bytes that stand behind a target: the blank and the version. Before it stands a method of 4 at least


cdef inline const char *name_end(const char *p, const char *end) noexcept nogil:
    """The first byte that no name may hold."""
    p = plain_name_end(p, end)
    while p < end and p[0] != c':' and is_token(p[0]):
        p += 1
    return p

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Grammar: what the value of a field means, as the RFCs' text says it. It holds nothing that an operator can configure.

A function here is partial and exact: it gives the answer of its Python twin (`fastlane.judge`, which asks http.py and
net/fields.py), or UNSURE. So a value that no client sends in earnest may be left out, and none may be read in another way;
tests/support/values.py has the vectors, tests/net/test_grammar.py the law. Each reads a value once, and nothing behind its end.

A meaning is at most NUMBERS_MAX numbers, whose sense depends on the kind of value.
"""

from libc.stdint cimport int64_t
from libc.string cimport memchr

from zcserve.net.lane.records cimport CODINGS
from zcserve.net.lane.text cimport Text, is_blank, is_hex, is_host_char, is_token, same_name, skip_blanks

cdef enum:
    UNSURE = -1
    NUMBERS_MAX = 4
    ELEMENTS_MAX = 100           # http.ELEMENTS_MAX: with so many commas, a list says nothing
    WEIGHT_MAX = 1000            # weights are in thousandths
    PORT_MAX = 65535
    PORT_DIGITS_MAX = 5
    LENGTH_DIGITS_MAX = 9        # of a body: no buffer of the lane's holds more

cdef enum:                       # kinds of values
    KIND_HOST = 0                # 1 for a Host, 0 for none
    KIND_ACCEPT = 1              # Accept-Encoding: the quality of each coding
    KIND_CONNECTION_11 = 2       # a mode
    KIND_CONNECTION_10 = 3
    KINDS = 4

cdef enum:                       # what a Connection value means: a mode
    KEEP = 0
    KEEP_10 = 1                  # HTTP/1.0, and the client asked for it
    CLOSE = 2
    UPGRADE = 3                  # whether that matters the Upgrade field says, which the lane does not read

cdef enum:                       # codings by number, behind those of a representation (records.pxd)
    IDENTITY = 0
    BR = 1
    GZIP = 2
    ZSTD = 3
    ANY = 4                      # *
    OTHER = 5
    NAMED = 6


cdef inline bint read_value(int kind, Text value, int64_t *numbers) noexcept nogil:
    """What a value means, into `numbers`. False: unsure."""
    if kind == KIND_ACCEPT:
        return read_accept(value, numbers) != UNSURE
    numbers[0] = read_host(value) if kind == KIND_HOST else read_connection(value, kind == KIND_CONNECTION_11)
    return numbers[0] != UNSURE


cdef inline int numbers_of(int kind) noexcept nogil:
    """How many numbers the meaning of this kind of value has."""
    return CODINGS if kind == KIND_ACCEPT else 1


# --- Host -----------------------------------------------------------------------------------------------------


cdef inline int read_host(Text value) noexcept nogil:
    """1 for uri-host [":" port] (RFC 9110 section 7.2, RFC 3986 section 3.2.2), and for nothing; 0 for what is none. An address in
    brackets is UNSURE."""
    cdef const char *p = value.at
    cdef const char *end = p + value.len
    while p < end and is_host_char(p[0]):
        p += 1
    while p < end and p[0] == c'%' and end - p >= 3 and is_hex(p[1]) and is_hex(p[2]):
        p += 3
        while p < end and is_host_char(p[0]):
            p += 1
    if p == end:
        return 1
    if p == value.at:
        return UNSURE if p[0] == c'[' else 0
    return p[0] == c':' and is_port(p + 1, end)


cdef inline bint is_port(const char *p, const char *end) noexcept nogil:
    """Whether it is digits, or nothing, and no number over PORT_MAX."""
    cdef int port = 0, digits = 0
    while p < end and p[0] == c'0':
        p += 1
    while p < end and c'0' <= p[0] <= c'9' and digits < PORT_DIGITS_MAX:
        port = 10 * port + p[0] - c'0'
        digits += 1
        p += 1
    return p == end and port <= PORT_MAX


# --- Content-Length -------------------------------------------------------------------------------------------


cdef inline int64_t read_length(Text value) noexcept nogil:
    """The number that decimal digits without leading zeros spell (RFC 9110 section 8.6), as `fields._body_length` reads it; UNSURE
    for all else, and for more digits than a body of the lane's has."""
    cdef const char *p = value.at
    cdef const char *end = p + value.len
    cdef int64_t length = 0
    if p == end or value.len > LENGTH_DIGITS_MAX or (p[0] == c'0' and value.len > 1):
        return UNSURE
    while p < end and c'0' <= p[0] <= c'9':
        length = 10 * length + p[0] - c'0'
        p += 1
    return length if p == end else UNSURE


# --- Connection -----------------------------------------------------------------------------------------------


cdef inline int read_connection(Text value, bint version_11) noexcept nogil:
    """The mode that a list of options says (RFC 9112 section 9.3)."""
    cdef int mode = KEEP if version_11 else CLOSE
    cdef Text option
    cdef bint closes = False
    if value.len == 10 and same_name(value.at, b"keep-alive", 10):       # most say this
        return KEEP if version_11 else KEEP_10
    while value.len:
        option = next_element(&value)
        if option.len == 10 and same_name(option.at, b"keep-alive", 10):
            mode = KEEP if version_11 else KEEP_10
        elif option.len == 5 and same_name(option.at, b"close", 5):
            closes = True
        elif option.len == 7 and same_name(option.at, b"upgrade", 7):
            return UPGRADE
    return CLOSE if closes else mode


cdef inline Text next_element(Text *rest) noexcept nogil:
    """The first element of a comma list, without the white space around it (RFC 9110 section 5.6.1.2); it may be empty. `rest` is
    what stands behind its comma."""
    cdef Text element = rest[0]
    cdef const char *comma = <const char *> memchr(element.at, c',', element.len)
    if comma == NULL:
        rest[0] = Text(element.at + element.len, 0)
    else:
        element.len = comma - element.at
        rest[0] = Text(comma + 1, rest.len - element.len - 1)
    while element.len and is_blank(element.at[0]):
        element.at += 1
        element.len -= 1
    while element.len and is_blank(element.at[element.len - 1]):
        element.len -= 1
    return element


# --- Accept-Encoding ------------------------------------------------------------------------------------------


cdef inline int read_accept(Text value, int64_t *qualities) noexcept nogil:
    """The quality of each coding (RFC 9110 section 12.5.3), as `http.coding_quality` says it of `http.parse_accept_encoding`.

    Elements that are malformed are left out; of a coding named twice the lower weight holds. UNSURE where that would take a
    memory of codings that have no number.
    """
    cdef const char *p = value.at
    cdef const char *end = p + value.len
    cdef int64_t weights[NAMED]
    cdef int64_t weight
    cdef Text name
    cdef int commas = 0, coding
    cdef bint refused = False
    for coding in range(NAMED):
        weights[coding] = UNSURE
    while p < end:
        if p[0] == c',' or is_blank(p[0]):
            commas += p[0] == c','
            p += 1
            continue
        name.at = p
        while p < end and is_token(p[0]):
            p += 1
        name.len = p - name.at
        p = read_weight(p, end, &weight)
        coding = coding_of(name)
        if not name.len or (p < end and p[0] != c','):           # malformed
            p = <const char *> memchr(p, c',', end - p)
            p = end if p == NULL else p
        elif coding != OTHER:
            weights[coding] = weight if weights[coding] == UNSURE else min(weight, weights[coding])
        elif not weight:
            refused = True
        elif weights[OTHER] == UNSURE or weight < weights[OTHER]:
            weights[OTHER] = weight
    if commas >= ELEMENTS_MAX:
        qualities[IDENTITY] = WEIGHT_MAX
        qualities[BR] = qualities[GZIP] = qualities[ZSTD] = 0
        return 0
    if refused and 0 < weights[OTHER] < WEIGHT_MAX:
        return UNSURE            # they may be one coding, which is refused then
    weigh(weights, qualities)
    return 0


cdef inline int coding_of(Text name) noexcept nogil:
    """The number of a coding that is named so; OTHER for one without a number."""
    if name.len == 4:
        return GZIP if same_name(name.at, b"gzip", 4) else ZSTD if same_name(name.at, b"zstd", 4) else OTHER
    if name.len == 2:
        return BR if same_name(name.at, b"br", 2) else OTHER
    if name.len == 1:
        return ANY if name.at[0] == c'*' else OTHER
    if name.len == 8:
        return IDENTITY if same_name(name.at, b"identity", 8) else OTHER
    return GZIP if name.len == 6 and same_name(name.at, b"x-gzip", 6) else OTHER


cdef inline const char *read_weight(const char *p, const char *end, int64_t *weight) noexcept nogil:
    """What stands behind a coding's name, up to a comma or the end: white space, and a weight (RFC 9110 section 12.4.2), which is
    WEIGHT_MAX where there is none. Elsewhere where it is malformed."""
    cdef int64_t unit = WEIGHT_MAX
    weight[0] = WEIGHT_MAX
    p = skip_blanks(p, end)
    if p == end or p[0] != c';':
        return p
    p = skip_blanks(p + 1, end)
    if end - p < 3 or p[0] | 0x20 != c'q' or p[1] != c'=' or not c'0' <= p[2] <= c'1':
        return p - 1             # a semicolon or a blank
    weight[0] = WEIGHT_MAX * (p[2] - c'0')
    p += 3
    if p < end and p[0] == c'.':
        p += 1
        while p < end and unit > 1 and c'0' <= p[0] <= c'9':
            unit //= 10
            weight[0] += unit * (p[0] - c'0')
            p += 1
    if weight[0] > WEIGHT_MAX:
        return p - 1             # its last digit
    return skip_blanks(p, end)


cdef inline void weigh(const int64_t *weights, int64_t *qualities) noexcept nogil:
    """Qualities from the weights of what was named: without a name the weight of `*` holds. Without that, identity is no better
    than the least of the acceptable codings, and another coding is not acceptable."""
    cdef int64_t least = WEIGHT_MAX
    cdef int coding
    for coding in range(BR, NAMED):
        if coding != ANY and 0 < weights[coding] < least:
            least = weights[coding]
    for coding in range(CODINGS):
        if weights[coding] != UNSURE:
            qualities[coding] = weights[coding]
        elif weights[ANY] != UNSURE:
            qualities[coding] = weights[ANY]
        else:
            qualities[coding] = least if coding == IDENTITY else 0

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A request's head, parsed: bytes -> `Head`, where it is complete, plain and well-formed. All else is for the general lane to
judge.

So each function answers one question only: is this head the lane's? "No" is no error, and says nothing of the request. The
unit reads the grammar of RFC 9112 sections 3 and 5 and decides nothing that an operator can configure; what the values of Host,
Accept-Encoding and Connection mean it asks of judged.pxd. Every read is bounded by `end`. A `Head` refers
to the bytes it was read from.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memset

from zcserve.net.lane.conditions cimport (
    IF_RANGE, MATCH, MODIFIED_SINCE, NONE_MATCH, RANGE, UNMODIFIED_SINCE, Conditions, note_condition,
)
from zcserve.net.lane.counts cimport DELETE, GET, HEAD, PATCH, POST, PUT
from zcserve.net.lane.grammar cimport (
    CLOSE, KEEP, KIND_CONNECTION_10, KIND_CONNECTION_11, NUMBERS_MAX, UNSURE, UPGRADE, read_length,
)
from zcserve.net.lane.judged cimport Judged, accepts, means, site_of
from zcserve.net.lane.records cimport CODINGS
from zcserve.net.lane.scan cimport BEHIND_TARGET, name_end, target_end, value_end
from zcserve.net.lane.sites cimport Site
from zcserve.net.lane.table cimport expect
from zcserve.net.lane.text cimport Text, same_name

cdef enum:
    HEAD_BYTES_MIN = 18          # GET / HTTP/1.1 and two line ends; no less than BLOCK_MAX (scan.pxd)

cdef enum:                       # `Head.forwarded`: fields that name the client, to be listened to where the peer is trusted
    FORWARDED = 1                # Forwarded
    X_FORWARDED = 2              # any of X-Forwarded-*
    X_FORWARDED_FOR = 4          # the one line of it, which `Head.clients` refers to
    X_FORWARDED_FORS = 8         # another

cdef struct Rules:               # what is the lane's, and which fields are of interest
    size_t head_bytes_max, target_bytes_max
    int fields_max
    int ranges_max
    bint logs                    # Referer and User-Agent
    bint trusts                  # Forwarded and X-Forwarded-*

cdef struct Head:
    # What begins as nothing: 80 bytes, which a few stores clear; of more the compiler makes a `rep stos`, which takes longer.
    uint8_t is_get
    uint8_t for_servlet          # POST, PUT, PATCH or DELETE: no file's, and it may have a body; else it is GET or HEAD
    uint8_t is_absolute          # the target names a host, too: http://host/place
    uint8_t has_length           # Content-Length
    uint8_t has_host
    uint8_t has_accept           # Accept-Encoding
    uint8_t minor                # of HTTP/1.1 or 1.0
    uint8_t forwarded
    int fields
    uint32_t body                # bytes behind the head
    Text connection, referer, agent
    Text client                  # the client's name, nothing where it is the peer
    # What is set before it is read.
    size_t method_len
    uint8_t said                 # the status that a lead says with a file's content (leads.pxd), by output.pxd's numbers; else 0
    int mode                     # what the connection does after it: KEEP, KEEP_10, CLOSE
    uint32_t hash                # of its key (`key_of`)
    Site *site                   # which it is for
    Text target
    Text place                   # what names a resource: path and query
    int64_t accept[CODINGS]      # with `has_accept`: qualities by coding
    Text clients                 # where `forwarded` says so: the value of X-Forwarded-For
    size_t length                # of the whole head
    Conditions conditions


cdef inline const char *parse_request_line(const Rules *rules, const char *start, const char *end, Head *head) noexcept nogil:
    """Begin a head: method and target. Where the version stands, or NULL."""
    cdef const char *p = start
    memset(head, 0, <const char *> &head.method_len - <const char *> head)
    head.conditions.present = 0
    if end - p < HEAD_BYTES_MIN:
        return NULL
    if memcmp(p, b"GET ", 4) == 0:
        head.is_get = True
        head.method_len = 3
        p += 4
    elif memcmp(p, b"HEAD ", 5) == 0:
        head.method_len = 4
        p += 5
    else:
        head.for_servlet = True
        p += servlet_method(p)
        if p == start:
            return NULL
        head.method_len = p - 1 - start
    head.target.at = p
    p = target_end(p, end)
    head.target.len = p - head.target.at
    if head.target.len == 0 or head.target.len > rules.target_bytes_max or end - p < BEHIND_TARGET:
        return NULL
    return p


cdef inline bint find_place(Judged *judged, Head *head) noexcept nogil:
    """The target's path and query, in origin-form or in absolute-form, whose host says which site's it is, whatever Host says (RFC 9112
    sections 3.2.1, 3.2.2). False for all else, and for a query without a path."""
    cdef Text target = head.target
    cdef Text host
    cdef const char *p
    cdef const char *end = target.at + target.len
    head.place = target
    if target.at[0] == c'/':
        return True
    head.is_absolute = True
    if target.len > 8 and same_name(target.at, b"https://", 8):
        host.at = target.at + 8
    elif target.len > 7 and same_name(target.at, b"http://", 7):
        host.at = target.at + 7
    else:
        return False
    p = host.at
    while p < end and p[0] != c'/' and p[0] != c'?' and p[0] != c'#':
        p += 1
    host.len = p - host.at
    head.site = site_of(judged, host) if host.len else NULL
    if head.site == NULL:
        return False
    head.place = Text(p, end - p) if p < end else Text(b"/", 1)
    return head.place.at[0] == c'/' and memchr(head.place.at, c'#', head.place.len) == NULL


cdef inline size_t servlet_method(const char *p) noexcept nogil:
    """The length of a method that servlets alone answer, with the blank behind it; 0 for another one."""
    if memcmp(p, b"POST ", 5) == 0:
        return 5
    if memcmp(p, b"PUT ", 4) == 0:
        return 4
    if memcmp(p, b"PATCH ", 6) == 0:
        return 6
    return 7 if memcmp(p, b"DELETE ", 7) == 0 else 0


cdef inline Text key_of(const Head *head) noexcept nogil:
    """What the table has the answer under: path and query; where it is for servlets, the method, a blank and the target, which no file's
    key is."""
    if not head.for_servlet:
        return head.place
    return Text(head.target.at - 1 - head.method_len, head.method_len + 1 + head.target.len)


cdef inline Text method_of(const Head *head) noexcept nogil:
    return Text(head.target.at - 1 - head.method_len, head.method_len)


cdef inline int method_number(const Head *head) noexcept nogil:
    """The method, as counts.pxd numbers it."""
    cdef const char *p
    if not head.for_servlet:
        return GET if head.is_get else HEAD
    p = method_of(head).at
    if p[0] == c'D':
        return DELETE
    return POST if p[1] == c'O' else PUT if p[1] == c'U' else PATCH


cdef inline bint parse_rest(
    const Rules *rules, Judged *judged, const char *start, const char *p, const char *end, Head *head
) noexcept nogil:
    """The version at `p`, all fields, what they mean together, and whether all of the body is there; `start` is the head's."""
    if memcmp(p, b" HTTP/1.1\r\n", BEHIND_TARGET) == 0:
        head.minor = 1
    elif memcmp(p, b" HTTP/1.0\r\n", BEHIND_TARGET) != 0:
        return False
    p += BEHIND_TARGET
    while end - p >= 2 and p[0] != c'\r':
        p = parse_field(rules, judged, p, end, head)
        if p == NULL:
            return False
    if end - p < 2 or p[1] != c'\n':
        return False
    if <size_t> (p - 2 - start) > rules.head_bytes_max or head.fields > rules.fields_max:
        return False
    head.length = p + 2 - start
    return head.body <= <size_t> (end - start) - head.length and agrees(judged, head)


cdef inline const char *parse_field(
    const Rules *rules, Judged *judged, const char *p, const char *end, Head *head
) noexcept nogil:
    """A field's line at `p`, taken up. Where the next line begins; NULL where the request is the general lane's."""
    cdef Text value
    cdef const char *colon = name_end(p, end)
    cdef const char *line_end
    if colon == end or colon[0] != c':' or colon == p:
        return NULL
    line_end = value_end(colon + 1, end)
    if end - line_end < 2 or line_end[0] != c'\r' or line_end[1] != c'\n':
        return NULL
    value = trimmed(Text(colon + 1, line_end - colon - 1))
    head.fields += 1
    return line_end + 2 if heed(rules, judged, Text(p, colon - p), value, head) else NULL


cdef inline Text trimmed(Text value) noexcept nogil:
    """Without the white space around it. Of what a value may hold, nothing else is that small."""
    while value.len and <uint8_t> value.at[0] <= c' ':
        value.at += 1
        value.len -= 1
    while value.len and <uint8_t> value.at[value.len - 1] <= c' ':
        value.len -= 1
    return value


cdef inline bint heed(const Rules *rules, Judged *judged, Text name, Text value, Head *head) noexcept nogil:
    """Take up a field. False: its request is for the general lane. A field that no line names means nothing to a GET of a file."""
    if name.len == 4:
        return not same_name(name.at, b"host", 4) or heed_host(judged, value, head)
    elif name.len == 5:
        return not same_name(name.at, b"range", 5) or note_condition(&head.conditions, RANGE, value)
    elif name.len == 6:
        return not same_name(name.at, b"expect", 6)
    elif name.len == 7:
        return not rules.logs or not same_name(name.at, b"referer", 7) or is_first(&head.referer, value)
    elif name.len == 8:
        if same_name(name.at, b"if-range", 8):
            return note_condition(&head.conditions, IF_RANGE, value)
        return not same_name(name.at, b"if-match", 8) or note_condition(&head.conditions, MATCH, value)
    elif name.len == 10:
        if same_name(name.at, b"connection", 10):
            return is_first(&head.connection, value)
        return not rules.logs or not same_name(name.at, b"user-agent", 10) or is_first(&head.agent, value)
    elif name.len == 13:
        return not same_name(name.at, b"if-none-match", 13) or note_condition(&head.conditions, NONE_MATCH, value)
    elif name.len == 14:
        return not same_name(name.at, b"content-length", 14) or heed_length(value, head)
    elif name.len == 15:
        if same_name(name.at, b"accept-encoding", 15):
            return heed_accept(judged, value, head)
    elif name.len == 17:
        if same_name(name.at, b"transfer-encoding", 17):
            return False
        if same_name(name.at, b"if-modified-since", 17):
            return note_condition(&head.conditions, MODIFIED_SINCE, value)
    elif name.len == 19:
        return not same_name(name.at, b"if-unmodified-since", 19) or note_condition(&head.conditions, UNMODIFIED_SINCE, value)
    if rules.trusts:
        heed_proxy(name, value, head)
    return True


cdef inline bint heed_host(Judged *judged, Text value, Head *head) noexcept nogil:
    cdef Site *site
    if head.has_host:
        return False
    head.has_host = True
    site = site_of(judged, value)
    if site == NULL:
        return False
    if not head.is_absolute:     # else Host has no say, but where Python is to answer it
        head.site = site
    expect(&head.site.table, head.hash)
    return True


cdef inline bint heed_length(Text value, Head *head) noexcept nogil:
    """Where the next request begins depends on it: one, in one spelling, of a method that has a body, or it is Python's."""
    cdef int64_t length = read_length(value)
    if head.has_length or not head.for_servlet or length == UNSURE:
        return False
    head.has_length = True
    head.body = <uint32_t> length
    return True


cdef inline bint heed_accept(Judged *judged, Text value, Head *head) noexcept nogil:
    if head.has_accept:
        return False
    head.has_accept = True
    return accepts(judged, value, head.accept)


cdef inline void heed_proxy(Text name, Text value, Head *head) noexcept nogil:
    """What a proxy tells of the client."""
    if name.len == 9 and same_name(name.at, b"forwarded", 9):
        head.forwarded |= FORWARDED
    elif name.len == 15 and same_name(name.at, b"x-forwarded-for", 15):
        head.forwarded |= X_FORWARDED | (X_FORWARDED_FORS if head.forwarded & X_FORWARDED_FOR else X_FORWARDED_FOR)
        head.clients = value
    elif name.len == 16 and same_name(name.at, b"x-forwarded-host", 16):
        head.forwarded |= X_FORWARDED
    elif name.len == 17 and same_name(name.at, b"x-forwarded-proto", 17):
        head.forwarded |= X_FORWARDED


cdef inline bint is_first(Text *known, Text value) noexcept nogil:
    """Keep a field's value; False where there is one already."""
    if known.at != NULL:
        return False
    known[0] = value
    return True


cdef inline bint is_for_unnamed(Judged *judged, Head *head) noexcept nogil:
    """Whether a request without Host has a site."""
    if not head.is_absolute:
        head.site = judged.hosts.unnamed
    return head.site != NULL


cdef inline bint agrees(Judged *judged, Head *head) noexcept nogil:
    """Whether the fields make a request of the lane's; and what the connection does after it."""
    cdef int64_t mode[NUMBERS_MAX]
    if not head.has_host and (head.minor or not is_for_unnamed(judged, head)):
        return False
    if head.connection.at == NULL:
        head.mode = KEEP if head.minor else CLOSE
        return True
    if not means(judged, KIND_CONNECTION_11 if head.minor else KIND_CONNECTION_10, head.connection, mode):
        return False
    head.mode = <int> mode[0]
    return head.mode != UPGRADE

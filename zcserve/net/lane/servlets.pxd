# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Servlets that run in the loop: looked up in Python once a target, and called from here.

What is found (`Quick`, site/exchange.py) stands in the table beside the files, in a record without representations, with a
`Servlet` behind it. Another answer of an application than bytes (`Answer`) waits in `made`, for the connection that is handed over
with it.

Answers to pipelined requests leave together. What a servlet has done cannot be taken back, as a file's answer can, and what a file's
answer refers to may go while a servlet runs. So all answers up to the last servlet's are one text, `said`, in a record that is in no
table: what the socket does not take of it is pending, whole.

The loop calls `look_up`, `ask` and `discard_made`, after it has taken the GIL (gil.pxd). They do not raise: what is wrong
with a request, the general lane says. Python objects that this unit shares with `Lane` belong to `Lane`, which the collector
can look into.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from zcserve.net.lane.atomic cimport add_int, look_int
from zcserve.net.lane.grammar cimport CLOSE
from zcserve.net.lane.head cimport Head, key_of, method_of
from zcserve.net.lane.output cimport DONE, GONE, HAND_OVER, OK, Output
from zcserve.net.lane.owned cimport Freshness, is_found_fresh, seems_fresh
from zcserve.net.lane.proxies cimport NAME_MAX
from zcserve.net.lane.numbers cimport bury
from zcserve.net.lane.records cimport Dead, Record, Rep, free_record, key_at, new_record, reps_of, unref
from zcserve.net.lane.requests cimport SLOTS, Layout, lay_out, new_request
from zcserve.net.lane.sites cimport Site, Sites
from zcserve.net.lane.table cimport drop_key, insert, text_of
from zcserve.net.lane.text cimport Text, decimal

cdef enum:
    QUICK_MAX = 4096             # targets that Python answers, of all sites; clients choose queries
    LENGTH_LINE_MAX = 38         # Content-Length with 20 digits
    SAID_BYTES_MIN = 4096        # of the record that is kept from one turn to the next
    SAID_BYTES_MAX = 131072

cdef enum:                       # the parts of `Record.keep`: what was looked up, and what a `Quick` consists of
    TARGET = 0
    METHOD = 1
    FUNCTION = 2
    REQUEST = 3
    SLOT_NAMES = 4
    PARAMS = 5
    FIELDS = 6
    WHERE = 7
    BODY_MAX = 8
    NOTICE = 9
    SURE_S = 10
    IS_FRESH = 11
    FINISH = 12
    FAIL = 13
    PARTS = 14

cdef extern from "Python.h":
    PyObject *PyObject_CallOneArg(PyObject *function, PyObject *argument)       # NULL: it raises
    bint PyBytes_CheckExact(PyObject *value)

cdef struct Servlet:             # behind its record and that one's key
    size_t body_max              # bytes
    double took                  # seconds of its last call; at first many
    Freshness freshness
    Layout request

cdef struct Servlets:
    size_t found                 # targets that Python answers, in all sites
    PyObject *made               # descriptor -> `Answer` and the request's id, until it is taken, of `Lane`
    PyObject *origin             # `Proxies.origin` (forwarded.py), of `Lane`
    PyObject *running            # where the servlet is that is being called, NULL for none
    int64_t begun                # how many calls of servlets have begun
    PyObject *last_client        # as str
    Text last                    # the same, in `last_name`
    char last_name[NAME_MAX]
    char origin_name[NAME_MAX]
    Record *said                 # its text is what servlets have said to the connection at hand, and what was answered before that
    size_t said_len
    int64_t content_size         # of the last answer
    bint is_called               # a servlet was, by the last `ask`

cdef struct Asked:               # one request, for a servlet
    int fd                       # or another number that has what is made of it in `Servlets.made`
    Text head, body              # as sent
    Text peer                    # its name
    Text id                      # that the request was given, nothing where it has one, or none is wanted
    bint by_proxy                # a trusted peer says something of it
    const bint *draining         # each answer is its connection's last
    uint64_t turn
    double now


cdef inline void close_servlets(Servlets *servlets) noexcept:
    if servlets.said != NULL:
        free_record(servlets.said)
    Py_XDECREF(servlets.last_client)


# --- finding ------------------------------------------------------------------------------------------------


cdef inline size_t aligned(size_t length) noexcept nogil:
    """So many bytes, and those up to where a struct may begin."""
    return (length + 7) & ~<size_t> 7


cdef inline Servlet *servlet_of(Record *record) noexcept nogil:
    return <Servlet *> (key_at(record) + aligned(record.key_len))


cdef inline int forget_quick(Servlets *servlets, Site *site) except -1:
    """Look up anew what was found."""
    for key in <set> site.quick:
        drop_key(&site.table, text_of(key))
    return forget_found(servlets, site)


cdef inline int forget_found(Servlets *servlets, Site *site) except -1:
    """What was found is in the table no more."""
    servlets.found -= len(<set> site.quick)
    (<set> site.quick).clear()
    return 0


cdef inline int forget_all_quick(Servlets *servlets, Sites *sites) except -1:
    """As `forget_quick`, of all sites."""
    cdef uint32_t number
    for number in range(sites.count):
        if sites.all[number] != NULL:
            forget_quick(servlets, sites.all[number])
    return 0


cdef inline Record *look_up(Servlets *servlets, Sites *sites, Site *site, const Head *head) noexcept with gil:
    """What answers this request at once, as a record without representations; NULL for nothing."""
    cdef Record *record
    cdef Text said = method_of(head)
    cdef Text under = key_of(head)
    cdef bytes key = under.at[: under.len]
    cdef bytes target = head.target.at[: head.target.len] if head.for_servlet else key
    cdef bytes method = said.at[: said.len] if head.for_servlet else b"GET"
    try:
        found = (<object> site.look_up)(method, target)
        if found is None:
            return NULL
        if servlets.found >= QUICK_MAX:
            forget_all_quick(servlets, sites)
        quick = <set> site.quick
        drop_key(&site.table, under)  # one that is still to move
        record = new_servlet(key, head.hash, (target, method, *found))
        if not insert(&site.table, record):
            free_record(record)
            return NULL
        servlets.found += key not in quick
        quick.add(key)
        return record
    except BaseException:
        return NULL


cdef inline Record *new_servlet(bytes key, uint32_t hash, tuple parts) except NULL:
    """A record that keeps a servlet's parts. Raises ValueError for others, MemoryError."""
    cdef size_t length = PyBytes_GET_SIZE(key), body_max
    cdef int notice
    cdef double sure_s
    cdef Layout layout
    cdef Record *record
    if len(parts) != PARTS or not isinstance(parts[FIELDS], bytes):
        raise ValueError("not the parts of a servlet")
    notice = parts[NOTICE]
    body_max = parts[BODY_MAX]
    sure_s = parts[SURE_S]
    lay_out(&layout, parts[REQUEST], parts[SLOT_NAMES])
    record = new_record(NULL, aligned(length) + sizeof(Servlet), NULL, 0, 0)
    if record == NULL:
        raise MemoryError
    record.key_len = <uint32_t> length
    memcpy(key_at(record), PyBytes_AS_STRING(key), length)
    servlet_of(record)[0] = Servlet(body_max, 1, Freshness(notice, sure_s, -1e9, 0), layout)
    record.hash = hash
    Py_INCREF(parts)
    record.keep = <PyObject *> parts
    return record


# --- calling ------------------------------------------------------------------------------------------------


cdef inline int ask(
    Servlets *servlets, Dead *dead, Record *found, const Asked *asked, Head *head, const Output *output
) noexcept with gil:
    """DONE with an answer behind what was said, HAND_OVER, perhaps with something in `made`, or GONE."""
    cdef tuple parts = <tuple> found.keep
    cdef int result
    bury(dead)                  # what the last answers were sent from
    add_int(&found.refs, 1)      # the servlet may have it dropped
    result = ask_parts(servlets, parts, servlet_of(found), asked, head, output)
    unref(dead, found)
    return result


cdef inline int ask_parts(
    Servlets *servlets, tuple parts, Servlet *servlet, const Asked *asked, Head *head, const Output *output
) noexcept:
    cdef int failed = HAND_OVER
    cdef bint is_said
    try:
        if asked.body.len > servlet.body_max:
            return HAND_OVER
        if not seems_fresh(&servlet.freshness, asked.turn, asked.now):
            if not is_found_fresh(&servlet.freshness, parts[IS_FRESH], asked.turn, asked.now):
                return HAND_OVER
        failed = GONE            # an application does not raise, and is not called twice
        made = call(servlets, parts, servlet, asked, head)
        if asked.draining[0]:    # since the servlet was called, perhaps by itself
            head.mode = CLOSE
        if type(made) is bytes:
            is_said = say(servlets, output, head, <bytes> parts[FIELDS], <bytes> made)
        elif type(made) is tuple:
            fields, content = made
            is_said = say(servlets, output, head, bytes(fields), bytes(content))     # of a class of its own, perhaps
        else:
            if made is not None:
                (<dict> servlets.made)[asked.fd] = made, asked.id.at[: asked.id.len] if asked.id.len else b""
            return HAND_OVER
        return DONE if is_said else GONE
    except BaseException:
        return failed


cdef inline object call(Servlets *servlets, tuple parts, const Servlet *servlet, const Asked *asked, Head *head):
    """What a servlet returned, if that is bytes; else what the application made of it. The log is to name the client that a proxy
    tells of."""
    cdef str client = name_of(servlets, asked.peer)
    cdef bytes said = asked.head.at[: asked.head.len] if not asked.id.len else head_with_id(asked)
    cdef bytes method = <bytes> parts[METHOD] if head.is_get or head.for_servlet else b"HEAD"
    cdef bytes body = asked.body.at[: asked.body.len]
    cdef object origin = (<object> servlets.origin)(client, said) if asked.by_proxy else None
    cdef PyObject *values[SLOTS]
    cdef PyObject *value
    if origin is not None:
        client = origin.client.name
        note_client(servlets, head, client.encode("ascii"))
    values[:] = [
        <PyObject *> method, <PyObject *> parts[TARGET], <PyObject *> said, <PyObject *> client, <PyObject *> body,
        <PyObject *> parts[PARAMS], <PyObject *> origin,
    ]
    request = new_request(parts[REQUEST], &servlet.request, values)
    servlets.is_called = True
    servlets.begun += 1
    servlets.running = <PyObject *> parts[WHERE]
    value = PyObject_CallOneArg(<PyObject *> parts[FUNCTION], <PyObject *> request)
    if value == NULL or not PyBytes_CheckExact(value):
        return made_of(servlets, parts, method, value)
    servlets.running = NULL
    made = <object> value
    Py_XDECREF(value)
    return made


cdef inline bytes head_with_id(const Asked *asked):
    """The head as sent, and a line of it for the id that the log has."""
    return asked.head.at[: asked.head.len - 2] + b"X-Request-Id: " + asked.id.at[: asked.id.len] + b"\r\n\r\n"


cdef inline object made_of(Servlets *servlets, tuple parts, bytes method, PyObject *value):
    """What the application makes of what a servlet returned, or raised (NULL)."""
    try:
        if value == NULL:
            raise_it()
        returned = <object> value
        Py_XDECREF(value)
        return parts[FINISH](method, returned)
    except BaseException as error:
        return parts[FAIL](method, error)
    finally:
        servlets.running = NULL


cdef inline int raise_it() except -1:
    """Go on with what a function of CPython's has raised."""
    return -1


cdef inline void note_client(Servlets *servlets, Head *head, bytes name) noexcept:
    """Have the log name this client."""
    head.client.at = servlets.origin_name
    head.client.len = min(PyBytes_GET_SIZE(name), NAME_MAX)
    memcpy(servlets.origin_name, PyBytes_AS_STRING(name), head.client.len)


cdef inline str name_of(Servlets *servlets, Text peer):
    """The peer's name; most requests come from the peer of the last one, a proxy."""
    if servlets.last_client == NULL or servlets.last.len != peer.len or memcmp(servlets.last.at, peer.at, peer.len) != 0:
        name = peer.at[: peer.len].decode("ascii")
        Py_XDECREF(servlets.last_client)
        Py_INCREF(name)
        servlets.last_client = <PyObject *> name
        memcpy(servlets.last_name, peer.at, peer.len)
        servlets.last = Text(<const char *> servlets.last_name, peer.len)
    return <str> servlets.last_client


# --- answers ------------------------------------------------------------------------------------------------


cdef inline bint say(Servlets *servlets, const Output *output, const Head *head, bytes fields, bytes content) noexcept:
    """Put an answer behind what was said. False without memory."""
    cdef size_t prefix_len = output.prefix_len[head.mode][OK]
    cdef size_t fields_len = PyBytes_GET_SIZE(fields), size = PyBytes_GET_SIZE(content)
    cdef bint has_content = head.is_get or head.for_servlet
    cdef char *at
    if not has_room_to_say(servlets, prefix_len + LENGTH_LINE_MAX + fields_len + 2 + (size if has_content else 0)):
        return False
    at = key_at(servlets.said) + servlets.said_len
    memcpy(at, output.prefix[head.mode][OK], prefix_len)
    at += prefix_len
    memcpy(at, b"Content-Length: ", 16)
    at += 16
    at += decimal(size, at)
    memcpy(at, b"\r\n", 2)
    memcpy(at + 2, PyBytes_AS_STRING(fields), fields_len)
    at += 2 + fields_len
    memcpy(at, b"\r\n", 2)
    at += 2
    servlets.content_size = 0
    if has_content:
        memcpy(at, PyBytes_AS_STRING(content), size)
        at += size
        servlets.content_size = size
    servlets.said_len = at - key_at(servlets.said)
    return True


cdef inline bint has_room_to_say(Servlets *servlets, size_t more) noexcept:
    """Have a record with so much room behind what was said. False without memory."""
    cdef Record *record
    cdef Rep rep
    cdef size_t room = servlets.said_len + more
    if servlets.said != NULL and servlets.said.key_len >= room:
        return True
    if room > 0xFFFFFFFFu:
        return False
    memset(&rep, 0, sizeof(Rep))
    rep.fd = -1
    record = new_record(NULL, max(room, <size_t> SAID_BYTES_MIN), &rep, 1, 0)
    if record == NULL:
        return False
    if servlets.said != NULL:
        memcpy(key_at(record), key_at(servlets.said), servlets.said_len)
        free(servlets.said)
    servlets.said = record
    return True


cdef inline bint settle(Servlets *servlets, Output *output) noexcept with gil:
    """Copy what is gathered behind what was said: while a servlet runs, what it refers to may go. False without memory."""
    cdef size_t total = 0
    cdef int i, first = 2 if servlets.said_len else 0
    for i in range(first, 2 * output.count):
        total += output.iov[i].iov_len
    if not total:
        return True
    if not has_room_to_say(servlets, total):
        return False
    for i in range(first, 2 * output.count):
        memcpy(key_at(servlets.said) + servlets.said_len, output.iov[i].iov_base, output.iov[i].iov_len)
        servlets.said_len += output.iov[i].iov_len
    output.count = 1
    output.made_len = 0
    output.answers[0].record = servlets.said
    output.answers[0].rep = reps_of(servlets.said)
    output.iov[0].iov_len = 0
    output.iov[1].iov_base = key_at(servlets.said)
    output.iov[1].iov_len = servlets.said_len
    return True


cdef inline void let_said_go(Servlets *servlets, Dead *dead) noexcept nogil:
    """What was said is sent, or what is left of it is pending."""
    cdef Record *record = servlets.said
    servlets.said_len = 0
    if record == NULL or (look_int(&record.refs) == 1 and record.key_len <= SAID_BYTES_MAX):
        return
    servlets.said = NULL
    unref(dead, record)


# --- what an application made -------------------------------------------------------------------------------


cdef inline void discard_made(Servlets *servlets, int fd) noexcept with gil:
    """The connection is gone that an answer was for."""
    made = (<dict> servlets.made).pop(fd, None)
    if made is not None:
        made[0].discard()


cdef inline bint has_made(const Servlets *servlets, int key) noexcept with gil:
    return key in <dict> servlets.made


cdef inline void move_made(Servlets *servlets, int key, int fd) noexcept with gil:
    """The connection is here that an answer was made for."""
    made = (<dict> servlets.made).pop(key, None)
    if made is not None:
        (<dict> servlets.made)[fd] = made

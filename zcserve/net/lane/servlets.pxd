# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Servlets that run in the loop: looked up in Python once a target, and called from here.

What is found (`Quick`, site/exchange.py) stands in the table beside the files, in a record without representations, with a
`Servlet` behind it. An answer gets a record that is in no table. Another answer of an application (`Answer`)
waits in `made`, for the connection that is handed over with it.

The loop calls `look_up`, `ask` and `discard_made`, after it has taken the GIL (gil.pxd). They do not raise: what is wrong
with a request, the general lane says. Python objects that this unit shares with `Lane` belong to `Lane`, which the collector
can look into.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from zcserve.net.lane.head cimport Head
from zcserve.net.lane.output cimport DONE, GONE, HAND_OVER
from zcserve.net.lane.proxies cimport NAME_MAX
from zcserve.net.lane.records cimport Record, Rep, bury, maybe_dead, new_record, release, reps_of
from zcserve.net.lane.system cimport FIONREAD, ioctl
from zcserve.net.lane.table cimport Table, drop_key, insert, text_of
from zcserve.net.lane.text cimport Text, decimal

cdef enum:
    QUICK_MAX = 4096             # targets that Python answers; clients choose queries
    LENGTH_LINE_MAX = 38         # Content-Length with 20 digits
    SPARE_BYTES_MIN = 4096       # of the record that is kept from one answer to the next
    SPARE_BYTES_MAX = 65536

cdef enum:                       # the parts of `Record.keep`: the target, and what a `Quick` consists of
    TARGET = 0
    FUNCTION = 1
    REQUEST = 2
    PARAMS = 3
    FIELDS = 4
    WHERE = 5
    NOTICE = 6
    SURE_S = 7
    IS_FRESH = 8
    FINISH = 9
    FAIL = 10
    PARTS = 11

cdef struct Servlet:             # behind its record
    int notice
    double sure_s
    double fresh_at              # the time and the turn in which it was found fresh
    uint64_t fresh_in

cdef struct Servlets:
    bint looks_up
    PyObject *look_up            # `Application.look_up`, of `Lane`
    PyObject *quick              # the keys of what it found, of `Lane`
    PyObject *made               # descriptor -> `Answer`, until it is taken, of `Lane`
    PyObject *origin             # `Proxies.origin` (forwarded.py), of `Lane`
    PyObject *running            # where the servlet is that is being called, NULL for none
    PyObject *last_client        # as str
    Text last                    # the same, in `last_name`
    char last_name[NAME_MAX]
    char origin_name[NAME_MAX]
    Record *spare                # of the last answer

cdef struct Asked:               # one request, for a servlet
    int fd
    Text head                    # as sent
    Text peer                    # its name
    bint by_proxy                # a trusted peer says something of it
    uint64_t turn
    double now


cdef inline void close_servlets(Servlets *servlets) noexcept:
    if servlets.spare != NULL:
        release(servlets.spare)
    Py_XDECREF(servlets.last_client)


# --- finding ------------------------------------------------------------------------------------------------


cdef inline Servlet *servlet_of(Record *record) noexcept nogil:
    return <Servlet *> (record + 1)


cdef inline int forget_quick(Servlets *servlets, Table *table) except -1:
    """Look up anew what was found."""
    quick = <set> servlets.quick
    for key in quick:
        drop_key(table, text_of(key))
    quick.clear()
    return 0


cdef inline Record *look_up(Servlets *servlets, Table *table, const Head *head) noexcept with gil:
    """What answers this target at once, as a record without representations; NULL for nothing."""
    cdef Record *record
    cdef bytes target = head.target.at[: head.target.len]
    try:
        found = (<object> servlets.look_up)(target)
        if found is None:
            return NULL
        quick = <set> servlets.quick
        if len(quick) >= QUICK_MAX:
            forget_quick(servlets, table)
        drop_key(table, head.target)  # one that is still to move
        record = new_servlet(target, head.hash, (target, *found))
        if not insert(table, record):
            release(record)
            return NULL
        quick.add(target)
        return record
    except BaseException:
        return NULL


cdef inline Record *new_servlet(bytes target, uint32_t hash, tuple parts) except NULL:
    """A record that keeps a servlet's parts. Raises ValueError for others, MemoryError."""
    cdef size_t length = PyBytes_GET_SIZE(target)
    cdef int notice
    cdef double sure_s
    cdef Record *record
    if len(parts) != PARTS or not isinstance(parts[FIELDS], bytes):
        raise ValueError("not the parts of a servlet")
    notice = parts[NOTICE]
    sure_s = parts[SURE_S]
    record = new_record(NULL, sizeof(Servlet) + length, NULL, 0)
    if record == NULL:
        raise MemoryError
    servlet_of(record)[0] = Servlet(notice, sure_s, -1e9, 0)
    record.key = <char *> (servlet_of(record) + 1)
    record.key_len = <uint32_t> length
    memcpy(record.key, PyBytes_AS_STRING(target), length)
    record.hash = hash
    Py_INCREF(parts)
    record.keep = <PyObject *> parts
    return record


# --- calling ------------------------------------------------------------------------------------------------


cdef inline int ask(
    Servlets *servlets, Table *table, Record *found, const Asked *asked, Head *head, Record **record
) noexcept with gil:
    """DONE with an answer in a record of its own, HAND_OVER, perhaps with something in `made`, or GONE."""
    cdef tuple parts = <tuple> found.keep
    cdef int result
    bury(&table.dead)            # what the last answers were sent from
    found.refs += 1              # the servlet may have it dropped
    result = ask_parts(servlets, parts, servlet_of(found), asked, head, record)
    found.refs -= 1
    maybe_dead(&table.dead, found)
    return result


cdef inline int ask_parts(
    Servlets *servlets, tuple parts, Servlet *servlet, const Asked *asked, Head *head, Record **record
) noexcept:
    cdef int failed = HAND_OVER
    try:
        if servlet.fresh_in != asked.turn and not is_fresh(servlet, parts, asked):
            return HAND_OVER
        failed = GONE            # an application does not raise, and is not called twice
        made = call(servlets, parts, asked, head)
        if type(made) is bytes:
            record[0] = record_of_answer(servlets, <bytes> parts[FIELDS], <bytes> made)
        elif type(made) is tuple:
            fields, content = made
            record[0] = record_of_answer(servlets, bytes(fields), bytes(content))    # of a class of its own, perhaps
        else:
            if made is not None:
                (<dict> servlets.made)[asked.fd] = made
            return HAND_OVER
        return GONE if record[0] == NULL else DONE
    except BaseException:
        return failed


cdef inline bint is_fresh(Servlet *servlet, tuple parts, const Asked *asked) except -1:
    """Whether nothing has changed that a servlet is made of; once a turn, and mostly by one look."""
    cdef int unread = 0
    if (
        servlet.notice < 0
        or asked.now > servlet.fresh_at + servlet.sure_s
        or ioctl(servlet.notice, FIONREAD, &unread) < 0
        or unread
    ):
        if not parts[IS_FRESH]():
            return False
        servlet.fresh_at = asked.now
    servlet.fresh_in = asked.turn
    return True


cdef inline object call(Servlets *servlets, tuple parts, const Asked *asked, Head *head):
    """What a servlet returned, if that is bytes; else what the application made of it. The log is to name the client that a proxy
    tells of."""
    cdef str client = name_of(servlets, asked.peer)
    cdef bytes said = asked.head.at[: asked.head.len]
    cdef bytes method = b"GET" if head.is_get else b"HEAD"
    cdef object origin = (<object> servlets.origin)(client, said) if asked.by_proxy else None
    if origin is not None:
        client = origin.client.name
    servlets.running = <PyObject *> parts[WHERE]
    try:
        if origin is None:
            request = parts[REQUEST](method, parts[TARGET], said, client, b"", parts[PARAMS])
        else:
            request = parts[REQUEST](method, parts[TARGET], said, client, b"", parts[PARAMS], origin)
        value = parts[FUNCTION](request)
        return value if type(value) is bytes else parts[FINISH](method, value)
    except BaseException as error:
        return parts[FAIL](method, error)
    finally:
        servlets.running = NULL
        if origin is not None:
            note_client(servlets, head, client.encode("ascii"))


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


cdef inline Record *record_of_answer(Servlets *servlets, bytes fields, bytes content) noexcept:
    """An answer's head and content; its memory is the last one's where that is enough. NULL without memory."""
    cdef Record *record
    cdef size_t fields_len = PyBytes_GET_SIZE(fields), size = PyBytes_GET_SIZE(content)
    cdef size_t room = LENGTH_LINE_MAX + fields_len + 2 + size
    cdef char *at
    record = spare_record(servlets, room) if room <= 0xFFFFFFFFu else NULL
    if record == NULL:
        return NULL
    at = record.key
    memcpy(at, b"Content-Length: ", 16)
    at += 16
    at += decimal(size, at)
    memcpy(at, b"\r\n", 2)
    memcpy(at + 2, PyBytes_AS_STRING(fields), fields_len)
    at += 2 + fields_len
    memcpy(at, b"\r\n", 2)
    reps_of(record).head_len = <uint32_t> (at + 2 - record.key)
    reps_of(record).size = size
    memcpy(at + 2, PyBytes_AS_STRING(content), size)
    return record


cdef inline Record *spare_record(Servlets *servlets, size_t room) noexcept:
    """A record in no table, with so much room where a key stands."""
    cdef Record *record = servlets.spare
    cdef Rep rep
    servlets.spare = NULL
    if record == NULL or record.key_len < room:
        free(record)
        memset(&rep, 0, sizeof(Rep))
        rep.fd = -1
        record = new_record(NULL, max(room, <size_t> SPARE_BYTES_MIN), &rep, 1)
        if record == NULL:
            return NULL
        record.dropped = True
        reps_of(record).head = record.key
    record.refs = 1
    return record


cdef inline void spare(Servlets *servlets, Table *table, Record *record) noexcept nogil:
    """An answer is sent, or what is left of it is pending."""
    record.refs -= 1
    if record.refs or record.key_len > SPARE_BYTES_MAX:
        maybe_dead(&table.dead, record)
    else:
        servlets.spare = record


# --- what an application made -------------------------------------------------------------------------------


cdef inline void discard_made(Servlets *servlets, int fd) noexcept with gil:
    """The connection is gone that an answer was for."""
    made = (<dict> servlets.made).pop(fd, None)
    if made is not None:
        made.discard()

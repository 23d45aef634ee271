# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Records: what the lane can send, and how long it is kept.

A `Record` is one resource: its key, and its representations (`Rep`), of which each refers to a head and content that Python
objects own. It holds those objects as long as it lives. It lives as long as something refers to it (`refs`): what it belongs to (the
table, mostly), and answers that wait for their sockets. Without the GIL a record can only be noted as dead (`note_dead`); `bury` frees
it, with the GIL.

A record is made for each file that is asked for, so each byte of it counts: with its representation it takes 96 bytes and its key.
A plain answer writes nothing into it: what changes with each use is the lane's (uses.pxd). That names a representation by its number;
Python's thread finds the entry by that (numbers.pxd).

Odd: a record without representations (`count` 0) belongs to a servlet, see servlets.pxd, or is a lead (leads.pxd), which answers by another
record. One with another `status` than 200 is a page that says so: its representation has no entry, and is never chosen among others, compared
or counted.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer, Py_buffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_XDECREF, Py_XINCREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from zcserve.net.lane.atomic cimport add_int
from zcserve.net.lane.dates cimport FIXDATE_LEN, NO_DATE, read_date
from zcserve.net.lane.growing cimport grown
from zcserve.net.lane.system cimport memmem
from zcserve.net.lane.text cimport Text, decimal

cdef enum:
    LENGTH_NAME_LEN = 16         # Content-Length, with which a head begins, and what stands between it and its value
    TAG_NAME_LEN = 6             # ETag and what stands between it and its value
    REPS_MAX = 4
    CODINGS = 4                  # identity, br, gzip, zstd

cdef enum:                       # `Record.any_query`
    QUERY_NONE = 0               # the key is all of the target
    QUERY_ANY = 1                # each query, which changes nothing
    QUERY_SENT = 2               # each query, which goes behind the location of a redirect as it was sent
    QUERY_PLAIN = 3              # likewise, but an empty one does not, and what no URL has is Python's to escape

cdef struct Rep:
    const char *head             # for a packed body, the content follows
    PyObject *entry              # whose representation it is; NULL for a page
    PyObject *body               # what keeps head and content
    int64_t offset
    int64_t size
    int64_t modified             # Last-Modified in seconds since 1970, NO_DATE for none
    uint32_t head_len
    uint32_t tail                # where the fields begin that a 304 carries: first the ETag
    uint32_t date                # where its Last-Modified stands, 0 where that is not what `modified` says
    uint32_t number              # where each lane has what it knows of its uses (uses.pxd), 0 for a page
    int fd                       # -1 for a packed body, else content lies at `offset` of this descriptor
    uint16_t tag_len
    uint8_t coding

cdef struct Record:              # one allocation, its representations and its key behind it: few lines of cache a hit
    uint32_t hash
    uint32_t key_len
    PyObject *keep               # what a servlet consists of
    int refs                     # why it may not be freed: what it belongs to, sends under way, a servlet's call. Any lane changes it
    uint8_t count                # of representations
    uint8_t any_query            # what its key leads to with each query behind it, too (`QUERY_...`)
    uint8_t status               # which prefix (output.pxd)
    uint8_t front                # bytes that stand in front of it in its block (leads.pxd); 0: it is no lead

cdef struct Dead:                # nothing refers to them any more
    Record **records
    size_t count, room
    void *numbers                # `Numbers` (numbers.pxd), which takes back those of what is buried


cdef inline Rep *reps_of(const Record *record) noexcept nogil:
    return <Rep *> (record + 1)


cdef inline char *key_at(const Record *record) noexcept nogil:
    """Its key, or what stands in the place of one."""
    return <char *> (reps_of(record) + record.count)


cdef inline Record *new_record(const char *key, size_t key_len, const Rep *reps, int count, size_t front) noexcept:
    """A record, which holds what its representations refer to; NULL without memory. Without a key there are so many bytes for what
    else it is to hold. In `front` of it there are so many bytes, all of them 0."""
    cdef char *block = <char *> malloc(front + sizeof(Record) + count * sizeof(Rep) + key_len)
    cdef Record *record
    cdef int i
    if block == NULL:
        return NULL
    memset(block, 0, front + sizeof(Record))
    record = <Record *> (block + front)
    record.front = <uint8_t> front
    record.refs = 1              # of what the caller puts it into
    record.count = <uint8_t> count
    record.key_len = <uint32_t> key_len
    for i in range(count):
        reps_of(record)[i] = reps[i]
        Py_XINCREF(reps[i].entry)
        Py_XINCREF(reps[i].body)
    if key != NULL:
        memcpy(key_at(record), key, key_len)
    return record


cdef inline Record *record_of_file(bytes key, tuple entries, bint any_query) except? NULL:
    """A record of a file's representations, as `Lane.put` gets them; NULL where they are not all in memory, or more than
    REPS_MAX. Raises ValueError for what does not add up, MemoryError."""
    cdef Rep reps[REPS_MAX]
    cdef Record *record
    cdef list bodies = []        # the record may refer to them once it is made, and not before
    cdef int count = 0
    for entry in entries:
        body = entry.body        # read once: another thread may evict it
        place = None if body is None else body.place()
        if place is None or count == REPS_MAX:
            return NULL
        fill_rep(&reps[count], entry, body, place)
        bodies.append(body)
        count += 1
    if not count:
        return NULL
    record = new_record(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), reps, count, 0)
    if record == NULL:
        raise MemoryError
    record.any_query = any_query
    return record


cdef inline int fill_rep(Rep *rep, entry, body, place) except -1:
    """Describe a representation whose body lies in this `place`. Raises ValueError for what does not add up."""
    cdef Py_buffer view
    cdef bytes tag = entry.etag
    cdef int64_t start, length, room
    buffer, start, length, rep.fd, rep.offset = place
    rep.size = body.size
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    rep.head = <const char *> view.buf + start
    room = view.len
    PyBuffer_Release(&view)      # the body keeps the memory: a slab's mapping outlives its blocks
    if not (
        0 <= start and 0 <= length <= 0xFFFFFFFF and 0 <= rep.size and PyBytes_GET_SIZE(tag) <= 0xFFFF
        and start + length + (rep.size if rep.fd < 0 else 0) <= room
    ):
        raise ValueError(f"{entry.key!r} lies outside of what it lies in")
    rep.entry = <PyObject *> entry
    rep.body = <PyObject *> body
    rep.head_len = <uint32_t> length
    rep.coding = coding_of(entry.encoding)
    rep.tag_len = <uint16_t> PyBytes_GET_SIZE(tag)
    rep.modified = NO_DATE if entry.modified is None else entry.modified
    rep.number = 0
    check_length(rep)
    find_tail(rep, PyBytes_AS_STRING(tag))
    find_date(rep)
    return 0


cdef inline uint8_t coding_of(bytes name) except 0xFF:
    """The number of a content coding. Raises ValueError for one that the lane does not know."""
    if not name:
        return 0
    if name == b"br":
        return 1
    if name == b"gzip":
        return 2
    if name == b"zstd":
        return 3
    raise ValueError(f"no coding: {name!r}")


cdef inline int check_length(const Rep *rep) except -1:
    """Raises ValueError where a head does not begin with the length of its content (cache/heads.py)."""
    cdef char line[LENGTH_NAME_LEN + 21]
    cdef size_t length = LENGTH_NAME_LEN
    memcpy(line, b"Content-Length: ", LENGTH_NAME_LEN)
    length += decimal(rep.size, line + LENGTH_NAME_LEN)
    memcpy(line + length, b"\r\n", 2)
    if rep.head_len < length + 2 or memcmp(rep.head, line, length + 2) != 0:
        raise ValueError("a head without its length")
    return 0


cdef inline int find_tail(Rep *rep, const char *tag) except -1:
    """Find where the fields of a 304 begin (cache/heads.py): with the last ETag, which is `tag`. Raises ValueError."""
    cdef int64_t at = <int64_t> rep.head_len - 8
    while at >= 0 and memcmp(rep.head + at, b"\r\nETag: ", 8) != 0:
        at -= 1
    rep.tail = <uint32_t> (at + 2)
    if at < 0 or own_tag(rep).at + rep.tag_len > rep.head + rep.head_len or memcmp(own_tag(rep).at, tag, rep.tag_len) != 0:
        raise ValueError("a head without its ETag")
    return 0


cdef inline Text own_tag(const Rep *rep) noexcept nogil:
    """The ETag, with its quotes."""
    return Text(rep.head + rep.tail + TAG_NAME_LEN, rep.tag_len)


cdef inline void find_date(Rep *rep) noexcept nogil:
    """Find the Last-Modified that is the representation's date, so that it need not be read in a request."""
    cdef const char *line = <const char *> memmem(rep.head, rep.tail, b"\r\nLast-Modified: ", 17)
    cdef int64_t date
    rep.date = 0
    if line == NULL or rep.head + rep.tail - line < 17 + FIXDATE_LEN:
        return
    if read_date(Text(line + 17, FIXDATE_LEN), 0, &date) and date == rep.modified and date != NO_DATE:
        rep.date = <uint32_t> (line + 17 - rep.head)


cdef inline bint is_resident(Record *record):
    """Whether all that a record of a file refers to is what its entries have in memory."""
    cdef int i
    for i in range(record.count):
        if (<object> reps_of(record)[i].entry).body is not <object> reps_of(record)[i].body:
            return False
    return True


cdef inline bint is_with(Record *record, entry) noexcept:
    """Whether one of a record's representations is this entry's."""
    cdef int i
    for i in range(record.count):
        if reps_of(record)[i].entry == <PyObject *> entry:
            return True
    return False


cdef inline Record *record_of_page(bytes key, int status, bytes head, bytes content, size_t front=0) except NULL:
    """A record of a page, with so many bytes in `front` of it. Raises MemoryError."""
    cdef Rep rep
    cdef Record *record
    page = head + content
    memset(&rep, 0, sizeof(Rep))
    rep.head = PyBytes_AS_STRING(page)
    rep.body = <PyObject *> page
    rep.head_len = <uint32_t> PyBytes_GET_SIZE(head)
    rep.fd = -1
    rep.size = PyBytes_GET_SIZE(content)
    record = new_record(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &rep, 1, front)
    if record == NULL:
        raise MemoryError
    record.status = <uint8_t> status
    return record


cdef inline void free_record(Record *record) noexcept:
    """Let its Python objects go, too."""
    cdef int i
    for i in range(record.count):
        Py_XDECREF(reps_of(record)[i].entry)
        Py_XDECREF(reps_of(record)[i].body)
    Py_XDECREF(record.keep)
    free(<char *> record - record.front)


cdef inline void unref(Dead *dead, Record *record) noexcept nogil:
    """A reference is gone. `dead` is of the lane that had it."""
    if add_int(&record.refs, -1) == 0:
        note_dead(dead, record)


cdef inline void note_dead(Dead *dead, Record *record) noexcept nogil:
    """Nothing refers to a record: `bury` frees it, with the GIL."""
    cdef Record **records
    if dead.count == dead.room:
        records = <Record **> grown(dead.records, &dead.room, sizeof(Record *))
        if records == NULL:
            return               # leaks the record rather than the server
        dead.records = records
    dead.records[dead.count] = record
    dead.count += 1


cdef inline void take_dead(Dead *dead, Dead *other) noexcept nogil:
    """What died in the hands of another lane, which has ended."""
    while other.count:
        other.count -= 1
        note_dead(dead, other.records[other.count])

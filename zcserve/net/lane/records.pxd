# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Records: what the lane can send, and how long it is kept.

A `Record` is one resource: its key, and its representations (`Rep`), of which each refers to a head and content that Python
objects own. The record holds those objects by `keep` as long as it lives. It lives until it is `dropped` and nothing refers
to it (`refs`: answers under way, and a use that Python was not told yet). Without the GIL a record can only be noted as dead
(`maybe_dead`); `bury` frees it, with the GIL.

Odd: a record without representations (`count` 0) belongs to a servlet, see servlets.pxd. One with another `status` than 200 is a
page that says so: its representation is never chosen among others, compared or counted.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer, Py_buffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from zcserve.net.lane.system cimport CACHE_LINE, aligned_alloc

cdef enum:
    REPS_MAX = 4
    CODINGS = 4                  # identity, br, gzip, zstd

cdef extern from *:
    """
    #define ZC_NO_DATE INT64_MIN
    """
    const int64_t NO_DATE "ZC_NO_DATE"

cdef struct Rep:
    const char *head             # for a packed body, the content follows
    uint32_t head_len
    uint32_t tail                # where the fields begin that a 304 carries
    uint32_t tag                 # where the ETag stands, with its quotes
    uint16_t tag_len
    uint8_t coding
    int fd                       # -1 for a packed body, else content lies at `offset` of this descriptor
    uint32_t uses                # since the last drain
    int64_t offset
    int64_t size
    int64_t modified             # Last-Modified in seconds since 1970, NO_DATE for none
    uint64_t tick                # the turn of its last use
    uint64_t told                # the turn in which it was last sighted

cdef struct Record:              # one allocation, its representations and its key behind it: few lines of cache a hit
    uint32_t hash
    uint32_t key_len
    char *key
    Rep *reps
    int count
    bint any_query               # what its key leads to with each query behind it, too
    int touched_at               # where it stands among the touched, -1 for nowhere
    bint dropped
    int refs                     # why it may not be freed: sends under way, and a tick that was not drained
    int sending
    int status                   # which prefix (output.pxd)
    PyObject *keep

cdef struct Dead:                # dropped, and nothing refers to them
    Record **records
    int count, size


cdef inline Record *new_record(const char *key, size_t key_len, const Rep *reps, int count) noexcept nogil:
    """A record in whole lines of cache; NULL without memory. Without a key there is room for what else it is to hold."""
    cdef size_t size = sizeof(Record) + count * sizeof(Rep) + key_len
    cdef Record *record = <Record *> aligned_alloc(CACHE_LINE, (size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)
    if record == NULL:
        return NULL
    memset(record, 0, sizeof(Record))
    record.reps = <Rep *> (record + 1)
    record.count = count
    record.key = <char *> (record.reps + count)
    record.key_len = <uint32_t> key_len
    record.touched_at = -1
    if count:
        memcpy(record.reps, reps, count * sizeof(Rep))
    if key != NULL:
        memcpy(record.key, key, key_len)
    return record


cdef inline Record *record_of_file(bytes key, list representations, bint any_query) except NULL:
    """A record of at most REPS_MAX representations, as `Lane.put` gets them. Raises ValueError for offsets that lie outside of what
    they are about, MemoryError."""
    cdef Rep reps[REPS_MAX]
    cdef Record *record
    cdef Py_buffer view
    cdef list keep = []
    cdef int count = 0
    for entry, coding, head, head_len, tail, tag, tag_len, fd, offset, size, body in representations:
        modified = NO_DATE if entry.modified is None else entry.modified
        reps[count] = Rep(NULL, head_len, tail, tag, tag_len, coding, fd, 0, offset, size, modified, entry.tick, 0)
        PyObject_GetBuffer(head, &view, PyBUF_SIMPLE)
        reps[count].head = <const char *> view.buf
        length = view.len
        PyBuffer_Release(&view)          # `keep` holds the memory: a slab's mapping outlives its blocks
        if not (
            0 <= coding < CODINGS
            and 0 <= tail <= tag <= tag + tag_len <= head_len
            and 0 <= size
            and head_len + (size if fd < 0 else 0) <= length
        ):
            raise ValueError(f"a representation of {key!r} that does not add up")
        keep.append((entry, head, body))
        count += 1
    record = new_record(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), reps, count)
    if record == NULL:
        raise MemoryError
    record.any_query = any_query
    Py_INCREF(keep)
    record.keep = <PyObject *> keep
    return record


cdef inline Record *record_of_page(bytes key, int status, bytes head, bytes content) except NULL:
    """A record of a page. Raises MemoryError."""
    cdef Rep rep
    cdef Record *record
    page = head + content
    keep = [(page, page, None)]
    memset(&rep, 0, sizeof(Rep))
    rep.head = PyBytes_AS_STRING(page)
    rep.head_len = <uint32_t> PyBytes_GET_SIZE(head)
    rep.fd = -1
    rep.size = PyBytes_GET_SIZE(content)
    record = new_record(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &rep, 1)
    if record == NULL:
        raise MemoryError
    record.status = status
    Py_INCREF(keep)
    record.keep = <PyObject *> keep
    return record


cdef inline void release(Record *record) noexcept:
    """Free a record and let its Python objects go."""
    if record.keep != NULL:
        Py_DECREF(<object> record.keep)
    free(record)


cdef inline void maybe_dead(Dead *dead, Record *record) noexcept nogil:
    """Note a dropped record that nothing refers to; `bury` frees it, with the GIL."""
    cdef Record **grown
    if not record.dropped or record.refs:
        return
    if dead.count == dead.size:
        grown = <Record **> realloc(dead.records, (2 * dead.size + 64) * sizeof(Record *))
        if grown == NULL:
            return               # leaks the record rather than the server
        dead.records = grown
        dead.size = 2 * dead.size + 64
    dead.records[dead.count] = record
    dead.count += 1


cdef inline void bury(Dead *dead) noexcept:
    """Free what is dead. A Python object that goes may have more records die: they are seen to, too."""
    while dead.count:
        dead.count -= 1
        release(dead.records[dead.count])

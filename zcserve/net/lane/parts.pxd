# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Answers whose head is made when they are asked for: a part of content (206), the pages that say that there is none (416)
or that a condition failed (412), and a redirect, which takes the query along.

Byte for byte what site/reply.py makes. Of a part the status line, Content-Length and Content-Range are written, and what stands in the
head behind "Content-Length: " copied behind them: the size, which Content-Range ends with, and the other fields. The pages are
Python's: it tells what stands before and behind the size of the content (`set_pages`). All of it becomes one text in `Output.made`.
A small part of content is in the text, too; a larger one is sent from memory or, where that lies in a file, follows as its pages
(mapped.pxd).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy

from zcserve.net.lane.head cimport Head
from zcserve.net.lane.mapped cimport copied_at
from zcserve.net.lane.output cimport (
    COPY_BYTES_MAX, FAILED, MADE_BYTES, PARTIAL, UNSATISFIABLE, Answer, Output, put_behind,
)
from zcserve.net.lane.ranges cimport Part
from zcserve.net.lane.records cimport LENGTH_NAME_LEN, QUERY_ANY, QUERY_PLAIN, Record, Rep, reps_of
from zcserve.net.lane.system cimport iovec
from zcserve.net.lane.text cimport Text, decimal

cdef enum:
    LAST_LINE_ENDS = 4           # a head's last line, and the empty one
    OWN_BYTES_MAX = 160          # two lines of 16 to 19 characters and four numbers

cdef struct Page:                # before and behind the size of the representation, and its content
    Text before, behind, content

cdef struct Pages:
    Page pages[4]                # 412 without Vary and with it, 416 without and with it


cdef inline int set_pages(Pages *pages, list parts) except -1:
    """(before, behind, content) of 412 and 416, each without Vary and with it; the caller keeps them. Raises ValueError."""
    cdef Page *page
    cdef int i
    cdef bytes before, behind, content
    if len(parts) != 4:
        raise ValueError("four pages are wanted")
    for i in range(4):
        before, behind, content = parts[i]
        page = &pages.pages[i]
        page.before = Text(PyBytes_AS_STRING(before), PyBytes_GET_SIZE(before))
        page.behind = Text(PyBytes_AS_STRING(behind), PyBytes_GET_SIZE(behind))
        page.content = Text(PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content))
    return 0


cdef inline Answer *add_part(
    Output *output, const Head *head, const char *start, Record *record, Rep *rep, Part part
) noexcept nogil:
    """Put 206 behind the other answers; NULL where there is no room for it."""
    cdef Answer *answer
    cdef iovec *iov = &output.iov[2 * output.count]
    cdef const char *rest = rep.head + LENGTH_NAME_LEN           # the size, and the lines behind it
    cdef size_t rest_len = rep.head_len - LENGTH_NAME_LEN
    cdef int64_t size = part.stop - part.start
    cdef const char *content = content_of(output, rep, part)
    cdef bint is_joined = content != NULL and size <= COPY_BYTES_MAX
    cdef size_t room = output.prefix_len[head.mode][PARTIAL] + OWN_BYTES_MAX + rest_len + (<size_t> size if is_joined else 0)
    cdef char *at = output.made + output.made_len
    if room > MADE_BYTES - output.made_len:
        return NULL
    append(&at, output.prefix[head.mode][PARTIAL], output.prefix_len[head.mode][PARTIAL])
    append(&at, b"Content-Length: ", LENGTH_NAME_LEN)
    at += decimal(size, at)
    append(&at, b"\r\nContent-Range: bytes ", 23)
    at += decimal(part.start, at)
    append(&at, b"-", 1)
    at += decimal(part.stop - 1, at)
    append(&at, b"/", 1)
    append(&at, rest, rest_len)
    if is_joined:
        append(&at, content, <size_t> size)
    answer = put_made(output, head, at, size, start, record, rep, PARTIAL)
    if content == NULL:
        answer.span_offset = rep.offset + part.start
        answer.span_len = size
    elif not is_joined:
        iov[1].iov_base = <void *> content
        iov[1].iov_len = <size_t> size
    return answer


cdef inline const char *content_of(Output *output, const Rep *rep, Part part) noexcept nogil:
    """Where a part of content is copied from; NULL where its pages are sent."""
    if rep.fd >= 0:
        return copied_at(&output.mapped, rep.fd, rep.offset + part.start, part.stop - part.start)
    return rep.head + rep.head_len + part.start


cdef inline Answer *add_page(
    Output *output, Pages *pages, int status, const Head *head, const char *start, Record *record, Rep *rep
) noexcept nogil:
    """Put 412 or 416 behind the other answers; NULL where there is no room for it, or the page was not set."""
    cdef bint varies = record.count > 1 or rep.coding != 0
    cdef Page *page = &pages.pages[2 * (status == 416) + varies]
    cdef int line = FAILED if status == 412 else UNSATISFIABLE
    cdef size_t room = output.prefix_len[head.mode][line] + page.before.len + OWN_BYTES_MAX + page.behind.len + page.content.len
    cdef char *at = output.made + output.made_len
    if room > MADE_BYTES - output.made_len or not page.content.len:
        return NULL
    append(&at, output.prefix[head.mode][line], output.prefix_len[head.mode][line])
    append(&at, page.before.at, page.before.len)
    if status == 416:
        at += decimal(rep.size, at)
    append(&at, page.behind.at, page.behind.len)
    if head.is_get:
        append(&at, page.content.at, page.content.len)
    return put_made(output, head, at, page.content.len if head.is_get else 0, start, record, rep, line)


cdef inline Answer *add_redirect(Output *output, const Head *head, const char *start, Record *record) noexcept nogil:
    """Put a redirect behind the other answers, with the request's query behind the location, which is the head's last line, where the
    record says so; NULL where there is no room for it."""
    cdef Rep *rep = reps_of(record)
    cdef int status = record.status
    cdef const char *query = <const char *> memchr(head.place.at, c'?', head.place.len) if record.any_query > QUERY_ANY else NULL
    cdef size_t query_len = head.place.at + head.place.len - query if query != NULL else 0
    cdef size_t size = <size_t> rep.size if head.is_get else 0
    cdef char *at = output.made + output.made_len
    if query_len == 1 and record.any_query == QUERY_PLAIN:
        query_len = 0
    if output.prefix_len[head.mode][status] + rep.head_len + query_len + size > MADE_BYTES - output.made_len:
        return NULL
    append(&at, output.prefix[head.mode][status], output.prefix_len[head.mode][status])
    append(&at, rep.head, rep.head_len - LAST_LINE_ENDS)
    if query_len:
        append(&at, query, query_len)
    append(&at, rep.head + rep.head_len - LAST_LINE_ENDS, LAST_LINE_ENDS + size)
    return put_made(output, head, at, size, start, record, rep, status)


cdef inline Answer *put_made(
    Output *output, const Head *head, char *end, int64_t size, const char *start, Record *record, Rep *rep, int status
) noexcept nogil:
    """An answer of the text that was made up to `end`, with so much content, in the text or behind it."""
    cdef Answer *answer = &output.answers[output.count]
    cdef iovec *iov = &output.iov[2 * output.count]
    iov[0].iov_base = output.made + output.made_len
    iov[0].iov_len = end - (output.made + output.made_len)
    iov[1].iov_base = end
    iov[1].iov_len = 0
    output.made_len += iov[0].iov_len
    answer.size = size
    answer.span_offset = answer.span_len = 0
    return put_behind(output, head, start, record, rep, status)


cdef inline void append(char **at, const char *text, size_t length) noexcept nogil:
    memcpy(at[0], text, length)
    at[0] += length

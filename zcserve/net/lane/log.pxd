# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The access log's lines, in the log's own two formats (net/access_log.py writes the same).

Lines are appended to one buffer, which Python takes. A line is written where `may_log` said so: a value that needs escaping
is Python's, and so is a line that finds no room in the first lane. Another lane does not wait for Python: there such a line is `lost`, and
counted. Lines can be taken back, with their answers.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy

from zcserve.net.lane.head cimport Head, method_of
from zcserve.net.lane.seconds cimport LOG_TIME_MAX, write_log_time
from zcserve.net.lane.text cimport Text, decimal, is_plain

cdef enum:
    LOG_BYTES = 1048576          # in the first lane
    LOG_FILLING = 524288         # of these Python is told
    LOG_VALUE_MAX = 1024         # longer values are Python's to write
    LOG_LINE_MIN = 512           # room for all of a line but the target and two values

cdef struct Log:
    bint on, json
    bint loses                   # lines that find no room
    char *lines
    size_t len, room
    size_t filling_at            # a buffer that is so long is wanted by Python
    uint64_t lost                # so many lines
    char time[LOG_TIME_MAX]      # of this second
    size_t time_len


cdef inline int open_log(Log *log, bint json) except -1:
    log.lines = <char *> malloc(LOG_BYTES)
    if log.lines == NULL:
        raise MemoryError
    log.room = LOG_BYTES
    log.filling_at = LOG_FILLING
    log.on = True
    log.json = json
    return 0


cdef inline void close_log(Log *log) noexcept:
    free(log.lines)


cdef inline void time_lines(Log *log, int64_t second) noexcept nogil:
    """Have the lines that are written from now on say this second."""
    log.time_len = write_log_time(log.time, second, log.json)


cdef inline bytes taken_lines(Log *log):
    lines = PyBytes_FromStringAndSize(log.lines, log.len) if log.len else b""
    log.len = 0
    return lines


cdef inline bint is_log_filling(const Log *log) noexcept nogil:
    """Whether Python is to take the lines before there is no room for more."""
    return log.len > log.filling_at


cdef inline bint may_log(const Log *log, const Head *head) noexcept nogil:
    """Whether there is room for a line, or it may be lost, and no value that needs escaping."""
    return (
        head.referer.len <= LOG_VALUE_MAX
        and head.agent.len <= LOG_VALUE_MAX
        and is_plain(head.referer.at, head.referer.len)
        and is_plain(head.agent.at, head.agent.len)
        and is_plain(head.target.at, head.target.len)
        and (log.loses or has_room_for(log, head))
    )


cdef inline bint has_room_for(const Log *log, const Head *head) noexcept nogil:
    """Whether there is room for the line of a request."""
    return log.len + head.target.len + 2 * LOG_VALUE_MAX + LOG_LINE_MIN <= log.room


cdef inline void log_line(Log *log, Text client, const Head *head, int status, int64_t size) noexcept nogil:
    """Write a line, where `may_log`, or lose it; `size` is the content's."""
    if log.loses and not has_room_for(log, head):
        log.lost += 1
    elif log.json:
        log_json(log, client, head, status, size)
    else:
        log_combined(log, client, head, status, size)


cdef inline void add_lines(Log *log, const char *lines, size_t length, int count) noexcept nogil:
    """Put so many lines behind the others, which another lane has written, or lose them."""
    if log.len + length <= log.room:
        write(log, lines, length)
    else:
        log.lost += count


cdef inline void take_lines_back(Log *log, size_t mark, int count) noexcept nogil:
    """The last `count` answers are none: their lines, which begin at `mark`, are not written, or not lost."""
    cdef const char *at = log.lines + mark
    if not log.on:
        return
    while count and at < log.lines + log.len:
        at = <const char *> memchr(at, c'\n', log.lines + log.len - at) + 1
        count -= 1
    log.lost -= count
    log.len = mark


cdef inline void log_json(Log *log, Text client, const Head *head, int status, int64_t size) noexcept nogil:
    write(log, b'{"time": "', 10)
    write(log, log.time, log.time_len)
    write(log, b'", "peer": "', 12)
    write(log, client.at, client.len)
    write(log, b'", "method": "', 14)
    write_method(log, head)
    write(log, b'", "target": "', 14)
    write(log, head.target.at, head.target.len)
    write(log, b'", "version": "HTTP/1.', 22)
    write(log, b"1" if head.minor else b"0", 1)
    write(log, b'", "status": ', 13)
    write_number(log, status)
    write(log, b', "bytes": ', 11)
    write_number(log, size)
    write(log, b', "referer": "', 14)
    write(log, head.referer.at, head.referer.len)
    write(log, b'", "user_agent": "', 18)
    write(log, head.agent.at, head.agent.len)
    write(log, b'"}\n', 3)


cdef inline void log_combined(Log *log, Text client, const Head *head, int status, int64_t size) noexcept nogil:
    write(log, client.at, client.len)
    write(log, b" - - [", 6)
    write(log, log.time, log.time_len)
    write(log, b'] "', 3)
    write_method(log, head)
    write(log, b" ", 1)
    write(log, head.target.at, head.target.len)
    write(log, b' HTTP/1.', 8)
    write(log, b'1" ' if head.minor else b'0" ', 3)
    write_number(log, status)
    write(log, b" ", 1)
    write_number(log, size)
    write(log, b' "', 2)
    write_value(log, head.referer)
    write(log, b'" "', 3)
    write_value(log, head.agent)
    write(log, b'"\n', 2)


cdef inline void write(Log *log, const char *text, size_t length) noexcept nogil:
    if length:                   # `text` may be NULL else
        memcpy(log.lines + log.len, text, length)
        log.len += length


cdef inline void write_method(Log *log, const Head *head) noexcept nogil:
    cdef Text method = method_of(head)
    write(log, method.at, method.len)


cdef inline void write_number(Log *log, int64_t number) noexcept nogil:
    cdef char digits[24]
    write(log, digits, decimal(number, digits))


cdef inline void write_value(Log *log, Text value) noexcept nogil:
    if value.len:
        write(log, value.at, value.len)
    else:
        write(log, b"-", 1)

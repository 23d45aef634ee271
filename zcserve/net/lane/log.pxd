# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The access log's lines, in the log's own two formats (net/access_log.py writes the same).

Lines are appended to one buffer, which Python takes. A line is written where `may_log` said so: a value that needs escaping
is Python's, and so is a line that finds no room in the first lane. Another lane does not wait for Python: there such a line is `lost`, and
counted. Lines can be taken back, with their answers.

A site may have a log of its own, or none (net/access_logs.py). A line that is not the server's begins with the site's `log_mark`, by which Python
sorts; a site without a log has `is_unlogged`. What leaves together is of one site, so all of it has lines, or nothing.

What stands behind a line (log_fields.pxd), and that only one of so many is written, is dealt with apart from the plain lines, which pay nothing for it.
A line that is to say how long its request took waits for its answer to be out (timed.pxd): it ends with a slot until then.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy, memset

from zcserve.net.lane.atomic cimport set_64
from zcserve.net.lane.head cimport Head, method_of
from zcserve.net.lane.log_fields cimport DURATION, HOST, REQUEST_ID, Behind, open_fields, read_fields
from zcserve.net.lane.seconds cimport LOG_TIME_MAX, write_log_time
from zcserve.net.lane.text cimport Text, c_length, decimal, is_plain

cdef enum:
    LOG_BYTES = 1048576          # in the first lane
    LOG_FILLING = 524288         # of these Python is told
    LOG_VALUE_MAX = 1024         # longer values are Python's to write
    LOG_LINE_MIN = 512           # room for all of a line but the target and two values, and a mark
    LOG_BEHIND_MAX = 2048        # and for what stands behind it
    SLOT = 48                    # bytes at the end of a line that is not complete: the duration takes less

cdef enum:                       # `Log.plain`
    SPECIAL = 0                  # lines are none of these
    COMBINED = 1
    JSON = 2

cdef enum:                       # in a slot: what the answer had to wait for, and whether the line is one of the access log
    TURN = 45
    SERVLET = 97
    KEPT = 107
    LEFT_OUT = 111

cdef struct Log:
    bint on, json
    int plain                    # each answer has a line of this format, with nothing behind it, and none is lost
    bint loses                   # lines that find no room
    bint is_kept                 # there is an access log; else lines are only there for what is slow
    bint is_timed                # each line waits for its answer to be out
    double slow_s                # what takes as long is told, too; 0: nothing is
    uint64_t every               # one of so many lines is written, but for errors
    uint64_t seen                # lines that are no errors, where one of several is written; Python's thread reads it
    size_t done                  # where it `is_timed`: the lines from here on are not complete
    Behind behind                # of the request at hand
    char *lines
    size_t len, room
    size_t filling_at            # a buffer that is so long is wanted by Python
    uint64_t lost                # so many lines
    char time[LOG_TIME_MAX]      # of this second
    size_t time_len


cdef inline int open_log(Log *log, config, bint is_kept) except -1:
    """`is_kept`: there is an access log. Raises MemoryError."""
    from zcserve.config.log_fields import read_names
    log.lines = <char *> malloc(LOG_BYTES)
    if log.lines == NULL:
        raise MemoryError
    log.room = LOG_BYTES
    log.filling_at = LOG_FILLING
    log.on = True
    log.json = config.access_log_format == "json"
    log.is_kept = is_kept
    log.slow_s = config.slow_log_s
    log.every = config.access_log_sample
    open_fields(&log.behind, read_names(config.access_log_fields) if is_kept else ())
    log.is_timed = log.behind.fields & DURATION or log.slow_s
    if not log.behind.fields and not log.is_timed and log.every == 1:
        log.plain = JSON if log.json else COMBINED
    return 0


cdef inline void close_log(Log *log) noexcept:
    free(log.lines)


cdef inline void time_lines(Log *log, int64_t second) noexcept nogil:
    """Have the lines that are written from now on say this second."""
    log.time_len = write_log_time(log.time, second, log.json)


cdef inline bytes taken_lines(Log *log):
    """Those that are complete, unless some are not: none are then."""
    if log.is_timed and log.done < log.len:
        return b""
    log.done = 0
    lines = PyBytes_FromStringAndSize(log.lines, log.len) if log.len else b""
    log.len = 0
    return lines


cdef inline bint is_log_filling(const Log *log) noexcept nogil:
    """Whether Python is to take the lines before there is no room for more."""
    return log.len > log.filling_at


cdef inline bint may_log(Log *log, const Head *head) noexcept nogil:
    """Whether there is room for a line, or it may be lost, and no value that needs escaping. What stands behind it is read."""
    return (
        head.referer.len <= LOG_VALUE_MAX
        and head.agent.len <= LOG_VALUE_MAX
        and is_plain(head.referer.at, head.referer.len)
        and is_plain(head.agent.at, head.agent.len)
        and is_plain(head.target.at, head.target.len)
        and (has_room_for(log, head) if log.plain else may_log_specially(log, head))
    )


cdef inline bint may_log_specially(Log *log, const Head *head) noexcept nogil:
    """As `may_log`, of what is not plain."""
    if not log.loses and log.len + head.target.len + 2 * LOG_VALUE_MAX + LOG_LINE_MIN + LOG_BEHIND_MAX > log.room:
        return False
    return not log.behind.fields or read_fields(&log.behind, head, LOG_VALUE_MAX)


cdef inline bint has_room_for(const Log *log, const Head *head) noexcept nogil:
    """Whether there is room for the line of a request."""
    return log.len + head.target.len + 2 * LOG_VALUE_MAX + LOG_LINE_MIN <= log.room


cdef inline void log_line(Log *log, Text client, const Head *head, int status, int64_t size, char waited) noexcept nogil:
    """Write a line, where `may_log`, or lose it; `size` is the content's, `waited` for what its answer had to wait."""
    if log.plain == SPECIAL:
        log_specially(log, client, head, status, size, waited)
    elif not head.site.is_unlogged:
        write(log, head.site.log_mark, head.site.log_mark_len)
        if log.json:
            log_json(log, client, head, status, size)
        else:
            log_combined(log, client, head, status, size)


cdef inline void log_specially(Log *log, Text client, const Head *head, int status, int64_t size, char waited) noexcept nogil:
    """As `log_line`, of what is not plain."""
    cdef bint is_kept = log.is_kept and not head.site.is_unlogged and (log.every == 1 or status >= 400 or is_the_one(log))
    if not is_kept and not log.slow_s:
        return
    if log.loses and log.len + head.target.len + 2 * LOG_VALUE_MAX + LOG_LINE_MIN + LOG_BEHIND_MAX > log.room:
        log.lost += is_kept
        return
    if is_kept:
        write(log, head.site.log_mark, head.site.log_mark_len)
    if log.json:
        log_json(log, client, head, status, size)
        log.len -= 2             # its end
    else:
        log_combined(log, client, head, status, size)
        log.len -= 1
    if log.behind.fields & HOST:
        write_behind(log, b', "host": "', log.behind.host)
    if log.behind.fields & REQUEST_ID:
        write_behind(log, b', "request_id": "', log.behind.id)
    if log.is_timed:
        memset(log.lines + log.len, c'.', SLOT)      # no line ends in it
        log.lines[log.len] = waited
        log.lines[log.len + 1] = KEPT if is_kept else LEFT_OUT
        log.len += SLOT
    elif log.json:
        write(log, b"}", 1)
    write(log, b"\n", 1)


cdef inline bint is_the_one(Log *log) noexcept nogil:
    """Whether a line is the one of several that is written; the first is. The lane's thread alone counts, Python's reads at any time."""
    set_64(&log.seen, log.seen + 1)
    return (log.seen - 1) % log.every == 0


cdef inline void forget_one(Log *log, bint is_logged, bint is_error, bint is_written) noexcept nogil:
    """The last answer is none, and its line is not seen, or not lost. Whether that `is_written` its place in the buffer tells."""
    cdef bint was_to_be = log.is_kept and is_logged
    if log.every > 1 and not is_error and was_to_be:
        set_64(&log.seen, log.seen - 1)
        was_to_be = log.seen % log.every == 0
    log.lost -= was_to_be and not is_written


cdef inline uint64_t left_out_of(const Log *log, uint64_t seen) noexcept nogil:
    """How many lines were not written since others stand for them."""
    return seen - (seen + log.every - 1) // log.every if log.every > 1 else 0


cdef inline void write_behind(Log *log, const char *name, Text value) noexcept nogil:
    """A field behind the line: after its name, which opens the quotes, or a blank."""
    if log.json:
        write(log, name, c_length(name))
        write(log, value.at, value.len)
    else:
        write(log, b' "', 2)
        write_value(log, value)
    write(log, b'"', 1)


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

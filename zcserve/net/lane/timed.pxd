# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Timed: lines of the access log that say how long their requests took, and what is told of those that took too long.

A duration is known when an answer is with the kernel. So a line that is to say it ends with a slot (log.pxd) until then: it stands in the log's buffer
while its answer is gathered, and with what is pending while the socket takes no more. It is completed when the last byte is out, or
when the connection ends, whatever was sent by then.

A duration begins with the turn in which the request's first byte was read, and ends behind the system call that took the answer's last one.

What took as long as `slow_s` is a line of its own, in front of the request's: SLOW_MARK, which no other line begins with, what it waited for, the
duration, a blank, and the line. Python takes those out (net/slow.py).
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy, memmove

from zcserve.net.lane.log cimport KEPT, SLOT, Log
from zcserve.net.lane.log_fields cimport DURATION
from zcserve.net.lane.output cimport Pending, unsent
from zcserve.net.lane.records cimport Dead
from zcserve.net.lane.system cimport monotonic
from zcserve.net.lane.text cimport decimal

cdef enum:
    SLOW_MARK = 1
    READER = 99                  # what was waited for: the client, which reads
    GONE_READER = 103            # likewise, and it has gone


cdef inline void complete_batch(Log *log, double read_at) noexcept nogil:
    """The answers whose lines are not complete are out. They were asked for at `read_at`."""
    cdef size_t mark = log.done, length = log.len - mark
    cdef double took = monotonic() - read_at
    cdef char *copy
    if length and log.slow_s and took >= log.slow_s:
        copy = <char *> malloc(length)   # what is written is longer than what is read
        if copy != NULL:
            memcpy(copy, log.lines + mark, length)
            log.len = mark
            complete(log, copy, length, took, 0)
            free(copy)
    elif length:
        log.len = mark
        complete(log, log.lines + mark, length, took, 0)
    log.done = log.len


cdef inline void hold_batch(Log *log, Pending *pending, double read_at, size_t mark) noexcept nogil:
    """The answers whose lines begin at `mark` are pending, and those before them are out."""
    hold(log, pending, log.lines + mark, log.len - mark)
    log.len = mark
    complete_batch(log, read_at)


cdef inline void hold(Log *log, Pending *pending, const char *lines, size_t length) noexcept nogil:
    """These are the lines of what is pending; without memory they are lost."""
    pending.lines = <char *> malloc(length + 1)
    if pending.lines == NULL:
        log.lost += count_lines(lines, length)
        return
    memcpy(pending.lines, lines, length)
    pending.lines_len = length
    pending.held_at = monotonic()


cdef inline void complete_pending(Log *log, Pending *pending, double read_at, bint is_gone) noexcept nogil:
    """What was pending is out, or the client is gone."""
    cdef double now
    cdef char *lines = pending.lines
    if lines == NULL:
        return
    now = monotonic()
    pending.lines = NULL
    if log.len + pending.lines_len <= log.room and log.done == log.len:      # else a servlet ends other connections
        complete(
            log, lines, pending.lines_len, now - read_at,
            (GONE_READER if is_gone else READER) if now - pending.held_at >= pending.held_at - read_at else 0,
        )
        log.done = log.len
    else:
        log.lost += count_lines(lines, pending.lines_len)
    free(lines)


cdef inline bytes let_pending_go(Log *log, Pending *pending, double read_at, Dead *dead):
    """What is left of an answer, as `output.unsent`: another one sends it."""
    complete_pending(log, pending, read_at, False)
    return unsent(pending, dead)


cdef inline int count_lines(const char *lines, size_t length) noexcept nogil:
    """How many of them are the access log's."""
    cdef const char *end = lines + length
    cdef int count = 0
    while lines < end:
        lines = <const char *> memchr(lines, c'\n', end - lines) + 1
        count += lines[-SLOT] == KEPT        # behind the slot's first byte
    return count


cdef inline void complete(Log *log, const char *at, size_t length, double took, char waited) noexcept nogil:
    """Write lines that are not complete behind the others, with their duration; `waited` for this, 0 for what each slot says. They may stand
    there, if nothing is slow."""
    cdef const char *end = at + length
    cdef const char *slot
    cdef bint is_slow = log.slow_s and took >= log.slow_s
    cdef char number[SLOT]
    cdef size_t digits = write_seconds(number, took)
    cdef bint is_kept
    while at < end:
        slot = <const char *> memchr(at, c'\n', end - at) - SLOT
        is_kept = slot[1] == KEPT
        if is_slow:
            write_slow(log, at, slot - at, waited if waited else slot[0], number, digits)
        if is_kept:
            memmove(log.lines + log.len, at, slot - at)
            log.len += slot - at
        at = slot + SLOT + 1
        if is_kept:
            write_end(log, number, digits)


cdef inline void write_end(Log *log, const char *number, size_t digits) noexcept nogil:
    """The end of a line, with the duration where it is wanted."""
    cdef char *to = log.lines + log.len
    if log.behind.fields & DURATION:
        if log.json:
            memcpy(to, b', "duration": ', 14)
            to += 14
        else:
            to[0] = c' '
            to += 1
        memcpy(to, number, digits)
        to += digits
    if log.json:
        to[0] = c'}'
        to += 1
    to[0] = c'\n'
    log.len = to + 1 - log.lines


cdef inline void write_slow(Log *log, const char *line, size_t length, char waited, const char *number, size_t digits) noexcept nogil:
    """A line about what is slow; without room there is none."""
    cdef char *to = log.lines + log.len
    if log.len + 2 * (length + SLOT) > log.room:
        return
    to[0] = SLOW_MARK
    to[1] = waited
    memcpy(to + 2, number, digits)
    to += 2 + digits
    to[0] = c' '
    memcpy(to + 1, line, length)
    to += 1 + length
    if log.json:
        to[0] = c'}'
        to += 1
    to[0] = c'\n'
    log.len = to + 1 - log.lines


cdef inline size_t write_seconds(char *at, double seconds) noexcept nogil:
    """Seconds with six digits behind the point, as Python's `.6f` but for the last one; how many bytes."""
    cdef int64_t micros = <int64_t> (max(seconds, 0.0) * 1e6 + 0.5)
    cdef size_t length = decimal(micros // 1000000, at)
    cdef int64_t rest = micros % 1000000
    cdef int i
    at[length] = c'.'
    for i in range(6):
        at[length + 6 - i] = <char> (c'0' + rest % 10)
        rest //= 10
    return length + 7

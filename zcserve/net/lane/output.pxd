# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Output: answers that are gathered and sent with one system call, and what is left of one where the socket takes no more.

An answer is two iovecs: one that nothing keeps (the prefix of this second, in which the Date is rewritten when it is over: status line, Server, Date, Connection; or a text that was
`made` for this answer alone and begins with one), and a part of what the record keeps. Content that lies in a file (`Rep.fd`) is
such a part where it is little, and else its pages follow (mapped.pxd). What waits for a socket is one answer (`Pending`): a copy of what nothing keeps, the rest by
reference; answers behind it are taken back, as if they had not been made. The unit knows no connections and no requests.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from zcserve.net.lane.atomic cimport add_int
from zcserve.net.lane.counts cimport METHODS, Answered, cell_of, count_answers, count_bytes, count_for, note_said
from zcserve.net.lane.head cimport Head, method_number
from zcserve.net.lane.mapped cimport Mapped, copied_at, send_pages
from zcserve.net.lane.records cimport Dead, Record, Rep, reps_of, unref
from zcserve.net.lane.seconds cimport DATE_LEN, write_date
from zcserve.net.lane.sites cimport Site
from zcserve.net.lane.system cimport (
    EAGAIN, EINTR, MSG_MORE, MSG_NOSIGNAL, errno, iovec, msghdr, send, sendmsg, ssize_t,
)

cdef enum:
    ANSWERS_MAX = 64
    IOVECS_MAX = 128             # two for each answer
    COPY_BYTES_MAX = 4096        # measured: a copy of this size costs less than what sendmsg has over send
    PREFIX_MAX = 128             # status line, Server, Date, Connection: 115 bytes
    MODES = 3                    # KEEP, KEEP_10, CLOSE
    MADE_BYTES = 65536           # texts that are made for answers; another batch begins where half of it is used

cdef enum:                       # which prefix: by status
    OK = 0
    NOT_MODIFIED = 1
    PARTIAL = 2
    FAILED = 3                   # 412
    UNSATISFIABLE = 4            # 416
    NOT_FOUND = 5
    MOVED = 6                    # 301
    UNAVAILABLE = 7              # 503
    FOUND = 8                    # 302
    SEE_OTHER = 9                # 303
    TEMPORARY = 10               # 307
    PERMANENT = 11               # 308
    NO_MORE = 12                 # 410
    STATUSES = 13                # counts.pxd has a row for each
    ROWS = 16                    # places for them: of a power of two an index is found by a shift

# By status: `fastlane.STATUSES`.
cdef extern from * nogil:
    """
    static const int zc_code_of[13] = {200, 304, 206, 412, 416, 404, 301, 503, 302, 303, 307, 308, 410};
    """
    const int *CODE_OF "zc_code_of"

cdef enum:                       # how a step ended
    DONE = 0
    BLOCKED = 1                  # the socket takes no more: an event will tell
    ENOUGH = 2                   # for this turn
    HAND_OVER = 3                # the connection is Python's
    NOT_YET = 4                  # the next request waits for its servlet to be called
    ELSEWHERE = 5                # the first lane is asked: the connection waits for what it says
    GONE = -1                    # the connection is to be closed, or is closed

cdef struct Answer:              # two iovecs on their way
    const char *start            # of its request
    size_t log_mark              # where its log line begins
    Record *record
    Rep *rep
    int64_t size                 # of its content, 0 for none
    int64_t span_offset, span_len    # content that follows from `rep.fd`, 0 for none
    int cell                     # what it is counted as

cdef struct Output:
    Py_ssize_t count             # of answers that are not sent yet
    int64_t site                 # the number of the site of these, and of those before; -1: there was none
    bint is_logged               # it has an access log
    int begun                    # the answer that `send_answers` left in `Pending`
    int64_t bytes_left           # that the connection at hand may send in this turn
    size_t prefix_len[MODES][ROWS]
    char prefix[MODES][ROWS][PREFIX_MAX]
    int date_at[MODES][STATUSES]     # where in it the Date begins
    Answered answered
    Mapped mapped
    iovec iov[IOVECS_MAX]
    Answer answers[ANSWERS_MAX]
    char copy[COPY_BYTES_MAX]
    size_t made_len
    char made[MADE_BYTES]

cdef struct Pending:             # of one answer; the record is kept till it is out
    Record *record
    char *own                    # a copy of what nothing keeps; NULL for none
    size_t own_at, own_len       # so much of it is out, and it is so long
    const char *rest
    size_t rest_len
    int64_t span_offset
    int64_t span_len
    int span_fd
    int account                  # that its bytes are counted for
    char *lines                  # of the access log that wait for its end (timed.pxd), NULL for none
    size_t lines_len
    double held_at               # since when it is pending; with `lines`


cdef inline int code_of(int status) noexcept nogil:
    """The number that a status has."""
    return CODE_OF[status]


cdef inline bint is_redirect(int status) noexcept nogil:
    return status == MOVED or FOUND <= status <= PERMANENT


cdef inline int set_prefixes(Output *output, tuple prefixes) except -1:
    """For each mode one of each status, with any Date. Raises ValueError."""
    cdef int i, mode, status
    cdef bytes prefix
    cdef Py_ssize_t date_at
    if len(prefixes) != MODES * STATUSES:
        raise ValueError("not a prefix for each mode and status")
    for i in range(MODES * STATUSES):
        mode, status = i // STATUSES, i % STATUSES
        prefix = prefixes[i]
        date_at = prefix.find(b"Date: ") + 6
        if not 6 <= date_at <= len(prefix) - DATE_LEN or len(prefix) > PREFIX_MAX:
            raise ValueError("a prefix without Date, or longer than PREFIX_MAX")
        memcpy(output.prefix[mode][status], PyBytes_AS_STRING(prefix), len(prefix))
        output.prefix_len[mode][status] = len(prefix)
        output.date_at[mode][status] = <int> date_at
    return 0


cdef inline void date_prefixes(Output *output, int64_t second) noexcept nogil:
    """Have all prefixes say this second, while no answer is gathered: what waits has its own copy."""
    cdef char date[DATE_LEN]
    cdef int mode, status
    write_date(date, second)
    for mode in range(MODES):
        for status in range(STATUSES):
            memcpy(output.prefix[mode][status] + output.date_at[mode][status], date, DATE_LEN)


cdef inline Answer *add_answer(
    Output *output, const Head *head, const char *start, Record *record, Rep *rep, int status
) noexcept nogil:
    """Put an answer of this status behind the others."""
    cdef Answer *answer = &output.answers[output.count]
    cdef iovec *iov = &output.iov[2 * output.count]
    cdef bint matched = status == NOT_MODIFIED
    cdef const char *content = NULL
    answer.size = rep.size if head.is_get and not matched else 0
    answer.span_offset = rep.offset
    answer.span_len = answer.size if rep.fd >= 0 else 0
    if answer.span_len and output.prefix_len[head.mode][status] + rep.head_len <= MADE_BYTES - output.made_len:
        content = copied_at(&output.mapped, rep.fd, rep.offset, rep.size)
    if content != NULL:
        answer.span_len = 0
        join_head(output, iov, output.prefix[head.mode][status], output.prefix_len[head.mode][status], rep)
        iov[1].iov_base = <void *> content
        iov[1].iov_len = <size_t> rep.size
        return put_behind(output, head, start, record, rep, status)
    iov[0].iov_base = <void *> output.prefix[head.mode][status]
    iov[0].iov_len = output.prefix_len[head.mode][status]
    if matched:
        iov[1].iov_base = <void *> (rep.head + rep.tail)
        iov[1].iov_len = rep.head_len - rep.tail
    else:
        iov[1].iov_base = <void *> rep.head
        iov[1].iov_len = rep.head_len + (<size_t> answer.size if rep.fd < 0 else 0)
    return put_behind(output, head, start, record, rep, status)


cdef inline void join_head(Output *output, iovec *iov, const char *prefix, size_t prefix_len, const Rep *rep) noexcept nogil:
    """Make one text of a prefix and a head, for which there is room."""
    iov.iov_base = output.made + output.made_len
    iov.iov_len = prefix_len + rep.head_len
    memcpy(iov.iov_base, prefix, prefix_len)
    memcpy(<char *> iov.iov_base + prefix_len, rep.head, rep.head_len)
    output.made_len += iov.iov_len


cdef inline Answer *put_behind(
    Output *output, const Head *head, const char *start, Record *record, Rep *rep, int status
) noexcept nogil:
    """The answer behind the last one is complete: `start` is where its request begins."""
    cdef Answer *answer = &output.answers[output.count]
    answer.start = start
    answer.record = record
    answer.rep = rep
    answer.cell = cell_of(status, method_number(head))
    output.count += 1
    count_answers(&output.answered, answer.cell, 1)
    return answer


cdef inline void add_text(
    Output *output, const Head *head, const char *start, Record *record, const char *text, size_t length, int64_t size
) noexcept nogil:
    """`text`, which the record keeps, is what has been answered by now: another answer with so much content, behind the others."""
    cdef Answer *answer = &output.answers[0]
    if output.count:
        count_answers(&output.answered, cell_of(OK, method_number(head)), 1)
    else:
        answer.size = size
        answer.span_offset = answer.span_len = 0
        put_behind(output, head, start, record, reps_of(record), OK)
    note_said(&output.answered, 1)
    answer.record = record
    answer.rep = reps_of(record)
    output.iov[0].iov_len = 0
    output.iov[1].iov_base = <void *> text
    output.iov[1].iov_len = length


cdef inline bint is_error(const Answer *answer) noexcept nogil:
    """Whether its status is 400 or more."""
    cdef int status = answer.cell // METHODS
    return code_of(status) >= 400


cdef inline bint has_room(const Output *output) noexcept nogil:
    """Whether another answer may be gathered, whatever it is."""
    return output.count < ANSWERS_MAX and output.made_len <= MADE_BYTES // 2


cdef inline bint is_for(const Output *output, const Head *head) noexcept nogil:
    """Whether a request's site is that of the answers before; else what is gathered is to be sent first, and `begin_site`."""
    return output.site == head.site.table.site


cdef inline void begin_site(Output *output, const Site *site) noexcept nogil:
    """Answers from now on are of this site."""
    output.site = site.table.site
    output.is_logged = not site.is_unlogged
    count_for(&output.answered, site.account)


cdef inline void note_sent(Output *output, int account, ssize_t count) noexcept nogil:
    """The kernel has taken so many bytes."""
    output.bytes_left -= count
    count_bytes(&output.answered, account, count)


cdef inline int send_answers(Output *output, int fd, bint closing, Pending *pending) noexcept nogil:
    """Send what was gathered. DONE; GONE; or ENOUGH: what is left of answer `begun` is `pending`, and those behind it were
    taken back."""
    cdef size_t done
    cdef int i = 0, answers = output.count
    cdef Answer *last = &output.answers[answers - 1]
    cdef bint span = last.span_len > 0
    # What a close follows at once goes out with its FIN, in one packet.
    cdef size_t total = length_of(output.iov, 2 * answers)
    cdef ssize_t count = send_iovecs(output, fd, 2 * answers, total, span, MSG_NOSIGNAL | (MSG_MORE if span or closing else 0))
    output.count = 0
    output.made_len = 0          # it stays as it is until the next answer is made
    if count < 0:
        if errno != EAGAIN and errno != EINTR:
            return GONE
        count = 0
    note_sent(output, output.answered.account, count)
    done = count
    if done == total and not span:
        return DONE
    while i < 2 * answers and done >= output.iov[i].iov_len:
        done -= output.iov[i].iov_len
        i += 1
    output.begun = min(i // 2, answers - 1)
    pending.account = output.answered.account
    if not hold(&output.answers[output.begun], &output.iov[2 * output.begun], i - 2 * output.begun, done, pending):
        return GONE
    for i in range(output.begun + 1, answers):
        count_answers(&output.answered, output.answers[i].cell, -1)
    return ENOUGH


cdef inline size_t length_of(const iovec *iov, int count) noexcept nogil:
    cdef size_t total = 0
    cdef int i
    for i in range(count):
        total += iov[i].iov_len
    return total


cdef inline ssize_t send_iovecs(Output *output, int fd, int count, size_t total, bint span, int flags) noexcept nogil:
    """Of `total` bytes little is copied together and sent by send, and one text as it is."""
    cdef msghdr message
    cdef char *at = output.copy
    cdef int i
    if count == 2 and not span and (not output.iov[0].iov_len or not output.iov[1].iov_len):
        return send(fd, output.iov[0].iov_base if output.iov[0].iov_len else output.iov[1].iov_base, total, flags)
    if total > COPY_BYTES_MAX:
        memset(&message, 0, sizeof(msghdr))
        message.msg_iov = output.iov
        message.msg_iovlen = count
        return sendmsg(fd, &message, flags)
    for i in range(count):
        memcpy(at, output.iov[i].iov_base, output.iov[i].iov_len)
        at += output.iov[i].iov_len
    return send(fd, output.copy, total, flags)


cdef inline bint hold(const Answer *answer, const iovec *iov, int whole, size_t done, Pending *pending) noexcept nogil:
    """Keep what is left of an answer: `whole` iovecs of it are out, and `done` bytes of the next one. False without memory."""
    if whole == 0:
        pending.own_at = 0
        pending.own_len = iov[0].iov_len - done
        pending.own = <char *> malloc(pending.own_len)
        if pending.own == NULL:
            pending.own_len = 0
            return False
        memcpy(pending.own, <const char *> iov[0].iov_base + done, pending.own_len)
        done = 0
    if whole <= 1:
        pending.rest = <const char *> iov[1].iov_base + done
        pending.rest_len = iov[1].iov_len - done
    pending.span_fd = answer.rep.fd
    pending.span_offset = answer.span_offset
    pending.span_len = answer.span_len
    pending.record = answer.record
    add_int(&pending.record.refs, 1)
    return True


cdef inline int send_pending(Output *output, int fd, Pending *pending) noexcept nogil:
    """Send what is left. DONE, GONE, BLOCKED, or ENOUGH for this turn."""
    cdef ssize_t count
    while pending.own_at < pending.own_len or pending.rest_len:
        if output.bytes_left <= 0:
            return ENOUGH
        count = send_rest(fd, pending)
        if count < 0:
            return sent_nothing()
        note_sent(output, pending.account, count)
    while pending.span_len:
        if output.bytes_left <= 0:
            return ENOUGH
        count = send_pages(&output.mapped, fd, pending.span_fd, pending.span_offset, min(pending.span_len, output.bytes_left))
        if count < 0:
            return sent_nothing()
        if count == 0:
            return GONE          # only a file sent in place can end early
        pending.span_offset += count
        pending.span_len -= count
        note_sent(output, pending.account, count)
    return DONE


cdef inline ssize_t send_rest(int fd, Pending *pending) noexcept nogil:
    """Send once of what is left before the file's content; how many bytes, or -1."""
    cdef msghdr message
    cdef iovec two[2]
    cdef ssize_t count
    cdef size_t of_own
    two[0].iov_base = pending.own + pending.own_at
    two[0].iov_len = pending.own_len - pending.own_at
    two[1].iov_base = <void *> pending.rest
    two[1].iov_len = pending.rest_len
    memset(&message, 0, sizeof(msghdr))
    message.msg_iov = two
    message.msg_iovlen = 2
    count = sendmsg(fd, &message, MSG_NOSIGNAL | (MSG_MORE if pending.span_len else 0))
    if count <= 0:
        return count
    of_own = min(<size_t> count, two[0].iov_len)
    pending.own_at += of_own
    pending.rest += count - of_own
    pending.rest_len -= count - of_own
    return count


cdef inline int sent_nothing() noexcept nogil:
    if errno == EINTR:
        return ENOUGH
    return BLOCKED if errno == EAGAIN else GONE


cdef inline void unpin(Pending *pending, Dead *dead) noexcept nogil:
    """Nothing is left of an answer, or it is not sent any more."""
    cdef Record *record = pending.record
    free(pending.own)
    pending.own = NULL
    pending.own_at = pending.own_len = 0
    pending.rest_len = 0
    pending.span_len = 0
    pending.record = NULL
    if record != NULL:
        unref(dead, record)


cdef inline bytes unsent(Pending *pending, Dead *dead):
    """What is left of an answer without content in a file of its own; it is pending no more."""
    if pending.record == NULL:
        return b""
    left = pending.own[pending.own_at : pending.own_len] + pending.rest[: pending.rest_len]
    unpin(pending, dead)
    return left

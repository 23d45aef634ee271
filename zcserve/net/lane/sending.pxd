# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sending: all that a lane has while it answers, and how what it has gathered leaves.

Answers go out together, and what the socket does not take of them is pending, or unanswered again. A connection that
Python is to answer, or another lane, is handed over when all before that is out.
"""

from libc.stdint cimport int64_t, uint64_t

from zcserve.net.lane.asking cimport Asking
from zcserve.net.lane.counts cimport SAMPLED_EVERY, choose_next, is_one_to_measure, note_duration
from zcserve.net.lane.connections cimport STAYS, Conn, Conns, goes_on_unread, hand, keep_input, queued_out, watch_fresh
from zcserve.net.lane.finding cimport Finder
from zcserve.net.lane.gil cimport Gil
from zcserve.net.lane.head cimport Rules
from zcserve.net.lane.judged cimport Judged
from zcserve.net.lane.log cimport Log, forget_one, take_lines_back
from zcserve.net.lane.memos cimport Memo
from zcserve.net.lane.moving cimport give_away
from zcserve.net.lane.output cimport BLOCKED, DONE, ENOUGH, GONE, HAND_OVER, Answer, Output, is_error, send_answers, send_pending, unpin
from zcserve.net.lane.parts cimport Pages
from zcserve.net.lane.proxies cimport Proxies
from zcserve.net.lane.records cimport Dead
from zcserve.net.lane.seconds cimport Seconds
from zcserve.net.lane.servlets cimport Servlets, let_said_go
from zcserve.net.lane.shared cimport Shared
from zcserve.net.lane.sightings cimport Sightings
from zcserve.net.lane.system cimport monotonic
from zcserve.net.lane.timed cimport complete_batch, complete_pending, hold_batch
from zcserve.net.lane.uses cimport Uses, take_use_back, tick_at, use_of

cdef enum:
    ERRANDS_MIN = 16             # of Python's in a turn, for which others wait: as many as take ERRANDS_US, between these
    ERRANDS_MAX = 64
    ERRANDS_US = 1000
    HAND_OVER_ERRANDS = 2        # what a hand-over counts; an event of a connection of Python's is one

cdef struct Answering:
    uint64_t turn                # counts turns
    uint64_t tick                # when this one began (uses.pxd)
    Seconds seconds              # of which all answers and log lines are
    int errands                  # that Python was given in this turn
    int errands_max
    double errand_at             # when it was given the last one
    int requests_left            # of the connection at hand, in this turn
    int calls_left               # likewise, of servlets
    bint is_called_up            # it has waited for its servlet
    uint64_t calls               # of servlets, since the start
    double called_at             # when its last call ended, 0 for none
    double calling_left          # seconds of this turn in which servlets may be called
    int64_t bytes_spared         # of `Output.bytes_left`, for an answer that is begun: a next one is not, after a batch was sent
    int number                   # of this lane; 0: the one with Python
    Shared *shared
    Uses uses
    Dead dead
    Rules rules
    Finder finder
    Judged judged
    Memo absences                # targets that were found absent (answering.pxd)
    Proxies proxies
    Sightings sightings
    Log log
    Servlets servlets
    Gil gil
    Asking asking
    Conns conns
    Pages pages
    Output output


cdef inline void begin_turn(Answering *lane) noexcept nogil:
    lane.turn += 1
    lane.conns.now = monotonic()
    lane.tick = tick_at(lane.conns.now)


cdef inline int flush(Answering *lane, int fd, const char *p, const char *end) noexcept nogil:
    """Send the answers. DONE, GONE, or BLOCKED and ENOUGH with what is left noted in the connection.

    The request of an answer of which nothing went out is unanswered again: its bytes go to the inbox with all from `p` on.
    """
    cdef Conn *conn = &lane.conns.all[fd]
    cdef int answers = lane.output.count
    cdef int result = send_answers(&lane.output, fd, conn.closing, &conn.pending)
    if lane.servlets.said_len | <size_t> lane.log.is_timed:
        note_flushed(lane, conn, result)
    if result == DONE:
        if is_one_to_measure(&lane.output.answered):
            measure(lane, conn, DONE)
        return DONE
    if is_one_to_measure(&lane.output.answered):
        measure(lane, conn, result)
    if result == GONE:
        return GONE
    if lane.output.begun + 1 < answers:
        p = take_back(lane, lane.output.begun + 1, answers)
        conn.closing = STAYS
    if lane.log.is_timed:
        hold_batch(
            &lane.log, &conn.pending, conn.read_at,
            lane.output.answers[lane.output.begun].log_mark if lane.output.begun else lane.log.done,
        )
    if p < end and keep_input(conn, p, end) < 0:
        return GONE
    return go_on(lane, fd, conn)


cdef inline void note_flushed(Answering *lane, Conn *conn, int result) noexcept nogil:
    """The answers were given to the kernel, as far as it takes them."""
    if lane.servlets.said_len:
        let_said_go(&lane.servlets, &lane.dead)
    if lane.log.is_timed and (result == DONE or result == GONE):
        complete_batch(&lane.log, conn.read_at)


cdef inline const char *take_back(Answering *lane, int first, int end) noexcept nogil:
    """Answers from `first` to before `end`, of which nothing went out, are no uses, and not logged. Where the first one's request begins."""
    cdef const Answer *answers = lane.output.answers
    cdef size_t behind = lane.log.len
    cdef int i
    for i in range(first, end):
        take_use_back(use_of(&lane.uses, answers[i].rep))
    if not lane.log.on or lane.log.plain:
        take_lines_back(&lane.log, answers[first].log_mark, end - first if lane.output.is_logged else 0)
        return answers[first].start
    for i in range(end - 1, first - 1, -1):
        forget_one(&lane.log, lane.output.is_logged, is_error(&answers[i]), answers[i].log_mark < behind)
        behind = answers[i].log_mark
    lane.log.len = behind
    return answers[first].start


cdef inline void measure(Answering *lane, Conn *conn, int result) noexcept nogil:
    """One of the answers that `send_answers` has sent is to be measured; if it is pending, when it is out."""
    cdef bint is_last = choose_next(&lane.output.answered)
    if result == ENOUGH and is_last:
        conn.is_measured = True
    elif result != GONE:
        note_duration(&lane.output.answered.durations, monotonic() - conn.read_at, SAMPLED_EVERY)


cdef inline int go_on(Answering *lane, int fd, Conn *conn) noexcept nogil:
    """Send what is pending. DONE, GONE, BLOCKED, or ENOUGH for this turn."""
    cdef int64_t left = lane.output.bytes_left
    cdef int result
    result = send_pending(&lane.output, fd, &conn.pending)
    if lane.output.bytes_left != left:
        conn.since = lane.conns.now
    if result == DONE:
        complete_pending(&lane.log, &conn.pending, conn.read_at, False)
        unpin(&conn.pending, &lane.dead)
        if conn.is_measured:
            conn.is_measured = False
            note_duration(&lane.output.answered.durations, monotonic() - conn.read_at, SAMPLED_EVERY)
    elif result == BLOCKED:
        conn.outq = queued_out(fd)
    return result


cdef inline int put_off(Answering *lane, int fd, const char *p, const char *end, int result) noexcept nogil:
    """What is asked from `p` on is for another turn: it waits in the inbox. `result`, ENOUGH or NOT_YET; as `flush`, where more hinders
    it."""
    cdef Conn *conn = &lane.conns.all[fd]
    cdef int flushed
    if lane.output.count:
        flushed = flush(lane, fd, p, end)
        if flushed != DONE or conn.inbox_len:
            return flushed
    return keep_input(conn, p, end) or result


cdef inline void pace_errands(Answering *lane) noexcept nogil:
    """Begin a turn: how many errands Python may be given in it, as long as it took for those of the turn before."""
    if lane.errands:
        lane.errands_max = <int> min(ERRANDS_MAX, max(ERRANDS_MIN, ERRANDS_US * 1e-6 * lane.errands / (monotonic() - lane.errand_at)))
    elif not lane.errands_max:
        lane.errands_max = ERRANDS_MIN
    lane.errands = 0


cdef inline int hand_over(Answering *lane, int fd, const char *p, const char *end, bint at_once) noexcept nogil:
    """The connection becomes Python's, with the bytes from `p` on. Not before all that was answered is out: till then
    they wait in the inbox, and are judged again. So do they where Python has enough to do for this turn. Unless `at_once`: the
    request may be answered by now, so Python gets what the socket does not take of the answers before it, too. DONE where the rest of a head is to be read first."""
    cdef Conn *conn = &lane.conns.all[fd]
    cdef int result
    if lane.errands >= lane.errands_max and not at_once:
        return put_off(lane, fd, p, end, ENOUGH)
    if lane.output.count:
        result = flush(lane, fd, p, end)
        if result == GONE or not at_once and (result != DONE or conn.inbox_len):
            return result
    if p < end and keep_input(conn, p, end) < 0:
        return GONE
    if not at_once and goes_on_unread(conn):
        return DONE              # it is read on, and judged again
    if lane.number:
        return give_away(&lane.conns, &lane.shared.lanes, 0, fd, conn, False, 0)
    if watch_fresh(&lane.conns, fd, conn) < 0:
        return GONE
    lane.errands += HAND_OVER_ERRANDS
    lane.errand_at = monotonic()
    hand(&lane.conns, fd, conn)
    return HAND_OVER

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Replying: the first lane answers what other lanes ask (asking.pxd).

It does what it does for its own connections, in the time that servlets have in a turn: a quiet client's question goes
before the others, and its lane and the others take turns at being first. What Python only has to find has no part of
that time, but its own bound (finding.pxd).

A question is answered as far as servlets answer it, one request after the other, and their answers become one text.
Where a file comes first, the lane that asks is to look again: it is taught then, and so are those behind it. All else
is told to that lane as it stands.

Answers go back together, but not later than TOGETHER_S after the first, and before a servlet is called that took
longer the last time.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from zcserve.net.lane.answering cimport BATCH_BYTES, CALLS_MAX, call, find_first, find_known, is_fresh, may_call, read_head
from zcserve.net.lane.asking cimport (
    ENDS, GIVES, GOES_ON, HANDS, PRESSING, QUIET, UNKNOWN, Asking, Chain, Question, made_key, post, put_in, take_answers, take_first,
)
from zcserve.net.lane.atomic cimport look_int
from zcserve.net.lane.connections cimport hand
from zcserve.net.lane.finding cimport may_find
from zcserve.net.lane.gil cimport hold_gil, let_gil_go
from zcserve.net.lane.grammar cimport CLOSE
from zcserve.net.lane.head cimport Head, method_number
from zcserve.net.lane.lanes cimport ANSWERED
from zcserve.net.lane.log cimport SERVLET, Log, log_line, may_log
from zcserve.net.lane.moving cimport Given, take_given
from zcserve.net.lane.output cimport DONE, ENOUGH, HAND_OVER, NOT_YET
from zcserve.net.lane.records cimport Record
from zcserve.net.lane.sending cimport HAND_OVER_ERRANDS, Answering
from zcserve.net.lane.servlets cimport Asked, discard_made, has_made, move_made, servlet_of
from zcserve.net.lane.system cimport monotonic
from zcserve.net.lane.text cimport Text

cdef extern from *:
    """
    #define ZC_TOGETHER_S 0.00005
    #define ZC_FINDING_S 0.001
    """
    const double TOGETHER_S "ZC_TOGETHER_S"
    const double FINDING_S "ZC_FINDING_S"        # in a turn other lanes' questions have things found for so long


cdef inline void take_questions(Answering *lane, Question *first) noexcept nogil:
    """Another lane asks these."""
    cdef Question *next
    while first != NULL:
        next = first.next
        put_in(&lane.asking.waiting[first.kind], first)
        lane.asking.count_here += 1
        lane.conns.calls += 1
        first = next


cdef inline void answer_questions(Answering *lane, int kind, double left) noexcept nogil:
    """Answer those that have waited longest, until there is so much of the turn's time `left`."""
    cdef Asking *asking = &lane.asking
    cdef Chain *chain = &asking.waiting[kind]
    cdef Question *question
    cdef double until = monotonic() + FINDING_S
    cdef int result
    while chain.first != NULL and (monotonic() < until if kind == UNKNOWN else lane.calling_left > left):
        question = chain.first
        lane.gil.asked = False
        result = answer_question(lane, question)
        if not lane.gil.asked:
            let_gil_go(&lane.gil)
        if result == ENOUGH or (result == NOT_YET and question.kind == kind):
            break
        take_first(chain)
        if result == NOT_YET:
            put_in(&asking.waiting[question.kind], question)
            continue
        put_in(&asking.answered[question.lane], question)
        asking.unsent += 1
        if asking.unsent == 1:
            asking.unsent_since = lane.called_at
        elif lane.called_at - asking.unsent_since > TOGETHER_S:
            post_answers(lane)


cdef inline void post_answers(Answering *lane) noexcept nogil:
    """Send back what is answered."""
    cdef Asking *asking = &lane.asking
    cdef int i
    asking.is_stuck = False
    for i in range(1, lane.shared.lanes.count):
        if asking.answered[i].first != NULL:
            post(&asking.answered[i], &lane.shared.lanes, i, ANSWERED, &asking.is_stuck)
    if not asking.is_stuck:
        asking.count_here -= asking.unsent
        lane.conns.calls -= asking.unsent
        asking.unsent = 0


cdef inline int answer_question(Answering *lane, Question *question) noexcept nogil:
    """DONE: it goes back. ENOUGH: Python has found enough in this turn. NOT_YET: no servlet may be called."""
    cdef const char *p = question.data
    cdef const char *end = p + question.len
    cdef Record *record
    cdef Head head
    cdef int result = DONE
    lane.calls_left = CALLS_MAX
    lane.called_at = 0
    if look_int(&question.is_in_vain):
        forget_made(lane, question)
        return DONE
    lane.servlets.said, question.said = question.said, lane.servlets.said
    while p < end and read_head(lane, p, end, &head):
        if question.requests and not is_fresh(lane, head.site):
            question.then = HANDS
            break
        if question.requests and <int> head.site.account != question.account:    # the lane looks again
            break
        record = find_known(lane, &head)
        if record == NULL:
            if not may_find(&lane.finder):
                result = ENOUGH
                break
            record = find_first(lane, &head)
        if record == NULL or (record.count and question.requests):
            break
        if not record.count:
            if p > question.data + question.used:        # a file is before it
                break
            result = call_for(lane, question, &head, record, p)
            if result != DONE or question.closes or lane.servlets.said_len > BATCH_BYTES:
                break
        p += head.length + head.body
    question.said_len = lane.servlets.said_len
    lane.servlets.said_len = 0
    lane.servlets.said, question.said = question.said, lane.servlets.said
    return result if p == question.data and (result == ENOUGH or result == NOT_YET) else DONE


cdef inline int call_for(Answering *lane, Question *question, Head *head, Record *found, const char *p) noexcept nogil:
    """Have a servlet called. DONE; NOT_YET; HAND_OVER where that is no answer yet."""
    cdef Asked asked
    cdef int result
    if not may_call(lane):
        question.kind = QUIET if question.is_quiet else PRESSING
        return NOT_YET
    if lane.log.on and not may_log(&lane.log, head):
        return HAND_OVER
    if lane.asking.unsent and servlet_of(found).took > TOGETHER_S:
        post_answers(lane)
    hold_gil(&lane.gil)
    asked.fd = made_key(question)
    asked.peer = Text(<const char *> question.peer, question.peer_len)
    asked.by_proxy = head.forwarded and question.by_proxy
    result = call(lane, head, found, p, &asked)
    if result == HAND_OVER:
        question.then = GIVES if has_made(&lane.servlets, asked.fd) else GOES_ON
        return HAND_OVER
    if result != DONE:
        question.then = ENDS
        return result
    question.requests += 1
    question.account = head.site.account
    question.used = p + head.length + head.body - question.data
    question.methods[method_number(head)] += 1
    question.closes = head.mode == CLOSE
    if lane.log.on:
        keep_line(&lane.log, question, head, lane.servlets.content_size)
    return DONE


cdef inline void keep_line(Log *log, Question *question, const Head *head, int64_t size) noexcept nogil:
    """Write a line for the log of the lane that asks; it is lost without memory."""
    cdef size_t mark = log.len
    cdef size_t length
    cdef char *grown
    cdef Text client = head.client if head.client.len else Text(<const char *> question.peer, question.peer_len)
    log_line(log, client, head, 200, size, SERVLET)
    length = log.len - mark
    log.len = mark
    if not length:               # others stand for it
        return
    if question.lines_len + length > question.lines_room:
        grown = <char *> realloc(question.lines, 2 * question.lines_len + length)
        if grown == NULL:
            return
        question.lines = grown
        question.lines_room = 2 * question.lines_len + length
    memcpy(question.lines + question.lines_len, log.lines + mark, length)
    question.lines_len += length
    question.lines_count += 1


cdef inline void forget_made(Answering *lane, Question *question) noexcept nogil:
    """The connection is gone: what an application has made for it, too."""
    if question.then == GIVES:
        hold_gil(&lane.gil)
        discard_made(&lane.servlets, made_key(question))
        question.then = GOES_ON


# --- what comes back to another lane, and what it gives away ------------------------------------------------


cdef inline void take_up_answers(Answering *lane) noexcept nogil:
    """Those that asked have their turn."""
    lane.asking.is_stuck = False
    take_answers(&lane.asking, &lane.conns, &lane.output, &lane.log, &lane.shared.lanes)


cdef inline void take_in_given(Answering *lane, Given *given) noexcept nogil:
    """A connection of another lane's is this one's, or Python's."""
    cdef int fd = given.fd, made = given.made
    cdef bint is_pythons = given.is_pythons
    cdef bint is_here = take_given(&lane.conns, given)
    if made:
        hold_gil(&lane.gil)
        if is_here:
            move_made(&lane.servlets, made, fd)
        else:
            discard_made(&lane.servlets, made)
    if is_here and is_pythons:
        lane.errands += HAND_OVER_ERRANDS
        lane.errand_at = monotonic()
        hand(&lane.conns, fd, &lane.conns.all[fd])

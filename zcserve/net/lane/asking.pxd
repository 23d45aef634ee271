# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Asking: what another lane cannot answer, the first lane is asked, and the connection stays where it is.

A `Question` is a copy of what a client has sent: a request that needs Python, and what is pipelined behind it. All
questions of a turn go to the first lane in one letter (ASK), and come back in letters (ANSWERED) with what that says:
that all is known now, so that the lane looks again; or the text of servlets' answers; or that the connection is to be
given away, with what an application has made of its request, so that nothing is called twice. Till then the
connection is frozen, as one that waits for a servlet is: its bytes stand in its inbox, and what follows them in its
socket.

A question is written by one thread at a time: by the one that has its letter. Its memory belongs to the lane that
asks, and is used again. There are ASKED_MAX at most; past that the lane answers 503. New clients, and those that
pipeline, leave a part of them to the others.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset

from zcserve.net.lane.atomic cimport add_int, look_int, set_int
from zcserve.net.lane.connections cimport (
    ASKED, BEGUN, CLOSES, CLOSES_DEAF, OWNER_LANE, STAYS, TOLD_MAX, Conn, Conns, name_peer, run_again,
)
from zcserve.net.lane.counts cimport METHODS, cell_of, choose_next, count_answers, count_for, is_one_to_measure, note_said
from zcserve.net.lane.endings cimport end
from zcserve.net.lane.lanes cimport LANES_MAX, Lanes, send
from zcserve.net.lane.log cimport Log, add_lines
from zcserve.net.lane.mail cimport Letter
from zcserve.net.lane.moving cimport give_away
from zcserve.net.lane.output cimport ENOUGH, GONE, OK, Output
from zcserve.net.lane.proxies cimport NAME_MAX
from zcserve.net.lane.records cimport Record, key_at, unref
from zcserve.net.lane.timed cimport hold

cdef enum:
    ASKED_MAX = 1024             # questions of a lane under way
    PRESSING_MAX = 768           # of which so many may be of new clients, and of those that pipeline
    KEPT_BYTES = 8192            # a question keeps memory up to this size for the next time

cdef enum:                       # `Question.kind`: the queue of the first lane that it stands in
    UNKNOWN = 0                  # nothing is known of what is asked for
    QUIET = 1                    # a servlet is to be called for a client that had all that it asked for before
    PRESSING = 2                 # or for another one
    KINDS = 3

cdef enum:                       # `Question.then`: what is to be done when what was said is on its way
    GOES_ON = 0                  # the lane looks again
    HANDS = 1                    # the rest is for Python to judge: a servlet may have changed what it leads to
    GIVES = 2                    # likewise, and an application has made something of it
    ENDS = 3                     # the connection ends

cdef struct Question:
    Question *next               # in its chain
    int lane, number             # which it is
    int fd
    uint32_t generation          # of the connection
    int is_in_vain               # the connection is gone: the lane that asks may say so at any time
    uint8_t kind
    uint8_t is_quiet             # its client is
    uint8_t by_proxy             # the peer is a proxy that is listened to
    uint8_t peer_len
    char peer[NAME_MAX]
    char *data                   # as sent
    size_t len, room
    # What the first lane says:
    int then
    int requests                 # that were answered
    int account                  # that they are counted for
    size_t used                  # bytes of them
    bint closes                  # the last answer is the connection's last
    uint16_t methods[METHODS]    # how many of them had which method (counts.pxd)
    Record *said                 # its text is the answers
    size_t said_len
    char *lines                  # for the access log
    size_t lines_len, lines_room
    int lines_count

cdef struct Chain:
    Question *first
    Question *last

cdef struct Asking:
    Question *all[ASKED_MAX]     # by number
    int count                    # of them that there are
    int under_way
    Chain idle
    Chain out                    # to be sent
    Chain back                   # answers that were not taken up yet
    bint is_stuck                # a letter found no room
    # The first lane's:
    Chain waiting[KINDS]
    int count_here               # of questions that wait here, or were not sent back
    bint others_first            # in this turn questions of other lanes have servlets called before the lane's own connections have
    int unsent                   # answers that wait to be sent together
    double unsent_since
    Chain answered[LANES_MAX]
    Record unknown               # stands for what another lane does not find


cdef inline void close_asking(Asking *asking) noexcept nogil:
    """No lane runs any more."""
    cdef int i
    cdef Question *question
    for i in range(asking.count):
        question = asking.all[i]
        if question.said != NULL and add_int(&question.said.refs, -1) == 0:
            free(question.said)
        free(question.data)
        free(question.lines)
        free(question)
    asking.count = 0


# --- chains -------------------------------------------------------------------------------------------------


cdef inline void put_in(Chain *chain, Question *question) noexcept nogil:
    question.next = NULL
    if chain.first == NULL:
        chain.first = question
    else:
        chain.last.next = question
    chain.last = question


cdef inline Question *take_first(Chain *chain) noexcept nogil:
    cdef Question *question = chain.first
    chain.first = question.next
    return question


cdef inline void join(Chain *chain, Question *first) noexcept nogil:
    """Put all of another chain in, which begins with this one."""
    cdef Question *next
    while first != NULL:
        next = first.next
        put_in(chain, first)
        first = next


cdef inline void post(Chain *chain, Lanes *lanes, int to, int kind, bint *is_stuck) noexcept nogil:
    """Send all of a chain in one letter; what finds no room stays."""
    if send(lanes, to, Letter(kind, -1, 0, chain.first)):
        chain.first = NULL
    else:
        is_stuck[0] = True


# --- another lane asks --------------------------------------------------------------------------------------


cdef inline bint was_told(const Conn *conn) noexcept nogil:
    """Whether the lane was told to look again at the connection's next request."""
    return conn.told == 1 + conn.answered % TOLD_MAX


cdef inline Question *new_question(Asking *asking, int lane, bint is_quiet) noexcept nogil:
    """NULL where there are too many, and without memory."""
    cdef Question *question
    if not is_quiet and asking.under_way >= PRESSING_MAX:
        return NULL
    if asking.idle.first != NULL:
        question = take_first(&asking.idle)
    elif asking.count < ASKED_MAX:
        question = <Question *> calloc(1, sizeof(Question))
        if question == NULL:
            return NULL
        question.lane = lane
        question.number = asking.count
        asking.all[asking.count] = question
        asking.count += 1
    else:
        return NULL
    asking.under_way += 1
    return question


cdef inline void let_question_go(Asking *asking, Question *question) noexcept nogil:
    asking.under_way -= 1
    put_in(&asking.idle, question)


cdef inline bint fill_question(Question *question, int fd, Conn *conn, const char *p, size_t length, Conns *conns) noexcept nogil:
    """Copy what the first lane needs. False without memory."""
    if question.room < length or question.room > KEPT_BYTES:
        free(question.data)
        question.room = max(length, <size_t> 512)
        question.data = <char *> malloc(question.room)
        if question.data == NULL:
            question.room = 0
            return False
    memcpy(question.data, p, length)
    question.len = length
    question.fd = fd
    question.generation = conn.generation
    set_int(&question.is_in_vain, False)
    name_peer(conn)
    question.peer_len = conn.name_len
    memcpy(question.peer, conn.name, conn.name_len)
    question.then = GOES_ON
    question.requests = 0
    question.used = question.said_len = question.lines_len = 0
    question.lines_count = 0
    question.closes = False
    memset(question.methods, 0, sizeof(question.methods))
    if question.said != NULL and look_int(&question.said.refs) > 1:      # an answer waits for its socket
        unref(conns.dead, question.said)
        question.said = NULL
    return True


cdef inline void put_question(Asking *asking, Question *question, Conn *conn) noexcept nogil:
    """The connection waits for what the first lane says."""
    conn.told = 0
    conn.queued = ASKED
    conn.question = <uint16_t> question.number
    put_in(&asking.out, question)


cdef inline void forget_question(Asking *asking, const Conn *conn) noexcept nogil:
    """A connection ends that waits: no servlet need be called for it."""
    set_int(&asking.all[conn.question].is_in_vain, True)


# --- and is answered ----------------------------------------------------------------------------------------


cdef inline void take_answers(Asking *asking, Conns *conns, Output *output, Log *log, Lanes *lanes) noexcept nogil:
    """Do what the first lane has said. A connection that finds no room in a letter is given away in the next turn."""
    cdef Question *question
    while asking.back.first != NULL:
        question = asking.back.first
        if not take_answer(asking, question, conns, output, log, lanes):
            asking.is_stuck = True
            return
        take_first(&asking.back)
        if question.then == GIVES:       # the connection is gone, and what was made for it goes where it came from
            set_int(&question.is_in_vain, True)
            put_in(&asking.out, question)
        else:
            let_question_go(asking, question)


cdef inline bint take_answer(
    Asking *asking, Question *question, Conns *conns, Output *output, Log *log, Lanes *lanes
) noexcept nogil:
    """False where it is to be tried again."""
    cdef int fd = question.fd
    cdef Conn *conn = &conns.all[fd]
    cdef int result
    if conn.generation != question.generation or conn.owner != OWNER_LANE:
        return True
    if conn.lingering:
        conn.queued = False
        run_again(conns, fd)
        return True
    if question.requests:
        say_answers(question, conns, conn, output, log)
    elif question.then == GOES_ON:
        conn.told = <uint8_t> (1 + conn.answered % TOLD_MAX)
    if question.then == GIVES or question.then == HANDS:
        result = give_away(conns, lanes, 0, fd, conn, True, made_key(question) if question.then == GIVES else 0)
        if result == ENOUGH:
            return False
        if result == GONE:
            end(conns, fd)
        else:
            question.then = GOES_ON
        return True
    conn.queued = False
    if question.then == ENDS and not conn.closing:
        end(conns, fd)
    else:
        run_again(conns, fd)
    return True


cdef inline void say_answers(Question *question, Conns *conns, Conn *conn, Output *output, Log *log) noexcept nogil:
    """The answers are pending, and are sent when the connection has its turn."""
    cdef size_t rest = conn.inbox_len - question.used
    conn.pending.record = question.said
    conn.pending.rest = key_at(question.said)
    conn.pending.rest_len = question.said_len
    conn.pending.account = question.account
    if question.said.key_len > KEPT_BYTES:
        question.said = NULL     # the reference goes along
    else:
        add_int(&question.said.refs, 1)
    if question.lines_len and log.is_timed:
        hold(log, &conn.pending, question.lines, question.lines_len)
    elif question.lines_len:
        add_lines(log, question.lines, question.lines_len, question.lines_count)
    count_said(question, conn, output)
    conn.answered += question.requests
    question.requests = 0
    conn.closing = STAYS
    if question.closes:
        conn.closing = CLOSES if not rest and not conns.draining else CLOSES_DEAF
    if question.then == ENDS:
        conn.closing = CLOSES_DEAF
    if conn.closing:
        rest = 0
    elif rest:
        memmove(conn.inbox, conn.inbox + question.used, rest)
        conn.told = BEGUN
    conn.inbox_len = <uint32_t> rest


cdef inline void count_said(const Question *question, Conn *conn, Output *output) noexcept nogil:
    """The answers leave together, so they have one duration."""
    cdef int method, account = output.answered.account
    count_for(&output.answered, question.account)
    for method in range(METHODS):
        count_answers(&output.answered, cell_of(OK, method), question.methods[method])
    note_said(&output.answered, question.requests)
    count_for(&output.answered, account)
    if is_one_to_measure(&output.answered):
        choose_next(&output.answered)
        conn.is_measured = True


cdef inline int made_key(const Question *question) noexcept nogil:
    """Where `Servlets.made` has what was made of a request, until the connection is here: no descriptor."""
    return -1 - (question.lane * ASKED_MAX + question.number)

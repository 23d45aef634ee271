# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Answering: from the bytes of one connection to answers that are sent, or to a connection that is handed over.

Here the units meet: a head is parsed, its target found, a representation chosen, a line logged, an answer gathered. Answers
to pipelined requests are gathered and sent together. Whatever the lane cannot answer by itself goes to Python with the bytes
from there on, but not before all that was answered is out.
"""

from libc.stdint cimport int64_t, uint64_t

from zcserve.net.lane.absent cimport page_of
from zcserve.net.lane.choice cimport choose
from zcserve.net.lane.conditions cimport decide
from zcserve.net.lane.connections cimport (
    CLOSES, CLOSES_DEAF, NOT_ASKED, NOT_TRUSTED, OWNER_LANE, STAYS, TRUSTED, Conn, Conns, are_calls_waiting, hand, keep_input,
    name_peer, queued_out, watch_fresh,
)
from zcserve.net.lane.finding cimport FIND_REQUESTS, Finder, find_out, may_find
from zcserve.net.lane.gil cimport Gil, hold_gil
from zcserve.net.lane.grammar cimport CLOSE, UNSURE
from zcserve.net.lane.head cimport Head, Rules, find_place, key_of, parse_request_line, parse_rest
from zcserve.net.lane.judged cimport Judged
from zcserve.net.lane.log cimport Log, is_log_filling, log_line, may_log, take_lines_back
from zcserve.net.lane.moving cimport give_away
from zcserve.net.lane.output cimport (
    BLOCKED, DONE, ENOUGH, GONE, HAND_OVER, NOT_YET, OK, Answer, Output, add_answer, add_text, code_of, has_room, send_answers, send_pending, unpin,
)
from zcserve.net.lane.owned cimport Owned, is_still_owned, may_own, seems_fresh, seems_fresh_elsewhere
from zcserve.net.lane.parts cimport Pages, add_page, add_part, add_redirect
from zcserve.net.lane.proxies cimport Proxies, find_client, has_network_of
from zcserve.net.lane.ranges cimport Part
from zcserve.net.lane.records cimport Dead, Record, Rep, key_at, reps_of
from zcserve.net.lane.seconds cimport Seconds
from zcserve.net.lane.servlets cimport Asked, Servlets, ask, discard_made, let_said_go, look_up, settle
from zcserve.net.lane.shared cimport Shared
from zcserve.net.lane.sightings cimport Sightings, is_sampling, sight
from zcserve.net.lane.system cimport expect_bytes, monotonic
from zcserve.net.lane.table cimport expect, find, find_path, hash_of
from zcserve.net.lane.text cimport Text
from zcserve.net.lane.uses cimport Use, Uses, take_use_back, tick_at, touch, use_of

cdef extern from *:
    """
    #define ZC_CALLS_S 0.00025
    """
    const double CALLS_S "ZC_CALLS_S"            # a connection's calls of servlets take so long in a turn, or are CALLS_MAX

cdef enum:
    CALLS_MAX = 32               # they cost more than a turn does
    ERRANDS_MIN = 16             # of Python's in a turn, for which others wait: as many as take ERRANDS_US, between these
    ERRANDS_MAX = 64
    ERRANDS_US = 1000
    HAND_OVER_ERRANDS = 2        # what a hand-over counts; an event of a connection of Python's is one
    PREFETCH_BYTES = 2048        # of content; the processor foresees the rest by itself
    BATCH_BYTES = 65536          # answered before it is sent: what a socket takes at once

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
    Proxies proxies
    Sightings sightings
    Log log
    Servlets servlets
    Gil gil
    Conns conns
    Pages pages
    Output output


cdef inline void begin_turn(Answering *lane) noexcept nogil:
    lane.turn += 1
    lane.conns.now = monotonic()
    lane.tick = tick_at(lane.conns.now)


cdef inline bint read_head(Answering *lane, const char *start, const char *end, Head *head) noexcept nogil:
    """Whether a head of the lane's begins at `start`, with all of its body. Its record comes from memory while the fields are parsed."""
    cdef const char *p = parse_request_line(&lane.rules, start, end, head)
    cdef Text key
    if p == NULL:
        return False
    if not find_place(&lane.judged, head):
        return False
    key = key_of(head)
    head.hash = hash_of(&lane.shared.table, key.at, key.len)
    expect(&lane.shared.table, head.hash)
    if not parse_rest(&lane.rules, &lane.judged, start, p, end, head):
        return False
    if lane.conns.draining:
        head.mode = CLOSE
    return True


cdef inline int answer(Answering *lane, int fd, const char *data, size_t length) noexcept nogil:
    """Answer what is plain at the front of `data`. DONE; HAND_OVER with the rest noted; BLOCKED, ENOUGH, GONE as
    `flush`. What was neither answered nor handed over stands in the connection's inbox."""
    cdef const char *p = data
    cdef const char *end = data + length
    cdef Conn *conn = &lane.conns.all[fd]
    cdef Head head
    cdef Record *record
    cdef Answer *added
    cdef int result
    cdef size_t batch = 0
    while p < end:
        # What a servlet did may be about what follows it.
        if not read_head(lane, p, end, &head) or (conn.called_in == lane.turn and not is_fresh(lane)):
            return hand_over(lane, fd, p, end, False)
        record = find_known(lane, &head)
        if record == NULL:
            if not may_find(&lane.finder):
                return put_off(lane, fd, p, end, ENOUGH)
            record = find_first(lane, &head)
        if record == NULL or (head.forwarded and is_by_proxy(lane, conn) and not knows_client(lane, &head, record)):
            return hand_over(lane, fd, p, end, False)
        if record.count:
            added = add_file(lane, conn, &head, p, record)
            if added == NULL:
                return hand_over(lane, fd, p, end, False)
            p = answered_up_to(lane, conn, &head, p, end)
            batch += added.size
            if p < end and not added.span_len and batch <= BATCH_BYTES and has_room(&lane.output) and lane.requests_left > 0:
                continue
        else:
            result = answer_servlet(lane, fd, &head, record, &p, end)
            if result != DONE:
                return result
            conn.called_in = lane.turn
            lane.shared.owned.freshness.fresh_in = 0    # looked at anew
            if p < end and lane.servlets.said_len <= BATCH_BYTES and lane.requests_left > 0:
                continue
        result = flush(lane, fd, p, end)
        if result != DONE or conn.inbox_len:
            return result
        batch = 0
        if p < end and has_had_its_share(lane):
            return keep_input(conn, p, end) or ENOUGH
    return DONE


cdef inline Record *find_known(const Answering *lane, const Head *head) noexcept nogil:
    """What the table has for a request. A servlet is told its target as it was sent, so one in absolute-form has a record of its
    own (`find_first`)."""
    cdef Text key = key_of(head)
    cdef Record *record = find(&lane.shared.table, key.at, key.len, head.hash)
    if head.for_servlet:
        return record
    if record == NULL:
        record = find_path(&lane.shared.table, head.place)
    return NULL if record != NULL and head.is_absolute and not record.count else record


cdef inline Record *find_first(Answering *lane, Head *head) noexcept nogil:
    """What answers a request that the table has nothing for: an application's servlet, the page for what is absent, or what Python
    finds."""
    cdef Record *record = NULL
    cdef Text place = head.place
    cdef bint is_owned = head.for_servlet or may_own(&lane.shared.owned, place)
    if not is_owned:
        record = page_of(&lane.shared.absent, place)
        if record != NULL and not is_fresh(lane):
            return NULL
    if lane.number:
        return record
    if is_owned and lane.servlets.look_up != NULL:
        if head.is_absolute and not head.for_servlet:
            head.place = head.target
            head.hash = hash_of(&lane.shared.table, head.target.at, head.target.len)
            record = find(&lane.shared.table, head.target.at, head.target.len, head.hash)
        if record == NULL:
            hold_gil(&lane.gil)
            record = look_up(&lane.servlets, &lane.shared.table, head)
        head.place = place
    if record == NULL and not head.for_servlet:
        hold_gil(&lane.gil)
        record = find_out(&lane.finder, &lane.shared.table, place)
        lane.requests_left -= FIND_REQUESTS - 1
    return record


cdef inline bint is_fresh(Answering *lane) noexcept nogil:
    """Whether an application owns what it did."""
    cdef Owned *owned = &lane.shared.owned
    if lane.number:
        return seems_fresh_elsewhere(owned, lane.conns.now)
    if owned.is_fresh == NULL or seems_fresh(&owned.freshness, lane.turn, lane.conns.now):
        return True
    hold_gil(&lane.gil)
    return is_still_owned(owned, lane.turn, lane.conns.now)


cdef inline bint has_had_its_share(const Answering *lane) noexcept nogil:
    """Whether the connection at hand has to let the others have their turn."""
    return lane.requests_left <= 0 or lane.output.bytes_left <= lane.bytes_spared


cdef inline const char *answered_up_to(
    Answering *lane, Conn *conn, const Head *head, const char *p, const char *end
) noexcept nogil:
    """Where the next request begins. Behind the last one nothing is read."""
    lane.requests_left -= 1
    conn.answered += 1
    p += head.length + head.body
    conn.closing = STAYS
    if head.mode == CLOSE:
        conn.closing = CLOSES if p == end and not lane.conns.draining else CLOSES_DEAF
        return end
    return p


# --- files --------------------------------------------------------------------------------------------------


cdef inline Answer *add_file(
    Answering *lane, Conn *conn, Head *head, const char *start, Record *record
) noexcept nogil:
    """Put the answer of a file, or of a page that says another status, behind the others; NULL where the answer, or its log line,
    is Python's. Of a page nothing is chosen or counted, and no condition is about it."""
    cdef bint is_file = record.status == OK
    cdef Rep *rep = choose(record, head.accept if head.has_accept else NULL) if is_file else reps_of(record)
    cdef size_t log_mark = lane.log.len
    cdef Answer *answer
    cdef Use *use
    cdef Part part
    cdef int status = code_of(record.status)
    if rep == NULL or (lane.log.on and not may_log(&lane.log, head)):
        return NULL
    if head.conditions.present and is_file:
        status = decide(&head.conditions, rep, head.is_get, lane.rules.ranges_max, lane.seconds.now, &part)
    if status == 200 or status == 304 or status == 404:
        answer = add_answer(&lane.output, head, start, record, rep, status == 304)
        if status == 200:
            expect_bytes(rep.head, min(rep.head_len + (<size_t> answer.size if rep.fd < 0 else 0), <size_t> PREFETCH_BYTES))
    elif status == 206:
        answer = add_part(&lane.output, head, start, record, rep, part)
    elif status == 301:
        answer = add_redirect(&lane.output, head, start, record)
    elif status == UNSURE:
        return NULL
    else:
        answer = add_page(&lane.output, &lane.pages, status, head, start, record, rep)
    if answer == NULL:
        return NULL
    answer.log_mark = log_mark
    if lane.log.on:
        write_line(lane, conn, head, status, answer.size)
    if not is_file:
        return answer
    use = use_of(&lane.uses, rep)
    if is_sampling(&lane.shared.rule):
        sight(&lane.shared.rule, &lane.sightings, &lane.shared.numbers, record, rep, use, lane.tick)
    touch(&lane.uses, rep.number, use, lane.tick)
    return answer


# --- the log's client ---------------------------------------------------------------------------------------


cdef inline bint is_by_proxy(const Answering *lane, Conn *conn) noexcept nogil:
    """Whether the peer is a proxy that is listened to."""
    if conn.trust == NOT_ASKED:
        conn.trust = TRUSTED if has_network_of(&lane.proxies, conn.family, conn.address) else NOT_TRUSTED
    return conn.trust == TRUSTED


cdef inline bint knows_client(Answering *lane, Head *head, const Record *record) noexcept nogil:
    """Whether the log can name the client. A file is the same for all; for a servlet all of it is read in Python."""
    return not record.count or not lane.log.on or find_client(&lane.proxies, head)


cdef inline void write_line(Answering *lane, Conn *conn, const Head *head, int status, int64_t size) noexcept nogil:
    """Log an answer, where `may_log`, to the client that a proxy named, or else to the peer."""
    cdef Text client = head.client
    if not client.len:
        name_peer(conn)
        client = Text(<const char *> conn.name, conn.name_len)
    log_line(&lane.log, client, head, status, size)
    if is_log_filling(&lane.log):
        lane.conns.due = lane.conns.full = True


# --- servlets -----------------------------------------------------------------------------------------------


cdef inline int answer_servlet(
    Answering *lane, int fd, Head *head, Record *found, const char **at, const char *end
) noexcept nogil:
    """As `answer`, for the request at `at`. DONE: its answer is said, and not sent. NOT_YET: it was not called, and all before it is
    out."""
    cdef const char *p = at[0]
    cdef Conn *conn = &lane.conns.all[fd]
    cdef int result = HAND_OVER
    if lane.number:
        return hand_over(lane, fd, p, end, False)
    if not may_call(lane):
        return put_off(lane, fd, p, end, NOT_YET)
    hold_gil(&lane.gil)
    if lane.output.count and not settle(&lane.servlets, &lane.output):
        return GONE
    if not lane.log.on or may_log(&lane.log, head):
        result = ask_servlet(lane, fd, head, found, p)
    if result == HAND_OVER:
        result = hand_over(lane, fd, p, end, True)
        if result != HAND_OVER:
            discard_made(&lane.servlets, fd)
        return result
    if result != DONE:
        if lane.output.count and conn.owner == OWNER_LANE:
            flush(lane, fd, p, end)
        return GONE
    at[0] = answered_up_to(lane, conn, head, p, end)
    add_text(&lane.output, p, lane.servlets.said, key_at(lane.servlets.said), lane.servlets.said_len, lane.servlets.content_size)
    if lane.log.on:
        write_line(lane, conn, head, 200, lane.servlets.content_size)
    return DONE


cdef inline bint may_call(const Answering *lane) noexcept nogil:
    """Whether the connection at hand may have a servlet called: those that wait for it come first, and none is called when servlets
    have had their time in this turn."""
    if lane.calling_left <= 0 or lane.calls_left <= 0:
        return False
    return lane.is_called_up or not are_calls_waiting(&lane.conns)


cdef inline int ask_servlet(Answering *lane, int fd, Head *head, Record *found, const char *p) noexcept nogil:
    """As `servlets.ask`; GONE, too, where the servlet had all connections closed."""
    cdef Conn *conn = &lane.conns.all[fd]
    cdef Asked asked
    cdef double now
    cdef int result
    name_peer(conn)
    asked.fd = fd
    asked.head = Text(p, head.length)
    asked.body = Text(p + head.length, head.body)
    asked.peer = Text(<const char *> conn.name, conn.name_len)
    asked.by_proxy = head.forwarded and is_by_proxy(lane, conn)
    asked.draining = &lane.conns.draining
    asked.turn = lane.turn
    asked.now = lane.conns.now
    lane.conns.asking = fd
    if not lane.called_at:
        lane.called_at = monotonic()
    result = ask(&lane.servlets, &lane.shared.table, found, &asked, head, &lane.output)
    now = monotonic()
    lane.calling_left -= now - lane.called_at
    lane.calls_left -= 1 + <int> ((now - lane.called_at) * CALLS_MAX / CALLS_S)
    lane.called_at = now
    lane.conns.asking = -1
    if conn.owner == OWNER_LANE:
        return result
    discard_made(&lane.servlets, fd)
    lane.output.count = 0        # nothing is left to send it to
    let_said_go(&lane.servlets, &lane.shared.table)
    return GONE


# --- sending ------------------------------------------------------------------------------------------------


cdef inline int flush(Answering *lane, int fd, const char *p, const char *end) noexcept nogil:
    """Send the answers. DONE, GONE, or BLOCKED and ENOUGH with what is left noted in the connection.

    The request of an answer of which nothing went out is unanswered again: its bytes go to the inbox with all from `p` on.
    """
    cdef Conn *conn = &lane.conns.all[fd]
    cdef int answers = lane.output.count
    cdef int result = send_answers(&lane.output, fd, conn.closing, &conn.pending)
    if lane.servlets.said_len:
        let_said_go(&lane.servlets, &lane.shared.table)
    if result == DONE or result == GONE:
        return result
    if lane.output.begun + 1 < answers:
        p = take_back(lane, &lane.output.answers[lane.output.begun + 1], &lane.output.answers[answers])
        conn.closing = STAYS
    if p < end and keep_input(conn, p, end) < 0:
        return GONE
    return go_on(lane, fd, conn)


cdef inline const char *take_back(Answering *lane, const Answer *first, const Answer *end) noexcept nogil:
    """Answers of which nothing went out are no uses, and not logged. Where the first one's request begins."""
    cdef const Answer *answer = first
    while answer < end:
        take_use_back(use_of(&lane.uses, answer.rep))
        answer += 1
    take_lines_back(&lane.log, first.log_mark, <int> (end - first))
    return first.start


cdef inline int go_on(Answering *lane, int fd, Conn *conn) noexcept nogil:
    """Send what is pending. DONE, GONE, BLOCKED, or ENOUGH for this turn."""
    cdef int64_t left = lane.output.bytes_left
    cdef int result
    result = send_pending(&lane.output, fd, &conn.pending)
    if lane.output.bytes_left != left:
        conn.since = lane.conns.now
    if result == DONE:
        unpin(&conn.pending, &lane.dead)
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
    request may be answered by now, so Python gets what the socket does not take of the answers before it, too."""
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
    if lane.number:
        return give_away(&lane.conns, &lane.shared.lanes, 0, fd, conn)
    if watch_fresh(&lane.conns, fd, conn) < 0:
        return GONE
    lane.errands += HAND_OVER_ERRANDS
    lane.errand_at = monotonic()
    hand(&lane.conns, fd, conn)
    return HAND_OVER

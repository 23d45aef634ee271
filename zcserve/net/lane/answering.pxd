# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Answering: from the bytes of one connection to answers that are sent, or to a connection that is handed over.

Here the units meet: a head is parsed, its target found, a representation chosen, a line logged, an answer gathered. Answers
to pipelined requests are gathered and sent together. Whatever the lane cannot answer by itself goes to Python with the bytes
from there on, but not before all that was answered is out.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from zcserve.net.lane.absent cimport page_of
from zcserve.net.lane.asking cimport (
    PRESSING, QUIET, UNKNOWN, Question, fill_question, let_question_go, new_question, put_question, was_told,
)
from zcserve.net.lane.atomic cimport acquire, acquire_pointer, look_int
from zcserve.net.lane.choice cimport choose
from zcserve.net.lane.conditions cimport decide
from zcserve.net.lane.connections cimport (
    BEGUN, CLOSES, CLOSES_DEAF, NOT_ASKED, NOT_TRUSTED, OWNER_LANE, STAYS, TRUSTED, Conn, are_calls_waiting, keep_input, name_peer,
)
from zcserve.net.lane.counts cimport note_duration
from zcserve.net.lane.finding cimport FIND_REQUESTS, find_out, follow, may_find
from zcserve.net.lane.gil cimport hold_gil
from zcserve.net.lane.grammar cimport CLOSE, UNSURE
from zcserve.net.lane.head cimport Head, find_place, key_of, parse_request_line, parse_rest
from zcserve.net.lane.log cimport SERVLET, TURN, is_log_filling, log_line, may_log
from zcserve.net.lane.log_fields cimport own_id
from zcserve.net.lane.memos cimport note, recall
from zcserve.net.lane.output cimport (
    DONE, ELSEWHERE, ENOUGH, GONE, HAND_OVER, NOT_MODIFIED, NOT_YET, OK, Answer, add_answer, add_text, code_of, has_room, is_redirect,
    begin_site, is_for,
)
from zcserve.net.lane.owned cimport Owned, is_still_owned, may_own, seems_fresh, seems_fresh_elsewhere
from zcserve.net.lane.parts cimport add_page, add_part, add_redirect
from zcserve.net.lane.proxies cimport find_client, has_network_of
from zcserve.net.lane.ranges cimport Part
from zcserve.net.lane.records cimport Record, Rep, key_at, reps_of
from zcserve.net.lane.sending cimport Answering, flush, hand_over, put_off
from zcserve.net.lane.servlets cimport Asked, ask, discard_made, let_said_go, look_up, servlet_of, settle
from zcserve.net.lane.sightings cimport SITE_STEP, is_sampling, sight
from zcserve.net.lane.sites cimport Site
from zcserve.net.lane.system cimport expect_bytes, monotonic
from zcserve.net.lane.table cimport find, find_path, hash_of
from zcserve.net.lane.text cimport Text
from zcserve.net.lane.timed cimport complete_batch
from zcserve.net.lane.uses cimport Use, touch, use_of

cdef extern from *:
    """
    #define ZC_CALLS_S 0.00025
    """
    const double CALLS_S "ZC_CALLS_S"            # a connection's calls of servlets take so long in a turn, or are CALLS_MAX

cdef enum:
    CALLS_MAX = 32               # they cost more than a turn does
    PREFETCH_BYTES = 2048        # of content; the processor foresees the rest by itself
    BATCH_BYTES = 65536          # answered before it is sent: what a socket takes at once


cdef inline bint read_head(Answering *lane, const char *start, const char *end, Head *head) noexcept nogil:
    """Whether a head of the lane's begins at `start`, with all of its body. Its record comes from memory while the fields behind Host are
    parsed."""
    cdef const char *p = parse_request_line(&lane.rules, start, end, head)
    cdef Text key
    if p == NULL:
        return False
    if not find_place(&lane.judged, head):
        return False
    key = key_of(head)
    head.hash = hash_of(lane.shared.sites.seed, key.at, key.len)
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
        if not read_head(lane, p, end, &head) or (conn.called_in == lane.turn and not is_fresh(lane, head.site)):
            return hand_over(lane, fd, p, end, False)
        if not is_for(&lane.output, &head):
            result = begin_other_site(lane, fd, &head, p, end)
            if result != DONE or conn.inbox_len:
                return result
            batch = 0
        record = find_known(lane, &head)
        if record == NULL:
            if not may_find(&lane.finder):
                return put_off(lane, fd, p, end, ENOUGH)
            record = find_first(lane, &head)
        if record == NULL or (head.forwarded and is_by_proxy(lane, conn) and not knows_client(lane, &head, record)):
            return hand_over(lane, fd, p, end, False)
        if not record.count and lane.number:
            record = ask_first_lane(lane, fd, &head, record, p, end, &result)
            if record == NULL:
                return result
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
            if p < end and lane.servlets.said_len <= BATCH_BYTES and lane.requests_left > 0:
                continue
        result = flush(lane, fd, p, end)
        if result != DONE or conn.inbox_len:
            return result
        batch = 0
        if p < end and has_had_its_share(lane):
            return keep_input(conn, p, end) or ENOUGH
    return DONE


cdef inline int begin_other_site(Answering *lane, int fd, const Head *head, const char *p, const char *end) noexcept nogil:
    """The request at `p` is for another site than those before it, whose answers go first. DONE, or as `answer`."""
    cdef Conn *conn = &lane.conns.all[fd]
    cdef int result
    if lane.output.count:
        result = flush(lane, fd, p, end)
        if result != DONE or conn.inbox_len:
            return result
        if has_had_its_share(lane):
            return keep_input(conn, p, end) or ENOUGH
    begin_site(&lane.output, head.site)
    return DONE


cdef inline Record *find_known(Answering *lane, Head *head) noexcept nogil:
    """What the table has for a request, or is known to be absent. A servlet is told its target as it was sent, so one in absolute-form has a
    record of its own (`find_first`)."""
    cdef Text key = key_of(head)
    cdef Record *record = find(&head.site.table, key.at, key.len, head.hash)
    head.said = OK
    if head.for_servlet:
        return record
    if record == NULL:
        record = find_path(&head.site.table, head.place)
        if record == NULL:
            return known_absent(lane, head)
    if record != NULL and record.front:
        record = follow(head.site, record, head.place, &head.said)
    return NULL if record != NULL and head.is_absolute and not record.count else record


cdef inline Record *find_first(Answering *lane, Head *head) noexcept nogil:
    """What answers a request that the table has nothing for: an application's servlet, the page for what is absent, or what Python
    finds."""
    cdef Site *site = head.site
    cdef Record *record = NULL
    cdef Text place = head.place
    cdef uint64_t version = version_of(site)
    cdef bint is_owned = head.for_servlet or may_own(&site.owned, place)
    if not is_owned:
        record = page_of(&site.absent, place)
        if record != NULL:
            note(&lane.absences, place, memo_hash(head), version, site)
        if record != NULL and not is_fresh(lane, site):
            return &lane.asking.unknown if lane.number else NULL
    if lane.number:
        return record if record != NULL else &lane.asking.unknown
    if is_owned and site.look_up != NULL:
        if head.is_absolute and not head.for_servlet:
            head.place = head.target
            head.hash = hash_of(site.table.seed, head.target.at, head.target.len)
            record = find(&site.table, head.target.at, head.target.len, head.hash)
        if record == NULL:
            hold_gil(&lane.gil)
            record = look_up(&lane.servlets, &lane.shared.sites, site, head)
        head.place = place
    if record == NULL and not head.for_servlet:
        hold_gil(&lane.gil)
        record = find_out(&lane.finder, site, place, &head.said)
        lane.requests_left -= FIND_REQUESTS - 1
    return record


cdef inline Record *known_absent(Answering *lane, const Head *head) noexcept nogil:
    """The page for what is absent, where that was found of the same target, and nothing has come since; else NULL."""
    cdef Site *site = head.site
    if recall(&lane.absences, head.place, memo_hash(head), version_of(site)) != site or not is_fresh(lane, site):
        return NULL
    return <Record *> acquire_pointer(<void * const *> &site.absent.page)


cdef inline uint32_t memo_hash(const Head *head) noexcept nogil:
    """Of what many sites are asked for, and lack."""
    return head.hash ^ head.site.table.site * <uint32_t> SITE_STEP


cdef inline uint64_t version_of(const Site *site) noexcept nogil:
    """Of what tells whether a target is absent: both only grow. What is read behind it is of this version, or a later one."""
    return 1 + acquire(&site.absent.keys.version) + acquire(&site.table.version)


cdef inline bint is_fresh(Answering *lane, Site *site) noexcept nogil:
    """Whether the site's application owns what it did; looked at anew after each call of a servlet."""
    cdef Owned *owned = &site.owned
    cdef uint64_t look = lane.turn + lane.calls      # no other look has this number: both only grow
    if lane.number:
        return seems_fresh_elsewhere(owned, lane.conns.now)
    if owned.is_fresh == NULL or seems_fresh(&owned.freshness, look, lane.conns.now):
        return True
    hold_gil(&lane.gil)
    return is_still_owned(owned, look, lane.conns.now)


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
    is Python's. Of a page nothing is chosen or counted, and no condition is about it, nor about a file that is said with another status."""
    cdef bint is_file = record.status == OK
    cdef Rep *rep = choose(record, head.accept if head.has_accept else NULL) if is_file else reps_of(record)
    cdef Answer *answer
    cdef Use *use
    cdef Part part
    cdef int line = head.said if is_file else record.status
    cdef int status = code_of(line)
    if rep == NULL or (lane.log.on and not may_log(&lane.log, head)):
        return NULL
    if head.conditions.present and line == OK:
        status = decide(&head.conditions, rep, head.is_get, lane.rules.ranges_max, lane.seconds.now, &part)
    if status == 200 or status == 304 or (line != OK and not is_redirect(line)):         # one call, so that it is put inline
        answer = add_answer(&lane.output, head, start, record, rep, NOT_MODIFIED if status == 304 else line)
        if status == 200:
            expect_bytes(rep.head, min(rep.head_len + (<size_t> answer.size if rep.fd < 0 else 0), <size_t> PREFETCH_BYTES))
    elif line != OK:
        answer = add_redirect(&lane.output, head, start, record)
    elif status == 206:
        answer = add_part(&lane.output, head, start, record, rep, part)
    elif status == UNSURE or look_int(&head.site.has_ruled_failures):
        return NULL
    else:
        answer = add_page(&lane.output, &lane.pages, status, head, start, record, rep)
    if answer == NULL:
        return NULL
    if lane.log.on:
        answer.log_mark = lane.log.len
        write_line(lane, conn, head, status, answer.size, TURN)
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


cdef inline void write_line(Answering *lane, Conn *conn, const Head *head, int status, int64_t size, char waited) noexcept nogil:
    """Log an answer, where `may_log`, to the client that a proxy named, or else to the peer."""
    cdef Text client = head.client
    if not client.len:
        name_peer(conn)
        client = Text(<const char *> conn.name, conn.name_len)
    log_line(&lane.log, client, head, status, size, waited)
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
    add_text(&lane.output, head, p, lane.servlets.said, key_at(lane.servlets.said), lane.servlets.said_len, lane.servlets.content_size)
    if lane.log.on:
        write_line(lane, conn, head, 200, lane.servlets.content_size, SERVLET)
    conn.called_in = lane.turn
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
    cdef int result
    name_peer(conn)
    asked.fd = fd
    asked.peer = Text(<const char *> conn.name, conn.name_len)
    asked.by_proxy = head.forwarded and is_by_proxy(lane, conn)
    lane.conns.asking = fd
    result = call(lane, head, found, p, &asked)
    lane.conns.asking = -1
    if conn.owner == OWNER_LANE:
        return result
    discard_made(&lane.servlets, fd)
    lane.output.count = 0        # nothing is left to send it to
    if lane.log.is_timed:
        complete_batch(&lane.log, conn.read_at)
    let_said_go(&lane.servlets, &lane.dead)
    return GONE


cdef inline int call(Answering *lane, Head *head, Record *found, const char *p, Asked *asked) noexcept nogil:
    """As `servlets.ask`, of the time that servlets have. The caller fills in what concerns the client."""
    cdef double now, took
    cdef int result
    asked.head = Text(p, head.length)
    asked.body = Text(p + head.length, head.body)
    asked.id = own_id(&lane.log.behind)
    asked.draining = &lane.conns.draining
    asked.turn = lane.turn
    asked.now = lane.conns.now
    if not lane.called_at:
        lane.called_at = monotonic()
    lane.servlets.is_called = False
    lane.calls += 1
    result = ask(&lane.servlets, &lane.dead, found, asked, head, &lane.output)
    now = monotonic()
    took = now - lane.called_at
    lane.calling_left -= took
    lane.calls_left -= 1 + <int> (took * CALLS_MAX / CALLS_S)
    lane.called_at = now
    servlet_of(found).took = took        # nothing is buried before the next call
    if lane.servlets.is_called:
        note_duration(&lane.output.answered.calls, took, 1)
    return result


# --- what another lane asks ---------------------------------------------------------------------------------


cdef inline Record *ask_first_lane(
    Answering *lane, int fd, Head *head, const Record *found, const char *p, const char *end, int *result
) noexcept nogil:
    """What another lane answers by itself after all: the page for 503, where too much is asked. Else NULL with a `result`: ELSEWHERE, where
    the first lane is asked, or as `answer`."""
    cdef Conn *conn = &lane.conns.all[fd]
    cdef bint is_next = p == lane.conns.buffer
    cdef bint is_quiet = conn.answered and not (conn.told == BEGUN and is_next)
    cdef Question *question
    if (is_next and was_told(conn)) or (lane.log.on and not may_log(&lane.log, head)):
        result[0] = hand_over(lane, fd, p, end, False)
        return NULL
    if lane.output.count:
        result[0] = flush(lane, fd, p, end)
        if result[0] != DONE or conn.inbox_len:
            return NULL
    question = new_question(&lane.asking, lane.number, is_quiet)
    if question == NULL:
        head.is_get |= head.for_servlet          # its answer has content
        return lane.shared.unavailable
    result[0] = GONE
    if not fill_question(question, fd, conn, p, end - p, &lane.conns) or keep_input(conn, p, end) < 0:
        let_question_go(&lane.asking, question)
        return NULL
    question.by_proxy = lane.rules.trusts and is_by_proxy(lane, conn)
    question.is_quiet = is_quiet
    question.kind = UNKNOWN if found == &lane.asking.unknown else QUIET if is_quiet else PRESSING
    put_question(&lane.asking, question, conn)
    result[0] = ELSEWHERE
    return NULL

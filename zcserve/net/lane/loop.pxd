# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The loop: turns of epoll, and each connection's share of them.

A turn is one epoll_wait, all its events, at most RESUMED_MAX of those connections that had more to do, and servlets for some
milliseconds; Python hears of what is its own when the turn is over. So nothing that keeps the lane or Python busy keeps either from looking at the other
descriptors, signals and timers. A turn that is broken off goes on in the next call.

An edge is told once. What it told of stands in `Conn.readable` until a recv finds the socket empty, whatever happens
meanwhile; a connection that stops before stands in `Conns.again`. One that asks for a servlet when servlets have had their time stands
in `Conns.calling`, and those that stand there come first: what floods servlets shares them, and nothing else waits for it. A
client that is here, and asks for one after the other, stands in `Conns.quiet`, which comes first and has half of the time.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from zcserve.net.lane.accepting cimport ACCEPTS_MAX, FOR_PYTHON, Accepting, accept, begin_to_accept, end_accepting, look_after
from zcserve.net.lane.answering cimport CALLS_MAX, answer, has_had_its_share
from zcserve.net.lane.asking cimport PRESSING, QUIET, UNKNOWN, forget_question, post
from zcserve.net.lane.connections cimport (
    AGAIN, ASKED, CALLING, OWNER_LANE, OWNER_LISTENER, OWNER_MAIL, OWNER_NONE, OWNER_PYTHON, RECV_BYTES, Conn, Conns, Queue,
    are_calls_waiting, call_later, drop_first, free_inbox, goes_on_unread, nothing_read, read_behind, run_again, tell, watch_fresh,
)
from zcserve.net.lane.endings cimport end, end_idle, finish, linger, sweep
from zcserve.net.lane.finding cimport FINDS_MAX, may_find
from zcserve.net.lane.gil cimport let_gil_go
from zcserve.net.lane.judged cimport follow_hosts
from zcserve.net.lane.lanes cimport ASK, Station, begin_reading, begin_work, end_reading
from zcserve.net.lane.log cimport time_lines
from zcserve.net.lane.output cimport DONE, ENOUGH, GONE, NOT_YET, date_prefixes
from zcserve.net.lane.replying cimport post_answers, take_up_answers
from zcserve.net.lane.seconds cimport is_another
from zcserve.net.lane.sending cimport Answering, begin_turn, go_on
from zcserve.net.lane.shared cimport hosts_of
from zcserve.net.lane.sites cimport has_chores
from zcserve.net.lane.system cimport EPOLLERR, EPOLLHUP, EPOLLOUT, EPOLLRDHUP, epoll_event, epoll_wait, monotonic, recv, ssize_t
from zcserve.net.lane.news cimport has_news
from zcserve.net.lane.withdrawn cimport WAIT_MS, give_back, is_waiting

cdef enum:
    EVENTS_MAX = 256             # of one epoll_wait
    RESUMED_MAX = 64             # connections of `again` that are served in a turn
    STUCK_MS = 1                 # a letter that found no room is tried again after this time

cdef extern from *:
    """
    #define ZC_CALLING_S 0.002
    #define ZC_NEVER (__builtin_inf())
    """
    const double CALLING_S "ZC_CALLING_S"        # in a turn servlets are called for so long, and the last one to its end
    const double NEVER "ZC_NEVER"                # by the monotonic clock

cdef struct Loop:
    # `run`, called by pointer, is compiled once, with all that it calls put inline; a copy for each caller costs a hit 60 instructions.
    void (*turns)(Loop *, double) noexcept nogil
    void (*mail)(Loop *) noexcept nogil                       # `read_mail`, likewise
    void (*questions)(Answering *, int, double) noexcept nogil     # `answer_questions`, likewise
    int events_count, events_at
    int pipeline_max             # requests of one connection in a turn
    int64_t turn_bytes_max       # likewise
    bint stopped                 # the lane is to end
    Accepting accepting
    Station station
    Answering answering
    epoll_event events[EVENTS_MAX]


# --- a connection -------------------------------------------------------------------------------------------


cdef inline void serve(Loop *loop, int fd, uint32_t mask) noexcept nogil:
    """A connection's share of this turn: what is pending goes out, then what has come in is read and answered."""
    cdef Conns *conns = &loop.answering.conns
    cdef Conn *conn = &conns.all[fd]
    cdef int result
    if mask & <uint32_t> (EPOLLRDHUP | EPOLLHUP):
        conn.hung_up = True
    if mask & ~<uint32_t> EPOLLOUT:
        conn.readable = True
    if conn.queued >= CALLING:
        if mask & <uint32_t> (EPOLLERR | EPOLLHUP):
            if conn.queued == ASKED:
                forget_question(&loop.answering.asking, conn)
            end(conns, fd)       # nothing can be sent to it any more
        return
    if conn.lingering:
        linger(conns, fd, conn)
        return
    loop.answering.requests_left = loop.pipeline_max
    loop.answering.calls_left = CALLS_MAX
    loop.answering.called_at = 0
    loop.answering.output.bytes_left = loop.turn_bytes_max
    if conn.pending.record != NULL:
        if mask and not mask & <uint32_t> (EPOLLOUT | EPOLLERR | EPOLLHUP):
            return               # what the client sends meanwhile waits, and is no progress
        if not goes_on(loop, fd, go_on(&loop.answering, fd, conn)):
            return
    while conn.inbox_len or conn.readable:
        result = read_and_answer(loop, fd, conn)
        if (result != DONE or conn.closing) and not goes_on(loop, fd, result):
            return
        if (conn.inbox_len or conn.readable) and has_had_its_share(&loop.answering):
            run_again(conns, fd)
            return
    if conn.inbox != NULL:
        free_inbox(conn)
    if conns.ending:
        end_idle(conns, fd)


cdef inline bint goes_on(Loop *loop, int fd, int result) noexcept nogil:
    """Whether a connection goes on in this turn after a step that ended so."""
    cdef Conns *conns = &loop.answering.conns
    if result == GONE:
        end(conns, fd)
    elif result == ENOUGH:
        run_again(conns, fd)
    elif result == NOT_YET:
        call_later(conns, fd, loop.answering.calls_left < CALLS_MAX)
    elif result == DONE and conns.all[fd].closing:
        finish(conns, fd, &conns.all[fd])
    else:
        return result == DONE
    return False


cdef inline int read_and_answer(Loop *loop, int fd, Conn *conn) noexcept nogil:
    """What the inbox holds, or else one recv; both where only the beginning of a head is there. As `answer`; DONE, too, when there is
    nothing."""
    cdef char *buffer = loop.answering.conns.buffer
    cdef ssize_t length
    if conn.inbox_len:
        length = conn.inbox_len
        memcpy(buffer, conn.inbox, length)
        if goes_on_unread(conn):
            length = read_behind(&loop.answering.conns, fd, length)
        conn.inbox_len = 0
    else:
        length = recv(fd, buffer, RECV_BYTES, 0)
        if length <= 0:
            return nothing_read(conn, length)
        # Fewer than were asked for: what comes later is told; but not an end that was told already.
        conn.readable = length == RECV_BYTES or conn.hung_up
        conn.read_at = loop.answering.conns.now
    conn.since = loop.answering.conns.now
    return answer(&loop.answering, fd, buffer, length)


# --- new connections ----------------------------------------------------------------------------------------


cdef inline void accept_from(Loop *loop, int listener) noexcept nogil:
    """Accept clients: as many as this turn may. Each is served at once: its request is often there already, and a connection for but one
    is never watched at all."""
    cdef Conns *conns = &loop.answering.conns
    cdef int fd
    begin_to_accept(&loop.accepting)
    while True:
        fd = accept(&loop.accepting, conns, listener)
        if fd < 0:
            break
        serve(loop, fd, 0)
        if conns.all[fd].owner == OWNER_LANE and watch_fresh(conns, fd, &conns.all[fd]) < 0:
            end(conns, fd)
            fd = FOR_PYTHON
            break
    end_accepting(&loop.accepting, conns, listener, fd)


# --- a turn -------------------------------------------------------------------------------------------------


cdef inline void run(Loop *loop, double timeout) noexcept nogil:
    """Serve until Python is needed, the time is over (seconds; -1: without end, or until another lane has something to tell), or the
    second is."""
    cdef Conns *conns = &loop.answering.conns
    cdef double until
    cdef bint worked = False
    conns.now = monotonic()
    until = conns.now + timeout if timeout >= 0 else NEVER
    if is_second_over(loop):
        return
    while True:
        if loop.events_at == loop.events_count:
            if not wait(loop, until, worked):
                return
            worked = True
            if is_second_over(loop):
                return           # Python has its duties of a second; the events wait
        if not take_up_events(loop):
            return
        if conns.again.count:
            take_up_again(loop)
        if are_calls_waiting(conns):
            take_up_calls(loop)
        if conns.due or has_own_chores(loop) or timeout == 0 or is_time(loop, until):
            return


cdef inline bint is_time(const Loop *loop, double until) noexcept nogil:
    """Whether the time is over."""
    if until < NEVER:
        return loop.answering.conns.now >= until
    return loop.answering.number and has_news(&loop.answering.log, &loop.answering.uses, &loop.answering.sightings)


cdef inline bint has_own_chores(const Loop *loop) noexcept nogil:
    return loop.station.has_chores and has_chores(&loop.answering.shared.sites)


cdef inline bint is_second_over(Loop *loop) noexcept nogil:
    """Whether another second has begun. All that is written from now on says that one; between turns nothing refers to the prefixes."""
    cdef Answering *lane = &loop.answering
    if lane.conns.now < lane.seconds.until or not is_another(&lane.seconds, lane.conns.now):
        return False
    date_prefixes(&lane.output, lane.seconds.now)
    time_lines(&lane.log, lane.seconds.now)
    return True


cdef inline bint wait(Loop *loop, double until, bint worked) noexcept nogil:
    """Begin a turn; False when Python is needed instead."""
    cdef Conns *conns = &loop.answering.conns
    cdef int timeout
    if until < NEVER:            # a deadline of Python's: the last turn may have taken long
        conns.now = monotonic()
    if conns.now >= conns.next_sweep:
        sweep(conns)
        if conns.look_at:
            look_after(&loop.accepting, conns)
    if conns.drained:
        conns.drained = False
        return False
    timeout = wait_ms(loop, until, worked)
    if timeout:                  # else servlets go on, and other threads have their turns while they run
        let_gil_go(&loop.answering.gil)
    loop.accepting.left = ACCEPTS_MAX
    loop.answering.calling_left = CALLING_S
    loop.answering.finder.left = FINDS_MAX
    loop.events_at = loop.events_count = 0
    if loop.answering.number:
        timeout = end_turn(loop, timeout)
        wait_for_events(loop, timeout)
        begin_reading(&loop.answering.shared.lanes, &loop.station)
        follow_hosts(&loop.answering.judged, hosts_of(loop.answering.shared))
    else:
        wait_for_events(loop, timeout)
        begin_work(&loop.station)
    begin_turn(&loop.answering)
    if loop.events_count < 0:
        loop.events_count = 0
        return False             # a signal: Python looks after it
    return True


cdef inline void wait_for_events(Loop *loop, int timeout) noexcept nogil:
    end_reading(&loop.station)
    loop.events_count = epoll_wait(loop.answering.conns.epfd, loop.events, EVENTS_MAX, timeout)


cdef inline int end_turn(Loop *loop, int timeout) noexcept nogil:
    """Another lane's turn ends: it tells the first lane what came up in it. How long to wait."""
    cdef Answering *lane = &loop.answering
    give_back(&lane.shared.lanes, &lane.dead)
    if lane.asking.is_stuck:
        take_up_answers(lane)
    if lane.asking.out.first != NULL:
        post(&lane.asking.out, &lane.shared.lanes, 0, ASK, &lane.asking.is_stuck)
    if lane.conns.again.count:   # of what was stuck
        return 0
    return min(timeout, STUCK_MS) if lane.asking.is_stuck and timeout >= 0 else STUCK_MS if lane.asking.is_stuck else timeout


cdef inline int wait_ms(const Loop *loop, double until, bint worked) noexcept nogil:
    """How long to wait. After work there are log lines for Python, and a signal may have come: at most a second."""
    cdef const Conns *conns = &loop.answering.conns
    cdef double at = min(until, conns.now + 1 if worked else NEVER)
    if conns.again.count or are_calls_waiting(conns) or (not worked and has_own_chores(loop)):
        return 0
    if conns.count or conns.look_at:
        at = min(at, conns.next_sweep)
    if loop.station.has_chores and is_waiting(&loop.answering.shared.withdrawn):
        at = min(at, conns.now + WAIT_MS * 0.001)
    return -1 if at == NEVER else <int> (max(at - conns.now, 0) * 1000 + 0.999)


cdef inline bint take_up_events(Loop *loop) noexcept nogil:
    """Serve each event; False when there are more reports than fit."""
    cdef Conns *conns = &loop.answering.conns
    cdef uint64_t data
    cdef uint32_t mask
    cdef int fd
    while loop.events_at < loop.events_count:
        if conns.full:
            return False
        data = loop.events[loop.events_at].data.u64
        mask = loop.events[loop.events_at].events
        loop.events_at += 1
        fd = <int> (data & 0xFFFFFFFFu)
        if conns.all[fd].generation == data >> 32:       # else it is about a connection that was closed
            take_up(loop, fd, mask)
    return True


cdef inline void take_up(Loop *loop, int fd, uint32_t mask) noexcept nogil:
    """Serve an event's descriptor, or tell Python of it."""
    cdef Conns *conns = &loop.answering.conns
    cdef uint8_t owner = conns.all[fd].owner
    if owner == OWNER_LANE:
        serve_in_turn(loop, fd, mask)
    elif owner == OWNER_LISTENER:
        accept_from(loop, fd)
    elif owner == OWNER_PYTHON:
        tell_in_turn(loop, fd, mask)
    elif owner == OWNER_MAIL:
        loop.mail(loop)
    elif owner != OWNER_NONE:
        tell(conns, fd, mask)


cdef inline void serve_in_turn(Loop *loop, int fd, uint32_t mask) noexcept nogil:
    """As `serve`; the interpreter's lock is held from one that needs it to the next."""
    loop.answering.gil.asked = False
    serve(loop, fd, mask)
    if not loop.answering.gil.asked:
        let_gil_go(&loop.answering.gil)


cdef inline void tell_in_turn(Loop *loop, int fd, uint32_t mask) noexcept nogil:
    """Tell Python of its connection's event; where it has enough to do, the event waits, and the lane's clients do not."""
    cdef Conns *conns = &loop.answering.conns
    cdef Conn *conn = &conns.all[fd]
    if mask & <uint32_t> (EPOLLRDHUP | EPOLLHUP):
        conn.hung_up = True      # for when the connection comes back
    conn.events |= mask
    if loop.answering.errands >= loop.answering.errands_max:
        run_again(conns, fd)
        if conn.queued:          # else there is no memory
            return
    loop.answering.errands += 1
    loop.answering.errand_at = monotonic()
    tell(conns, fd, conn.events)
    conn.events = 0


cdef inline void take_up_again(Loop *loop) noexcept nogil:
    """Serve those that had more to do; what comes behind them has its turn the next time, and goes before them then."""
    cdef Conns *conns = &loop.answering.conns
    cdef int fd, at = 0
    cdef int count = min(conns.again.count, RESUMED_MAX)
    loop.answering.turn += 1     # what is read now may be younger than the events
    loop.answering.finder.left = FINDS_MAX       # else events could take them all, each time
    while at < count and not conns.full and may_find(&loop.answering.finder):
        fd = conns.again.fds[at]
        at += 1
        if conns.all[fd].queued != AGAIN:
            continue             # it is about a connection that was closed
        conns.all[fd].queued = False
        if conns.all[fd].owner == OWNER_LISTENER:
            if conns.all[fd].events:
                tell(conns, fd, conns.all[fd].events)
                conns.all[fd].events = 0
            else:
                accept_from(loop, fd)
        elif conns.all[fd].owner == OWNER_LANE:
            serve_in_turn(loop, fd, 0)
        elif conns.all[fd].owner == OWNER_MAIL:
            loop.mail(loop)
        elif conns.all[fd].events:
            tell_in_turn(loop, fd, 0)
    drop_first(&conns.again, at)


cdef inline void take_up_calls(Loop *loop) noexcept nogil:
    """Have servlets called for those that wait, while servlets have time in this turn: half of it at first for the quiet ones."""
    cdef Answering *lane = &loop.answering
    lane.turn += 1               # as above
    lane.is_called_up = True
    if lane.asking.count_here:
        lane.finder.left = FINDS_MAX
        loop.questions(lane, UNKNOWN, 0)
        lane.asking.others_first = not lane.asking.others_first
        if lane.asking.others_first:
            loop.questions(lane, QUIET, CALLING_S / 2)
    call_up(loop, &lane.conns.quiet, CALLING_S / 2)
    if lane.asking.count_here:
        loop.questions(lane, QUIET, CALLING_S / 2)
        if lane.asking.others_first:
            loop.questions(lane, PRESSING, 0)
    call_up(loop, &lane.conns.calling, 0)
    if lane.asking.count_here:
        loop.questions(lane, PRESSING, 0)
    if lane.asking.unsent:
        post_answers(lane)
    lane.is_called_up = False


cdef inline void call_up(Loop *loop, Queue *queue, double left) noexcept nogil:
    """Have those served that have waited longest, until there is so much of the turn's time `left`."""
    cdef Conns *conns = &loop.answering.conns
    cdef int fd, at = 0
    cdef int count = queue.count
    while at < count and not conns.full and loop.answering.calling_left > left:
        fd = queue.fds[at]
        at += 1
        if conns.all[fd].queued == CALLING:      # else it is about a connection that was closed
            conns.all[fd].queued = False
            serve_in_turn(loop, fd, 0)
    conns.calls -= at
    drop_first(queue, at)

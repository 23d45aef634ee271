# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""How connections of the lane end: when they are through, and when their time is over.

Input that comes after a close has the kernel send a reset, which throws away what it still has to send, and what the client
has not read. So a client that may send more gets a FIN and is read from until it ends (`half_close`, RFC 9112 section 9.6);
`sweep` bounds that. A client that has said that it sends no more is relied upon for what has left: should it send all the same,
the reset stands behind the answer. Where a part has not left, it is read from, too, until its kernel has everything: the FIN is
the queue's last byte, and when that is acknowledged an event says that the socket is writable, as it was before.

The unit knows no HTTP.
"""

from libc.string cimport memset

from zcserve.net.lane.atomic cimport load_int, set_int
from zcserve.net.lane.connections cimport (
    CLOSES, CLOSES_DEAF, OWNER_LANE, OWNER_NONE, RECV_BYTES, Conn, Conns, free_inbox, lose, nothing_read, queued_out, run_again,
    unsent, wait_for_unread, watch_fresh,
)
from zcserve.net.lane.counts cimport Clients, show_clients
from zcserve.net.lane.lanes cimport DRAIN, SHUT, order_others
from zcserve.net.lane.output cimport GONE, unpin
from zcserve.net.lane.system cimport FIONREAD, SHUT_WR, close, ioctl, monotonic, recv, shutdown, ssize_t
from zcserve.net.lane.timed cimport complete_pending

cdef enum:
    YOUNG_S = 1                  # the first request of a younger connection may be on its way
    LINGER_READS_MAX = 4         # of one connection in a turn


# --- one connection -------------------------------------------------------------------------------------------


cdef inline void end(Conns *conns, int fd) noexcept nogil:
    """Close a connection of the lane; harmless where a servlet had all of them closed meanwhile."""
    cdef Conn *conn = &conns.all[fd]
    if conn.owner != OWNER_LANE:
        return
    complete_pending(conns.log, &conn.pending, conn.read_at, True)
    unpin(&conn.pending, conns.dead)
    free_inbox(conn)
    conn.owner = OWNER_NONE
    conns.count -= 1
    lose(conns)
    close(fd)


cdef inline void finish(Conns *conns, int fd, Conn *conn) noexcept nogil:
    """The last answer is with the kernel."""
    cdef int unread = 0
    if conn.closing == CLOSES:
        shutdown(fd, SHUT_WR)    # what waits for more to share a packet with, leaves
        ioctl(fd, FIONREAD, &unread)
        if not unread and not unsent(fd):
            end(conns, fd)
            return
    half_close(conns, fd, conn)


cdef inline void part(Conns *conns, int fd) noexcept nogil:
    """End a connection that owes nothing, and has nothing unread."""
    if queued_out(fd):
        half_close(conns, fd, &conns.all[fd])
    else:
        end(conns, fd)


cdef inline void end_idle(Conns *conns, int fd) noexcept nogil:
    """End a connection that owes nothing; the loop sees to the others. A new one gets a little time for its first request."""
    cdef Conn *conn = &conns.all[fd]
    if conn.lingering or conn.queued or conn.pending.record != NULL or fd == conns.asking or wait_for_unread(conns, fd):
        return
    if conn.answered or monotonic() - conn.born >= YOUNG_S:
        part(conns, fd)


cdef inline void half_close(Conns *conns, int fd, Conn *conn) noexcept nogil:
    free_inbox(conn)
    if watch_fresh(conns, fd, conn) < 0 or shutdown(fd, SHUT_WR) < 0:
        end(conns, fd)
        return
    conn.lingering = conn.readable = True
    conn.outq = queued_out(fd)
    conn.since = conns.now
    linger(conns, fd, conn)


cdef inline void linger(Conns *conns, int fd, Conn *conn) noexcept nogil:
    """Throw away what comes in, until the client ends; `sweep` bounds it."""
    cdef int i
    cdef ssize_t length
    for i in range(LINGER_READS_MAX):
        if not conn.readable:
            break
        length = recv(fd, conns.buffer, RECV_BYTES, 0)
        if length <= 0:
            if nothing_read(conn, length) == GONE:
                end(conns, fd)
                return
        else:
            conn.closing = CLOSES_DEAF
            conn.readable = length == RECV_BYTES or conn.hung_up
    if conn.readable:
        run_again(conns, fd)
    elif (conn.closing == CLOSES or conns.hurried) and not queued_out(fd):
        end(conns, fd)


cdef inline void cut(Conns *conns, int fd) noexcept nogil:
    """End a connection in the midst of whatever it was: what is with the kernel still arrives."""
    cdef Conn *conn = &conns.all[fd]
    if conn.handed:
        conn.handed = False
        conn.owner = OWNER_LANE
        conns.count += 1
        conns.foreign -= 1
    complete_pending(conns.log, &conn.pending, conn.read_at, True)
    unpin(&conn.pending, conns.dead)
    if not conn.lingering:
        half_close(conns, fd, conn)
    elif not queued_out(fd):
        end(conns, fd)


cdef inline void drain(Conns *conns, bint draining, bint shut) noexcept nogil:
    """The first lane: each answer is its connection's last, in all lanes, or not any more; `shut`: no client comes, either, which is not
    taken back."""
    set_int(&conns.lanes.draining, draining)
    conns.shut |= shut
    conns.draining = draining or conns.shut
    order_others(conns.lanes, SHUT if shut else DRAIN)


cdef inline void drain_as_told(Conns *conns, bint shut) noexcept nogil:
    """Another lane: as `drain` has ordered."""
    conns.shut |= shut
    conns.draining = conns.shut or load_int(&conns.lanes.draining)


cdef inline void close_all(Conns *conns, bint idle_only) noexcept nogil:
    """End the lane's connections; `idle_only`: those that owe nothing, and the others when they are through. Else there is no
    time but for what is with the kernel: `abort_all` says when that is over."""
    cdef int fd
    conns.draining = conns.shut = conns.ending = True
    conns.hurried |= not idle_only
    for fd in range(conns.size):
        if idle_only:
            if conns.all[fd].owner == OWNER_LANE:
                end_idle(conns, fd)
        elif conns.all[fd].owner == OWNER_LANE or conns.all[fd].handed:
            cut(conns, fd)
    conns.next_sweep = min(conns.next_sweep, conns.now + YOUNG_S / 4.0)      # for the young ones


cdef inline void abort_all(Conns *conns) noexcept nogil:
    """Close what `close_all` has left."""
    cdef int fd
    for fd in range(conns.size):
        end(conns, fd)


# --- when their time is over --------------------------------------------------------------------------------


cdef inline void sweep(Conns *conns) noexcept nogil:
    """End connections whose time is over, and note what each one does."""
    cdef int fd
    cdef Conn *conn
    cdef Clients found
    conns.next_sweep = conns.now + conns.sweep_interval
    if not conns.count:
        return
    memset(&found, 0, sizeof(Clients))
    for fd in range(conns.size):
        conn = &conns.all[fd]
        if conn.owner != OWNER_LANE:
            continue
        note_state(&found, conn)
        if conn.lingering:       # where the client never stops sending, it always has more to do
            sweep_lingering(conns, fd, conn)
        elif conn.queued:
            continue
        elif conn.pending.record != NULL:
            sweep_sending(conns, fd, conn)
        elif conns.now - conn.since > (conns.timeouts.idle if conn.answered else conns.timeouts.head):
            if not wait_for_unread(conns, fd):       # a servlet may have taken long
                part(conns, fd)
        elif conns.ending:
            end_idle(conns, fd)
    show_clients(&conns.clients, &found)


cdef inline void note_state(Clients *found, const Conn *conn) noexcept nogil:
    """What a connection does; one that is idle is none of these."""
    found.ending += conn.lingering
    if conn.lingering:
        return
    if conn.pending.record != NULL:
        found.writing += 1
    elif conn.queued:
        found.waiting += 1
    elif not conn.answered:
        found.reading += 1


cdef inline void sweep_lingering(Conns *conns, int fd, Conn *conn) noexcept nogil:
    cdef int outq = queued_out(fd)
    if outq != conn.outq:
        conn.outq = outq
        conn.since = conns.now
    if conns.now - conn.since > (conns.timeouts.write if outq else conns.timeouts.linger):
        end(conns, fd)


cdef inline void sweep_sending(Conns *conns, int fd, Conn *conn) noexcept nogil:
    """A slow reader reads: what the kernel has to send gets less."""
    cdef int outq = conn.outq
    if conns.now - conn.since <= conns.timeouts.write:
        return
    conn.outq = queued_out(fd)
    if conn.outq < outq:
        conn.since = conns.now
    else:
        end(conns, fd)

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Moving: a connection goes from one lane to another in a letter, with what was read of it, and from the first one to Python.

It leaves the one lane's epoll before the letter is put: a moment later another thread may have closed its descriptor, and its number may be
another connection's. What comes in between is told again where it is watched next (edge-triggered: a descriptor that is added and ready
is told of).
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc

from zcserve.net.lane.connections cimport (
    OWNER_LANE, OWNER_NONE, Conn, Conns, free_inbox, give_place, name_peer, renew, room_for, run_again, show, watch,
)
from zcserve.net.lane.lanes cimport GIVEN, Lanes, send
from zcserve.net.lane.mail cimport Letter
from zcserve.net.lane.output cimport ENOUGH, GONE, HAND_OVER, unpin
from zcserve.net.lane.system cimport EPOLL_CTL_DEL, close, epoll_ctl
from zcserve.net.lane.timed cimport complete_pending, let_pending_go

cdef struct Given:               # in a letter
    int fd
    bint is_pythons              # it is Python's at once
    int made                     # where `Servlets.made` has what was made of its first request, 0 for nothing
    Conn conn


cdef inline int give_away(
    Conns *conns, Lanes *lanes, int to, int fd, Conn *conn, bint is_pythons, int made
) noexcept nogil:
    """A connection of this lane becomes that one's, with its inbox and what is pending. HAND_OVER; ENOUGH where the box is full, and it
    stays for now; GONE where neither can be."""
    cdef Given *given = <Given *> malloc(sizeof(Given))
    if given == NULL:
        return GONE
    given.fd = fd
    given.is_pythons = is_pythons
    given.made = made
    given.conn = conn[0]
    if not conn.fresh:
        epoll_ctl(conns.epfd, EPOLL_CTL_DEL, fd, NULL)
    if not send(lanes, to, Letter(GIVEN, fd, 0, given)):
        free(given)
        return ENOUGH if conn.fresh or watch(conns, fd, False) == 0 else GONE
    conn.inbox = NULL
    conn.inbox_len = 0
    conn.pending.record = NULL
    conn.pending.own = NULL
    conn.pending.lines = NULL
    conn.owner = OWNER_NONE
    conns.count -= 1
    show(conns)
    return HAND_OVER


cdef inline bint take_given(Conns *conns, Given *given) noexcept nogil:
    """It is this lane's now, and is served in this turn. False without memory: it is closed."""
    cdef int fd = given.fd
    cdef Conn *conn
    cdef uint32_t generation
    if room_for(conns, fd) < 0:
        drop_given(conns, given)
        return False
    conn = renew(conns, fd)
    generation = conn.generation
    conn[0] = given.conn
    free(given)
    conn.generation = generation
    conn.owner = OWNER_LANE
    conn.queued = conn.fresh = conn.handed = False
    conn.called_in = conn.told = 0
    conn.readable = True
    conns.count += 1
    show(conns)
    if watch(conns, fd, False) < 0:
        conn.hung_up = True      # it is served once, and then ends
    run_again(conns, fd)
    return True


cdef inline void drop_given(Conns *conns, Given *given) noexcept nogil:
    """No lane takes it: it ends."""
    complete_pending(conns.log, &given.conn.pending, given.conn.read_at, True)
    unpin(&given.conn.pending, conns.dead)
    free_inbox(&given.conn)
    close(given.fd)
    give_place(conns)


cdef inline tuple handed_over(Conns *conns, int fd, dict made):
    """As `Lane.take`. `made`: what the application has made for which descriptor."""
    cdef Conn *conn
    if not 0 <= fd < conns.size or not conns.all[fd].handed:
        return None
    conn = &conns.all[fd]
    conn.handed = False
    data = PyBytes_FromStringAndSize(conn.inbox, conn.inbox_len) if conn.inbox_len else b""
    free_inbox(conn)
    name_peer(conn)
    account = conn.pending.account
    left = let_pending_go(conns.log, &conn.pending, conn.read_at, conns.dead)
    name = conn.name[: conn.name_len].decode("ascii")
    answer, request_id = made.pop(fd, (None, b""))
    return name, data, conn.in_vain, bool(conn.hung_up), answer, left, account, conn.read_at, request_id


cdef inline int discard_all(dict made) except -1:
    """What the application has made for connections that are not taken any more."""
    for answer, _ in made.values():
        answer.discard()
    made.clear()
    return 0

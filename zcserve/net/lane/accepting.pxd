# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Accepting: which lane takes a new client.

Each lane has a descriptor of its own for each listener, in its epoll. With several lanes the kernel wakes one that waits, and tells all
that do not (EPOLLEXCLUSIVE; those that work look when they have time). The first lane is the last in the kernel's order: Python has other
things to do. So a client that asks once and goes is served where there is time, and no lane says a word to another.

The gate. A lane that has more connections than the one with the fewest leaves the client, and orders that one to look (ACCEPT). It
counts what is here: a connection that stays for long weighs, one that is over does not. The order is remembered, as is the look that answers
it (`Station.asked`, `looked`): where it was not answered after PATIENCE_S, and that lane does not wait in the kernel, it is slow (Python holds
it), and is not told any more until it has looked. So no client waits longer for it, and the others share what comes.

A client that was told to a lane is looked after by this lane until it is accepted, or another one was ordered to: before a lane gives up a
listener, which another process may have, too, it accepts once more.

What only Python can do (no descriptor is left, there are too many connections, an error) is the first lane's: another one says which
listener it is about (TROUBLE), and the first reports it to Python.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from zcserve.net.lane.atomic cimport acquire, acquire_int, add_int, look_int, release_int, swap, unite
from zcserve.net.lane.connections cimport (
    OWNER_LANE, OWNER_LISTENER, OWNER_NONE, Conn, Conns, give_place, renew, resume, room_for, run_again, show, take_place, tell, tell_if_over,
    watch_for,
)
from zcserve.net.lane.counts cimport count_client
from zcserve.net.lane.lanes cimport ACCEPT, LEAVE, LISTEN, STAND_BEHIND, TROUBLE, Lanes, Station, order, order_others, send, waits
from zcserve.net.lane.mail cimport Letter
from zcserve.net.lane.moving cimport give_away
from zcserve.net.lane.system cimport (
    AF_INET, AF_INET6, EAGAIN, EPOLLEXCLUSIVE, EPOLLIN, EPOLL_CTL_DEL, F_DUPFD_CLOEXEC, SOCK_CLOEXEC, SOCK_NONBLOCK, accept4, close,
    POLLIN, epoll_ctl, errno, fcntl, monotonic, poll, pollfd, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t,
)

cdef enum:
    ACCEPTS_MAX = 64             # in a turn
    ACCEPTS_MIN = 8              # in a turn, however long they take
    LISTENERS_MAX = 64           # that lanes share; more are the first lane's alone
    GATE = 1                     # connections more than the lane with the fewest has
    WAITS_MAX = 3                # times that a lane which waits for a processor is given PATIENCE_S more
    IN_VAIN_MAX = 1              # `Conn.in_vain` of one that goes to another lane when Python gives it back
    GATE_SHARE = 32              # and one more for so many that it has

cdef enum:                       # why no client was accepted
    NONE = -1                    # there is none, or another lane is to
    LATER = -2                   # this turn has had its share
    FOR_PYTHON = -3

cdef extern from *:
    """
    #define ZC_ACCEPTING_S 0.0005
    #define ZC_PATIENCE_S 0.008
    """
    const double ACCEPTING_S "ZC_ACCEPTING_S"    # in a turn new clients are accepted, and served, for so long
    const double PATIENCE_S "ZC_PATIENCE_S"

cdef struct Accepting:           # of one lane
    int left                     # clients that may be accepted in this turn
    double until                 # the time for those of one listener is over then
    bint freely                  # past the gate
    int count                    # of listeners
    int fds[LISTENERS_MAX]
    int numbers[LISTENERS_MAX]   # by which all lanes know them
    uint64_t unlooked            # listeners, by number, that were not looked at since the last order
    int asked                    # `Station.asked` at that time
    uint64_t told                # lanes that were ordered to look
    int waited                   # how often their time was prolonged
    uint64_t slow                # lanes that did not in time


cdef inline uint64_t bit(int number) noexcept nogil:
    return (<uint64_t> 1) << number


# --- listeners ----------------------------------------------------------------------------------------------


cdef inline int open_listener(Accepting *accepting, Conns *conns, int fd) except -1:
    """Python's thread: accept the clients of a listener that Python has opened, in all lanes. Raises OSError, MemoryError."""
    cdef Lanes *lanes = conns.lanes
    cdef int i, other, number = lanes.listeners
    if room_for(conns, fd) < 0:
        raise MemoryError
    if not listen(accepting, conns, fd, number):
        raise OSError(errno, "epoll_ctl")
    lanes.listeners += 1
    if number >= LISTENERS_MAX:
        return 0
    for i in range(1, lanes.count):
        other = fcntl(fd, F_DUPFD_CLOEXEC, 0)
        if other < 0:
            raise OSError(errno, "fcntl")
        add_int(&lanes.listening, 1)
        if not send(lanes, i, Letter(LISTEN, other, number, NULL)):
            close(other)
            add_int(&lanes.listening, -1)
    return 0


cdef inline bint listen(Accepting *accepting, Conns *conns, int fd, int number) noexcept nogil:
    """Watch a listener. False where it cannot be, with errno."""
    renew(conns, fd)
    if watch_for(conns, fd, <uint32_t> EPOLLEXCLUSIVE if conns.lanes.count > 1 else 0) < 0:
        return False
    conns.all[fd].owner = OWNER_LISTENER
    if number < LISTENERS_MAX:
        accepting.fds[accepting.count] = fd
        accepting.numbers[accepting.count] = number
        accepting.count += 1
    return True


cdef inline void listen_too(Accepting *accepting, Conns *conns, int fd, int number) noexcept nogil:
    """Another lane than the first, which stands behind it then."""
    if room_for(conns, fd) < 0 or not listen(accepting, conns, fd, number):
        close(fd)
        add_int(&conns.lanes.listening, -1)
    order(conns.lanes, 0, STAND_BEHIND)


cdef inline void stand_behind(const Accepting *accepting, const Conns *conns) noexcept nogil:
    """The first lane: be the last that the kernel tells."""
    cdef int i
    for i in range(accepting.count):
        epoll_ctl(conns.epfd, EPOLL_CTL_DEL, accepting.fds[i], NULL)
        watch_for(conns, accepting.fds[i], <uint32_t> EPOLLEXCLUSIVE)


cdef inline void close_listener(Accepting *accepting, Conns *conns, int fd) noexcept nogil:
    """Python's thread: it closes this listener. The others give it up soon: `Lanes.listening` says when they have."""
    cdef int i
    for i in range(accepting.count):
        if accepting.fds[i] == fd:
            unite(&conns.lanes.closed, bit(accepting.numbers[i]))
            drop_listener(accepting, i)
            order_others(conns.lanes, LEAVE)
            return


cdef inline void drop_listener(Accepting *accepting, int i) noexcept nogil:
    accepting.unlooked &= ~bit(accepting.numbers[i])
    accepting.count -= 1
    accepting.fds[i] = accepting.fds[accepting.count]
    accepting.numbers[i] = accepting.numbers[accepting.count]


cdef inline int next_closed(const Accepting *accepting, const Conns *conns) noexcept nogil:
    """Another lane: a listener that Python has closed, -1: there is none."""
    cdef int i
    for i in range(accepting.count):
        if acquire(&conns.lanes.closed) & bit(accepting.numbers[i]):
            return accepting.fds[i]
    return -1


cdef inline void leave(Accepting *accepting, Conns *conns, int fd) noexcept nogil:
    """Another lane: close its descriptor of a listener."""
    cdef int i
    for i in range(accepting.count):
        if accepting.fds[i] == fd:
            drop_listener(accepting, i)
            break
    conns.all[fd].owner = OWNER_NONE
    conns.all[fd].queued = False
    close(fd)
    add_int(&conns.lanes.listening, -1)
    tell_if_over(conns)


# --- the gate -----------------------------------------------------------------------------------------------


cdef inline bint owes_a_look(const Station *station) noexcept nogil:
    """Whether it was ordered to look, and has not."""
    return look_int(&station.asked) != acquire_int(&station.looked)


cdef inline int fewest(Accepting *accepting, const Conns *conns) noexcept nogil:
    """The lane that is to have the next connection: this one, unless it has clearly more than another that is not slow."""
    cdef const Lanes *lanes = conns.lanes
    cdef int i, load, least = conns.number, few = look_int(&conns.station.load)
    cdef int own = few
    for i in range(lanes.count):
        if accepting.slow & bit(i):
            if owes_a_look(lanes.stations[i]):
                continue
            accepting.slow &= ~bit(i)
        load = look_int(&lanes.stations[i].load)
        if load < few and load + GATE + load // GATE_SHARE < own:
            few = load
            least = i
    return least


cdef inline bint is_gated(Accepting *accepting, Conns *conns, int listener) noexcept nogil:
    """Whether a client, if there is one, is another lane's: that one is ordered to look."""
    cdef Lanes *lanes = conns.lanes
    cdef int least
    if lanes.count == 1 or accepting.freely:
        return False
    least = fewest(accepting, conns)
    if least == conns.number:
        return False
    if not is_readable(listener):
        return True
    add_int(&lanes.stations[least].asked, 1)
    order(lanes, least, ACCEPT)
    accepting.told |= bit(least)
    if not conns.look_at:
        conns.look_at = monotonic() + PATIENCE_S
        conns.next_sweep = min(conns.next_sweep, conns.look_at)
    return True


cdef inline bint is_readable(int fd) noexcept nogil:
    cdef pollfd one
    one.fd, one.events, one.revents = fd, POLLIN, 0
    return poll(&one, 1, 0) > 0


cdef inline void look(Accepting *accepting, Conns *conns) noexcept nogil:
    """Look at all listeners, in this turn."""
    cdef int i
    for i in range(accepting.count):
        run_again(conns, accepting.fds[i])


cdef inline void look_as_told(Accepting *accepting, Conns *conns) noexcept nogil:
    """Another lane has ordered it."""
    cdef int i
    accepting.asked = acquire_int(&conns.station.asked)
    for i in range(accepting.count):
        accepting.unlooked |= bit(accepting.numbers[i])
    look(accepting, conns)


cdef inline void look_after(Accepting *accepting, Conns *conns) noexcept nogil:
    """PATIENCE_S after an order to others: where one has not looked, and does not wait, this lane looks. One that waits was woken, and only
    has no processor yet: it is given more time."""
    cdef const Station *station
    cdef uint64_t slow = 0, told = 0
    cdef int i
    if conns.now >= conns.look_at:
        for i in range(conns.lanes.count):
            station = conns.lanes.stations[i]
            if not accepting.told & bit(i) or not owes_a_look(station):
                continue
            if waits(station) and accepting.waited < WAITS_MAX:
                told |= bit(i)
            else:
                slow |= bit(i)
        accepting.told = told
        accepting.slow |= slow
        accepting.waited = accepting.waited + 1 if told else 0
        conns.look_at = conns.now + PATIENCE_S if told else 0
        if slow:
            look(accepting, conns)
    if conns.look_at:
        conns.next_sweep = min(conns.next_sweep, conns.look_at)


# --- clients ------------------------------------------------------------------------------------------------


cdef inline void begin_to_accept(Accepting *accepting) noexcept nogil:
    accepting.until = monotonic() + ACCEPTING_S


cdef inline int accept(Accepting *accepting, Conns *conns, int listener) noexcept nogil:
    """Accept one client: its descriptor, or why not. Where serving those before took long, as it does for much content, others have their
    turn between: clients that go and come again would hold it for ever."""
    cdef sockaddr_storage address
    cdef socklen_t length = sizeof(sockaddr_storage)
    cdef int fd
    if accepting.left <= ACCEPTS_MAX - ACCEPTS_MIN and monotonic() > accepting.until:
        accepting.left = 0
    if accepting.left <= 0 or conns.full:
        return LATER
    if is_gated(accepting, conns, listener):
        return NONE
    if conns.shut and not conns.number or not take_place(conns):
        return FOR_PYTHON
    fd = accept4(listener, <sockaddr *> &address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if fd < 0:
        give_place(conns)
        return NONE if errno == EAGAIN else FOR_PYTHON
    accepting.left -= 1
    if room_for(conns, fd) < 0:
        close(fd)
        give_place(conns)
        return FOR_PYTHON
    take_in(conns, fd, &address)
    return fd


cdef inline void take_in(Conns *conns, int fd, const sockaddr_storage *address) noexcept nogil:
    """A new connection of the lane."""
    cdef Conn *conn = renew(conns, fd)
    conn.owner = OWNER_LANE
    conn.family = <uint8_t> address.ss_family
    if address.ss_family == AF_INET:
        memcpy(conn.address, &(<const sockaddr_in *> address).sin_addr, 4)
    elif address.ss_family == AF_INET6:
        memcpy(conn.address, &(<const sockaddr_in6 *> address).sin6_addr, 16)
    conn.fresh = conn.readable = True
    conn.born = monotonic()
    conns.count += 1
    count_client(&conns.clients)
    show(conns)


cdef inline void end_accepting(Accepting *accepting, Conns *conns, int listener, int why) noexcept nogil:
    """No more are accepted from this listener now."""
    cdef int number
    if why == LATER:
        run_again(conns, listener)
        return
    number = number_of(accepting, listener)
    if why == FOR_PYTHON:
        if not conns.number:
            tell(conns, listener, <uint32_t> EPOLLIN)
        else:
            unite(&conns.lanes.troubled, bit(number))
            order(conns.lanes, 0, TROUBLE)
    if accepting.unlooked:
        accepting.unlooked &= ~bit(number)
        if not accepting.unlooked:
            release_int(&conns.station.looked, accepting.asked)


cdef inline int number_of(const Accepting *accepting, int listener) noexcept nogil:
    cdef int i
    for i in range(accepting.count):
        if accepting.fds[i] == listener:
            return accepting.numbers[i]
    return 0


# --- what Python is to see to -------------------------------------------------------------------------------


cdef inline void report(Accepting *accepting, Conns *conns, uint64_t numbers) noexcept nogil:
    """The first lane: have Python told of these listeners, in this turn or the next."""
    cdef int i
    for i in range(accepting.count):
        if numbers & bit(accepting.numbers[i]):
            conns.all[accepting.fds[i]].events = <uint32_t> EPOLLIN
            run_again(conns, accepting.fds[i])


cdef inline void report_troubled(Accepting *accepting, Conns *conns) noexcept nogil:
    report(accepting, conns, swap(&conns.lanes.troubled, 0))


# --- what Python gives back ---------------------------------------------------------------------------------


cdef inline void take_back(Accepting *accepting, Conns *conns, int fd, Conn *conn, double since) noexcept nogil:
    """A connection of Python's, which answered it last at `since`, becomes that of the lane with the fewest; but the first lane's, where
    it comes back to Python each time: from there the way is shorter."""
    cdef int least = fewest(accepting, conns)
    resume(conns, fd, conn, since)
    if least and conn.in_vain <= IN_VAIN_MAX:
        give_away(conns, conns.lanes, least, fd, conn, False, 0)

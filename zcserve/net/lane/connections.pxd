# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Connections: which there are, and whose they are.

A descriptor's number has an owner: the lane, Python (`OWNER_PYTHON`: the lane only reports its events), or no connection at
all. Each owner of a number has a generation, which its events carry, so that an event of the owner before is not taken for
one of the present owner. The table of them grows and never moves (steady.pxd): a `Conn` is where it is.

Connections are counted when they come and when they go: those of the lane, for the others to see, and those of all lanes. One that goes
from one lane to another is counted in all the time.

The unit knows no HTTP. `wait_for_unread` and `run_again` are how it has a connection served; how one ends is endings.pxd's.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from zcserve.net.lane.atomic cimport add_int, load_int, replace_int, set_int
from zcserve.net.lane.counts cimport Clients
from zcserve.net.lane.growing cimport grown
from zcserve.net.lane.lanes cimport OVER, Lanes, Station, order
from zcserve.net.lane.log cimport Log
from zcserve.net.lane.output cimport DONE, ENOUGH, GONE, Pending, unpin
from zcserve.net.lane.proxies cimport NAME_MAX
from zcserve.net.lane.records cimport Dead
from zcserve.net.lane.steady cimport give_addresses, have_memory, take_addresses
from zcserve.net.lane.system cimport (
    AF_INET, AF_INET6, EAGAIN, EINTR, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL,
    MSG_DONTWAIT, MSG_PEEK, RLIMIT_NOFILE, SIOCOUTQ, SIOCOUTQNSD, close, epoll_create1, epoll_ctl, epoll_event, errno, getrlimit,
    inet_ntop, ioctl, memmem, recv, rlim_t, rlimit, ssize_t,
)
from zcserve.net.lane.text cimport c_length

cdef enum:
    RECV_BYTES = 16384
    DESCRIPTORS_MAX = 0x1000000  # whose connections have a place: as many as the process may ever have, and at most so many
    DESCRIPTORS_MIN = 1024       # and at least so many
    REPORTS_MAX = 512            # events, hand-overs and listeners that one call of `poll` tells of
    WORTH_GIVING = 4             # a hand-over costs what this many requests save that are answered here (net/stay.py)

cdef enum:
    OWNER_NONE = 0
    OWNER_LANE = 1
    OWNER_PYTHON = 2
    OWNER_LISTENER = 3
    OWNER_SOURCE = 4             # Python's, and no client
    OWNER_MAIL = 5               # the lane's own mailbox

cdef enum:                       # `Conn.trust`
    NOT_ASKED = 0
    TRUSTED = 1
    NOT_TRUSTED = 2

cdef enum:                       # `Conn.queued`: the queue that it stands in
    AGAIN = 1
    CALLING = 2
    ASKED = 3                    # none: the first lane is asked, and till it answers the connection is frozen as one in `calling` is

cdef enum:                       # `Conn.told`, 0 for nothing
    TOLD_MAX = 127               # 1 + `answered` % TOLD_MAX: the lane was told to look again at the request behind those
    BEGUN = 255                  # the first lane has answered what stood before the rest of the inbox

cdef enum:                       # `Conn.closing`
    STAYS = 0
    CLOSES = 1                   # when what is pending is out: the client has said so, and that it sends no more
    CLOSES_DEAF = 2              # likewise, and the client may send more, which nothing reads

cdef struct Conn:
    uint32_t generation          # of the descriptor's number: an event of the connection before carries another
    uint8_t owner
    uint8_t closing
    uint8_t queued
    uint8_t readable             # an edge told so, and no recv has found the socket empty since
    uint8_t hung_up              # the peer sends no more
    uint8_t fresh                # accepted, and not watched yet
    uint8_t handed               # handed over, and not taken yet: `inbox` is what was read
    uint8_t lingering            # the output has ended with a FIN; what comes in is thrown away
    uint8_t in_vain              # how often in a row it was handed over with too little answered here in between
    uint8_t told                 # by the first lane
    uint16_t question            # while it is ASKED: its number (asking.pxd)
    uint32_t events              # of Python's connection, that it was not told yet
    uint8_t trust                # whether the peer is a proxy that is listened to
    uint8_t is_measured          # when what is pending is out, that is a duration (counts.pxd)
    uint8_t family
    unsigned char address[16]
    uint8_t name_len             # the peer as the log writes it, 0 until it does
    char name[NAME_MAX]
    uint64_t answered            # with one it is idle, and waits no more for the first head
    uint64_t called_in           # the turn in which a servlet was called for it last
    uint64_t given               # how many they were when Python gave it
    double born                  # when it was accepted
    double since                 # of the last answer, or of the last progress of what is pending
    double read_at               # when the turn began in which the request at hand was read
    Pending pending              # while it has a record; of one that is handed over, what is to be sent first
    int outq                     # bytes that the kernel had to send when that was looked at
    uint32_t inbox_len
    char *inbox                  # read, and to be answered when all that is left is out

cdef struct Report:              # for Python: what is ready, or 0 for a connection that is handed over
    int fd
    uint32_t mask

cdef struct Timeouts:            # seconds
    double idle, head, write, linger

cdef struct Queue:               # of descriptors
    int *fds
    int count
    size_t room

cdef struct Conns:
    Conn *all                    # by descriptor
    int size, size_max
    int epfd
    double now
    Lanes *lanes
    Station *station             # of this lane
    int number                   # likewise; 0: the first
    int count                    # connections of the lane
    int foreign                  # connections of Python
    int most                     # of both together, in all lanes, when one comes
    bint draining, ending        # each answer is its connection's last; idle connections are closed, too
    bint shut                    # no client comes any more: the server ends. Then it drains as well
    bint hurried                 # and what has ended is closed as soon as everything has arrived
    bint drained                 # the last one of all is gone and Python was not told yet; the first lane's
    bint due                     # Python is to have its turn when this one is over
    bint full                    # or before anything else is done
    int asking                   # the connection whose request a servlet is answering, -1 for none
    Queue again                  # connections and listeners that have more to do
    Queue calling                # connections whose next request waits for its servlet to be called
    Queue quiet                  # those of them that had all they asked for before: they come first
    int calls                    # what waits for servlets: those in `calling` and `quiet`, and what other lanes ask (asking.pxd)
    double sweep_interval, next_sweep
    double look_at               # when listeners are looked after (accepting.pxd), 0: not; `next_sweep` is not later
    Timeouts timeouts
    Clients clients              # what Python is told of them
    Dead *dead                   # where a record goes that was sent from
    Log *log                     # of this lane
    char *buffer                 # of RECV_BYTES
    int reports_count
    Report reports[REPORTS_MAX]


# --- descriptors --------------------------------------------------------------------------------------------


cdef inline void close_epoll(Conns *conns) noexcept nogil:
    """Nothing is watched any more."""
    if conns.epfd >= 0:
        close(conns.epfd)
        conns.epfd = -1


cdef inline int open_conns(Conns *conns) except -1:
    """Have a place for each descriptor that there may be, and what is read and waited with. Raises OSError, MemoryError."""
    cdef rlimit limit
    if getrlimit(RLIMIT_NOFILE, &limit) < 0:
        raise OSError(errno, "getrlimit")
    conns.size_max = <int> min(limit.rlim_max, <rlim_t> DESCRIPTORS_MAX)
    conns.all = <Conn *> take_addresses(&conns.size_max, sizeof(Conn), DESCRIPTORS_MIN)
    conns.buffer = <char *> malloc(RECV_BYTES)
    if conns.all == NULL or conns.buffer == NULL:
        raise MemoryError
    conns.epfd = epoll_create1(EPOLL_CLOEXEC)
    if conns.epfd < 0:
        raise OSError(errno, "epoll_create1")
    return 0


cdef inline int room_for(Conns *conns, int fd) noexcept nogil:
    """0, or -1 without memory."""
    cdef int size
    if fd < conns.size:
        return 0
    size = min(2 * fd + 64, conns.size_max)
    if fd >= size or not have_memory(conns.all, size * sizeof(Conn)):
        return -1
    conns.size = size
    return 0


cdef inline Conn *renew(Conns *conns, int fd) noexcept nogil:
    """A descriptor's number has another owner."""
    cdef Conn *conn = &conns.all[fd]
    cdef uint32_t generation = conn.generation + 1
    memset(conn, 0, sizeof(Conn))
    conn.generation = generation
    conn.born = conn.since = conns.now
    return conn


cdef inline int watch(const Conns *conns, int fd, bint source) noexcept nogil:
    """Have epoll tell of a descriptor: 0, or -1 with errno."""
    return watch_for(conns, fd, 0 if source else <uint32_t> EPOLLOUT | EPOLLRDHUP)


cdef inline int watch_for(const Conns *conns, int fd, uint32_t more) noexcept nogil:
    """As `watch`; of `more` than that it can be read from."""
    cdef epoll_event event
    memset(&event, 0, sizeof(epoll_event))
    event.data.u64 = <uint64_t> conns.all[fd].generation << 32 | <uint32_t> fd
    event.events = <uint32_t> EPOLLET | EPOLLIN | more
    return epoll_ctl(conns.epfd, EPOLL_CTL_ADD, fd, &event)


cdef inline int watch_fresh(const Conns *conns, int fd, Conn *conn) noexcept nogil:
    if not conn.fresh:
        return 0
    conn.fresh = False
    return watch(conns, fd, False)


cdef inline int register(Conns *conns, int fd, uint8_t owner, bint stream) except -1:
    """Watch a descriptor that Python opened; a `stream` is written to, too. Raises OSError, MemoryError."""
    if room_for(conns, fd) < 0:
        raise MemoryError
    renew(conns, fd)
    if watch(conns, fd, not stream) < 0:
        raise OSError(errno, "epoll_ctl")
    conns.all[fd].owner = owner
    if owner == OWNER_PYTHON:
        conns.foreign += 1
        add_int(&conns.lanes.connections, 1)
        show(conns)
    return 0


cdef inline void forget(Conns *conns, int fd) noexcept:
    """Python closes this descriptor. It is taken out of epoll at once: its open file may live on in another process."""
    cdef Conn *conn
    if not 0 <= fd < conns.size:
        return
    conn = &conns.all[fd]
    if conn.owner == OWNER_LANE or conn.owner == OWNER_NONE:
        return
    epoll_ctl(conns.epfd, EPOLL_CTL_DEL, fd, NULL)
    if conn.owner == OWNER_PYTHON:
        conns.foreign -= 1
        lose(conns)
    conn.owner = OWNER_NONE
    free_inbox(conn)


cdef inline void introduce(Conn *conn, int family, bytes address) noexcept:
    conn.family = <uint8_t> family
    memcpy(conn.address, <const char *> address, min(len(address), 16))


cdef inline int count_inboxes(const Conns *conns) noexcept nogil:
    cdef int fd, held = 0
    for fd in range(conns.size):
        held += conns.all[fd].inbox != NULL
    return held


cdef inline Conn *foreign_conn(Conns *conns, int fd) except NULL:
    """A connection of Python's. Raises ValueError."""
    if not 0 <= fd < conns.size or conns.all[fd].owner != OWNER_PYTHON:
        raise ValueError(f"descriptor {fd} is no connection of Python's")
    return &conns.all[fd]


cdef inline void resume(Conns *conns, int fd, Conn *conn, double since) noexcept nogil:
    """A connection of Python's, which answered it last at `since`, becomes the lane's."""
    conn.owner = OWNER_LANE
    conn.answered += 1
    conn.given = conn.answered
    conn.closing = STAYS
    conn.events = 0
    conn.readable = True         # edges that Python did not act upon are not told again
    conn.since = since
    conns.count += 1
    conns.foreign -= 1
    run_again(conns, fd)


cdef inline void hand(Conns *conns, int fd, Conn *conn) noexcept nogil:
    """A connection of the lane becomes Python's, which may `take` it."""
    conn.owner = OWNER_PYTHON
    conn.handed = True
    if conn.answered - conn.given >= WORTH_GIVING:
        conn.in_vain = 0
    elif conn.in_vain < 255:
        conn.in_vain += 1
    conns.count -= 1
    conns.foreign += 1
    tell(conns, fd, 0)


cdef inline void name_peer(Conn *conn) noexcept nogil:
    if conn.name_len:
        return
    if conn.family == AF_INET or conn.family == AF_INET6:
        inet_ntop(conn.family, conn.address, conn.name, NAME_MAX)
        conn.name_len = <uint8_t> c_length(conn.name)
    else:
        memcpy(conn.name, b"unix:", 5)
        conn.name_len = 5


# --- how many there are -------------------------------------------------------------------------------------


cdef inline bint take_place(Conns *conns) noexcept nogil:
    """Have a place for one connection more; False where there are as many as there may be. The count is never above that, not even
    for a moment."""
    cdef int count = load_int(&conns.lanes.connections)
    while count < conns.most:
        if replace_int(&conns.lanes.connections, &count, count + 1):
            return True
    return False


cdef inline void give_place(Conns *conns) noexcept nogil:
    """A connection that had a place is gone, or did not come."""
    if not add_int(&conns.lanes.connections, -1):
        tell_if_over(conns)


cdef inline int count_all(const Conns *conns) noexcept nogil:
    """Connections of all lanes, and of Python; when they are shut, listeners, too, that a lane has not given up."""
    cdef const Lanes *lanes = conns.lanes
    return load_int(&lanes.connections) + (load_int(&lanes.listening) if conns.shut else 0)


cdef inline void show(Conns *conns) noexcept nogil:
    """The others see how many connections this lane has."""
    set_int(&conns.station.load, conns.count + conns.foreign)


cdef inline void lose(Conns *conns) noexcept nogil:
    """A connection has ended, and is counted in `Conns` no more."""
    show(conns)
    give_place(conns)


cdef inline void tell_if_over(Conns *conns) noexcept nogil:
    """Where no lane has a connection any more, nor will have, and that was waited for, Python hears of it."""
    if not conns.shut or count_all(conns):
        return
    if not conns.number:
        conns.drained = True
    else:
        order(conns.lanes, 0, OVER)


# --- what is to be done -------------------------------------------------------------------------------------


cdef inline void tell(Conns *conns, int fd, uint32_t mask) noexcept nogil:
    """Report to Python; where it is not `full`, there is a place for it."""
    conns.reports[conns.reports_count].fd = fd
    conns.reports[conns.reports_count].mask = mask
    conns.reports_count += 1
    conns.due = True
    if conns.reports_count >= REPORTS_MAX - 1:
        conns.full = True        # one place is kept: a listener may report itself besides its client


cdef inline list reported(const Conns *conns):
    """As `Lane.poll`."""
    cdef int i
    return [(conns.reports[i].fd, conns.reports[i].mask) for i in range(conns.reports_count)]


cdef inline void run_again(Conns *conns, int fd) noexcept nogil:
    if not conns.all[fd].queued and put_last(&conns.again, fd):
        conns.all[fd].queued = AGAIN


cdef inline bint are_calls_waiting(const Conns *conns) noexcept nogil:
    return conns.calls > 0


cdef inline void call_later(Conns *conns, int fd, bint is_begun) noexcept nogil:
    """A request waits for its servlet. `is_begun`: others before it had theirs called in this turn. As many new clients may come as want
    to: they stand behind those that are here."""
    cdef Conn *conn = &conns.all[fd]
    if put_last(&conns.calling if is_begun or not conn.answered else &conns.quiet, fd):
        conn.queued = CALLING
        conns.calls += 1


cdef inline bint put_last(Queue *queue, int fd) noexcept nogil:
    """False without memory."""
    cdef int *fds
    if <size_t> queue.count == queue.room:
        fds = <int *> grown(queue.fds, &queue.room, sizeof(int))
        if fds == NULL:
            return False
        queue.fds = fds
    queue.fds[queue.count] = fd
    queue.count += 1
    return True


cdef inline void drop_first(Queue *queue, int count) noexcept nogil:
    queue.count -= count
    if count and queue.count:
        memmove(queue.fds, queue.fds + count, queue.count * sizeof(int))


cdef inline bint wait_for_unread(Conns *conns, int fd) noexcept nogil:
    """Whether an idle connection has sent what was not read yet: it is read next, and so answered."""
    cdef char unread
    if recv(fd, &unread, 1, MSG_PEEK | MSG_DONTWAIT) <= 0:
        return False
    conns.all[fd].readable = True
    run_again(conns, fd)
    return True


# --- what was read, and what is to be sent ------------------------------------------------------------------


cdef inline int keep_input(Conn *conn, const char *p, const char *end) noexcept nogil:
    """Have `p` to `end` be the inbox. DONE, or GONE without memory."""
    cdef size_t length = end - p
    cdef char *inbox = <char *> realloc(conn.inbox, length)
    if inbox == NULL:
        return GONE
    memcpy(inbox, p, length)
    conn.inbox = inbox
    conn.inbox_len = <uint32_t> length
    return DONE


cdef inline bint goes_on_unread(const Conn *conn) noexcept nogil:
    """Whether the inbox is the beginning of a head, whose rest may have come already: a full buffer ends anywhere."""
    if not conn.readable or not conn.inbox_len or conn.inbox_len >= RECV_BYTES:
        return False
    return memmem(conn.inbox, conn.inbox_len, b"\r\n\r\n", 4) == NULL


cdef inline size_t read_behind(Conns *conns, int fd, size_t length) noexcept nogil:
    """Read what has come behind the `length` bytes in the buffer. How many they are with it."""
    cdef Conn *conn = &conns.all[fd]
    cdef ssize_t more = recv(fd, conns.buffer + length, RECV_BYTES - length, 0)
    if more <= 0:
        conn.readable = False    # a client's end is Python's to see, behind a request that is not whole
        return length
    conn.readable = length + <size_t> more == RECV_BYTES or conn.hung_up
    conn.read_at = conns.now
    return length + <size_t> more


cdef inline void free_inbox(Conn *conn) noexcept nogil:
    free(conn.inbox)
    conn.inbox = NULL
    conn.inbox_len = 0


cdef inline int nothing_read(Conn *conn, ssize_t length) noexcept nogil:
    """What a recv means that brought nothing. DONE: the socket is empty."""
    if length < 0 and errno == EAGAIN:
        conn.readable = False
        return DONE
    return ENOUGH if length < 0 and errno == EINTR else GONE


cdef inline int queued_out(int fd) noexcept nogil:
    """Bytes that the kernel has taken and the peer has not acknowledged."""
    cdef int count = 0
    ioctl(fd, SIOCOUTQ, &count)
    return count


cdef inline int unsent(int fd) noexcept nogil:
    """Bytes that the kernel has taken and that have not left: the rest goes before all that a close may lead to. A unix socket
    has no such count: what it takes is with the peer."""
    cdef int count = 0
    ioctl(fd, SIOCOUTQNSD, &count)
    return count


# --- the end of the lane ------------------------------------------------------------------------------------


cdef inline void free_all(Conns *conns) noexcept:
    """For the end of the lane: what connections hold, and the tables."""
    cdef int fd
    for fd in range(conns.size):
        unpin(&conns.all[fd].pending, conns.dead)
        free(conns.all[fd].pending.lines)
        free(conns.all[fd].inbox)
    if conns.epfd >= 0:
        close(conns.epfd)
    free(conns.buffer)
    give_addresses(conns.all, conns.size_max * sizeof(Conn))
    free(conns.again.fds)
    free(conns.calling.fds)
    free(conns.quiet.fds)

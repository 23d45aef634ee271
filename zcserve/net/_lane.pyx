# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: auto_pickle=False, autotestdict=False
# All memory here is raw C memory with its length beside it: there is nothing for Cython's own checks to check.
"""The compiled fast lane: answers what is plain and hot before Python hears of it.

`Lane` offers the loop what `poller.Poller` offers, and answers in front of it: a well-formed GET or HEAD of a resource it was
taught, whose field values it was taught too. All else goes to the general lane with the bytes already read. So there is
no policy and no truth here, as there is none in a TLB: what a Host, an Accept-Encoding or a Connection value means
was decided in Python and learned (`learn`), what a path leads to was looked up in Python and put (`put`), and both can
be forgotten at any time. For what leads to nothing that was put, an application may know who answers it at once, in Python
(`consult`): that is put, too, and the answer is sent from here.

Two tiers. The functions marked `noexcept nogil` work on primitives and return numbers; the class puts Python around them. A
connection belongs either to the lane (no Python object knows it) or to Python (`OWNER_PYTHON`: the lane only reports its events).

Memory. A `Record` refers to bytes that Python objects own (bodies in slabs and pages); it holds those objects by `keep` until
it is dropped and nothing is being sent from it (`refs`). Every read from the receive buffer is bounded by its end pointer.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer, Py_buffer
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from os import urandom

from zcserve.net.lane.system cimport *
from zcserve.net.lane.text cimport (
    c_length, decimal, is_blank, is_plain, is_target, is_token, is_value, murmur3, same_name,
)


cdef extern from "Python.h" nogil:
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *thread)

cdef extern from "Python.h":
    void hide "PyObject_GC_UnTrack"(PyObject *thing)     # cache/unseen.py says why


cdef double SWEEP_INTERVAL_MAX_S = 1.0
cdef double YOUNG_S = 1.0        # the first request of a younger connection may be on its way

cdef enum:                   # sizes and limits
    CACHE_LINE = 64
    PREFETCH_BYTES = 2048        # of content; the processor foresees the rest by itself
    RECV_BYTES = 16384
    EVENTS_MAX = 256             # of one epoll_wait
    RESUMED_MAX = 64             # connections of `again` that are served in a turn
    ACCEPTS_MAX = 64             # in a turn
    HOPS_MAX = 8                 # proxies, of which one has named the next; more are Python's to read
    HANDED_MAX = 8               # connections that are handed over in a turn: Python takes 40 us for each, or more
    REPORTS_MAX = 512            # events, hand-overs and listeners that one call of `poll` tells of
    PROBES_MAX = 256             # slots that a search looks at: a table at most half full needs some dozens
    CHORE_SLOTS = 4096           # of a table that was left behind, seen to in a turn: some ten microseconds
    CHORE_RECORDS = 256          # likewise, and at most so many records: some hundred
    TICKS_AT_ONCE = 256          # told when something is evicted: a tenth of a millisecond
    SLOTS_MIN = 1024
    SPARSE = 16                  # slots for each record: a table of more is not crowded, its keys were chosen
    ANSWERS_MAX = 64
    IOVECS_MAX = 128         # two for each answer
    REPS_MAX = 4
    CODINGS = 4  # identity, br, gzip, zstd
    MEANINGS_MAX = 1024
    MEANING_SLOTS = 4096
    LOG_BYTES = 1048576
    SIGHTINGS_MAX = 16384        # a second's
    LOG_VALUE_MAX = 1024
    SHED_MAX = 64
    LINGER_READS_MAX = 4         # of one connection in a turn
    FIRST_FLIGHT_BYTES = 14600   # leaves at once whatever the client acknowledges: the initial window (RFC 6928)
    COPY_BYTES_MAX = 4096
    BATCH_BYTES = 65536  # answered before it is sent: what a socket takes at once
    NAME_MAX = 46                # INET6_ADDRSTRLEN
    QUICK_MAX = 4096             # targets that Python answers; clients choose queries
    LENGTH_LINE_MAX = 38         # Content-Length with 20 digits
    PREFIX_MAX = 160  # status line, Server, Date, Connection: 104 bytes
    LEARNED_VALUE_MAX = 512  # longer field values are Python's to judge each time

cdef enum:
    OWNER_NONE = 0
    OWNER_LANE = 1
    OWNER_PYTHON = 2
    OWNER_LISTENER = 3
    OWNER_SOURCE = 4

cdef enum:
    KEEP = 0
    KEEP_10 = 1
    CLOSE = 2

cdef enum:                   # kinds of learned values
    KIND_HOST = 0
    KIND_ACCEPT = 1
    KIND_CONNECTION_11 = 2
    KIND_CONNECTION_10 = 3

cdef enum:                   # what became of a step
    DONE = 0
    BLOCKED = 1
    ENOUGH = 2
    GONE = -1
    HAND_OVER = 3

cdef struct Rep:
    const char *head         # for a packed body, the content follows
    int coding
    uint32_t head_len
    uint32_t tail            # where the fields begin that a 304 carries
    uint32_t tag             # where the ETag stands, with its quotes
    uint32_t tag_len
    int fd                   # -1 for a packed body, else content lies at `offset` of this descriptor
    int64_t offset
    int64_t size
    uint64_t tick
    uint32_t uses            # since the last drain
    uint64_t told            # the turn in which it was last told to who samples

cdef struct Sighting:        # of a use, for the miss-ratio curve (cache/curve.py)
    uint32_t hash
    int64_t size
    uint64_t tick, last      # the turn of this use, and that of the use before
    bint followed, measured

cdef struct Record:          # one allocation, its representations and its key behind it: few lines of cache a hit
    uint32_t hash
    uint32_t key_len
    char *key
    Rep *reps
    int count
    int touched_at           # where it stands in `touched`, -1 for nowhere
    bint dropped
    int refs                 # why it may not be freed: sends under way, and a tick that was not drained
    int sending
    PyObject *keep

cdef struct Limbo:           # a table that was left behind, of which what stands from `at` on is still to be seen to
    Record **slots
    uint32_t mask, at
    bint moves               # to the present table; else it is let go
    Limbo *next

cdef struct Network:         # of addresses that are trusted
    uint8_t family, bits
    unsigned char address[16]

cdef struct Meaning:
    uint32_t hash
    uint32_t length
    int kind
    char *value
    int32_t meaning[CODINGS]

cdef enum:                   # `Conn.trust`
    NOT_ASKED = 0
    TRUSTED = 1
    NOT_TRUSTED = 2

cdef enum:                   # `Head.forwarded`: fields that name the client, to be listened to where the peer is trusted
    FORWARDED = 1            # Forwarded
    X_FORWARDED = 2          # any of X-Forwarded-*
    X_FORWARDED_FOR = 4      # the one line of it, which `Lane.clients` refers to
    X_FORWARDED_FORS = 8     # another

cdef enum:                   # `Conn.closing`
    STAYS = 0
    CLOSES = 1               # when what is pending is out
    CLOSES_DEAF = 2          # likewise, and the client has sent more, which nothing reads

cdef struct Conn:
    uint32_t generation      # of the descriptor's number: an event of the connection before carries another
    uint8_t owner
    uint8_t answered         # had a request: idle, not waiting for the first head
    uint8_t closing
    uint8_t queued           # stands in `again`
    uint8_t readable         # an edge told so, and no recv has found the socket empty since
    uint8_t hung_up          # the peer sends no more
    uint8_t fresh            # accepted, and not watched yet
    uint8_t handed           # handed over, and not taken yet: `inbox` is what was read
    uint8_t lingering        # the output has ended with a FIN; what comes in is thrown away
    uint8_t trust            # whether the peer is a proxy that is listened to
    uint8_t family
    unsigned char address[16]
    uint8_t name_len         # the peer as the log writes it, 0 until it does
    char name[NAME_MAX]
    double born              # when it was accepted
    double since             # of the last answer, or of the last progress of what is pending
    Record *record           # what is being sent from; then the next four say what is left
    uint16_t prefix_len
    char prefix[PREFIX_MAX]
    const char *rest
    size_t rest_len
    int span_fd
    int64_t span_offset
    int64_t span_len
    int outq
    char *inbox              # read, and to be answered when all that is left is out
    uint32_t inbox_len

cdef struct Report:          # for Python: what is ready, or 0 for a connection that is handed over
    int fd
    uint32_t mask

cdef struct Answer:          # two iovecs on their way
    const char *start        # of its request
    size_t log_mark          # where its log line begins
    Record *record
    Rep *rep
    int64_t size             # of its content, 0 for none
    bint not_modified

cdef struct Head:            # a parsed request
    bint is_get
    int minor
    const char *target
    size_t target_len
    uint32_t hash            # of the target
    int mode
    uint8_t forwarded
    uint8_t client_len       # of the client's name in `Lane.client`, 0 where it is the peer
    const int32_t *accept    # qualities by coding, NULL for no Accept-Encoding
    const char *none_match
    size_t none_match_len
    const char *referer
    size_t referer_len
    const char *agent
    size_t agent_len
    size_t length            # of the whole head

cdef inline void expect_bytes(const char *start, size_t length) noexcept nogil:
    """These bytes will be sent now: they come from memory while the kernel gets ready."""
    cdef const char *line = start
    while line < start + length:
        prefetch(line)
        line += CACHE_LINE

cdef inline bint same_bits(const unsigned char *a, const unsigned char *b, int bits) noexcept nogil:
    """Whether the first bits of two addresses are the same."""
    cdef int whole = bits // 8, rest = bits % 8
    return memcmp(a, b, whole) == 0 and (not rest or (a[whole] ^ b[whole]) >> (8 - rest) == 0)

cdef inline bint holds_v4(const unsigned char *address) noexcept nogil:
    """Whether an IPv6 address may be an IPv4 address in other words, which are written in more ways than one."""
    cdef unsigned char bits = 0
    cdef int i
    for i in range(10):
        bits |= address[i]
    return not bits

cdef inline double monotonic() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + t.tv_nsec * 1e-9



@cython.final
cdef class _Servlet:
    """A `Quick` (net/exchange.py), unpacked, with its target; and the turn and the time in which it was found fresh."""

    cdef bytes target, fields
    cdef object function, request, params, where, is_fresh, finish, fail
    cdef int notice
    cdef double sure_s, fresh_at
    cdef uint64_t fresh_in

    def __init__(self, target, function, request, params, fields, where, notice, sure_s, is_fresh, finish, fail):
        self.target = target
        self.function = function
        self.request = request
        self.params = params
        self.fields = fields
        self.where = where
        self.notice = notice
        self.sure_s = sure_s
        self.fresh_at = -1e9
        self.is_fresh = is_fresh
        self.finish = finish
        self.fail = fail


@cython.final
cdef class Lane:
    """An epoll descriptor with a fast lane in front. One thread: the loop's."""

    cdef int epfd
    cdef epoll_event events[EVENTS_MAX]
    cdef int events_count, events_at
    cdef Report reports[REPORTS_MAX]
    cdef int reports_count, handed_count
    cdef bint due                    # Python is to have its turn when this one is over
    cdef bint full                   # or before anything else is done
    cdef int accepts_left            # of this turn
    cdef int requests_left           # of this connection in this turn, and the next one likewise
    cdef int64_t bytes_left
    cdef Conn *conns
    cdef int conns_size
    cdef int *again
    cdef int again_count, again_size
    cdef char *buffer
    cdef char out[COPY_BYTES_MAX]
    cdef iovec iov[IOVECS_MAX]
    cdef Answer answers[ANSWERS_MAX]
    cdef int answers_count
    # tables
    cdef readonly uint32_t hash_seed  # secret: clients choose what is looked up
    cdef Record **slots
    cdef uint32_t slots_mask, records_count
    cdef Limbo *limbo
    cdef bint busy                   # with what is done in pieces: the lane comes back after each turn
    cdef Meaning *meanings
    cdef int meanings_count
    cdef Record **touched
    cdef int touched_count, touched_size
    cdef int ticks_due               # of these, to be drained before the next second's
    cdef Record **dead
    cdef int dead_count, dead_size
    cdef Record *spare               # of an application's last answer
    cdef dict entries                # entry -> set of keys it is put under
    # what depends on the second
    cdef const char *prefix[3][2]    # by mode: 200, 304
    cdef size_t prefix_len[3][2]
    cdef tuple prefix_keep
    cdef int64_t second
    cdef double second_until         # by the monotonic clock; the wall clock is looked at then, and after each `set_second`
    # limits
    cdef size_t head_bytes_max, target_bytes_max
    cdef int64_t turn_bytes_max
    cdef int64_t bytes_spared        # of it, for an answer that is begun: a next one is not, after a batch was sent
    cdef int fields_max, connections_max, pipeline_max
    cdef double idle_timeout, head_timeout, write_timeout, linger_timeout, sweep_interval, next_sweep
    cdef bint draining, ending       # each answer is its connection's last; idle connections are closed, too
    cdef bint drained                # the last one is gone and Python was not told yet
    # proxies that are listened to
    cdef Network *networks
    cdef int networks_count
    cdef bint trusts_unix, trusts    # `trusts` any
    cdef object origin               # reads what they say of a request, for a servlet
    cdef const char *clients         # the value of X-Forwarded-For
    cdef size_t clients_len
    cdef char client[NAME_MAX]
    # the log
    cdef bint log_on, log_json
    cdef char *log
    cdef size_t log_len
    cdef char log_time[64]
    cdef size_t log_time_len
    # what is sampled
    cdef double unit
    cdef uint64_t pause, seed
    cdef int64_t every, gap
    cdef Sighting *sightings         # one more than SIGHTINGS_MAX
    cdef int sightings_count
    # what the application made of a request, for the connection that is handed over with it
    cdef object over_made
    cdef dict made                   # descriptor -> the same, until it is taken
    # who is asked for what was not put
    cdef object look_up_quick
    cdef set quick                   # the keys of what he found
    cdef bint looks_up
    cdef public object running       # where the servlet is that is being called, or None
    cdef str last_client
    cdef char last_name[NAME_MAX]
    cdef uint8_t last_name_len
    cdef bint asked                  # Python, by the request at hand
    cdef int asking                  # the connection whose request it is, -1 for none
    cdef PyThreadState *thread       # while its lock is given up
    cdef bint holds_gil
    # numbers
    cdef public int count            # connections of the lane
    cdef public int foreign          # connections of Python
    cdef public uint64_t requests, bytes_sent, not_modified
    cdef public uint64_t turn
    cdef double now

    def __cinit__(self):
        self.epfd = self.asking = -1

    def __init__(self, config, bint log_on):
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise OSError(errno, "epoll_create1")
        self.buffer = <char *> malloc(RECV_BYTES)
        self.slots_mask = SLOTS_MIN - 1
        self.slots = <Record **> calloc(self.slots_mask + 1, sizeof(Record *))
        self.meanings = <Meaning *> calloc(MEANING_SLOTS, sizeof(Meaning))
        self.log = <char *> malloc(LOG_BYTES) if log_on else NULL
        self.sightings = <Sighting *> malloc((SIGHTINGS_MAX + 1) * sizeof(Sighting))
        if self.sightings == NULL:
            raise MemoryError
        if self.buffer == NULL or self.slots == NULL or self.meanings == NULL or (log_on and self.log == NULL):
            raise MemoryError
        self.log_on = log_on
        self.log_json = config.access_log_format == "json"
        self.entries = {}
        self.quick = set()
        self.head_bytes_max = config.head_bytes_max
        self.target_bytes_max = config.target_bytes_max
        self.fields_max = config.head_fields_max
        self.turn_bytes_max = config.turn_bytes_max
        self.bytes_spared = max(0, config.turn_bytes_max - BATCH_BYTES)
        self.pipeline_max = config.pipeline_max
        self.connections_max = config.connections_max
        self.idle_timeout = config.idle_timeout_s
        self.head_timeout = config.head_timeout_s
        self.write_timeout = config.write_timeout_s
        self.linger_timeout = config.linger_timeout_s
        shortest = min(self.idle_timeout, self.head_timeout, self.write_timeout, self.linger_timeout)
        self.sweep_interval = min(SWEEP_INTERVAL_MAX_S, shortest / 4)
        self.hash_seed = int.from_bytes(urandom(4), "little")
        self.made = {}
        self.now = monotonic()

    def __dealloc__(self):
        cdef uint32_t i
        cdef Limbo *limbo
        for i in range(<uint32_t> self.conns_size):
            self.unpin(&self.conns[i])
        for i in range(<uint32_t> self.touched_count):
            self.touched[i].refs -= 1
            self.maybe_dead(self.touched[i])
        if self.slots != NULL:
            release_all(self.slots, 0, self.slots_mask)
        while self.limbo != NULL:
            limbo = self.limbo
            release_all(limbo.slots, limbo.at, limbo.mask)
            self.limbo = limbo.next
            free(limbo.slots)
            free(limbo)
        for i in range(<uint32_t> self.dead_count):
            release(self.dead[i])
        if self.spare != NULL:
            release(self.spare)
        if self.meanings != NULL:
            for i in range(MEANING_SLOTS):
                free(self.meanings[i].value)
        for i in range(<uint32_t> self.conns_size):
            free(self.conns[i].inbox)
        if self.epfd >= 0:
            close(self.epfd)
        free(self.slots)
        free(self.meanings)
        free(self.buffer)
        free(self.conns)
        free(self.again)
        free(self.touched)
        free(self.dead)
        free(self.log)
        free(self.sightings)
        free(self.networks)

    # --- what the loop calls ----------------------------------------------------------------------------------

    def register(self, int fd, *, bint stream):
        """Watch a descriptor that Python owns: a connection (`stream`), or something that is only ever read."""
        self._watch(fd, OWNER_PYTHON if stream else OWNER_SOURCE)

    def register_listener(self, int fd):
        """Watch a listening socket and accept its clients here."""
        self._watch(fd, OWNER_LISTENER)

    cdef _watch(self, int fd, uint8_t owner):
        if self.room_for(fd) < 0:
            raise MemoryError
        self.renew(&self.conns[fd])
        if self.watch(fd, owner != OWNER_PYTHON) < 0:
            raise OSError(errno, "epoll_ctl")
        self.conns[fd].owner = owner
        if owner == OWNER_PYTHON:
            self.foreign += 1

    def introduce(self, int fd, int family, bytes address not None):
        """The peer of a connection that Python accepted; the lane learns it from accept otherwise."""
        self.check_foreign(fd)
        self.conns[fd].family = <uint8_t> family
        memcpy(self.conns[fd].address, PyBytes_AS_STRING(address), min(PyBytes_GET_SIZE(address), 16))

    def trust(self, list networks not None, bint unix, origin):
        """Proxies that name the client: (4 or 6, address, bits) of each network of them, and whether peers on a unix socket are;
        `origin` is forwarded.py's `Proxies.origin`."""
        cdef int i, version, bits
        cdef bytes address
        free(self.networks)
        self.networks_count = 0
        self.networks = <Network *> calloc(len(networks) + 1, sizeof(Network))
        if self.networks == NULL:
            raise MemoryError
        for i, (version, address, bits) in enumerate(networks):
            if len(address) != (4 if version == 4 else 16) or not 0 <= bits <= 8 * len(address):
                raise ValueError("no network")
            self.networks[i].family = AF_INET if version == 4 else AF_INET6
            self.networks[i].bits = <uint8_t> bits
            memcpy(self.networks[i].address, PyBytes_AS_STRING(address), len(address))
        self.networks_count = len(networks)
        self.origin = origin
        self.trusts_unix = unix
        self.trusts = unix or self.networks_count

    cdef bint is_trusted(self, Conn *conn) noexcept nogil:
        """Whether the peer is a proxy that is listened to."""
        if conn.trust == NOT_ASKED:
            conn.trust = TRUSTED if self.has_network_of(conn.family, conn.address) else NOT_TRUSTED
        return conn.trust == TRUSTED

    cdef bint has_network_of(self, uint8_t family, const unsigned char *address) noexcept nogil:
        cdef int i
        cdef Network *network
        if family != AF_INET and family != AF_INET6:
            return self.trusts_unix
        for i in range(self.networks_count):
            network = &self.networks[i]
            if network.family == family and same_bits(network.address, address, network.bits):
                return True
        return False

    cdef bint find_client(self, Head *head) noexcept nogil:
        """The client that a trusted peer names, for the log, as forwarded.py reads it. False where that is to be asked: for Forwarded, for
        more than one line, and for an element that is no plain address."""
        cdef const char *start = self.clients
        cdef const char *end = start + self.clients_len
        cdef const char *name
        cdef const char *name_end
        cdef unsigned char address[16]
        cdef char text[NAME_MAX]
        cdef int hop, family = 0
        if not head.forwarded & X_FORWARDED or head.forwarded & X_FORWARDED_FORS:
            return False
        if not head.forwarded & X_FORWARDED_FOR:
            return True
        for hop in range(HOPS_MAX):
            while end > start and (is_blank((end - 1)[0]) or (end - 1)[0] == c','):
                end -= 1             # an empty element does not count
            if end == start:
                break
            name = name_end = end
            while name > start and (name - 1)[0] != c',':
                name -= 1
            end = name
            while is_blank(name[0]):
                name += 1
            if name_end - name >= NAME_MAX:
                return False
            memcpy(text, name, name_end - name)
            text[name_end - name] = 0
            family = AF_INET6 if memchr(name, c':', name_end - name) != NULL else AF_INET
            if inet_pton(family, text, address) != 1 or (family == AF_INET6 and holds_v4(address)):
                return False
            if not self.has_network_of(<uint8_t> family, address):
                break
        else:
            return False
        if family == AF_INET:        # which inet_pton takes in one spelling alone
            memcpy(self.client, text, NAME_MAX)
            head.client_len = <uint8_t> (name_end - name)
        elif family == AF_INET6:
            inet_ntop(family, address, self.client, NAME_MAX)
            head.client_len = <uint8_t> c_length(self.client)
        return True                  # all elements may have been empty

    cdef check_foreign(self, int fd):
        if not 0 <= fd < self.conns_size or self.conns[fd].owner != OWNER_PYTHON:
            raise ValueError(f"descriptor {fd} is no connection of Python's")

    def forget(self, int fd):
        """Python closes this descriptor. It is taken out of epoll at once: its open file may live on in another process."""
        cdef Conn *conn
        if not 0 <= fd < self.conns_size:
            return
        conn = &self.conns[fd]
        if conn.owner == OWNER_LANE or conn.owner == OWNER_NONE:
            return
        epoll_ctl(self.epfd, EPOLL_CTL_DEL, fd, NULL)
        if conn.owner == OWNER_PYTHON:
            self.foreign -= 1
        conn.owner = OWNER_NONE
        self.free_inbox(conn)

    def resume(self, int fd, bint answered):
        """Take a connection from Python: it owes nothing and holds no bytes. What comes in is read here from now on."""
        cdef Conn *conn
        self.check_foreign(fd)
        conn = &self.conns[fd]
        conn.owner = OWNER_LANE
        conn.answered = answered
        conn.closing = STAYS
        conn.readable = True     # edges that Python did not act upon are not told again
        conn.since = self.now
        self.count += 1
        self.foreign -= 1
        self.run_again(fd)

    def poll(self, double timeout):
        """(descriptor, mask) of what needs Python's attention; waits at most `timeout` seconds (-1: without end).

        Comes back at least when the second changes under load, for `set_second`. A report of a descriptor that Python does not
        know, with the mask 0, is a connection that was handed over: `take` it.
        """
        cdef int i
        cdef list reports = []
        self.reports_count = self.handed_count = 0
        self.full = self.log_len > LOG_BYTES // 2
        self.due = self.full or self.busy
        self.thread = PyEval_SaveThread()
        self.run(timeout)
        if not self.holds_gil:
            PyEval_RestoreThread(self.thread)
        self.holds_gil = False
        self.bury()
        if self.busy:
            self.chores()
        for i in range(self.reports_count):
            reports.append((self.reports[i].fd, self.reports[i].mask))
        return reports

    def take(self, int fd):
        """What was handed over with `fd`: (peer, bytes read, whether it was answered before, whether the peer hung up, what the
        application made of the first request, or None).

        None: nothing was. The connection is Python's from now on.
        """
        cdef Conn *conn
        if not 0 <= fd < self.conns_size or not self.conns[fd].handed:
            return None
        conn = &self.conns[fd]
        conn.handed = False
        data = PyBytes_FromStringAndSize(conn.inbox, conn.inbox_len) if conn.inbox_len else b""
        self.free_inbox(conn)
        return peer_name(conn), data, bool(conn.answered), bool(conn.hung_up), self.made.pop(fd, None)

    def descriptors(self):
        """Its own descriptors, and those of connections that no handler knows."""
        cdef int fd
        cdef list found = [self.epfd] if self.epfd >= 0 else []
        for fd in range(self.conns_size):
            if self.conns[fd].owner == OWNER_LANE or self.conns[fd].handed:
                found.append(fd)
        return found

    def close(self):
        """Close the lane's connections and the epoll descriptor. No application is consulted any more: it may refer to the lane."""
        self.close_all(False)
        for made in self.made.values():
            made.discard()
        self.made.clear()
        self.consult(None)
        if self.epfd >= 0:
            close(self.epfd)
            self.epfd = -1

    def drain(self):
        """Accept nobody any more, and answer everybody's next request as his last one."""
        self.draining = True

    def close_all(self, bint idle_only):
        """End the lane's connections; `idle_only`: those that owe nothing, and the others when they are through."""
        cdef int fd
        self.draining = self.ending = True
        for fd in range(self.conns_size):
            if idle_only:
                if self.conns[fd].owner == OWNER_LANE:
                    self.end_idle(fd)
            elif self.conns[fd].owner == OWNER_LANE or self.conns[fd].handed:
                self.abort(fd)
        self.next_sweep = min(self.next_sweep, self.now + YOUNG_S / 4)   # for the young ones
        self.bury()

    cdef void end_idle(self, int fd) noexcept nogil:
        """End a connection that owes nothing; `serve` sees to the others. A new one gets a little time for its first request."""
        cdef Conn *conn = &self.conns[fd]
        if conn.lingering or conn.queued or conn.record != NULL or fd == self.asking or self.wait_for_unread(fd):
            return
        if conn.answered or monotonic() - conn.born >= YOUNG_S:
            self.part(fd)

    cdef bint wait_for_unread(self, int fd) noexcept nogil:
        """Whether an idle connection has sent what was not read yet: it is read next, and so answered."""
        cdef char unread
        if recv(fd, &unread, 1, MSG_PEEK | MSG_DONTWAIT) <= 0:
            return False
        self.conns[fd].readable = True
        self.run_again(fd)
        return True

    cdef void abort(self, int fd) noexcept nogil:
        """Close now, in the midst of whatever it was, and let arrive what is with the kernel: that needs a FIN before the
        close, and no unread input, or the kernel resets the connection and throws its queue away."""
        cdef int i
        cdef Conn *conn = &self.conns[fd]
        shutdown(fd, SHUT_WR)
        for i in range(LINGER_READS_MAX):
            if recv(fd, self.buffer, RECV_BYTES, MSG_DONTWAIT) <= 0:
                break
        if conn.handed:
            conn.handed = False
            conn.owner = OWNER_LANE
            self.count += 1
            self.foreign -= 1
        self.end(fd)

    def shed(self, int most):
        """Close up to `most` connections, those that have ended first, then the longest idle; how many it were. Not one
        whose first request may be on its way, or that was answered in this turn; and not one that has sent what was not
        read yet, or has not taken all of its answer: closing would reset it."""
        cdef int fd, i, found = 0, done = 0
        cdef int victims[SHED_MAX]
        cdef bint ended
        cdef double young = monotonic() - YOUNG_S
        most = min(most, SHED_MAX)
        for fd in range(self.conns_size):
            if not self.is_idle(fd, young):
                continue
            if found == most:
                if not found or not self.goes_before(fd, victims[found - 1]):
                    continue
                found -= 1
            i = found
            while i > 0 and self.goes_before(fd, victims[i - 1]):
                victims[i] = victims[i - 1]
                i -= 1
            victims[i] = fd
            found += 1
        ended = found > 0 and self.conns[victims[0]].lingering
        for i in range(found):
            if done and ended and not self.conns[victims[i]].lingering:
                break            # those that have ended are room enough
            if not self.wait_for_unread(victims[i]) and self.queued_out(victims[i]) <= FIRST_FLIGHT_BYTES:
                self.end(victims[i])
                done += 1
        return done

    cdef bint is_idle(self, int fd, double young) noexcept nogil:
        """Whether a connection may be shed."""
        cdef Conn *conn = &self.conns[fd]
        return (
            conn.owner == OWNER_LANE
            and conn.record == NULL
            and not conn.inbox_len
            and not conn.queued
            and (conn.lingering or conn.since < self.now and (conn.answered or conn.born < young))
        )

    cdef bint goes_before(self, int fd, int other) noexcept nogil:
        """Whether a connection is shed before another one."""
        cdef Conn *conn = &self.conns[fd]
        cdef Conn *than = &self.conns[other]
        return conn.since < than.since if conn.lingering == than.lingering else conn.lingering

    cdef int queued_out(self, int fd) noexcept nogil:
        """Bytes that the kernel has taken and the peer has not acknowledged."""
        cdef int count = 0
        ioctl(fd, SIOCOUTQ, &count)
        return count

    # --- what Python teaches ----------------------------------------------------------------------------------

    def set_second(self, int64_t second, tuple prefixes not None, bytes log_time not None):
        """The prefixes of this second: (200, 304) for each of KEEP, KEEP_10, CLOSE; and the time as the log writes it."""
        cdef int i
        cdef bytes prefix
        if len(prefixes) != 6:
            raise ValueError("six prefixes are wanted")
        for prefix in prefixes:
            if not 0 < len(prefix) <= PREFIX_MAX:
                raise ValueError("a prefix longer than PREFIX_MAX")
        for i in range(6):
            prefix = prefixes[i]
            self.prefix[i // 2][i % 2] = PyBytes_AS_STRING(prefix)
            self.prefix_len[i // 2][i % 2] = PyBytes_GET_SIZE(prefix)
        self.prefix_keep = prefixes
        self.second = second
        self.second_until = 0
        self.log_time_len = min(<size_t> len(log_time), 63)
        memcpy(self.log_time, PyBytes_AS_STRING(log_time), self.log_time_len)

    def learn(self, int kind, bytes value not None, tuple meaning not None):
        """Remember what a field value means; `meaning` is four numbers. Everything is forgotten when too much is known."""
        cdef uint32_t hash = self.hash_of(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)) ^ <uint32_t> kind
        cdef Meaning *m = self.meaning_slot(kind, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), hash)
        cdef int i
        cdef int32_t numbers[CODINGS]
        if PyBytes_GET_SIZE(value) > LEARNED_VALUE_MAX or m == NULL:
            return
        if len(meaning) != CODINGS or not KIND_HOST <= kind <= KIND_CONNECTION_10:
            raise ValueError("no meaning of a value")
        for i in range(CODINGS):
            numbers[i] = meaning[i]
        if kind >= KIND_CONNECTION_11 and not KEEP <= numbers[0] <= CLOSE:
            raise ValueError("no mode of a connection")
        if m.value == NULL:
            if self.meanings_count >= MEANINGS_MAX:
                for i in range(MEANING_SLOTS):
                    free(self.meanings[i].value)
                memset(self.meanings, 0, MEANING_SLOTS * sizeof(Meaning))
                self.meanings_count = 0
                m = self.meaning_slot(kind, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), hash)
            m.value = <char *> malloc(PyBytes_GET_SIZE(value) + 1)
            if m.value == NULL:
                raise MemoryError
            memcpy(m.value, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
            m.length = PyBytes_GET_SIZE(value)
            m.kind = kind
            m.hash = hash
            self.meanings_count += 1
        for i in range(CODINGS):
            m.meaning[i] = numbers[i]

    def put(self, bytes key not None, list representations not None):
        """Teach a resource: [(entry, coding, head or head with content, head's length, tail, tag, tag's length, fd, offset, size, body)].

        Raises ValueError for offsets that lie outside of what they are about."""
        cdef Rep reps[REPS_MAX]
        cdef Record *record
        cdef Py_buffer view
        cdef list keep = []
        cdef int count = 0
        self.drop_key(key)
        if not 0 < len(representations) <= REPS_MAX:
            return
        for entry, coding, head, head_len, tail, tag, tag_len, fd, offset, size, body in representations:
            reps[count] = Rep(NULL, coding, head_len, tail, tag, tag_len, fd, offset, size, entry.tick, 0, 0)
            PyObject_GetBuffer(head, &view, PyBUF_SIMPLE)
            reps[count].head = <const char *> view.buf
            length = view.len
            PyBuffer_Release(&view)          # `keep` holds the memory: a slab's mapping outlives its blocks
            if not (
                0 <= coding < CODINGS
                and 0 <= tail <= tag <= tag + tag_len <= head_len
                and 0 <= size
                and head_len + (size if fd < 0 else 0) <= length
            ):
                raise ValueError(f"a representation of {key!r} that does not add up")
            keep.append((entry, head, body))
            count += 1
        record = new_record(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), reps, count)
        if record == NULL:
            raise MemoryError
        record.hash = self.hash_of(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        Py_INCREF(keep)
        record.keep = <PyObject *> keep
        if not self.insert(record):
            release(record)      # the general lane answers for it
            return
        for kept in keep:
            hide(<PyObject *> kept)
            keys = self.entries.setdefault(kept[0], set())
            keys.add(key)
            hide(<PyObject *> keys)
        hide(<PyObject *> keep)
        hide(<PyObject *> self.entries)

    def consult(self, look_up):
        """Ask who answers what was not put: `look_up` is an `Application`'s. None: no more."""
        self.forget_quick()
        self.look_up_quick = look_up
        self.looks_up = look_up is not None

    def forget_quick(self):
        """Look up anew what was found."""
        for key in self.quick:
            self.drop_key(key)
        self.quick.clear()
        self.bury()

    def forget_key(self, bytes key not None):
        """Forget one resource, if it was taught: its key leads elsewhere now."""
        self.drop_key(key)
        self.bury()

    def drop(self, entry):
        """Forget every resource that a representation belongs to: it was evicted or replaced."""
        keys = self.entries.pop(entry, None)
        if keys is None:
            return
        self.untouch_some(TICKS_AT_ONCE)     # what is evicted next should be no news of a second ago
        for key in keys:
            self.drop_key(key)
        self.bury()

    def clear(self, uint32_t resources=0):
        """Forget all resources, in the next turns: a hundred thousand are too much for one. There is room for so many
        `resources` then. A part of what that gives up is returned, for another thread to free."""
        cdef list given_up = [self.entries]
        self.leave_table(max(self.slots_mask, mask_for(resources)), False)
        self.records_count = 0
        self.entries = {}
        self.quick.clear()
        self.chores()
        return given_up

    def reserve(self, uint32_t resources):
        """Have room for so many resources, so that the table need not grow."""
        if mask_for(resources) > self.slots_mask:
            self.leave_table(mask_for(resources), True)

    def chores(self):
        """Do a piece of what would take long at once: see to what stands in tables that were left behind. True while more
        is left. `poll` does a piece after each turn."""
        cdef Limbo *limbo = self.limbo
        cdef Record *record
        cdef int slots = CHORE_SLOTS, records = CHORE_RECORDS
        while limbo != NULL and slots and records:
            if limbo.at > limbo.mask:
                self.limbo = limbo.next
                free(limbo.slots)
                free(limbo)
                limbo = self.limbo
                continue
            record = limbo.slots[limbo.at]
            limbo.slots[limbo.at] = &TOMB
            limbo.at += 1
            slots -= 1
            if record == NULL or record == &TOMB:
                continue
            records -= 1
            if not limbo.moves:
                self.let_go(record)
            elif not place(self.slots, self.slots_mask, record):
                self.forget_entries(record)
                self.records_count -= 1
                self.let_go(record)
        self.bury()
        self.busy = self.limbo != NULL or self.ticks_due > 0
        return self.limbo != NULL

    def holds(self, entry):
        """Whether the lane refers to this entry's body."""
        return entry in self.entries

    def pinned(self, entry):
        """Whether the lane is in the middle of sending from this entry. Any thread that holds the GIL may ask."""
        cdef Record *record
        cdef Record **left
        for key in tuple(self.entries.get(entry, ())):
            record = self.find_key(key)
            if record == NULL and (left := self.find_left(key)) != NULL:
                record = left[0]
            if record != NULL and record.sending:
                return True
        return False

    def knows(self, bytes key not None):
        """Whether a resource is taught."""
        return self.find_key(key) != NULL

    @property
    def inboxes(self):
        """How many connections hold bytes that were read and are not answered yet."""
        cdef int fd, held = 0
        for fd in range(self.conns_size):
            held += self.conns[fd].inbox != NULL
        return held

    def drain_ticks(self, int most=-1):
        """Tell each entry that was used how often, and the turn of its last use: all since they were last told, or at most so
        many now. How many are left of those that there were when this began."""
        if self.ticks_due <= 0 or most < 0:
            self.ticks_due = self.touched_count
        if most < 0:
            most = self.ticks_due
        most = min(most, min(self.ticks_due, self.touched_count))
        self.ticks_due -= most
        self.untouch_some(most)
        self.bury()
        self.busy = self.limbo != NULL or self.ticks_due > 0
        return self.ticks_due

    cdef untouch_some(self, int most):
        cdef Record *record
        while most and self.touched_count:
            record = self.touched[self.touched_count - 1]
            self.untouch(record)
            self.maybe_dead(record)
            most -= 1
        self.ticks_due = min(self.ticks_due, self.touched_count)

    cdef untouch(self, Record *record):
        """Tell the entries of a record's uses, and take it out of `touched`."""
        cdef Record *last
        cdef int i
        if record.touched_at < 0:
            return
        self.touched_count -= 1
        last = self.touched[self.touched_count]
        self.touched[record.touched_at] = last
        last.touched_at = record.touched_at
        record.touched_at = -1
        record.refs -= 1
        for i, (entry, _, _) in enumerate(<list> record.keep):
            if record.reps[i].uses:
                entry.tick = max(entry.tick, record.reps[i].tick)
                entry.uses += record.reps[i].uses
                record.reps[i].uses = 0

    def sample(self, double unit, uint64_t pause, int64_t every):
        """Which uses to note from now on: as `MissRatioCurve`'s attributes of these names say; `unit` 0: none."""
        if unit < 0 or pause < 1 or every < 1:
            raise ValueError("no rule to sample by")
        self.unit, self.pause, self.every = unit, pause, every

    def take_sightings(self):
        """What was noted since the last call: [(hash, size, turn, turn of the use before, followed, measured)]."""
        cdef int i
        cdef list taken = []
        for i in range(self.sightings_count):
            taken.append((
                self.sightings[i].hash,
                self.sightings[i].size,
                self.sightings[i].tick,
                self.sightings[i].last,
                bool(self.sightings[i].followed),
                bool(self.sightings[i].measured),
            ))
        self.sightings_count = 0
        return taken

    def take_log(self):
        """Access log lines since the last call."""
        lines = PyBytes_FromStringAndSize(self.log, self.log_len) if self.log_len else b""
        self.log_len = 0
        return lines

    def hash(self, bytes key not None):
        """The table's hash of a key."""
        return self.hash_of(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

    def parse(self, bytes data not None):
        """For tests and fuzzing: (length, method, target, mode) of the plain head at the front of `data`, or None."""
        cdef Head head
        cdef size_t length = PyBytes_GET_SIZE(data)
        cdef char *copy = <char *> malloc(length + (not length))   # of just this size: a sanitizer sees its end
        if copy == NULL:
            raise MemoryError
        memcpy(copy, PyBytes_AS_STRING(data), length)
        try:
            if not self.parse_head(copy, copy + length, &head):
                return None
            return head.length, b"GET" if head.is_get else b"HEAD", head.target[: head.target_len], head.mode
        finally:
            free(copy)

    # --- tables -----------------------------------------------------------------------------------------------

    cdef inline void expect(self, uint32_t hash) noexcept nogil:
        """A record of this hash will be asked for soon."""
        cdef const char *record = <const char *> self.slots[hash & self.slots_mask]
        if record != NULL:
            prefetch(record)
            prefetch(record + CACHE_LINE)
            prefetch(record + 2 * CACHE_LINE)

    cdef inline uint32_t hash_of(self, const char *key, size_t length) noexcept nogil:
        return murmur3(key, length, self.hash_seed)

    cdef Record *find(self, const char *key, size_t length, uint32_t hash) noexcept nogil:
        cdef uint32_t at = hash & self.slots_mask
        cdef Record *record
        cdef int probe
        for probe in range(PROBES_MAX):
            record = self.slots[at]
            if record == NULL:
                return NULL
            if record.hash == hash and record.key_len == length and memcmp(record.key, key, length) == 0:
                return record
            at = (at + 1) & self.slots_mask
        return NULL

    cdef Record *find_key(self, bytes key) noexcept:
        cdef const char *start = PyBytes_AS_STRING(key)
        return self.find(start, PyBytes_GET_SIZE(key), self.hash_of(start, PyBytes_GET_SIZE(key)))

    cdef Record **find_left(self, bytes key) noexcept:
        """The slot of a record that is still to move; NULL for none."""
        cdef const char *start = PyBytes_AS_STRING(key)
        cdef size_t length = PyBytes_GET_SIZE(key)
        cdef uint32_t at, hash = self.hash_of(start, length)
        cdef Limbo *limbo = self.limbo
        cdef Record *record
        cdef int probe
        while limbo != NULL:
            at = hash & limbo.mask
            for probe in range(PROBES_MAX if limbo.moves else 0):
                record = limbo.slots[at]
                if record == NULL:
                    break
                if record.hash == hash and record.key_len == length and memcmp(record.key, start, length) == 0:
                    return &limbo.slots[at]
                at = (at + 1) & limbo.mask
            limbo = limbo.next
        return NULL

    cdef bint insert(self, Record *record) except -1:
        """Put a record into the table; False when there is no slot for it in reach of a search. Keys can be computed that
        have one hash under every seed, so there may be none however large the table is."""
        if 2 * (self.records_count + 1) > self.slots_mask:
            self.leave_table(2 * self.slots_mask + 1, True)
        while not place(self.slots, self.slots_mask, record):
            if self.slots_mask > SPARSE * self.records_count:
                return False
            self.leave_table(2 * self.slots_mask + 1, True)
        self.records_count += 1
        return True

    cdef leave_table(self, uint32_t mask, bint moves):
        """Have an empty table. What stands in the old one is seen to by `chores`, and is not known till then: the general lane
        answers for it meanwhile."""
        cdef Record **slots = <Record **> calloc(<size_t> mask + 1, sizeof(Record *))
        cdef Limbo *limbo = <Limbo *> malloc(sizeof(Limbo))
        if slots == NULL or limbo == NULL:
            free(slots)
            free(limbo)
            raise MemoryError
        limbo.slots = self.slots
        limbo.mask = self.slots_mask
        limbo.at = 0
        limbo.moves = moves
        limbo.next = self.limbo
        self.limbo = limbo
        if not moves:
            while limbo != NULL:
                limbo.moves = False
                limbo = limbo.next
        self.slots = slots
        self.slots_mask = mask
        self.busy = self.due = True

    cdef drop_key(self, bytes key):
        """Take a record out of the table; probe chains are closed by moving what follows."""
        cdef Record *record = self.find_key(key)
        cdef Record **left
        if record != NULL:
            self.take_out(record)
        else:
            left = self.find_left(key)
            if left == NULL:
                return
            record = left[0]
            left[0] = &TOMB
        self.records_count -= 1
        self.forget_entries(record)
        self.let_go(record)

    cdef void take_out(self, Record *record) noexcept nogil:
        cdef uint32_t at, hole, home
        at = record.hash & self.slots_mask
        while self.slots[at] != record:
            at = (at + 1) & self.slots_mask
        hole = at
        while True:
            at = (at + 1) & self.slots_mask
            if self.slots[at] == NULL:
                break
            home = self.slots[at].hash & self.slots_mask
            if ((at - home) & self.slots_mask) >= ((at - hole) & self.slots_mask):
                self.slots[hole] = self.slots[at]
                hole = at
        self.slots[hole] = NULL

    cdef forget_entries(self, Record *record):
        cdef bytes key = record.key[: record.key_len]
        for entry, _, _ in (<list> record.keep if record.count else ()):
            keys = self.entries.get(entry)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self.entries[entry]

    cdef let_go(self, Record *record):
        """A record is in no table any more: it is freed when nothing is sent from it."""
        self.untouch(record)
        record.dropped = True
        self.maybe_dead(record)

    cdef void maybe_dead(self, Record *record) noexcept nogil:
        """Note a dropped record that nobody sends from any more; `bury` frees it, with the GIL."""
        cdef Record **grown
        if not record.dropped or record.refs:
            return
        if self.dead_count == self.dead_size:
            grown = <Record **> realloc(self.dead, (2 * self.dead_size + 64) * sizeof(Record *))
            if grown == NULL:
                return           # leaks the record rather than the server
            self.dead = grown
            self.dead_size = 2 * self.dead_size + 64
        self.dead[self.dead_count] = record
        self.dead_count += 1

    cdef bury(self):
        cdef Record *record
        while self.dead_count:
            self.dead_count -= 1
            record = self.dead[self.dead_count]
            release(record)

    cdef void touch(self, Record *record, Rep *rep) noexcept nogil:
        cdef Record **grown
        if self.unit > 0:
            self.sight(record, rep)
        rep.tick = self.turn
        rep.uses += 1
        if record.touched_at >= 0:
            return
        if self.touched_count == self.touched_size:
            grown = <Record **> realloc(self.touched, (2 * self.touched_size + 1024) * sizeof(Record *))
            if grown == NULL:
                return
            self.touched = grown
            self.touched_size = 2 * self.touched_size + 1024
        record.touched_at = self.touched_count
        record.refs += 1         # until the tick is drained
        self.touched[self.touched_count] = record
        self.touched_count += 1

    cdef Meaning *meaning_slot(self, int kind, const char *value, size_t length, uint32_t hash) noexcept nogil:
        """The slot that holds a value, or the free one where it belongs; NULL where there is none in reach."""
        cdef uint32_t at = hash & (MEANING_SLOTS - 1)
        cdef Meaning *m
        cdef int probe
        for probe in range(PROBES_MAX):
            m = &self.meanings[at]
            if m.value == NULL or (
                m.hash == hash and m.kind == kind and m.length == length and memcmp(m.value, value, length) == 0
            ):
                return m
            at = (at + 1) & (MEANING_SLOTS - 1)
        return NULL

    cdef const int32_t *meaning(self, int kind, const char *value, size_t length) noexcept nogil:
        """What a field value means; NULL when that was not learned."""
        cdef Meaning *m = self.meaning_slot(kind, value, length, self.hash_of(value, length) ^ <uint32_t> kind)
        return m.meaning if m != NULL and m.value != NULL else NULL

    # --- a request --------------------------------------------------------------------------------------------

    cdef bint parse_head(self, const char *start, const char *end, Head *head) noexcept nogil:
        """Whether a complete, plain, well-formed head begins at `start`. All else is for the general lane to judge."""
        cdef const char *p = start
        cdef const char *name
        cdef const char *value
        cdef const char *value_end
        cdef const char *connection = NULL
        cdef size_t name_len, value_len, connection_len = 0
        cdef int fields = 0
        cdef bint has_host = False, has_date = False
        cdef const int32_t *known
        memset(head, 0, sizeof(Head))
        if end - p < 18:         # GET / HTTP/1.1 and two line ends
            return False
        if memcmp(p, b"GET ", 4) == 0:
            head.is_get = True
            p += 4
        elif memcmp(p, b"HEAD ", 5) == 0:
            p += 5
        else:
            return False
        head.target = p
        while p < end and is_target(p[0]):
            p += 1
        head.target_len = p - head.target
        if head.target_len == 0 or head.target_len > self.target_bytes_max or end - p < 11:
            return False
        head.hash = self.hash_of(head.target, head.target_len)
        self.expect(head.hash)   # it comes from memory while the fields are parsed
        if memcmp(p, b" HTTP/1.1\r\n", 11) == 0:
            head.minor = 1
        elif memcmp(p, b" HTTP/1.0\r\n", 11) != 0:
            return False
        p += 11
        while True:
            if end - p < 2:
                return False
            if p[0] == c'\r':
                if p[1] != c'\n':
                    return False
                break
            name = p
            while p < end and is_token(p[0]):
                p += 1
            if p == end or p[0] != c':' or p == name:
                return False
            name_len = p - name
            p += 1
            while p < end and is_blank(p[0]):
                p += 1
            value = p
            p = <const char *> memchr(p, c'\r', end - p)
            if p == NULL or end - p < 2 or p[1] != c'\n' or not is_value(value, p - value):
                return False
            value_end = p
            while value_end > value and is_blank((value_end - 1)[0]):
                value_end -= 1
            value_len = value_end - value
            p += 2
            fields += 1
            if name_len == 4:
                if same_name(name, b"host", 4):
                    if has_host or self.meaning(KIND_HOST, value, value_len) == NULL:
                        return False
                    has_host = True
            elif name_len == 5:
                if same_name(name, b"range", 5):
                    return False
            elif name_len == 6:
                if same_name(name, b"expect", 6):
                    return False
            elif name_len == 7:
                if self.log_on and same_name(name, b"referer", 7):
                    if head.referer != NULL:
                        return False
                    head.referer = value
                    head.referer_len = value_len
            elif name_len == 8:
                if same_name(name, b"if-range", 8) or same_name(name, b"if-match", 8):
                    return False
            elif name_len == 9:
                if self.trusts and same_name(name, b"forwarded", 9):
                    head.forwarded |= FORWARDED
            elif name_len == 10:
                if same_name(name, b"connection", 10):
                    if connection != NULL:
                        return False
                    connection = value
                    connection_len = value_len
                elif self.log_on and same_name(name, b"user-agent", 10):
                    if head.agent != NULL:
                        return False
                    head.agent = value
                    head.agent_len = value_len
            elif name_len == 13:
                if same_name(name, b"if-none-match", 13):
                    if head.none_match != NULL:
                        return False
                    head.none_match = value
                    head.none_match_len = value_len
            elif name_len == 14:
                if same_name(name, b"content-length", 14):
                    return False
            elif name_len == 15:
                if same_name(name, b"accept-encoding", 15):
                    if head.accept != NULL:
                        return False
                    head.accept = self.meaning(KIND_ACCEPT, value, value_len)
                    if head.accept == NULL:
                        return False
                elif self.trusts and same_name(name, b"x-forwarded-for", 15):
                    head.forwarded |= X_FORWARDED | (X_FORWARDED_FORS if head.forwarded & X_FORWARDED_FOR else X_FORWARDED_FOR)
                    self.clients = value
                    self.clients_len = value_len
            elif name_len == 16:
                if self.trusts and same_name(name, b"x-forwarded-host", 16):
                    head.forwarded |= X_FORWARDED
            elif name_len == 17:
                if same_name(name, b"transfer-encoding", 17):
                    return False
                if same_name(name, b"if-modified-since", 17):
                    has_date = True
                if self.trusts and same_name(name, b"x-forwarded-proto", 17):
                    head.forwarded |= X_FORWARDED
            elif name_len == 19:
                if same_name(name, b"if-unmodified-since", 19):
                    return False
        if <size_t> (p - 2 - start) > self.head_bytes_max or fields > self.fields_max:
            return False
        if head.minor and not has_host:
            return False
        if has_date and head.none_match == NULL:
            return False
        if connection != NULL:
            known = self.meaning(KIND_CONNECTION_11 if head.minor else KIND_CONNECTION_10, connection, connection_len)
            if known == NULL:
                return False
            head.mode = known[0]
        else:
            head.mode = KEEP if head.minor else CLOSE
        if self.draining:
            head.mode = CLOSE
        head.length = p + 2 - start
        return True

    cdef Rep *choose(self, Record *record, const int32_t *accept) noexcept nogil:
        """As negotiate.choose: the most wanted, the smallest among equals; NULL when none is acceptable."""
        cdef Rep *best = NULL
        cdef int i
        cdef int32_t quality, best_quality = 0
        if accept == NULL:
            return &record.reps[0]
        for i in range(record.count):
            quality = accept[record.reps[i].coding]
            if quality > best_quality or (
                quality == best_quality and best != NULL and record.reps[i].size < best.size
            ):
                best = &record.reps[i]
                best_quality = quality
        return best

    cdef int none_match(self, Rep *rep, const char *value, size_t length) noexcept nogil:
        """1: the tag is the representation's, 0: it is another, -1: it is not just one tag."""
        cdef const char *tag = value
        cdef size_t tag_len = length, i
        cdef unsigned char c
        if tag_len >= 2 and tag[0] == c'W' and tag[1] == c'/':
            tag += 2
            tag_len -= 2
        if tag_len < 2 or tag[0] != c'"' or tag[tag_len - 1] != c'"':
            return -1
        for i in range(1, tag_len - 1):
            c = <unsigned char> tag[i]
            if c < c'!' or c == c'"' or c == 0x7F:
                return -1
        return tag_len == rep.tag_len and memcmp(tag, rep.head + rep.tag, tag_len) == 0

    cdef int answer(self, int fd, Conn *conn, const char *data, size_t length) noexcept nogil:
        """Answer what is plain at the front of `data`. DONE; HAND_OVER with the rest noted; BLOCKED, ENOUGH, GONE as
        `flush`. What was neither answered nor handed over stands in the connection's inbox."""
        cdef const char *p = data
        cdef const char *end = data + length
        cdef Head head
        cdef Record *record
        cdef Rep *rep
        cdef int result, matched
        cdef size_t batch = 0
        while p < end:
            if not self.parse_head(p, end, &head):
                return self.hand_over(fd, conn, p, end)
            record = self.find(head.target, head.target_len, head.hash)
            if record == NULL and self.looks_up:
                record = self.look_up(&head)
                conn = &self.conns[fd]
            if head.forwarded and self.is_trusted(conn) and not self.knows_client(&head, record):
                return self.hand_over(fd, conn, p, end)
            if record != NULL and not record.count:
                if self.answers_count:
                    result = self.flush(fd, conn, p, end)
                    if result != DONE or conn.inbox_len:
                        return result
                    batch = 0
                result = self.answer_quick(fd, conn, &head, record, &p, end)
                conn = &self.conns[fd]
                if result != DONE or conn.inbox_len:
                    return result
                if p < end and self.has_had_its_share():
                    return self.keep_input(conn, p, end) or ENOUGH
                continue
            rep = self.choose(record, head.accept) if record != NULL else NULL
            if rep == NULL:
                return self.hand_over(fd, conn, p, end)
            matched = 0
            if head.none_match != NULL:
                matched = self.none_match(rep, head.none_match, head.none_match_len)
                if matched < 0:
                    return self.hand_over(fd, conn, p, end)
            if not self.add(conn, &head, p, record, rep, matched):
                return self.hand_over(fd, conn, p, end)
            p = self.answered_up_to(conn, &head, p, end)
            batch += rep.size
            if (
                p == end or rep.fd >= 0 or batch > BATCH_BYTES
                or self.answers_count == ANSWERS_MAX or self.requests_left <= 0
            ):
                result = self.flush(fd, conn, p, end)
                if result != DONE or conn.inbox_len:
                    return result
                batch = 0
                if p < end and self.has_had_its_share():
                    return self.keep_input(conn, p, end) or ENOUGH
        return DONE

    cdef bint knows_client(self, Head *head, Record *record) noexcept nogil:
        """Whether the log can name the client. A file is the same for all; for a servlet `ask` reads all of it."""
        return record != NULL and (not record.count or not self.log_on or self.find_client(head))

    cdef inline bint has_had_its_share(self) noexcept nogil:
        """Whether the connection at hand has to let the others have their turn."""
        return self.requests_left <= 0 or self.bytes_left <= self.bytes_spared

    cdef inline const char *answered_up_to(self, Conn *conn, Head *head, const char *p, const char *end) noexcept nogil:
        """Where the next request begins. Behind the last one nothing is read."""
        self.requests_left -= 1
        conn.answered = True
        p += head.length
        conn.closing = STAYS
        if head.mode == CLOSE:
            conn.closing = CLOSES if p == end else CLOSES_DEAF
            return end
        return p

    cdef Record *look_up(self, Head *head) noexcept nogil:
        self.hold_gil()
        return self.put_quick(head)

    cdef Record *put_quick(self, Head *head) noexcept with gil:
        """Who answers this target at once, as a record without representations; NULL for nobody."""
        cdef Record *record
        cdef bytes target = head.target[: head.target_len]
        try:
            found = self.look_up_quick(target)
            if found is None:
                return NULL
            quick = _Servlet(target, *found)
            if len(self.quick) >= QUICK_MAX:
                self.forget_quick()
            self.drop_key(target)    # one that is still to move
            record = new_record(head.target, head.target_len, NULL, 0)
            if record == NULL:
                return NULL
            record.hash = head.hash
            Py_INCREF(quick)
            record.keep = <PyObject *> quick
            if not self.insert(record):
                release(record)
                return NULL
            self.quick.add(target)
            return record
        except BaseException:
            return NULL          # the general lane will say what is wrong

    cdef int answer_quick(
        self, int fd, Conn *conn, Head *head, Record *found, const char **at, const char *end
    ) noexcept nogil:
        """As `answer`, for the request at `at`, and alone: what a servlet has done cannot be taken back."""
        cdef const char *p = at[0]
        cdef Record *record = NULL
        cdef Answer *answer = &self.answers[0]
        cdef int result = HAND_OVER
        self.hold_gil()
        if not self.log_on or self.may_log(head):
            result = self.ask(fd, head, found, p, &record)
            conn = &self.conns[fd]       # Python may have made the table grow
        if result == HAND_OVER:
            result = self.hand_over(fd, conn, p, end, True)
            if result != HAND_OVER:
                self.discard_made()
            else:
                self.hand_made(fd)
            return result
        if result != DONE:
            return result
        if self.draining:        # since the servlet was called, perhaps by itself
            head.mode = CLOSE
        at[0] = self.answered_up_to(conn, head, p, end)
        answer.start = p
        answer.record = record
        answer.rep = record.reps
        answer.size = record.reps.size if head.is_get else 0
        answer.not_modified = False
        answer.log_mark = self.log_len
        if self.log_on:
            self.log_line(conn, head, 200, answer.size)
        self.iov[0].iov_base = <void *> self.prefix[head.mode][0]
        self.iov[0].iov_len = self.prefix_len[head.mode][0]
        self.iov[1].iov_base = <void *> record.reps.head
        self.iov[1].iov_len = record.reps.head_len + <size_t> answer.size
        self.answers_count = 1
        self.count_answer(answer, 1)
        result = self.flush(fd, conn, at[0], end)
        record.refs -= 1
        if record.refs or record.key_len > BATCH_BYTES:
            self.maybe_dead(record)
        else:
            self.spare = record
        return result

    cdef int ask(self, int fd, Head *head, Record *found, const char *p, Record **record) noexcept with gil:
        """DONE with an answer in a record of its own, HAND_OVER, GONE."""
        cdef _Servlet servlet = <_Servlet> found.keep
        cdef int failed = HAND_OVER      # the general lane will say what is wrong
        self.bury()              # what the last answers were sent from
        try:
            if servlet.fresh_in != self.turn and not self.is_fresh(servlet):
                return HAND_OVER
            failed = GONE                # an application does not raise, and nobody is called twice
            client = self.name_of(&self.conns[fd])
            said = p[: head.length]
            origin = None
            if head.forwarded and self.is_trusted(&self.conns[fd]):
                origin = self.origin(client, said)
            if origin is not None:
                client = origin.client.name
            self.asking = fd
            made = self.call(servlet, b"GET" if head.is_get else b"HEAD", said, client, origin)
            self.asking = -1
            if origin is not None:
                self.note_client(head, client.encode("ascii"))
            if self.conns[fd].owner != OWNER_LANE:
                return GONE              # the servlet had all connections closed
            if type(made) is bytes:
                record[0] = self.record_of(servlet.fields, <bytes> made)
            elif type(made) is tuple:
                fields, content = made
                record[0] = self.record_of(bytes(fields), bytes(content))    # of a class of its own, perhaps
            else:
                self.over_made = made
                return HAND_OVER
            return GONE if record[0] == NULL else DONE
        except BaseException:
            return failed

    cdef bint is_fresh(self, _Servlet servlet):
        """Whether nothing has changed that a servlet is made of; once a turn, and mostly by one look."""
        cdef int unread = 0
        if (
            servlet.notice < 0
            or self.now > servlet.fresh_at + servlet.sure_s
            or ioctl(servlet.notice, FIONREAD, &unread) < 0
            or unread
        ):
            if not servlet.is_fresh():
                return False
            servlet.fresh_at = self.now
        servlet.fresh_in = self.turn
        return True

    cdef void discard_made(self) noexcept with gil:
        """The connection is gone that the answer was for."""
        made, self.over_made = self.over_made, None
        if made is not None:
            made.discard()

    cdef void hand_made(self, int fd) noexcept with gil:
        """The connection that is handed over goes on with what the application made."""
        made, self.over_made = self.over_made, None
        if made is not None:
            self.made[fd] = made

    cdef note_client(self, Head *head, bytes name):
        """Have the log name this client."""
        head.client_len = <uint8_t> min(PyBytes_GET_SIZE(name), NAME_MAX)
        memcpy(self.client, PyBytes_AS_STRING(name), head.client_len)

    cdef object call(self, _Servlet servlet, bytes method, bytes head, str client, origin):
        """What a servlet returned, if that is bytes; else what the application made of it."""
        self.running = servlet.where
        try:
            if origin is None:
                request = servlet.request(method, servlet.target, head, client, b"", servlet.params)
            else:
                request = servlet.request(method, servlet.target, head, client, b"", servlet.params, origin)
            value = servlet.function(request)
            return value if type(value) is bytes else servlet.finish(method, value)
        except BaseException as error:
            return servlet.fail(method, error)
        finally:
            self.running = None

    cdef str name_of(self, Conn *conn):
        """The peer's name; most requests come from whom the last one came from, a proxy."""
        self.name_peer(conn)
        if self.last_name_len != conn.name_len or memcmp(self.last_name, conn.name, conn.name_len) != 0:
            memcpy(self.last_name, conn.name, conn.name_len)
            self.last_name_len = conn.name_len
            self.last_client = conn.name[: conn.name_len].decode("ascii")
        return self.last_client

    cdef Record *record_of(self, bytes fields, bytes content) noexcept:
        """A record that is in no table: an answer's head and content, its memory the last one's where that is enough."""
        cdef Record *record = self.spare
        cdef Rep rep
        cdef size_t fields_len = PyBytes_GET_SIZE(fields), size = PyBytes_GET_SIZE(content)
        cdef size_t room = LENGTH_LINE_MAX + fields_len + 2 + size
        cdef char *at
        if room > 0xFFFFFFFF:
            return NULL
        self.spare = NULL
        if record == NULL or record.key_len < room:
            free(record)
            memset(&rep, 0, sizeof(Rep))
            rep.fd = -1
            record = new_record(NULL, max(room, <size_t> COPY_BYTES_MAX), &rep, 1)
            if record == NULL:
                return NULL
            record.dropped = True
            record.reps.head = record.key
        record.refs = 1
        at = record.key
        memcpy(at, b"Content-Length: ", 16)
        at += 16
        at += decimal(size, at)
        memcpy(at, b"\r\n", 2)
        memcpy(at + 2, PyBytes_AS_STRING(fields), fields_len)
        at += 2 + fields_len
        memcpy(at, b"\r\n", 2)
        record.reps.head_len = <uint32_t> (at + 2 - record.key)
        record.reps.size = size
        memcpy(at + 2, PyBytes_AS_STRING(content), size)
        return record

    cdef inline void hold_gil(self) noexcept nogil:
        """Python is needed: keep its lock for as long as one request after the other needs it. Who else waits for it gets it
        while a servlet runs, as threads do."""
        self.asked = True
        if not self.holds_gil:
            self.holds_gil = True
            PyEval_RestoreThread(self.thread)

    cdef inline void let_gil_go(self) noexcept nogil:
        if self.holds_gil:
            self.holds_gil = False
            self.thread = PyEval_SaveThread()

    cdef bint add(self, Conn *conn, Head *head, const char *start, Record *record, Rep *rep, bint matched) noexcept nogil:
        """Put an answer behind the others; False where its log line is Python's."""
        cdef Answer *answer = &self.answers[self.answers_count]
        cdef iovec *iov = &self.iov[2 * self.answers_count]
        answer.log_mark = self.log_len
        if self.log_on:
            if not self.may_log(head):
                return False
            self.log_line(conn, head, 304 if matched else 200, rep.size if head.is_get and not matched else 0)
        answer.start = start
        answer.record = record
        answer.rep = rep
        answer.not_modified = matched
        answer.size = rep.size if head.is_get and not matched else 0
        iov[0].iov_base = <void *> self.prefix[head.mode][matched]
        iov[0].iov_len = self.prefix_len[head.mode][matched]
        if matched:
            iov[1].iov_base = <void *> (rep.head + rep.tail)
            iov[1].iov_len = rep.head_len - rep.tail
        else:
            iov[1].iov_base = <void *> rep.head
            iov[1].iov_len = rep.head_len + (<size_t> answer.size if rep.fd < 0 else 0)
            expect_bytes(rep.head, min(iov[1].iov_len, <size_t> PREFETCH_BYTES))
        self.answers_count += 1
        self.count_answer(answer, 1)
        self.touch(record, rep)
        return True

    cdef void sight(self, Record *record, Rep *rep) noexcept nogil:
        """Note a use where it is sampled, before its tick is written. What finds no place is not noted."""
        cdef Sighting *sighting = &self.sightings[self.sightings_count]
        cdef int64_t size = rep.head_len + rep.size
        cdef uint32_t hash = record.hash ^ <uint32_t> rep.coding
        sighting.followed = (
            self.turn >= rep.told + self.pause and <double> hash * self.unit < <double> size * 4294967296.0
        )
        self.gap -= 1
        sighting.measured = self.gap <= 0
        if sighting.measured:
            self.seed = self.seed * 6364136223846793005u + 1442695040888963407u
            self.gap = 1 + (self.seed >> 33) % (2 * self.every - 1)
        if (sighting.followed or sighting.measured) and self.sightings_count < SIGHTINGS_MAX:
            if sighting.followed:
                rep.told = self.turn
            sighting.hash = hash
            sighting.size = size
            sighting.tick = self.turn
            sighting.last = rep.tick
            self.sightings_count += 1

    cdef inline void count_answer(self, Answer *answer, int by) noexcept nogil:
        self.requests += by
        self.bytes_sent += by * answer.size
        self.not_modified += by * answer.not_modified

    cdef int flush(self, int fd, Conn *conn, const char *p, const char *end) noexcept nogil:
        """Send the answers. DONE, GONE, or BLOCKED and ENOUGH with what is left noted in `conn`.

        An answer of which nothing went out is taken back, and its request's bytes go to the inbox with all from `p` on: so
        what waits for the socket is one answer, by reference.
        """
        cdef msghdr message
        cdef ssize_t count
        cdef size_t done, total = 0
        cdef int i = 0, k, j, answers = self.answers_count
        cdef Answer *last = &self.answers[answers - 1]
        cdef int64_t span = last.size if last.rep.fd >= 0 else 0
        # What a close follows at once goes out with its FIN, in one packet.
        cdef int flags = MSG_NOSIGNAL | (MSG_MORE if span or conn.closing else 0)
        self.answers_count = 0
        for j in range(2 * answers):
            total += self.iov[j].iov_len
        if total <= COPY_BYTES_MAX and not span:
            # Measured: a copy of this size costs less than what sendmsg has over send.
            total = 0
            for j in range(2 * answers):
                memcpy(self.out + total, self.iov[j].iov_base, self.iov[j].iov_len)
                total += self.iov[j].iov_len
            count = send(fd, self.out, total, flags)
        else:
            memset(&message, 0, sizeof(msghdr))
            message.msg_iov = self.iov
            message.msg_iovlen = 2 * answers
            count = sendmsg(fd, &message, flags)
        if count < 0:
            if errno != EAGAIN and errno != EINTR:
                return GONE
            count = 0
        self.bytes_left -= count
        done = count
        while i < 2 * answers and done >= self.iov[i].iov_len:
            done -= self.iov[i].iov_len
            i += 1
        if i == 2 * answers and not span:
            if total > FIRST_FLIGHT_BYTES and conn.closing:
                conn.closing = CLOSES_DEAF       # a part may wait for the client's acknowledgement
            return DONE
        k = min(i // 2, answers - 1)
        if k + 1 < answers:
            span = 0
            conn.closing = STAYS
            p = self.answers[k + 1].start
            self.log_len = self.answers[k + 1].log_mark
            for j in range(k + 1, answers):
                self.count_answer(&self.answers[j], -1)
                self.answers[j].rep.uses -= 1
        if p < end and self.keep_input(conn, p, end) < 0:
            return GONE
        conn.record = self.answers[k].record
        conn.record.refs += 1
        conn.record.sending += 1
        if i == 2 * k:
            conn.prefix_len = <uint16_t> min(self.iov[i].iov_len - done, PREFIX_MAX)
            memcpy(conn.prefix, <const char *> self.iov[i].iov_base + done, conn.prefix_len)
            done = 0
        if i <= 2 * k + 1:
            conn.rest = <const char *> self.iov[2 * k + 1].iov_base + done
            conn.rest_len = self.iov[2 * k + 1].iov_len - done
        conn.span_fd = self.answers[k].rep.fd
        conn.span_offset = self.answers[k].rep.offset
        conn.span_len = span
        return self.go_on(fd, conn)

    cdef int keep_input(self, Conn *conn, const char *p, const char *end) noexcept nogil:
        """Have `p` to `end` be the inbox."""
        cdef size_t length = end - p
        cdef char *inbox = <char *> realloc(conn.inbox, length)
        if inbox == NULL:
            return GONE
        memcpy(inbox, p, length)
        conn.inbox = inbox
        conn.inbox_len = <uint32_t> length
        return DONE

    cdef void free_inbox(self, Conn *conn) noexcept nogil:
        free(conn.inbox)
        conn.inbox = NULL
        conn.inbox_len = 0

    cdef int go_on(self, int fd, Conn *conn) noexcept nogil:
        """Send what is left. DONE, GONE, BLOCKED, or ENOUGH for this turn."""
        cdef msghdr message
        cdef iovec two[2]
        cdef ssize_t count
        cdef size_t taken
        cdef off_t offset
        if conn.closing:
            conn.closing = CLOSES_DEAF   # a part may wait in the kernel, where a reset would take it
        while conn.prefix_len or conn.rest_len:
            if self.bytes_left <= 0:
                return ENOUGH
            two[0].iov_base = conn.prefix
            two[0].iov_len = conn.prefix_len
            two[1].iov_base = <void *> conn.rest
            two[1].iov_len = conn.rest_len
            memset(&message, 0, sizeof(msghdr))
            message.msg_iov = two
            message.msg_iovlen = 2
            count = sendmsg(fd, &message, MSG_NOSIGNAL | (MSG_MORE if conn.span_len else 0))
            if count < 0:
                return self.blocked(fd, conn)
            self.bytes_left -= count
            taken = min(<size_t> count, <size_t> conn.prefix_len)
            conn.prefix_len -= <uint16_t> taken
            memmove(conn.prefix, conn.prefix + taken, conn.prefix_len)
            taken = count - taken
            conn.rest += taken
            conn.rest_len -= taken
            conn.since = self.now
        while conn.span_len:
            if self.bytes_left <= 0:
                return ENOUGH
            offset = conn.span_offset
            count = sendfile(fd, conn.span_fd, &offset, min(conn.span_len, self.bytes_left))
            if count < 0:
                return self.blocked(fd, conn)
            if count == 0:
                return GONE      # only a file sent in place can end early
            conn.span_offset += count
            conn.span_len -= count
            self.bytes_left -= count
            conn.since = self.now
        self.unpin(conn)
        return DONE

    cdef int blocked(self, int fd, Conn *conn) noexcept nogil:
        if errno == EINTR:
            return ENOUGH
        if errno != EAGAIN:
            return GONE
        ioctl(fd, SIOCOUTQ, &conn.outq)
        return BLOCKED

    cdef void unpin(self, Conn *conn) noexcept nogil:
        cdef Record *record = conn.record
        conn.prefix_len = 0
        conn.rest_len = 0
        conn.span_len = 0
        conn.record = NULL
        if record != NULL:
            record.refs -= 1
            record.sending -= 1
            self.maybe_dead(record)

    cdef int hand_over(self, int fd, Conn *conn, const char *p, const char *end, bint at_once=False) noexcept nogil:
        """The connection becomes Python's, with the bytes from `p` on. Not before all that was answered is out: till then
        they wait in the inbox, and are judged again. So do they where Python has enough to do for this turn, but for a request
        that is answered by now: the others have theirs first."""
        cdef int result
        if self.answers_count:
            result = self.flush(fd, conn, p, end)
            if result != DONE or conn.inbox_len:
                return result
        if self.handed_count >= HANDED_MAX and not at_once:
            return self.keep_input(conn, p, end) or ENOUGH
        if self.watch_fresh(fd, conn) < 0 or (p < end and self.keep_input(conn, p, end) < 0):
            return GONE
        conn.owner = OWNER_PYTHON
        conn.handed = True
        self.count -= 1
        self.foreign += 1
        self.handed_count += 1
        self.tell(fd, 0)
        return HAND_OVER

    # --- the log ----------------------------------------------------------------------------------------------

    cdef bint may_log(self, Head *head) noexcept nogil:
        """Whether there is room for a line, and no value that needs escaping, which is Python's."""
        return (
            head.referer_len <= LOG_VALUE_MAX
            and head.agent_len <= LOG_VALUE_MAX
            and is_plain(head.referer, head.referer_len)
            and is_plain(head.agent, head.agent_len)
            and is_plain(head.target, head.target_len)
            and self.log_len + head.target_len + 2 * LOG_VALUE_MAX + 512 <= LOG_BYTES
        )

    cdef void log_line(self, Conn *conn, Head *head, int status, int64_t size) noexcept nogil:
        """Write a line, where `may_log`."""
        cdef char number[32]
        if self.log_json:
            self.write(b'{"time": "', 10)
            self.write(self.log_time, self.log_time_len)
            self.write(b'", "peer": "', 12)
            self.write_client(conn, head)
            self.write(b'", "method": "', 14)
            self.write(b"GET" if head.is_get else b"HEAD", 3 if head.is_get else 4)
            self.write(b'", "target": "', 14)
            self.write(head.target, head.target_len)
            self.write(b'", "version": "HTTP/1.', 22)
            self.write(b"1" if head.minor else b"0", 1)
            self.write(b'", "status": ', 13)
            self.write(number, decimal(status, number))
            self.write(b', "bytes": ', 11)
            self.write(number, decimal(size, number))
            self.write(b', "referer": "', 14)
            self.write(head.referer, head.referer_len)
            self.write(b'", "user_agent": "', 18)
            self.write(head.agent, head.agent_len)
            self.write(b'"}\n', 3)
            self.look_at_log()
            return
        self.write_client(conn, head)
        self.write(b" - - [", 6)
        self.write(self.log_time, self.log_time_len)
        self.write(b'] "', 3)
        self.write(b"GET " if head.is_get else b"HEAD ", 4 if head.is_get else 5)
        self.write(head.target, head.target_len)
        self.write(b' HTTP/1.', 8)
        self.write(b'1" ' if head.minor else b'0" ', 3)
        self.write(number, decimal(status, number))
        self.write(b" ", 1)
        self.write(number, decimal(size, number))
        self.write(b' "', 2)
        self.write_value(head.referer, head.referer_len)
        self.write(b'" "', 3)
        self.write_value(head.agent, head.agent_len)
        self.write(b'"\n', 2)
        self.look_at_log()

    cdef inline void look_at_log(self) noexcept nogil:
        """Have Python take the lines before there is no room for more."""
        if self.log_len > LOG_BYTES // 2:
            self.due = self.full = True

    cdef inline void write(self, const char *text, size_t length) noexcept nogil:
        if length:               # `text` may be NULL else
            memcpy(self.log + self.log_len, text, length)
            self.log_len += length

    cdef inline void write_value(self, const char *text, size_t length) noexcept nogil:
        if length:
            self.write(text, length)
        else:
            self.write(b"-", 1)

    cdef void write_client(self, Conn *conn, Head *head) noexcept nogil:
        """The peer, or the client that it named."""
        if head.client_len:
            self.write(self.client, head.client_len)
            return
        self.name_peer(conn)
        self.write(conn.name, conn.name_len)

    cdef void name_peer(self, Conn *conn) noexcept nogil:
        if conn.name_len:
            return
        if conn.family == AF_INET or conn.family == AF_INET6:
            inet_ntop(conn.family, conn.address, conn.name, NAME_MAX)
            conn.name_len = <uint8_t> c_length(conn.name)
        else:
            memcpy(conn.name, b"unix:", 5)
            conn.name_len = 5

    # --- connections ------------------------------------------------------------------------------------------

    cdef int room_for(self, int fd) noexcept nogil:
        cdef int size
        cdef Conn *grown
        if fd < self.conns_size:
            return 0
        size = 2 * fd + 64
        grown = <Conn *> realloc(self.conns, size * sizeof(Conn))
        if grown == NULL:
            return -1
        memset(grown + self.conns_size, 0, (size - self.conns_size) * sizeof(Conn))
        self.conns = grown
        self.conns_size = size
        return 0

    cdef void renew(self, Conn *conn) noexcept nogil:
        """A descriptor's number has another owner: what is told of the one before is not for it."""
        cdef uint32_t generation = conn.generation + 1
        memset(conn, 0, sizeof(Conn))
        conn.generation = generation
        conn.born = conn.since = self.now

    cdef int watch(self, int fd, bint source) noexcept nogil:
        cdef epoll_event event
        memset(&event, 0, sizeof(epoll_event))
        event.data.u64 = <uint64_t> self.conns[fd].generation << 32 | <uint32_t> fd
        event.events = <uint32_t> EPOLLET | EPOLLIN
        if not source:
            event.events |= <uint32_t> EPOLLOUT | EPOLLRDHUP
        return epoll_ctl(self.epfd, EPOLL_CTL_ADD, fd, &event)

    cdef void tell(self, int fd, uint32_t mask) noexcept nogil:
        """Report to Python; where it is not `full`, there is a place for it."""
        self.reports[self.reports_count].fd = fd
        self.reports[self.reports_count].mask = mask
        self.reports_count += 1
        self.due = True
        if self.reports_count >= REPORTS_MAX - 1:
            self.full = True     # one place is kept: a listener may report itself besides its client

    cdef void run_again(self, int fd) noexcept nogil:
        cdef int *grown
        if self.conns[fd].queued:
            return
        if self.again_count == self.again_size:
            grown = <int *> realloc(self.again, (2 * self.again_size + 64) * sizeof(int))
            if grown == NULL:
                return
            self.again = grown
            self.again_size = 2 * self.again_size + 64
        self.conns[fd].queued = True
        self.again[self.again_count] = fd
        self.again_count += 1

    cdef void end(self, int fd) noexcept nogil:
        """Close a connection of the lane; harmless where a servlet had all of them closed meanwhile."""
        if self.conns[fd].owner != OWNER_LANE:
            return
        self.unpin(&self.conns[fd])
        self.free_inbox(&self.conns[fd])
        self.conns[fd].owner = OWNER_NONE
        self.count -= 1
        self.drained = self.draining and not self.count
        close(fd)

    cdef void accept_from(self, int listener) noexcept nogil:
        """Accept clients: as many as this turn may. Python sees to what else is to be done."""
        cdef int result = self.accept(listener)
        if result == ENOUGH:
            self.run_again(listener)
        elif result == GONE:
            self.tell(listener, <uint32_t> EPOLLIN)

    cdef int accept(self, int listener) noexcept nogil:
        """DONE when the queue is empty, ENOUGH when it may not be, GONE when Python must see to it.

        A client is served at once: its request is often there already, and a connection for but one is never watched at all.
        """
        cdef sockaddr_storage address
        cdef socklen_t length
        cdef int fd
        cdef Conn *conn
        while self.accepts_left > 0 and not self.full:
            if self.draining or self.count + self.foreign >= self.connections_max:
                return GONE
            length = sizeof(sockaddr_storage)
            fd = accept4(listener, <sockaddr *> &address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                return DONE if errno == EAGAIN else GONE
            self.accepts_left -= 1
            if self.room_for(fd) < 0:
                close(fd)
                return GONE
            conn = &self.conns[fd]
            self.renew(conn)
            conn.owner = OWNER_LANE
            conn.family = address.ss_family
            if address.ss_family == AF_INET:
                memcpy(conn.address, &(<sockaddr_in *> &address).sin_addr, 4)
            elif address.ss_family == AF_INET6:
                memcpy(conn.address, &(<sockaddr_in6 *> &address).sin6_addr, 16)
            conn.fresh = conn.readable = True
            self.count += 1
            self.serve(fd, 0)
            conn = &self.conns[fd]
            if conn.owner == OWNER_LANE and self.watch_fresh(fd, conn) < 0:
                self.end(fd)
                return GONE
        return ENOUGH

    cdef int watch_fresh(self, int fd, Conn *conn) noexcept nogil:
        if not conn.fresh:
            return 0
        conn.fresh = False
        return self.watch(fd, False)

    cdef void serve(self, int fd, uint32_t mask) noexcept nogil:
        """A connection's share of this turn: what is pending goes out, then what has come in is read and answered.

        An edge is told once. What it told of stands in `readable` until a recv finds the socket empty, whatever happens
        meanwhile; a connection that stops before stands in `again`.
        """
        cdef Conn *conn = &self.conns[fd]
        cdef int result
        if mask & <uint32_t> (EPOLLRDHUP | EPOLLHUP):
            conn.hung_up = True
        if mask & ~<uint32_t> EPOLLOUT:
            conn.readable = True
        if conn.lingering:
            self.linger(fd, conn)
            return
        self.requests_left = self.pipeline_max
        self.bytes_left = self.turn_bytes_max
        if conn.record != NULL:
            if mask and not mask & <uint32_t> (EPOLLOUT | EPOLLERR | EPOLLHUP):
                return           # what the client sends meanwhile waits, and is no progress
            result = self.go_on(fd, conn)
            if result == DONE and conn.closing:
                self.finish(fd, conn)
                return
            if result != DONE:
                self.after(fd, result)
                return
        while conn.inbox_len or conn.readable:
            result = self.read_and_answer(fd, conn)
            conn = &self.conns[fd]
            if result != DONE:
                self.after(fd, result)
                return
            if conn.closing:
                self.finish(fd, conn)
                return
            if (conn.inbox_len or conn.readable) and self.has_had_its_share():
                self.run_again(fd)
                return
        if conn.inbox != NULL:
            self.free_inbox(conn)
        if self.ending:
            self.end_idle(fd)

    cdef int read_and_answer(self, int fd, Conn *conn) noexcept nogil:
        """What the inbox holds, or else one recv. As `answer`; DONE, too, when there is nothing."""
        cdef ssize_t length
        if conn.inbox_len:
            length = conn.inbox_len
            memcpy(self.buffer, conn.inbox, length)
            conn.inbox_len = 0
        else:
            length = recv(fd, self.buffer, RECV_BYTES, 0)
            if length <= 0:
                return self.nothing_read(conn, length)
            # Fewer than were asked for: what comes later is told; but not an end that was told already.
            conn.readable = length == RECV_BYTES or conn.hung_up
        conn.since = self.now
        return self.answer(fd, conn, self.buffer, length)

    cdef int nothing_read(self, Conn *conn, ssize_t length) noexcept nogil:
        if length < 0 and errno == EAGAIN:
            conn.readable = False
            return DONE
        return ENOUGH if length < 0 and errno == EINTR else GONE

    cdef void after(self, int fd, int result) noexcept nogil:
        if result == GONE:
            self.end(fd)
        elif result == ENOUGH:
            self.run_again(fd)

    # --- the end of a connection ------------------------------------------------------------------------------

    cdef void finish(self, int fd, Conn *conn) noexcept nogil:
        """The last answer is with the kernel. Input that comes after a close has the kernel send a reset, which throws away
        what it still has to send, and what the client has not read. So a client that may send more, and one that may not
        have received everything yet, is read from until it ends (RFC 9112 section 9.6)."""
        cdef int unread = 0
        if conn.closing == CLOSES and not self.draining:
            ioctl(fd, FIONREAD, &unread)
            if not unread:
                self.end(fd)     # the client said that it sends no more, and all of it is under way
                return
        self.half_close(fd, conn)

    cdef void part(self, int fd) noexcept nogil:
        """End a connection that owes nothing, and has nothing unread."""
        if self.queued_out(fd):
            self.half_close(fd, &self.conns[fd])
        else:
            self.end(fd)

    cdef void half_close(self, int fd, Conn *conn) noexcept nogil:
        self.free_inbox(conn)
        if self.watch_fresh(fd, conn) < 0 or shutdown(fd, SHUT_WR) < 0:
            self.end(fd)
            return
        conn.lingering = conn.readable = True
        conn.outq = self.queued_out(fd)
        conn.since = self.now
        self.linger(fd, conn)

    cdef void linger(self, int fd, Conn *conn) noexcept nogil:
        """Throw away what comes in, until the client ends; `sweep` bounds it."""
        cdef int i
        cdef ssize_t length
        for i in range(LINGER_READS_MAX):
            if not conn.readable:
                return
            length = recv(fd, self.buffer, RECV_BYTES, 0)
            if length <= 0:
                if self.nothing_read(conn, length) == GONE:
                    self.end(fd)
                    return
            else:
                conn.readable = length == RECV_BYTES or conn.hung_up
        if conn.readable:
            self.run_again(fd)

    cdef void sweep(self) noexcept nogil:
        """End connections whose time is over."""
        cdef int fd
        cdef Conn *conn
        self.next_sweep = self.now + self.sweep_interval
        if not self.count:
            return
        for fd in range(self.conns_size):
            conn = &self.conns[fd]
            if conn.owner != OWNER_LANE or conn.queued:
                continue
            if conn.lingering or conn.record != NULL:
                self.sweep_sending(fd, conn)
            elif self.now - conn.since > (self.idle_timeout if conn.answered else self.head_timeout):
                if not self.wait_for_unread(fd):     # a servlet may have taken long
                    self.part(fd)
            elif self.ending:
                self.end_idle(fd)

    cdef void sweep_sending(self, int fd, Conn *conn) noexcept nogil:
        """A slow reader reads: what the kernel has to send gets less."""
        cdef int outq
        cdef double patience = self.write_timeout
        if conn.lingering:
            outq = self.queued_out(fd)
            if outq != conn.outq:
                conn.outq = outq
                conn.since = self.now
            if not outq:
                patience = self.linger_timeout
            if self.now - conn.since > patience:
                self.end(fd)
        elif self.now - conn.since > patience:
            outq = conn.outq
            conn.outq = self.queued_out(fd)
            if conn.outq < outq:
                conn.since = self.now
            else:
                self.end(fd)

    # --- a turn -----------------------------------------------------------------------------------------------

    cdef void run(self, double timeout) noexcept nogil:
        """Serve until Python is needed, the time is over, or the second is.

        A turn is one epoll_wait, all its events, and at most RESUMED_MAX of those connections that had more to do; Python
        hears of what is its own when the turn is over. So nothing that keeps the lane or Python busy keeps either from
        looking at the other descriptors, signals and timers. A turn that is broken off goes on in the next call.
        """
        cdef double until
        cdef bint worked = False
        self.now = monotonic()
        until = self.now + timeout if timeout >= 0 else -1
        if self.is_second_over():
            return
        while True:
            if self.events_at == self.events_count:
                if not self.wait(until, worked):
                    return
                worked = True
                if self.is_second_over():
                    return       # the events wait for the new second's prefixes
            if not self.take_up_events():
                return
            if self.again_count:
                self.take_up_again()
            if self.due or timeout == 0 or (until >= 0 and self.now >= until):
                return

    cdef inline bint is_second_over(self) noexcept nogil:
        return self.now >= self.second_until and self.is_another_second()

    cdef bint is_another_second(self) noexcept nogil:
        cdef timespec t
        clock_gettime(CLOCK_REALTIME, &t)
        self.second_until = self.now + 1 - t.tv_nsec * 1e-9
        return t.tv_sec != self.second

    cdef bint wait(self, double until, bint worked) noexcept nogil:
        """Begin a turn; False when Python is needed instead."""
        if until >= 0:           # a deadline of Python's: the last turn may have taken long
            self.now = monotonic()
        if self.now >= self.next_sweep:
            self.sweep()
        if self.drained:
            self.drained = False
            return False
        self.let_gil_go()
        self.accepts_left = ACCEPTS_MAX
        self.events_at = self.events_count = 0
        self.events_count = epoll_wait(self.epfd, self.events, EVENTS_MAX, self.wait_ms(until, worked))
        self.turn += 1
        self.now = monotonic()
        if self.events_count < 0:
            self.events_count = 0
            return False         # a signal: Python looks after it
        return True

    cdef bint take_up_events(self) noexcept nogil:
        """Serve each event; False when there are more reports than fit."""
        cdef uint64_t data
        cdef uint32_t mask
        cdef int fd
        cdef uint8_t owner
        while self.events_at < self.events_count:
            if self.full:
                return False
            data = self.events[self.events_at].data.u64
            mask = self.events[self.events_at].events
            self.events_at += 1
            fd = <int> (data & 0xFFFFFFFFu)
            if self.conns[fd].generation != data >> 32:
                continue         # it is about a connection that was closed
            owner = self.conns[fd].owner
            if owner == OWNER_LANE:
                self.asked = False
                self.serve(fd, mask)
                if not self.asked:
                    self.let_gil_go()
            elif owner == OWNER_LISTENER:
                self.accept_from(fd)
            elif owner != OWNER_NONE:
                if mask & <uint32_t> (EPOLLRDHUP | EPOLLHUP):
                    self.conns[fd].hung_up = True    # for when the connection comes back
                self.tell(fd, mask)
        return True

    cdef void take_up_again(self) noexcept nogil:
        """Serve those that had more to do; what comes behind them has its turn the next time."""
        cdef int fd, at = 0
        cdef int count = min(self.again_count, RESUMED_MAX)
        self.turn += 1           # what is read now may be younger than the events
        while at < count and not self.full:
            fd = self.again[at]
            at += 1
            if not self.conns[fd].queued:
                continue         # it is about a connection that was closed
            self.conns[fd].queued = False
            if self.conns[fd].owner == OWNER_LISTENER:
                self.accept_from(fd)
            elif self.conns[fd].owner == OWNER_LANE:
                self.serve(fd, 0)
        self.again_count -= at
        if at and self.again_count:
            memmove(self.again, self.again + at, self.again_count * sizeof(int))

    cdef int wait_ms(self, double until, bint worked) noexcept nogil:
        """How long to wait. After work there are log lines for Python, and a signal may have come: at most a second."""
        cdef double left = 1 if worked else -1
        if self.again_count or self.busy:
            return 0
        if self.count and (left < 0 or self.next_sweep - self.now < left):
            left = max(self.next_sweep - self.now, 0)
        if until >= 0 and (left < 0 or until - self.now < left):
            left = max(until - self.now, 0)
        return -1 if left < 0 else <int> (left * 1000 + 0.999)


cdef Record TOMB             # where a record stood that left its table before the others: a search goes on behind it
memset(&TOMB, 0, sizeof(Record))
TOMB.key_len = 0xFFFFFFFFu

cdef uint32_t mask_for(uint32_t resources) noexcept nogil:
    """That of a table which is at most half full with so many."""
    cdef uint32_t mask = SLOTS_MIN - 1
    while mask // 2 < resources and mask < 0x7FFFFFFFu:
        mask = 2 * mask + 1
    return mask


cdef bint place(Record **slots, uint32_t mask, Record *record) noexcept nogil:
    """Put a record into the first free slot from where its search begins; False when that is not in reach."""
    cdef uint32_t at = record.hash & mask
    cdef int probe
    for probe in range(PROBES_MAX):
        if slots[at] == NULL:
            slots[at] = record
            return True
        at = (at + 1) & mask
    return False


cdef Record *new_record(const char *key, size_t key_len, const Rep *reps, int count) noexcept:
    """A record in whole lines of cache; NULL without memory. Without a key there is room for what else it is to hold."""
    cdef size_t size = sizeof(Record) + count * sizeof(Rep) + key_len
    cdef Record *record = <Record *> aligned_alloc(CACHE_LINE, (size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)
    if record == NULL:
        return NULL
    memset(record, 0, sizeof(Record))
    record.reps = <Rep *> (record + 1)
    record.count = count
    record.key = <char *> (record.reps + count)
    record.key_len = <uint32_t> key_len
    record.touched_at = -1
    if count:
        memcpy(record.reps, reps, count * sizeof(Rep))
    if key != NULL:
        memcpy(record.key, key, key_len)
    return record


cdef void release_all(Record **slots, uint32_t at, uint32_t mask) noexcept:
    """Free what stands in a table from `at` on."""
    while at <= mask:
        if slots[at] != NULL and slots[at] != &TOMB:
            release(slots[at])
        at += 1


cdef void release(Record *record) noexcept:
    """Free a record and let its Python objects go."""
    if record.keep != NULL:
        Py_DECREF(<object> record.keep)
    free(record)


cdef str peer_name(Conn *conn):
    cdef char name[64]
    if conn.family == AF_INET or conn.family == AF_INET6:
        inet_ntop(conn.family, conn.address, name, 64)
        return (<bytes> name).decode()
    return "unix:"

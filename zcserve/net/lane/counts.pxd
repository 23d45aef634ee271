# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Counts: what a lane has answered, sent and accepted, how long answers took, and what its connections do.

The lane alone writes, into memory that is its own. Python's thread reads at any time, by relaxed loads, each number for itself.

An answer is counted when it is gathered, before any of it is sent: so no client has an answer that is not counted. Where the socket takes
nothing of it, it is taken back, and is counted when it is answered again, here or elsewhere. So a number may become less for a moment;
who tells the numbers says the most that it has seen (net/counts.py). Bytes are counted when the kernel has taken them: heads and content.

What is answered is counted by account: that of the site that the request is for (site/accounts.py). What is gathered to be sent together is of
one site, so that its bytes are of one account, too. `count_for` says which: so a hit for
the same site as the one before pays for a comparison.

One of SAMPLED_EVERY answers is measured, since a look at the clock costs a twentieth of a hit, and is noted as so many: from the turn in
which the request was read (its first byte: a request whose head comes in pieces is Python's) to the time when the kernel has all of the
answer. An answer that the client does not take to its end has no duration.
"""

from libc.stdint cimport uint64_t

from zcserve.net.lane.atomic cimport look_64, look_double, look_int, set_64, set_double, set_int

cdef enum:
    CODES = 13                   # as many as there are statuses in output.pxd
    SAMPLED_EVERY = 64           # answers; net/counts.py has the same, and the bounds
    SAMPLED_FIRST = 32           # in the middle: so the histogram has never more than that too many, or too few
    BOUNDS = 21

cdef enum:                       # methods that a lane answers, in the order of net/counts.py
    GET = 0
    HEAD = 1
    POST = 2
    PUT = 3
    PATCH = 4
    DELETE = 5
    METHODS = 8                  # cells for each status: a power of two

cdef enum:
    ACCOUNTS = 66                # as in site/accounts.py
    ACCOUNT_CELLS = CODES * METHODS              # of one account

cdef extern from * nogil:
    """
    static const double zc_bounds_s[21] = {
        0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
    };
    """
    const double *BOUNDS_S "zc_bounds_s"

cdef struct Histogram:
    uint64_t counts[BOUNDS + 1]  # of what took so long as a bound at most, and longer than the one before
    double sum                   # seconds

cdef struct Answered:
    int left                     # so many answers are counted until one is to be measured; for the lane alone
    int account                  # that is counted for
    Py_ssize_t first_cell        # where its cells begin
    Histogram calls              # of servlets that the lane calls
    Histogram durations
    # By account; of those that are in use alone there is memory:
    uint64_t bytes_sent[ACCOUNTS]
    uint64_t said[ACCOUNTS]      # answers of servlets, with 200. What else has 200, 206, 304, 412 or 416 is of a file
    uint64_t cells[ACCOUNTS * ACCOUNT_CELLS]     # by account, status and method

cdef struct Clients:             # of the lane's connections
    uint64_t accepted
    int reading, writing, waiting, ending        # how many did so at the last sweep; the others were idle


cdef inline void open_counts(Answered *answered) noexcept nogil:
    answered.left = SAMPLED_FIRST


# --- answers ------------------------------------------------------------------------------------------------


cdef inline int cell_of(int status, int method) noexcept nogil:
    return status * METHODS + method


cdef inline void count_for(Answered *answered, int account) noexcept nogil:
    """What is counted from now on is of this account."""
    answered.account = account
    answered.first_cell = account * ACCOUNT_CELLS


cdef inline void count_answers(Answered *answered, int cell, int by) noexcept nogil:
    """So many answers more, or less."""
    cdef Py_ssize_t at = answered.first_cell + cell
    answered.left -= by
    set_64(&answered.cells[at], answered.cells[at] + by)


cdef inline void note_said(Answered *answered, int count) noexcept nogil:
    """So many of the answers that were counted are servlets'."""
    set_64(&answered.said[answered.account], answered.said[answered.account] + count)


cdef inline void count_bytes(Answered *answered, int account, size_t count) noexcept nogil:
    set_64(&answered.bytes_sent[account], answered.bytes_sent[account] + count)


cdef inline bint is_one_to_measure(const Answered *answered) noexcept nogil:
    """Whether one of the answers that were counted is to be measured: `choose_next` then."""
    return answered.left <= 0


cdef inline bint choose_next(Answered *answered) noexcept nogil:
    """Whether the last answer that was counted is the one to be measured, and not one before it."""
    cdef bint is_last = answered.left == 0
    while answered.left <= 0:
        answered.left += SAMPLED_EVERY
    return is_last


cdef inline void note_duration(Histogram *histogram, double seconds, int times) noexcept nogil:
    cdef int i = 0
    while i < BOUNDS and seconds > BOUNDS_S[i]:
        i += 1
    set_64(&histogram.counts[i], histogram.counts[i] + times)
    set_double(&histogram.sum, histogram.sum + seconds * times)


# --- connections --------------------------------------------------------------------------------------------


cdef inline void count_client(Clients *clients) noexcept nogil:
    set_64(&clients.accepted, clients.accepted + 1)


cdef inline void show_clients(Clients *clients, const Clients *found) noexcept nogil:
    """What connections do, as a sweep has `found` it."""
    set_int(&clients.reading, found.reading)
    set_int(&clients.writing, found.writing)
    set_int(&clients.waiting, found.waiting)
    set_int(&clients.ending, found.ending)


# --- in Python's thread -------------------------------------------------------------------------------------


cdef inline uint64_t all_answers(const Answered *answered) noexcept nogil:
    """How many there are, of all accounts, statuses and methods."""
    cdef uint64_t found = 0
    cdef int i
    for i in range(ACCOUNTS * ACCOUNT_CELLS):
        found += look_64(&answered.cells[i])
    return found


cdef inline tuple told_counts(const Answered *answered, const Clients *clients, int connections, int accounts):
    """As `Lane.counts` has it of one lane, which has so many connections; so many accounts are in use."""
    return (
        tuple([look_64(&answered.cells[i]) for i in range(accounts * ACCOUNT_CELLS)]),
        tuple([look_64(&answered.bytes_sent[i]) for i in range(accounts)]),
        told_histogram(&answered.durations),
        look_64(&clients.accepted),
        connections,
        (look_int(&clients.reading), look_int(&clients.writing), look_int(&clients.waiting), look_int(&clients.ending)),
        tuple([look_64(&answered.said[i]) for i in range(accounts)]),
        told_histogram(&answered.calls),
    )


cdef inline tuple told_histogram(const Histogram *histogram):
    return tuple([look_64(&histogram.counts[i]) for i in range(BOUNDS + 1)]), look_double(&histogram.sum)

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Parcels: what a lane has gathered goes to Python's thread, all at once and without a copy.

There is one parcel of each kind and lane. The lane gathers into a room of its own; to send it changes it for the parcel's room, which is
empty, and adds one to `sent`. Python's thread reads what came, and adds one to `taken`. So the parcel is the lane's while both numbers are the
same, and Python's while they are not; neither waits for the other. A lane whose parcel was not taken yet goes on gathering.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

from zcserve.net.lane.atomic cimport acquire, release

cdef struct Parcel:
    char before[64]
    uint64_t sent                # written by the lane
    char between[56]
    uint64_t taken               # written by Python's thread
    void *what
    size_t count                 # of what is in it
    char behind[40]


cdef inline int open_parcel(Parcel *parcel, size_t room) except -1:
    """One for so many bytes. Raises MemoryError."""
    parcel.what = malloc(room)
    if parcel.what == NULL:
        raise MemoryError
    return 0


cdef inline void close_parcel(Parcel *parcel) noexcept nogil:
    free(parcel.what)
    parcel.what = NULL


cdef inline bint may_send(const Parcel *parcel) noexcept nogil:
    """In the lane: whether what was sent has been taken."""
    return acquire(&parcel.taken) == parcel.sent


cdef inline void send_parcel(Parcel *parcel, void **room, size_t count) noexcept nogil:
    """In the lane, where it `may_send`: what `room` leads to is on its way, and that leads to another one, which is empty."""
    cdef void *empty = parcel.what
    parcel.what = room[0]
    parcel.count = count
    room[0] = empty
    release(&parcel.sent, parcel.sent + 1)


cdef inline bint has_come(const Parcel *parcel) noexcept nogil:
    """In Python's thread: whether there is something to take."""
    return acquire(&parcel.sent) != parcel.taken


cdef inline void let_parcel_go(Parcel *parcel) noexcept nogil:
    """In Python's thread: what came is taken."""
    release(&parcel.taken, parcel.taken + 1)

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Mail: what one lane asks of another. A mailbox is a ring that any thread puts letters into and one lane takes them from, without locks:
Vyukov's bounded queue, in which each place has the number of the letter that it waits for.

An order is a bit that stands in the box until the lane looks: it finds room always, and what is ordered twice is done once. A letter
has more to say.

An eventfd tells the lane that its box is not empty. It is written for the first letter since the lane looked, and stands in the lane's
epoll, so a turn without letters costs nothing, and a lane that waits is woken.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from zcserve.net.lane.atomic cimport acquire, release, replace, swap_int, unite_int
from zcserve.net.lane.system cimport EFD_CLOEXEC, EFD_NONBLOCK, close, errno, eventfd, write_fd

cdef enum:
    LETTERS_MAX = 4096           # in one box: a power of two. What finds no room is tried again, or refused

cdef struct Letter:
    int kind                     # lanes.pxd says which there are
    int fd
    uint32_t generation          # of the connection with this descriptor, in the lane that it is in
    void *what                   # the taker's from now on

cdef struct Place:
    uint64_t number              # of the letter that may be put here, or one more: that one is here
    Letter letter

cdef struct Mailbox:
    char before[64]              # lines of their own: other threads write
    uint64_t put
    char between[56]
    int told                     # the eventfd was written since the lane looked
    int orders                   # lanes.pxd says which there are
    char behind[56]
    uint64_t taken               # the lane's own
    int fd                       # the eventfd, -1 for none
    Place *places


cdef inline int open_mail(Mailbox *box) except -1:
    """Raises OSError, MemoryError."""
    cdef uint64_t i
    box.fd = -1
    box.places = <Place *> calloc(LETTERS_MAX, sizeof(Place))
    if box.places == NULL:
        raise MemoryError
    for i in range(LETTERS_MAX):
        box.places[i].number = i
    box.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    if box.fd < 0:
        raise OSError(errno, "eventfd")
    return 0


cdef inline void close_mail(Mailbox *box) noexcept nogil:
    """No thread puts or takes any more."""
    if box.places != NULL and box.fd >= 0:
        close(box.fd)
    free(box.places)
    box.places = NULL


cdef inline bint put_letter(Mailbox *box, Letter letter) noexcept nogil:
    """Any thread. False where the box is full: then nothing was put."""
    cdef uint64_t at = acquire(&box.put)
    cdef int64_t ahead
    cdef Place *place
    while True:
        place = &box.places[at & (LETTERS_MAX - 1)]
        ahead = <int64_t> (acquire(&place.number) - at)
        if ahead < 0:
            return False
        if ahead > 0:
            at = acquire(&box.put)
        elif replace(&box.put, &at, at + 1):
            break
    place.letter = letter
    release(&place.number, at + 1)
    tell_lane(box)
    return True


cdef inline void put_order(Mailbox *box, int order) noexcept nogil:
    """Any thread."""
    unite_int(&box.orders, order)
    tell_lane(box)


cdef inline void tell_lane(Mailbox *box) noexcept nogil:
    """Its box is not empty. A lane that was not told would wait for ever: where a write fails, which the system has no reason for, it is
    tried once more, and then the next letter tells."""
    cdef uint64_t one = 1
    if not swap_int(&box.told, 1) and write_fd(box.fd, &one, sizeof(one)) < 0 and write_fd(box.fd, &one, sizeof(one)) < 0:
        swap_int(&box.told, 0)


cdef inline int begin_to_take(Mailbox *box) noexcept nogil:
    """The lane was told: the orders. What is put from now on tells it again. Its eventfd is edge-triggered and need not be read."""
    swap_int(&box.told, 0)
    return swap_int(&box.orders, 0)


cdef inline bint take_letter(Mailbox *box, Letter *letter) noexcept nogil:
    """The lane's thread alone. False where there is none."""
    cdef Place *place = &box.places[box.taken & (LETTERS_MAX - 1)]
    if acquire(&place.number) != box.taken + 1:
        return False
    letter[0] = place.letter
    release(&place.number, box.taken + LETTERS_MAX)
    box.taken += 1
    return True


cdef inline bint see_letter(const Mailbox *box, int i, Letter *letter) noexcept nogil:
    """A letter that was not taken, the first with `i` 0; False where there are not so many."""
    cdef const Place *place = &box.places[(box.taken + i) & (LETTERS_MAX - 1)]
    if acquire(&place.number) != box.taken + i + 1:
        return False
    letter[0] = place.letter
    return True

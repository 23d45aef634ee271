# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Growing: lists of one thread, to which one thing after the other is put. They may lie elsewhere then; arrays that may not are steady.pxd's."""

from libc.stdlib cimport realloc

cdef enum:
    ROOM_MIN = 64                # things in the smallest list


cdef inline void *grown(void *list, size_t *room, size_t each) noexcept nogil:
    """The list with more room: for twice as many things of so many bytes. NULL without memory: then it is as it was."""
    cdef size_t more = 2 * room[0] + ROOM_MIN
    cdef void *longer = realloc(list, more * each)
    if longer != NULL:
        room[0] = more
    return longer

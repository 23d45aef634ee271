# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Steady memory: an array that grows where it is. What points into it stays right, in other threads, too.

Addresses for the longest array are taken at once, and memory for a part of it when that is asked for (`mprotect`): addresses alone
cost nothing, and are not counted as memory, whatever vm.overcommit_memory is. Memory that was not written yet is zero.

Where a process may have few addresses (RLIMIT_AS), an array takes a small share of them: stacks of threads, and all else, come later.
"""

from zcserve.net.lane.system cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE, RLIM_INFINITY, RLIMIT_AS, getrlimit, mmap, mprotect,
    munmap, rlimit,
)

cdef enum:
    SHARE = 32                   # an array gets one of so many parts of a process's addresses


cdef inline size_t share_of_addresses(int parts) noexcept nogil:
    """One of so many parts of the addresses that this process may have: bytes."""
    cdef rlimit limit
    if getrlimit(RLIMIT_AS, &limit) < 0 or limit.rlim_cur == RLIM_INFINITY:
        return <size_t> -1
    return <size_t> limit.rlim_cur // parts


cdef inline void *take_addresses(int *most, size_t each, int least) noexcept nogil:
    """Addresses for an array of up to `most` things of so many bytes; `most` gets less where a process may have few addresses.
    NULL where there are not even so many as are the `least`."""
    cdef size_t share = share_of_addresses(SHARE)
    cdef void *start
    while most[0] > least and most[0] * each > share:
        most[0] //= 2
    while True:
        start = mmap(NULL, most[0] * each, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if start != MAP_FAILED:
            return start
        if most[0] <= least:
            return NULL
        most[0] //= 2


cdef inline bint have_memory(void *start, size_t bytes) noexcept nogil:
    """Have the first `bytes` of what was taken be memory. False where there is none; what was memory still is."""
    return mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0


cdef inline void give_addresses(void *start, size_t bytes) noexcept nogil:
    if start != NULL:
        munmap(start, bytes)

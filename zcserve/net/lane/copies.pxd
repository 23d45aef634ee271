# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Copies: pages of large content that small parts are asked of again and again, such as the index at the end of an archive.

Large content lies in a file that is mapped nowhere (cache/pages.py), and to read a KB of it takes a tenth of an answer's time. So the
pages that are read most are kept here. A page has one place, by its number; it is copied there when it is asked for twice, and nothing
else that belongs there in between: a file that is read through drives out nothing. A copy never grows old: what lies at an offset
of such a file stays the same until it is gone, and nothing is ever put there again (`Body.place`).
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy
from posix.types cimport off_t

from zcserve.net.lane.system cimport pread

cdef enum:
    PAGE_BYTES = 4096
    COPIES = 256                 # 1 MiB

cdef struct Page:
    int fd
    int64_t number

cdef struct Copies:
    char *content                # NULL as long as there are none
    Page copied[COPIES]          # with a number from 1 on, 0 for none
    Page sighted[COPIES]         # the last one that was not there


cdef inline bint read_part(Copies *copies, int fd, int64_t offset, size_t length, char *target) noexcept nogil:
    """Read so many bytes, at least one, of a file. False where they cannot be read."""
    cdef Page page = Page(fd, offset // PAGE_BYTES + 1)
    cdef size_t at = offset % PAGE_BYTES, step
    while is_same(&copies.copied[page.number % COPIES], &page):
        step = min(length, PAGE_BYTES - at)
        memcpy(target, copies.content + PAGE_BYTES * (page.number % COPIES) + at, step)
        length -= step
        if not length:
            return True
        target += step
        offset += step
        page.number += 1
        at = 0
    if pread(fd, target, length, <off_t> offset) != <int64_t> length:
        return False
    while PAGE_BYTES * (page.number - 1) < offset + <int64_t> length:
        sight_page(copies, &page)
        page.number += 1
    return True


cdef inline bint is_same(const Page *one, const Page *other) noexcept nogil:
    return one.number == other.number and one.fd == other.fd


cdef inline void sight_page(Copies *copies, const Page *page) noexcept nogil:
    """A page is asked for; it is copied where it was the last one of its place."""
    cdef int place = page.number % COPIES
    if not is_same(&copies.sighted[place], page):
        copies.sighted[place] = page[0]
        return
    if copies.content == NULL:
        copies.content = <char *> malloc(COPIES * PAGE_BYTES)
        if copies.content == NULL:
            return
    copies.copied[place].number = 0
    if pread(page.fd, copies.content + PAGE_BYTES * place, PAGE_BYTES, <off_t> (PAGE_BYTES * (page.number - 1))) == PAGE_BYTES:
        copies.copied[place] = page[0]

# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Mapped: large content seen through a mapping, and how it gets into a socket.

All large content lies in one memfd (cache/pages.py). It is mapped here once, from its beginning far beyond its end, so that what comes
later is seen, too; what is not there takes only addresses. So a little of it is copied from memory like any other (`content_at`), and
the pages of more are put into a pipe (vmsplice) and from there into the socket (splice), which then refers to them, as after sendfile.
That is one call more, and dearer by nothing else: sendfile locks and looks up each page of a memfd. Measured on loopback with content
that no cache of the processor holds, vmsplice and splice cost 0.79 of sendfile for 64 KB, 0.77 for 128 KB, 0.8 for 1 MB; a copy 0.83 of
sendfile for 24 KB, 1.0 for 64 KB. MSG_ZEROCOPY costs 1.5 to 1.9 of a copy: the kernel copies what goes to itself, and tells so.

Offsets in the memfd only grow, and the kernel keeps a table of pages (8 bytes for each) where content has been. So what lies further
behind the newest content than twice as much as may be resident is mapped anew, a piece at a time (`sweep`): its tables go, and those of
what is still sent from there come again.

The pipe is empty between two calls: what a socket did not take of it goes with the pipe, and there is another one. Where there can
be no mapping (RLIMIT_AS), or no pipe as long as that (fs.pipe-user-pages-soft: with a short one it is slower), content goes by sendfile.
"""

from libc.stdint cimport int64_t
from posix.types cimport off_t

from zcserve.net.lane.steady cimport share_of_addresses
from zcserve.net.lane.system cimport (
    F_SETPIPE_SZ, MADV_DONTDUMP, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_SHARED, O_CLOEXEC, O_NONBLOCK, PROT_READ, SPLICE_F_MORE,
    SPLICE_F_NONBLOCK, close, errno, fcntl, iovec, madvise, mmap, munmap, pipe2, sendfile, set_errno,
    splice, ssize_t, vmsplice,
)

cdef enum:
    COPIED_BYTES_MAX = 24576     # measured: up to here a copy costs about as much as vmsplice and splice, or less
    PIPE_BYTES = 262144          # measured: 64 KB at a time cost 6% more for 300 KB, and 15% for 1 MB
    PAGE_BYTES = 4096
    PIECE_BYTES = 67108864       # swept at once: some 10 us, and 0.3 ms where all of it is resident
    PARTS = 4                    # of addresses, where there are few: one of these for the mapping
    REFUSED_MAX = 1000           # sends before a pipe is asked for again
    LARGEST_BITS = 40            # of addresses: a terabyte, and less where the system has no more
    SMALLEST_BITS = 30

cdef struct Mapped:
    const char *content          # NULL as long as there is none
    int64_t size
    int64_t swept                # up to here
    int64_t behind               # as far as that, what is swept lies behind what is sent
    int fd
    int pipe_out, pipe_in        # 0 as long as there is none
    int refused                  # sends until it is asked for again, where it was refused


cdef inline void map_file(Mapped *mapped, int fd, int64_t resident) noexcept:
    """See this memfd, which the caller keeps open, through a mapping from now on. About so much of it is `resident`."""
    cdef int bits = LARGEST_BITS
    cdef size_t share = share_of_addresses(PARTS)
    cdef void *found
    unmap(mapped)
    mapped.swept = 0
    mapped.behind = 2 * resident
    while bits >= SMALLEST_BITS:
        found = map_piece(NULL, <size_t> 1 << bits, fd, 0) if <size_t> 1 << bits <= share else MAP_FAILED
        if found != MAP_FAILED:
            mapped.content = <const char *> found
            mapped.size = <int64_t> 1 << bits
            mapped.fd = fd
            open_pipe(mapped)
            return
        bits -= 1


cdef inline void *map_piece(void *at, size_t size, int fd, int64_t offset) noexcept nogil:
    """Map a part of a file, `at` this place where there is one: where it is mapped, or MAP_FAILED."""
    cdef void *found = mmap(at, size, PROT_READ, MAP_SHARED | MAP_NORESERVE | (MAP_FIXED if at != NULL else 0), fd, <off_t> offset)
    if found != MAP_FAILED:
        madvise(found, size, MADV_DONTDUMP)
    return found


cdef inline void sweep(Mapped *mapped) noexcept nogil:
    """Map the next piece anew: the kernel throws its tables away."""
    cdef void *piece = <void *> (mapped.content + mapped.swept)
    if map_piece(piece, PIECE_BYTES, mapped.fd, mapped.swept) == MAP_FAILED:
        mapped.content = NULL
    mapped.swept += PIECE_BYTES


cdef inline void unmap(Mapped *mapped) noexcept:
    if mapped.content != NULL:
        munmap(<void *> mapped.content, <size_t> mapped.size)
        mapped.content = NULL
    close_pipe(mapped)


cdef inline const char *content_at(Mapped *mapped, int fd, int64_t offset, int64_t length) noexcept nogil:
    """Where so many bytes of a file stand in memory; NULL where they do not."""
    if mapped.content == NULL or fd != mapped.fd or length > mapped.size - offset:
        return NULL
    if offset - mapped.swept >= mapped.behind + PIECE_BYTES:
        sweep(mapped)
    return mapped.content + offset if mapped.content != NULL else NULL


cdef inline const char *copied_at(Mapped *mapped, int fd, int64_t offset, int64_t length) noexcept nogil:
    """Likewise, where it is so little that it is sent by copy."""
    return content_at(mapped, fd, offset, length) if length <= COPIED_BYTES_MAX else NULL


cdef inline ssize_t send_pages(Mapped *mapped, int to, int fd, int64_t offset, size_t length) noexcept nogil:
    """Send from a file: how many bytes of at least one went, maybe not all; else -1, and errno."""
    cdef const char *content = content_at(mapped, fd, offset, <int64_t> length)
    cdef off_t at = offset
    cdef ssize_t held, sent
    cdef iovec pages
    if content == NULL or not open_pipe(mapped):
        return sendfile(to, fd, &at, length)
    pages.iov_base = <void *> content
    pages.iov_len = min(length, <size_t> (PIPE_BYTES - offset % PAGE_BYTES))
    held = vmsplice(mapped.pipe_in, &pages, 1, SPLICE_F_NONBLOCK)
    if held <= 0:                # not allowed here, or no memory
        close_pipe(mapped)
        return sendfile(to, fd, &at, length)
    sent = splice(mapped.pipe_out, NULL, to, NULL, held, SPLICE_F_NONBLOCK | (SPLICE_F_MORE if <size_t> held < length else 0))
    if sent != held:
        close_pipe(mapped)
        open_pipe(mapped)
    return sent


cdef inline bint open_pipe(Mapped *mapped) noexcept nogil:
    """Whether there is a pipe of PIPE_BYTES; errno stays as it is."""
    cdef int error = errno
    cdef int ends[2]
    if mapped.pipe_in:
        return True
    if mapped.refused:
        mapped.refused -= 1
        return False
    if pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0:
        mapped.pipe_out, mapped.pipe_in = ends[0], ends[1]
        if fcntl(mapped.pipe_in, F_SETPIPE_SZ, <int> PIPE_BYTES) < 0:
            close_pipe(mapped)
    if not mapped.pipe_in:
        mapped.refused = REFUSED_MAX
    set_errno(error)
    return mapped.pipe_in != 0


cdef inline void close_pipe(Mapped *mapped) noexcept nogil:
    """With all that is in it."""
    if mapped.pipe_in:
        close(mapped.pipe_in)
        close(mapped.pipe_out)
        mapped.pipe_out = mapped.pipe_in = 0

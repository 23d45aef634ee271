# cython: language_level=3
"""What the compiled lane takes from the system, in one place: Linux, glibc or musl; and from CPython."""

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.types cimport off_t

cdef extern from "<string.h>" nogil:
    void *memmem(const void *text, size_t length, const void *wanted, size_t wanted_length)

cdef extern from "<sys/types.h>" nogil:
    ctypedef Py_ssize_t ssize_t "ssize_t"

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    int MSG_MORE, MSG_NOSIGNAL, MSG_DONTWAIT, MSG_PEEK
    int SOCK_NONBLOCK, SOCK_CLOEXEC
    int AF_INET, AF_INET6, AF_UNIX
    int SHUT_WR
    int shutdown(int fd, int how)

# The libc's functions of these names are points where a thread may be cancelled (pthreads(7)). As soon as a process has two
# threads, glibc marks the way in and out of each: 40 instructions a call, 6% of a hit's. Nothing here is ever cancelled.
cdef extern from * nogil:
    """
    #include <stddef.h>
    #include <unistd.h>
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #ifdef __SANITIZE_THREAD__           /* which sees what the kernel reads and writes by the functions' names alone */
    #define zc_recv recv
    #define zc_send send
    #define zc_sendmsg sendmsg
    #define zc_accept4 accept4
    #define zc_epoll_wait epoll_wait
    #else
    #define zc_recv(fd, buffer, length, flags) syscall(SYS_recvfrom, fd, buffer, (size_t) (length), flags, NULL, NULL)
    #define zc_send(fd, buffer, length, flags) syscall(SYS_sendto, fd, buffer, (size_t) (length), flags, NULL, (size_t) 0)
    #define zc_sendmsg(fd, message, flags) syscall(SYS_sendmsg, fd, message, flags)
    #define zc_accept4(fd, address, length, flags) ((int) syscall(SYS_accept4, fd, address, length, flags))
    #define zc_epoll_wait(epfd, events, most, timeout) \
        ((int) syscall(SYS_epoll_pwait, epfd, events, most, timeout, NULL, (size_t) 8))
    #endif
    """
    ssize_t recv "zc_recv"(int fd, void *buffer, size_t length, int flags)
    ssize_t send "zc_send"(int fd, const void *buffer, size_t length, int flags)
    ssize_t sendmsg "zc_sendmsg"(int fd, const msghdr *message, int flags)
    int accept4 "zc_accept4"(int fd, sockaddr *address, socklen_t *length, int flags)
    int epoll_wait "zc_epoll_wait"(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events, revents
    int POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout)

cdef extern from "<netinet/in.h>" nogil:
    struct sockaddr_in:
        unsigned char sin_addr
    struct sockaddr_in6:
        unsigned char sin6_addr

cdef extern from "<sys/sendfile.h>" nogil:
    ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count)

cdef extern from * nogil:
    """
    #include <fcntl.h>
    #include <unistd.h>
    """
    int F_DUPFD_CLOEXEC, F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK
    unsigned int SPLICE_F_MORE, SPLICE_F_NONBLOCK
    int fcntl(int fd, int command, ...)
    int pipe2(int *ends, int flags)
    ssize_t vmsplice(int fd, const iovec *pages, size_t count, unsigned int flags)
    ssize_t splice(int fd_in, off_t *offset_in, int fd_out, off_t *offset_out, size_t length, unsigned int flags)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<linux/sockios.h>" nogil:
    int SIOCOUTQ, SIOCOUTQNSD

cdef extern from "<asm/ioctls.h>" nogil:
    int FIONREAD

cdef extern from * nogil:
    void prefetch "__builtin_prefetch"(const void *address)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int dup(int fd)
    ssize_t write_fd "write"(int fd, const void *data, size_t length)

cdef extern from "<sys/eventfd.h>" nogil:
    int EFD_NONBLOCK, EFD_CLOEXEC
    int eventfd(unsigned int start, int flags)

cdef extern from "<sys/resource.h>" nogil:
    ctypedef unsigned long rlim_t
    struct rlimit:
        rlim_t rlim_cur, rlim_max
    int RLIMIT_AS, RLIMIT_NOFILE
    rlim_t RLIM_INFINITY
    int getrlimit(int resource, rlimit *limits)

cdef extern from "<sys/mman.h>" nogil:
    int PROT_NONE, PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_SHARED, MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MADV_DONTDUMP, MADV_DONTNEED
    void *MAP_FAILED
    void *mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset)
    int mprotect(void *start, size_t length, int protection)
    int munmap(void *start, size_t length)
    int madvise(void *start, size_t length, int advice)

cdef extern from "<errno.h>" nogil:
    int errno
    int EAGAIN, EINTR

cdef extern from * nogil:
    """
    #define zc_set_errno(number) (errno = (number))
    """
    void set_errno "zc_set_errno"(int number)

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    ctypedef int64_t time_t
    struct tm:
        int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year
    int CLOCK_MONOTONIC, CLOCK_REALTIME
    int clock_gettime(int clock, timespec *result)
    tm *gmtime_r(const time_t *seconds, tm *result)

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char *text, void *address)
    const char *inet_ntop(int family, const void *source, char *target, socklen_t size)

cdef enum:
    CACHE_LINE = 64

cdef extern from "Python.h" nogil:
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *thread)

cdef inline double monotonic() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + t.tv_nsec * 1e-9

cdef inline void expect_bytes(const char *start, size_t length) noexcept nogil:
    """These bytes will be sent now: they come from memory while the kernel gets ready."""
    cdef const char *line = start
    cdef const char *end = start + length
    while line < end:            # to expect what lies behind them does no harm
        prefetch(line)
        prefetch(line + CACHE_LINE)
        prefetch(line + 2 * CACHE_LINE)
        prefetch(line + 3 * CACHE_LINE)
        line += 4 * CACHE_LINE


cdef extern from *:
    """
    #ifndef ZC_SOURCES
    #define ZC_SOURCES ""
    #endif
    """
    const char *SOURCES "ZC_SOURCES"     # setup.py's: the digest of what this is compiled from

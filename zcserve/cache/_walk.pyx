# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: auto_pickle=False, autotestdict=False
# All memory here is raw C memory of fixed size: there is nothing for Cython's own checks to check.
"""The part of a walk that a reload repeats for every file: is it what it was?

`look` lists one directory and asks for each name's status without holding the GIL, a few hundred names at a time, and
finds the entries of files that are plainly the same. It makes no entry and judges nothing: every name about which
anything is to be decided comes back for walk.py, which comes to the same result without this module, in twice the time.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc cimport errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, strlen

from zcserve.cache.naming import SIBLING_ENDINGS
from zcserve.http import encode_path

cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR:
        pass
    struct dirent:
        unsigned char d_type
        char d_name[256]
    unsigned char DT_UNKNOWN, DT_REG
    DIR *fdopendir(int fd)
    dirent *readdir(DIR *listing)
    void rewinddir(DIR *listing)
    int closedir(DIR *listing)

cdef extern from "<sys/stat.h>" nogil:
    struct timespec:
        int64_t tv_sec
        int64_t tv_nsec
    struct stat_t "stat":
        unsigned int st_mode
        uint64_t st_dev
        uint64_t st_ino
        uint64_t st_size
        timespec st_mtim
        timespec st_ctim
    int fstatat(int directory, const char *name, stat_t *status, int flags)
    bint S_ISREG(unsigned int mode)

cdef extern from "<fcntl.h>" nogil:
    int AT_SYMLINK_NOFOLLOW, F_DUPFD_CLOEXEC
    int fcntl(int fd, int command, ...)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef enum:
    BATCH = 256          # names looked at between two takings of the GIL
    YIELD_EVERY = 1024   # entries, then another thread may have the GIL: half a millisecond
    NAME_BYTES_MAX = 255  # NAME_MAX of Linux
    KEY_BYTES_MAX = 8192  # longer keys are Python's: the path of a directory is at most PATH_MAX, thrice that encoded

# entry.py's `identity_of`: five packed words.
cdef struct Look:
    uint64_t identity[5]
    bint is_file
    int length
    char name[NAME_BYTES_MAX + 1]

cdef enum:
    ENDINGS_MAX = 8
    ENDING_BYTES_MAX = 8

cdef struct Ending:
    int length
    char text[ENDING_BYTES_MAX]

# naming.py's.
cdef Ending ENDINGS[ENDINGS_MAX]
cdef int ending_count = 0
if len(SIBLING_ENDINGS) > ENDINGS_MAX or max(map(len, SIBLING_ENDINGS)) > ENDING_BYTES_MAX:
    raise ImportError("_walk.pyx has no room for these endings of siblings")
for _ending in SIBLING_ENDINGS:
    ENDINGS[ending_count].length = len(_ending)
    memcpy(ENDINGS[ending_count].text, PyBytes_AS_STRING(_ending), len(_ending))
    ending_count += 1

# Bytes that stand for themselves in a key.
cdef uint8_t PLAIN[256]
for _byte in range(256):
    PLAIN[_byte] = encode_path(bytes([_byte])) == bytes([_byte])


cdef int _fill(DIR *listing, int fd, Look *looks) noexcept nogil:
    """Names with what they are, up to BATCH; 0 at the end, -errno on an error."""
    cdef int count = 0
    cdef dirent *item
    cdef stat_t status
    cdef Look *look
    while count < BATCH:
        errno.errno = 0
        item = readdir(listing)
        if item == NULL:
            if count:
                return count  # should this be an error, it is one again
            return -errno.errno
        look = &looks[count]
        look.length = <int> strlen(item.d_name)
        if item.d_name[0] == b"." and (look.length == 1 or (look.length == 2 and item.d_name[1] == b".")):
            continue
        if look.length > NAME_BYTES_MAX:
            return -errno.ENAMETOOLONG
        memcpy(look.name, item.d_name, look.length + 1)
        look.is_file = False
        if item.d_type == DT_REG or item.d_type == DT_UNKNOWN:
            if fstatat(fd, item.d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 and S_ISREG(status.st_mode):
                look.is_file = True
                look.identity[0] = status.st_dev
                look.identity[1] = status.st_ino
                look.identity[2] = status.st_size
                look.identity[3] = <uint64_t> status.st_mtim.tv_sec * 1000000000 + <uint64_t> status.st_mtim.tv_nsec
                look.identity[4] = <uint64_t> status.st_ctim.tv_sec * 1000000000 + <uint64_t> status.st_ctim.tv_nsec
        count += 1
    return count


cdef bint _is_sibling(const char *name, int length) noexcept nogil:
    """Whether a name ends as a sibling's does."""
    cdef Ending *ending
    cdef int number
    for number in range(ending_count):
        ending = &ENDINGS[number]
        if length > ending.length and memcmp(name + length - ending.length, ending.text, ending.length) == 0:
            return True
    return False


cdef object _entry_of(Look *look, bytes prefix, known, type kind):
    """The entry of a file that is what it was; None: Python must look."""
    cdef char key[KEY_BYTES_MAX]
    cdef Py_ssize_t before = PyBytes_GET_SIZE(prefix)
    cdef int place
    cdef bytes identity
    if not look.is_file or before + look.length > KEY_BYTES_MAX or look.name[0] == b".":
        return None
    for place in range(look.length):
        if not PLAIN[<uint8_t> look.name[place]]:
            return None
    memcpy(key, PyBytes_AS_STRING(prefix), before)
    memcpy(key + before, look.name, look.length)
    entry = known(PyBytes_FromStringAndSize(key, before + look.length))
    if not isinstance(entry, kind):
        return None
    identity = entry.identity
    if PyBytes_GET_SIZE(identity) != sizeof(look.identity):
        return None
    if memcmp(PyBytes_AS_STRING(identity), look.identity, sizeof(look.identity)) != 0:
        return None
    for variant in <tuple> entry.variants:
        if not variant.made:
            return None
    return entry


def look(int fd, bytes prefix not None, known not None, stock, type kind not None):
    """What the directory open at `fd` holds: the entries of files that are what `known(key)` says, with stock taken
    of them (index.py), and the names of all else.

    `prefix` is the directory's own key, `kind` the type of entries. A file is only told from here when nothing beside
    it can be its variant. Raises OSError.
    """
    cdef Look looks[BATCH]
    cdef DIR *listing = NULL
    cdef int count, at
    cdef int own = fcntl(fd, F_DUPFD_CLOEXEC, 0)  # closedir closes what it lists
    cdef bint siblings = False
    cdef list same = []
    cdef list rest = []
    if own >= 0:
        listing = fdopendir(own)
    if listing == NULL:
        count = errno.errno
        if own >= 0:
            close(own)
        raise OSError(count, os.strerror(count))
    try:
        rewinddir(listing)  # both descriptors are at one place
        while True:
            with nogil:
                count = _fill(listing, fd, looks)
            if count <= 0:
                break
            for at in range(count):
                siblings = siblings or _is_sibling(looks[at].name, looks[at].length)
                entry = _entry_of(&looks[at], prefix, known, kind)
                if entry is None:
                    rest.append(PyBytes_FromStringAndSize(looks[at].name, looks[at].length))
                else:
                    same.append(entry)
    finally:
        closedir(listing)
    if count < 0:
        raise OSError(-count, os.strerror(-count))
    if siblings:
        rest += [entry.key[PyBytes_GET_SIZE(prefix):] for entry in same]  # they are plain: encoded as they are
        same.clear()
    _take(stock, same)
    return same, rest


cdef int _take(stock, list same) except -1:
    """As `Stock.take`; at a third of its price."""
    cdef Py_ssize_t files = 0
    cdef uint64_t size = 0
    cdef list wanting = stock.wanting
    cdef Py_ssize_t place
    for place in range(len(same)):
        if place % YIELD_EVERY == YIELD_EVERY - 1:
            with nogil:
                pass
        entry = same[place]
        if entry.body is None or entry.variants:
            wanting.append(entry)
        else:
            files += 1
            size += <uint64_t> entry.size
    stock.files += files
    stock.bytes += size
    return 0

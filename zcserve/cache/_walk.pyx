# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: auto_pickle=False, autotestdict=False
# All memory here is raw C memory of fixed size: there is nothing for Cython's own checks to check.
"""The part of a walk that a reload repeats for every file: is it what it was?

`look` lists one directory and asks for each name's status without holding the GIL, a few hundred names at a time, and
finds the entries of files that are plainly the same. It makes no entry and judges nothing: every name about which
anything is to be decided comes back for walk.py, which comes to the same result without this module, in twice the time.

Where ctime alone is another, as of each file that a release has hard-linked, the file is read here, and is the same if
its hash is its entry's ETag. That is what doubt.py does, at less than half of its price; large files, and those that
differ, are left to it. A file with siblings is told from here where all of them are what they were, and no more; else
all of them are paired anew (pairing.py).
"""

import os

import mmh3

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc cimport errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset, strlen

from zcserve.cache.crew import beat
from zcserve.cache.doubt import know
from zcserve.cache.naming import SIBLING_ENDINGS, base_of, sibling_of
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
    int fstat(int fd, stat_t *status)
    bint S_ISREG(unsigned int mode)

cdef extern from "<fcntl.h>" nogil:
    int AT_SYMLINK_NOFOLLOW, F_DUPFD_CLOEXEC, O_RDONLY, O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY
    int fcntl(int fd, int command, ...)
    int openat(int directory, const char *name, int flags, ...)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t pread(int fd, void *buffer, size_t count, int64_t offset)

cdef enum:
    BATCH = 256          # names looked at between two takings of the GIL
    YIELD_EVERY = 1024   # entries, then another thread may have the GIL: half a millisecond
    NAME_BYTES_MAX = 255  # NAME_MAX of Linux
    KEY_BYTES_MAX = 8192  # longer keys are Python's: the path of a directory is at most PATH_MAX, thrice that encoded
    READ_BYTES_MAX = 1 << 18  # larger files are Python's: it reads them in pieces of this size (tags.py)
    BURST_BYTES = 1 << 20     # so much is read between two takings of the GIL: a millisecond, from memory
    NAMES_MAX = 1 << 14       # of a directory with siblings; of more, some steps here would be long: Python pairs them
    DIGEST_BYTES = 16
    TAG_BYTES = 2 + 2 * DIGEST_BYTES  # of an ETag that is a digest: hex digits, in quotes

cdef enum State:
    OTHER     # Python must look
    SAME      # as its entry says
    DOUBTFUL  # but for ctime; what it must hold has this digest

# entry.py's `identity_of`: five packed words, of which ctime is the last.
cdef enum:
    CONTENT_WORDS = 4

cdef struct Look:
    uint64_t identity[CONTENT_WORDS + 1]
    uint8_t digest[DIGEST_BYTES]
    State state
    bint is_file, is_paired
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
                _identify(&status, look.identity)
        count += 1
    return count


cdef void _identify(const stat_t *status, uint64_t *identity) noexcept nogil:
    identity[0] = status.st_dev
    identity[1] = status.st_ino
    identity[2] = status.st_size
    identity[3] = <uint64_t> status.st_mtim.tv_sec * 1000000000 + <uint64_t> status.st_mtim.tv_nsec
    identity[4] = <uint64_t> status.st_ctim.tv_sec * 1000000000 + <uint64_t> status.st_ctim.tv_nsec


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
    """The entry of a file that is what it was, or seems to be: `look.state` says which, and `look.is_paired` whether it
    has siblings for variants. None: Python must look."""
    cdef char key[KEY_BYTES_MAX]
    cdef Py_ssize_t before = PyBytes_GET_SIZE(prefix)
    cdef int place
    cdef bytes identity
    look.state = OTHER
    look.is_paired = False
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
    if memcmp(PyBytes_AS_STRING(identity), look.identity, CONTENT_WORDS * sizeof(uint64_t)) != 0:
        return None
    for variant in <tuple> entry.variants:
        look.is_paired = look.is_paired or not variant.made
    if memcmp(PyBytes_AS_STRING(identity), look.identity, sizeof(look.identity)) == 0:
        look.state = SAME
        return entry
    held = _held_of(entry)
    if held.body is None or look.identity[2] > READ_BYTES_MAX or not _read_tag(held.etag, look.digest):
        return None
    look.state = DOUBTFUL
    return entry


cdef object _held_of(entry):
    """What a file is held in memory as: a sibling, unless it has siblings itself, as its base's variant (entry.py)."""
    if entry.is_variant and not entry.variants:
        variant = entry.variant
        if variant.identity == entry.identity:
            return variant
    return entry


cdef bint _read_tag(bytes etag, uint8_t *digest) noexcept:
    """The digest that an ETag is made of; False where it is made of no content (tags.py)."""
    cdef const char *text = PyBytes_AS_STRING(etag)
    cdef int place, digit
    if PyBytes_GET_SIZE(etag) != TAG_BYTES:
        return False
    memset(digest, 0, DIGEST_BYTES)
    for place in range(2 * DIGEST_BYTES):
        digit = text[1 + place]
        if c"0" <= digit <= c"9":
            digit -= c"0"
        elif c"a" <= digit <= c"f":
            digit -= c"a" - 10
        else:
            return False
        digest[place // 2] = <uint8_t> (digest[place // 2] << 4 | digit)
    return True


# --- what a file holds ------------------------------------------------------------------------------------------------


cdef inline uint64_t _rotated(uint64_t word, int bits) noexcept nogil:
    return (word << bits) | (word >> (64 - bits))


cdef inline uint64_t _mixed(uint64_t word) noexcept nogil:
    word ^= word >> 33
    word *= 0xff51afd7ed558ccdu
    word ^= word >> 33
    word *= 0xc4ceb9fe1a85ec53u
    return word ^ (word >> 33)


cdef void _digest(const uint8_t *content, size_t length, uint8_t *digest) noexcept nogil:
    """MurmurHash3 x64 128 with seed 0, equal to mmh3.mmh3_x64_128_digest."""
    cdef uint64_t words[2]
    cdef uint64_t one = 0, other = 0, first, second
    cdef uint8_t rest[DIGEST_BYTES]
    cdef size_t at = 0
    while True:
        if length - at >= DIGEST_BYTES:
            memcpy(words, content + at, DIGEST_BYTES)
        else:
            memset(rest, 0, DIGEST_BYTES)
            memcpy(rest, content + at, length - at)
            memcpy(words, rest, DIGEST_BYTES)
        first = _rotated(words[0] * 0x87c37b91114253d5u, 31) * 0x4cf5ad432745937fu
        second = _rotated(words[1] * 0x4cf5ad432745937fu, 33) * 0x87c37b91114253d5u
        one ^= first
        if length - at < DIGEST_BYTES:
            other ^= second
            break
        one = (_rotated(one, 27) + other) * 5 + 0x52dce729
        other = (_rotated(other ^ second, 31) + one) * 5 + 0x38495ab5
        at += DIGEST_BYTES
    one ^= length
    other ^= length
    one += other
    other += one
    one = _mixed(one)
    other = _mixed(other)
    one += other
    other += one
    memcpy(digest, &one, 8)
    memcpy(digest + 8, &other, 8)


cdef bytes _digest_of(bytes content):
    cdef uint8_t digest[DIGEST_BYTES]
    _digest(<const uint8_t *> PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content), digest)
    return PyBytes_FromStringAndSize(<char *> digest, DIGEST_BYTES)


for _length in range(3 * DIGEST_BYTES):
    if _digest_of(bytes(range(200, 200 + _length))) != mmh3.mmh3_x64_128_digest(bytes(range(200, 200 + _length))):
        raise ImportError("_walk.pyx hashes otherwise than mmh3 on this machine: its words are big-endian")


cdef bint _holds(int directory, const Look *look, uint8_t *buffer) noexcept nogil:
    """Whether a file holds what it must, before and after which its status is what was seen. `buffer` has room for
    READ_BYTES_MAX and one byte more."""
    cdef uint64_t identity[CONTENT_WORDS + 1]
    cdef uint8_t digest[DIGEST_BYTES]
    cdef stat_t status
    cdef size_t length = 0
    cdef ssize_t count = -1
    cdef bint is_same = False
    cdef int fd = openat(directory, look.name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
    if fd < 0:
        return False
    while length <= look.identity[2]:
        count = pread(fd, buffer + length, look.identity[2] + 1 - length, length)
        if count <= 0:
            break
        length += count
    if count == 0 and length == look.identity[2] and fstat(fd, &status) == 0:
        _identify(&status, identity)
        if memcmp(identity, look.identity, sizeof(identity)) == 0:
            _digest(buffer, length, digest)
            is_same = memcmp(digest, look.digest, DIGEST_BYTES) == 0
    close(fd)
    return is_same


cdef int _compare(int directory, Look *looks, int at, int count, uint8_t *buffer) noexcept nogil:
    """Have each doubtful file from `at` on read, until that was BURST_BYTES; where to go on. What holds what it must is
    doubtful still; the others are not what they were."""
    cdef uint64_t read = 0
    while at < count and read < BURST_BYTES:
        if looks[at].state == DOUBTFUL:
            if not _holds(directory, &looks[at], buffer):
                looks[at].state = OTHER
            read += looks[at].identity[2]
        at += 1
    return at


cdef int _settle(int directory, Look *looks, list entries) except -1:
    """Have each doubtful file compared, and its entry know of its new ctime; the place in `entries` of what is not what
    it was is None then."""
    cdef uint8_t digest[DIGEST_BYTES]
    cdef int at = 0, count = <int> len(entries)
    for at in range(count):
        if looks[at].state == DOUBTFUL:
            _compare_all(directory, looks, at, count)
            break
    for at in range(count):
        if looks[at].state == DOUBTFUL:
            entry = entries[at]
            held = _held_of(entry)
            if _read_tag(held.etag, digest) and memcmp(digest, looks[at].digest, DIGEST_BYTES) == 0:
                identity = PyBytes_FromStringAndSize(<char *> looks[at].identity, sizeof(looks[at].identity))
                know(entry, identity)
                if held is not entry:
                    know(held, identity)
            else:  # another thread has exchanged it meanwhile
                entries[at] = None
        elif looks[at].state == OTHER:
            entries[at] = None
    return 0


cdef int _compare_all(int directory, Look *looks, int at, int count) except -1:
    """As `_compare`, in bursts."""
    cdef uint8_t *buffer = <uint8_t *> malloc(READ_BYTES_MAX + 1)
    if buffer == NULL:
        raise MemoryError
    try:
        while at < count:
            with nogil:
                at = _compare(directory, looks, at, count, buffer)
            beat()
    finally:
        free(buffer)
    return 0


cdef bint _is_family(bytes name, entry, dict siblings, dict found):
    """Whether a file's siblings are those that its entry has for variants, and each is what it was."""
    cdef list variants = [variant for variant in <tuple> entry.variants if not variant.made]
    if len(variants) != len(<list> siblings.get(name, ())):
        return False
    for variant in variants:
        other = sibling_of(name, variant.encoding)
        own = found.get(other)
        if own is None or other in siblings or own.variants or not own.is_variant:
            return False
        if own.variant is not variant or own.identity != variant.identity:
            return False
    return True


cdef int _pair(list same, list paired, list rest, Py_ssize_t before, stock, type kind) except -1:
    """Have `same` keep the files that have no siblings and are none, add whole families to `paired`, and have all names
    of other families in `rest`. Keys have names from `before` on; they are plain: encoded as they are."""
    cdef dict found = {entry.key[before:]: entry for entry in same}
    cdef dict siblings = {}
    cdef set there = set(rest)
    cdef set told = set()
    cdef Py_ssize_t step = 0
    for entry in paired:
        found[entry.key[before:]] = entry
    there.update(found)
    for name in there:
        if base := base_of(name):
            siblings.setdefault(base, []).append(name)
    same.clear()
    paired.clear()
    for name, entry in found.items():
        step += 1
        if step % YIELD_EVERY == 0:
            with nogil:
                pass
        if base_of(name) in there or type(entry) is not kind or not _is_family(name, entry, siblings, found):
            continue
        told.add(name)
        if name not in siblings:
            same.append(entry)
            continue
        paired.append(entry)
        for other in <list> siblings[name]:
            told.add(other)
            paired.append(found[other])
    rest += [name for name in found if name not in told]
    stock.wanting += paired  # variants are not counted apart (index.py)
    return 0


def look(int fd, bytes prefix not None, known not None, stock, type kind not None):
    """What the directory open at `fd` holds: the entries of files that are what `known(key)` says, with stock taken
    of them (index.py), and the names of all else.

    `prefix` is the directory's own key, `kind` the type of entries. A file and its siblings are told together, or none
    of them. Raises OSError.
    """
    cdef Look looks[BATCH]
    cdef DIR *listing = NULL
    cdef int count, at
    cdef int own = fcntl(fd, F_DUPFD_CLOEXEC, 0)  # closedir closes what it lists
    cdef bint siblings = False
    cdef list same = []
    cdef list rest = []
    cdef list paired = []
    cdef list entries
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
            entries = [_entry_of(&looks[at], prefix, known, kind) for at in range(count)]
            _settle(fd, looks, entries)
            for at in range(count):
                siblings = siblings or _is_sibling(looks[at].name, looks[at].length)
                entry = entries[at]
                if entry is None:
                    rest.append(PyBytes_FromStringAndSize(looks[at].name, looks[at].length))
                elif looks[at].is_paired:
                    paired.append(entry)
                else:
                    same.append(entry)
    finally:
        closedir(listing)
    if count < 0:
        raise OSError(-count, os.strerror(-count))
    if siblings or paired:
        if len(same) + len(paired) + len(rest) > NAMES_MAX:
            rest += [entry.key[PyBytes_GET_SIZE(prefix):] for entry in (*same, *paired)]
            same.clear()
            paired.clear()
        else:
            _pair(same, paired, rest, PyBytes_GET_SIZE(prefix), stock, kind)
    _take(stock, same)
    same += paired
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

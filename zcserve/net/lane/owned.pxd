# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which paths an application may own: what no file leads to is absent only where it is not the application's.

Each path that an application owns begins with a segment that stands in its routes or its mounts, or it may own all of them
(`exchange.Owned`). So the first segment of a path that is its own key tells, and no path is read as a pattern here. What has changed
in the application's folder may own more: `Freshness` is what tells of that, mostly by one look a turn.

Python's thread alone asks the application, and says when it was found fresh (`fresh_at`). Another lane looks by itself whether there is
news since, and leaves the request to the first lane where there is, or where that was too long ago. So `fresh_at` is taken back before
news is read.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t
from libc.string cimport memchr

from zcserve.net.lane.absent cimport is_own_key
from zcserve.net.lane.atomic cimport acquire_pointer, look_double, look_int, release_pointer, set_double, set_int
from zcserve.net.lane.hashes cimport Hashes, add_hash, begin_set, end_set, give_up, hash_key, is_set, lacks
from zcserve.net.lane.system cimport FIONREAD, ioctl
from zcserve.net.lane.text cimport Text

cdef struct Freshness:
    int notice                   # has something to read when things may have changed, -1 for none
    double sure_s                # for so long nothing need be asked otherwise
    double fresh_at              # the time at which it was found fresh, and the number of that look
    uint64_t fresh_in

cdef struct Owned:
    int something                # 1: there is an application
    Hashes segments              # first segments: which paths it may own. Without a set it may own every path
    Freshness freshness
    PyObject *is_fresh           # of `Lane`; NULL: nothing changes


cdef inline int own(Owned *owned, bint something, parts) except -1:
    """From now on this is an application's; `parts` as `exchange.Owned`, None: all. Raises for others."""
    cdef bytes segment
    cdef PyObject *asks = NULL
    if something:
        set_int(&owned.something, True)
    begin_set(&owned.segments, 0)        # not complete: it may own every path
    if parts is not None:
        segments, notice, sure_s, is_fresh = parts
        set_freshness(&owned.freshness, notice, sure_s)
        asks = <PyObject *> is_fresh if is_fresh is not None else NULL
        for segment in segments or ():
            add_hash(&owned.segments, hash_key(&owned.segments, PyBytes_AS_STRING(segment), PyBytes_GET_SIZE(segment)))
    release_pointer(<void **> &owned.is_fresh, asks)
    if parts is None or segments is None:
        give_up(&owned.segments)
    end_set(&owned.segments)
    set_int(&owned.something, something)
    return 0


cdef inline void set_freshness(Freshness *freshness, int notice, double sure_s) noexcept nogil:
    """Whether something has changed since is not known."""
    doubt(freshness)
    set_int(&freshness.notice, notice)
    set_double(&freshness.sure_s, sure_s)


cdef inline bint may_own(const Owned *owned, Text target) noexcept nogil:
    """Whether an application may own a target; where its path is not its own key, that is not told."""
    cdef const char *query
    cdef const char *slash
    if not look_int(&owned.something) or not is_set(&owned.segments):
        return look_int(&owned.something)
    query = <const char *> memchr(target.at, c'?', target.len)
    if query != NULL:
        target.len = query - target.at
    if not is_own_key(target):
        return True
    target = Text(target.at + 1, target.len - 1)
    slash = <const char *> memchr(target.at, c'/', target.len)
    if slash != NULL:
        target.len = slash - target.at
    return not lacks(&owned.segments, target.at, target.len)


cdef inline bint seems_fresh(Freshness *freshness, uint64_t look, double now) noexcept nogil:
    """Whether nothing can have changed since it was found fresh; looked at once for each `look`, which has a number."""
    cdef int unread = 0
    if freshness.fresh_in == look:
        return True
    if (
        freshness.notice < 0
        or now > freshness.fresh_at + freshness.sure_s
        or ioctl(freshness.notice, FIONREAD, &unread) < 0
        or unread
    ):
        return False
    freshness.fresh_in = look
    return True


cdef inline bint seems_fresh_elsewhere(const Owned *owned, double now) noexcept nogil:
    """In another lane: whether nothing can have changed since the first one found it fresh."""
    cdef const Freshness *freshness = &owned.freshness
    cdef int unread = 0
    if acquire_pointer(<void * const *> &owned.is_fresh) == NULL:
        return True
    if look_int(&freshness.notice) < 0 or ioctl(look_int(&freshness.notice), FIONREAD, &unread) < 0 or unread:
        return False
    return now <= look_double(&freshness.fresh_at) + look_double(&freshness.sure_s)      # after the look: news is doubted first


cdef inline void doubt(Freshness *freshness) noexcept nogil:
    """Something has changed: only Python knows when that is loaded."""
    set_double(&freshness.fresh_at, -1e9)
    freshness.fresh_in = 0


cdef inline bint is_found_fresh(Freshness *freshness, object is_fresh, uint64_t look, double now) except -1:
    """Ask Python."""
    doubt(freshness)
    if not is_fresh():
        return False
    set_double(&freshness.fresh_at, now)
    freshness.fresh_in = look
    return True


cdef inline bint is_still_owned(Owned *owned, uint64_t look, double now) noexcept with gil:
    """Whether Python says that the application owns what it did. The caller has the GIL already."""
    try:
        return is_found_fresh(&owned.freshness, <object> owned.is_fresh, look, now)
    except BaseException:        # the general lane fails as it does, and says so
        return False

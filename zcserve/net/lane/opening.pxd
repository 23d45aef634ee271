# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Opening: what a lane has for itself is made, and given back.

The first lane is opened with the table; the others when all that never changes is known (limits, proxies, pages): they have copies.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from zcserve.net.lane.answering cimport BATCH_BYTES
from zcserve.net.lane.asking cimport close_asking
from zcserve.net.lane.connections cimport OWNER_LANE, OWNER_LISTENER, OWNER_MAIL, Conns, free_all, open_conns, register
from zcserve.net.lane.counts cimport open_counts
from zcserve.net.lane.judged cimport close_judged, follow_hosts, open_judged
from zcserve.net.lane.lanes cimport GIVEN, LANES_MAX, LISTEN, RETURNED, Lanes
from zcserve.net.lane.log cimport close_log, open_log
from zcserve.net.lane.letters cimport read_mail
from zcserve.net.lane.loop cimport Loop, run
from zcserve.net.lane.mail cimport Letter, Mailbox, close_mail, open_mail, see_letter, take_letter
from zcserve.net.lane.mapped cimport map_file, unmap
from zcserve.net.lane.memos cimport close_memo, open_memo
from zcserve.net.lane.moving cimport Given, drop_given
from zcserve.net.lane.news cimport close_news, open_news
from zcserve.net.lane.numbers cimport count_too
from zcserve.net.lane.parcels cimport close_parcel, open_parcel
from zcserve.net.lane.records cimport Record, note_dead, take_dead
from zcserve.net.lane.replying cimport answer_questions
from zcserve.net.lane.sending cimport Answering, begin_turn
from zcserve.net.lane.servlets cimport close_servlets
from zcserve.net.lane.shared cimport Shared
from zcserve.net.lane.sightings cimport SIGHTINGS_BYTES, close_sightings, open_sightings
from zcserve.net.lane.system cimport close
from zcserve.net.lane.uses cimport close_uses, open_uses

cdef extern from *:
    """
    #define ZC_SWEEP_INTERVAL_MAX_S 1.0
    """
    const double SWEEP_INTERVAL_MAX_S "ZC_SWEEP_INTERVAL_MAX_S"


cdef inline void prepare(Loop *loop, Shared *shared) noexcept nogil:
    """Of zeros, what can be closed."""
    cdef Answering *lane = &loop.answering
    loop.turns = run
    loop.mail = read_mail
    loop.questions = answer_questions
    loop.station.mail.fd = -1
    lane.shared = shared
    lane.conns.epfd = lane.conns.asking = -1
    lane.conns.dead = &lane.dead
    lane.conns.log = &lane.log
    lane.dead.numbers = &shared.numbers
    lane.conns.lanes = &shared.lanes
    lane.conns.station = &loop.station


cdef inline int open_lane(Loop *loop, uint32_t seed, config, bint log_on) except -1:
    """`log_on`: there is an access log. Raises OSError, MemoryError."""
    cdef Answering *lane = &loop.answering
    open_conns(&lane.conns)
    open_uses(&lane.uses)
    open_judged(&lane.judged, seed)
    open_memo(&lane.absences)
    open_sightings(&lane.sightings)
    open_counts(&lane.output.answered)
    lane.output.site = -1
    if log_on or config.slow_log_s:
        open_log(&lane.log, config, log_on)
    limit(loop, config, log_on)
    begin_turn(lane)
    return 0


cdef inline int limit(Loop *loop, config, bint log_on) except -1:
    """Take over what the configuration bounds."""
    cdef Answering *lane = &loop.answering
    cdef Conns *conns = &lane.conns
    lane.rules.head_bytes_max = config.head_bytes_max
    lane.rules.target_bytes_max = config.target_bytes_max
    lane.rules.fields_max = config.head_fields_max
    lane.rules.ranges_max = config.ranges_max
    lane.rules.logs = log_on
    lane.bytes_spared = max(0, config.turn_bytes_max - BATCH_BYTES)
    loop.turn_bytes_max = config.turn_bytes_max
    loop.pipeline_max = config.pipeline_max
    conns.most = config.connections_max
    conns.timeouts.idle = config.idle_timeout_s
    conns.timeouts.head = config.head_timeout_s
    conns.timeouts.write = config.write_timeout_s
    conns.timeouts.linger = config.linger_timeout_s
    shortest = min(config.idle_timeout_s, config.head_timeout_s, config.write_timeout_s, config.linger_timeout_s)
    conns.sweep_interval = min(SWEEP_INTERVAL_MAX_S, shortest / 4)
    return 0


cdef inline int have_mail(Loop *loop) except -1:
    """Raises OSError, MemoryError."""
    open_mail(&loop.station.mail)
    register(&loop.answering.conns, loop.station.mail.fd, OWNER_MAIL, False)
    return 0


cdef inline Loop *new_lane(const Loop *first, Shared *shared, config) except NULL:
    """Another lane, which nothing runs yet. Raises OSError, MemoryError; ValueError where there are LANES_MAX."""
    cdef Lanes *lanes = &shared.lanes
    cdef Loop *loop
    if lanes.count == LANES_MAX:
        raise ValueError("more lanes than LANES_MAX")
    loop = <Loop *> calloc(1, sizeof(Loop))
    if loop == NULL:
        raise MemoryError
    prepare(loop, shared)
    try:
        open_lane(loop, shared.sites.seed, config, first.answering.log.is_kept)
        have_mail(loop)
        open_news(&loop.station, &loop.answering.log)
        copy(&loop.answering, &first.answering)
        follow_hosts(&loop.answering.judged, shared.hosts)
        open_parcel(&loop.station.noted, SIGHTINGS_BYTES)
        count_too(&shared.numbers, lanes.count, &loop.answering.uses)
    except BaseException:
        free_lane(loop)
        raise
    loop.answering.number = loop.answering.conns.number = lanes.count
    loop.answering.conns.most -= 1           # Python looks, and then accepts: the last place is taken in its thread alone
    lanes.stations[lanes.count] = &loop.station
    lanes.count += 1
    return loop


cdef inline int copy(Answering *lane, const Answering *first) except -1:
    """What never changes, and the first lane has been told. Raises MemoryError."""
    lane.rules = first.rules
    lane.proxies = first.proxies
    lane.pages = first.pages
    memcpy(lane.output.prefix, first.output.prefix, sizeof(lane.output.prefix))
    memcpy(lane.output.prefix_len, first.output.prefix_len, sizeof(lane.output.prefix_len))
    memcpy(lane.output.date_at, first.output.date_at, sizeof(lane.output.date_at))
    if first.output.mapped.content != NULL:
        map_file(&lane.output.mapped, first.output.mapped.fd, first.output.mapped.behind // 2)
    return 0


cdef inline void drop_letters(Loop *loop) noexcept nogil:
    """What lies in the box of a lane that has ended."""
    cdef Mailbox *box = &loop.station.mail
    cdef Letter letter
    while box.places != NULL and take_letter(box, &letter):
        if letter.kind == GIVEN:
            drop_given(&loop.answering.conns, <Given *> letter.what)
            free(letter.what)
        elif letter.kind == RETURNED:
            note_dead(&loop.answering.dead, <Record *> letter.what)
        elif letter.kind == LISTEN:
            close(letter.fd)


cdef inline void take_what_is_left(Loop *first, Loop **others) noexcept nogil:
    """The others have ended: what lies in their boxes goes, and what died in their hands is the first one's to bury."""
    cdef int i
    drop_letters(first)
    for i in range(1, first.answering.shared.lanes.count):
        drop_letters(others[i])
        take_dead(&first.answering.dead, &others[i].answering.dead)


cdef inline void add_descriptors(const Loop *loop, list found):
    """A lane's own descriptors, and those of its connections, in letters, too. In a forked child, where no other lane runs."""
    cdef const Conns *conns = &loop.answering.conns
    cdef const Mailbox *box = &loop.station.mail
    cdef Letter letter
    cdef int fd, i = 0
    found += [fd for fd in (conns.epfd, box.fd) if fd >= 0]
    for fd in range(conns.size):
        if conns.all[fd].owner == OWNER_LANE or conns.all[fd].handed or conns.number and conns.all[fd].owner == OWNER_LISTENER:
            found.append(fd)
    while box.places != NULL and see_letter(box, i, &letter):
        if letter.kind == GIVEN or letter.kind == LISTEN:
            found.append(letter.fd)
        i += 1


cdef inline void close_lane(Loop *loop) noexcept:
    """Give all back. Nothing is being sent any more, and no other lane runs."""
    cdef Answering *lane = &loop.answering
    drop_letters(loop)
    free_all(&lane.conns)
    unmap(&lane.output.mapped)
    close_uses(&lane.uses)
    close_servlets(&lane.servlets)
    close_asking(&lane.asking)
    close_judged(&lane.judged)
    close_memo(&lane.absences)
    close_sightings(&lane.sightings)
    close_log(&lane.log)
    close_news(&loop.station)
    close_mail(&loop.station.mail)
    close_parcel(&loop.station.touched)
    close_parcel(&loop.station.noted)


cdef inline void free_lane(Loop *loop) noexcept:
    """Another lane, which has ended."""
    close_lane(loop)
    free(loop.answering.dead.records)
    free(loop)

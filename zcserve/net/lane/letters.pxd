# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Letters: what a lane does when others have written to it; and the whole of a lane without Python, which hears of all else so.

Letters and orders are taken up between two events of a turn, so nothing of an answer is under way then.
"""

from libc.stdint cimport uint64_t

from zcserve.net.lane.accepting cimport ACCEPTS_MAX, leave, listen_too, look_as_told, next_closed, report, report_troubled, stand_behind
from zcserve.net.lane.asking cimport Question, join
from zcserve.net.lane.connections cimport Conns, run_again, tell_if_over
from zcserve.net.lane.endings cimport abort_all, close_all, drain_as_told
from zcserve.net.lane.lanes cimport (
    ACCEPT, ANSWERED, ASK, DRAIN, END_ALL, END_IDLE, GIVEN, LEAVE, LISTEN, OVER, RETURNED, ROOM, SHED, SHUT, STAND_BEHIND, STOP, TELL,
    TOLD, TROUBLE, end_reading,
)
from zcserve.net.lane.mail cimport Letter, begin_to_take, take_letter
from zcserve.net.lane.moving cimport Given
from zcserve.net.lane.records cimport Record, note_dead
from zcserve.net.lane.replying cimport take_in_given, take_questions, take_up_answers
from zcserve.net.lane.shedding cimport shed_as_told
from zcserve.net.lane.sending cimport Answering
from zcserve.net.lane.system cimport EPOLL_CTL_DEL, epoll_ctl
from zcserve.net.lane.news cimport end_news, send_news, tell_lines
from zcserve.net.lane.numbers cimport begin_round, is_telling
from zcserve.net.lane.withdrawn cimport give_back
from zcserve.net.lane.loop cimport Loop, accept_from

cdef enum:
    LETTERS_AT_ONCE = 256        # in a turn


cdef inline void read_mail(Loop *loop) noexcept nogil:
    """Do what the letters say, as many as this turn may, and the orders."""
    cdef Conns *conns = &loop.answering.conns
    cdef Letter letter
    cdef int left = LETTERS_AT_ONCE
    cdef int orders = begin_to_take(&loop.station.mail)
    while take_letter(&loop.station.mail, &letter):
        if letter.kind == GIVEN:
            take_in_given(&loop.answering, <Given *> letter.what)
        elif letter.kind == ASK:
            take_questions(&loop.answering, <Question *> letter.what)
        elif letter.kind == ANSWERED:
            join(&loop.answering.asking.back, <Question *> letter.what)
        elif letter.kind == RETURNED:
            note_dead(&loop.answering.dead, <Record *> letter.what)
            conns.due = True     # Python may wait for the memory
        elif letter.kind == LISTEN:
            listen_too(&loop.accepting, conns, letter.fd, letter.generation)
        left -= 1
        if not left or conns.full:       # there may be more letters
            run_again(conns, loop.station.mail.fd)
            break
    if loop.answering.asking.back.first != NULL:
        take_up_answers(&loop.answering)
    if orders:
        obey(loop, orders)


cdef inline void obey(Loop *loop, int orders) noexcept nogil:
    """Do what other lanes have ordered."""
    cdef Conns *conns = &loop.answering.conns
    if orders & STOP:
        loop.stopped = conns.due = True
    if orders & (DRAIN | SHUT):
        drain_as_told(conns, orders & SHUT)
    if orders & (END_IDLE | END_ALL):
        close_all(conns, not orders & END_ALL)
    if orders & SHED:
        shed_as_told(conns)
    if orders & ACCEPT:
        look_as_told(&loop.accepting, conns)
    if orders & LEAVE:
        leave_closed(loop)
    if orders & TELL:
        tell_lines(&loop.answering.shared.lanes, &loop.station, &loop.answering.log)
    if orders & TOLD:
        conns.due = True
        if not is_telling(&loop.answering.shared.numbers):
            begin_round(&loop.answering.shared.numbers)
    if orders & STAND_BEHIND:
        stand_behind(&loop.accepting, conns)
    if orders & TROUBLE:
        report_troubled(&loop.accepting, conns)
    if orders & ROOM:
        report(&loop.accepting, conns, ~<uint64_t> 0)
    if orders & (OVER | SHUT | END_IDLE | END_ALL):
        tell_if_over(conns)


cdef inline void leave_closed(Loop *loop) noexcept nogil:
    """Give up the listeners that Python has closed, and accept from each once more."""
    cdef Conns *conns = &loop.answering.conns
    cdef int fd
    while True:
        fd = next_closed(&loop.accepting, conns)
        if fd < 0:
            return
        epoll_ctl(conns.epfd, EPOLL_CTL_DEL, fd, NULL)
        loop.accepting.left = ACCEPTS_MAX
        loop.accepting.freely = True
        accept_from(loop, fd)
        loop.accepting.freely = False
        leave(&loop.accepting, conns, fd)


cdef inline void run_alone(Loop *loop) noexcept nogil:
    """A lane without Python, until it is told to stop."""
    cdef Answering *lane = &loop.answering
    cdef double within = -1
    while not loop.stopped:
        lane.conns.due = lane.conns.full = False
        lane.conns.reports_count = 0
        lane.errands = 0
        lane.errands_max = 0x7FFFFFFF
        loop.turns(loop, within)
        within = send_news(&lane.shared.lanes, &loop.station, &lane.log, &lane.uses, &lane.sightings, lane.tick)
    abort_all(&lane.conns)
    while loop.accepting.count:
        leave(&loop.accepting, &lane.conns, loop.accepting.fds[0])
    give_back(&lane.shared.lanes, &lane.dead)
    end_reading(&loop.station)
    end_news(&loop.station)

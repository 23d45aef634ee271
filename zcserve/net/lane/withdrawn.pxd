# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Withdrawn: what no lane finds any more, and one may be reading still.

Python's thread withdraws records, and memory in which lanes search (slots, sets). With one lane each goes at once. With several they wait
in a queue, in two parts: those before `closed` were withdrawn before `epoch` began, and go when that has passed (lanes.pxd); then another
epoch begins, for all that came behind them. So one is begun for a burst, and none for each record.

A record that goes loses the reference that its table had. It is freed when nothing is sent from it any more. Where another lane ends the
last send, the record comes back in a letter (`give_back`). So the queue is never asked about sends.

Freeing takes time, so it is done in pieces (`free_some`); while lanes are waited for, Python looks every WAIT_MS. What it waits for itself
is an epoch, too (`await_lanes`).
"""

from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memmove

from zcserve.net.lane.growing cimport grown
from zcserve.net.lane.lanes cimport RETURNED, Lanes, next_epoch, note_chores, passed, send
from zcserve.net.lane.mail cimport Letter
from zcserve.net.lane.records cimport Dead, Record, is_with, unref

cdef enum:
    WAIT_MS = 2                  # after so long Python looks again whether all lanes have passed an epoch
    MEMORY = 1                   # in an address: it is no record's
    HELD_MAX = 256               # things that are looked at for an entry: some microseconds, where a patch has laid as many keys over

cdef struct Withdrawn:           # Python's thread alone
    Lanes *lanes
    Dead *dead
    uintptr_t *things            # from `at` to `closed` they wait for `epoch`, from there to `count` for the next one
    size_t at, closed, count, room
    uint64_t epoch
    uint64_t awaited             # the last epoch that Python waits for, 0 for none


cdef inline void open_withdrawn(Withdrawn *withdrawn, Lanes *lanes, Dead *dead) noexcept nogil:
    withdrawn.lanes = lanes
    withdrawn.dead = dead


cdef inline void close_withdrawn(Withdrawn *withdrawn) noexcept nogil:
    """All lanes have ended."""
    while withdrawn.at < withdrawn.count:
        let_thing_go(withdrawn)
    free(withdrawn.things)
    withdrawn.things = NULL
    withdrawn.at = withdrawn.closed = withdrawn.count = withdrawn.room = 0


cdef inline void withdraw(Withdrawn *withdrawn, Record *record) noexcept nogil:
    """A record is in no table any more."""
    if withdrawn.lanes.count == 1:
        unref(withdrawn.dead, record)
    else:
        put_thing(withdrawn, <uintptr_t> record)


cdef inline void withdraw_memory(Withdrawn *withdrawn, void *memory) noexcept nogil:
    """No lane finds this memory any more: it is freed when none reads it."""
    if withdrawn.lanes.count == 1:
        free(memory)
    elif memory != NULL:
        put_thing(withdrawn, <uintptr_t> memory | MEMORY)


cdef inline void put_thing(Withdrawn *withdrawn, uintptr_t thing) noexcept nogil:
    cdef uintptr_t *things
    if withdrawn.count == withdrawn.room:
        things = <uintptr_t *> grown(withdrawn.things, &withdrawn.room, sizeof(uintptr_t))
        if things == NULL:
            return               # leaks it rather than the server
        withdrawn.things = things
    withdrawn.things[withdrawn.count] = thing
    withdrawn.count += 1
    note_chores(withdrawn.lanes)


cdef inline void let_thing_go(Withdrawn *withdrawn) noexcept nogil:
    """The first in the queue."""
    cdef uintptr_t thing = withdrawn.things[withdrawn.at]
    withdrawn.at += 1
    if thing & MEMORY:
        free(<void *> (thing - MEMORY))
    else:
        unref(withdrawn.dead, <Record *> thing)


cdef inline bint holds(const Withdrawn *withdrawn, entry) noexcept:
    """Whether one of the last HELD_MAX things is of an entry: its body is freed soon."""
    cdef size_t at = withdrawn.count
    cdef size_t first = max(withdrawn.at, at - min(at, <size_t> HELD_MAX))
    while at > first:
        at -= 1
        if not withdrawn.things[at] & MEMORY and is_with(<Record *> withdrawn.things[at], entry):
            return True
    return False


cdef inline void close_burst(Withdrawn *withdrawn) noexcept nogil:
    """Begin another epoch for what was withdrawn, if nothing is left that waits for the one before."""
    if withdrawn.at < withdrawn.closed:
        return
    withdrawn.count -= withdrawn.at
    if withdrawn.count:
        memmove(withdrawn.things, &withdrawn.things[withdrawn.at], withdrawn.count * sizeof(uintptr_t))
        withdrawn.epoch = next_epoch(withdrawn.lanes)
    withdrawn.at = 0
    withdrawn.closed = withdrawn.count


cdef inline bint is_waiting(const Withdrawn *withdrawn) noexcept nogil:
    """Whether something here waits for lanes."""
    return withdrawn.count > 0 or withdrawn.awaited > 0


cdef inline bint is_over(const Withdrawn *withdrawn) noexcept nogil:
    """Whether something waits that need not wait any more."""
    if withdrawn.count and (withdrawn.at == withdrawn.closed or passed(withdrawn.lanes, withdrawn.epoch)):
        return True
    return withdrawn.awaited and passed(withdrawn.lanes, withdrawn.awaited)


cdef inline void free_some(Withdrawn *withdrawn, int most) noexcept nogil:
    """Let go of up to so many things that no lane reads any more. The records among them are freed where the dead are buried."""
    if withdrawn.awaited and passed(withdrawn.lanes, withdrawn.awaited):
        withdrawn.awaited = 0
    close_burst(withdrawn)
    if not withdrawn.count or not passed(withdrawn.lanes, withdrawn.epoch):
        return
    while most and withdrawn.at < withdrawn.closed:
        let_thing_go(withdrawn)
        most -= 1
    close_burst(withdrawn)


cdef inline uint64_t await_lanes(Withdrawn *withdrawn) noexcept nogil:
    """An epoch: when it has passed, no lane reads what was withdrawn until now, and each finds what was put."""
    cdef uint64_t epoch = next_epoch(withdrawn.lanes)
    if not passed(withdrawn.lanes, epoch):
        withdrawn.awaited = epoch
        note_chores(withdrawn.lanes)
    return epoch


cdef inline void give_back(Lanes *lanes, Dead *dead) noexcept nogil:
    """A turn of another lane ends: what it was the last to send from is Python's thread's to free. What finds no room in the box
    stays until the next turn."""
    while dead.count and send(lanes, 0, Letter(RETURNED, -1, 0, dead.records[dead.count - 1])):
        dead.count -= 1

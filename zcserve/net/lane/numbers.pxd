# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Numbers of representations, and what their entries are told by them: how often each was used, and when last.

All here is Python's thread's. It reads what each lane counted of a number (uses.pxd), adds it up, and tells the entry once, whichever lanes
used it. Which numbers that are, the lanes' lists say, which come as parcels. In a round each lane's list is gone through, a piece at a time
(`tell_some`). One entry can be told at once, and exactly (`tell_entry`): no lane need do anything for that.

A number is given back when its record is buried: no lane uses it any more, so what was counted until then is the last. Who has it next begins
with what the lanes have counted by then. Whose a number is, and which numbers an entry has, owners.pxd knows.
"""

from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from zcserve.net.lane.atomic cimport look_32, look_64, set_64
from zcserve.net.lane.growing cimport grown
from zcserve.net.lane.lanes cimport LANES_MAX, Lanes, note_chores
from zcserve.net.lane.owners cimport (
    Owners, close_owners, entry_of, first_of, has_room_for, next_of, put_owner, take_owner,
)
from zcserve.net.lane.parcels cimport Parcel, has_come, let_parcel_go, may_send
from zcserve.net.lane.records cimport Dead, Record, Rep, free_record, reps_of
from zcserve.net.lane.system cimport monotonic
from zcserve.net.lane.uses cimport Uses, has_uses, list_number, note_tick, send_uses, tick_at

cdef enum:
    TICKS_AT_ONCE = 256          # entries that are told in a turn, or when something is evicted: a tenth of a millisecond
    LOOKS = 8                    # to look at a number whose uses were told costs one of so many parts of telling

cdef struct Numbers:
    Lanes *lanes
    uint32_t *unused             # those that were given back
    size_t count, size
    uint32_t last                # the largest that was ever given
    size_t room                  # of `told`
    Owners owners
    Uses *uses[LANES_MAX]        # of each lane
    uint32_t *told[LANES_MAX]    # of each lane, by number: the `Use.count` that Python was told
    int lane                     # whose list is gone through; as many as there are when the round is over
    size_t at                    # where in the list


cdef inline void open_numbers(Numbers *numbers, Lanes *lanes, Uses *first) noexcept nogil:
    numbers.lanes = lanes
    numbers.uses[0] = first
    numbers.lane = lanes.count


cdef inline int count_too(Numbers *numbers, int lane, Uses *uses) except -1:
    """Another lane has uses. Raises MemoryError."""
    numbers.told[lane] = <uint32_t *> calloc(max(numbers.room, <size_t> 1), sizeof(uint32_t))
    if numbers.told[lane] == NULL or not has_uses(uses, numbers.last):
        raise MemoryError
    numbers.uses[lane] = uses
    return 0


cdef inline void close_numbers(Numbers *numbers) noexcept nogil:
    """Nothing is told any more."""
    cdef int i
    for i in range(LANES_MAX):
        free(numbers.told[i])
    free(numbers.unused)
    close_owners(&numbers.owners)


# --- giving -------------------------------------------------------------------------------------------------


cdef inline bint number_reps(Numbers *numbers, Record *record, uint32_t site) except -1:
    """Have a number for each representation of a file, whose record is to stand in this site's table. False without memory."""
    cdef Rep *rep
    cdef int i
    for i in range(record.count):
        rep = &reps_of(record)[i]
        if rep.entry == NULL:
            continue
        rep.number = take_number(numbers, <object> rep.entry)
        if not rep.number:
            return False
        put_owner(&numbers.owners, rep.number, record, site)
    return True


cdef inline uint32_t take_number(Numbers *numbers, entry) except? 0:
    """One that no representation has, for this entry's; from 1 on, so that they stay few. It was used last when the entry says. 0 without
    memory."""
    cdef uint64_t tick = entry.tick
    cdef uint32_t number = numbers.unused[numbers.count - 1] if numbers.count else numbers.last + 1
    cdef int i
    if not has_room(numbers, number):
        return 0
    if numbers.count:
        numbers.count -= 1
    else:
        numbers.last = number
    for i in range(numbers.lanes.count):
        numbers.told[i][number] = look_32(&numbers.uses[i].all[number].count)
        set_64(&numbers.uses[i].all[number].tick, 0)
    numbers.uses[0].all[number].tick = tick
    if tick >= numbers.uses[0].since:
        list_number(numbers.uses[0], number)
    return number


cdef inline bint has_room(Numbers *numbers, uint32_t number) noexcept nogil:
    """Have a place for all that is known of this number. False without memory."""
    cdef size_t room = numbers.room
    cdef void *list
    cdef int i
    for i in range(numbers.lanes.count):
        if not has_uses(numbers.uses[i], number):
            return False
    if not has_room_for(&numbers.owners, number):
        return False
    if number < numbers.room:
        return True
    for i in range(numbers.lanes.count):
        room = numbers.room
        list = grown(numbers.told[i], &room, sizeof(uint32_t))
        if list == NULL:
            return False
        numbers.told[i] = <uint32_t *> list
    numbers.room = room
    return True


cdef inline void give_numbers(Numbers *numbers, Record *record) noexcept:
    """A record is about to go: its entries are told the last of their uses. Without memory a number is not used again."""
    cdef uint32_t *unused
    cdef uint32_t number
    cdef int i
    for i in range(record.count):
        number = reps_of(record)[i].number
        if not number or numbers.owners.all == NULL or numbers.owners.all[number].record != record:
            continue
        tell(numbers, number)
        take_owner(&numbers.owners, number)
        if numbers.count == numbers.size:
            unused = <uint32_t *> grown(numbers.unused, &numbers.size, sizeof(uint32_t))
            if unused == NULL:
                return
            numbers.unused = unused
        numbers.unused[numbers.count] = number
        numbers.count += 1


cdef inline void bury(Dead *dead) noexcept:
    """Free what is dead. A Python object that goes may have more records die: they are seen to, too."""
    while dead.count:
        dead.count -= 1
        give_numbers(<Numbers *> dead.numbers, dead.records[dead.count])
        free_record(dead.records[dead.count])


# --- telling ------------------------------------------------------------------------------------------------


cdef inline uint64_t last_use(const Numbers *numbers, uint32_t number) noexcept nogil:
    """In any lane: the tick at which what has this number was last used, by any lane; 0 for none."""
    cdef uint64_t last = 0
    cdef int i
    for i in range(numbers.lanes.count):
        last = max(last, look_64(&numbers.uses[i].all[number].tick))
    return last


cdef inline int tell(Numbers *numbers, uint32_t number) except -1:
    """Tell an entry of its uses in all lanes since it was last told."""
    cdef uint32_t count = 0, counted
    cdef int i
    for i in range(numbers.lanes.count):
        counted = look_32(&numbers.uses[i].all[number].count)
        if <int32_t> (counted - numbers.told[i][number]) > 0:    # else one was taken back that was told
            count += counted - numbers.told[i][number]
        numbers.told[i][number] = counted
    if count:
        entry = <object> entry_of(&numbers.owners, number)
        entry.tick = max(entry.tick, last_use(numbers, number))
        entry.uses += count
    return 0


cdef inline int tell_record(Numbers *numbers, const Record *record) except -1:
    """Tell the entries of a record."""
    cdef int i
    for i in range(record.count):
        if reps_of(record)[i].number:
            tell(numbers, reps_of(record)[i].number)
    return 0


cdef inline int tell_entry(Numbers *numbers, entry) except -1:
    """Tell an entry of its uses until now."""
    cdef uint32_t number = first_of(&numbers.owners, <PyObject *> entry)
    while number:
        tell(numbers, number)
        number = next_of(&numbers.owners, numbers.owners.all[number].next, <PyObject *> entry)
    return 0


cdef inline uint64_t note_use(Numbers *numbers, entry, uint64_t tick) except? 0:
    """Python uses a representation at this tick: that of the use before, as the lanes know it; 0 for none."""
    cdef uint32_t number = first_of(&numbers.owners, <PyObject *> entry)
    cdef uint64_t last = 0
    while number:
        last = max(last, last_use(numbers, number))
        note_tick(numbers.uses[0], number, &numbers.uses[0].all[number], tick)
        number = next_of(&numbers.owners, numbers.owners.all[number].next, <PyObject *> entry)
    return last


cdef inline bint is_telling(const Numbers *numbers) noexcept nogil:
    """Whether a round was begun, and is not over."""
    return numbers.lane < numbers.lanes.count


cdef inline void begin_round(Numbers *numbers) noexcept nogil:
    """Of what was used in the first lane until now, and in the others until they last sent their lists."""
    cdef Parcel *own = &numbers.lanes.stations[0].touched
    if may_send(own):
        send_uses(numbers.uses[0], own, tick_at(monotonic()) + 1)
    numbers.lane = 0
    numbers.at = 0
    note_chores(numbers.lanes)


cdef inline bint has_listed(Numbers *numbers) noexcept nogil:
    """Whether something is left of this round. The lists before it are let go."""
    cdef Parcel *list
    while is_telling(numbers):
        list = &numbers.lanes.stations[numbers.lane].touched
        if has_come(list):
            if numbers.at < list.count:
                return True
            let_parcel_go(list)
        numbers.lane += 1
        numbers.at = 0
    return False


cdef inline size_t left_of_round(Numbers *numbers) noexcept nogil:
    """How many numbers are listed in what is left of this round."""
    cdef size_t left = 0
    cdef int i
    for i in range(numbers.lane, numbers.lanes.count):
        if has_come(&numbers.lanes.stations[i].touched):
            left += numbers.lanes.stations[i].touched.count
    return left - numbers.at


cdef inline int tell_some(Numbers *numbers, int most) except -1:
    """Tell at most so many entries of this round; where it is over, of another one."""
    cdef int left = most * LOOKS
    if not has_listed(numbers):
        begin_round(numbers)
    while has_listed(numbers) and left > 0:
        left -= LOOKS if tell_next(numbers) else 1
    return 0


cdef inline bint tell_next(Numbers *numbers) except -1:
    """Tell the next one of the list; False where it was told, since another lane had it listed, too."""
    cdef uint32_t number = (<uint32_t *> numbers.lanes.stations[numbers.lane].touched.what)[numbers.at]
    cdef uint32_t counted = look_32(&numbers.uses[numbers.lane].all[number].count)
    numbers.at += 1
    if numbers.owners.all[number].record == NULL or counted == numbers.told[numbers.lane][number]:
        return False
    tell(numbers, number)
    return True


cdef inline size_t tell_uses(Numbers *numbers, int most) except? 0:
    """As `tell_some`; -1: all that the first lane has used until now, and the others until they last sent their lists. How many
    numbers are left in the lists."""
    if most >= 0:
        tell_some(numbers, most)
        return left_of_round(numbers)
    while has_listed(numbers):
        tell_next(numbers)
    begin_round(numbers)
    while has_listed(numbers):
        tell_next(numbers)
    return 0

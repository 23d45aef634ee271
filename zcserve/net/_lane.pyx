# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: auto_pickle=False, autotestdict=False
# All memory here is raw C memory with its length beside it: there is nothing for Cython's own checks to check.
"""The compiled fast lane: answers what is plain and hot before Python hears of it.

`Lane` waits as `poller.Poller` does (`fastlane.FastLane` makes a front of it), and answers by itself: a well-formed GET or HEAD of a resource it was
taught. All else goes to the general lane with the bytes already read. The lane decides nothing, as a TLB does not: what a path
leads to is looked up in Python when it is asked for, and put (`learn`, `put`), and can be forgotten at any time. What a Host, an Accept-Encoding or a Connection
value means is the RFCs' text, which it reads itself; where it is unsure, it asks Python's `judge`. For what leads to nothing that was put, an application may know what answers it at once, in Python
(`consult`): that is put, too, and the answer is sent from here.

This class is the lane as Python sees it. What it does stands in its units (lane/__init__.py), as functions on structs that run
without the interpreter's lock and return numbers. A connection belongs either to the lane (no Python object knows it) or to Python
(the lane only reports its events).

Memory. A record refers to bytes that Python objects own (bodies in slabs and pages); it holds those objects until it is dropped and
nothing is being sent from it (lane/records.pxd). Python objects that may refer to the lane are attributes of this class, so that the
collector sees them; the units borrow them. So they are never cleared before the lane goes (`no_gc_clear`): in each circle there is
an object of Python's that the collector can clear instead.
"""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from os import urandom

from zcserve.net.lane cimport (
    absent, accepting, atomic, connections, endings, finding, hashes, led, letters, log, mapped, moving, news, numbers, opening, output,
    owned as owning, parts, proxies, records, servlets, shedding, sightings, sites, table, trials, withdrawn,
)
from zcserve.net.lane.connections cimport OWNER_PYTHON, OWNER_SOURCE, Conns
from zcserve.net.lane.counts cimport BOUNDS, BOUNDS_S, SAMPLED_EVERY, all_answers, told_counts
from zcserve.net.lane.lanes cimport END_ALL, END_IDLE, LANES_MAX, STOP, open_lanes, order_others, passed
from zcserve.net.lane.loop cimport Loop, is_second_over
from zcserve.net.lane.sending cimport Answering, pace_errands
from zcserve.net.lane.shared cimport Shared, close_shared, drop_site, open_shared, set_hosts
from zcserve.net.lane.sites cimport Site, site_of
from zcserve.net.lane.system cimport SOURCES, PyEval_RestoreThread, PyEval_SaveThread

sources = SOURCES.decode("ascii")        # lane/__init__.py has the same of those beside it
bounds_s = tuple([BOUNDS_S[i] for i in range(BOUNDS)])   # net/counts.py has these two
sampled_every = SAMPLED_EVERY


def read_value(int kind, bytes value not None):
    """For tests: the numbers that a value means (lane/grammar.pxd), None where that is unsure. Raises ValueError for an unknown kind."""
    return trials.numbers_read(kind, value)


def say_second(int64_t second):
    """For tests: how a Date says a second, how a line of the log in the combined format, and in JSON."""
    return trials.said(second)


@cython.final
@cython.no_gc_clear
cdef class Lane:
    """An epoll descriptor with a fast lane in front. One thread: the loop's."""

    cdef Shared shared
    cdef Loop loop
    cdef Loop *others[LANES_MAX]     # by number; number 0 is `loop`
    cdef object config
    cdef list pages                  # see `set_pages`
    cdef object judge, origin        # see `__init__`, `trust`
    cdef list taught                 # by a site's number: [the keys of what was found by its `look_up`, what `learn` and `consult` were given]
    cdef dict made                   # descriptor -> what the application made of a request, and its id, until it is taken

    def __cinit__(self):
        cdef Answering *lane = &self.loop.answering
        self.taught, self.made, self.others[0] = [], {}, &self.loop
        opening.prepare(&self.loop, &self.shared)
        open_lanes(&self.shared.lanes, &self.loop.station)
        lane.servlets.made = <PyObject *> self.made

    def __init__(self, config, bint log_on, judge=None):
        """`judge` says what a value means of which the grammar in C is unsure: `fastlane.judge`. None: such requests are handed over."""
        cdef Answering *lane = &self.loop.answering
        cdef uint32_t seed = int.from_bytes(urandom(4), "little")
        self.config, self.judge = config, judge
        opening.open_lane(&self.loop, seed, config, log_on)
        open_shared(&self.shared, &lane.uses, &lane.dead, seed)
        self.add_site()
        self.set_hosts({}, 0, 0)
        lane.judged.judge = <PyObject *> judge if judge is not None else NULL
        lane.judged.gil = &lane.gil

    def __dealloc__(self):
        cdef int i
        numbers.close_numbers(&self.shared.numbers)
        for i in range(1, self.shared.lanes.count):
            opening.free_lane(self.others[i])
        opening.close_lane(&self.loop)
        close_shared(&self.shared)
        free(self.loop.answering.proxies.networks)

    # --- other lanes ------------------------------------------------------------------------------------------

    def add_lane(self):
        """Another lane, with what this one was told by now (`trust`, `set_pages`, `map`): the number to `run_lane`."""
        cdef int number = self.shared.lanes.count
        if number == 1:
            opening.have_mail(&self.loop)
        self.others[number] = opening.new_lane(&self.loop, &self.shared, self.config)
        return number

    def run_lane(self, int number):
        """Run another lane until `stop_lanes`, in a thread of its own."""
        with nogil:
            letters.run_alone(self.others[number])

    def stop_lanes(self):
        """Have the others close their connections, and end."""
        order_others(&self.shared.lanes, STOP)

    # --- what the loop calls ----------------------------------------------------------------------------------

    def register(self, int fd, *, bint stream, bint counts=True):
        """Watch a descriptor that Python owns: a `stream`, which `counts` as a connection or not, or something that is only ever read."""
        connections.register(&self.loop.answering.conns, fd, OWNER_PYTHON if stream and counts else OWNER_SOURCE, stream)

    def register_listener(self, int fd):
        """As `accepting.open_listener`."""
        accepting.open_listener(&self.loop.accepting, &self.loop.answering.conns, fd)

    def introduce(self, int fd, int family, bytes address not None):
        """The peer of a connection that Python accepted; the lane learns it from accept otherwise."""
        connections.introduce(connections.foreign_conn(&self.loop.answering.conns, fd), family, address)

    def trust(self, list networks not None, bint unix, origin):
        """Proxies that name the client: (4 or 6, address, bits) of each network of them, and whether peers on a unix socket are;
        `origin` is forwarded.py's `Proxies.origin`."""
        cdef Answering *lane = &self.loop.answering
        lane.rules.trusts, self.origin = proxies.trust(&lane.proxies, networks, unix), origin
        lane.servlets.origin = <PyObject *> origin

    def forget(self, int fd):
        """Python closes this descriptor. It is taken out of epoll at once: its open file may live on in another process."""
        accepting.close_listener(&self.loop.accepting, &self.loop.answering.conns, fd)
        connections.forget(&self.loop.answering.conns, fd)

    def resume(self, int fd, double since):
        """Take a connection from Python, as `Front.give`: it is that lane's from now on that has the fewest."""
        cdef Conns *conns = &self.loop.answering.conns
        accepting.take_back(&self.loop.accepting, conns, fd, connections.foreign_conn(conns, fd), since)

    def poll(self, double timeout):
        """(descriptor, mask) of what needs Python's attention; waits at most `timeout` seconds (-1: without end).

        Under load it returns when the second changes. A report of a descriptor that Python does not know, with the
        mask 0, is a connection that was handed over: `take` it."""
        cdef Answering *lane = &self.loop.answering
        cdef Conns *conns = &lane.conns
        conns.reports_count = 0
        pace_errands(lane)
        conns.due = conns.full = log.is_log_filling(&lane.log)
        self.loop.station.has_chores = sites.are_chores_left(&self.shared.sites)
        lane.gil.thread = PyEval_SaveThread()
        self.loop.turns(&self.loop, timeout)
        if not lane.gil.held:
            PyEval_RestoreThread(lane.gil.thread)
        lane.gil.held = False
        numbers.bury(&lane.dead)
        sites.see_to_chores(&self.shared.sites)
        return connections.reported(conns)

    def take(self, int fd):
        """What was handed over with `fd`, a `front.Handed`; None: nothing was. The connection is Python's from now on."""
        return moving.handed_over(&self.loop.answering.conns, fd, self.made)

    def descriptors(self):
        """As `opening.add_descriptors`, of all lanes."""
        cdef list found = []
        for i in range(self.shared.lanes.count):
            opening.add_descriptors(self.others[i], found)
        return found

    def close(self):
        """Close the lane's connections and the epoll descriptor. No application is consulted any more: it may refer to the lane."""
        self.close_all(False)
        endings.abort_all(&self.loop.answering.conns)
        opening.take_what_is_left(&self.loop, self.others)
        moving.discard_all(self.made)
        for i, its in enumerate(self.taught):
            if its is not None:
                self.consult(None, None, i)
                self.learn(None, i)
        withdrawn.close_withdrawn(&self.shared.withdrawn)        # what waited for them may refer to the server
        numbers.bury(&self.loop.answering.dead)
        connections.close_epoll(&self.loop.answering.conns)

    def drain(self, bint draining, *, bint shut):
        """As `endings.drain`, in all lanes."""
        endings.drain(&self.loop.answering.conns, draining, shut)

    def close_all(self, bint idle_only):
        """As `endings.close_all`, in all lanes."""
        order_others(&self.shared.lanes, END_IDLE if idle_only else END_ALL)
        endings.close_all(&self.loop.answering.conns, idle_only)
        numbers.bury(&self.loop.answering.dead)

    def shed(self, int most):
        """As `shedding.shed`: how many were closed, by other lanes since the last call, too; None: they still look."""
        done = shedding.shed(&self.loop.answering.conns, most)
        return None if done == shedding.PENDING else done

    # --- what Python teaches ----------------------------------------------------------------------------------

    def add_site(self):
        """Another site, which leads nowhere yet: its number. There is one from the start, number 0. Raises MemoryError."""
        its = [set(), None, None]
        sites.add_site(&self.shared.sites, urandom(32), its[0])
        self.taught.append(its)
        return self.shared.sites.count - 1

    def note_as(self, uint32_t account, bytes log_mark, uint32_t site=0):
        """The account that a site's requests count for (site/accounts.py), and what begins its lines in `take_log`; None: it has no
        lines. Before any host leads there. Raises ValueError."""
        sites.note_as(&self.shared.sites, site, account, log_mark)

    def set_prefixes(self, tuple prefixes not None):
        """What answers begin with, with any Date, which the lane writes: of `fastlane.STATUSES` for each of KEEP, KEEP_10, CLOSE. Raises ValueError."""
        output.set_prefixes(&self.loop.answering.output, prefixes)
        is_second_over(&self.loop)

    def set_pages(self, list pages not None, bytes head not None, bytes content not None):
        """What stands before and behind the content's size, and the page, of 412 and 416: each without Vary and with it. And what 503
        has behind its prefix, where too much is asked of the first lane. Once."""
        parts.set_pages(&self.loop.answering.pages, pages)
        self.pages = pages
        self.shared.unavailable = records.record_of_page(b"", output.UNAVAILABLE, head, content)

    def map(self, int fd, int64_t resident):
        """Large content lies in this memfd, which stays open as long as there is the lane; about so much of it is `resident`."""
        mapped.map_file(&self.loop.answering.output.mapped, fd, resident)

    def drop_site(self, uint32_t site):
        """A site goes: what it has is given back in the next turns. Raises ValueError where a host leads to it."""
        self.forget_quick(site)
        drop_site(&self.shared, site)
        self.taught[site] = None

    def set_hosts(self, dict names not None, unnamed, unknown):
        """As `Front.set_hosts`, by the lane's numbers of sites. Each lane knows it from its next turn on. Raises ValueError."""
        set_hosts(&self.shared, &self.loop.answering.judged, names, unnamed, unknown)

    def put(self, bytes key not None, tuple entries not None, uint32_t site=0, *, bint any_query=False):
        """Teach a site's resource: a file's entry, and its variants. `any_query`: with each query behind the key it is the same.
        Nothing is taught of what is not all in memory (`Body.place`), or is under KEYS_MAX keys (lane/owners.pxd). Raises ValueError for what does not add up, and like all that names a site, where there is none of this number any more."""
        table.put_file(&site_of(&self.shared.sites, site).table, key, entries, any_query)

    def put_redirect(self, bytes key not None, bytes head not None, bytes content not None, uint32_t site=0):
        """Teach a 301, whatever the query is: what stands behind the prefix, the location last. Raises ValueError for no head."""
        table.put_redirect(&site_of(&self.shared.sites, site).table, key, output.MOVED, head, content)

    def lead_to_file(self, bytes key not None, bytes target not None, tuple entries not None, int status, int queries, uint32_t site=0):
        """Rules lead a key to a file, as `led.lead_to_file`; numbers of `fastlane.STATUSES`, `redirects.Queries`. Until `void_leads`."""
        led.lead_to_file(&site_of(&self.shared.sites, site).table, key, target, entries, status, queries)

    def lead_to_page(self, bytes key not None, int status, bytes head not None, bytes content not None, int queries, uint32_t site=0):
        """Likewise to a page, as `led.lead_to_page`."""
        led.lead_to_page(&site_of(&self.shared.sites, site).table, key, status, head, content, queries)

    def void_leads(self, uint32_t site=0):
        """Ask anew where rules lead."""
        led.void_leads(&site_of(&self.shared.sites, site).table)

    @property
    def leads(self):
        """(how many there are, in all sites, and the bytes that they take)."""
        return self.shared.sites.leads.count, self.shared.sites.leads.bytes

    def learn(self, teach, uint32_t site=0):
        """Have `teach` called for a path that is not known: it puts what the path leads to, if that may be put. None: no more."""
        site_of(&self.shared.sites, site).teach = <PyObject *> teach if teach is not None else NULL
        self.taught[site][1] = teach

    def consult(self, look_up, owned=None, uint32_t site=0):
        """Ask an `Application`'s `look_up` about what nothing was put for, if it may be `owned`; None: all may. Without both there is none."""
        cdef Site *its = site_of(&self.shared.sites, site)
        self.forget_quick(site)
        owning.own(&its.owned, look_up is not None or owned is not None, owned)
        led.void_leads(&its.table)       # behind it: till then another lane may remember what was not owned before
        its.look_up = <PyObject *> look_up if look_up is not None else NULL
        self.taught[site][2] = look_up, owned

    def await_lanes(self):
        """An epoch: when it has passed, no lane answers with what was forgotten until now."""
        return withdrawn.await_lanes(&self.shared.withdrawn)

    def has_passed(self, uint64_t epoch):
        """Whether each lane waits, or has begun a turn since this epoch began."""
        return passed(&self.shared.lanes, epoch)

    def doubt(self, uint32_t site=0):
        """Ask the application whether it owns what it did."""
        owning.doubt(&site_of(&self.shared.sites, site).owned.freshness)

    def forget_quick(self, uint32_t site=0):
        """Look up anew what was found."""
        self.doubt(site)
        servlets.forget_quick(&self.loop.answering.servlets, site_of(&self.shared.sites, site))
        numbers.bury(&self.loop.answering.dead)

    def forget_key(self, bytes key not None, uint32_t site=0):
        """Forget one resource, if it was taught."""
        table.drop_key(&site_of(&self.shared.sites, site).table, table.text_of(key))
        numbers.bury(&self.loop.answering.dead)

    def clear(self, uint32_t resources=0, uint32_t site=0):
        """Forget all resources of a site, in the next turns: it takes long. There is room for so many `resources` then."""
        servlets.forget_found(&self.loop.answering.servlets, site_of(&self.shared.sites, site))
        led.void_leads(&site_of(&self.shared.sites, site).table)
        table.clear(&site_of(&self.shared.sites, site).table, resources)
        self.chores()

    def reserve(self, uint32_t resources, uint32_t site=0):
        """Have room for so many resources, so that the table need not grow."""
        table.reserve(&site_of(&self.shared.sites, site).table, resources)

    def knows(self, bytes key not None, uint32_t site=0):
        """Whether a resource is taught."""
        return finding.is_known(site_of(&self.shared.sites, site), table.text_of(key))

    def chores(self):
        """See to a piece of what stands in tables that were left behind, as `poll` does. True while more is left."""
        return sites.do_chores(&self.shared.sites)

    # --- entries, in whichever site they are ------------------------------------------------------------------

    def drop(self, entry):
        """Forget every resource that a representation belongs to: it was evicted or replaced."""
        sites.drop_entry(&self.shared.sites, entry)

    def holds(self, entry):
        """Whether the lane refers to this entry's body."""
        return sites.holds(&self.shared.sites, entry)

    def note_use(self, entry, uint64_t tick):
        """Python uses a representation at this tick: that of the use before, as far as the lane knows; 0 for none."""
        return numbers.note_use(&self.shared.numbers, entry, tick)

    def pinned(self, entry):
        """Whether the lane is in the middle of sending from this entry. Any thread that holds the GIL may ask."""
        return sites.is_sending(&self.shared.sites, entry)

    # --- what is absent ---------------------------------------------------------------------------------------

    def know(self, pieces, uint32_t count, uint32_t site=0):
        """These are all the keys that lead somewhere, about `count` of them: what is none of them is absent from now on."""
        hashes.set_keys(&site_of(&self.shared.sites, site).absent.keys, pieces, count)

    def add_keys(self, keys, uint32_t site=0):
        """These keys are not absent."""
        hashes.add_keys(&site_of(&self.shared.sites, site).absent.keys, keys)

    def remove_keys(self, keys, uint32_t site=0):
        """These keys lead nowhere: what was taught of them is forgotten, and they are absent."""
        for key in keys:
            self.forget_key(key, site)
        hashes.remove_keys(&site_of(&self.shared.sites, site).absent.keys, keys)

    def set_not_found(self, bytes head not None, bytes content not None, uint32_t site=0):
        """What is absent gets this, with 404; as in `put_redirect`."""
        absent.set_page(&site_of(&self.shared.sites, site).absent, output.NOT_FOUND, head, content)
        numbers.bury(&self.loop.answering.dead)

    def leave_failures(self, bint on, uint32_t site=0):
        """Whether Python answers with 412 and 416, of which the site's rules say more than the lane has."""
        atomic.set_int(&site_of(&self.shared.sites, site).has_ruled_failures, on)

    def is_absent(self, bytes target not None, int times=1, uint32_t site=0):
        """How often a target is called absent, that is asked for so many `times` (in tests, beside changes)."""
        return trials.absences(site_of(&self.shared.sites, site), target, times)

    @property
    def keys_bytes(self):
        """What the first site's set of keys takes."""
        return hashes.bytes_of(&site_of(&self.shared.sites, 0).absent.keys)

    def keyed_hash(self, bytes data not None, uint64_t first, uint64_t second):
        """For tests: the set's hash, under this key."""
        return trials.keyed_hash(data, first, second)

    # --- what Python is told ----------------------------------------------------------------------------------

    def drain_ticks(self, int most=-1):
        """As `numbers.tell_uses`: each entry that was used is told how often, and when last."""
        return numbers.tell_uses(&self.shared.numbers, most)

    def tell_uses(self, entry):
        """As `drain_ticks`, of this entry alone, all until now."""
        numbers.tell_entry(&self.shared.numbers, entry)

    def sample(self, double unit, uint64_t pause, int64_t every):
        """Which uses to note from now on: as `MissRatioCurve`'s attributes of these names say; `unit` 0: none. Raises ValueError."""
        sightings.set_rule(&self.shared.rule, unit, pause, every)

    def take_sightings(self):
        """What was noted since the last call: [(hash, size, tick, tick of the use before, followed, measured)]."""
        return sightings.taken(&self.loop.answering.sightings, &self.shared.lanes)

    def take_log(self):
        """Access log lines since the last call, those of each lane in the order of its answers."""
        return log.taken_lines(&self.loop.answering.log) + news.told_lines(&self.shared.lanes)

    def await_lines(self):
        """Have other lanes send their lines now: an epoch for `has_lines`."""
        return news.ask_for_lines(&self.shared.lanes)

    def has_lines(self, uint64_t epoch):
        """Whether `take_log` gets all lines from before this epoch, or has got them."""
        return news.are_sent(&self.shared.lanes, epoch)

    @property
    def lines_left_out(self):
        """As `news` says."""
        return news.lines_left_out(&self.loop.answering.log, &self.shared.lanes)

    @property
    def lost(self):
        """What has found no room since the start: (lines of other lanes, which do not wait for `take_log`; sightings)."""
        return news.lost_lines(&self.shared.lanes), sum([atomic.look_64(&self.others[i].answering.sightings.lost) for i in range(self.shared.lanes.count)])

    def hash(self, bytes key not None):
        """The tables' hash of a key."""
        return trials.hashed(self.shared.sites.seed, key)

    def parse(self, bytes data not None):
        """For tests and fuzzing: (length, method, target, mode) of the plain request at the front of `data`, or None."""
        return trials.parsed(&self.loop.answering, data)

    def site_of(self, bytes data not None):
        """For tests: the number of the site that the plain request at the front of `data` is for; None: Python is to answer."""
        return trials.sited(&self.loop.answering, data)

    def decide(self, bytes data not None, bytes etag not None, modified, int64_t size, int64_t now):
        """For tests and fuzzing, as `trials.decided`."""
        return trials.decided(&self.loop.answering, data, etag, modified, size, now)

    @property
    def running(self):
        """Where the servlet is that is being called, or None; and how many calls have begun. Any thread that holds the GIL may ask."""
        cdef PyObject *where = self.loop.answering.servlets.running
        return <object> where if where != NULL else None, self.loop.answering.servlets.begun

    @property
    def withdrawn(self):
        """How many records and arrays wait until no lane can be reading them."""
        return self.shared.withdrawn.count - self.shared.withdrawn.at

    @property
    def count(self):
        """Connections of the lane."""
        return self.loop.answering.conns.count

    @property
    def foreign(self):
        """Connections of Python."""
        return self.loop.answering.conns.foreign

    @property
    def all_count(self):
        """As `connections.count_all`."""
        return connections.count_all(&self.loop.answering.conns)

    @property
    def loads(self):
        """How many connections each lane has, the first one with Python's."""
        return [atomic.look_int(&self.shared.lanes.stations[i].load) for i in range(self.shared.lanes.count)]

    @property
    def inboxes(self):
        """How many connections hold bytes that were read and are not answered yet."""
        return connections.count_inboxes(&self.loop.answering.conns)

    @property
    def requests(self):
        """How many it has answered."""
        return sum([all_answers(&self.others[i].answering.output.answered) for i in range(self.shared.lanes.count)])

    def counts(self):
        """What each lane has counted: `counts.Told`."""
        cdef int i, used = self.shared.sites.accounts
        loads = [self.count, *self.loads[1:]]
        return [told_counts(&self.others[i].answering.output.answered, &self.others[i].answering.conns.clients, loads[i], used)
                for i in range(len(loads))]

    @property
    def turn(self):
        return self.loop.answering.turn

    @property
    def hash_seed(self):
        """The secret seed of the tables' hash."""
        return self.shared.sites.seed

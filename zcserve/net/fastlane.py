"""The fast lane: the compiled lane as a front, what it is taught, and when it must forget.

The lane (`_lane.pyx`) answers what it was taught and hands over the rest. It is taught what is asked for: where it does
not know a path, it asks `leading.lasting` (`learn`); what an application keeps is put when the general lane answered
it. It decides nothing. What values of fields mean it reads by itself, and asks `judge` where it is unsure. It forgets
a resource when one of its representations is evicted or replaced, all of them when another generation is served, and
where rules lead when any key leads elsewhere.

Without the compiled module there is no lane, and the poller (poller.py) is the front.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import starmap, zip_longest
from typing import TYPE_CHECKING

from zcserve import threads
from zcserve.cache.curve import MissRatioCurve
from zcserve.cache.entry import Entry, each_coding
from zcserve.config.table import Config
from zcserve.forwarded import Proxies, Trusted
from zcserve.http import FieldLines, coding_quality, host_name, is_host, parse_accept_encoding, parse_list
from zcserve.log import Log
from zcserve.net.access_logs import OFF, AccessLogs, mark_of
from zcserve.net.counts import LaneCounts, read
from zcserve.net.engine import is_native, lanes_of
from zcserve.net.fields import CLOSE, KEEP, KEEP_10, mode_of
from zcserve.net.framing import frame
from zcserve.net.front import Front, Kind, Lasting, Shelf, Turns
from zcserve.net.lanes import bind, start
from zcserve.net.poller import Poller
from zcserve.net.prefixes import Prefixes
from zcserve.net.slow import SlowRequests
from zcserve.net.telling import Telling
from zcserve.site import reply
from zcserve.site.exchange import Owned, Quick
from zcserve.site.reply import Reply

if TYPE_CHECKING:
    from zcserve.cache.store import Store
    from zcserve.net._lane import Lane

_log = Log(__name__)

# Content codings in the order of the lane's numbers.
CODINGS = (b"", b"br", b"gzip", b"zstd")
# What the lane answers, in the order of `Lane.set_prefixes`.
STATUSES = (200, 304, 206, 412, 416, 404, 301, 503, 302, 303, 307, 308, 410)
# So many keys are forgotten one by one; of more, all are.
KEYS_FORGOTTEN_MAX = 1000
# Entries that are told of their uses in one turn: 70 us, where each comes from memory.
TICKS_AT_ONCE = 100
# Another lane that is at work sends its lines so often: lane/news.pxd.
NEWS_S = 0.2
# The lane's kinds of field values.
HOST, ACCEPT, CONNECTION_11, CONNECTION_10 = range(4)
UPGRADE = 3  # beside KEEP, KEEP_10 and CLOSE: whether it matters the Upgrade field says, which the lane does not read


def open_front(
    config: Config, prefixes: Prefixes, log: AccessLogs | None, slow_requests: SlowRequests | None = None
) -> Front:
    """What the loop waits with: the lane where it is built and wanted. Raises UsageError."""
    count = lanes_of(config)
    if not is_native(config):
        return Poller()
    from zcserve.net._lane import Lane

    lane = Lane(config, log is not None, judge)
    trusted = Trusted(config.proxy_headers)
    networks = [(int(one.version), one.network_address.packed, one.prefixlen) for one in trusted.networks]
    lane.trust(networks, trusted.unix, Proxies(trusted).origin)
    return FastLane(lane, prefixes, log, slow_requests, lanes=count, pinned=config.pin_cpus)


def _framed(page: Reply) -> tuple[bytes, bytes]:
    """The head of a page, and its content."""
    (head, *_), _, _ = frame(page, b"GET", b"HTTP/1.1")
    assert isinstance(head, bytes)
    assert isinstance(page.content, bytes)
    return head, page.content


def _page_of(status: int, vary: FieldLines) -> tuple[bytes, bytes, bytes]:
    """What stands before and behind the content's size in the page of a status, and its content."""
    is_failed = status == 412
    page = reply.page(412, vary) if is_failed else reply.unsatisfiable(0, vary)
    head, content = _framed(page)
    before, _, behind = head.partition(b"*/0")
    return (head, b"", content) if is_failed else (before + b"*/", behind, content)


def judge(kind: int, value: bytes) -> tuple[int, ...]:
    """What a field's one value means, in the lane's numbers: of a Host 1, or 0 where it is none, or where its name is
    not written as `host_name` gives it, as the lane looks for it (an IPv6 address); of an Accept-Encoding
    the qualities of `CODINGS`; of a Connection its mode."""
    if kind == HOST:
        return (int(is_host(value) and (value[:1] != b"[" or value.lower().startswith(host_name(value)))),)
    if kind == ACCEPT:
        accept = parse_accept_encoding(value)
        return tuple(coding_quality(accept, coding or b"identity") for coding in CODINGS)
    if any(option.lower() == b"upgrade" for option in parse_list(value)):
        return (UPGRADE,)
    return (mode_of([value], kind == CONNECTION_11),)


class FastShelf(Shelf):
    """What the lane knows of one site: it is told what the lane is to be told."""

    def __init__(self, lane: Lane, site: int, map_pages: Callable[[], None]) -> None:
        """`site`: the lane's number for it. `map_pages` is called before anything is taught that may lie there."""
        self.site = site
        self._lane = lane
        self._map_pages = map_pages

    def leave(self) -> None:
        """The site is gone. What still refers to the shelf may tell it more: from now on it remembers nothing."""
        self._lane.drop_site(self.site)
        self.__class__ = Shelf  # type: ignore[assignment]

    def note_as(self, account: int, log: int) -> None:
        """As `Shelf.note_as`."""
        self._lane.note_as(account, mark_of(log) if log != OFF else None, self.site)

    def reserve(self, resources: int) -> None:
        """As `Shelf.reserve`."""
        self._lane.reserve(resources, self.site)

    def learn(self, find: Callable[[bytes], Lasting | None]) -> None:
        """As `Shelf.learn`."""
        self._map_pages()
        self._lane.learn(partial(self._teach, find), self.site)

    def _teach(self, find: Callable[[bytes], Lasting | None], path: bytes) -> None:
        """Put what a path leads to."""
        if (found := find(path)) is None:
            return
        lane, (answer, is_own, queries, status) = self._lane, found
        if isinstance(answer, Entry) and is_own:
            lane.put(path, each_coding(answer), self.site, any_query=True)
        elif isinstance(answer, Entry):
            lane.lead_to_file(path, answer.key, each_coding(answer), STATUSES.index(status), queries, self.site)
        elif is_own:
            lane.put_redirect(path, *_framed(answer), self.site)
        else:  # the page for what is absent the lane has, and it may be another one soon
            head, content = (b"", b"") if answer.status == 404 else _framed(answer)
            lane.lead_to_page(path, STATUSES.index(answer.status), head, content, queries, self.site)

    def teach(self, target: bytes, entry: Entry) -> None:
        """As `Shelf.teach`."""
        if not self._lane.knows(target, self.site):
            self._lane.put(target, each_coding(entry), self.site)

    def consult(self, look_up: Callable[[bytes, bytes], Quick | None] | None, owned: Owned) -> None:
        """As `Shelf.consult`."""
        self._lane.consult(look_up, owned, self.site)

    def know_keys(self, pieces: Iterable[Collection[bytes]], count: int) -> None:
        """As `Shelf.know_keys`."""
        self._lane.know(pieces, count, self.site)

    def add_keys(self, keys: Collection[bytes]) -> None:
        """As `Shelf.add_keys`."""
        self._lane.add_keys(keys, self.site)

    def remove_keys(self, keys: Collection[bytes]) -> None:
        """As `Shelf.remove_keys`."""
        self._lane.remove_keys(keys, self.site)

    def set_not_found(self, answer: Reply) -> None:
        """As `Shelf.set_not_found`."""
        self._lane.set_not_found(*_framed(answer), self.site)

    def leave_failures(self, on: bool) -> None:
        """As `Shelf.leave_failures`."""
        self._lane.leave_failures(on, self.site)

    def forget_keys(self, keys: Collection[bytes], resources: int) -> None:
        """As `Shelf.forget_keys`."""
        self._lane.void_leads(self.site)
        if len(keys) > KEYS_FORGOTTEN_MAX:
            self._lane.clear(resources, self.site)
            return
        for key in keys:
            self._lane.forget_key(key, self.site)

    def forget_all(self, resources: int) -> None:
        """As `Shelf.forget_all`."""
        self._lane.clear(resources, self.site)

    def doubt(self) -> None:
        """As `Shelf.doubt`."""
        self._lane.doubt(self.site)

    def forget_quick(self) -> None:
        """As `Shelf.forget_quick`."""
        self._lane.forget_quick(self.site)


class FastLane(Front):
    """The compiled lane as a front: most of what is told to it goes to the lane as it is.

    Its own are the turn's duties, and that the lane knows bodies that the store may want back (`_evicted`).
    """

    engine = "native"
    takes = True
    lanes = 1

    def __init__(
        self,
        lane: Lane,
        prefixes: Prefixes,
        log: AccessLogs | None,
        slow_requests: SlowRequests | None = None,
        *,
        lanes: int = 1,
        pinned: bool = False,
    ) -> None:
        """`lanes`: of so many `lane` is the first; `pinned`: each to its cpu."""
        self.lane, self.lanes = lane, lanes
        self._threads: list[threading.Thread] = []
        self._pinned = pinned
        self.hash_seed = lane.hash_seed
        # The methods themselves: a function around them would be on the way of each turn, connection and request.
        self.poll = lane.poll  # type: ignore[method-assign]
        self.take = lane.take  # type: ignore[method-assign]
        lane.set_prefixes(tuple(prefixes.of(status, mode) for mode in (KEEP, KEEP_10, CLOSE) for status in STATUSES))
        pages = [_page_of(status, vary) for status in (412, 416) for vary in ((), reply.VARY)]
        lane.set_pages(pages, *_framed(reply.unavailable()))
        self._prefixes, self._log, self._slow = prefixes, log, slow_requests
        self._lost = lane.lost  # as far as it was told
        self._answers: list[tuple[int, ...]] = []  # likewise, of each lane
        self._losses: Telling
        self._shelves: dict[int, FastShelf] = {}
        self._newest = -1  # the number of the last one that was made
        self._gone: FastShelf  # of a site that was dropped, for what still refers to it: it remembers nothing
        self._second, self._is_mapped = 0, False
        self._awaited: deque[tuple[Callable[[], bool], Callable[[], None]]] = deque()
        self._call_soon: Callable[[Callable[[], object]], None]
        self._store: Store

    # --- waiting ------------------------------------------------------------------------------------------------

    def watch(self, fd: int, kind: Kind) -> None:
        """As `Front.watch`: the lane accepts by itself."""
        if kind is Kind.LISTENER:
            if not self._threads:
                self._start_lanes()
            self.lane.register_listener(fd)
        else:
            self.lane.register(fd, stream=kind in (Kind.CLIENT, Kind.STREAM), counts=kind is Kind.CLIENT)

    def _start_lanes(self) -> None:
        """Now that all is known that never changes: the others have copies of it. The thread that turns from now on is
        the one that stays, so it is bound, too."""
        if self._pinned:
            self._call_soon(partial(bind, 0))
        for number in range(1, self.lanes):
            self.lane.add_lane()
            self._threads.append(start(number, partial(self.lane.run_lane, number), pinned=self._pinned))

    def forget(self, fd: int) -> None:
        """As `Front.forget`."""
        self.lane.forget(fd)

    def descriptors(self) -> list[int]:
        """As `Front.descriptors`."""
        return self.lane.descriptors()

    def close(self) -> None:
        """As `Front.close`."""
        self.lane.stop_lanes()
        for thread in self._threads:
            thread.join()
        self._write_lines()
        self._tell_lost()
        self.lane.close()
        threads.unbind()

    def begin(self, loop: Turns, store: Store) -> None:
        """As `Front.begin`."""
        self._call_soon = loop.call_soon
        self._store = store
        loop.each_turn.subscribe(self._each_turn)
        store.evicted.subscribe(self._evicted)
        store.is_sending.subscribe(self.lane.pinned)
        if self._log is not None:
            self._log.keep_up(loop.timers, NEWS_S if self.lanes > 1 else 0.0)
        self._losses = Telling(loop.timers, self._tell_lost)

    def _each_turn(self) -> None:
        """The log's lines, and once a second what the entries must know of their uses."""
        second = self._prefixes.second
        if second != self._second:
            self._second = second
            self.lane.drain_ticks(TICKS_AT_ONCE)  # the others in the next turns
            if self.lane.lost != self._lost:
                self._losses.note(time.monotonic())
            if self._log is not None:
                self._log.left_out_by_lanes = self.lane.lines_left_out
        if self._awaited:
            self._call_awaited()
        self._write_lines()

    def _write_lines(self) -> None:
        if (self._log is None and self._slow is None) or not (lines := self.lane.take_log()):
            return
        if self._slow is not None:
            lines = self._slow.take_lines(lines)
        if self._log is not None and lines:
            self._log.lines(lines)

    def _tell_lost(self) -> None:
        """Say that a lane had no room for lines of the log, or for what was sampled, while this thread took nothing."""
        last, self._lost = self._lost, self.lane.lost
        lines, sightings = (now - before for now, before in zip(self._lost, last, strict=True))
        if lines:
            _log.error("access log: %d lines are lost: the loop was held for too long, and did not take them", lines)
        if sightings:  # at first each use is sampled, and then as many as there is time for
            _log.debug("what more memory would give: %d sampled uses found no room, and do not count", sightings)

    def _evicted(self, entry: Entry) -> bool:
        """A body left the store, in any thread: the lane must let go of it, and will if it has it."""
        if not self.lane.holds(entry):
            return False
        self._call_soon(partial(self.lane.drop, entry))
        return True

    # --- connections --------------------------------------------------------------------------------------------

    def count(self, known: int) -> int:
        """As `Front.count`: the lane counts those, too, that it has handed over and that Python has not taken yet."""
        return self.lane.all_count

    def introduce(self, fd: int, family: int, peer: str) -> None:
        """As `Front.introduce`."""
        self.lane.introduce(fd, family, b"" if family == socket.AF_UNIX else socket.inet_pton(family, peer))

    def give(self, fd: int, since: float) -> bool:
        """As `Front.give`."""
        self.lane.resume(fd, since)
        return True

    def shed(self, most: int) -> int | None:
        """As `Front.shed`."""
        return self.lane.shed(min(most, self.lane.all_count // 2 + 1))

    def drain(self) -> None:
        """As `Front.drain`."""
        self.lane.drain(True, shut=True)

    def answer_last(self, is_last: bool) -> None:
        """As `Front.answer_last`."""
        self.lane.drain(is_last, shut=False)

    def end(self, *, idle_only: bool) -> None:
        """As `Front.end`."""
        self.lane.close_all(idle_only)

    # --- what it knows of sites ---------------------------------------------------------------------------------

    def shelf(self, number: int) -> FastShelf:
        """As `Front.shelf`."""
        if number not in self._shelves:
            if number <= self._newest:
                return self._gone
            site = 0 if self._newest < 0 else self.lane.add_site()  # the lane has one from the start
            self._newest = number
            self._shelves[number] = FastShelf(self.lane, site, self._map_pages)
        return self._shelves[number]

    def drop_shelf(self, number: int) -> None:
        """As `Front.drop_shelf`."""
        if number in self._shelves:
            self._gone = self._shelves.pop(number)
            self._gone.leave()

    def set_hosts(self, names: Mapping[bytes, int], unnamed: int | None, unknown: int | None) -> None:
        """As `Front.set_hosts`."""
        numbers = {*names.values(), *(number for number in (unnamed, unknown) if number is not None)}
        # In their order: each new one has to be the highest so far, and names have an order of their own.
        site_of = {number: self.shelf(number).site for number in sorted(numbers)}
        first, other = (None if number is None else site_of[number] for number in (unnamed, unknown))
        self.lane.set_hosts({name: site_of[number] for name, number in names.items()}, first, other)

    def _map_pages(self) -> None:
        """The store has the memfd by now that it stays with (`Store.adopt`)."""
        if not self._is_mapped:
            self.lane.map(self._store.pages_fd, self._store.budget)
            self._is_mapped = True

    # --- what it forgets ----------------------------------------------------------------------------------------

    def when_passed(self, then: Callable[[], None]) -> None:
        """As `Front.when_passed`."""
        self._await(partial(self.lane.has_passed, self.lane.await_lanes()), then)

    def when_written(self, then: Callable[[], None]) -> None:
        """As `Front.when_written`."""
        self._await(partial(self.lane.has_lines, self.lane.await_lines()), then)

    def _await(self, is_true: Callable[[], bool], then: Callable[[], None]) -> None:
        self._awaited.append((is_true, then))
        self._call_awaited()

    def _call_awaited(self) -> None:
        """In the order in which they were asked for."""
        while self._awaited and self._awaited[0][0]():
            self._write_lines()
            self._awaited.popleft()[1]()

    def drop(self, entry: Entry) -> None:
        """As `Front.drop`."""
        self.lane.drop(entry)

    # --- what it tells ------------------------------------------------------------------------------------------

    def tell_uses(self, entry: Entry) -> None:
        """As `Front.tell_uses`."""
        self.lane.tell_uses(entry)

    def sighted_as(self, number: int) -> int:
        """As `Front.sighted_as`."""
        return self.shelf(number).site

    def note_use(self, entry: Entry, tick: int) -> int:
        """As `Front.note_use`."""
        return self.lane.note_use(entry, tick)

    def sample(self, curve: MissRatioCurve) -> None:
        """As `Front.sample`."""
        self.lane.sample(curve.unit, curve.pause, curve.every)

    def take_sightings(self) -> list[tuple[int, int, int, int, bool, bool]]:
        """As `Front.take_sightings`."""
        return self.lane.take_sightings()

    def counts(self) -> Sequence[LaneCounts]:
        """As `Front.counts`. An answer that is taken back, as the socket takes none of it, is told until it is given
        again: no count becomes less."""
        counts = self.lane.counts()
        before, self._answers = self._answers, [told[0] for told in counts]
        for i, answers in enumerate(before):
            self._answers[i] = tuple(starmap(max, zip_longest(answers, self._answers[i], fillvalue=0)))
        return [read((answers, *told[1:]), STATUSES) for answers, told in zip(self._answers, counts, strict=True)]

    @property
    def lines_lost(self) -> int:
        """As `Front.lines_lost`."""
        return self.lane.lost[0]

    def running(self) -> tuple[str | None, int]:
        """As `Front.running`. No count of answers is such a number: other lanes answer while a servlet runs."""
        where, begun = self.lane.running
        return where, -begun if where is not None else 0

"""Results that are content: what a servlet with a `ttl` returned, kept as an entry of the cache.

    respond -> kept, and resident -> `Stored`: negotiated, conditioned, cut and taught to the fast lane like a file
            -> being made         -> wait with the others
            -> neither            -> call the servlet -> judge -> a thread makes it resident -> all who wait

A result belongs to a target as it was sent, and is for everybody. So the request that makes it says nothing of who
asked: no header lines, no cookies, no address, and the method is GET. What is not for everybody (a status other than
200, Set-Cookie, Cache-Control: no-store, a stream, ...: `judge`) answers one request, and is not kept.

When the ttl has passed, a result that was used since it was made is made again in the background. Until that is done
the old one serves; if the content is the same, it lives on. What was not used is dropped. A servlet that fails, or does
not return, leaves the old result in place for another ttl, and then another, but not for ever.

A call has a deadline (`servlet_result_timeout_s`): then it is given up, and those that wait for it get 504. What it
returns later is thrown away. A thread cannot be ended, so a target may have two such calls and no more: until one of
them returns, its requests get 503. No request joins a call that was given up, and no more wait for one result than
for a thread.

A result comes from no file. Whoever finds it evicted has it made again: it must never reach the fetcher's `fetch`. It
has no Last-Modified but what the servlet says, since the ETag is exact.

Everything here happens in the loop's thread, but for what needs room in memory or processor time: that is done by the
loader's threads. Odd: while the fast lane answers, nobody asks the application, so nobody sees that a file has changed;
hence files are looked at once a second while there are results.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from zcserve.cache.burial import bury
from zcserve.cache.entry import ComposedEntry, Entry
from zcserve.cache.fetcher import HANDED_OUT_MAX, Fetcher
from zcserve.cache.loader import Loader
from zcserve.cache.preload import forget
from zcserve.cache.tags import tag_of
from zcserve.http import parse_date
from zcserve.log import Log
from zcserve.net.exchange import Answer, Exchange, Made, Stored
from zcserve.net.request import split_target
from zcserve.net.timers import Deadline, Timers
from zcserve.paths import SentPath
from zcserve.servlets.calls import Caller, Outcome, Started
from zcserve.servlets.context import Asked, Context, page
from zcserve.servlets.kept import SWEPT_AT_ONCE, Kept, sweep
from zcserve.servlets.request import Request
from zcserve.servlets.response import OF_A_FILE
from zcserve.servlets.routes import Route
from zcserve.servlets.workers import BusyError

if TYPE_CHECKING:
    from zcserve.net._lane import Lane

_log = Log(__name__)

# How many ttls a result goes on for that cannot be made again: long enough for a hiccup of what stands behind it.
STALE_TTLS_MAX = 10
# How many calls for one target may hang. The second is for what has recovered while the first still waits for it.
HUNG_MAX = 2
# So many results are considered at most, in one step, when one must go: some tenths of a millisecond.
CONSIDERED_MAX = 100
# How often files are looked at on account of results.
LOOK_EVERY_S = 1.0
# A slab has room for a head of 4096 bytes (cache/store.py), and there are fields besides the servlet's.
FIELDS_BYTES_MAX = 3072
# Of what is kept: clients choose queries, and ten thousand of 8 KB would be 80 MB beside the budget.
TARGET_BYTES_MAX = 1024

# --- what may be kept -------------------------------------------------------------------------------------

# Fields, in lower case, of what is not for everybody, or that an entry's head would contradict.
_NOT_KEPT = (OF_A_FILE | {"set-cookie"}) - {"content-type", "last-modified", "x-content-type-options"}
_NOT_FOR_EVERYBODY = frozenset(("no-store", "private"))


class Judged(NamedTuple):
    """What the entry of a result says; see `ComposedEntry`."""

    content_type: str
    modified: int | None
    fields: bytes


def judge(made: Made, ttl: float) -> Judged | str:
    """What the entry of an answer says, or why there can be none."""
    if isinstance(made, Stored):
        return "it is a file"
    if made.status != 200:
        return f"its status is {made.status}"
    if not isinstance(made.content, bytes):
        return "it is a stream"
    if len(made.fields) > FIELDS_BYTES_MAX:
        return "its header lines are too long"
    content_type, modified = "", None
    fields = b""
    directives: set[str] = set()
    for line in made.fields.split(b"\r\n")[:-1]:
        text = line.decode("latin-1")
        name, _, value = text.partition(": ")
        name = name.lower()
        if name == "content-type":
            content_type = value
        elif name == "last-modified":
            modified = parse_date(value.encode("latin-1"))
        elif name in _NOT_KEPT or (name == "vary" and _tokens(value) != {"accept-encoding"}):
            return f"it has {text}"
        elif name not in ("vary", "x-content-type-options"):  # those the head has where they apply
            fields += line + b"\r\n"
            if name == "cache-control":
                directives |= _tokens(value)
    if directives & _NOT_FOR_EVERYBODY:
        return f"it has Cache-Control: {', '.join(sorted(directives))}"
    if not directives:
        fields += b"Cache-Control: max-age=%d\r\n" % max(1, int(ttl))
    return Judged(content_type, modified, fields)


def _tokens(value: str) -> set[str]:
    """The members of a list, without their arguments, in lower case."""
    return {member.partition("=")[0].strip().lower() for member in value.split(",")}


# --- results ----------------------------------------------------------------------------------------------


class Keeping(NamedTuple):
    """What results are kept with."""

    loader: Loader
    fetcher: Fetcher
    timers: Timers
    lane: Lane | None


class Source(NamedTuple):
    """Where a result comes from. `path` is the target's, in canonical encoding."""

    route: Route
    target: bytes
    params: dict[str, str]
    path: bytes


class Call:
    """A call of a servlet, `Timed` by its deadline.

    waiting        the exchanges that wait for what comes of it; none when it is made in the background
    in_background  it is wanted though nothing waits for it
    started        how to give it up; None when it has returned, or was called at once
    is_over        it was given up: what comes of it is not wanted
    """

    __slots__ = ("_expired", "armed", "at", "in_background", "is_over", "source", "started", "waiting")

    def __init__(self, source: Source, waiting: Iterable[Exchange], expired: Callable[[Call], None]) -> None:
        self.armed = inf
        self.at = inf
        self.source = source
        self.waiting = dict.fromkeys(waiting)  # in order
        self.in_background = not self.waiting
        self.started: Started | None = None
        self.is_over = False
        self._expired = expired

    def due(self) -> float:
        """As `Timed.due`."""
        return self.at

    def expire(self) -> None:
        """As `Timed.expire`."""
        self._expired(self)

    @property
    def method(self) -> bytes:
        """As `Asked.method`."""
        return b"GET"

    @property
    def target(self) -> bytes:
        """As `Asked.target`."""
        return self.source.target


class Result:
    """A result that is kept, `Timed` by its ttl.

    seen    its uses when it was made: whoever waited for it does not count
    looked  its uses when it was last considered to go
    stale   how many ttls have passed since it was made
    """

    __slots__ = ("_expired", "armed", "at", "entry", "looked", "seen", "source", "stale")

    def __init__(self, source: Source, entry: ComposedEntry, expired: Callable[[Result], None]) -> None:
        self.armed = inf
        self.at = inf
        self.source = source
        self.entry = entry
        self.looked = self.seen = self.stale = 0
        self._expired = expired

    def due(self) -> float:
        """As `Timed.due`."""
        return self.at

    def expire(self) -> None:
        """As `Timed.expire`."""
        self._expired(self)

    @property
    def uses(self) -> int:
        """How often it was used, in whatever coding."""
        return sum(each.uses for each in _representations(self.entry))

    @property
    def is_resident(self) -> bool:
        """Whether all of it is there."""
        return _is_resident(self.entry)


MakeMade: TypeAlias = Callable[[Outcome, Route, Asked], Made]


class Results:
    """The results of one server."""

    def __init__(
        self,
        context: Context,
        caller: Caller,
        keeping: Keeping,
        *,
        made: MakeMade,
        look: Callable[[], None],
    ) -> None:
        """`made` makes of an outcome what is sent; `look` has what changed in the folder loaded anew."""
        self._context = context
        self._caller = caller
        self._loader, self._fetcher, self._timers, self._lane = keeping
        self._made = made
        self._kept: Kept[Result] = Kept()  # what was last considered to go, and stayed, is last
        self._routes: dict[int, Route] | None = None  # that there are, by id; None: all that were met
        self._calls: dict[bytes, Call] = {}  # whose results will be kept
        self._hung: Counter[tuple[int, bytes]] = Counter()  # calls that were given up and have not returned
        self._look_at_files = look
        self._looking = Deadline(self._look)

    def __len__(self) -> int:
        return len(self._kept)

    def respond(self, route: Route, params: dict[str, str], exchange: Exchange) -> Made | None:
        """Answer a GET or HEAD, as `Resource.respond`."""
        target = exchange.target
        kept = self._kept.get(target)
        if kept is not None:
            if kept.source.route is route and kept.is_resident:
                return self._stored(kept.entry)
            self._drop([kept])
        call = self._calls.get(target)
        if call is not None and call.source.route is route:
            if len(call.waiting) >= self._context.config.servlet_queue_max:
                why = "as many requests wait for its result as --servlet-queue-max allows"
                return self._context.busy(exchange, why)
            self._join(call, exchange)
            return None
        source = Source(route, target, params, SentPath(split_target(target)[0]).key)
        if self._is_hung(source):
            return self._context.busy(exchange, f"{HUNG_MAX} calls that make its result have not returned")
        self._call(source, [exchange])
        return None

    def _stored(self, entry: ComposedEntry) -> Stored:
        return Stored(self._context.generation(), entry, own=True)

    # --- making -------------------------------------------------------------------------------------------

    def _call(self, source: Source, waiting: Sequence[Exchange]) -> None:
        """Make a result that is to be kept."""
        call = self._calls[source.target] = Call(source, waiting, self._give_up)
        self._begin(call)

    def _join(self, call: Call, exchange: Exchange) -> None:
        call.waiting[exchange] = None
        exchange.abandoned = partial(self._leave, call, exchange)

    def _leave(self, call: Call, exchange: Exchange) -> None:
        """The client of one that waits is gone. A call that nothing waits for any more is not begun."""
        call.waiting.pop(exchange, None)
        if call.waiting or call.in_background or call.started is None or not call.started.withdraw():
            return
        self._end(call)
        call.is_over = True

    def _begin(self, call: Call) -> None:
        source = call.source
        for exchange in call.waiting:
            self._join(call, exchange)
        call.at = time.monotonic() + self._context.config.servlet_result_timeout_s
        self._timers.arm(call)
        head = b"GET %b HTTP/1.1\r\n\r\n" % source.target
        request = Request(b"GET", source.target, head, "", b"", source.params)
        failed = partial(self._context.cut_short, source.route.where, call)
        try:
            call.started = self._caller.call(source.route, request, failed, partial(self._came, call))
        except BusyError as error:
            self._came(call, self._context.busy(call, error))

    def _end(self, call: Call) -> bool:
        """The call's time is over. Returns whether its result was still to be kept."""
        call.started = None
        call.at = inf
        self._timers.disarm(call)
        is_wanted = self._calls.get(call.source.target) is call
        if is_wanted:
            del self._calls[call.source.target]
        return is_wanted

    def _is_hung(self, source: Source) -> bool:
        """Whether the target has as many hanging calls as may be."""
        return self._hung[_key(source)] >= HUNG_MAX

    def _give_up(self, call: Call) -> None:
        """The deadline of a call has passed."""
        source, started = call.source, call.started
        call.is_over = True
        if started is not None and not started.withdraw():
            self._hung[_key(source)] += 1
            started.cancel()
        timeout = self._context.config.servlet_result_timeout_s
        told = "%s: the call for %s was given up: no result within %g s"
        _log.warning(told, source.route.where, source.target.decode(), timeout)
        if self._end(call):
            self._not_renewed(source, has_failed=True)
        waiting, call.waiting = list(call.waiting), {}
        self._hand_out(waiting, page(504))

    def _came_late(self, call: Call, outcome: Outcome) -> None:
        """What was given up has returned."""
        key = _key(call.source)
        self._hung[key] -= 1
        self._hung += Counter()  # without those that are 0
        if not isinstance(outcome, CancelledError):
            self._made(outcome, call.source.route, call).discard()

    def _came(self, call: Call, outcome: Outcome) -> None:
        """The servlet has returned."""
        if call.is_over:
            self._came_late(call, outcome)
            return
        call.started = None
        source = call.source
        made = self._made(outcome, source.route, call)
        judged = judge(made, source.route.ttl or 0)
        if len(source.target) > TARGET_BYTES_MAX:
            judged = "its target is too long"
        is_wanted = self._calls.get(source.target) is call
        if isinstance(judged, Judged) and is_wanted:
            assert isinstance(made, Answer)
            self._keep(call, made, judged)
            return
        if isinstance(judged, str):
            _log.debug("%s: the result for %s is not kept: %s", source.route.where, source.target.decode(), judged)
        if self._end(call):
            self._not_renewed(source, has_failed=not isinstance(made, Stored) and made.status != 200)
        self._answer(call, made, for_all=isinstance(judged, Judged) or isinstance(outcome, BaseException))

    def _not_renewed(self, source: Source, *, has_failed: bool) -> None:
        """What came cannot be kept. The old result, if there is one, outlives a failure, and nothing else."""
        kept = self._kept.get(source.target)
        if kept is None:
            return
        where, target = source.route.where, source.target.decode()
        if has_failed:
            told = "%s: the result for %s goes on as it was: making it again has failed (%d of %d)"
            _log.warning(told, where, target, kept.stale, STALE_TTLS_MAX)
        else:
            self._drop([kept])

    def _answer(self, call: Call, made: Made, *, for_all: bool) -> None:
        """Answer who waits; what is not for all answers one, and the others have calls of their own."""
        waiting = list(call.waiting)
        if not waiting:
            made.discard()
        elif for_all:
            self._hand_out(waiting, made)
        else:
            waiting[0].finish(made)
            for exchange in waiting[1:]:
                self._begin(Call(call.source, [exchange], self._give_up))

    def _hand_out(self, waiting: Sequence[Exchange], made: Made) -> None:
        """Answer a few in a turn, as the fetcher does."""
        for exchange in waiting[:HANDED_OUT_MAX]:
            exchange.finish(made)
        if len(waiting) > HANDED_OUT_MAX:
            self._context.call_soon(partial(self._hand_out, waiting[HANDED_OUT_MAX:], made))

    # --- keeping ------------------------------------------------------------------------------------------

    def _keep(self, call: Call, answer: Answer, judged: Judged) -> None:
        content = answer.content
        assert isinstance(content, bytes)
        entry = ComposedEntry(call.target, len(content), judged.modified, judged.content_type, judged.fields)
        entry.tick = self._context.turn()  # it is new, not the one that was not used for longest
        kept = self._kept.get(call.target)
        job = partial(_make_resident, self._loader, kept.entry if kept is not None else None, entry, content)
        self._fetcher.run(call, job, partial(self._settle, call, answer))

    def _settle(self, call: Call, answer: Answer, entry: ComposedEntry | None) -> None:
        """A thread made the result resident, as `entry`; or found that nothing has changed, and this is the old one; or
        found no room."""
        kept = self._kept.get(call.target)
        is_wanted = self._end(call)
        if entry is not None and is_wanted:
            self._put(call, answer, entry)
            self._hand_out(list(call.waiting), self._stored(entry))
            return
        if entry is not None and (kept is None or kept.entry is not entry):
            self._let_go([entry])
        if is_wanted and kept is not None:
            self._drop([kept])
        self._answer(call, answer, for_all=True)

    def _put(self, call: Call, answer: Answer, entry: ComposedEntry) -> None:
        kept = self._kept.get(call.target)
        is_new = kept is None or kept.entry is not entry
        if kept is None:
            self._make_room()
            kept = Result(call.source, entry, self._expired)
            self._kept.keep(kept)
        elif is_new:
            self._replace(kept, entry)
        kept.stale = 0
        kept.seen = kept.uses + len(call.waiting)
        self._arm(kept)
        if self._looking.at == inf:
            self._look_later()
        if is_new and self._loader.may_be_coded(entry):
            assert isinstance(answer.content, bytes)
            job = partial(_with_variants, self._loader, entry, answer.content)
            self._fetcher.run(entry, job, partial(self._coded, kept, entry))

    def _coded(self, kept: Result, entry: ComposedEntry, fresh: ComposedEntry | None) -> None:
        """A thread made `fresh`, which is `entry` with variants."""
        if fresh is None:
            return
        if self._kept.get(kept.source.target) is kept and kept.entry is entry and _is_resident(fresh):
            self._replace(kept, fresh)
        else:
            self._let_go([fresh])

    def _replace(self, kept: Result, entry: ComposedEntry) -> None:
        """In one step: who is being answered goes on with what he was promised."""
        old = kept.entry
        self._let_go([old])  # first, since the lane tells then how often it was used
        entry.uses += kept.uses
        entry.tick = max(entry.tick, *(each.tick for each in _representations(old)))
        kept.entry = entry

    def _arm(self, kept: Result) -> None:
        assert kept.source.route.ttl is not None
        kept.at = time.monotonic() + kept.source.route.ttl
        self._timers.arm(kept)

    # --- time ---------------------------------------------------------------------------------------------

    def _expired(self, kept: Result) -> None:
        """A ttl has passed since the result was made, or could not be made again."""
        self._drain()
        if self._is_over(kept.source) or not kept.is_resident or kept.uses <= kept.seen or kept.stale == STALE_TTLS_MAX:
            self._drop([kept])
            return
        kept.stale += 1
        self._arm(kept)
        if kept.source.target not in self._calls and not self._is_hung(kept.source):
            self._call(kept.source, ())

    def _look(self) -> None:
        if self._kept:
            self._look_later()
            self._look_at_files()
        else:
            self._looking.at = inf

    def _look_later(self) -> None:
        self._looking.at = time.monotonic() + LOOK_EVERY_S
        self._timers.arm(self._looking)

    # --- going --------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Hear from the lane what it used."""
        if self._lane is not None:
            self._lane.drain_ticks()

    def _make_room(self) -> None:
        """For one more: the first goes that was not used since it was last considered, or the last of some."""
        if len(self._kept) < self._context.config.servlet_results_max:
            return
        self._drain()
        for left in reversed(range(CONSIDERED_MAX)):
            target, kept = next(iter(self._kept.items()))
            uses = kept.uses
            if uses <= max(kept.looked, kept.seen) or not left:
                self._drop([kept])
                return
            kept.looked = uses
            self._kept[target] = self._kept.pop(target)

    def _drop(self, results: Collection[Result]) -> None:
        for kept in results:
            self._kept.remove(kept)
            kept.at = inf
            self._timers.disarm(kept)
        self._let_go([kept.entry for kept in results])

    def _let_go(self, entries: Sequence[Entry]) -> None:
        """The lane forgets at once. Memory is for a thread: the store's lock may be held for a while."""
        if not entries:
            return
        if self._lane is not None:
            for entry in entries:
                self._lane.drop(entry)
        self._fetcher.run(object(), partial(_forget_all, self._loader, entries), lambda _: None)

    def files_changed(self, keys: Collection[bytes]) -> None:
        """What the site's files are has changed at these keys: files go before results."""
        resources = self._context.generation().resources
        self._disown(self._kept.at(path for path in self._kept.paths(keys) if path in resources))

    def servlets_changed(self, routes: Iterable[Route]) -> None:
        """These are the routes now: what others made is not kept. What is kept may belong to another route by now, so
        the lane must ask again."""
        self._routes = {id(route): route for route in routes}
        self._disown(list(self._kept.values()))

    def _is_over(self, source: Source) -> bool:
        """Whether what comes from there is not to be kept any more."""
        gone = self._routes is not None and id(source.route) not in self._routes
        return gone or source.path in self._context.generation().resources

    def _disown(self, results: list[Result]) -> None:
        """Drop those of these results whose time is over, and keep none of those that are being made. The lane answers
        with none of them from now on; all else is done little by little."""
        self._calls = {target: call for target, call in self._calls.items() if not self._is_over(call.source)}
        if self._lane is not None and len(results) > SWEPT_AT_ONCE:
            given_up = self._lane.clear(len(self._context.generation().resources))
            self._fetcher.run(object(), partial(bury, given_up), lambda _: None)
        elif self._lane is not None:
            for kept in results:
                self._lane.forget_key(kept.source.target)
        sweep(iter(results), self._drop_what_is_over, self._context.call_soon)

    def _drop_what_is_over(self, results: list[Result]) -> None:
        kept = self._kept
        self._drop([one for one in results if kept.get(one.source.target) is one and self._is_over(one.source)])

    def close(self) -> None:
        """Keep nothing any more. The loop has ended."""
        for kept in self._kept.values():
            self._timers.disarm(kept)
            forget(self._loader.store, kept.entry)
        self._timers.disarm(self._looking)
        for call in self._calls.values():
            self._timers.disarm(call)
        self._kept.clear()
        self._calls.clear()


def _key(source: Source) -> tuple[int, bytes]:
    """A target of a route; another version of its servlet is another route."""
    return id(source.route), source.target


# --- in threads -------------------------------------------------------------------------------------------


def _representations(entry: Entry) -> tuple[Entry, ...]:
    return entry, *entry.variants


def _is_resident(entry: Entry) -> bool:
    return all(each.body is not None for each in _representations(entry))


def _make_resident(
    loader: Loader, old: ComposedEntry | None, entry: ComposedEntry, content: bytes
) -> ComposedEntry | None:
    """The result's entry: `old` if it says the same. None: there is no room."""
    entry.etag = tag_of(content)
    if old is not None and _is_resident(old) and _said_by(old) == _said_by(entry):
        return old
    return entry if loader.keep(entry, content, evict=True) is not None else None


def _said_by(entry: ComposedEntry) -> tuple[object, ...]:
    return entry.etag, entry.content_type, entry.modified, entry.fields


def _with_variants(loader: Loader, entry: ComposedEntry, content: bytes) -> ComposedEntry | None:
    """The same result with what `--compress` makes of it; None where that is nothing, or finds no room."""
    fresh = ComposedEntry(entry.key, entry.size, entry.modified, entry.content_type, entry.fields)
    fresh.etag = entry.etag
    fresh.tick = entry.tick
    fresh.variants = loader.code(entry, content, evict=True)
    if fresh.variants and loader.keep(fresh, content, evict=True) is not None:
        return fresh
    forget(loader.store, fresh)
    return None


def _forget_all(loader: Loader, entries: Iterable[Entry]) -> None:
    for entry in entries:
        forget(loader.store, entry)

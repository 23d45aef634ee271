"""Results that are content: what a servlet with a `ttl` returned, kept as an entry of the cache.

    respond -> kept, and resident -> `Stored`: negotiated, conditioned, cut and taught to the fast lane like a file
            -> being made         -> wait with the others
            -> neither            -> `Making` calls the servlet -> a thread makes the answer resident -> all that wait

A result belongs to a target as it was sent, and is for every client. What is not for every client (a status other than
200, Set-Cookie, Cache-Control: no-store, a stream, ...: judge.py) answers one request, and is not kept.

When the ttl has passed, a result that was used since it was made is made again in the background. Until that is done
the old one serves; if the content is the same, it lives on. What was not used is dropped. A servlet that fails, or does
not return, leaves the old result in place for another ttl, and then another, but at most `STALE_TTLS_MAX` of them.

A result comes from no file. One that was evicted is made again by its servlet: it must never reach the fetcher's
`fetch`. It has no Last-Modified but what the servlet says, since the ETag is exact.

Everything here happens in the loop's thread, but for what resident.py does. Odd: while the fast lane answers, the
application is not asked, and does not see that a file has changed; hence files are looked at once a second while there
are results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from math import inf
from typing import NamedTuple

from zcserve.cache.entry import ComposedEntry, Entry, each_coding
from zcserve.cache.evictor import tick_at
from zcserve.cache.fetcher import Fetcher
from zcserve.cache.loader import Loader
from zcserve.cache.preload import forget
from zcserve.cache.resident import forget_all, is_resident, make_resident, with_variants
from zcserve.log import Log
from zcserve.net.front import Front
from zcserve.net.timers import Deadline, Expiring, Timers
from zcserve.servlets.calls import Caller
from zcserve.servlets.context import Context
from zcserve.servlets.judge import Judged
from zcserve.servlets.kept import Kept, Source, sweep
from zcserve.servlets.making import HUNG_MAX, AnswerOf, Call, Keeper, Making
from zcserve.servlets.routes import Route
from zcserve.site.exchange import Answer, Exchange, Stored
from zcserve.site.reply import Reply

_log = Log(__name__)

# How many ttls a result goes on for that cannot be made again: long enough for a hiccup of what stands behind it.
STALE_TTLS_MAX = 10
# So many results are considered at most, in one step, when one must go: some tenths of a millisecond.
CONSIDERED_MAX = 100
# A purge makes results again while fewer than so many are being made, and else waits a little.
MADE_AT_ONCE = 16
MADE_LATER_S = 1 / 16
# How often files are looked at on account of results.
LOOK_EVERY_S = 1.0


class Keeping(NamedTuple):
    """What results are kept with."""

    loader: Loader
    fetcher: Fetcher
    timers: Timers
    front: Front


class Result(Expiring):
    """A result that is kept, `Timed` by its ttl.

    seen    its uses when it was made: the requests that waited for it do not count
    looked  its uses when it was last considered to go
    stale   how many ttls have passed since it was made
    """

    __slots__ = ("entry", "looked", "seen", "source", "stale")

    def __init__(self, source: Source, entry: ComposedEntry, expired: Callable[[Result], None]) -> None:
        super().__init__(expired)
        self.source = source
        self.entry = entry
        self.looked = self.seen = self.stale = 0

    @property
    def uses(self) -> int:
        """How often it was used, in whatever coding."""
        return sum(each.uses for each in each_coding(self.entry))

    @property
    def bytes(self) -> int:
        """Of its content, in all codings."""
        return sum(each.size for each in each_coding(self.entry))

    @property
    def is_resident(self) -> bool:
        """Whether all of it is there."""
        return is_resident(self.entry)


class Results:
    """The results of one server.

    kept    those that are kept; the one that stayed when it was last considered to go is last
    making  the calls that make others
    """

    def __init__(
        self,
        context: Context,
        caller: Caller,
        keeping: Keeping,
        *,
        answer_of: AnswerOf,
        look: Callable[[], None],
    ) -> None:
        """`answer_of` makes of an outcome what is sent; `look` has what changed in the folder loaded anew."""
        self._context = context
        self._loader, self._fetcher, self._timers, self._front = keeping
        self.making = Making(context, caller, self._timers, answer_of, Keeper(self._keep, self._not_kept))
        self.kept: Kept[Result] = Kept()
        self._routes: dict[int, Route] | None = None  # that there are, by id; None: all that were met
        self._look_at_files = look
        self._looking = Deadline(self._look)

    def __len__(self) -> int:
        return len(self.kept)

    def respond(self, route: Route, params: dict[str, str], exchange: Exchange) -> Answer | None:
        """Answer a GET or HEAD, as `Resource.respond`."""
        target = exchange.target
        kept = self.kept.get(target)
        if kept is not None:
            if kept.source.route is route and kept.is_resident:
                return self._stored(kept.entry)
            self._drop([kept])
        call = self.making.wanted.get(target)
        if call is not None and call.source.route is route:
            return self.making.join(call, exchange)
        source = Source(route, target, params, exchange.path.key)
        if self.making.make(source, [exchange]):
            return None
        return self._context.busy(exchange, f"{HUNG_MAX} calls that make its result have not returned")

    def _stored(self, entry: ComposedEntry) -> Stored:
        return Stored(self._context.site.live, entry, own=True)

    # --- keeping ------------------------------------------------------------------------------------------

    def _keep(self, call: Call, answer: Reply, judged: Judged) -> None:
        content = answer.content
        assert isinstance(content, bytes)
        entry = ComposedEntry(call.target, len(content), judged.modified, judged.content_type, judged.fields)
        entry.tick = tick_at(time.monotonic())  # it is new, not the one that was not used for longest
        kept = self.kept.get(call.target)
        job = partial(make_resident, self._loader, kept.entry if kept is not None else None, entry, content)
        self._fetcher.run(call, job, partial(self._made_resident, call, answer))

    def _not_kept(self, source: Source, has_failed: bool) -> None:
        """What was made cannot be kept. The old result, if there is one, outlives a failure, and nothing else."""
        kept = self.kept.get(source.target)
        if kept is None:
            return
        where, target = source.route.where, source.target.decode()
        if has_failed:
            told = "%s: the result for %s goes on as it was: making it again has failed (%d of %d)"
            _log.warning(told, where, target, kept.stale, STALE_TTLS_MAX)
        else:
            self._drop([kept])

    def _made_resident(self, call: Call, answer: Reply, entry: ComposedEntry | None) -> None:
        """A thread made the result resident, as `entry`; or found that nothing has changed, and this is the old one; or
        found no room."""
        kept = self.kept.get(call.target)
        is_wanted = self.making.end(call)
        if entry is not None and is_wanted:
            self._put(call, answer, entry)
            self.making.hand_out(list(call.waiting), self._stored(entry))
            return
        if entry is not None and (kept is None or kept.entry is not entry):
            self._let_go([entry])
        if is_wanted and kept is not None:
            self._drop([kept])
        self.making.answer(call, answer, for_all=True)

    def _put(self, call: Call, answer: Reply, entry: ComposedEntry) -> None:
        kept = self.kept.get(call.target)
        is_new = kept is None or kept.entry is not entry
        if kept is None:
            self._make_room()
            kept = Result(call.source, entry, self._expired)
            self.kept.keep(kept)
        elif is_new:
            self._replace(kept, entry)
        kept.stale = 0
        kept.seen = kept.uses + len(call.waiting)
        self._arm(kept)
        if self._looking.at == inf:
            self._look_later()
        if is_new and self._loader.codings.may_apply(entry):
            assert isinstance(answer.content, bytes)
            job = partial(with_variants, self._loader, entry, answer.content)
            self._fetcher.run(entry, job, partial(self._coded, kept, entry))

    def _coded(self, kept: Result, entry: ComposedEntry, fresh: ComposedEntry | None) -> None:
        """A thread made `fresh`, which is `entry` with variants."""
        if fresh is None:
            return
        if self.kept.get(kept.source.target) is kept and kept.entry is entry and is_resident(fresh):
            self._replace(kept, fresh)
        else:
            self._let_go([fresh])

    def _replace(self, kept: Result, entry: ComposedEntry) -> None:
        """In one step: a connection that is sending the old entry goes on with it."""
        old = kept.entry
        self._let_go([old])  # first, since the lane tells then how often it was used
        entry.uses += kept.uses
        entry.tick = max(entry.tick, *(each.tick for each in each_coding(old)))
        kept.entry = entry

    def _arm(self, kept: Result) -> None:
        assert kept.source.route.ttl is not None
        kept.at = time.monotonic() + kept.source.route.ttl
        self._timers.arm(kept)

    # --- time ---------------------------------------------------------------------------------------------

    def _expired(self, kept: Result) -> None:
        """A ttl has passed since the result was made, or could not be made again."""
        self._tell_uses(kept)
        if self._is_over(kept.source) or not kept.is_resident or kept.uses <= kept.seen or kept.stale == STALE_TTLS_MAX:
            self._drop([kept])
            return
        kept.stale += 1
        self._arm(kept)
        if kept.source.target not in self.making.wanted:
            self.making.make(kept.source, ())  # not made where calls for it hang

    def _tell_uses(self, kept: Result) -> None:
        for entry in each_coding(kept.entry):
            self._front.tell_uses(entry)

    def _look(self) -> None:
        if self.kept:
            self._look_later()
            self._look_at_files()
        else:
            self._looking.at = inf

    def _look_later(self) -> None:
        self._looking.at = time.monotonic() + LOOK_EVERY_S
        self._timers.arm(self._looking)

    # --- going --------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """For one more: the first goes that was not used since it was last considered, or the last of some."""
        if len(self.kept) < self._context.config.servlet_results_max:
            return
        for left in reversed(range(CONSIDERED_MAX)):
            target, kept = next(iter(self.kept.items()))
            self._tell_uses(kept)
            uses = kept.uses
            if uses <= max(kept.looked, kept.seen) or not left:
                self._drop([kept])
                return
            kept.looked = uses
            self.kept[target] = self.kept.pop(target)

    def _drop(self, results: Collection[Result]) -> None:
        for kept in results:
            self.kept.remove(kept)
            kept.at = inf
            self._timers.disarm(kept)
        self._let_go([kept.entry for kept in results])

    def _let_go(self, entries: Sequence[Entry]) -> None:
        """The lane forgets at once. Memory is for a thread: the store's lock may be held for a while."""
        if not entries:
            return
        for entry in entries:
            self._front.drop(entry)
        self._fetcher.run(object(), partial(forget_all, self._loader, entries), lambda _: None)

    def files_changed(self, keys: Collection[bytes]) -> None:
        """What the site's files are has changed at these keys: files go before results."""
        has_file = self._context.site.has_file
        self._disown(self.kept.at(path for path in self.kept.paths(keys) if has_file(path)))

    def servlets_changed(self, routes: Iterable[Route]) -> None:
        """These are the routes now: what others made is not kept. What is kept may belong to another route by now, so
        the lane must ask again."""
        self._routes = {id(route): route for route in routes}
        self._disown(list(self.kept.values()))

    def _is_over(self, source: Source) -> bool:
        """Whether what comes from there is not to be kept any more."""
        gone = self._routes is not None and id(source.route) not in self._routes
        return gone or self._context.site.has_file(source.path)

    def _disown(self, results: list[Result]) -> None:
        """Drop those of these results whose time is over, and keep none of those that are being made. The lane answers
        with none of them from now on; all else is done little by little."""
        self.making.want_no_more(self._is_over)
        self._context.shelf.forget_keys([kept.source.target for kept in results], self._context.site.count_keys())
        sweep(iter(results), self._drop_what_is_over, self._context.call_soon)

    def _drop_what_is_over(self, results: list[Result]) -> None:
        kept = self.kept
        self._drop([one for one in results if kept.get(one.source.target) is one and self._is_over(one.source)])

    # --- a purge ------------------------------------------------------------------------------------------

    def purge(self, takes: Callable[[bytes], bool], hard: bool, then: Callable[[int, int], object]) -> None:
        """Drop the results at the paths that this takes (`hard`), or make each of them again, while it serves. `then`
        is called with how many there were, and their bytes: when they are dropped, or the last is being made. What is
        being made already is not kept: it was begun before."""
        self.making.want_no_more(lambda source: takes(source.path))
        found: list[Result] = []

        def look(few: list[Result]) -> None:
            some = [one for one in few if self.kept.get(one.source.target) is one and takes(one.source.path)]
            found.extend(some)
            if hard:
                self._context.shelf.forget_keys([one.source.target for one in some], self._context.site.count_keys())
                self._drop(some)

        def tell() -> None:
            then(len(found), sum(one.bytes for one in found))

        end = tell if hard else partial(self._make_again, iter(found), tell)
        sweep(iter(list(self.kept.values())), look, self._context.call_soon, end)

    def _make_again(self, rest: Iterator[Result], then: Callable[[], object]) -> None:
        """Make one of these again in this turn, and the others in the next ones, a few at the same time: each is a call
        of a servlet, and requests have theirs meanwhile."""
        again = partial(self._make_again, rest, then)
        if len(self.making.wanted) >= MADE_AT_ONCE:
            self._timers.call_later(MADE_LATER_S, again)
            return
        kept = next(rest, None)
        if kept is None:
            then()
            return
        if self.kept.get(kept.source.target) is kept:
            kept.stale += 1
            self.making.make(kept.source, ())  # not where calls for it hang
        self._context.call_soon(again)

    def close(self) -> None:
        """Keep nothing any more. The loop has ended."""
        for kept in self.kept.values():
            self._timers.disarm(kept)
            forget(self._loader.store, kept.entry)
        self._timers.disarm(self._looking)
        self.making.close()
        self.kept.clear()

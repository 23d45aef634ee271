"""Calls of servlets that make results: one call for all requests that wait for a target.

    make -> the servlet returns -> it may be kept  -> `keep`: the requests get what is stored
                                -> it may not      -> `not_kept`: the requests get this answer, or calls of their own
         -> the deadline passes -> it is given up  -> `not_kept`: the requests get 504

The request that makes a result says nothing of the client: no fields, no cookies, no address, and the method is
GET.

A call has a deadline (`servlet_result_timeout_s`). What it returns later is thrown away. A thread cannot be ended, so a
target may have `HUNG_MAX` such calls and no more: until one of them returns, its requests get 503. No request joins a
call that was given up, and no more wait for one result than for a thread (`servlet_queue_max`).

Everything here happens in the loop's thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from math import inf
from typing import NamedTuple, TypeAlias

from zcserve.cache.fetcher import HANDED_OUT_MAX
from zcserve.log import Log
from zcserve.net.timers import Expiring, Timers
from zcserve.servlets.calls import Caller, Outcome, Started
from zcserve.servlets.context import Context, RequestLine
from zcserve.servlets.judge import Judged, judge
from zcserve.servlets.kept import Source
from zcserve.servlets.request import Request
from zcserve.servlets.routes import Route
from zcserve.servlets.workers import BusyError
from zcserve.site.exchange import Answer, Exchange, HeadLines, Stored
from zcserve.site.reply import Reply, page

_log = Log(__name__)

# How many calls for one target may hang. The second is for what has recovered while the first still waits for it.
HUNG_MAX = 2
# Of what is kept: clients choose queries, and ten thousand of 8 KB would be 80 MB beside the budget.
TARGET_BYTES_MAX = 1024
# What a request says that makes a result.
_HEAD = HeadLines(b"HTTP/1.1")


class Call(Expiring):
    """A call of a servlet, `Timed` by its deadline.

    waiting        the exchanges that wait for its outcome; none when the result is made in the background
    in_background  it is wanted though nothing waits for it
    started        how to give it up; None when it has returned, or was called at once
    is_over        it was given up: its outcome is not wanted
    """

    __slots__ = ("in_background", "is_over", "source", "started", "waiting")

    def __init__(self, source: Source, waiting: Iterable[Exchange], expired: Callable[[Call], None]) -> None:
        super().__init__(expired)
        self.source = source
        self.waiting = dict.fromkeys(waiting)  # in order
        self.in_background = not self.waiting
        self.started: Started | None = None
        self.is_over = False

    @property
    def method(self) -> bytes:
        """As `RequestLine.method`."""
        return b"GET"

    @property
    def target(self) -> bytes:
        """As `RequestLine.target`."""
        return self.source.target


AnswerOf: TypeAlias = Callable[[Outcome, Route, RequestLine], Answer]


class Keeper(NamedTuple):
    """What is done with the outcome of a call.

    keep      the answer may be kept: the keeper ends the call (`Making.end`) and answers its requests
    not_kept  nothing for the source can be kept; whether that is a failure
    """

    keep: Callable[[Call, Reply, Judged], None]
    not_kept: Callable[[Source, bool], None]


class Making:
    """The calls that make the results of one server.

    wanted  the calls whose results will be kept, by target
    hung    by `_key`: how many calls were given up and have not returned
    """

    def __init__(self, context: Context, caller: Caller, timers: Timers, answer_of: AnswerOf, keeper: Keeper) -> None:
        """`answer_of` makes of an outcome what is sent."""
        self.wanted: dict[bytes, Call] = {}
        self.hung: Counter[tuple[int, bytes]] = Counter()
        self._context = context
        self._caller = caller
        self._timers = timers
        self._answer_of = answer_of
        self._keeper = keeper

    def make(self, source: Source, waiting: Sequence[Exchange]) -> bool:
        """Make a result that is to be kept. False where too many calls for it hang already."""
        if self.hung[_key(source)] >= HUNG_MAX:
            return False
        call = self.wanted[source.target] = Call(source, waiting, self._give_up)
        self._begin(call)
        return True

    def join(self, call: Call, exchange: Exchange) -> Answer | None:
        """Have a request wait for this call, too. 503 where as many wait as may."""
        if len(call.waiting) >= self._context.config.servlet_queue_max:
            why = "as many requests wait for its result as --servlet-queue-max allows"
            return self._context.busy(exchange, why)
        self._wait(call, exchange)
        return None

    def _wait(self, call: Call, exchange: Exchange) -> None:
        call.waiting[exchange] = None
        exchange.abandoned = partial(self._leave, call, exchange)

    def _leave(self, call: Call, exchange: Exchange) -> None:
        """The client of a request that waits is gone. A call that nothing waits for any more is not begun."""
        call.waiting.pop(exchange, None)
        if call.waiting or call.in_background or call.started is None or not call.started.withdraw():
            return
        self.end(call)
        call.is_over = True

    def _begin(self, call: Call) -> None:
        source = call.source
        for exchange in call.waiting:
            self._wait(call, exchange)
        call.at = time.monotonic() + self._context.config.servlet_result_timeout_s
        self._timers.arm(call)
        request = Request(b"GET", source.target, _HEAD, "", b"", source.params)
        failed = partial(self._context.cut_short, source.route.where, call)
        try:
            call.started = self._caller.call(source.route, request, failed, partial(self._returned, call))
        except BusyError as error:
            self._returned(call, self._context.busy(call, error))

    def end(self, call: Call) -> bool:
        """The call's time is over. Returns whether its result was still to be kept."""
        call.started = None
        call.at = inf
        self._timers.disarm(call)
        is_wanted = self.wanted.get(call.source.target) is call
        if is_wanted:
            del self.wanted[call.source.target]
        return is_wanted

    def _give_up(self, call: Call) -> None:
        """The deadline of a call has passed."""
        source, started = call.source, call.started
        call.is_over = True
        if started is not None and not started.withdraw():
            self.hung[_key(source)] += 1
            started.cancel()
        timeout = self._context.config.servlet_result_timeout_s
        told = "%s: the call for %s was given up: no result within %g s"
        _log.warning(told, source.route.where, source.target.decode(), timeout)
        if self.end(call):
            self._keeper.not_kept(source, True)
        waiting, call.waiting = list(call.waiting), {}
        self.hand_out(waiting, page(504))

    def _returned(self, call: Call, outcome: Outcome) -> None:
        """The servlet has returned."""
        if call.is_over:
            self._returned_late(call, outcome)
            return
        call.started = None
        source = call.source
        answer = self._answer_of(outcome, source.route, call)
        judged = judge(answer, source.route.ttl or 0)
        if len(source.target) > TARGET_BYTES_MAX:
            judged = "its target is too long"
        is_wanted = self.wanted.get(source.target) is call
        if isinstance(judged, Judged) and is_wanted:
            assert isinstance(answer, Reply)
            self._keeper.keep(call, answer, judged)
            return
        if isinstance(judged, str):
            _log.debug("%s: the result for %s is not kept: %s", source.route.where, source.target.decode(), judged)
        if self.end(call):
            self._keeper.not_kept(source, not isinstance(answer, Stored) and answer.status != 200)
        self.answer(call, answer, for_all=isinstance(judged, Judged) or isinstance(outcome, BaseException))

    def _returned_late(self, call: Call, outcome: Outcome) -> None:
        """What was given up has returned."""
        self.hung[_key(call.source)] -= 1
        self.hung += Counter()  # without those that are 0
        if not isinstance(outcome, CancelledError):
            self._answer_of(outcome, call.source.route, call).discard()

    def answer(self, call: Call, answer: Answer, *, for_all: bool) -> None:
        """Answer the requests that wait; an answer that is not for all is the first one's, and each other request has
        a call of its own."""
        waiting = list(call.waiting)
        if not waiting:
            answer.discard()
        elif for_all:
            self.hand_out(waiting, answer)
        else:
            waiting[0].finish(answer)
            for exchange in waiting[1:]:
                self._begin(Call(call.source, [exchange], self._give_up))

    def hand_out(self, waiting: Sequence[Exchange], answer: Answer) -> None:
        """Answer a few requests in a turn, as the fetcher does."""
        for exchange in waiting[:HANDED_OUT_MAX]:
            exchange.finish(answer)
        if len(waiting) > HANDED_OUT_MAX:
            self._context.call_soon(partial(self.hand_out, waiting[HANDED_OUT_MAX:], answer))

    def want_no_more(self, is_over: Callable[[Source], bool]) -> None:
        """Keep no result whose source `is_over`; the requests that wait for it are still answered."""
        self.wanted = {target: call for target, call in self.wanted.items() if not is_over(call.source)}

    def close(self) -> None:
        """Want nothing any more. The loop has ended."""
        for call in self.wanted.values():
            self._timers.disarm(call)
        self.wanted.clear()


def _key(source: Source) -> tuple[int, bytes]:
    """A target of a route; another version of its servlet is another route."""
    return id(source.route), source.target

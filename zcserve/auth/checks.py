"""Which password is checked next, and where: in a few threads, that give way to all others.

Whoever floods the server with wrong passwords has the processor of these threads, and not more: they are few, and nicer
than the loops. Who waits is bounded, and clients take turns: where there is no room, the client goes without that has
most checks waiting. The same question is asked once, however many requests have it: a browser sends ten at a time.

How often a client may be wrong (attempts.py) is looked at when its check's turn comes, not when it asks: of a hundred
passwords that it sends at once no more are checked than of a hundred that it sends one by one, but for those that the
threads have already.

All but the check itself is done in the loop's thread.
"""

from __future__ import annotations

import enum
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from zcserve import threads
from zcserve.auth.attempts import Attempts, Question
from zcserve.auth.hashes import is_password
from zcserve.errors import NoThreadError
from zcserve.log import Log

_log = Log(__name__)

# A check takes a core for 50 to 100 ms, and argon2id 64 MiB. More at once make each slower, and leave lanes less.
THREADS_MAX = 2
# With 60 ms a check, the last one of so many waits for two seconds; more clients are told to come again in one.
WAITING_MAX = 64
# In seconds. On a busy machine a check takes longer: what has not begun by then is not begun. Browsers show nothing
# meanwhile, and people click again.
WAITING_S_MAX = 10.0
# As `nice`: where lanes want all cores, checks have a tenth of one each.
NICE = 10


class Verdict(enum.Enum):
    """What a question ends with."""

    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"  # not checked: there is no room, no time or no thread
    LIMITED = "limited"  # not checked: the client was wrong as often as it may be


Then = Callable[[Verdict], None]


class Check:
    """One question, asked at the time `since`. `is_free`: no limit holds for it. `waiting` are those that want the
    answer."""

    __slots__ = ("client", "is_free", "password", "question", "since", "waiting")

    def __init__(self, question: Question, password: bytes, client: str, since: float, *, is_free: bool) -> None:
        self.since = since
        self.question = question
        self.password = password
        self.client = client
        self.is_free = is_free
        self.waiting: list[Then] = []


class Checks:
    """Those of a server.

    check    tells whether a hash is of a password, in a thread
    waiting  how many wait for a thread
    """

    def __init__(
        self, call_soon: Callable[[Callable[[], object]], None], now: Callable[[], float], attempts: Attempts
    ) -> None:
        """`call_soon` has something called in the loop's thread; `now` is the loop's time, in seconds. `attempts` is
        told what was wrong."""
        self._call_soon = call_soon
        self._now = now
        self._attempts = attempts
        self.check: Callable[[str, bytes], bool] = is_password
        self._running = 0
        self._checks: dict[tuple[str, Question], Check] = {}  # that wait, or run
        self._queues: OrderedDict[str, OrderedDict[Question, Check]] = OrderedDict()  # that wait, by client
        self.waiting = 0

    def ask(
        self, question: Question, password: bytes, client: str, then: Then, *, is_free: bool = False
    ) -> Callable[[], None]:
        """Have `then` called with the verdict: later, never from in here. What is returned takes the wish back.
        `client` is named as by `network_of`; `is_free`: it may ask, however often it was wrong."""
        check = self._checks.get((client, question))
        if check is None:
            check = Check(question, password, client, self._now(), is_free=is_free)
            self._checks[client, question] = check
            self._queues.setdefault(client, OrderedDict())[question] = check
            self.waiting += 1
        check.waiting.append(then)
        if self.waiting > WAITING_MAX:
            self._refuse_one()
        self._go_on()
        return partial(self._withdraw, check, then)

    def _withdraw(self, check: Check, then: Then) -> None:
        """Harmless when repeated."""
        if then in check.waiting:
            check.waiting.remove(then)
        if not check.waiting and self._dequeue(check):
            del self._checks[check.client, check.question]

    def _dequeue(self, check: Check) -> bool:
        """Take a check out of what waits; False where it runs, or is over."""
        queue = self._queues.get(check.client)
        if queue is None or queue.get(check.question) is not check:
            return False
        del queue[check.question]
        if not queue:
            del self._queues[check.client]
        self.waiting -= 1
        return True

    def _refuse_one(self) -> None:
        """The youngest of the client that has most; of equals the one whose turn is last, so that who waits gets on."""
        longest = max(reversed(self._queues.values()), key=len)
        check = next(reversed(longest.values()))
        self._dequeue(check)
        self._forget(check, Verdict.BUSY)

    def _forget(self, check: Check, verdict: Verdict) -> None:
        """It is not made, and waits no more."""
        del self._checks[check.client, check.question]
        self._tell(check, verdict)

    def _go_on(self) -> None:
        """Begin what may begin: clients take turns."""
        while self._queues and self._running < THREADS_MAX:
            client, queue = next(iter(self._queues.items()))
            check = next(iter(queue.values()))
            self._queues.move_to_end(client)
            self._dequeue(check)
            if not check.is_free and self._attempts.wait_s(client):
                self._forget(check, Verdict.LIMITED)
                continue
            if check.since < self._now() - WAITING_S_MAX:
                self._forget(check, Verdict.BUSY)
                continue
            try:
                threads.start(partial(self._run, check), "zcserve-password")
            except NoThreadError as error:
                _log.error("a password cannot be checked: %s", error)
                self._forget(check, Verdict.BUSY)
                continue
            self._running += 1

    def _run(self, check: Check) -> None:
        """In a thread of its own: to start one is a thousandth of what a check takes."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        verdict = Verdict.BUSY
        try:
            is_right = self.check(check.question.hashed, check.password) and check.question.is_known
            verdict = Verdict.RIGHT if is_right else Verdict.WRONG
        except Exception:
            _log.exception("a password cannot be checked")
        finally:
            self._call_soon(partial(self._done, check, verdict))

    def _done(self, check: Check, verdict: Verdict) -> None:
        self._running -= 1
        del self._checks[check.client, check.question]
        if verdict is Verdict.WRONG:  # also where no request waits for it any more
            self._attempts.add(check.client, check.question)
        self._go_on()
        self._tell(check, verdict)

    def _tell(self, check: Check, verdict: Verdict) -> None:
        """Each by itself: one that fails keeps nothing from the others."""
        waiting, check.waiting = check.waiting, []
        for then in waiting:
            self._call_soon(partial(then, verdict))

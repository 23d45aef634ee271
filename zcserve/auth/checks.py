"""Which password is checked next, and where: in a few threads, that give way to all others.

Whoever floods the server with wrong passwords has the processor of these threads, and not more: they are few, and nicer
than the loops. Who waits is bounded, and clients take turns: where there is no room, the client goes without that has
most checks waiting. The same question is asked once, however many requests have it: a browser sends ten at a time.

All but the check itself is done in the loop's thread.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from ipaddress import IPv6Address, ip_address

from zcserve import threads
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
# An IPv6 client has as many addresses as it likes in its network (RFC 6177): so many bits are one client.
NETWORK_BITS = 64

# What a check ends with: right, wrong, or None where it was not made.
Verdict = bool | None
Then = Callable[[Verdict], None]


class Check:
    """One question, asked at the time `since`: `key` tells it from others. `waiting` are those that want the answer."""

    __slots__ = ("client", "hashed", "key", "password", "since", "waiting")

    def __init__(self, key: Hashable, hashed: str, password: bytes, client: str, since: float) -> None:
        self.since = since
        self.key = key
        self.hashed = hashed
        self.password = password
        self.client = client
        self.waiting: list[Then] = []


class Checks:
    """Those of a server.

    check    tells whether a hash is of a password, in a thread
    waiting  how many wait for a thread
    """

    def __init__(self, call_soon: Callable[[Callable[[], object]], None], now: Callable[[], float]) -> None:
        """`call_soon` has something called in the loop's thread; `now` is the loop's time, in seconds."""
        self._call_soon = call_soon
        self._now = now
        self.check: Callable[[str, bytes], bool] = is_password
        self._running = 0
        self._checks: dict[Hashable, Check] = {}  # that wait, or run
        self._queues: OrderedDict[str, OrderedDict[Hashable, Check]] = OrderedDict()  # that wait, by client
        self.waiting = 0

    def ask(self, key: Hashable, hashed: str, password: bytes, client: str, then: Then) -> Callable[[], None]:
        """Have `then` called with the verdict: later, never from in here. What is returned takes the wish back."""
        check = self._checks.get(key)
        if check is None:
            check = self._checks[key] = Check(key, hashed, password, _network_of(client), self._now())
            self._queues.setdefault(check.client, OrderedDict())[key] = check
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
            del self._checks[check.key]

    def _dequeue(self, check: Check) -> bool:
        """Take a check out of what waits; False where it runs, or is over."""
        queue = self._queues.get(check.client)
        if queue is None or queue.get(check.key) is not check:
            return False
        del queue[check.key]
        if not queue:
            del self._queues[check.client]
        self.waiting -= 1
        return True

    def _refuse_one(self) -> None:
        """The youngest of the client that has most; of equals the one whose turn is last, so that who waits gets on."""
        longest = max(reversed(self._queues.values()), key=len)
        check = next(reversed(longest.values()))
        self._dequeue(check)
        self._forget(check)

    def _forget(self, check: Check) -> None:
        """It is not made, and waits no more."""
        del self._checks[check.key]
        self._tell(check, None)

    def _go_on(self) -> None:
        """Begin what may begin: clients take turns."""
        while self._queues and self._running < THREADS_MAX:
            client, queue = next(iter(self._queues.items()))
            check = next(iter(queue.values()))
            self._queues.move_to_end(client)
            self._dequeue(check)
            if check.since < self._now() - WAITING_S_MAX:
                self._forget(check)
                continue
            try:
                threads.start(partial(self._run, check), "zcserve-password")
            except NoThreadError as error:
                _log.error("a password cannot be checked: %s", error)
                self._forget(check)
                continue
            self._running += 1

    def _run(self, check: Check) -> None:
        """In a thread of its own: to start one is a thousandth of what a check takes."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        verdict: Verdict = None
        try:
            verdict = self.check(check.hashed, check.password)
        except Exception:
            _log.exception("a password cannot be checked")
        finally:
            self._call_soon(partial(self._done, check, verdict))

    def _done(self, check: Check, verdict: Verdict) -> None:
        self._running -= 1
        del self._checks[check.key]
        self._go_on()
        self._tell(check, verdict)

    def _tell(self, check: Check, verdict: Verdict) -> None:
        """Each by itself: one that fails keeps nothing from the others."""
        waiting, check.waiting = check.waiting, []
        for then in waiting:
            self._call_soon(partial(then, verdict))


def _network_of(client: str) -> str:
    """What a client cannot change at will."""
    if ":" not in client:
        return client
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if not isinstance(address, IPv6Address) or address.ipv4_mapped is not None:
        return client
    return str(int(address) >> (128 - NETWORK_BITS))

"""Wrong passwords of late, by client: one that has told too many is answered without a check, for a while.

A client that guesses has a few guesses a minute, and the threads that check passwords are free for others. Counted is
what was checked: ten requests with one wrong password, as a browser sends them whose password is old, are one. What was
wrong a moment ago is wrong without another check, so it costs nothing, and counts once.

    nothing --wrong--> 1 --wrong--> ... --wrong--> most: LIMITED until the first of them is `within_s` old

A client is an address, or the /64 of an IPv6 address: one has as many addresses as it likes in there (RFC 6177). Where
many people share an address, one of them may use up all: so what was right there before is right all the same
(remembered.py). Kept are digests, as of right passwords. All in the loop's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from itertools import islice
from typing import NamedTuple

from zcserve.forwarded import UNIX

# So many are kept for all clients together, each in 240 bytes, or 640 where a client has but one. Where there are more,
# the client is forgotten whose last one is the oldest: a limit for each address does not stop one that has thousands.
KEPT_MAX = 20_000
NETWORK_BITS = 64


class Question(NamedTuple):
    """Whether a password is right.

    hashed    the hash that it is checked against
    is_known  whether this hash is the user's own; else no password is right
    digest    what stands for the name and the password
    """

    hashed: str
    is_known: bool
    digest: bytes


class Attempts:
    """Of all clients; each is named as `network_of` names it."""

    def __init__(self, most: int, within_s: float, now: Callable[[], float]) -> None:
        """A client may be wrong so often in this time; 0: as often as it likes, and nothing is kept. `now` is the
        loop's time, in seconds."""
        self._most = most
        self._within_s = within_s
        self._now = now
        self._wrong: OrderedDict[str, OrderedDict[Question, float]] = OrderedDict()  # when; the last client is last
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_limited(self) -> bool:
        """Whether a client may not be wrong as often as it likes."""
        return self._most > 0

    def add(self, client: str, question: Question) -> None:
        """The client's password was wrong just now."""
        if not self._most:
            return
        wrong = self._wrong.setdefault(client, OrderedDict())
        self._wrong.move_to_end(client)
        self._count += question not in wrong
        wrong[question] = self._now()
        wrong.move_to_end(question)
        self._drop_old(wrong)
        while self._count > KEPT_MAX or self._is_over(next(iter(self._wrong.values()))):
            self._count -= len(self._wrong.popitem(last=False)[1])

    def was_wrong(self, client: str, question: Question) -> bool:
        """Whether the client has had this very answer of late."""
        wrong = self._wrong.get(client)
        at = wrong.get(question) if wrong is not None else None
        return at is not None and at > self._now() - self._within_s

    def wait_s(self, client: str) -> float:
        """How long nothing more is checked for the client; 0: it may ask."""
        wrong = self._wrong.get(client)
        if wrong is None:
            return 0.0
        self._drop_old(wrong)
        if len(wrong) < self._most:
            return 0.0
        counts = next(islice(wrong.values(), len(wrong) - self._most, None))  # threads may have checked one more
        return max(counts + self._within_s - self._now(), 0.0)

    def _drop_old(self, wrong: OrderedDict[Question, float]) -> None:
        """Of one client; the last one stays, so that there is one."""
        until = self._now() - self._within_s
        while len(wrong) > 1 and next(iter(wrong.values())) <= until:
            wrong.popitem(last=False)
            self._count -= 1

    def _is_over(self, wrong: OrderedDict[Question, float]) -> bool:
        return next(reversed(wrong.values())) <= self._now() - self._within_s


@lru_cache(maxsize=1024)  # a client asks again
def network_of(client: str) -> str:
    """What a client cannot change at will."""
    if ":" not in client:
        return client
    try:
        address = ip_address(client)
    except ValueError:  # "unix:"
        return client
    assert isinstance(address, IPv6Address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> (128 - NETWORK_BITS) << (128 - NETWORK_BITS))}/{NETWORK_BITS}"


def is_local(client: str) -> bool:
    """Whether a client is of this machine: a proxy in front of the server is, and then it stands for all clients."""
    if client == UNIX:
        return True
    try:
        return (ip_address(network_of(client)) if "." in client else ip_address(client)).is_loopback
    except ValueError:
        return False

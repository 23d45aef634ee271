"""Passwords that were right are remembered for a while, so that a page with thirty pictures costs one check.

Kept is no password, but a digest of it with a key that only this process has. One is kept for each user: all who log in
with the right one have the same. All in the loop's thread.

What is remembered is also a quick way to try passwords: no hash is checked for it, and it is told from others while
these are refused unchecked (checks.py, attempts.py). So it is known by address: somewhere else the password is checked
once more. And at an address that others share it is known until they have told so many wrong ones for the user.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable

from zcserve.auth.credentials import Credentials

# So many users are remembered; the one that was used longest ago goes first. Each takes some 600 bytes.
REMEMBERED_MAX = 10_000
# In seconds. After it the hash is checked again, while requests wait; a hash that a reload replaces counts at once.
REMEMBERED_S = 300.0
# So many addresses of a user are known; the one that was used longest ago goes first. People have a few, and a mobile
# network that gives a connection now this one and now that has more.
CLIENTS_MAX = 16
# So many wrong ones may be told for a user at its own addresses in the time of REMEMBERED_S: a guess in three seconds.
# At each one more it is unknown there, until a check says anew that it is right.
GUESSES_MAX = 100


class _Known:
    """What was right for one user: `until` when, and at which `clients` (the last is last); and how many `guesses`
    there were since the time `counted_from`."""

    __slots__ = ("clients", "counted_from", "digest", "guesses", "until")

    def __init__(self) -> None:
        self.digest = b""
        self.until = self.counted_from = 0.0
        self.clients: tuple[str, ...] = ()
        self.guesses = 0

    def note(self, client: str) -> None:
        if self.clients[-1:] != (client,):
            others = [one for one in self.clients if one != client]
            self.clients = (*others[1 - CLIENTS_MAX :], client)


class Remembered:
    """By the hash and the name: a hash that a reload replaces is another user's. `now` is the loop's time, in seconds.
    A client is named as by `network_of`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._key = os.urandom(32)
        self._known: OrderedDict[tuple[str, bytes], _Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def digest_of(self, told: Credentials) -> bytes:
        """What stands for a name and a password."""
        return hmac.digest(self._key, b"%d:%b%b" % (len(told.name), told.name, told.password), "sha256")

    def knows(self, hashed: str, name: bytes, digest: bytes, client: str) -> bool:
        """Whether this was right lately, for this hash and at this client's."""
        known = self._right_at(hashed, name, digest, client)
        if known is None or known.until <= self._now():
            return False
        known.note(client)
        self._known.move_to_end((hashed, name))
        return True

    def knew(self, hashed: str, name: bytes, digest: bytes, client: str) -> bool:
        """Whether this was right for this hash and at this client's at some time: it is no guess."""
        return self._right_at(hashed, name, digest, client) is not None

    def _right_at(self, hashed: str, name: bytes, digest: bytes, client: str) -> _Known | None:
        known = self._known.get((hashed, name))
        if known is None or client not in known.clients or not hmac.compare_digest(known.digest, digest):
            return None
        return known

    def note_guess(self, hashed: str, name: bytes, client: str) -> None:
        """What is not known was told for the user at this client's."""
        known = self._known.get((hashed, name))
        if known is not None and client in known.clients:
            if known.counted_from <= self._now() - REMEMBERED_S:
                known.counted_from, known.guesses = self._now(), 0
            known.guesses += 1
            if known.guesses >= GUESSES_MAX:
                known.clients = ()

    def add(self, hashed: str, name: bytes, digest: bytes, client: str) -> None:
        """It was right just now, as a check says."""
        known = self._known.setdefault((hashed, name), _Known())
        known.digest, known.until = digest, self._now() + REMEMBERED_S
        known.note(client)
        self._known.move_to_end((hashed, name))
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)

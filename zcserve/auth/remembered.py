"""Passwords that were right are remembered for a while, so that a page with thirty pictures costs one check.

Kept is no password, but a digest of it with a key that only this process has. One is kept for each user: whoever logs
in with the right one has the same. One that is not remembered any more is still known as no guess, so that what others
at the same address have got wrong does not keep its user out (attempts.py). All in the loop's thread.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable

from zcserve.auth.credentials import Credentials

# So many users are remembered; the one that was used longest ago goes first. Each takes some 400 bytes.
REMEMBERED_MAX = 10_000
# In seconds. After it the hash is checked again, while requests wait; a hash that a reload replaces counts at once.
REMEMBERED_S = 300.0


class Remembered:
    """By the hash and the name: a hash that a reload replaces is another user's. `now` is the loop's time, in
    seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._key = os.urandom(32)
        self._known: OrderedDict[tuple[str, bytes], tuple[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def digest_of(self, told: Credentials) -> bytes:
        """What stands for a name and a password."""
        return hmac.digest(self._key, b"%d:%b%b" % (len(told.name), told.name, told.password), "sha256")

    def knows(self, hashed: str, name: bytes, digest: bytes) -> bool:
        """Whether this was right lately, for this hash."""
        known = self._known.get((hashed, name))
        if known is None or known[1] <= self._now() or not hmac.compare_digest(known[0], digest):
            return False
        self._known.move_to_end((hashed, name))
        return True

    def knew(self, hashed: str, name: bytes, digest: bytes) -> bool:
        """Whether this was right for this hash at some time."""
        known = self._known.get((hashed, name))
        return known is not None and hmac.compare_digest(known[0], digest)

    def add(self, hashed: str, name: bytes, digest: bytes) -> None:
        """It was right just now."""
        self._known[hashed, name] = digest, self._now() + REMEMBERED_S
        self._known.move_to_end((hashed, name))
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)

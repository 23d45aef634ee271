"""Users: names with hashes of passwords, from a file as htpasswd writes it, or from a table.

    # a comment
    alice:$argon2id$v=19$m=65536,t=3,p=4$...
    bob:$2y$12$...

An error says the file and the line, and what is wrong, and never what stands there: it may be a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

from zcserve.auth.credentials import normal_name
from zcserve.auth.hashes import MAKE, check_hash, doubt_about
from zcserve.errors import UsageError, reason_of

# In bytes: 10,000 lines of argon2id.
FILE_BYTES_MAX = 2 << 20
USERS_MAX = 10_000

# Which hash stands in for one that is not there: nobody else knows.
_KEY = os.urandom(32)


class Users(Mapping[bytes, str]):
    """Hashes by name. Immutable.

    doubts  what is to be said of some of them, a line each
    """

    def __init__(self, hashes: Mapping[bytes, str], doubts: Iterable[str] = ()) -> None:
        """There is one at least."""
        self._hashes = dict(hashes)
        self._all = tuple(self._hashes.values())
        self.doubts = tuple(doubts)

    def __getitem__(self, name: bytes) -> str:
        return self._hashes[name]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def stand_in(self, name: bytes) -> str:
        """The hash that is checked for an unknown name, for nothing: some user's own, the same one each time. So
        the time that an answer takes does not tell which names there are."""
        number = int.from_bytes(blake2b(name, key=_KEY, digest_size=8).digest(), "big")
        return self._all[number % len(self._all)]


def read_file(path: str) -> bytes:
    """What a file of users holds. Raises UsageError."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path!r} cannot be read: {reason_of(error)}") from None
    if len(text) > FILE_BYTES_MAX:
        raise UsageError(f"{path!r} is too long; accepted: {FILE_BYTES_MAX >> 20} MiB")
    return text


def parse_file(path: str, text: bytes) -> tuple[dict[bytes, str], list[str]]:
    """The hashes by name that a file of users holds, and what is to be said of them. Raises UsageError with file and
    line."""
    hashes: dict[bytes, str] = {}
    doubts: list[str] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        where = f"{path}:{number}"
        stripped = line.strip(b" \t\r")
        if not stripped or stripped.startswith(b"#"):
            continue
        try:
            name, colon, hashed = stripped.decode().partition(":")
        except UnicodeDecodeError:
            raise UsageError(f"{where}: it is not UTF-8") from None
        if not colon:
            raise UsageError(f"{where}: no colon; accepted: name:hash ({MAKE})")
        try:
            put(hashes, name, hashed)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        if doubt := doubt_about(hashed):
            doubts.append(f"{where}: {doubt}")
    return hashes, doubts


def put(hashes: dict[bytes, str], name: str, hashed: str) -> None:
    """Put one user beside others. Raises UsageError."""
    try:
        raw = normal_name(name)
    except ValueError as error:
        raise UsageError(f"not a name: {error}") from None
    if raw in hashes:
        raise UsageError(f"the user {name!r} a second time; accepted: one line for each")
    try:
        hashes[raw] = check_hash(hashed)
    except UsageError as error:
        raise UsageError(f"the user {name!r}: {error}") from None
    if len(hashes) > USERS_MAX:
        raise UsageError(f"more than {USERS_MAX:,} users; accepted: as many")

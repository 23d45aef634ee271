"""Hashes of passwords: which forms are taken, and what a library says of a password.

Taken are bcrypt and argon2id, which are slow on purpose: a list that is stolen gives passwords away slowly. What is
quick to guess (plain text, MD5, SHA) is refused where it is read, and so is a hash whose check would take too long,
or too much memory.
"""

from __future__ import annotations

import re

from zcserve.errors import UsageError

# Each step doubles the time: 2^12 rounds take some 0.2 s, 2^15 two seconds, and clients wait for it.
BCRYPT_COST_MAX = 15
# bcrypt reads no more of a password, in all programs that write these hashes.
BCRYPT_PASSWORD_BYTES = 72
# In KiB: argon2-cffi takes 64 MiB, RFC 9106 (section 4) 64 MiB or 2 GiB, and two checks run at once.
ARGON2_MEMORY_KIB_MAX = 256 * 1024
ARGON2_TIME_MAX = 16
ARGON2_LANES_MAX = 16
# What is quicker to guess than this is told: OWASP's least are bcrypt with 10 and argon2id with 7 MiB.
BCRYPT_COST_LEAST = 10
ARGON2_MEMORY_KIB_LEAST = 7 * 1024

INSTALL = "pip install 'zcserve[auth]'"
MAKE = "zcserve passwd NAME makes a line"

# Of the salt's last digit two bits count; bcrypt raises ValueError where others are set.
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,86}"
)
# What other forms begin with, and what they are.
_WEAK = {
    "$apr1$": "MD5, as htpasswd makes it without -B",
    "{SHA}": "SHA-1 without a salt",
    "{SSHA}": "SHA-1",
    "$1$": "MD5",
    "$5$": "SHA-256 of crypt",
    "$6$": "SHA-512 of crypt",
    "$argon2": "argon2 in another form than argon2id of version 19",
    "$2": "bcrypt that is cut short, or of another form",
}


def check_hash(text: str) -> str:
    """The hash itself, if it is taken and its library is there. Raises UsageError, which never shows the hash."""
    if (bcrypt := _BCRYPT.fullmatch(text)) is not None:
        if not 4 <= int(bcrypt[1]) <= BCRYPT_COST_MAX:
            raise UsageError(f"a bcrypt hash of cost {bcrypt[1]}; accepted: 04 to {BCRYPT_COST_MAX}")
    elif (argon2 := _ARGON2.fullmatch(text)) is not None:
        memory, time, lanes = map(int, argon2.groups())
        most = ARGON2_MEMORY_KIB_MAX, ARGON2_TIME_MAX, ARGON2_LANES_MAX
        if not (8 * lanes <= memory <= most[0] and 1 <= time <= most[1] and 1 <= lanes <= most[2]):
            accepted = f"m={most[0]} (KiB), t={most[1]}, p={most[2]} at most"
            raise UsageError(f"an argon2id hash of m={memory},t={time},p={lanes}; accepted: {accepted}")
    else:
        kind = next((what for begin, what in _WEAK.items() if text.startswith(begin)), "plain text, or no hash")
        raise UsageError(f"{kind}; accepted: bcrypt ($2y$, $2b$) and argon2id ($argon2id$): {MAKE}")
    _require_library(text)
    return text


def doubt_about(text: str) -> str:
    """What is to be said of a hash that is taken; "" for nothing."""
    bcrypt, argon2 = _BCRYPT.fullmatch(text), _ARGON2.fullmatch(text)
    if bcrypt is not None and int(bcrypt[1]) < BCRYPT_COST_LEAST:
        return f"bcrypt of cost {bcrypt[1]} is quick to guess (htpasswd -B makes it so): {MAKE}"
    if argon2 is not None and int(argon2[1]) < ARGON2_MEMORY_KIB_LEAST:
        return f"argon2id with m={argon2[1]} (KiB) is quick to guess: {MAKE}"
    return ""


def _require_library(text: str) -> None:
    """Raises UsageError where what checks this hash is not installed."""
    try:
        if text.startswith("$2"):
            import bcrypt  # noqa: F401 (late: most sites have no passwords)
        else:
            import argon2  # noqa: F401
    except ImportError as error:
        raise UsageError(f"the library that checks it is not installed ({error}): {INSTALL}") from None


def is_password(text: str, password: bytes) -> bool:
    """Whether a hash that `check_hash` takes is of this password. Takes tens of milliseconds of a processor, in which
    other threads run (both libraries let go of the GIL)."""
    if text.startswith("$2"):
        import bcrypt

        return bool(bcrypt.checkpw(password[:BCRYPT_PASSWORD_BYTES], text.encode()))
    import argon2

    try:
        return argon2.PasswordHasher().verify(text, password)
    except argon2.exceptions.VerificationError:
        return False


def hash_of(password: bytes) -> str:
    """A new hash: argon2id as argon2-cffi makes it, else bcrypt. Raises UsageError where there is neither, and for a
    password that bcrypt would cut short."""
    try:
        import argon2
    except ImportError:
        pass
    else:
        return argon2.PasswordHasher().hash(password)
    try:
        import bcrypt
    except ImportError as error:
        raise UsageError(f"no library that makes hashes is installed ({error}): {INSTALL}") from None
    if len(password) > BCRYPT_PASSWORD_BYTES:
        raise UsageError(f"bcrypt reads {BCRYPT_PASSWORD_BYTES} bytes of a password, and this one has more: {INSTALL}")
    return bcrypt.hashpw(password, bcrypt.gensalt(12)).decode()

"""`zcserve passwd NAME`: a line for a file of users, from a password that is typed or read from standard input."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence

from zcserve.auth.credentials import PASSWORD_BYTES_MAX, normal_name, normal_password
from zcserve.auth.hashes import hash_of
from zcserve.errors import UsageError

EXIT_DONE, EXIT_WRONG_USE = 0, 2

USAGE = """usage: zcserve passwd NAME

Prints name:hash, a line for users_file of [[auth]]. The password is asked for in a terminal, and else it is the first
line of standard input:

    zcserve passwd alice >> /etc/zcserve/users
"""


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    if any(word in ("-h", "--help") for word in argv):
        print(USAGE, end="")
        return EXIT_DONE
    try:
        print(line_of(argv))
    except UsageError as error:
        print(f"zcserve: {error}", file=sys.stderr)
        return EXIT_WRONG_USE
    except (EOFError, KeyboardInterrupt):
        print("zcserve: no password given", file=sys.stderr)
        return EXIT_WRONG_USE
    return EXIT_DONE


def line_of(argv: Sequence[str]) -> str:
    """The line for the name that is given. Raises UsageError."""
    if len(argv) != 1 or argv[0].startswith("-"):
        raise UsageError("one name is wanted; accepted: zcserve passwd NAME")
    try:
        name = normal_name(argv[0])
        if name.startswith(b"#") or name != name.strip():
            raise ValueError("a name that begins with # is a comment, and blanks around one are not seen")
    except ValueError as error:
        raise UsageError(f"{argv[0]!r} is no name: {error}") from None
    try:
        password = normal_password(_read())
    except ValueError as error:
        raise UsageError(f"no password: {error}") from None
    if not password:
        raise UsageError(f"the password is empty; accepted: 1 to {PASSWORD_BYTES_MAX} bytes")
    return f"{name.decode()}:{hash_of(password)}"


def _read() -> str:
    """The password. Raises UsageError, EOFError."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise UsageError("the two are not the same")
    return password

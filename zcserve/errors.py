"""What can go wrong, as types.

An error knows what it means to the outside and nothing of who is told: `HttpError` carries the status it
is answered with (net/connection.py turns it into a response, in one place), `UsageError` becomes one line
on stderr and exit code 2 (cli.py, in one place). Errors of the operating system stay OSError.
"""

from __future__ import annotations


class ZcserveError(Exception):
    """The root of every error that zcserve raises on purpose."""


class UsageError(ZcserveError):
    """The user asked for something that cannot be: the message says what, where, and what to do."""


class LoadError(UsageError):
    """An application that is named cannot be imported, or is none: `--check` reports it and goes on."""


class NoThreadError(UsageError):
    """The system gives no more threads. At start this is wrong use; later, what asked for one goes on without."""


class HttpError(ZcserveError):
    """A request that is answered with an error status.

    `status` is the HTTP status code (RFC 9110 section 15). `close` tells that the connection cannot be kept in
    step after this (the request's end is unknown or not to be trusted), so that it is closed once the answer is out.
    `reason` is a short text for the log and the error page; it never repeats the client's bytes.
    """

    def __init__(self, status: int, reason: str, *, close: bool = False) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
        self.close = close

"""What can go wrong, as types, and the words for it.

An error knows what it means to the outside, and not how it is told: `HttpError` carries the status it
is answered with (net/http1.py and net/answering.py make a response of it), `UsageError` becomes one line
on stderr and exit code 2 (cli.py, in one place). Errors of the operating system stay OSError.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any


def reason_of(error: BaseException) -> str:
    """Why, in words that are never empty: the system's text, the exception's own, or else its name."""
    if isinstance(error, OSError) and error.strerror:
        # asyncio tells the address in place of the reason, and whoever asks knows the address.
        if error.errno and error.strerror.startswith("Connect call failed"):
            return os.strerror(error.errno)
        return error.strerror
    return words_of(error) or type(error).__name__


def line_of(error: BaseException) -> str:
    """Its name and what it says, on one line: "ValueError: no such thing"."""
    said = error.msg if isinstance(error, SyntaxError) else words_of(error)
    return ": ".join(filter(None, (type(error).__name__, " ".join(said.split()))))


def words_of(error: BaseException) -> str:
    """What an exception says; nothing where an application's own fails even at that."""
    try:
        return str(error)
    except Exception:
        return ""


class ZcserveError(Exception):
    """The root of every error that zcserve raises on purpose."""


class UsageError(ZcserveError):
    """The user asked for something that cannot be: the message says what, where, and what to do.

    excerpt  lines that show the place, for people who see the message on a terminal
    """

    excerpt: tuple[str, ...] = ()


class LoadError(UsageError):
    """An application that is named cannot be imported, or is none: `--check` reports it and goes on."""


class NoThreadError(UsageError):
    """The system gives no more threads. At start this is wrong use; later, what asked for one goes on without."""


class NotNowError(ZcserveError):
    """What is asked for cannot be begun now: the message says why, and what to do."""


class HttpError(ZcserveError):
    """A request that is answered with an error status.

    status   the HTTP status code (RFC 9110 section 15)
    reason   a short text for the log and the error page; it never repeats the client's bytes. Left out, it is what the
             status is called
    headers  names and values of header fields of the answer, such as WWW-Authenticate or Retry-After
    json     what the answer holds as JSON (RFC 8259), instead of the error page; None for the page
    close    the connection cannot be kept in step after this (the request's end is unknown or not to be trusted), so
             it is closed once the answer is out

    Raises ValueError for a Content-Type without `json`, since the page has its own.
    """

    def __init__(
        self,
        status: int,
        reason: str | None = None,
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        json: Any = None,
        close: bool = False,
    ) -> None:
        from zcserve.phrases import PHRASES  # late: `zcserve ctl` has no use for them

        known = PHRASES.get(status, "an error without a name") if isinstance(status, int) else ""
        self.status = status
        self.reason = reason or known
        self.headers = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        self.json = json
        self.close = close
        super().__init__(f"{status}: {self.reason}")
        if json is None and any(str(name).lower() == "content-type" for name, _ in self.headers):
            raise ValueError("a Content-Type goes with json=: the page of an HttpError has its own")


# Of two words that are less alike, one is no typo of the other (`force` and `cors`: 0.44, `pth` and `path`: 0.86).
_ALIKE = 0.6


def known_instead(word: str, known: Iterable[str]) -> str:
    """What to write instead of `word`: the nearest known one; where none is like it, all there are."""
    words = tuple(known)
    near = alike(word, words)
    return f"the nearest known is {near}" if near else f"accepted: {', '.join(words)}"


def alike(word: str, known: Iterable[str]) -> str:
    """The known word that `word` may be a typo of; "" for none."""
    from difflib import SequenceMatcher  # late: only a mistake needs it

    near = nearest(word, words) if (words := tuple(known)) else ""
    return near if SequenceMatcher(None, near, word).ratio() >= _ALIKE else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word`; of equals the one that begins alike (--prot: --port, not --root)."""
    from difflib import SequenceMatcher  # late: only a mistake needs it

    def likeness(candidate: str) -> tuple[float, int]:
        alike = next((i for i, (a, b) in enumerate(zip(candidate, word, strict=False)) if a != b), len(word))
        return SequenceMatcher(None, candidate, word).ratio(), alike

    return max(known, key=likeness)

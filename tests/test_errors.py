"""zcserve.errors: what can go wrong, and the words for it."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from zcserve.errors import (
    HttpError,
    LoadError,
    NoThreadError,
    UsageError,
    ZcserveError,
    known_instead,
    line_of,
    nearest,
    reason_of,
    words_of,
)


class Mute(Exception):
    """Fails when it is asked what it says, as an application's own may."""

    def __str__(self) -> str:
        raise LookupError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/a"), "No such file or directory"),
        (OSError("leads outside the root"), "leads outside the root"),
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), os.strerror(errno.ECONNREFUSED)),
        (ValueError("no such thing"), "no such thing"),
        (ValueError(), "ValueError"),
        (Mute(), "Mute"),
    ],
)
def test_a_reason_is_never_empty(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no\n  such\tthing"), "ValueError: no such thing"),
        (OSError(28, "no room"), "OSError: [Errno 28] no room"),
        (ValueError(), "ValueError"),
        (Mute(), "Mute"),
        (SyntaxError("invalid syntax", ("a.py", 3, 1, "text")), "SyntaxError: invalid syntax"),  # where, is told else
    ],
)
def test_an_error_is_told_on_one_line(error: BaseException, line: str) -> None:
    assert line_of(error) == line


def test_what_an_exception_says_is_nothing_where_that_fails() -> None:
    assert words_of(ValueError("this")) == "this"
    assert words_of(Mute()) == ""


def test_wrong_use_is_told_apart_from_a_request_that_is_answered_with_an_error() -> None:
    assert issubclass(LoadError, UsageError)
    assert issubclass(NoThreadError, UsageError)
    assert issubclass(UsageError, ZcserveError)
    assert issubclass(HttpError, ZcserveError)
    assert not issubclass(HttpError, UsageError)


# --- errors of HTTP ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        (404, None, "Not Found"),
        (413, None, "Content Too Large"),
        (599, None, "an error without a name"),
        (404, "no such user", "no such user"),
        (404, "", "Not Found"),
    ],
)
def test_a_status_has_its_reason(status: int, reason: str | None, told: str) -> None:
    error = HttpError(status, reason)
    assert (error.status, error.reason, str(error)) == (status, told, f"{status}: {told}")
    assert (error.headers, error.json, error.close) == ((), None, False)


def test_a_status_that_is_no_number_is_no_failure_yet() -> None:
    odd: Any = [404]  # an application's mistake, which is found when it is answered
    assert HttpError(odd).status is odd
    assert HttpError(odd).reason == ""


@pytest.mark.parametrize("headers", [{"Retry-After": "5", "A": "b"}, [("Retry-After", "5"), ("A", "b")]])
def test_fields_are_given_as_a_mapping_or_as_pairs(headers: dict[str, str] | list[tuple[str, str]]) -> None:
    error = HttpError(503, headers=headers, close=True)
    assert error.headers == (("Retry-After", "5"), ("A", "b"))
    assert error.close


def test_a_pair_may_come_twice() -> None:
    twice = [("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Bearer")]
    assert HttpError(401, headers=iter(twice)).headers == tuple(twice)


def test_a_content_type_goes_with_json_alone() -> None:
    with pytest.raises(ValueError, match="a Content-Type goes with json="):
        HttpError(400, headers={"content-Type": "text/plain"})
    error = HttpError(400, headers={"Content-Type": "application/problem+json"}, json={"a": 1})
    assert error.json == {"a": 1}


# --- the nearest word -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("--prot", ["--root", "--port", "--host"], "--port"),  # of equals the one that begins alike
        ("memry", ["memory", "port"], "memory"),
        ("--mont", ["--root", "--port", "--mount"], "--mount"),
        ("x", ["root"], "root"),
    ],
)
def test_the_known_word_that_is_most_like_it_is_named(word: str, known: list[str], expected: str) -> None:
    assert nearest(word, known) == expected
    assert nearest(word, reversed(known)) == expected


def test_where_no_known_word_is_like_it_all_are_named() -> None:
    known = ("path", "set", "listing", "cors")
    assert known_instead("pth", known) == "the nearest known is path"
    assert known_instead("force", known) == "accepted: path, set, listing, cors"

"""docs/examples/staging: a copy of a site behind a password."""

from __future__ import annotations

from base64 import b64encode

import pytest

from tests.support.examples import GetExample, Holds, Row

pytest.importorskip("bcrypt")


def as_user(user: str) -> tuple[str]:
    return (f"Authorization: Basic {b64encode(user.encode()).decode()}",)


ANN, WRONG, UNKNOWN = as_user("ann:staging"), as_user("ann:wrong"), as_user("bob:staging")
HIDDEN = {"WWW-Authenticate": 'Basic realm="Staging", charset="UTF-8"', "Cache-Control": "no-store", "ETag": None}
SHOWN = {"Cache-Control": "private, no-cache", "X-Robots-Tag": "noindex, nofollow"}
ROWS = (
    Row("a page asks for a password", "/", 401, HIDDEN),
    Row("so does a file", "/reports/visits.csv", 401, HIDDEN),
    Row("so does what is not there", "/none", 401, HIDDEN),
    Row("so does a form", "POST /", 401, HIDDEN, sends=("Content-Length: 0",)),
    Row("with the right one there is the page", "/", 200, SHOWN, "www/index.html", ANN),
    Row("and the file", "/reports/visits.csv", 200, SHOWN, "www/reports/visits.csv", ANN),
    Row("a part of it, too", "/reports/visits.csv", 206, SHOWN, b"month", (*ANN, "Range: bytes=0-4")),
    Row("what is not there is absent then", "/none", 404, {"WWW-Authenticate": None}, None, ANN),
    Row("a wrong one is none", "/", 401, HIDDEN, None, WRONG, explained=False),
    Row("so is that of an unknown name", "/", 401, HIDDEN, None, UNKNOWN, explained=False),
    Row("so is one that cannot be read", "/", 401, HIDDEN, None, ("Authorization: Basic ?",)),
    Row("crawlers read that they may not", "/robots.txt", 200, {"WWW-Authenticate": None}, "www/robots-staging.txt"),
    Row("also with a password", "/robots.txt", 200, {}, "www/robots-staging.txt", ANN),
    Row("a certificate is renewed", "/.well-known/acme-challenge/Kq3v", 200, {}, "www/.well-known/acme-challenge/Kq3v"),
)


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("staging"), ROWS)

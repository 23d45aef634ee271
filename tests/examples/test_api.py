"""docs/examples/api: a WSGI application beside a site."""

from __future__ import annotations

from tests.support.examples import GetExample, Holds, Row

OWN = {"Content-Type": "application/json", "Cache-Control": "no-store"}
ROWS = (
    Row("the site is files", "/", 200, {"Cache-Control": "no-cache"}, "www/index.html"),
    Row("a note is made", "POST /api/notes", 201, OWN, None, content=b"tea", explained=False),
    Row("notes are told by the application, with its own fields", "/api/notes", 200, OWN, None, explained=False),
    Row("what the application does not know is its own 404", "/api/none?a=b", 404, OWN,
        b'{"error": "there is no /api/none"}', explained=False),
    Row("a file below its path comes first", "/api/openapi.json", 200, {"Cache-Control": "no-cache"},
        "www/api/openapi.json"),
    Row("and may be kept", "/api/openapi.json", 304, {}, b"", ("If-None-Match: *",)),
    Row("what is absent elsewhere is the site's page", "/none", 404, {"Content-Type": "text/html; charset=utf-8"},
        "www/404.html"),
    Row("a note that is too long is refused", "POST /api/notes", 413, {}, None, content=b"x" * 70_000, explained=False),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("api"), ROWS)

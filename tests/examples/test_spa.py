"""docs/examples/spa: a single-page application as Vite builds it."""

from __future__ import annotations

from tests.support.examples import GetExample, Holds, Row

PAGE, YEAR = "dist/index.html", "public, max-age=31536000, immutable"
ROWS = (
    Row("the page is asked for again each time", "/", 200, {"Cache-Control": "no-cache"}, PAGE),
    Row("a deep link is the page, with its fields", "/notes/7", 200, {"Cache-Control": "no-cache"}, PAGE),
    Row("so is one with a query", "/notes/8?sort=a.b", 200, {"Content-Type": "text/html; charset=utf-8"}, PAGE),
    Row("so is one that ends in a slash", "/notes/", 200, {}, PAGE),
    Row("a script is kept for a year", "/assets/index-BxYz12Ab.js", 200, {"Cache-Control": YEAR},
        "dist/assets/index-BxYz12Ab.js"),
    Row("a script is sent compressed", "/assets/index-BxYz12Ab.js", 200,
        {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}, sends=("Accept-Encoding: gzip",)),
    Row("a style sheet is kept for a year", "/assets/index-DkYt2q1x.css", 200, {"Cache-Control": YEAR}),
    Row("a script that is missing is not the page", "/assets/index-Old12345.js", 404, {"Cache-Control": None}),
    Row("nor is a source map", "/assets/index-BxYz12Ab.js.map", 404, {"Cache-Control": None}),
    Row("nor is an image anywhere", "/notes/picture.png", 404),
    Row("what has no hash is not kept for a year", "/vite.svg", 200,
        {"Cache-Control": None, "Content-Type": "image/svg+xml; charset=utf-8"}),
    Row("pages are not shown in frames of other sites", "/notes/7", 200, {"X-Frame-Options": "SAMEORIGIN"}),
    Row("a form is refused, and not the page", "POST /notes/7", 405, {"Allow": "GET, HEAD, OPTIONS"},
        sends=("Content-Length: 0",)),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("spa"), ROWS)

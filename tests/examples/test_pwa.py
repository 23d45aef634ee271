"""docs/examples/pwa: a progressive web app with a service worker."""

from __future__ import annotations

from tests.support.examples import GetExample, Holds, Row

AGAIN = {"Cache-Control": "no-cache"}
ROWS = (
    Row("the page is asked for again each time", "/", 200, AGAIN | {"Service-Worker-Allowed": None}, "www/index.html"),
    Row("the worker may have all of the site", "/js/sw.js", 200,
        AGAIN | {"Service-Worker-Allowed": "/", "Content-Type": "text/javascript; charset=utf-8"}, "www/js/sw.js",
        ("Service-Worker: script",)),
    Row("a worker that is as it was is not sent again", "/js/sw.js", 304, AGAIN, b"", ("If-None-Match: *",)),
    Row("the manifest has its type", "/app.webmanifest", 200, AGAIN | {"Content-Type": "application/manifest+json"},
        "www/app.webmanifest"),
    Row("what is named by its content is kept", "/js/app-5T2XKZQH.js", 200,
        {"Cache-Control": "public, max-age=31536000, immutable"}),
    Row("an icon is kept for a day", "/icons/192.png", 200,
        {"Cache-Control": "max-age=86400", "Content-Type": "image/png"}, "www/icons/192.png"),
    Row("the page without a network is asked for again", "/offline.html", 200, AGAIN, "www/offline.html"),
    Row("a worker that is not there is 404, so that browsers let it go", "/sw.js", 404, {"Cache-Control": None}),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("pwa"), ROWS)

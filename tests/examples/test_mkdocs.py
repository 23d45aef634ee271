"""docs/examples/mkdocs: a manual of several versions, as MkDocs and mike write it."""

from __future__ import annotations

from tests.support.examples import GetExample, Holds, Row

YEAR = "public, max-age=31536000, immutable"
CSS = "assets/stylesheets/main.484c7ddc.min.css"
NEWEST = {"Cache-Control": "no-cache", "X-Robots-Tag": None}
ROWS = (
    Row("the root leads to the newest version", "/", 302, {"Location": "/latest/"}),
    Row("the query goes along", "/?q=a+b", 302, {"Location": "/latest/?q=a+b"}),
    Row("mike's own redirect has its file's name", "/index.html", 200, {}, "site/index.html"),
    Row("latest is the newest version", "/latest/", 200, NEWEST, "site/1.2/index.html"),
    Row("a page of it lies in a directory", "/latest/start/", 200, NEWEST, "site/1.2/start/index.html"),
    Row("a directory's path ends in a slash", "/latest/start", 301, {"Location": "/latest/start/"}),
    Row("so does a version's", "/1.1", 301, {"Location": "/1.1/"}),
    Row("an old version is not for search engines", "/1.1/start/", 200, {"X-Robots-Tag": "noindex"},
        "site/1.1/start/index.html"),
    Row("a version tells what it has not", "/1.1/none/", 404, {"X-Robots-Tag": "noindex"}, "site/1.1/404.html"),
    Row("so does the newest one", "/1.2/none", 404, NEWEST, "site/1.2/404.html"),
    Row("so does latest, of a missing asset, too", "/latest/assets/none.css", 404, {}, "site/1.2/404.html"),
    Row("what is of no version is told by the site", "/9.9/start/", 404, {}, "site/404.html"),
    Row("so is a file at the top", "/none", 404, {}, "site/404.html"),
    Row("a version that is gone leads to the newest one", "/1.0/start/", 302, {"Location": "/latest/start/"}),
    Row("a file with a hash is kept for a year", f"/1.2/{CSS}", 200, {"Cache-Control": YEAR}, f"site/1.2/{CSS}"),
    Row("the versions are asked for again each time", "/versions.json", 200,
        {"Cache-Control": "no-cache", "Content-Type": "application/json"}),
    Row("so is what the search reads", "/latest/search/search_index.json", 200, {"Cache-Control": "no-cache"}),
    Row("a sitemap is sent as the file beside it has it", "/1.2/sitemap.xml", 200, {"Content-Encoding": "gzip"},
        "site/1.2/sitemap.xml.gz", ("Accept-Encoding: gzip",)),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("mkdocs"), ROWS)

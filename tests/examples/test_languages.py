"""docs/examples/languages: one site in two languages, by path."""

from __future__ import annotations

from tests.support.examples import GetExample, Holds, Row


def home(field: str, language: str) -> Row:
    """What / leads to."""
    sends = (f"Accept-Language: {field}",) if field else ()
    fields = {"Location": f"/{language}/", "Vary": "Accept-Language"}
    return Row(f"{field!r} is {language}", "/", 302, fields, b"", sends, explained=False)


# What each is the answer to.
GERMAN = ("", "de", "de-AT,en;q=0.5", "fr", "en;q=0.3, de;q=0.4", "*", "en;q=0", "den", "q=1,,;")
ENGLISH = ("en", "en-GB,en;q=0.9,de;q=0.5", "fr,EN;q=0.2", "de;q=0,*")
ROWS = (
    *(home(field, "de") for field in GERMAN),
    *(home(field, "en") for field in ENGLISH),
    Row("HEAD leads there, too", "HEAD /", 302, {"Location": "/de/", "Vary": "Accept-Language"}, explained=False),
    Row("a page says its language, and where the others are", "/de/", 200,
        {"Content-Language": "de", "Link": "...<https://www.example/en/>; rel=alternate; hreflang=en..."},
        "www/de/index.html"),
    Row("so does that of the other language", "/en/", 200,
        {"Content-Language": "en",
        "Link": "<https://www.example/de/>; rel=alternate; hreflang=de...hreflang=x-default"}, "www/en/index.html"),
    Row("a page has a clean URL", "/en/start", 200,
        {"Content-Language": "en", "Cache-Control": "no-cache", "Link": None}, "www/en/start.html"),
    Row("what is missing is told in German", "/de/nirgends", 404,
        {"Content-Language": "de", "Content-Type": "text/html; charset=utf-8"}, "www/de/404.html"),
    Row("what is missing is told in English", "/en/a/b.png", 404, {"Content-Language": "en"}, "www/en/404.html"),
    Row("elsewhere it is told in both", "/nowhere", 404, {"Content-Language": None}, "www/404.html"),
    Row("an old path leads to its language", "/start?a=b", 301, {"Location": "/de/start?a=b"}),
    Row("a language's path ends in a slash", "/de", 301, {"Location": "/de/"}),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("languages"), ROWS)

"""docs/examples/fonts: fonts for pages of other sites."""

from __future__ import annotations

from tests.support.examples import GetExample, Holds, Row

YEAR = "public, max-age=31536000, immutable"
OF_ALL = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Timing-Allow-Origin": "*",
}
WOFF2, FROM = "/box/v3/box-regular.woff2", "Origin: https://any.example"
ASKS = ("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-any")
ROWS = (
    Row("a font is for all, and for a year", WOFF2, 200, OF_ALL | {"Cache-Control": YEAR, "Content-Type": "font/woff2"},
        "www" + WOFF2, (FROM,)),
    Row("so it is without an origin: caches keep one answer", WOFF2, 200, OF_ALL | {"Vary": None}, "www" + WOFF2),
    Row("so is one of another format", "/box/v3/box-regular.ttf", 200,
        OF_ALL | {"Cache-Control": YEAR, "Content-Type": "font/ttf"}),
    Row("the style sheet that names them is asked for again", "/box/v3/box.css", 200,
        OF_ALL | {"Cache-Control": "public, max-age=86400"}, "www/box/v3/box.css", (FROM,)),
    Row("304 has leave, too", WOFF2, 304, {"Access-Control-Allow-Origin": "*"}, b"", (FROM, "If-None-Match: *")),
    Row("a part has leave, too", WOFF2, 206, {"Access-Control-Allow-Origin": "*", "Content-Length": "4"}, b"wOF2",
        (FROM, "Range: bytes=0-3")),
    Row("what is missing may be read, and is not kept", "/box/v3/none.woff2", 404,
        {"Access-Control-Allow-Origin": "*", "Cache-Control": None}, None, (FROM,)),
    Row("a preflight is answered", f"OPTIONS {WOFF2}", 204,
        {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, HEAD"}, b"", (FROM, *ASKS)),
    Row("one for more than reading is answered with what is allowed", f"OPTIONS {WOFF2}", 204,
        {"Access-Control-Allow-Origin": None}, b"", (FROM, "Access-Control-Request-Method: PUT")),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    holds(example("fonts"), ROWS)

"""zcserve.servlets.judge: which answers may be kept, and what their entries say."""

from __future__ import annotations

import pytest

from zcserve.cache.entry import Entry, Span
from zcserve.servlets.judge import FIELDS_BYTES_MAX, Judged, judge
from zcserve.servlets.response import Response
from zcserve.site.exchange import Answer, Stored
from zcserve.site.reply import HTML_FIELDS, Reply

HTML = "text/html; charset=utf-8"


def answered(*headers: tuple[str, str], status: int = 200) -> Reply:
    rendered = Response(b"content", status, headers).render()
    assert isinstance(rendered.content, bytes)
    return Reply(rendered.status, rendered.fields, rendered.content)


@pytest.mark.parametrize(
    ("ttl", "headers", "judged"),
    [
        (5, [], Judged(HTML, None, ((b"Cache-Control", b"max-age=5"),))),
        (0.2, [], Judged(HTML, None, ((b"Cache-Control", b"max-age=1"),))),
        (2.9, [("Content-Type", "text/csv")], Judged("text/csv", None, ((b"Cache-Control", b"max-age=2"),))),
        (5, [("Cache-Control", "max-age=60")], Judged(HTML, None, ((b"Cache-Control", b"max-age=60"),))),
        (
            5,
            [("cache-control", "no-cache"), ("X-A", "1: 2")],
            Judged(
                HTML,
                None,
                (
                    (b"cache-control", b"no-cache"),
                    (b"X-A", b"1: 2"),
                ),
            ),
        ),
        (5, [("Vary", "accept-encoding")], Judged(HTML, None, ((b"Cache-Control", b"max-age=5"),))),
        (5, [("X-Content-Type-Options", "nosniff")], Judged(HTML, None, ((b"Cache-Control", b"max-age=5"),))),
        (
            5,
            [("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
            Judged(HTML, 784111777, ((b"Cache-Control", b"max-age=5"),)),
        ),
        (
            5,
            [("X-A", "a"), ("X-A", "b")],
            Judged(
                HTML,
                None,
                (
                    (b"X-A", b"a"),
                    (b"X-A", b"b"),
                    (b"Cache-Control", b"max-age=5"),
                ),
            ),
        ),
    ],
)
def test_an_answer_for_every_client_becomes_an_entry(
    ttl: float, headers: list[tuple[str, str]], judged: Judged
) -> None:
    assert judge(answered(*headers), ttl) == judged


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (answered(("Set-Cookie", "a=b")), "Set-Cookie"),
        (answered(("set-cookie", "a=b")), "set-cookie"),
        (answered(("Cache-Control", "max-age=3, no-store")), "no-store"),
        (answered(("Cache-Control", "max-age=3"), ("Cache-Control", 'Private="x"')), "private"),
        (answered(("Vary", "Cookie")), "Vary"),
        (answered(("Vary", "Accept-Encoding, Origin")), "Vary"),
        (answered(("Vary", "*")), "Vary"),
        (answered(("ETag", '"mine"')), "ETag"),
        (answered(("Content-Encoding", "gzip")), "Content-Encoding"),
        (answered(("X-Long", "x" * FIELDS_BYTES_MAX)), "too long"),
        (answered(status=404), "404"),
        (answered(status=204), "204"),
        (Reply(200, HTML_FIELDS, (Span(0, 0, 1),), 1), "stream"),
        (Stored(None, Entry(b"/f", b"", 0, None)), "file"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_not_for_every_client_does_not(made: Answer, why: str) -> None:
    judged = judge(made, 5)
    assert isinstance(judged, str)
    assert why in judged

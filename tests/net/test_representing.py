"""zcserve.net.representing: what a request makes of a representation. Whole requests: wire/test_http_*.py."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tests.support.memory import body_of
from zcserve import Config
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.net.fields import Fields
from zcserve.net.representing import answer_of, not_acceptable, represent
from zcserve.net.request import Parser
from zcserve.site import reply
from zcserve.site.exchange import Stored
from zcserve.site.site import Site

CONTENT = b"the content"
NOTHING = cast("Generation", None)  # no generation is asked for anything here


def entry() -> Entry:
    made = Entry(b"/page", b"", len(CONTENT), 0)
    made.body, made.etag = body_of(CONTENT), b'"tag"'
    return made


def fields_of(*lines: bytes) -> Fields:
    head = b"GET / HTTP/1.1\r\nHost: test\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    parsed = Parser(Config(root=Path())).parse(head, 0)
    assert parsed is not None
    return parsed[2]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 200),
        ((b"Range: bytes=4-6",), 206),
        ((b"Range: bytes=99-",), 416),
        ((b'If-None-Match: "tag"',), 304),
        ((b'If-None-Match: "other"',), 200),
        ((b'If-Match: "other"',), 412),
        ((b'If-Match: "other"', b"Range: bytes=99-"), 412),
    ],
)
def test_conditions_and_ranges_are_about_a_get_that_succeeds(lines: tuple[bytes, ...], status: int) -> None:
    chosen, fields = entry(), fields_of(*lines)
    body = chosen.body
    assert body is not None
    assert answer_of(fields, b"GET", chosen, body, 8).status == status
    represented = represent(fields, b"GET", chosen, body, 8)
    assert (represented.status if represented is not None else 200) == status
    assert answer_of(fields, b"POST", chosen, body, 8).status == 200
    assert answer_of(fields, b"GET", chosen, body, 8, Stored(NOTHING, chosen, status=404)).status == 404


def test_what_named_the_entry_has_fields_of_its_own() -> None:
    chosen = entry()
    assert chosen.body is not None
    answer = answer_of(fields_of(), b"GET", chosen, chosen.body, 8, Stored(NOTHING, chosen, fields=((b"A", b"b"),)))
    assert (answer.status, answer.added) == (200, ((b"A", b"b"),))


def test_where_nothing_is_acceptable_the_answer_varies(tmp_path: Path) -> None:
    answer = not_acceptable(Site(0, Generation(Root(tmp_path))))
    assert answer.status == 406
    assert set(reply.VARY) <= set(answer.fields)

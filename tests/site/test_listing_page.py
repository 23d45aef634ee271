"""zcserve.site.listing_page: names in order, escaped for people, and exact for programs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

import pytest

from zcserve.cache.entry import Entry
from zcserve.cache.listing import Listing, Resource
from zcserve.cache.shards import in_pieces
from zcserve.cache.tags import tag_of
from zcserve.http import encode_path
from zcserve.site import listing_page
from zcserve.site.listing_page import Page, names_of, page_of


def index_of(names: Iterable[bytes], modified: int | None = 1_700_000_000) -> tuple[Listing, dict[bytes, Resource]]:
    """The directory /d/, with these names."""
    keys = [b"/d/" + encode_path(name) for name in names]
    resources: dict[bytes, Resource] = {
        key: Listing([]) if key.endswith(b"/") else Entry(key, b"", 1500, modified) for key in keys
    }
    return Listing([keys[::2], keys[1::2], keys[:1]], 1), resources


def page(*names: bytes, is_json: bool = False) -> Page:
    return page_of(b"/d/", *index_of(names), is_json=is_json)


def test_directories_come_first_and_all_in_the_order_of_their_bytes() -> None:
    names = (b"b", b"a", b"Z", b"a!", b"10", b"9", b"\xff", b"x/", b"a/", b"a!/")
    found = names_of(b"/d/", *index_of(names))
    assert (found.total, found.left_out) == (10, 0)
    assert list(found.each()) == [b"a/", b"a!/", b"x/", b"10", b"9", b"Z", b"a", b"a!", b"b", b"%FF"]


def test_a_page_escapes_what_html_and_a_reference_would_read() -> None:
    text = page(b"<&>\"'.txt", b"a:b", b"\xff", b"\n\xe2\x80\xae\x7f", b"\xef\xbf\xbf", b"50%", b"a;").content.decode()
    assert '<a href="a%3Ab">a:b</a>' in text
    assert "&lt;&amp;&gt;&quot;&#x27;.txt</a>" in text
    assert '<a href="%FF">\ufffd</a>' in text
    assert '<a href="%0A%E2%80%AE%7F">\ufffd\ufffd\ufffd</a>' in text
    assert '<a href="50%25">50%</a>' in text
    assert '<a href="a%3B">a;</a>' in text
    assert '<td>1.5 KiB<td><time datetime="2023-11-14T22:13:20Z">2023-11-14 22:13</time>' in text


def test_json_has_the_same_and_is_utf_8() -> None:
    made = page(b"x/", b"\xff", b"a:b", is_json=True)
    file = {"type": "file", "size": 1500, "modified": "2023-11-14T22:13:20Z"}
    assert (made.content_type, made.names) == ("application/json", 3)
    assert json.loads(made.content.decode()) == {
        "path": "/d/",
        "names": 3,
        "left_out": 0,
        "entries": [
            {"name": "x", "href": "x/", "type": "directory"},
            {"name": "a:b", "href": "a%3Ab", **file},
            {"name": "\ufffd", "href": "%FF", **file},
        ],
    }


def test_a_file_without_a_time_has_none() -> None:
    listing, resources = index_of([b"a"], modified=None)
    assert b"<time" not in page_of(b"/d/", listing, resources, is_json=False).content
    assert b"modified" not in page_of(b"/d/", listing, resources, is_json=True).content


def test_only_the_root_has_no_parent_and_nothing_is_said_where_nothing_is() -> None:
    top = page_of(b"/", Listing([]), {}, is_json=False).content
    assert (b'href="../"' in top, b"Nothing is here" in top, b"<table" in top) == (False, True, False)
    assert b'href="../"' in page().content


def test_what_is_too_much_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_page, "NAMES_MAX", 2)
    found = names_of(b"/d/", *index_of([b"c", b"a", b"b", b"d/"]))
    assert (found.pieces, found.total, found.left_out) == ([[b"d/"], [b"a"]], 4, 2)


def test_of_more_names_than_a_page_has_the_first_are_found_and_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_page, "NAMES_MAX", 2000)
    names = [b"%05d" % number for number in random.Random(1).sample(range(20_000), 20_000)]
    found = names_of(b"/d/", *index_of(names))
    assert (found.total, found.left_out) == (20_000, 18_000)
    assert max(map(len, found.pieces)) <= 1000
    assert list(found.each()) == sorted(names)[:2000]
    first = listing_page.First(2000)
    for some in in_pieces(names, 1000):
        first.add(some)
        assert first.held <= 4000
    assert first.total == 20_000


def test_neither_a_row_of_names_nor_a_piece_of_a_page_is_long() -> None:
    made = page(*(b"%d" % number for number in range(5000)))
    assert len(made.pieces) == 6
    assert max(map(len, made.pieces)) < 200_000
    assert made.size == len(made.content)
    assert made.etag == tag_of(made.content)


def test_what_goes_while_a_page_is_written_is_no_error() -> None:
    listing, resources = index_of([b"a", b"b"])
    written = listing_page.names_of(b"/d/", listing, resources).each()
    resources.clear()
    assert list(written) == [b"a", b"b"]
    assert page_of(b"/d/", listing, resources, is_json=False).names == 0

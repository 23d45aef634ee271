"""zcserve/net/lane/leads.pxd: what rules answer at a path that no file has."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("zcserve.net._lane")
from tests.support.client import Client, Response
from tests.support.driver import Driver, packed, put
from zcserve.net.fastlane import STATUSES
from zcserve.rules.redirects import Queries

PAGE = (b"Content-Length: 5\r\n\r\n", b"gone!")
HEAD = b"Content-Length: 5\r\nLocation: /to\r\n\r\n"
# lane/leads.pxd has the same.
LEADS_BYTES_MAX = 16 << 20


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path)
    made.lane.set_not_found(*PAGE)
    yield made
    made.close()


def ask(driver: Driver, target: bytes, *lines: bytes, method: str = "GET") -> Response:
    with Client(driver.where) as client:
        head = b"\r\n".join((b"%b %b HTTP/1.1" % (method.encode(), target), b"Host: test", *lines, b"", b""))
        return driver.ask(client, head, method=method)[0]


def is_handed_over(driver: Driver, target: bytes) -> bool:
    with Client(driver.where) as client:
        client.send(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target)
        _, (_, data, *_) = driver.next_taken()
        return target in data


def lead(driver: Driver, key: bytes, target: bytes, status: int = 200, queries: Queries = Queries.ANY) -> Any:
    """Have a key lead to a file that says which it is."""
    entry = packed(target)
    driver.lane.lead_to_file(key, target, (entry,), STATUSES.index(status), queries)
    return entry


def test_a_lead_answers_as_the_file_does_and_its_uses_are_the_files(driver: Driver) -> None:
    entry = lead(driver, b"/about", b"/about.html")
    for target in (b"/about", b"/about?x", b"/about.html"):
        whole = ask(driver, target)
        assert (whole.status, whole.body) == (200, b"/about.html")
        assert ask(driver, target, b"If-None-Match: " + entry.etag).status == 304
        assert ask(driver, target, b"Range: bytes=1-5").body == b"about"
        assert ask(driver, target, method="HEAD")["Content-Length"] == b"11"
    driver.lane.drain_ticks()
    assert entry.uses == 12


def test_an_error_has_all_of_the_file_whatever_the_conditions(driver: Driver) -> None:
    entry = lead(driver, b"/x", b"/410.html", 410)
    for lines in ((), (b"Range: bytes=0-1",), (b"If-None-Match: " + entry.etag,), (b"If-Match: *",)):
        got = ask(driver, b"/x", *lines)
        assert (got.status, got.body) == (410, b"/410.html")
    assert ask(driver, b"/410.html").status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_the_query_along_as_it_is_said(driver: Driver, status: int) -> None:
    for queries in Queries:
        driver.lane.lead_to_page(b"/%d" % queries, STATUSES.index(status), HEAD, b"moved", queries)
    asked = {
        Queries.NONE: {b"": b""},
        Queries.ANY: {b"": b"", b"?": b"", b"?a=b": b""},
        Queries.SENT: {b"": b"", b"?": b"?", b'?a="': b'?a="'},
        Queries.PLAIN: {b"": b"", b"?": b"", b"?a=%20b&'?": b"?a=%20b&'?"},
    }
    for queries, cases in asked.items():
        for query, added in cases.items():
            got = ask(driver, b"/%d%b" % (queries, query))
            assert (got.status, got["Location"], got.body) == (status, b"/to" + added, b"moved")
    assert is_handed_over(driver, b'/3?a="')
    driver.lane.learn(lambda path: pytest.fail("what is taught is not taught again"))
    assert is_handed_over(driver, b"/0?a")


def test_what_is_absent_gets_the_page_of_now(driver: Driver) -> None:
    driver.lane.lead_to_page(b"/none", STATUSES.index(404), b"", b"", Queries.ANY)
    assert ask(driver, b"/none?x").body == b"gone!"
    driver.lane.set_not_found(b"Content-Length: 3\r\n\r\n", b"new")
    assert ask(driver, b"/none").body == b"new"


def test_where_a_file_is_evicted_or_replaced_a_lead_says_what_is_there_or_nothing(driver: Driver) -> None:
    entry = lead(driver, b"/about", b"/about.html")
    driver.lane.drop(entry)
    assert not driver.lane.holds(entry)
    assert is_handed_over(driver, b"/about")
    put(driver.lane, b"/about.html", packed(b"new"))
    assert ask(driver, b"/about").body == b"new"


def test_leads_are_void_where_any_key_leads_elsewhere_and_are_asked_for_anew(driver: Driver) -> None:
    lead(driver, b"/about", b"/about.html")
    assert driver.lane.knows(b"/about")
    driver.lane.void_leads()
    assert not driver.lane.knows(b"/about")
    assert driver.lane.knows(b"/about.html")
    driver.lane.learn(lambda path: lead(driver, path, b"/other"))
    assert ask(driver, b"/about").body == b"/other"
    driver.lane.consult(None)
    assert not driver.lane.knows(b"/about")


def test_the_log_has_the_path_that_was_asked_for(tmp_path: Path) -> None:
    driver = Driver(tmp_path, log=True)
    try:
        lead(driver, b"/about", b"/about.html", 404)
        ask(driver, b"/about?x")
        assert b'"GET /about?x HTTP/1.1" 404 11 ' in driver.lane.take_log()
    finally:
        driver.close()


def test_a_crawl_takes_bounded_memory_and_leaves_what_is_used(driver: Driver) -> None:
    rng = random.Random(7)
    lane, entry = driver.lane, lead(driver, b"/used", b"/index.html")
    padding = b"/" + b"x" * 2000
    for step in range(9000):
        if step % 1000 == 0:
            assert ask(driver, b"/used").body == b"/index.html"
        lane.lead_to_file(b"%b%d" % (padding, rng.getrandbits(60)), b"/index.html", (entry,), 0, Queries.ANY)
        lane.lead_to_page(b"/page/%d" % step, STATUSES.index(302), HEAD, b"moved" * 30, Queries.ANY)
    count, taken = lane.leads
    assert taken <= LEADS_BYTES_MAX
    assert taken > LEADS_BYTES_MAX - 8192
    assert count < 18_000
    for _ in range(200):
        lane.chores()
    assert lane.withdrawn == 0
    assert lane.knows(b"/used")
    assert not lane.knows(b"/page/0")
    lane.clear()
    for _ in range(200):
        lane.chores()
    assert lane.leads == (0, 0)


def test_a_lead_that_is_too_long_is_python_s(driver: Driver) -> None:
    lead(driver, b"/" + b"x" * 9000, b"/index.html")
    assert driver.lane.leads == (0, 0)
    assert driver.lane.knows(b"/index.html")


def test_what_no_lead_can_say_is_refused(driver: Driver) -> None:
    with pytest.raises(ValueError, match="head"):
        driver.lane.lead_to_page(b"/a", 6, b"\r\n", b"", 1)
    for status, queries in ((len(STATUSES), 1), (-1, 1), (0, 4)):
        with pytest.raises(ValueError, match="status"):
            driver.lane.lead_to_page(b"/a", status, HEAD, b"", queries)


def test_a_page_that_goes_in_the_middle_of_a_turn_is_sent_all_the_same(driver: Driver) -> None:
    """The first answers are gathered, and not sent, when Python is asked for the last one and voids them."""
    large = b"x" * 3000
    head = b"Content-Length: %d\r\nLocation: /to\r\n\r\n" % len(large)

    def teach(path: bytes) -> None:
        driver.lane.void_leads()
        for key in (b"/a", path):
            driver.lane.lead_to_page(key, STATUSES.index(302), head, large, Queries.ANY)

    teach(b"/a")
    driver.lane.learn(teach)
    request = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
    with Client(driver.where) as client:
        for _ in range(20):
            got = driver.ask(client, request % b"/a" * 10 + request % b"/b" + request % b"/a", count=12)
            assert {(one.status, one.body) for one in got} == {(302, large)}

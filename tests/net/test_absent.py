"""What the lane calls absent (net/lane/absent.pxd): which targets may be, the set of keys, and the answers.

The lane runs in the test's own thread. What a server has it know stands in tests/wire/test_absent.py.
"""

from __future__ import annotations

import _imp
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.driver import Driver, packed, put
from zcserve import Config
from zcserve.errors import HttpError
from zcserve.http import canonical_path

Lane: Any = pytest.importorskip("zcserve.net._lane").Lane

PAGE = (b"Content-Length: 5\r\n\r\n", b"gone!")


def make_lane(root: Path, keys: list[bytes]) -> Any:
    """A lane that knows these keys."""
    made = Lane(Config(root=root), False)
    made.set_not_found(*PAGE)
    made.know([keys], len(keys))
    return made


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Any]:
    """A lane that knows no key: all may be absent."""
    made = make_lane(tmp_path, [])
    yield made
    made.close()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    """A lane with clients, which knows the key /a; with a log."""
    made = Driver(tmp_path, log=True)
    made.lane.set_not_found(*PAGE)
    made.lane.know([[b"/a"]], 1)
    yield made
    made.close()


# --- which targets may be called absent -----------------------------------------------------------------------


def is_its_own_key(target: bytes) -> bool:
    """What the general lane would look up is the target itself, but for its query."""
    path = target.partition(b"?")[0]
    try:
        return canonical_path(path) == path
    except HttpError:
        return False


OWN = (
    b"/", b"/a", b"/a/", b"/.env", b"/.git/config", b"/..a", b"/...", b"/a./", b"/a..", b"/a%20b", b"/%C3%A4",
    b"/%25", b"/%22", b"/-._~!$&'()*+,;=:@", b"/a/b/c.html", b"/a?", b"/a?//b?|#", b"/%7F",
    b"/%01",
)  # fmt: skip
OTHERS = (
    b"", b"*", b"a", b"//", b"/a//b", b"/.", b"/./", b"/..", b"/../", b"/a/.", b"/a/..", b"/a/./b", b"/a/../b",
    b"/a//", b"/a#b", b"/a%", b"/a%2", b"/a%2f", b"/%2F", b"/%2E", b"/%2e", b"/%41", b"/%c3%a4",
    b"/%00", b"/%0", b"/%G0", b"/a|b", b"/\"", b"/a\\b", b"/^", b"/{}", b"/[", b"http://test/a", b"test:80",
    b"/a%20%2", b"/a%:0", b"/a%0:", b"/a%@A",
)  # fmt: skip


@pytest.mark.parametrize("target", OWN)
def test_a_target_that_is_its_own_key_may_be_absent(lane: Any, target: bytes) -> None:
    assert is_its_own_key(target)
    assert lane.is_absent(target)


@pytest.mark.parametrize("target", OTHERS)
def test_no_other_target_is_called_absent(lane: Any, target: bytes) -> None:
    assert not is_its_own_key(target)
    assert not lane.is_absent(target)


def test_what_may_be_absent_is_exactly_what_is_its_own_key(lane: Any) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    bits = st.sampled_from(b"/ . .. % %2 a %20 %2F %C3 %c3 ? // /. | %00".split())
    targets = st.lists(st.one_of(bits, st.binary(max_size=2)), max_size=8).map(lambda parts: b"/" + b"".join(parts))

    @hypothesis.settings(max_examples=200, database=None)
    @hypothesis.given(targets)
    def law(target: bytes) -> None:
        assert lane.is_absent(target) == is_its_own_key(target)

    law()


# --- the set --------------------------------------------------------------------------------------------------


def test_before_the_keys_are_told_nothing_is_absent(tmp_path: Path) -> None:
    lane = Lane(Config(root=tmp_path), False)
    lane.set_not_found(*PAGE)
    lane.add_keys([b"/a"])
    lane.remove_keys([b"/a"])
    assert not lane.is_absent(b"/a")
    lane.know([[b"/b"]], 1)
    assert (lane.is_absent(b"/a"), lane.is_absent(b"/b")) == (True, False)
    lane.close()


def test_a_present_key_is_never_called_absent_and_one_that_went_is(tmp_path: Path) -> None:
    rng = random.Random(1)
    keys = [b"/%d" % number for number in range(3000)]
    lane = make_lane(tmp_path, keys[:10])
    present = set(keys[:10])
    for share in (0.9, 0.5, 0.1, 0.7):  # it grows, and goes on, and becomes almost empty
        for _ in range(12):
            some = set(rng.sample(keys, 250))
            if rng.random() < share:
                lane.add_keys(some)
                present |= some
            else:
                lane.remove_keys(some)
                present -= some
            assert [key for key in keys if lane.is_absent(key) == (key in present)] == []
    lane.close()


def test_no_run_of_additions_and_removals_calls_a_present_key_absent(tmp_path: Path) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    piece = st.tuples(st.booleans(), st.integers(0, 4000), st.integers(0, 1500))

    @hypothesis.settings(max_examples=40, database=None, deadline=None)
    @hypothesis.given(st.lists(piece, max_size=8))
    def law(pieces: list[tuple[bool, int, int]]) -> None:
        lane = make_lane(tmp_path, [b"/"])
        present = {b"/"}
        touched = set()
        for comes, start, count in pieces:
            some = {b"/%d" % number for number in range(start, start + count)}
            touched |= some
            if comes:
                lane.add_keys(some)
                present |= some
            else:
                lane.remove_keys(some)
                present -= some
        assert not any(map(lane.is_absent, present))
        assert all(map(lane.is_absent, touched - present))
        lane.close()

    law()


def test_a_set_that_is_made_for_its_keys_takes_12_bytes_a_key_and_one_that_grows_16(tmp_path: Path) -> None:
    lane = make_lane(tmp_path, [])
    lane.know([[b"/%d" % number for number in range(20_000)]], 20_000)
    assert lane.keys_bytes == 12 * 20_000
    lane.add_keys([b"/more/%d" % number for number in range(30_000)])  # twice it is too small
    assert lane.keys_bytes <= 16 * 50_000
    assert not any(lane.is_absent(b"/%d" % number) for number in range(20_000))
    lane.close()


def test_to_grow_takes_no_key_along_but_some_for_each_that_is_added(tmp_path: Path) -> None:
    """While it moves there are two sets; the older one goes when enough was added."""
    lane = make_lane(tmp_path, [])
    lane.know([[b"/%d" % number for number in range(20_000)]], 20_000)
    before = lane.keys_bytes
    more = iter(range(20_000, 60_000))
    while lane.keys_bytes == before:
        lane.add_keys([b"/%d" % next(more)])
    both = lane.keys_bytes
    steps = 0
    while lane.keys_bytes == both:
        lane.add_keys([b"/%d" % next(more)])
        steps += 1
    assert abs(steps - before // 8 // 4) <= 2
    lane.close()


def test_the_sets_hash_is_the_one_that_python_has_for_bytes(lane: Any) -> None:
    rng = random.Random(3)
    for length in [*range(40), 1000]:
        data, key = rng.randbytes(length), rng.getrandbits(63)
        assert lane.keyed_hash(data, key, 0) == int.from_bytes(_imp.source_hash(key, data), "little")
    assert lane.keyed_hash(b"a", 1, 2) != lane.keyed_hash(b"a", 1, 3)


# --- answers --------------------------------------------------------------------------------------------------


def request(target: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """The bytes of a request of host "test"."""
    return b"\r\n".join((b"%b %b HTTP/%b" % (method, target, version), b"Host: test", *lines, b"", b""))


def test_what_is_absent_gets_the_page_with_its_prefix_and_its_line_in_the_log(driver: Driver) -> None:
    with Client(driver.where) as client:
        got = driver.ask(client, request(b"/b"))[0]
        assert (got.status, got.body) == (404, b"gone!")
        got = driver.ask(client, request(b"/b/c", method=b"HEAD"), method="HEAD")[0]
        assert (got.status, got["Content-Length"]) == (404, b"5")
        got = driver.ask(client, request(b"/b?q", b"If-None-Match: *", b"Range: bytes=0-1"))[0]
        assert (got.status, got.body) == (404, b"gone!")
    assert driver.lane.requests == 3
    lines = [re.sub(rb".* - - \[.{26}\] ", b"", line) for line in driver.lane.take_log().splitlines()]
    assert lines == [
        b'"GET /b HTTP/1.1" 404 5 "-" "-"',
        b'"HEAD /b/c HTTP/1.1" 404 0 "-" "-"',
        b'"GET /b?q HTTP/1.1" 404 5 "-" "-"',
    ]


def test_absent_and_present_answers_leave_together_in_order(driver: Driver) -> None:
    put(driver.lane, b"/a", packed(b"here"))
    with Client(driver.where) as client:
        got = driver.ask(client, request(b"/b") + request(b"/a") + request(b"/c") + request(b"/a"), count=4)
    assert [(one.status, one.body) for one in got] == [(404, b"gone!"), (200, b"here")] * 2


def test_http_10_is_closed_after_a_404(driver: Driver) -> None:
    with Client(driver.where) as client:
        assert driver.ask(client, request(b"/b", version=b"1.0"))[0].status == 404
        driver.until(lambda: not driver.lane.count)
        assert client.socket.recv(1) == b""


def test_a_present_key_that_was_not_taught_is_pythons(driver: Driver) -> None:
    with Client(driver.where) as client:
        client.send(request(b"/a"))
        _, (_, data, *_) = driver.next_taken()
    assert data == request(b"/a")


def test_a_page_that_is_replaced_while_it_is_sent_stays_until_it_is_out(driver: Driver) -> None:
    large = random.Random(4).randbytes(8 << 20)
    driver.lane.set_not_found(b"Content-Length: %d\r\n\r\n" % len(large), large)
    with Client(driver.where, receive_buffer=4096) as client:
        client.send(request(b"/b"))
        driver.until(lambda: driver.lane.requests)
        driver.lane.set_not_found(*PAGE)
        got = bytearray()
        while not got.endswith(large[-1000:]):
            driver.turn()
            got += client.socket.recv(1 << 20)
        assert driver.ask(client, request(b"/b"))[0].body == b"gone!"


def test_a_redirect_takes_the_query_along_until_its_key_is_removed(driver: Driver) -> None:
    driver.lane.put_redirect(b"/a", b"Content-Length: 5\r\nLocation: /a/\r\n\r\n", b"moved")

    def ask(target: bytes, method: str = "GET") -> Response:
        with Client(driver.where) as client:
            return driver.ask(client, request(target, method=method.encode()), method=method)[0]

    for query in (b"", b"?", b"?x=1&y?"):
        for method, body in (("GET", b"moved"), ("HEAD", b"")):
            got = ask(b"/a" + query, method)
            assert (got.status, got["Location"], got.body) == (301, b"/a/" + query, body)
    driver.lane.remove_keys([b"/a"])
    assert (ask(b"/a").status, ask(b"/a?x").status) == (404, 404)


def test_what_is_no_head_is_refused(lane: Any) -> None:
    with pytest.raises(ValueError, match="head"):
        lane.put_redirect(b"/a", b"\r\n", b"")

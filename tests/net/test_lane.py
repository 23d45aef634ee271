"""The compiled lane by itself: its tables, its parser, its log, and what it holds on to.

The lane runs in the test's own thread here: `Driver` is the loop around it.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import select
import socket
import tempfile
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mmh3
import pytest

from tests.support.client import Client
from tests.support.driver import (
    DATE,
    PLAIN,
    Driver,
    Fake,
    Held,
    at_one_time,
    bytes_sent,
    head_of,
    laid_out,
    packed,
    put,
)
from tests.support.grammar import BROWSER, Maker
from tests.support.own_sockets import own_sockets, peer_of
from tests.support.waiting import is_readable
from zcserve import Config
from zcserve.cache.evictor import tick_at
from zcserve.errors import HttpError
from zcserve.net import access_log
from zcserve.net.fastlane import CODINGS, judge
from zcserve.net.fields import CLOSE, KEEP, KEEP_10
from zcserve.net.request import Parser

Lane: Any = pytest.importorskip("zcserve.net._lane").Lane

TABLE_SIZE = 1024  # of the tables here, at first: smaller ones grow sooner


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Any]:
    """A lane with its judge."""
    made = Lane(Config(root=tmp_path), False, judge)
    size_table(made)
    yield made
    made.close()


def size_table(lane: Any) -> None:
    """Have an empty table of TABLE_SIZE."""
    lane.reserve(TABLE_SIZE // 2 - 1)
    finish(lane)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """`drive(**config)`: a driver that is closed at the end."""
    made: list[Driver] = []

    def start(**more: Any) -> Driver:
        made.append(Driver(tmp_path, **more))
        return made[-1]

    yield start
    for driver in made:
        driver.close()


# --- what is asked for the first time ---------------------------------------------------------------------------


def get(*targets: bytes) -> bytes:
    """Requests for these targets, one behind the other."""
    return b"".join(PLAIN.replace(b"/a", target) for target in targets)


@pytest.fixture
def asked(drive: Callable[..., Driver]) -> tuple[Driver, list[bytes]]:
    """A driver whose lane may ask, and what it has asked for. Each path that begins with /f leads to its own name, and
    so does /once for one query alone."""
    driver, paths = drive(pipeline_max=100), []

    def teach(path: bytes) -> None:
        paths.append(path)
        if path == b"/fails":
            raise RuntimeError
        if path.startswith((b"/f", b"/once")):
            put(driver.lane, path, packed(path), any_query=path != b"/once")

    driver.lane.learn(teach)
    return driver, paths


def test_what_is_not_known_is_asked_for_once_by_its_path(asked: tuple[Driver, list[bytes]]) -> None:
    driver, paths = asked
    with Client(driver.where) as client:
        got = driver.ask(client, get(b"/f1", b"http://test/f2?a", b"/f1?b", b"/f2", b"/f3?", b"/f1"), 6)
        assert [one.body for one in got] == [b"/f1", b"/f2", b"/f1", b"/f2", b"/f3", b"/f1"]
        assert driver.ask(client, get(b"/f4").replace(b"GET", b"HEAD"), method="HEAD")[0]["Content-Length"] == b"3"
    assert (paths, driver.taken) == ([b"/f1", b"/f2", b"/f3", b"/f4"], [])


@pytest.mark.parametrize("target", [b"/none", b"/none?f", b"/once?a", b"/fails", b"/%66"])
def test_what_is_not_taught_when_it_is_asked_for_is_handed_over(
    asked: tuple[Driver, list[bytes]], target: bytes
) -> None:
    driver, paths = asked
    with Client(driver.where) as client:
        client.send(get(b"/f1", target, b"/f2"))
        assert driver.next_taken()[1][1] == get(target, b"/f2")
        assert client.read().body == b"/f1"
    assert paths == [b"/f1", target.partition(b"?")[0]]


def test_what_is_known_to_be_absent_is_not_asked_for(asked: tuple[Driver, list[bytes]]) -> None:
    driver, paths = asked
    driver.lane.know([[b"/f1"]], 1)
    driver.lane.set_not_found(b"Content-Length: 4\r\n\r\n", b"none")
    with Client(driver.where) as client:
        assert [one.status for one in driver.ask(client, get(b"/f2", b"/f1", b"/f2?a"), 3)] == [404, 200, 404]
    assert paths == [b"/f1"]


def test_what_is_still_to_move_when_it_is_asked_for_is_moved_and_not_taught_again(
    asked: tuple[Driver, list[bytes]],
) -> None:
    driver, paths = asked
    lane = driver.lane
    size_table(lane)
    for number in range(TABLE_SIZE // 2):
        put(lane, b"/%d" % number, packed(b"%d" % number), any_query=True)
    finish(lane)
    targets = [b"/7", b"/f", b"/7", b"/8?x", b"/7"]  # the second one has the table grow
    with Client(driver.where) as client:
        assert [one.body for one in driver.ask(client, get(*targets), 5)] == [b"7", b"/f", b"7", b"8", b"7"]
    assert paths == [b"/f"]
    finish(lane)
    assert all(lane.knows(b"/%d" % number) for number in range(TABLE_SIZE // 2))


def test_a_lane_that_is_closed_asks_no_more(lane: Any) -> None:
    teacher = Fake()
    end = weakref.ref(teacher)
    lane.learn(partial(setattr, teacher, "key"))
    del teacher
    assert end() is not None
    lane.close()
    assert end() is None


# --- the hash -------------------------------------------------------------------------------------------------


def test_the_hash_is_mmh3s(lane: Any) -> None:
    rng = random.Random(1)
    for length in [*range(70), 1000, 8192]:
        for _ in range(5):
            key = rng.randbytes(length)
            assert lane.hash(key) == mmh3.hash(key, lane.hash_seed, signed=False)


def test_the_hash_is_mmh3s_whatever_the_key(lane: Any) -> None:
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.given(hypothesis.strategies.binary())
    def law(key: bytes) -> None:
        assert lane.hash(key) == mmh3.hash(key, lane.hash_seed, signed=False)

    law()


def finish(lane: Any) -> None:
    """Have all done that is done in pieces."""
    while lane.chores():
        pass


# --- the table ------------------------------------------------------------------------------------------------


def crowded_keys(seed: int) -> list[bytes]:
    """Keys that want the same few slots at the table's end and beginning, and some with equal hashes."""
    keys = (b"/%d" % number for number in range(200_000))
    crowded = [key for key in keys if (mmh3.hash(key, seed, signed=False) + 2) % TABLE_SIZE < 4]
    return crowded + keys_of_one_hash(2)


def test_the_table_does_what_a_dict_does(lane: Any) -> None:
    rng = random.Random(2)
    keys = crowded_keys(lane.hash_seed)
    model: dict[bytes, Fake] = {}
    for step in range(6000):
        key = rng.choice(keys)
        if rng.random() < (0.6 if step < 3000 else 0.3):
            model[key] = Fake()
            put(lane, key, packed(b"", model[key]))
        elif key in model:
            lane.drop(model.pop(key))
        if rng.random() < 0.01:
            lane.chores()  # of what moves to a larger table
        if step % 500 == 0:
            finish(lane)
            assert [key for key in keys if lane.knows(key)] == [key for key in keys if key in model]
    assert all(lane.holds(entry) for entry in model.values())
    for entry in model.values():
        lane.drop(entry)
    assert not any(lane.knows(key) for key in keys)


def keys_of_one_hash(pairs: int) -> list[bytes]:
    """2 ** pairs keys whose MurmurHash3 is the same under every seed: a difference in one block is taken back by the
    next. The function's first steps are undone, so that the state is what is wished for."""

    def block(mixed: int) -> bytes:
        word = mixed * pow(0x1B873593, -1, 1 << 32) % (1 << 32)
        word = (word >> 15 | word << 17) % (1 << 32)
        return (word * pow(0xCC9E2D51, -1, 1 << 32) % (1 << 32)).to_bytes(4, "little")

    two = [block(1) + block(1), block(1 ^ 1 << 18) + block(1 ^ 1 << 31)]
    return [b"/ab=" + b"".join(blocks) for blocks in itertools.product(two, repeat=pairs)]


def test_keys_that_collide_under_every_seed_hold_nothing_up(lane: Any) -> None:
    keys = keys_of_one_hash(11)
    assert len({lane.hash(key) for key in keys}) == 1
    for key in keys:
        put(lane, key, packed(b""))
    finish(lane)
    known = [key for key in keys if lane.knows(key)]
    assert len(known) == 256  # what a search looks at; the rest is the general lane's
    others = [b"/%d" % number for number in range(1000)]
    for key in others:
        put(lane, key, packed(b""))
    finish(lane)
    assert all(lane.knows(key) for key in known)
    assert sum(lane.knows(key) for key in others) > 900  # but for those whose search begins among them
    for key in known[::2]:
        lane.forget_key(key)
    assert [lane.knows(key) for key in known] == [False, True] * 128
    for key in others:
        put(lane, key, packed(b""))
    finish(lane)
    assert all(lane.knows(key) for key in others)


def test_each_lane_has_a_seed_of_its_own(tmp_path: Path) -> None:
    seeds = {Lane(Config(root=tmp_path), False).hash_seed for _ in range(5)}
    assert len(seeds) > 1


def test_one_entry_under_two_keys_goes_at_once(lane: Any) -> None:
    entry, other = packed(b"x"), packed(b"y")
    for key in (b"/d/index.html", b"/d/"):
        put(lane, key, entry)
    put(lane, b"/d/x", other)
    lane.drop(entry)
    assert [lane.knows(key) for key in (b"/d/index.html", b"/d/", b"/d/x")] == [False, False, True]
    assert [lane.holds(one) for one in (entry, other)] == [False, True]


def test_an_entry_goes_from_all_keys_that_it_was_put_under(lane: Any) -> None:
    entries = [packed(b"x") for _ in range(300)]
    for number, entry in enumerate(entries):
        for under in (b"/%d.html", b"/%d", b"/%d/"):
            put(lane, under % number, entry)
    finish(lane)
    for entry in entries[::2]:
        lane.drop(entry)
    known = [[lane.knows(under % number) for under in (b"/%d.html", b"/%d", b"/%d/")] for number in range(300)]
    assert known == [[False] * 3, [True] * 3] * 150
    assert [lane.holds(entry) for entry in entries] == [False, True] * 150


def test_an_entry_is_taught_under_so_many_keys_that_all_can_go_in_one_step(lane: Any) -> None:
    entry = packed(b"x")
    for number in range(300):
        put(lane, b"/%d" % number, entry)
    finish(lane)
    assert sum(lane.knows(b"/%d" % number) for number in range(300)) == 256
    lane.drop(entry)
    put(lane, b"/again", entry)
    assert [lane.knows(b"/255"), lane.knows(b"/again")] == [False, True]


def test_clear_forgets_everything(lane: Any) -> None:
    entries = [Fake() for _ in range(2000)]
    for number, entry in enumerate(entries):
        put(lane, b"/%d" % number, packed(b"x", entry))
    lane.clear()
    assert not any(lane.holds(entry) for entry in entries)
    assert not any(lane.knows(b"/%d" % number) for number in range(2000))


def test_what_a_clear_gives_up_goes_in_pieces(lane: Any) -> None:
    entries = [Fake() for _ in range(2000)]
    for number, entry in enumerate(entries):
        put(lane, b"/%d" % number, packed(b"x", entry))
    finish(lane)
    ends = [weakref.ref(entry) for entry in entries]
    lane.clear()
    put(lane, b"/1", packed(b"another"))
    del entries, entry
    left = [sum(end() is not None for end in ends)]
    while lane.poll(0) == [] and left[-1]:
        left.append(sum(end() is not None for end in ends))
    assert max(before - after for before, after in itertools.pairwise([2000, *left])) <= 256
    assert lane.knows(b"/1")


def test_a_table_grows_in_pieces_and_forgets_nothing(lane: Any) -> None:
    entries = {b"/%d" % number: Fake() for number in range(5000)}
    known = []
    for key, entry in entries.items():
        put(lane, key, packed(b"x", entry))
        known.append(sum(lane.knows(other) for other in (b"/0", key)))
    assert 1 in known  # what is still to move is the general lane's meanwhile
    lane.drop(entries[b"/7"])
    lane.forget_key(b"/8")
    finish(lane)
    assert [key for key in entries if not lane.knows(key)] == [b"/7", b"/8"]
    assert [key for key, entry in entries.items() if not lane.holds(entry)] == [b"/7", b"/8"]


def test_what_is_put_again_before_it_has_moved_is_there_once(lane: Any) -> None:
    for number in range(513):  # one more than a table of 1024 takes
        put(lane, b"/%d" % number, packed(b"x"))
    again = [key for number in range(513) if not lane.knows(key := b"/%d" % number)]
    for key in again:
        put(lane, key, packed(b"y"))
    finish(lane)
    for key in again:
        lane.forget_key(key)
        assert not lane.knows(key)


def test_a_table_that_is_large_enough_does_not_grow(lane: Any) -> None:
    lane.reserve(5000)
    finish(lane)
    for number in range(5000):
        put(lane, b"/%d" % number, packed(b"x"))
        assert not lane.chores()


def test_uses_are_told_in_pieces(drive: Callable[..., Driver]) -> None:
    driver = drive()
    entries = [Fake() for _ in range(50)]
    for number, entry in enumerate(entries):
        put(driver.lane, b"/%d" % number, packed(b"x", entry))
    with Client(driver.where) as client:
        driver.ask(client, b"".join(PLAIN.replace(b"/a", b"/%d" % number) for number in range(50)), 50)
    told = []
    while driver.lane.drain_ticks(20):
        told.append(sum(entry.uses for entry in entries))
    assert told == [20, 40]
    assert [entry.uses for entry in entries] == [1] * 50


def test_the_collector_does_not_see_what_is_taught(lane: Any) -> None:
    gc.collect()
    before = len(gc.get_objects())
    taught = [(b"/%d" % number, packed(b"x", Fake())) for number in range(300)]
    seen = len(gc.get_objects()) - before
    for key, representation in taught:
        put(lane, key, representation)
    assert len(gc.get_objects()) - before - seen < 300


def test_one_key_is_forgotten_and_no_other_of_its_entry(lane: Any) -> None:
    entry = Fake()
    for key in (b"/index.html", b"/"):
        put(lane, key, packed(b"x", entry))
    lane.forget_key(b"/")
    lane.forget_key(b"/never")
    assert [lane.knows(key) for key in (b"/", b"/index.html")] == [False, True]
    assert lane.holds(entry)


def test_all_representations_go_with_one(lane: Any) -> None:
    base, variant = Fake(), Fake()
    put(lane, b"/a", packed(b"long", base), packed(b"s", variant, coding=2))
    lane.drop(variant)
    assert not lane.knows(b"/a")
    assert not lane.holds(base)


def test_what_is_dropped_is_let_go(lane: Any) -> None:
    representations = [packed(b"x") for _ in range(4)]
    ends = [weakref.ref(thing) for one in representations for thing in (one, one.body)]
    for number, one in enumerate(representations):
        put(lane, b"/%d" % number, one)
    lane.drop(representations[0])
    put(lane, b"/1", packed(b"another"))
    del representations, one
    lane.poll(0)  # what is replaced is freed in the next turn
    gc.collect()
    assert [end() is None for end in ends] == [True] * 4 + [False] * 4
    lane.clear()
    assert all(end() is None for end in ends)


def test_a_lane_that_ends_lets_everything_go(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive()
    one, other = packed(b"x"), packed(bytes(8 << 20))
    ends = [weakref.ref(thing) for entry in (one, other) for thing in (entry, entry.body)]
    put(driver.lane, b"/a", one)
    put(driver.lane, b"/large", other)
    with Client(driver.where, receive_buffer=4096) as client:
        assert driver.ask(client, PLAIN)[0].body == b"x"
        put(driver.lane, b"/a", packed(b"y"))  # the first one's tick is not drained yet
        client.send(PLAIN.replace(b"/a", b"/large"))
        driver.until(partial(driver.lane.pinned, other))
        driver.lane.drop(other)
        del one, other
        assert [end() is None for end in ends[2:]] == [False, False]
        driver.close()
        driver.lane = Lane(Config(root=tmp_path), False)
        gc.collect()
        assert all(end() is None for end in ends)


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": b"x"}, {"etag": b"other"}, {"etag": b'"tag"\r\n\r\nx'}, {"etag": bytes(1 << 16)}, {"size": 2},
        {"size": -1}, {"start": 1}, {"start": -1}, {"length": 10_000}, {"length": 20}, {"length": 0}, {"length": -1},
        {"length": 1 << 40}, {"lead": b"Content-Length: 2"}, {"lead": b"Content-Length: 1 "},
        {"lead": b"Content-length: 1"}, {"lead": b"A: B"},
    ],
)  # fmt: skip
def test_what_does_not_add_up_is_refused(lane: Any, change: dict[str, Any]) -> None:
    one = packed(b"x")
    assert one.body is not None
    assert one.body.where is not None
    buffer, start, length, *rest = one.body.where
    if lead := change.get("lead"):
        buffer = lead + buffer[len(b"Content-Length: 1") :]
        length = len(buffer) - 1
    one.body.where = buffer, change.get("start", start), change.get("length", length), *rest
    one.body.size = change.get("size", 1)
    one.encoding, one.etag = change.get("encoding", b""), change.get("etag", b'"tag"')
    with pytest.raises((ValueError, OverflowError)):
        put(lane, b"/a", one)
    assert not lane.knows(b"/a")
    assert not lane.holds(one)


def test_a_resource_is_taught_whole_or_not_at_all(lane: Any) -> None:
    whole, evicted, elsewhere = (packed(b"x", coding=coding) for coding in range(3))
    assert elsewhere.body is not None
    evicted.body = elsewhere.body.where = None
    for other in (evicted, elsewhere):
        put(lane, b"/a", whole)
        put(lane, b"/a", whole, other)
        assert not lane.knows(b"/a")


def test_what_is_evicted_while_it_is_taught_is_not_kept(lane: Any) -> None:
    one, other = packed(b"x"), packed(b"y", coding=1)
    assert other.body is not None
    other.body.place, place = lambda: (setattr(one, "body", None), place())[1], other.body.place  # type: ignore[method-assign]
    put(lane, b"/a", one, other)
    assert not lane.knows(b"/a")
    assert not lane.holds(other)


@pytest.mark.parametrize("count", [0, 5])
def test_no_or_too_many_representations_are_not_taken(lane: Any, count: int) -> None:
    put(lane, b"/a", *(packed(b"x") for _ in range(count)))
    assert not lane.knows(b"/a")


def test_descriptors_that_are_not_pythons_are_refused(lane: Any) -> None:
    for fd in (-1, 0, 1 << 20):
        with pytest.raises(ValueError, match="no connection"):
            lane.resume(fd, time.monotonic())
        with pytest.raises(ValueError, match="no connection"):
            lane.introduce(fd, socket.AF_INET, bytes(4))
        lane.forget(fd)
        assert lane.take(fd) is None


# --- what values mean -----------------------------------------------------------------------------------------

UNSURE = b"a-coding-without-a-number;q=0.5, another;q=0"  # of this C cannot tell the qualities
ANOTHER = b"a-coding-without-number-%d;q=0.5, another;q=0"


class Judge:
    """The judge, which counts what it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[bytes] = Counter()

    def __call__(self, kind: int, value: bytes) -> tuple[int, ...]:
        """As `judge`."""
        self.asked[value] += 1
        return judge(kind, value)


def accepts(lane: Any, value: bytes) -> bool:
    """Whether the lane knows what an Accept-Encoding means."""
    return lane.parse(b"GET /a HTTP/1.1\r\nHost: test\r\nAccept-Encoding: %b\r\n\r\n" % value) is not None


def test_what_c_is_unsure_about_is_asked_of_python_and_remembered_at_second_sight(tmp_path: Path) -> None:
    ask = Judge()
    lane = Lane(Config(root=tmp_path), False, ask)
    assert [accepts(lane, UNSURE) for _ in range(5)] == [True] * 5
    assert accepts(lane, b"gzip, br")
    assert ask.asked == {UNSURE: 2}


def test_without_a_judge_what_c_is_unsure_about_is_not_the_lanes(tmp_path: Path) -> None:
    assert not accepts(Lane(Config(root=tmp_path), False), UNSURE)


def test_a_value_is_known_as_what_it_was_judged_as(lane: Any) -> None:
    for _ in range(3):
        assert lane.parse(b"GET /a HTTP/1.1\r\nHost: [::1]\r\nAccept-Encoding: [::1]\r\n\r\n") is not None
        assert lane.parse(b"GET /a HTTP/1.1\r\nHost: [::g]\r\n\r\n") is None
        assert lane.parse(b"GET /a HTTP/1.1\r\nHost: %b\r\n\r\n" % UNSURE) is None


@pytest.mark.parametrize("sights", [1, 2])
def test_a_flood_of_new_values_drives_out_nothing_that_is_in_use(tmp_path: Path, sights: int) -> None:
    ask = Judge()
    lane = Lane(Config(root=tmp_path), False, ask)
    used = [ANOTHER % number for number in range(100, 120)]
    for value in used * 100:
        assert accepts(lane, value)
    for number in range(3000):
        for _ in range(sights):
            assert accepts(lane, ANOTHER % (1000 + number))
        for value in used if number % 30 == 0 else ():
            assert accepts(lane, value)
    # Where four of the twenty share a place by their hashes, a fifth value drives one of them out (1 lane of 100).
    assert sum(ask.asked[value] != 2 for value in used) <= 4


def test_new_clients_that_take_long_are_few_in_a_turn(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(bytes(1 << 20)))
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(Client(driver.where)).send(PLAIN)
        driver.turn()
        assert 8 <= driver.lane.count < 30  # 8 to 16: a megabyte takes the kernel some 0.1 ms
        driver.until(lambda: driver.lane.count == 40)


def test_of_accept_encodings_of_one_length_each_means_what_it_says(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"identity"), packed(b"br", coding=1), packed(b"gz", coding=2))
    expected = {b"gzip": b"gz", b"zstd": b"identity", b",br,": b"br", b"": b"identity", b",,,,": b"identity"}
    rng = random.Random(1)
    with Client(driver.where) as client:
        for _ in range(200):
            value, body = rng.choice(list(expected.items()))
            request = PLAIN[:-2] + b"Accept-Encoding: %b\r\n\r\n" % (value + b"," * rng.choice((0, 0, 3)))
            assert driver.ask(client, request)[0].body == body


def test_long_values_are_judged_each_time(tmp_path: Path) -> None:
    ask = Judge()
    lane = Lane(Config(root=tmp_path), False, ask)
    at_limit, beyond = UNSURE.rjust(512, b"x"), UNSURE.rjust(513, b"x")
    for _ in range(5):
        assert accepts(lane, at_limit)
        assert accepts(lane, beyond)
    assert ask.asked == {at_limit: 2, beyond: 5}


@pytest.mark.parametrize("meaning", [(), (1, 2, 3), (1,) * 5, None, "four", ("1",) * 4, (1 << 64, 0, 0, 0)])
def test_a_meaning_that_is_none_makes_the_request_the_general_lanes(tmp_path: Path, meaning: Any) -> None:
    lane = Lane(Config(root=tmp_path), False, lambda kind, value: meaning)
    assert not any(accepts(lane, UNSURE) for _ in range(3))


def test_a_judge_that_raises_makes_the_request_the_general_lanes(tmp_path: Path) -> None:
    lane = Lane(Config(root=tmp_path), False, partial(int, b"no number"))
    assert not any(accepts(lane, UNSURE) for _ in range(3))


# --- the parser -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (PLAIN, (len(PLAIN), b"GET", b"/a", KEEP)),
        (PLAIN.replace(b"GET", b"HEAD") + b"more", (len(PLAIN) + 1, b"HEAD", b"/a", KEEP)),
        (PLAIN.replace(b"1.1", b"1.0"), (len(PLAIN), b"GET", b"/a", CLOSE)),
        (b"GET / HTTP/1.0\r\n\r\n", (18, b"GET", b"/", CLOSE)),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive\t\r\n\r\n", (43, b"GET", b"/", KEEP_10)),
        (b"GET / HTTP/1.0\r\nConnection: x\r\n\r\n", (33, b"GET", b"/", CLOSE)),
        (b"GET / HTTP/1.1\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: other\r\n\r\n", (31, b"GET", b"/", KEEP)),
        (b"GET / HTTP/1.1\r\nHost: oth er\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: test\r\nhost: test\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nhOsT:test\r\n\r\n", (29, b"GET", b"/", KEEP)),
        (b"POST / HTTP/1.1\r\nHost: test\r\n\r\n", (31, b"POST", b"/", KEEP)),
        (b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nabGET", (51, b"PUT", b"/", KEEP)),
        (b"PATCH / HTTP/1.0\r\ncontent-length:0 \r\n\r\nGET", (39, b"PATCH", b"/", CLOSE)),
        (b"DELETE / HTTP/1.1\r\nContent-Length: 3\r\nHost: test\r\n\r\nabc", (55, b"DELETE", b"/", KEEP)),
        (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nab", None),
        (b"POSTS / HTTP/1.1\r\nHost: test\r\n\r\n", None),
        (b"OPTIONS / HTTP/1.1\r\nHost: test\r\n\r\n", None),
        (b"get / HTTP/1.1\r\nHost: test\r\n\r\n", None),
        (b"\r\n" + PLAIN, None),
    ]
    + [(PLAIN[:length], None) for length in range(len(PLAIN))],
)
def test_heads(lane: Any, head: bytes, expected: Any) -> None:
    assert lane.parse(head) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"Range: bytes=0-1\r\nRange: bytes=0-1", b"If-Range: x\r\nIf-Range: x", b"If-Match: *\r\nIf-Match: *",
        b"If-None-Match: *\r\nIf-None-Match: *", b"If-Modified-Since: x\r\nIf-Modified-Since: x",
        b"If-Unmodified-Since: x\r\nIf-Unmodified-Since: x", b"Expect: 100-continue", b"Content-Length: 0",
        b"Transfer-Encoding: chunked", b"Connection: upgrade",
        b" folded", b"no colon", b": no name", b"Na me: x", b"Name : x", b"Name: \x00",
        b"Name: \x7f", b"Name: a\nb", b"Name: a\rb", b"N\x80: x",
    ],
)  # fmt: skip
def test_lines_that_are_not_the_lanes(lane: Any, line: bytes) -> None:
    assert lane.parse(b"GET / HTTP/1.1\r\nHost: test\r\n%b\r\n\r\n" % line) is None
    assert lane.parse(b"GET / HTTP/1.1\r\n%b\r\nHost: test\r\n\r\n" % line) is None


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 1\r\nContent-Length: 1", b"Content-Length: 1, 1", b"Content-Length: 01",
        b"Content-Length: +1", b"Content-Length: -0", b"Content-Length: 1 1", b"Content-Length:",
        b"Content-Length: 0x1", b"Content-Length: 1;",
        b"Content-Length: 4294967297", b"Content-Length: 18446744073709551617", b"Content-Length: 00",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 1",
        b"Content-Length: 1\r\nTransfer-Encoding: identity", b"Transfer-Encoding: chunked", b"Content-Length : 1",
        b"Content-Length: 1\r\nExpect: 100-continue", b"Content-Length:\x0b1", b"Content-Length: \xb1",
        b" Content-Length: 1", b"Content-Length: 1\r\n 2", b"Content-Length: 1\n", b"Content-Length: 1.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE"])
def test_a_body_whose_end_could_be_read_in_two_ways_is_not_the_lanes(lane: Any, method: bytes, lines: bytes) -> None:
    body = b"1\r\nx\r\n0\r\n\r\n" + b"x" * 1000
    assert lane.parse(b"%b / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n%b" % (method, body)) is not None
    assert lane.parse(b"%b / HTTP/1.1\r\nHost: test\r\n%b\r\n\r\n%b" % (method, lines, body)) is None
    assert lane.parse(b"%b / HTTP/1.1\r\n%b\r\nHost: test\r\n\r\n%b" % (method, lines, body)) is None


def test_a_browsers_head_is_the_lanes(lane: Any) -> None:
    lines = b"".join(b"%b: %b\r\n" % field for field in (*BROWSER, (b"Cookie", b"never=seen"), (b"X", b"\t\x80\xff ")))
    assert lane.parse(b"GET / HTTP/1.1\r\nHost: test\r\n" + lines + b"\r\n") is not None


def verdict_on(parser: Parser, data: bytes) -> int:
    """What the general lane says of a head: 200, or the status of its refusal."""
    try:
        return 200 if parser.parse(data, 0) is not None else 0
    except HttpError as error:
        return error.status


def test_limits_are_the_general_lanes(tmp_path: Path) -> None:
    config = Config(root=tmp_path, head_bytes_max=2048, head_fields_max=20, target_bytes_max=300)
    lane, parser = Lane(config, False), Parser(config)
    heads = [b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % (b"x" * count) for count in range(290, 310)]
    heads += [b"GET / HTTP/1.1\r\nHost: test\r\n%b\r\n" % (b"A: b\r\n" * count) for count in range(15, 25)]
    heads += [b"GET / HTTP/1.1\r\nHost: test\r\nX: %b\r\n\r\n" % (b"x" * count) for count in range(1990, 2040)]
    verdicts = {(verdict_on(parser, head) == 200, lane.parse(head) is not None) for head in heads}
    assert verdicts == {(True, True), (False, False)}


# --- answers, their log and their numbers ---------------------------------------------------------------------


def test_a_hit_is_answered_and_counted(drive: Callable[..., Driver]) -> None:
    driver = drive()
    lane = driver.lane
    put(lane, b"/a", packed(b"content"))
    not_modified = PLAIN[:-2] + b'If-None-Match: "tag"\r\n\r\n'
    with Client(driver.where) as client:
        got = driver.ask(client, PLAIN + not_modified + PLAIN, 3)
        assert [(one.status, one.body) for one in got] == [(200, b"content"), (304, b""), (200, b"content")]
        assert driver.ask(client, PLAIN.replace(b"GET", b"HEAD"), method="HEAD")[0].head.endswith(b'ETag: "tag"')
        assert lane.requests == 4
        assert (lane.count, lane.foreign) == (1, 0)
    driver.until(lambda: lane.count == 0)


@pytest.mark.parametrize("any_query", [False, True])
def test_a_query_leads_where_its_path_does_only_if_any_does(drive: Callable[..., Driver], any_query: bool) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"), any_query=any_query)
    with Client(driver.where) as client:
        request = PLAIN.replace(b"/a", b"/a?b?c")
        if any_query:
            assert driver.ask(client, request)[0].body == b"content"
            request = PLAIN.replace(b"/a", b"/?/a")
        client.send(request)
        assert driver.next_taken()[1][1] == request


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ((1000, 0, 0, 0), b"identity"), ((1000, 1000, 1000, 0), b"br"), ((1, 0, 1, 0), b"gz"),
        ((5, 4, 3, 0), b"identity"), ((0, 1, 2, 0), b"gz"), ((0, 0, 0, 0), None), ((0, 0, 0, 1000), None),
    ],
)  # fmt: skip
def test_the_representation_that_is_wanted(
    drive: Callable[..., Driver], accept: tuple[int, ...], expected: bytes | None
) -> None:
    driver = drive()
    weights = [
        b"%b;q=%.3f" % (coding or b"identity", quality / 1000) for coding, quality in zip(CODINGS, accept, strict=True)
    ]
    put(driver.lane, b"/a", packed(b"identity"), packed(b"br", coding=1), packed(b"gz", coding=2))
    with Client(driver.where) as client:
        request = PLAIN[:-2] + b"Accept-Encoding: %b\r\n\r\n" % b", ".join(weights)
        if expected is not None:
            assert driver.ask(client, request)[0].body == expected
        else:
            client.send(request)
            driver.until(lambda: driver.taken)
            assert driver.taken[0][1][1] == request


@pytest.mark.parametrize(
    "rest",
    [
        b"GET /unknown HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /a HTT",
        b"\0",
        b"POST /a HTTP/1.1\r\nHost: test\r\n\r\nbody",
    ],
)
def test_the_rest_is_handed_over_with_its_bytes(drive: Callable[..., Driver], rest: bytes) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with Client(driver.where) as client:
        assert driver.ask(client, PLAIN + rest)[0].body == b"content"
        driver.until(lambda: driver.taken)
        assert driver.taken[0][1][:6] == ("127.0.0.1", rest, True, False, None, b"")
        assert (driver.lane.count, driver.lane.foreign) == (0, 1)


def test_a_connection_comes_back_with_what_came_meanwhile(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with Client(driver.where) as client:
        client.send(b"x")
        fd, _ = driver.next_taken()
        client.send(PLAIN)
        client.socket.shutdown(socket.SHUT_WR)
        arrived = select.poll()
        arrived.register(fd, select.POLLRDHUP)
        assert arrived.poll(20_000)
        driver.turn()  # tells Python of it, which does nothing
        driver.lane.resume(fd, time.monotonic())
        driver.until(lambda: driver.lane.count == 0)  # it saw the end, too
        assert client.read().body == b"content"
        assert client.at_end()


def test_the_tick_of_the_last_use_is_told(drive: Callable[..., Driver]) -> None:
    driver = drive()
    base, variant = Fake(), Fake()
    put(driver.lane, b"/a", packed(b"content", base), packed(b"c", variant, coding=1))
    with Client(driver.where) as client:
        before = tick_at(time.monotonic())
        driver.ask(client, PLAIN)
        assert base.tick == 0
        driver.lane.drain_ticks()
        assert before < base.tick <= tick_at(time.monotonic())
        assert variant.tick == 0
        first = base.tick
        driver.lane.drain_ticks()
        assert base.tick == first
        driver.ask(client, PLAIN)
        driver.lane.drain_ticks()
        assert base.tick > first
        assert (base.uses, variant.uses) == (2, 0)


def requests_for_the_log() -> list[bytes]:
    rng = random.Random(3)
    maker = Maker(rng, [b"/a"], [b'"tag"', b'"other"'], mischief=0)
    made = [maker.request() for _ in range(60)]
    odd = [b'"', b"\\", b"\xe4", b"\t", b"x" * 1024, b"x" * 1025, b"", b"'{}"]
    twice = b"GET /a HTTP/1.1\r\nHost: test\r\n%b: one\r\n%b: two\r\n\r\n"
    made += [twice % (name, name) for name in (b"User-Agent", b"Referer")]
    return made + [
        b"GET /a HTTP/1.1\r\nHost: test\r\nUser-Agent: %b\r\nReferer: %b\r\n\r\n" % (one, one[::-1]) for one in odd
    ]


@pytest.mark.parametrize("form", ["combined", "json"])
@pytest.mark.parametrize(
    ("family", "peer"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_UNIX, "unix:")]
)
def test_log_lines_are_the_general_lanes(
    drive: Callable[..., Driver], form: str, family: Any, peer: str, tmp_path: Path
) -> None:
    if family == socket.AF_INET6:
        try:
            socket.create_server(("::1", 0), family=family).close()
        except OSError:
            pytest.skip("no IPv6 here")
    driver = drive(log=True, family=family, access_log="-", access_log_format=form)
    lane = driver.lane
    write = access_log.as_json if form == "json" else access_log.as_combined
    parser = Parser(Config(root=tmp_path), log_fields=True)
    put(lane, b"/a", packed(b"content"))
    answered = 0
    for request in requests_for_the_log():
        method, target, fields, _ = parser.parse(request, 0) or pytest.fail("not a request")
        with Client(driver.where) as client:
            client.send(request)
            before, began = lane.requests, int(time.time())
            driver.until(lambda before=before: lane.requests > before or driver.taken)
            if driver.taken:
                fd, _ = driver.taken.pop()
                lane.forget(fd)
                socket.socket(fileno=fd).close()
                assert lane.take_log() == b""
                continue
            response = client.read(method=method.decode())
            record = (peer, method, target, fields, response.status, len(response.body), 0, access_log.NOTHING, b"")
            seconds = range(began, int(time.time()) + 1)
            assert lane.take_log().decode() in [write((second, *record)) for second in seconds]
            answered += 1
    assert answered > 40


def test_clients_that_queue_up_are_each_given_what_is_theirs(drive: Callable[..., Driver]) -> None:
    driver = drive()
    lane = driver.lane
    put(lane, b"/a", packed(b"content"))
    says = [PLAIN, PLAIN[:-2] + b"Connection: close\r\n\r\n", b"", b"GET /a HT", PLAIN + b"TRACE"]
    # More than a listener accepts at a time, and those that are handed over come between the others.
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(driver.where)) for _ in range(120)]
        for client, said in zip(clients, itertools.cycle(says), strict=False):
            client.send(said)
        driver.until(lambda: lane.count == 48 and lane.foreign == 48)
        assert lane.requests == 72
        assert sorted(data for _, (_, data, *_) in driver.taken) == [b"GET /a HT"] * 24 + [b"TRACE"] * 24
        for client, said in zip(clients, itertools.cycle(says), strict=False):
            if PLAIN[:-2] in said:
                assert client.read().body == b"content"
            if b"close" in said:
                assert client.at_end()
        clients[0].send(PLAIN)  # a connection that was served at once is watched all the same
        clients[2].send(PLAIN)
        driver.until(lambda: lane.requests == 74)
        clients[0].close()
        clients[2].close()
        driver.until(lambda: lane.count == 46)


# --- sockets that take little ---------------------------------------------------------------------------------


def test_a_pipeline_longer_than_the_socket_takes_is_answered_in_order(drive: Callable[..., Driver]) -> None:
    driver = drive(log=True)
    contents = [random.Random(number).randbytes(60_000) for number in range(20)]
    for number, content in enumerate(contents):
        put(driver.lane, b"/%d" % number, packed(content))
    stream = b"".join(b"GET /%d HTTP/1.1\r\nHost: test\r\n\r\n" % number for number in range(20))
    received = b""
    expected = b"".join(b"HTTP/1.1 200 OK\r\n" + DATE + laid_out(packed(content)) for content in contents) * 3
    with Client(driver.where, receive_buffer=4096) as client:
        client.send(stream * 3)
        while len(received) < len(expected):
            driver.turn()
            if is_readable(client.socket):
                received += client.socket.recv(8192)
    assert at_one_time(received) == expected
    logged = [line.split(b'"')[1] for line in driver.lane.take_log().splitlines()]
    assert logged == [b"GET /%d HTTP/1.1" % number for number in range(20)] * 3
    assert driver.lane.requests == 60
    assert bytes_sent(driver.lane) == len(expected)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
@pytest.mark.parametrize("seed", range(8))
def test_answers_are_whole_and_in_order_wherever_the_socket_stops(
    drive: Callable[..., Driver], seed: int, family: Any
) -> None:
    rng = random.Random(seed)
    driver = drive(log=True, family=family)
    driver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    expected, stream, logged = b"", b"", []
    for number in range(150):
        content = rng.randbytes(rng.choice((0, 10, 100, 500, 3000)))
        whole = packed(content)
        put(driver.lane, b"/%d" % number, whole)
        method, known, last = rng.choice((b"GET", b"GET", b"HEAD")), rng.random() < 0.2, number == 149
        stream += b"%b /%d HTTP/1.1\r\nHost: test\r\n" % (method, number)
        stream += b'If-None-Match: "tag"\r\n' * known + b"Connection: close\r\n" * last + b"\r\n"
        expected += b"HTTP/1.1 304 Not Modified\r\n" if known else b"HTTP/1.1 200 OK\r\n"
        expected += DATE + b"Connection: close\r\n" * last
        head = head_of(whole)
        expected += head[head.index(b"ETag") :] if known else head
        sent = content if method == b"GET" and not known else b""
        expected += sent
        logged.append(b"/%d %d" % (number, len(sent)))
    received = b""
    with Client(driver.where, receive_buffer=4096) as client:
        client.send(stream)
        while True:
            driver.turn()
            if rng.random() < 0.7 and is_readable(client.socket):
                data = client.socket.recv(rng.choice((1, 50, 1000, 8000)))
                if not data:
                    break
                received += data
    assert at_one_time(received) == expected
    lines = [line.split() for line in driver.lane.take_log().splitlines()]
    assert [words[6] + b" " + words[9] for words in lines] == logged


@pytest.mark.parametrize("is_mapped", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_parts_are_whole_and_in_order_wherever_the_socket_stops(
    drive: Callable[..., Driver], seed: int, is_mapped: bool
) -> None:
    rng = random.Random(seed)
    driver = drive()
    driver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    content = rng.randbytes(30_000)
    slab = packed(content)
    head = head_of(slab)
    expected, stream, received = b"", b"", b""
    with tempfile.TemporaryFile() as file, Client(driver.where, receive_buffer=4096) as client:
        file.write(b"before" + content)
        file.flush()
        if is_mapped:
            driver.lane.map(file.fileno(), len(content))
        put(driver.lane, b"/slab", slab)
        put(driver.lane, b"/pages", Fake(Held(head, content, fd=file.fileno(), offset=6)))
        for _ in range(80):
            start = rng.randrange(len(content))
            stop = min(start + rng.choice((1, 10, 1000, 5000, 20_000)), len(content))
            target = rng.choice((b"/slab", b"/pages"))
            stream += b"GET %b HTTP/1.1\r\nHost: test\r\nRange: bytes=%d-%d\r\n\r\n" % (target, start, stop - 1)
            expected += b"HTTP/1.1 206 Partial Content\r\n%bContent-Length: %d\r\n" % (DATE, stop - start)
            expected += b"Content-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, len(content))
            expected += head[head.index(b"\n") + 1 :] + content[start:stop]
        client.send(stream)
        while len(received) < len(expected):
            driver.turn()
            if rng.random() < 0.7 and is_readable(client.socket):
                received += client.socket.recv(rng.choice((1, 50, 1000, 8000)))
    assert at_one_time(received) == expected


def test_a_connection_with_unread_bytes_is_not_shed(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with Client(driver.where) as silent, Client(driver.where) as speaker:
        for client in (silent, speaker):
            driver.ask(client, PLAIN)
        assert driver.lane.shed(0) == 0
        driver.until(lambda turn=driver.lane.turn: driver.lane.turn > turn + 1)
        speaker.send(PLAIN)
        assert driver.lane.shed(2) == 1
        assert driver.lane.count == 1
        assert silent.at_end()
        driver.until(lambda: is_readable(speaker.socket))
        assert speaker.read().body == b"content"


# --- a turn is bounded -----------------------------------------------------------------------------------------


def test_new_clients_for_python_keep_no_connection_from_its_turn(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with contextlib.ExitStack() as stack:
        quiet = stack.enter_context(Client(driver.where))
        driver.ask(quiet, PLAIN)
        for _ in range(200):
            stack.enter_context(Client(driver.where)).send(b"x")
        quiet.send(PLAIN)
        driver.until(lambda: is_readable(quiet.socket))
        assert len(driver.taken) <= 64
        driver.until(lambda: len(driver.taken) == 200)


def quiet_beside_taken(stack: contextlib.ExitStack, driver: Driver, count: int) -> tuple[Client, list[Client]]:
    """A client that was answered once, and so many whose connections Python has."""
    quiet = stack.enter_context(Client(driver.where))
    driver.ask(quiet, PLAIN)
    others = [stack.enter_context(Client(driver.where)) for _ in range(count)]
    for other in others:
        other.send(b"x")
    driver.until(lambda: len(driver.taken) == count)
    return quiet, others


def test_connections_of_pythons_keep_none_from_its_turn_and_wait_for_theirs(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with contextlib.ExitStack() as stack:
        quiet, others = quiet_beside_taken(stack, driver, 100)
        driver.told.clear()
        for other in others:
            other.send(b"y")
        quiet.send(PLAIN)
        driver.turn()
        assert is_readable(quiet.socket, 20)
        assert 16 <= len(driver.told) <= 64  # by how long those of the turn before took
        time.sleep(0.1)  # these take long
        told = len(driver.told)
        driver.turn()
        assert told < len(driver.told) <= told + 16
        driver.until(lambda: len(driver.told) >= len(others))
        assert set(driver.told) == {fd for fd, _ in driver.taken}


def test_connections_that_come_back_keep_none_from_its_turn(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with contextlib.ExitStack() as stack:
        quiet, others = quiet_beside_taken(stack, driver, 200)
        for other in others:
            other.send(b"y")
        driver.turn()  # tells Python of it, which does nothing
        quiet.send(PLAIN)
        back, driver.taken = driver.taken, []
        for fd, _ in back:
            driver.lane.resume(fd, time.monotonic())
        driver.until(lambda: is_readable(quiet.socket))
        assert len(driver.taken) <= 64
        driver.until(lambda: len(driver.taken) == len(others))


def test_what_python_has_to_do_keeps_no_hit_waiting(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(Client(driver.where)) for _ in range(100)]
        quiet = stack.enter_context(Client(driver.where))
        driver.until(lambda: driver.lane.count == 101)
        for _ in range(4):
            driver.turn()  # each can be written to, which is an event as well
        for other in others:
            other.send(b"x")
        quiet.send(PLAIN)
        newcomer = stack.enter_context(Client(driver.where))
        driver.turn()
        assert quiet.read().body == b"content"  # behind a hundred events in one batch
        assert driver.lane.count + len(driver.taken) == 102
        assert 0 < len(driver.taken) <= 32
        newcomer.send(PLAIN)
        driver.turn()
        assert newcomer.read().body == b"content"
        driver.until(lambda: len(driver.taken) == 100)


@pytest.mark.parametrize("config", [{"pipeline_max": 3}, {"turn_bytes_max": 3 * 65536}])
def test_a_pipeline_has_its_share_of_a_turn_and_no_more(drive: Callable[..., Driver], config: dict[str, int]) -> None:
    driver = drive(**config)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(65536))
        file.flush()
        head = b'Content-Length: 65536\r\nETag: "tag"\r\n\r\n'
        put(driver.lane, b"/a", Fake(Held(head, bytes(65536), fd=file.fileno())))
        with Client(driver.where) as client:
            client.send(PLAIN * 12)
            while not driver.lane.requests:
                driver.turn()  # just one
            assert driver.lane.requests <= 3
            answers = driver.ask(client, b"", 12)
        assert [len(answer.body) for answer in answers] == [65536] * 12


@pytest.mark.parametrize("pipeline_max", [3, 10, 1000])
@pytest.mark.parametrize("spare", range(0, 400, 57))
def test_a_request_that_lies_across_the_end_of_the_buffer_stays_in_the_lane(
    drive: Callable[..., Driver], pipeline_max: int, spare: int
) -> None:
    driver = drive(pipeline_max=pipeline_max)
    put(driver.lane, b"/a", packed(b"content"))
    one = PLAIN[:-2] + b"Cookie: %b\r\n\r\n" % (b"x" * (1000 + spare))
    with Client(driver.where) as client:
        answers = driver.ask(client, one * 40, 40)
        assert [answer.body for answer in answers] == [b"content"] * 40
        assert driver.lane.requests == 40
        assert not driver.taken
        driver.ask(client, one * 40 + one[:-1], 40)
        fd, taken = driver.next_taken()  # no more of it has come
        assert taken[1] == one[:-1]
        os.close(fd)


# --- whose event it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["lane", "python"])
def test_an_event_of_a_connection_that_is_gone_reaches_no_other(drive: Callable[..., Driver], owner: str) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with Client(driver.where) as gone, contextlib.ExitStack() as stack:
        if owner == "python":
            gone.send(b"x")
            fd, _ = driver.next_taken()
            copy = os.dup(fd)  # as a child process has it
            driver.lane.forget(fd)
            os.close(fd)
        else:
            driver.ask(gone, PLAIN)
            (fd,) = [fd for fd, sock in own_sockets() if peer_of(sock) == gone.socket.getsockname()]
            copy = os.dup(fd)
            driver.ask(gone, PLAIN[:-2] + b"Connection: close\r\n\r\n")
            driver.until(lambda: driver.lane.count == 0)
        while (place := os.open("/dev/null", os.O_RDONLY)) < fd:  # what was collected meanwhile left numbers below it
            stack.callback(os.close, place)
        assert place == fd  # it has the number while the client takes another
        heir = stack.enter_context(Client(driver.where))
        os.close(place)
        heir.send(b"x")
        taken, _ = driver.until(lambda: driver.taken and driver.taken.pop())
        assert taken == fd
        driver.turn()  # it can be written to, too
        gone.reset()  # its registration is still there, with the number
        arrived = select.poll()
        arrived.register(copy, select.POLLIN)
        assert arrived.poll(20_000)
        assert driver.lane.poll(0) == []
        os.close(copy)


# --- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closing", "draining"])
def test_an_answer_arrives_whole_though_the_client_sends_on(drive: Callable[..., Driver], how: str) -> None:
    driver = drive()
    content = random.Random(3).randbytes(3 << 20)
    put(driver.lane, b"/a", packed(content))
    with Client(driver.where, receive_buffer=65536) as client:
        client.send(PLAIN if how == "draining" else PLAIN[:-2] + b"Connection: close\r\n\r\n")
        driver.until(lambda: driver.lane.requests)
        if how == "draining":
            driver.lane.close_all(True)
        client.send(PLAIN)
        received = b""
        while True:
            driver.turn()
            data = client.socket.recv(65536) if is_readable(client.socket, 0.01) else None
            if data == b"":
                break
            received += data or b""
            if len(received) % 7 == 0:
                client.send(PLAIN)  # again and again
        assert received.partition(b"\r\n\r\n")[2] == content
        client.socket.close()
        driver.until(lambda: driver.lane.count == 0)


def test_a_client_that_neither_ends_nor_reads_is_ended(drive: Callable[..., Driver]) -> None:
    driver = drive(linger_timeout_s=0.2, write_timeout_s=0.4)
    put(driver.lane, b"/a", packed(b"x"))
    put(driver.lane, b"/large", packed(bytes(8 << 20)))
    with Client(driver.where) as silent, Client(driver.where, receive_buffer=4096) as deaf:
        silent.send(PLAIN[:-2] + b"Connection: close\r\n\r\n" + PLAIN)
        deaf.send(PLAIN.replace(b"/a", b"/large")[:-2] + b"Connection: close\r\n\r\n")
        driver.until(lambda: driver.lane.requests == 2)
        driver.until(lambda: driver.lane.count == 0)


def test_a_new_connection_has_a_second_for_its_request_when_the_server_ends(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"content"))
    with Client(driver.where) as client, Client(driver.where) as silent:
        driver.until(lambda: driver.lane.count == 2)
        driver.lane.close_all(True)
        assert driver.ask(client, PLAIN)[0]["connection"] == b"close"
        client.socket.close()
        driver.until(lambda: driver.lane.count == 0)
        assert silent.at_end()


def test_an_idle_connection_holds_no_bytes(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/large", packed(bytes(8 << 20)))
    put(driver.lane, b"/a", packed(b"content"))
    with Client(driver.where) as client:
        client.send(PLAIN.replace(b"/a", b"/large") + PLAIN * 100)
        driver.until(lambda: driver.lane.inboxes)
        reader = threading.Thread(target=lambda: [client.read() for _ in range(101)])
        reader.start()
        driver.until(lambda: not reader.is_alive())
        assert driver.lane.inboxes == 0


# --- sampling -------------------------------------------------------------------------------------------------


def test_uses_are_noted_as_the_rule_says(lane: Any, drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"x" * 100))
    with Client(driver.where) as client:
        driver.ask(client, PLAIN)
        assert driver.lane.take_sightings() == []  # nothing was asked for
        driver.lane.sample(1.0, 1, 1)
        driver.ask(client, PLAIN * 3, 3)
        first, *others = driver.lane.take_sightings()
        hash32, size, tick, last, followed, measured = first
        assert (followed, measured) == (True, True)
        assert hash32 == driver.lane.hash(b"/a")
        assert size > 100
        assert 0 < last < tick
        # In the same turn: measured each time, followed once.
        assert [(one[2], one[3], one[4], one[5]) for one in others] == [(tick, tick, False, True)] * 2
        assert driver.lane.take_sightings() == []
        driver.lane.sample(1.0, 1 << 40, 1 << 40)
        driver.ask(client, PLAIN)
        driver.lane.take_sightings()
        driver.ask(client, PLAIN * 3, 3)
        assert driver.lane.take_sightings() == []  # neither is due again
        driver.lane.sample(1e18, 1, 1 << 40)
        driver.ask(client, PLAIN)
        assert driver.lane.take_sightings() == []  # the unit is so large that its hash is not among the followed
        driver.lane.sample(0, 1, 1)
        driver.ask(client, PLAIN)
        assert driver.lane.take_sightings() == []


def test_sightings_that_find_no_place_are_counted_and_nothing_else_is_lost(drive: Callable[..., Driver]) -> None:
    driver = drive()
    put(driver.lane, b"/a", packed(b"x"))
    driver.lane.sample(1.0, 1, 1)
    with Client(driver.where) as client:
        for _ in range(85):  # a head that comes in two pieces is Python's
            client.send(PLAIN * 200)
            answers = b""
            while answers.count(b"HTTP/1.1 200 ") < 200:
                driver.until(lambda: client.has_bytes(0))
                answers += client.socket.recv(1 << 18)
    assert driver.lane.lost == (0, 85 * 200 - 16384)
    assert len(driver.lane.take_sightings()) == 16384
    with Client(driver.where) as client:
        driver.ask(client, PLAIN)
    assert len(driver.lane.take_sightings()) == 1


@pytest.mark.parametrize("rule", [(-1.0, 1, 1), (1.0, 0, 1), (1.0, 1, 0)])
def test_a_rule_that_makes_no_sense_is_refused(lane: Any, rule: tuple[float, int, int]) -> None:
    with pytest.raises(ValueError, match="no rule"):
        lane.sample(*rule)

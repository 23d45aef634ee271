"""The lane and functions that answer at once: which it looks up, calls and forgets, and what becomes of the answers.

The lane runs in the test's own thread, as in test_lane.py. `Stage` is the application: a function a path.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import itertools
import os
import random
import socket
import sys
import termios
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
from tests.support.own_sockets import own_sockets, peer_of
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, StageClient
from tests.support.waiting import WaitUntil, is_readable
from zcserve.site.exchange import Owned, Quick

pytest.importorskip("zcserve.net._lane")

QUICK_MAX = 4096
FIELDS = b"Content-Type: text/html\r\n"
TEXT_FIELDS = b"Content-Type: text/plain\r\n"
TARGET = b"/csp?hello"
MISSING = b"/csp?missing"
LARGE = 10 << 20
BODY_MAX = 1000
TRIES = 10  # of what has to come about in one turn, in which functions have 2 ms: this machine may be busy


def get(target: bytes, *lines: bytes, method: bytes = b"GET") -> bytes:
    """A plain request."""
    return b"%b %b HTTP/1.1\r\nHost: test\r\n%b\r\n" % (method, target, b"".join(line + b"\r\n" for line in lines))


def send(method: bytes, target: bytes, body: bytes, *lines: bytes) -> bytes:
    """A plain request with a body."""
    return get(target, b"Content-Length: %d" % len(body), *lines, method=method) + body


def always(content: bytes) -> Callable[[object], bytes]:
    """A servlet that answers with this."""
    return lambda _: content


def answer_of(content: bytes, *, fields: bytes = FIELDS, last: bool = False, head_only: bool = False) -> bytes:
    """What the lane sends for bytes that a function returned."""
    close = b"Connection: close\r\n" if last else b""
    head = b"HTTP/1.1 200 OK\r\n%b%bContent-Length: %d\r\n%b\r\n" % (DATE, close, len(content), fields)
    return head if head_only else head + content


class Request:
    """What a function is called with."""

    __slots__ = ("__weakref__", "body", "client", "head", "method", "origin", "params", "target")
    method: bytes
    target: bytes
    head: bytes
    client: str
    body: bytes
    params: object
    origin: object


SLOTS = ("method", "target", "head", "client", "body", "params", "origin")


def told_of(request: Request) -> tuple[object, ...]:
    """All that a request says."""
    return tuple(getattr(request, name) for name in SLOTS)


class Given:
    """What was made and is not so simple."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.discarded = 0

    def discard(self) -> None:
        self.discarded += 1


class Stage(Driver):
    """A driver whose lane consults an application: `functions` by path, and what happened."""

    def __init__(self, root: Path, **more: Any) -> None:
        super().__init__(root, **more)
        self.functions: dict[bytes, Callable[[Request], object]] = {TARGET: lambda _: b"hello"}
        self.looked_up: list[bytes] = []
        self.asked_if_fresh: list[int] = []
        self.before_fresh: Callable[[], object] = lambda: None
        self.called: list[tuple[bytes, bytes]] = []
        self.made: list[Given] = []
        self.fresh = True
        self.notice = -1
        self.sure_s = 0.0
        self.fails = False
        self.request: tuple[Any, Any] = (Request, SLOTS)
        self.lane.consult(self.look_up)

    def look_up(self, method: bytes, target: bytes) -> Quick | None:
        self.looked_up.append(target if method == b"GET" else method + b" " + target)
        function = self.functions.get(target) or self.functions.get(target.partition(b"&")[0])
        return None if function is None else self.quick(function)

    def quick(self, function: Callable[[Request], object]) -> Quick:
        def call(request: Request) -> object:
            self.called.append((request.method, request.target))
            return function(request)

        return Quick(
            function=call,
            request=self.request[0],
            slots=self.request[1],
            params={"a": "b"},
            fields=FIELDS,
            where="hello.py:1",
            body_bytes_max=BODY_MAX,
            notice=self.notice,
            sure_s=self.sure_s,
            is_fresh=self.is_fresh,
            finish=self.finish,
            fail=self.fail,
        )

    def is_fresh(self) -> bool:
        self.asked_if_fresh.append(self.lane.turn)
        self.before_fresh()
        return self.fresh

    def finish(self, method: bytes, value: object) -> Any:
        if isinstance(value, str):
            return TEXT_FIELDS, value.encode()
        return value if isinstance(value, tuple) else self.give(value)

    def fail(self, method: bytes, error: BaseException) -> Any:
        if self.fails:
            raise error
        return self.give(error)

    def give(self, value: object) -> Given:
        self.made.append(Given(value))
        return self.made[-1]

    def handed_over(self) -> tuple[bytes, Any]:
        """Wait for a connection to be handed over: its bytes, and what was made of the first request."""
        _, (_, data, _, _, made, _) = self.until(lambda: self.taken)[-1]
        return data, made


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """`stage(**config)`: a stage that is closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(**more: Any) -> Stage:
            made = Stage(tmp_path, **more)
            stack.callback(made.close)
            return made

        yield start


def read_all(driver: Stage, client: Client, length: int) -> bytes:
    """Read `length` bytes while the lane turns, as of one second."""
    received = bytearray()

    def more() -> bool:
        while len(received) < length and is_readable(client.socket):
            received.extend(client.socket.recv(1 << 18))
            driver.turn()
        return len(received) >= length

    driver.until(more)
    return at_one_time(bytes(received))


def unread(client: Client) -> int:
    """Bytes that have come and were not read."""
    return int.from_bytes(fcntl.ioctl(client.socket, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


# --- what is looked up and called -----------------------------------------------------------------------------


def test_a_function_is_looked_up_once_and_called_each_time(stage: Callable[..., Stage]) -> None:
    driver = stage()
    requests: list[Request] = []
    driver.functions[TARGET] = lambda request: requests.append(request) or b"hello"
    head = get(TARGET, b"X-One: 1", b"Cookie: a=b")
    with Client(driver.where) as client:
        for _ in range(3):
            assert driver.ask(client, head)[0].body == b"hello"
    assert driver.looked_up == [TARGET]
    assert driver.called == [(b"GET", TARGET)] * 3
    told = [(one.method, one.target, one.head, one.client, one.body, one.params) for one in requests]
    assert told == [(b"GET", TARGET, head, "127.0.0.1", b"", {"a": "b"})] * 3
    assert driver.lane.requests == 3
    assert driver.taken == []


def test_each_target_is_one_of_its_own(stage: Callable[..., Stage]) -> None:
    driver = stage()
    driver.functions[TARGET] = lambda request: request.target
    targets = [TARGET, TARGET + b"&a=1", TARGET + b"&a=2"]
    with Client(driver.where) as client:
        answers = driver.ask(client, b"".join(map(get, targets * 2)), 6)
    assert [answer.body for answer in answers] == targets * 2
    assert driver.looked_up == targets


def test_a_target_without_a_function_is_looked_up_each_time_and_handed_over(stage: Callable[..., Stage]) -> None:
    driver = stage()
    for count in (1, 2):
        with Client(driver.where) as client:
            client.send(get(MISSING))
            driver.until(lambda count=count: len(driver.taken) == count)
            assert driver.handed_over() == (get(MISSING), None)
    assert driver.looked_up == [MISSING] * 2
    assert not driver.lane.knows(MISSING)


@pytest.mark.parametrize("wrong", [RuntimeError("no"), KeyboardInterrupt(), None])
def test_a_look_up_that_fails_finds_nothing(stage: Callable[..., Stage], wrong: BaseException | None) -> None:
    driver = stage()

    def look_up(method: bytes, target: bytes) -> Any:
        if wrong is not None:
            raise wrong
        return ("too", "few")

    driver.lane.consult(look_up)
    with Client(driver.where) as client:
        client.send(get(TARGET))
        assert driver.handed_over() == (get(TARGET), None)
    assert not driver.lane.knows(TARGET)


def test_a_function_that_is_not_fresh_is_handed_over_uncalled(stage: Callable[..., Stage]) -> None:
    driver = stage()
    driver.fresh = False
    with Client(driver.where) as client:
        client.send(get(TARGET))
        assert driver.handed_over() == (get(TARGET), None)
    assert driver.called == []


def test_whether_it_is_fresh_is_asked_once_a_turn(stage: Callable[..., Stage]) -> None:
    driver = stage()
    with Client(driver.where) as client:
        for _ in range(2):
            assert len(driver.ask(client, get(TARGET) * 20, 20)) == 20
    assert len(driver.called) == 40
    assert len(driver.asked_if_fresh) == len(set(driver.asked_if_fresh)) < 40


def test_while_nothing_is_noticed_freshness_is_not_asked(stage: Callable[..., Stage]) -> None:
    driver = stage()
    driver.notice, writer = os.pipe()
    driver.sure_s = 300.0
    try:
        with Client(driver.where) as client:
            for _ in range(3):
                driver.ask(client, get(TARGET))
            assert len(driver.asked_if_fresh) == 1
            os.write(writer, b"x")
            for count in (2, 3):  # until it is read
                driver.ask(client, get(TARGET))
                assert len(driver.asked_if_fresh) == count
            os.read(driver.notice, 1)
            driver.ask(client, get(TARGET))
            assert len(driver.asked_if_fresh) == 3
    finally:
        os.close(writer)
        os.close(driver.notice)


def test_what_is_asked_for_freshness_may_have_all_forgotten(stage: Callable[..., Stage]) -> None:
    driver = stage()

    def forget() -> None:
        driver.lane.forget_quick()
        gc.collect()

    driver.before_fresh = forget
    with Client(driver.where) as client:
        assert len(driver.ask(client, get(TARGET) * 3, 3)) == 3
        driver.fresh = False
        client.send(get(TARGET))
        assert driver.handed_over() == (get(TARGET), None)
    assert len(driver.called) == 3


def test_where_freshness_cannot_be_told_the_general_lane_says_why(stage: Callable[..., Stage]) -> None:
    driver = stage()
    driver.before_fresh = lambda: 1 / 0
    with Client(driver.where) as client:
        client.send(get(TARGET))
        assert driver.handed_over() == (get(TARGET), None)
    assert driver.called == []


def test_a_look_up_that_is_taken_away_is_not_asked_any_more(stage: Callable[..., Stage]) -> None:
    driver = stage()
    with Client(driver.where) as client:
        driver.ask(client, get(TARGET))
        driver.lane.consult(None)
        assert not driver.lane.knows(TARGET)
        client.send(get(TARGET))
        assert driver.handed_over() == (get(TARGET), None)
    assert driver.looked_up == [TARGET]


# --- what is answered -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fields", "content"),
    [
        (b"bytes", FIELDS, b"bytes"),
        ("gr\xfcn", TEXT_FIELDS, b"gr\xc3\xbcn"),
        ((b"", b"x"), b"", b"x"),
        ((b"", type("Own", (bytes,), {})(b"mine")), b"", b"mine"),
    ],
)
def test_bytes_and_a_pair_of_them_are_a_200(
    stage: Callable[..., Stage], value: Any, fields: bytes, content: bytes
) -> None:
    driver = stage()
    driver.functions[TARGET] = lambda _: value
    with Client(driver.where) as client:
        client.send(get(TARGET) + get(TARGET, method=b"HEAD") + get(TARGET))
        whole, head = (answer_of(content, fields=fields, head_only=head_only) for head_only in (False, True))
        expected = whole + head + whole
        assert read_all(driver, client, len(expected)) == expected
    assert [method for method, _ in driver.called] == [b"GET", b"HEAD", b"GET"]
    assert bytes_sent(driver.lane) == len(expected)


@pytest.mark.parametrize("value", [{"a": 1}, None, 7, RuntimeError("what a servlet raises")])
def test_what_is_something_else_is_handed_over_with_its_request(stage: Callable[..., Stage], value: Any) -> None:
    driver = stage()

    def function(_: Request) -> object:
        if isinstance(value, BaseException):
            raise value
        return value

    driver.functions[TARGET] = function
    with Client(driver.where) as client:
        client.send(get(TARGET) + get(TARGET, b"X: y"))
        data, made = driver.handed_over()
    assert data == get(TARGET) + get(TARGET, b"X: y")
    assert made.value is value
    assert made.discarded == 0
    assert len(driver.called) == 1
    assert driver.lane.running[0] is None


@pytest.mark.parametrize("value", [(None, b""), (b"", None), (b"",), (b"", b"", b""), "raises"])
def test_an_application_that_breaks_its_word_loses_one_connection(stage: Callable[..., Stage], value: Any) -> None:
    driver = stage()
    driver.fails = True
    driver.functions[TARGET] = (lambda _: 1 / 0) if value == "raises" else (lambda _: value)
    driver.functions[b"/good"] = lambda _: b"good"
    with Client(driver.where) as client, Client(driver.where) as other:
        client.send(get(TARGET))
        driver.until(lambda: driver.called and driver.lane.count < 2)
        assert client.at_end()
        assert driver.ask(other, get(b"/good"))[0].body == b"good"
    assert len(driver.called) == 2


def test_what_runs_is_told_while_it_runs_with_a_number_of_its_own(stage: Callable[..., Stage]) -> None:
    driver = stage()
    seen: list[object] = []
    driver.functions[TARGET] = lambda _: seen.extend((driver.lane.running, driver.lane.running)) or b""
    with Client(driver.where) as client:
        driver.ask(client, get(TARGET) * 2, 2)
    assert seen == [("hello.py:1", 1)] * 2 + [("hello.py:1", 2)] * 2
    assert driver.lane.running == (None, 2)


@pytest.mark.parametrize("size", [0, 1, 3900, 4095, 4096, 4097, 65_535, 65_536, 65_537, LARGE])
def test_an_answer_is_whole_whatever_its_size(stage: Callable[..., Stage], size: int) -> None:
    driver = stage()
    content = random.Random(size).randbytes(size)
    driver.functions[TARGET] = lambda _: content
    driver.functions[b"/small"] = lambda _: b"small"
    expected = answer_of(b"small") + answer_of(content) + answer_of(b"small")
    with Client(driver.where) as client:
        for _ in range(2):
            client.send(get(b"/small") + get(TARGET) + get(b"/small"))
            assert read_all(driver, client, len(expected)) == expected
    assert len(driver.called) == 6


def test_a_smaller_answer_after_a_larger_one_holds_nothing_of_it(stage: Callable[..., Stage]) -> None:
    driver = stage()
    sizes = [*range(4000, 4100), 50, 60_000, 0, 70_000, 10, 3]
    random.Random(1).shuffle(sizes)
    driver.functions[TARGET] = lambda request: request.target[-1:] * int(request.target.split(b"&")[1])
    with Client(driver.where) as client:
        for number, size in enumerate(sizes):
            letter = b"%c" % (97 + number % 26)
            assert driver.ask(client, get(b"%b&%d&%b" % (TARGET, size, letter)))[0].body == letter * size


# --- what is absent beside an application ---------------------------------------------------------------------

PAGE = b"Content-Length: 4\r\n\r\n"


def absent_stage(stage: Callable[..., Stage], owned: Owned | None) -> Stage:
    """A stage whose lane knows that /file/a is all that there is."""
    driver = stage()
    driver.lane.know([[b"/file/a"]], 1)
    driver.lane.set_not_found(PAGE, b"none")
    driver.lane.consult(driver.look_up, owned)
    return driver


@pytest.mark.parametrize(
    ("target", "is_answered"),
    [
        (b"/nothing", True), (b"/nothing?csp", True), (b"/cspx?hello", True), (b"/file/b", True), (b"/cs/p", True),
        (b"/csp?hello", False), (b"/csp", False), (b"/app", False), (b"/app/", False), (b"/app/x?y", False),
        (b"/a%70p/x", False), (b"//app", False), (b"/x/../app", False), (b"http://test/csp?missing", False),
        (b"/file/a", False), (b"*", False), (b"/", True),
    ],
)  # fmt: skip
def test_what_an_application_cannot_own_is_absent_without_python(
    stage: Callable[..., Stage], target: bytes, is_answered: bool
) -> None:
    driver = absent_stage(stage, Owned([b"csp", b"app"]))
    driver.functions.clear()
    with Client(driver.where) as client:
        client.send(get(target))
        driver.until(lambda: driver.taken or unread(client))
        assert bool(driver.taken) is not is_answered
        if is_answered:
            assert client.read().status == 404
            assert driver.looked_up == []


def test_beside_an_application_that_may_own_every_path_nothing_is_absent_without_python(
    stage: Callable[..., Stage],
) -> None:
    for owned in (None, Owned(None)):
        driver = absent_stage(stage, owned)
        with Client(driver.where) as client:
            client.send(get(b"/nothing"))
            assert driver.handed_over() == (get(b"/nothing"), None)
        assert driver.looked_up == [b"/nothing"]


def test_what_is_absent_is_asked_of_python_when_there_may_be_more_than_was_loaded(stage: Callable[..., Stage]) -> None:
    notice, writer = os.pipe()
    try:
        driver = absent_stage(stage, None)
        driver.lane.consult(driver.look_up, Owned([b"csp"], notice, 300.0, driver.is_fresh))
        with Client(driver.where) as client:
            for _ in range(3):
                assert driver.ask(client, get(b"/nothing"))[0].status == 404
            assert len(driver.asked_if_fresh) == 1
            os.write(writer, b"x")
            assert driver.ask(client, get(b"/nothing"))[0].status == 404
            assert len(driver.asked_if_fresh) == 2
            driver.fresh = False
            client.send(get(b"/nothing"))
            assert driver.handed_over() == (get(b"/nothing"), None)
    finally:
        os.close(notice)
        os.close(writer)


class WithoutSlots:
    """A class that calls its attributes as a request does."""

    method = target = head = client = body = params = origin = None


class Narrow:
    """A class with a slot too few, and one that is no place for an object."""

    __slots__ = ("__weakref__", "body", "client", "head", "method", "params", "target")


class Inheriting(Request):
    """A class whose slots are another's."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("kind", "slots"),
    [
        (WithoutSlots, SLOTS), (Inheriting, SLOTS), (lambda *_: None, SLOTS),
        (Request, SLOTS[1:]), (Request, (*SLOTS, "x")),
        (Narrow, (*SLOTS[:-1], "origin")), (Narrow, (*SLOTS[:-1], "__weakref__")), (int, SLOTS), (Request, 7),
    ],
    ids=["no slots", "slots of another", "a function", "too few names", "too many names", "too few slots",
         "a slot for no object", "a class of C", "a number"],
)  # fmt: skip
def test_a_class_without_the_slots_of_a_request_is_left_to_python(
    stage: Callable[..., Stage], kind: Any, slots: Any
) -> None:
    driver = stage()
    driver.request = kind, slots
    with Client(driver.where) as client:
        client.send(get(TARGET))
        assert driver.handed_over() == (get(TARGET), None)
    assert driver.called == []


def test_what_a_request_says_goes_with_it(stage: Callable[..., Stage]) -> None:
    driver = stage()
    params = {"a": "b"}
    driver.functions[TARGET] = lambda request: b"hello"
    with Client(driver.where) as client:
        driver.ask(client, get(TARGET))
        before = sys.getrefcount(TARGET), sys.getrefcount(None), len(gc.get_objects())
        for _ in range(100):
            driver.ask(client, get(TARGET))
            driver.called.clear()
    after = sys.getrefcount(TARGET), sys.getrefcount(None), len(gc.get_objects())
    assert all(now - then < 50 for now, then in zip(after, before, strict=True)), params


# --- requests with a body -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE"])
def test_a_function_is_given_the_body_that_came_with_the_head(stage: Callable[..., Stage], method: bytes) -> None:
    driver = stage(log=True)
    requests: list[Request] = []
    driver.functions[TARGET] = lambda request: requests.append(request) or request.body
    bodies = [b"", b"x", bytes(range(256)), get(TARGET), b"\r\n\r\n", b"y" * BODY_MAX]
    with Client(driver.where) as client:
        stream = b"".join(send(method, TARGET, body) for body in bodies) + get(TARGET, method=method)
        answers = driver.ask(client, stream, len(bodies) + 1)
    assert [answer.body for answer in answers] == [*bodies, b""]
    head = get(TARGET, b"Content-Length: 1", method=method)
    assert told_of(requests[1]) == (method, TARGET, head, "127.0.0.1", b"x", {"a": "b"}, None)
    assert driver.called == [(method, TARGET)] * 7
    assert driver.looked_up == [method + b" " + TARGET]
    lines = driver.lane.take_log().splitlines()
    assert [line.split()[5:7] for line in lines] == [[b'"' + method, TARGET]] * 7
    assert (driver.lane.requests, driver.taken) == (7, [])


def test_each_method_of_a_target_is_looked_up_by_itself(stage: Callable[..., Stage]) -> None:
    driver = stage()
    driver.functions[TARGET] = lambda request: request.method
    stream = get(TARGET) + send(b"POST", TARGET, b"GET") + get(TARGET, method=b"HEAD") + send(b"PUT", TARGET, b"")
    with Client(driver.where) as client:
        for _ in range(2):
            client.send(stream)
            head = answer_of(b"HEAD", head_only=True)
            expected = answer_of(b"GET") + answer_of(b"POST") + head + answer_of(b"PUT")
            assert read_all(driver, client, len(expected)) == expected
    assert driver.looked_up == [TARGET, b"POST " + TARGET, b"PUT " + TARGET]
    driver.lane.forget_quick()
    assert not any(driver.lane.knows(key) for key in driver.looked_up)


def test_a_file_does_not_answer_what_is_sent_to_it(stage: Callable[..., Stage]) -> None:
    driver = stage()
    put(driver.lane, b"/a", packed(b"a file"), any_query=True)
    driver.lane.know([[b"/a"]], 1)
    driver.lane.set_not_found(b"Content-Length: 0\r\n\r\n", b"")
    for target in (b"/a", b"/a?query", b"/missing"):
        with Client(driver.where) as client:
            client.send(send(b"POST", target, b"body"))
            driver.until(lambda: driver.taken)
            assert driver.handed_over() == (send(b"POST", target, b"body"), None)
            driver.lane.forget(driver.taken.pop()[0])


@pytest.mark.parametrize(
    "request_",
    [
        send(b"POST", TARGET, b"z" * (BODY_MAX + 1)),
        get(TARGET, b"Content-Length: 5", method=b"POST") + b"four",
        get(TARGET, b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\nx\r\n0\r\n\r\n",
        send(b"POST", TARGET, b"x", b"Expect: 100-continue"),
        send(b"GET", TARGET, b"x"),
    ],
    ids=["larger than it may be", "incomplete", "chunked", "expecting", "of a GET"],
)
def test_another_body_is_handed_over_and_its_function_not_called(stage: Callable[..., Stage], request_: bytes) -> None:
    driver = stage()
    with Client(driver.where) as client:
        driver.ask(client, send(b"POST", TARGET, b"x"))
        client.send(request_)
        assert driver.handed_over() == (request_, None)
    assert driver.called == [(b"POST", TARGET)]


def test_what_a_function_made_of_a_body_goes_with_its_whole_request(stage: Callable[..., Stage]) -> None:
    driver = stage()
    driver.functions[TARGET] = lambda request: {"a": 1}
    stream = send(b"POST", TARGET, b"body") + get(b"/next")
    with Client(driver.where) as client:
        client.send(stream)
        data, made = driver.handed_over()
    assert (data, made.value) == (stream, {"a": 1})
    assert len(driver.called) == 1


# --- what is forgotten ----------------------------------------------------------------------------------------


def test_targets_are_forgotten_when_there_are_too_many(stage: Callable[..., Stage]) -> None:
    driver = stage()
    targets = [b"%b&%d" % (TARGET, number) for number in range(QUICK_MAX + 1)]
    put(driver.lane, b"/a", packed(b"content"))
    with Client(driver.where) as client:
        for at in range(0, QUICK_MAX, 64):
            driver.ask(client, b"".join(map(get, targets[at : at + 64])), 64)
        while driver.lane.chores():
            pass  # the table has grown; what is still to move is not known
        assert all(map(driver.lane.knows, targets[:QUICK_MAX]))
        driver.ask(client, get(targets[QUICK_MAX]) + get(targets[0]), 2)
    assert [target for target in targets if driver.lane.knows(target)] == [targets[0], targets[QUICK_MAX]]
    assert driver.lane.knows(b"/a")
    assert driver.looked_up == [*targets, targets[0]]


def forget_each(lane: Any) -> None:
    lane.forget_key(TARGET)


def put_over(lane: Any) -> None:
    put(lane, TARGET, packed(b"a file"))
    lane.forget_key(TARGET)


FORGETTING: list[Callable[[Any], object]] = [
    lambda lane: lane.forget_quick(),
    lambda lane: lane.clear(),
    lambda lane: lane.consult(None),
    forget_each,
    put_over,
]


@pytest.mark.parametrize("forget", FORGETTING, ids=["quick", "all", "application", "key", "replaced"])
def test_what_is_forgotten_lets_its_function_go(stage: Callable[..., Stage], forget: Callable[[Any], object]) -> None:
    driver = stage()
    end = weakref.ref(driver.functions[TARGET])
    with Client(driver.where) as client:
        driver.ask(client, get(TARGET))
        assert driver.lane.knows(TARGET)
        driver.functions.clear()
        gc.collect()
        assert end() is not None
        forget(driver.lane)
        assert not driver.lane.knows(TARGET)
        gc.collect()
        assert end() is None
        client.send(get(TARGET))
        assert driver.handed_over() == (get(TARGET), None)


@pytest.mark.parametrize("forget", FORGETTING, ids=["quick", "all", "application", "key", "replaced"])
def test_a_function_may_have_itself_forgotten(stage: Callable[..., Stage], forget: Callable[[Any], object]) -> None:
    driver = stage()

    def function(_: Request) -> bytes:
        driver.functions.pop(TARGET, None)
        forget(driver.lane)
        gc.collect()
        return b"the last word" * 1000

    driver.functions[TARGET] = function
    with Client(driver.where) as client:
        assert driver.ask(client, get(TARGET))[0].body == b"the last word" * 1000
        assert not driver.lane.knows(TARGET)
        driver.ask(client, PLAIN) if driver.lane.knows(b"/a") else client.send(get(TARGET))
        assert driver.handed_over() == (get(TARGET), None)


def test_a_file_goes_before_whom_it_is_put_over(stage: Callable[..., Stage]) -> None:
    driver = stage()
    with Client(driver.where) as client:
        driver.ask(client, get(TARGET))
        put(driver.lane, TARGET, packed(b"a file"))
        assert driver.ask(client, get(TARGET))[0].body == b"a file"
    assert len(driver.called) == 1


def test_a_lane_that_is_closed_lets_its_application_go(stage: Callable[..., Stage]) -> None:
    driver = stage()
    with Client(driver.where) as client:
        driver.ask(client, get(TARGET))
    end = weakref.ref(driver.functions[TARGET])
    driver.functions.clear()
    driver.lane.close()
    gc.collect()
    assert end() is None


def test_nothing_is_left_of_many_requests(stage: Callable[..., Stage]) -> None:
    driver = stage()
    content, pair, fields = b"x" * 100, ("", b"y" * 100), TEXT_FIELDS
    driver.functions[TARGET] = lambda _: content
    driver.functions[b"/pair"] = lambda _: (fields, pair[1])
    watched = [content, pair[1], fields, FIELDS, driver.functions[TARGET], driver.functions[b"/pair"]]

    def ask(client: Client) -> None:
        assert len(driver.ask(client, (get(TARGET) + get(b"/pair")) * 30, 60)) == 60
        driver.called.clear()
        driver.asked_if_fresh.clear()

    with Client(driver.where) as client:
        ask(client)
        before = [sys.getrefcount(one) for one in watched]
        for _ in range(30):
            ask(client)
        assert [sys.getrefcount(one) for one in watched] == before


# --- order, and sockets that take little ----------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
@pytest.mark.parametrize("seed", range(8))
def test_files_and_functions_are_answered_in_order_each_once(
    stage: Callable[..., Stage], seed: int, family: Any
) -> None:
    rng = random.Random(seed)
    driver = stage(log=True, family=family, turn_bytes_max=8192)
    driver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    expected, stream, logged, called = b"", b"", [], []
    for number in range(150):
        content = rng.randbytes(rng.choice((0, 10, 100, 3000, 5000, 30_000)))
        head_only, quick, last = rng.random() < 0.2, rng.random() < 0.6, number == 149
        target = b"/%d" % number
        method = b"HEAD" if head_only else b"GET"
        stream += get(target, *[b"Connection: close"] * last, method=method)
        logged.append(b"%b %d" % (target, 0 if head_only else len(content)))
        if quick:
            driver.functions[target] = always(content)
            called.append((method, target))
            expected += answer_of(content, last=last, head_only=head_only)
        else:
            whole = packed(content)
            put(driver.lane, target, whole)
            prefix = b"HTTP/1.1 200 OK\r\n" + DATE + b"Connection: close\r\n" * last
            expected += prefix + (head_of(whole) if head_only else laid_out(whole))
    received = b""
    with Client(driver.where, receive_buffer=4096) as client:
        client.send(stream)
        while True:
            driver.turn()
            if rng.random() < 0.7 and is_readable(client.socket):
                data = client.socket.recv(rng.choice((1, 50, 1000, 50_000)))
                if not data:
                    break
                received += data
    assert at_one_time(received) == expected
    assert driver.called == called
    lines = [line.split() for line in driver.lane.take_log().splitlines()]
    assert [words[6] + b" " + words[9] for words in lines] == logged
    assert driver.lane.requests == 150
    assert bytes_sent(driver.lane) == len(expected)


def test_pipelined_answers_of_functions_and_files_leave_together(stage: Callable[..., Stage]) -> None:
    driver = stage()
    sent: list[int] = []

    def forget(_: Request) -> bytes:
        driver.lane.forget_key(b"/a")
        return b"forgotten"

    def run(client: Client) -> bool:
        sent.clear()
        put(driver.lane, b"/a", packed(b"a file"))
        answers = driver.ask(client, stream, 22)
        assert [answer.body for answer in answers] == [b"hello", b"a file"] * 10 + [b"forgotten", b"hello"]
        return sent == [0] * 11

    driver.functions[b"/forgets"] = forget
    stream = (get(TARGET) + PLAIN) * 10 + get(b"/forgets") + get(TARGET)
    with Client(driver.where) as client:
        driver.functions[TARGET] = lambda _: sent.append(unread(client)) or b"hello"
        assert any(run(client) for _ in range(20))  # on a busy machine the time of a turn may be over before


def test_what_a_function_made_goes_with_the_answers_before_it_that_the_socket_did_not_take(
    stage: Callable[..., Stage],
) -> None:
    driver = stage()
    driver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    contents = [random.Random(number).randbytes(20_000) for number in range(3)]
    driver.functions[TARGET] = lambda request: contents[int(request.target[-1:])]
    driver.functions[b"/made"] = lambda _: {"a": 1}
    targets = [b"%b&%d" % (TARGET, number) for number in range(3)]
    last = get(b"/made") + get(TARGET + b"&0")
    for _ in range(TRIES):
        driver.called.clear()
        with Client(driver.where, receive_buffer=4096) as client:
            client.send(b"".join(map(get, targets)) + last)
            driver.until(lambda: driver.taken or driver.lane.inboxes)
            if driver.taken:
                _, (_, data, _, _, made, unsent) = driver.taken[-1]
                assert (data, made.value, made.discarded) == (last, {"a": 1}, 0)
                assert unsent
                expected = b"".join(map(answer_of, contents))
                assert at_one_time(client.read_exactly(len(expected) - len(unsent)) + unsent) == expected
                assert len(driver.called) == 4
                return
        driver.until(lambda: not driver.lane.inboxes)
    pytest.fail("the time that functions have in a turn was never enough")


def wait_a_millisecond() -> None:
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        pass


def test_what_is_asked_for_while_functions_run_is_answered_after_some_of_them(stage: Callable[..., Stage]) -> None:
    driver = stage()
    put(driver.lane, b"/a", packed(b"a file"))
    answered: list[bool] = []
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(Client(driver.where)) for _ in range(8)]
        other = stack.enter_context(Client(driver.where))
        driver.ask(other, PLAIN)

        def function(_: Request) -> bytes:
            if not answered:
                other.send(PLAIN)
            wait_a_millisecond()
            answered.append(unread(other) > 0)
            return b"hello"

        driver.functions[TARGET] = function
        for client in flood:
            client.send(get(TARGET) * 20)
        driver.until(lambda: len(answered) == 160)
    assert answered.index(True) <= 6


def test_clients_that_have_functions_called_take_turns(stage: Callable[..., Stage]) -> None:
    driver = stage()
    names = [b"%b&%d" % (TARGET, number) for number in range(5)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(driver.where)) for _ in names]
        for client, name in zip(clients, names, strict=True):
            driver.ask(client, get(name))
        driver.called.clear()
        for client, name in zip(clients, names, strict=True):
            client.send(get(name) * 200)
        driver.until(lambda: len(driver.called) == 1000)
    shares = [next(group) for _, group in itertools.groupby(target for _, target in driver.called)]
    assert len(shares) >= 25  # none has all of its 200 before the others
    last = {name: shares.index(name) for name in names}
    for at, name in enumerate(shares[5:], 5):
        others = set(names) - {name} if at < 25 else set()
        assert others <= set(shares[last[name] : at])
        last[name] = at


@pytest.mark.parametrize("of_each", [1, 20], ids=["new clients", "pipelines"])
def test_a_client_that_asks_one_after_the_other_goes_before_a_flood(stage: Callable[..., Stage], of_each: int) -> None:
    driver = stage()
    driver.functions[TARGET] = lambda _: wait_a_millisecond() or b"hello"
    driver.functions[b"/quiet"] = always(b"quiet")
    with contextlib.ExitStack() as stack:
        quiet = stack.enter_context(Client(driver.where))
        driver.ask(quiet, get(b"/quiet"))
        for _ in range(20):
            stack.enter_context(Client(driver.where)).send(get(TARGET) * of_each)
        driver.until(lambda: driver.lane.count == 21)
        driver.called.clear()
        quiet.send(get(b"/quiet"))
        driver.until(lambda: unread(quiet) > 0)
    assert driver.called.index((b"GET", b"/quiet")) <= 2


def test_clients_that_ask_one_after_the_other_leave_a_new_one_its_share(stage: Callable[..., Stage]) -> None:
    driver = stage()
    driver.functions[TARGET] = lambda _: wait_a_millisecond() or b"hello"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(driver.where)) for _ in range(20)]
        for client in clients:
            driver.ask(client, get(TARGET))
        for client in clients:
            client.send(get(TARGET))
        driver.called.clear()
        driver.turn()
        new = stack.enter_context(Client(driver.where))
        new.send(get(TARGET))
        driver.until(lambda: unread(new) > 0)
    assert len(driver.called) <= 17  # 8 to 13, and 21 where the new one comes last


def test_calls_that_take_long_are_fewer_of_one_client(stage: Callable[..., Stage]) -> None:
    driver = stage()
    names = [b"%b&%d" % (TARGET, number) for number in range(2)]
    driver.functions[TARGET] = lambda _: time.sleep(0.0003) or b"hello"
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(Client(driver.where)).send(get(name) * 8)
        driver.until(lambda: len(driver.called) == 16)
    assert len(list(itertools.groupby(driver.called))) >= 14


def test_a_function_is_not_called_for_a_client_that_is_gone_when_its_turn_comes(stage: Callable[..., Stage]) -> None:
    driver = stage()
    driver.functions[TARGET] = lambda _: [wait_a_millisecond() for _ in range(3)] and b"hello"
    driver.functions[b"/gone"] = always(b"nothing")
    with Client(driver.where) as client, Client(driver.where) as gone:
        for one in (client, gone):
            driver.ask(one, get(b"/gone"))
        client.send(get(TARGET) * 3)
        gone.send(get(b"/gone"))
        driver.called.clear()
        driver.turn()
        assert driver.called == [(b"GET", TARGET)]
        gone.reset()
        driver.until(lambda: driver.lane.count == 1)
        driver.until(lambda: len(driver.called) == 3)
    assert driver.called == [(b"GET", TARGET)] * 3


def test_what_is_behind_a_large_answer_is_not_asked_before_it_is_out(stage: Callable[..., Stage]) -> None:
    driver = stage(family=socket.AF_UNIX)
    content = random.Random(0).randbytes(LARGE)
    driver.functions[TARGET] = lambda _: content
    driver.functions[b"/next"] = lambda _: b"next"
    expected = answer_of(content) + answer_of(b"next") * 40
    with Client(driver.where) as client:
        client.send(get(TARGET) + get(b"/next") * 40)
        driver.until(lambda: driver.called)
        for _ in range(20):
            driver.turn()
        assert driver.called == [(b"GET", TARGET)]
        driver.lane.forget_quick()  # of whom it is being sent
        assert read_all(driver, client, len(expected)) == expected
    assert len(driver.called) == 41


def test_a_large_answer_is_sent_in_shares(stage: Callable[..., Stage]) -> None:
    driver = stage(turn_bytes_max=4096)
    content = random.Random(0).randbytes(1 << 20)
    driver.functions[TARGET] = lambda _: content
    driver.functions[b"/next"] = lambda _: b"next"
    with Client(driver.where) as client, Client(driver.where) as other:
        client.send(get(TARGET) + get(b"/next"))
        other.send(get(b"/next"))
        expected = answer_of(content) + answer_of(b"next")
        assert read_all(driver, client, len(expected)) == expected
        assert read_all(driver, other, len(answer_of(b"next"))) == answer_of(b"next")


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves_within_an_answer_leaves_nothing(stage: Callable[..., Stage], reset: bool) -> None:
    driver = stage()
    content = bytes(LARGE)
    driver.functions[TARGET] = lambda _: content
    for _ in range(3):
        driver.called.clear()
        with Client(driver.where, receive_buffer=4096) as client:
            client.send(get(TARGET) * 3)
            driver.until(lambda: driver.called)
            driver.until(lambda: is_readable(client.socket))
            client.socket.recv(1000)
            if reset:
                client.reset()
        driver.until(lambda: driver.lane.count == 0)
        assert len(driver.called) == 1
    with Client(driver.where) as client:
        assert driver.ask(client, get(TARGET, method=b"HEAD"), method="HEAD")[0]["Content-Length"] == b"%d" % LARGE


def test_a_connection_that_has_its_turn_again_is_not_lost_to_those_before_it(stage: Callable[..., Stage]) -> None:
    # The listener stands in front of a connection that has more to do, and accepts others that have, too.
    driver = stage(family=socket.AF_UNIX, turn_bytes_max=4096)
    content = random.Random(0).randbytes(40_000)
    head, fd = head_of(packed(content)), os.memfd_create("content")
    os.write(fd, content)
    put(driver.lane, b"/a", Fake(Held(head, content, fd=fd)))
    driver.functions[TARGET] = lambda _: b"hello"
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        early = [stack.enter_context(Client(driver.where)) for _ in range(8)]
        for client in early:
            driver.ask(client, get(TARGET))
        late = [stack.enter_context(Client(driver.where)) for _ in range(150)]
        for client in late + early:
            client.send(PLAIN)
        length = len(b"HTTP/1.1 200 OK\r\n" + DATE + head + content)
        for client in early + late:  # before any is read: no event brings back one that is lost
            driver.until(lambda client=client: unread(client) == length)
            assert client.read_exactly(length).endswith(content)


# --- the log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["combined", "json"])
def test_what_needs_escaping_is_asked_for_once_by_the_general_lane(stage: Callable[..., Stage], form: str) -> None:
    driver = stage(log=True, access_log="-", access_log_format=form)
    odd = get(TARGET, b'User-Agent: a "quoted" one')
    with Client(driver.where) as client:
        assert driver.ask(client, get(TARGET, b"User-Agent: plain"))[0].body == b"hello"
        assert driver.lane.take_log().count(b"\n") == 1
        client.send(odd)
        assert driver.handed_over() == (odd, None)
    assert len(driver.called) == 1
    assert driver.lane.take_log() == b""


def test_what_is_handed_over_is_not_logged_here(stage: Callable[..., Stage]) -> None:
    driver = stage(log=True)
    driver.functions[TARGET] = lambda _: {}
    with Client(driver.where) as client:
        client.send(get(TARGET))
        driver.handed_over()
    assert driver.lane.take_log() == b""
    assert driver.lane.requests == 0


# --- ends -----------------------------------------------------------------------------------------------------


def test_when_no_connection_is_accepted_an_answer_is_the_last(stage: Callable[..., Stage]) -> None:
    driver = stage()
    with Client(driver.where) as client:
        driver.ask(client, get(TARGET))
        driver.lane.drain(True, shut=True)
        client.send(get(TARGET))
        expected = answer_of(b"hello", last=True)
        assert read_all(driver, client, len(expected)) == expected
        driver.until(lambda: driver.lane.count == 0)
        assert client.at_end()


def test_what_stands_behind_a_last_request_is_not_asked(stage: Callable[..., Stage]) -> None:
    driver = stage()
    with Client(driver.where) as client:
        answers = driver.ask(client, get(TARGET) + get(TARGET, b"Connection: close") + get(TARGET), 2)
        assert [answer.all("connection") for answer in answers] == [[], [b"close"]]
        assert client.at_end()
        client.socket.close()
        driver.until(lambda: driver.lane.count == 0)
    assert len(driver.called) == 2


def test_http_1_0_ends_with_its_answer(stage: Callable[..., Stage]) -> None:
    driver = stage()
    with Client(driver.where) as client:
        client.send(b"GET %b HTTP/1.0\r\n\r\n" % TARGET)
        driver.until(lambda: driver.called and not driver.lane.count)
        assert client.read().body == b"hello"
        assert client.at_end()


def test_a_function_may_end_all_connections_and_is_still_heard(stage: Callable[..., Stage]) -> None:
    driver = stage()
    reused: list[int] = []

    def function(_: Request) -> bytes:
        driver.lane.close_all(True)
        reused.append(os.eventfd(0))  # has the number of one that was closed
        return b"the last one"

    with Client(driver.where) as client, Client(driver.where) as other:
        for one in (client, other):
            assert driver.ask(one, get(TARGET))[0].body == b"hello"
        driver.functions[TARGET] = function
        driver.lane.forget_quick()
        answer = driver.ask(client, get(TARGET))[0]
        assert (answer.body, answer["connection"]) == (b"the last one", b"close")
        assert driver.lane.count == 1  # it lingers
        assert client.at_end()
        assert other.at_end()
        client.socket.close()
        driver.until(lambda: driver.lane.count == 0)
    os.close(reused[0])  # it was not closed a second time


def test_a_client_that_waits_while_a_function_runs_is_not_called_idle(stage: Callable[..., Stage]) -> None:
    driver = stage(head_timeout_s=1.0)
    with Client(driver.where) as silent, Client(driver.where) as client:

        def function(_: Request) -> bytes:
            silent.send(get(b"/quick"))
            time.sleep(1.2)  # longer than a client may be silent
            return b"slow"

        driver.functions[TARGET] = function
        driver.functions[b"/quick"] = lambda _: b"quick"
        assert driver.ask(client, get(TARGET))[0].body == b"slow"
        driver.until(lambda: len(driver.called) == 2)
        assert silent.read().body == b"quick"


# --- what else happens meanwhile ------------------------------------------------------------------------------


def test_the_table_of_connections_may_grow_while_a_function_runs(stage: Callable[..., Stage]) -> None:
    driver = stage()
    opened: list[int] = []

    def function(_: Request) -> bytes:
        event = os.eventfd(0)
        opened.extend((event, fcntl.fcntl(event, fcntl.F_DUPFD_CLOEXEC, 800 + 200 * len(opened))))
        driver.lane.register(opened[-1], stream=False)
        return b"x" * 100

    driver.functions[TARGET] = function
    put(driver.lane, b"/a", packed(b"content"))
    with Client(driver.where) as client:
        answers = driver.ask(client, (PLAIN + get(TARGET)) * 2 + PLAIN, 5)
        assert [one.body for one in answers] == [b"content", b"x" * 100] * 2 + [b"content"]
        for fd in opened:
            driver.lane.forget(fd)
            os.close(fd)
    assert driver.taken == []


def test_what_cannot_be_handed_over_is_not_given_to_another(stage: Callable[..., Stage]) -> None:
    driver = stage()
    with open(__file__, "rb") as plain, Client(driver.where) as client:
        own = client.socket.getsockname()

        def function(_: Request) -> object:
            for fd, sock in own_sockets():
                if peer_of(sock) == own:
                    os.dup2(plain.fileno(), fd)  # epoll refuses it; a closed one is soon another's
                    return {}
            return b"not found"

        driver.functions[TARGET] = function
        client.send(get(TARGET))
        driver.until(lambda: driver.called and driver.lane.count == 0)
    assert [made.discarded for made in driver.made] == [1]
    assert driver.taken == []
    with Client(driver.where) as other:
        other.send(get(MISSING))
        assert driver.handed_over() == (get(MISSING), None)


def test_others_may_run_while_the_lane_waits_and_while_it_needs_no_python(stage: Callable[..., Stage]) -> None:
    driver = stage()
    put(driver.lane, b"/a", packed(b"content"))
    steps = 400
    done: list[int] = []

    def talk() -> None:
        with Client(driver.where) as client:
            for number in range(steps):
                client.send(get(TARGET) if number % 8 == 0 else PLAIN)
                done.append(len(client.read().body))

    thread = threading.Thread(target=talk)
    thread.start()
    turns = 0
    while thread.is_alive():
        driver.turn(1.0)
        turns += 1
    thread.join()
    assert len(done) == steps
    assert turns < steps // 4  # it goes on within a turn


def test_others_may_run_while_functions_follow_each_other(stage: Callable[..., Stage]) -> None:
    driver = stage()
    counted = [0]
    seen: list[int] = []
    ending = threading.Event()

    def count() -> None:
        while not ending.is_set():
            counted[0] += 1

    def function(_: Request) -> bytes:
        seen.append(counted[0])
        return b"x"

    driver.functions[TARGET] = function
    thread = threading.Thread(target=count)
    thread.start()
    try:
        with Client(driver.where) as client:
            driver.until(lambda: driver.ask(client, get(TARGET) * 50, 50) and len(set(seen)) > 3)
    finally:
        ending.set()
        thread.join()
    assert seen == sorted(seen)


# --- in a connection that takes over --------------------------------------------------------------------------

WAITING_APPLICATION = """
from tests.support.stage import EVENTS

class Content:
    def __init__(self, path):
        self.path = path

    def __iter__(self):
        return iter([b"one", b"two"])

    def close(self):
        EVENTS[f"{self.path} is closed"].set()

def application(environ, start_response):
    EVENTS[f"{environ['PATH_INFO']} is asked"].set()
    start_response("200 OK", [])
    return Content(environ["PATH_INFO"])
"""


@pytest.mark.parametrize("engine", ["python", "native"])
def test_an_answer_that_waits_behind_another_is_given_up_with_its_client(
    site: Site, serve: Serve, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    EVENTS.clear()
    module = f"waiting_application_{engine}"
    (tmp_path / f"{module}.py").write_text(WAITING_APPLICATION)
    monkeypatch.syspath_prepend(tmp_path)
    site.write("page", bytes(15_000))  # is copied, so that what is behind it is asked at once
    where = str(tmp_path / "socket")
    listen, mount = (f"unix:{where}",), (f"/app={module}:application",)
    server = serve(site.root, engine=engine, listen=listen, mount=mount, servlet_threads=1)
    with Client(where) as client, StageClient(where) as other:
        general = get(b"/page", method=b"OPTIONS")  # the lane hands the connection over with all that was sent
        client.send(general + get(b"/page") * 40 + get(b"/app/waiting"))
        assert EVENTS["/waiting is asked"].wait(20)
        assert other.get("/app/other").body == b"onetwo"  # there is one thread: the first answer came before this one
        assert not EVENTS["/waiting is closed"].is_set()
        client.close()
        assert EVENTS["/waiting is closed"].wait(20)
    wait_until(lambda: not server.service.connections)

"""What is counted agrees, exactly, with what clients had and with the access log: on both engines, with any lanes."""

from __future__ import annotations

import itertools
import random
import re
import socket
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.client import Client
from tests.support.counts import counts_of
from tests.support.site import Serve, Site
from tests.support.stage import StageClient, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.config.site import SiteTable

LARGE = bytes(range(256)) * 4096
ENGINES = [("python", 1), ("native", 1), ("native", 2)]
each_engine = pytest.mark.parametrize(("engine", "lanes"), ENGINES, ids=["python", "one lane", "two lanes"])

HOST = b"Host: test\r\n"
CLOSE = b"Connection: close\r\n"
SERVLETS = {
    "hello": """
    @servlet("/hello")
    def hello(request):
        return "hello"
    """,
    "posts": """
    @servlet("/posts", methods=("POST", "PUT", "PATCH", "DELETE"))
    def posts(request):
        return request.body
    """,
    "other": """
    @servlet("/made")
    def made(request):
        return Response("made", status=201)

    @servlet("/stream")
    def stream(request):
        yield "one"
        yield "two"

    @servlet("/fails")
    def fails(request):
        raise ValueError

    @servlet("/waits")
    async def waits(request):
        await asyncio.sleep(0.001)
        return "waited"
    """,
}


class Kind(NamedTuple):
    """A request, and what answers it: `counted` is the method that it counts as."""

    sent: bytes
    status: int
    counted: str
    ends: bool = False  # the connection


def ask(method: str, target: str, status: int, *lines: bytes, counted: str = "", body: bytes = b"") -> Kind:
    head = f"{method} {target} HTTP/1.1\r\n".encode() + HOST + b"".join(line + b"\r\n" for line in lines)
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return Kind(head + length + b"\r\n" + body, status, counted or method)


KINDS = [
    *[ask("GET", "/page", 200)] * 6,
    ask("HEAD", "/page", 200),
    ask("GET", "/page?q=1", 200),
    ask("GET", "http://test/page", 200),
    ask("GET", "/large", 200),
    ask("GET", "/page", 304, b"If-None-Match: *"),
    ask("HEAD", "/page", 304, b"If-None-Match: *"),
    ask("GET", "/page", 412, b'If-Match: "other"'),
    ask("GET", "/page", 206, b"Range: bytes=0-2"),
    ask("GET", "/page", 206, b"Range: bytes=0-1,3-4"),
    ask("GET", "/large", 206, b"Range: bytes=100-"),
    ask("GET", "/page", 416, b"Range: bytes=1000-"),
    ask("GET", "/absent", 404),
    ask("HEAD", "/absent", 404),
    ask("GET", "/dir?q", 301),
    ask("GET", "/bad%zz", 400),
    ask("POST", "/page", 405),
    ask("POST", "/page", 405, body=b"a body"),
    ask("DELETE", "/page", 405),
    ask("TRACE", "/page", 405),
    ask("CONNECT", "/page", 405),
    ask("QUERY", "/page", 405, counted="other"),
    ask("BREW", "/page", 501, counted="other"),
    ask("OPTIONS", "*", 200),
    ask("GET", "/hello", 200),
    ask("HEAD", "/hello", 200),
    ask("POST", "/posts", 200, body=b"posted"),
    ask("PUT", "/posts", 200, body=b"put"),
    ask("PATCH", "/posts", 200),
    ask("DELETE", "/posts", 200),
    ask("GET", "/made", 201),
    ask("GET", "/stream", 200),
    ask("GET", "/fails", 500),
    ask("GET", "/waits", 200),
]
ENDS = [
    Kind(b"GET /page HTTP/1.1\r\n\r\n", 400, "other", ends=True),
    Kind(b"HEAD /page HTTP/1.1\r\nbad\r\n\r\n", 400, "other", ends=True),
    Kind(b"GET /page HTTP/2.0\r\n\r\n", 505, "other", ends=True),
    Kind(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "other", ends=True),
    Kind(b"GET /page HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 120 + b"\r\n", 431, "other", ends=True),
    Kind(b"POST /page HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999\r\n\r\n", 413, "POST", ends=True),
    Kind(b"GET /page HTTP/1.0\r\n\r\n", 200, "GET", ends=True),
    Kind(b"GET /hello HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 200, "GET", ends=True),
]


class Tap:
    """A socket, and how many bytes came from it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.size = 0

    def recv(self, limit: int) -> bytes:
        data = self._socket.recv(limit)
        self.size += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class Had:
    """What clients have had: answers by status and method, and bytes."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[int, str]] = Counter()
        self._taps: list[Tap] = []

    @property
    def size(self) -> int:
        return sum(tap.size for tap in self._taps)

    def connect(self, port: int) -> StageClient:
        """A client whose bytes count."""
        client = StageClient(port)
        self._taps.append(Tap(client.socket))
        client.socket = self._taps[-1]  # type: ignore[assignment]
        return client

    def read(self, client: StageClient, kind: Kind) -> None:
        """The next answer is that to a request of this kind."""
        if kind.ends:
            status = int(client.read_to_end()[9:12])
            client.close()
        else:
            status = client.read(method=kind.sent.partition(b" ")[0].decode()).status
        assert status == kind.status, kind.sent[:100]
        self.answers[status, kind.counted] += 1


def logged_in(log: Path) -> Counter[tuple[int, str]]:
    """What the access log's whole lines say, with "other" for what is no request or has an odd method. A file grows by
    pages while much is appended at once, so the last line may be on its way."""
    found: Counter[tuple[int, str]] = Counter()
    for line in log.read_text().split("\n")[:-1]:
        match = re.match(r'\S+ - - \[.*?\] "(\S+)(?: .*?)?" (\d\d\d) ', line)
        assert match is not None, line
        method = match[1] if match[1] not in ("-", "QUERY", "BREW") else "other"
        found[int(match[2]), method] += 1
    return found


def talk(
    port: int, had: Had, rng: random.Random, steps: int, changed: Callable[[Kind], Kind] = lambda kind: kind
) -> None:
    """Ask for all kinds of things, pipelined or one after the other, on connections that end and others."""
    clients = [had.connect(port) for _ in range(5)]
    for _ in range(steps):
        at = rng.randrange(len(clients))
        kinds = rng.choices(KINDS, k=rng.choice((1, 1, 1, 2, 5, 12)))
        kinds += [rng.choice(ENDS)] * (rng.random() < 0.2)
        kinds = list(map(changed, kinds))
        clients[at].send(b"".join(kind.sent for kind in kinds))
        for kind in kinds:
            had.read(clients[at], kind)
        if kinds[-1].ends:
            clients[at] = had.connect(port)
    for client in clients:
        client.close()


@pytest.fixture
def start(site: Site, serve: Serve, tmp_path: Path) -> Callable[..., Server]:
    site.write("page", b"a page")
    site.write("large", LARGE)
    site.write("dir/index.html", b"an index")

    def started(engine: str, lanes: int, *names: str, **settings: Any) -> Server:
        """With sites of these names, which serve the same."""
        folder = str(write_servlets(tmp_path, **SERVLETS))
        log = str(tmp_path / "log")
        values = {"root": site.root, "servlets": folder}
        sites = tuple(SiteTable(name=name, hosts=(f"{name}.example",), values=values) for name in names)
        named: dict[str, Any] = {"engine": engine, "lanes": lanes, "watch": False, "sites": sites, **settings}
        return serve(site.root, servlets=folder, access_log=log, **named)

    return started


@each_engine
def test_each_answer_is_counted_once_as_its_client_had_it_and_as_the_log_has_it(
    start: Callable[..., Server], tmp_path: Path, wait_until: WaitUntil, engine: str, lanes: int
) -> None:
    server = start(engine, lanes)
    had = Had()
    talk(server.port, had, random.Random(lanes), 150)
    wait_until(lambda: counts_of(server).response_bytes == had.size)
    counts = counts_of(server)
    assert dict(counts.requests) == dict(had.answers)
    assert len(counts.requests) > 25
    answers = Counter(had.answers)
    answers[413, "other"] = answers.pop((413, "POST"))  # the log names no method where a body was refused
    wait_until(lambda: logged_in(tmp_path / "log") == answers)
    assert sum(lane.bytes_sent for lane in counts.lanes) <= counts.response_bytes
    assert (counts.shed, counts.refused, counts.waits) == ({}, {}, {})


class HadBySite(Had):
    """Likewise, by the site that was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.by_site: dict[str, Counter[tuple[int, str]]] = defaultdict(Counter)
        self.sizes: Counter[str] = Counter()

    def read(self, client: StageClient, kind: Kind) -> None:
        socket: Any = client.socket
        before = socket.size - len(client.buffer)
        super().read(client, kind)
        match = re.search(rb"(?:http://|Host: )(\w+)", kind.sent)
        site = "default" if match is None or match[1] == b"test" else match[1].decode()
        if kind.status == 421 or (kind.counted == "other" and kind.ends):
            site = "(none)"
        self.by_site[site][kind.status, kind.counted] += 1
        self.sizes[site] += socket.size - len(client.buffer) - before


def for_host(kind: Kind, host: bytes) -> Kind:
    """The same of another site."""
    return kind._replace(
        sent=kind.sent.replace(b"Host: test", b"Host: " + host).replace(b"//test/", b"//" + host + b"/")
    )


@each_engine
def test_each_answer_and_byte_is_counted_for_the_site_that_was_asked_whatever_stands_in_a_pipe(
    start: Callable[..., Server], wait_until: WaitUntil, engine: str, lanes: int
) -> None:
    server = start(engine, lanes, "a", "b")
    had, rng = HadBySite(), random.Random(lanes)
    hosts = (b"test", b"a.example", b"b.example")
    talk(server.port, had, rng, 150, lambda kind: for_host(kind, rng.choice(hosts)))
    wait_until(lambda: counts_of(server).response_bytes == had.size)
    counts = counts_of(server)
    names = server.service.accounts.names
    assert names == ("(none)", "(others)", "default", "a", "b")
    found = dict(zip(names, counts.accounts, strict=True))
    assert {name: dict(one.requests) for name, one in found.items() if one.requests} == had.by_site
    assert {name: one.bytes_sent for name, one in found.items() if one.bytes_sent} == had.sizes
    assert counts.answers == sum(one.answers for one in counts.accounts) == had.answers.total()
    files = sum(found["a"].requests[key] for key in found["a"].requests if key[0] in (200, 206, 304, 412, 416))
    if engine == "native":
        assert 0 < found["a"].lane_hits < files  # servlets have answered, too, and Python


@each_engine
def test_what_no_socket_takes_at_once_is_counted_for_its_own_site(
    start: Callable[..., Server], wait_until: WaitUntil, engine: str, lanes: int
) -> None:
    server = start(engine, lanes, "a", "b", unknown_host="421")
    had = HadBySite()
    kinds = [
        for_host(ask(method, "/large" if large else "/page", status, counted=method), host + b".example")
        for method, status, host, large in [
            ("GET", 200, b"a", True), ("GET", 200, b"b", True), ("HEAD", 200, b"a", True), ("GET", 421, b"c", False),
            ("GET", 200, b"b", False), ("POST", 405, b"a", False), ("GET", 200, b"b", True), ("GET", 200, b"a", False),
        ]
    ]  # fmt: skip
    with had.connect(server.port) as client:
        client.send(b"".join(kind.sent for kind in kinds))
        for kind in kinds:
            had.read(client, kind)
        wait_until(lambda: counts_of(server).response_bytes == had.size)
    counts = counts_of(server)
    found = dict(zip(server.service.accounts.names, counts.accounts, strict=False))
    assert {name: dict(one.requests) for name, one in found.items() if one.requests} == had.by_site
    assert {name: one.bytes_sent for name, one in found.items() if one.bytes_sent} == had.sizes


@each_engine
def test_what_aborting_clients_were_to_have_is_counted_as_the_log_has_it(
    start: Callable[..., Server], tmp_path: Path, wait_until: WaitUntil, engine: str, lanes: int
) -> None:
    server = start(engine, lanes)
    rng = random.Random(lanes)
    seen = 0
    for _ in range(60):
        kinds = rng.choices(KINDS, k=rng.randrange(1, 12))
        with Client(server.port, receive_buffer=4096) as client:
            client.send(b"".join(kind.sent for kind in kinds))
            if rng.random() < 0.7:
                seen += len(client.socket.recv(rng.choice((1, 100, 5000))))
            client.reset()
    had = Had()
    with had.connect(server.port) as client:
        client.send(KINDS[0].sent)
        had.read(client, KINDS[0])
    wait_until(lambda: counts_of(server).open == 0)

    def agrees() -> bool:
        return logged_in(tmp_path / "log") == dict(counts_of(server).requests)

    wait_until(agrees)
    counts = counts_of(server)
    assert counts.accepted == 61
    assert counts.response_bytes >= seen + had.size
    assert set(counts.states.values()) == {0}


@each_engine
def test_a_hundred_thousand_pipelined_hits_are_counted_while_someone_looks(
    start: Callable[..., Server], wait_until: WaitUntil, engine: str, lanes: int
) -> None:
    server = start(engine, lanes)
    wanted = 100_000 if engine == "native" else 10_000
    batch = [KINDS[0], KINDS[6], ask("GET", "/page", 304, b"If-None-Match: *"), ask("GET", "/absent", 404)] * 25
    stream = b"".join(kind.sent for kind in batch)
    had = Had()
    clients = [had.connect(server.port) for _ in range(4)]
    looks = [counts_of(server)]
    clients[0].send(stream)
    for kind in batch:
        had.read(clients[0], kind)
    size = had.size
    for turn in range(1, wanted // len(batch)):
        client = clients[turn % len(clients)]
        client.send(stream)
        client.read_exactly(size)
        if not turn % 50:
            looks.append(counts_of(server))
    wait_until(lambda: counts_of(server).response_bytes == had.size)
    counts = counts_of(server)
    each = wanted // 4
    assert dict(counts.requests) == {(200, "GET"): each, (200, "HEAD"): each, (304, "GET"): each, (404, "GET"): each}
    assert abs(counts.durations.times - wanted) <= counts.sampled_every * (lanes + 1)
    for before, later in itertools.pairwise(looks):
        assert before.answers <= later.answers
        assert before.response_bytes <= later.response_bytes

    def is_quiet() -> bool:  # lanes look at their connections once a second
        found = counts_of(server)
        return found.states["idle"] + found.states["reading"] == found.open == len(clients)

    wait_until(is_quiet)

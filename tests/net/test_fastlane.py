"""The lane in a server: what it is taught and when it forgets, and connections that only it knows.

`warm` asks until the lane answers by itself. Its counters and tables may be read from any thread; what changes it is
done in the loop's (`in_loop`).
"""

from __future__ import annotations

import contextlib
import itertools
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.command import StartCommand
from tests.support.lanes import ordered
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil, is_readable
from zcserve import Config, Server
from zcserve.cache import store
from zcserve.cache.entry import Entry
from zcserve.errors import UsageError
from zcserve.net.fastlane import FastLane, open_front
from zcserve.net.poller import Poller
from zcserve.net.prefixes import Prefixes
from zcserve.net.stay import KEPT

pytest.importorskip("zcserve.net._lane")

NEVER = 300.0  # seconds: a deadline that is not the test's subject
LARGE = 8 << 20  # more than any socket takes whose client reads nothing
PAGE = random.Random("page").randbytes(1000)
BIG = random.Random("big").randbytes(LARGE)
GET_BIG = b"GET /big HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def start(site: Site, serve: Serve) -> Callable[..., Server]:
    """`start(**config)`: a native server of a page and a large file."""
    site.write("page", PAGE)
    site.write("big", BIG)

    def started(**config: Any) -> Server:
        server = serve(site.root, **{"engine": "native"} | config)
        assert isinstance(server, Server)
        return server

    return started


def lane_of(server: Server) -> Any:
    """The server's lane."""
    assert isinstance(server.loop.front, FastLane)
    return server.loop.front.lane


def entry_of(server: Server, key: bytes) -> Entry:
    """What the index holds for a file."""
    entry = server.site.live.resources[key]
    assert isinstance(entry, Entry)
    return entry


def ask_lane(server: Server, client: Client, target: str, *lines: str, method: str = "GET") -> Response:
    """Ask until the lane answers: the first answers teach it, and the general lane may keep a client a while."""
    lane = lane_of(server)
    for _ in range(2 * sum(KEPT)):
        before = lane.requests
        response = client.get(target, *lines, method=method)
        if lane.requests > before:
            return response
    pytest.fail(f"the lane does not answer {target} {lines}")


def warm(server: Server, *targets: str) -> None:
    """Teach the lane some resources."""
    with Client(server.port) as client:
        for target in targets:
            ask_lane(server, client, target)


def in_loop(server: Server, call: Callable[[], Any]) -> Any:
    """Run in the loop's thread and wait for the result."""
    done = threading.Event()
    results = []

    def run() -> None:
        try:
            results.append(call())
        finally:
            done.set()

    server.loop.call_soon(run)
    assert done.wait(20)
    return results[0]


@contextlib.contextmanager
def slow_reader(server: Server, wait_until: WaitUntil) -> Iterator[Client]:
    """A client that asked the lane for /big and has not read yet."""
    warm(server, "/big")
    entry = entry_of(server, b"/big")
    with Client(server.port, receive_buffer=4096) as client:
        ask_lane(server, client, "/page")
        client.send(GET_BIG)
        wait_until(lambda: lane_of(server).pinned(entry))
        yield client


def read_on(client: Client) -> Response:
    """The answer of a slow reader, which reads as fast as others from now on."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return client.read()


# --- the choice of an engine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "native"), [("python", False), ("native", True), ("auto", True)])
def test_the_engine_is_what_was_chosen(tmp_path: Path, engine: Any, native: bool) -> None:
    front = open_front(Config(root=tmp_path, engine=engine), Prefixes(), None)
    assert (type(front), front.engine) == ((FastLane, "native") if native else (Poller, "python"))
    front.close()


def test_where_it_is_not_built_native_is_an_error_and_auto_is_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zcserve.net._lane", None)
    with pytest.raises(UsageError, match="native is not built here"):
        open_front(Config(root=tmp_path, engine="native", lanes=1), Prefixes(), None)
    front = open_front(Config(root=tmp_path, engine="auto", lanes=1), Prefixes(), None)
    assert isinstance(front, Poller)
    front.close()


# --- teaching -------------------------------------------------------------------------------------------------


def test_what_was_never_asked_for_is_the_lanes_at_first_sight(site: Site, serve: Serve) -> None:
    etag = {}
    for name in ("page", "d/index.html", "head", "known", "part", "query"):
        site.write(name, PAGE)
    for suffix, content in (("", PAGE), (".br", b"br"), (".gz", b"gzip")):
        site.write("coded.txt" + suffix, content, mtime=1e9)
    server = serve(site.root, engine="native", trust_siblings=True)
    lane = lane_of(server)
    for key in ("page", "known"):
        etag[key] = entry_of(server, f"/{key}".encode()).etag.decode()
    with Client(server.port) as client:
        page = client.get("/page", "Accept-Encoding: br", "Cookie: never=seen")
        assert (page.status, page.body, page["ETag"].decode()) == (200, PAGE, etag["page"])
        assert client.get("/head", method="HEAD")["Content-Length"] == b"1000"
        assert client.get("/known", f"If-None-Match: {etag['known']}").status == 304
        assert client.get("/part", "Range: bytes=1-2").body == PAGE[1:3]
        assert client.get("/query?v=1").body == PAGE
        assert client.get("/d").status == 301
        assert client.get("/d/").body == PAGE
        assert client.get("/coded.txt", "Accept-Encoding: gzip").body == b"gzip"
        assert lane.requests == 8
        assert client.get("/page", "Host: other").status == 400
    assert lane.requests == 8


def test_the_first_sights_of_some_clients_leave_room_for_others_in_each_turn(site: Site, tmp_path: Path) -> None:
    for number in range(400):
        site.write(f"{number}", b"%d" % number)
    site.write("page", PAGE)
    where = str(tmp_path / "socket")
    server = Server(Config(root=site.root, listen=(f"unix:{where}",), engine="native", pipeline_max=40, lanes=1))
    server.open()
    try:
        lane = lane_of(server)
        with contextlib.ExitStack() as stack:
            crawlers = [stack.enter_context(Client(where)) for _ in range(20)]
            bystander = stack.enter_context(Client(where))
            for place, crawler in enumerate(crawlers):
                numbers = range(20 * place, 20 * place + 20)
                crawler.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: test\r\n\r\n" % number for number in numbers))
            bystander.send(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n")
            found = [0]
            while lane.requests < 401:
                server.loop.call_soon(lambda: None)
                server.loop.run_once()
                found.append(lane.requests)
                if is_readable(bystander.socket) and bystander.read().body == PAGE:
                    answered_at = lane.requests
            assert max(after - before for before, after in itertools.pairwise(found)) <= 2 * (64 + 1)
            assert answered_at <= 360  # 256, and more where turns are short: not behind all that the others want
            for place, crawler in enumerate(crawlers):
                assert [int(crawler.read().body) for _ in range(20)] == [*range(20 * place, 20 * place + 20)]
    finally:
        server.close()


@pytest.mark.parametrize("target", ["/page#x?y", "/%70age", "http://test?/page", "/./page"])
def test_other_spellings_stay_pythons(start: Callable[..., Server], target: str) -> None:
    server = start()
    with Client(server.port) as client:
        ask_lane(server, client, "/page")
        before = lane_of(server).requests
        for _ in range(3):
            client.get(target)
    assert lane_of(server).requests == before


@pytest.mark.parametrize("host", ["test", "example.com:8080", "[::1]:80", "%41"])
def test_a_target_with_a_host_is_its_path_and_the_lanes(site: Site, serve: Serve, host: str) -> None:
    """The first request teaches the path; of the host it only matters that it is one."""
    site.write("page", PAGE)
    site.write("index.html", b"home")
    site.write("folder/index.html", b"inside")
    server = serve(site.root, engine="native")
    with Client(server.port) as client:
        for target in ("page", "", "folder"):
            client.get(f"http://test/{target}")
    before = lane_of(server).requests
    with Client(server.port) as client:
        for scheme in ("http", "https", "HttP"):
            assert client.get(f"{scheme}://{host}/page").body == PAGE
        assert client.get(f"http://{host}/page?a=b").body == PAGE
        assert client.get("/page").body == PAGE
        assert client.get(f"http://{host}").body == client.get(f"http://{host}/").body == b"home"
        assert client.get(f"http://{host}/folder?a").all("Location") == [b"/folder/?a"]
        assert client.get(f"http://{host}/absent").status == 404
        assert lane_of(server).requests == before + 9
        assert client.get(f"http://{host}/page", "Host: other").status == 400  # a second Host


def test_a_servlet_and_the_log_are_told_the_target_as_it_was_sent(
    site: Site, serve: Serve, tmp_path: Path, wait_until: WaitUntil
) -> None:
    site.write("page", PAGE)
    folder, log = site.root.parent / "servlets", tmp_path / "access.log"
    folder.mkdir()
    source = "import zcserve\n\n@zcserve.servlet('/told')\ndef told(request):\n    return request.target\n"
    (folder / "told.py").write_text(source)
    server = serve(site.root, engine="native", servlets=str(folder), access_log=str(log))
    with Client(server.port) as client:
        for target in ("/told", "http://test/told", "/told", "http://test/told", "http://other/told"):
            assert ask_lane(server, client, target).body == target.encode()
        assert ask_lane(server, client, "http://test/page").body == PAGE
    wait_until(lambda: "http://test/page" in log.read_text())
    assert '"GET http://other/told HTTP/1.1"' in log.read_text()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_with_any_query_is_the_file_and_the_lanes(start: Callable[..., Server], method: str) -> None:
    server = start()
    with Client(server.port) as client:
        page = client.get("/page?first", method=method)
        before = lane_of(server).requests
        for query in ("", "v=42", "v=43", "a=b&c=%2F?/../", '"', "x#y", "x" * 2000):
            got = client.get(f"/page?{query}", method=method)
            assert (got.status, got.body, got.all("ETag")) == (page.status, page.body, page.all("ETag"))
        assert client.get("/page", method=method).body == page.body
    assert lane_of(server).requests == before + 8


def test_the_log_has_the_query_of_a_file(site: Site, serve: Serve, tmp_path: Path, wait_until: WaitUntil) -> None:
    site.write("page", PAGE)
    log = tmp_path / "access.log"
    server = serve(site.root, engine="native", access_log=str(log))
    with Client(server.port) as client:
        for query in ("?a", "?", "", "?b%20\\c"):
            client.get("/page" + query)
    wait_until(lambda: log.read_text().count("\n") == 4)
    asked = [line.split('"')[1] for line in log.read_text().splitlines()]
    assert ordered(asked) == ordered([f"GET /page{query} HTTP/1.1" for query in ("?a", "?", "", "?b%20\\x5cc")])


def test_what_a_servlet_keeps_for_one_query_is_for_no_other(site: Site, serve: Serve) -> None:
    site.write("page", PAGE)
    folder = site.root.parent / "servlets"
    folder.mkdir()
    source = "import zcserve\n\n@zcserve.servlet('/kept', ttl=60)\ndef kept(request):\n    return request.target\n"
    (folder / "kept.py").write_text(source)
    server = serve(site.root, engine="native", servlets=str(folder))
    with Client(server.port) as client:
        for target in ("/kept", "/kept?a", "/kept?b", "/kept?", "/kept"):
            assert ask_lane(server, client, target).body == target.encode()
        ask_lane(server, client, "/page?a")
        assert client.get("/kept/page?a").status == 404


# --- eviction -------------------------------------------------------------------------------------------------


def test_under_pressure_the_budget_is_kept_and_every_answer_is_right(
    site: Site, serve: Serve, wait_until: WaitUntil
) -> None:
    rng = random.Random(5)
    sizes = [rng.choice((2_000, 9_000, 40_000, 70_000)) for _ in range(80)]
    contents = {f"/{number}": rng.randbytes(size) for number, size in enumerate(sizes)}
    for name, content in contents.items():
        site.write(name[1:], content)
    server = serve(site.root, engine="native", memory="1M")
    failures: list[str] = []

    def use(seed: int) -> None:
        own = random.Random(seed)
        with Client(server.port) as client:
            for _ in range(300):
                # Some are asked for again and again: these the lane keeps.
                target = f"/{own.randrange(8 if own.random() < 0.7 else len(contents))}"
                if client.get(target).body != contents[target]:
                    failures.append(target)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert server.store.evictions > 20
    assert lane_of(server).requests > 100
    lane = lane_of(server)
    wait_until(lambda: not [one for one in server.site.live.entries() if lane.holds(one) and one.body is None])
    wait_until(lambda: server.store.committed <= server.store.budget)


def test_an_evicted_body_is_given_back_and_answered_again(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start()
    warm(server, "/page", "/big")
    entry, lane = entry_of(server, b"/big"), lane_of(server)
    before = server.store.committed
    server.store.drop(entry)
    wait_until(lambda: not lane.holds(entry))
    assert not lane.knows(b"/big")
    wait_until(lambda: server.store.committed <= before - LARGE)
    with Client(server.port) as client:
        assert ask_lane(server, client, "/big").body == BIG


def test_a_body_that_is_being_sent_is_passed_over(
    start: Callable[..., Server], site: Site, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LET_GO_S", NEVER)  # what it does not send it lets go of, however late its turn comes
    for name in ("one", "two"):
        site.write(name, bytes(LARGE))
    server = start(memory="20M")  # two of the three
    big, one, two = (entry_of(server, key) for key in (b"/big", b"/one", b"/two"))
    with slow_reader(server, wait_until) as client, Client(server.port) as second:
        for target, entry, other in (("/one", one, two), ("/two", two, one)) * 2:
            assert second.get(target).body == bytes(LARGE)
            assert (big.body is None, entry.body is None, other.body is None) == (False, False, True)
        assert read_on(client).body == BIG
        wait_until(lambda: not lane_of(server).pinned(big))
        for target in ("/one", "/two") * 2:
            assert second.get(target).body == bytes(LARGE)
        assert (big.body is None, one.body is None, two.body is None) == (True, False, False)


@pytest.mark.parametrize("how", ["evicted", "replaced", "gone"])
def test_a_slow_reader_gets_the_whole_of_what_it_asked_for(
    start: Callable[..., Server], site: Site, wait_until: WaitUntil, how: str
) -> None:
    server = start()
    with slow_reader(server, wait_until) as client:
        old = entry_of(server, b"/big")
        generation = server.site.live
        if how == "evicted":
            server.store.drop(old)
        elif how == "replaced":
            site.write("big", BIG[::-1])
        else:
            (site.root / "big").unlink()
        if how != "evicted":
            server.reload()
            wait_until(lambda: server.site.live is not generation)
        wait_until(lambda: not lane_of(server).holds(old))
        committed = server.store.committed
        assert read_on(client).body == BIG
        if how != "replaced":  # else the new one came into memory
            wait_until(lambda: server.store.committed <= committed - LARGE)
        if how == "replaced":
            assert ask_lane(server, client, "/big").body == BIG[::-1]
        else:
            assert client.get("/big").status == (200 if how == "evicted" else 404)


def test_after_a_reload_the_lane_serves_nothing_old(
    start: Callable[..., Server], site: Site, wait_until: WaitUntil
) -> None:
    server = start()
    stop = threading.Event()
    wrong: list[str] = []
    newest = 0

    def use() -> None:
        with Client(server.port) as client:
            while not stop.is_set():
                known = newest
                body = client.get("/version").body
                if int(body) < known:
                    wrong.append(f"{body!r} after {known}")

    site.write("version", b"0")
    first = server.site.live
    server.reload()
    wait_until(lambda: server.site.live is not first)  # or its flip is taken for the next one
    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for version in range(1, 25):
            lane = lane_of(server)
            before, generation = lane.requests, server.site.live
            wait_until(lambda lane=lane, before=before: lane.requests > before + 20)
            site.write("version", b"%d" % version)
            server.reload()
            wait_until(lambda generation=generation: server.site.live is not generation)
            in_loop(server, lambda: None)  # the flip's call is over
            newest = version
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


# --- connections ----------------------------------------------------------------------------------------------


def test_close_is_answered_and_done(start: Callable[..., Server]) -> None:
    server = start()
    for attempt in range(4):
        with Client(server.port) as client:
            response = client.get("/page", "Connection: close")
            assert (response.body, response["Connection"]) == (PAGE, b"close")
            assert client.at_end()
        assert lane_of(server).requests == attempt + 1


def test_http_10_closes_unless_told_to_stay(start: Callable[..., Server]) -> None:
    server = start()
    for _ in range(3):
        with Client(server.port) as client:
            for _ in range(3):
                client.send(b"GET /page HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                response = client.read()
                assert (response.body, response["Connection"]) == (PAGE, b"keep-alive")
            client.send(b"GET /page HTTP/1.0\r\n\r\n")
            response = client.read()
            assert (response.body, response["Connection"]) == (PAGE, b"close")
            assert client.at_end()
    assert lane_of(server).requests >= 8


def test_close_with_more_behind_it_is_answered_in_order_and_nothing_more(start: Callable[..., Server]) -> None:
    server = start()
    warm(server, "/page")
    close = b"GET /page HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    for _ in range(3):
        with Client(server.port) as client:
            client.send(close.replace(b"Connection: close\r\n", b"") + close + close)
            assert [client.read().body for _ in range(2)] == [PAGE, PAGE]
            assert client.at_end()


def test_a_client_that_says_nothing_is_closed(start: Callable[..., Server]) -> None:
    server = start(head_timeout_s=0.2, idle_timeout_s=NEVER)
    with Client(server.port) as client:
        assert client.at_end()
    assert lane_of(server).count == 0


def test_a_client_that_has_been_idle_is_closed(start: Callable[..., Server]) -> None:
    server = start(idle_timeout_s=0.3, head_timeout_s=NEVER)
    with Client(server.port) as client:
        assert ask_lane(server, client, "/page").body == PAGE
        assert client.at_end()


def test_a_client_that_does_not_read_is_closed(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start(write_timeout_s=0.3)
    with slow_reader(server, wait_until) as client:
        wait_until(lambda: lane_of(server).count == 0)
        wait_until(lambda: not lane_of(server).pinned(entry_of(server, b"/big")))  # another lane may have to tell
        with pytest.raises((EOFError, ConnectionResetError)):
            client.read()


def test_a_client_that_sends_and_does_not_read_is_closed(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start(write_timeout_s=0.3)
    lane = lane_of(server)
    with slow_reader(server, wait_until) as client:
        client.socket.setblocking(False)

        def closed() -> bool:
            with contextlib.suppress(OSError):
                client.socket.send(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n")
            return int(lane.count) == 0

        wait_until(closed)


def test_a_client_that_reads_slowly_gets_it_all(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start(write_timeout_s=1.0, turn_bytes_max=1 << 20)  # a busy machine lets a client stand still for 0.4 s
    with slow_reader(server, wait_until) as client:
        received = 0
        end = time.monotonic() + 2.2  # some deadlines long
        while time.monotonic() < end:
            received += len(client.socket.recv(4096))
            time.sleep(0.01)
        while received < LARGE:
            received += len(client.socket.recv(1 << 20)) or pytest.fail("closed early")


def test_a_reset_in_the_middle_lets_go_of_the_body(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start()
    with slow_reader(server, wait_until) as client:
        client.reset()
        wait_until(lambda: lane_of(server).count == 0)
        wait_until(lambda: not lane_of(server).pinned(entry_of(server, b"/big")))  # another lane may have to tell
    warm(server, "/big")


def test_half_closed_clients_are_answered_and_ended(start: Callable[..., Server]) -> None:
    server = start(idle_timeout_s=NEVER)
    warm(server, "/page")
    for _ in range(20):
        with Client(server.port) as client:
            client.send(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n" * 3)
            client.socket.shutdown(1)
            assert [client.read().body for _ in range(3)] == [PAGE] * 3
            assert client.at_end()


# --- clients that the lane cannot answer ---------------------------------------------------------------------------


def count_hand_overs(server: Server) -> list[int]:
    """A list that grows by one each time that the lane hands a connection over."""
    handed: list[int] = []
    server.loop.handed_over.subscribe(handed.append)
    return handed


def test_a_client_that_needs_the_general_lane_stays_with_it(start: Callable[..., Server]) -> None:
    server = start(idle_timeout_s=NEVER)
    handed = count_hand_overs(server)
    with Client(server.port) as client:
        for _ in range(160):
            assert client.get("/page", method="OPTIONS").status == 200
        assert len(handed) == 5  # after 1, 4, 16 and 64
        assert (lane_of(server).count, lane_of(server).foreign, server.service.count()) == (0, 1, 1)


def test_a_client_that_needs_it_no_more_is_the_lanes_again(start: Callable[..., Server]) -> None:
    server = start(idle_timeout_s=NEVER)
    warm(server, "/page")
    lane = lane_of(server)
    with Client(server.port) as client:
        for _ in range(30):
            client.get("/page", method="OPTIONS")
        before = lane.requests
        for _ in range(4):
            assert client.get("/page").body == PAGE
        assert lane.requests == before
        for _ in range(10):
            assert client.get("/page").body == PAGE
        assert lane.requests == before + 10
        handed = count_hand_overs(server)
        for _ in range(3):  # the first time again: it goes back at once
            client.get("/page", method="OPTIONS")
            for _ in range(5):
                client.get("/page")
        assert (len(handed), lane.requests) == (3, before + 25)


def test_a_client_that_pauses_is_the_lanes_again_and_its_idle_time_counts_from_its_last_answer(
    start: Callable[..., Server], wait_until: WaitUntil
) -> None:
    server = start(idle_timeout_s=1.6)
    lane = lane_of(server)
    with Client(server.port) as client:
        for _ in range(30):
            client.get("/page", method="OPTIONS")
        assert (lane.count, lane.foreign) == (0, 1)
        answered = time.monotonic()
        wait_until(lambda: (lane.count, lane.foreign) == (1, 0))
        assert time.monotonic() - answered > 0.9
        assert client.at_end()
        assert 1.5 < time.monotonic() - answered < 2.5


# --- too many of them -----------------------------------------------------------------------------------------


def test_at_the_limit_the_idlest_makes_room(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start(connections_max=4, idle_timeout_s=NEVER)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(4)]
        for client in clients:
            ask_lane(server, client, "/page")
        late = stack.enter_context(Client(server.port))
        assert late.get("/page").body == PAGE
        assert clients[0].at_end()
        assert clients[3].get("/page").body == PAGE
        wait_until(lambda: server.service.count() <= 4)


def test_a_burst_beyond_the_limit_is_served_all_the_same(start: Callable[..., Server]) -> None:
    server = start(connections_max=100, idle_timeout_s=NEVER)
    warm(server, "/page")
    go_on = threading.Event()
    server.loop.call_soon(lambda: go_on.wait(20))  # the loop sleeps while they queue up
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(250)]
        for client in clients:
            client.send(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n")
        go_on.set()
        for client in clients:
            assert client.read().body == PAGE


def test_without_descriptors_clients_are_served_still(site: Site, command: StartCommand) -> None:
    site.write("page", PAGE)
    limit = 60

    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    server = command(site.root, "--engine", "native", preexec_fn=few_descriptors)
    with contextlib.ExitStack() as stack:
        served = 0
        for _ in range(3 * limit):
            client = stack.enter_context(Client(server.port))
            response = client.get("/page")
            served += response.status == 200
            assert response.status in (200, 503)
    assert served > 2 * limit
    with Client(server.port) as client:
        assert client.get("/page").body == PAGE


# --- the end --------------------------------------------------------------------------------------------------


def test_a_graceful_stop_ends_when_the_lanes_last_answer_is_out(
    start: Callable[..., Server], wait_until: WaitUntil
) -> None:
    server = start(grace_s=NEVER)
    with slow_reader(server, wait_until) as client, Client(server.port) as idle:
        ask_lane(server, idle, "/page")
        server.loop.call_soon(server.stop)
        assert idle.at_end()
        assert read_on(client).body == BIG
        assert client.at_end()
    wait_until(lambda: not server.is_serving)


def test_a_stop_ends_what_is_not_read_when_grace_is_over(start: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = start(grace_s=0.3)
    with slow_reader(server, wait_until):
        server.loop.call_soon(server.stop)
        wait_until(lambda: not server.is_serving)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_whose_clients_are_all_the_lanes(site: Site, command: StartCommand, number: Any) -> None:
    site.write("page", PAGE)
    server = command(site.root, "--engine", "native")
    with Client(server.port) as client:
        for _ in range(10):
            client.get("/page")
    server.process.send_signal(number)
    assert server.wait() == 0


# --- the log --------------------------------------------------------------------------------------------------


def test_what_the_lane_answers_is_logged_though_nothing_follows(
    site: Site, serve: Serve, tmp_path: Path, wait_until: WaitUntil
) -> None:
    site.write("page", PAGE)
    log = tmp_path / "access.log"
    server = serve(site.root, engine="native", access_log=str(log))
    with Client(server.port) as client:
        for _ in range(10):
            client.get("/page", "User-Agent: tester")
    assert lane_of(server).requests > 5
    wait_until(lambda: log.read_text().count("\n") == 10)
    assert {line.partition('"')[2] for line in log.read_text().splitlines()} == {
        'GET /page HTTP/1.1" 200 1000 "-" "tester"'
    }


def test_a_full_log_is_handed_on_in_time(site: Site, serve: Serve, tmp_path: Path, wait_until: WaitUntil) -> None:
    site.write("page", PAGE)
    log = tmp_path / "access.log"
    server = serve(site.root, engine="native", access_log=str(log))
    agent = "x" * 1000
    request = f"GET /page HTTP/1.1\r\nHost: test\r\nUser-Agent: {agent}\r\n\r\n".encode()
    with Client(server.port) as client:
        for _ in range(300):
            client.send(request * 8)
            for _ in range(8):
                assert client.read().body == PAGE
    wait_until(lambda: log.read_text().count(agent) == 2400)

"""Results of servlets with a ttl over sockets, on both engines: they are content, kept no longer than said.

The fast lane answers itself what it knows, from the second request on: so most things are asked for three times.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Response
from tests.support.following import Becomes
from tests.support.servlets import results_of
from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient, write_servlet, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.net.fastlane import FastLane
from zcserve.servlets.kept import SWEPT_AT_ONCE

TIMES = 3
PROSE = "".join(f"Line {n} of a page that is worth compressing.\n" for n in range(200)).encode()
LARGE = bytes(range(256)) * 400
CONTENTS = {"small": b"a page", "empty": b"", "prose": PROSE, "large": LARGE}
KINDS = ("loop", "thread", "async")

PAGES = f"""
CONTENTS = {{"small": b"a page", "empty": b"", "prose": {PROSE!r}, "large": bytes(range(256)) * 400}}

@servlet("/made/{{file}}", ttl=60)
def made(request, file):
    name = file.removesuffix(".html")
    JOURNAL.append(name)
    return CONTENTS[name]
"""

COUNTED = """
count = itertools.count(1)

def step():
    n = next(count)
    JOURNAL.append(str(n))
    if EVENTS["hold"].is_set() and n > 1:
        assert EVENTS["go"].wait(WAIT_S)
    if EVENTS["fail"].is_set():
        raise RuntimeError("out of order")
    return n

@servlet("/loop", ttl=TTL)
def in_loop(request):
    return str(step())

@servlet("/thread", ttl=TTL, thread=True)
def in_thread(request):
    return str(step())

@servlet("/async", ttl=TTL)
async def in_task(request):
    return str(await asyncio.to_thread(step))

@servlet("/first/{kind}", ttl=60, thread=True)
def first(request, kind):
    n = next(count)
    JOURNAL.append(str(n))
    assert EVENTS["go"].wait(WAIT_S)
    return Response(str(n), headers={"Set-Cookie": f"n={n}"} if kind == "cookie" else {})

@servlet("/first-async", ttl=60)
async def first_async(request):
    n = next(count)
    JOURNAL.append(str(n))
    assert await asyncio.to_thread(EVENTS["go"].wait, WAIT_S)
    return str(n)
"""

QUERIES = """
@servlet(ttl=60)
def get(request):
    JOURNAL.append(request.query_string)
    return {
        "method": request.method, "target": request.target, "query": request.query.pairs, "params": request.params,
        "headers": request.headers.pairs, "cookies": request.cookies, "client": request.client,
    }

@servlet("/big", ttl=60)
def big(request):
    JOURNAL.append(request.query_string)
    return request.query_string.encode() * 8192
"""


def called() -> list[str]:
    """What the servlets wrote down."""
    return list(JOURNAL)


def fields_of(response: Response) -> list[tuple[bytes, bytes]]:
    """All but those that are of the moment, or that only a file has."""
    return [field for field in response.fields if field[0] not in (b"date", b"last-modified")]


@pytest.fixture
def pages(live: Serve, site: Site, tmp_path: Path) -> Callable[..., Server]:
    """`pages(**config)`: each result has a file of the same content beside it."""
    for name, content in CONTENTS.items():
        site.write(f"file/{name}.html", content)
    folder = str(write_servlets(tmp_path, pages=PAGES))
    return lambda **config: live(site.root, servlets=folder, cache_control="max-age=60", **config)


@pytest.fixture
def counted(live: Serve, site: Site, tmp_path: Path) -> Callable[..., Server]:
    """`counted(ttl, **config)`: results that say how many calls there were."""

    def start(ttl: float, **config: Any) -> Server:
        folder = write_servlets(tmp_path, counted=COUNTED.replace("TTL", str(ttl)))
        return live(site.root, servlets=str(folder), **config)

    return start


# --- content ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENTS)
def test_a_result_is_answered_as_a_file_of_the_same_content(pages: Callable[..., Server], name: str) -> None:
    with Client(pages().port) as client:
        for method in ("HEAD", *["GET"] * TIMES, "HEAD"):
            made, file = (client.get(f"/{where}/{name}.html", method=method) for where in ("made", "file"))
            assert (made.status, made.body, fields_of(made)) == (200, file.body, fields_of(file))
        assert made["Cache-Control"] == b"max-age=60"
    assert called() == [name]


@pytest.mark.parametrize(
    "lines",
    [
        ["If-None-Match: TAG"],
        ['If-None-Match: "other", TAG'],
        ['If-None-Match: "other"'],
        ["If-Match: TAG"],
        ['If-Match: "other"'],
        ["Range: bytes=2-4"],
        ["Range: bytes=-1"],
        ["Range: bytes=200000-"],
        ["Range: bytes=1-", "If-Range: TAG"],
        ["Range: bytes=1-", 'If-Range: "other"'],
        ["Accept-Encoding: identity;q=0"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["small", "large"])
def test_conditions_and_ranges_are_those_of_a_file(pages: Callable[..., Server], name: str, lines: list[str]) -> None:
    with Client(pages().port) as client:
        tag = client.get(f"/file/{name}.html")["ETag"].decode()
        asked = [line.replace("TAG", tag) for line in lines]
        for _ in range(TIMES):
            made, file = (client.get(f"/{where}/{name}.html", *asked) for where in ("made", "file"))
            assert (made.status, made.body, fields_of(made)) == (file.status, file.body, fields_of(file))
    assert called() == [name]


def test_with_compress_a_result_gets_variants_as_a_file_does(
    pages: Callable[..., Server], wait_until: WaitUntil
) -> None:
    server = pages(compress=True, compress_bytes_min=100)
    coded = ("Accept-Encoding: gzip, br, zstd",)
    with Client(server.port) as client:
        assert client.get("/made/prose.html", *coded).body == PROSE
        wait_until(lambda: client.get("/made/prose.html", *coded)["Content-Encoding"])
        for lines in (coded, ("Accept-Encoding: gzip",), (), ("Range: bytes=0-9",), ("Range: bytes=0-9", *coded)):
            for _ in range(TIMES):
                made, file = (client.get(f"/{where}/prose.html", *lines) for where in ("made", "file"))
                assert (made.status, made.body, fields_of(made)) == (file.status, file.body, fields_of(file))
        assert made["Vary"] == b"Accept-Encoding"
        assert client.get("/made/small.html", *coded)["Vary"] is None
    assert called() == ["prose", "small"]


def test_the_fast_lane_answers_it(serve: Serve, site: Site, tmp_path: Path) -> None:
    pytest.importorskip("zcserve.net._lane")
    server = serve(site.root, servlets=str(write_servlets(tmp_path, pages=PAGES)), engine="native")
    assert isinstance(server.loop.front, FastLane)
    lane = server.loop.front.lane
    with Client(server.port) as client:
        client.get("/made/large.html")
        assert lane.knows(b"/made/large.html")
        before = lane.requests
        for _ in range(5):
            assert client.get("/made/large.html").body == LARGE
        assert lane.requests == before + 5
    assert called() == ["large"]


# --- time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_servlet_is_called_once_a_ttl(counted: Callable[..., Server], wait_until: WaitUntil, kind: str) -> None:
    with Client(counted(0.2).port) as client:
        assert client.get(f"/{kind}").body == b"1"
        seen = [1]

        def third() -> bool:
            seen.extend(int(client.get(f"/{kind}").body) for _ in range(10))
            return seen[-1] >= 3

        wait_until(third)
    assert seen == sorted(seen)
    assert len(seen) > 4 * len(JOURNAL)


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_no_client_waits_for_a_result_that_is_made_again(
    counted: Callable[..., Server], becomes: Becomes, wait_until: WaitUntil, kind: str
) -> None:
    server = counted(0.1)
    EVENTS["hold"].set()
    with Client(server.port) as client:
        for _ in range(TIMES):
            assert client.get(f"/{kind}").body == b"1"
        wait_until(lambda: len(JOURNAL) == 2)
        for _ in range(TIMES):
            assert client.get(f"/{kind}").body == b"1"
        EVENTS["go"].set()
        assert int(becomes_more(client, f"/{kind}", 1, wait_until)) >= 2


def becomes_more(client: Client, target: str, than: int, wait_until: WaitUntil) -> bytes:
    return wait_until(lambda: body if int(body := client.get(target).body) > than else None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_outlives_failures_of_its_servlet(
    counted: Callable[..., Server], wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.INFO)

    def failures() -> int:
        messages = [record.getMessage() for record in caplog.records]
        return sum("failed, error " in message and f"GET /{kind}" in message for message in messages)

    def fails_again(before: int) -> bool:
        """Asked all the while: a result that is not used is not made again."""
        assert client.get(f"/{kind}").status == 200
        return failures() > before

    with Client(counted(0.5).port) as client:
        assert client.get(f"/{kind}").body == b"1"
        EVENTS["fail"].set()
        wait_until(lambda: fails_again(0))
        kept, before = client.get(f"/{kind}").body, failures()
        wait_until(lambda: fails_again(before))
        assert client.get(f"/{kind}").body == kept
        EVENTS["fail"].clear()
        assert becomes_more(client, f"/{kind}", int(kept), wait_until)
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if "goes on as it was" in message]


@pytest.mark.parametrize("kind", KINDS)
def test_a_servlet_that_fails_at_once_is_a_500_and_asked_again(counted: Callable[..., Server], kind: str) -> None:
    with Client(counted(60).port) as client:
        EVENTS["fail"].set()
        assert [client.get(f"/{kind}").status for _ in range(2)] == [500, 500]
        EVENTS["fail"].clear()
        assert [client.get(f"/{kind}").body for _ in range(TIMES)] == [b"3"] * TIMES


def test_what_was_not_used_vanishes(counted: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = counted(0.1)
    with Client(server.port) as client:
        assert client.get("/loop").body == b"1"
        resident = server.store.resident
        wait_until(lambda: not len(results_of(server)))
        wait_until(lambda: server.store.resident == resident - 1)
        assert called() == ["1"]
        assert client.get("/loop").body == b"2"


@pytest.mark.parametrize("target", ["/first/plain", "/first-async"])
def test_clients_that_ask_while_it_is_made_wait_for_one_call(
    counted: Callable[..., Server], wait_until: WaitUntil, target: str
) -> None:
    server = counted(60)
    clients = [StageClient(server.port) for _ in range(30)]
    for client in clients:
        client.ask(target)
    wait_until(lambda: len(server.service.connections) == len(clients))
    EVENTS["go"].set()
    answers = [client.read() for client in clients]
    for client in clients:
        client.close()
    assert {answer.body for answer in answers} == {b"1"}
    assert len({answer["ETag"] for answer in answers}) == 1
    assert called() == ["1"]


def test_what_is_not_for_all_answers_one(counted: Callable[..., Server], wait_until: WaitUntil) -> None:
    server = counted(60)
    clients = [StageClient(server.port) for _ in range(5)]
    for client in clients:
        client.ask("/first/cookie")
    wait_until(lambda: len(server.service.connections) == len(clients))
    EVENTS["go"].set()
    answers = [client.read() for client in clients]
    for client in clients:
        client.close()
    assert sorted(answer["Set-Cookie"] for answer in answers) == [b"n=%d" % n for n in range(1, 6)]
    assert not len(results_of(server))


def test_a_client_that_leaves_while_it_is_made_is_not_missed(
    counted: Callable[..., Server], wait_until: WaitUntil
) -> None:
    server = counted(60)
    with StageClient(server.port) as gone:
        gone.ask("/first/plain")
        wait_until(lambda: JOURNAL)
        gone.reset()
    with StageClient(server.port) as client:
        client.ask("/first/plain")
        EVENTS["go"].set()
        assert client.read().body == b"1"


# --- which ------------------------------------------------------------------------------------------------


def test_a_result_knows_the_target_and_nothing_of_its_clients(live: Serve, site: Site, tmp_path: Path) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, q=QUERIES)))
    with Client(server.port) as client:
        client.get("/csp?q&a=1", "Cookie: secret=1", "Authorization: Basic eDp5", method="HEAD")
        for _ in range(TIMES):
            told = json.loads(client.get("/csp?q&a=1", "Cookie: secret=2").body)
            assert told == {
                "method": "GET", "target": "/csp?q&a=1", "query": [["a", "1"]], "params": {},
                "headers": [], "cookies": {}, "client": "",
            }  # fmt: skip
    assert called() == ["a=1"]


def test_each_query_has_a_result_of_its_own(live: Serve, site: Site, tmp_path: Path) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, q=QUERIES)))
    with Client(server.port) as client:
        for _ in range(TIMES):
            for n in range(4):
                assert json.loads(client.get(f"/csp?q&n={n}").body)["query"] == [["n", str(n)]]
    assert called() == [f"n={n}" for n in range(4)]


def test_no_more_are_kept_than_may_be_and_what_is_used_stays(live: Serve, site: Site, tmp_path: Path) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, q=QUERIES)), servlet_results_max=3)
    with Client(server.port) as client:
        for n in range(20):
            for target in ("/csp?q&used", f"/csp?q&n={n}"):
                assert json.loads(client.get(target).body)["target"] == target
                assert len(results_of(server)) <= 3
    assert JOURNAL.count("used") == 1
    assert len(JOURNAL) == 21


@pytest.mark.parametrize("compress", [False, True])
def test_what_was_evicted_is_made_again(live: Serve, site: Site, tmp_path: Path, compress: bool) -> None:
    site.write("index.html", b"home")
    folder = str(write_servlets(tmp_path, q=QUERIES))
    server = live(site.root, servlets=folder, memory=2 << 20, compress=compress)
    with Client(server.port) as client:
        for _ in range(2):
            for n in range(100, 250):
                assert client.get(f"/big?{n}").body == b"%d" % n * 8192
        assert server.store.committed <= server.store.budget
        assert client.get("/").body == b"home"
    assert server.store.evictions > 80
    assert 150 < len(called()) <= 300


def test_many_under_a_tiny_budget_at_once(live: Serve, site: Site, tmp_path: Path) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, q=QUERIES)), memory=2 << 20)
    answers: list[tuple[int, bool]] = []

    def ask(start: int) -> None:
        with Client(server.port) as client:
            for n in range(start, start + 300, 7):
                answer = client.get(f"/big?{100 + n % 90}")
                answers.append((answer.status, answer.body == b"%d" % (100 + n % 90) * 8192))

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6 * len(range(0, 300, 7))
    assert set(answers) <= {(200, True), (503, False)}
    assert answers.count((200, True)) > len(answers) / 2
    assert server.store.committed <= server.store.budget


NOT_KEPT = {
    "cookie": ("Response('x', headers={'Set-Cookie': 'a=b'})", 200),
    "private": ("Response('x', headers={'Cache-Control': 'max-age=5, Private'})", 200),
    "no-store": ("Response('x', headers={'Cache-Control': 'no-store'})", 200),
    "vary": ("Response('x', headers={'Vary': 'Accept-Encoding, Cookie'})", 200),
    "status": ("Response('x', 203)", 203),
    "nothing": ("Response(status=204)", 204),
    "stream": ("iter([b'x', b'y'])", 200),
    "file": ("Response().send_file('/file.txt')", 200),
    "no-file": ("Response().send_file('/none.txt')", 404),
    "wrong": ("None", 500),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NOT_KEPT)
def test_what_may_not_be_kept_is_asked_for_each_time(
    live: Serve, site: Site, tmp_path: Path, name: str, kind: str
) -> None:
    site.write("file.txt", b"a file")
    made, status = NOT_KEPT[name]
    how = {"loop": "def", "thread": "def", "async": "async def"}[kind]
    source = f"""
@servlet("/it", ttl=60, thread={kind == "thread"})
{how} it(request):
    JOURNAL.append("it")
    return {made}
"""
    server = live(site.root, servlets=str(write_servlets(tmp_path, it=source)))
    with StageClient(server.port) as client:
        answers = [client.get("/it") for _ in range(TIMES)]
    assert [answer.status for answer in answers] == [status] * TIMES
    assert called() == ["it"] * TIMES
    assert not len(results_of(server))
    if name == "file":
        assert answers[-1].body == b"a file"


# --- edit and refresh -------------------------------------------------------------------------------------

VERSION = """
@servlet("/it", ttl=3600)
def it(request):
    return {0!r}

@servlet("/more/{{rest:path}}", ttl=3600)
def more(request, rest):
    return {0!r}
"""


def test_a_servlet_that_is_loaded_again_drops_its_results(
    live: Serve, site: Site, tmp_path: Path, becomes: Becomes
) -> None:
    folder = write_servlets(tmp_path, it=VERSION.format("old"), other=PAGES)
    server = live(site.root, servlets=str(folder))
    with Client(server.port) as client:
        for target, body in (
            ("/it", b"old"),
            ("/it?q=1", b"old"),
            ("/more/x", b"old"),
            ("/made/small.html", b"a page"),
        ):
            for _ in range(TIMES):
                assert client.get(target).body == body
        write_servlet(folder, "it", VERSION.format("new one"))
        for target in ("/it", "/it?q=1", "/more/x"):
            becomes(client, target, b"new one")
        for _ in range(TIMES):
            assert client.get("/made/small.html").body == b"a page"
        assert called() == ["small"]  # the other servlet's results are as they were
        write_servlet(folder, "third", "@servlet('/more/x')\ndef x(request):\n    return 'nearer'\n")
        becomes(client, "/more/x", b"nearer")
        (folder / "it.py").unlink()
        becomes(client, "/it", None)
        becomes(client, "/more/x", b"nearer")


def test_a_file_that_comes_goes_before_a_result(live: Serve, site: Site, tmp_path: Path, becomes: Becomes) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, it=VERSION.format("made"))), watch=True)
    with Client(server.port) as client:
        for target in ("/it", "/it?q=1", "/%69t"):
            for _ in range(TIMES):
                assert client.get(target).body == b"made"
        file = site.write("it", b"a file")
        for target in ("/it", "/it?q=1", "/%69t"):
            becomes(client, target, b"a file")
        file.unlink()
        for target in ("/it", "/it?q=1", "/%69t"):
            becomes(client, target, b"made")


def test_a_file_that_comes_goes_before_all_results_at_its_path_at_once(
    live: Serve, site: Site, tmp_path: Path, becomes: Becomes
) -> None:
    site.write("page", b"page")
    folder = write_servlets(tmp_path, it="@servlet('/it', ttl=60)\ndef it(request):\n    return b'made'\n")
    server = live(site.root, servlets=str(folder), watch=True)
    targets = [f"/it?{n}" for n in range(2 * SWEPT_AT_ONCE)]
    with Client(server.port) as client:
        for target in targets * 2:  # the fast lane knows them by then
            assert client.get(target).body == b"made"
        site.write("it", b"a file")
        becomes(client, targets[-1], b"a file")
        assert {client.get(target).body for target in targets} == {b"a file"}
        assert client.get("/page").body == b"page"


def test_a_result_of_code_that_was_replaced_meanwhile_is_not_kept(
    counted: Callable[..., Server], tmp_path: Path, wait_until: WaitUntil
) -> None:
    server = counted(60)
    with StageClient(server.port) as waiting, StageClient(server.port) as client:
        waiting.ask("/first/plain")
        wait_until(lambda: JOURNAL)
        write_servlet(
            tmp_path / "servlets", "counted", "@servlet('/first/plain', ttl=60)\ndef x(r):\n    return 'new'\n"
        )
        for _ in range(TIMES):
            assert client.get("/first/plain").body == b"new"
        EVENTS["go"].set()
        assert waiting.read().body == b"1"
        for _ in range(TIMES):
            assert client.get("/first/plain").body == b"new"


def test_nothing_is_left_when_the_server_ends(site: Site, tmp_path: Path) -> None:
    from zcserve import Config

    folder = str(write_servlets(tmp_path, it=VERSION.format("it")))
    with Server(Config(root=site.root, port=0, servlets=folder)) as server, Client(server.port) as client:
        client.get("/it")
        results = results_of(server)
        assert len(results) == 1
    assert not len(results)

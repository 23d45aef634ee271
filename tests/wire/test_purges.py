"""Purges while clients ask, on each engine and in each lane: nobody gets anything but old or new, and when a purge is
told to be done, nobody gets what was purged. No step of it holds the loop.

A bystander's wait beside a purge of 100,000 paths takes a minute, and a machine that does nothing else:
`ZCSERVE_SOAK_FILES=100000 python -m pytest -s tests/wire/test_purges.py -k bystander`.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.following import WITHIN_S, asking, in_loop, publish
from tests.support.site import Serve, Site
from tests.support.stage import JOURNAL, write_servlets
from tests.support.waited import BYSTANDER_FILES, check_bystander
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.content.purging import Aim, Purged

CLIENTS = 6  # with two lanes three in each
LARGE = 60_000
RESULT = """
@servlet("/made/{n}", ttl=3600)
def get(request, n):
    JOURNAL.append(n)
    return f"{n}: {len(JOURNAL)}"
"""
LAYOUTS: dict[str, dict[str, Any]] = {
    "python": {"engine": "python"},
    "1 lane": {"engine": "native", "lanes": 1},
    "2 lanes": {"lanes": 2},
}
FILES_MANY = 1500
ROUNDS = 8  # of writing and purging, beside all else
# A step of a purge of 100,000 paths took 1.6 ms of processor time at most.
STEP_MAX_S = 0.025


@pytest.fixture(params=LAYOUTS)
def start(request: pytest.FixtureRequest, serve: Serve, site: Site, tmp_path: Path) -> Callable[..., Server]:
    if request.param != "python":
        pytest.importorskip("zcserve.net._lane")

    def one(**config: Any) -> Server:
        folder = write_servlets(tmp_path, it=RESULT)
        return serve(site.root, servlets=str(folder), **LAYOUTS[request.param], **config)

    return one


def purge(server: Server, aim: Aim, *, hard: bool) -> Purged:
    """Purge, and wait until that is done."""
    told: list[Purged] = []
    in_loop(server, lambda: server.content.purging.purge(aim, hard=hard, told=told.append))
    until = time.monotonic() + 20
    while not told:
        assert time.monotonic() < until
        time.sleep(0.001)
    return told[0]


def write_unseen(path: Path, content: bytes) -> None:
    """Write another content of the same size, and give the file its old date."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def content(version: int, name: str) -> bytes:
    return (b"%d %s " % (version, name.encode()) * LARGE)[: LARGE if name.startswith("large") else 200]


@pytest.mark.parametrize("hard", [True, False])
def test_clients_get_old_or_new_meanwhile_and_new_when_it_is_done(
    start: Callable[..., Server], site: Site, hard: bool
) -> None:
    names = [f"{kind}{i}" for kind in ("small", "large") for i in range(4)]
    for name in names:
        site.write(name, content(0, name))
    server = start(watch=False)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(CLIENTS + 2)]
        newest = [0] * CLIENTS

        def ask(number: int) -> None:
            for name in names:
                least = newest[number]
                answer = clients[number].get(f"/{name}")
                assert answer.status == 200
                assert answer.body in [content(version, name) for version in range(least, 4)]

        with asking(CLIENTS, ask):
            for version in range(1, 4):
                for name in names:
                    write_unseen(site.root / name, content(version, name))
                purged = purge(server, Aim.prefix(b"/"), hard=hard)
                assert (purged.matched, purged.why) == (len(names), "")
                newest[:] = [version] * CLIENTS
                for client in clients[CLIENTS:]:
                    assert [client.get(f"/{name}").body for name in names] == [content(version, name) for name in names]


@pytest.mark.parametrize("watch", [True, False])
def test_after_a_hard_purge_no_answer_is_old_whatever_else_happens(
    start: Callable[..., Server], site: Site, watch: bool
) -> None:
    """Beside reloads, early purges, evictions, a release that is prepared again, and what is pinned."""
    names = [f"{kind}{i}" for kind in ("small", "large") for i in range(4)]
    for name in names:
        site.write(name, content(0, name))
    prepared = site.root.parent / "prepared"
    prepared.mkdir()
    (prepared / "small0").write_bytes(b"of another release")
    server = start(watch=watch, memory="200K", pin=("large0", "small0"), keep_generations=1)
    newest, version = 0, 0

    def disturb(_: int) -> None:
        ended: list[object] = []
        in_loop(
            server,
            lambda: server.content.purging.purge(Aim.glob("*1"), hard=False, told=ended.append, is_early=True),
        )
        in_loop(server, server.content.reload)
        in_loop(server, lambda: server.content.preparing.prepare(str(prepared), ended.append))
        until = time.monotonic() + WITHIN_S
        while len(ended) < 2 and time.monotonic() < until:
            time.sleep(0.005)

    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(4)]

        def ask(number: int) -> None:
            for name in names:
                least = newest
                answer = clients[number].get(f"/{name}")
                assert answer.status == 200
                assert answer.body in [content(one, name) for one in range(least, version + 1)]

        with asking(2, ask), asking(1, disturb):
            for _ in range(ROUNDS):
                version += 1
                for name in names:
                    publish(site.root / name, content(version, name))  # whole: what is evicted is read meanwhile
                assert purge(server, Aim.prefix(b"/"), hard=True).why == ""
                newest = version
                ask(2)
                ask(3)
    assert server.content.counters.failed == 0


@pytest.mark.parametrize("hard", [True, False])
def test_results_of_servlets_go_with_their_path_whatever_their_query(
    start: Callable[..., Server], hard: bool, wait_until: WaitUntil
) -> None:
    server = start()
    with Client(server.port) as client:
        targets = ["/made/a", "/made/%61?x=1", "/made/b"]
        first = [client.get(target).body for _ in range(3) for target in targets][-3:]
        assert len(JOURNAL) == 3
        purged = purge(server, Aim.paths([b"/made/a"]), hard=hard)
        assert (purged.matched, purged.purged, purged.results) == (0, 0, 2)
        assert purged.bytes == sum(map(len, first[:2]))
        if not hard:
            wait_until(lambda: len(JOURNAL) == 5)  # made again, though nobody asks
            wait_until(lambda: client.get(targets[0]).body != first[0] and client.get(targets[1]).body != first[1])
        assert client.get(targets[0]).body != first[0]
        assert client.get(targets[1]).body != first[1]
        assert client.get(targets[2]).body == first[2]
        assert len(JOURNAL) == 5


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What the tests have is not collected meanwhile: a server's own process has frozen what it began with."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_no_step_of_a_purge_of_many_holds_the_loop(start: Callable[..., Server], site: Site) -> None:
    for i in range(FILES_MANY):
        site.write(f"{i % 50}/{i}", b"%d" % i)
    server = start()
    with Client(server.port) as client:
        for i in range(0, FILES_MANY, 10):
            assert client.get(f"/{i % 50}/{i}").body == b"%d" % i  # a lane knows it
        longest = last = 0.0

        def turn() -> None:
            nonlocal longest, last
            now = time.thread_time()  # the loop's own: whatever else the machine does
            longest, last = max(longest, now - last) if last else 0.0, now

        in_loop(server, lambda: server.loop.each_turn.subscribe(turn))
        soft = purge(server, Aim.prefix(b"/"), hard=False)
        hard = purge(server, Aim.glob("**"), hard=True)
        assert (soft.purged, hard.purged, purge(server, Aim.prefix(b"/"), hard=True).purged) == (
            FILES_MANY,
            FILES_MANY,
            0,
        )
        assert 0 < longest < STEP_MAX_S
        assert client.get("/3/3").body == b"3"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bystander_of_a_purge_of_many_hardly_waits(
    engine: str, site: Site, command: StartCommand, tmp_path: Path
) -> None:
    site.write("by", b"by")  # none of what is purged: that is loaded anew, by a thread
    for i in range(BYSTANDER_FILES):
        site.write(f"many/{i % 100}/{i}", b"%d" % i)
    node = str(tmp_path / "node")
    server = command(site.root, "--engine", engine, "--admin", f"unix:{node}")
    told: list[dict[str, Any]] = []

    def purge_all(hard: bool) -> None:
        body = json.dumps({"prefix": "/many/", "hard": hard}).encode()
        fields = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with Client(node, timeout=60) as client:
            client.send(f"POST /purge HTTP/1.1\r\n{fields}".encode() + body)
            told.append(json.loads(client.read().body))

    for hard in (False, True):
        check_bystander(server, f"{engine}, {'hard' if hard else 'soft'}", partial(purge_all, hard))
        assert told[-1]["matched"] == told[-1]["purged"] == BYSTANDER_FILES

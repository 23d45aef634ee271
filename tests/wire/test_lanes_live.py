"""Content that changes while several lanes serve it: on a connection nothing old comes after something new, and nothing
that is there is 404."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.client import Client, Response
from tests.support.command import StartCommand
from tests.support.following import Known, asking
from tests.support.site import Serve, Site
from tests.support.stage import write_servlets
from tests.support.trees import publish
from tests.support.waiting import WaitUntil
from tools.bench import placed
from zcserve import Server

pytest.importorskip("zcserve.net._lane")

NAMES = [f"f{i}" for i in range(24)]
LARGE = 60_000  # of some files: their sends block
RELEASES = 12
CLIENTS = 6
REQUESTS = 60  # of a connection
SERVLET = """
from zcserve import servlet

@servlet("/%s")
def get(request):
    return b"here"
"""


def content(version: int, name: str, size: int = 0) -> bytes:
    """What a file has in a version: another length, and other bytes from end to end."""
    size = (size or (LARGE if name.endswith("0") else 200)) + 7 * version
    return (b"%d %s " % (version, name.encode()) * size)[:size]


class Visitor(threading.Thread):
    """A client that asks for one thing after the other, on one connection after the other.

    wrong   what it must not have been told
    newest  the newest version that its connection was told
    """

    def __init__(self, server: Server, stopped: threading.Event, seed: int, large: int = 0) -> None:
        super().__init__()
        self._server, self._stopped, self._choose, self._large = server, stopped, random.Random(seed), large
        self.wrong: list[str] = []
        self.answers = self.newest = 0
        self._newest_of: dict[str, int] = {}

    def run(self) -> None:
        while not self._stopped.is_set():
            self.newest, self._newest_of = 0, {}
            with Client(self._server.port) as client:
                for _ in range(REQUESTS):
                    name = self._choose.choice([*NAMES, "even", "nowhere", f"nowhere{self._choose.random()}"])
                    self._judge(name, client.get(f"/{name}"))

    def _judge(self, name: str, answer: Response) -> None:
        self.answers += 1
        version = int(answer.body.partition(b" ")[0])
        newest = self._newest_of.get(name, 0) if self._large else self.newest
        if version < newest and (answer.status == 200 or not self._large):
            self.wrong.append(f"/{name} of {version} after {newest}")
        self.newest = version
        if answer.status == 200:
            self._newest_of[name] = version
        if answer.status != (200 if name in NAMES else 404) and name != "even":
            self.wrong.append(f"/{name}: {answer.status}")
        if answer.status == 200 and answer.body != content(version, name, self._large):
            self.wrong.append(f"/{name}: not what {version} has")


@contextmanager
def visited(server: Server, large: int = 0) -> Iterator[Sequence[Visitor]]:
    """Clients, of whom none may have been told anything wrong."""
    stopped = threading.Event()
    visitors = [Visitor(server, stopped, seed, large) for seed in range(CLIENTS)]
    for visitor in visitors:
        visitor.start()
    try:
        yield visitors
    finally:
        stopped.set()
        for visitor in visitors:
            visitor.join()
    assert [wrong for visitor in visitors for wrong in visitor.wrong] == []
    assert server.content.counters.failed == 0


def build(folder: Path, release: int) -> None:
    """All files of NAMES, one that only even releases have, and the page for what is absent."""
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(content(release, name))
    if release % 2 == 0:
        (folder / "even").write_bytes(content(release, "even"))
    (folder / "404.html").write_bytes(b"%d absent" % release)


def point_to_next(root: Path, release: int) -> None:
    """Build a release, and have the root, which is a symlink, lead to it."""
    build(root.parent / str(release), release)
    aside = root.parent / "aside"
    aside.symlink_to(str(release))
    aside.rename(root)


def test_flips_beside_clients_of_every_lane(tmp_path: Path, serve: Serve, wait_until: WaitUntil) -> None:
    build(tmp_path / "1", 1)
    root = tmp_path / "root"
    root.symlink_to("1")
    server = serve(root, lanes=3, engine="native", watch=False, keep_generations=0)
    with visited(server) as visitors:
        for release in range(2, RELEASES + 1):
            point_to_next(root, release)
            server.reload()
            wait_until(lambda release=release: server.content.counters.flips == release - 1)
            with Client(server.port) as client:  # all lanes have passed the flip
                assert client.get("/nowhere").body == b"%d absent" % release
            wait_until(lambda release=release: all(one.newest == release or one.wrong for one in visitors))


def test_after_sighup_no_connection_of_either_lane_goes_back_and_none_is_behind_what_was_said(
    tmp_path: Path, command: StartCommand, wait_until: WaitUntil
) -> None:
    """Each client keeps its connection, and asks for several files at once."""
    build(tmp_path / "1", 1)
    root = tmp_path / "root"
    root.symlink_to("1")
    server = command(root, "--engine", "native", "--lanes", "2", "--no-watch", "--keep-generations", "0")
    newest, said = [0] * CLIENTS, 1
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(CLIENTS)]

        def ask(number: int) -> None:
            least = max(newest[number], said)
            names = [*random.sample(NAMES, 6), "nowhere"]
            clients[number].send(b"".join(b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % name.encode() for name in names))
            versions = [int(clients[number].read().body.partition(b" ")[0]) for _ in names]
            assert [least, *versions] == sorted([least, *versions])
            newest[number] = versions[-1]

        for number in range(CLIENTS):
            ask(number)
        assert min(placed.settled(server.pid, server.port, 2, CLIENTS).counts) > 0
        with asking(CLIENTS, ask):
            for release in range(2, RELEASES // 2 + 1):
                point_to_next(root, release)
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda release=release: sum("reloaded: " in line for line in server.lines) == release - 1)
                said = release
                wait_until(lambda release=release: min(newest) == release)


def test_replaced_added_removed_and_evicted_files_beside_clients_of_every_lane(
    tmp_path: Path, serve: Serve, known: Known
) -> None:
    root, size = tmp_path / "root", 100_000  # half of it has room
    build(root, 1)
    for name in NAMES:
        (root / name).write_bytes(content(1, name, size))
    server = serve(root, lanes=3, engine="native", memory=len(NAMES) * size // 2 + (1 << 20))
    choose = random.Random(1)
    with visited(server, size):
        for version in range(2, RELEASES):
            for name in choose.sample(NAMES, 8):
                publish(root / name, content(version, name, size))
            if version % 2:
                (root / "even").unlink(missing_ok=True)
            else:
                publish(root / "even", content(version, "even", size))
            known(server)
            with Client(server.port) as client:
                assert client.get("/even").status == (404 if version % 2 else 200)
    assert server.store.evictions > 0


def test_a_servlet_that_comes_is_found_by_the_next_request_in_every_lane(
    tmp_path: Path, site: Site, serve: Serve
) -> None:
    """Each lane has called its path absent just before."""
    folder = write_servlets(tmp_path, first=SERVLET % "first")
    server = serve(site.root, lanes=3, engine="native", servlets=str(folder))
    for turn in range(12):
        with ExitStack() as stack:
            asked = [stack.enter_context(Client(server.port)) for _ in range(CLIENTS)]
            for client in asked:  # the first lane finds the application fresh, and has these clients by then
                client.get("/first")
                client.get("/nowhere")
            others = [stack.enter_context(Client(server.port)) for _ in range(CLIENTS)]
            name = f"come{turn}"
            assert [client.get(f"/{name}").status for client in others] == [404] * CLIENTS
            publish(folder / f"{name}.py", (SERVLET % name).encode())
            assert [client.get(f"/{name}").status for client in others] == [200] * CLIENTS

"""HAProxy in front of two nodes, with the sample of deploy/: no client sees that a node warms, is drained, reloads, is
upgraded or ends.

The nodes have loopback addresses of their own: what clients and HAProxy connect from is 127.0.0.1, so no port of a node
that starts later is taken meanwhile.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.support.client import Client
from tests.support.command import CHECKOUT, READY_WITHIN_S, Command
from tests.support.site import Site
from tests.support.upgrades import Line, Load
from tests.support.waiting import wait_until
from tools.ports import free_port

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed"),
]

SAMPLE = (CHECKOUT / "deploy" / "haproxy.cfg").read_text()
FRONT, ONE, TWO = "127.0.0.1", "127.0.0.2", "127.0.0.3"
BODIES = {"/page": b"a page", "/large": b"large " * 50_000}
SMALL_FILES = 3000  # so that a start takes a while, in which the node is not ready
LAYOUTS = {
    "python": ("--engine", "python"),
    "1 lane": ("--engine", "native", "--lanes", "1"),
    "2 lanes": ("--engine", "native", "--lanes", "2"),
}
Stats: TypeAlias = dict[str, str]


class Haproxy:
    """HAProxy with the sample and other ports; and checks are as often as a test wants. `web` is where clients come,
    `port` and `admin` are each node's. Answers name the node that they are of."""

    def __init__(self, folder: Path, backend: str = "nodes") -> None:
        self.web = (FRONT, free_port(FRONT))
        self.port, self.admin = free_port(ONE, TWO), free_port(ONE, TWO)
        self._socket, self._backend = folder / "stats", backend
        config = folder / "haproxy.cfg"
        config.write_text(self._filled_in())
        self._process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stderr=subprocess.PIPE, text=True)
        wait_until(self._is_up)

    def _filled_in(self) -> str:
        text = SAMPLE
        for sample, here in (
            ("/run/haproxy/admin.sock", str(self._socket)),
            ("bind 127.0.0.1:8080", f"bind {FRONT}:{self.web[1]}"),
            (f"server one {ONE}:8080 port 8081", f"server one {ONE}:{self.port} port {self.admin}"),
            (f"server two {TWO}:8080 port 8081", f"server two {TWO}:{self.port} port {self.admin}"),
            (f"server one {ONE}:8080 track", f"server one {ONE}:{self.port} track"),
            (f"server two {TWO}:8080 track", f"server two {TWO}:{self.port} track"),
            ("default_backend nodes", f"http-response set-header Node %s\n    default_backend {self._backend}"),
            ("inter 1s fastinter 250ms", "inter 100ms fastinter 50ms"),
        ):
            assert sample in text
            text = text.replace(sample, here)
        return text

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            assert self._process.stderr is not None
            pytest.fail(self._process.stderr.read())
        try:
            return bool(self.stats("one"))
        except OSError:
            return False

    def stats(self, server: str) -> Stats:
        """What HAProxy says of a node, or of BACKEND: all nodes."""
        with Client(str(self._socket)) as client:
            client.send(b"show stat\n")
            lines = client.read_to_end().decode().removeprefix("# ").splitlines()
        return next(row for row in csv.DictReader(lines) if (row["pxname"], row["svname"]) == (self._backend, server))

    def await_status(self, server: str, status: str) -> None:
        """Wait until HAProxy takes a node for UP or DOWN."""
        wait_until(lambda: self.stats(server)["status"] == status)

    def await_share(self, server: str) -> None:
        """Wait until a node has answered a hundred more."""
        before = int(self.stats(server)["hrsp_2xx"])
        wait_until(lambda: int(self.stats(server)["hrsp_2xx"]) >= before + 100)

    def await_none(self, server: str) -> None:
        """Wait until none is under way at a node."""
        wait_until(lambda: self.stats(server)["scur"] == "0")

    def end(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(READY_WITHIN_S)
        assert self._process.stderr is not None
        self._process.stderr.close()


class Node:
    """A node at its address: `start` it as often as it has ended."""

    def __init__(self, proxy: Haproxy, host: str, root: Path, layout: str, stdout: Path) -> None:
        self.admin = (host, proxy.admin)
        where = ("--listen", f"{host}:{proxy.port}", "--admin", f"{host}:{proxy.admin}")
        self._argv = ("--root", str(root), *where, *LAYOUTS[layout])
        self._stdout = stdout
        self._started: list[tuple[Command, Line]] = []

    def start(self, listen_when: str) -> list[int]:
        """The statuses of /readyz, until it is ready."""
        command = Command((*self._argv, "--listen-when", listen_when), {}, self._stdout)
        self._started.append((command, Line(command, wait_until)))
        statuses: list[int] = []

        def is_ready() -> bool:
            try:
                with Client(self.admin) as client:
                    client.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    statuses.append(client.read().status)
            except ConnectionRefusedError:
                assert command.process.poll() is None, command.lines
                return False
            assert statuses[-1] in (200, 503)
            return statuses[-1] == 200

        wait_until(is_ready, READY_WITHIN_S)
        command.wait_ready()
        return statuses

    @property
    def line(self) -> Line:
        return self._started[-1][1]

    def ctl(self, *words: str) -> Any:
        """What `zcserve ctl` answers."""
        argv = [sys.executable, "-m", "zcserve", "ctl", "--admin", f"{self.admin[0]}:{self.admin[1]}", "--json", *words]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=CHECKOUT, check=False)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return json.loads(ended.stdout)

    def terminate(self) -> None:
        """End the process that serves now, in order."""
        command, line = self._started[-1]
        os.kill(line.pid, signal.SIGTERM)
        line.await_end(line.pid)
        if line.pid == command.pid:
            assert command.wait() == 0

    def end(self) -> None:
        """End what is left."""
        for command, line in self._started:
            line.end()
            command.end()


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    if request.param != "python":
        pytest.importorskip("zcserve.net._lane")
    return str(request.param)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files that are asked for, and many that only take time."""
    site = Site(tmp_path_factory.mktemp("site"))
    for target, body in BODIES.items():
        site.write(target[1:], body)
    small = site.write("small/0", b"small")
    for number in range(1, SMALL_FILES):
        os.link(small, small.with_name(str(number)))
    return site.root


@pytest.fixture
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haproxy]:
    made = Haproxy(tmp_path_factory.mktemp("h"))  # a short path: that of a unix socket has 97 bytes at most there
    yield made
    made.end()


@pytest.fixture
def proxy_by_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haproxy]:
    made = Haproxy(tmp_path_factory.mktemp("h"), "by_path")
    yield made
    made.end()


@pytest.fixture
def node(root: Path, layout: str, tmp_path: Path) -> Iterator[Callable[[Haproxy, str], Node]]:
    """`node(proxy, host)`: one that is not started yet."""
    with ExitStack() as stack:

        def make(proxy: Haproxy, host: str) -> Node:
            made = Node(proxy, host, root, layout, tmp_path / f"stdout-{host}")
            stack.callback(made.end)
            return made

        yield make


def drain(proxy: Haproxy, name: str, node: Node) -> None:
    """Have the front see that a node is drained, and send it nothing any more."""
    assert node.ctl("drain")["draining"] is True
    proxy.await_status(name, "DOWN")
    proxy.await_none(name)


def starts(proxy: Haproxy, name: str, node: Node, listen_when: str) -> None:
    """Start a node that is not ready at once, and have it get its share when it is."""
    proxy.await_status(name, "DOWN")
    assert set(node.start(listen_when)) == {200, 503}
    proxy.await_status(name, "UP")
    proxy.await_share(name)


def reloads(proxy: Haproxy, name: str, node: Node) -> None:
    before = node.ctl("stats")["generation"]["reloads_total"]
    node.ctl("reload")
    wait_until(lambda: node.ctl("stats")["generation"]["reloads_total"] > before)
    proxy.await_share(name)


def is_upgraded(proxy: Haproxy, name: str, node: Node) -> None:
    old = node.line.pid
    node.ctl("upgrade")
    node.line.await_successor(0)
    node.line.await_end(old)
    assert node.ctl("stats")["pid"] == node.line.pid != old
    proxy.await_share(name)
    assert proxy.stats(name)["status"] == "UP"


def test_no_client_sees_what_becomes_of_a_node(proxy: Haproxy, node: Callable[[Haproxy, str], Node]) -> None:
    one, two = node(proxy, ONE), node(proxy, TWO)
    one.start("ready")
    proxy.await_status("one", "UP")
    with Load(proxy.web, BODIES) as load:
        starts(proxy, "two", two, "start")

        drain(proxy, "one", one)
        proxy.await_share("two")
        assert one.ctl("undrain")["draining"] is False
        proxy.await_status("one", "UP")
        proxy.await_share("one")

        reloads(proxy, "two", two)
        is_upgraded(proxy, "two", two)

        drain(proxy, "one", one)
        one.terminate()
        starts(proxy, "one", one, "ready")

        two.terminate()  # which the front learns from what fails there
        proxy.await_status("two", "DOWN")
        proxy.await_share("one")
    assert load.faults == []
    assert min(load.counts) > 100
    assert proxy.stats("BACKEND")["hrsp_5xx"] == "0"


@pytest.mark.parametrize("layout", ["1 lane"], indirect=True)
def test_by_path_each_path_has_its_node_and_comes_back_to_it(
    proxy_by_path: Haproxy, node: Callable[[Haproxy, str], Node]
) -> None:
    proxy = proxy_by_path
    paths = [f"/small/{number}" for number in range(200)]

    def nodes_of(paths: list[str], query: str) -> dict[str, str]:
        with Client(proxy.web) as client:
            return {path: client.get(path + query)["node"].decode() for path in paths}

    one, two = node(proxy, ONE), node(proxy, TWO)
    for each in (one, two):
        each.start("ready")
    proxy.await_status("one", "UP")
    proxy.await_status("two", "UP")
    before = nodes_of(paths, "")
    assert nodes_of(paths, "?a=b") == before
    count = list(before.values()).count("one")
    assert 50 < count < 150  # of 200
    with Load(proxy.web, BODIES) as load:
        drain(proxy, "two", two)
        assert set(nodes_of(paths, "").values()) == {"one"}
        two.ctl("undrain")
        proxy.await_status("two", "UP")
        proxy.await_share("two")
    assert nodes_of(paths, "") == before  # under load some would be the other's, which has less to do
    assert load.faults == []


def test_the_sample_is_what_haproxy_takes_without_a_warning() -> None:
    ended = subprocess.run(
        ["haproxy", "-c", "-V", "-f", str(CHECKOUT / "deploy" / "haproxy.cfg")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0
    assert not re.search("WARNING|ALERT", ended.stdout + ended.stderr)

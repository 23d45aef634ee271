"""How cost grows with the number of files: a thousand, a hundred thousand, a million of about 1 KB, a hundred to a
directory.

For each number of files: `tar` of the warm tree; a server of it, from its start to its first answer, and its memory; a
reload after 1% of the files changed, from SIGHUP to the first new byte; the answers that a client gets all the while;
and CPU per request for files at random, once each of them was asked for. Content is turned round to change it, twice,
so that the tree is the same afterwards. `tar` runs before each start: both sides find the page cache warm. The
servers do not watch the tree, so that a reload has to look at all of it.

The look-ups alone are timed in a process of their own, on keys made anew, as a request's are.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tools.bench.content import Tree, keep_tree
from tools.bench.errors import BenchError
from tools.bench.idle import wait_until_idle
from tools.bench.load import run_load
from tools.bench.peers import Peer, Server, running
from tools.bench.preload import PRELOAD_TIMEOUT_S, tar_seconds
from tools.bench.proc import cpu_seconds, memory_bytes
from tools.bench.report import Table
from tools.bench.rounds import pick_cores
from tools.bench.workloads import Workload

SIZES = (500, 1500)  # bytes of the least and the largest file: about 1 KB each
CHANGED_SHARE = 0.01
RELOAD_TIMEOUT_S = 300.0
WATCH_PAUSE_S = 0.005
AFTERMATH_S = 3.0  # in which the old generation is given up
SIGNAL_PAUSE_S = 0.01  # a server in the middle of answers hears a signal when it next has a pause
PIPELINE = 16  # requests at once while every file is asked for
LOOK_UPS = 200_000
AT_RANDOM = Workload("files at random", path="/")


def engines() -> tuple[str, ...]:
    """What zcserve can be asked for here, by `--engine`."""
    return ("native", "python") if find_spec("zcserve.net._lane") else ("python",)


@dataclass(frozen=True)
class Reload:
    """One reload: seconds until the first new byte, and the longest wait for an answer until the old is given up."""

    seconds: float
    longest_answer_s: float


@dataclass(frozen=True)
class Served:
    """One engine: memory after every file was asked for once, and then CPU for a request, in microseconds."""

    memory_bytes: int
    cpu_us: float


@dataclass(frozen=True)
class Growth:
    """One number of files: seconds, bytes (as proc.memory_bytes tells them), nanoseconds a look-up."""

    files: int
    content_bytes: int
    tar_s: float
    ready_s: float
    empty_ready_s: float
    memory_bytes: int
    empty_memory_bytes: int
    reloads: tuple[Reload, ...]
    served: dict[str, Served]
    dict_ns: float
    table_ns: float | None  # None: the compiled lane is not built here

    def beyond_content(self, memory: int) -> float:
        """Bytes a file on top of its content and of an empty server."""
        return (memory - self.empty_memory_bytes - self.content_bytes) / self.files


class _Client:
    """A connection that asks for one target, or a few, at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._host = b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port
        self._rest = b""

    def get(self, targets: Sequence[str]) -> bytes:
        """Ask for all of them at once; the content of the last. Raises BenchError."""
        self._socket.sendall(b"".join(b"GET %b%b" % (target.encode(), self._host) for target in targets))
        content = b""
        for target in targets:
            content = self._answer(target)
        return content

    def _answer(self, target: str) -> bytes:
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            self._receive()
        found = re.search(rb"Content-Length: (\d+)", self._rest[:end])
        if found is None or not self._rest.startswith(b"HTTP/1.1 200 "):
            raise BenchError(f"{target} is answered with {self._rest[:end]!r}")
        stop = end + 4 + int(found[1])
        while len(self._rest) < stop:
            self._receive()
        content, self._rest = self._rest[end + 4 : stop], self._rest[stop:]
        return content

    def _receive(self) -> None:
        data = self._socket.recv(1 << 18)
        if not data:
            raise BenchError("the server closed a connection")
        self._rest += data

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def _client(port: int) -> Iterator[_Client]:
    with contextlib.closing(_Client(port)) as client:
        yield client


def _turn_round(tree: Tree, paths: Sequence[str]) -> None:
    for path in paths:
        file = tree.root / path[1:]
        file.write_bytes(file.read_bytes()[::-1])


def reload(server: Server, tree: Tree, changed: Sequence[str]) -> Reload:
    """Change these files and have the server reload. Raises BenchError when nothing new is served in time."""
    with _client(server.port) as client:
        before = client.get(changed[-1:])
        _turn_round(tree, changed)
        started = time.perf_counter()
        os.kill(server.pid, signal.SIGHUP)
        time.sleep(SIGNAL_PAUSE_S)
        longest, flipped = 0.0, 0.0
        while not flipped or time.perf_counter() < flipped + AFTERMATH_S:
            asked = time.perf_counter()
            content = client.get(changed[-1:])
            answered = time.perf_counter()
            longest = max(longest, answered - asked)
            if content != before and not flipped:
                flipped = answered
            if not flipped and answered > started + RELOAD_TIMEOUT_S:
                raise BenchError("the server does not serve what changed")
            time.sleep(WATCH_PAUSE_S)
    wait_until_idle(server.pid)
    return Reload(flipped - started, longest)


def _ask_for_all(server: Server, tree: Tree) -> None:
    with _client(server.port) as client:
        for start in range(0, len(tree.paths), PIPELINE):
            client.get(tree.paths[start : start + PIPELINE])


def _serve(server: Server, tree: Tree, seconds: int, workdir: Path, run: int) -> Served:
    """CPU per request in the long run: what a file's first request costs is spent before."""
    _ask_for_all(server, tree)
    wait_until_idle(server.pid)
    memory = memory_bytes(server.pid)
    before_s = cpu_seconds(server.pid)
    done = run_load(AT_RANDOM, server.port, tree.paths, seconds=seconds, core=pick_cores()[1], workdir=workdir, run=run)
    if done.errors:
        raise BenchError(f"{server.name}: {done.errors[0]}")
    return Served(memory, (cpu_seconds(server.pid) - before_s) * 1e6 / done.requests)


def look_ups(root: Path, paths: Sequence[str]) -> tuple[float, float | None]:
    """Nanoseconds to look a random target up: in the index, and in the compiled lane's table (None: there is none)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_look_up, (root, paths))


def _look_up(root: Path, paths: Sequence[str]) -> tuple[float, float | None]:
    from zcserve.cache.entry import Entry, Paged
    from zcserve.cache.pages import Extent, Pages
    from zcserve.cache.root import Root
    from zcserve.cache.walk import walk
    from zcserve.config.table import Config

    resources = walk(Root(root), index=()).resources
    picked = random.Random(1).choices(paths, k=LOOK_UPS)
    in_index = _timed(resources.get, picked)
    try:
        from zcserve.net._lane import Lane
    except ImportError:
        return in_index, None
    lane = Lane(Config(root=root), False)
    body = Paged(b"Content-Length: 0\r\nETag: x\r\n\r\n", 0, 0, 0, Extent(Pages(), 0, 0))
    for key, entry in resources.items():
        if isinstance(entry, Entry):
            entry.body, entry.etag = body, b"x"
            lane.put(key, (entry,))
    return in_index, _timed(lane.knows, picked)


def _timed(look: Callable[[bytes], object], picked: Sequence[str]) -> float:
    """Nanoseconds a call, the loop's own left out; keys are new objects, whose hash is not computed yet."""
    spent = []
    for _ in range(5):
        keys = [path.encode() for path in picked]
        started = time.perf_counter_ns()
        for _ in keys:
            pass
        began = time.perf_counter_ns()
        for key in keys:
            look(key)
        spent.append((time.perf_counter_ns() - began) - (began - started))
    return median(spent) / len(picked)


def run_million(
    peers: dict[str, Peer],
    counts: Sequence[int],
    *,
    kept: Path | None,
    seconds: int,
    said: Callable[[Growth], None] = lambda one: None,
) -> list[Growth]:
    """Measure `peers` (by engine) over trees of so many files, made below `kept` or removed again.

    Raises BenchError when a server does not start, or answers wrong.
    """
    done = []
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made:
        workdir = Path(made)
        empty = workdir / "empty"
        empty.mkdir()
        for count in counts:
            tree = keep_tree((kept or workdir) / str(count), count, SIZES)
            os.sync()
            tar_seconds(tree.root)
            done.append(_measure(peers, tree, empty, workdir, seconds))
            said(done[-1])
    return done


def _measure(peers: dict[str, Peer], tree: Tree, empty: Path, workdir: Path, seconds: int) -> Growth:
    engine = next(iter(peers))
    core = pick_cores()[0]
    with running("empty", peers[engine], empty, workdir) as server:
        empty_ready_s, empty_memory = server.ready_s, memory_bytes(server.pid)
    step = max(1, int(1 / CHANGED_SHARE))
    changed = tree.paths[step // 2 :: step]
    served = {}
    tar_s = tar_seconds(tree.root)
    for number, (name, peer) in enumerate(peers.items()):
        if number:
            tar_seconds(tree.root)
        with _over(name, peer, tree, workdir, core) as server:
            if not number:
                first = Growth(
                    len(tree.paths), tree.content_bytes, tar_s, server.ready_s, empty_ready_s,
                    memory_bytes(server.pid), empty_memory,
                    tuple(reload(server, tree, changed) for _ in range(2)), {}, 0.0, None,
                )  # fmt: skip
            served[name] = _serve(server, tree, seconds, workdir, number)
    dict_ns, table_ns = look_ups(tree.root, tree.paths)
    return replace(first, served=served, dict_ns=dict_ns, table_ns=table_ns)


def _over(name: str, peer: Peer, tree: Tree, workdir: Path, core: int) -> contextlib.AbstractContextManager[Server]:
    return running(name, peer, tree.root, workdir, ready_path=tree.paths[-1], start_timeout_s=PRELOAD_TIMEOUT_S)


def table(done: Sequence[Growth]) -> Table:
    """A line for each figure, a column for each number of files, and how the last compares with the first."""
    lines: list[tuple[str, str, list[float | None], int]] = [
        ("tar of the warm tree", "s", [one.tar_s for one in done], 2),
        ("start to the first answer", "s", [one.ready_s for one in done], 2),
        ("the same of an empty root", "s", [one.empty_ready_s for one in done], 2),
        ("start / tar", "x", [one.ready_s / one.tar_s for one in done], 2),
        ("memory a file beyond its content", "bytes", [one.beyond_content(one.memory_bytes) for one in done], 0),
        ("reload, 1% changed", "s", [_reload_s(one) for one in done], 3),
        ("reload / start", "%", [100 * _reload_s(one) / one.ready_s for one in done], 1),
        (
            "longest wait for an answer meanwhile", "ms",
            [1000 * median(each.longest_answer_s for each in one.reloads) for one in done], 1,
        ),
        ("look-up in the index", "ns", [one.dict_ns for one in done], 0),
        ("look-up in the lane's table", "ns", [one.table_ns for one in done], 0),
    ]  # fmt: skip
    for engine in done[0].served:
        lines += [
            (f"CPU a request, {engine}", "us", [one.served[engine].cpu_us for one in done], 2),
            (
                f"memory a file, each asked for once, {engine}", "bytes",
                [one.beyond_content(one.served[engine].memory_bytes) for one in done], 0,
            ),
        ]  # fmt: skip
    columns = ("figure", "unit", *(f"{one.files:,} files" for one in done), "last / first")
    rows = [
        (name, unit, *("-" if value is None else f"{value:,.{decimals}f}" for value in values), _grown(values))
        for name, unit, values, decimals in lines
    ]
    return Table("How cost grows with the number of files", columns, tuple(rows), numbers_from=2)


def _reload_s(one: Growth) -> float:
    return median(each.seconds for each in one.reloads)


def _grown(values: Sequence[float | None]) -> str:
    first, last = values[0], values[-1]
    return f"{last / first:,.2f}" if first and last else "-"

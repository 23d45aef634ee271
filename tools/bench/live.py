"""How soon a change is served, and what others notice of it.

A page is replaced by rename, again and again, and asked for until the new one comes: by a client that pauses between
two questions, and by one that does not. Then one page is asked for each millisecond while much else is replaced: a
burst of files, by a process of its own, as rsync does it, and a whole release, by re-pointing the root. It must not
know how zcserve does it. Odd about it: the client's own 0.2 ms an answer are in every figure.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from tools.bench.content import FILES_PER_DIRECTORY, Tree, make_files
from tools.bench.errors import BenchError
from tools.bench.peers import Peer, Server, running
from tools.bench.preload import PRELOAD_TIMEOUT_S
from tools.bench.report import Table

ASK_EVERY_S = 0.001
# Between two changes: the watcher's longest wait, so that each is told by itself.
REST_S = 0.05
TIMEOUT_S = 60.0
# So long after the last change the longest wait is still looked for: the old is given up then.
AFTERMATH_S = 1.0
PROBE = "/probe.html"

# Writes files by temporary name and rename: root, how many, their content.
_BURST = """
import os, sys
root, count, directory, content = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
for number in range(count):
    where = f"{root}/burst/{number // directory}"
    os.makedirs(where, exist_ok=True)
    with open(f"{where}/.new", "wb") as file:
        file.write(content * 100)
    os.rename(f"{where}/.new", f"{where}/{number}.html")
"""


@dataclass(frozen=True)
class Calm:
    """Seconds from each rename to the new page, and the longest wait for an answer."""

    served_s: tuple[float, ...]
    longest_answer_s: float


@dataclass(frozen=True)
class Change:
    """Seconds until all of a large change was served, and how long an answer took meanwhile."""

    seconds: float
    p99_answer_s: float
    longest_answer_s: float


@dataclass(frozen=True)
class Live:
    """What one engine did."""

    paused: Calm
    hammered: Calm
    burst: Change
    release: Change


class _Asking:
    """One connection, and how long each of its answers took."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
        self.waits_s: list[float] = []

    def get(self, target: str) -> bytes | None:
        """The content, None for 404. Raises BenchError for any other answer."""
        asked = time.perf_counter()
        self._connection.request("GET", target)
        answer = self._connection.getresponse()
        content = answer.read()
        self.waits_s.append(time.perf_counter() - asked)
        if answer.status not in (200, 404):
            raise BenchError(f"{target} is answered with {answer.status}")
        return content if answer.status == 200 else None

    def until(self, target: str, content: bytes, pause_s: float, *, probe: str | None = None) -> None:
        """Ask (and for `probe`, too) until this is what is served."""
        deadline = time.perf_counter() + TIMEOUT_S
        while self.get(target) != content:
            if time.perf_counter() > deadline:
                raise BenchError(f"{target} does not change")
            time.sleep(pause_s)
            if probe is not None and self.get(probe) is None:
                raise BenchError(f"{probe} is not there")

    def rest(self, seconds: float, target: str) -> None:
        """Go on asking for a while."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.get(target)
            time.sleep(ASK_EVERY_S)

    def close(self) -> None:
        self._connection.close()


def _publish(root: Path, target: str, content: bytes) -> None:
    aside = root / ".aside"
    aside.write_bytes(content)
    aside.rename(root / target[1:])


def _calm(server: Server, root: Path, times: int, pause_s: float) -> Calm:
    served = []
    with closing(_Asking(server)) as client:
        for number in range(times):
            client.rest(REST_S, PROBE)
            content = b"version %06d " % number * 100
            started = time.perf_counter()
            _publish(root, PROBE, content)
            client.until(PROBE, content, pause_s)
            served.append(time.perf_counter() - started)
        return Calm(tuple(served), max(client.waits_s))


def _change(server: Server, target: str, content: bytes, make: Callable[[], object]) -> Change:
    with closing(_Asking(server)) as client:
        client.rest(REST_S, PROBE)
        started = time.perf_counter()
        make()
        client.until(target, content, ASK_EVERY_S, probe=PROBE)
        seconds = time.perf_counter() - started
        client.rest(AFTERMATH_S, PROBE)
        waits = client.waits_s
        return Change(seconds, quantiles(waits, n=100)[98], max(waits))


def _burst(server: Server, root: Path, files: int) -> Change:
    last = files - 1
    content = b"x" * 100
    writers: list[subprocess.Popen[bytes]] = []

    def write() -> None:
        argv = [sys.executable, "-c", _BURST, str(root), str(files), str(FILES_PER_DIRECTORY), "x"]
        writers.append(subprocess.Popen(argv))

    try:
        return _change(server, f"/burst/{last // FILES_PER_DIRECTORY}/{last}.html", content, write)
    finally:
        for writer in writers:
            writer.wait()


def _release(server: Server, current: Path, release: Path) -> Change:
    content = b"the next release"
    (release / PROBE[1:]).write_bytes(content)

    def point() -> None:
        aside = current.with_name("aside")
        aside.symlink_to(release)
        aside.rename(current)

    return _change(server, PROBE, content, point)


def run_live(peers: dict[str, Peer], *, files: int, burst: int, times: int) -> dict[str, Live]:
    """Measure `peers` (by engine) over releases of so many files. Raises BenchError when one answers wrong."""
    done = {}
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made:
        workdir = Path(made)
        trees: list[Tree] = []
        for number, name in enumerate(("one", *peers)):
            trees.append(make_files(workdir / name, files, seed=number))
            (workdir / name / PROBE[1:]).write_bytes(b"at first")
        current = workdir / "current"
        current.symlink_to(trees[0].root)
        for number, (name, peer) in enumerate(peers.items()):
            root = trees[number].root
            with running(f"own-{name}", peer, current, workdir, start_timeout_s=PRELOAD_TIMEOUT_S) as server:
                done[name] = Live(
                    _calm(server, root, times, ASK_EVERY_S),
                    _calm(server, root, times, 0),
                    _burst(server, root, burst),
                    _release(server, current, trees[number + 1].root),
                )
    return done


def table(done: dict[str, Live]) -> Table:
    """A line for each figure, a column for each engine."""
    lines: Sequence[tuple[str, Callable[[Live], float]]] = (
        ("rename to new page, median", lambda one: median(one.paused.served_s)),
        ("rename to new page, p99", lambda one: _p99(one.paused.served_s)),
        ("the same under a hammering client, median", lambda one: median(one.hammered.served_s)),
        ("the same under a hammering client, p99", lambda one: _p99(one.hammered.served_s)),
        ("longest answer meanwhile", lambda one: one.hammered.longest_answer_s),
        ("burst of files: until the last is served", lambda one: one.burst.seconds),
        ("p99 answer meanwhile", lambda one: one.burst.p99_answer_s),
        ("longest answer meanwhile", lambda one: one.burst.longest_answer_s),
        ("release of files: until it is served", lambda one: one.release.seconds),
        ("p99 answer meanwhile", lambda one: one.release.p99_answer_s),
        ("longest answer meanwhile", lambda one: one.release.longest_answer_s),
    )
    rows = tuple((name, *(f"{1000 * figure(one):,.1f}" for one in done.values())) for name, figure in lines)
    return Table("How soon a change is served, in ms", ("figure", *done), rows, numbers_from=1)


def _p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]

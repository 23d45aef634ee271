"""Interleaved rounds: every peer alive all the time, one loaded at a time, A B A B, so that what the machine
does meanwhile meets all of them alike.

It must not know what a peer or a workload is made of; it verifies, drives and measures. What is compared with
each other stands in one group of cells, and a round of a group runs each of its cells once.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.bench.content import PAGE, Tree, make_bodies, make_files, make_hello, make_page
from tools.bench.errors import BenchError
from tools.bench.idle import closed, idle_connections, wait_until_idle
from tools.bench.load import GENERATORS, Load, loading
from tools.bench.peers import ANSWER_TIMEOUT_S, Answer, Peer, Server, answer, find_program, require, running
from tools.bench.proc import cpu_seconds, memory_bytes, process_tree
from tools.bench.workloads import FILES, FILES_PREFIX, Workload


@dataclass(frozen=True)
class Sample:
    """One run against one peer. `cpu_us`: CPU microseconds of the server's process tree per request, of whichever load.

    `idle_bytes`: what its memory has grown by for each idle connection, where there are any.
    `beside_per_s`: requests/s of the load beside it, where there is one; all else is of the load itself.
    """

    workload: str
    peer: str
    round: int
    requests: int
    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    errors: tuple[str, ...]
    idle_bytes: float | None = None
    beside_per_s: float | None = None


@dataclass(frozen=True)
class Cell:
    """A workload to be run against a peer, both by name."""

    workload: str
    peer: str


def table_of_cells(peers: Mapping[str, Peer], workloads: Mapping[str, Workload]) -> list[list[Cell]]:
    """Every workload with every peer that can answer it, a group for each workload."""
    return [
        [Cell(name, peer) for peer, made in peers.items() if load.plain or not made.page_only]
        for name, load in workloads.items()
    ]


def pick_cores() -> tuple[int, int]:
    """A core for the server under load and one for the generator: the same where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[min(1, len(cores) - 1)]


def make_root(root: Path) -> Tree:
    """Everything that the workloads ask for, in one tree."""
    tree = make_files(root, FILES, FILES_PREFIX)
    make_page(root)
    make_hello(root)
    make_bodies(root)
    return tree


def _ask(server: Server, load: Workload, paths: Iterable[str]) -> Iterable[tuple[str, Answer]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_TIMEOUT_S)
    with contextlib.closing(connection):
        for path in paths:
            try:
                yield path, answer(connection, path, dict(load.sent_headers), load.method)
            except (OSError, http.client.HTTPException) as failure:
                raise BenchError(f"{server.name}: {path} was not answered ({failure!r})") from None


def fitted(server: Server, load: Workload) -> Workload:
    """The load as it is for this server: with its ETag where it asks whether that still holds."""
    if not load.not_modified:
        return load
    ((_, found),) = _ask(server, replace(load, not_modified=False), [load.path])
    if not found.etag:
        raise BenchError(f"{server.name} gives {load.path} no ETag")
    return replace(load, headers=(*load.headers, ("If-None-Match", found.etag)))


def verify(server: Server, load: Workload, tree: Tree) -> None:
    """Ask once for every target, as the load will, and compare with the file; caches are warm afterwards.

    Raises BenchError on the first answer that is not 200 with the file's bytes: none of them for a HEAD, which
    tells their number. An answer to a request with its ETag is 304 and none of them.
    """
    status = 304 if load.not_modified else 200
    for path, found in _ask(server, fitted(server, load), load.targets(tree)):
        expected = (tree.root / (load.file or path)[1:]).read_bytes()
        body = expected if (status, load.method) == (200, "GET") else b""
        told = load.method != "HEAD" or found.length == str(len(expected))
        if found.status != status or found.body != body or not told:
            got = f"{found.status} with {len(found.body)} bytes"
            raise BenchError(f"{server.name} answers {path} with {got}, not {status} with its {len(body)}")


def _memory_bytes(server: Server) -> int:
    return sum(map(memory_bytes, process_tree(server.pid)))


@dataclass(frozen=True)
class Bench:
    """Settings that all runs of one benchmark share.

    `memory_before`: a server's memory before its first idle connection. What it keeps of them for the next ones
    is thus counted in every round, as it was in the first.
    """

    tree: Tree
    workdir: Path
    seconds: int
    core: int
    memory_before: dict[str, int] = field(default_factory=dict)

    def run(self, server: Server, name: str, load: Workload, round: int, run: int) -> Sample:
        """Drive one server with one workload and measure what it cost; `run` as in `loading`."""
        load = fitted(server, load)
        if not load.idle:
            return self._drive(server, name, load, round, run)
        before = self.memory_before.setdefault(server.name, _memory_bytes(server))
        with idle_connections(server.port, load.idle) as connections:
            wait_until_idle(server.pid)
            idle_bytes = (_memory_bytes(server) - before) / load.idle
            done = self._drive(server, name, load, round, run)
            if gone := closed(connections):
                lost = f"{gone:,} of {load.idle:,} idle connections did not stay idle"
                done = replace(done, errors=(*done.errors, lost))
        wait_until_idle(server.pid)
        return replace(done, idle_bytes=idle_bytes)

    def _drive(self, server: Server, name: str, load: Workload, round: int, run: int) -> Sample:
        before_s = cpu_seconds(server.pid)
        with contextlib.ExitStack() as stack:
            beside = stack.enter_context(self._loading(server, load.beside, run, lowest=True)) if load.beside else None
            found = stack.enter_context(self._loading(server, load, run))
            done, other = found(), beside() if beside is not None else None
        spent_s = cpu_seconds(server.pid) - before_s
        requests = done.requests + (other.requests if other else 0)
        return Sample(
            workload=name,
            peer=server.name,
            round=round,
            requests=done.requests,
            requests_per_s=done.requests_per_s,
            cpu_us=spent_s * 1e6 / requests if requests else 0.0,
            p50_ms=done.p50_ms,
            p99_ms=done.p99_ms,
            errors=done.errors + (tuple(f"beside it: {error}" for error in other.errors) if other else ()),
            beside_per_s=other.requests_per_s if other else None,
        )

    def _loading(
        self, server: Server, load: Workload, run: int, *, lowest: bool = False
    ) -> contextlib.AbstractContextManager[Callable[[], Load]]:
        return loading(
            load,
            server.port,
            load.targets(self.tree),
            seconds=self.seconds,
            core=self.core,
            workdir=self.workdir,
            run=run,
            lowest=lowest,
        )


def run_rounds(
    peers: Mapping[str, Peer],
    workloads: Mapping[str, Workload],
    *,
    rounds: int,
    seconds: int,
    groups: Sequence[Sequence[Cell]] | None = None,
    said: Callable[[Sample], None] = lambda sample: None,
) -> list[Sample]:
    """Measure every cell of every group (None: `table_of_cells`) `rounds` times; `said` hears each sample at once.

    Raises BenchError before any measuring when a program is missing or a peer does not start or answer right.
    """
    groups = table_of_cells(peers, workloads) if groups is None else groups
    for peer in peers.values():
        require(peer)
    for load in itertools.chain.from_iterable(load.loads for load in workloads.values()):
        find_program(GENERATORS[load.generator].program)
    server_core, generator_core = pick_cores()
    samples = []
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made, contextlib.ExitStack() as stack:
        workdir = Path(made)
        tree = make_root(workdir / "root")
        servers = {
            name: stack.enter_context(running(name, peer, tree.root, workdir, core=server_core, ready_path=PAGE))
            for name, peer in peers.items()
        }
        for cell in itertools.chain(*groups):
            for load in workloads[cell.workload].loads:
                verify(servers[cell.peer], load, tree)
        bench = Bench(tree, workdir, seconds, generator_core)
        for order, group in enumerate(groups):
            for round, cell in itertools.product(range(1, rounds + 1), group):
                server, load = servers[cell.peer], workloads[cell.workload]
                samples.append(bench.run(server, cell.workload, load, round, order * rounds + round))
                said(samples[-1])
    return samples

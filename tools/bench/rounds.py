"""Interleaved rounds: every peer alive all the time, one loaded at a time, A B A B, so that what the machine
does meanwhile meets all of them alike.

It must not know what a peer or a workload is made of; it verifies, drives and measures. What is compared with
each other stands in one group of cells, and a round of a group runs each of its cells once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.bench.asking import asking
from tools.bench.content import (
    PAGE,
    Tree,
    make_bodies,
    make_files,
    make_hello,
    make_names,
    make_old,
    make_page,
    make_site,
)
from tools.bench.idle import closed, idle_connections, wait_until_idle
from tools.bench.load import GENERATORS, Load, loading
from tools.bench.peers import Peer, Server, find_program, require, running
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


def make_root(root: Path, *, site: bool) -> Tree:
    """Everything that the workloads ask for, in one tree; the site where they ask for it."""
    tree = make_files(root, FILES, FILES_PREFIX)
    make_page(root)
    make_hello(root)
    make_bodies(root)
    make_names(root)
    if site:
        make_site(root)
    make_old(root)
    return tree


def verify(server: Server, load: Workload, tree: Tree) -> Workload:
    """Ask once for everything, as the load will, and compare with the files; caches are warm afterwards.

    The load as it is for this server: with its validators, and with records of the requests and their answers.
    Raises BenchError on the first answer that is not the right one.
    """
    beside = verify(server, load.beside, tree) if load.beside else None
    with asking(server, tree.root) as client:
        asked = load.asked(tree)
        records = tuple(map(client.prove, asked))
        headers = load.headers if load.requests else client.fit(replace(asked[0], headers=load.headers)).headers
    return replace(load, headers=headers, beside=beside, records=records)


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
    core: int | None
    memory_before: dict[str, int] = field(default_factory=dict)

    def run(self, server: Server, name: str, load: Workload, round: int, run: int) -> Sample:
        """Drive one server with one workload that `verify` gave, and measure what it cost; `run` as in `loading`."""
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


def paced(group: Mapping[Cell, Workload], full: Callable[[Cell, Workload], float]) -> dict[Cell, Workload]:
    """The group with rates for what is asked for at a pace; `full`: requests/s of a closed loop.

    All servers have the same rate, which the slowest of them can keep: latencies of other rates are no comparison.
    """
    slow = {cell: load for cell, load in group.items() if load.pace}
    most = min((full(cell, load) for cell, load in slow.items()), default=0.0)
    return {**group, **{cell: replace(load, rate=max(1, int(load.pace * most))) for cell, load in slow.items()}}


def run_rounds(
    peers: Mapping[str, Peer],
    workloads: Mapping[str, Workload],
    *,
    rounds: int,
    seconds: int,
    groups: Sequence[Sequence[Cell]] | None = None,
    cores: tuple[int | None, int | None] | None = None,
    said: Callable[[Sample], None] = lambda sample: None,
) -> list[Sample]:
    """Measure every cell of every group (None: `table_of_cells`) `rounds` times; `said` hears each sample at once.

    `cores`: that of the servers and that of the generator (None: `pick_cores`; None for one of them: all).
    Raises BenchError before any measuring when a program is missing or a peer does not start or answer right.
    """
    groups = table_of_cells(peers, workloads) if groups is None else groups
    for peer in peers.values():
        require(peer)
    for load in itertools.chain.from_iterable(load.loads for load in workloads.values()):
        find_program(GENERATORS[load.generator].program)
    server_core, generator_core = cores or pick_cores()
    samples = []
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made, contextlib.ExitStack() as stack:
        workdir = Path(made)
        tree = make_root(workdir / "root", site=any(load.site for load in workloads.values()))
        servers = {
            name: stack.enter_context(running(name, peer, tree.root, workdir, core=server_core, ready_path=PAGE))
            for name, peer in peers.items()
        }
        ready = {cell: verify(servers[cell.peer], workloads[cell.workload], tree) for cell in itertools.chain(*groups)}
        bench = Bench(tree, workdir, seconds, generator_core)
        for order, group in enumerate(groups):
            loads = paced(
                {cell: ready[cell] for cell in group},
                lambda cell, load: bench.run(servers[cell.peer], cell.workload, load, 0, 0).requests_per_s,
            )
            for round, cell in itertools.product(range(1, rounds + 1), group):
                server, load = servers[cell.peer], loads[cell]
                samples.append(bench.run(server, cell.workload, load, round, order * rounds + round))
                said(samples[-1])
    return samples

"""Interleaved rounds: every peer alive all the time, one loaded at a time, A B A B, so that what the machine
does meanwhile meets all of them alike.

It must not know what a peer or a workload is made of; it verifies, drives and measures.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.bench.content import PAGE, Tree, make_files, make_page
from tools.bench.errors import BenchError
from tools.bench.load import run_load
from tools.bench.peers import ANSWER_TIMEOUT_S, Peer, Server, answer, find_program, running
from tools.bench.proc import cpu_seconds
from tools.bench.workloads import FILES, FILES_PREFIX, Workload


@dataclass(frozen=True)
class Sample:
    """One run against one peer. `cpu_us`: CPU microseconds of the server's process tree per request."""

    workload: str
    peer: str
    round: int
    requests: int
    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    errors: tuple[str, ...]


def pick_cores() -> tuple[int, int]:
    """A core for the server under load and one for the generator: the same where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[min(1, len(cores) - 1)]


def make_root(root: Path) -> Tree:
    """Everything that the workloads ask for, in one tree."""
    tree = make_files(root, FILES, FILES_PREFIX)
    make_page(root)
    return tree


def verify(server: Server, load: Workload, tree: Tree) -> None:
    """Ask once for every target, as the load will, and compare with the file; caches are warm afterwards.

    Raises BenchError on the first answer that is not 200 with the file's bytes.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_TIMEOUT_S)
    with contextlib.closing(connection):
        for path in load.targets(tree):
            try:
                status, body = answer(connection, path, dict(load.sent_headers))
            except (OSError, http.client.HTTPException) as failure:
                raise BenchError(f"{server.name}: {path} was not answered ({failure!r})") from None
            expected = (tree.root / path[1:]).read_bytes()
            if status != 200 or body != expected:
                got = f"{status} with {len(body)} bytes"
                raise BenchError(f"{server.name} answers {path} with {got}, not 200 with its {len(expected)}")


@dataclass(frozen=True)
class Bench:
    """Settings that all runs of one benchmark share."""

    tree: Tree
    workdir: Path
    seconds: int
    core: int

    def run(self, server: Server, name: str, load: Workload, round: int, run: int) -> Sample:
        """Drive one server with one workload and measure what it cost; `run` as in `run_load`."""
        targets = load.targets(self.tree)
        before_s = cpu_seconds(server.pid)
        done = run_load(load, server.port, targets, seconds=self.seconds, core=self.core, workdir=self.workdir, run=run)
        spent_s = cpu_seconds(server.pid) - before_s
        return Sample(
            workload=name,
            peer=server.name,
            round=round,
            requests=done.requests,
            requests_per_s=done.requests_per_s,
            cpu_us=spent_s * 1e6 / done.requests if done.requests else 0.0,
            p50_ms=done.p50_ms,
            p99_ms=done.p99_ms,
            errors=done.errors,
        )


def run_rounds(
    peers: Mapping[str, Peer],
    workloads: Mapping[str, Workload],
    *,
    rounds: int,
    seconds: int,
    said: Callable[[Sample], None] = lambda sample: None,
) -> list[Sample]:
    """Measure every peer under every workload, `rounds` times; `said` hears each sample as it comes.

    Raises BenchError before any measuring when a program is missing or a peer does not start or answer right.
    """
    generators = [load.generator for load in workloads.values()]
    for program in [peer.program for peer in peers.values()] + generators:
        find_program(program)
    server_core, generator_core = pick_cores()
    samples = []
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made, contextlib.ExitStack() as stack:
        workdir = Path(made)
        tree = make_root(workdir / "root")
        servers = [
            stack.enter_context(running(name, peer, tree.root, workdir, core=server_core, ready_path=PAGE))
            for name, peer in peers.items()
        ]
        for server, load in itertools.product(servers, workloads.values()):
            verify(server, load, tree)
        bench = Bench(tree, workdir, seconds, generator_core)
        for order, (name, load) in enumerate(workloads.items()):
            for round in range(1, rounds + 1):
                for server in servers:
                    samples.append(bench.run(server, name, load, round, order * rounds + round))
                    said(samples[-1])
    return samples

"""Whether cold files stall the loop: how long a resident page takes, alone and while others ask for files that are not
resident.

One client asks for the page, at a steady rate (`steady`) and then as fast as it is answered (`closed`), while another
asks for files at random: where everything is resident (`resident`, for comparison: what others cost that wait for
no file); where nearly nothing is, and the page cache was emptied (`cold`); and the same through a loader that waits
before each file (`slow`). Each is measured in the same round as the page alone, on the same server.

Servers run on one core, loader threads and loop alike, and both clients on another, the one that asks for files at the
lowest priority: it gets what the other leaves, so that what is measured is the server.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tools.bench.content import PAGE, make_page
from tools.bench.errors import BenchError
from tools.bench.peers import Peer, Server, build, prepare, running, zcserve
from tools.bench.report import Table
from tools.bench.rounds import pick_cores
from tools.bench.steady import STEADY_SOURCE, Latency, parse_latency, plain, write_records

BUDGET = "32M"
FILES = 4000
SMALLEST_BYTES, LARGEST_BYTES = 1_000, 2_000_000  # spread evenly over their logarithm: 260 KB in the mean
SLOW_S = 0.02
PAGE_CONNECTIONS = 16
PAGE_RATE = 2000  # in requests/s
OTHERS_CONNECTIONS = 16
OTHERS_RATE = 50
START_TIMEOUT_S = 120.0
OVERTIME_S = 30.0

# zcserve with a loader that has a slow disk under it.
SLOW_PROGRAM = """\
import sys, time
from zcserve.cache.loader import Loader
from zcserve.cli import main
load = Loader.load
def slow(*given, **named):
    time.sleep({seconds})
    return load(*given, **named)
Loader.load = slow
sys.exit(main())
"""


@dataclass(frozen=True)
class Run:
    """One run: the page's latency under `load` (steady, closed), and what others asked for meanwhile (None: alone)."""

    engine: str
    kind: str
    load: str
    round: int
    page: Latency
    others: Latency | None


def kinds(engine: str) -> dict[str, Peer]:
    """The servers: which of what others ask for is not resident, and why that takes long."""
    few, all_ = ("--engine", engine, "--memory", BUDGET), ("--engine", engine, "--memory", "4G")
    slow = zcserve(*few)

    def slowed(root: Path, port: int, own: Path) -> list[str]:
        python, *module_and_rest = slow.command(root, port, own)
        return [python, "-c", SLOW_PROGRAM.format(seconds=SLOW_S), *module_and_rest[2:]]

    return {"resident": zcserve(*all_), "cold": zcserve(*few), "slow": Peer(slow.program, slowed)}


def make_tree(root: Path, files: int) -> list[str]:
    """The page and the files; the files' targets."""
    rng = random.Random(1)
    pool = rng.randbytes(2 * LARGEST_BYTES)
    make_page(root)
    targets = []
    for number in range(files):
        size = int(math.exp(rng.uniform(math.log(SMALLEST_BYTES), math.log(LARGEST_BYTES))))
        target = f"/d{number // 100:03}/f{number:05}.bin"
        path = root / target[1:]
        path.parent.mkdir(exist_ok=True)
        start = rng.randrange(len(pool) - size)
        path.write_bytes(pool[start : start + size])
        targets.append(target)
    os.sync()  # what is not written yet cannot be dropped
    return targets


def drop_cache(paths: Sequence[Path]) -> None:
    """Empty the page cache of these files."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


@dataclass(frozen=True)
class Clients:
    """Starts clients on one core; `seconds` is the length of a run, `others_rate` files/s."""

    program: Path
    core: int
    seconds: float
    others_rate: int

    @contextlib.contextmanager
    def asking(
        self, port: int, connections: int, rate: int, records: Path, *, seed: int = 1, lowest: bool = False
    ) -> Iterator[subprocess.Popen[str]]:
        """A client at work; it is ended with the block."""
        words = (port, connections, rate, self.seconds, seed, 1, records)
        client = subprocess.Popen(
            [str(self.program), *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=functools.partial(prepare, self.core, lowest=lowest),
        )
        try:
            yield client
        finally:
            client.kill()
            client.communicate()

    def found(self, client: subprocess.Popen[str]) -> Latency:
        """What a client found, once its time is over. Raises BenchError with what it says is wrong."""
        try:
            output, _ = client.communicate(timeout=self.seconds + OVERTIME_S)
        except subprocess.TimeoutExpired:
            raise BenchError("a client did not end") from None
        if client.returncode:
            raise BenchError(output.strip() or f"a client ended with {client.returncode}")
        return parse_latency(output)


@dataclass(frozen=True)
class _Site:
    """Records of what is asked for, and the files that are."""

    page: Path
    files: Path
    paths: tuple[Path, ...]


def _measure(clients: Clients, server: Server, site: _Site, rate: int, *, seed: int) -> tuple[Latency, Latency | None]:
    """One run; `seed` 0: the page alone."""
    with contextlib.ExitStack() as stack:
        others = None
        if seed:
            drop_cache(site.paths)
            others = stack.enter_context(
                clients.asking(server.port, OTHERS_CONNECTIONS, clients.others_rate, site.files, seed=seed, lowest=True)
            )
        page = stack.enter_context(clients.asking(server.port, PAGE_CONNECTIONS, rate, site.page))
        found = clients.found(page)
        return found, clients.found(others) if others is not None else None


def run_cold(
    engines: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    others_rate: int = OTHERS_RATE,
    files: int = FILES,
    said: Callable[[Run], None] = lambda run: None,
) -> list[Run]:
    """Measure each engine in interleaved rounds. Raises BenchError when a server does not start or answers wrong."""
    server_core, client_core = pick_cores()
    done: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made:
        workdir = Path(made)
        root = workdir / "root"
        root.mkdir()
        targets = make_tree(root, files)
        site = _Site(workdir / "page", workdir / "files", tuple(root / target[1:] for target in targets))
        write_records(site.page, [plain(PAGE, "127.0.0.1")])
        write_records(site.files, [plain(target, "127.0.0.1") for target in targets])
        clients = Clients(build(STEADY_SOURCE, workdir), client_core, seconds, others_rate)
        for engine in engines:
            with contextlib.ExitStack() as stack:
                servers = {
                    kind: stack.enter_context(
                        running(
                            f"{engine}-{kind}", peer, root, workdir,
                            core=server_core, ready_path=PAGE, start_timeout_s=START_TIMEOUT_S,
                        )
                    )
                    for kind, peer in kinds(engine).items()
                }  # fmt: skip
                for run in _rounds(clients, engine, servers, site, rounds):
                    done.append(run)
                    said(run)
    return done


def _rounds(clients: Clients, engine: str, servers: dict[str, Server], site: _Site, rounds: int) -> Iterator[Run]:
    for round in range(1, rounds + 1):
        for load, rate in (("steady", PAGE_RATE), ("closed", 0)):
            for kind, server in servers.items():
                for seed in (0, round):
                    page, others = _measure(clients, server, site, rate, seed=seed)
                    yield Run(engine, kind, load, round, page, others)


def faults(done: Sequence[Run]) -> list[str]:
    """Where the page was not answered at its rate, so that its percentiles are of too few answers."""
    return [
        f"{run.engine} {run.load} {run.kind}, round {run.round}: {run.page.unanswered:,} requests were not answered"
        for run in done
        if run.page.unanswered > PAGE_CONNECTIONS
    ]


def table(done: Sequence[Run]) -> Table:
    """Medians over the rounds, and of the ratio of the 99th percentiles within a round."""
    rows = []
    cells = dict.fromkeys((run.engine, run.load, run.kind) for run in done)
    for engine, load, kind in cells:
        runs = [run for run in done if (run.engine, run.load, run.kind) == (engine, load, kind)]
        alone = {run.round: run for run in runs if run.others is None}
        beside = [run for run in runs if run.others is not None]
        ratios = sorted(run.page.p99_ms / alone[run.round].page.p99_ms for run in beside)
        for name, some in (("alone", list(alone.values())), (kind, beside)):
            others = [run.others.requests_per_s for run in some if run.others is not None]
            rows.append(
                (
                    engine,
                    load,
                    name,
                    f"{median(run.page.requests_per_s for run in some):,.0f}",
                    *(
                        f"{median(getattr(run.page, figure) for run in some):.3f}"
                        for figure in ("p50_ms", "p99_ms", "p999_ms", "max_ms")
                    ),
                    f"{median(others):,.0f}" if others else "",
                    f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if others else "",
                )
            )
    columns = (
        "engine", "load", "others", "page/s", "p50 ms", "p99 ms", "p99.9 ms", "longest ms", "others/s", "p99 / alone"
    )  # fmt: skip
    return Table("A resident page while others ask for files", columns, tuple(rows), numbers_from=3)

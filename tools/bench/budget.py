"""Whether a memory budget holds: ten times as much content as the budget, asked for at random, every body checked.

Files of 4 KB to 8 MB, sizes spread evenly over their logarithm, so that small and large compete. Clients keep their
connections and check every body by its hash. The server's memory (proc.memory_bytes) is sampled all the while; its
growth is what lies above a server of an empty root.
"""

from __future__ import annotations

import http.client
import math
import multiprocessing
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import mmh3

from tools.bench.peers import Peer, running
from tools.bench.proc import memory_bytes

SMALLEST_BYTES, LARGEST_BYTES = 4_000, 8_000_000
SAMPLE_INTERVAL_S = 0.05
START_TIMEOUT_S = 300.0
FACTOR_MAX, SLACK_BYTES = 1.15, 64 << 20


@dataclass(frozen=True)
class Budget:
    """The outcome, in bytes; `wrong` counts bodies that did not arrive as they are."""

    budget: int
    content: int
    files: int
    growth_peak: int
    requests: int
    wrong: int

    @property
    def limit(self) -> int:
        """What growth may reach."""
        return int(self.budget * FACTOR_MAX) + SLACK_BYTES

    def faults(self) -> list[str]:
        """What did not hold."""
        faults = [f"{self.wrong} of {self.requests} bodies were wrong"] if self.wrong else []
        if self.growth_peak > self.limit:
            faults.append(f"memory grew by {self.growth_peak:,} bytes, more than {self.limit:,}")
        return faults


def make_content(root: Path, total: int, seed: int = 1) -> dict[str, bytes]:
    """Write files of about `total` bytes; their request targets with the hash of their content."""
    rng = random.Random(seed)
    pool = rng.randbytes(LARGEST_BYTES + 1_000_000)
    made: dict[str, bytes] = {}
    left = total
    while left > 0:
        size = int(math.exp(rng.uniform(math.log(SMALLEST_BYTES), math.log(LARGEST_BYTES))))
        target = f"/d{len(made) // 100:03}/f{len(made):05}.bin"
        start = rng.randrange(len(pool) - size)
        content = pool[start : start + size]
        path = root / target[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        made[target] = mmh3.mmh3_x64_128_digest(content)
        left -= size
    return made


def _ask(
    port: int, hashes: dict[str, bytes], seed: int, until: float, asked: Synchronized[int], wrong: Synchronized[int]
) -> None:
    """One client: random targets on one connection until the time is over."""
    rng = random.Random(seed)
    targets = list(hashes)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.monotonic() < until:
        target = rng.choice(targets)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            right = mmh3.mmh3_x64_128_digest(answer.read()) == hashes[target] and answer.status == 200
        except (OSError, http.client.HTTPException):
            connection.close()
            right = False
        with asked.get_lock(), wrong.get_lock():
            asked.value += 1
            wrong.value += not right
    connection.close()


def run_budget(peer: Peer, budget: int, *, times: int, clients: int, seconds: float) -> Budget:
    """Measure one server; `peer` must have been given the budget. Raises BenchError when it does not start."""
    with tempfile.TemporaryDirectory(prefix="zcserve-bench-") as made:
        workdir = Path(made)
        empty, root = workdir / "empty", workdir / "root"
        empty.mkdir()
        hashes = make_content(root, budget * times)
        with running("zcserve-empty", peer, empty, workdir) as server:
            base = memory_bytes(server.pid)
        first = next(iter(hashes))
        with running("zcserve", peer, root, workdir, ready_path=first, start_timeout_s=START_TIMEOUT_S) as server:
            peak, asked, wrong = _load(server.pid, server.port, hashes, clients, seconds)
        content = sum(path.stat().st_size for path in root.rglob("*.bin"))
    return Budget(budget, content, len(hashes), peak - base, asked, wrong)


def _load(pid: int, port: int, hashes: dict[str, bytes], clients: int, seconds: float) -> tuple[int, int, int]:
    """Peak memory, requests, and wrong answers under load."""
    asked, wrong = multiprocessing.Value("q", 0), multiprocessing.Value("q", 0)
    until = time.monotonic() + seconds
    workers: Sequence[multiprocessing.Process] = [
        multiprocessing.Process(target=_ask, args=(port, hashes, seed, until, asked, wrong)) for seed in range(clients)
    ]
    for worker in workers:
        worker.start()
    peak = 0
    while any(worker.is_alive() for worker in workers):
        peak = max(peak, memory_bytes(pid))
        time.sleep(SAMPLE_INTERVAL_S)
    for worker in workers:
        worker.join()
    return peak, int(asked.value), int(wrong.value)

"""How often the policies hit, what they cost, and whether the live curve foretells it: traces, replayed by themselves.

A replay is what the store does, on the policies that it uses: a hit writes `tick` and `uses`, a miss makes room and
adds. What is larger than the memory is a miss and evicts nothing. Where libcachesim is installed (`pip install
libcachesim`), its own policies replay the same requests.

CPU is that of the replay less that of the same loop with room for everything and no policy at all.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mmh3

from tools.bench.report import Table
from tools.bench.traces import Trace
from zcserve.cache.curve import MissRatioCurve
from zcserve.cache.entry import Body, Entry
from zcserve.cache.evictor import IsSending, Policy, never_sending
from zcserve.cache.store import POLICIES

# Of the bytes of all that is asked for.
MEMORY_SHARES = (0.01, 0.1, 0.4)
# How many accesses the curve measures of a trace; a server on which it runs for a minute has measured as many.
MEASURED = 100_000
_ORACLES = {"lru": "LRU", "sieve": "Sieve", "s3-fifo": "S3FIFO"}
_ORACLE_HASH_POWER = 16  # 2^24 by default, which takes 128 MiB
_ORACLE_MEMORY_MIN = 1024  # its S3-FIFO ends the process where a tenth of the memory is no byte


class _Nobody(Policy):
    """The policy of a memory that never fills."""

    def __len__(self) -> int:
        return 0

    def add(self, entry: Entry) -> None:
        pass

    def discard(self, entry: Entry) -> None:
        pass

    def entries(self) -> list[Entry]:
        return []

    def pop(self, is_sending: IsSending = never_sending) -> Entry | None:
        return None


@dataclass(frozen=True)
class Replay:
    """Ratios of requests and of bytes, CPU seconds of it all."""

    object_hit: float
    byte_hit: float
    cpu_s: float


@dataclass(frozen=True)
class HitRatio:
    """One policy on one trace with one memory (bytes); `oracle` is libcachesim's object hit ratio, if it is there."""

    trace: str
    share: float
    memory: int
    policy: str
    object_hit: float
    byte_hit: float
    cpu_us: float
    oracle: float | None


@dataclass(frozen=True)
class Foretold:
    """What the curve said of a memory on a trace, and what LRU did."""

    trace: str
    share: float
    curve: float
    lru: float
    samples: int
    sampled_share: float  # of the accesses, followed or measured
    cpu_us: float  # a sampled access


def replay(trace: Trace, policy: Policy, memory: int) -> Replay:
    """Ask for everything in order, with a memory of so many bytes of content, empty at first."""
    entries = [Entry(b"", b"", size, None) for size in trace.sizes]
    body = Body(0)
    free, hits, hit_bytes, asked_bytes = memory, 0, 0, 0
    started = time.thread_time()
    for turn, number in enumerate(trace.objects, 1):
        entry = entries[number]
        entry.tick = turn
        size = entry.size
        asked_bytes += size
        if entry.body is not None:
            entry.uses += 1
            hits += 1
            hit_bytes += size
        elif size <= memory:
            while free < size:
                victim = policy.pop()
                assert victim is not None
                victim.body = None
                free += victim.size
            entry.body = body
            free -= size
            policy.add(entry)
    cpu_s = time.thread_time() - started
    return Replay(hits / len(trace.objects), hit_bytes / max(1, asked_bytes), cpu_s)


def oracle_version() -> dict[str, str]:
    """For the circumstances; empty where it is not installed."""
    try:
        return {"libcachesim": importlib.metadata.version("libcachesim")}
    except importlib.metadata.PackageNotFoundError:
        return {}


def oracle_hit_ratio(trace: Trace, policy: str, memory: int) -> float | None:
    """libcachesim's object hit ratio; None where it is not installed, or the memory too small for it."""
    if memory < _ORACLE_MEMORY_MIN or not oracle_version():
        return None
    libcachesim: Any = importlib.import_module("libcachesim")
    cache = getattr(libcachesim, _ORACLES[policy])(memory, hashpower=_ORACLE_HASH_POWER)
    request = libcachesim.Request()
    hits = 0
    for number in trace.objects:
        request.obj_id = number + 1
        request.obj_size = trace.sizes[number]
        hits += cache.get(request)
    return hits / len(trace.objects)


def drawn(trace: Trace, every: int) -> tuple[MissRatioCurve, float, float]:
    """The curve of a trace, the share of accesses that it sampled, and CPU microseconds of a sampled one."""
    curve = MissRatioCurve(half_life=2 * len(trace.objects), every=every)
    hashes = [mmh3.hash(b"/%d" % number, signed=False) for number in range(len(trace.sizes))]
    ticks = [0] * len(trace.sizes)
    sampled, gap = 0, curve.gap()
    spent = 0.0
    for does_sample in (False, True):  # the bare loop first
        started = time.thread_time()
        for turn, number in enumerate(trace.objects, 1):
            gap -= 1
            size = trace.sizes[number]
            if gap <= 0 and does_sample:
                curve.measure(size, ticks[number])
                gap = curve.gap()
                sampled += 1
            if curve.is_sampled(hashes[number], size) and does_sample:
                curve.follow(hashes[number], size, turn)
                sampled += 1
            if does_sample:
                ticks[number] = turn
        spent = time.thread_time() - started - spent
    return curve, sampled / len(trace.objects), 1e6 * spent / max(1, sampled)


def compare(trace: Trace, shares: Iterable[float] = MEMORY_SHARES) -> tuple[list[HitRatio], list[Foretold]]:
    """Every policy with every memory, and the curve with every memory."""
    bare_s = replay(trace, _Nobody(), trace.footprint).cpu_s
    curve, sampled_share, curve_us = drawn(trace, max(1, len(trace.objects) // MEASURED))
    ratios, foretold = [], []
    for share in shares:
        memory = int(share * trace.footprint)
        for name, policy in POLICIES.items():
            done = replay(trace, policy(), memory)
            cpu_us = 1e6 * max(0.0, done.cpu_s - bare_s) / len(trace.objects)
            oracle = oracle_hit_ratio(trace, name, memory)
            ratios.append(HitRatio(trace.name, share, memory, name, done.object_hit, done.byte_hit, cpu_us, oracle))
            if name == "lru":
                said = curve.hit_ratio(memory)
                foretold.append(
                    Foretold(trace.name, share, said, done.object_hit, curve.samples, sampled_share, curve_us)
                )
    return ratios, foretold


def traces_table(traces: Sequence[tuple[str, int, int, int]]) -> Table:
    """(name, requests, objects, bytes) of each trace."""
    rows = tuple((name, *(f"{figure:,}" for figure in figures)) for name, *figures in traces)
    return Table("Traces", ("trace", "requests", "objects", "bytes of all objects"), rows, numbers_from=1)


def ratios_table(ratios: Sequence[HitRatio]) -> Table:
    """A line for each memory of each trace and each policy."""
    rows = tuple(
        (
            one.trace,
            f"{one.share:.0%}",
            one.policy,
            f"{one.object_hit:.3f}",
            f"{one.byte_hit:.3f}",
            f"{one.cpu_us:.2f}",
            "" if one.oracle is None else f"{one.oracle:.3f}",
        )
        for one in ratios
    )
    columns = ("trace", "memory", "policy", "object hits", "byte hits", "CPU us/request", "libcachesim, object hits")
    return Table("Hit ratios, by memory (of the bytes of all objects)", columns, rows, numbers_from=3)


def curve_table(foretold: Sequence[Foretold]) -> Table:
    """The curve's word against the LRU replay."""
    rows = tuple(
        (
            one.trace,
            f"{one.share:.0%}",
            f"{one.lru:.3f}",
            f"{one.curve:.3f}",
            f"{one.curve - one.lru:+.3f}",
            f"{one.samples:,}",
            f"{one.sampled_share:.2f}",
            f"{one.cpu_us:.2f}",
        )
        for one in foretold
    )
    columns = ("trace", "memory", "LRU", "curve", "difference", "samples", "accesses sampled", "CPU us/sampled access")
    return Table("The live curve against the replay (object hits)", columns, rows, numbers_from=1)

"""What was asked for, in which order: traces made here, and recorded ones from files.

A trace is a list of object numbers from 0 and the objects' sizes. An object has one size, that of its first request: a
file that changed is another one. Recorded traces are read in two formats:

    *.oracleGeneral.bin   libCacheSim's: 24 bytes a request (time u32, object u64, size u32, next access i64)
    *.csv                 one line a request, under a line of names: `object`, `obj_id` or `lbn`, and `size`

libCacheSim's source archive ships a block trace and the start of a trace of Twitter's caches (cluster 52):

    pip download --no-deps --no-binary libcachesim libcachesim && tar xzf libcachesim-*.tar.gz --wildcards '*/data/*'
"""

from __future__ import annotations

import csv
import random
import struct
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from tools.bench.errors import BenchError

_ORACLE_GENERAL = struct.Struct("<IQIq")
_OBJECT_NAMES = ("object", "obj_id", "lbn")
# Sizes of a site: half of the files are below 4 KiB, one in a hundred above 130 KB.
SIZE_MEDIAN, SIZE_SIGMA, SIZE_MAX = 4096, 1.5, 64 << 20


@dataclass(frozen=True)
class Trace:
    """`objects` are the requests, each an index into `sizes` (bytes)."""

    name: str
    objects: list[int]
    sizes: list[int]

    @property
    def footprint(self) -> int:
        """Bytes of all that is ever asked for."""
        return sum(self.sizes)


def numbered(name: str, requests: Iterable[tuple[Hashable, int]]) -> Trace:
    """The trace of (any name, size) pairs."""
    numbers: dict[Hashable, int] = {}
    objects: list[int] = []
    sizes: list[int] = []
    for key, size in requests:
        number = numbers.setdefault(key, len(sizes))
        if number == len(sizes):
            sizes.append(size)
        objects.append(number)
    return Trace(name, objects, sizes)


def _zipf(objects: int, requests: int, alpha: float, dice: random.Random) -> list[int]:
    weights = list(accumulate((rank + 1) ** -alpha for rank in range(objects)))
    return dice.choices(range(objects), cum_weights=weights, k=requests)


def _file_sizes(objects: int, dice: random.Random) -> list[int]:
    return [min(SIZE_MAX, 1 + int(SIZE_MEDIAN * dice.lognormvariate(0, SIZE_SIGMA))) for _ in range(objects)]


def zipf(objects: int, requests: int, alpha: float, seed: int = 1) -> Trace:
    """Each request by itself, the n-th popular object in proportion to n^-alpha; sizes as on a site."""
    dice = random.Random(seed)
    sizes = _file_sizes(objects, dice)
    return numbered(f"zipf {alpha:g}", ((key, sizes[key]) for key in _zipf(objects, requests, alpha, dice)))


def scanned(objects: int, requests: int, seed: int = 1) -> Trace:
    """Zipf 0.9, and in half of the requests a crawler that goes through all objects in order, and again."""
    dice = random.Random(seed)
    sizes = _file_sizes(objects, dice)
    crawled = list(range(objects))
    dice.shuffle(crawled)  # its order has nothing to do with popularity
    asked = _zipf(objects, requests // 2, 0.9, dice)
    keys = (key for at, popular in enumerate(asked) for key in (popular, crawled[at % objects]))
    return numbered("zipf 0.9 and a crawler", ((key, sizes[key]) for key in keys))


def synthetic(objects: int, requests: int) -> Iterator[Trace]:
    """What is measured in any case."""
    for alpha in (0.6, 0.8, 1.0, 1.2):
        yield zipf(objects, requests, alpha)
    yield scanned(objects, requests)


def _oracle_general(path: Path) -> Iterator[tuple[Hashable, int]]:
    with path.open("rb") as file:
        while record := file.read(_ORACLE_GENERAL.size):
            if len(record) < _ORACLE_GENERAL.size:
                raise ValueError("its last record is cut short")
            _time, key, size, _next = _ORACLE_GENERAL.unpack(record)
            yield key, size


def _csv(path: Path) -> Iterator[tuple[Hashable, int]]:
    with path.open(newline="") as file:
        lines = csv.reader(file, skipinitialspace=True)
        names = [name.strip("# ") for name in next(lines, [])]
        key = next((names.index(name) for name in _OBJECT_NAMES if name in names), None)
        if key is None or "size" not in names:
            raise ValueError(f"its first line names no size, or none of {', '.join(_OBJECT_NAMES)}")
        size = names.index("size")
        for line in lines:
            yield line[key], int(line[size])


def recorded(path: Path, requests: int) -> Trace:
    """The first requests of a file. Raises BenchError if it is in neither format."""
    formats = {".oracleGeneral.bin": _oracle_general, ".csv": _csv}
    for ending, read in formats.items():
        if path.name.endswith(ending):
            try:
                return numbered(path.name.removesuffix(ending), islice(read(path), requests))
            except (OSError, ValueError, IndexError) as error:
                raise BenchError(f"{path}: {error}") from None
    raise BenchError(f"{path} is no trace that can be read (there are {', '.join(formats)})")

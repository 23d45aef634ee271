"""What steady.c reads and prints: records of requests, and the line about a run.

It must not know what was asked of which server, or why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tools.bench.errors import BenchError

STEADY_SOURCE = Path(__file__).with_name("steady.c")
NUMBER = "#" * 10  # where each request that is sent has its running number
RUN = b"{run}"  # where it has the number of the run, in four digits
NO_CONTENT = "-"
ANY_LENGTH = "*"


@dataclass(frozen=True)
class Record:
    """The bytes of a request, with the status of its answer and the bytes of content behind the answer's head.

    `length` is their number, NO_CONTENT (HEAD, 304), or ANY_LENGTH: as many as Content-Length says.
    """

    text: bytes
    status: int = 200
    length: int | str = ANY_LENGTH


def in_run(record: Record, run: int) -> Record:
    """The record as it is sent in this run: what is new in one was not sent in another."""
    return replace(record, text=record.text.replace(RUN, b"%04d" % run))


def plain(target: str, host: str) -> Record:
    """A GET of what has any length."""
    return Record(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write what steady.c reads."""
    with path.open("wb") as file:
        for one in records:
            file.write(b"%d %s %d\n%s" % (one.status, str(one.length).encode(), len(one.text), one.text))


@dataclass(frozen=True)
class Latency:
    """What one client found: how many requests, and milliseconds."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    unanswered: int


def parse_latency(output: str) -> Latency:
    """Read the line that steady.c prints. Raises BenchError when it is none."""
    pattern = r"requests (\d+) seconds ([\d.]+) p50_ns (\d+) p99_ns (\d+) p999_ns (\d+) max_ns (\d+) unanswered (\d+)\n"
    found = re.fullmatch(pattern, output)
    if found is None:
        raise BenchError(f"steady's output is no report of a run: {output.strip()[-200:]!r}")
    requests, seconds, *times, unanswered = found.groups()
    p50, p99, p999, longest = (int(time) / 1e6 for time in times)
    return Latency(int(requests), int(requests) / float(seconds), p50, p99, p999, longest, int(unanswered))

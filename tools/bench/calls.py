"""System calls of a server's threads under load, counted by strace; and its instructions, by callgrind.

It must not know what is asked of the server. Odd about it: `strace -c` stops a thread at each call, which then is ten
times slower, so that threads meet less often than they would. `traced` stops them at the calls of one name alone (a
filter in the kernel), and all else runs as fast as ever.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tools.bench.errors import BenchError
from tools.bench.peers import Peer, find_program

ATTACH = "apt-get install strace"
WEIGH = "apt-get install valgrind"


@contextmanager
def counting(threads: Collection[int], file: Path) -> Iterator[Callable[[], dict[str, int]]]:
    """Count the calls of these threads alone (`strace -c`); the value ends it, and tells them by their names.

    Raises BenchError where strace may not attach.
    """
    attached = [word for thread in threads for word in ("-p", str(thread))]
    argv = [find_program("strace", ATTACH), "-c", "-o", str(file), *attached]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        for _ in threads:
            said = strace.stderr.readline()
            if "attached" not in said:
                raise BenchError(f"strace: {said.strip()}")

        def found() -> dict[str, int]:
            strace.send_signal(signal.SIGINT)
            strace.communicate()
            return parse_counts(file.read_text())

        try:
            yield found
        finally:
            strace.kill()


def parse_counts(text: str) -> dict[str, int]:
    """What `strace -c` prints, without its sum."""
    rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", text, re.MULTILINE)
    return {name: int(count) for count, name in rows if name != "total"}


def traced(peer: Peer, call: str) -> Peer:
    """The peer under an strace that writes down each call of this name, with its time, into `calls` in the peer's own
    directory."""
    strace = [find_program("strace", ATTACH), "-f", "--seccomp-bpf", "-e", f"trace={call}", "-ttt", "-o"]

    def command(root: Path, port: int, own: Path) -> list[str]:
        return [*strace, str(own / "calls"), *peer.command(root, port, own)]

    return replace(peer, command=command)


def calls_between(file: Path, since: float, until: float, threads: Collection[int] | None = None) -> list[str]:
    """The lines that `traced` has written of calls that began in this time (of `time.time`), of these threads."""
    found = []
    for line in file.read_text(errors="replace").splitlines():
        words = line.split(maxsplit=2)
        if len(words) < 3 or "resumed>" in words[2] or not since <= float(words[1]) <= until:
            continue
        if threads is None or int(words[0]) in threads:
            found.append(line)
    return found


def weighed(peer: Peer) -> Peer:
    """The peer under callgrind, which tells at its end how many instructions its process took. It does not follow a
    program that starts another one in its own place."""
    valgrind = [find_program("valgrind", WEIGH), "--tool=callgrind", "--callgrind-out-file=/dev/null"]

    def command(root: Path, port: int, own: Path) -> list[str]:
        return ["env", "PYTHONHASHSEED=0", *valgrind, *peer.command(root, port, own)]

    return replace(peer, command=command)


def instructions(run: Callable[[int], Path], few: int, many: int) -> float:
    """Instructions of the whole process for each request: `run` has a weighed peer answer so many, ends it, and tells
    where its words are. The difference of two runs counts, so that start and end are not in it."""
    counts = []
    for requests in (few, many):
        said = run(requests).read_text(errors="replace")
        found = re.search(r"Collected : (\d+)", said)
        if found is None:
            raise BenchError(f"callgrind tells no sum: {said.strip()[-200:]!r}")
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) / (many - few)


def in_tree(peer: Peer, tree: Path) -> Peer:
    """The peer as a program of the checkout in `tree`. Raises BenchError where there is none."""
    if not (tree / "zcserve" / "__main__.py").exists():
        raise BenchError(f"{tree} is no checkout of zcserve")

    def command(root: Path, port: int, own: Path) -> list[str]:
        return ["env", "-C", os.path.abspath(tree), *peer.command(root, port, own)]

    return replace(peer, command=command)

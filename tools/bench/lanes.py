"""Several lanes against one: what a request costs, what a second brings, and what a servlet in the first lane is to the
others. The table of what is asked; `lanes_run.py` measures.

How a figure may be wrong, and what is done about it:

- Neighbours on the machine. All is told as ratios within a round; `1 lane, again` is a second server like the first,
  so its ratio is the noise.
- CPU a request has the fixed costs of a turn in it, which few requests share where a server is not busy. So there are
  both: all lanes on one core with the generator on the other, where each is busy, and all on both cores.
- Requests a second on both cores are those of the generator, too, which needs its part of them: as much as the server
  where it sends and reads one at a time. So there are those of many in one send, too, of which it needs half.
- A client's lane is the kernel's word (placed.py). Those of other lanes are picked before a run, and looked at after
  it: one that has moved makes the run invalid.
- A servlet that counts takes one of two cores, and hits wait for a core. One that holds the GIL and sleeps takes none:
  this is what is asked; the other is told beside it, and what hits of one lane notice, so that it is seen to hold.
- strace slows the server tenfold, so futex calls are counted at full speed, too. They are those of the lanes' threads:
  others of Python's wait by themselves. A lane's thread is the one that waits with its epoll descriptor. The first lane
  is Python's loop, too: nothing is rechecked meanwhile, for which it would wake a thread some times a second.
- Instructions are those of the whole process, one connection, and one request or 16 in each turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tools.bench.asking import Request
from tools.bench.content import PAGE
from tools.bench.peers import zcserve_with_room
from tools.bench.rounds import Cell, Sample
from tools.bench.targets import CPU, P50, P99, SPEED, Measured, Target
from tools.bench.workloads import BROWSER_HEADERS, Workload

ONE, AGAIN, TWO, FOUR, BEFORE = "1 lane", "1 lane, again", "2 lanes", "4 lanes", "before"
COUNTS = {ONE: 1, AGAIN: 1, TWO: 2, FOUR: 4}
CONNECTIONS = (16, 64, 512)
CLIENTS = (64, 1000)
PAGE_RATE = 2000  # requests/s, as in servlets.py
CPU_BOUNDS = {AGAIN: 1.00, TWO: 1.05, FOUR: 1.10}
BALANCE_SHARE = 0.10
FUTEX, INSTRUCTIONS, BALANCE = "futex calls of lanes' threads in 10^6 hits", "instructions/hit", "share beside the mean"


PEERS = {name: zcserve_with_room("native", "--lanes", str(count)) for name, count in COUNTS.items()}
# Python works in the first lane's thread, too: a recheck of all files, for which it wakes another, is no part of hits.
STILL = {name: zcserve_with_room("native", "--lanes", str(count), "--recheck", "0") for name, count in COUNTS.items()}
PLAIN = zcserve_with_room("native")  # a checkout from before there were lanes knows no --lanes


def _page(connections: int, generator: str, where: str) -> Workload:
    return Workload(f"1000-byte page, {connections} connections, {where}", generator, connections=connections)


# On one core by wrk, as the other benches; on both by steady, which takes less of them.
APART = {f"apart-{number}": _page(number, "wrk", "lanes on one core") for number in CONNECTIONS}
TOGETHER = {f"together-{number}": _page(number, "steady", "all on both cores") for number in CONNECTIONS}
DEEP = {
    f"deep-{number}": Workload(
        f"1000-byte page, {number} requests at once, a browser's fields, all on both cores",
        "steady",
        pipeline=number,
        connections=64,
        requests=(Request(PAGE, tuple(BROWSER_HEADERS.items()), file=PAGE),),
    )
    for number in (16, 64)
}

_HELLO = "hello servlet"
HELLO_APART, HELLO_TOGETHER = f"{_HELLO}, lanes on one core", f"{_HELLO}, all on both cores"
QUIET, HELD, COUNTED = "hits of the other lanes", "the same, the GIL held", "the same, a servlet counts"


def _cpu(workloads: dict[str, Workload], subject: str, bound: float) -> list[Target]:
    return [
        Target(f"{load.about}: {subject}", ONE, Cell(name, subject), Cell(name, ONE), bound)
        for name, load in workloads.items()
    ]


def _speed(name: str) -> Target:
    own, other = Cell(name, TWO), Cell(name, ONE)
    return Target(f"{(TOGETHER | DEEP)[name].about}: {TWO}", ONE, own, other, 1.25, SPEED, at_least=True)


def _hello(workload: str) -> Target:
    return Target(f"{workload}, from the other lane", ONE, Cell(workload, TWO), Cell(workload, ONE), 1.50)


def targets(*, before: bool = False) -> list[Target]:
    """What is asked, in the table's order; `before`: one lane against another tree's, too."""
    return [
        *[one for subject, bound in CPU_BOUNDS.items() for one in _cpu(APART, subject, bound)],
        *[one for subject, bound in CPU_BOUNDS.items() for one in _cpu(TOGETHER, subject, bound)],
        *map(_speed, TOGETHER | DEEP),
        _hello(HELLO_APART),
        _hello(HELLO_TOGETHER),
        Target(HELD, "quiet", Cell(HELD, TWO), Cell(QUIET, TWO), 1.20, P99),
        Target(HELD, "quiet", Cell(HELD, TWO), Cell(QUIET, TWO), None, P50),
        Target(COUNTED, "quiet", Cell(COUNTED, TWO), Cell(QUIET, TWO), None, P99),
        Target(f"{HELD}, but {ONE}", "quiet", Cell(HELD, ONE), Cell(QUIET, ONE), None, P99),
        *[
            Target(f"{load.about}: {ONE}", BEFORE, Cell(name, ONE), Cell(name, BEFORE), 1.01, CPU)
            for name, load in (APART.items() if before else ())
        ],
    ]


def told(about: str, against: str, figure: str, bound: float | None) -> Target:
    """What is asked of a figure that is no ratio of two runs."""
    return Target(about, against, Cell(about, TWO), None, bound, figure)


@dataclass
class Done:
    """What was measured: samples of runs, and figures of their own. `notes` say what the tables do not."""

    samples: list[Sample] = field(default_factory=list)
    figures: list[Measured] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

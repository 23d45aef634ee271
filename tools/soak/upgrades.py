"""Requests over many upgrades (SIGUSR2), none lost: clients ask on connections that are kept until an answer says that
it is the last, and on new ones for each request. A connection that ends before an answer is a fault, and so is a port
that refuses.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from tools.soak.client import Connection
from tools.soak.content import make, target_of
from tools.soak.crew import Crew, Facts, Found, Step, shared_numbers
from tools.soak.reading import Reading, on_connections
from tools.soak.served import serving

FILES, KEPT, ANEW, CONNECTIONS = 70, 4, 2, 8
ANSWERS_WITHIN_S = 600.0  # for those between two upgrades


@on_connections(CONNECTIONS)
def kept(facts: Facts, reading: Reading, one: Connection) -> bool:
    """Connections that are kept; a request on each, and then the answers."""
    numbers = [facts.random.randrange(FILES) for _ in range(facts.random.choice((1, 1, 1, 4)))]
    for number in numbers:
        one.get(target_of(number))
    for number in numbers:
        answer = one.answer()
        reading.whole(one, number, answer)
        facts.count("kept")
        if answer.is_last:  # those behind it are not answered (RFC 9112 section 9.6), and may be asked again
            return True
    return False


def anew(facts: Facts, versions: Any) -> Step:
    """A connection for each request."""
    reading = Reading(facts, versions, 1)

    def step(_: Facts) -> None:
        one = Connection(facts.port, "anew")
        number = facts.random.randrange(FILES)
        try:
            one.get(target_of(number), "Connection: close")
            reading.whole(one, number, one.answer())
            facts.count("anew")
        finally:
            one.close()

    return step


def run(workdir: Path, options: tuple[str, ...], requests: int, upgrades: int) -> tuple[Found, dict[str, Any]]:
    """Ask for so much, with so many upgrades at even distances. Raises SoakError."""
    root = workdir / "root"
    make(root, FILES, 1)
    versions = shared_numbers(FILES)
    versions[:] = [1] * FILES
    took = []
    clients = [(kept, versions)] * KEPT + [(anew, versions)] * ANEW
    with serving(root, "--memory", "64M", *options) as served, Crew(served.port, clients) as crew:
        for number in range(1, upgrades + 1):
            crew.watch(ANSWERS_WITHIN_S, number * requests // (upgrades + 1))
            began, old = time.monotonic(), served.pid
            served.signal(signal.SIGUSR2)
            served.pid = int(served.await_said(r"process (\d+) serves now", number)[1])
            served.await_said(f"process {old} has ended", 1)
            took.append(time.monotonic() - began)
        crew.watch(ANSWERS_WITHIN_S, requests)
    faults = crew.found.faults + [line for line in served.lines if "Traceback" in line or " error " in line]
    if refused := crew.found.counts.get("503"):
        faults.append(f"{refused} requests were answered 503")
    return Found(crew.found.counts, faults, {}), {
        "upgrades": upgrades,
        "longest upgrade, seconds": round(max(took, default=0.0), 2),
    }

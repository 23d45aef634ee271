"""Releases of many files, all of which change, under load: on one connection no older version follows a newer one, of
whichever file; and when the server says that it has reloaded, each request from then on gets the new version.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tools.soak.client import Connection
from tools.soak.content import WrongError, make, target_of, whole_of
from tools.soak.crew import Crew, Facts, Found, shared_numbers
from tools.soak.reading import Reading, on_connections
from tools.soak.served import serving

CLIENTS, CONNECTIONS, DEPTH = 4, 4, 8
SIZE = 200  # bytes of each file
AFTER_S = 1.0
_SAID, _FILES = 0, 1  # in the shared numbers: the version that the server has said, and how many files there are


@on_connections(CONNECTIONS)
def asking(facts: Facts, reading: Reading, one: Connection) -> bool:
    """Files at random, several at once."""
    least = reading.versions[_SAID]
    numbers = [facts.random.randrange(reading.versions[_FILES]) for _ in range(DEPTH)]
    for number in numbers:
        one.get(target_of(number))
    for number in numbers:
        answer = one.answer()
        if answer.status != 200:
            raise WrongError(f"{target_of(number)}: {answer.status}")
        version = whole_of(number, answer.body, SIZE)
        if version < one.seen.get(0, 0):
            raise WrongError(f"{one.name}: file {number} of release {version} after one of {one.seen[0]}")
        if version < least:
            raise WrongError(f"{one.name}: file {number} of release {version}, and {least} was said")
        one.seen[0] = version
        facts.count(f"release {version}")
    return False


def run(workdir: Path, options: tuple[str, ...], files: int, flips: int) -> tuple[Found, dict[str, Any]]:
    """Make so many releases, one after the other; what was found. Raises SoakError."""
    current = workdir / "current"
    trees = [workdir / str(version) for version in range(1, flips + 2)]
    for version, tree in enumerate(trees, 1):
        make(tree, files, version, SIZE)
    current.symlink_to(trees[0])
    shared = shared_numbers(2)
    shared[_SAID], shared[_FILES] = 1, files
    took = []
    with (
        serving(current, "--memory", "1G", *options) as served,
        Crew(served.port, [(asking, shared)] * CLIENTS) as crew,
    ):
        for flip in range(1, flips + 1):
            crew.watch(AFTER_S)
            aside = workdir / "aside"
            aside.symlink_to(trees[flip])
            began = time.monotonic()
            aside.rename(current)
            served.await_said("reloaded: ", flip)
            took.append(round(time.monotonic() - began, 2))
            shared[_SAID] = flip + 1
            crew.watch(AFTER_S)
    faults = crew.found.faults + [line for line in served.lines if "Traceback" in line or " error " in line]
    if refused := crew.found.counts.get("503"):
        faults.append(f"{refused} requests were answered 503")
    if missing := {f"release {flip + 1}" for flip in range(flips + 1)} - crew.found.counts.keys():
        faults.append(f"no answer was of {', '.join(sorted(missing))}")
    return Found(crew.found.counts, faults, {}), {"seconds until reloaded": took}

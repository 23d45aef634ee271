"""Clients as processes: started together, told when it is over, and what they have found."""

from __future__ import annotations

import multiprocessing
import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from typing import Any

from tools.soak.served import SoakError

FAULTS_MAX = 20  # of a client, which then ends
# Copies of a process that has nothing but the modules: this one has threads.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tools.soak.everything", "tools.soak.flip", "tools.soak.upgrades"])
BEGIN_WITHIN_S = 60.0


@dataclass
class Facts:
    """What one client process knows: its own random numbers, what it has counted by name, and what was wrong."""

    number: int
    port: int
    ended: Event
    total: Any  # of all clients: answers by now
    random: random.Random
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, by: int = 1) -> None:
        """Answers, by what they were to."""
        self.counts[name] = self.counts.get(name, 0) + by
        with self.total.get_lock():
            self.total.value += by


# One step of a client; what it raises is a fault, and it is called again.
Step = Callable[[Facts], None]
# What makes it, in its process, of whatever it is given.
Make = Callable[[Facts, Any], Step]


def _run(make: Make, given: Any, number: int, port: int, ended: Event, total: Any, begun: Any, found: Any) -> None:
    facts = Facts(number, port, ended, total, random.Random(number))
    step = make(facts, given)
    with begun.get_lock():
        begun.value += 1
    while not ended.is_set() and len(facts.faults) < FAULTS_MAX:
        try:
            step(facts)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            facts.faults.append(f"{type(error).__name__}: {error} ({where.name}:{where.lineno})")
    found.put((facts.counts, facts.faults, facts.done))


@dataclass(frozen=True)
class Found:
    """All clients together; `done` is what each has noted by names of its own."""

    counts: dict[str, int]
    faults: list[str]
    done: dict[str, int]


class Crew:
    """A context, which begins when all clients ask; they do until it ends. `found` is there afterwards."""

    def __init__(self, port: int, clients: Sequence[tuple[Make, Any]]) -> None:
        self.ended = _PROCESSES.Event()
        self.total = _PROCESSES.Value("q", 0)
        self.found = Found({}, [], {})
        self._begun = _PROCESSES.Value("i", 0)
        self._queue = _PROCESSES.Queue()
        self._processes = [
            _PROCESSES.Process(
                target=_run,
                args=(make, given, number, port, self.ended, self.total, self._begun, self._queue),
                daemon=True,
            )
            for number, (make, given) in enumerate(clients)
        ]

    def __enter__(self) -> Crew:
        for process in self._processes:
            process.start()
        until = time.monotonic() + BEGIN_WITHIN_S
        while self._begun.value < len(self._processes) and time.monotonic() < until:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for _process in self._processes:
            counts, faults, done = self._queue.get(timeout=120)
            for name, count in counts.items():
                self.found.counts[name] = self.found.counts.get(name, 0) + count
            self.found.faults.extend(faults)
            self.found.done.update(done)
        for process in self._processes:
            process.join(10)

    def watch(self, seconds: float, total: int | None = None) -> None:
        """Let them ask for so long, or until so many answers have come. Raises SoakError where one ends by itself, or,
        with a `total`, where that has not come."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if total is not None and self.total.value >= total:
                return
            if not all(process.is_alive() for process in self._processes):
                raise SoakError("a client has ended")
            time.sleep(0.005)
        if total is not None:
            raise SoakError(f"{self.total.value:,} answers came, and not {total:,}")


def shared_numbers(count: int) -> Any:
    """Numbers that all processes see, without a lock: each is written by one."""
    return _PROCESSES.Array("q", count, lock=False)

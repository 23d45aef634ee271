"""A running server asked for everything that a walk of the tree finds, which warms it, and each answer compared.

A few connections ask at a time, each from a thread of its own, out of one queue. When a server stops answering, the
rest is not asked for, and counted.
"""

from __future__ import annotations

import http.client
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass

from tools.warm.answers import Comparer
from tools.warm.classes import CLASSES, OTHER, class_of
from tools.warm.clients import connector, get, probe, trouble_of
from tools.warm.expected import Ask, asks_of
from tools.warm.listing import resolve
from tools.warm.loading import new_store
from zcserve.cache.index import Problem
from zcserve.cache.loader import Loader
from zcserve.cache.naming import name_of
from zcserve.cache.preload import judge_siblings
from zcserve.cache.root import Root
from zcserve.cache.walk import walk
from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.progress import REFRESH_S

CONNECTIONS = 8
TIMEOUT_S = 10.0
# So many requests without an answer, one after the other, and the rest is not asked for.
UNANSWERED_MAX = 10


@dataclass(slots=True)
class AskedClass:
    """One class of a compared tree. `seconds` is summed over connections."""

    name: str
    requests: int = 0
    bytes: int = 0
    faults: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer that differs from the tree."""

    path: str
    coding: str
    why: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing a server with a tree found."""

    root: str
    url: str
    classes: list[AskedClass]
    faults: list[Fault]
    not_asked: int
    not_served: list[Problem]
    unknown: list[str]
    seconds: float

    @property
    def right(self) -> bool:
        """Whether every answer is what the tree says, and the tree could be read."""
        return not (self.faults or self.not_asked or self.not_served or self.unknown)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: bytes of content, the time, and what is wrong; `fault` is empty when all is right."""

    ask: Ask
    bytes: int
    seconds: float
    fault: str


class Asking:
    """Requests on their way, over a few connections at a time."""

    def __init__(
        self, asks: Iterable[Ask], connect: Callable[[], http.client.HTTPConnection], comparer: Comparer
    ) -> None:
        self._todo = deque(asks)
        self._connect = connect
        self._comparer = comparer
        self._unanswered = 0  # in a row

    def run(self, connections: int, progress: Callable[[int, int], None]) -> list[Answer]:
        """What came of the requests: less than there were when the server stopped answering."""
        total = len(self._todo)
        with ThreadPoolExecutor(connections, "warm-cache") as pool:
            try:
                workers = [pool.submit(self._ask_until_empty) for _ in range(min(connections, total))]
                while wait(workers, timeout=REFRESH_S).not_done:
                    progress(total - len(self._todo), total)
            finally:
                self._todo.clear()  # interrupted: what is in flight is the last
        return [answer for worker in workers for answer in worker.result()]

    def _ask_until_empty(self) -> list[Answer]:
        """Ask over one connection until the queue is empty."""
        connection = self._connect()
        answers: list[Answer] = []
        try:
            while True:
                try:
                    ask = self._todo.popleft()
                except IndexError:
                    return answers
                answers.append(self._answer(connection, ask))
        finally:
            connection.close()

    def _answer(self, connection: http.client.HTTPConnection, ask: Ask) -> Answer:
        began = time.perf_counter()
        try:
            response = get(connection, ask)
            fault, count = self._comparer.compare(response, ask)
            if not response.isclosed():  # more content than is read: the next answer would begin behind it
                connection.close()
            self._unanswered = 0
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            fault, count = f"no whole answer: {trouble_of(error)}", 0
            self._unanswered += 1
            if self._unanswered >= UNANSWERED_MAX:
                self._todo.clear()
        return Answer(ask, count, time.perf_counter() - began, fault)


def compare(
    config: Config,
    url: str,
    lines: Iterable[bytes],
    *,
    connections: int = CONNECTIONS,
    timeout_s: float = TIMEOUT_S,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Compared:
    """Ask the server at `url` for all that `config.root` holds. Raises UsageError, also when no server answers."""
    began = time.perf_counter()
    connect = connector(url, timeout_s)
    root = Root(config.directory)
    generation = walk(root, index=config.index)
    with closing(new_store(config)) as store:
        judge_siblings(generation, Loader(store, config), generation.entries())
    listed, unknown = resolve(generation, lines)
    if trouble := probe(connect()):
        raise UsageError(f"{url} does not answer: {trouble}")
    asks = asks_of(generation, listed)
    answers = Asking(asks, connect, Comparer(root, config)).run(connections, progress)
    return Compared(
        root=str(config.directory),
        url=url,
        classes=_count(answers),
        faults=_faults(answers),
        not_asked=len(asks) - len(answers),
        not_served=generation.problems,
        unknown=unknown,
        seconds=time.perf_counter() - began,
    )


def _faults(answers: Iterable[Answer]) -> list[Fault]:
    """The answers that differ, in the order of their paths."""
    faults = (Fault(one.ask.key.decode(), one.ask.coding, one.fault) for one in answers if one.fault)
    return sorted(faults, key=lambda fault: (fault.path, fault.coding))


def _count(answers: Iterable[Answer]) -> list[AskedClass]:
    """One row a class that was asked for, in the order of `CLASSES`."""
    rows = {name: AskedClass(name) for name in CLASSES}
    for answer in answers:
        entry = answer.ask.entry
        row = rows[class_of(name_of(entry)) if entry is not None else OTHER]
        row.requests += 1
        row.bytes += answer.bytes
        row.faults += bool(answer.fault)
        row.seconds += answer.seconds
    return [row for row in rows.values() if row.requests]

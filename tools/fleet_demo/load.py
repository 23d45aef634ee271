"""Clients, all the while: some ask each node itself, some come through HAProxy and read pages with their assets."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from contextlib import suppress

from tools.fleet_demo import content
from tools.fleet_demo.judge import NOT_FOUND, Answer, Judge
from tools.fleet_demo.record import Record

# Of each client, in seconds, between two answers and the next request.
PAUSE_S = 0.004
ANSWER_WITHIN_S = 20.0
# So many faults are told one by one.
FAULTS_TOLD_MAX = 40
DIRECT, FRONT = 1, 2  # clients of each node, and of HAProxy


class Court:
    """The judge, for several threads: what clients bring, and what is known of nodes, one after the other.

    apart  nodes without which releases go on, as the scene wants it
    """

    def __init__(self, judge: Judge, record: Record) -> None:
        self.lock = threading.Lock()
        self.judge = judge
        self.record = record
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.apart: set[str] = set()

    def bring(self, answer: Answer, is_named: bool = False) -> None:
        """Judge an answer; `is_named`: by a page that came through HAProxy just before."""
        with self.lock:
            fault = self.judge.fault(answer)
            if is_named and answer.status == NOT_FOUND:
                self.counts["broken"] += 1
                fault = fault or self._broken(answer)
            self.counts["front" if answer.is_front else "direct"] += 1
            if fault:
                way = "by HAProxy" if answer.is_front else "asked itself"
                self.faults.append(f"{answer.node or 'no node'}, {way}: {answer.path}: {fault}")
        if fault and len(self.faults) <= FAULTS_TOLD_MAX:
            self.record.add(answer.node or "clients", "fault", f"{answer.path}: {fault}")

    def _broken(self, answer: Answer) -> str:
        """A page named it. A node that has no part in a rollout, by the scene's plan, may lack it."""
        return "" if answer.node in self.apart else "not found, and a page that came just before names it"


class Paths:
    """What clients ask for: of the builds that matter now. For several threads."""

    def __init__(self) -> None:
        self._paths: list[str] = [content.INDEX]

    def choose(self, chance: random.Random) -> str:
        """One of them."""
        return chance.choice(self._paths)

    def of(self, *builds: dict[str, str]) -> None:
        """From now on the paths of these; few of those that are many."""
        own = sorted({path for build in builds for path in build if not path.startswith(content.BULK_FOLDER)})
        bulk = sorted({path for build in builds for path in build if path.startswith(content.BULK_FOLDER)})
        self._paths = own + bulk[:: max(1, len(bulk) // 200)]


class Client(threading.Thread):
    """One client. `node` is asked itself; "": HAProxy is."""

    def __init__(self, load: Load, address: tuple[str, int], node: str, seed: int) -> None:
        super().__init__(name=f"client {seed}", daemon=True)
        self._load, self._address, self._node = load, address, node
        self._chance = random.Random(seed)
        self._connection: http.client.HTTPConnection | None = None
        self._next: list[str] = []

    def run(self) -> None:
        while not self._load.ends.is_set():
            is_named = bool(self._next)
            path = self._next.pop() if is_named else self._load.paths.choose(self._chance)
            answer, body = self._ask(path)
            self._load.court.bring(answer, is_named)
            if not self._node and path == content.INDEX and answer.status == 200:
                self._next = content.assets_named(body)
            self._load.ends.wait(self._load.pause_s)
        self._drop()

    def _ask(self, path: str) -> tuple[Answer, bytes]:
        begun, body, status, node, trouble = time.monotonic(), b"", 0, self._node, ""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=ANSWER_WITHIN_S)
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            node = self._node or response.getheader("Node", "")
            status = response.status
            body = response.read()
            if response.will_close:
                self._drop()
        except (OSError, http.client.HTTPException) as error:
            trouble = f"{type(error).__name__}: {error}"
            self._drop()
        ended = time.monotonic()
        return Answer(node, path, begun, ended, status, content.digest_of(body), trouble, not self._node), body

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None


class Load:
    """All clients, from `start` to `end`."""

    def __init__(self, court: Court) -> None:
        self.court = court
        self.paths = Paths()
        self.ends = threading.Event()
        self.pause_s = PAUSE_S
        self._clients: list[Client] = []

    def start(self, nodes: dict[str, tuple[str, int]], front: tuple[str, int]) -> None:
        """Nodes by their names, and HAProxy."""
        asked = [(name, address) for name, address in nodes.items() for _ in range(DIRECT)]
        asked += [("", front)] * FRONT
        self._clients = [Client(self, address, name, seed) for seed, (name, address) in enumerate(asked)]
        for client in self._clients:
            client.start()

    def end(self) -> None:
        """All end with their next answer."""
        self.ends.set()
        for client in self._clients:
            client.join(ANSWER_WITHIN_S)

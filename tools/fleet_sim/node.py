"""A node in numbers: an agent with its state machine, a disk with release folders, a server with trees in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Protocol

from tools.fleet_sim.bus import SimBus
from tools.fleet_sim.clock import Clock, Then
from tools.fleet_sim.network import Link
from tools.fleet_sim.origin import Fetching, Origin
from zcserve.fleet.bus import Delivery
from zcserve.fleet.messages import Command, Desired, Release, State, parse_command
from zcserve.fleet.node_memory import Memory
from zcserve.fleet.node_state import NodeState
from zcserve.fleet.node_words import (
    Acknowledge,
    Action,
    Done,
    Drop,
    Event,
    Failed,
    Fetch,
    Fetched,
    Flip,
    Flipped,
    Keep,
    Observed,
    Prepare,
    Prepared,
    Purge,
    ReadDesired,
    Report,
    SetAside,
    Tick,
    Undone,
    Warm,
)


@dataclass(frozen=True, slots=True)
class Speeds:
    """How long things take on a node, in seconds: medians, lognormal with a sigma of 0.4, times the node's slowness.

    verify_bytes_s  bytes a second that are fetched, hashed and written
    load_bytes_s    bytes a second that a server loads
    """

    flip_s: float = 0.02
    purge_s: float = 0.01
    server_start_s: float = 3.0
    verify_bytes_s: float = 400e6
    load_bytes_s: float = 800e6
    sigma: float = 0.4


class Watch(Protocol):
    """What looks at each node's doings (world.py)."""

    def sizes(self, release: Release) -> tuple[float, float]:
        """Bytes of a release that are fetched, and that are loaded."""

    def is_signed(self, release: Release) -> bool:
        """Whether its manifest is what it must be."""

    def reports(self, node: SimNode, state: State) -> None:
        """An agent is about to say so."""

    def flips(self, node: SimNode, release: Release) -> None:
        """A server is about to serve it."""

    def purged(self, node: SimNode, command: Command) -> None:
        """A purge is done."""


# An agent looks at folders so often, in seconds.
LOOK_EVERY_S = 10.0


class SimNode:
    """One node. `slowness`: its own work takes so many times as long.

    served, prepared, current  trees: what the server answers with, has beside it, and would start with
    """

    def __init__(
        self, name: str, clock: Clock, random: Random, link: Link, bus: SimBus, origin: Origin, watch: Watch
    ) -> None:
        self.name, self.link = name, link
        self._clock, self._random, self._bus, self._origin, self._watch = clock, random, bus, origin, watch
        self.site = bus.desired.site
        self.speeds = Speeds()
        self.slowness = 1.0
        self.trouble = 0.0  # the share of fetches, preparations, flips and purges that fail
        self.is_coded = False  # messages go through their bytes
        self.memory: Memory | None = None
        self.folders: set[str] = set()
        self.adrift = False  # the folder of what is served is gone
        self._fetched: set[str] = set()  # trees that had a folder
        self._seen = ""  # what this run of the agent has seen to be served from its folder
        self.served = self.prepared = self.current = ""
        self.is_serving = True  # the server's process is there
        self.machine: NodeState | None = None
        self.state: State | None = None  # the last that was reported
        self._boots = count(1)
        self._run = 0  # of the agent: what an earlier run began says nothing to a later one
        self._task = 0
        self._fetching: Fetching | None = None
        self._is_reporting = False
        self._tick_at = 0.0

    # -- the agent

    def start(self) -> None:
        """Start the agent, or start it anew; what it knows is what Keep has written."""
        self.stop()
        self.machine = NodeState(self.site, self.name, f"{self.name}-{next(self._boots)}", self.memory)
        self._tick_at = 0.0
        self._seen = ""
        if self.is_serving:
            self._observe()
        self._bus.connect(self)

    def stop(self) -> None:
        """Kill the agent: what it was about is not done; a flip may have gone half of its way."""
        self._run += 1
        self._end_task()
        self.machine, self._is_reporting = None, False

    def hear(self, event: Delivery | Desired) -> bool:
        """The bus brings something; whether there is an agent to take it."""
        if self.is_coded and isinstance(event, Command):
            event = parse_command(event.dump())
        if self.is_coded and isinstance(event, Desired):
            event = Desired.parse(event.dump())
        self.tell(event)
        return self.machine is not None

    def tell(self, event: Event) -> None:
        """Tell the machine, and do what it wants."""
        if self.machine is None:
            return
        for action in self.machine.on(event, self._clock.now):
            self._do(action)
        self._wake()

    def _wake(self) -> None:
        """A tick, when the machine wants one."""
        assert self.machine is not None
        due, run = self.machine.due, self._run
        if due == float("inf") or (self._clock.now < self._tick_at <= due):
            return
        self._tick_at = due

        def tick() -> None:
            if run == self._run and self._tick_at == due:
                self._tick_at = 0.0
                self.tell(Tick())

        self._clock.after(due - self._clock.now, tick)

    def _later(self, delay_s: float, then: Then) -> None:
        """In this run of the agent."""
        run = self._run
        self._clock.after(delay_s, lambda: then() if run == self._run else None)

    def _takes(self, median_s: float) -> float:
        return median_s * self.slowness * self._random.lognormvariate(0.0, self.speeds.sigma)

    def _fails(self) -> bool:
        return self._random.random() < self.trouble

    def _do(self, action: Action) -> None:
        match action:
            case Keep(memory):
                self.memory = Memory.parse(memory.dump()) if self.is_coded else memory
            case Fetch(release):
                self._begin(lambda task: self._fetch(release, task))
            case Prepare(release):
                self._begin(lambda task: self._prepare(release, task))
            case Flip(release):
                self._begin(lambda task: self._flip(release))
            case Drop():
                self._end_task()
                self.prepared = ""
            case Purge(command) | Warm(command):
                self._later(self._takes(self.speeds.purge_s), lambda: self._purge(command))
            case Acknowledge(name) | SetAside(name, _):
                self.link.send(lambda: self._bus.acknowledge(self.name, name))
            case ReadDesired():
                run = self._run
                self.link.ask(
                    lambda: self._bus.desired,
                    lambda desired: self.hear(desired) if run == self._run else None,
                    lambda: self._later(1.0, lambda: self._do(action)),
                )
            case Report(state):
                self._report(replace(state, at=self._clock.now))

    def _report(self, state: State) -> None:
        """The newest is sent until it is there, one at a time."""
        self._watch.reports(self, state)
        self.state = State.parse(state.dump()) if self.is_coded else state
        if not self._is_reporting:
            self._is_reporting = True
            self._send_report()

    def _send_report(self) -> None:
        state = self.state
        assert state is not None

        def sent() -> None:
            if self.state is state:
                self._is_reporting = False
            else:
                self._send_report()

        run = self._run
        self.link.ask(
            lambda: self._bus.report(state),
            lambda _: sent() if run == self._run else None,
            lambda: self._later(0.0, self._send_report),
        )

    # -- one task at a time

    def _begin(self, begin: Callable[[int], None]) -> None:
        self._end_task()
        begin(self._task)

    def _end_task(self) -> None:
        self._task += 1
        if self._fetching:
            self._origin.stop(self._fetching)
            self._fetching = None

    def _end(self, task: int, event: Event) -> None:
        """A task ends, unless another has begun."""
        if task == self._task:
            self.tell(event)

    def _fetch(self, release: Release, task: int) -> None:
        """Its manifest from the bus, its files from the origin."""

        def checked(is_signed: bool) -> None:
            if task != self._task:
                return
            if not is_signed:
                self._end(task, Undone(release, "its manifest is of another release", is_final=True))
            elif release.tree in self.folders:
                self._end(task, Fetched(release))
            else:
                size = self._watch.sizes(release)[0]
                self._fetching = self._origin.fetch(size, lambda: got(size))

        def got(size: float) -> None:
            self._fetching = None
            self._later(self._takes(size / self.speeds.verify_bytes_s), verified)

        def verified() -> None:
            if task != self._task:
                return
            if self._fails():
                self._end(task, Undone(release, "the origin is away"))
                return
            self.has_folder(release.tree)
            self._end(task, Fetched(release))

        self.link.ask(
            lambda: self._watch.is_signed(release),
            checked,
            lambda: self._end(task, Undone(release, "the bus is away")),
        )

    def _prepare(self, release: Release, task: int) -> None:
        """The server loads what it has not."""
        if release.tree not in self.folders:
            if release.tree not in self._fetched:
                raise AssertionError(f"{self.name} prepares {release.rollout}, which it has never fetched")
            self._later(0.001, lambda: self._end(task, Undone(release, "there is no such release", is_lost=True)))
            return
        is_there = release.tree in (self.served, self.prepared)
        took = 0.001 if is_there else self._takes(self._watch.sizes(release)[1] / self.speeds.load_bytes_s)

        def loaded() -> None:
            if task != self._task:
                return
            if not self.is_serving or self._fails():
                self._end(task, Undone(release, "the server is away"))
                return
            self.prepared = release.tree
            self._end(task, Prepared(release))

        self._later(took, loaded)

    def _flip(self, release: Release) -> None:
        """`current` first, then the server; it may end in its middle, with the agent or with the server."""

        def led() -> None:
            if release.tree not in self.folders:
                self._later(0.01, lambda: undone("there is no such release"))
                return
            if not self.is_serving or self._fails():
                self._later(0.01, lambda: undone("the server is away"))
                return
            self._watch.flips(self, release)
            before, self.current = self.current, release.tree
            self._later(self._takes(self.speeds.flip_s) / 2, lambda: flipped(before))

        def flipped(before: str) -> None:
            if not self.is_serving or self._fails():
                self.current = before if self._random.random() < 0.5 else self.current
                undone("no answer")
                return
            self.served, self.prepared, self._seen, self.adrift = release.tree, "", release.tree, False
            self.tell(Flipped(release))

        def undone(why: str) -> None:
            self.tell(Undone(release, why, is_lost=release.tree not in self.folders))
            if self.is_serving:
                self._observe()

        self._later(self._takes(self.speeds.flip_s) / 2, led)

    def _purge(self, command: Command) -> None:
        if not self.is_serving or self._fails():
            self.tell(Failed(command.id, "the server is away"))
            return
        self._watch.purged(self, command)
        self.tell(Done(command.id))

    # -- the server

    def _observe(self) -> None:
        if not self.adrift:
            self._seen = self.served
        served = self.served if self._seen == self.served else ""
        needed = self.machine.needed if self.machine else frozenset[str]()
        absent = frozenset((needed | self._fetched) - self.folders)
        self.tell(Observed(served, self.prepared, self.current, self.adrift and served != "", absent))

    def has_folder(self, tree: str) -> None:
        """From now on."""
        self.folders.add(tree)
        self._fetched.add(tree)

    def lose_folders(self) -> None:
        """All of them are deleted, `current` as well: the server goes on from memory, and the agent looks by and by."""
        self.folders.clear()
        self.adrift, self.current = self.served != "", ""

        def look() -> None:
            if self.is_serving:
                self._observe()

        self._later(self._random.uniform(0.0, LOOK_EVERY_S), look)

    def restart_server(self) -> None:
        """The server's process ends, and another one starts with what `current` leads to."""
        self.is_serving, self.prepared = False, ""

        def started() -> None:
            if not self.is_serving:
                self.is_serving, self.served, self.adrift = True, self.current, False
                self._observe()

        self._clock.after(self._takes(self.speeds.server_start_s), started)

    # -- the link

    def cut(self) -> None:
        """Nothing comes and nothing goes."""
        self.link.is_up = False

    def mend(self) -> None:
        """It does again."""
        if not self.link.is_up:
            self.link.is_up = True
            if self.machine:
                self._bus.connect(self)

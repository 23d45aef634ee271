"""All of a simulated fleet together, and what must hold at every moment: `faults` says where it did not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from random import Random

from tools.fleet_sim.bus import SimBus
from tools.fleet_sim.clock import Clock
from tools.fleet_sim.network import Link, Weather
from tools.fleet_sim.node import SimNode
from tools.fleet_sim.operator import SimOperator
from tools.fleet_sim.origin import Origin
from zcserve.fleet.census import needed
from zcserve.fleet.messages import Command, Desired, Release, State
from zcserve.fleet.rollout_words import Plan, rollout_id

SITE = "www"


@dataclass(frozen=True, slots=True)
class Size:
    """How large things are, in bytes, bytes a second, seconds and commands."""

    fetched_bytes: float = 100e6
    loaded_bytes: float = 100e6
    origin_rate: float = 1.25e9
    link_rate: float = 125e6
    message_s: float = 10e-6
    state_s: float = 150e-6
    retained: int = 10_000


@dataclass(slots=True)
class World:
    """So many nodes, each started, and at rest after `settle`."""

    nodes: int
    seed: int = 0
    weather: Weather = field(default_factory=Weather)
    size: Size = field(default_factory=Size)
    quorum: float = 0.9
    is_coded: bool = False
    clock: Clock = field(init=False)
    random: Random = field(init=False)
    bus: SimBus = field(init=False)
    origin: Origin = field(init=False)
    fleet: dict[str, SimNode] = field(init=False)
    faults: list[str] = field(default_factory=list)
    operators: list[SimOperator] = field(default_factory=list)
    sick: set[str] = field(default_factory=set)
    unsigned: set[str] = field(default_factory=set)
    live_at: dict[tuple[int, str], float] = field(default_factory=dict)
    purged_at: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    published_at: dict[str, float] = field(default_factory=dict)
    all_purged_at: dict[str, float] = field(default_factory=dict)
    history: list[Desired] = field(default_factory=list)
    _had: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        self.clock, self.random = Clock(), Random(self.seed)
        self.bus = SimBus(self.clock, SITE, self.size.retained, self.size.message_s)
        self.bus.on_put = self._check_put
        self.origin = Origin(self.clock, self.size.origin_rate, self.size.link_rate)
        self.fleet = {}
        for number in range(self.nodes):
            name, link = f"n{number}", Link(self.clock, self.random, self.weather)
            node = SimNode(name, self.clock, self.random, link, self.bus, self.origin, self)
            node.is_coded = self.is_coded
            self.fleet[name] = node

    def begin(self, release: Release) -> None:
        """All nodes serve this release, which is desired, and have reported so."""
        self.bus.chain.append(Desired(SITE, 1, release))
        self.history.append(self.bus.desired)
        self._had[release.manifest] = set(self.fleet)
        for node in self.fleet.values():
            node.has_folder(release.tree)
            node.served = node.current = release.tree
            self.clock.after(self.random.uniform(0.0, 1.0), node.start)
        while self.serving(release) < self.nodes:
            self.clock.run(self.clock.now + 1.0)
        self.clock.run(self.clock.now + 5.0)

    def release(self, sequence: int, tree: int = 0) -> Release:
        """A release; `tree`: its files are those of another sequence."""
        manifest = f"{sequence:064x}"
        return Release(rollout_id(SITE, sequence, manifest), sequence, manifest, f"{tree or sequence:x}".rjust(64, "f"))

    def serving(self, release: Release) -> int:
        """How many nodes say, to themselves, that it is live."""
        return sum(1 for node in self.fleet.values() if node.state is not None and release.is_same(node.state.live))

    def operate(self, plan: Plan) -> SimOperator:
        """Start an operator."""
        link = Link(self.clock, self.random, self.weather)
        operator = SimOperator(self.clock, link, self.bus, plan, self.size.state_s, self._is_well)
        self.operators.append(operator)
        operator.start()
        return operator

    def publish(self, command: Command) -> None:
        """A purge or a warming, by someone at the bus."""
        self.published_at.setdefault(command.id, self.clock.now)
        self.bus.publish(command)

    def _is_well(self, name: str) -> bool | None:
        node = self.fleet[name]
        return name not in self.sick if node.is_serving and node.link.is_up else None

    # -- what nodes do (node.Watch)

    def sizes(self, release: Release) -> tuple[float, float]:
        """Bytes that are fetched of it, and that are loaded."""
        return self.size.fetched_bytes, self.size.loaded_bytes

    def is_signed(self, release: Release) -> bool:
        """Whether its manifest is as it must be."""
        return release.manifest not in self.unsigned

    def purged(self, node: SimNode, command: Command) -> None:
        """A node has purged."""
        self.purged_at[command.id].setdefault(node.name, self.clock.now)
        if command.prefix == "/":
            self.all_purged_at[node.name] = self.clock.now

    def reports(self, node: SimNode, state: State) -> None:
        """A node says what it has: whether its server has it is looked at."""
        for release in (state.prepared, state.live):
            if release and release.tree in (node.prepared, node.served) and release.tree in node.folders:
                self._had[release.manifest].add(node.name)

    def flips(self, node: SimNode, release: Release) -> None:
        """A server is about to serve a release: whether it may."""
        where = f"{self.clock.now:.3f} {node.name} flips to {release.rollout}"
        if release.tree not in (node.prepared, node.served):
            self.faults.append(f"{where}, which it has not prepared")
        if release.tree not in node.folders:
            self.faults.append(f"{where}, which it has not fetched")
        if release.manifest in self.unsigned:
            self.faults.append(f"{where}, whose manifest is wrong")
        if not any(release.is_same(desired.of_node(node.name)) for desired in self.history):
            self.faults.append(f"{where}, which was never desired of it")
        highest = node.memory.highest if node.memory else None
        if highest and release.sequence < highest.sequence:
            self.faults.append(f"{where}, and {highest.sequence} was live")
        self.live_at.setdefault((release.sequence, node.name), self.clock.now)

    # -- what an operator puts

    def _check_put(self, old: Desired, new: Desired) -> None:
        """Whether a commit has its quorum: so many nodes have had it prepared at some time."""
        self.history.append(new)
        if new.edition <= old.edition:
            self.faults.append(f"edition {new.edition} comes after {old.edition}")
        before, after = (desired.release.sequence if desired.release else 0 for desired in (old, new))
        if after < before:
            self.faults.append(f"sequence {after} is desired after {before}")
        if new.release is None or new.release.is_same(old.release):
            return
        had = self._had[new.release.manifest]
        if len(had) < needed(self.quorum, self.nodes):
            self.faults.append(f"{new.release.rollout} is committed, and {len(had)} nodes had it")

    # -- what must be in the end

    def unpurged(self) -> list[str]:
        """Purges that a node has neither done nor made up for."""
        return [
            f"{command} on {name}"
            for command, began in self.published_at.items()
            for name in self.fleet
            if name not in self.purged_at[command] and self.all_purged_at.get(name, -1.0) < began
        ]

    def converged(self) -> list[str]:
        """Nodes that are not as is desired, and how they are; none, when failures have stopped for long enough."""
        desired, found = self.bus.desired, []
        for node in self.fleet.values():
            state, release = node.state, desired.of_node(node.name)
            is_right = release is None or (
                node.served == node.current == release.tree
                and node.is_serving
                and node.served in node.folders
                and not node.adrift
            )
            knows = state is not None and (release is None or release.is_same(state.live))
            if not (is_right and knows):
                live = state.live.rollout if state and state.live else None
                found.append(
                    f"{node.name} serves {node.served[-4:]}, its agent says {state and state.stage} of {live}, and "
                    f"{release and release.rollout} is desired of it"
                )
        return found

"""One release of a simulated fleet and some purges after it, and what comes of them in numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from tools.fleet_sim.failures import befall, mend
from tools.fleet_sim.network import Weather
from tools.fleet_sim.operator import SimOperator
from tools.fleet_sim.world import SITE, Size, World
from zcserve.fleet.messages import Command
from zcserve.fleet.rollout_words import Plan

# A run ends after this, in virtual seconds, whatever has come of it.
LONGEST_S = 6 * 3600.0
# Purges come so far from each other, in seconds, and are waited for so long after the last one.
PURGE_EVERY_S = 1.0
PURGES_WAITED_S = 30.0
# And all nodes have so long to converge once failures have stopped.
CONVERGED_WITHIN_S = 900.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is run."""

    nodes: int = 1000
    seed: int = 1
    failing: float = 0.02
    slow: float = 0.05
    quorum: float = 0.9
    canary_share: float = 0.0
    bake_s: float = 60.0
    purges: int = 20
    size: Size = field(default_factory=Size)
    weather: Weather = field(default_factory=Weather)


@dataclass(frozen=True, slots=True)
class Times:
    """A distribution, in seconds."""

    count: int
    p50: float
    p90: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Times:
        """Of these; all zero of none."""
        order = sorted(values)
        if not order:
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        at = [order[min(len(order) - 1, int(share * len(order)))] for share in (0.5, 0.9, 0.99)]
        return cls(len(order), *(round(value, 4) for value in (*at, order[-1])))

    def text(self) -> str:
        """On a line."""
        return f"p50 {self.p50:.3f} s   p90 {self.p90:.3f} s   p99 {self.p99:.3f} s   longest {self.most:.3f} s"


@dataclass(slots=True)
class Figures:
    """What has come of a scenario. Times are of virtual seconds since the operator began, but for `took_s`.

    prepared_s, quorum_s  when the quorum had it prepared, and served it
    live                  when each node flipped
    converged_s           how long it took after all failures had stopped until each node was as desired
    busy                  for each part that does one thing at a time, or has one bandwidth: the share of the time up to
                          the quorum in which it had all that it could do; and what waited, and how long at most
    operator_cpu_s        what the rollout's machine took of this computer
    """

    ending: str
    why: str
    late: int
    troubles: dict[str, int]
    prepared_s: float
    quorum_s: float
    ended_s: float
    live: Times
    origin: dict[str, float]
    bus: dict[str, float]
    operator: dict[str, float]
    purged: Times
    acknowledged: Times
    purges_missed: int
    converged_s: float | None
    unconverged: list[str]
    faults: list[str]
    happened: int
    operator_cpu_s: float
    took_s: float

    @property
    def is_right(self) -> bool:
        """Whether all that must hold held."""
        return not self.faults and not self.unconverged

    def json(self) -> dict[str, object]:
        """For programs."""
        return asdict(self)


def run(scenario: Scenario) -> Figures:
    """Run it: a release while nodes fail, purges, then all failures stop."""
    began = time.perf_counter()
    world = World(scenario.nodes, scenario.seed, scenario.weather, scenario.size, scenario.quorum)
    world.begin(world.release(1))
    release, start = world.release(2), world.clock.now
    bus, bytes_before = world.bus, world.origin.sent
    done, busy = bus.desk.done, bus.desk.busy_s
    least_s = scenario.nodes * scenario.size.fetched_bytes / scenario.size.origin_rate
    troubles = befall(world, scenario.failing, scenario.slow, 30.0 + least_s)
    plan = Plan(release, scenario.quorum, 600 + 3 * least_s, canary_share=scenario.canary_share, bake_s=scenario.bake_s)
    operator = world.operate(plan)
    world.clock.run(start + LONGEST_S, lambda: "converging" in operator.phases or operator.end is not None)
    quorum_s = world.clock.now - start
    bus_busy = {"messages": float(bus.desk.done - done), "busy": (bus.desk.busy_s - busy) / quorum_s}
    operator_figures = _of_the_operator(operator, quorum_s)
    world.clock.run(start + LONGEST_S, lambda: operator.end is not None)
    _purge(world, scenario.purges)
    end = operator.end
    mend(world)
    mended = world.clock.now
    while (left := world.converged()) and world.clock.now < mended + CONVERGED_WITHIN_S:
        world.clock.run(world.clock.now + 1.0)
    purged, acknowledged = _of_purges(world, operator)
    prepared_at = [at for phase, at in operator.phases.items() if phase in ("trying", "committing")]
    return Figures(
        end.ending.value if end else "unended",
        end.why if end else "",
        len(end.late) if end else 0,
        dict(sorted(troubles.items())),
        round(min(prepared_at, default=start) - start, 3),
        round(quorum_s, 3),
        round(operator.phases.get("ended", world.clock.now) - start, 3),
        Times.of(at - start for (sequence, _), at in world.live_at.items() if sequence == 2),
        {
            "bytes": round(world.origin.sent - bytes_before),
            "peak_bytes_s": round(world.origin.peak),
            "busy": round(world.origin.busy_s / quorum_s, 3),
            "most_at_once": world.origin.most,
        },
        bus_busy | {"longest_wait_s": round(bus.desk.longest_s, 4), "busy": round(bus_busy["busy"], 4)},
        operator_figures,
        Times.of(purged),
        Times.of(acknowledged),
        scenario.purges * scenario.nodes - len(purged),
        None if left else round(world.clock.now - mended, 1),
        left[:20],
        world.faults[:20],
        world.clock.happened,
        round(operator.cpu_s, 3),
        round(time.perf_counter() - began, 2),
    )


def _purge(world: World, purges: int) -> None:
    """Publish some, one after the other, and wait for them."""
    for number in range(purges):
        world.publish(Command(f"purge-{number}", "purge", SITE, tags=("news",)))
        world.clock.run(world.clock.now + PURGE_EVERY_S)
    world.clock.run(world.clock.now + PURGES_WAITED_S if purges else world.clock.now)


def _of_the_operator(operator: SimOperator, quorum_s: float) -> dict[str, float]:
    desk = operator.desk
    return {
        "states": float(desk.done),
        "busy": round(min(1.0, desk.busy_s / quorum_s), 4),
        "longest_wait_s": round(desk.longest_s, 4),
    }


def _of_purges(world: World, operator: SimOperator) -> tuple[list[float], list[float]]:
    """How long each purge took on each node, and until it was heard of."""
    purged, acknowledged = [], []
    for name, began in world.published_at.items():
        purged += [at - began for at in world.purged_at[name].values()]
        acknowledged += [at - began for at in operator.done_at.get(name, {}).values()]
    return purged, acknowledged


def text(scenario: Scenario, figures: Figures) -> str:
    """For people."""
    size, found = scenario.size, figures
    troubles = ", ".join(f"{many} {kind}" for kind, many in found.troubles.items()) or "none"
    lines = [
        f"{scenario.nodes:,} nodes, seed {scenario.seed}; {size.fetched_bytes / 1e6:g} MB for each, from an origin of "
        f"{size.origin_rate * 8 / 1e9:g} Gbit/s; troubles: {troubles}",
        f"release    {found.ending}{found.why and ': ' + found.why}; late: {found.late}",
        f"           quorum prepared {found.prepared_s:.1f} s   live on the quorum {found.quorum_s:.1f} s   "
        f"operator ended {found.ended_s:.1f} s",
        f"flips      {found.live.text()}",
        f"origin     {found.origin['bytes'] / 1e9:,.2f} GB   "
        f"peak {found.origin['peak_bytes_s'] * 8 / 1e9:.2f} Gbit/s   {found.origin['most_at_once']:,.0f} at once   "
        f"full {found.origin['busy']:.0%} of the time to the quorum",
        f"bus        {found.bus['messages']:,.0f} messages to the quorum   busy {found.bus['busy']:.1%}   "
        f"longest wait {found.bus['longest_wait_s']:.3f} s",
        f"operator   {found.operator['states']:,.0f} states read   busy {found.operator['busy']:.1%}   "
        f"longest wait {found.operator['longest_wait_s']:.3f} s   {found.operator_cpu_s:.2f} s of this computer",
        f"purges     {found.purged.text()}   not within the run: {found.purges_missed:,}",
        f"           heard of by the operator: {found.acknowledged.text()}",
        f"end        failures stop; all as desired after {found.converged_s} s"
        if found.converged_s is not None
        else f"end        NOT CONVERGED: {'; '.join(found.unconverged)}",
        *(f"FAULT      {fault}" for fault in found.faults),
        f"first      {first(found)}",
        f"           {found.happened:,} events in {found.took_s:.1f} s",
    ]
    return "\n".join(lines)


def first(found: Figures) -> str:
    """What is nearest to its end: the part that had all it could do for the longest."""
    parts = {"the origin": found.origin, "the bus": found.bus, "the operator": found.operator}
    order = sorted(parts.items(), key=lambda item: -item[1]["busy"])
    busy = ", ".join(f"{name} {part['busy']:.1%}" for name, part in order)
    return f"{order[0][0]} is the narrowest part; busy of the time to the quorum: {busy}"

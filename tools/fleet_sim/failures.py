"""What goes wrong in a fleet, at random: of a share of the nodes each has one trouble while a release goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from tools.fleet_sim.node import SimNode
from tools.fleet_sim.world import World

# A link is down for so long on average, in seconds.
CUT_S = 30.0
# A slow node takes so many times as long for its own work.
SLOWNESS = 5.0
# Of what a node in trouble begins, this share fails.
TROUBLE = 0.5


def agent(world: World, node: SimNode) -> None:
    """Its agent is killed, and started anew."""
    node.stop()
    world.clock.after(world.random.uniform(0.1, 5.0), node.start)


def server(world: World, node: SimNode) -> None:
    """Its server is."""
    node.restart_server()


def link(world: World, node: SimNode) -> None:
    """It is out of reach for a while."""
    node.cut()
    world.clock.after(world.random.expovariate(1 / CUT_S), node.mend)


def dead(world: World, node: SimNode) -> None:
    """It is gone, until all are mended."""
    node.cut()


def trouble(world: World, node: SimNode) -> None:
    """Its disk, its origin or its server fails it again and again."""
    node.trouble = TROUBLE


KINDS: dict[str, Callable[[World, SimNode], None]] = {
    "agent restarts": agent,
    "server restarts": server,
    "link is down": link,
    "dead": dead,
    "half of all fails": trouble,
}


def befall(world: World, failing: float, slow: float, within_s: float) -> Counter[str]:
    """Have these shares of the nodes fail, at any moment within that time, and be slow. How many had which trouble."""
    names = list(world.fleet)
    for name in world.random.sample(names, round(slow * len(names))):
        world.fleet[name].slowness = SLOWNESS
    kinds: Counter[str] = Counter()
    for name in world.random.sample(names, round(failing * len(names))):
        kind = world.random.choice(list(KINDS))
        kinds[kind] += 1
        node, fail = world.fleet[name], KINDS[kind]
        world.clock.after(world.random.uniform(0.0, within_s), lambda node=node, fail=fail: fail(world, node))  # type: ignore[misc]
    return kinds


def mend(world: World) -> None:
    """All failures stop, and nothing is lost any more."""
    world.weather = replace(world.weather, loss=0.0, twice=0.0)
    world.sick.clear()
    for node in world.fleet.values():
        node.link.weather = world.weather
        node.trouble = 0.0
        node.mend()
        if node.machine is None:
            node.start()
        if not node.is_serving:
            node.restart_server()

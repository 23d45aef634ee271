"""Command line of the simulator. Exit codes: 0 all that must hold held, 1 it did not, 2 wrong use."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from tools.fleet_sim.figures import Scenario, run, text
from tools.fleet_sim.network import Weather
from tools.fleet_sim.world import Size
from zcserve.config.units import parse_size
from zcserve.errors import UsageError


def share(given: str) -> float:
    """ "2%" or "0.02"."""
    found = float(given[:-1]) / 100 if given.endswith("%") else float(given)
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{given} is not from 0 to 100%")
    return found


def size(given: str) -> float:
    """ "100MB"."""
    try:
        return float(parse_size(given))
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tools.fleet_sim", description=str(__doc__).partition(".")[0] + ".")
    add = made.add_argument
    add("--nodes", type=int, default=1000)
    add("--seed", type=int, default=1)
    add("--failing", type=share, default=0.02, metavar="SHARE", help="of the nodes, that have one trouble each")
    add("--slow", type=share, default=0.05, metavar="SHARE", help="of the nodes, that take five times as long")
    add("--quorum", type=share, default=0.9, metavar="SHARE")
    add("--canary", type=share, default=0.0, metavar="SHARE")
    add("--bake", type=float, default=60.0, metavar="SECONDS")
    add("--bytes", type=size, default=100e6, metavar="SIZE", help="that each node fetches, and loads")
    add("--origin", type=float, default=10.0, metavar="GBIT", help="bandwidth of the origin, in Gbit/s")
    add("--link", type=float, default=1.0, metavar="GBIT", help="of a node")
    add("--latency", type=float, default=20.0, metavar="MS", help="one way, the median")
    add("--loss", type=share, default=0.001, metavar="SHARE", help="of messages that are lost, and that come twice")
    add("--purges", type=int, default=20, help="one a second, after the release")
    add("--json", action="store_true", help="for programs")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a scenario, and print its figures."""
    given = parser().parse_args(arguments)
    if given.nodes < 1:
        parser().error("--nodes: at least 1")
    sizes = Size(given.bytes, given.bytes, given.origin * 1e9 / 8, given.link * 1e9 / 8)
    weather = Weather(given.latency / 1000, loss=given.loss, twice=given.loss)
    scenario = Scenario(
        given.nodes,
        given.seed,
        given.failing,
        given.slow,
        given.quorum,
        given.canary,
        given.bake,
        given.purges,
        sizes,
        weather,
    )
    figures = run(scenario)
    print(json.dumps(figures.json(), indent=2) if given.json else text(scenario, figures))
    return 0 if figures.is_right else 1


if __name__ == "__main__":
    sys.exit(main())

"""Go back to an earlier release: its files, under a new sequence. Nodes have them still, most often in memory.

It is a rollout as any other: nodes prepare it before they flip. `previous` is the release before the one that is
desired; when that is the outcome of a rollback already, the command says so and changes nothing: --to SEQUENCE goes
further back.
"""

from __future__ import annotations

import argparse

from tools.warm import rolling
from tools.warm.buses import Fleet, Look
from tools.warm.planning import PREVIOUS, goes_back_to
from tools.warm.rolling import Goal
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.errors import UsageError
from zcserve.fleet.bus import MissingError
from zcserve.fleet.manifest import Manifest

__doc__ += rolling.EXITS


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("--site", metavar="NAME", default=DEFAULT_NAME, help="the site (default %(default)s)")
    parser.add_argument("--to", metavar="SEQUENCE|previous", default=PREVIOUS, help="(default previous)")
    rolling.add_rollout(parser)


def run(arguments: argparse.Namespace) -> int:
    """Go back."""
    return rolling.run(arguments, lambda fleet, look: _goal(fleet, look, arguments.to))


async def _goal(fleet: Fleet, look: Look, wanted: str) -> Goal:
    back = goes_back_to(look.desired, wanted)
    try:
        manifest = Manifest.parse(await fleet.bus.manifest(back.manifest))
    except MissingError as error:
        raise UsageError(f"--to {back.sequence}: {error}; accepted: `release` of its files") from None
    return Goal(manifest, back.source)

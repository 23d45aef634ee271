"""Bring a release to all nodes of a site: they fetch it, load it, and only when enough have it, they flip to it.

ROOT is a directory, of which a manifest is made with the next sequence; or the file of a manifest, which has its own.
Given again, the command goes on where it was, or says what stands. What lies in a directory and cannot be in a release
is told, and nothing is brought, unless --leave-out says that the rest is the release.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.warm import rolling
from tools.warm.buses import Fleet, Look
from tools.warm.releases import add_configuration, add_leave_out, manifest_at
from tools.warm.rolling import Goal
from zcserve.errors import UsageError
from zcserve.fleet.sources.choosing import check_for_nodes

__doc__ += rolling.EXITS


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("root", metavar="ROOT|release.json", help="the files, or the manifest of them")
    add_configuration(parser)
    add_leave_out(parser)
    parser.add_argument("--source", metavar="URL", required=True, help="where nodes find the files")
    rolling.add_rollout(parser)


def run(arguments: argparse.Namespace) -> int:
    """Bring it."""
    check_for_nodes(arguments.source)
    path = Path(arguments.root)
    manifest = manifest_at(path, arguments, leave_out=arguments.leave_out)
    if manifest.site != arguments.site:
        raise UsageError(f"{path} is of site {manifest.site}, not {arguments.site}; --site names it")

    async def goal(fleet: Fleet, look: Look) -> Goal:
        return Goal(manifest, arguments.source, has_sequence=not path.is_dir())

    return rolling.run(arguments, goal)

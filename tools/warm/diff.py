"""What one release has that another has not: paths that are new, gone and changed, and the bytes to fetch.

A and B are manifests, or directories of files, of which a manifest is made (by --config and --site); what cannot be in
it is told, and left out. To be fetched is each content of B that no file of A has, once.

Exit codes: 0 they were compared, whether they differ or not; 1 a manifest is refused; 2 wrong use; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tools.warm.arguments import EXIT_RIGHT
from tools.warm.releases import add_configuration, manifest_at
from zcserve.config.units import counted, size_text
from zcserve.fleet.manifest import Difference, diff

# Paths of each kind that people are told.
SHOWN = 20


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("old", metavar="A", help="release.json, or a directory")
    parser.add_argument("new", metavar="B", help="the same")
    add_configuration(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON, with all paths")


def run(arguments: argparse.Namespace) -> int:
    """Compare, and say what came of it."""
    old, new = (manifest_at(Path(path), arguments, leave_out=True) for path in (arguments.old, arguments.new))
    found = diff(old, new)
    print(json_of(found) if arguments.json else text_of(found))
    return EXIT_RIGHT


def text_of(found: Difference) -> str:
    """The report for people."""
    lines = []
    for sign, paths in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        lines += [f"{sign} {path}" for path in paths[:SHOWN]]
        if len(paths) > SHOWN:
            lines.append(f"{sign} and {len(paths) - SHOWN:,} more")
    kinds = f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed"
    fetched = f"to fetch: {counted(len(found.fetched), 'file')}, {size_text(found.bytes)}"
    return "\n".join([*lines, f"{kinds}; {fetched}"])


def json_of(found: Difference) -> str:
    """The report for programs."""
    fetched = [{"name": name, "size": size, "sha256": digest} for name, size, digest in found.fetched]
    kinds = {"added": found.added, "removed": found.removed, "changed": found.changed}
    return json.dumps({**kinds, "bytes": found.bytes, "fetched": fetched}, indent=2)

"""Make a manifest of a directory: size, sha-256, ETag, type, encodings, tags and priority of each file.

It goes to standard output, in canonical form: the same files give the same bytes. What --config says of types, tags
and priorities is in it, as ZCSERVE_... is. With --encodings what is compressible gets the .br, .zst and .gz siblings
that it lacks, beside it in ROOT. Each --key signs.

What cannot be in it is told: what cannot be read, is no file, leads out of ROOT, has gone meanwhile, or has a name that
is too long. Then no manifest is made, unless --leave-out says that the rest is the release.

Exit codes: 0 it is made; 1 something cannot be in it, or a file changed meanwhile, and nothing is made; 2 wrong use;
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path

from tools.warm.arguments import EXIT_RIGHT, number
from tools.warm.releases import add_configuration, add_leave_out, made_of, tell
from zcserve.config.units import counted
from zcserve.errors import UsageError
from zcserve.fleet.manifest import INTEGER_MAX
from zcserve.fleet.signing import Signer


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("root", metavar="ROOT", help="the directory of files")
    add_configuration(parser)
    parser.add_argument(
        "--sequence",
        metavar="N",
        type=number(1, INTEGER_MAX),
        default=1,
        help="of the releases of this site; nodes take none that is lower than the last (default 1)",
    )
    parser.add_argument("--key", metavar="PEM", action="append", default=[], help="sign with this key (repeatable)")
    parser.add_argument("--encodings", action="store_true", help="make missing siblings in ROOT")
    add_leave_out(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make it, and print it."""
    _refuse_to_hold_itself(Path(arguments.root))
    signers = [Signer.read(path) for path in arguments.key]
    made = made_of(
        arguments.root,
        arguments,
        arguments.sequence,
        encodings=arguments.encodings,
        leave_out=arguments.leave_out,
    )
    manifest = made.manifest
    for signer in signers:
        manifest = signer.sign(manifest)
    if made.written:
        siblings = sum(map(len, made.written.values()))
        tell([f"made {counted(siblings, 'encoding')} of {counted(len(made.written), 'file')}"])
    sys.stdout.buffer.write(manifest.to_bytes() + b"\n")
    sys.stdout.buffer.flush()
    return EXIT_RIGHT


def _refuse_to_hold_itself(root: Path) -> None:
    """Raises UsageError where standard output is a file in the root: it would be part of what it is of."""
    try:
        fd = sys.stdout.fileno()
        place = Path(os.readlink(f"/proc/self/fd/{fd}"))
    except (OSError, ValueError):  # it is no descriptor
        return
    if stat.S_ISREG(os.fstat(fd).st_mode) and place.is_relative_to(root.resolve()):
        raise UsageError(f"{place} lies in {root}, and would be served; accepted: a file elsewhere")

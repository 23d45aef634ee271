"""Make a manifest of a directory: size, sha-256, ETag, type, encodings, tags and priority of each file.

It goes to standard output, or to --output, in canonical form: the same files give the same bytes. What --config says of
types, tags and priorities is in it, as ZCSERVE_... is. With --encodings what is compressible gets the .br, .zst and .gz
siblings that it lacks, beside it in ROOT. Each --key signs.

What cannot be in it is told: what cannot be read, is no file, leads out of ROOT, has gone meanwhile, or has a name that
is too long. Then no manifest is made, unless --leave-out says that the rest is the release.

--json (with --output) prints an object a line: begin, reading (once a second), doubt (a text), left_out (a path, and
why), encodings (a path, and which were made), and last made (what it is) or failed (why).

Exit codes: 0 it is made; 1 something cannot be in it, or a file changed meanwhile, and nothing is made; 2 wrong use;
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path

from tools.warm.arguments import EXIT_RIGHT, EXIT_WRONG, number
from tools.warm.making_told import ForPeople, ForPrograms
from tools.warm.releases import add_configuration, add_leave_out, made_of
from zcserve.errors import UsageError, reason_of
from zcserve.fleet.manifest import INTEGER_MAX, ManifestError
from zcserve.fleet.signing import Signer
from zcserve.replacing import replace

# Of --output: it says nothing that its release does not.
_MODE = 0o644


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
    parser.add_argument("--output", metavar="FILE", help="where it goes to, as a whole (default: standard output)")
    parser.add_argument("--json", action="store_true", help="tell what happens as JSON, an object a line")


def run(arguments: argparse.Namespace) -> int:
    """Make it, and print it."""
    if arguments.json and not arguments.output:
        raise UsageError("--json needs --output: without it standard output is the manifest's")
    _refuse_to_hold_itself(Path(arguments.root), arguments.output)
    signers = [Signer.read(path) for path in arguments.key]
    told = ForPrograms() if arguments.json else ForPeople()
    try:
        made = made_of(
            arguments.root,
            arguments,
            arguments.sequence,
            encodings=arguments.encodings,
            leave_out=arguments.leave_out,
            told=told,
        )
        manifest = made.manifest
        for signer in signers:
            manifest = signer.sign(manifest)
    except ManifestError as error:
        told.failed(str(error))
        return EXIT_WRONG
    _write(manifest.to_bytes() + b"\n", arguments.output)
    told.made(
        site=manifest.site,
        sequence=manifest.sequence,
        manifest=manifest.digest,
        tree=manifest.tree,
        files=len(manifest.files),
        size=manifest.size,
        signed_by=[one.key for one in manifest.signatures],
        output=arguments.output,
    )
    return EXIT_RIGHT


def _write(data: bytes, output: str | None) -> None:
    """Raises UsageError."""
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        replace(output, (data,))
        os.chmod(output, _MODE)
    except OSError as error:
        raise UsageError(f"--output {output} cannot be written: {reason_of(error)}") from None


def _refuse_to_hold_itself(root: Path, output: str | None) -> None:
    """Raises UsageError where what is written to is a file in the root: it would be part of what it is of."""
    if (place := Path(output).resolve() if output else _standard_output()) and place.is_relative_to(root.resolve()):
        raise UsageError(f"{place} lies in {root}, and would be served; accepted: a file elsewhere")


def _standard_output() -> Path | None:
    """The file that it is, if it is one."""
    try:
        fd = sys.stdout.fileno()
        place = Path(os.readlink(f"/proc/self/fd/{fd}"))
    except (OSError, ValueError):  # it is no descriptor
        return None
    return place if stat.S_ISREG(os.fstat(fd).st_mode) else None

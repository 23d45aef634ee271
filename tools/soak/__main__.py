"""Command line of the soaks.

Exit codes: 0 all was right, 1 something was wrong (see the FAULT lines), 2 the server did not do its part.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

from tools.soak import everything, flip, upgrades
from tools.soak.crew import Found
from tools.soak.served import SoakError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m tools.soak", description="Ask for everything, for as long as is wanted."
    )
    commands = made.add_subparsers(dest="command", required=True)
    all_ = commands.add_parser("everything", help="all kinds of requests while files change and are evicted")
    all_.add_argument("--seconds", type=float, default=600.0)
    flips = commands.add_parser("flip", help="releases of many files, all of which change")
    flips.add_argument("--files", type=int, default=100_000)
    flips.add_argument("--flips", type=int, default=4)
    many = commands.add_parser("upgrades", help="requests over many upgrades, none lost")
    many.add_argument("--requests", type=int, default=1_000_000)
    many.add_argument("--upgrades", type=int, default=50)
    for command in (all_, flips, many):
        command.add_argument("--lanes", default="1", metavar="N")
        command.add_argument("--engine", default="auto", metavar="NAME")
    return made


def run(options: argparse.Namespace, workdir: Path) -> tuple[Found, dict[str, Any]]:
    """One of the soaks. Raises SoakError."""
    flags = ("--lanes", options.lanes, "--engine", options.engine)
    if options.command == "everything":
        return everything.run(workdir, flags, int(options.lanes), options.seconds)
    if options.command == "flip":
        return flip.run(workdir, flags, options.files, options.flips)
    return upgrades.run(workdir, flags, options.requests, options.upgrades)


def main(arguments: list[str] | None = None) -> int:
    """Run one; the exit code."""
    options = parser().parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zcserve-soak-") as made:
        try:
            found, figures = run(options, Path(made))
        except SoakError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 2
        print(f"{options.command}, {options.lanes} lanes, {time.monotonic() - began:.0f} s, {os.cpu_count()} cores")
        for name, count in sorted((found.counts | figures).items()):
            print(f"  {name}: {count:,}" if isinstance(count, int) else f"  {name}: {count}")
        for fault in found.faults:
            print(f"FAULT: {fault}")
        sys.stdout.flush()  # to remove 500,000 files takes minutes
    return 1 if found.faults else 0


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)  # so that the server is ended then, too
    sys.exit(main())

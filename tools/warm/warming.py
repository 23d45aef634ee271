"""The two forms of `warm_cache` that warm: their flags, their words, and what they report.

Without `--url` it loads a root through `zcserve.cache`, as the server would but without a socket, and reports what
became resident, what did not fit and what cannot be served (loading.py). With `--url` it asks a running server for
everything that a walk of the tree finds, which warms it, and compares each answer with the file (comparing.py).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from tools.warm import subcommands
from tools.warm.arguments import EXIT_RIGHT, EXIT_WRONG, Parser, number
from tools.warm.comparing import CONNECTIONS, TIMEOUT_S, Compared, compare
from tools.warm.listing import read_list
from tools.warm.loading import Loaded, load_root
from tools.warm.progress import bar
from tools.warm.report import json_of, text_of
from tools.warm.words import duration
from zcserve.config.sources import load
from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.progress import Meter

CONNECTIONS_MAX = 1000
SHOWN = 20

_EPILOG = """\
The list names what to load or ask for first, one a line: a path below the root, with or without its first slash, a
URL's path, or a whole URL; blank lines and lines that begin with # are passed over. What loading uses besides
(--index and the like) comes from --config and ZCSERVE_... as it does for the server.

Exit codes: 0 all is right (what did not fit is no fault); 1 something under the root cannot be served as it lies
there, the list names what does not exist, or an answer differs from the tree or did not come; 2 wrong use, or the
server does not answer at all; 130 interrupted.

Releases (warm_cache WORD --help says more):
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warm_cache",
        description="Load a root into memory, or with --url have a server load it, and report how that went.",
        epilog=_EPILOG + subcommands.summaries(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--root", metavar="DIR", required=True, help="the tree to load or to compare with")
    parser.add_argument("--list", metavar="FILE", help="what comes first; - is standard input")
    parser.add_argument("--index", metavar="NAME", action="append", help="as for the server (repeatable)")
    parser.add_argument("--config", metavar="FILE", help="the server's TOML file")
    parser.add_argument("--json", action="store_true", default=False, help="report as JSON, everything named")
    parser.add_argument(
        "--show", metavar="N", type=number(0, 10**9 - 1), default=SHOWN, help=f"name at most N (default {SHOWN})"
    )
    local = parser.add_argument_group("without --url")
    local.add_argument("--memory", metavar="SIZE", help="the budget, as for the server")
    local.add_argument("--compress", action=argparse.BooleanOptionalAction, help="make variants, as the server does")
    remote = parser.add_argument_group("asking a server")
    remote.add_argument("--url", help="http://HOST[:PORT] or unix:PATH")
    remote.add_argument(
        "--connections",
        metavar="N",
        type=number(1, CONNECTIONS_MAX),
        help=f"how many at a time, up to {CONNECTIONS_MAX} (default {CONNECTIONS})",
    )
    remote.add_argument(
        "--timeout", metavar="TIME", type=duration, help=f"for each step of an answer (default {TIMEOUT_S:g}s)"
    )
    return parser


def _refuse_idle(given: dict[str, Any]) -> None:
    """Refuse flags that would have no effect."""
    remote = "url" in given
    for flag in ("memory", "compress") if remote else ("connections", "timeout"):
        if flag in given:
            raise UsageError(f"--{flag} has no effect {'with' if remote else 'without'} --url")


def _report(config: Config, given: dict[str, Any], meter: Meter) -> Loaded | Compared:
    """Load, or compare, as the flags say."""
    lines = read_list(given["list"]) if "list" in given else []
    if "url" not in given:
        return load_root(config, lines, meter)
    return compare(
        config,
        given["url"],
        lines,
        connections=given.get("connections", CONNECTIONS),
        timeout_s=given.get("timeout", TIMEOUT_S),
        progress=meter,
    )


def run(arguments: Sequence[str]) -> int:
    """Warm as these flags say; the exit code. Raises UsageError."""
    given = vars(_parser().parse_args(arguments))
    _refuse_idle(given)
    flags: dict[str, object] = {name: given[name] for name in ("root", "memory", "index", "compress") if name in given}
    config = load(flags, os.environ, given.get("config"))
    meter = Meter(bar)
    try:
        report = _report(config, given, meter)
    finally:
        meter.clear()
    print(json_of(report) if given["json"] else text_of(report, given["show"]))
    return EXIT_RIGHT if report.right else EXIT_WRONG

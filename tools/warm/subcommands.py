"""What `warm_cache` does beside warming: a word, and a module that is imported when the word is said.

A module has two functions: `add(parser)` gives its arguments to a parser, `run(arguments) -> int` does it and returns
an exit code (tools/warm/arguments.py). Its docstring is its help, and says what each code means. Of the errors that it
raises, UsageError is wrong use (2), and any other ZcserveError is what came of it (1): each becomes one line on
standard error.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from tools.warm.arguments import Parser
from zcserve.errors import UsageError, known_instead


class Subcommand(NamedTuple):
    """A module of this package, and what it does."""

    module: str
    summary: str


SUBCOMMANDS = {
    "manifest": Subcommand("manifest", "a manifest of a directory, on standard output"),
    "diff": Subcommand("diff", "what one release has that another has not"),
    "verify": Subcommand("verify", "is a directory what a manifest says?"),
    "fetch": Subcommand("fetching", "a release from a source into its folder"),
    "keygen": Subcommand("keygen", "a key that signs manifests"),
    "heat": Subcommand("heat", "the order in which files are worth to be in memory"),
    "release": Subcommand("release", "bring a release to all nodes of a site"),
    "rollback": Subcommand("rollback", "go back to an earlier release"),
    "abort": Subcommand("abort", "take back a rollout that was left in the middle"),
    "purge": Subcommand("purge", "have all nodes drop or compare content, by tag, path, prefix or pattern"),
    "status": Subcommand("status", "what each node serves"),
    "nodes": Subcommand("forgetting", "forget a node that is gone"),
}


def summaries() -> str:
    """The table, a line each."""
    width = max(map(len, SUBCOMMANDS))
    return "\n".join(f"  {name:{width}}  {one.summary}" for name, one in SUBCOMMANDS.items())


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a subcommand of the table; its exit code. Raises ZcserveError."""
    if name not in SUBCOMMANDS:
        raise UsageError(f"{name!r} is no subcommand; {known_instead(name, SUBCOMMANDS)}")
    module = import_module(f"{__package__}.{SUBCOMMANDS[name].module}")
    parser = Parser(
        prog=f"warm_cache {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add(parser)
    code: int = module.run(parser.parse_args(arguments))
    return code
